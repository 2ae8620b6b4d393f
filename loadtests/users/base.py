"""Owns Locust's users. When one asks is its loop's to say, what it asks for the modality's."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from locust import User, task

if TYPE_CHECKING:
    from loadtests.generator.process import Process


class LoadUser(User):
    """Locust calls `ask`, then waits for `wait_time`, over and over; while it waits it can be stopped at once."""

    abstract = True
    asks_for: ClassVar[str] = ""  # a task of /v1/models; empty: what --modalities says

    def on_start(self) -> None:
        process: Process = self.environment.castalia  # set as a test begins
        self._loop = process.loop(self.asks_for)

    def wait_time(self) -> float:
        return self._loop.wait_s()

    @task
    def ask(self) -> None:
        self._loop.ask()


class MixedUser(LoadUser):
    """Draws what to ask for anew each time."""
