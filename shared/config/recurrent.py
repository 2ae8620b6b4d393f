"""Owns the configuration of the recurrent family."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ByteSize, Field

from shared.config.base import ModelConfig, ServiceConfig
from shared.config.text import USUAL_CONTEXT, SamplingDefaults, text_bound
from shared.schemas.forecasts import ForecastRequest
from shared.schemas.molecules import MoleculeGenerationRequest
from shared.schemas.music import MusicGenerationRequest
from shared.schemas.scores import ScoreRequest

SCORED_TOKENS = 3  # of a molecule beside its own: where it begins and ends, and one that follows
TUNE_TERMS = 5  # lexemes of a tune beside its bars': genre, metre, mode, tonic, and the end
BAR_LEXEMES = 37  # of a bar at most: 18 sixteenths with their lengths, and the bar line
USUAL_HORIZON = 168  # values that a forecast tells at most, until the model's own limits are known


class RecurrentLanguageModel(ModelConfig):
    """What recurrent nets that make tokens share, whatever tokens mean. `state_memory` bounds running rows' states."""

    context_length: int = Field(
        default=USUAL_CONTEXT, ge=16, description="the most tokens of prompt and answer: the net itself has no limit"
    )
    prefill_tokens: int = Field(
        default=512, ge=1, description="the most prompt tokens that one step reads, of all rows"
    )
    state_memory: ByteSize = Field(default=ByteSize(64 * 2**20), gt=0)


class RecurrentTextModel(RecurrentLanguageModel):
    """A recurrent language model."""

    TASKS: ClassVar = ("completion", "tokenize", "detokenize")
    MODALITIES: ClassVar = ("text",)

    kind: Literal["text"]
    sampling: SamplingDefaults = SamplingDefaults()

    def cost_bound(self, body: BaseModel, limits: Mapping[str, float]) -> float:
        """As `text_bound`."""
        return text_bound(body, limits.get("context_length", self.context_length))


class RecurrentForecastModel(ModelConfig):
    """A forecaster of regular series. `path_memory` bounds what the paths of running forecasts keep."""

    TASKS: ClassVar = ("forecast",)
    MODALITIES: ClassVar = ("series",)

    kind: Literal["forecast"]
    samples: int = Field(default=100, ge=1, le=1000, description="paths of a forecast, where a request says nothing")
    path_memory: ByteSize = Field(default=ByteSize(16 * 2**20), gt=0)

    def cost_bound(self, body: BaseModel, limits: Mapping[str, float]) -> float:
        """A value that is read, or told of one path, is the unit; of `times` it is the farthest that may be asked."""
        if not isinstance(body, ForecastRequest):
            return 1.0
        samples = self.samples if body.samples is None else body.samples
        ahead = body.horizon if body.horizon is not None else limits.get("max_horizon", USUAL_HORIZON)
        return float(sum(len(series.values) + samples * ahead for series in body.series))


class RecurrentMoleculeModel(RecurrentLanguageModel):
    """Draws molecules as SMILES, and says how likely given ones are."""

    TASKS: ClassVar = ("molecule", "score")
    MODALITIES: ClassVar = ("molecule",)

    kind: Literal["molecule"]
    context_length: int = Field(default=128, ge=16, description="the most tokens of a molecule: one as long is cut")
    max_batch_size: int = Field(default=128, ge=1, le=1024)
    state_memory: ByteSize = Field(default=ByteSize(16 * 2**20), gt=0)
    sampling: SamplingDefaults = SamplingDefaults(temperature=0.9)

    def cost_bound(self, body: BaseModel, limits: Mapping[str, float]) -> float:
        """A token is the unit; a molecule may take all its attempts, each as long as can be."""
        longest = limits.get("context_length", self.context_length)
        if isinstance(body, MoleculeGenerationRequest):
            return body.rows * body.most_attempts * longest
        if isinstance(body, ScoreRequest):
            return float(sum(min(longest, SCORED_TOKENS + len(str(item))) for item in body.items))
        return 1.0


class RecurrentMusicModel(RecurrentLanguageModel):
    """Draws tunes. `soundfont` is a file of the operator's own, that the program fluidsynth plays; without one a small
    synthesizer of plucked strings does."""

    TASKS: ClassVar = ("music",)
    MODALITIES: ClassVar = ("music",)

    kind: Literal["music"]
    max_batch_size: int = Field(default=32, ge=1, le=1024)
    state_memory: ByteSize = Field(default=ByteSize(8 * 2**20), gt=0)
    temperature: float = Field(default=0.7, gt=0, le=2, description="of a request that leaves it out")
    top_p: float = Field(default=1.0, gt=0, le=1, description="of a request that leaves it out")
    soundfont: str | None = Field(default=None, min_length=1, description="an SF2 file; needs the program fluidsynth")

    def cost_bound(self, body: BaseModel, limits: Mapping[str, float]) -> float:
        """A lexeme is the unit; every note of a tune may be a sixteenth, with its length."""
        if not isinstance(body, MusicGenerationRequest):
            return 1.0
        return float(body.rows * (TUNE_TERMS + (body.bars + 1) * BAR_LEXEMES))


RecurrentModel = RecurrentTextModel | RecurrentForecastModel | RecurrentMoleculeModel | RecurrentMusicModel


class RecurrentService(ServiceConfig):
    family: Literal["recurrent"]
    models: tuple[Annotated[RecurrentModel, Field(discriminator="kind")], ...] = Field(min_length=1)
