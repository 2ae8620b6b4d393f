import re
import socket
from pathlib import Path

import pytest

from tests.unit.cli.conftest import Run
from tests.unit.cli.fleets import FakeFleets, state
from tests.unit.cli.wire_server import WireServer

REFUSAL = {"error": {"message": "too many", "type": "invalid_request_error", "param": None, "code": "invalid_value"}}


def test_generate_streams_the_whole_answer_and_asks_the_first_chat_model(run: Run, server: WireServer) -> None:
    result = run("generate", "Hi", "--url", server.url)
    assert (result.exit_code, result.stdout) == (0, "Hello\u2028é\n")
    assert server.asked[0] == {
        "model": "tiny",
        "messages": [{"role": "user", "content": "Hi"}],
        "max_tokens": 256,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def test_every_option_of_generate_reaches_the_wire(run: Run, server: WireServer) -> None:
    sampling = "--max-tokens 9 --temperature 0 --top-p 0.5 --top-k 3 --min-p 0.1 --seed 4 --stop A --stop B"
    run("generate", "Hi", "--model", "other", "--system", "Be brief.", *sampling.split(), "--url", server.url)
    asked = server.asked[0]
    assert asked["messages"][0] == {"role": "system", "content": "Be brief."}
    given = {
        key: asked[key] for key in ("model", "max_tokens", "temperature", "top_p", "top_k", "min_p", "seed", "stop")
    }
    assert given == {
        "model": "other",
        "max_tokens": 9,
        "temperature": 0.0,
        "top_p": 0.5,
        "top_k": 3,
        "min_p": 0.1,
        "seed": 4,
        "stop": ["A", "B"],
    }


def test_what_names_no_verb_is_a_prompt_and_text_names_it_too(run: Run, server: WireServer) -> None:
    for arguments in (("Hi",), ("text", "Hi"), ("--max-tokens", "256", "Hi")):
        assert run("generate", *arguments, "--url", server.url).stdout == "Hello\u2028é\n"
    assert server.asked[0] == server.asked[1] == server.asked[2]


def test_text_goes_into_a_file_which_is_said_and_not_written_over(run: Run, server: WireServer) -> None:
    asks = ("generate", "text", "Hi", "--seed", "4", "--out", "made/letter.txt", "--url", server.url)
    result = run(*asks)
    assert Path("made/letter.txt").read_text() == "Hello\u2028é"
    assert re.fullmatch(r"made/letter\.txt  tiny  seed 4  \d+\.\d s\n", result.stdout)
    again = run(*asks)
    assert (again.exit_code, len(server.asked)) == (1, 1)
    assert "--overwrite" in again.stderr


def test_who_names_no_model_gets_the_first_though_it_sleeps_unless_it_failed(run: Run, server: WireServer) -> None:
    server.models.insert(0, {**server.models[1], "id": "sleeper", "state": "cold"})
    server.models.insert(0, {**server.models[1], "id": "broken", "state": "failed"})
    run("generate", "Hi", "--url", server.url)
    assert server.asked[0]["model"] == "sleeper"


def test_complete_sends_the_prompt_as_it_is(run: Run, server: WireServer) -> None:
    result = run("generate", "--complete", "Once", "--url", server.url)
    assert result.stdout == "Hello\u2028é\n"
    assert server.asked[0]["prompt"] == "Once"
    assert "messages" not in server.asked[0]


def test_complete_with_instructions_is_refused(run: Run, server: WireServer) -> None:
    result = run("generate", "--complete", "--system", "x", "Once", "--url", server.url)
    assert result.exit_code == 1
    assert "--system" in result.stderr
    assert not server.asked


def test_a_dash_reads_the_prompt_from_standard_input(run: Run, server: WireServer) -> None:
    run("generate", "-", "--url", server.url, input="two\nlines")
    assert server.asked[0]["messages"][0]["content"] == "two\nlines"


def test_the_api_key_comes_from_the_environment(run: Run, server: WireServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CASTALIA_API_KEY", "sk-1")
    run("generate", "Hi", "--url", server.url)
    assert {headers["Authorization"] for headers in server.headers_seen} == {"Bearer sk-1"}


@pytest.mark.parametrize("key", ["sk-é", "sk-1\n"])
def test_a_key_that_no_header_can_hold_is_refused_without_echoing_it(run: Run, server: WireServer, key: str) -> None:
    result = run("models", "--url", server.url, "--api-key", key)
    assert result.exit_code == 1
    assert "API key" in result.stderr
    assert "sk-" not in result.stderr
    assert not server.headers_seen


@pytest.mark.parametrize(
    ("ending", "said"),
    [
        ("error", "the answer broke off: internal_error: the model failed"),
        ("cut", "the answer was cut off"),
        ("clean", "the answer was cut off"),
    ],
)
def test_a_stream_that_fails_keeps_its_text_and_ends_with_an_error(
    run: Run, server: WireServer, ending: str, said: str
) -> None:
    server.ending = ending
    result = run("generate", "Hi", "--url", server.url)
    assert result.exit_code == 1
    assert result.stdout == "Hello\u2028é\n"
    assert said in result.stderr
    assert "Traceback" not in result.output


def test_a_refusal_shows_status_code_message_and_request_id(run: Run, server: WireServer) -> None:
    server.refusal = (400, REFUSAL)
    result = run("generate", "Hi", "--model", "tiny", "--url", server.url)
    assert result.exit_code == 1
    assert result.stderr == "error: 400 invalid_value: too many [x-request-id: req-7]\n"


def test_a_missing_key_says_how_to_give_one(run: Run, server: WireServer) -> None:
    server.refusal = (401, {"error": {"message": "no", "type": "x", "param": None, "code": "invalid_api_key"}})
    result = run("models", "--url", server.url)
    assert "CASTALIA_API_KEY" in result.stderr


@pytest.mark.parametrize("body", ["<html>bad gateway</html>", "{}", "[]", '{"error": "text"}'])
def test_an_error_without_the_error_body_is_still_one_line(run: Run, server: WireServer, body: str) -> None:
    server.refusal = (502, body)
    result = run("models", "--url", server.url)
    assert result.exit_code == 1
    assert "502" in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("body", ["<html>hello</html>", "[]", '{"data": [{}]}'])
def test_a_server_that_is_no_gateway_is_still_one_line(run: Run, server: WireServer, body: str) -> None:
    server.refusal = (200, body)
    result = run("models", "--url", server.url)
    assert result.exit_code == 1
    assert "is it a Castalia gateway?" in result.stderr


def test_nobody_listening_names_the_command_that_helps(run: Run) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        result = run("generate", "Hi", "--url", f"http://127.0.0.1:{closed.getsockname()[1]}")
    assert result.exit_code == 1
    assert "castalia up" in result.stderr


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "ftp://x", "http://"])
def test_what_is_no_url_is_refused(run: Run, url: str) -> None:
    result = run("models", "--url", url)
    assert result.exit_code == 1
    assert url in result.stderr


