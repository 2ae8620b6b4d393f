"""The RayService against KubeRay's own schema, which CASTALIA_CRD_DIR holds (rayservices-v1.json)."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.deploy.chart import SCENARIOS, Chart

CRD_DIR = os.environ.get("CASTALIA_CRD_DIR")
pytestmark = pytest.mark.skipif(CRD_DIR is None, reason="CASTALIA_CRD_DIR names no folder of KubeRay's CRD schemas")


def strict(schema: Any) -> Any:
    """An OpenAPI v3 schema as JSON Schema that refuses unknown keys, as the API server's strict mode does."""
    if isinstance(schema, list):
        return [strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    out = {key: strict(value) for key, value in schema.items() if key != "properties"}
    if "properties" in schema:
        out["properties"] = {name: strict(inner) for name, inner in schema["properties"].items()}
        out.setdefault("additionalProperties", False)
    return out


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    schema = strict(json.loads((Path(CRD_DIR or "") / "rayservices-v1.json").read_text()))
    return jsonschema.Draft202012Validator(schema)


@pytest.mark.parametrize("values", SCENARIOS.values(), ids=SCENARIOS.keys())
def test_the_rayservice_follows_kuberays_schema(
    chart: Chart, validator: jsonschema.Draft202012Validator, values: Path
) -> None:
    validator.validate(chart.ray_service(values))


def test_the_check_would_see_a_misspelt_key(chart: Chart, validator: jsonschema.Draft202012Validator) -> None:
    manifest = json.loads(json.dumps(chart.ray_service(SCENARIOS["default"])))
    manifest["spec"]["rayClusterConfig"]["workerGroupSpecs"][0]["minReplicaz"] = 1
    with pytest.raises(jsonschema.ValidationError, match="minReplicaz"):
        validator.validate(manifest)


def test_the_check_would_see_a_wrong_type(chart: Chart, validator: jsonschema.Draft202012Validator) -> None:
    manifest = json.loads(json.dumps(chart.ray_service(SCENARIOS["default"])))
    manifest["spec"]["rayClusterConfig"]["headGroupSpec"]["rayStartParams"]["num-cpus"] = 0
    with pytest.raises(jsonschema.ValidationError, match="not of type 'string'"):
        validator.validate(manifest)
