"""Runs rows through a loaded model's sampler without an engine, and keeps what they give."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from transformers import PreTrainedModel

from services.engine.contract import FinishReason
from services.families.transformer.family import load
from services.families.transformer.state import RowState, SlotRow
from services.nn.text.params import GenerateParams, SamplingOptions
from shared.config.transformer import EncoderDecoderModel, TransformerModel
from shared.events import TextDelta

GREEDY = SamplingOptions(temperature=0)


@dataclass
class Answer:
    tokens: list[int] = field(default_factory=list)
    pieces: list[str] = field(default_factory=list)
    deltas: list[TextDelta] = field(default_factory=list)
    chunks: list[Any] = field(default_factory=list)
    units: float = 0.0
    finish: FinishReason | None = None

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    @property
    def cached(self) -> int:
        return self.deltas[-1].cached_tokens

    @property
    def logprobs(self) -> list[Any]:
        return [entry for delta in self.deltas for entry in delta.logprobs or ()]


@dataclass
class Loaded:
    sampler: Any
    tasks: Any
    memory: int
    limits: Any
    folder: Path

    def row(self, prompt: Sequence[int], new: int, **options: Any) -> GenerateParams:
        return GenerateParams("completion", tuple(prompt), new, options.pop("seed", 0), **options)

    def run(self, rows: Sequence[GenerateParams], *, stagger: int = 0) -> list[Answer]:
        """Run all rows to their ends; with `stagger`, one more joins every so many steps."""
        answers = [Answer() for _ in rows]
        waiting = list(enumerate(rows))
        live: dict[int, Any] = {}
        for step in range(100_000):
            while waiting and (not stagger or step % stagger == 0 or not live):
                i, row = waiting.pop(0)
                live[i] = self.sampler.start(row)
                if stagger:
                    break
            self._step(live, answers)
            if not live and not waiting:
                break
        return answers

    def _step(self, live: dict[int, Any], answers: list[Answer]) -> None:
        items = list(live.items())
        before = [state.generated for _, state in items]
        outputs = self.sampler.step([state for _, state in items])
        for (i, state), made, output in zip(items, before, outputs, strict=True):
            answer = answers[i]
            if isinstance(state, SlotRow) and state.generated > made:
                answer.tokens.extend(_last_tokens(state, state.generated - made))
            answer.units += output.units
            if output.chunk is not None:
                answer.chunks.append(output.chunk)
                delta = self.tasks["completion"].encode(output.chunk)
                answer.deltas.append(delta)
                answer.pieces.append(delta.text)
            if output.finish_reason is not None:
                answer.finish = output.finish_reason
                self.sampler.release(live.pop(i))


def _last_tokens(state: SlotRow, count: int) -> list[int]:
    lookup = state.lookup if isinstance(state, RowState) else None
    return [cast(int, state.token)] if lookup is None else lookup.tokens[-count:]


def load_folder(folder: Path, **options: Any) -> Loaded:
    options = {"cache_memory": 64 * 2**20, "prefill_tokens": 16, "max_batch_size": 16, **options}
    loaded = load(TransformerModel(id="tiny", source=f"file://{folder}", **options), folder)
    return Loaded(loaded.sampler, loaded.tasks, loaded.memory, loaded.limits, folder)


def load_pair(folder: Path, **options: Any) -> Loaded:
    """An encoder-decoder."""
    options = {"cache_memory": 4 * 2**20, "encode_tokens": 64, "max_batch_size": 8, **options}
    config = EncoderDecoderModel(id="tiny", source=f"file://{folder}", kind="encoder_decoder", **options)
    loaded = load(config, folder)
    return Loaded(loaded.sampler, loaded.tasks, loaded.memory, loaded.limits, folder)


def greedy_tokens(model: PreTrainedModel, prompt: Sequence[int], new: int, eos: int | None = None) -> list[int]:
    """What `model.generate` gives, the end token included."""
    ids = torch.tensor([list(prompt)])
    options: dict[str, Any] = {"eos_token_id": eos, "pad_token_id": 0, "max_new_tokens": new, "do_sample": False}
    out = cast(Any, model).generate(ids, attention_mask=torch.ones_like(ids), **options)
    return cast("list[int]", out[0, len(prompt) :].tolist())


def random_prompts(count: int, *, longest: int, seed: int = 0, vocabulary: int = 400) -> list[list[int]]:
    """Prompts of mixed lengths from 1 to `longest`, without special tokens."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, longest + 1, (count,), generator=generator).tolist()
    return [torch.randint(3, vocabulary, (n,), generator=generator).tolist() for n in lengths]
