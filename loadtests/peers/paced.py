"""A model that waits as a device would, through the plug-in path: replicas of it take time, and no processor.

Any number of them fit on few cores, so that routing, queues, batches and the planner can be measured there. It says
nothing of a kernel: how long a step takes is an affine function of what the step does, `Device`. A step makes a piece
of the answer for every row whose prompt is read, and reads a piece of the prompts that came first, in a pass of its
own, as the transformer family does. It is asked as speech: a letter of `instructions` is a token of the prompt, and a
letter of `input` one of the answer.
"""

from __future__ import annotations

import os
import time
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar

from loadtests.peers.instant import PIECE, SAMPLE_RATE, instant_options
from services.engine.contract import FinishReason, StepOutput
from shared.config.plugin import PluginModel
from shared.events import AudioDelta
from shared.schemas.audio import SpeechRequest

SAMPLER = f"{__name__}:PacedSampler"
LONGEST = 4096  # letters that a request may have of each, by its schema


@dataclass(frozen=True, slots=True)
class Device:
    """What a step takes, in seconds: `step_s` and `row_s` for each row that makes a token, and `read_s` for each token
    of a prompt, of which it reads `piece` at most."""

    step_s: float = 0.04
    row_s: float = 0.002
    read_s: float = 0.00025
    piece: int = 64

    def seconds(self, rows: int, read: int) -> float:
        return (self.step_s + self.row_s * rows if rows else 0.0) + self.read_s * read


@dataclass(frozen=True, slots=True)
class PacedParams:
    task: str
    prompt: int
    steps: int

    @property
    def cost(self) -> float:
        return float(self.prompt + self.steps)


@dataclass(slots=True, eq=False)
class PacedState:
    params: PacedParams
    read: int = 0  # tokens of the prompt
    done: int = 0

    @property
    def unread(self) -> int:
        return self.params.prompt - self.read


class PacedSpeech:
    encodes_slowly: ClassVar[bool] = False

    def prepare(self, request: SpeechRequest, salt: str = "") -> list[PacedParams]:
        return [PacedParams("speech", len(request.instructions or ""), len(request.input))]

    def encode(self, chunk: bytes) -> AudioDelta:
        return AudioDelta(chunk, "pcm", SAMPLE_RATE, seconds=0.0, seed=0, prompt_tokens=1)


class PacedSampler:
    """Sleeps on the engine's thread, which leaves the processor to the gateway. A piece names the replica's process."""

    def __init__(self, config: PluginModel, folder: Path) -> None:
        self._max_batch_size = config.max_batch_size
        self._device = Device(**config.options)  # type: ignore[arg-type]  the operator's numbers
        self._piece = replica_piece(os.getpid())
        self.tasks: Mapping[str, PacedSpeech] = {"speech": PacedSpeech()}
        self.memory = 2**20
        self.limits: Mapping[str, float] = {}

    @property
    def max_batch_size(self) -> int:
        return self._max_batch_size

    def batch_key(self, params: PacedParams) -> Hashable:
        return None

    def fits(self, params: PacedParams, states: Sequence[PacedState]) -> bool:
        return len(states) < self._max_batch_size

    def start(self, params: PacedParams) -> PacedState:
        return PacedState(params)

    def step(self, states: Sequence[PacedState]) -> list[StepOutput[bytes]]:
        reads = self._reads(states)
        time.sleep(self._device.seconds(sum(not state.unread for state in states), sum(reads)))
        return [self._advance(state, read) for state, read in zip(states, reads, strict=True)]

    def _reads(self, states: Sequence[PacedState]) -> list[int]:
        """Tokens that each row reads of its prompt: those that came first read first."""
        left, reads = self._device.piece, list[int]()
        for state in states:
            reads.append(min(left, state.unread))
            left -= reads[-1]
        return reads

    def _advance(self, state: PacedState, read: int) -> StepOutput[bytes]:
        """The piece that ends a prompt makes the first token."""
        state.read += read
        if state.unread:
            return StepOutput(None, None, float(read))
        state.done += 1
        ended = state.done >= state.params.steps
        return StepOutput(self._piece, FinishReason.STOP if ended else None, float(read + 1))

    def release(self, state: PacedState) -> None:
        """Nothing is held outside of the state."""


def replica_piece(process: int) -> bytes:
    """As long as PIECE: clients count pieces by their bytes."""
    return process.to_bytes(len(PIECE), "big")


def replica_of(audio: bytes) -> int:
    """The process that made an answer, or a part of one."""
    return int.from_bytes(audio[: len(PIECE)], "big")


def paced_options(folder: Path, rows: int, device: Device) -> dict[str, object]:
    """The model's entry in models.yaml; writes its weights, which are none, into `folder`."""
    own = {"sampler": SAMPLER, "tasks": ["speech"], "row_cost": 2 * LONGEST, "options": asdict(device)}
    return instant_options(folder, rows) | own
