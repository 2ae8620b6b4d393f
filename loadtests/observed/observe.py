"""Owns one look at a running fleet, from its start to its end: who runs beside it, and what is found."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from loadtests.observed import loads, traced_chat
from loadtests.observed.asking import answers
from loadtests.observed.fleet import Observed, fleet_of
from loadtests.observed.prometheus import JOB, SCRAPE_S, Prometheus, Window, version_of
from loadtests.observed.questions import dashboards, recorded
from loadtests.observed.report import Observation, Recorded
from loadtests.observed.trace import by_role, goals, kinship_faults
from loadtests.observed.verdict import faults, standings
from loadtests.peers.server import ServerProcess, free_port
from loadtests.saturated import Goal
from loadtests.summary import Summary

OBSERVABILITY = Path(__file__).parents[2] / "deploy" / "observability"
RULES = OBSERVABILITY / "rules"
CHAT_MODEL = "smollm2-135m-instruct"
SCRAPED = 0.8  # of the scrapes that there should be, on a machine that is busy

Tick = Callable[[float], None]
Tell = Callable[[str, float | None], Tick]  # a part begins, of so many seconds; what it gives is told how many passed


class Runner(Protocol):
    def start(self) -> None: ...
    def stop(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Company:
    """A fleet, who scrapes it, and the address of who collects its traces."""

    fleet: Observed
    prometheus: Prometheus
    collector: str


def observe(models: Path, seconds: float, program: str, work: Path, tell: Tell) -> Observation:
    """Raises FleetError, LoadFailed, NotReady, PrometheusFailed, StreamFailed, OSError, httpx.HTTPError."""
    with _company(models, program, work, tell) as company:
        loads.wake(company.fleet, tell("waking the models", loads.WAKE_S))
        began = time.time()
        summary, troubles = loads.mix(company.fleet, seconds, tell("loading them", seconds))
        time.sleep(2 * SCRAPE_S)  # the last of it is to be scraped
        window = Window(began, time.time())
        asked = traced_chat.ask(company.fleet.url, company.fleet.big, CHAT_MODEL)
        tell("waiting for the spans", None)
        spans, span_faults = by_role(traced_chat.spans_of(company.collector, asked.trace), CHAT_MODEL)
        tell("asking Prometheus", None)
        found = standings(answers(company.prometheus, dashboards(OBSERVABILITY / "dashboards"), window))
        rules = _recorded(company.prometheus, window)
        return Observation(
            prometheus=version_of(program),
            summary=summary,
            troubles=troubles,
            standings=found,
            recorded=rules,
            asked=asked,
            spans=spans,
            traces=len({span.trace for span in traced_chat.all_spans(company.collector)}),
            goals=[
                Goal("load: requests that failed or were cut off", _broken(summary), 0, is_least=False),
                *_scrape_goals(company.prometheus, window),
                *([] if span_faults else goals(spans, asked)),
            ],
            faults=[
                *faults(found),
                *(f"{each.name}: {each.fault}" for each in rules if each.fault),
                *(f"alert {each.name}: {each.error}" for each in company.prometheus.rules() if each.error),
                *span_faults,
                *kinship_faults(spans, asked),
            ],
        )


@contextmanager
def _company(models: Path, program: str, work: Path, tell: Tell) -> Generator[Company]:
    def say(step: str) -> None:
        tell(step, None)

    port = free_port()
    endpoint = f"http://127.0.0.1:{port}"
    collecting = [sys.executable, "-m", "loadtests.observed.collector", f"--port={port}"]
    with (
        _running(ServerProcess(collecting, f"{endpoint}/spans", work / "collector.log")),
        fleet_of(models, endpoint, say) as fleet,
    ):
        rules = [RULES / "recording.yaml", RULES / "alerts.yaml"]
        scraped = fleet.url.removeprefix("http://")
        prometheus = Prometheus(program, work, target=scraped, key=fleet.scraper, rules=rules)
        with _running(prometheus):
            yield Company(fleet, prometheus, endpoint)


@contextmanager
def _running(runner: Runner) -> Generator[None]:
    """Raises NotReady."""
    runner.start()
    try:
        yield
    finally:
        runner.stop()


def _recorded(prometheus: Prometheus, window: Window) -> list[Recorded]:
    """What the recording rules gave. A rule that Prometheus does not have is one without data."""
    errors = {rule.name: rule.error for rule in prometheus.rules() if not rule.is_alert}
    names = recorded(RULES / "recording.yaml")
    return [Recorded(name, errors.get(name, "is not loaded"), prometheus.lines(name, window)) for name in names]


def _scrape_goals(prometheus: Prometheus, window: Window) -> Iterator[Goal]:
    span = f"{window.seconds:.0f}s"
    scrapes = prometheus.number(f'count_over_time(up{{job="{JOB}"}}[{span}])', window.ended)
    well = prometheus.number(f'sum_over_time(up{{job="{JOB}"}}[{span}])', window.ended)
    yield Goal("scrapes", scrapes, SCRAPED * window.seconds / SCRAPE_S, is_least=True)
    yield Goal("scrapes that failed", scrapes - well, 0, is_least=False)


def _broken(summary: Summary) -> int:
    return summary.totals.failed + summary.totals.truncated
