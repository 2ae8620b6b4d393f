"""Owns the tunes that a model learns: from an unpacked package to clean, distinct, spelled tunes in two parts.

The collections share tunes, and have some twice: what is nearly the same is on one side of the split.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from services.families.recurrent.music.abc_reading import AbcError, read_bars
from services.families.recurrent.music.keys import Key
from services.families.recurrent.music.lexicon import Terms, is_bar, read_lexemes, spell_tune
from services.families.recurrent.music.scores import EIGHTH, Bar, Metre

COLLECTIONS = ("oneills1850", "ryansMammoth")
GENRES: Mapping[str, str] = {
    "reel": "reel",
    "jig": "jig",
    "double jig": "jig",
    "slip jig": "jig",
    "slipjig": "jig",
    "hornpipe": "hornpipe",
    "strathspey": "strathspey",
}  # the field R:, in small letters, to what is served
METRES: Mapping[str, Sequence[str]] = {
    "reel": ("4/4",),
    "jig": ("6/8", "9/8"),
    "hornpipe": ("4/4",),
    "strathspey": ("4/4",),
}
FEWEST_BARS, MOST_BARS = 4, 32
_TERMS = 4  # lexemes before the bars
_LEAST_SEEN = 10  # times that a lexeme occurs in all tunes, or they are left out
_FILE = "tunes.json"
_HELD_OUT_EVERY = 7
_COMPARED = 8  # bars
_ALIKE = 0.7  # agreement of two tunes' beginnings from which on they count as one; of unlike tunes it is 0.2
_FIELD = re.compile(r"([A-Za-z]):\s*(.*)")
_LINE_ENDS = re.compile(r"=(20)?\n")  # left by a mailer's quoting
_QUOTED = re.compile(r'"[^"]*"|[UVKyi](?=[^:])')
_DOUBLED = re.compile(r"\^\^|__")  # accidentals that no other tune in these keys has
_BRACKETS = re.compile(r"(\[[A-Ga-g^_=,'/0-9]+\]|\[[12])|\]")


@dataclass(frozen=True, slots=True)
class RealTune:
    """A collected tune."""

    terms: Terms
    bars: tuple[Bar, ...]
    title: str

    @property
    def lexemes(self) -> list[str]:
        return spell_tune(self.terms, self.bars)


@dataclass(frozen=True, slots=True)
class TuneSplit:
    train: Sequence[RealTune]
    held_out: Sequence[RealTune]


def read_tunes(package: Path) -> list[RealTune]:
    """The distinct tunes of the package that are spelled in common lexemes, in the order of their files."""
    found: list[RealTune] = []
    for name in COLLECTIONS:
        for path in sorted((package / "music21" / "corpus" / name).glob("*.abc")):
            found += tunes_of(path.read_text(encoding="latin-1"))
    return _distinct(_in_common_lexemes(found))


def tunes_of(text: str) -> Iterator[RealTune]:
    """The tunes of a file that are of a known genre and can be read: in a known mode, bars full, one voice."""
    for part in re.split(r"(?m)^(?=X:)", _LINE_ENDS.sub("\n", text))[1:]:
        fields, body = _fields(part)
        genre, key = GENRES.get(fields.get("R", "").lower()), Key.parse(fields.get("K", ""))
        if genre is None or key is None or not body or _DOUBLED.search(body):
            continue
        metre, unit = _metre(fields)
        if str(metre) not in METRES[genre]:
            continue
        try:
            bars = read_bars(_cleaned(body), key, metre.bar, unit)
        except AbcError:
            continue
        if FEWEST_BARS <= len(bars) <= MOST_BARS:
            yield RealTune(Terms(genre, metre, key), tuple(bars), fields.get("T", ""))


def _fields(part: str) -> tuple[dict[str, str], str]:
    """The header, and what follows its K:; an empty body where key, metre or voice change on the way."""
    fields: dict[str, str] = {}
    body: list[str] = []
    for line in part.splitlines():
        found = _FIELD.match(line)
        if found is None:
            body += [line] if "K" in fields else []
        elif "K" in fields and found[1] in "KLMV":
            return fields, ""
        else:
            fields.setdefault(found[1], found[2].split("%")[0].strip())
    return fields, "\n".join(body)


def _metre(fields: Mapping[str, str]) -> tuple[Metre, Fraction]:
    """Cut time counts as 4/4, and 2/4, written in sixteenths, becomes 4/4 in eighths, as is the custom today."""
    unit = Fraction(fields.get("L") or "1/8")
    written = fields.get("M", "").replace(" ", "")
    metre = Metre.parse({"C": "4/4", "C|": "4/4", "2/2": "4/4", "": "4/4"}.get(written, written))
    return (Metre(4, 4), 2 * unit) if metre == Metre(2, 4) else (metre, unit)


def _cleaned(body: str) -> str:
    """Without what these collections write outside of the standard: loose brackets, names of ornaments."""
    plain = _QUOTED.sub("", body).replace("|]", "||")
    return _BRACKETS.sub(lambda found: found[1] or "", plain)


def _in_common_lexemes(tunes: Sequence[RealTune]) -> list[RealTune]:
    spelled = [(tune, tune.lexemes[_TERMS:-1]) for tune in tunes if read_lexemes(tune.lexemes[_TERMS:]) == tune.bars]
    seen = Counter(lexeme for _, lexemes in spelled for lexeme in lexemes)
    return [tune for tune, lexemes in spelled if all(seen[each] >= _LEAST_SEEN or is_bar(each) for each in lexemes)]


def skeleton(tune: RealTune, *, by_degree: bool) -> NDArray[np.int64]:
    """The letter that sounds at each eighth of the first bars, counted from the tonic or from C; -1 is a rest."""
    bars = tune.bars[:_COMPARED]
    shift = 0 if by_degree else tune.terms.key.tonic_step
    sounding = np.concatenate(
        [np.full(note.ticks, -1 if note.degree is None else (note.degree + shift) % 7) for bar in bars for note in bar]
    )
    return sounding[::EIGHTH]


def kinships(tunes: Sequence[RealTune]) -> list[int]:
    """To each tune the index of the first that it is nearly the same as: itself, where there is none."""
    kin = list(range(len(tunes)))
    for metre in sorted({str(tune.terms.metre) for tune in tunes}):
        members = [i for i, tune in enumerate(tunes) if str(tune.terms.metre) == metre]
        for by_degree in (True, False):
            lines = [skeleton(tunes[i], by_degree=by_degree) for i in members]
            length = max(len(line) for line in lines)
            table = np.stack([np.pad(line, (0, length - len(line)), constant_values=-2) for line in lines])
            for place, i in enumerate(members):
                alike = (table[:place] == table[place]).sum(1) >= _ALIKE * (table[place] != -2).sum()
                for other in np.flatnonzero(alike):
                    _join(kin, members[other], i)
    return [_root(kin, i) for i in range(len(kin))]


def _root(kin: list[int], i: int) -> int:
    while kin[i] != i:
        i = kin[i]
    return i


def _join(kin: list[int], a: int, b: int) -> None:
    low, high = sorted((_root(kin, a), _root(kin, b)))
    kin[high] = low


def _distinct(tunes: Sequence[RealTune]) -> list[RealTune]:
    """The first of those with the same melody."""
    first: dict[tuple[str, tuple[Bar, ...]], RealTune] = {}
    for tune in tunes:
        first.setdefault((str(tune.terms.metre), tune.bars), tune)
    return list(first.values())


def split_tunes(tunes: Sequence[RealTune]) -> TuneSplit:
    """Hold out every seventh kinship of each genre, with all its tunes."""
    kin = kinships(tunes)
    count: Counter[str] = Counter()
    held_out: set[int] = set()
    for root in sorted(set(kin)):
        genre = tunes[root].terms.genre
        count[genre] += 1
        if count[genre] % _HELD_OUT_EVERY == 0:
            held_out.add(root)
    parts = (
        [tune for tune, root in zip(tunes, kin, strict=True) if (root in held_out) == out] for out in (False, True)
    )
    return TuneSplit(*parts)


def write_split(folder: Path, split: TuneSplit) -> None:
    parts = {"train": split.train, "held_out": split.held_out}
    (folder / _FILE).write_text(json.dumps({name: [to_json(tune) for tune in tunes] for name, tunes in parts.items()}))


def read_split(folder: Path) -> TuneSplit:
    parts = json.loads((folder / _FILE).read_text())
    return TuneSplit(*([from_json(each) for each in parts[name]] for name in ("train", "held_out")))


def to_json(tune: RealTune) -> dict[str, str]:
    return {"title": tune.title, "lexemes": " ".join(tune.lexemes)}


def from_json(content: Mapping[str, str]) -> RealTune:
    genre, metre, mode, tonic, *rest = content["lexemes"].split()
    key = Key(tonic.partition(":")[2], mode.partition(":")[2])  # type: ignore[arg-type] - written by us
    terms = Terms(genre.partition(":")[2], Metre.parse(metre.partition(":")[2]), key)
    return RealTune(terms, read_lexemes(rest), content["title"])
