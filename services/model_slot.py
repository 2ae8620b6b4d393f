"""Owns one model's place in a pool: its state, its users, and what is known of how long and how large its load is."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

from services.families import LoadedModel
from shared.config.base import LocalModel
from shared.errors import ModelLoading, Overloaded
from shared.reports import ModelState

FIRST_BACKOFF_S = 1.0
LONGEST_BACKOFF_S = 60.0
# A guess for a first load alone; every later one is predicted from the last.
LOAD_BYTES_PER_S = 100e6
LOAD_START_S = 5.0
UNKNOWN_LOAD_S = 30.0
RETURN_MARGIN_S = 15.0  # `retry-after` is spread: by so much may a client be later than it was told


@dataclass(slots=True, eq=False)
class ModelSlot:
    """One configured model. Times are on the pool's clock, in seconds; memory is in bytes.

    `base` is the model that it is loaded upon, if there is one: who uses or wants it uses and wants that, too.
    """

    family: str
    config: LocalModel
    base: ModelSlot | None = None
    loaded: LoadedModel | None = None
    loading: asyncio.Task[None] | None = None
    users: int = 0  # leases, and those who wait for one
    last_used: float = 0.0
    memory: int | None = None  # by the last load's own account
    counted: Mapping[str, float] = field(default_factory=dict[str, float])  # by what was loaded under its id before
    load_s: float | None = None  # how long the last load took, once it had its turn and its room
    weight_bytes: int | None = None  # on disk
    failures: int = field(default=0, init=False)
    error: str | None = field(default=None, init=False)  # the last load's, for operators
    permanent: bool = field(default=False, init=False)  # another try cannot help
    retry_at: float = field(default=0.0, init=False)
    began_at: float | None = field(default=None, init=False)  # None while a load waits for its turn, or for room
    wanted_until: float = field(default=0.0, init=False)  # somebody was told to come back before that

    @property
    def state(self) -> ModelState:
        if self.loaded is not None:
            return "ready"
        if self.loading is not None:
            return "loading"
        return "cold" if self.error is None else "failed"

    @property
    def counts(self) -> Mapping[str, float]:
        """What the family has counted of the model, in all its loads."""
        now = {} if self.loaded is None else self.loaded.counts.snapshot()
        return {name: self.counted.get(name, 0.0) + now.get(name, 0.0) for name in {**self.counted, **now}}

    @property
    def expected_memory(self) -> int:
        """What a load will take: as the last time, else the size on disk (other dtypes and caches differ)."""
        return self.memory if self.memory is not None else self.weight_bytes or 0

    def enter(self) -> None:
        """Somebody wants to use it."""
        self.users += 1
        if self.base is not None:
            self.base.enter()

    def leave(self, now: float) -> None:
        """Undo `enter`."""
        self.users -= 1
        self.last_used = now
        if self.base is not None:
            self.base.leave(now)

    def is_wanted(self, now: float) -> bool:
        """Whether somebody uses it, waits for it, or was told to come back for it."""
        return self.users > 0 or now < self.wanted_until

    def want_back(self, now: float) -> float:
        """Count on a refused caller's return once the load has ended; when that is, in seconds from now."""
        rest_s = self.rest_s(now)
        self._want_until(now + rest_s + RETURN_MARGIN_S)
        return rest_s

    def _want_until(self, until: float) -> None:
        self.wanted_until = max(self.wanted_until, until)
        if self.base is not None:
            self.base._want_until(until)

    def rest_s(self, now: float) -> float:
        """How long the load will go on, predicted, without what it waits for its turn and room; at least a second.

        Its base's is counted with it.
        """
        expected = UNKNOWN_LOAD_S
        if self.load_s is not None:
            expected = self.load_s
        elif self.weight_bytes is not None:
            expected = LOAD_START_S + self.weight_bytes / LOAD_BYTES_PER_S
        before = self.base.rest_s(now) if self.base is not None and self.base.loaded is None else 0.0
        return before + max(1.0, expected - self._elapsed_s(now))

    def _elapsed_s(self, now: float) -> float:
        return 0.0 if self.began_at is None else now - self.began_at

    def cannot_load_within(self, wait_s: float, now: float) -> bool:
        """Whether waiting is futile: nothing is left, or the last load took longer than what is left."""
        return wait_s <= 0 or (self.load_s is not None and self.rest_s(now) > max(wait_s, 1.0))

    def succeed(self, loaded: LoadedModel, now: float) -> None:
        self.loaded, self.memory, self.load_s, self.last_used = loaded, loaded.memory, self._elapsed_s(now), now
        self.failures, self.error = 0, None

    def unload(self) -> None:
        self.counted, self.loaded = self.counts, None

    def fail(self, error: Exception, now: float, *, permanent: bool) -> None:
        self.failures += 1
        self.error, self.permanent = f"{type(error).__name__}: {error}", permanent
        self.retry_at = now + min(FIRST_BACKOFF_S * 2 ** (self.failures - 1), LONGEST_BACKOFF_S)

    def forgive(self) -> None:
        """Let the next lease try again, whatever failed before."""
        self.failures, self.error, self.permanent, self.retry_at = 0, None, False, 0.0

    def check_retry(self, now: float) -> None:
        """Refuse while the last failure still stands. The message is for clients: the cause is in the log."""
        if self.error is None:
            return
        if self.permanent:
            raise Overloaded(f"Model '{self.config.id}' needs more memory than its service has.")
        if now < self.retry_at:
            raise ModelLoading(f"Model '{self.config.id}' failed to load.", retry_after=max(1.0, self.retry_at - now))
