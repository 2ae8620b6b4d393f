"""Measures of drawn molecules are what their definitions give, and MOSES's statistics are read as data alone."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from rdkit import DataStructs
from rdkit.Chem import Mol, rdFingerprintGenerator

from services.families.recurrent.molecules import baselines, chemistry, measures
from services.families.recurrent.molecules.measures import Drawn
from services.families.recurrent.molecules.reference import PROPERTIES, read_reference, write_reference
from services.training.distances import frechet_distance

SMILES = ("CC(=O)Oc1ccccc1C(=O)O", "CCO", "c1ccc2ccccc2c1", "CN1CCN(Cc2ccccc2)CC1", "OCC", "C1CC1")


def molecules(*smiles: str) -> list[Mol]:
    found = [molecule for molecule in map(chemistry.read_molecule, smiles) if molecule is not None]
    assert len(found) == len(smiles)
    return found


def test_shares_are_of_what_they_say() -> None:
    drawn = Drawn.of(["CCO", "OCC", "C(", "CCC", "c1cccc1", "CCCC", "CCC"])
    assert drawn.validity == pytest.approx(5 / 7)
    assert drawn.unique(2) == 0.5, "CCO and OCC are one molecule"
    assert drawn.unique(1000) == pytest.approx(3 / 5)
    assert drawn.novelty({"CCO", "CCCCC"}) == pytest.approx(2 / 3)
    nothing = Drawn.of(["C("])
    assert (nothing.validity, nothing.unique(10), nothing.novelty(set())) == (0, 0, 0)


def test_similarities_are_those_of_rdkit() -> None:
    ours, theirs = molecules(*SMILES[:4]), molecules(*SMILES[1:])
    generator = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=1024)
    table = np.array(
        [
            [
                DataStructs.TanimotoSimilarity(generator.GetFingerprint(a), generator.GetFingerprint(b))
                for b in (*ours, *theirs)
            ]
            for a in ours
        ]
    )
    bits = measures.fingerprints(ours)
    assert measures.nearest_similarity(bits, measures.fingerprints(theirs)) == pytest.approx(table[:, 4:].max(1).mean())
    assert measures.internal_diversity(bits) == pytest.approx(1 - table[:, :4].mean())


def test_many_molecules_are_compared_piece_by_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    bits = measures.fingerprints(molecules(*SMILES))
    whole = measures.internal_diversity(bits), measures.nearest_similarity(bits[:2], bits[2:])
    monkeypatch.setattr(measures, "_CHUNK", 2)
    assert (measures.internal_diversity(bits), measures.nearest_similarity(bits[:2], bits[2:])) == pytest.approx(whole)


def test_fragments_and_scaffolds_are_counted() -> None:
    found = molecules("CN1CCN(Cc2ccccc2)CC1", "CCN1CCN(Cc2ccccc2)CC1", "CCO", "C1CC1")
    assert measures.scaffolds(found) == Counter({"c1ccc(CN2CCNCC2)cc1": 2}), "one ring is no scaffold"
    assert measures.fragments(found)["[16*]c1ccccc1"] == 2


def test_tables_of_counts_are_compared_by_their_angle() -> None:
    table = Counter({"a": 3, "b": 4})
    assert measures.cosine(table, Counter({"a": 6, "b": 8})) == pytest.approx(1)
    assert measures.cosine(table, Counter({"a": 1})) == pytest.approx(0.6)
    assert measures.cosine(table, Counter({"c": 1})) == 0
    assert measures.cosine(table, Counter()) == 0


def test_the_distance_of_two_sets_of_numbers_is_what_moves_one_to_the_other() -> None:
    assert measures.wasserstein(np.array([0.0, 1.0]), np.array([3.0, 2.0])) == pytest.approx(2)
    assert measures.wasserstein(np.array([0.0, 1.0, 2.0, 3.0]), np.array([0.0, 3.0])) == pytest.approx(0.5)


@pytest.mark.filterwarnings("ignore:.*row_stack:DeprecationWarning")
def test_a_set_is_nearer_to_itself_in_chemnets_features_than_to_another() -> None:
    drugs, chains = SMILES[:4], ["C" * n for n in range(1, 5)]
    ours, same, other = (measures.chemnet_statistics(each) for each in (drugs, drugs, chains))
    assert ours.mean.shape == (512,)
    assert frechet_distance(ours, same) < 1e-3 < 1 < frechet_distance(ours, other)


def test_the_table_of_moses_has_every_figure_of_every_model() -> None:
    *_, last = baselines.notes()
    assert last.startswith("VAE: valid 0.9767, unique_at_1k 1, ")
    assert baselines.CHAR_RNN["novelty"] == 0.8419


def write_statistics(folder: Path, content: object) -> Path:
    """As the package has them: a pickled dictionary in an array of no dimensions."""
    inside = folder / "moses" / "dataset" / "data"
    inside.mkdir(parents=True)
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "|O", "fortran_order": False, "shape": ()})
    array = np.empty((), object)
    array[()] = content
    # The package's arrays are of a NumPy whose module had another name.
    buffer.write(pickle.dumps(array, protocol=2).replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    with zipfile.ZipFile(inside / "test_stats.npz", "w") as archive:
        archive.writestr("stats.npy", buffer.getvalue())
    return folder


def test_statistics_come_back_as_they_were(tmp_path: Path) -> None:
    bits = measures.fingerprints(molecules(*SMILES))
    values = {name: {"values": [1.5, float(i)]} for i, name in enumerate(PROPERTIES)}
    chemnet = {"mu": np.arange(3, dtype=np.float32), "sigma": np.eye(3)}
    counts = {"Frag": {"frag": Counter({"CC": 2})}, "Scaf": {"scaf": Counter({"c1ccccc1": 3})}}
    package = write_statistics(tmp_path / "package", {"SNN": {"fps": bits}, "FCD": chemnet, **values, **counts})
    write_reference(package, tmp_path)
    read = read_reference(tmp_path)
    np.testing.assert_array_equal(read.fingerprints, bits)
    assert (read.fragments, read.scaffolds) == (Counter({"CC": 2}), Counter({"c1ccccc1": 3}))
    assert read.values["weight"].tolist() == [1.5, 3.0]
    assert read.chemnet.mean.tolist() == [0, 1, 2]
    assert read.chemnet.covariance.trace() == 3


def test_statistics_that_name_anything_else_are_not_read(tmp_path: Path) -> None:
    package = write_statistics(tmp_path / "package", {"SNN": Path})
    with pytest.raises(pickle.UnpicklingError, match=r"pathlib.* is neither an array nor a counter"):
        write_reference(package, tmp_path)
