"""What is around the questions: the fleet's configuration, the collector's spans, the report, the command's options."""

from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from loadtests.observed import __main__ as command
from loadtests.observed import loads, prometheus
from loadtests.observed.fleet import ROUTE, Observed, names_of, with_route
from loadtests.observed.prometheus import PrometheusMissing, find_program
from loadtests.observed.report import Observation, Recorded, write
from loadtests.observed.trace import Asked
from loadtests.observed.traced_chat import all_spans
from loadtests.observed.trouble import MODEL, Troubles
from loadtests.observed.verdict import Answer, standings
from loadtests.release.load import Load
from loadtests.saturated import Goal
from loadtests.summary import Summary
from loadtests.users.table import MODALITIES
from shared.config.models import FleetConfig
from shared.otlp import otlp_tracer
from shared.tracing import Kind
from tests.traces import collector
from tests.unit.loadtests.summaries import summary

MODELS = Path(__file__).parents[4] / "models.yaml"
SUMMARY = summary(300, seconds=300, refused=1)
SEEN = Observation(
    prometheus="2.42.0",
    summary=SUMMARY,
    troubles=Troubles(Counter({200: 9, 429: 3}), given_up=2, cut=1, overloaded=1),
    standings=standings([Answer("overview", "overview: Tokens a second", "all", 2)]),
    recorded=[Recorded("castalia:x", "", 1)],
    asked=Asked("ab" * 16, "c1" * 8, "m", sent=0.0, first_s=0.3, whole_s=1.0, tokens=48),
    spans={},
    traces=31,
    goals=[Goal("scrapes that failed", 0, 0, is_least=False)],
    faults=[],
)


def test_the_fleet_is_that_of_models_yaml_and_one_route_that_mirrors() -> None:
    written = yaml.safe_load(MODELS.read_text())
    fleet = FleetConfig.model_validate(with_route(written))
    assert [route.name for route in fleet.routes] == [ROUTE["name"]]
    assert fleet.routes[0].mirror is not None
    assert fleet.services == FleetConfig.model_validate(written).services
    names = names_of(with_route(written))
    assert names == [*(model.id for service in fleet.services for model in service.models), ROUTE["name"]]
    assert MODEL in names


def test_the_load_names_every_modality() -> None:
    assert {part.partition("=")[0] for part in loads.MODALITIES.split(",")} == set(MODALITIES)


def test_what_the_collector_took_is_read_from_it_again() -> None:
    with collector() as found:
        tracer = otlp_tracer(found.url, ratio=1.0, service="castalia-test", instance="i")
        about = {"text": "a", "number": 0.5, "count": 3, "yes": True, "reasons": ["stop", "length"]}
        span = tracer.start("chat m", Kind.CLIENT, parent=None, attributes=about)
        tracer.record("queue", parent=span.traceparent, began=1.0, ended=1.5, attributes={})
        span.end()
        tracer.close()
        spans = {each.name: each for each in all_spans(found.url)}
    assert spans["chat m"].attributes == about
    assert (spans["chat m"].service, spans["chat m"].kind, spans["chat m"].parent) == ("castalia-test", "client", "")
    assert (spans["queue"].parent, spans["queue"].kind) == (spans["chat m"].id, "internal")
    assert spans["queue"].seconds == pytest.approx(0.5, abs=1e-5)


def test_a_report_says_that_nothing_is_missing_or_what_is(tmp_path: Path) -> None:
    path = write(tmp_path, "What it is.", "python -m loadtests.observed", SEEN, seconds=600)
    text, figures = path.read_text(), json.loads((tmp_path / "observed.json").read_text())
    assert "**Nothing is missing.**" in text
    assert "asked beside them: 9 x 200, 3 x 429" in text
    assert figures["missing"] == []
    assert figures["targets"][0] == {
        "target": "overview: Tokens a second",
        "lines": {"all": 2},
        "reason": "",
        "fault": "",
    }
    worse = replace(
        SEEN, goals=[Goal("scrapes that failed", 2, 0, is_least=False)], faults=["overview: Tokens a second: no"]
    )
    text = write(tmp_path, "What it is.", "python -m loadtests.observed", worse, seconds=600).read_text()
    assert "**Missing: overview: Tokens a second: no; scrapes that failed: 2, at most 0.**" in text


def test_a_rule_without_data_or_with_an_error_is_at_fault() -> None:
    assert [Recorded("a", error, lines).fault for error, lines in (("", 1), ("", 0), ("bad", 1))] == [
        "",
        "has no data",
        "bad",
    ]


@pytest.mark.parametrize(("faults", "status"), [([], 0), (["overview: Alerts that ring: has data"], 1)])
def test_the_exit_status_is_1_if_something_is_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, faults: list[str], status: int
) -> None:
    monkeypatch.setattr(command, "run", lambda *_: replace(SEEN, faults=faults))
    assert command.main(["--out", str(tmp_path)]) == status
    assert (tmp_path / "observed.md").exists()


def test_without_prometheus_it_says_how_to_install_it_and_starts_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(prometheus.shutil, "which", lambda _: None)
    with pytest.raises(PrometheusMissing):
        find_program()
    assert command.main(["--out", str(tmp_path)]) == 2
    assert "sudo tests/services/install" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("minutes", ["0", "-1"])
def test_a_load_takes_time(minutes: str) -> None:
    with pytest.raises(SystemExit):
        command.main(["--minutes", minutes])


def test_the_key_of_the_caller_is_his_again_after_a_load(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, str]] = []

    def run(asked: Load, **_: object) -> Summary:
        seen.append((os.environ[loads.KEY], asked.model))
        return SUMMARY

    monkeypatch.setenv(loads.KEY, "mine")
    monkeypatch.setattr(loads.load, "run", run)
    fleet = Observed("http://x", ["a", MODEL, "b"], big="big", small="small", scraper="scraper")
    assert loads.wake(fleet, lambda _: None) is SUMMARY
    assert (seen, os.environ[loads.KEY]) == ([("big", "a,b")], "mine")
