"""The recipe learns from the package's files, and what it exports is served."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from services.families.recurrent.family import load
from services.families.recurrent.language import load_net
from services.families.recurrent.molecules.data import ALIKE, read_molecules, write_molecules
from services.families.recurrent.molecules.drawing import draw_smiles, molecule_sheet
from services.families.recurrent.molecules.evaluation import sample_figure
from services.families.recurrent.molecules.recipe import MoleculesLstm
from tests.unit.recurrent.molecules.tiny import TRAIN, make_config, make_net, make_package


class Tiny(MoleculesLstm):
    config = make_net().config.model_copy(update={"vocabulary": 11, "hidden": 24})


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training part with enough molecules for an example of them."""
    folder = tmp_path_factory.mktemp("data")
    write_molecules(make_package(tmp_path_factory.mktemp("package"), copies=2 * ALIKE), folder)
    return folder


def test_the_loss_falls_and_is_that_of_the_tokens_alone(data: Path) -> None:
    training = Tiny().build(data, seed=0)
    assert training.examples == 2 * len(TRAIN)
    (phase,) = training.phases
    optimizer = torch.optim.Adam(training.modules["net"].parameters(), lr=0.02)
    losses: list[float] = []
    for step in range(30):
        batch = training.batch(torch.tensor([step % training.examples, 3]), torch.Generator())
        assert len(batch) == 2 * ALIKE
        loss, _ = training.loss(phase.name, training.modules, batch, torch.Generator())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(2.4, abs=0.3), "nearly uniform over 11 tokens"
    assert losses[-1] < 0.6 * losses[0]
    assert training.validate(training.modules)["metric"] > 0


def test_one_seed_gives_one_set_of_weights(data: Path) -> None:
    nets = [Tiny().build(data, seed=seed).modules["net"] for seed in (0, 0, 1)]
    first, same, other = (torch.cat([each.flatten() for each in net.parameters()]) for net in nets)
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_what_is_exported_is_served_and_has_a_sample(data: Path, tmp_path: Path) -> None:
    recipe = Tiny()
    recipe.export(recipe.build(data, seed=0).modules, data, tmp_path)
    assert load(make_config(tmp_path), tmp_path).limits["context_length"] > 0
    figure = sample_figure(load_net(tmp_path), tmp_path)
    assert "2 molecules" in figure.meaning
    assert 2 < figure.value < 5, "nothing is learnt yet"
    assert figure.baseline is not None


def test_drawing_for_sheets_is_by_seed_and_scaffold(data: Path, tmp_path: Path) -> None:
    molecules = read_molecules(data)
    net = make_net()
    drawn = draw_smiles(net, molecules.tokenizer, 6, seed=1, scaffold="C(")
    assert drawn == draw_smiles(net, molecules.tokenizer, 6, seed=1, scaffold="C(")
    assert all(each.startswith("C(") for each in drawn)
    assert drawn[:3] == draw_smiles(net, molecules.tokenizer, 3, seed=1, scaffold="C("), "a drawing is its own"


def test_a_sheet_shows_what_is_valid() -> None:
    empty = molecule_sheet(["C("])
    one, six = molecule_sheet(["CCO", "C("]), molecule_sheet(["CCO"] * 6)
    assert empty.mode == one.mode == "RGB"
    assert six.height > one.height
    assert len(one.getcolors(100_000) or ()) > len(empty.getcolors(100_000) or ())
