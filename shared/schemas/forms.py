"""Owns what a client may say of an answer's form: JSON, JSON by a schema, a regular expression, a choice.

Whether a model can follow a schema is for the model to say: here are shapes and sizes alone.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from shared.schemas.common import RequestModel, refusal

MAX_SCHEMA_BYTES = 64 * 1024
MAX_SCHEMA_DEPTH = 32  # objects and lists in each other; a property takes two
MAX_REGEX = 4096
MAX_FORM_CHOICES = 1024
MAX_CHOICE = 1024


def _bounded(schema: dict[str, Any]) -> dict[str, Any]:
    level: list[Any] = [schema]
    for _ in range(MAX_SCHEMA_DEPTH):
        nested = [each for each in level if isinstance(each, dict | list)]
        level = [child for each in nested for child in (each.values() if isinstance(each, dict) else each)]
    if any(isinstance(each, dict | list) for each in level):
        raise PydanticCustomError("too_deep", "a schema may be {limit} levels deep", {"limit": MAX_SCHEMA_DEPTH})
    try:
        size = len(schema_text(schema))
    except ValueError:
        raise PydanticCustomError("no_json", "a schema may hold no number that JSON cannot write") from None
    if size > MAX_SCHEMA_BYTES:
        raise PydanticCustomError("too_long", "a schema may have at most {limit} bytes", {"limit": MAX_SCHEMA_BYTES})
    return schema


def schema_text(schema: dict[str, Any]) -> str:
    """A schema as compact ASCII JSON. The order of properties stays: an answer has them in it."""
    return json.dumps(schema, separators=(",", ":"), allow_nan=False)


JsonSchema = Annotated[dict[str, Any], AfterValidator(_bounded)]
Choice = Annotated[str, Field(min_length=1, max_length=MAX_CHOICE)]


@dataclass(frozen=True, slots=True)
class AnswerForm:
    """What an answer must be. `text` is the schema, the expression or the texts, `param` where it stood.

    "lark" is a grammar, which no client can give: what calls of tools are.
    """

    kind: Literal["json", "regex", "choice", "lark"]
    text: str | tuple[str, ...]
    param: str


class NamedSchema(RequestModel):
    """OpenAI's `json_schema`. The schema is always followed, whether `strict` or not."""

    name: str = Field(pattern=r"^[A-Za-z0-9_-]{1,64}$", description="the client's own name of the schema")
    description: str | None = Field(default=None, max_length=4096, description="not shown to the model")
    schema_: JsonSchema = Field(alias="schema", description="a JSON schema: 64 KiB, 32 levels deep")
    strict: bool | None = Field(default=None, description="the schema is followed in any case")


class ResponseFormat(RequestModel):
    type: Literal["text", "json_object", "json_schema"] = Field(description="any text, any JSON object, or by a schema")
    json_schema: NamedSchema | None = Field(default=None, description="only with the type `json_schema`")

    @property
    def form(self) -> AnswerForm | None:
        """None: any text."""
        if self.type == "json_object":
            return AnswerForm("json", '{"type":"object"}', "response_format")
        if self.json_schema is None:
            return None
        return AnswerForm("json", schema_text(self.json_schema.schema_), "response_format.json_schema.schema")

    @model_validator(mode="after")
    def _a_schema_where_one_is_meant(self) -> ResponseFormat:
        if (self.type == "json_schema") != (self.json_schema is not None):
            raise refusal("json_schema", "json_schema is given with the type 'json_schema', and with no other")
        return self


class StructuredOutputs(RequestModel):
    """vLLM's `structured_outputs`: exactly one of these."""

    json_: JsonSchema | None = Field(default=None, alias="json", description="a JSON schema: 64 KiB, 32 levels deep")
    regex: Annotated[str, Field(min_length=1, max_length=MAX_REGEX)] | None = Field(
        default=None, description="a regular expression that the whole answer matches"
    )
    choice: Annotated[list[Choice], Field(min_length=1, max_length=MAX_FORM_CHOICES, fail_fast=True)] | None = Field(
        default=None, description="the answer is one of these texts"
    )

    @property
    def form(self) -> AnswerForm:
        if self.regex is not None:
            return AnswerForm("regex", self.regex, "structured_outputs.regex")
        if self.choice is not None:
            return AnswerForm("choice", tuple(self.choice), "structured_outputs.choice")
        return AnswerForm("json", schema_text(self.json_ or {}), "structured_outputs.json")

    @model_validator(mode="after")
    def _one_form(self) -> StructuredOutputs:
        if sum(each is not None for each in (self.json_, self.regex, self.choice)) != 1:
            raise PydanticCustomError("one_form", "give exactly one of json, regex and choice")
        return self
