"""Speak into a file while it is made, and make a bar of drums out of single sounds.

    .venv/bin/castalia up
    .venv/bin/pip install openai numpy
    .venv/bin/python docs/examples/speak.py "a 1 b 2" --output sounds

It writes speech.mp3 and bar.wav into the folder.
"""

from __future__ import annotations

import argparse
import base64
import io
import time
import wave
from pathlib import Path

import httpx
import numpy as np
import openai

BEAT_S = 0.25  # eight to a bar
BAR = {"kick": (0, 3, 4), "snare": (2, 6), "hi-hat": (0, 1, 2, 3, 4, 5, 6, 7)}


def main() -> None:
    options = arguments()
    options.output.mkdir(parents=True, exist_ok=True)
    speak(options, options.output / "speech.mp3")
    write_bar(options, options.output / "bar.wav")


def speak(options: argparse.Namespace, path: Path) -> None:
    client = openai.OpenAI(base_url=f"{options.url}/v1", api_key=options.api_key)
    began = time.monotonic()
    with (
        client.audio.speech.with_streaming_response.create(
            model=options.speaker, voice=options.voice, input=options.text, extra_body={"seed": options.seed}
        ) as response,
        path.open("wb") as file,
    ):
        for part in response.iter_bytes():
            if file.tell() == 0:
                print(f"first bytes after {time.monotonic() - began:.2f} s")
            file.write(part)
    print(f"{path}: all after {time.monotonic() - began:.2f} s")


def write_bar(options: argparse.Namespace, path: Path) -> None:
    """Every stroke is a sound of its own: the same class, another seed."""
    bar, rate = np.zeros(0), 0
    for name, beats in BAR.items():
        for beat, (sound, rate) in zip(beats, sounds(options, name, len(beats)), strict=True):
            bar = bar if len(bar) else np.zeros(round(8 * BEAT_S * rate))
            first = round(beat * BEAT_S * rate)
            heard = sound[: len(bar) - first]
            bar[first : first + len(heard)] += heard
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((bar / np.abs(bar).max() * 30000).astype("<i2").tobytes())
    print(path)


def sounds(options: argparse.Namespace, prompt: str, count: int) -> list[tuple[np.ndarray, int]]:
    """Samples in [-1, 1] and their rate. Raises SystemExit with what the gateway says it did not like."""
    body = {"model": options.drummer, "prompt": prompt, "n": count, "seed": options.seed, "seconds": 1.0}
    headers = {"authorization": f"Bearer {options.api_key}"}
    answer = httpx.post(f"{options.url}/v1/audio/generations", json=body, headers=headers, timeout=120)
    if answer.is_error:
        raise SystemExit(answer.json()["error"]["message"])
    return [read_wav(base64.b64decode(each["b64_json"])) for each in answer.json()["data"]]


def read_wav(data: bytes) -> tuple[np.ndarray, int]:
    with wave.open(io.BytesIO(data)) as file:
        return np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32768, file.getframerate()


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", help="letters and digits")
    parser.add_argument("--output", type=Path, default=Path("sounds"))
    parser.add_argument("--speaker", default="spoken-words")
    parser.add_argument("--voice", default="allison")
    parser.add_argument("--drummer", default="sounds")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--api-key", default="none")
    return parser.parse_args()


if __name__ == "__main__":
    main()
