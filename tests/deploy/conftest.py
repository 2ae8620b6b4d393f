"""The helm binary, collected once a session, and what it renders."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.helm import HelmUnavailable, find_helm
from shared.config.settings import Settings
from tests.deploy.chart import Chart


@pytest.fixture(scope="session")
def helm() -> Path:
    try:
        return find_helm(Settings().home)
    except HelmUnavailable as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def chart(helm: Path) -> Chart:
    return Chart(helm)
