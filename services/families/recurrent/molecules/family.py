"""Owns the way from a folder of weights to a loaded model of molecules, and what clients may ask of it."""

from __future__ import annotations

from pathlib import Path

from services.families import LoadedModel
from services.families.recurrent.language import load_language
from services.families.recurrent.molecules import chemistry
from services.families.recurrent.molecules.sampler import MoleculeSampler
from services.families.recurrent.molecules.smiles import BOS, EOS, SmilesReader
from services.families.recurrent.molecules.tasks import MoleculeTask, ScoreTask
from services.nn.errors import UnsupportedModel
from shared.config.recurrent import RecurrentMoleculeModel

_RDKIT = 64 * 2**20  # bytes: what the library takes of a process


def load_molecule_model(config: RecurrentMoleculeModel, folder: Path) -> LoadedModel:
    """Raises UnsupportedModel, DeviceFailure, as `load_language`."""
    chemistry.silence()
    language = load_language(config, folder)
    if (language.shape.bos, language.shape.eos) != (BOS, EOS):
        raise UnsupportedModel(config.id, f"its documents do not begin with token {BOS} and end with {EOS}")
    reader, context = SmilesReader(language.vocabulary), language.limits.context
    return LoadedModel(
        sampler=MoleculeSampler(language.sampler, lambda smiles: chemistry.read_molecule(smiles) is not None),
        tasks={
            "molecule": MoleculeTask(reader, context, config.sampling),
            "score": ScoreTask(reader, context, config.id),
        },
        memory=language.memory + _RDKIT,
        limits={"context_length": context, "max_batch_size": config.max_batch_size},
        revision=config.revision,
    )
