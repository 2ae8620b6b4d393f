"""The embedded models: what models.yaml, the chart, the licences' table and the weights' folders say agrees."""

from __future__ import annotations

from pathlib import Path

import yaml

from services.app import load_fleet_config
from services.families import FAMILIES
from services.sources import resolve
from services.sources.licences import read_licences
from shared.config.models import FleetConfig

ROOT = Path(__file__).parents[2]
FLEET = load_fleet_config(ROOT / "models.yaml")
PUBLISHED = {path.parent.name: path.parent for path in (ROOT / "services/families").glob("*/weights/*/config.json")}
BUDGET = 32 * 2**20  # bytes of all weights together


def test_every_published_model_has_a_row_of_licences_and_every_row_a_model() -> None:
    rows = read_licences()
    assert rows.keys() == PUBLISHED.keys()
    for name, row in rows.items():
        assert row.family == PUBLISHED[name].parent.parent.name in FAMILIES
        assert int(row.size) == (PUBLISHED[name] / "model.safetensors").stat().st_size
        assert all((row.data, row.data_licence, row.attribution, row.weights))


def test_all_published_weights_together_keep_their_budget() -> None:
    assert sum((folder / "model.safetensors").stat().st_size for folder in PUBLISHED.values()) <= BUDGET


def test_models_yaml_serves_builtin_models_under_the_licence_of_their_weights(tmp_path: Path) -> None:
    rows = read_licences()
    for service in FLEET.services:
        for model in service.models:
            if model.source.startswith("builtin://"):
                name = model.source.removeprefix("builtin://")
                assert resolve(model.source, tmp_path) == PUBLISHED[name]
                assert model.license == rows[name].weights


def test_the_chart_serves_the_models_that_models_yaml_serves() -> None:
    values = yaml.safe_load((ROOT / "deploy/chart/castalia/values.yaml").read_text())
    assert FleetConfig.model_validate({"services": values["services"]}) == FLEET
