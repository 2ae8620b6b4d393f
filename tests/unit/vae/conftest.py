"""Tiny autoencoders with random weights, as folders that the family loads."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from services.families import LoadedModel
from services.families.vae.family import load
from services.families.vae.image_bulk import load_vae, scores
from services.families.vae.record_bulk import load_record_vae, score_records
from services.nn.percentiles import write_known
from services.nn.weights import save_model
from services.training.record_data import RecordSplit
from tests.one_thread import one_thread
from tests.record_tables import make_split
from tests.unit.vae.tiny import make_folder, make_picture, make_record_vae, record_config, tiny_config

__all__ = ["one_thread"]  # a fixture is in force where it can be seen


@pytest.fixture(scope="package")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With known scores of ten pictures of noise, in both parts alike."""
    folder = make_folder(tmp_path_factory.mktemp("vae"))
    known = scores(load_vae(folder), torch.stack([make_picture(seed) for seed in range(10)]))
    write_known(folder, {"elbo": (known, known)})
    return folder


@pytest.fixture(scope="package")
def loaded(folder: Path) -> LoadedModel:
    return load(tiny_config(folder), folder)


@pytest.fixture(scope="package")
def records(tmp_path_factory: pytest.TempPathFactory) -> RecordSplit:
    return make_split(tmp_path_factory.mktemp("records"))


@pytest.fixture(scope="package")
def record_folder(tmp_path_factory: pytest.TempPathFactory, records: RecordSplit) -> Path:
    folder = tmp_path_factory.mktemp("record-vae")
    vae = make_record_vae(records.table)
    save_model(vae, vae.config, folder)
    known = score_records(load_record_vae(folder), records.held_out)
    write_known(folder, {"elbo": (known, known)})
    return folder


@pytest.fixture(scope="package")
def record_loaded(record_folder: Path) -> LoadedModel:
    return load(record_config(record_folder), record_folder)
