"""A voice with everything that Piper's have, in a few kilobytes: noise twice, durations, a way up to samples."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from services.families.vits.graphs import cut
from services.families.vits.network import VoiceNetwork
from services.families.vits.params import Sentence, SpeechParams
from services.families.vits.sampler import SpeechSampler
from services.families.vits.voice import VoiceConfig
from services.nn.audio import row_audio

CHANNELS, HOP, RATE = 4, 4, 8000
SIGNS = "_^$ .,;:!?'abcdefghijklmnopqrstuvwxyz"
CONFIG: dict[str, Any] = {
    "audio": {"sample_rate": RATE, "quality": "tiny"},
    "espeak": {"voice": "en-us"},
    "inference": {"noise_scale": 0.6, "length_scale": 1, "noise_w": 0.4},
    "phoneme_type": "espeak",
    "phoneme_id_map": {sign: [i] for i, sign in enumerate(SIGNS)},
    "num_speakers": 1,
}
VOICE = VoiceConfig.model_validate(CONFIG)


def make_voice(**changes: Any) -> onnx.ModelProto:
    """`changes`: `inputs` more of the graph's, `domain` of its last node, `reach` of the decoder's first convolution,
    `noises` 2 or 1."""
    reach = changes.get("reach", 1)
    draw = np.random.default_rng(7)
    floats = {
        "emb": draw.standard_normal((len(SIGNS), CHANNELS)),
        "pre": draw.standard_normal((CHANNELS, CHANNELS, 2 * reach + 1)) / 2,
        "up": draw.standard_normal((CHANNELS, 1, 2 * HOP)) / 2,
        "usual": np.array(1.9),
        "tenth": np.array(0.1),
        "zero": np.array(0.0),
        "one": np.array(1.0),
    }
    ints = {"i0": 0, "i1": 1, "i2": 2, "a0": [0], "a1": [1], "a2": [2]}
    constants = [numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in floats.items()]
    constants += [numpy_helper.from_array(np.asarray(value, np.int64), name) for name, value in ints.items()]
    node = helper.make_node
    second = "RandomNormalLike" if changes.get("noises", 2) == 2 else "Identity"
    nodes = [
        node("Gather", ["emb", "input"], ["embedded"]),  # (1, T, C)
        node("Transpose", ["embedded"], ["x"], perm=[0, 2, 1]),
        node("Slice", ["x", "a0", "a2", "a1"], ["like"]),  # (1, 2, T)
        node("RandomNormalLike", ["like"], ["rhythm"]),
        *(node("Gather", ["scales", f"i{i}"], [f"scale{i}"]) for i in range(3)),
        node("Mul", ["rhythm", "scale2"], ["varied"]),
        node("ReduceSum", ["varied", "a1"], ["log_w"], keepdims=1),  # (1, 1, T)
        node("Exp", ["log_w"], ["w"]),
        node("Mul", ["w", "scale1"], ["longer"]),
        node("Mul", ["longer", "usual"], ["durations"]),
        node("Ceil", ["durations"], ["whole"]),
        node("CumSum", ["whole", "i2"], ["ends"]),
        node("Sub", ["ends", "whole"], ["starts"]),
        node("ReduceSum", ["whole"], ["count"], keepdims=0),
        node("Range", ["zero", "count", "one"], ["frames"]),
        node("Unsqueeze", ["frames", "a1"], ["frame"]),  # (F, 1)
        node("Less", ["frame", "ends"], ["before"]),  # (1, F, T)
        node("Less", ["frame", "starts"], ["early"]),
        node("Not", ["early"], ["late"]),
        node("And", ["before", "late"], ["inside"]),
        node("Cast", ["inside"], ["path"], to=TensorProto.FLOAT),
        node("MatMul", ["path", "embedded"], ["spread"]),
        node("Transpose", ["spread"], ["mean"], perm=[0, 2, 1]),  # (1, C, F)
        node("ReduceSum", ["path", "a2"], ["covered"], keepdims=0),
        node("Unsqueeze", ["covered", "a1"], ["mask"]),
        node(second, ["mean"], ["noise"]),
        node("Mul", ["mean", "tenth"], ["log_std"]),
        node("Exp", ["log_std"], ["std"]),
        node("Mul", ["noise", "std"], ["spread_noise"]),
        node("Mul", ["spread_noise", "scale0"], ["quiet_noise"]),
        node("Add", ["mean", "quiet_noise"], ["prior"]),
        node("Mul", ["prior", "mask"], ["latent"]),
        node("Conv", ["latent", "pre"], ["first"], pads=[reach, reach]),
        node("LeakyRelu", ["first"], ["active"]),
        node("ConvTranspose", ["active", "up"], ["raised"], strides=[HOP], pads=[HOP // 2, HOP // 2]),
        node("Tanh", ["raised"], ["wave"]),
        node("Unsqueeze", ["wave", "a1"], ["output"], domain=changes.get("domain", "")),
    ]
    value = helper.make_tensor_value_info
    inputs = [
        value("input", TensorProto.INT64, ["b", "t"]),
        value("input_lengths", TensorProto.INT64, ["b"]),
        value("scales", TensorProto.FLOAT, [3]),
        *(value(name, TensorProto.INT64, ["b"]) for name in changes.get("inputs", ())),
    ]
    graph = helper.make_graph(nodes, "tiny", inputs, [value("output", TensorProto.FLOAT, None)], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)


def write_voice(folder: Path, **changes: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(make_voice(**changes), folder / "tiny.onnx")
    (folder / "tiny.onnx.json").write_text(json.dumps(CONFIG))
    return folder / "tiny.onnx"


def make_sampler(path: Path, rows: int = 8) -> SpeechSampler:
    return SpeechSampler(VoiceNetwork(cut(path)), VOICE, rows)


def params(seed: int, *texts: str, temperature: float = 1.0, speed: float = 1.0, silence: int = 5) -> SpeechParams:
    """A row that says these, letter by letter."""
    sentences = [Sentence(VOICE.ids(text), len(text), silence if i else 0) for i, text in enumerate(texts)]
    output = row_audio("wav", RATE, streamed=True, prompt_tokens=sum(map(len, texts)))
    return SpeechParams("speech", seed, sentences, temperature, speed, output)


class Letters:
    """A phonemizer to whom a letter is a phoneme. `empty` says nothing."""

    def __init__(self, empty: str = "#") -> None:
        self.asked: list[Sequence[str]] = []
        self._empty = empty

    def phonemes(self, lines: Sequence[str]) -> list[str]:
        self.asked.append(lines)
        return ["" if line == self._empty else line.casefold() for line in lines]
