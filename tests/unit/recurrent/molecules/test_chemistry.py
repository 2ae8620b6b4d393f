"""What RDKit says of a string: known values, and nothing but None for what is no molecule."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from services.families.recurrent import family
from services.families.recurrent.molecules import chemistry

TOKENS = ("c", "C", "(", ")", "1", "O", "2", "N", "=", "n", "S", "s", "o", "Cl", "[nH]", "#", "Br", "[H]", "-", "F")


def test_aspirin_has_the_properties_of_the_literature() -> None:
    aspirin = chemistry.read_molecule("CC(=O)Oc1ccccc1C(=O)O")
    assert aspirin is not None
    known = chemistry.properties(aspirin)
    assert known.formula == "C9H8O4"
    assert known.weight == pytest.approx(180.16, abs=0.01)
    assert known.logp == pytest.approx(1.31, abs=0.01)
    assert known.qed == pytest.approx(0.55, abs=0.01)


def test_one_molecule_has_one_canonical_smiles() -> None:
    written = set()
    for smiles in ("OCC", "C(O)C", "CCO", "[H]OCC"):
        molecule = chemistry.read_molecule(smiles)
        assert molecule is not None
        written.add(chemistry.canonical(molecule))
    assert written == {"CCO"}


@pytest.mark.parametrize(
    "smiles", ["", "C(", "c1ccccc", "C1CC", "c1cccc1", "C(C)(C)(C)(C)C", "F=F", "(" * 100, "\x00", "é"]
)
def test_what_is_no_molecule_is_none(smiles: str) -> None:
    assert chemistry.read_molecule(smiles) is None


def test_no_string_of_tokens_raises_or_takes_long() -> None:
    draws = np.random.default_rng(0)
    read = 0
    for i in range(600):
        length = draws.integers(1, 100 if i % 3 == 0 else 8)
        molecule = chemistry.read_molecule("".join(draws.choice(TOKENS, length)))
        if molecule is not None:
            read += 1
            assert 0 < chemistry.properties(molecule).qed < 1
            assert chemistry.canonical(molecule)
            assert chemistry.picture(molecule)
    assert read > 10


def test_a_picture_is_xml_of_its_size() -> None:
    molecule = chemistry.read_molecule("c1ccccc1Cl")
    assert molecule is not None
    drawn = ElementTree.fromstring(chemistry.picture(molecule))
    assert drawn.tag == "{http://www.w3.org/2000/svg}svg"
    assert drawn.attrib["width"] == "300px"
    assert len(drawn.findall("{http://www.w3.org/2000/svg}path")) >= 6


def test_a_bad_string_writes_nothing_to_stderr() -> None:
    program = (
        "from services.families.recurrent.molecules import chemistry;"
        "chemistry.silence();"
        "print(chemistry.read_molecule('c1ccc(C'), chemistry.read_molecule('C(C)(C)(C)(C)C'))"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert (found.stdout, found.stderr) == ("None None\n", "")


def test_other_kinds_of_the_family_do_not_pay_for_rdkit() -> None:
    source = ast.parse(Path(family.__file__).read_text())
    imported = [node.module or "" for node in source.body if isinstance(node, ast.ImportFrom)]
    assert not [name for name in imported if "molecules" in name]