def test_models_lists_what_is_served(run: Run, server: WireServer) -> None:
    result = run("models", "--url", f"{server.url}/v1/")
    assert result.exit_code == 0
    row = next(line for line in result.stdout.splitlines() if line.startswith("tiny"))
    assert row.split() == ["tiny", "transformer", "ready", "chat,", "completion", "256", "Apache-2.0"]


def test_models_say_what_an_adapter_is_of(run: Run, server: WireServer) -> None:
    server.models.append({**server.models[1], "id": "bot", "base": "tiny"})
    lines = run("models", "--url", server.url).stdout.splitlines()
    assert [line for line in lines if line.startswith("bot (on tiny)")]


def test_a_long_id_is_shown_whole_in_a_narrow_terminal(
    run: Run, server: WireServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    server.models.append({**server.models[1], "id": "smollm2-135m-instruct", "tasks": ["chat", "completion"] * 3})
    assert "smollm2-135m-instruct" in run("models", "--url", server.url).stdout


def test_no_model_for_the_task_names_those_that_are_served(run: Run, server: WireServer) -> None:
    server.models = server.models[:1]
    result = run("chat", "--url", server.url)
    assert result.exit_code == 1
    assert "speaker" in result.stderr


def test_the_url_of_the_fleet_that_runs_here_is_found(run: Run, server: WireServer, fleets: FakeFleets) -> None:
    fleets.running["only"] = state("only", server.url)
    assert run("models").exit_code == 0


def test_the_environment_goes_before_the_fleet_that_runs_here(
    run: Run, server: WireServer, fleets: FakeFleets, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleets.running["only"] = state("only", "http://127.0.0.1:1")
    monkeypatch.setenv("CASTALIA_URL", server.url)
    assert run("models").exit_code == 0


def test_of_several_fleets_none_is_guessed(run: Run, fleets: FakeFleets) -> None:
    for name in ("one", "two"):
        fleets.running[name] = state(name, f"http://127.0.0.1/{name}")
    result = run("models")
    assert result.exit_code == 1
    assert "--url" in result.stderr
