"""lm-evaluation-harness, in its own environment, on a tiny checkpoint whose model ends many answers at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from loadtests.peers.venvs import PeerMissing, peer_venv
from services.sources import write_manifest
from tests.checkpoints import make_checkpoint

pytestmark = pytest.mark.slow


def test_the_harness_finds_the_same_by_the_gateway_as_by_its_own_backend(tmp_path: Path) -> None:
    from loadtests.lm_eval.__main__ import compare  # seconds, of each process that collects these tests

    venv = peer_venv("lm-eval")
    try:
        venv.binary("python")
    except PeerMissing as missing:
        pytest.skip(str(missing))
    folder = make_checkpoint("llama", tmp_path / "llama", chat=False)
    write_manifest(folder)
    _, found = compare(folder, venv, tmp_path)
    assert found.choices == 160
    assert found.holds, found
