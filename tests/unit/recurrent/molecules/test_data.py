"""From the package's files to tokens and back."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from services.families.recurrent.corpora import NOTHING
from services.families.recurrent.molecules.data import (
    ALIKE,
    MoleculeData,
    Molecules,
    read_molecules,
    spread_places,
    write_molecules,
)
from services.families.recurrent.molecules.smiles import BOS, EOS
from tests.unit.recurrent.molecules.tiny import SCAFFOLDS, TEST, TRAIN, make_package


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> MoleculeData:
    folder = tmp_path_factory.mktemp("data")
    write_molecules(make_package(tmp_path_factory.mktemp("package")), folder)
    return read_molecules(folder)


def test_every_part_comes_back_as_it_was(data: MoleculeData) -> None:
    assert data.texts(data.train) == list(TRAIN)
    assert data.texts(data.train, 4) == list(TRAIN[::2]), "from all over the part"
    assert data.texts(data.test_scaffolds) == list(SCAFFOLDS)


def test_a_molecule_of_unknown_tokens_is_left_out(data: MoleculeData) -> None:
    assert data.texts(data.test) == [TEST[0], TEST[2]]


def test_every_document_begins_and_ends(data: MoleculeData) -> None:
    for document in data.train.spread(100):
        assert document.dtype == torch.int8
        assert (document[0], document[-1]) == (BOS, EOS)
        assert not {BOS, EOS} & set(document[1:-1].tolist())


def test_the_likeliest_token_is_the_first(data: MoleculeData) -> None:
    assert data.tokenizer.id_to_token(2) == "C"
    assert data.tokenizer.get_vocab_size() == 2 + len({"C", "O", "c", "1", "(", ")", "=", "Cl", "[nH]"})


@pytest.mark.parametrize(("size", "count"), [(10, 3), (10, 9), (10, 10), (3, 10), (176_074, 10_000)])
def test_places_are_spread_evenly(size: int, count: int) -> None:
    places = spread_places(size, count)
    assert len(places) == len(set(places)) == min(size, count)
    gaps = [b - a for a, b in pairwise([*places, size])]
    assert max(gaps) - min(gaps) <= 1
    assert places[0] == 0


def test_an_example_is_molecules_of_like_length() -> None:
    lengths = torch.randint(5, 60, (16 * ALIKE + 3,), generator=torch.Generator().manual_seed(0))
    tokens = torch.cat([torch.full((int(length),), i % 100, dtype=torch.int8) for i, length in enumerate(lengths)])
    corpus = Molecules(tokens, torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])).alike
    assert corpus.examples == 16
    batch = corpus.batch(torch.tensor([5]), torch.Generator())
    assert len(batch) == ALIKE
    filled = (batch != NOTHING).sum(1)
    assert filled.max() - filled.min() <= 6
    seen = torch.cat([corpus.batch(torch.arange(8 * half, 8 * half + 8), torch.Generator())[:, 0] for half in (0, 1)])
    assert len(seen) == 16 * ALIKE, "every example is there"
