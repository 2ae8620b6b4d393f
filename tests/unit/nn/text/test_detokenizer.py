"""Incremental detokenisation and stop strings: whole characters, nothing of a stop string, pieces that join."""

from __future__ import annotations

from codecs import getincrementaldecoder
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers
from transformers import PreTrainedTokenizerFast

from services.nn.text.detokenizer import (
    ByteLevelDetokenizer,
    Detokenizer,
    WindowDetokenizer,
    make_detokenizer,
    scan_stops,
)
from services.nn.text.tokenizer import Vocabulary
from tests.checkpoints import make_tokenizer

WORDS = ["▁", "▁the", "▁spring", "s", "é", "▁Paris", ",", "a", "b"]
TEXTS = ["Grüße aus Köln", "山の泉 🙂🙃!", "Ελικών, naïve café", "plain\n  text\tand  spaces "]


def sentencepiece_like() -> PreTrainedTokenizerFast:
    """Llama 2's shape: words begin with ▁, unknown characters fall back to bytes, the first space is dropped."""
    vocabulary = {"<unk>": 0, "<s>": 1, "</s>": 2}
    vocabulary |= {f"<0x{byte:02X}>": 3 + byte for byte in range(256)}
    vocabulary |= {word: 259 + i for i, word in enumerate(WORDS)}
    tokenizer = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>", byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in ("<s>", "</s>")])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


BYTE_LEVEL = Vocabulary(make_tokenizer())
FALLBACK = Vocabulary(sentencepiece_like())
PARIS = 3 + 256 + WORDS.index("▁Paris")


def pieces_of(detokenizer: Detokenizer, ids: Sequence[int], prompt: Sequence[int] = ()) -> list[str]:
    state = detokenizer.start(prompt)
    pieces: list[str] = []
    for token in ids:
        state, piece = detokenizer.push(state, token)
        pieces.append(piece)
    return [*pieces, detokenizer.flush(state)]


def test_each_kind_of_tokenizer_gets_its_detokenizer() -> None:
    assert isinstance(make_detokenizer(BYTE_LEVEL), ByteLevelDetokenizer)
    assert isinstance(make_detokenizer(FALLBACK), WindowDetokenizer)


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("vocabulary", [BYTE_LEVEL, FALLBACK], ids=["byte level", "byte fallback"])
def test_pieces_hold_whole_characters_and_join_to_the_text(vocabulary: Vocabulary, text: str) -> None:
    pieces = pieces_of(make_detokenizer(vocabulary), vocabulary.encode(text))
    assert "".join(pieces) == text.lstrip(" ")
    assert not any("\ufffd" in piece for piece in pieces)


@given(st.lists(st.integers(0, BYTE_LEVEL.size + 20), max_size=40))
def test_any_byte_level_ids_join_to_the_decoding_of_the_whole(ids: list[int]) -> None:
    whole = BYTE_LEVEL.decode(ids)
    assert "".join(pieces_of(ByteLevelDetokenizer(BYTE_LEVEL), ids)) == whole
    assert "".join(pieces_of(WindowDetokenizer(BYTE_LEVEL), ids)) == whole


@given(st.lists(st.one_of(st.integers(0, FALLBACK.size - 1), st.integers(0xC0 + 3, 0xF8 + 3)), max_size=40))
def test_any_byte_fallback_ids_join_to_the_decoding_of_the_whole(ids: list[int]) -> None:
    assert "".join(pieces_of(WindowDetokenizer(FALLBACK), ids)) == FALLBACK.decode(ids)


def test_a_word_after_a_prompt_keeps_its_space() -> None:
    prompt, paris = FALLBACK.encode("the spring"), PARIS
    assert "".join(pieces_of(WindowDetokenizer(FALLBACK), [paris], prompt)) == " Paris"
    assert "".join(pieces_of(WindowDetokenizer(FALLBACK), [paris])) == "Paris"


def test_a_prompt_that_ends_within_a_character_lends_no_context() -> None:
    prompt = FALLBACK.encode("山")[:-1]
    assert "".join(pieces_of(WindowDetokenizer(FALLBACK), [PARIS], prompt)) == "Paris"


@given(st.text(max_size=6))
def test_a_character_is_out_with_its_last_byte_and_not_before(text: str) -> None:
    by_byte = {BYTE_LEVEL.token_bytes(i): i for i in range(BYTE_LEVEL.size)}
    decoder = getincrementaldecoder("utf-8")()
    expected = [decoder.decode(bytes([byte])) for byte in text.encode()]
    ids = [by_byte[bytes([byte])] for byte in text.encode()]
    assert pieces_of(ByteLevelDetokenizer(BYTE_LEVEL), ids) == [*expected, ""]


@given(st.binary(max_size=12))
def test_bytes_that_are_no_utf8_become_replacement_characters(data: bytes) -> None:
    by_byte = {BYTE_LEVEL.token_bytes(i): i for i in range(BYTE_LEVEL.size)}
    pieces = pieces_of(ByteLevelDetokenizer(BYTE_LEVEL), [by_byte[bytes([byte])] for byte in data])
    assert "".join(pieces) == data.decode(errors="replace")


def scan_all(pieces: Sequence[str], stops: Sequence[str]) -> tuple[str, bool]:
    out, held = "", ""
    for piece in pieces:
        scan = scan_stops(held + piece, stops)
        out, held = out + scan.text, scan.held
        assert not any(stop in out for stop in stops)
        if scan.stopped:
            return out, True
    return out + held, False


@given(
    st.lists(st.text("abc", max_size=3), max_size=12),
    st.lists(st.text("abc", min_size=1, max_size=4), min_size=1, max_size=3),
)
def test_stop_strings_cut_where_the_whole_text_first_shows_one(pieces: list[str], stops: list[str]) -> None:
    text, stopped = scan_all(pieces, stops)
    whole = "".join(pieces)
    assert stopped == any(stop in whole for stop in stops)
    assert whole.startswith(text)
    if stopped:
        # The first to be complete decides; nothing of it is out.
        ends = [(whole.index(stop) + len(stop), whole.index(stop)) for stop in stops if stop in whole]
        assert len(text) <= max(start for _, start in ends)
        assert any(whole.startswith(stop, len(text)) for stop in stops)
    else:
        assert text == whole


def test_what_may_become_a_stop_string_is_held_until_it_cannot() -> None:
    assert scan_stops("one EN", ["END"]) == ("one ", "EN", False)
    assert scan_stops("ENE", ["END"]) == ("EN", "E", False)
    assert scan_stops("a END b", ["END"]) == ("a ", "", True)
    assert scan_stops("a END b", ["END"], armed=False) == ("a END b", "", False)
