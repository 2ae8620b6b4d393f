"""Owns what is measured of drawn molecules, as MOSES (Polykovskiy 2020, arXiv:1811.12823) defines it. Draws none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from rdkit import Chem
from rdkit.Chem import Mol, rdFingerprintGenerator
from rdkit.Chem.Scaffolds import MurckoScaffold
from rdkit.Contrib.SA_Score import sascorer  # pyright: ignore[reportMissingImports] - its stubs leave it out
from torch import Tensor

from services.families.recurrent.molecules import chemistry
from services.training.distances import FeatureStatistics

_RADIUS, _BITS = 2, 1024
_LEAST_RINGS = 2  # of a scaffold that counts
_CHUNK = 4096  # molecules that are compared with all others at a time
Bits = NDArray[np.uint8]  # (N, B) of 0 and 1


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """What a model drew: how many, and of those that are valid the molecules and their canonical SMILES, in order."""

    count: int
    molecules: Sequence[Mol]
    canonical: Sequence[str]

    @classmethod
    def of(cls, smiles: Sequence[str]) -> Drawn:
        found = [molecule for molecule in map(chemistry.read_molecule, smiles) if molecule is not None]
        return cls(len(smiles), found, [chemistry.canonical(molecule) for molecule in found])

    @property
    def validity(self) -> float:
        return len(self.molecules) / self.count

    def unique(self, first: int) -> float:
        """Share of different ones among the first valid ones."""
        taken = self.canonical[:first]
        return len(set(taken)) / max(1, len(taken))

    def novelty(self, known: set[str]) -> float:
        """Share of the different valid ones that are not known, by canonical SMILES."""
        different = set(self.canonical)
        return len(different - known) / max(1, len(different))

    def properties(self) -> dict[str, NDArray[np.float64]]:
        """By the names of `reference.PROPERTIES`. SA: Ertl and Schuffenhauer 2009, doi:10.1186/1758-2946-1-8."""
        known = [chemistry.properties(molecule) for molecule in self.molecules]
        return {
            "logP": np.array([each.logp for each in known]),
            "SA": np.array([sascorer.calculateScore(molecule) for molecule in self.molecules]),
            "QED": np.array([each.qed for each in known]),
            "weight": np.array([each.weight for each in known]),
        }


def fingerprints(molecules: Sequence[Mol]) -> Bits:
    """Morgan's (Rogers and Hahn 2010, doi:10.1021/ci100050t) of radius 2 and 1,024 bits."""
    generator = rdFingerprintGenerator.GetMorganGenerator(radius=_RADIUS, fpSize=_BITS)
    return np.stack([generator.GetFingerprintAsNumPy(molecule) for molecule in molecules]).astype(np.uint8)


def nearest_similarity(ours: Bits, theirs: Bits) -> float:
    """SNN: the mean of our molecules' Tanimoto similarity to the nearest of theirs."""
    best = torch.zeros(len(ours))
    for at in range(0, len(theirs), _CHUNK):
        best = torch.maximum(best, _tanimoto(theirs[at : at + _CHUNK], ours).amax(0))
    return best.mean().item()


def internal_diversity(ours: Bits) -> float:
    """IntDiv: 1 minus the mean Tanimoto similarity of all pairs, each with itself included."""
    total = sum(_tanimoto(ours[at : at + _CHUNK], ours).double().sum().item() for at in range(0, len(ours), _CHUNK))
    return 1 - total / len(ours) ** 2


def fragments(molecules: Sequence[Mol]) -> Counter[str]:
    """How often each BRICS fragment (Degen 2008, doi:10.1002/cmdc.200800178) occurs."""
    broken = (Chem.MolToSmiles(Chem.FragmentOnBRICSBonds(molecule)) for molecule in molecules)
    return Counter(piece for smiles in broken for piece in smiles.split("."))


def scaffolds(molecules: Sequence[Mol]) -> Counter[str]:
    """How often each framework of two rings or more (Bemis and Murcko 1996, doi:10.1021/jm9602928) occurs."""
    found = map(MurckoScaffold.GetScaffoldForMol, molecules)
    return Counter(Chem.MolToSmiles(each) for each in found if each.GetRingInfo().NumRings() >= _LEAST_RINGS)


def cosine(ours: Counter[str], theirs: Counter[str]) -> float:
    """Similarity of two tables of counts; 0 where one is empty."""
    product = sum(count * theirs[name] for name, count in ours.items())
    norms = [float(np.sqrt(sum(count**2 for count in counts.values()))) for counts in (ours, theirs)]
    return product / (norms[0] * norms[1]) if all(norms) else 0.0


def wasserstein(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> float:
    """The distance of two sets of numbers: the area between their distribution functions."""
    points = np.sort(np.concatenate([ours, theirs]))
    shares = [np.searchsorted(np.sort(each), points[:-1], side="right") / len(each) for each in (ours, theirs)]
    return float(np.abs(shares[0] - shares[1]) @ np.diff(points))


def chemnet_statistics(smiles: Sequence[str]) -> FeatureStatistics:
    """Of ChemNet's features (Preuer 2018, arXiv:1803.09518), which `frechet_distance` makes FCD of."""
    from fcd_torch import FCD  # noqa: PLC0415 - of the `train` extra

    return FeatureStatistics.of(torch.from_numpy(FCD(n_jobs=1, canonize=False).get_predictions(list(smiles))))


def _tanimoto(ours: Bits, theirs: Bits) -> Tensor:
    """float32 (N, M)."""
    a, b = (torch.from_numpy(bits).float() for bits in (ours, theirs))
    common = a @ b.T
    return common / (a.sum(1)[:, None] + b.sum(1)[None] - common).clamp(min=1)
