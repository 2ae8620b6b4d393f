import json
from pathlib import Path
from typing import Any

import pytest

from shared.schemas.text import ChatRequest, CompletionRequest
from tests.unit.cli.conftest import Run
from tests.unit.cli.wire_server import WireServer

SCHEMA = {"type": "object", "properties": {"name": {"type": "string", "maxLength": 40}}, "required": ["name"]}
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
NAMED = {"type": "function", "function": {"name": "weather"}}


@pytest.fixture(autouse=True)
def _files(run: Run) -> None:
    """In the folder that `run` is in."""
    Path("city.json").write_text(json.dumps(SCHEMA))
    Path("tools.json").write_text(json.dumps(TOOLS))


def call_pieces(index: int, name: str, *arguments: str) -> list[dict[str, Any]]:
    begun = {"index": index, "id": f"call_{index}", "type": "function", "function": {"name": name, "arguments": ""}}
    return [begun, *({"index": index, "function": {"arguments": each}} for each in arguments)]


@pytest.mark.parametrize(
    ("options", "in_chats", "in_completions"),
    [
        (
            ("--schema", "city.json"),
            {"response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA}}},
            {"structured_outputs": {"json": SCHEMA}},
        ),
        (
            ("--json",),
            {"response_format": {"type": "json_object"}},
            {"structured_outputs": {"json": {"type": "object"}}},
        ),
        (
            ("--regex", r"\d+"),
            {"structured_outputs": {"regex": r"\d+"}},
            {"structured_outputs": {"regex": r"\d+"}},
        ),
        (
            ("--choice", "yes", "--choice", "no"),
            {"structured_outputs": {"choice": ["yes", "no"]}},
            {"structured_outputs": {"choice": ["yes", "no"]}},
        ),
    ],
)
def test_a_form_reaches_the_wire_as_chats_and_completions_take_it(
    run: Run, server: WireServer, options: tuple[str, ...], in_chats: dict[str, Any], in_completions: dict[str, Any]
) -> None:
    assert run("generate", "Hi", *options, "--url", server.url).exit_code == 0
    assert run("generate", "--complete", "Hi", *options, "--url", server.url).exit_code == 0
    for asked, form in zip(server.asked, (in_chats, in_completions), strict=True):
        given = {name: asked[name] for name in ("response_format", "structured_outputs") if name in asked}
        assert given == form
    assert ChatRequest.model_validate(server.asked[0]).form is not None
    assert CompletionRequest.model_validate(server.asked[1]).form is not None


@pytest.mark.parametrize(
    ("choice", "sent"), [("auto", "auto"), ("required", "required"), ("none", "none"), ("weather", NAMED)]
)
def test_tools_and_the_choice_among_them_reach_the_wire(
    run: Run, server: WireServer, choice: str, sent: object
) -> None:
    run("generate", "Hi", "--tools", "tools.json", "--tool-choice", choice, "--json", "--url", server.url)
    asked = server.asked[0]
    assert (asked["tools"], asked["tool_choice"]) == (TOOLS, sent)
    assert asked["response_format"] == {"type": "json_object"}
    assert len(ChatRequest.model_validate(asked).callable_tools) == (choice != "none")


def test_without_a_choice_among_tools_it_is_left_to_the_server(run: Run, server: WireServer) -> None:
    run("generate", "Hi", "--tools", "tools.json", "--url", server.url)
    assert "tool_choice" not in server.asked[0]


def test_calls_are_lines_of_names_and_arguments(run: Run, server: WireServer) -> None:
    asks = ("generate", "Hi", "--tools", "tools.json", "--url", server.url)
    server.calls = [*call_pieces(0, "weather", '{"city": ', '"Paris"}'), *call_pieces(1, "time", "{}")]
    lines = 'weather {"city": "Paris"}\ntime {}'
    assert run(*asks).stdout == f"Hello\u2028é\n{lines}\n"
    server.pieces = []
    assert run(*asks).stdout == f"{lines}\n"
    run(*asks, "--out", "calls.txt")
    assert Path("calls.txt").read_text() == lines


@pytest.mark.parametrize("calls", [False, True])
def test_half_of_a_form_or_a_call_is_an_error_and_no_file(run: Run, server: WireServer, calls: bool) -> None:
    server.reason = "length"
    server.calls = call_pieces(0, "weather", '{"city": ') if calls else []
    options = ("--tools", "tools.json") if calls else ("--schema", "city.json")
    for out in ((), ("--out", "city-of.json")):
        result = run("generate", "Hi", *options, *out, "--url", server.url)
        assert result.exit_code == 1
        assert "--max-tokens" in result.stderr
    assert not Path("city-of.json").exists()


def test_a_text_that_is_cut_is_no_error_though_it_might_have_called(run: Run, server: WireServer) -> None:
    server.reason = "length"
    assert run("generate", "Hi", "--tools", "tools.json", "--url", server.url).exit_code == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--json", "--choice", "yes"), "give only one of --json, --choice"),
        (("--schema", "city.json", "--regex", ""), "give only one of --schema, --regex"),
        (("--schema", "absent.json"), "cannot read absent.json: No such file"),
        (("--schema", "half.json"), "half.json is not JSON: "),
        (("--schema", "nan.json"), "nan.json is not JSON: NaN is no number"),
        (("--schema", "tools.json"), "tools.json holds no JSON schema: expected an object"),
        (("--tools", "absent.json"), "cannot read absent.json: No such file"),
        (("--tools", "latin.json"), "latin.json is not JSON: "),
        (("--tools", "city.json"), "city.json holds no list of tools: expected [{"),
        (("--tool-choice", "required"), "--tools"),
        (("--complete", "--tools", "tools.json"), "--tools goes with chat answers"),
    ],
)
def test_what_cannot_be_asked_is_said_before_anything_is(
    run: Run, server: WireServer, options: tuple[str, ...], said: str
) -> None:
    Path("half.json").write_text('{"type": ')
    Path("nan.json").write_text('{"maximum": NaN}')
    Path("latin.json").write_bytes('["é"]'.encode("latin-1"))
    result = run("generate", "Hi", *options, "--url", server.url)
    assert result.exit_code == 1
    assert said in result.stderr
    assert not server.asked


def test_help_tells_of_forms_and_tools_by_example(run: Run) -> None:
    shown = run("generate", "text", "--help").stdout
    for each in ("--schema", "--json", "--regex", "--choice", "--tools", "--tool-choice", "auto|required|none|NAME"):
        assert each in shown
    assert "--choice yes --choice no" in shown
