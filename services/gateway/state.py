"""Owns what all requests share: settings, routes, keys, reports, metrics. Never sees HTTP."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from services.gateway.auth import Keyring, make_keyring
from services.gateway.board import ReportBoard
from services.gateway.carrier import Carrier
from services.gateway.dispatcher import Dispatcher
from services.gateway.logs import Log
from services.gateway.metrics import GatewayMetrics
from services.gateway.routing import RoutingTable
from shared.config.models import FleetConfig
from shared.config.settings import Settings

HEADER_HOLD_S = 3.0
PING_TIMEOUT_S = 5.0


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
    keyring: Keyring | None
    log: Log
    board: ReportBoard
    carrier: Carrier
    tempo: Tempo
    rng: random.Random
    metrics: GatewayMetrics = field(default_factory=GatewayMetrics)
    table: RoutingTable = field(default_factory=RoutingTable)

    @classmethod
    def make(
        cls,
        settings: Settings,
        dispatcher: Dispatcher,
        log: Log,
        *,
        tempo: Tempo | None = None,
        rng: random.Random | None = None,
    ) -> GatewayState:
        """Raises UnprotectedHost or KeyFileError: such a gateway must not start."""
        tempo = tempo or Tempo()
        return cls(
            settings=settings,
            dispatcher=dispatcher,
            keyring=make_keyring(settings, log),
            log=log,
            board=ReportBoard(dispatcher, log, max_age_s=settings.report_s, clock=tempo.clock),
            carrier=Carrier(dispatcher, log),
            tempo=tempo,
            rng=rng or random.Random(),
        )

    def configure(self, fleet: FleetConfig) -> None:
        """Take over a configuration at once; giving the same one again changes nothing."""
        self.table = RoutingTable.of(fleet, now=int(self.tempo.now()), before=self.table)
