"""Owns the pages: the playground at `/` and the fleet at `/fleet`, static files that ask the public API alone.

They need no key; what they ask does. Never sees a model.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from fastapi import APIRouter, Request, Response

from services.gateway.fixed import FixedAnswer

FOLDER = Path(__file__).parent / "pages"
DOCUMENT = "index.html"
VIEWS = ("/", "/fleet")  # of the one document, which shows what its path says
FILES = "/pages"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
SECURITY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": SECURITY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
Pages = Mapping[str, FixedAnswer]  # by path


def load_pages(folder: Path = FOLDER) -> Pages:
    found = [file for file in sorted(folder.iterdir()) if file.suffix in TYPES]
    files = {f"{FILES}/{file.name}": FixedAnswer.of(file.read_bytes(), TYPES[file.suffix]) for file in found}
    document = files.pop(f"{FILES}/{DOCUMENT}")
    return {**dict.fromkeys(VIEWS, document), **files}


def pages_router(pages: Pages) -> APIRouter:
    router = APIRouter()
    for path, page in pages.items():
        router.add_route(path, _endpoint(page), methods=["GET"], include_in_schema=False)
    return router


def _endpoint(page: FixedAnswer) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        return page.to(request, HEADERS)

    return endpoint
