"""`/v1/files`, by the official client over a real socket."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator
from pathlib import Path

import httpx
import openai
import pytest

from services.gateway import files as files_module
from services.gateway.store.migrating import migrate
from services.gateway.store.tables import metadata
from shared.schemas.files import LIFETIME_S
from tests.unit.gateway.conftest import Serve
from tests.unit.gateway.tenants import Clients, make_lasting_gateway, two_tenants

DATA = b'{"custom_id": "1"}\n' * 3
LIMIT = 2 * 2**20
NOW = 1_700_000_000


def left_in(folder: Path) -> list[str]:
    """What uploads have left unfinished."""
    return [path.name for path in folder.glob("blobs/partial/*")]


@pytest.fixture
async def clients(tmp_path: Path, serve: Serve) -> AsyncGenerator[Clients]:
    async with two_tenants(tmp_path, serve, max_file=LIMIT) as clients:
        yield clients


async def test_a_file_comes_back_byte_for_byte(clients: Clients) -> None:
    data = bytes(range(256)) * (LIMIT // 256)
    made = await clients.ours.files.create(file=("in.jsonl", data), purpose="batch")
    assert (made.bytes, made.filename, made.purpose, made.status) == (LIMIT, "in.jsonl", "batch", "processed")
    assert (made.created_at, made.expires_at) == (NOW, NOW + LIFETIME_S)
    assert await clients.ours.files.retrieve(made.id) == made
    got = await clients.ours.files.content(made.id)
    assert hashlib.sha256(got.content).digest() == hashlib.sha256(data).digest()


async def test_an_empty_file_is_a_file(clients: Clients) -> None:
    made = await clients.ours.files.create(file=("in.jsonl", b""), purpose="batch")
    assert (await clients.ours.files.content(made.id)).content == b""


async def test_a_file_lives_as_long_as_it_asks_to(clients: Clients) -> None:
    made = await clients.ours.files.create(
        file=("in.jsonl", DATA), purpose="batch", expires_after={"anchor": "created_at", "seconds": 3600}
    )
    assert made.expires_at == NOW + 3600


async def test_a_tenant_sees_its_own_files_alone(clients: Clients) -> None:
    made = await clients.ours.files.create(file=("in.jsonl", DATA), purpose="batch")
    assert [file.id async for file in clients.theirs.files.list()] == []
    for call in (clients.theirs.files.retrieve, clients.theirs.files.content, clients.theirs.files.delete):
        with pytest.raises(openai.NotFoundError):
            await call(made.id)
    assert (await clients.ours.files.content(made.id)).content == DATA


async def test_lists_have_pages_in_either_order(clients: Clients) -> None:
    made = [(await clients.ours.files.create(file=("f", DATA), purpose="batch")).id for _ in range(5)]
    newest = [file.id async for file in clients.ours.files.list(limit=2)]
    oldest = [file.id async for file in clients.ours.files.list(limit=2, order="asc")]
    assert sorted(newest) == sorted(made)
    assert newest == oldest[::-1]
    assert [file.id async for file in clients.ours.files.list(purpose="batch_output")] == []
    with pytest.raises(openai.BadRequestError) as caught:
        await clients.ours.files.list(after="file-unknown")
    assert caught.value.param == "after"


async def test_a_deleted_file_is_gone_with_its_bytes(clients: Clients, tmp_path: Path) -> None:
    made = await clients.ours.files.create(file=("in.jsonl", DATA), purpose="batch")
    assert (tmp_path / "blobs" / made.id).read_bytes() == DATA
    assert (await clients.ours.files.delete(made.id)).deleted
    assert not (tmp_path / "blobs" / made.id).exists()
    with pytest.raises(openai.NotFoundError):
        await clients.ours.files.retrieve(made.id)


async def test_a_file_over_the_limit_leaves_nothing(clients: Clients, tmp_path: Path) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        await clients.ours.files.create(file=("in.jsonl", b"x" * (LIMIT + 1)), purpose="batch")
    assert (caught.value.status_code, caught.value.code) == (413, "request_too_large")
    assert left_in(tmp_path) == []


@pytest.mark.parametrize(
    ("data", "files", "param"),
    [
        ({"purpose": "fine-tune"}, {"file": ("a", DATA)}, "purpose"),
        ({}, {"file": ("a", DATA)}, "purpose"),
        ({"purpose": "batch"}, {"other": ("a", DATA)}, "other"),
        ({"purpose": "batch", "file": "text"}, {"x": ("a", b"")}, "file"),
        ({"purpose": "batch", "colour": "red"}, {"file": ("a", DATA)}, "colour"),
        ({"purpose": "batch", "expires_after[seconds]": "3600"}, {"file": ("a", DATA)}, "expires_after.anchor"),
        (
            {"purpose": "batch", "expires_after[anchor]": "created_at", "expires_after[seconds]": "1"},
            {"file": ("a", DATA)},
            "expires_after.seconds",
        ),
        ({"purpose": "batch"}, {"file": ("a" * 300, DATA)}, "file"),
        ({"purpose": "x" * 2000}, {"file": ("a", DATA)}, "purpose"),
    ],
)
async def test_a_form_that_cannot_be_meant_is_refused_by_name(
    clients: Clients, data: dict[str, str], files: dict[str, tuple[str, bytes]], param: str, tmp_path: Path
) -> None:
    headers = {"authorization": f"Bearer {clients.keys[0]}"}
    async with httpx.AsyncClient(base_url=clients.url, headers=headers) as client:
        response = await client.post("/v1/files", data=data, files=files)
    assert (response.status_code, response.json()["error"]["param"]) == (400, param), response.text
    assert left_in(tmp_path) == []


async def test_what_is_no_form_is_refused(clients: Clients) -> None:
    headers = {"authorization": f"Bearer {clients.keys[0]}"}
    async with httpx.AsyncClient(base_url=clients.url, headers=headers) as client:
        assert (await client.post("/v1/files", json={})).status_code == 415
        cut = {"content-type": "multipart/form-data; boundary=x"}
        response = await client.post("/v1/files", content=b"--x\r\n", headers=cut)
        assert (response.status_code, response.json()["error"]["code"]) == (400, "invalid_form")
        assert (await client.get("/v1/files", params={"limit": 0})).json()["error"]["param"] == "limit"


async def test_an_upload_that_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    gateway = make_lasting_gateway(tmp_path)
    await migrate(gateway.state.store)
    head = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    pieces = [head, b"y" * 3_000_000]

    async def receive() -> dict[str, object]:
        if pieces:
            return {"type": "http.request", "body": pieces.pop(0), "more_body": True}
        return {"type": "http.disconnect"}

    async def send(_: object) -> None:
        raise AssertionError("there is nobody to answer")

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/files",
        "query_string": b"",
        "headers": [(b"content-type", b"multipart/form-data; boundary=x")],
    }
    await gateway.app(scope, receive, send)
    assert left_in(tmp_path) == []
    assert gateway.log_lines()[-1]["status"] == 499
    await gateway.state.store.close()


async def test_a_store_that_is_down_is_said_to_be(tmp_path: Path) -> None:
    gateway = make_lasting_gateway(tmp_path)
    async with gateway.state.store.begin() as connection:  # another's tables
        await connection.run_sync(metadata.create_all)
        await connection.exec_driver_sql("DROP TABLE files")
    async with gateway.client() as client:
        response = await client.get("/v1/files")
        assert (response.status_code, response.json()["error"]["code"]) == (503, "store_unavailable")
        assert response.headers["retry-after"]
        assert (await client.get("/healthz")).status_code == 200
    await gateway.state.store.close()


async def test_a_tenant_over_its_bytes_uploads_no_more_until_it_deletes(tmp_path: Path, serve: Serve) -> None:
    async with two_tenants(tmp_path, serve, max_file=LIMIT, max_tenant_files=100) as clients:
        first = await clients.ours.files.create(file=("a", b"x" * 60), purpose="batch")
        for data in (b"x" * 60, b"x" * 41):
            with pytest.raises(openai.APIStatusError) as caught:
                await clients.ours.files.create(file=("b", data), purpose="batch")
            assert (caught.value.status_code, caught.value.code) == (413, "storage_exhausted")
        assert {path.name for path in (tmp_path / "blobs").glob("file-*")} == {first.id}
        await clients.theirs.files.create(file=("b", b"x" * 100), purpose="batch")
        await clients.ours.files.delete(first.id)
        await clients.ours.files.create(file=("b", b"x" * 100), purpose="batch")


async def test_a_full_tenant_is_refused_before_its_file_is_read(tmp_path: Path) -> None:
    gateway = make_lasting_gateway(tmp_path, max_tenant_files=0)
    await migrate(gateway.state.store)

    async def body() -> AsyncGenerator[bytes]:
        raise AssertionError("nobody reads it")
        yield b""

    headers = {"content-type": "multipart/form-data; boundary=x"}
    async with gateway.client() as client:
        response = await client.post("/v1/files", content=body(), headers=headers)
    assert (response.status_code, response.json()["error"]["code"]) == (413, "storage_exhausted")
    await gateway.state.store.close()


async def test_a_page_is_bounded_whatever_is_asked_for(clients: Clients, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files_module, "MOST_LISTED", 2)
    made = [(await clients.ours.files.create(file=("f", DATA), purpose="batch")).id for _ in range(5)]
    assert len((await clients.ours.files.list(limit=10000)).data) == 2
    assert sorted([file.id async for file in clients.ours.files.list(limit=10000)]) == sorted(made)


@pytest.mark.parametrize(
    ("path", "status", "param"),
    [
        ("/v1/files/file-%00", 404, "file_id"),
        ("/v1/files/%00/content", 404, "file_id"),
        ("/v1/files?after=%00", 400, "after"),
        ("/v1/batches/batch_%00", 404, "batch_id"),
        ("/v1/batches?after=%00", 400, "after"),
        ("/v1/usage?model=%00", 400, "model"),
    ],
)
async def test_what_can_be_no_id_reaches_no_store(clients: Clients, path: str, status: int, param: str) -> None:
    async with clients.gateway.state.store.begin() as connection:
        await connection.run_sync(metadata.drop_all)
    headers = {"authorization": f"Bearer {clients.keys[0]}"}
    async with httpx.AsyncClient(base_url=clients.url, headers=headers) as client:
        response = await client.get(path)
    assert (response.status_code, response.json()["error"]["param"]) == (status, param), response.text


async def test_a_storage_that_fails_is_said_to_be(clients: Clients, tmp_path: Path) -> None:
    made = await clients.ours.files.create(file=("f", DATA), purpose="batch")
    blobs = tmp_path / "blobs"
    (blobs / made.id).unlink()
    (blobs / made.id).mkdir()
    with pytest.raises(openai.InternalServerError) as caught:
        await clients.ours.files.content(made.id)
    assert (caught.value.status_code, caught.value.code) == (503, "store_unavailable")
    (blobs / "partial").rename(tmp_path / "away")
    (blobs / "partial").write_bytes(b"in the way")
    with pytest.raises(openai.InternalServerError) as caught:
        await clients.ours.files.create(file=("f", DATA), purpose="batch")
    assert (caught.value.status_code, caught.value.code) == (503, "store_unavailable")


async def test_a_file_that_is_not_added_loses_its_bytes(tmp_path: Path) -> None:
    gateway = make_lasting_gateway(tmp_path)
    await migrate(gateway.state.store)
    async with gateway.state.store.begin() as connection:
        await connection.exec_driver_sql(
            "CREATE TRIGGER refuse BEFORE INSERT ON files BEGIN SELECT RAISE(ABORT, 'no'); END"
        )
    async with gateway.client() as client:
        response = await client.post("/v1/files", data={"purpose": "batch"}, files={"file": ("a", DATA)})
    assert (response.status_code, response.json()["error"]["code"]) == (503, "store_unavailable")
    assert list((tmp_path / "blobs").glob("file-*")) == []
    await gateway.state.store.close()
