"""A registry on a port of its own: files by path, and what was asked of it."""

from __future__ import annotations

import io
import json
import tarfile
import threading
import zipfile
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from services.training.recipe import Package
from services.training.registries import Registries

SIMPLE = "application/vnd.pypi.simple.v1+json"


@dataclass
class Registry:
    """`files`: path to bytes; `asked`: the paths that were asked for, in order."""

    url: str
    files: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    @property
    def registries(self) -> Registries:
        return Registries(pypi=f"{self.url}/simple", npm=self.url, debian=f"{self.url}/debian")


@contextmanager
def serving() -> Generator[Registry]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    registry = Registry(f"http://127.0.0.1:{server.server_port}")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            registry.asked.append(self.path)
            content = registry.files.get(self.path)
            self.send_response(200 if content is not None else 404)
            self.send_header("content-type", SIMPLE if "/simple/" in self.path else "application/octet-stream")
            self.send_header("content-length", str(len(content or b"")))
            self.end_headers()
            self.wfile.write(content or b"")

        def log_message(self, format: str, *args: object) -> None:
            pass

    server.RequestHandlerClass = Handler
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield registry
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def tarball(members: Mapping[str, bytes], mode: str = "w:gz") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as tar:  # pyright: ignore
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def wheel(members: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def deb(members: Mapping[str, bytes]) -> bytes:
    parts = {"debian-binary": b"2.0\n", "control.tar.xz": b"odd", "data.tar.xz": tarball(members, "w:xz")}
    content = b"!<arch>\n"
    for name, body in parts.items():
        content += (
            f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(body):<10}`\n".encode() + body + b"\n" * (len(body) % 2)
        )
    return content


def put_npm(registry: Registry, content: bytes) -> Package:
    registry.files["/dice/-/dice-1.0.0.tgz"] = content
    return Package("npm", "dice", "1.0.0", "dice-1.0.0.tgz", sha256(content).hexdigest(), "MIT")


def put_pypi(registry: Registry, content: bytes) -> Package:
    registry.files["/simple/big-dice/"] = json.dumps(
        {"files": [{"filename": "big_dice-2.0-py3-none-any.whl", "url": "../../files/big_dice.whl"}]}
    ).encode()
    registry.files["/files/big_dice.whl"] = content
    digest = sha256(content).hexdigest()
    return Package("pypi", "Big_Dice", "2.0", "big_dice-2.0-py3-none-any.whl", digest, "MIT")


def put_debian(registry: Registry, content: bytes) -> Package:
    registry.files["/debian/pool/main/d/dice/dice_1-1_all.deb"] = content
    return Package("debian", "dice-data", "1-1", "main/d/dice/dice_1-1_all.deb", sha256(content).hexdigest(), "CC0")
