"""A real HAProxy, with the configuration that the installed Ray writes and the fleet changes, between sockets."""

from __future__ import annotations

import contextlib
import http.server
import json
import resource
import socket
import subprocess
import threading
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from ray.serve._private.haproxy import BackendConfig, HAProxyApi, HAProxyConfig, ServerConfig
from ray.serve.config import HTTPOptions

from services.fleet import FleetError
from services.fleet.haproxy import FILES, Edge, haproxy_binary, most_connections, write_haproxy_script

LIMIT_S = 0.5  # of headers, of bodies, and of silence beyond that
START_S = 30.0
HEAD = b"POST /v1/x HTTP/1.1\r\nhost: a\r\n"


class Backend(http.server.BaseHTTPRequestHandler):
    """In the gateway's place, a connection a request. `/gone` ends it where an answer should be. No body is read."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.close_connection = True
        if self.path == "/gone":
            return
        if self.path == "/long":
            time.sleep(LIMIT_S * 3)
        self.send_response(200)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    do_POST = do_GET

    def log_message(self, format: str, *args: object) -> None:
        pass


@dataclass
class Proxy:
    port: int
    config: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def rays_configuration(
    folder: Path, edge: Edge, port: int, backends: dict[str, BackendConfig], maxconn: int = 64, *, leaves: bool = False
) -> Path:
    config = HAProxyConfig(
        socket_path=str(folder / "admin"),
        metrics_socket_path=str(folder / "metrics"),
        server_state_base=str(folder),
        server_state_file=str(folder / "state"),
        metrics_port=edge.metrics_port,
        stats_port=edge.stats_port,
        nbthread=1,
        maxconn=maxconn,
        metrics_enabled=False,
        has_received_routes=True,
        pass_health_checks=not leaves,
        is_head=True,
        http_options=HTTPOptions(host="127.0.0.1", port=port),
    )
    path = folder / "haproxy.cfg"
    HAProxyApi(config, backends, str(path))._generate_config_file_internal()
    return path


def running(
    folder: Path, server_port: int | None, maxconn: int = 64, *, files: int | None = None, leaves: bool = False
) -> Generator[Proxy]:
    """HAProxy, which may open so many `files` (None: as many as this process may), on a node that Ray `leaves`."""
    edge = Edge(free_port(), free_port(), LIMIT_S, LIMIT_S, LIMIT_S)
    port = free_port()
    backends: dict[str, BackendConfig] = {}
    if server_port is not None:
        server = ServerConfig("one", "127.0.0.1", server_port)
        backends["http-gateway"] = BackendConfig("http-gateway", "/", servers=[server], app_name="gateway")
    config = rays_configuration(folder, edge, port, backends, maxconn, leaves=leaves)
    script = write_haproxy_script(folder, edge, haproxy_binary())
    with (folder / "log").open("wb") as log:
        command: list[str | Path] = [script, "-db", "-f", config, "-dR"]
        if files is not None:
            command = ["/bin/sh", "-c", f'ulimit -n {files} && exec "$@"', "sh", *command]
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        until_open(port, process, folder / "log")
        yield Proxy(port, config)
    finally:
        process.terminate()
        process.wait()


def until_open(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_S
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture(scope="module")
def backend() -> Iterator[int]:
    """Its port."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Backend) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory, backend: int) -> Iterator[Proxy]:
    yield from running(tmp_path_factory.mktemp("proxy"), backend)


@pytest.fixture
def bare(tmp_path: Path) -> Iterator[Proxy]:
    """Before Ray has told HAProxy of the gateway. HAProxy ends if it may not open files for all connections."""
    yield from running(tmp_path, None, most_connections())


def said_to(proxy: Proxy, data: bytes) -> bytes:
    """All that comes back until HAProxy closes the connection, which it must."""
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=START_S) as connection:
        connection.sendall(data)
        pieces: list[bytes] = []
        try:
            while piece := connection.recv(2**16):
                pieces.append(piece)
        except ConnectionResetError:
            assert pieces, "it might not have read the request"
        return b"".join(pieces)


@pytest.mark.parametrize(
    ("data", "answer"),
    [(b"", b""), (HEAD, b"HTTP/1.1 408 "), (b"POST /v1/x HT", b"HTTP/1.1 408 ")],
    ids=["nothing", "half of the headers", "half of a line"],
)
def test_a_client_that_never_completes_its_headers_is_put_out(proxy: Proxy, data: bytes, answer: bytes) -> None:
    assert said_to(proxy, data).startswith(answer)


def test_a_small_body_that_never_comes_is_refused_in_the_gateways_words(proxy: Proxy) -> None:
    head, _, body = said_to(proxy, HEAD + b"content-length: 10\r\n\r\nabc").partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    error = json.loads(body)["error"]
    assert (error["type"], error["code"], error["param"]) == ("invalid_request_error", "request_timeout", None)


