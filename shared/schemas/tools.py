"""Owns what a client may say of tools: functions with schemas of their arguments, the choice among them, calls made.

Whether a model can call them, and keep to their schemas, is for the model to say: here are shapes and sizes alone.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from shared.schemas.common import RequestModel, refusal
from shared.schemas.forms import JsonSchema

MAX_TOOLS = 128
MAX_TOOLS_BYTES = 256 * 1024
MAX_ARGUMENTS = 256 * 1024

FunctionName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]


class FunctionDefinition(RequestModel):
    name: FunctionName = Field(description="by which the model calls it")
    description: str | None = Field(default=None, max_length=16_384, description="what it does, told to the model")
    parameters: JsonSchema | None = Field(
        default=None, description="a JSON schema of an object, its arguments: 64 KiB, 32 levels deep; without it, none"
    )
    strict: bool | None = Field(
        default=None, description="true: its arguments keep to the schema even where the model need not call"
    )

    @property
    def schema_of_arguments(self) -> dict[str, Any]:
        """An object's schema in any case."""
        if self.parameters is None:
            return {"type": "object", "properties": {}, "additionalProperties": False}
        return {"type": "object", **self.parameters}

    @model_validator(mode="after")
    def _an_object(self) -> FunctionDefinition:
        if self.parameters is not None and self.parameters.get("type", "object") != "object":
            raise refusal("parameters", "a function's parameters are a schema of the type 'object'")
        return self


class FunctionTool(RequestModel):
    type: Literal["function"]
    function: FunctionDefinition

    @property
    def definition(self) -> dict[str, Any]:
        """What the model is told: OpenAI's form, without how strictly it is held."""
        said = self.function.model_dump(exclude={"strict"}, exclude_none=True)
        return {"type": "function", "function": said}


class FunctionReference(RequestModel):
    name: FunctionName


class NamedTool(RequestModel):
    """The one function that must be called."""

    type: Literal["function"]
    function: FunctionReference


class CalledFunction(RequestModel):
    name: FunctionName
    arguments: str = Field(max_length=MAX_ARGUMENTS, description="JSON text")
    parsed_arguments: Any = Field(
        default=None, exclude=True, description="what the official client made of them, which is not read"
    )


class ToolCall(RequestModel):
    """A call that the assistant made."""

    id: str = Field(min_length=1, max_length=256)
    type: Literal["function"]
    function: CalledFunction
    index: Any = Field(default=None, exclude=True, description="as pieces of a stream have it, which is not read")


def tools_text(tools: Sequence[FunctionTool], indent: int | None = None) -> str:
    """All definitions as JSON, about as a model reads them; some templates write it with lines that are indented."""
    return json.dumps([tool.definition for tool in tools], ensure_ascii=False, indent=indent)


Tools = Annotated[list[FunctionTool], Field(min_length=1, max_length=MAX_TOOLS, fail_fast=True)]
ToolChoice = Literal["none", "auto", "required"] | NamedTool


def check_tools(tools: list[FunctionTool] | None, choice: ToolChoice | None = None) -> None:
    """Raises a refusal for two functions of one name, for too much of them, and for a choice of what is not there."""
    if tools is None:
        if choice is not None:
            raise refusal("tool_choice", "tool_choice is only allowed with tools")
        return
    names: set[str] = set()
    for i, tool in enumerate(tools):
        if tool.function.name in names:
            raise refusal(f"tools[{i}].function.name", "two functions have the same name")
        names.add(tool.function.name)
    if isinstance(choice, NamedTool) and choice.function.name not in names:
        raise refusal("tool_choice.function.name", "tool_choice names a function that is not among the tools")
    if (size := len(tools_text(tools).encode())) > MAX_TOOLS_BYTES:
        raise refusal("tools", f"tools may have at most {MAX_TOOLS_BYTES} bytes in all; got {size}")
