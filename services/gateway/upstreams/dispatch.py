"""Owns the remote servers of the configuration, and the one HTTP client that reaches them. Never sees Ray."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Protocol

import httpx

from services.gateway.logs import Log
from services.gateway.upstreams.server import REPLICA, RemoteServer, Timing
from services.gateway.upstreams.tally import Tally
from shared.calls import Call
from shared.config.upstream import UpstreamService
from shared.errors import ModelNotFound, UpstreamFailed
from shared.events import RowEvent
from shared.reports import ReplicaReport

IDLE_CONNECTIONS = 64
IDLE_S = 15.0  # shorter than servers keep them: a request on a connection that is being closed costs a retry


class Server(Protocol):
    """One service of family upstream, as the dispatcher uses it."""

    @property
    def config(self) -> UpstreamService: ...
    def stream(self, call: Call) -> AsyncGenerator[list[RowEvent], None]: ...
    def report(self) -> ReplicaReport: ...


class Unusable:
    """Stands in for a server without its key, or of no use: its models have failed, and the rest serves on."""

    def __init__(self, config: UpstreamService) -> None:
        self.config = config

    async def stream(self, call: Call) -> AsyncGenerator[list[RowEvent], None]:
        raise UpstreamFailed(call.model)
        yield  # a generator, as of a server that answers

    def report(self) -> ReplicaReport:
        models = tuple(Tally().report(model, "failed") for model in self.config.models)
        return ReplicaReport(self.config.name, REPLICA, models)


class UpstreamDispatcher:
    """A `Dispatcher` over HTTP. Keys are read from the environment as a service is first configured."""

    def __init__(
        self,
        log: Log,
        *,
        environ: Mapping[str, str] = os.environ,
        transport: httpx.AsyncBaseTransport | None = None,
        timing: Timing | None = None,
    ) -> None:
        self._log = log
        self._environ = environ
        self._transport = transport
        self._timing = timing or Timing()
        self._client: httpx.AsyncClient | None = None
        self._servers: Mapping[str, Server] = {}

    def configure(self, services: Sequence[UpstreamService]) -> None:
        """Serve these and no others; requests on their way go on. One that cannot be reached at all fails alone.

        What is known of a server stays, as long as its URL and its key do.
        """
        servers: dict[str, Server] = {}
        for service in services:
            known = self._servers.get(service.name)
            servers[service.name] = known if known and known.config == service else self._server(service, known)
        self._servers = servers

    async def stream(self, service: str, call: Call) -> AsyncGenerator[list[RowEvent], None]:
        """See `Dispatcher.stream`. Raises ModelNotFound for a service that the configuration has no more."""
        server = self._servers.get(service)
        if server is None:
            raise ModelNotFound(call.model)
        async with aclosing(server.stream(call)) as events:
            async for batch in events:
                yield batch

    async def ping(self, service: str) -> None:
        """Return at once: no server is started by being asked."""

    async def reports(self, service: str) -> Sequence[ReplicaReport]:
        """What is known here; nobody is asked."""
        server = self._servers.get(service)
        return () if server is None else (server.report(),)

    async def close(self) -> None:
        """Close every connection."""
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    def _server(self, service: UpstreamService, known: Server | None) -> Server:
        secret = None
        if service.secret_env is not None:
            secret = self._environ.get(service.secret_env, "").strip()
            if not (secret and secret.isascii() and secret.isprintable()):
                self._log.error("upstream_without_key", service=service.name, variable=service.secret_env)
                return Unusable(service)
        try:
            server = RemoteServer(service, secret, self._connections(), self._log, self._timing)
        except (httpx.InvalidURL, ValueError, OSError) as error:  # OSError: certificates that cannot be read
            self._log.error("upstream_unusable", service=service.name, cause=type(error).__name__)
            return Unusable(service)
        if isinstance(known, RemoteServer):
            server.take_over(known)
        return server

    def _connections(self) -> httpx.AsyncClient:
        """Made at the first need: it reads the certificates. Proxies and .netrc of the environment have no say."""
        if self._client is None:
            limits = httpx.Limits(
                max_connections=None, max_keepalive_connections=IDLE_CONNECTIONS, keepalive_expiry=IDLE_S
            )
            self._client = httpx.AsyncClient(
                transport=self._transport, limits=limits, trust_env=False, follow_redirects=False
            )
        return self._client
