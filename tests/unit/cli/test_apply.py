from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from services.app import load_fleet_config
from services.cli.applying import QUIET_LOOKS
from services.sources import write_manifest
from tests.unit.cli.conftest import Run
from tests.unit.cli.fleets import FakeFleets, Pauses, state
from tests.unit.cli.wire_server import WireServer
from tests.unit.sources.material import checkpoint_files, write_files


def entry(name: str, *models: dict[str, Any], **options: Any) -> dict[str, Any]:
    return {"name": name, "family": "transformer", "models": list(models), **options}


class Running:
    """A fleet that runs what models.yaml said, and a gateway whose list of models can be set."""

    def __init__(self, folder: Path, fleets: FakeFleets, server: WireServer) -> None:
        self._source = f"file://{folder / 'model'}"
        self._server = server
        self.path = folder / "models.yaml"
        self.path.write_text(yaml.safe_dump({"services": [entry("chat", self.model("one"), self.model("two"))]}))
        fleets.running["main"] = state("main", server.url)
        fleets.applied = load_fleet_config(self.path)

    def model(self, name: str, **options: Any) -> dict[str, Any]:
        return {"id": name, "source": self._source, **options}

    def write(self, *services: dict[str, Any], routes: Sequence[dict[str, Any]] = ()) -> None:
        self.path.write_text(yaml.safe_dump({"services": list(services), "routes": list(routes)}))

    def serve(self, **states: str) -> None:
        self._server.models = [{"id": model, "state": state} for model, state in states.items()]


@pytest.fixture
def running(run: Run, tmp_path: Path, fleets: FakeFleets, server: WireServer) -> Running:
    write_manifest(write_files(tmp_path / "model", checkpoint_files()))
    return Running(tmp_path, fleets, server)


def test_apply_shows_what_was_added_removed_and_changed_and_nothing_else(
    run: Run, running: Running, fleets: FakeFleets
) -> None:
    running.write(
        entry("chat", running.model("one", dtype="bfloat16", device="cpu"), resources={"memory": "1GiB"}),
        entry("more", running.model("three")),
    )
    running.serve(one="ready", three="ready")
    result = run("apply")
    assert result.exit_code == 0, result.output
    assert fleets.reloaded == ["main"]
    assert result.stdout.splitlines() == [
        "changed  service chat: resources",
        "changed  model one: dtype",
        "removed  model two",
        "added    service more",
        "added    model three",
        "fleet 'main' follows models.yaml",
    ]


def test_apply_shows_what_became_of_routes_and_waits_for_nothing_that_they_need(
    run: Run, running: Running, fleets: FakeFleets, pauses: Pauses
) -> None:
    chat = entry("chat", running.model("one"), running.model("two"))
    stays = {"name": "stays", "targets": [{"model": "one"}]}
    running.write(chat, routes=[stays, {"name": "front", "targets": [{"model": "one"}]}])
    assert "added    route front\n" in run("apply").stdout
    running.write(chat, routes=[stays, {"name": "front", "targets": [{"model": "two"}], "fallbacks": ["one"]}])
    assert run("apply").stdout.splitlines()[0] == "changed  route front: fallbacks, targets"
    running.write(chat, routes=[stays])
    assert run("apply").stdout.splitlines()[0] == "removed  route front"
    assert pauses.count == 0


def test_a_route_that_leads_nowhere_is_told_by_path_and_the_fleet_hears_nothing(
    run: Run, running: Running, fleets: FakeFleets
) -> None:
    chat = entry("chat", running.model("one"), running.model("two"))
    running.write(chat, routes=[{"name": "front", "targets": [{"model": "one"}, {"model": "three"}]}])
    result = run("apply")
    assert result.exit_code == 1
    assert "routes.0.targets.1.model: 'three' is no model" in result.stderr
    assert not fleets.reloaded


def test_a_model_that_moves_to_another_service_is_one_change(run: Run, running: Running) -> None:
    running.write(entry("chat", running.model("one")), entry("more", running.model("two")))
    running.serve(one="ready", two="ready")
    assert run("apply").stdout.splitlines()[:2] == ["changed  model two: service", "added    service more"]


def test_apply_of_the_same_says_so_and_waits_for_nothing(run: Run, running: Running, pauses: Pauses) -> None:
    result = run("apply")
    assert (result.exit_code, result.stdout) == (0, "nothing changed\n")
    assert pauses.count == 0


def test_apply_waits_until_what_it_changed_has_loaded(run: Run, running: Running, pauses: Pauses) -> None:
    running.write(entry("chat", running.model("one"), running.model("two"), running.model("three")))
    running.serve(one="ready", two="ready", three="cold")  # as before: the gateway has not heard yet
    pauses.happens = [
        *[lambda: None] * (QUIET_LOOKS - 1),
        lambda: running.serve(one="ready", two="ready", three="loading"),
        lambda: running.serve(one="ready", two="ready", three="ready"),
    ]
    result = run("apply")
    assert (result.exit_code, "first asked for" in result.stdout) == (0, False)
    assert pauses.count == 2 * QUIET_LOOKS


def test_a_model_that_waits_behind_its_neighbour_is_waited_for(run: Run, running: Running, pauses: Pauses) -> None:
    running.write(
        entry("chat", running.model("one", dtype="bfloat16"), running.model("two")), entry("b", running.model("c"))
    )
    running.serve(one="cold", two="loading", c="ready")
    pauses.happens = [lambda: None, lambda: running.serve(one="ready", two="ready", c="ready")]
    assert "first asked for" not in run("apply").stdout
    assert pauses.count == 1 + QUIET_LOOKS


def test_a_model_that_does_not_load_is_named_with_where_to_look(run: Run, running: Running) -> None:
    running.write(entry("chat", running.model("one"), running.model("two", dtype="bfloat16"), running.model("three")))
    running.serve(one="failed", two="failed", three="ready")
    result = run("apply")
    assert result.exit_code == 1
    assert "added    model three" in result.stdout
    assert result.stderr.endswith("error: applied, but two did not load; fleet.log says why\n")


def test_a_model_at_rest_is_told_as_such(run: Run, running: Running) -> None:
    running.write(entry("chat", running.model("one"), running.model("two"), running.model("three")))
    running.serve(one="ready", two="ready", three="cold")
    assert "three is loaded when it is first asked for" in run("apply").stdout


def test_a_mistake_in_models_yaml_is_told_as_up_tells_it_and_the_fleet_hears_nothing(
    run: Run, running: Running, fleets: FakeFleets
) -> None:
    running.write(entry("chat", running.model("one", colour="red")))
    result = run("apply")
    assert result.exit_code == 1
    assert "models.yaml: services.0." in result.stderr
    assert "colour" in result.stderr
    running.write(entry("chat", {"id": "one", "source": "file:///absent"}))
    assert run("apply").exit_code == 1
    assert not fleets.reloaded


def test_a_fleet_that_refuses_the_change_says_why(run: Run, running: Running, fleets: FakeFleets) -> None:
    fleets.failure = "not applied: application 'chat' failed"
    result = run("apply", "main")
    assert result.exit_code == 1
    assert result.stderr.endswith("error: not applied: application 'chat' failed\n")


def test_apply_guesses_no_fleet(run: Run, running: Running, fleets: FakeFleets) -> None:
    fleets.running["other"] = state("other", "http://127.0.0.1:1")
    assert "main, other; name the one to change" in run("apply").stderr
    assert "no fleet 'third' runs here" in run("apply", "third").stderr
    fleets.running.clear()
    assert "no fleet runs here" in run("apply").stderr
    assert not fleets.reloaded
