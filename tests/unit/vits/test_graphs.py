"""A voice's graph in three parts says what the whole says, and what is no voice is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from services.families.vits.graphs import cut
from services.families.vits.network import CONTEXT, Manner, VoiceNetwork
from services.nn.errors import UnsupportedModel
from tests.unit.vits.tiny import CHANNELS, HOP, VOICE, make_voice, write_voice

MANNER = Manner(0.7, 1.5, 0.3)


def whole(ids: list[int], rhythm: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """The sound by the graph in one piece, where both noises are given."""
    model = make_voice()
    kept = [node for node in model.graph.node if node.op_type != "RandomNormalLike"]
    del model.graph.node[:]
    model.graph.node.extend(kept)
    for name in ("rhythm", "noise"):
        model.graph.input.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    given = {
        "input": np.array([ids], np.int64),
        "input_lengths": np.array([len(ids)], np.int64),
        "scales": MANNER.array(),
        "rhythm": rhythm,
        "noise": noise,
    }
    return session.run(None, given)[0].reshape(-1)


def test_the_parts_give_the_sound_of_the_whole_graph_window_by_window(voice_path: Path) -> None:
    network, draw = VoiceNetwork(cut(voice_path)), np.random.default_rng(3)
    ids = VOICE.ids("one sentence, and some more words of it, so that it is longer.")
    rhythm = draw.standard_normal((1, 2, len(ids)), dtype=np.float32)
    reading = network.read(ids, MANNER, rhythm)
    noise = draw.standard_normal(reading.shape, dtype=np.float32)
    latent = network.sketch(reading, MANNER, noise)
    assert (network.hop, reading.shape[:2], latent.shape) == (HOP, (1, CHANNELS), reading.shape)
    assert reading.frames > 4 * CONTEXT
    windows = [network.sound(latent, first, min(first + 50, reading.frames)) for first in range(0, reading.frames, 50)]
    assert np.allclose(np.concatenate(windows), whole(ids, rhythm, noise), atol=1e-6)


def test_the_file_on_disk_draws_noise_of_its_own_and_the_parts_draw_none(voice_path: Path) -> None:
    graphs = cut(voice_path)
    drawn = [node.op_type for node in onnx.load(voice_path).graph.node].count("RandomNormalLike")
    parts = [onnx.load_from_string(part.model) for part in (graphs.reading, graphs.flow, graphs.decoder)]
    assert drawn == 2
    assert not [node for part in parts for node in part.graph.node if node.op_type.startswith("Random")]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"inputs": ["sid"]}, "not a graph of input, input_lengths and scales"),
        ({"noises": 1}, "draws noise twice"),
        ({"domain": "com.example"}, "operators that are not ONNX's own"),
        ({"reach": CONTEXT + 4}, f"depends on more than {CONTEXT} frames"),
    ],
    ids=["speakers", "one noise", "foreign operators", "sees too far"],
)
def test_what_is_no_voice_of_one_speaker_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UnsupportedModel, match=message):
        VoiceNetwork(cut(write_voice(tmp_path, **changes)))


def test_weights_in_other_files_are_refused_before_any_is_opened(tmp_path: Path) -> None:
    path = write_voice(tmp_path)
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="more.bin", size_threshold=0)
    with pytest.raises(UnsupportedModel, match="in other files"):
        cut(path)
    model = make_voice()
    constant = onnx.helper.make_node("Constant", [], ["more"], value=onnx.numpy_helper.from_array(np.ones(1), "more"))
    constant.attribute[0].t.data_location = onnx.TensorProto.EXTERNAL
    model.graph.node.append(constant)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(UnsupportedModel, match="in other files"):
        cut(path)


def test_a_graph_within_the_graph_is_refused(tmp_path: Path) -> None:
    path = write_voice(tmp_path)
    model = onnx.load(path)
    branch = onnx.helper.make_graph([], "branch", [], [])
    model.graph.node.append(onnx.helper.make_node("If", ["mask"], ["any"], then_branch=branch, else_branch=branch))
    onnx.save(model, path)
    with pytest.raises(UnsupportedModel, match="graphs within its graph"):
        cut(path)


@pytest.mark.parametrize("content", [b"", b"not a graph"], ids=["empty", "text"])
def test_a_file_that_is_no_graph_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "voice.onnx"
    path.write_bytes(content)
    with pytest.raises(UnsupportedModel):
        cut(path)
