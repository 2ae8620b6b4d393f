"""`/openapi.json` tells the truth: no undocumented status, no 500, every body described."""

from __future__ import annotations

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings

from tests.unit.gateway.fakes import MODEL
from tests.unit.gateway.image_fakes import PAINTER
from tests.unit.gateway.list_fakes import APPRAISER, list_gateway
from tests.unit.gateway.truths import TRUTHS

WITHOUT_BODY = ("/v1/batches/{batch_id}/cancel",)
APP = list_gateway().app
SCHEMA = schemathesis.openapi.from_asgi("/openapi.json", APP)


@SCHEMA.parametrize()
@settings(
    max_examples=12,
    derandomize=True,
    deadline=None,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=list(HealthCheck),
)
def test_no_answer_is_undocumented(case: schemathesis.Case) -> None:
    body = case.body
    if isinstance(body, dict) and "model" in body:  # most would else end at a model that does not exist
        body["model"] = (MODEL, PAINTER, APPRAISER, "absent")[len(str(body)) % 4]
    case.call_and_validate(checks=TRUTHS)


def test_every_operation_documents_its_failures() -> None:
    document = APP.openapi()
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            statuses = set(operation["responses"])
            assert "422" not in statuses
            assert {"405", "500"} <= statuses
            if method == "post" and path not in WITHOUT_BODY:
                assert {"400", "401", "403", "404", "413", "415", "429", "503", "504"} <= statuses, path
                assert operation["requestBody"]["required"]


def test_streams_are_documented_as_events() -> None:
    answers = APP.openapi()["paths"]["/v1/chat/completions"]["post"]["responses"]["200"]["content"]
    assert set(answers) == {"application/json", "text/event-stream"}
    assert answers["application/json"]["schema"] == {"$ref": "#/components/schemas/ChatCompletion"}


@pytest.mark.parametrize(
    ("path", "answer", "types"),
    [
        ("/v1/scores", "Scores", {"application/json", "application/x-ndjson"}),
        ("/v1/records/generations", "Records", {"application/json", "application/x-ndjson", "text/csv"}),
    ],
)
def test_lists_are_documented_whole_line_by_line_and_as_tables(path: str, answer: str, types: set[str]) -> None:
    answers = APP.openapi()["paths"][path]["post"]["responses"]["200"]["content"]
    assert set(answers) == types
    assert answers["application/json"]["schema"] == {"$ref": f"#/components/schemas/{answer}"}


@pytest.mark.parametrize("path", ["/v1/images/edits", "/v1/images/variations"])
def test_operations_that_take_an_image_document_the_form(path: str) -> None:
    document = APP.openapi()
    contents = document["paths"][path]["post"]["requestBody"]["content"]
    assert set(contents) == {"application/json", "multipart/form-data"}
    name = contents["multipart/form-data"]["schema"]["$ref"].rpartition("/")[2]
    form = document["components"]["schemas"][name]
    assert form["properties"]["image"] == {"type": "string", "format": "binary"}
    assert "image" in form["required"]


@pytest.mark.parametrize(
    "name",
    [
        "ChatRequest",
        "CompletionRequest",
        "ChatCompletionChunk",
        "TextPart",
        "ErrorBody",
        "ImageGenerationRequest",
        "InterpolationEnd",
        "PartialImageEvent",
        "CompletedImageEvent",
        "Picture",
        "ScoreRequest",
        "RecordGenerationRequest",
        "Score",
        "ItemsEnd",
    ],
)
def test_every_body_is_among_the_components(name: str) -> None:
    assert name in APP.openapi()["components"]["schemas"]


def test_every_reference_leads_somewhere() -> None:
    document = APP.openapi()
    schemas = document["components"]["schemas"]
    references: set[str] = set()

    def walk(node: object) -> None:
        if isinstance(node, dict):
            references.update([node["$ref"]] if "$ref" in node else [])
            for value in node.values():
                walk(value)
        elif isinstance(node, list):
            for value in node:
                walk(value)

    walk(document)
    assert references
    assert {reference.removeprefix("#/components/schemas/") for reference in references} <= set(schemas)
