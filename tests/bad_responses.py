"""Requests of the Responses API that every gateway must refuse, and how."""

from __future__ import annotations

from typing import Any

Row = tuple[str, dict[str, Any], str, str, str]  # a name, fields, the refusal's param and code, a part of its message


def bad_responses() -> list[Row]:
    """What the Responses API has and no gateway here does, and what it has not."""

    def said(*items: Any) -> dict[str, Any]:
        return {"input": list(items)}

    def form(**fields: Any) -> dict[str, Any]:
        return {"text": {"format": fields}}

    image = {"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}
    tool = {"type": "function", "name": "f"}
    call = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
    given = {"type": "function_call_output", "call_id": "c", "output": "5"}
    return [
        ("to be kept", {"store": True}, "store", "invalid_value", "not kept here: send false"),
        ("an answer before", {"previous_response_id": "resp_1"}, "previous_response_id", "invalid_value", "as input"),
        ("a conversation", {"conversation": {"id": "conv_1"}}, "conversation", "invalid_value", "as input"),
        ("a prompt", {"prompt": {"id": "pmpt_1"}}, "prompt", "invalid_value", "instructions"),
        ("in the background", {"background": True}, "background", "invalid_value", "/v1/batches"),
        ("to be cut", {"truncation": "auto"}, "truncation", "invalid_value", "never cut"),
        (
            "padding",
            {"stream": True, "stream_options": {"include_obfuscation": True}},
            "stream_options.include_obfuscation",
            "invalid_value",
            "got true",
        ),
        ("stream options alone", {"stream_options": {}}, "stream_options", "invalid_value", "stream is true"),
        ("two answers", {"n": 2}, "n", "unknown_parameter", ""),
        ("no item", said(), "input", "invalid_value", "at least 1 item"),
        ("input of a number", {"input": 5}, "input", "invalid_type", "string or Input"),
        ("an unknown item", said({"type": "reasoning", "summary": []}), "input[0]", "invalid_value", "'function_call'"),
        ("a call of markup", said({**call, "name": "a b"}), "input[0].name", "invalid_value", "pattern"),
        ("an output of nothing", said(call, {**given, "call_id": "d"}), "input[1].call_id", "invalid_value", "a call"),
        (
            "an image as output",
            said(call, {**given, "output": image["content"]}),
            "input[1].output[0]",
            "invalid_value",
            "only text",
        ),
        ("a tool of the server", {"tools": [{"type": "web_search"}]}, "tools[0]", "invalid_value", "functions alone"),
        ("a name twice", {"tools": [tool, tool]}, "tools[1].name", "invalid_value", "same name"),
        (
            "a schema of a list",
            {"tools": [{**tool, "parameters": {"type": "array"}}]},
            "tools[0].parameters",
            "invalid_value",
            "",
        ),
        ("a choice of none", {"tool_choice": "required"}, "tool_choice", "invalid_value", "with tools"),
        (
            "another choice",
            {"tools": [tool], "tool_choice": {**tool, "name": "g"}},
            "tool_choice.name",
            "invalid_value",
            "",
        ),
        ("tools without end", {"tools": [tool], "ignore_eos": True}, "ignore_eos", "invalid_value", "end"),
        ("an unknown role", said({"role": "wizard", "content": "a"}), "input[0].role", "invalid_value", "'user'"),
        ("an image", said(image), "input[0].content[0]", "invalid_value", "only text is read"),
        ("a form of xml", form(type="xml"), "text.format", "invalid_value", "'json_object'"),
        (
            "a form without schema",
            form(type="json_schema", name="a"),
            "text.format.schema",
            "missing_required_parameter",
            "",
        ),
        ("a schema as a list", form(type="json_schema", name="a", schema=[]), "text.format.schema", "invalid_type", ""),
        ("a form without end", {**form(type="json_object"), "ignore_eos": True}, "ignore_eos", "invalid_value", "end"),
        (
            "two forms",
            {**form(type="text"), "structured_outputs": {"choice": ["a"]}},
            "structured_outputs",
            "invalid_value",
            "give one",
        ),
        ("top_logprobs alone", {"top_logprobs": 2}, "top_logprobs", "invalid_value", "include has"),
        ("sources", {"include": ["file_search_call.results"]}, "include[0]", "invalid_value", "logprobs"),
        ("much metadata", {"metadata": {str(i): "" for i in range(17)}}, "metadata", "invalid_value", "16"),
    ]
