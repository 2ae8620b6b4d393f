"""A Hugging Face endpoint on loopback: refs, one repository's listing, and its files."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

REPO = "owner/tiny"
COMMIT, HEAD = "a" * 40, "b" * 40
REFS = {
    "tags": [{"name": "v1.0", "ref": "refs/tags/v1.0", "targetCommit": COMMIT}],
    "branches": [{"name": "main", "ref": "refs/heads/main", "targetCommit": HEAD}],
    "converts": [],
}


class HubServer(ThreadingHTTPServer):
    """`served` may differ from `files`, whose sums are what the listing states. `broken` files answer 500."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self.files = dict(files)
        self.served = dict(files)
        self.broken: set[str] = set()
        self.downloads: Counter[str] = Counter()
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def listing(self) -> dict[str, object]:
        siblings = [
            {
                "rfilename": name,
                "size": len(content),
                "blobId": "0" * 40,
                "lfs": {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 1}
                if name.endswith(".safetensors")
                else None,
            }
            for name, content in self.files.items()
        ]
        return {"id": REPO, "sha": COMMIT, "siblings": siblings, "tags": [], "private": False}


class _Handler(BaseHTTPRequestHandler):
    server: HubServer
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._file(body=False)

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == f"/api/models/{REPO}/refs":
            self._answer(200, json.dumps(REFS).encode())
        elif path == f"/api/models/{REPO}/revision/{COMMIT}":
            self._answer(200, json.dumps(self.server.listing()).encode())
        elif path.startswith("/api/"):
            known = path.startswith(f"/api/models/{REPO}/")
            self._answer(404, b"{}", {"X-Error-Code": "RevisionNotFound" if known else "RepoNotFound"})
        else:
            self._file(body=True)

    def _file(self, *, body: bool) -> None:
        name = self.path.removeprefix(f"/{REPO}/resolve/{COMMIT}/")
        content = self.server.served.get(name)
        if content is None:
            self._answer(404, b"", {"X-Error-Code": "EntryNotFound"})
        elif body and name in self.server.broken:
            self._answer(403, b"")
        else:
            self.server.downloads[name] += body
            etag = hashlib.sha256(self.server.files[name]).hexdigest()
            self._answer(200, content, {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT}, body=body)

    def _answer(self, status: int, content: bytes, headers: Mapping[str, str] = {}, *, body: bool = True) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, *args: object) -> None:
        pass
