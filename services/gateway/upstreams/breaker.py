"""Owns whether a remote server may be asked now: a circuit breaker. Pure; never sees a request.

Nygard, Release It! (2007), ch. 5: closed, it lets all tries pass; after some failures in a row it opens and lets none
pass; after a pause one try goes ahead, whose end closes it or opens it again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

TRIAL_S = 1.0  # when to come back while another's trial is on its way: nobody knows how long it takes


@dataclass(frozen=True, slots=True)
class Pass:
    """The leave to try once. Exactly one of `answered`, `failed` and `gave_up` follows it."""

    is_trial: bool


class Breaker:
    """Counts the failures in a row of one server. `clock` is in seconds."""

    def __init__(self, *, failures: int, pause_s: float, clock: Callable[[], float]) -> None:
        self._most = failures
        self._pause_s = pause_s
        self._clock = clock
        self._streak = 0
        self._opened: float | None = None
        self._on_trial = False

    @property
    def wait_s(self) -> float:
        """Seconds until a try may go ahead; 0 if one may now."""
        if self._opened is None:
            return 0.0
        left_s = self._opened + self._pause_s - self._clock()
        if left_s > 0:
            return left_s
        return TRIAL_S if self._on_trial else 0.0

    def enter(self) -> Pass | None:
        """Leave to try, or None if the circuit is open."""
        if self.wait_s > 0:
            return None
        self._on_trial = self._opened is not None
        return Pass(self._on_trial)

    def answered(self, leave: Pass) -> None:
        """The server began to answer. That ends a trial well, but only a whole answer clears the record."""
        if leave.is_trial:
            self._close(streak=self._most - 1)

    def succeeded(self) -> None:
        """An answer came whole."""
        if self._opened is None:  # a try from before it opened says nothing of the server now
            self._streak = 0

    def failed(self, leave: Pass | None = None, *, is_first: bool = True) -> None:
        """A try failed by the server's fault; `leave` is None for an answer that broke off.

        Only the first failure of a request counts: no request, tried again, is to look like many.
        """
        self._streak += is_first
        is_trial = leave is not None and leave.is_trial
        if is_trial or (self._opened is None and self._streak >= self._most):
            self._opened, self._on_trial = self._clock(), False

    def gave_up(self, leave: Pass) -> None:
        """The try ended by nobody's fault, or the client's: nothing is known, so the next may try."""
        if leave.is_trial:
            self._on_trial = False

    def _close(self, *, streak: int) -> None:
        self._streak, self._opened, self._on_trial = streak, None, False
