"""ABC: what is read of it, what is refused, and that what is written reads the same."""

from __future__ import annotations

from fractions import Fraction

import pytest

from services.families.recurrent.music.abc_reading import AbcError, read_bars, read_measures
from services.families.recurrent.music.abc_writing import write_abc
from services.families.recurrent.music.keys import Key
from services.families.recurrent.music.scores import Bar, Metre, Note, Tune

C, G = Key("C", "major"), Key("G", "major")


def played(body: str, key: Key = C, unit: Fraction = Fraction(1, 8)) -> list[list[tuple[int | None, int]]]:
    """(MIDI number, ticks) of each note, bar by bar."""
    return [[_played(key, note) for note in bar] for bar in read_measures(body, key, unit)]


def _played(key: Key, note: Note) -> tuple[int | None, int]:
    return None if note.degree is None else key.pitch(note.degree, note.alteration).midi, note.ticks


@pytest.mark.parametrize(
    ("body", "notes"),
    [
        ("C c C, c'", [(60, 24), (72, 24), (48, 24), (84, 24)]),
        ("C2 C/ C/2 C3/2 C// z3", [(60, 48), (60, 12), (60, 12), (60, 36), (60, 6), (None, 72)]),
        ("C>D E<F G>>A", [(60, 36), (62, 12), (64, 12), (65, 36), (67, 42), (69, 6)]),
        ("(3CDE (3C/D/E/", [(60, 16), (62, 16), (64, 16), (60, 8), (62, 8), (64, 8)]),
        ("^F F =F _B ^^C", [(66, 24), (66, 24), (65, 24), (70, 24), (62, 24)]),
        ("C-C2 C-D", [(60, 72), (60, 24), (62, 24)]),
        ('"Am"(CD) {e}E !trill!~F .G [ceg]2 %end', [(60, 24), (62, 24), (64, 24), (65, 24), (67, 24), (79, 48)]),
    ],
)
def test_notes_are_read_with_their_pitch_and_length(body: str, notes: list[tuple[int | None, int]]) -> None:
    assert played(body) == [notes]


def test_the_key_and_the_unit_count_and_an_accidental_ends_with_its_bar() -> None:
    assert played("F =F f | F", G, Fraction(1, 16)) == [[(66, 12), (65, 12), (77, 12)], [(66, 12)]]


def test_a_second_ending_is_left_out_and_the_first_is_kept() -> None:
    assert played("|: C2 |1 D2 :|2 E2 || F2 |]") == [[(60, 48)], [(62, 48)], [(65, 48)]]
    assert played("C2 |[1 D2 :|[2 E2 |] F2 |]") == [[(60, 48)], [(62, 48)], [(65, 48)]]


def lengths(bars: list[Bar]) -> list[list[int]]:
    return [[note.ticks for note in bar] for bar in bars]


def test_upbeats_are_dropped_and_joined_and_last_notes_fill_their_bars() -> None:
    bars = read_bars("A | C6 D2 | E6 :| F2 | G8 | A4 B2 |]", C, Metre(4, 4).bar)
    assert lengths(bars) == [[144, 48], [144, 48], [192], [96, 96]]
    assert [[note.degree for note in bar] for bar in bars] == [[0, 1], [2, 3], [4], [5, 6]]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("C6 D4 | E8", "bar 1 holds 240 ticks of 192"),
        ("C8 | D2 | E8", "bar 2 holds 48 ticks of 192"),
        ("(5CDEFG", r"tuplets other than triplets"),
        ("(3C2D2E2", "triplets of eighths and of sixteenths"),
        ("(3CD/E/", "triplets of eighths and of sixteenths"),
        ("C8 & D8", "'& D8' cannot be read"),
        (">C", "follows no note"),
        ("C0", "is no length"),
        ("C/0", "is no length"),
        ("C/3", "too short or no part of two"),
    ],
)
def test_what_cannot_be_read_is_said(body: str, says: str) -> None:
    with pytest.raises(AbcError, match=says):
        read_bars(body, C, Metre(4, 4).bar)


def test_what_is_written_has_every_header_and_reads_the_same() -> None:
    bars: list[Bar] = [
        (
            *(Note(0, 0, 24), Note(3, 1, 24), Note(10, 1, 24), Note(None, 0, 24)),
            *(Note(3, 0, 12), Note(3, 0, 36), Note(-3, 0, 48)),
        ),
        (*(Note(degree, 0, 16) for degree in (7, 8, 9)), Note(-7, -1, 48), Note(14, 0, 96)),
    ]
    tune = Tune("reel", Metre(4, 4), G, tuple(bars), 108, "A tune")
    text = write_abc(tune)
    head, body = text.split("K:G\n")
    assert head == "X:1\nT:A tune\nR:reel\nM:4/4\nL:1/8\nQ:1/4=108\n"
    assert body == "G^c^c'z =c/=c3/2D2 | (3gab_G,2 =g'4 |]\n"
    assert read_bars(body, G, 192) == bars


def test_a_compound_metre_groups_by_threes_and_counts_dotted_quarters() -> None:
    bar = tuple(Note(degree, 0, 24) for degree in range(6))
    text = write_abc(Tune("jig", Metre(6, 8), G, (bar,) * 5, 116))
    assert "Q:3/8=116" in text
    assert text.endswith("GAB cde | GAB cde | GAB cde | GAB cde |\nGAB cde |]\n")
