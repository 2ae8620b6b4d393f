"""The rounded logistic distribution."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from services.families.vae.image_model import ImageVae
from services.families.vae.logistic import FAR, logistic_draw, logistic_log_mass
from tests.unit.vae.tiny import SHAPE, make_picture, make_vae

LEVELS = torch.arange(256)


def level_edges() -> tuple[Tensor, Tensor]:
    """float64 (256,): below and above each 8-bit level in [-1, 1]."""
    middle = LEVELS.double() / 127.5 - 1
    low, high = middle - 1 / 255, middle + 1 / 255
    low[0], high[-1] = -FAR, FAR
    return low, high


@pytest.mark.parametrize("place", [-1.4, -1.0, 0.013, 0.97, 3.0])
@pytest.mark.parametrize("log_scale", [-5.0, -2.0, 1.0])
def test_the_levels_of_a_number_have_a_mass_of_one(place: float, log_scale: float) -> None:
    low, high = level_edges()
    mass = logistic_log_mass(low, high, torch.tensor(place).double(), torch.tensor(log_scale).double()).exp()
    assert float(mass.sum()) == pytest.approx(1, abs=1e-9)


def test_masses_are_differences_of_the_distribution_function() -> None:
    low, high = level_edges()
    place, log_scale = torch.tensor(0.1).double(), torch.tensor(-2.5).double()
    mass = logistic_log_mass(low, high, place, log_scale).exp()
    function = [torch.sigmoid((edge - place) / log_scale.exp()) for edge in (low, high)]
    assert torch.allclose(mass, function[1] - function[0], atol=1e-12)


def test_far_away_from_a_number_its_mass_is_still_a_number_with_a_gradient() -> None:
    """In float32, where a difference of sigmoids would be 0."""
    low, high = (edge.float() for edge in level_edges())
    place, log_scale = torch.tensor(-1.0, requires_grad=True), torch.tensor(-5.0, requires_grad=True)
    mass = logistic_log_mass(low, high, place.expand(256), log_scale.expand(256))
    assert mass[200] < -100
    mass.sum().backward()
    assert mass.isfinite().all()
    for parameter in (place, log_scale):
        assert parameter.grad is not None
        assert parameter.grad.isfinite()


def test_a_draw_is_where_the_distribution_function_has_its_value() -> None:
    uniform = torch.linspace(0.01, 0.99, 20).double()
    place, log_scale = torch.tensor(0.4).double(), torch.tensor(-1.0).double()
    drawn = logistic_draw(uniform, place, log_scale)
    assert torch.allclose(torch.sigmoid((drawn - place) / log_scale.exp()), uniform)


def test_an_image_s_likelihood_is_the_product_over_its_numbers(vae: ImageVae) -> None:
    picture, latent = make_picture(), torch.ones(1, SHAPE.latent_size, dtype=torch.float64)
    place, log_scale = (each[0].flatten() for each in vae.decode(latent))
    low, high = level_edges()
    numbers = picture.flatten().long()
    each = logistic_log_mass(low[numbers], high[numbers], place, log_scale)
    assert float(vae.log_likelihood(picture[None], latent)) == pytest.approx(float(each.sum()), rel=1e-9)


def test_a_change_of_one_number_from_level_to_level_has_a_mass_of_one(vae: ImageVae) -> None:
    """All else alike, the 256 likelihoods are those of the other numbers together."""
    pictures = make_picture()[None].repeat(257, 1, 1, 1)
    pictures[:256, 1, 2, 3] = LEVELS.to(torch.uint8)
    latent = torch.ones(257, SHAPE.latent_size, dtype=torch.float64)
    place, log_scale = vae.decode(latent)
    nats = vae.log_likelihood(pictures, latent)
    low, high = level_edges()
    number = int(pictures[256, 1, 2, 3])
    alone = logistic_log_mass(low[number], high[number], place[0, 1, 2, 3], log_scale[0, 1, 2, 3])
    assert float(torch.logsumexp(nats[:256], 0)) == pytest.approx(float(nats[256] - alone), abs=1e-6)


@pytest.fixture(scope="module")
def vae() -> ImageVae:
    return make_vae().double()
