"""The peers: how each is started, how its answers are read, and that they are given what was asked for."""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from loadtests.client import Answer, ServerFailed
from loadtests.peers import venv_servers
from loadtests.peers.answers import streamed, whole
from loadtests.peers.echo_servers import LETTERS, speech_letters
from loadtests.peers.echo_servers import streamed as echo_streamed
from loadtests.peers.echo_servers import whole as echo_whole
from loadtests.peers.venv_servers import VENV_PEERS, preloaded
from loadtests.peers.venvs import MODULES, ROOT, PeerMissing, peer_venv
from loadtests.sse import StreamCut
from loadtests.workload import Job
from tests.unit.loadtests.test_client import OK, server

JOB = Job("hello", 1, 3)
Ask = Callable[[str], Awaitable[Answer]]
PEERS = ROOT / "loadtests" / "peers"
# What each app may import: packages of its environment, and modules of ours that stand on no others.
APPS = {
    "batches": {"tokenizers", "torch", "transformers"},
    "bentoml_app": {"bentoml", "pydantic", "batches"},
    "bentoml_echo": {"bentoml"},
    "fastapi_app": {"fastapi", "pydantic", "transformers", "uvicorn", "batches"},
    "fastapi_echo": {"fastapi", "pydantic", "uvicorn"},
    "litserve_app": {"litserve", "batches", "litserve_signals"},
    "litserve_echo": {"litserve", "litserve_signals"},
    "litserve_signals": set[str](),
}
# What each server sent for a prompt whose answer has 3 tokens, in the pieces in which it came.
PIECE = b'data: {"object": "text_completion", "choices": [{"index": 0, "text": "%b", "finish_reason": null}]}\n\n'
LAST = (
    b'data: {"object": "text_completion", "choices": [{"index": 0, "text": "", "finish_reason": "length"}]}\n\n'
    b'data: {"choices": [], "usage": {"completion_tokens": 3}}\n\ndata: [DONE]\n\n'
)
LITSERVE = (PIECE % b" w6180", PIECE % b" w6180", PIECE % b" w6180" + LAST)
FASTAPI = (*(PIECE % text for text in (b" ", b"w6180 ", b"w6180 ", b"w6180")), LAST)
VLLM_ID = b'data: {"id":"cmpl-8860946a8a752f97","object":"text_completion","created":1796019117,"model":"bench",'
VLLM_PIECE = (
    b'%b"choices":[{"index":0,"text":" w6180","logprobs":null,"finish_reason":%b,"stop_reason":null,'
    b'"prompt_token_ids":null,"token_ids":null}]}\n\n'
)
VLLM_USAGE = (
    b'"choices":[],"usage":{"prompt_tokens":30,"total_tokens":33,"completion_tokens":3},'
    b'"system_fingerprint":"vllm-0.32.0-126eb5de"}\n\n'
)
DONE = b"data: [DONE]\n\n"
VLLM = (
    VLLM_PIECE % (VLLM_ID, b"null"),
    VLLM_PIECE % (VLLM_ID, b"null"),
    VLLM_PIECE % (VLLM_ID, b'"length"'),
    VLLM_ID + VLLM_USAGE,
    DONE,
)
BENTOML = b'[{"text": " w6180 w6180 w6180", "tokens": 3}]'


def chunked(*pieces: bytes, is_whole: bool = True) -> bytes:
    body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    return OK + body + (b"0\r\n\r\n" if is_whole else b"")


