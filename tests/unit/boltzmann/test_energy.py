"""The mathematics against sums over every state of machines that are small enough."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from services.families.boltzmann.energy import flips, sweep
from services.families.boltzmann.learning import CentredMachine
from services.families.boltzmann.model import Machine, MachineConfig
from services.families.boltzmann.params import ScoreParams
from services.families.boltzmann.partition import anneal
from services.families.boltzmann.reading import Reader
from services.families.boltzmann.scores import ScorePass, measures_of, pixel_terms
from tests.unit.boltzmann.tiny import DBM, RBM, exact_likelihoods, exact_partition, joint, make_machine, states

BOTH = pytest.mark.parametrize("shape", [RBM, DBM], ids=["rbm", "dbm"])
PIXELS = RBM.visible


def score(
    machine: Machine, metric: str, visible: Tensor, label: int | None = None, samples: int = PIXELS
) -> list[float]:
    run = ScorePass(Reader(machine), measures_of(machine.config), {})
    rows = [ScoreParams(image.bool(), metric, label, samples, 0, 1.0) for image in visible]  # type: ignore[arg-type]
    return [found.value for found in run(rows) if found is not None]


@BOTH
def test_the_free_energy_is_the_energy_with_odd_units_summed_out(shape: MachineConfig) -> None:
    machine = make_machine(shape)
    by_hand = -torch.logsumexp(joint(machine.energy), 2)
    even = states(shape.even)
    for label in range(3):
        found = machine.energy.to(torch.float64).free_energy(even, torch.full((len(even),), label))
        assert torch.allclose(found, by_hand[label], atol=1e-10)


@BOTH
def test_annealing_finds_the_partition_function_within_its_error(shape: MachineConfig) -> None:
    machine = make_machine(shape, spread=1.0)
    found = anneal(machine.energy, machine.base, chains=200, temperatures=200, seed=1)
    gap = (found.value - exact_partition(machine.energy)).abs()
    assert (found.error < 0.1).all()
    assert (gap < 4 * found.error + 1e-3).all()


def test_annealing_repeats_and_its_error_shrinks_with_more_chains() -> None:
    machine = make_machine(RBM, spread=1.0)
    few, again, many = (
        anneal(machine.energy, machine.base, chains=chains, temperatures=20, seed=3) for chains in (20, 20, 500)
    )
    assert torch.equal(few.value, again.value)
    assert (many.error < few.error).all()


@BOTH
def test_sweeps_reach_the_exact_distribution_of_images(shape: MachineConfig) -> None:
    """How often each of 2**9 images is met, against its probability, given a class."""
    machine, draws = make_machine(shape, spread=0.5), torch.Generator().manual_seed(0)
    labels = torch.full((20_000,), 1)
    even = flips(machine.base[labels], draws)
    for _ in range(25):
        even, _ = sweep(machine.energy, even, labels, draws)
    number = (even[:, :PIXELS].long() << torch.arange(PIXELS)).sum(1)
    met = number.bincount(minlength=2**PIXELS).double() / len(labels)
    exact = exact_likelihoods(machine)[1].exp()
    expected = (exact * (1 - exact) / len(labels)).sqrt().mul(0.8).sum()  # of sum |met - exact|, by chance alone
    assert (met - exact).abs().sum() < 1.2 * expected


def test_log_likelihoods_of_a_restricted_machine_are_exact_up_to_log_z() -> None:
    machine, images = make_machine(RBM), states(PIXELS)
    exact = exact_likelihoods(machine)
    for label in range(3):
        assert score(machine, "log_likelihood", images, label) == pytest.approx(exact[label].tolist(), abs=1e-3)
    over_all = torch.logsumexp(exact, 0) - torch.tensor(3.0).log()
    found = torch.tensor(score(machine, "log_likelihood", images))
    assert found.tolist() == pytest.approx(over_all.tolist(), abs=1e-3)
    assert found.exp().sum().item() == pytest.approx(1, abs=1e-3)


def test_free_energies_differ_as_log_likelihoods_do() -> None:
    machine, images = make_machine(RBM), states(PIXELS)
    for label in (None, 2):
        free = torch.tensor(score(machine, "free_energy", images, label))
        likely = torch.tensor(score(machine, "log_likelihood", images, label))
        assert (free + likely).std() < 1e-5


def test_the_bound_of_a_deep_machine_is_below_its_log_likelihood_and_near() -> None:
    machine, images = make_machine(DBM), states(PIXELS)
    exact = exact_likelihoods(machine)
    for label in (0, 1, 2, None):
        whole = exact[label] if label is not None else torch.logsumexp(exact, 0) - torch.tensor(3.0).log()
        gap = whole - torch.tensor(score(machine, "elbo", images, label), dtype=torch.float64)
        assert gap.min() > -1e-3
        assert 1e-4 < gap.max() < 0.7


def test_pseudo_likelihoods_are_products_of_exact_conditionals() -> None:
    machine, reader = make_machine(RBM), Reader(make_machine(RBM))
    exact = exact_likelihoods(machine)
    for label in (1, None):
        likely = exact[1] if label == 1 else torch.logsumexp(exact, 0)
        for number in (0, 37, 511):
            turned = torch.tensor([number ^ (1 << pixel) for pixel in range(PIXELS)])
            conditionals = likely[number] - torch.logaddexp(likely[number], likely[turned])
            image = states(PIXELS)[number]
            found = pixel_terms(reader, image, torch.arange(PIXELS), label)
            assert found.tolist() == pytest.approx(conditionals.tolist(), abs=1e-4)
            (whole,) = score(machine, "pseudo_log_likelihood", image[None], label)
            assert whole == pytest.approx(conditionals.sum().item(), abs=1e-3)


def test_a_pseudo_likelihood_of_some_pixels_has_an_error_and_of_all_has_none() -> None:
    machine, image = make_machine(RBM), states(PIXELS)[100].bool()
    run = ScorePass(Reader(machine), measures_of(RBM), {})
    some, whole = (
        run([ScoreParams(image, "pseudo_log_likelihood", None, samples, 5, 1.0)])[0] for samples in (4, PIXELS)
    )
    assert some is not None
    assert whole is not None
    assert some.seed == 5
    assert some.standard_error is not None
    assert abs(some.value - whole.value) < 4 * some.standard_error
    assert whole.standard_error == pytest.approx(0, abs=1e-9)


def test_the_error_of_a_likelihood_over_all_classes_weighs_each_class_by_its_share() -> None:
    machine = make_machine(RBM)
    machine.config = machine.config.model_copy(update={"log_partition_error": (0.3, 0.1, 0.2)})
    reader = Reader(machine)
    image = states(PIXELS)[77]
    (found,) = ScorePass(reader, measures_of(RBM), {})([ScoreParams(image.bool(), "log_likelihood", None, 0, 0, 1.0)])
    share = reader.read(image[None]).posterior[0]
    assert found is not None
    by_hand = (share * torch.tensor([0.3, 0.1, 0.2])).square().sum().sqrt().item()
    assert found.standard_error == pytest.approx(by_hand)


def test_hidden_means_are_exact_given_an_image_whatever_its_class() -> None:
    """E[h | v] over classes and hidden states, by Bayes' rule from the joint."""
    machine = make_machine(RBM)
    image = states(PIXELS)[300]
    weights = joint(machine.energy)[:, 300] - exact_partition(machine.energy)[:, None]  # (K, 2**H): classes alike
    chance = torch.softmax(weights.flatten(), 0).view_as(weights).sum(0)
    by_hand = chance @ states(RBM.hidden)
    assert torch.allclose(Reader(machine).read(image[None]).hidden[0], by_hand, atol=1e-4)


def test_a_centred_machine_differs_from_its_published_form_by_a_constant() -> None:
    base = make_machine(DBM).base.data
    centred = CentredMachine(DBM, base, seed=0)
    with torch.no_grad():
        for parameter in centred.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    even, odd = states(DBM.even), states(DBM.hidden)
    weight, centre = centred.weight.detach().double(), centred.centre.double()
    by_formula = torch.einsum("xe,eh,oh->xo", even - centre, weight, odd - 0.5)
    by_formula += (even @ centred.even_bias[1].detach().double())[:, None] + odd @ centred.odd_bias[1].detach().double()
    gap = joint(centred.energy())[1].detach() - by_formula
    assert gap.std() < 1e-5
