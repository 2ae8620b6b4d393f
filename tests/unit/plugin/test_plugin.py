"""A sampler from outside the tree: how it is found, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from services.families import LoadedModel
from services.families.plugin.family import load
from services.nn.errors import UnsupportedModel
from shared.config.models import FleetConfig
from shared.errors import InvalidRequest
from shared.schemas.images import ImageGenerationRequest
from tests.contract.driver import run_rows
from tests.unit.plugin.conftest import plugin_config


def request(**fields: object) -> ImageGenerationRequest:
    return ImageGenerationRequest.model_validate({"model": "ising", "prompt": "", **fields})


def test_a_class_of_an_operator_s_own_becomes_a_loaded_model(loaded: LoadedModel) -> None:
    assert set(loaded.tasks) == {"image"}
    assert loaded.limits == {"width": 16, "height": 16}
    rows = loaded.tasks["image"].prepare(request(n=2, seed=1, steps=25))
    run = run_rows(loaded.sampler, rows)
    first, second = (run.chunks(i)[-1].pixels for i in (1, 2))
    assert first.shape == (16, 16, 1)
    assert set(first.flatten().tolist()) <= {0, 255}
    assert (first != second).any()
    assert run.final(1).units == 25


def test_a_cold_model_orders_its_spins_and_a_hot_one_does_not(loaded: LoadedModel) -> None:
    """The spins' mean magnitude tells the phases apart (Onsager 1944)."""

    def order(temperature: float) -> float:
        rows = loaded.tasks["image"].prepare(request(n=8, seed=3, steps=300, temperature=temperature))
        run = run_rows(loaded.sampler, rows)
        spins = [run.chunks(i)[-1].pixels.astype(float) / 127.5 - 1 for i in range(1, 9)]
        return sum(abs(float(each.mean())) for each in spins) / len(spins)

    assert order(0.5) > 0.6
    assert order(2.0) < 0.3


@pytest.mark.parametrize("sampler", ["no_such_module:Sampler", "ising:NoSuchSampler"])
def test_what_cannot_be_imported_is_named(folder: Path, sampler: str) -> None:
    with pytest.raises(UnsupportedModel, match=sampler):
        load(plugin_config(folder, sampler=sampler), folder)


def test_a_task_that_the_class_lacks_is_named(folder: Path) -> None:
    with pytest.raises(UnsupportedModel, match="no task score"):
        load(plugin_config(folder, tasks=["image", "score"]), folder)


@pytest.mark.parametrize("sampler", ["ising", "ising:Sampler()", "../ising:Sampler", "os:system;x", ""])
def test_a_reference_that_is_no_reference_is_refused_by_the_configuration(folder: Path, sampler: str) -> None:
    with pytest.raises(ValidationError, match="sampler"):
        plugin_config(folder, sampler=sampler)


def test_an_option_that_the_example_lacks_is_refused(loaded: LoadedModel) -> None:
    with pytest.raises(InvalidRequest) as caught:
        loaded.tasks["image"].prepare(request(guidance_scale=2.0))
    assert (caught.value.param, caught.value.code) == ("guidance_scale", "unsupported_parameter")


def test_the_cost_bound_is_rows_times_what_the_entry_says(folder: Path) -> None:
    assert plugin_config(folder, row_cost=200).cost_bound(request(n=3), {}) == 600


def test_models_yaml_takes_a_service_of_plug_ins(folder: Path) -> None:
    entry = plugin_config(folder).model_dump(mode="json", exclude_unset=True)
    config = FleetConfig.model_validate({"services": [{"name": "mine", "family": "plugin", "models": [entry]}]})
    assert config.hosted[0].models[0].does == ("image",)
