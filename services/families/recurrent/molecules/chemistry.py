"""Owns what RDKit says of a SMILES: whether it is a molecule, its properties, its picture. Never sees a request.

A string that RDKit cannot read is no molecule, and nothing more: no exception of its own leaves these functions.
Drug-likeness: Bickerton 2012, doi:10.1038/nchem.1243. logP: Wildman and Crippen 1999, doi:10.1021/ci990307l.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from rdkit import Chem, rdBase
from rdkit.Chem import QED, Mol
from rdkit.Chem.Draw import rdMolDraw2D
from rdkit.Chem.rdMolDescriptors import CalcMolFormula

_PICTURE = (300, 220)  # pixels


@dataclass(frozen=True, slots=True)
class Properties:
    """qed in [0, 1]; logp; weight in g/mol, hydrogens included; formula in Hill's order."""

    qed: float
    logp: float
    weight: float
    formula: str


def silence() -> None:
    """Keep RDKit from writing every string that is no molecule to this process's stderr."""
    rdBase.DisableLog("rdApp.*")


def read_molecule(smiles: str) -> Mol | None:
    """The molecule; None for a string that is none: bad syntax, an open ring, a valence that no atom has, no atom."""
    try:
        molecule = cast(Mol | None, Chem.MolFromSmiles(smiles))
    except (ValueError, RuntimeError):
        return None
    return None if molecule is None or molecule.GetNumAtoms() == 0 else molecule


def canonical(molecule: Mol) -> str:
    """RDKit's one SMILES of the molecule."""
    return Chem.MolToSmiles(molecule)


def properties(molecule: Mol) -> Properties:
    """Takes milliseconds: most go to the patterns of QED."""
    found = QED.properties(molecule)  # what logP and weight are taken from too, so that they are computed once
    return Properties(QED.qed(molecule, qedProperties=found), found.ALOGP, found.MW, CalcMolFormula(molecule))


def picture(molecule: Mol) -> str:
    """SVG, on white."""
    drawer = rdMolDraw2D.MolDraw2DSVG(*_PICTURE)
    rdMolDraw2D.PrepareAndDrawMolecule(drawer, molecule)
    drawer.FinishDrawing()
    return drawer.GetDrawingText()
