"""Vectors of texts: they equal transformers' own, alone and in a batch; and what may be asked."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModel

from services.families.transformer.encoder.params import Embedded
from services.families.transformer.encoder.passes import alike
from services.families.transformer.family import load
from services.nn.errors import UnsupportedModel
from shared.config.transformer import EmbeddingModel, MaskedModel
from shared.errors import InvalidRequest, UnsupportedTask
from shared.schemas.embeddings import EmbeddingRequest
from shared.schemas.text import CompletionRequest, TokenizeRequest
from tests.shape_checkpoints import EMBEDDINGS, make_embedder, word_tokenizer

Shapes = Callable[..., Path]
TEXTS = ["The spring on Parnassus", "gives", "What is the capital of France? " * 3, "山の泉 🙂 water, GRÜSSE"]


def load_embedder(folder: Path, **options: Any) -> Any:
    return load(EmbeddingModel(id="tiny", source=f"file://{folder}", kind="embedding", **options), folder)


def load_masked(folder: Path, **options: Any) -> Any:
    return load(MaskedModel(id="tiny", source=f"file://{folder}", kind="masked", **options), folder)


@pytest.fixture(scope="module")
def embedder(shapes: Shapes) -> Any:
    return load_embedder(shapes("embedder"))


def asked(text: Any = "The spring", **fields: Any) -> EmbeddingRequest:
    return EmbeddingRequest.model_validate({"model": "tiny", "input": text, **fields})


def completion(prompt: Any = "The [MASK] is Paris", **fields: Any) -> CompletionRequest:
    return CompletionRequest.model_validate({"model": "tiny", "prompt": prompt, **fields})


def run(loaded: Any, task: str, body: Any) -> list[Any]:
    """All rows of a request in one step."""
    states = [loaded.sampler.start(row) for row in loaded.tasks[task].prepare(body)]
    outputs = loaded.sampler.step(states)
    for state in states:
        loaded.sampler.release(state)
    return [output.chunk for output in outputs]


def embed(loaded: Any, body: EmbeddingRequest) -> list[Tensor]:
    chunks: list[Embedded] = run(loaded, "embedding", body)
    return [chunk.vector for chunk in chunks]


def reference(folder: Path, text: str) -> tuple[Tensor, list[int]]:
    """The last layer's states (T, D) of a text, and its ids, by transformers alone."""
    ids = word_tokenizer()(text, truncation=False, padding=False)["input_ids"]
    with torch.no_grad():
        return AutoModel.from_pretrained(folder).eval()(torch.tensor([ids])).last_hidden_state[0], ids


POOLS: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": lambda states: states.mean(0),
    "cls": lambda states: states[0],
    "max": lambda states: states.amax(0),
    "last": lambda states: states[-1],
}


@pytest.mark.parametrize("pooling", POOLS)
@pytest.mark.parametrize("by_entry", [False, True], ids=["its own files", "its entry"])
def test_vectors_are_those_of_a_plain_forward(shapes: Shapes, pooling: str, by_entry: bool) -> None:
    folder = shapes("embedder", pooling=None) if by_entry else shapes("embedder", pooling=pooling)
    loaded = load_embedder(folder, **({"pooling": pooling, "normalize": True} if by_entry else {}))
    for vector, text in zip(embed(loaded, asked(TEXTS)), TEXTS, strict=True):
        expected = POOLS[pooling](reference(folder, text)[0])
        assert torch.allclose(vector, expected / expected.norm(), atol=1e-5)


def test_without_files_of_its_own_it_is_the_mean_as_it_is(shapes: Shapes) -> None:
    folder = shapes("embedder", pooling=None)
    (vector,) = embed(load_embedder(folder), asked(TEXTS[0]))
    assert torch.allclose(vector, reference(folder, TEXTS[0])[0].mean(0), atol=1e-5)


def test_a_head_for_masks_is_left_out_of_vectors(shapes: Shapes) -> None:
    (vector,) = embed(load_embedder(shapes("bert")), asked(TEXTS[0]))
    assert torch.allclose(vector, reference(shapes("bert"), TEXTS[0])[0].mean(0), atol=1e-5)


def test_texts_in_a_batch_are_as_each_alone(embedder: Any) -> None:
    together = embed(embedder, asked(TEXTS))
    for vector, text in zip(together, TEXTS, strict=True):
        (alone,) = embed(embedder, asked(text))
        assert torch.allclose(vector, alone, atol=1e-6)
    assert not torch.allclose(together[0], together[1], atol=0.01)


def test_texts_are_padded_to_less_than_twice_their_length() -> None:
    lengths = [1, 2, 3, 5, 8, 9, 16, 17, 64, 65]
    groups = alike(lengths)
    assert sorted(i for group in groups for i in group) == list(range(len(lengths)))
    for group in groups:
        own = [lengths[i] for i in group]
        assert max(own) < 2 * min(own) or max(own) <= 2


def test_a_step_reads_a_bounded_number_of_tokens(shapes: Shapes) -> None:
    loaded = load_embedder(shapes("embedder"), step_tokens=20)
    rows = loaded.tasks["embedding"].prepare(asked([[5] * 12, [5] * 8, [5], [5] * 60]))
    first = loaded.sampler.start(rows[0])
    assert loaded.sampler.fits(rows[1], [first])
    assert not loaded.sampler.fits(rows[2], [first, loaded.sampler.start(rows[1])])
    assert not loaded.sampler.fits(rows[3], [first])
    assert loaded.sampler.fits(rows[3], [])


