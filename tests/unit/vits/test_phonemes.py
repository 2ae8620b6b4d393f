"""From clauses to phonemes by a program of its own, whatever that program does, and the cutting of what is long."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from services.families.vits.phonemes import Espeak, Utterance, utterances
from services.families.vits.sentences import Clause, split
from services.nn.errors import UnsupportedModel
from shared.errors import InternalError
from tests.unit.vits.tiny import Letters


def program(folder: Path, script: str) -> str:
    path = folder / "espeak-ng"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def test_each_line_gets_its_phonemes_without_signs_of_other_languages(tmp_path: Path) -> None:
    espeak = Espeak(program(tmp_path, "sed 's/^bonjour$/(fr)bonjour(en-us)/'"), "en-us")
    assert espeak.phonemes(["hello", "bonjour", "you"]) == ["hello", "bonjour", "you"]


def test_a_line_that_says_nothing_moves_no_other(tmp_path: Path) -> None:
    assert Espeak(program(tmp_path, "sed 's/^#$//'"), "en-us").phonemes(["a", "#", "b"]) == ["a", "", "b"]


def test_a_line_that_is_taken_for_several_stays_one(tmp_path: Path) -> None:
    espeak = Espeak(program(tmp_path, r"sed 's/^mr smith$/mr\nsmith/; s/^odd$/od\n\nd/'"), "en-us")
    assert espeak.phonemes(["a", "mr smith", "b"]) == ["a", "mr smith", "b"]
    assert espeak.phonemes(["a", "odd", "b"]) == ["a", "od d", "b"]


def test_the_text_is_standard_input_and_never_an_argument(tmp_path: Path) -> None:
    espeak = Espeak(program(tmp_path, f'echo "$@" > {tmp_path}/words; cat'), "en-us")
    espeak.phonemes(["--version; $(touch x)"])
    assert (tmp_path / "words").read_text().split() == ["-q", "--ipa", "-b", "1", "-v", "en-us"]


def test_a_program_that_hangs_is_ended_in_time(tmp_path: Path) -> None:
    espeak = Espeak(program(tmp_path, "exec sleep 60"), "en-us", patience_s=0.2)
    began = time.monotonic()
    with pytest.raises(InternalError):
        espeak.phonemes(["hello"])
    assert time.monotonic() - began < 10


def test_a_program_that_fails_is_an_error_of_ours(tmp_path: Path) -> None:
    with pytest.raises(InternalError):
        Espeak(program(tmp_path, "exit 3"), "en-us").phonemes(["hello"])


def test_a_missing_program_is_named_with_the_package_that_has_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UnsupportedModel, match="apt install espeak-ng"):
        Espeak.installed("en-us")


@pytest.mark.parametrize(("script", "message"), [("exit 1", "cannot speak 'xx'"), ("sed d", "says nothing in 'xx'")])
def test_a_language_that_the_program_cannot_speak_is_refused_at_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, script: str, message: str
) -> None:
    program(tmp_path, script)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(UnsupportedModel, match=message):
        Espeak.installed("xx")


def test_a_sentence_has_its_marks_and_what_says_nothing_leaves_none() -> None:
    said = utterances(split("One, two; #, three! # Four?"), Letters(), longest=99)
    assert said == [Utterance("one, two; three!", is_end=True), Utterance("# four?", is_end=True)]
    assert utterances([[Clause("#", ".")]], Letters(), longest=99) == []
    assert utterances([], Letters(), longest=99) == []


@pytest.mark.parametrize(
    ("text", "longest", "pieces"),
    [
        ("aaa bbb, ccc ddd", 12, ["aaa bbb,", "ccc ddd."]),
        ("a, bb cc dd ee", 12, ["a, bb cc dd", "ee."]),
        ("aaaaaaaaaa", 4, ["aaaa", "aaaa", "aa."]),
    ],
    ids=["after a mark", "between words: the mark comes too early", "anywhere"],
)
def test_a_long_sentence_is_cut_where_it_hurts_least_and_ends_once(text: str, longest: int, pieces: list[str]) -> None:
    said = utterances(split(text), Letters(), longest)
    assert [each.phonemes for each in said] == pieces
    assert [each.is_end for each in said] == [False] * (len(pieces) - 1) + [True]
