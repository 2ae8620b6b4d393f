from __future__ import annotations

import io
import json
import os
import pty
import re
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

import services.cli.top.figures
from services.cli import app
from services.cli.client import ServedModel
from services.cli.context import Tools
from services.cli.top.figures import FleetFigures, ModelFigures, figures_of
from services.cli.top.keyboard import single_keys
from services.cli.top.scrapes import FORGOTTEN_S, Scrapes
from services.cli.top.view import View, duration, number, sparkline
from tests.exported_metrics import exported, exported_series
from tests.unit.cli.conftest import Run
from tests.unit.cli.fleets import FakeFleets, Pauses
from tests.unit.cli.readings import Counted, replica
from tests.unit.cli.wire_server import WireServer

TINY = ServedModel("tiny", "transformer", ("chat",), "ready", "MIT", None)
ASLEEP = ServedModel("asleep", "gan", ("image",), "cold", "MIT", None)


@pytest.fixture
def gateway() -> Counted:
    return Counted("g1")


def model_of(scrapes: Scrapes, served: Sequence[ServedModel] = (TINY,)) -> ModelFigures:
    return figures_of(scrapes, served).models[0]


def test_every_metric_that_figures_stand_on_is_exported() -> None:
    source = Path(services.cli.top.figures.__file__).read_text()
    names = set(re.findall(r'"(castalia_\w+)"', source)) - {"castalia_"}
    assert len(names) > 10
    assert names <= set(exported_series()) | {metric.name for metric in exported()}


def test_a_model_shows_its_replicas_rows_and_speed_between_two_readings(gateway: Counted) -> None:
    scrapes = Scrapes()
    scrapes.take(gateway.text([replica("a"), replica("b", healthy=False)]), 10.0)
    later = [replica("a", steps=30, row_steps=66, units=700.0), replica("b", healthy=False, waiting_rows=0)]
    scrapes.take(gateway.text(later), 12.0)
    found = model_of(scrapes)
    assert (found.service, found.state) == ("chat", "ready")
    assert (found.replicas, found.replicas_dead, found.replicas_max) == (2, 1, 4)
    assert (found.rows_running, found.rows_waiting) == (4, 3)
    assert (found.units_per_s, found.steps_per_s) == (100.0, 10.0)
    assert found.occupancy == pytest.approx(51 / 20 / 4)


def test_the_predicted_wait_is_that_at_the_replica_that_is_the_least_busy(gateway: Counted) -> None:
    scrapes = Scrapes()
    scrapes.take(
        gateway.text([replica("a"), replica("b", waiting=(), waiting_rows=0, running_rows=0, running_cost=0.0)]), 1.0
    )
    waits = [value for _, value in scrapes.values("castalia_predicted_wait_seconds")]
    assert len(waits) == 2
    assert model_of(scrapes).predicted_wait_s == min(waits) < max(waits)


def test_before_the_second_reading_no_speed_is_claimed(gateway: Counted) -> None:
    scrapes = Scrapes()
    scrapes.take(gateway.text([replica("a")]), 10.0)
    found = model_of(scrapes)
    assert (found.units_per_s, found.errors_per_s, found.refusals_per_s, found.first_chunk_p50_s) == (None,) * 4
    assert figures_of(scrapes, [TINY]).gateways[0].requests_per_s is None


def test_refusals_are_no_errors_and_the_first_of_each_counts(gateway: Counted) -> None:
    scrapes = Scrapes()
    scrapes.take(gateway.text(), 0.0)
    for status in (429, 503, 503, 500, 504, 200, 499):
        gateway.request(status)
    gateway.request(cut=True)
    scrapes.take(gateway.text(), 2.0)
    found = model_of(scrapes)
    assert (found.refusals_per_s, found.errors_per_s) == (1.5, 1.5)


def test_first_chunks_are_of_the_last_interval_alone(gateway: Counted) -> None:
    scrapes = Scrapes()
    for _ in range(100):
        gateway.request(first_chunk_s=50.0)
    scrapes.take(gateway.text(), 0.0)
    for _ in range(10):
        gateway.request(first_chunk_s=0.2)  # between bounds of 0.1 and 0.25
    scrapes.take(gateway.text(), 2.0)
    found = model_of(scrapes)
    assert found.first_chunk_p50_s == pytest.approx(0.1 + 0.15 * 0.5)
    assert found.first_chunk_p95_s == pytest.approx(0.1 + 0.15 * 0.95)


