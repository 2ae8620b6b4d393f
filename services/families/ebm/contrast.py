"""Owns the training of an energy: its losses, the chains that it is compared with, held-out figures. Knows no data set.

The loss is the sum of three. Contrast: maximum likelihood of images given their class, by chains that persist (Du &
Mordatch 2019, arXiv:1903.08689); some start anew from noise, annealed as those that serve. Classes: maximum likelihood
of the class given the image (JEM; Grathwohl 2020, arXiv:1912.03263). Denoising: score matching at all noise levels that
chains pass (Vincent 2011; Li 2019, arXiv:1910.07762), which shows the way from far off in few steps of training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from services.families.ebm.chains import Chains
from services.families.ebm.drawing import class_sheet
from services.families.ebm.langevin import annealed, held
from services.families.ebm.model import EnergyConfig, EnergyNet, energy_of
from services.nn.weights import use_channels_last
from services.training.image_data import Split
from services.training.recipe import Phase

_PHASES = (Phase("energy", ("energy",), learning_rate=2e-3, betas=(0.9, 0.99)),)
_LOWEST = 0.5  # times `low`: the least noise of score matching, as scores are of images without any
_VALIDATED = 500  # held-out images


@dataclass(frozen=True, slots=True)
class Contest:
    """What an energy is trained with, besides the data. Weights are of terms in the loss, denoising having 1."""

    energy: EnergyConfig
    chains: int  # that are kept
    walked: int  # of them in a step, and as many real images are compared with them
    sweeps: int  # of each in a step
    rate: float  # of these sweeps: lower than served chains', as what persists has time
    restarts: float  # the share that starts anew from noise
    contrast: float = 0.03
    classes: float = 0.005
    size: float = 1e-4  # of squared energies: they are known up to a constant alone, and stay near 0


class EnergyTraining:
    """Implements `services.training.recipe.Training`."""

    averaged: Sequence[str] = ("energy",)
    phases: Sequence[Phase] = _PHASES

    def __init__(self, contest: Contest, split: Split, seed: int) -> None:
        config = contest.energy
        with torch.random.fork_rng(devices=[]):  # modules draw their first weights from torch's own generator
            torch.manual_seed(seed)
            self._net = EnergyNet(config)
            noise = torch.randn(contest.chains, *self._net.centre.shape)
        self._net.centre.copy_(split.train.units().mean(dim=0))
        use_channels_last(self._net)
        labels = torch.arange(contest.chains) % len(config.classes)
        self._chains = Chains(self._net.centre + config.high * noise, labels)
        self._contest, self._split = contest, split

    @property
    def modules(self) -> Mapping[str, nn.Module]:
        return {"energy": self._net, "chains": self._chains}

    @property
    def examples(self) -> int:
        return len(self._split.train)

    def batch(self, indices: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Real images (B, C, H, W) in [-1, 1] and their classes (B,)."""
        return self._split.train.units(indices), self._split.train.classes[indices]

    def loss(
        self, phase: str, modules: Mapping[str, nn.Module], batch: tuple[Tensor, Tensor], generator: torch.Generator
    ) -> tuple[Tensor, Mapping[str, float]]:
        images, classes = batch
        net, chains = cast(EnergyNet, modules["energy"]), cast(Chains, modules["chains"])
        denoising = denoising_loss(net, images, classes, generator)
        drawn, labels = self._walk(net, chains, generator)
        count, contest = len(labels), self._contest
        real = images[:count] + net.config.low * _noise(images[:count], generator)
        energies = net(torch.cat([real, drawn]))  # (2 B', K)
        # In units of low^2, where an image's energy is some half of its squared distance from clean ones.
        likely = energy_of(energies[:count], classes[:count]) * net.config.low**2
        drawn_energy = energy_of(energies[count:], labels) * net.config.low**2
        contrast = likely.mean() - drawn_energy.mean()
        posterior = functional.cross_entropy(-energies[:count], classes[:count])
        size = likely.square().mean() + drawn_energy.square().mean()
        loss = denoising + contest.contrast * contrast + contest.classes * posterior + contest.size * size
        return loss, {"denoising": denoising.item(), "contrast": contrast.item(), "classes": posterior.item()}

    def _walk(self, net: EnergyNet, chains: Chains, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Some of the chains go on, and are put back: images (B', C, H, W), labels (B',)."""
        contest, config = self._contest, net.config
        chosen = torch.randperm(len(chains), generator=generator)[: contest.walked].to(chains.labels.device)
        labels, x = chains.labels[chosen], chains.images(chosen)
        anew = (torch.rand(len(chosen), 1, 1, 1, generator=generator) < contest.restarts).to(x.device)
        x = torch.where(anew, net.centre + config.high * _noise(x, generator), x)
        falling = annealed(contest.sweeps + 1, rate=contest.rate, high=config.high, low=config.low).sweeps
        staying = held(contest.rate, config.low)
        for sweep in falling[:-1]:  # the last would end in a clean image: no sample of the energy's
            residual = net.residual(x, labels).detach()
            rate = torch.where(anew, sweep.rate, staying.rate)
            x = x - rate * residual + torch.where(anew, sweep.noise, staying.noise) * _noise(x, generator)
        chains.put(chosen, x)
        return x, labels

    def validate(self, modules: Mapping[str, nn.Module]) -> Mapping[str, float]:
        """The denoising loss of held-out images on fixed draws, and how often the least energy is of their class."""
        net = cast(EnergyNet, modules["energy"])
        shown = self._split.held_out.subset(torch.linspace(0, len(self._split.held_out) - 1, _VALIDATED).long())
        images, classes = shown.units().to(net.centre.device), shown.classes.to(net.centre.device)
        loss = denoising_loss(net, images, classes, torch.Generator().manual_seed(0))
        accuracy = (net(images).argmin(dim=1) == classes).float().mean()
        return {"metric": loss.item(), "class_accuracy": accuracy.item()}

    def sample(self, modules: Mapping[str, nn.Module]) -> Image.Image:
        return class_sheet(cast(EnergyNet, modules["energy"]), columns=8)


def denoising_loss(net: EnergyNet, images: Tensor, classes: Tensor, generator: torch.Generator) -> Tensor:
    """E_sigma |D(x + sigma eps) - x|^2 / sigma^2 a pixel, D being the clean estimate; images (B, C, H, W).

    sigma is log-uniform from half of `low` to `high`. At sigma = low this is denoising score matching (Vincent 2011);
    at others it says what the same energy is to look like from further away (Li 2019, arXiv:1910.07762).
    """
    low, high = torch.tensor([_LOWEST * net.config.low, net.config.high]).log().tolist()
    sigma = (low + (high - low) * torch.rand(len(images), 1, 1, 1, generator=generator)).exp().to(images.device)
    noised = images + sigma * _noise(images, generator)
    clean = noised - net.residual(noised, classes, create_graph=torch.is_grad_enabled())
    return ((clean - images) / sigma).square().mean()


def _noise(like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(like.shape, generator=generator).to(like.device)
