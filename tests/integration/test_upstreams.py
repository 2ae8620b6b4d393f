"""Remote servers that are real: another Castalia, and Hugging Face's own server."""

from __future__ import annotations

import http.server
import json
import os
import sys
import threading
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import httpx
import openai
import pytest
import yaml
from typer.testing import CliRunner

from loadtests.peers.server import ServerProcess, free_port
from services import fleet
from services.cli import app
from services.gateway.fleet_dispatch import FleetDispatcher
from services.gateway.logs import make_log
from services.gateway.upstreams import UpstreamDispatcher
from shared.calls import Call
from shared.config.models import FleetConfig
from shared.schemas.text import CompletionRequest
from tests.checkpoints import make_checkpoint
from tests.integration.conftest import LocalFleet
from tests.unit.gateway.fakes import FakeDispatcher, events_of, make_gateway

QUESTION = [{"role": "user", "content": "What is the capital of France?"}]
GREEDY: dict[str, Any] = {"temperature": 0.0, "max_tokens": 24}


@asynccontextmanager
async def gateway_before(url: str, remote_id: str) -> AsyncGenerator[tuple[httpx.AsyncClient, UpstreamDispatcher]]:
    """A gateway in this process whose only model, `near`, runs at that URL."""
    model = {"id": "near", "remote_id": remote_id}
    service = {"name": "far", "family": "upstream", "url": url, "models": [model]}
    fleet = FleetConfig.model_validate({"services": [service]})
    upstreams = UpstreamDispatcher(make_log("WARNING"))
    dispatcher = FleetDispatcher(FakeDispatcher(), upstreams)
    dispatcher.configure(fleet)
    gateway = make_gateway(cast(Any, dispatcher), fleet=fleet)
    async with gateway.client(timeout=120) as client:
        yield client, upstreams
    await gateway.state.close()


async def test_a_fleet_behind_another_gateway_answers_as_it_does_itself(local_fleet: LocalFleet) -> None:
    body = {"messages": QUESTION, **GREEDY}
    with local_fleet.openai() as client:
        own = client.chat.completions.create(model="llama", messages=cast(Any, QUESTION), **GREEDY)
        with pytest.raises(openai.BadRequestError) as refused:
            client.completions.create(model="llama", prompt="a", max_tokens=10**6)
    async with gateway_before(f"{local_fleet.url}/v1", "llama") as (client, _):
        whole = (await client.post("/v1/chat/completions", json={"model": "near", **body})).json()
        options = {"stream": True, "stream_options": {"include_usage": True}}
        stream = await client.post("/v1/chat/completions", json={"model": "near", **body, **options})
        too_long = await client.post("/v1/completions", json={"model": "near", "prompt": "a", "max_tokens": 10**6})
    *pieces, usage, done = events_of(stream.text)
    assert own.usage is not None
    assert whole["choices"][0]["message"]["content"] == own.choices[0].message.content
    assert "".join(p["choices"][0]["delta"].get("content") or "" for p in pieces) == own.choices[0].message.content
    assert whole["choices"][0]["finish_reason"] == pieces[-1]["choices"][0]["finish_reason"] == "length"
    assert done == "[DONE]"
    for counts in (whole["usage"], usage["usage"]):
        assert (counts["prompt_tokens"], counts["completion_tokens"]) == (own.usage.prompt_tokens, 24)
    assert (too_long.status_code, too_long.json()["error"]["code"]) == (400, refused.value.code)


async def test_a_stream_given_up_here_frees_its_row_in_the_fleet_behind(local_fleet: LocalFleet) -> None:
    request = CompletionRequest(model="near", prompt="a b c", max_tokens=4000, ignore_eos=True, stream=True)
    call = Call("req_1", "near", "completion", request, deadline_s=60)
    async with gateway_before(f"{local_fleet.url}/v1", "qwen") as (_, upstreams):
        stream = upstreams.stream("far", call)
        await anext(stream)  # Accepted
        await anext(stream)
        assert local_fleet.metric("castalia_running_rows", model="qwen") == 1
        await stream.aclose()
        while local_fleet.metric("castalia_running_rows", model="qwen"):
            pass
        assert local_fleet.metric("castalia_finished_rows_total", model="qwen", reason="abort") >= 1