def test_beyond_the_last_bound_a_quantile_is_that_bound(gateway: Counted) -> None:
    scrapes = Scrapes()
    scrapes.take(gateway.text(), 0.0)
    gateway.request(first_chunk_s=1e6)
    scrapes.take(gateway.text(), 2.0)
    assert model_of(scrapes).first_chunk_p50_s == 600.0


def test_gateways_behind_one_address_are_told_apart_and_summed() -> None:
    one, two, scrapes = Counted("g1"), Counted("g2"), Scrapes()
    scrapes.take(one.text(), 0.0)
    scrapes.take(two.text(), 1.0)
    for _ in range(8):
        one.request(500)
    two.request(500)
    scrapes.take(one.text(), 4.0)
    scrapes.take(two.text(), 5.0)
    assert model_of(scrapes).errors_per_s == pytest.approx(8 / 4 + 1 / 4)
    rates = {each.gateway: each.requests_per_s for each in figures_of(scrapes, []).gateways}
    assert rates == {"g1": 2.0, "g2": 0.25}


def test_what_top_itself_asks_is_left_out(gateway: Counted) -> None:
    scrapes = Scrapes()
    scrapes.take(gateway.text(), 0.0)
    for route in ("/metrics", "/v1/models", "/v1/chat/completions"):
        gateway.request(route=route)
    scrapes.take(gateway.text(), 2.0)
    [found] = figures_of(scrapes, []).gateways
    assert (found.requests_per_s, found.in_flight) == (0.5, 0)


def test_a_replica_that_was_left_out_of_a_reading_is_no_burst_of_work(gateway: Counted) -> None:
    scrapes = Scrapes()
    scrapes.take(gateway.text(), 0.0)
    scrapes.take(gateway.text([replica("a", units=1e9)]), 2.0)
    assert model_of(scrapes).units_per_s == 0.0


def test_a_counter_that_began_anew_counts_from_nothing(gateway: Counted) -> None:
    scrapes = Scrapes()
    scrapes.take(gateway.text([replica("a", units=1000.0)]), 0.0)
    scrapes.take(gateway.text([replica("a", units=10.0)]), 2.0)
    assert model_of(scrapes).units_per_s == 5.0


def test_a_replica_that_has_gone_and_a_gateway_not_met_for_long_are_not_shown(gateway: Counted) -> None:
    scrapes = Scrapes()
    scrapes.take(gateway.text([replica("a"), replica("b")]), 0.0)
    scrapes.take(Counted("g2").text([replica("a")]), FORGOTTEN_S / 2)
    assert model_of(scrapes).replicas == 1
    assert scrapes.gateways == ["g1", "g2"]
    scrapes.take(Counted("g2").text(), FORGOTTEN_S + 1)
    assert scrapes.gateways == ["g2"]


def test_models_of_other_servers_are_each_gateways_own() -> None:
    one, two, scrapes = Counted("g1"), Counted("g2"), Scrapes()
    away = replica("remote", running_rows=2)
    away = type(away)(away.service, away.replica, away.models, healthy=None)
    scrapes.take(one.text([away]), 0.0)
    scrapes.take(two.text([away]), 1.0)
    assert model_of(scrapes).rows_running == 4


def test_models_come_in_the_gateways_order_with_those_that_only_replicas_know(gateway: Counted) -> None:
    scrapes = Scrapes()
    scrapes.take(gateway.text([replica("a", model="left")]), 0.0)
    found = figures_of(scrapes, [ASLEEP, TINY]).models
    assert [(model.model, model.state, model.service) for model in found] == [
        ("asleep", "cold", ""),
        ("tiny", "ready", ""),
        ("left", "", "chat"),
    ]


@pytest.fixture
def busy(server: WireServer, gateway: Counted) -> WireServer:
    """A gateway of which two readings show work and a refusal between them."""
    first = gateway.text([replica("a")])
    gateway.request(503)
    server.metrics = [first, gateway.text([replica("a", steps=30, row_steps=66, units=700.0)])]
    return server


def test_once_prints_one_reading_over_one_interval(run: Run, busy: WireServer, pauses: Pauses) -> None:
    result = run("top", busy.url, "--once")
    assert result.exit_code == 0, result.output
    row = next(line for line in result.stdout.splitlines() if "tiny" in line)
    assert re.search(r"chat +tiny +ready +1/4 +2 +3 .*64% +\d", row)
    assert re.search(r"^ *g1 +\d", result.stdout, re.MULTILINE)
    assert pauses.count == 1


