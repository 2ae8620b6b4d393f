"""A model that costs nothing, through the plug-in path: what is left of a request's time is the way to it and back.

An embedding is the same vector after one step. Speech is the same few bytes a step, one step for each letter of the
input: as a text is, it is one row whose answer grows step by step.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from safetensors.numpy import save_file

from services.engine.contract import FinishReason, StepOutput
from services.sources.manifest import write_manifest
from shared.config.plugin import PluginModel
from shared.events import AudioDelta, Item
from shared.schemas.audio import SpeechRequest
from shared.schemas.embeddings import EmbeddingRequest

SAMPLER = f"{__name__}:InstantSampler"
TASKS = ("embedding", "speech")
MOST_STEPS = 64
PIECE = b"\x01\x02\x03"  # of speech, a step; four letters in base64
SAMPLE_RATE = 24_000
VECTOR = b'{"object":"embedding","embedding":[0.25,0.5]}'


@dataclass(frozen=True, slots=True)
class InstantParams:
    task: str
    steps: int

    @property
    def cost(self) -> float:
        return float(self.steps)


@dataclass(slots=True, eq=False)
class InstantState:
    params: InstantParams
    done: int = 0


class InstantEmbedding:
    encodes_slowly: ClassVar[bool] = False

    def prepare(self, request: EmbeddingRequest, salt: str = "") -> list[InstantParams]:
        return [InstantParams("embedding", 1)] * request.rows

    def encode(self, chunk: bytes) -> Item:
        return Item(VECTOR, 1)


class InstantSpeech:
    encodes_slowly: ClassVar[bool] = False

    def prepare(self, request: SpeechRequest, salt: str = "") -> list[InstantParams]:
        return [InstantParams("speech", len(request.input))]

    def encode(self, chunk: bytes) -> AudioDelta:
        return AudioDelta(chunk, "pcm", SAMPLE_RATE, seconds=0.0, seed=0, prompt_tokens=1)


class InstantSampler:
    def __init__(self, config: PluginModel, folder: Path) -> None:
        self._max_batch_size = config.max_batch_size
        self.tasks: Mapping[str, Any] = {"embedding": InstantEmbedding(), "speech": InstantSpeech()}
        self.memory = 2**20
        self.limits: Mapping[str, float] = {}

    @property
    def max_batch_size(self) -> int:
        return self._max_batch_size

    def batch_key(self, params: InstantParams) -> Hashable:
        return None

    def fits(self, params: InstantParams, states: Sequence[InstantState]) -> bool:
        return len(states) < self._max_batch_size

    def start(self, params: InstantParams) -> InstantState:
        return InstantState(params)

    def step(self, states: Sequence[InstantState]) -> list[StepOutput[bytes]]:
        for state in states:
            state.done += 1
        return [
            StepOutput(PIECE, FinishReason.STOP if state.done >= state.params.steps else None, 1.0) for state in states
        ]

    def release(self, state: InstantState) -> None:
        """Nothing is held outside of the state."""


def instant_options(folder: Path, rows: int) -> dict[str, object]:
    """The model's entry in models.yaml; writes its weights, which are none, into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file({"unused": np.zeros(1, dtype=np.float32)}, folder / "model.safetensors")
    (folder / "config.json").write_text('{"model_type": "instant"}\n')
    write_manifest(folder)
    return {
        "source": f"file://{folder}",
        "sampler": SAMPLER,
        "tasks": list(TASKS),
        "row_cost": MOST_STEPS,
        "max_batch_size": rows,
    }
