"""Owns a voice's ONNX graph cut into three, so that its noise is an input and its sound is made piece by piece.

Runs none of it. Names nothing of a voice's inside but the operators that every VITS has: an export has other names for
its tensors, and the same two places where it draws noise, and the same convolutions on the way up to samples.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto, helper

from services.nn.errors import UnsupportedModel

IDS, LENGTHS, SCALES = "input", "input_lengths", "scales"
_NOISE, _CONV, _UP = "RandomNormalLike", "Conv", "ConvTranspose"
_KINDS = {IDS: TensorProto.INT64, LENGTHS: TensorProto.INT64}  # the other inputs are float32


@dataclass(frozen=True, slots=True)
class Part:
    """A graph of its own, as the bytes of an ONNX model. Its inputs and outputs have the names of the whole."""

    model: bytes
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class VoiceGraphs:
    """`reading` gives what `flow` takes beside its own noise, and `flow` the latent that `decoder` takes.

    `mean` is that output of the reading which has the shape of the flow's noise.
    """

    reading: Part
    flow: Part
    decoder: Part
    duration_noise: str
    frame_noise: str
    mean: str


def cut(path: Path) -> VoiceGraphs:
    """The three parts of a voice's file.

    Raises UnsupportedModel: it is no ONNX graph, has operators or data that are not in the file, or is no voice of
    one speaker as Piper exports them.
    """
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:  # protobuf's own, of which there are several
        raise _unsupported(f"it is no ONNX graph: {type(error).__name__}") from error
    graph = _Graph(model)
    noises = [node for node in graph.nodes if node.op_type == _NOISE]
    if len(noises) != 2 or [each.name for each in model.graph.input] != [IDS, LENGTHS, SCALES]:
        raise _unsupported(f"it is not a graph of {IDS}, {LENGTHS} and {SCALES} that draws noise twice")
    first, second = (node.output[0] for node in noises)
    if first not in graph.before([second]):
        raise _unsupported("neither of its noises comes after the other")
    (sound,) = (each.name for each in model.graph.output)
    latent = graph.before_first_up(sound)
    mean = noises[1].input[0]
    flow = graph.between([second], [latent])
    decoder = graph.between([latent], [sound])
    if decoder.inputs != (latent,):
        raise _unsupported("its decoder takes more than its latent")
    carried = [name for name in flow.inputs if name not in (second, SCALES)]
    reading = graph.part([IDS, LENGTHS, SCALES, first], list(dict.fromkeys([mean, *carried])))
    return VoiceGraphs(reading, flow, decoder, first, second, mean)


class _Graph:
    """A graph's nodes by what they give."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self.nodes: Sequence[Any] = model.graph.node
        self._constants = {each.name: each for each in model.graph.initializer}
        self._giver = {name: node for node in self.nodes for name in node.output}
        if any(node.domain not in ("", "ai.onnx") for node in self.nodes):
            raise _unsupported("it has operators that are not ONNX's own")
        attributes = [each for node in self.nodes for each in node.attribute]
        if any(each.HasField("g") or each.graphs for each in attributes):
            raise _unsupported("it has graphs within its graph")
        tensors = [*self._constants.values(), *(each.t for each in attributes)]
        if any(each.data_location == TensorProto.EXTERNAL for each in tensors):
            raise _unsupported("some of its weights are in other files")

    def before(self, names: Iterable[str], stop: Set[str] = frozenset()) -> set[str]:
        """The names and all that they are computed from, constants and inputs included, not looking behind `stop`."""
        seen: set[str] = set()
        todo = list(names)
        while todo:
            name = todo.pop()
            if name and name not in seen:
                seen.add(name)
                if name in self._giver and name not in stop:
                    todo += self._giver[name].input
        return seen

    def before_first_up(self, sound: str) -> str:
        """What the decoder's first convolution takes: it and at most an activation are before the first way up."""
        inside = self.before([sound])
        ups = [node for node in self.nodes if node.op_type == _UP and node.output[0] in inside]
        name = ups[0].input[0] if ups else ""
        while name in self._giver and self._giver[name].op_type != _CONV:
            name = self._giver[name].input[0]
        if name not in self._giver:
            raise _unsupported("it has no convolutions that lead up to samples")
        return self._giver[name].input[0]

    def between(self, starts: Sequence[str], ends: Sequence[str]) -> Part:
        """The nodes that make `ends` out of `starts`; what else they take of the graph's work becomes an input."""
        made: set[str] = set()
        for node in self.nodes:  # in an order in which each comes after what it takes
            if not made.union(starts).isdisjoint(node.input) and node.op_type != _NOISE:
                made.update(node.output)
        made &= self.before(ends, set(starts))
        varying = self._varying()
        taken = [name for node in self.nodes if not made.isdisjoint(node.output) for name in node.input]
        others = [name for name in dict.fromkeys(taken) if name in varying and name not in made.union(starts)]
        return self.part([*starts, *others], ends)

    def part(self, inputs: Sequence[str], outputs: Sequence[str]) -> Part:
        """What gives `outputs`, where `inputs` are given."""
        needed = self.before(outputs, set(inputs))
        nodes = [
            node for node in self.nodes if not needed.isdisjoint(node.output) and not set(node.output) & set(inputs)
        ]
        constants = [each for name, each in self._constants.items() if name in needed]
        graph = helper.make_graph(
            nodes,
            "part",
            [helper.make_tensor_value_info(name, _KINDS.get(name, TensorProto.FLOAT), None) for name in inputs],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
            constants,
        )
        model = helper.make_model(graph, opset_imports=self._model.opset_import, ir_version=self._model.ir_version)
        return Part(model.SerializeToString(), tuple(inputs), tuple(outputs))

    def _varying(self) -> set[str]:
        """What depends on the graph's inputs or noises."""
        found = {IDS, LENGTHS, SCALES}
        for node in self.nodes:
            if node.op_type == _NOISE or not found.isdisjoint(node.input):
                found.update(node.output)
        return found


def _unsupported(reason: str) -> UnsupportedModel:
    return UnsupportedModel("the voice", reason)
