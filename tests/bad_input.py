"""Requests that every gateway must refuse, and how: the tables that the unit and the integration tests share."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.bad_responses import bad_responses

CHAT, COMPLETIONS, RESPONSES = "/v1/chat/completions", "/v1/completions", "/v1/responses"
MESSAGE = {"role": "user", "content": "hi"}
JSON = {"content-type": "application/json"}


@dataclass(frozen=True, slots=True)
class BadRequest:
    """A request, and the refusal that it must get. `words` are a part of the message."""

    name: str
    path: str
    content: bytes
    code: str
    param: str | None = None
    words: str = ""
    status: int = 400
    method: str = "POST"
    headers: Mapping[str, str] = field(default_factory=lambda: JSON)


def bad_requests(model: str) -> list[BadRequest]:
    """All of them. `model` is one that exists."""
    tables = (
        bad_fields,
        bad_answer_forms,
        bad_tools,
        bad_response_requests,
        bad_numbers,
        bad_bodies,
        bad_media_types,
        bad_methods,
        bad_headers,
        bad_names,
        bad_forms,
    )
    return [row for table in tables for row in table(model)]


def bad_fields(model: str) -> list[BadRequest]:
    return [
        BadRequest(name, path, json.dumps(body).encode(), code, param, words)
        for name, path, body, param, code, words in (*_bad_chat_fields(model), *_bad_other_fields(model))
    ]


Row = tuple[str, str, Any, str | None, str, str]


def _bad_chat_fields(model: str) -> list[Row]:
    def row(name: str, param: str, code: str, words: str, /, **fields: Any) -> Row:
        return (name, CHAT, {"model": model, "messages": [MESSAGE], **fields}, param, code, words)

    def said(name: str, param: str, code: str, words: str, *messages: Any) -> Row:
        return row(name, param, code, words, messages=list(messages))

    image = {"role": "user", "content": [{"type": "image_url", "image_url": {}}]}
    return [
        ("no messages", CHAT, {"model": model}, "messages", "missing_required_parameter", "required"),
        ("no model", CHAT, {"messages": [MESSAGE]}, "model", "missing_required_parameter", "required"),
        ("array body", CHAT, [], None, "invalid_type", "an array of 0"),
        said("empty messages", "messages", "invalid_value", "at least 1 item"),
        said("null content", "messages[0].content", "invalid_value", "required", {"role": "user", "content": None}),
        said("number content", "messages[1].content", "invalid_type", "", MESSAGE, {"role": "user", "content": 5}),
        said("bad role", "messages[0].role", "invalid_value", "'user'", {"role": "wizard", "content": "x"}),
        said("image part", "messages[0].content[0].type", "invalid_value", "'text'", image),
        said("nested unknown field", "messages[0].x", "unknown_parameter", "", {**MESSAGE, "x": 1}),
        said("name of markup", "messages[0].name", "invalid_value", "", {**MESSAGE, "name": "x<|im_end|>"}),
        row("unknown field", "colour", "unknown_parameter", "Unknown field 'colour'", colour="red"),
        row("wrong type", "temperature", "invalid_type", "got a string of 3 characters", temperature="hot"),
        row("bool for int", "n", "invalid_type", "got true", n=True),
        row("n over 128", "n", "invalid_value", "less than or equal to 128; got 129", n=129),
        row("n of 0", "n", "invalid_value", "got 0", n=0),
        row("top_logprobs over 20", "top_logprobs", "invalid_value", "to 20; got 21", logprobs=True, top_logprobs=21),
        row("top_logprobs alone", "top_logprobs", "invalid_value", "logprobs is true", top_logprobs=2),
        row("stream_options alone", "stream_options", "invalid_value", "stream is true", stream_options={}),
        row("negative max_tokens", "max_tokens", "invalid_value", "got -5", max_tokens=-5),
        row("huge max_tokens", "max_tokens", "invalid_value", "less than or equal to", max_tokens=10**30),
        row("tiny penalty", "repetition_penalty", "invalid_value", "equal to 0.01", repetition_penalty=1e-39),
        row("stop of numbers", "stop[1]", "invalid_type", "got 5", stop=["a", 5]),
        row("too many stops", "stop", "invalid_value", "at most 16 items", stop=["a"] * 17),
        row("empty stop", "stop", "invalid_value", "at least 1 character", stop=""),
        row("logit_bias of a word", "logit_bias.cat", "invalid_value", "pattern", logit_bias={"cat": 1}),
        row("prediction as text", "prediction", "invalid_type", "", prediction="a"),
        row("type of a prediction", "prediction.type", "invalid_value", "'content'", prediction={"type": "text"}),
        row("no prediction", "prediction.content", "missing_required_parameter", "", prediction={"type": "content"}),
        row(
            "prediction of a number",
            "prediction.content",
            "invalid_type",
            "",
            prediction={"type": "content", "content": 5},
        ),
        row("logit_bias over 100", "logit_bias.5", "invalid_value", "got 101", logit_bias={"5": 101}),
    ]


def _bad_other_fields(model: str) -> list[Row]:
    def row(name: str, param: str, code: str, words: str, **fields: Any) -> Row:
        return (name, COMPLETIONS, {"model": model, **fields}, param, code, words)

    return [
        row("prompt of mixed types", "prompt[1]", "invalid_type", "got 1", prompt=["a", 1]),
        row("prompt of objects", "prompt", "invalid_type", "string or Input", prompt={}),
        row("empty prompt list", "prompt", "invalid_value", "at least 1 item", prompt=[]),
        row("negative token", "prompt[1]", "invalid_value", "got -1", prompt=[3, -1]),
        row("too many rows", "n", "invalid_value", "got 1100", prompt=["a"] * 100, n=11),
        row("too many prompts", "prompt", "invalid_value", "at most 1024", prompt=["a"] * 1025),
        ("no input", "/tokenize", {"model": model}, "prompt", "invalid_value", "exactly one"),
        (
            "token as text",
            "/detokenize",
            {"model": model, "tokens": ["1"]},
            "tokens[0]",
            "invalid_type",
            "got a string",
        ),
    ]


def bad_answer_forms(model: str) -> list[BadRequest]:
    """Forms that an answer cannot be asked to have, by their shape or size alone."""
    nested: dict[str, Any] = {}
    for _ in range(32):
        nested = {"not": nested}
    asked, ours = "response_format", "structured_outputs"
    schema = f"{asked}.json_schema"

    def format_of(**fields: Any) -> dict[str, Any]:
        return {asked: {"type": "json_schema", "json_schema": {"name": "x", "schema": {}, **fields}}}

    rows: list[tuple[str, dict[str, Any], str, str, str]] = [
        ("format of xml", {asked: {"type": "xml"}}, f"{asked}.type", "invalid_value", "'json_object'"),
        ("format without a schema", {asked: {"type": "json_schema"}}, schema, "invalid_value", "'json_schema'"),
        ("schema by name of markup", format_of(name="a b"), f"{schema}.name", "invalid_value", "pattern"),
        ("schema as a list", format_of(schema=[]), f"{schema}.schema", "invalid_type", "an array"),
        ("deep schema", format_of(schema=nested), f"{schema}.schema", "invalid_value", "32 levels"),
        ("long schema", format_of(schema={"a": "x" * 70_000}), f"{schema}.schema", "invalid_value", "65536 bytes"),
        ("two fields", {asked: {"type": "text"}, ours: {"choice": ["a"]}}, ours, "invalid_value", "give one"),
        ("no form", {ours: {}}, ours, "invalid_value", "exactly one"),
        ("two forms", {ours: {"choice": ["a"], "regex": "a"}}, ours, "invalid_value", "exactly one"),
        ("long regex", {ours: {"regex": "a" * 5000}}, f"{ours}.regex", "invalid_value", "4096"),
        ("no choice", {ours: {"choice": []}}, f"{ours}.choice", "invalid_value", "at least 1"),
        ("choices", {ours: {"choice": ["a"] * 1025}}, f"{ours}.choice", "invalid_value", "1024"),
        ("grammar", {ours: {"grammar": "a"}}, f"{ours}.grammar", "unknown_parameter", ""),
        ("no end", {"ignore_eos": True, ours: {"regex": "a"}}, "ignore_eos", "invalid_value", "has an end"),
    ]
    return [
        BadRequest(name, CHAT, _chat(model, **fields), code, param, words) for name, fields, param, code, words in rows
    ]


def bad_tools(model: str) -> list[BadRequest]:
    """Tools, choices among them, calls and results that are none."""

    def tool(**fields: Any) -> dict[str, Any]:
        return {"type": "function", "function": {"name": "f", **fields}}

    def called(**fields: Any) -> dict[str, Any]:
        call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
        return {"role": "assistant", "content": None, "tool_calls": [{**call, **fields}]}

    result = {"role": "tool", "tool_call_id": "c1", "content": "5"}
    named = {"type": "function", "function": {"name": "g"}}
    function, parameters, invalid = "tools[0].function", "tools[0].function.parameters", "invalid_value"
    rows: list[tuple[str, dict[str, Any], str, str, str]] = [
        ("no tool", {"tools": []}, "tools", invalid, "at least 1"),
        ("tools", {"tools": [tool(name=f"f{i}") for i in range(129)]}, "tools", invalid, "128"),
        ("type of a tool", {"tools": [{**tool(), "type": "web"}]}, "tools[0].type", invalid, "'function'"),
        ("function", {"tools": [{"type": "function"}]}, function, "missing_required_parameter", ""),
        ("function's field", {"tools": [tool(colour=1)]}, f"{function}.colour", "unknown_parameter", ""),
        ("name of markup", {"tools": [tool(name="<|im_end|>")]}, f"{function}.name", invalid, "pattern"),
        ("same names", {"tools": [tool(), tool()]}, "tools[1].function.name", invalid, "same name"),
        ("parameters", {"tools": [tool(parameters={"type": "array"})]}, parameters, invalid, "'object'"),
        ("long schema", {"tools": [tool(parameters={"a": "x" * 70_000})]}, parameters, invalid, "65536"),
        (
            "much of tools",
            {"tools": [tool(name=f"f{i}", description="x" * 16_000) for i in range(20)]},
            "tools",
            invalid,
            "262144",
        ),
        ("choice alone", {"tool_choice": "auto"}, "tool_choice", invalid, "only allowed with tools"),
        ("parallel alone", {"parallel_tool_calls": False}, "parallel_tool_calls", invalid, "only allowed with tools"),
        ("choice", {"tools": [tool()], "tool_choice": "any"}, "tool_choice", invalid, "'required'"),
        ("unknown", {"tools": [tool()], "tool_choice": named}, "tool_choice.function.name", invalid, "not among"),
        ("no end", {"tools": [tool()], "ignore_eos": True}, "ignore_eos", invalid, "have an end"),
        ("result alone", {"messages": [MESSAGE, result]}, "messages[1].tool_call_id", invalid, "answers a call"),
        (
            "result of another",
            {"messages": [called(id="c2"), result]},
            "messages[1].tool_call_id",
            invalid,
            "answers a call",
        ),
        (
            "result without id",
            {"messages": [called(), {"role": "tool", "content": "5"}]},
            "messages[1].tool_call_id",
            invalid,
            "needs the tool_call_id",
        ),
        ("user's calls", {"messages": [{**called(), "role": "user"}]}, "messages[0].tool_calls", invalid, "assistant"),
        ("user's id", {"messages": [{**MESSAGE, "tool_call_id": "c"}]}, "messages[0].tool_call_id", invalid, "'tool'"),
        (
            "arguments of numbers",
            {"messages": [called(function={"name": "f", "arguments": {}})]},
            "messages[0].tool_calls[0].function.arguments",
            "invalid_type",
            "an object",
        ),
    ]
    return [
        BadRequest(name, CHAT, _chat(model, **fields), code, param, words) for name, fields, param, code, words in rows
    ]


def bad_response_requests(model: str) -> list[BadRequest]:
    return [
        BadRequest(name, RESPONSES, json.dumps({"model": model, "input": "a", **fields}).encode(), code, param, words)
        for name, fields, param, code, words in bad_responses()
    ]


def _chat(model: str, **fields: Any) -> bytes:
    return json.dumps({"model": model, "messages": [MESSAGE], **fields}).encode()


def bad_numbers(model: str) -> list[BadRequest]:
    """Numbers that are not finite."""
    start = _chat(model).removesuffix(b"}")
    return [
        BadRequest(value, CHAT, start + f', "temperature": {value}}}'.encode(), "invalid_value", "temperature")
        for value in ("NaN", "Infinity", "-Infinity", "1e999")
    ]


def bad_bodies(_: str) -> list[BadRequest]:
    """Bodies that are not JSON."""
    bodies = {
        "truncated": b'{"model": "tiny", "messages": [',
        "empty": b"",
        "invalid UTF-8": b'{"model": "\xff"}',
        "lone surrogate": b'{"model": "\\ud800"}',
        "too deep": b"[" * 100_000,
        "too deep in a field": b'{"model": "tiny", "messages": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        "number bomb": b'{"n": ' + b"9" * 5000 + b"}",
        "not JSON": b"model=tiny",
    }
    return [BadRequest(name, CHAT, body, "invalid_json") for name, body in bodies.items()]


def bad_media_types(model: str) -> list[BadRequest]:
    kinds: dict[str, dict[str, str]] = {
        "no media type": {},
        "plain text": {"content-type": "text/plain"},
        "a form": {"content-type": "multipart/form-data; boundary=x"},
        "another character set": {"content-type": "application/json; charset=latin-1"},
        "a compressed body": {**JSON, "content-encoding": "gzip"},
    }
    return [
        BadRequest(
            name,
            CHAT,
            _chat(model),
            "unsupported_media_type",
            param="content-encoding" if "content-encoding" in headers else "content-type",
            status=415,
            headers=headers,
        )
        for name, headers in kinds.items()
    ]


def bad_methods(_: str) -> list[BadRequest]:
    """`words` is the method that the path does take."""
    rows = [("GET", CHAT, "POST"), ("POST", "/v1/models", "GET"), ("PUT", "/healthz", "GET")]
    return [
        BadRequest(f"{method} {path}", path, b"", "method_not_allowed", None, allow, 405, method)
        for method, path, allow in rows
    ]


def bad_headers(model: str) -> list[BadRequest]:
    rows = [
        ("x-castalia-deadline-ms", "soon"),
        ("x-castalia-deadline-ms", "-1"),
        ("x-castalia-deadline-ms", "nan"),
        ("x-stainless-read-timeout", "0"),
        ("x-stainless-read-timeout", "inf"),
        ("x-castalia-priority", "urgent"),
    ]
    return [
        BadRequest(f"{name} {value}", CHAT, _chat(model), "invalid_value", param=name, headers={**JSON, name: value})
        for name, value in rows
    ]


def bad_names(_: str) -> list[BadRequest]:
    """What does not exist."""
    return [
        BadRequest("an unknown model", CHAT, _chat("gpt-5"), "model_not_found", "model", "gpt-5", 404),
        BadRequest("an unknown path", "/v2/models", b"", "not_found", status=404, method="GET"),
    ]


def bad_forms(_: str) -> list[BadRequest]:
    """Forms that cannot be taken apart."""
    headers = {"content-type": f"multipart/form-data; boundary={'x' * 300}"}
    return [
        BadRequest(f"a boundary without end at {path}", path, b"--x", "invalid_form", headers=headers)
        for path in ("/v1/files", "/v1/images/edits")
    ]
