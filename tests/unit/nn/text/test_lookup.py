"""Guesses from what a text repeats."""

from __future__ import annotations

from services.nn.text.lookup import Lookup


def test_what_followed_the_last_tokens_before_is_guessed() -> None:
    assert Lookup([1, 2, 3, 4, 9, 1, 2]).guess(3) == (3, 4, 9)


def test_the_longer_match_goes_before_the_later_one() -> None:
    assert Lookup([7, 1, 2, 3, 8, 1, 2, 4, 7, 1, 2]).guess(1) == (3,)
    assert Lookup([6, 1, 2, 3, 8, 1, 2, 4, 7, 1, 2]).guess(1) == (4,)


def test_new_tokens_leave_nothing_to_guess() -> None:
    assert Lookup([]).guess(4) == ()
    assert Lookup([1]).guess(4) == ()
    assert Lookup([1, 2, 3, 4]).guess(4) == ()
    text = Lookup([1, 2, 3, 1, 2])
    text.add(9)
    assert text.guess(4) == ()


def test_what_repeats_is_guessed_to_go_on_as_long_as_one_likes() -> None:
    assert Lookup([1, 2, 3, 1, 2]).guess(7) == (3, 1, 2, 3, 1, 2, 3)
    assert Lookup([5, 5, 5]).guess(4) == (5, 5, 5, 5)


def test_the_answer_is_searched_as_the_prompt_is() -> None:
    text = Lookup([1, 2])
    for token in (8, 9, 3, 8, 9):
        text.add(token)
    assert text.guess(2) == (3, 8)
    assert text.tokens == [1, 2, 8, 9, 3, 8, 9]


def test_hope_follows_how_the_guesses_were_and_tells_nothing_of_the_prompt() -> None:
    text = Lookup([1, 2, 3] * 9)
    assert text.hope == 0.5
    for _ in range(9):
        text.add(text.guess(1)[0])
    risen = text.hope
    assert 0.5 < risen < 1
    text.add(77)
    assert text.hope < risen
    fallen = text.hope
    text.add(78)  # nothing was guessed
    assert text.hope == fallen


def test_what_is_expected_is_guessed_from_the_answers_first_token_on() -> None:
    text = Lookup([1, 2, 3, 4], [7, 8, 9, 5, 6])
    assert text.guess(5) == (7, 8, 9, 5, 6)
    for token in (7, 8):
        text.add(token)
    assert text.guess(2) == (9, 5)
    for token in (77, 9, 5):  # one that is not in it
        text.add(token)
    assert text.guess(1) == (6,)
    short = Lookup([1], [7, 8, 9])
    assert short.guess(3) == ()
    short.add(7)
    assert short.guess(2) == (8, 9)


def test_nothing_expected_is_a_text_as_it_was() -> None:
    assert Lookup([1, 2, 3, 1, 2], []).tokens == [1, 2, 3, 1, 2]
