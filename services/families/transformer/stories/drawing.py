"""Owns stories that a checkpoint tells, for sheets, cards and figures: by the family's own load and sampler."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from services.families import LoadedModel
from services.families.transformer.family import load
from shared.config.transformer import TransformerModel
from shared.schemas.text import CompletionRequest

TEMPERATURE, TOP_P = 0.8, 0.95  # as served


class Storyteller:
    """A checkpoint's folder, loaded as serving loads it. `rows` are told at a time."""

    def __init__(self, folder: Path, *, rows: int = 32) -> None:
        config = TransformerModel(id="story", source="file:///story", max_batch_size=rows)
        self._model: LoadedModel = load(config, folder)
        self._rows = rows

    def tell(
        self, prompts: Sequence[str], tokens: int, *, seed: int, temperature: float = TEMPERATURE, top_p: float = TOP_P
    ) -> list[str]:
        """What follows each prompt: up to so many tokens. The same each time."""
        request = CompletionRequest(
            model="story",
            prompt=list(prompts),
            max_tokens=tokens,
            seed=seed,
            temperature=temperature,
            top_p=top_p,
        )
        rows = self._model.tasks["completion"].prepare(request)
        told: list[str] = []
        for first in range(0, len(rows), self._rows):
            told += self._run(rows[first : first + self._rows])
        return told

    def _run(self, rows: Sequence[object]) -> list[str]:
        sampler, task = self._model.sampler, self._model.tasks["completion"]
        texts = [""] * len(rows)
        running = {i: sampler.start(row) for i, row in enumerate(rows)}
        while running:
            outputs = sampler.step(list(running.values()))
            for (i, state), output in zip(list(running.items()), outputs, strict=True):
                if output.chunk is not None:
                    texts[i] += task.encode(output.chunk).text
                if output.finish_reason is not None:
                    sampler.release(state)
                    del running[i]
        return texts
