"""Owns the bytes of sound: files as they are made, their events, whole answers. Never sees a socket, nor a sample.

Rows' files come encoded from the replica, piece by piece; the gateway joins the pieces, or puts them into base64.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from services.gateway.stream_writer import Framing
from shared.events import AudioDelta, AudioFormat, Finished, RowEvent

MEDIA_TYPES: Mapping[AudioFormat, str] = {
    "mp3": "audio/mpeg",
    "opus": "audio/ogg",
    "aac": "audio/aac",
    "flac": "audio/flac",
    "wav": "audio/wav",
    "pcm": "audio/pcm",
}


def file_framing(format: AudioFormat) -> Framing:
    """Of an answer that is the file itself: nothing else may be in it, so a failure cuts it short."""
    return Framing(MEDIA_TYPES[format].encode(), b"", b"", b"", has_comments=False, tells_failures=False)


class AudioCounts:
    """Counts what a request's files took.

    `prompt` is what was read, `completion` is none: no sound is made of tokens. `units` is work, in the model's own.
    """

    def __init__(self) -> None:
        self.prompt = 0
        self.completion = 0
        self.cached = 0
        self.units = 0.0
        self.any_seen = False

    def note(self, event: AudioDelta | Finished) -> None:
        if isinstance(event, AudioDelta):
            self.any_seen = True
            self.prompt = max(self.prompt, event.prompt_tokens)
        else:
            self.units += event.units

    def usage(self) -> dict[str, int]:
        return usage(self.prompt, self.units)


def usage(prompt_tokens: int, units: float) -> dict[str, int]:
    """OpenAI's `usage` of speech; output tokens are this model's units of work."""
    output = round(units)
    return {"input_tokens": prompt_tokens, "output_tokens": output, "total_tokens": prompt_tokens + output}


class SpeechFile:
    """Writes the file of a request's only row as it comes."""

    def __init__(self, counts: AudioCounts) -> None:
        self._counts = counts

    def encode(self, batch: Sequence[RowEvent]) -> bytes:
        return b"".join(event.data for _, event in _audio(batch, self._counts) if isinstance(event, AudioDelta))

    def last(self) -> bytes:
        return b""


class SpeechEvents:
    """Writes OpenAI's events of speech: `speech.audio.delta` with base64, and `speech.audio.done` last."""

    def __init__(self, counts: AudioCounts) -> None:
        self._counts = counts

    def encode(self, batch: Sequence[RowEvent]) -> bytes:
        data = b"".join(event.data for _, event in _audio(batch, self._counts) if isinstance(event, AudioDelta))
        return _event({"type": "speech.audio.delta", "audio": _base64(data)}) if data else b""

    def last(self) -> bytes:
        return _event({"type": "speech.audio.done", "usage": self._counts.usage()})


class SoundEvents:
    """Writes streamed sounds: `audio.generation.delta` as a file grows, `audio.generation.completed` at its end."""

    def __init__(self, counts: AudioCounts) -> None:
        self._counts = counts
        self._last: dict[int, AudioDelta] = {}

    def encode(self, batch: Sequence[RowEvent]) -> bytes:
        out: list[bytes] = []
        for row, event in _audio(batch, self._counts):
            if isinstance(event, AudioDelta):
                self._last[row] = event
                if event.data:
                    own = {"index": row, "audio": _base64(event.data)}
                    out.append(_event({"type": "audio.generation.delta", **own}))
            elif (audio := self._last.pop(row, None)) is not None:
                own = {"index": row, **_facts(audio), "usage": usage(audio.prompt_tokens, event.units)}
                out.append(_event({"type": "audio.generation.completed", **own}))
        return b"".join(out)

    def last(self) -> bytes:
        return b""


@dataclass(slots=True)
class _File:
    """A row's file so far, and what its last piece said of it."""

    pieces: list[bytes] = field(default_factory=list[bytes])
    last: AudioDelta | None = None


class Shelf:
    """Gathers all rows of a call for an answer in one piece."""

    def __init__(self) -> None:
        self.counts = AudioCounts()
        self._files: dict[int, _File] = {}

    def take(self, batch: Sequence[RowEvent]) -> None:
        for row, event in _audio(batch, self.counts):
            if isinstance(event, AudioDelta):
                file = self._files.setdefault(row, _File())
                file.pieces.append(event.data)
                file.last = event

    def answer(self, created: int, model: str) -> bytes:
        """The files in the rows' order, with what makes each again."""
        data = [
            {"b64_json": _base64(b"".join(file.pieces)), **_facts(file.last)}
            for _, file in sorted(self._files.items())
            if file.last is not None
        ]
        return _json({"created": created, "model": model, "data": data, "usage": self.counts.usage()})


def _audio(batch: Sequence[RowEvent], counts: AudioCounts) -> list[tuple[int, AudioDelta | Finished]]:
    """What a batch brought of sound, and the rows' ends, all counted."""
    found = [(row, event) for row, event in batch if isinstance(event, AudioDelta | Finished)]
    for _, event in found:
        counts.note(event)
    return found


def _facts(audio: AudioDelta) -> dict[str, object]:
    return {
        "format": audio.format,
        "seconds": round(audio.seconds, 6),
        "sample_rate": audio.sample_rate,
        "seed": audio.seed,
    }


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _event(fields: Mapping[str, object]) -> bytes:
    return b"data: " + _json(fields) + b"\n\n"


def _json(fields: Mapping[str, object]) -> bytes:
    return json.dumps(fields, separators=(",", ":")).encode()