def test_a_client_that_got_its_answer_and_never_sends_the_rest_is_put_out(proxy: Proxy) -> None:
    """HAProxy waits for no more of a body than its buffer holds."""
    said = said_to(proxy, HEAD + b"content-length: 1000000\r\n\r\n" + b"a" * 30_000)
    assert said.split()[1] == b"200"
    assert said.endswith(b"ok")


def test_a_client_that_waits_for_its_answer_may_be_silent(proxy: Proxy) -> None:
    assert httpx.get(f"{proxy.url}/long", trust_env=False).text == "ok"
    assert httpx.post(f"{proxy.url}/long", content=b"a", trust_env=False).text == "ok"


@pytest.mark.parametrize("headers", [b"x: %s\r\n" % (b"a" * 2**16), b"x: 1\r\n" * 200], ids=["64 KiB", "200"])
def test_headers_beyond_measure_are_refused(proxy: Proxy, headers: bytes) -> None:
    assert said_to(proxy, HEAD + headers + b"\r\n").startswith(b"HTTP/1.1 400 ")


def test_others_are_answered_meanwhile(proxy: Proxy) -> None:
    """32 silent clients, of 64 that HAProxy takes here."""
    silent = [socket.create_connection(("127.0.0.1", proxy.port)) for _ in range(32)]
    for connection in silent:
        connection.sendall(HEAD)
    answer = httpx.get(f"{proxy.url}/x", trust_env=False)
    for connection in silent:
        connection.close()
    assert (answer.status_code, answer.text) == (200, "ok")


def test_a_gateway_that_dies_while_it_answers_is_unavailable_and_clients_may_come_back(proxy: Proxy) -> None:
    unavailable(httpx.get(f"{proxy.url}/gone", trust_env=False))


def test_before_the_gateway_is_known_clients_may_come_back(bare: Proxy) -> None:
    unavailable(httpx.get(f"{bare.url}/v1/models", trust_env=False))


def test_a_node_that_ray_leaves_is_not_ready_and_answers_meanwhile_and_keeps_no_connection(
    tmp_path: Path, proxy: Proxy, backend: int
) -> None:
    with contextlib.closing(running(tmp_path, backend, leaves=True)) as found, httpx.Client(trust_env=False) as client:
        leaving = next(found).url
        unavailable(client.get(f"{leaving}/readyz"))
        answer = client.get(f"{leaving}/x")
        assert (answer.text, answer.headers["connection"]) == ("ok", "close")
        stays = client.get(f"{proxy.url}/readyz")
        assert (stays.text, stays.headers.get("connection")) == ("ok", None)


def test_a_low_limit_of_open_files_makes_few_connections_and_not_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 1024))
    most = most_connections()
    assert 100 < most < 1024 / FILES
    with contextlib.closing(running(tmp_path, None, most, files=1024)) as found:
        unavailable(httpx.get(f"{next(found).url}/v1/models", trust_env=False))


def test_a_limit_of_open_files_that_is_too_low_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, 256))
    with pytest.raises(FleetError, match="open files is 256"):
        most_connections()


def unavailable(answer: httpx.Response) -> None:
    assert answer.status_code == 503
    assert 1 <= int(answer.headers["retry-after"]) <= 4
    error = answer.json()["error"]
    assert (error["type"], error["code"]) == ("service_unavailable_error", "server_is_overloaded")


def test_its_own_pages_listen_on_this_machine_alone(proxy: Proxy) -> None:
    binds = [line.split()[1] for line in proxy.config.read_text().splitlines() if line.split()[:1] == ["bind"]]
    assert len(binds) == 3
    assert [bind for bind in binds if not bind.startswith("127.0.0.1:")] == []


def test_the_program_is_started_without_splicing_and_with_rays_arguments(tmp_path: Path) -> None:
    edge = Edge(20001, 20002, 1, 1)
    binary = tmp_path / "binary"
    binary.write_text('#!/bin/sh\necho "$@"\n')
    binary.chmod(0o700)
    config = rays_configuration(tmp_path, edge, 20003, {})
    command = [write_haproxy_script(tmp_path, edge, str(binary)), "-db", "-f", config, "-sf", "7"]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert printed.split() == ["-dS", "-db", "-f", str(config), "-sf", "7"]


def test_a_configuration_that_is_not_known_keeps_haproxy_from_starting(tmp_path: Path) -> None:
    config = tmp_path / "haproxy.cfg"
    config.write_text("defaults\n    mode http\nfrontend another\n    bind :1\n")
    script = write_haproxy_script(tmp_path, Edge(20001, 20002, 1, 1), "true")
    ended = subprocess.run([script, "-f", config], check=False, capture_output=True, text=True)
    assert ended.returncode == 1
    assert "does not know the configuration" in ended.stderr
