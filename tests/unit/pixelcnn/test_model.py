"""The network's mathematics: probabilities that add up to one, the order of reading, and what it sees."""

from __future__ import annotations

import math
from itertools import product
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from services.families.pixelcnn.drawing import load_for_measuring
from services.families.pixelcnn.likelihood import bits_of, class_log_likelihoods, log_likelihoods, over_classes
from services.families.pixelcnn.model import GatedPixelCnn, PixelCnnConfig
from services.nn.weights import WEIGHTS, save_model
from tests.unit.pixelcnn.tiny import IMAGES, LEVELS, SIDE, make_model

TWO_BY_TWO = IMAGES.model_copy(update={"values": 2, "height": 2, "width": 2})


def random_values(config: PixelCnnConfig, count: int, seed: int = 0) -> torch.Tensor:
    draws = torch.Generator().manual_seed(seed)
    return torch.randint(config.values, (count, config.height, config.width), generator=draws)


def test_all_2x2_binary_images_together_have_probability_1() -> None:
    model = make_model(TWO_BY_TWO).double()
    images = torch.tensor(list(product(range(2), repeat=4))).view(16, 2, 2)
    by_class = class_log_likelihoods(model, images)
    assert by_class.shape == (16, 3)
    assert by_class.std(0).min() > 0.1, "the images are too nearly alike in probability to test anything"
    assert torch.allclose(by_class.exp().sum(0), torch.ones(3, dtype=torch.float64), atol=1e-6, rtol=0)
    assert over_classes(by_class).exp().sum().item() == pytest.approx(1, abs=1e-6)


def test_over_classes_is_the_mean_of_their_probabilities() -> None:
    by_class = torch.tensor([[-1.0, -2.0, -700.0], [-900.0, -901.0, -902.0]], dtype=torch.float64)
    expected = [math.log((math.exp(-1) + math.exp(-2)) / 3), -900 + math.log((1 + math.exp(-1) + math.exp(-2)) / 3)]
    assert over_classes(by_class).tolist() == pytest.approx(expected, abs=1e-9)


def test_a_pixel_bears_on_no_earlier_one_nor_on_itself() -> None:
    model = make_model().double()
    values, labels = random_values(IMAGES, 1), torch.tensor([1])
    before = model(values, labels).flatten(2)
    for place in range(SIDE * SIDE):
        changed = values.clone().view(1, -1)
        changed[0, place] = (changed[0, place] + 1) % IMAGES.values
        after = model(changed.view_as(values), labels).flatten(2)
        assert torch.equal(after[:, :, : place + 1], before[:, :, : place + 1]), f"pixel {place}"


def test_there_is_no_blind_spot() -> None:
    """Every earlier pixel bears on the last one: the layers' reach covers the whole image here."""
    model = make_model(IMAGES.model_copy(update={"dilations": (1, 2, 4)})).double()
    model.counts.weight.zero_()  # which would see every pixel anyway
    for place in range(SIDE * SIDE - 1):
        values = random_values(IMAGES, 1).view(1, -1)
        other = values.clone()
        other[0, place] = (other[0, place] + 1) % IMAGES.values
        both = torch.cat([values, other]).view(2, SIDE, SIDE)
        last = model(both, torch.tensor([0, 0]))[:, :, -1, -1]
        assert (last[0] - last[1]).abs().max() > 1e-12, f"pixel {place} is not seen"


def test_the_counts_tell_a_row_of_all_rows_above_it() -> None:
    """With nothing else to see them by, two pixels far above that change places bear on nothing, a new value does."""
    model = make_model(IMAGES.model_copy(update={"height": 12, "dilations": (1,)})).double()
    values = torch.zeros(3, 12, SIDE, dtype=torch.int64)
    values[0, 0, 0] = values[1, 0, 5] = 1
    last = model(values, torch.zeros(3, dtype=torch.int64))[:, :, -1]
    assert torch.allclose(last[0], last[1], atol=1e-12, rtol=0)
    assert (last[0] - last[2]).abs().max() > 1e-6


def test_counts_up_to_the_bound_are_told_exactly() -> None:
    """One more of a value far above changes a row by far more than its share, but for what is beyond the bound."""
    shape = {"height": 12, "width": 6, "dilations": (1,), "counted": 2}
    model = make_model(IMAGES.model_copy(update=shape)).double()
    model.counts.weight[:, : IMAGES.values] = 0  # shares
    values = torch.zeros(4, 12, 6, dtype=torch.int64)
    for i in range(4):
        values[i, 0, :i] = 1  # the value 0 is there often enough in any case
    last = model(values, torch.zeros(4, dtype=torch.int64))[:, :, -1]
    for i in range(2):
        assert (last[i] - last[i + 1]).abs().max() > 1e-3
    assert torch.allclose(last[2], last[3], atol=1e-12, rtol=0)


def test_class_place_and_value_each_change_the_distribution() -> None:
    model = make_model()
    blank = torch.zeros(3, SIDE, SIDE, dtype=torch.int64)
    logits = model(blank, torch.arange(3))
    assert (logits[0] - logits[1]).abs().max() > 0.05
    assert (logits[1] - logits[2]).abs().max() > 0.05
    assert (logits[0, :, 4, 4] - logits[0, :, 4, 3]).abs().max() > 0.01
    assert (logits[0, :, 4, 4] - logits[0, :, 3, 4]).abs().max() > 0.01


def test_a_grid_of_a_batch_is_the_grid_alone() -> None:
    model = make_model().double()
    values, labels = random_values(IMAGES, 5), torch.tensor([0, 1, 2, 0, 1])
    together = log_likelihoods(model, values, labels)
    alone = torch.cat([log_likelihoods(model, values[i : i + 1], labels[i : i + 1]) for i in range(5)])
    assert torch.allclose(together, alone, atol=1e-10, rtol=0)


def test_more_grids_than_a_pass_takes_are_all_scored_in_order() -> None:
    model = make_model()
    values, labels = random_values(IMAGES, 70), torch.arange(70) % 3
    found = log_likelihoods(model, values, labels)
    assert found.shape == (70,)
    assert torch.allclose(found[69:], log_likelihoods(model, values[69:], labels[69:]), atol=1e-4)


def test_bits_are_of_a_cell_and_to_the_base_2() -> None:
    assert bits_of(-4 * torch.log(torch.tensor(2.0)).item(), 2) == pytest.approx(2)


def test_a_model_without_classes_has_the_one_label() -> None:
    assert LEVELS.labels == 1
    assert IMAGES.labels == 3
    assert make_model(LEVELS)(random_values(LEVELS, 2), torch.zeros(2, dtype=torch.int64)).shape == (2, 8, 5, 5)


def test_saved_weights_are_half_precision_and_load_to_the_same_likelihoods(tmp_path: Path) -> None:
    model = make_model().half().float()  # what half precision keeps
    save_model(model, IMAGES, tmp_path)
    assert {weight.dtype for weight in load_file(tmp_path / WEIGHTS).values()} == {torch.float16}
    again = load_for_measuring(tmp_path)
    assert isinstance(again, GatedPixelCnn)
    values, labels = random_values(IMAGES, 4), torch.arange(4) % 3
    assert torch.equal(log_likelihoods(model, values, labels), log_likelihoods(again, values, labels))


def test_dropout_is_of_training_alone() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = GatedPixelCnn(IMAGES, dropout=0.5)
        values, labels = random_values(IMAGES, 1), torch.tensor([0])
        assert not torch.equal(model(values, labels), model(values, labels))
        model.eval()
        assert torch.equal(model(values, labels), model(values, labels))
