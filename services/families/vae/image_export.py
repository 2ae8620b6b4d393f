"""Owns what is published of a trained autoencoder of images: weights with latents in order, and known scores."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from torch import Tensor, nn

from services.families.vae.bounds import ClassPrior, Posterior, log_classes
from services.families.vae.image_bulk import SCORED_EVERY, SEED, load_vae, scores
from services.families.vae.image_model import ImageVae
from services.families.vae.image_training import moved
from services.nn.percentiles import write_known
from services.nn.weights import save_model
from services.training.held_out import write_held_out
from services.training.image_data import Split
from shared.config.vae import SAMPLES

# Of the fitting of a prior: some seconds on a core.
_STEPS, _BATCH, _RATE, _COPIES = 300, 256, 0.03, 5


def export_vae(vae: ImageVae, components: int, split: Split, folder: Path) -> None:
    """config.json, model.safetensors, a sample of the held-out images, and scores.json of both parts.

    `components` are the Gaussians that the prior of a class gets in place of the one that was trained.
    """
    ordered = reordered(vae.cpu(), information(vae.cpu(), split).argsort(descending=True))
    fitted = with_prior(ordered, components, split)
    save_model(fitted, fitted.config, folder)
    write_held_out(split.held_out, folder)
    published = load_vae(folder)
    some, held_out = split.train.images[::SCORED_EVERY], split.held_out.images
    write_known(folder, {each: (scores(published, some, each), scores(published, held_out, each)) for each in SAMPLES})


@torch.inference_mode()
def information(vae: ImageVae, split: Split) -> Tensor:
    """(Z,): how many nats each latent tells of a training image beyond its class, in the mean."""
    train = split.train
    return vae.prior.divergence(vae.encode(train.images), train.classes).mean(0)


def reordered(vae: ImageVae, order: Tensor) -> ImageVae:
    """The same model with its latents in another order: the first D numbers of an embedding are then the best D."""
    other = copy.deepcopy(vae)
    read, write = other.encoder[-1], other.decoder[0]
    if not isinstance(read, nn.Linear) or not isinstance(write, nn.Linear):
        raise TypeError("the latents are between two linear layers")
    both = torch.cat([order, len(order) + order])  # means, then logarithms of standard deviations
    with torch.no_grad():
        read.weight.copy_(read.weight[both])
        read.bias.copy_(read.bias[both])
        write.weight.copy_(write.weight[:, order])
        for parameter in other.prior.parameters():
            parameter.copy_(parameter[:, order])
    return other


@torch.enable_grad()
def with_prior(vae: ImageVae, components: int, split: Split) -> ImageVae:
    """The same encoder and decoder under a prior of so many Gaussians a class, fitted to draws of training posteriors.

    The ELBO knows the prior by E_q[log p(z|y)] alone, which is what rises here; and draws from the prior come to be
    like the latents of images (Ghosh 2020, arXiv:1903.12436, section 4).
    """
    draws = torch.Generator().manual_seed(SEED)
    posterior, classes = _posteriors(vae, split, draws)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        prior = ClassPrior(vae.prior.classes, components, vae.config.latent_size)
    starts = torch.cat([_some((classes == label).nonzero()[:, 0], components, draws) for label in range(prior.classes)])
    with torch.no_grad():
        prior.mean.copy_(posterior.mean[starts])
        prior.log_std.copy_(vae.prior.log_std.repeat_interleave(components, 0))
    optimizer = torch.optim.Adam(prior.parameters(), lr=_RATE)
    for step in range(_STEPS):
        optimizer.param_groups[0]["lr"] = _RATE * (1 - step / _STEPS)
        rows = torch.randint(len(classes), (_BATCH,), generator=draws)
        latent = posterior.of_rows(rows).draw(torch.randn(_BATCH, vae.config.latent_size, generator=draws))
        loss = -prior.log_density(latent, log_classes(classes[rows].tolist(), prior.classes)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    fitted = ImageVae(vae.config.model_copy(update={"components": components}))
    fitted.load_state_dict({**vae.state_dict(), **{f"prior.{name}": each for name, each in prior.state_dict().items()}})
    return fitted.eval().requires_grad_(False)


@torch.no_grad()
def _posteriors(vae: ImageVae, split: Split, draws: torch.Generator) -> tuple[Posterior, Tensor]:
    """Of training images and of moved copies of them, as they were trained on; and their classes."""
    train = split.train
    images = torch.cat([train.images, *(moved(train.images, draws) for _ in range(_COPIES))])
    return vae.encode(images), train.classes.repeat(1 + _COPIES)


def _some(rows: Tensor, count: int, draws: torch.Generator) -> Tensor:
    """So many of these at random, each as often as any other, as far as that goes."""
    return rows[torch.randperm(len(rows), generator=draws)[torch.arange(count) % len(rows)]]
