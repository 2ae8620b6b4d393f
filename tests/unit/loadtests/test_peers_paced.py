"""The paced model: a sampler as any other, whose steps take what its device says."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import pytest

from loadtests.peers.instant import PIECE
from loadtests.peers.paced import Device, PacedParams, PacedSampler, paced_options, replica_of, replica_piece
from services.families.plugin.family import load
from services.sources import resolve
from shared.config.plugin import PluginModel
from shared.schemas.audio import SpeechRequest
from tests.contract.suite import ContractCase, SamplerContract
from tests.contract.test_plugin import counted

FAST = Device(step_s=1e-4, row_s=1e-5, read_s=1e-6, piece=8)
ROWS = [(20, 5), (0, 3), (3, 1), (8, 9)]  # prompt and answer, in tokens


def config(folder: Path, device: Device = FAST) -> PluginModel:
    return PluginModel.model_validate({"id": "paced", "license": "unknown", **paced_options(folder, 8, device)})


def request(prompt: int, output: int) -> SpeechRequest:
    return SpeechRequest(model="paced", instructions="p" * prompt or None, input="a" * output, voice="any")


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> ContractCase[bytes]:
    folder = tmp_path_factory.mktemp("paced")
    options = config(folder)
    task = load(options, folder).tasks["speech"]
    return ContractCase(
        name="paced",
        make_sampler=lambda: counted(load(options, folder).sampler),
        params=[task.prepare(request(*lengths))[0] for lengths in ROWS],
        result=b"".join,
        live=lambda sampler: sampler.live,
        reference=lambda params: replica_piece(os.getpid()) * params.steps,  # type: ignore[attr-defined]
    )


class TestPaced(SamplerContract):
    pass


def test_it_loads_as_any_plug_in_does(tmp_path: Path) -> None:
    folder = tmp_path / "paced"
    options = config(folder)
    assert resolve(options.source, tmp_path) == folder
    assert isinstance(load(options, folder).sampler, PacedSampler)
    assert options.options == asdict(FAST)


def steps_of(tmp_path: Path, rows: Sequence[tuple[int, int]], monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that each step of these rows pauses, until the last ends."""
    pauses: list[float] = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    sampler = PacedSampler(config(tmp_path / "paced", Device(1.0, 0.1, 0.01, piece=8)), tmp_path)
    states = [sampler.start(load_params(sampler, *lengths)) for lengths in rows]
    while states:
        outputs = sampler.step(states)
        states = [state for state, output in zip(states, outputs, strict=True) if output.finish_reason is None]
    return pauses


def load_params(sampler: PacedSampler, prompt: int, output: int) -> PacedParams:
    return sampler.tasks["speech"].prepare(request(prompt, output))[0]


def test_a_step_takes_longer_by_every_row_that_answers_and_every_token_that_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A prompt of 12 takes two pieces; the second makes the first token. The other row answers beside it.
    assert steps_of(tmp_path, [(12, 2), (0, 3)], monkeypatch) == pytest.approx([1.1 + 0.08, 1.1 + 0.04, 1.2])


def test_prompts_share_a_piece_and_those_that_came_first_are_read_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert steps_of(tmp_path, [(6, 1), (6, 1)], monkeypatch) == pytest.approx([0.08, 0.04])


def test_a_row_costs_what_it_is_then_found_to_take(tmp_path: Path) -> None:
    sampler = PacedSampler(config(tmp_path / "paced"), tmp_path)
    params = load_params(sampler, 20, 5)
    state = sampler.start(params)
    units = [sampler.step([state])[0].units for _ in range(3 + 4)]
    assert sum(units) == params.cost == 25


def test_an_answer_tells_which_process_made_it() -> None:
    assert len(replica_piece(1)) == len(PIECE)
    assert replica_of(3 * replica_piece(4_194_304)) == 4_194_304  # the largest that Linux gives
