"""Owns recorded arrivals: a CSV file in, one line a request; and a way to write one from a drawn load.

    python -m loadtests.traffic.trace loadtests/traffic/example.csv --arrivals bursts --rate 2 --seconds 60 --seed 1

The first line names the columns, in any order:

    seconds         when, from the trace's start; no line is earlier than the one before it
    modality        what is asked for, as in --modalities; empty or left out: drawn from those that are asked
    model           empty or left out: drawn from those that can do it
    prompt_tokens   empty or left out: drawn from --lengths, as is the next
    output_tokens   the longest answer asked for
"""

from __future__ import annotations

import argparse
import csv
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from loadtests.traffic.arrivals import KINDS, arrivals_of
from loadtests.traffic.lengths import LENGTHS

COLUMNS = ("seconds", "modality", "model", "prompt_tokens", "output_tokens")


class BadTrace(ValueError):
    """A file that is no trace; the message names the line."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request to come, at `at` seconds. What is None or empty is drawn."""

    at: float
    modality: str = ""
    model: str = ""
    prompt_tokens: int | None = None
    output_tokens: int | None = None


def read_trace(path: Path) -> list[Arrival]:
    """Raises BadTrace, OSError."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(_lines(path, file))


def _lines(path: Path, file: Iterable[str]) -> Iterator[Arrival]:
    reader = csv.DictReader(file, strict=True)
    try:
        unknown = set(reader.fieldnames or ()) - set(COLUMNS)
        if unknown or "seconds" not in (reader.fieldnames or ()):
            got = ", ".join(reader.fieldnames or ()) or "nothing"
            raise BadTrace(f"{path}, line 1: the columns are seconds and any of {', '.join(COLUMNS[1:])}; got {got}")
        last = 0.0
        for row in reader:
            arrival = _arrival(row, f"{path}, line {reader.line_num}")
            if arrival.at < last:
                raise BadTrace(
                    f"{path}, line {reader.line_num}: seconds must not fall; got {arrival.at:g} after {last:g}"
                )
            last = arrival.at
            yield arrival
    except csv.Error as error:
        raise BadTrace(f"{path}, line {reader.reader.line_num}: {error}") from error


def _arrival(row: dict[str | None, str | None], where: str) -> Arrival:
    if None in row or None in row.values():
        raise BadTrace(f"{where}: as many fields as there are columns are expected")
    text = {str(name): (value or "").strip() for name, value in row.items()}
    return Arrival(
        _seconds(text["seconds"], where),
        text.get("modality", ""),
        text.get("model", ""),
        _count(text.get("prompt_tokens", ""), "prompt_tokens", where),
        _count(text.get("output_tokens", ""), "output_tokens", where),
    )


def _seconds(text: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise BadTrace(f"{where}: seconds must be a number of at least 0; got {text!r}")
    return value


def _count(text: str, name: str, where: str) -> int | None:
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and int(text) >= 1):
        raise BadTrace(f"{where}: {name} must be a whole number of at least 1; got {text!r}")
    return int(text)


def shares_of(trace: Sequence[Arrival], processes: int) -> list[list[Arrival]]:
    """Each process's part, so that each line is sent once: the lines are dealt out like cards."""
    return [list(trace[start::processes]) for start in range(processes)]


def write_trace(path: Path, arrivals: Iterable[Arrival]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for each in arrivals:
            writer.writerow([f"{each.at:.3f}", each.modality, each.model, each.prompt_tokens, each.output_tokens])


def drawn(kind: str, lengths: str, *, rate: float, seconds: float, seed: int) -> Iterator[Arrival]:
    """A load as it would be drawn, in place of one that was recorded."""
    rng, mix = Random(seed), LENGTHS[lengths]
    for at in arrivals_of(kind, burst_size=4, day_s=seconds)(rng, rate, 0.0):
        if at >= seconds:
            return
        draw = mix.draw(rng, context=None, max_answer=None)
        yield Arrival(at, "", "", draw.prompt, draw.answer)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path, help="the file to write")
    parser.add_argument("--arrivals", choices=KINDS, default="poisson", help="bursts hold 4 requests on average")
    parser.add_argument("--lengths", choices=list(LENGTHS), default="short")
    parser.add_argument("--rate", type=float, default=1.0, help="requests a second, on average")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long the trace is")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    write_trace(args.path, drawn(args.arrivals, args.lengths, rate=args.rate, seconds=args.seconds, seed=args.seed))


if __name__ == "__main__":
    main()
