"""Spelling of tunes, and the rules that every bar is full."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.families.recurrent.music.grammar import Grammar
from services.families.recurrent.music.keys import Key
from services.families.recurrent.music.lexicon import END, Terms, is_bar, read_lexemes, spell_bars, spell_tune
from services.families.recurrent.music.orders import most_lexemes
from services.families.recurrent.music.scores import Metre, Note
from services.families.recurrent.music.vocabulary import Lexemes, read_lexemes_file, write_lexemes
from services.nn.errors import UnsupportedModel
from tests.unit.recurrent.music.tiny import LEXEMES

BAR = (
    Note(4, 0, 24),
    Note(2, 0, 48),
    Note(3, 1, 12),
    Note(None, 0, 12),
    *(Note(i, 0, 16) for i in (0, 1, 2)),
    Note(0, 0, 48),
)


def test_a_tune_is_spelled_by_degrees_lengths_and_bars_that_are_left() -> None:
    terms = Terms("reel", Metre(4, 4), Key("D", "major"))
    spelled = spell_tune(terms, [BAR, (Note(0, 0, 192),)])
    assert " ".join(spelled) == (
        "genre:reel metre:4/4 mode:major tonic:D |2 4 2 x2 3+ x1/2 z x1/2 (3 0 1 2 0 x2 |1 0 x8 </s>"
    )
    assert read_lexemes(spelled[4:]) == (BAR, (Note(0, 0, 192),))
    assert next(iter(spell_bars([BAR], 7))) == "|7"


def test_lexemes_keep_their_ids_in_their_file(tmp_path: Path) -> None:
    write_lexemes(LEXEMES, tmp_path / "tokenizer.json")
    assert read_lexemes_file(tmp_path / "tokenizer.json").names == LEXEMES.names


@pytest.mark.parametrize("names", [["a", "b"], [END, "0", "x2"]])
def test_lexemes_that_cannot_end_or_fill_a_bar_are_refused(names: list[str]) -> None:
    with pytest.raises(UnsupportedModel):
        Grammar(Lexemes(names))


@settings(max_examples=40)
@given(
    st.sampled_from([Metre(4, 4), Metre(6, 8), Metre(9, 8)]),
    st.integers(1, 6),
    st.lists(st.floats(0, 1, exclude_max=True), min_size=60),
)
def test_whatever_is_chosen_bars_are_full_and_the_tune_has_those_asked_for(
    metre: Metre, bars: int, choices: list[float]
) -> None:
    """Any lexeme that is not banned, again and again, until the tune ends."""
    grammar = Grammar(LEXEMES)
    place, made = grammar.start(metre, bars), list[str]()
    most = most_lexemes(metre.bar, bars)
    while not made or made[-1] != END:
        banned = set(grammar.banned(place))
        allowed = [i for i in range(len(LEXEMES)) if i not in banned]
        chosen = allowed[int(choices[len(made) % len(choices)] * len(allowed))]
        made.append(LEXEMES.names[chosen])
        place = grammar.after(place, chosen)
        assert len(made) <= most
    read = read_lexemes(made)
    assert [lexeme for lexeme in made if is_bar(lexeme)] == [f"|{bars - i}" for i in range(bars)]
    assert [sum(note.ticks for note in bar) for bar in read] == [metre.bar] * bars


def test_every_real_way_to_fill_a_bar_is_left_open() -> None:
    grammar = Grammar(LEXEMES)
    place = grammar.start(Metre(4, 4), 1)
    for lexeme in [*spell_bars([BAR], 1), END]:
        (chosen,) = LEXEMES.ids([lexeme])
        assert chosen not in grammar.banned(place), lexeme
        place = grammar.after(place, chosen)


def test_a_given_note_at_an_opening_s_end_keeps_its_length() -> None:
    grammar = Grammar(LEXEMES)
    place = grammar.along(grammar.start(Metre(4, 4), 1), LEXEMES.ids(["|1", "0"]))
    lengths = set(LEXEMES.ids(["x2", "x1/2"]))
    assert not lengths & set(grammar.banned(place))
    assert lengths <= set(grammar.banned(place.settled()))
