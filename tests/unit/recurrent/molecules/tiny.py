"""A tiny net with random weights that draws short strings, and a package of few molecules."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import torch

from services.families.recurrent.language import TOKENIZER
from services.families.recurrent.model import RecurrentConfig, RecurrentLM
from services.families.recurrent.molecules.smiles import BOS, EOS, make_tokenizer
from services.nn.weights import save_model
from shared.config.recurrent import RecurrentMoleculeModel

TOKENS = ("C", "(", ")", "1", "O", "=", "[nH]", "Cl", "c")
CONTEXT = 24
TRAIN = ("CCO", "c1ccccc1", "CC(=O)O", "C1CCCCC1", "ClCCCl", "c1cc[nH]c1", "CCC", "OCCO")
TEST = ("CCCC", "CBr", "CC(C)O")  # the second has a token that the training part lacks
SCAFFOLDS = ("C1CC1",)


def make_net(seed: int = 2, **changes: Any) -> RecurrentLM:
    """About a half of what it draws is a molecule."""
    fields = {"vocabulary": len(TOKENS) + 2, "embedding": 8, "hidden": 16, "bos": BOS, "eos": EOS} | changes
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = RecurrentLM(RecurrentConfig(cell="lstm", **fields)).eval()
        for weight in net.parameters():
            torch.nn.init.normal_(weight, std=0.4)
    net.head.bias.data[2:] += torch.tensor([2.5, -0.5, -0.5, -1, 0.8, -0.5, -2, -1, -2])
    net.head.bias.data[[BOS, EOS]] = torch.tensor([-9.0, 1.2])
    return net.requires_grad_(False)


def make_folder(folder: Path, **changes: Any) -> Path:
    net = make_net(**changes)
    save_model(net, net.config, folder)
    make_tokenizer(TOKENS).save(str(folder / TOKENIZER))
    return folder


def make_config(folder: Path, **options: Any) -> RecurrentMoleculeModel:
    fields = {"context_length": CONTEXT, "max_batch_size": 8} | options
    return RecurrentMoleculeModel(id="tiny-molecules", source=f"file://{folder}", kind="molecule", **fields)


def make_package(folder: Path, copies: int = 1) -> Path:
    """Laid out as molsets is, the training part `copies` times; the second part's lines have a second column."""
    data = folder / "moses" / "dataset" / "data"
    data.mkdir(parents=True)
    for name, head, smiles in (
        ("train", "SMILES", TRAIN * copies),
        ("test", "SMILES,SPLIT", [f"{each},test" for each in TEST]),
        ("test_scaffolds", "SMILES", SCAFFOLDS),
    ):
        with gzip.open(data / f"{name}.csv.gz", "wt") as file:
            file.write("\n".join((head, *smiles)) + "\n")
    return folder
