"""Owns what no page may do: errors and warnings in the console, what its policy refuses, requests to another host."""

from __future__ import annotations

from urllib.parse import urlsplit

from playwright.sync_api import BrowserContext, ConsoleMessage, Request, WebError

LOCAL = {"data", "blob"}  # schemes that leave no machine
REPORT = """
addEventListener("securitypolicyviolation", (event) =>
  reportRefusal(`${event.effectiveDirective} refused ${event.blockedURI} in ${event.sourceFile}:${event.lineNumber}`));
"""


class Watch:
    """Gathers the problems of all pages of a context. `url` is where the fleet is."""

    def __init__(self, context: BrowserContext, url: str) -> None:
        self.problems: list[str] = []
        self._host = urlsplit(url).netloc
        context.on("console", self._console)
        context.on("weberror", self._error)
        context.on("request", self._request)
        context.expose_function("reportRefusal", self._refusal)
        context.add_init_script(REPORT)

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.problems.append(f"console {message.type}: {message.text} at {message.location['url']}")

    def _error(self, error: WebError) -> None:
        self.problems.append(f"uncaught: {error.error}")

    def _refusal(self, what: str) -> None:
        self.problems.append(f"policy: {what}")

    def _request(self, request: Request) -> None:
        address = urlsplit(request.url)
        if address.scheme not in LOCAL and address.netloc != self._host:
            self.problems.append(f"request to another host: {request.url}")
