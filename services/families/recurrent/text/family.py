"""Owns the way from a folder of weights to a loaded model of text, and what clients may ask of it."""

from __future__ import annotations

from pathlib import Path

from services.families import LoadedModel
from services.families.recurrent.language import load_language
from services.nn.text.grammar import make_grammars
from services.nn.text.tasks import CompletionTask, DetokenizeTask, Generation, TokenizeTask
from shared.config.recurrent import RecurrentTextModel


def load_text_model(config: RecurrentTextModel, folder: Path) -> LoadedModel:
    """Raises UnsupportedModel, DeviceFailure, as `load_language`."""
    language = load_language(config, folder)
    vocabulary, limits, end = language.vocabulary, language.limits, language.shape.eos
    grammars = make_grammars(vocabulary, limits.vocabulary, frozenset(() if end is None else (end,)))
    generation = Generation(vocabulary, limits, config.sampling, grammars)
    return LoadedModel(
        sampler=language.sampler,
        tasks={
            "completion": CompletionTask(generation),
            "tokenize": TokenizeTask(vocabulary, limits, None, config.id),
            "detokenize": DetokenizeTask(vocabulary, limits),
        },
        memory=language.memory,
        limits={"context_length": limits.context, "max_batch_size": config.max_batch_size},
        revision=config.revision,
        counts=generation.counts,
    )
