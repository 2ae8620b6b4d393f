"""What clients may ask of a model of text: any text, an empty one too, within the served context."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from services.families import LoadedModel
from services.families.recurrent.family import load
from services.families.recurrent.language import TOKENIZER
from services.families.recurrent.text.tokens import BOS, EOS, VOCABULARY, byte_tokenizer
from services.nn.errors import UnsupportedModel
from shared.errors import ContextTooLong, InvalidRequest
from shared.schemas.text import CompletionRequest, DetokenizeRequest, TokenizeRequest
from tests.contract.driver import bare_loop
from tests.unit.recurrent.tiny import text_config, tiny_folder

TEXT = 'The sea,\n  "Grüße" 山 🙂 <begin>\n'


def test_an_empty_prompt_is_read_from_the_begin_of_a_text(lstm: LoadedModel) -> None:
    (row,) = lstm.tasks["completion"].prepare(CompletionRequest(model="tiny", prompt=""))
    assert row.prompt == (BOS,)


def test_a_token_is_a_byte_and_no_text_is_a_mark(lstm: LoadedModel) -> None:
    (row,) = lstm.tasks["tokenize"].prepare(TokenizeRequest(model="tiny", prompt=TEXT))
    assert row.answer.ids[0] == BOS
    assert len(row.answer.ids) == 1 + len(TEXT.encode())
    assert not {BOS, EOS} & set(row.answer.ids[1:])
    (back,) = lstm.tasks["detokenize"].prepare(DetokenizeRequest(model="tiny", tokens=list(row.answer.ids[1:])))
    assert back.answer.text == TEXT


def test_answers_of_characters_keep_to_a_form(lstm: LoadedModel) -> None:
    form = {"regex": r"(\d{2}, ){2}\d{2}\."}
    request = CompletionRequest.model_validate(
        {"model": "tiny", "prompt": "a", "structured_outputs": form, "max_tokens": 40, "seed": 1}
    )
    (row,) = lstm.tasks["completion"].prepare(request)
    text = "".join(chunk.text for chunk in bare_loop(lstm.sampler, row))
    assert re.fullmatch(form["regex"], text)


def test_every_id_below_the_vocabulary_is_one_token() -> None:
    tokenizer = byte_tokenizer()
    assert sorted(tokenizer.get_vocab().values()) == list(range(VOCABULARY))


def test_what_exceeds_the_served_context_is_refused(lstm: LoadedModel) -> None:
    with pytest.raises(ContextTooLong):
        lstm.tasks["completion"].prepare(CompletionRequest(model="tiny", prompt="a" * 250, max_tokens=7))
    lstm.tasks["completion"].prepare(CompletionRequest(model="tiny", prompt="a" * 248, max_tokens=7))


def test_ids_that_the_model_does_not_know_are_refused(lstm: LoadedModel) -> None:
    with pytest.raises(InvalidRequest, match="from 0 to 257; got 258"):
        lstm.tasks["completion"].prepare(CompletionRequest(model="tiny", prompt=[VOCABULARY]))


def test_a_tokenizer_of_more_ids_than_the_weights_is_refused(tmp_path: Path) -> None:
    folder = tiny_folder("rnn", tmp_path, vocabulary=100)
    assert (folder / TOKENIZER).exists()
    with pytest.raises(UnsupportedModel, match="258 ids, its weights 100"):
        load(text_config(folder), folder)
