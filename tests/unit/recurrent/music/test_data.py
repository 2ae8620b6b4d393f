"""The collections: which tunes are taken, how they are written anew, that none is on both sides of the split."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.families.recurrent.music.data import (
    RealTune,
    kinships,
    read_split,
    read_tunes,
    split_tunes,
    tunes_of,
    write_split,
)
from services.families.recurrent.music.held_out import read_sample, write_sample
from services.families.recurrent.music.keys import Key
from services.families.recurrent.music.lexicon import Terms
from services.families.recurrent.music.scores import Bar, Metre, Note

PART = "GABc dedB|GABc dedB|c2ec B2dB|A2AB AGFE|"


def abc(body: str, **fields: str) -> str:
    fields = {"T": "x", "R": "reel", "M": "C|", "L": "1/8", "K": "G"} | fields
    key = fields.pop("K")
    return "X:1\n" + "".join(f"{name}:{value}\n" for name, value in fields.items() if value) + f"K:{key}\n{body}\n\n"


def only(text: str) -> RealTune:
    (tune,) = tunes_of(text)
    return tune


def test_cut_time_and_two_four_in_sixteenths_are_written_as_four_four() -> None:
    cut = only(abc(PART))
    two_four = only(abc(PART, M="2/4", L="1/16"))
    assert cut.terms == two_four.terms == Terms("reel", Metre(4, 4), Key("G", "major"))
    assert cut.bars == two_four.bars
    assert [sum(note.ticks for note in bar) for bar in cut.bars] == [192] * 4


def test_a_genre_is_known_by_its_names_and_jigs_have_two_metres() -> None:
    bars = "GAB cde|" * 4
    assert str(only(abc(bars, R="Double Jig", M="6/8")).terms.metre) == "6/8"
    slip = only(abc("GAB cde fga|" * 4, R="slip jig", M="9/8"))
    assert (slip.terms.genre, str(slip.terms.metre)) == ("jig", "9/8")


@pytest.mark.parametrize(
    "text",
    [
        abc(PART, R="waltz"),
        abc(PART, R=""),
        abc(PART, K="Glyd"),
        abc(PART, R="jig"),
        abc(PART + "\nK:D\n" + PART),
        abc(PART.replace("GABc", "GAB", 1)[4:] + "G|"),
        abc("GABc dedB|" * 3),
        abc("GABc dedB|" * 33),
        abc(PART + "& G8|"),
        abc(PART.replace("dedB", "^^dedB", 1)),
    ],
)
def test_what_is_of_no_known_kind_or_does_not_add_up_is_left_out(text: str) -> None:
    assert list(tunes_of(text)) == []


def test_what_these_collections_write_outside_of_the_standard_is_read_over() -> None:
    plain, marked = only(abc(PART)), only(abc('"4"G"<"UABc de=\nd]B|' + PART[10:-1] + "]|]"))
    assert marked.bars == plain.bars


def tune(*degrees: int, genre: str = "reel", tonic: str = "G", bars: int = 16, ticks: int = 24) -> RealTune:
    """Each bar walks up from a degree."""
    content = [
        tuple(Note((degrees[i % len(degrees)] + j) % 7, 0, ticks) for j in range(192 // ticks)) for i in range(bars)
    ]
    return RealTune(Terms(genre, Metre(4, 4), Key(tonic, "major")), tuple(content), "x")


def changed(base: RealTune, count: int) -> RealTune:
    """With other notes in its first bars, a few in each."""
    bars: list[Bar] = list(base.bars)
    for i in range(count):
        bars[i] = (bars[i][0]._replace(degree=6 - (bars[i][0].degree or 0)), *bars[i][1:])
    return RealTune(base.terms, tuple(bars), "y")


def test_settings_of_one_tune_are_kin_in_any_key_and_genre_and_others_are_not() -> None:
    base = tune(0, 1, 4)
    in_d = RealTune(Terms("hornpipe", Metre(4, 4), Key("D", "major")), changed(base, 3).bars, "z")
    assert kinships([base, tune(2, 5, 3, 6), changed(base, 5), in_d]) == [0, 1, 0, 0]


def test_kin_of_a_held_out_tune_are_held_out_with_it() -> None:
    steps = [(a, b, c) for a in range(7) for b in range(7) for c in range(4)][::4]
    tunes = [each for s in steps for each in (tune(*s), changed(tune(*s), 2))]
    split = split_tunes(tunes)
    kin = dict(zip(map(id, tunes), kinships(tunes), strict=True))
    sides = [{kin[id(each)] for each in side} for side in (split.train, split.held_out)]
    assert sides[1]
    assert not sides[0] & sides[1]
    assert len(split.train) + len(split.held_out) == len(tunes)


def test_tunes_keep_their_form_in_files(tmp_path: Path) -> None:
    split = split_tunes([tune(i % 7, i // 7 + 1, i % 3) for i in range(21)])
    write_split(tmp_path, split)
    assert read_split(tmp_path) == split
    write_sample(split.train, tmp_path)
    assert read_sample(tmp_path)[0] == split.train[0]


def test_tunes_are_read_from_a_package_once_each_and_without_rare_notes(tmp_path: Path) -> None:
    folder = tmp_path / "music21" / "corpus" / "oneills1850"
    folder.mkdir(parents=True)
    (folder / "a.abc").write_text("".join(abc(PART * 8, T=name) for name in "ab") + abc("B" + (PART * 8)[1:], T="c"))
    rare = abc(PART.replace("dedB", "g'edB", 1), T="rare")
    (folder / "b.abc").write_text(rare + abc(PART, T="d", R="hornpipe"))
    assert [each.title for each in read_tunes(tmp_path)] == ["a", "c", "d"]
