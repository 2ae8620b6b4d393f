"""Captions: which words are told apart, and which texts are refused."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from services.families.diffusion.captions import BUCKETS, MAX_WORDS, Captions, pad, words_of

CAPTIONS = Captions.of(["red heart", "Blue heart", "jack-o-lantern"])


def test_the_vocabulary_is_every_word_once_in_alphabetical_order() -> None:
    assert CAPTIONS.vocabulary == ("blue", "heart", "jack", "lantern", "o", "red")
    assert len(CAPTIONS) == 1 + BUCKETS + 6


def test_case_and_punctuation_do_not_matter() -> None:
    assert CAPTIONS.encode("  RED, heart! ") == CAPTIONS.encode("red heart")


def test_known_words_have_ids_of_their_own_above_the_buckets() -> None:
    ids = [CAPTIONS.encode(word)[0] for word in CAPTIONS.vocabulary]
    assert ids == list(range(1 + BUCKETS, len(CAPTIONS)))


@given(st.text(max_size=60))
def test_any_short_text_has_ids_that_the_model_knows(text: str) -> None:
    ids = CAPTIONS.encode(text) if len(words_of(text)) <= MAX_WORDS else []
    assert all(0 < i < len(CAPTIONS) for i in ids)


def test_an_unknown_word_always_falls_into_the_same_bucket() -> None:
    (first,), (again,) = CAPTIONS.encode("zebra"), Captions(("other",)).encode("zebra")
    assert first == again
    assert 1 <= first <= BUCKETS
    assert CAPTIONS.unknown("red zebra") == ["zebra"]


def test_signs_that_stand_alone_are_unread_and_those_within_words_are_not() -> None:
    assert Captions(("pi", "ata")).unread("piñata 🪅 -- x") == ["x", "🪅"]


def test_a_text_without_words_is_the_null_caption() -> None:
    assert CAPTIONS.encode(" -- ") == []


def test_a_caption_of_too_many_words_is_refused_and_not_cut() -> None:
    assert len(CAPTIONS.encode("red " * MAX_WORDS)) == MAX_WORDS
    with pytest.raises(ValueError, match="at most 12 words; got 13"):
        CAPTIONS.encode("red " * (MAX_WORDS + 1))


def test_rows_are_padded_to_the_longest_and_masked() -> None:
    ids, mask = pad([[5, 6], [], [7]])
    assert ids.tolist() == [[5, 6], [0, 0], [7, 0]]
    assert mask.tolist() == [[True, True], [False, False], [True, False]]
    assert ids.dtype == torch.int64


def test_null_captions_alone_still_have_a_place_for_a_word() -> None:
    ids, mask = pad([[], []])
    assert ids.shape == (2, 1)
    assert not mask.any()
