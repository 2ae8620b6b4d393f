"""Owns the molecules that a model learns: from an unpacked package to one compact file of tokens, and back.

MOSES (Polykovskiy 2020, arXiv:1811.12823): a cleaned part of ZINC, in three parts. `test` is drawn at random;
`test_scaffolds` has frameworks of rings that neither of the other parts has.
"""

from __future__ import annotations

import gzip
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor

from services.families.recurrent.corpora import Documents
from services.families.recurrent.language import TOKENIZER
from services.families.recurrent.molecules.smiles import BOS, EOS, cut, make_tokenizer

PARTS = ("train", "test", "test_scaffolds")
ALIKE = 16  # molecules of an example
_FILE = "molecules.safetensors"
_WHOLE = 10**6  # tokens: no molecule is cut into windows


@dataclass(frozen=True, slots=True, eq=False)
class Molecules:
    """A part: `tokens` int8 of all molecules, BOS and EOS included, and `starts` int64 (N + 1,) where each begins."""

    tokens: Tensor
    starts: Tensor

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def documents(self) -> Documents:
        return Documents(self.tokens, self.starts, _WHOLE)

    @property
    def alike(self) -> AlikeMolecules:
        return AlikeMolecules(self.documents)

    def spread(self, count: int) -> list[Tensor]:
        """So many molecules, int8 (T,) each, from all over the part: neighbours in the package are alike."""
        places = spread_places(len(self), count)
        return [self.tokens[self.starts[i] : self.starts[i + 1]] for i in places]


class AlikeMolecules:
    """Implements `services.families.recurrent.corpora.Corpus`.

    An example is ALIKE molecules of almost always equal length, in the package's order among those of that length: a
    batch of single ones would be a quarter of padding.
    """

    def __init__(self, documents: Documents) -> None:
        self._documents = documents
        self.examples = documents.examples // ALIKE
        order = documents.starts.diff().argsort(stable=True)
        self._groups = order[: self.examples * ALIKE].view(self.examples, ALIKE)

    def batch(self, indices: Tensor, generator: torch.Generator) -> Tensor:
        """int64 (B * ALIKE, T)."""
        return self._documents.batch(self._groups[indices].flatten(), generator)


@dataclass(frozen=True, slots=True, eq=False)
class MoleculeData:
    """What `preprocess` wrote."""

    tokenizer: Tokenizer
    train: Molecules
    test: Molecules
    test_scaffolds: Molecules

    def texts(self, part: Molecules, count: int | None = None) -> list[str]:
        """The SMILES of a part's molecules, of `count` from all over it, or of all in the package's order."""
        pieces = {i: token for token, i in self.tokenizer.get_vocab().items()} | {BOS: "", EOS: "\n"}
        tokens = part.tokens if count is None else torch.cat(part.spread(count))
        return "".join(pieces[i] for i in tokens.tolist()).split("\n")[:-1]


def spread_places(size: int, count: int) -> list[int]:
    """`count` places of `size`, as far from one another as can be, the first among them; all, if there are fewer."""
    return [i * size // count for i in range(count)] if count < size else list(range(size))


def write_molecules(package: Path, folder: Path) -> None:
    """Cut every SMILES of the package into tokens; the vocabulary is that of the training part, likeliest first.

    A molecule of another part with a token that the training part lacks is left out.
    """
    texts = {part: read_package(package, part) for part in PARTS}
    counts = Counter(token for smiles in texts["train"] for token in cut(smiles))
    tokens = [token for token, _ in sorted(counts.items(), key=lambda each: (-each[1], each[0]))]
    tokenizer = make_tokenizer(tokens)
    ids = tokenizer.get_vocab()
    parts: dict[str, Tensor] = {}
    for name, smiles in texts.items():
        parts |= {f"{name}.{field}": value for field, value in _tokens_of(smiles, ids).items()}
    save_file(parts, folder / _FILE)
    tokenizer.save(str(folder / TOKENIZER))


def read_package(package: Path, part: str) -> list[str]:
    """SMILES in the package's order."""
    with gzip.open(package / "moses" / "dataset" / "data" / f"{part}.csv.gz", "rt") as file:
        head, *lines = file.read().split()
    if not head.startswith("SMILES"):
        raise ValueError(f"{part}.csv.gz begins with '{head[:40]}', not with a column SMILES")
    return [line.partition(",")[0] for line in lines]


def read_molecules(folder: Path) -> MoleculeData:
    parts = load_file(folder / _FILE)
    found = [Molecules(parts[f"{name}.tokens"], _starts(parts[f"{name}.lengths"])) for name in PARTS]
    return MoleculeData(Tokenizer.from_file(str(folder / TOKENIZER)), *found)


def _tokens_of(smiles: Sequence[str], ids: dict[str, int]) -> dict[str, Tensor]:
    flat = bytearray()
    lengths: list[int] = []
    for each in smiles:
        try:
            document = bytes([BOS, *(ids[token] for token in cut(each)), EOS])
        except KeyError:
            continue
        flat += document
        lengths.append(len(document))
    tokens = torch.frombuffer(flat, dtype=torch.int8).clone()
    return {"tokens": tokens, "lengths": torch.tensor(lengths, dtype=torch.uint8)}


def _starts(lengths: Tensor) -> Tensor:
    return torch.cat([lengths.new_zeros(1, dtype=torch.int64), lengths.cumsum(0)])
