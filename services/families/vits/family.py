"""Owns the family's entry: a folder with a voice of Piper's becomes a loaded model of speech."""

from __future__ import annotations

from pathlib import Path

import structlog

from services.families import LoadedModel
from services.families.vits.phonemes import Espeak
from services.families.vits.tasks import LONGEST, Speaking, SpeechTask
from services.families.vits.voice import find_voice
from services.nn.errors import UnsupportedModel
from shared.config.vits import VitsModel

_ROW = 2**24  # bytes of a sentence that is read and sketched, at the lowest speed, and of its encoder
_PASS = 2**27  # bytes that one pass over the longest sentence takes meanwhile


def load(config: VitsModel, folder: Path) -> LoadedModel:
    """Load a voice: NAME.onnx and NAME.onnx.json, already verified.

    Raises UnsupportedModel: what the extra `speech` installs, or espeak-ng, is missing, and how to get it; or the
    folder holds no voice that can be spoken with. DeviceFailure if memory is exhausted.
    """
    path, voice = find_voice(folder)
    phonemizer = Espeak.installed(voice.espeak.voice)
    try:
        from services.families.vits.graphs import cut  # noqa: PLC0415 - of the extra
        from services.families.vits.network import VoiceNetwork  # noqa: PLC0415
        from services.families.vits.sampler import SpeechSampler  # noqa: PLC0415
    except ImportError as error:
        reason = f"the package {error.name} is missing: install the extra `speech` (pip install 'castalia[speech]')"
        raise UnsupportedModel("the voice", reason) from error
    network = VoiceNetwork(cut(path))
    memory = 2 * path.stat().st_size + config.max_batch_size * _ROW + _PASS
    structlog.get_logger(__name__).info(
        "model_loaded", model=config.id, voice=config.voice, language=voice.espeak.voice, memory_mb=memory >> 20
    )
    speaking = Speaking(config.id, config.voice, config.temperature, config.gap_s, config.max_phonemes)
    return LoadedModel(
        sampler=SpeechSampler(network, voice, config.max_batch_size),
        tasks={"speech": SpeechTask(voice, phonemizer, speaking)},
        memory=memory,
        limits={
            "sample_rate": voice.audio.sample_rate,
            "max_phonemes": config.max_phonemes,
            "max_sentence_phonemes": LONGEST,
            "max_batch_size": config.max_batch_size,
        },
        revision=config.revision,
    )
