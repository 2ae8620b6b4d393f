"""SMILES are cut where chemistry cuts them, and a token that a model does not know is refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.families.recurrent.language import read_vocabulary
from services.families.recurrent.molecules.smiles import BOS, EOS, SmilesReader, cut
from shared.errors import InvalidRequest
from tests.unit.recurrent.molecules.tiny import TOKENS


@pytest.mark.parametrize(
    ("smiles", "tokens"),
    [
        ("ClC(Br)=O", ["Cl", "C", "(", "Br", ")", "=", "O"]),
        ("c1cc[nH]c1", ["c", "1", "c", "c", "[nH]", "c", "1"]),
        ("C%12C[C@@H]", ["C", "%12", "C", "[C@@H]"]),
        ("C[nH", ["C", "[", "n", "H"]),
        ("B r\nC\u2603", ["B", " ", "r", "\n", "C", "\u2603"]),
        ("", []),
    ],
)
def test_a_string_is_cut_into_atoms_bonds_and_rings(smiles: str, tokens: list[str]) -> None:
    assert cut(smiles) == tokens
    assert "".join(cut(smiles)) == smiles


def test_the_vocabulary_reads_what_the_tokenizer_wrote(folder: Path) -> None:
    vocabulary = read_vocabulary(folder)
    assert vocabulary.special_ids == {BOS, EOS}
    assert vocabulary.byte_level, "text must be the join of the tokens"
    ids = vocabulary.encode("ClC(=O)c1[nH]1")
    assert vocabulary.decode([BOS, *ids, EOS]) == "ClC(=O)c1[nH]1"
    reader = SmilesReader(vocabulary)
    assert reader.tokens == list(TOKENS)
    assert reader.read("ClC(=O)c1[nH]1", "scaffold") == ids


@pytest.mark.parametrize(
    ("smiles", "token", "at"),
    [
        ("CCF", "F", 2),
        ("C[C@H]O", "[C@H]", 1),
        ("CC C", " ", 2),
        ("<bos>C", "<", 0),
        ("C[nH", "[", 1),
        ("CBr", "Br", 1),
    ],
)
def test_an_unknown_token_is_refused_with_its_place_and_what_is_known(
    folder: Path, smiles: str, token: str, at: int
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        SmilesReader(read_vocabulary(folder)).read(smiles, "scaffold")
    assert (caught.value.param, caught.value.code) == ("scaffold", "unknown_token")
    assert f"'{token}', at character {at} of 'scaffold'" in caught.value.message
    assert "C ( ) 1 O = [nH] Cl c." in caught.value.message
