"""Files of sound: each format opens with the right length, comes as it is made, and is the same by any cut."""

from __future__ import annotations

import io
import struct
import wave

import av
import numpy as np
import pytest
import soundfile

from services.nn.audio import PCM_RATE, AudioChunk, RowAudio, Samples, encode_chunk, row_audio
from shared.events import AudioFormat

SECONDS = 1.5
FORMATS: tuple[AudioFormat, ...] = ("mp3", "opus", "aac", "flac", "wav", "pcm")
LOSSY_S = 0.3  # that mp3 and aac add: their coders' delay, and whole frames


def tone(rate: int) -> Samples:
    return (np.sin(np.arange(round(SECONDS * rate)) * 2 * np.pi * 440 / rate) * 12000).astype(np.int16)


def pieces(output: RowAudio, samples: Samples, rate: int, size: int) -> list[bytes]:
    cuts = range(0, len(samples), size)
    chunks = [AudioChunk(samples[at : at + size], rate, 1, at == cuts[-1], output) for at in cuts]
    return [encode_chunk(chunk).data for chunk in chunks]


def decoded(format: AudioFormat, data: bytes, rate: int) -> tuple[Samples, int]:
    if format == "pcm":
        return np.frombuffer(data, "<i2"), PCM_RATE
    if format == "aac":
        with av.open(io.BytesIO(data)) as container:
            frames = [frame.to_ndarray()[0] for frame in container.decode(audio=0)]
        return np.concatenate(frames), rate
    return soundfile.read(io.BytesIO(data))


def pitch(samples: Samples, rate: int) -> float:
    spectrum = np.abs(np.fft.rfft(np.asarray(samples, np.float64)))
    return float(spectrum.argmax()) * rate / len(samples)


@pytest.mark.parametrize("rate", [8000, 22050])
@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize("format", FORMATS)
def test_a_file_opens_with_its_length_and_its_sound(format: AudioFormat, streamed: bool, rate: int) -> None:
    output = row_audio(format, rate, streamed=streamed, prompt_tokens=1)
    found, own = decoded(format, b"".join(pieces(output, tone(rate), rate, 256)), rate)
    assert len(found) / own == pytest.approx(SECONDS, abs=LOSSY_S if format in {"mp3", "aac"} else 0.01)
    assert pitch(found, own) == pytest.approx(440, abs=5)
    assert own == {"pcm": PCM_RATE, "opus": own}.get(format, rate)


@pytest.mark.parametrize("format", ["mp3", "opus", "aac", "wav", "pcm"])
def test_a_streamed_file_comes_as_it_is_made(format: AudioFormat) -> None:
    parts = pieces(row_audio(format, 8000, streamed=True, prompt_tokens=1), tone(8000), 8000, 128)
    first = next(i for i, part in enumerate(parts) if part)
    assert first < len(parts) / 4
    assert sum(bool(part) for part in parts) > 5


@pytest.mark.parametrize("format", FORMATS)
def test_how_the_samples_are_cut_does_not_change_the_file(format: AudioFormat) -> None:
    files = [
        b"".join(pieces(row_audio(format, 8000, streamed=False, prompt_tokens=1), tone(8000), 8000, size))
        for size in (100, 5000)
    ]
    if format == "opus":  # its pages, each with a number of its stream's own, are cut as packets come
        files = [decoded(format, file, 8000)[0].tobytes() for file in files]
    assert files[0] == files[1]


def test_a_wav_knows_its_length_where_it_is_wanted_whole_and_else_says_that_it_does_not() -> None:
    whole, streamed = (
        b"".join(pieces(row_audio("wav", 8000, streamed=streamed, prompt_tokens=1), tone(8000), 8000, 1000))
        for streamed in (False, True)
    )
    with wave.open(io.BytesIO(whole)) as file:
        assert (file.getnframes(), file.getframerate(), file.getsampwidth(), file.getnchannels()) == (12000, 8000, 2, 1)
    assert whole[44:] == streamed[44:] == tone(8000).tobytes()
    assert struct.unpack("<I", streamed[40:44]) == (2**32 - 1,)


@pytest.mark.parametrize("format", FORMATS)
def test_a_row_that_gives_no_sample_more_still_ends_its_file(format: AudioFormat) -> None:
    output, samples = row_audio(format, 8000, streamed=True, prompt_tokens=2), tone(8000)
    first = encode_chunk(AudioChunk(samples, 8000, 7, False, output))
    last = encode_chunk(AudioChunk(samples[:0], 8000, 7, True, output))
    assert len(decoded(format, first.data + last.data, 8000)[0]) >= len(samples)
    assert (last.seconds, last.seed, last.prompt_tokens, last.format) == (SECONDS, 7, 2, format)
