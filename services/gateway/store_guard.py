"""Owns what a client is told when the store is down."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from services.gateway.logs import Log
from services.gateway.store.database import STORE_FAILURES, cause_of
from shared.errors import StoreUnavailable


@contextmanager
def needing_store(log: Log) -> Generator[None]:
    """Turn the store's failures into StoreUnavailable; the cause goes to the log."""
    try:
        yield
    except STORE_FAILURES as error:
        log.error("store_failed", cause=cause_of(error))
        raise StoreUnavailable("The store does not answer; please try again.", retry_after=1.0) from error
