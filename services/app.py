"""Owns the step from models.yaml to Ray Serve applications: the only place that binds deployments."""

from __future__ import annotations

from pathlib import Path

import yaml

from shared.config.models import FleetConfig


def load_fleet_config(path: Path) -> FleetConfig:
    """Read and check a models.yaml. Raises pydantic.ValidationError or yaml.YAMLError, which name the place."""
    return FleetConfig.model_validate(yaml.safe_load(path.read_text()))
