"""Owns reading what an operation takes after the `?`. Never sees what the parameters mean."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from services.gateway.validation import refusal_in
from shared.errors import InvalidRequest

ModelT = TypeVar("ModelT", bound=BaseModel)


def read_query(request: Request, model: type[ModelT]) -> ModelT:
    """The checked parameters. Raises InvalidRequest, which names the parameter."""
    given: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name in given:
            raise InvalidRequest(f"Parameter '{name[:64]}' is given more than once.", param=name[:64])
        given[name] = value
    try:
        return model.model_validate_strings(given)
    except ValidationError as error:
        raise refusal_in(error, given) from None


def query_parameters(model: type[BaseModel]) -> list[dict[str, Any]]:
    """The `parameters` of an operation in OpenAPI, each by its field's description."""
    schema = model.model_json_schema()
    return [
        {
            "name": name,
            "in": "query",
            "required": name in schema.get("required", ()),
            "description": field.get("description", ""),
            "schema": _given(field),
        }
        for name, field in schema["properties"].items()
    ]


def _given(field: dict[str, Any]) -> dict[str, Any]:
    """A parameter's own schema: one that may be left out is never null."""
    kinds = [kind for kind in field.get("anyOf", [field]) if kind.get("type") != "null"]
    kind = kinds[0] if len(kinds) == 1 else {"anyOf": kinds}
    return {key: value for key, value in kind.items() if key not in ("title", "description", "default")}
