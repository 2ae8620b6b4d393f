"""What clients may ask of a model of molecules, and what they are told."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from services.engine.contract import Task
from services.families import LoadedModel
from services.families.recurrent.family import load
from services.families.recurrent.language import load_net
from services.families.recurrent.language_training import document_nats
from services.families.recurrent.molecules.params import MoleculeParams
from services.families.recurrent.molecules.smiles import BOS, EOS
from services.nn.errors import UnsupportedModel
from services.nn.text.params import SamplingOptions
from shared.config.recurrent import RecurrentMoleculeModel
from shared.errors import ContextTooLong, InvalidRequest
from shared.schemas.molecules import MoleculeGenerationRequest
from shared.schemas.scores import ScoreRequest
from tests.contract.driver import run_rows
from tests.unit.recurrent.molecules.tiny import CONTEXT, make_config, make_folder


def molecules(loaded: LoadedModel, **fields: Any) -> list[dict[str, Any]]:
    return answers(loaded, "molecule", MoleculeGenerationRequest(model="m", **fields))


def answers(loaded: LoadedModel, name: str, request: Any) -> list[dict[str, Any]]:
    task: Task[Any, Any, Any, Any] = loaded.tasks[name]
    rows = task.prepare(request)
    run = run_rows(loaded.sampler, rows)
    items: list[dict[str, Any]] = []
    for i in range(len(rows)):
        (chunk,) = run.chunks(i + 1)
        items.append(json.loads(task.encode(chunk).json))
    return items


def test_a_model_does_what_its_configuration_says(loaded: LoadedModel) -> None:
    assert tuple(loaded.tasks) == RecurrentMoleculeModel.TASKS
    assert loaded.limits == {"context_length": CONTEXT, "max_batch_size": 8}
    assert loaded.tasks["molecule"].encodes_slowly


def test_what_is_told_of_a_molecule_is_true_of_its_smiles(loaded: LoadedModel) -> None:
    found = molecules(loaded, n=40, seed=1)
    assert {each["valid"] for each in found} == {True, False}
    for each in found:
        known = [each[name] is not None for name in ("canonical", "qed", "logp", "weight", "formula")]
        assert set(known) == {each["valid"]}
        assert (each["attempts"], each["svg"]) == (1, None)
        if each["valid"]:
            assert 0 < each["qed"] < 1
            assert each["weight"] > 1
            assert len(each["smiles"]) <= CONTEXT


def test_a_seed_draws_a_molecule_again_alone(loaded: LoadedModel) -> None:
    whole = molecules(loaded, n=6, seed=3, valid_only=True)
    for each in whole:
        (again,) = molecules(loaded, n=1, seed=each["seed"], valid_only=True)
        assert again == each
    assert whole[0]["seed"] == 3


def test_valid_only_gives_valid_ones_and_says_how_often_it_drew(loaded: LoadedModel) -> None:
    any_ones = molecules(loaded, n=30, seed=1)
    only = molecules(loaded, n=30, seed=1, valid_only=True, attempts=64)
    assert all(each["valid"] for each in only)
    for first, kept in zip(any_ones, only, strict=True):
        assert (kept["attempts"] == 1) == first["valid"]
        assert not first["valid"] or kept == first


def test_attempts_end(loaded: LoadedModel) -> None:
    found = molecules(loaded, n=40, seed=1, valid_only=True, attempts=2)
    assert {each["attempts"] for each in found} == {1, 2}
    assert all(each["valid"] or each["attempts"] == 2 for each in found)
    assert not all(each["valid"] for each in found)


@pytest.mark.parametrize("scaffold", ["C1CC(", "c1c", "[nH]", "Cl", "CC(=O)OC"])
def test_every_molecule_begins_with_its_scaffold(loaded: LoadedModel, scaffold: str) -> None:
    found = molecules(loaded, n=5, seed=1, scaffold=scaffold)
    assert all(each["smiles"].startswith(scaffold) for each in found)
    assert len({each["smiles"] for each in found}) > 1


def test_drawings_come_where_they_are_asked_for_and_properties_stay_away(loaded: LoadedModel) -> None:
    found = molecules(loaded, n=5, seed=1, valid_only=True, attempts=64, drawings=True, properties=False)
    for each in found:
        assert each["svg"].rstrip().endswith("</svg>")
        assert [each[name] for name in ("qed", "logp", "weight", "formula")] == [None] * 4
        assert each["canonical"] is not None


def test_greedy_molecules_are_alike_and_settings_reach_the_rows(loaded: LoadedModel) -> None:
    assert len({each["smiles"] for each in molecules(loaded, n=3, temperature=0)}) == 1
    request = MoleculeGenerationRequest(model="m", temperature=0.5, top_k=3, top_p=0.9, min_p=0.1)
    (row,) = loaded.tasks["molecule"].prepare(request)
    assert isinstance(row, MoleculeParams)
    assert row.first.sampling == SamplingOptions(temperature=0.5, top_k=3, top_p=0.9, min_p=0.1)


def test_what_a_request_leaves_out_is_as_models_yaml_says(folder: Path) -> None:
    config = make_config(folder, sampling={"temperature": 0.7, "top_k": 5})
    (row,) = load(config, folder).tasks["molecule"].prepare(MoleculeGenerationRequest(model="m"))
    assert isinstance(row, MoleculeParams)
    assert row.first.sampling == SamplingOptions(temperature=0.7, top_k=5)


@pytest.mark.parametrize(("length", "fits"), [(CONTEXT - 2, True), (CONTEXT - 1, False)])
def test_a_scaffold_leaves_room_for_a_token(loaded: LoadedModel, length: int, fits: bool) -> None:
    request = MoleculeGenerationRequest(model="m", scaffold="C" * length)
    if fits:
        assert loaded.tasks["molecule"].prepare(request)
        return
    with pytest.raises(ContextTooLong) as caught:
        loaded.tasks["molecule"].prepare(request)
    assert caught.value.param == "scaffold"
    assert f"{CONTEXT - 2} tokens; got {CONTEXT - 1}" in caught.value.message


def test_a_score_is_the_exact_likelihood_of_the_whole_smiles(loaded: LoadedModel, folder: Path) -> None:
    smiles = ["C", "CC(=O)O", "c1[nH]1", "C(((", "ClCCl"]
    found = answers(loaded, "score", ScoreRequest(model="m", input=smiles))
    net = load_net(folder)
    reader = loaded.tasks["molecule"].reader  # type: ignore[attr-defined]
    for each, text in zip(found, smiles, strict=True):
        document = torch.tensor([BOS, *reader.read(text, "input"), EOS])
        nats = document_nats(net, [document]).item()
        assert each["value"] == pytest.approx(-nats, rel=1e-5)
        assert each["bits_per_token"] == pytest.approx(nats / math.log(2) / (len(document) - 1), rel=1e-5)
        assert (each["metric"], each["kind"], each["unit"]) == ("log_likelihood", "exact", "nats")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": ["C", "CN"]}, "input[1]"),
        ({"input": "C\x00"}, "input"),
        ({"input": [{"age": 1}]}, "input[0]"),
        ({"input": ["C" * (CONTEXT - 2)]}, "input[0]"),
        ({"input": "C", "metric": "elbo"}, "metric"),
        ({"input": "C", "samples": 4}, "samples"),
        ({"input": "C", "prompt": "drug"}, "prompt"),
    ],
)
def test_a_score_that_cannot_be_is_refused_by_name(loaded: LoadedModel, fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        loaded.tasks["score"].prepare(ScoreRequest(model="m", **fields))
    assert caught.value.param == param


@pytest.mark.parametrize(
    "body",
    [
        MoleculeGenerationRequest(model="m", n=7),
        MoleculeGenerationRequest(model="m", n=3, scaffold="C" * 20),
        MoleculeGenerationRequest(model="m", n=3, valid_only=True, attempts=4),
    ],
)
def test_no_molecules_cost_more_than_the_gateway_takes_for_them(
    loaded: LoadedModel, folder: Path, body: MoleculeGenerationRequest
) -> None:
    rows = loaded.tasks["molecule"].prepare(body)
    units = [run_rows(loaded.sampler, [row]).final(1).units for row in rows]
    bound = make_config(folder).cost_bound(body, loaded.limits)
    assert bound == body.n * body.most_attempts * CONTEXT
    assert sum(row.cost for row in rows) <= bound
    assert 0 < sum(units) <= bound


def test_no_score_costs_more_than_the_gateway_takes_for_it(loaded: LoadedModel, folder: Path) -> None:
    body = ScoreRequest(model="m", input=["C", "ClCCl", "CC(=O)O"])
    rows = loaded.tasks["score"].prepare(body)
    units = sum(run_rows(loaded.sampler, [row]).final(1).units for row in rows)
    assert units == sum(row.cost for row in rows) <= make_config(folder).cost_bound(body, loaded.limits)


def test_weights_whose_documents_have_no_ends_are_refused(tmp_path: Path) -> None:
    make_folder(tmp_path, eos=None)
    with pytest.raises(UnsupportedModel, match="do not begin with token 0"):
        load(make_config(tmp_path), tmp_path)
