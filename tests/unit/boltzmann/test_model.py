"""The machine's files, and the grid that makes its chains exact."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from services.families import LoadedModel
from services.families.boltzmann.export import put_first
from services.families.boltzmann.family import load
from services.families.boltzmann.model import GRID, Machine, MachineConfig, binary, load_machine
from services.families.boltzmann.reading import Reader
from services.nn.errors import UnsupportedModel
from services.nn.weights import CONFIG, WEIGHTS, save_model
from services.training.image_data import read_split
from tests.unit.boltzmann.tiny import CLASSES, DBM, RBM, make_data, make_folder, make_machine, picture, tiny_config

CPU = torch.device("cpu")
LARGE = MachineConfig(classes=CLASSES, side=28, hidden=500, top=100)


def test_half_precision_keeps_published_weights_to_the_last_bit(tmp_path: Path) -> None:
    machine = make_machine(LARGE, spread=0.3)
    save_model(machine, machine.config, tmp_path)
    assert {weight.dtype for weight in load_file(tmp_path / WEIGHTS).values()} == {torch.float16}
    again = load_machine(tmp_path, CPU)
    assert all(torch.equal(a, b) for a, b in zip(machine.parameters(), again.parameters(), strict=True))
    assert not again.training


def test_snapping_moves_a_weight_by_half_a_step_of_the_grid_or_of_half_precision() -> None:
    machine = Machine(RBM)
    before = torch.randn(machine.weight.shape, generator=torch.Generator().manual_seed(0))
    machine.weight.data = before.clone()
    machine.snap()
    assert ((machine.weight - before).abs() <= torch.maximum(torch.tensor(GRID / 2), before.abs() * 2**-10)).all()


def test_float32_adds_states_times_weights_without_rounding_in_any_order_and_batch() -> None:
    energy = make_machine(LARGE, spread=0.3).energy
    draws = torch.Generator().manual_seed(0)
    even = (torch.rand(64, LARGE.even, generator=draws) < 0.5).float()
    odd = (torch.rand(64, LARGE.hidden, generator=draws) < 0.5).float()
    labels = torch.arange(64) % 3
    exact = energy.to(torch.float64)
    for found, whole in (
        (energy.odd_input(even, labels), exact.odd_input(even.double(), labels)),
        (energy.even_input(odd, labels), exact.even_input(odd.double(), labels)),
    ):
        assert torch.equal(found.double(), whole)
    order = torch.randperm(LARGE.even, generator=draws)
    shuffled = even[:, order] @ energy.weight[order] + energy.odd_bias[labels]
    assert torch.equal(shuffled, energy.odd_input(even, labels))
    assert torch.equal(energy.odd_input(even[:1], labels[:1])[0], energy.odd_input(even, labels)[0])


@pytest.mark.parametrize("fault", ["off the grid", "too large", "without log Z"])
def test_a_machine_whose_chains_would_not_be_exact_or_that_has_no_log_z_is_refused(tmp_path: Path, fault: str) -> None:
    machine = make_machine(RBM)
    config = machine.config
    if fault == "off the grid":
        machine.weight.data[0, 0] = GRID / 2
    elif fault == "too large":
        machine.weight.data[0, 0] = 4096.0
    else:
        config = config.model_copy(update={"log_partition": (1.0,)})
    save_model(machine, config, tmp_path)
    with pytest.raises(UnsupportedModel, match="log_partition" if fault == "without log Z" else "multiples"):
        load(tiny_config(tmp_path), tmp_path)


def test_another_kind_of_model_is_refused(tmp_path: Path) -> None:
    make_folder(tmp_path)
    (tmp_path / CONFIG).write_text((tmp_path / CONFIG).read_text().replace("castalia-boltzmann", "castalia-gan"))
    with pytest.raises(UnsupportedModel, match="model_type"):
        load(tiny_config(tmp_path), tmp_path)


def test_a_loaded_model_says_what_it_does_and_counts_its_memory(loaded: LoadedModel, deep: LoadedModel) -> None:
    assert set(loaded.tasks) == {"image", "edit", "reconstruction", "embedding", "score"}
    assert loaded.limits == {"width": 3, "height": 3, "max_batch_size": 64, "dimensions": 4}
    assert deep.limits["dimensions"] == DBM.hidden + DBM.top
    assert loaded.revision == "local"
    assert loaded.memory > sum(parameter.nbytes for parameter in make_machine(RBM).parameters())


def test_memory_grows_with_the_batch(tmp_path: Path) -> None:
    make_folder(tmp_path)
    small, large = (load(tiny_config(tmp_path, max_batch_size=rows), tmp_path).memory for rows in (1, 128))
    assert large > small


def test_no_other_precision_is_taken() -> None:
    with pytest.raises(ValueError, match="dtype"):
        tiny_config(Path("nowhere"), dtype="bfloat16")


def test_a_pixel_is_on_from_the_middle_grey_upwards() -> None:
    assert binary(torch.tensor([[[0, 127], [128, 255]]], dtype=torch.uint8)).tolist() == [False, False, True, True]


def test_ordering_hidden_units_changes_no_likelihood(tmp_path: Path) -> None:
    """And those come first whose means differ most from image to image."""
    images = read_split(make_data(tmp_path, side=3)).train
    for shape in (RBM, DBM):
        machine = make_machine(shape, seed=1)
        seen = binary(picture(3)[None])[None]
        before = Reader(machine).read(seen)
        put_first(machine, images)
        machine.config = make_machine(shape, seed=1).config
        after = Reader(machine).read(seen)
        assert torch.allclose(before.evidence, after.evidence, atol=1e-9)
        assert torch.allclose(before.hidden.sort().values, after.hidden.sort().values, atol=1e-9)
        assert not torch.allclose(before.hidden, after.hidden)
        spread = Reader(machine).read(binary(images.images)).hidden.var(0)
        assert (spread[: shape.hidden].diff() <= 1e-3).all()
