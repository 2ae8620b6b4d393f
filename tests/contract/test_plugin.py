"""A sampler from outside the tree passes the contract suite: the example of `docs/examples`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from services.families.plugin.family import load
from services.nn.images import Pixels
from shared.schemas.images import ImageGenerationRequest
from tests.contract.suite import ContractCase, SamplerContract
from tests.ising_checkpoint import EXAMPLES, make_ising
from tests.unit.plugin.conftest import plugin_config

# Sweeps and temperature of each row.
ROWS = [(45, 0.9), (31, 1.0), (10, 1.4), (60, 1.1)]


def last_image(chunks: Sequence[Any]) -> Pixels:
    pixels: Pixels = chunks[-1].pixels
    return pixels


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ContractCase[Pixels]]:
    folder: Path = make_ising(tmp_path_factory.mktemp("ising"))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(EXAMPLES))
        config = plugin_config(folder, max_batch_size=8)
        task = load(config, folder).tasks["image"]
        params = [
            task.prepare(
                ImageGenerationRequest(model="ising", prompt="", seed=seed, steps=steps, temperature=temperature)
            )[0]
            for seed, (steps, temperature) in enumerate(ROWS)
        ]
        yield ContractCase(
            name="ising",
            make_sampler=lambda: counted(load(config, folder).sampler),
            params=params,
            result=last_image,
            live=lambda sampler: sampler.live,
            equal=np.array_equal,
        )


def counted(sampler: Any) -> Any:
    """The example holds nothing outside its states: what is live is what was started and not released."""
    sampler.live = 0
    start, release = sampler.start, sampler.release

    def counted_start(params: Any) -> Any:
        sampler.live += 1
        return start(params)

    def counted_release(state: Any) -> None:
        sampler.live -= 1
        release(state)

    sampler.start, sampler.release = counted_start, counted_release
    return sampler


class TestPlugin(SamplerContract):
    pass
