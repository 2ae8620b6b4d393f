"""Owns messages as chat templates take them, calls of tools and their results included, or told in plain text.

Plain text is as Qwen 2.5's template writes tools, which is the format of Hermes 2 Pro with its words.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any, NamedTuple, cast

from services.nn.text.call_formats import MISTRAL, CallFormat
from shared.errors import InvalidRequest
from shared.schemas.text import ChatMessage
from shared.schemas.tools import FunctionTool

# OpenAI's name for what templates call the system message.
_ROLES = {"developer": "system"}
_TOLD = """# Tools

You may call one or more functions to assist with the user query.

You are provided with function signatures within <tools></tools> XML tags:
<tools>
{tools}
</tools>

For each function call, return a json object with function name and arguments within <tool_call></tool_call> XML tags:
<tool_call>
{{"name": <function-name>, "arguments": <args-json-object>}}
</tool_call>"""


class Turn(NamedTuple):
    """`more` is what a template takes beside role and content: `name`, `tool_calls`, `tool_call_id`.

    `param` is what the client calls the content.
    """

    role: str
    content: str
    more: dict[str, Any]
    param: str


def turns_of(messages: Sequence[ChatMessage], form: CallFormat) -> list[Turn]:
    """For a template that knows of tools. Raises InvalidRequest for arguments that are no JSON object."""
    names: dict[str, str] = {}  # of the functions called, by the calls' ids
    turns: list[Turn] = []
    for i, message in enumerate(messages):
        more: dict[str, Any] = {} if message.name is None else {"name": message.name}
        if message.calls:
            more["tool_calls"] = [
                {
                    "id": _id(call.id, form),
                    "type": "function",
                    "function": {"name": call.function.name, "arguments": _arguments(message, i, j)},
                }
                for j, call in enumerate(message.calls)
            ]
            names |= {call.id: call.function.name for call in message.calls}
        if message.tool_call_id is not None:
            more |= {"tool_call_id": _id(message.tool_call_id, form), "name": names.get(message.tool_call_id, "")}
        turns.append(Turn(_ROLES.get(message.role, message.role), message.text, more, f"messages[{i}].content"))
    return turns


def told_turns(messages: Sequence[ChatMessage], tools: Sequence[FunctionTool]) -> list[Turn]:
    """For a template that does not: the system's message tells of tools, calls and results are in contents."""
    turns: list[Turn] = []
    follows_result = False
    for i, message in enumerate(messages):
        if message.role == "tool":
            told = f"<tool_response>\n{message.text}\n</tool_response>"
            if follows_result:  # results of one message's calls are one turn of the user
                turns[-1] = turns[-1]._replace(content=f"{turns[-1].content}\n{told}")
            else:
                turns.append(Turn("user", told, {}, f"messages[{i}].content"))
        else:
            more = {} if message.name is None else {"name": message.name}
            role = _ROLES.get(message.role, message.role)
            turns.append(Turn(role, _with_calls(message, i), more, f"messages[{i}].content"))
        follows_result = message.role == "tool"
    if not tools:
        return turns
    lines = "\n".join(json.dumps(tool.definition, ensure_ascii=False) for tool in tools)
    told = _TOLD.format(tools=lines)
    if turns[0].role == "system":
        return [turns[0]._replace(content=f"{turns[0].content}\n\n{told}"), *turns[1:]]
    return [Turn("system", told, {}, "tools"), *turns]


def _with_calls(message: ChatMessage, i: int) -> str:
    """The content, and behind it the calls as the model is told to write them."""
    parts = [message.text] if message.text or not message.calls else []
    for j, call in enumerate(message.calls):
        fields = {"name": call.function.name, "arguments": _arguments(message, i, j)}
        parts.append(f"<tool_call>\n{json.dumps(fields, ensure_ascii=False)}\n</tool_call>")
    return "\n".join(parts)


def _arguments(message: ChatMessage, i: int, j: int) -> dict[str, Any]:
    """What the j-th call of the i-th message was made with, as templates take it."""
    try:
        found: Any = json.loads(message.calls[j].function.arguments)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise InvalidRequest(
            "The arguments of a call are the text of a JSON object.",
            param=f"messages[{i}].tool_calls[{j}].function.arguments",
        )
    return cast(dict[str, Any], found)


def _id(given: str, form: CallFormat) -> str:
    """Mistral's templates take ids of nine letters and digits alone."""
    return blake2b(given.encode(), digest_size=5).hexdigest()[:9] if form is MISTRAL else given
