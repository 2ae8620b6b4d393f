"""Owns how a gateway's files and batches are put together from its settings. Everything else is passed in."""

from __future__ import annotations

from functools import partial

from starlette.types import ASGIApp

from services.gateway.batches.in_process import ask
from services.gateway.batches.job import Means
from services.gateway.batches.ledger import Ledger
from services.gateway.batches.runner import BatchRunner
from services.gateway.batches.slots import Slots
from services.gateway.blobs import Blobs
from services.gateway.files import Files
from services.gateway.state import GatewayState
from services.gateway.tenants import Tenant
from shared.schemas.batches import ENDPOINTS

BEAT_S = 2.0
FOLDER = "blobs"  # in CASTALIA_HOME
LINE_OVERHEAD = 4096  # bytes of a line beside its body


def make_files(state: GatewayState) -> Files:
    """Raises ValueError or ImportError if nothing here speaks CASTALIA_BLOB_URL."""
    settings = state.settings
    url = settings.blob_url or str(settings.home.expanduser().absolute() / FOLDER)
    return Files(state.store, Blobs(url), now=state.tempo.now, most_bytes=int(settings.max_tenant_files))


def make_runner(app: ASGIApp, state: GatewayState, files: Files) -> BatchRunner:
    """A runner of the batches in the gateway's store; `app`, the gateway's own, answers their lines."""
    settings, now = state.settings, state.tempo.now

    def longest_line(endpoint: str) -> int:
        has_pictures = ENDPOINTS.get(endpoint, False)
        return LINE_OVERHEAD + int(settings.max_image_body if has_pictures else settings.max_body)

    means = Means(
        ledger=Ledger(state.store, lease_s=settings.batch_lease_s, now=now),
        files=files,
        ask=partial(ask, app),
        spender=partial(_spender, state),
        slots=Slots(settings.batch_concurrency),
        longest_line=longest_line,
        log=state.log,
        now=now,
    )
    return BatchRunner(means, beat_s=min(BEAT_S, settings.batch_lease_s / 3))


def _spender(state: GatewayState, name: str) -> Tenant | None:
    """The tenant as it is now; None while it has no live key, or has used up its month."""
    tenant = state.keys.tenant_named(name)
    if tenant is None or tenant.units_per_month is None:
        return tenant
    return tenant if state.usage.month_units(name) < tenant.units_per_month else None
