"""`docs/api.md` is what the gateway's OpenAPI document says, whole and each thing once."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from deploy.generate_api import API, api_text, openapi_document
from deploy.schema_tables import fields_table, type_of
from services.gateway.middleware import OPEN_PATHS

DOCUMENT = openapi_document()
TEXT = api_text(DOCUMENT)
HEADINGS = re.findall(r"^#+ (.+)$", TEXT, re.MULTILINE)


def test_the_committed_page_is_up_to_date() -> None:
    assert API.read_text() == TEXT, "run .venv/bin/python -m deploy.generate_api"


def test_the_page_is_the_same_whatever_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CASTALIA_API_KEYS_FILE", "/nowhere")
    monkeypatch.setenv("CASTALIA_PORT", "none")
    assert api_text(openapi_document()) == TEXT


def test_every_operation_and_every_schema_has_one_heading() -> None:
    forms = {name for name in DOCUMENT["components"]["schemas"] if name.endswith("Form")}  # told beside their JSON
    operations = {f"{method.upper()} {path}" for path, methods in DOCUMENT["paths"].items() for method in methods}
    assert (operations | DOCUMENT["components"]["schemas"].keys()) - forms <= set(HEADINGS)
    assert [heading for heading, count in Counter(map(str.lower, HEADINGS)).items() if count > 1] == []


def test_operations_say_who_may_call_them() -> None:
    sections = dict(re.findall(r"^### (\S+ /\S+)\n(.*?)(?=^##)", TEXT, re.MULTILINE | re.DOTALL))
    for_operators = {name for name, text in sections.items() if "takes an operator's" in text}
    assert for_operators == {"GET /v1/usage/tenants", "GET /metrics", "GET /v1/fleet"}
    without_key = {name.removeprefix("GET ") for name, text in sections.items() if "No key is asked for." in text}
    assert without_key == OPEN_PATHS & DOCUMENT["paths"].keys()


@pytest.mark.parametrize(
    ("schema", "row"),
    [
        ({"type": "integer", "minimum": 1, "maximum": 10000, "default": 8}, "integer | `8` | 1 to 10,000"),
        ({"type": "integer", "minimum": -(2**63), "exclusiveMaximum": 2**63}, "integer | at least -2^63, under 2^63"),
        ({"type": "string", "enum": ["a", "b"], "default": "a"}, '`"a"` | one of `a`, `b`'),
        ({"type": "string", "pattern": "^(a|b)$"}, r"matches `^(a\|b)$`"),
        ({"type": "array", "items": {"$ref": "#/x/Part"}, "minItems": 1}, "list of [Part](#part) | at least 1 item"),
        (
            {"anyOf": [{"type": "array", "items": {"type": "string", "maxLength": 9}}, {"type": "null"}]},
            "list of string | each at most 9 characters",
        ),
        (
            {"type": "array", "items": {"oneOf": [{"$ref": "#/x/Part"}, {"$ref": "#/x/Whole"}]}},
            "list of ([Part](#part) or [Whole](#whole))",
        ),
    ],
)
def test_a_field_is_told_in_words(schema: dict[str, object], row: str) -> None:
    assert row in fields_table({"properties": {"field": schema}})


def test_a_field_that_must_be_there_may_still_be_null() -> None:
    schema = {"anyOf": [{"type": "string"}, {"type": "null"}]}
    assert type_of(schema) == "string or null"
    assert "| `field` | string or null | required |" in fields_table(
        {"properties": {"field": schema}, "required": ["field"]}
    )