def test_an_event_holds_numbers_or_base64_and_counts_tokens(embedder: Any) -> None:
    (plain,) = run(embedder, "embedding", asked(TEXTS[0]))
    event = embedder.tasks["embedding"].encode(plain)
    numbers = json.loads(event.json)["embedding"]
    assert event.tokens == len(reference_ids(TEXTS[0]))
    (packed,) = run(embedder, "embedding", asked(TEXTS[0], encoding_format="base64"))
    data = base64.b64decode(json.loads(embedder.tasks["embedding"].encode(packed).json)["embedding"])
    assert list(struct.unpack("<32f", data)) == numbers


def reference_ids(text: str) -> list[int]:
    return word_tokenizer()(text, truncation=False, padding=False)["input_ids"]


def test_fewer_dimensions_are_the_first_at_length_one(embedder: Any) -> None:
    (whole,) = embed(embedder, asked(TEXTS[0]))
    (short,) = embed(embedder, asked(TEXTS[0], dimensions=10))
    assert torch.allclose(short, whole[:10] / whole[:10].norm(), atol=1e-6)
    with pytest.raises(InvalidRequest, match="at most 32; got 33"):
        embedder.tasks["embedding"].prepare(asked(dimensions=33))


@pytest.mark.parametrize("many", [False, True])
def test_token_ids_are_taken_as_they_are(embedder: Any, many: bool) -> None:
    ids = reference_ids(TEXTS[0])
    (row,) = embedder.tasks["tokenize"].prepare(TokenizeRequest(model="tiny", prompt=TEXTS[0]))
    assert list(row.answer.ids) == ids
    (vector, *_) = embed(embedder, asked([ids, [5]] if many else ids))
    assert torch.equal(vector, embed(embedder, asked(TEXTS[0]))[0])


def test_messages_are_no_texts_of_an_encoder(embedder: Any) -> None:
    messages = [{"role": "user", "content": "hi"}]
    body = TokenizeRequest.model_validate({"model": "tiny", "messages": messages})
    with pytest.raises(UnsupportedTask, match=r"does not do 'chat'.*embedding"):
        embedder.tasks["tokenize"].prepare(body)


def test_a_prefix_and_lower_case_are_as_its_files_and_its_entry_say(shapes: Shapes, tmp_path: Path) -> None:
    folder = make_embedder(tmp_path)
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 50, "do_lower_case": True}))
    named = {"prompts": {"query": "asked: "}, "default_prompt_name": "query"}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(named))
    (own,) = load_embedder(folder).tasks["embedding"].prepare(asked("Paris"))
    assert list(own.ids) == reference_ids("asked: paris")
    (entry,) = load_embedder(folder, prefix="given: ").tasks["embedding"].prepare(asked("Paris"))
    assert list(entry.ids) == reference_ids("given: paris")
    assert load_embedder(folder).limits == {"context_length": 50, "max_batch_size": 16, "dimensions": 32}


@pytest.mark.parametrize(
    ("given", "param", "words"),
    [
        (["fine", "word " * 70], "input[1]", r"64 tokens; got \d+ in 'input\[1\]'; nothing is cut off"),
        ("word " * 70, "input", r"64 tokens; got \d+ in 'input'"),
        ([5] * 65, "input", "64 tokens; got 65"),
        ([[5], [5] * 65], "input[1]", "64 tokens; got 65"),
        ([[5], [EMBEDDINGS]], "input[1]", f"got {EMBEDDINGS}"),
        ("x" * 6401, "input", "6400 characters, for 64 tokens; got 6401"),
        ([{"age": 3}], "input[0]", "got an object"),
    ],
)
def test_what_is_too_long_is_refused_and_never_cut(embedder: Any, given: Any, param: str, words: str) -> None:
    with pytest.raises(InvalidRequest, match=words) as caught:
        embedder.tasks["embedding"].prepare(asked(given))
    assert caught.value.param == param


def test_no_request_costs_more_than_its_bound(embedder: Any) -> None:
    config = EmbeddingModel(id="tiny", source="file://tiny", kind="embedding")
    for body in (asked(TEXTS), asked([5] * 9), asked([[5] * 9, [6]]), asked("x" * 60)):
        rows = embedder.tasks["embedding"].prepare(body)
        assert config.cost_bound(body, embedder.limits) >= sum(row.cost for row in rows)


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("modules.json", [{"path": "2_Dense", "type": "sentence_transformers.models.Dense"}], "kind 'Dense'"),
        ("modules.json", [{"path": "../x", "type": "sentence_transformers.models.Pooling"}], "outside of its folder"),
        ("1_Pooling/config.json", {"pooling_mode_weightedmean_tokens": True}, "its pooling is none of mean"),
        ("1_Pooling/config.json", {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True}, "is none of"),
    ],
)
def test_a_step_that_is_not_known_is_refused(tmp_path: Path, file: str, content: Any, words: str) -> None:
    folder = make_embedder(tmp_path)
    (folder / file).write_text(json.dumps(content))
    with pytest.raises(UnsupportedModel, match=words):
        load_embedder(folder)


def test_a_text_of_values_that_are_not_finite_fails_alone(shapes: Shapes) -> None:
    loaded = load_embedder(shapes("embedder"))
    weight = loaded.sampler.passes["embedding"].encoder.model.get_input_embeddings().weight
    with torch.no_grad():
        weight[200] = torch.nan
    chunks = run(loaded, "embedding", asked([[5, 6], [5, 200], [7, 8]]))
    assert [chunk is None for chunk in chunks] == [False, True, False]
