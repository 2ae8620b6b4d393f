"""Owns what clients may ask of a model of molecules: new ones, and how likely given ones are. Never sees a net."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from services.families.recurrent.molecules import chemistry
from services.families.recurrent.molecules.params import MoleculeChunk, MoleculeParams, Wishes
from services.families.recurrent.molecules.smiles import BOS, EOS, SmilesReader
from services.nn.items import given_param, item_event
from services.nn.rng import image_seed
from services.nn.scoring import chosen_metric, refuse_samples
from services.nn.text.params import GenerateParams, SamplingOptions, TextChunk
from services.nn.text.tasks import LEAST_TEMPERATURE
from shared.config.text import SamplingDefaults
from shared.errors import ContextTooLong, InvalidRequest
from shared.events import Item
from shared.schemas.molecules import Molecule, MoleculeGenerationRequest
from shared.schemas.scores import Metric, Score, ScoreRequest

METRIC: Metric = "log_likelihood"
_DECIMALS = 4  # of properties: more than any of them is good for


@dataclass(frozen=True, slots=True)
class MoleculeTask:
    """`n` molecules, each a row. `context`: tokens of a molecule at most, BOS included; one as long is cut."""

    encodes_slowly: ClassVar[bool] = True  # RDKit's properties take milliseconds

    reader: SmilesReader
    context: int
    defaults: SamplingDefaults

    def prepare(self, request: MoleculeGenerationRequest, salt: str = "") -> list[MoleculeParams]:
        """Raises InvalidRequest for a scaffold with a token that the model does not know, ContextTooLong."""
        prompt = (BOS, *self.reader.read(request.scaffold, "scaffold"))
        if len(prompt) >= self.context:
            raise ContextTooLong(limit=self.context - 2, got=len(prompt) - 1, param="scaffold")
        options, wishes = self._options(request), Wishes(request.properties, request.drawings)
        return [
            MoleculeParams(
                first=GenerateParams(
                    task="molecule",
                    prompt=prompt,
                    max_new_tokens=self.context - len(prompt),
                    seed=image_seed(request.seed, i),
                    sampling=options,
                    salt=salt,
                    whole=True,
                ),
                scaffold=request.scaffold,
                attempts=request.most_attempts,
                wishes=wishes,
            )
            for i in range(request.n)
        ]

    def encode(self, chunk: MoleculeChunk) -> Item:
        params = chunk.params
        found = chemistry.read_molecule(chunk.smiles)
        known = None if found is None or not params.wishes.properties else chemistry.properties(found)
        shown = Molecule(
            index=0,
            smiles=chunk.smiles,
            canonical=None if found is None else chemistry.canonical(found),
            valid=found is not None,
            qed=None if known is None else round(known.qed, _DECIMALS),
            logp=None if known is None else round(known.logp, _DECIMALS),
            weight=None if known is None else round(known.weight, _DECIMALS),
            formula=None if known is None else known.formula,
            svg=None if found is None or not params.wishes.drawing else chemistry.picture(found),
            attempts=chunk.attempts,
            seed=params.first.seed,
        )
        return item_event(shown, tokens=0)

    def _options(self, request: MoleculeGenerationRequest) -> SamplingOptions:
        defaults = self.defaults
        temperature = defaults.temperature if request.temperature is None else request.temperature
        return SamplingOptions(
            temperature=temperature if temperature >= LEAST_TEMPERATURE else 0.0,
            top_k=defaults.top_k if request.top_k is None else request.top_k,
            top_p=defaults.top_p if request.top_p is None else request.top_p,
            min_p=defaults.min_p if request.min_p is None else request.min_p,
        )


@dataclass(frozen=True, slots=True)
class ScoreTask:
    """Exact log-likelihoods of given SMILES, their ends included. A SMILES need not be a molecule.

    A row reads BOS, the SMILES and EOS as a prompt whose log-probabilities are asked for; the one token that follows
    means nothing.
    """

    encodes_slowly: ClassVar[bool] = False

    reader: SmilesReader
    context: int
    model: str

    def prepare(self, request: ScoreRequest, salt: str = "") -> list[GenerateParams]:
        metric = chosen_metric(request, (METRIC,), self.model)
        refuse_samples(request, metric, self.model)
        if request.prompt:
            raise InvalidRequest(f"Model '{self.model}' has no classes.", param="prompt", code="unsupported_parameter")
        return [self._row(given_param(request, i), item, salt) for i, item in enumerate(request.items)]

    def encode(self, chunk: TextChunk) -> Item:
        """By the prompt's own log-probabilities: of its first token there is none, and what follows is not of it."""
        told = [each.logprob for each in (chunk.logprobs or ())[1 : chunk.prompt_tokens]]
        nats = math.fsum(told)
        bits = -nats / math.log(2) / len(told)
        score = Score(index=0, metric=METRIC, kind="exact", value=nats, bits_per_token=bits)
        return item_event(score, tokens=len(told))

    def _row(self, param: str, item: object, salt: str) -> GenerateParams:
        if not isinstance(item, str):
            raise InvalidRequest(f"'{param}' must be a SMILES; got an object.", param=param)
        prompt = (BOS, *self.reader.read(item, param), EOS)
        if len(prompt) >= self.context:
            raise ContextTooLong(limit=self.context - 3, got=len(prompt) - 2, param=param)
        return GenerateParams(
            task="score",
            prompt=prompt,
            max_new_tokens=1,
            seed=0,
            sampling=SamplingOptions(temperature=0),
            logprobs=0,
            echo="",
            salt=salt,
        )
