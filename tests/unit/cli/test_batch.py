"""`castalia batch` against a whole gateway on loopback, whose replicas alone are scripted."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from tests.unit.cli.conftest import Run
from tests.unit.gateway.fakes import HELLO, chat
from tests.unit.gateway.tenants import make_lasting_gateway

CHAT = "/v1/chat/completions"


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.up.set()


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    folder = tmp_path / "gateway"
    folder.mkdir()
    config = uvicorn.Config(make_lasting_gateway(folder).app, log_config=None, timeout_graceful_shutdown=1)
    server = _Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        assert server.up.wait(30)
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


def write(name: str, *bodies: dict[str, Any]) -> None:
    lines = [
        {"custom_id": str(n), "method": "POST", "url": CHAT, "body": body} for n, body in enumerate(bodies, start=1)
    ]
    Path(name).write_text("\n".join(json.dumps(line) for line in lines))


def read(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(name).read_text().splitlines()]


def test_a_file_of_requests_becomes_a_file_of_results(run: Run, url: str) -> None:
    write("in.jsonl", chat(), chat())
    result = run("batch", "in.jsonl", "--url", url)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("batch_")
    assert "completed" in result.stderr
    results = read("in.results.jsonl")
    assert [each["custom_id"] for each in results] == ["1", "2"]
    assert results[0]["response"]["body"]["choices"][0]["message"]["content"] == "".join(HELLO)
    assert not Path("in.errors.jsonl").exists()


def test_lines_that_fail_are_written_apart_and_the_exit_status_says_so(run: Run, url: str) -> None:
    write("in.jsonl", chat(), chat(model="gpt-9"))
    result = run("batch", "in.jsonl", "-o", "good.jsonl", "--errors", "bad.jsonl", "--url", url)
    assert result.exit_code == 1
    assert "1 of 2 lines succeeded" in result.stderr
    assert [each["custom_id"] for each in read("good.jsonl")] == ["1"]
    assert [each["custom_id"] for each in read("bad.jsonl")] == ["2"]


def test_a_batch_can_be_left_running_and_waited_for_later(run: Run, url: str) -> None:
    write("in.jsonl", chat())
    batch_id = run("batch", "in.jsonl", "--no-wait", "--url", url).stdout.strip()
    assert list(Path().glob("*.results.jsonl")) == []
    assert run("batch", batch_id, "--url", url).exit_code == 0
    assert len(read(f"{batch_id}.results.jsonl")) == 1


def test_ctrl_c_says_how_to_go_on_waiting(run: Run, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    write("in.jsonl", chat())
    batch_id = run("batch", "in.jsonl", "--no-wait", "--url", url).stdout.strip()

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("services.cli.client.Client.get", interrupt)
    result = run("batch", batch_id, "--url", url)
    assert result.exit_code == 1
    assert f"castalia batch {batch_id}" in result.stderr


def test_a_file_that_is_refused_is_told_line_by_line(run: Run, url: str) -> None:
    write("in.jsonl", chat(stream=True), chat())
    result = run("batch", "in.jsonl", "--url", url)
    assert result.exit_code == 1
    assert "line 1: " in result.stderr


@pytest.mark.parametrize(("text", "words"), [(None, "cannot read"), ("not json", "no JSON object with a url")])
def test_a_file_that_cannot_be_read_is_named(run: Run, text: str | None, words: str) -> None:
    if text is not None:
        Path("in.jsonl").write_text(text)
    result = run("batch", "in.jsonl", "--url", "http://127.0.0.1:9")
    assert result.exit_code == 1
    assert words in result.stderr


def test_an_unknown_batch_is_one_line(run: Run, url: str) -> None:
    result = run("batch", "batch_none", "--url", url)
    assert result.exit_code == 1
    assert "404" in result.stderr
