"""`castalia apply` on a running fleet: what it shows, and that it returns when the new model answers at once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from services.cli import app
from tests.integration.conftest import LocalFleet, checkpoint


def apply(local_fleet: LocalFleet) -> Result:
    return CliRunner().invoke(app, ["apply", "main"], env={"CASTALIA_HOME": str(local_fleet.settings.home)})


@pytest.fixture
def restored(local_fleet: LocalFleet) -> Iterator[LocalFleet]:
    """The fleet, whose models.yaml is as before when the test ends."""
    before = local_fleet.config_path.read_text()
    yield local_fleet
    local_fleet.config_path.write_text(before)
    assert apply(local_fleet).exit_code == 0


def flip_last_bit(weights: Path) -> None:
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)


def test_apply_returns_when_the_new_model_is_loaded_and_names_one_that_cannot_be(
    restored: LocalFleet,
) -> None:
    config = yaml.safe_load(restored.config_path.read_text())
    models = config["services"][1]["models"]
    models.append({"id": "added", "source": checkpoint(restored.checkpoints / "added", "llama")})
    restored.config_path.write_text(yaml.safe_dump(config))
    result = apply(restored)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("added    model added\n")
    with restored.http() as client:
        assert client.get("/v1/models/added").json()["state"] == "ready"
    folder = restored.checkpoints / "broken"
    models.append({"id": "broken", "source": checkpoint(folder, "llama")})
    flip_last_bit(folder / "model.safetensors")
    restored.config_path.write_text(yaml.safe_dump(config))
    result = apply(restored)
    assert result.exit_code == 1, result.output
    assert result.stdout == "added    model broken\n"
    assert "broken did not load" in result.stderr
    with restored.http() as client:
        assert client.post("/v1/completions", json={"model": "qwen", "prompt": "a", "max_tokens": 1}).is_success
