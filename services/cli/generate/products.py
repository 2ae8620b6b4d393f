"""Owns the table of what `castalia generate` makes: what is asked where, and which types of file it comes in."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel

from services.cli.client import Client
from services.cli.generate.answers import Answer, Body, Seen, read_file, read_list, read_sounds
from services.cli.generate.file_types import FileType, Item, binary, json_lines, sound, table, text, texts
from services.cli.generate.series import read_series
from shared.schemas.audio import AudioGenerationRequest, SpeechRequest
from shared.schemas.forecasts import ForecastRequest
from shared.schemas.levels import LevelGenerationRequest
from shared.schemas.molecules import COLUMNS, MoleculeGenerationRequest
from shared.schemas.music import MusicGenerationRequest
from shared.schemas.records import RecordGenerationRequest


@dataclass(frozen=True, slots=True)
class Given:
    """The field of a request that is given as the command's argument, and how it is read."""

    field: str
    metavar: str
    help: str
    read: Callable[[str], object] = str


@dataclass(frozen=True, slots=True)
class Product:
    """What a task makes. Without `out` the first of `file_types` is printed."""

    task: str
    about: str
    path: str
    request: type[BaseModel]
    file_types: Mapping[str, FileType]  # by suffix
    examples: str
    read: Callable[[Client, str, Body, Seen], Answer] = read_list
    given: Given | None = None
    out: Path | None = None
    hidden: frozenset[str] = frozenset()

    @property
    def decided(self) -> frozenset[str]:
        """Fields of the request that are no options: hidden, or known from the argument or the type of file."""
        asked = {name for file_type in self.file_types.values() for name in file_type.asks}
        return self.hidden | asked | ({self.given.field} if self.given else set())


def _words(source: str) -> str:
    return sys.stdin.read() if source == "-" else source


def _molecule(item: Item) -> Iterator[Mapping[str, object]]:
    yield {column: item.get(column) for column in COLUMNS}


def _record(item: Item) -> Iterator[Mapping[str, object]]:
    yield item["record"]


def _forecast(item: Item) -> Iterator[Mapping[str, object]]:
    for at, time in enumerate(item["times"]):
        quantiles = {f"q{path['level']:g}": path["values"][at] for path in item["quantiles"]}
        yield {"series": item["index"], "time": time, "mean": item["mean"][at], **quantiles}


SOUNDS = {f".{format}": sound(response_format=format) for format in ("wav", "mp3", "opus", "aac", "flac", "pcm")}
PRODUCTS = (
    Product(
        "music",
        "Write a tune, as ABC, MIDI, MusicXML or sound.",
        "/v1/music/generations",
        MusicGenerationRequest,
        {
            ".abc": text("abc", formats=["abc"]),
            ".mid": binary("midi", formats=["midi"]),
            ".midi": binary("midi", formats=["midi"]),
            ".wav": binary("wav", formats=["wav"]),
            ".musicxml": text("musicxml", formats=["musicxml"]),
        },
        "castalia generate music --genre jig --bars 16 --out jig.mid\n\ncastalia generate music --key Em --seed 3",
    ),
    Product(
        "molecule",
        "Draw molecules, as SMILES, with what a chemistry library says of them, or as pictures.",
        "/v1/molecules/generations",
        MoleculeGenerationRequest,
        {
            ".smi": texts("smiles", between="\n"),
            ".csv": table(_molecule),
            ".jsonl": json_lines(),
            ".svg": text("svg", drawings=True),
        },
        "castalia generate molecule -n 5 --valid-only\n\n"
        'castalia generate molecule -n 100 --scaffold "c1ccccc1" --out rings.csv',
        hidden=frozenset({"format"}),
    ),
    Product(
        "record",
        "Draw synthetic rows of a table.",
        "/v1/records/generations",
        RecordGenerationRequest,
        {".csv": table(_record), ".jsonl": json_lines(lambda item: item["record"])},
        "castalia generate record -n 1000 --seed 7 --out patients.csv",
        hidden=frozenset({"format"}),
    ),
    Product(
        "level",
        "Draw levels of a game, as text or as pictures.",
        "/v1/levels/generations",
        LevelGenerationRequest,
        {".txt": texts("text", between="\n\n"), ".png": binary("b64_json"), ".jsonl": json_lines()},
        "castalia generate level\n\ncastalia generate level -n 3 --out level.png",
    ),
    Product(
        "forecast",
        "Say what may follow series, as quantiles.",
        "/v1/forecasts",
        ForecastRequest,
        {".csv": table(_forecast), ".jsonl": json_lines()},
        "castalia generate forecast sales.csv --horizon 12\n\n"
        "castalia generate forecast sales.csv --horizon 12 --quantiles 0.05 --quantiles 0.95 --out next.csv",
        given=Given(
            "input",
            "FILE",
            "CSV with a header line: values, or times and then values, a column for each series; or .json as the API"
            " takes it; - reads CSV from standard input.",
            read_series,
        ),
        hidden=frozenset({"times"}),
    ),
    Product(
        "speech",
        "Say a text.",
        "/v1/audio/speech",
        SpeechRequest,
        SOUNDS,
        'castalia generate speech "a 1 b 2" --voice allison --out letters.mp3',
        read=read_file,
        given=Given("input", "TEXT", "What to say; - reads it from standard input.", _words),
        out=Path("speech.wav"),
        hidden=frozenset({"stream_format"}),
    ),
    Product(
        "sound",
        "Make the sounds that a prompt names.",
        "/v1/audio/generations",
        AudioGenerationRequest,
        SOUNDS,
        "castalia generate sound snare -n 3 --out snare.wav",
        read=read_sounds,
        given=Given("prompt", "PROMPT", "What to make; a class of sounds."),
        out=Path("sound.wav"),
    ),
)