class FarServer(http.server.ThreadingHTTPServer):
    """Answers every chat with its own address, and keeps the keys that it was asked with."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), FarHandler)
        self.url = f"http://127.0.0.1:{self.server_port}/v1"
        self.keys: list[str | None] = []


class FarHandler(http.server.BaseHTTPRequestHandler):
    server: FarServer

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.server.keys.append(self.headers["authorization"])
        choice = {"index": 0, "message": {"content": self.server.url}, "finish_reason": "stop"}
        body = json.dumps({"choices": [choice]}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def far_server() -> Iterator[FarServer]:
    with FarServer() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


another_server = far_server


@pytest.fixture
def restored(local_fleet: LocalFleet) -> Iterator[LocalFleet]:
    """The fleet, whose models.yaml is as before when the test ends."""
    before = local_fleet.config_path.read_text()
    yield local_fleet
    local_fleet.config_path.write_text(before)
    fleet.reload("main", local_fleet.settings.home)


def test_a_fleet_asks_the_servers_of_models_yaml_with_their_keys_and_apply_leads_it_to_another(
    restored: LocalFleet, far_server: FarServer, another_server: FarServer
) -> None:
    models = [{"id": "near", "remote_id": "far"}]
    # A variable that the fleet has in any case.
    entry = {"name": "far", "family": "upstream", "secret_env": "HOME", "models": models}
    config = yaml.safe_load(restored.config_path.read_text())
    services = config["services"]
    for server in (far_server, another_server):
        config["services"] = [*services, {**entry, "url": server.url}]
        restored.config_path.write_text(yaml.safe_dump(config))
        result = CliRunner().invoke(app, ["apply", "main"], env={"CASTALIA_HOME": str(restored.settings.home)})
        assert result.exit_code == 0, result.output
        with restored.http() as client:
            answer = client.post("/v1/chat/completions", json={"model": "near", "messages": QUESTION}).json()
        assert answer["choices"][0]["message"]["content"] == server.url
        assert server.keys == [f"Bearer {os.environ['HOME']}"]


def answer_of(response: httpx.Response) -> tuple[str, str]:
    """Text and finish reason, of a whole answer or of a stream."""
    is_stream = response.headers["content-type"].startswith("text/event-stream")
    parts = [part for part in events_of(response.text) if part != "[DONE]"] if is_stream else [response.json()]
    choices = [part["choices"][0] for part in parts]
    said = [each.get("text") or (each.get("message") or each.get("delta") or {}).get("content") for each in choices]
    return "".join(text or "" for text in said), choices[-1]["finish_reason"]


@pytest.fixture
def huggingface(tmp_path: Path) -> Iterator[tuple[str, str]]:
    """`transformers serve` with a tiny random model; its URL and its name for the model."""
    folder = tmp_path / "llama"
    make_checkpoint("llama", folder)
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [str(Path(sys.executable).with_name("transformers")), "serve", str(folder)]
    command += ["--host", "127.0.0.1", "--port", str(port), "--device", "cpu", "--dtype", "float32"]
    server = ServerProcess(command, f"{url}/health", tmp_path / "serve.log")
    server.start()
    try:
        yield f"{url}/v1", str(folder)
    finally:
        server.stop()


@pytest.mark.slow
async def test_a_server_of_another_make_answers_whole_and_streamed(huggingface: tuple[str, str]) -> None:
    url, remote_id = huggingface
    async with gateway_before(url, remote_id) as (client, _), httpx.AsyncClient(trust_env=False, timeout=120) as direct:
        for path, said in (("chat/completions", {"messages": QUESTION}), ("completions", {"prompt": "def add("})):
            for stream in (False, True):
                body = {**said, **GREEDY, "stream": stream}
                own = (await direct.post(f"{url}/{path}", json={"model": remote_id, **body})).raise_for_status()
                ours = await client.post(f"/v1/{path}", json={"model": "near", **body})
                assert ours.status_code == 200, ours.text
                assert answer_of(ours) == answer_of(own)
            assert ours.text.endswith("data: [DONE]\n\n")
            counted = (await client.post(f"/v1/{path}", json={"model": "near", **said, **GREEDY})).json()["usage"]
            assert counted["completion_tokens"] == GREEDY["max_tokens"]
        refused = await client.post("/v1/completions", json={"model": "near", "prompt": "a", "ignore_eos": True})
    assert refused.status_code == 400
    assert "ignore_eos" in refused.json()["error"]["message"]