def test_json_holds_every_figure(run: Run, busy: WireServer) -> None:
    result = run("top", "--json", "--url", busy.url)
    found = json.loads(result.stdout)
    model = next(model for model in found["models"] if model["model"] == "tiny")
    assert model.keys() == set(ModelFigures.__slots__)
    assert model["refusals_per_s"] > 0
    assert model["occupancy"] == pytest.approx(51 / 20 / 4)
    assert found["gateways"][0]["gateway"] == "g1"
    assert found["url"] == busy.url


def test_the_key_is_sent_and_a_refusal_is_one_line(run: Run, busy: WireServer) -> None:
    run("top", busy.url, "--once", "--api-key", "sk-1")
    assert {headers["Authorization"] for headers in busy.headers_seen} == {"Bearer sk-1"}
    busy.refusal = (403, {"error": {"message": "operators alone", "type": "x", "param": None, "code": "operator_only"}})
    result = run("top", busy.url, "--once")
    assert result.exit_code == 1
    assert "operators alone" in result.stderr


@pytest.mark.parametrize("text", ["<html>hello</html>", "a b c\n"])
def test_what_is_no_gateway_is_one_line(run: Run, server: WireServer, text: str) -> None:
    server.metrics = [text]
    result = run("top", server.url, "--once")
    assert result.exit_code == 1
    assert "is it a Castalia gateway?" in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_fleet_that_cannot_be_reached_is_said_before_anything_is_shown(run: Run) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        result = run("top", f"http://127.0.0.1:{closed.getsockname()[1]}")
    assert result.exit_code == 1
    assert "castalia up" in result.stderr
    assert result.stdout == ""


@pytest.fixture
def live(busy: WireServer, pauses: Pauses, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Run `castalia top` in a terminal; the screens that it showed."""
    monkeypatch.setenv("CASTALIA_HOME", str(tmp_path))

    def live(*happens: Any) -> str:
        pauses.happens = [*happens, interrupt]
        screen = Console(file=io.StringIO(), force_terminal=True, width=200, height=30, color_system=None)
        tools = Tools(fleets=FakeFleets, sleep=pauses, out=screen)
        result = CliRunner().invoke(app, ["top", busy.url], obj=tools, catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return screen.file.getvalue()  # pyright: ignore[reportAttributeAccessIssue]

    return live


def interrupt() -> None:
    raise KeyboardInterrupt


def test_the_live_view_is_drawn_again_until_ctrl_c_and_leaves_the_screen_as_it_was(live, pauses: Pauses) -> None:
    shown = live(lambda: None)
    assert shown.count("tiny") >= 2
    assert "64%" in shown
    assert pauses.count == 2
    assert shown.index("\x1b[?1049h") < shown.index("tiny") < shown.index("\x1b[?1049l")


def test_a_gateway_that_fails_for_a_while_is_said_over_the_last_figures(live, busy: WireServer) -> None:
    def fail() -> None:
        busy.refusal = (503, {"error": {"message": "starting", "type": "x", "param": None, "code": "not_ready"}})

    shown = live(fail)
    assert "not_ready: starting" in shown
    assert "tiny" in shown[shown.index("not_ready") :]


def test_q_is_taken_without_enter_and_not_echoed(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = pty.openpty()
    with os.fdopen(theirs) as terminal:
        monkeypatch.setattr("sys.stdin", terminal)
        with single_keys(sleep=lambda _: pytest.fail("it waits for keys")) as key_within:
            assert key_within(0.01) == ""
            os.write(ours, b"q")
            assert key_within(5.0) == "q"
    os.close(ours)


def test_where_room_is_scarce_the_least_important_columns_go(gateway: Counted) -> None:
    scrapes = Scrapes()
    scrapes.take(gateway.text([replica("a")]), 0.0)
    figures = FleetFigures([model_of(scrapes)], [])

    def heading(width: int) -> str:
        console = Console(width=width, file=io.StringIO())
        console.print(View().tables(figures, console))
        return console.file.getvalue()  # pyright: ignore[reportAttributeAccessIssue]

    assert "service" in heading(200)
    narrow = heading(80)
    assert "service" not in narrow
    assert "…" not in narrow
    assert {"model", "run", "wait", "units/s", "errors/s"} <= set(narrow.split())


def test_figures_are_short() -> None:
    assert [number(value) for value in (None, 0.0, 0.25, 12.345, 1234567.0)] == ["", "", "0.25", "12.3", "1,234,567"]
    assert [duration(value) for value in (None, 0.0421, 1.5, 75.0)] == ["", "42 ms", "1.5 s", "75 s"]
    assert (sparkline([0.0, 2.0, 4.0]), sparkline([0.0, 0.0]), sparkline([])) == ("▁▅█", "", "")
