"""API keys: who gets in, as whom, and that a key never leaks."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from services.gateway.auth import KeyFileError, Keyring, is_loopback, new_key
from services.gateway.logs import make_log
from shared.errors import InvalidApiKey
from tests.unit.gateway.fakes import Gateway, chat, make_gateway

CHAT = "/v1/chat/completions"


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, str]:
    """A file of keys, and Alice's."""
    alice, alice_line = new_key("alice")
    _, bob_line = new_key("bob")
    path = tmp_path / "keys"
    path.write_text(f"# tenants\n\n{alice_line}\n{bob_line}\n")
    return path, alice


@pytest.fixture
def locked(keys: tuple[Path, str]) -> Gateway:
    return make_gateway(api_keys_file=keys[0])


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


async def test_a_valid_key_names_the_tenant(locked: Gateway, keys: tuple[Path, str]) -> None:
    async with locked.client(headers=bearer(keys[1])) as client:
        response = await client.post(CHAT, json=chat())
    assert response.status_code == 200
    assert locked.dispatcher.calls[0][1].tenant == "alice"
    assert locked.log_lines()[-1]["tenant"] == "alice"


@pytest.mark.parametrize(
    "header",
    [None, "", "Bearer", "Bearer ", "Bearer wrong", "Basic YTpi", "Bearer sk-castalia-\xff", "Bearer " + "x" * 10_000],
)
async def test_a_wrong_key_gets_401_before_the_body_is_looked_at(locked: Gateway, header: str | None) -> None:
    headers = {} if header is None else {"authorization": header.encode("latin-1")}
    async with locked.client() as client:
        response = await client.post(CHAT, content=b"not json", headers=headers)
    error = response.json()["error"]
    assert (response.status_code, error["type"], error["code"]) == (401, "invalid_request_error", "invalid_api_key")
    assert response.headers["www-authenticate"] == "Bearer"
    assert "wrong" not in response.text


async def test_only_health_and_documentation_are_open(locked: Gateway) -> None:
    async with locked.client() as client:
        answers = {
            path: (await client.get(path)).status_code
            for path in ("/healthz", "/readyz", "/openapi.json", "/docs", "/metrics", "/v1/models", "/nowhere")
        }
    assert answers == {
        "/healthz": 200,
        "/readyz": 200,
        "/openapi.json": 200,
        "/docs": 200,
        "/metrics": 401,
        "/v1/models": 401,
        "/nowhere": 401,
    }


async def test_neither_key_nor_hash_reaches_log_or_answer(locked: Gateway, keys: tuple[Path, str]) -> None:
    path, key = keys
    async with locked.client() as client:
        answers = [await client.post(CHAT, json=chat(), headers=bearer(k)) for k in (key, key + "x")]
    seen = locked.log_text.getvalue() + "".join(str(answer.headers) + answer.text for answer in answers)
    assert key not in seen
    assert key.removeprefix("sk-castalia-") not in seen
    assert not any(line.partition(":")[2] in seen for line in path.read_text().split() if ":" in line)


def test_a_changed_file_is_read_again(keys: tuple[Path, str]) -> None:
    path, alice = keys
    keyring = Keyring(path, make_log("INFO", io.StringIO()))
    carol, line = new_key("carol")
    path.write_text(line)
    os.utime(path, ns=(1, 1))
    assert keyring.tenant_of(f"Bearer {carol}").name == "carol"
    with pytest.raises(InvalidApiKey):
        keyring.tenant_of(f"Bearer {alice}")


@pytest.mark.parametrize("content", ["nonsense", None])
def test_a_broken_edit_locks_nobody_out_and_is_logged(keys: tuple[Path, str], content: str | None) -> None:
    path, alice = keys
    log = io.StringIO()
    keyring = Keyring(path, make_log("INFO", log))
    if content is None:
        path.unlink()
    else:
        path.write_text(content)
    assert keyring.tenant_of(f"Bearer {alice}").name == "alice"
    assert "api_keys_unreadable" in log.getvalue()
    assert "nonsense" not in log.getvalue()


@pytest.mark.parametrize("content", ["alice", "alice:abc", f"a b:{'0' * 64}", "ключ:" + "0" * 64])
def test_a_malformed_file_stops_the_start(tmp_path: Path, content: str) -> None:
    path = tmp_path / "keys"
    path.write_text(content)
    with pytest.raises(KeyFileError):
        Keyring(path, make_log("INFO", io.StringIO()))


def test_a_missing_file_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError):
        make_gateway(api_keys_file=tmp_path / "none")


async def test_a_file_of_keys_goes_before_the_store(keys: tuple[Path, str]) -> None:
    gateway = make_gateway(host="127.0.0.1", api_keys_file=keys[0])
    async with gateway.client() as client:
        assert (await client.get("/v1/models")).status_code == 401
        assert (await client.get("/v1/models", headers=bearer(keys[1]))).status_code == 200


def test_a_tenant_is_known_by_name_while_a_line_of_the_file_has_it(keys: tuple[Path, str]) -> None:
    path, _ = keys
    keyring = Keyring(path, make_log("INFO", io.StringIO()))
    assert keyring.tenant_named("alice") is not None
    path.write_text(new_key("bob")[1])
    os.utime(path, ns=(1, 1))
    assert keyring.tenant_named("alice") is None


@pytest.mark.parametrize(
    ("host", "is_safe"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True)]
    + [(host, False) for host in ("0.0.0.0", "::", "10.0.0.1", "example.org", "")],
)
def test_loopback_is_told_from_the_rest(host: str, is_safe: bool) -> None:
    assert is_loopback(host) is is_safe


def test_every_new_key_is_different_and_its_name_checked() -> None:
    assert len({new_key("a")[0] for _ in range(10)}) == 10
    assert len(new_key("a")[0]) >= 43
    with pytest.raises(ValueError, match="name"):
        new_key("a:b")
