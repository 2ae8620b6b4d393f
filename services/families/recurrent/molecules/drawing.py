"""Owns drawing molecules for evaluation and sheets, outside of the engine, and the sheets. Measures nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from PIL import Image
from rdkit.Chem import Draw, Mol
from tokenizers import Tokenizer

from services.families.recurrent.drawing import draw_tokens
from services.families.recurrent.model import RecurrentLM
from services.families.recurrent.molecules import chemistry
from services.families.recurrent.molecules.smiles import BOS

LONGEST = 100  # tokens: twice those of nearly every molecule of the data
_COLUMNS = 5
_CELL = (230, 190)


def draw_smiles(
    net: RecurrentLM, tokenizer: Tokenizer, count: int, *, seed: int, temperature: float = 1.0, scaffold: str = ""
) -> list[str]:
    """As the model draws them, valid or not; the i-th draws from (seed, i)."""
    prompt = [BOS, *tokenizer.encode(scaffold, add_special_tokens=False).ids]
    drawn = draw_tokens(net, [prompt] * count, LONGEST, seed=seed, temperature=temperature)
    pieces = {i: token for token, i in tokenizer.get_vocab().items()}
    return [scaffold + "".join(pieces[i] for i in ids) for ids in drawn]


def molecule_sheet(smiles: Sequence[str]) -> Image.Image:
    """Pictures of those that are valid, with QED and logP below each; of nothing, an empty one."""
    found = [molecule for molecule in map(chemistry.read_molecule, smiles) if molecule is not None]
    if not found:
        return Image.new("RGB", _CELL, "white")
    grid = Draw.MolsToGridImage(
        found, molsPerRow=_COLUMNS, subImgSize=_CELL, legends=[_legend(molecule) for molecule in found], returnPNG=False
    )
    return cast(Image.Image, grid).convert("RGB")


def _legend(molecule: Mol) -> str:
    known = chemistry.properties(molecule)
    return f"QED {known.qed:.2f}  logP {known.logp:.1f}"
