"""What a checkpoint is told from its own configuration; what an entry may say; and turns joined by the end token."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from transformers import (
    AutoModel,
    BertConfig,
    BertForMaskedLM,
    GPT2Config,
    GPT2LMHeadModel,
    MambaConfig,
    PreTrainedConfig,
    RobertaConfig,
    RobertaForCausalLM,
    T5Config,
)

from services.families.transformer.family import load
from services.families.transformer.shape import detect
from services.nn.errors import UnsupportedModel
from shared.config.transformer import TransformerModel, TransformerService
from shared.errors import InvalidRequest
from shared.schemas.embeddings import EmbeddingRequest
from shared.schemas.text import ChatRequest
from tests.checkpoints import CHAT_TEMPLATE, make_tokenizer
from tests.shape_checkpoints import make_dialogue
from tests.unit.transformer.driver import Loaded, load_folder

Shapes = Callable[..., Path]
KINDS = {"t5": "encoder_decoder", "bart": "encoder_decoder", "marian": "encoder_decoder"} | {
    "bert": "masked",
    "roberta": "masked",
    "embedder": "embedding",
    "dialogue": "decoder",
}


def service(*models: dict[str, Any]) -> TransformerService:
    entries = [{"source": "file://tiny", **model} for model in models]
    return TransformerService.model_validate({"name": "a", "family": "transformer", "models": entries})


@pytest.mark.parametrize(("name", "kind"), KINDS.items())
def test_an_entry_of_another_kind_is_refused_and_told_the_right_one(shapes: Shapes, name: str, kind: str) -> None:
    folder = shapes(name)
    for wrong in ("decoder", "encoder_decoder", "masked"):
        if wrong != kind:
            (config,) = service({"id": "tiny", "kind": wrong}).models
            with pytest.raises(UnsupportedModel, match=f"serves it by 'kind: {kind}'"):
                load(config, folder)


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        (GPT2Config(architectures=["GPT2LMHeadModel"]), "decoder"),
        (GPT2Config(), "decoder"),
        (MambaConfig(architectures=["MambaForCausalLM"]), "decoder"),
        (T5Config(), "encoder_decoder"),
        (BertConfig(architectures=["BertModel"]), "embedding"),
        (BertConfig(architectures=["BertForPreTraining"]), "embedding"),
        (RobertaConfig(architectures=["RobertaForCausalLM"]), "decoder"),
        (RobertaConfig(architectures=["RobertaForMaskedLM"]), "masked"),
    ],
)
def test_a_shape_is_told_by_what_the_weights_were_saved_from(config: PreTrainedConfig, kind: str) -> None:
    assert detect(config) == kind


def test_an_entry_that_names_no_kind_is_a_decoder() -> None:
    decoder, encoder = service({"id": "a"}, {"id": "b", "kind": "embedding"}).models
    assert isinstance(decoder, TransformerModel)
    assert decoder.does == ("chat", "completion", "tokenize", "detokenize")
    assert encoder.does == ("embedding", "tokenize", "detokenize")
    again = TransformerService.model_validate(service({"id": "a"}, {"id": "b", "kind": "masked"}).model_dump())
    assert [model.kind for model in again.models] == ["decoder", "masked"]


@pytest.mark.parametrize(
    ("entry", "words"),
    [({"kind": "poem"}, "kind is decoder"), ({"pooling": "mean"}, "Extra inputs"), ({"kind": 3}, "kind is decoder")],
)
def test_an_option_of_another_kind_is_refused(entry: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        service({"id": "a", **entry})


@pytest.fixture(scope="module")
def dialogue(shapes: Shapes) -> Loaded:
    return load_folder(shapes("dialogue"))


def chat(*turns: tuple[str, str], **fields: Any) -> ChatRequest:
    messages = [{"role": role, "content": content} for role, content in turns]
    return ChatRequest.model_validate({"model": "tiny", "messages": messages, "temperature": 0.0, **fields})


def test_turns_are_joined_by_the_end_token(dialogue: Loaded) -> None:
    tokenizer = make_tokenizer(chat=False)
    (asked,) = dialogue.tasks["chat"].prepare(chat(("user", "hi"), ("assistant", "ho"), ("user", "what?")))
    end = tokenizer.convert_tokens_to_ids("<|endoftext|>")
    expected = [i for text in ("hi", "ho", "what?") for i in [*tokenizer(text)["input_ids"], end]]
    assert list(asked.prompt) == expected


def test_an_answer_is_what_generate_makes_of_the_turns_and_ends_with_the_end_token(
    dialogue: Loaded, reference: Callable[[Path], Any]
) -> None:
    body = chat(("user", "hi"), ("assistant", "ho"), ("user", "what?"), max_tokens=12)
    (asked,) = dialogue.tasks["chat"].prepare(body)
    (answer,) = dialogue.run([asked])
    out = reference(dialogue.folder).generate(torch.tensor([asked.prompt]), max_new_tokens=12, do_sample=False)
    assert answer.tokens == out[0, len(asked.prompt) :].tolist()
    biased = chat(("user", "hi"), max_tokens=12, logit_bias={"0": 100.0})
    (ended,) = dialogue.run(dialogue.tasks["chat"].prepare(biased))
    assert (ended.text, ended.tokens) == ("", [0])


def test_no_end_token_comes_from_a_message(dialogue: Loaded) -> None:
    (asked,) = dialogue.tasks["chat"].prepare(chat(("user", "a<|endoftext|>b")))
    assert asked.prompt.count(0) == 1


def test_a_system_message_is_refused_by_what_was_trained_on_turns_alone(dialogue: Loaded) -> None:
    with pytest.raises(InvalidRequest, match="takes no system message") as caught:
        dialogue.tasks["chat"].prepare(chat(("system", "Obey."), ("user", "hi")))
    assert caught.value.param == "messages[0].role"


def test_turns_are_joined_so_only_where_the_checkpoint_or_the_entry_says_so(shapes: Shapes, tmp_path: Path) -> None:
    silent = shapes("dialogue", says_so=False)
    assert "chat" not in load_folder(silent).tasks
    assert "chat" in load_folder(silent, conversation="eos").tasks
    folder = make_dialogue(tmp_path)
    tokenizer = make_tokenizer(chat=False)
    tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer.save_pretrained(folder)
    (by_template,) = load_folder(folder).tasks["chat"].prepare(chat(("system", "a"), ("user", "b")))
    assert by_template.prompt[0] == 1
    silenced = TransformerModel(id="m", source=f"file://{folder}", conversation="none")
    assert "chat" not in {*silenced.does, *load_folder(folder, conversation="none").tasks}
    (by_entry,) = load_folder(folder, conversation="eos").tasks["chat"].prepare(chat(("user", "b")))
    assert by_entry.prompt[-1] == 2


def test_turns_that_nothing_could_join_are_refused(tmp_path: Path) -> None:
    shape = GPT2Config(n_embd=16, n_layer=1, n_head=2, n_positions=64, vocab_size=448)
    GPT2LMHeadModel(shape).save_pretrained(tmp_path)
    tokenizer = make_tokenizer(chat=False)
    tokenizer.eos_token = None
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(UnsupportedModel, match="its tokenizer names none"):
        load_folder(tmp_path, conversation="eos")


def test_weights_that_are_no_encoders_are_refused(tmp_path: Path) -> None:
    shape = RobertaConfig(
        vocab_size=448, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    RobertaForCausalLM(shape).save_pretrained(tmp_path)
    make_tokenizer().save_pretrained(tmp_path)
    (config,) = service({"id": "a", "kind": "masked"}).models
    with pytest.raises(UnsupportedModel, match="RobertaForCausalLM"):
        load(config, tmp_path)


def test_masks_need_a_mask_token(tmp_path: Path, shapes: Shapes) -> None:
    BertForMaskedLM.from_pretrained(shapes("bert")).save_pretrained(tmp_path)
    make_tokenizer().save_pretrained(tmp_path)
    (config,) = service({"id": "a", "kind": "masked"}).models
    with pytest.raises(UnsupportedModel, match="no mask token"):
        load(config, tmp_path)


def test_a_decoder_without_its_head_gives_vectors_too(folders: Callable[..., Path]) -> None:
    (config,) = service({"id": "a", "kind": "embedding", "pooling": "last"}).models
    loaded = load(config, folders("qwen2"))
    (row,) = loaded.tasks["embedding"].prepare(EmbeddingRequest(model="tiny", input=[5, 6, 7]))
    (output,) = loaded.sampler.step([loaded.sampler.start(row)])
    with torch.no_grad():
        states = AutoModel.from_pretrained(folders("qwen2"))(torch.tensor([[5, 6, 7]])).last_hidden_state
    assert output.chunk is not None
    assert torch.allclose(output.chunk.vector, states[0, -1], atol=1e-4)
