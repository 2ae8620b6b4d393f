"""Writes the chart's values.schema.json from the pydantic classes: `python -m deploy.generate_schema [--check]`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from pydantic import ByteSize, TypeAdapter

from deploy.chart_values import ChartValues
from deploy.generated import main

SCHEMA = Path(__file__).parent / "chart" / "castalia" / "values.schema.json"
ANY_BYTES = TypeAdapter(ByteSize).json_schema()["anyOf"]
# The spellings of ByteSize that the chart's template computes too. No size of zero is of use to anyone.
BYTES = [
    {"type": "string", "pattern": "^[0-9]+(\\.[0-9]+)? ?([kMGT]B?|[KMGT]iB|B)?$"},
    {"type": "integer", "exclusiveMinimum": 0},
]
# values.yaml and the classes hold the defaults; names speak for themselves.
LEFT_OUT = frozenset({"default", "title", "gt"})


def tighten(schema: Any) -> Any:
    """A schema as the chart means it: byte sizes as its template reads them, nothing that only repeats."""
    if isinstance(schema, list):
        return [tighten(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("anyOf") == ANY_BYTES:
        schema = {**schema, "anyOf": BYTES}
    return {
        key: {name: tighten(inner) for name, inner in value.items()}
        if key in {"properties", "$defs"}
        else tighten(value)
        for key, value in schema.items()
        if key not in LEFT_OUT
    }


def schema_text() -> str:
    schema = tighten(ChartValues.model_json_schema(by_alias=True))
    return json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}, indent=2) + "\n"


if __name__ == "__main__":
    sys.exit(main("deploy.generate_schema", __doc__, lambda: {SCHEMA: schema_text()}))
