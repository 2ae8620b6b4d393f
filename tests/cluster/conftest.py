"""The network that all pods are on, the models that they serve, and where the figures go."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.fleet import ClusterFleet, make_models, render, running
from tests.cluster.pods import GATEWAY, Network
from tests.cluster.report import Figures
from tests.services.servers import redis_server

VALUES = Path(__file__).with_name("values.yaml")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.cluster)
            item.add_marker(pytest.mark.timeout(1800))


@pytest.fixture(scope="session")
def network() -> Network:
    listed = subprocess.run(["ip", "-json", "link"], capture_output=True, text=True, check=True).stdout
    if [each["ifname"] for each in json.loads(listed)] != ["lo"]:
        pytest.fail("these tests need namespaces of their own: make test-cluster")
    return Network()


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def figures() -> Iterator[Figures]:
    """What was measured; written where `python -m tests.cluster --out FOLDER` says."""
    found = Figures()
    yield found
    if (folder := os.environ.get("CASTALIA_TEST_REPORT")) is not None:
        found.write(Path(folder))


@pytest.fixture(scope="session")
def fleet(network: Network, models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterFleet]:
    """Two gateways, models on GPU nodes, and the head's state in a real Redis."""
    with redis_server(GATEWAY) as redis:
        rendered = render(VALUES, sets={"gcsFaultTolerance.redisAddress": f"{GATEWAY}:{redis.port}"})
        secrets = {("store", "redis-url"): redis.url}
        with running(rendered, network, tmp_path_factory.mktemp("fleet"), models, secrets=secrets) as found:
            yield found
