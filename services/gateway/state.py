"""Owns what all requests share: settings, routes, keys, store, reports, metrics. Never sees HTTP."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from services.gateway.auth import Keys, make_keys
from services.gateway.board import ReportBoard
from services.gateway.bodies import BodyBudget
from services.gateway.carrier import Carrier
from services.gateway.dispatcher import Dispatcher
from services.gateway.forecast import Forecast
from services.gateway.limits import Limiter, LimitMetrics, make_limiter
from services.gateway.logs import Log
from services.gateway.metrics import GatewayMetrics
from services.gateway.mirror import Mirror
from services.gateway.routing import RoutingTable
from services.gateway.store.database import Store, cause_of
from services.gateway.store.migrating import migrate
from services.gateway.traced_dispatch import TracedDispatcher
from services.gateway.usage import UsageMeter
from services.gateway.waker import Waker
from shared.config.models import FleetConfig
from shared.config.settings import Settings
from shared.tracing import NO_TRACER, Tracer, make_tracer

HEADER_HOLD_S = 3.0
PING_TIMEOUT_S = 2.0  # a probe of the chart waits longer: readiness must be told in time


@dataclass(frozen=True, slots=True)
class Tempo:
    """How long the gateway waits for what, in seconds.

    `header_hold_s`: how long a stream's headers wait for its first event, so that a refusal keeps its status.
    """

    header_hold_s: float = HEADER_HOLD_S
    ping_timeout_s: float = PING_TIMEOUT_S
    clock: Callable[[], float] = time.monotonic
    now: Callable[[], float] = time.time


@dataclass(slots=True)
class GatewayState:
    """`table` is replaced whole by `configure`; the rest stays for the life of the process."""

    settings: Settings
    dispatcher: Dispatcher
    store: Store
    keys: Keys
    usage: UsageMeter
    log: Log
    board: ReportBoard
    carrier: Carrier
    mirror: Mirror
    waker: Waker
    limiter: Limiter
    forecast: Forecast
    tempo: Tempo
    rng: random.Random
    tracer: Tracer = NO_TRACER
    bodies: BodyBudget = field(default_factory=BodyBudget)
    metrics: GatewayMetrics = field(default_factory=GatewayMetrics)
    table: RoutingTable = field(default_factory=RoutingTable)

    @classmethod
    def make(
        cls,
        settings: Settings,
        dispatcher: Dispatcher,
        log: Log,
        *,
        gateway: str = "",
        tempo: Tempo | None = None,
        rng: random.Random | None = None,
        tracer: Tracer | None = None,
    ) -> GatewayState:
        """`gateway` names this process in metrics and traces; without a `tracer`, the settings say what is traced.

        Raises KeyFileError, StoreError or TracingUnavailable: such a gateway must not start.
        """
        tempo = tempo or Tempo()
        tracer = tracer or make_tracer(settings, service="castalia-gateway", instance=gateway)
        if tracer is not NO_TRACER:
            dispatcher = TracedDispatcher(dispatcher, tracer)
        store = Store.of(settings)
        usage = UsageMeter(store, log, flush_s=settings.usage_flush_s, now=tempo.now)
        metrics = GatewayMetrics(gateway)
        carrier = Carrier(dispatcher, log)
        board = ReportBoard(dispatcher, log, max_age_s=settings.report_s, clock=tempo.clock)
        return cls(
            settings=settings,
            dispatcher=dispatcher,
            store=store,
            keys=make_keys(settings, store, log, now=tempo.now),
            usage=usage,
            log=log,
            board=board,
            carrier=carrier,
            mirror=Mirror(carrier, metrics.mirrored, log),
            waker=Waker(dispatcher, log, patience_s=settings.hold_s),
            metrics=metrics,
            limiter=make_limiter(
                settings,
                log,
                LimitMetrics(metrics.registry, metrics.tenants.of),
                month_units=usage.month_units,
                now=tempo.now,
                clock=tempo.clock,
            ),
            forecast=Forecast(board, clock=tempo.clock),
            tempo=tempo,
            rng=rng or random.Random(),
            tracer=tracer,
        )

    async def start(self) -> None:
        """What must be up before the first request. Called once, on the event loop that answers. Raises StoreError."""
        try:
            await migrate(self.store)
            await self.keys.start()
            await self.usage.start()
        except Exception as error:
            self.log.error("not_started", cause=cause_of(error))
            raise

    async def close(self) -> None:
        """Stop what `start` and the requests began."""
        await self.mirror.close()
        await self.waker.close()
        await self.board.close()
        await self.limiter.close()
        await self.keys.close()
        await self.usage.close()
        await self.store.close()
        await self.dispatcher.close()
        await asyncio.to_thread(self.tracer.close)

    def configure(self, fleet: FleetConfig) -> None:
        """Take over a configuration at once; giving the same one again changes nothing."""
        self.metrics.configure(fleet)
        self.table = RoutingTable.of(fleet, now=int(self.tempo.now()), before=self.table)
