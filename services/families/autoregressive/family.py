"""Owns the family's entry: a folder of weights becomes a loaded model of words, or of sounds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import structlog
import torch

from services.engine.contract import Task
from services.families import LoadedModel
from services.families.autoregressive.model import WaveNet, WaveNetConfig
from services.families.autoregressive.mulaw import CODES
from services.families.autoregressive.sampler import FRAMES, WaveSampler
from services.families.autoregressive.tasks import SoundTask, Speaking, SpeechTask
from services.families.autoregressive.vocabulary import Vocabulary
from services.nn.device import device_errors
from services.nn.errors import UnsupportedModel
from services.nn.weights import DTYPES, load_model
from shared.config.autoregressive import WaveSoundModel, WaveSpeechModel

_ENCODER = 2**19  # bytes that a row's encoder may hold


def load(config: WaveSpeechModel | WaveSoundModel, folder: Path) -> LoadedModel:
    """Load a model: config.json and model.safetensors, already verified.

    Raises UnsupportedModel for another kind of model, or one of another `kind` than models.yaml says;
    DeviceFailure if the device fails.
    """
    with device_errors():
        model = load_model(
            WaveNet, WaveNetConfig, folder, dtype=DTYPES[config.dtype], device=torch.device(config.device)
        )
    shape = model.config
    tasks = _tasks(config, shape)
    memory = _memory(model, config.max_batch_size)
    structlog.get_logger(__name__).info(
        "model_loaded", model=config.id, kind=shape.kind, sounds=len(shape.sounds), memory_mb=memory >> 20
    )
    limits = {
        "sample_rate": shape.rate,
        "max_frames": shape.frames,
        "frames_per_second": shape.rate / shape.frame,
        "max_batch_size": config.max_batch_size,
    }
    if isinstance(config, WaveSpeechModel):
        limits["max_words"] = config.max_words
    sampler = WaveSampler(model, config.max_batch_size)
    return LoadedModel(sampler=sampler, tasks=tasks, memory=memory, limits=limits, revision=config.revision)


def _tasks(config: WaveSpeechModel | WaveSoundModel, shape: WaveNetConfig) -> Mapping[str, Task[Any, Any, Any, Any]]:
    if shape.kind != config.kind:
        raise UnsupportedModel("the model", f"models.yaml must say `kind: {shape.kind}`; it says {config.kind}")
    vocabulary = Vocabulary(shape.sounds, config.id)
    if isinstance(config, WaveSpeechModel):
        speaking = Speaking(config.id, config.temperature, config.gap_s, config.max_words)
        return {"speech": SpeechTask(shape, vocabulary, speaking)}
    return {"sound": SoundTask(shape, vocabulary, config.temperature)}


def _memory(model: WaveNet, rows: int) -> int:
    """Bytes at most: the weights, and of each row its queues (twice while a step runs), noise and encoder."""
    shape = model.config
    weights = sum(tensor.nbytes for tensor in model.parameters())
    queues = (sum(shape.dilations) + FRAMES * len(shape.dilations)) * shape.channels
    noise = FRAMES * shape.frame * CODES
    conditions = FRAMES * len(shape.dilations) * 2 * shape.channels
    return weights + rows * (model.look.element_size() * (3 * queues + 3 * noise + 2 * conditions) + _ENCODER)
