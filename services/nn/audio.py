"""Owns sound on its way out: chunks of samples, and the encoders that turn a row's chunks into one file, as they come.

Never sees a network. A row's encoder is made with its parameters: its task is given the row's chunks in order.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import av
import numpy as np
import soundfile
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from numpy.typing import NDArray

from shared.events import AudioDelta, AudioFormat

Samples = NDArray[np.int16]  # (samples,), mono

PCM_RATE = 24000  # of `pcm`, by OpenAI's documentation, whatever the model's own rate is
_OPUS_RATES = (8000, 12000, 16000, 24000, 48000)  # RFC 6716
_UNKNOWN = 2**32 - 1  # of a WAV whose length is not known as it begins


class Encoder(Protocol):
    """Turns one row's samples into a file's bytes."""

    def feed(self, samples: Samples) -> bytes:
        """What can be written already."""
        ...

    def finish(self) -> bytes:
        """The rest."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class AudioChunk:
    """Samples that follow a row's earlier ones; with the `last` the file ends.

    `rate` in Hz is the model's own; `seed` is what draws the row again.
    """

    samples: Samples
    rate: int
    seed: int
    last: bool
    output: RowAudio


@dataclass(slots=True, eq=False)
class RowAudio:
    """How a row is written: its encoder, and the samples so far. Changed by `encode_chunk` alone."""

    format: AudioFormat
    encoder: Encoder
    prompt_tokens: int = 0
    samples: int = 0


def row_audio(format: AudioFormat, rate: int, *, streamed: bool, prompt_tokens: int) -> RowAudio:
    """A fresh one. Where nothing is streamed, a header is written when all is known."""
    make = _WHOLE.get(format) if not streamed else None
    return RowAudio(format, (make or _STREAMED[format])(rate), prompt_tokens)


def encode_chunk(chunk: AudioChunk) -> AudioDelta:
    """The event of a row's next chunk. Chunks must come in order, each once; takes up to a few milliseconds."""
    output = chunk.output
    output.samples += len(chunk.samples)
    data = output.encoder.feed(chunk.samples) if len(chunk.samples) else b""
    if chunk.last:
        data += output.encoder.finish()
    return AudioDelta(
        data=data,
        format=output.format,
        sample_rate=chunk.rate,
        seconds=output.samples / chunk.rate,
        seed=chunk.seed,
        prompt_tokens=output.prompt_tokens,
    )


class _Sink(io.RawIOBase):
    """Takes what a muxer writes. It cannot seek, so that no muxer goes back to what was sent."""

    def __init__(self) -> None:
        super().__init__()
        self._written = bytearray()

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False

    def write(self, data: object, /) -> int:
        piece = bytes(memoryview(data))  # pyright: ignore[reportArgumentType] # a buffer, as RawIOBase has it
        self._written += piece
        return len(piece)

    def drain(self) -> bytes:
        out, self._written = bytes(self._written), bytearray()
        return out


@dataclass(frozen=True, slots=True)
class _Codec:
    """Names of FFmpeg's, and the bits a second."""

    muxer: str
    encoder: str
    bit_rate: int
    options: Mapping[str, str]


_MP3 = _Codec("mp3", "libmp3lame", 64000, {"write_xing": "0", "id3v2_version": "0"})
_OPUS = _Codec("ogg", "libopus", 32000, {"page_duration": "40000"})  # microseconds; a second if nothing is said
_AAC = _Codec("adts", "aac", 48000, {})


class _Compressed:
    """By FFmpeg's encoders, packet by packet."""

    def __init__(self, codec: _Codec, rate: int) -> None:
        self._sink, self._rate, self._fed = _Sink(), rate, 0
        written = min((r for r in _OPUS_RATES if r >= rate), default=48000) if codec is _OPUS else rate
        self._container = av.open(self._sink, "w", format=codec.muxer, options=dict(codec.options))
        stream = self._container.add_stream(codec.encoder, rate=written)
        assert isinstance(stream, AudioStream)  # these encoders are of sound
        stream.layout = "mono"
        stream.bit_rate = codec.bit_rate
        self._stream = stream

    def feed(self, samples: Samples) -> bytes:
        for packet in self._stream.encode(_frame(samples, self._rate, self._fed)):
            self._container.mux(packet)
        self._fed += len(samples)
        return self._sink.drain()

    def finish(self) -> bytes:
        for packet in self._stream.encode(None):
            self._container.mux(packet)
        self._container.close()
        return self._sink.drain()


class _Pcm:
    """16-bit little-endian samples without a header, at PCM_RATE."""

    def __init__(self, rate: int) -> None:
        self._rate, self._fed = rate, 0
        self._resampler = AudioResampler(format="s16", layout="mono", rate=PCM_RATE)

    def feed(self, samples: Samples) -> bytes:
        frames = self._resampler.resample(_frame(samples, self._rate, self._fed))
        self._fed += len(samples)
        return b"".join(_bytes(frame) for frame in frames)

    def finish(self) -> bytes:
        return b"".join(_bytes(frame) for frame in self._resampler.resample(None))


class _StreamedWav:
    """Its header says that the length is unknown, as OpenAI's does."""

    def __init__(self, rate: int) -> None:
        self._header = wav_header(rate, None)

    def feed(self, samples: Samples) -> bytes:
        header, self._header = self._header, b""
        return header + samples.astype("<i2").tobytes()

    def finish(self) -> bytes:
        return self._header


class _Whole:
    """Gathers all, and gives the file in one piece."""

    def __init__(self, rate: int, write: Callable[[Samples, int], bytes]) -> None:
        self._rate, self._write = rate, write
        self._pieces: list[Samples] = []

    def feed(self, samples: Samples) -> bytes:
        self._pieces.append(samples)
        return b""

    def finish(self) -> bytes:
        return self._write(np.concatenate([*self._pieces, np.zeros(0, np.int16)]), self._rate)


def wav_header(rate: int, samples: int | None) -> bytes:
    """RIFF's 44 bytes before 16-bit mono samples; None: how many there are is not known yet."""
    size = _UNKNOWN if samples is None else 2 * samples
    riff = _UNKNOWN if samples is None else size + 36
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, rate, 2 * rate, 2, 16)
    return struct.pack("<4sI4s", b"RIFF", riff, b"WAVE") + form + struct.pack("<4sI", b"data", size)


def _wav(samples: Samples, rate: int) -> bytes:
    return wav_header(rate, len(samples)) + samples.astype("<i2").tobytes()


def _flac(samples: Samples, rate: int) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format="FLAC", subtype="PCM_16")
    return buffer.getvalue()


def _frame(samples: Samples, rate: int, fed: int) -> AudioFrame:
    frame = AudioFrame.from_ndarray(np.ascontiguousarray(samples)[None], format="s16", layout="mono")
    frame.sample_rate, frame.pts = rate, fed
    return frame


def _bytes(frame: AudioFrame) -> bytes:
    return frame.to_ndarray().astype("<i2").tobytes()


# FLAC's header counts what follows, and its readers want it: it comes in one piece at the end in either case.
_STREAMED: Mapping[AudioFormat, Callable[[int], Encoder]] = {
    "mp3": lambda rate: _Compressed(_MP3, rate),
    "opus": lambda rate: _Compressed(_OPUS, rate),
    "aac": lambda rate: _Compressed(_AAC, rate),
    "flac": lambda rate: _Whole(rate, _flac),
    "wav": _StreamedWav,
    "pcm": _Pcm,
}
_WHOLE: Mapping[AudioFormat, Callable[[int], Encoder]] = {"wav": lambda rate: _Whole(rate, _wav)}
