"""Where a text is cut, and what of it is never said."""

from __future__ import annotations

import pytest

from services.families.vits.sentences import LONGEST, split


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("Hello there. How are you?", ["Hello there.", "How are you?"]),
        ("One, two; three: four!", ["One, two; three: four!"]),
        ("no end", ["no end."]),
        ("What?! No way... Yes…", ["What?", "No way.", "Yes."]),
        ('"Really?" she asked.', ["Really?", "she asked."]),
        ("Mr. Smith met Dr. Who. J. R. Tolkien wrote.", ["Mr Smith met Dr Who.", "J R Tolkien wrote."]),
        ("It was I. He left.", ["It was I.", "He left."]),
        ("He said no. Then he left.", ["He said no.", "Then he left."]),
        ("At 10 a.m. today, e.g. this.", ["At 10 a.m. today, e.g. this."]),
        ("It is 3.14, or 1,000 at 10:30.", ["It is 3.14, or 1,000 at 10:30."]),
        ("He (quietly) left - forever — alas", ["He, quietly, left, forever, alas."]),
        ("rock-and-roll isn’t dead", ["rock-and-roll isn't dead."]),
        ("wrapped\nline\n\nnext", ["wrapped line.", "next."]),
        ("你好。再见！", ["你好.", "再见!"]),
    ],
)
def test_sentences_end_at_their_marks_and_nowhere_else(text: str, sentences: list[str]) -> None:
    assert [" ".join(f"{clause.text}{clause.mark}" for clause in each) for each in split(text)] == sentences


@pytest.mark.parametrize("text", ["", " \n\n ", "...", "'''", "([{}])", "_ | ^ `", "\u200b\x00"])
def test_a_text_of_marks_alone_has_no_sentence(text: str) -> None:
    assert split(text) == []


@pytest.mark.parametrize("text", ["say [[h@'l@U]] now", "<mark name='x'/> now", "a\x00b \x1b[0m \u202ec", "“quoted”"])
def test_nothing_reaches_the_phonemizer_that_it_takes_for_an_order_or_a_mark(text: str) -> None:
    said = "".join(clause.text for sentence in split(text) for clause in sentence)
    assert said
    assert not set(said) & set("[]<>\x00\x1b\u202e“”\n")


@pytest.mark.parametrize("text", ["x" * 5000, "😀" * 3000, "word " * 1000])
def test_a_clause_is_never_longer_than_a_line_that_the_phonemizer_takes(text: str) -> None:
    clauses = [clause for sentence in split(text) for clause in sentence]
    assert max(len(clause.text.encode()) for clause in clauses) <= LONGEST
    assert "".join(clause.text for clause in clauses).replace(" ", "") == text.replace(" ", "")
