"""Owns answers that are one text for all: sent compressed where a client can, and not again while it is the same."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response


@dataclass(frozen=True, slots=True)
class FixedAnswer:
    """A text, as it is and compressed. Both have one weak tag: they are the same text."""

    content: bytes
    packed: bytes
    media_type: str
    tag: str

    @classmethod
    def of(cls, content: bytes, media_type: str) -> FixedAnswer:
        tag = f'W/"{hashlib.sha256(content).hexdigest()[:32]}"'
        return cls(content, gzip.compress(content, mtime=0), media_type, tag)

    def to(self, request: Request, headers: Mapping[str, str] | None = None) -> Response:
        """The response, whose client keeps it, but asks each time: a new version is seen at once."""
        kept = {**(headers or {}), "etag": self.tag, "cache-control": "no-cache", "vary": "accept-encoding"}
        if self.tag in request.headers.get("if-none-match", "").split(", "):
            return Response(status_code=304, headers=kept)
        body = self.content
        if "gzip" in request.headers.get("accept-encoding", ""):
            body, kept["content-encoding"] = self.packed, "gzip"
        return Response(body, headers=kept, media_type=self.media_type)
