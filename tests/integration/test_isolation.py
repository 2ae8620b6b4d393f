"""What of a fleet can be reached, and from where."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
import httpx
import psutil
import pytest

from tests.integration.conftest import LocalFleet

LOOPBACK = ("127.0.0.1", "::1", "::ffff:127.0.0.1")
BODY = {"model": "llama", "messages": [{"role": "user", "content": "a"}], "max_tokens": 1}


def listening(process: psutil.Process) -> Iterator[tuple[str, int]]:
    for connection in process.net_connections("tcp"):
        if connection.status == psutil.CONN_LISTEN:
            yield connection.laddr.ip, connection.laddr.port


@pytest.mark.parametrize("path", ["/first", "/Replica", "/stream", "/llama", "/second/v1/chat/completions"])
def test_the_gateway_leads_to_no_model_application(local_fleet: LocalFleet, path: str) -> None:
    with local_fleet.http() as client:
        assert client.post(path, json=BODY).status_code == httpx.codes.NOT_FOUND
        assert client.get("/-/routes").json() == {"/": "gateway"}


def test_no_port_of_a_model_replica_answers_http(local_fleet: LocalFleet) -> None:
    ports = list(listening(local_fleet.replica("first")))
    assert ports
    for _, port in ports:
        for path in ("/", "/stream", "/v1/chat/completions"):
            try:
                answer = httpx.post(f"http://127.0.0.1:{port}{path}", json=BODY, trust_env=False, timeout=5)
            except httpx.HTTPError:
                continue  # it speaks gRPC
            assert answer.status_code == httpx.codes.NOT_FOUND


@pytest.mark.alone
def test_nothing_listens_beyond_this_machine_but_a_guarded_port_of_each_replica(local_fleet: LocalFleet) -> None:
    wide = [
        (process.name(), port)
        for process in local_fleet.processes()
        for address, port in listening(process)
        if address not in LOOPBACK
    ]
    assert all(name.startswith("ray::Serve") for name, _ in wide), wide
    assert len(wide) == len(local_fleet.processes("ray::ServeReplica"))
    for _, port in wide:
        assert_guarded(port, "/ray.serve.ASGIService/HandleRequest")


def test_ray_itself_takes_no_one_without_the_token(local_fleet: LocalFleet) -> None:
    (server,) = [each for each in local_fleet.processes() if each.name() == "gcs_server"]
    ports = [port for _, port in listening(server)]
    assert ports
    for port in ports:
        assert_guarded(port, "/ray.rpc.JobInfoGcsService/GetAllJobInfo")


def assert_guarded(port: int, method: str) -> None:
    """A call without the fleet's token is refused."""
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        with pytest.raises(grpc.RpcError) as error:
            channel.unary_unary(method)(b"", timeout=10)
        assert error.value.code() is grpc.StatusCode.UNAUTHENTICATED  # type: ignore[attr-defined]