def sized(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


async def ask_streamed(url: str) -> Answer:
    return await streamed(url, {}, JOB)


async def ask_litserve(url: str) -> Answer:
    return await streamed(url, {}, JOB, stays_open=True)


async def ask_silent(url: str) -> Answer:
    return await streamed(url, {}, JOB, says_done=False)


async def ask_bentoml(url: str) -> Answer:
    return await whole(url, {}, JOB, lambda data: json.loads(data)[0]["tokens"])


@pytest.mark.parametrize(
    ("ask", "reply"),
    [
        (ask_streamed, chunked(*VLLM)),
        (ask_litserve, chunked(*LITSERVE)),
        (ask_litserve, chunked(*LITSERVE, is_whole=False)),
        (ask_streamed, chunked(*FASTAPI)),
        (ask_silent, chunked(*VLLM[:-1])),
        (ask_bentoml, sized(BENTOML)),
    ],
)
async def test_each_servers_answer_is_read_with_its_own_count_of_tokens(ask: Ask, reply: bytes) -> None:
    async with server(reply) as (url, _):
        answer = await ask(url)
    assert answer.tokens == 3
    assert answer.started < answer.first_text <= answer.ended


@pytest.mark.parametrize(
    ("ask", "reply", "failure"),
    [
        (ask_streamed, chunked(*VLLM[:-1]), StreamCut),  # no [DONE]
        (ask_litserve, chunked(*LITSERVE[:2]), StreamCut),
        (ask_silent, chunked(*VLLM[:2]), StreamCut),  # no finish_reason
        (ask_streamed, chunked(*VLLM[2:3], VLLM_ID + VLLM_USAGE.replace(b":3}", b":2}"), DONE), StreamCut),
        (ask_streamed, chunked(LAST), StreamCut),  # no text
        (ask_bentoml, sized(BENTOML.replace(b"3}", b"2}")), ServerFailed),
    ],
)
async def test_an_answer_that_is_cut_or_shorter_than_asked_is_a_failure(
    ask: Ask, reply: bytes, failure: type[Exception]
) -> None:
    async with server(reply) as (url, _):
        with pytest.raises(failure):
            await ask(url)


def speech(pieces: int, *, is_whole: bool = True) -> list[bytes]:
    events = [b'{"type":"speech.audio.delta","audio":"' + b"AQID" * pieces + b'"}']
    return events + ([b'{"type":"speech.audio.done","usage":{}}', b"[DONE]"] if is_whole else [])


def test_the_fleets_joined_events_are_counted_by_what_they_hold() -> None:
    assert speech_letters(speech(1)[:1] + speech(15)) == len(LETTERS)
    for cut in (speech(16, is_whole=False), [b"[DONE]"]):
        with pytest.raises(StreamCut):
            speech_letters(cut)


async def test_an_echo_counts_the_events_and_notes_the_first() -> None:
    events = [b"data: %c\n\n" % letter for letter in LETTERS.encode()]
    async with server(chunked(*events)) as (url, _):
        answer = await echo_streamed(url, {"input": LETTERS}, len)
    assert answer.started < answer.first_text <= answer.ended
    async with server(chunked(*events[1:])) as (url, _):
        with pytest.raises(StreamCut, match="16 letters, got 15"):
            await echo_streamed(url, {"input": LETTERS}, len)
    async with server(sized(b'{"detail":"x"}')) as (url, _):
        with pytest.raises(ServerFailed):
            await echo_whole(url, {})


@pytest.fixture
def homes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home in which every peer is marked as set up."""
    monkeypatch.setenv("CASTALIA_HOME", str(tmp_path))
    for name in MODULES:
        peer_venv(name).folder.mkdir(parents=True)
        peer_venv(name).mark_ready()
    return tmp_path


def test_every_peer_runs_from_its_own_environment_on_one_thread_and_asks_nothing_of_the_network(
    homes: Path, tmp_path: Path
) -> None:
    for make in VENV_PEERS:
        process = make(Path("/model"), tmp_path)._server
        assert process.command[0].startswith(f"{homes}/peers/{make.venv}/bin/")
        assert process.ready_url.startswith("http://127.0.0.1:")
        assert process.environment["HF_HUB_OFFLINE"] == process.environment["DO_NOT_TRACK"] == "1"
        assert "OMP_NUM_THREADS" not in process.environment, "what ServerProcess sets must stand"
        assert "/model" in (*process.command, process.environment.get("PEER_MODEL"))


def test_vllm_runs_as_its_documentation_has_it_for_cpus(homes: Path, tmp_path: Path) -> None:
    process = venv_servers.VllmCpu(Path("/model"), tmp_path)._server
    assert list(process.command[1:3]) == ["serve", "/model"]
    assert {"--enforce-eager", "float32", "127.0.0.1"} <= set(process.command)
    wanted = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind", "VLLM_NO_USAGE_STATS": "1"}
    assert wanted.items() <= process.environment.items()


def test_vllm_gets_intels_openmp_of_its_environment_first(tmp_path: Path) -> None:
    assert tmp_path / "lib" / "libiomp5.so" not in preloaded(tmp_path)
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "libiomp5.so").touch()
    assert preloaded(tmp_path)[0] == tmp_path / "lib" / "libiomp5.so"


def test_a_peer_that_is_not_set_up_says_how_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CASTALIA_HOME", str(tmp_path))
    with pytest.raises(PeerMissing, match=r"litserve is not set up: run python -m loadtests\.peers\.setup litserve"):
        venv_servers.LitServe(Path("/model"), tmp_path)


@pytest.mark.parametrize("module", APPS)
def test_an_app_imports_nothing_that_its_environment_has_not(module: str) -> None:
    found: set[str] = set()
    for node in ast.walk(ast.parse((PEERS / f"{module}.py").read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
    ours = {name.removeprefix("loadtests.peers.") for name in found if name.startswith("loadtests.")}
    theirs = {name.partition(".")[0] for name in found if not name.startswith("loadtests.")} - sys.stdlib_module_names
    assert theirs | ours <= APPS[module]


def test_the_packages_around_the_apps_import_nothing() -> None:
    for package in (PEERS, PEERS.parent):
        body = ast.parse((package / "__init__.py").read_text()).body
        assert all(isinstance(node, ast.Expr) for node in body), "it is imported in every peer's environment"
