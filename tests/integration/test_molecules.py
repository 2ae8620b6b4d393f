"""The built-in model of molecules, asked over HTTP: SMILES, attempts, scaffolds, tables, pictures, scores, refusals."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree

import httpx
import numpy as np
import pytest
from rdkit import Chem, RDLogger
from rdkit.Chem import Descriptors

from shared.schemas.molecules import COLUMNS
from tests.integration.conftest import BUILTIN, LocalFleet

(MODEL,) = [model.id for service in BUILTIN for model in service.models if "molecule" in model.does]
PATH = "/v1/molecules/generations"
SCAFFOLDS = ("CN1CCN(", "O=C(Nc1ccc(", "c1ccc2c(")


@pytest.fixture(scope="module")
def http(local_fleet: LocalFleet) -> Iterator[httpx.Client]:
    RDLogger.DisableLog("rdApp.*")
    with local_fleet.http() as client:
        client.timeout = httpx.Timeout(120)  # the first request wakes the model
        yield client


def molecules(client: httpx.Client, **body: Any) -> list[dict[str, Any]]:
    answer = client.post(PATH, json={"model": MODEL, **body})
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]


def refusal(client: httpx.Client, **body: Any) -> dict[str, Any]:
    answer = client.post(PATH, json={"model": MODEL, **body})
    assert answer.status_code == 400, answer.text
    return answer.json()["error"]


def test_most_are_molecules_and_different_and_what_is_told_of_them_is_true(http: httpx.Client) -> None:
    found = molecules(http, n=200, seed=1)
    valid = [each for each in found if each["valid"]]
    assert len(valid) >= 0.85 * len(found)
    assert len({each["canonical"] for each in valid}) >= 0.95 * len(valid)
    for each in found:
        read = Chem.MolFromSmiles(each["smiles"])
        assert (read is not None) == each["valid"]
        if read is not None:
            assert each["canonical"] == Chem.MolToSmiles(read)
            assert each["weight"] == pytest.approx(Descriptors.MolWt(read), abs=0.01)
            assert 0 < each["qed"] < 1
    weights = [each["weight"] for each in valid]
    assert 250 < np.median(weights) < 350, "as those that the model has learnt"


def test_valid_only_are_all_molecules_and_some_took_more_than_one_attempt(http: httpx.Client) -> None:
    found = molecules(http, n=200, seed=1, temperature=1.2, valid_only=True, attempts=32, properties=False)
    assert all(each["valid"] for each in found)
    assert max(each["attempts"] for each in found) > 1
    assert {each["qed"] for each in found} == {None}


@pytest.mark.parametrize("scaffold", SCAFFOLDS)
def test_a_scaffold_is_honoured_and_finished(http: httpx.Client, scaffold: str) -> None:
    found = molecules(http, n=40, seed=2, scaffold=scaffold)
    assert all(each["smiles"].startswith(scaffold) for each in found)
    assert sum(each["valid"] for each in found) >= 24
    assert len({each["smiles"] for each in found}) > 20


def test_a_seed_draws_a_molecule_again(http: httpx.Client) -> None:
    whole = molecules(http, n=8, seed=5)
    assert molecules(http, n=8, seed=5) == whole
    (alone,) = molecules(http, seed=whole[6]["seed"])
    assert alone == whole[6] | {"index": 0}


def test_a_table_opens_as_csv(http: httpx.Client) -> None:
    answer = http.post(PATH, json={"model": MODEL, "n": 20, "seed": 5, "format": "csv"})
    assert answer.headers["content-type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(answer.text, newline="")))
    assert tuple(rows[0]) == COLUMNS
    assert [row["smiles"] for row in rows] == [each["smiles"] for each in molecules(http, n=20, seed=5)]


def test_a_drawing_is_xml(http: httpx.Client) -> None:
    for each in molecules(http, n=4, seed=5, drawings=True, valid_only=True):
        assert ElementTree.fromstring(each["svg"]).tag == "{http://www.w3.org/2000/svg}svg"


def test_lines_stream_as_molecules_are_done(http: httpx.Client) -> None:
    body = {"model": MODEL, "n": 50, "seed": 5, "stream": True}
    with http.stream("POST", PATH, json=body) as answer:
        *lines, end = [json.loads(line) for line in answer.iter_lines()]
    assert sorted(lines, key=lambda each: each["index"]) == molecules(http, n=50, seed=5)
    assert end["object"] == "list.end"
    assert end["usage"]["units"] > 50 * 10


def test_drawn_molecules_are_likelier_than_the_same_tokens_shuffled(http: httpx.Client) -> None:
    drawn = [each["smiles"] for each in molecules(http, n=20, seed=5, valid_only=True) if "[" not in each["smiles"]]
    draws = np.random.default_rng(0)
    shuffled = ["".join(draws.permutation(list(each.replace("Cl", "F").replace("Br", "F")))) for each in drawn]
    answer = http.post("/v1/scores", json={"model": MODEL, "input": [*drawn, *shuffled]})
    assert answer.status_code == 200, answer.text
    bits = np.array([score["bits_per_token"] for score in answer.json()["data"]])
    ours, theirs = bits[: len(drawn)], bits[len(drawn) :]
    assert ours.max() < theirs.min()
    assert ours.mean() < 1.5


def test_what_the_model_does_not_know_is_refused_by_name(http: httpx.Client) -> None:
    error = refusal(http, scaffold="CC[Si](C)")
    assert (error["param"], error["code"]) == ("scaffold", "unknown_token")
    assert "'[Si]', at character 2" in error["message"]
    assert "[nH]" in error["message"]
    assert refusal(http, scaffold="C" * 200)["code"] == "context_length_exceeded"
    assert refusal(http, n=501, drawings=True)["param"] == "n"
    assert refusal(http, attempts=3)["param"] == "attempts"
