"""The energy, its gradient, and its files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file

from services.families import LoadedModel
from services.families.ebm.drawing import load_energy
from services.families.ebm.family import load
from services.families.ebm.model import ANY_CLASS, EnergyConfig, EnergyNet, energy_of
from services.nn.errors import UnsupportedModel
from services.nn.weights import CONFIG, DTYPES, WEIGHTS, load_model, save_model
from tests.unit.ebm.tiny import SHAPE, make_bowl, make_net, some_images, tiny_config

LABELS = torch.tensor([0, 1, 2, ANY_CLASS, ANY_CLASS])


def test_the_gradient_of_the_energy_is_its_finite_differences() -> None:
    net, images = make_net().double(), some_images(5)
    gradient = net.residual(images, LABELS) / SHAPE.low**2
    draws = torch.Generator().manual_seed(3)
    for _ in range(10):
        way = torch.randn(images.shape, dtype=torch.float64, generator=draws)
        ahead, behind = (energy_of(net(images + h * way), LABELS) for h in (1e-5, -1e-5))
        slope = (gradient * way).flatten(1).sum(dim=1)
        assert torch.allclose((ahead - behind) / 2e-5, slope, rtol=1e-6, atol=1e-5)


def test_a_row_of_a_batch_is_the_row_alone() -> None:
    net, images = make_net().double(), some_images(5)
    together = net.residual(images, LABELS)
    energies = net(images)
    for i in range(5):
        assert torch.allclose(net.residual(images[i : i + 1], LABELS[i : i + 1])[0], together[i], atol=1e-12, rtol=0)
        assert torch.allclose(net(images[i : i + 1])[0], energies[i], atol=1e-10, rtol=0)


def test_without_a_tilt_the_energy_is_a_gaussian_s_about_the_centre() -> None:
    net, images = make_bowl(-0.4).double(), some_images(4)
    expected = (images + 0.4).square().flatten(1).sum(dim=1) / (2 * SHAPE.low**2)
    assert torch.allclose(net(images), expected[:, None].expand(4, 3))
    assert torch.allclose(net.residual(images, torch.zeros(4, dtype=torch.int64)), images + 0.4)


def test_the_energy_over_all_classes_is_that_of_the_sum_of_their_densities() -> None:
    energies = torch.tensor([[3.0, 1.0, 2.0], [500.0, 501.0, 800.0]], dtype=torch.float64)
    over_all = energy_of(energies, torch.tensor([ANY_CLASS, ANY_CLASS]))
    assert over_all[0].item() == pytest.approx(-torch.log((-energies[0]).exp().sum()).item())
    assert 499 < over_all[1].item() < 500
    assert energy_of(energies, torch.tensor([2, ANY_CLASS]))[0].item() == 2.0


def test_the_class_changes_the_gradient() -> None:
    net, images = make_net(), some_images(1, torch.float32)
    residuals = [net.residual(images, torch.tensor([label])) for label in range(3)]
    assert (residuals[0] - residuals[1]).abs().max() > 0.1
    assert (residuals[1] - residuals[2]).abs().max() > 0.1


def test_a_loss_of_the_gradient_reaches_the_weights() -> None:
    net = make_net().requires_grad_()
    residual = net.residual(some_images(2, torch.float32), torch.tensor([0, 1]), create_graph=True)
    residual.square().sum().backward()
    assert all(weight.grad is not None for weight in net.first.parameters())
    assert not net.residual(some_images(2, torch.float32), torch.tensor([0, 1])).requires_grad


def test_saved_weights_are_half_precision_and_load_to_the_same_energies(tmp_path: Path) -> None:
    net = make_net().half().float()  # what half precision keeps
    save_model(net, SHAPE, tmp_path)
    assert {weight.dtype for weight in load_file(tmp_path / WEIGHTS).values()} == {torch.float16}
    again = load_energy(tmp_path)
    assert not again.training
    images = some_images(3, torch.float32)
    assert torch.allclose(net(images), again(images), rtol=1e-6)  # loaded weights lie as channels_last


@pytest.mark.parametrize(("dtype", "error"), [("bfloat16", 0.1), ("float16", 0.02)])
def test_a_lower_precision_pulls_nearly_the_same_way(folder: Path, dtype: str, error: float) -> None:
    exact = load_energy(folder)
    rough = load_model(EnergyNet, EnergyConfig, folder, dtype=DTYPES[dtype], device=torch.device("cpu"))
    images, labels = some_images(3, torch.float32), torch.tensor([0, 1, 2])
    difference = exact.residual(images, labels) - rough.residual(images.to(DTYPES[dtype]), labels).float()
    assert difference.abs().mean() < error


def test_another_kind_of_model_is_refused(tmp_path: Path, folder: Path) -> None:
    text = (folder / CONFIG).read_text()
    (tmp_path / CONFIG).write_text(text.replace("castalia-ebm", "castalia-gan"))
    with pytest.raises(UnsupportedModel, match="model_type"):
        load(tiny_config(tmp_path), tmp_path)


def test_weights_that_lack_a_tensor_are_refused(tmp_path: Path) -> None:
    save_model(make_net(), SHAPE, tmp_path)
    (tmp_path / CONFIG).write_text(SHAPE.model_copy(update={"widths": (4, 8, 8, 8)}).model_dump_json())
    with pytest.raises(UnsupportedModel, match="do not fit"):
        load(tiny_config(tmp_path), tmp_path)


@pytest.mark.parametrize("fields", [{"low": 2.0}, {"image_size": 18}, {"rate": 1.0}, {"widths": (4,)}])
def test_a_shape_that_cannot_be_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        EnergyConfig.model_validate(SHAPE.model_dump() | fields)


def test_a_loaded_model_says_what_it_draws_and_counts_its_memory(loaded: LoadedModel, folder: Path) -> None:
    assert set(loaded.tasks) == {"image", "variation", "score"}
    assert loaded.limits == {"width": 16, "height": 16, "max_batch_size": 64, "default_steps": 12}
    assert loaded.revision == "local"
    small, large = (load(tiny_config(folder, max_batch_size=rows), folder).memory for rows in (1, 128))
    assert large > small > sum(parameter.nbytes for parameter in make_net().parameters())
