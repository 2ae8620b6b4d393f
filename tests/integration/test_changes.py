"""Changes to a running fleet, and fleets beside each other."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
import yaml

from services import fleet
from shared.config.settings import Settings
from tests.integration.background import BackgroundStream
from tests.integration.conftest import CONTEXT, LocalFleet, checkpoint, start, title_of


def completion(url: str, model: str) -> int:
    body = {"model": model, "prompt": "a", "max_tokens": 4}
    return httpx.post(f"{url}/v1/completions", json=body, trust_env=False, timeout=60).status_code


def test_a_model_added_to_models_yaml_serves_without_a_restart_and_leaves_again(local_fleet: LocalFleet) -> None:
    before = local_fleet.config_path.read_text()
    config = yaml.safe_load(before)
    source = checkpoint(local_fleet.checkpoints / "mistral", "mistral")
    config["services"][1]["models"].append({"id": "mistral", "source": source})
    replica = local_fleet.replica("second").pid
    assert completion(local_fleet.url, "mistral") == httpx.codes.NOT_FOUND
    body = {"model": "qwen", "prompt": "a", "max_tokens": CONTEXT - 100, "ignore_eos": True, "stream": True}
    with local_fleet.http() as client, client.stream("POST", "/v1/completions", json=body) as response:
        lines = response.iter_lines()
        assert "error" not in next(lines)
        local_fleet.config_path.write_text(yaml.safe_dump(config))
        fleet.reload("main", local_fleet.settings.home)
        assert completion(local_fleet.url, "mistral") == httpx.codes.OK
        assert local_fleet.metric("castalia_running_rows", model="qwen") == 1, "its neighbour's stream was cut"
    assert local_fleet.replica("second").pid == replica
    local_fleet.config_path.write_text(before)
    fleet.reload("main", local_fleet.settings.home)
    assert completion(local_fleet.url, "mistral") == httpx.codes.NOT_FOUND


@pytest.mark.slow  # a drain is waited for
def test_a_replica_that_is_replaced_finishes_its_stream_and_new_requests_wait_for_the_next(
    local_fleet: LocalFleet,
) -> None:
    config = yaml.safe_load(local_fleet.config_path.read_text())
    # What a process reserves: it takes another process.
    config["services"][1]["resources"] = {"num_cpus": 0.05, "memory": "1100MiB"}
    neighbour, replica = local_fleet.replica("first").pid, local_fleet.replica("second").pid
    stream = BackgroundStream(local_fleet, model="qwen", prompt="a", max_tokens=4000, ignore_eos=True)
    with local_fleet.http() as client, ThreadPoolExecutor(1) as pool:
        local_fleet.config_path.write_text(yaml.safe_dump(config))
        reloaded = pool.submit(fleet.reload, "main", local_fleet.settings.home)
        while client.get("/v1/models/qwen").json()["state"] == "ready":
            pass
        assert stream.running, "the stream ended first, so the test proves nothing"
        assert completion(local_fleet.url, "qwen") == httpx.codes.OK
        reloaded.result()
    assert stream.text(), "it was cut"
    assert local_fleet.replica("second").pid != replica
    assert local_fleet.replica("first").pid == neighbour


def test_a_mistake_in_models_yaml_is_told_and_changes_nothing(local_fleet: LocalFleet) -> None:
    before = local_fleet.config_path.read_text()
    local_fleet.config_path.write_text("services: []\n")
    try:
        with pytest.raises(fleet.FleetError, match=r"not applied: .*\n?services"):
            fleet.reload("main", local_fleet.settings.home)
    finally:
        local_fleet.config_path.write_text(before)
    assert completion(local_fleet.url, "llama") == httpx.codes.OK


def test_a_second_fleet_of_the_same_name_is_refused(local_fleet: LocalFleet) -> None:
    with pytest.raises(fleet.FleetError, match="is running already at http"):
        fleet.up(local_fleet.config_path, name="main", settings=local_fleet.settings, on_progress=print)


@pytest.mark.slow
def test_of_two_fleets_side_by_side_the_other_answers_when_one_stops(local_fleet: LocalFleet) -> None:
    config = yaml.safe_load(local_fleet.config_path.read_text())
    config["services"] = config["services"][1:2]
    other = start(local_fleet.checkpoints, config, name="beside")
    assert other.settings.home == local_fleet.settings.home
    try:
        assert [state.name for state in fleet.list_states(other.settings.home)] == ["beside", "main"]
        assert completion(other.url, "qwen") == completion(local_fleet.url, "qwen") == httpx.codes.OK
        theirs = other.processes()
    finally:
        assert fleet.down("beside", other.settings.home)
    assert not [process for process in theirs if title_of(process) is not None], "processes were left behind"
    assert not Path(other.state.folder).exists()
    assert completion(local_fleet.url, "qwen") == completion(local_fleet.url, "llama") == httpx.codes.OK


@pytest.mark.slow
def test_a_fleet_whose_model_cannot_be_loaded_fails_with_the_cause(tmp_path: Path) -> None:
    path = tmp_path / "models.yaml"
    model = {"id": "gone", "source": f"file://{tmp_path / 'gone'}"}
    path.write_text(yaml.safe_dump({"services": [{"name": "a", "family": "transformer", "models": [model]}]}))
    with pytest.raises(fleet.FleetError, match="gone is not a folder"):
        fleet.up(path, name="bad", settings=Settings(home=tmp_path, port=0), on_progress=print)
    assert fleet.list_states(tmp_path) == []
