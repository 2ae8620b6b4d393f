"""Owns what is published beside the weights: log Z, and the scores that others are compared with."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from services.families.boltzmann.bulk import read_all
from services.families.boltzmann.learning import CentredMachine, quick_partition, with_partition
from services.families.boltzmann.model import Machine, binary
from services.families.boltzmann.params import ScoreParams
from services.families.boltzmann.partition import anneal
from services.families.boltzmann.reading import Reader
from services.families.boltzmann.scores import PIXELS, ScorePass, known_name, measures_of
from services.nn.percentiles import write_known
from services.nn.weights import save_model
from services.training.held_out import write_held_out
from services.training.image_data import ImageSet, Split

_CHAINS, _TEMPERATURES = 50, 1500  # of each class, for log Z
_SCORED = 100  # images of each class of either part, in scores.json
_ROWS = 50  # at a time


def export_machine(machine: CentredMachine, split: Split, folder: Path) -> None:
    """config.json, model.safetensors, scores.json, and a sample of the held-out images.

    log Z is that of the weights as they are served. A minute or two on a core, most of it in log Z.
    """
    published = machine.published()
    put_first(published, split.train)
    partition = anneal(published.energy, published.base, chains=_CHAINS, temperatures=_TEMPERATURES, seed=0)
    with_partition(published, partition)
    save_model(published, published.config, folder)
    write_held_out(split.held_out, folder)
    training, held_out = (_scores(published, part.of_each_class(_SCORED)) for part in (split.train, split.held_out))
    write_known(folder, {name: (training[name], held_out[name]) for name in training})


@torch.no_grad()
def put_first(machine: Machine, images: ImageSet) -> None:
    """Order the units of each hidden layer, so that those come first whose means differ most from image to image.

    The machine is the same; an embedding that is cut short keeps what tells images apart.
    """
    with_partition(machine, quick_partition(machine))
    spread = read_all(Reader(machine), binary(images.of_each_class(_SCORED).images)).hidden.var(0)
    size, hidden = machine.config.visible, machine.config.hidden
    odd = spread[:hidden].argsort(descending=True)
    even = torch.cat([torch.arange(size), size + spread[hidden:].argsort(descending=True)])
    machine.weight.copy_(machine.weight[even][:, odd])
    machine.odd_bias.copy_(machine.odd_bias[:, odd])
    machine.even_bias.copy_(machine.even_bias[:, even])


@torch.inference_mode()
def _scores(machine: Machine, images: ImageSet) -> dict[str, Tensor]:
    """Each metric of every image (N,), the higher the likelier: over all classes, and given the image's own."""
    measures, visible = measures_of(machine.config), binary(images.images)
    score = ScorePass(Reader(machine), measures, {})
    found: dict[str, Tensor] = {}
    for metric, measure in measures.items():
        for given in (False, True):
            labels: list[int | None] = images.classes.tolist() if given else [None] * len(images)
            samples = PIXELS if measure.draws else 0
            rows = [
                ScoreParams(image, metric, label, samples, seed, cost=1.0)
                for seed, (image, label) in enumerate(zip(visible, labels, strict=True))
            ]
            values = _values(score, rows)
            found[known_name(metric, given_class=given)] = measure.sign * values
    return found


def _values(score: ScorePass, rows: list[ScoreParams]) -> Tensor:
    parts = [score(rows[start : start + _ROWS]) for start in range(0, len(rows), _ROWS)]
    return torch.tensor([each.value for part in parts for each in part if each is not None], dtype=torch.float64)
