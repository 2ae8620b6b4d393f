"""LICENSES.md: that rows survive being written, and that they reach the fleet."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from services.app import serve_config
from services.sources.errors import IntegrityError
from services.sources.licences import LicenceRow, read_licences, write_licence
from shared.config.models import FleetConfig
from shared.config.settings import Settings

ROW = LicenceRow("poet", "toy", "592", "verse | prose", "CC0-1.0", "Anon,\nof old", "Apache-2.0")


def test_rows_are_read_as_they_were_written_and_sorted_by_name(tmp_path: Path) -> None:
    path = tmp_path / "LICENSES.md"
    write_licence(ROW, path)
    write_licence(replace(ROW, name="chorus"), path)
    write_licence(replace(ROW, size="593"), path)
    rows = read_licences(path)
    assert list(rows) == ["chorus", "poet"]
    assert rows["poet"] == replace(ROW, size="593", attribution="Anon, of old")


def test_a_row_of_other_cells_is_named(tmp_path: Path) -> None:
    path = tmp_path / "LICENSES.md"
    write_licence(ROW, path)
    path.write_text(path.read_text() + "| half | a row |\n")
    with pytest.raises(IntegrityError, match="half"):
        read_licences(path)


def test_no_file_means_no_rows(tmp_path: Path) -> None:
    assert read_licences(tmp_path / "LICENSES.md") == {}


def test_a_built_in_models_licence_reaches_the_fleet_unless_models_yaml_gives_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("services.app.read_licences", lambda: {"poet": ROW})
    models = [
        {"id": "a", "source": "builtin://poet"},
        {"id": "b", "source": "builtin://poet", "license": "MIT"},
        {"id": "c", "source": "file://poet"},
    ]
    fleet = FleetConfig.model_validate({"services": [{"name": "s", "family": "gan", "models": models}]})
    config = serve_config(fleet, Settings())
    gateway = next(one for one in config["applications"] if one["name"] == "gateway")
    (service,) = gateway["deployments"][0]["user_config"]["services"]
    assert [model.get("license") for model in service["models"]] == ["Apache-2.0", "MIT", None]
