"""The transformers model that the peers without an engine of their own serve: one thread, fp32, greedy, no early end.

Runs in a peer's environment: stands on torch and transformers alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any

import torch
from tokenizers.decoders import DecodeStream
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.generation.streamers import BaseStreamer

DONE = "data: [DONE]\n\n"


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt, and exactly how many tokens its answer has."""

    text: str
    max_tokens: int


@dataclass(frozen=True, slots=True)
class Text:
    text: str
    tokens: int


class StaticModel:
    """Prompts are padded on the left and go through `model.generate` as one batch, to its longest answer's end."""

    def __init__(self, folder: str) -> None:
        torch.set_num_threads(1)
        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder, padding_side="left")
        self.tokenizer.pad_token = self.tokenizer.pad_token or self.tokenizer.eos_token
        self.model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        self.model.generation_config.eos_token_id = None  # its spelling of ignore_eos

    def generate(self, prompts: Sequence[Prompt], streamer: BaseStreamer | None = None) -> list[Text]:
        batch = self.tokenizer([prompt.text for prompt in prompts], return_tensors="pt", padding=True)
        longest = max(prompt.max_tokens for prompt in prompts)
        with torch.inference_mode():
            output = self.model.generate(
                **batch,
                max_new_tokens=longest,
                do_sample=False,
                pad_token_id=self.tokenizer.pad_token_id,
                streamer=streamer,
            )
        new = output[:, batch["input_ids"].shape[1] :]  # (B, longest)
        rows = [row[: prompt.max_tokens] for row, prompt in zip(new, prompts, strict=True)]
        return [Text(self.tokenizer.decode(row), len(row)) for row in rows]

    def stream(self, prompts: Sequence[Prompt]) -> Iterator[list[str]]:
        """The events of each prompt's answer, step by step; an answer that has ended gives empty strings."""
        answers = [_Answer(self.tokenizer, prompt.max_tokens) for prompt in prompts]
        tokens = _StepQueue()
        with ThreadPoolExecutor(1) as threads:
            making = threads.submit(self.generate, prompts, tokens)
            making.add_done_callback(lambda _: tokens.end())  # `generate` ends a stream only when all went well
            while (step := tokens.get()) is not None:
                yield [answer.event(token) for answer, token in zip(answers, step, strict=True)]
            making.result()


def completion_event(text: str, finish_reason: str | None = None) -> str:
    """A piece of an answer as OpenAI's completions stream it."""
    choice = {"index": 0, "text": text, "finish_reason": finish_reason}
    return f"data: {json.dumps({'object': 'text_completion', 'choices': [choice]})}\n\n"


def last_events(tokens: int) -> str:
    """What ends a streamed answer of so many tokens."""
    usage = f"data: {json.dumps({'choices': [], 'usage': {'completion_tokens': tokens}})}\n\n"
    return completion_event("", "length") + usage + DONE


class _StepQueue(BaseStreamer):
    """Takes every step's tokens from `generate`, as its streamers for one prompt do: on a thread of its own."""

    def __init__(self) -> None:
        self._steps: SimpleQueue[list[int] | None] = SimpleQueue()
        self._is_prompt = True

    def put(self, value: torch.Tensor) -> None:
        if not self._is_prompt:
            self._steps.put(value.tolist())
        self._is_prompt = False

    def end(self) -> None:
        self._steps.put(None)

    def get(self) -> list[int] | None:
        return self._steps.get()


class _Answer:
    """Turns one answer's tokens into its events."""

    def __init__(self, tokenizer: Any, length: int) -> None:
        self._backend = tokenizer.backend_tokenizer
        self._decoder = DecodeStream(skip_special_tokens=False)
        self._length = length
        self._made = 0

    def event(self, token: int) -> str:
        if self._made == self._length:
            return ""
        self._made += 1
        piece = self._decoder.step(self._backend, token)
        events = completion_event(piece) if piece else ""
        return events + last_events(self._made) if self._made == self._length else events
