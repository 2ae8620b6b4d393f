"""Owns the running of a voice's three graphs by onnxruntime, one row at a time on one thread.

One row at a time: on one thread a batch of rows takes as long as they do one by one, and a row that never shares a
pass gets the same bits in any company.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from services.engine.errors import DeviceFailure
from services.families.vits.graphs import IDS, LENGTHS, SCALES, Part, VoiceGraphs
from services.nn.errors import UnsupportedModel

Floats = NDArray[np.float32]

CONTEXT = 16  # frames on either side that the sound of a frame may depend on; Piper's voices see 11 to 13
_PROBE = 8  # phonemes of the sentence by which a voice is tried
_MEMORY = ("allocate memory", "bad_alloc", "bad allocation")  # of onnxruntime's errors


@dataclass(frozen=True, slots=True)
class Manner:
    """How a sentence is spoken: spreads of the noise in its sound and in its rhythm, and its length."""

    noise: float
    length: float
    rhythm: float

    def array(self) -> Floats:
        return np.array([self.noise, self.length, self.rhythm], np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """How a sentence is to sound, frame by frame: what the flow takes beside noise of `shape`.

    `shape` is (1, channels, frames).
    """

    values: Mapping[str, Floats]
    shape: tuple[int, ...]

    @property
    def frames(self) -> int:
        return self.shape[-1]


class VoiceNetwork:
    """A voice that is ready to speak. Raises DeviceFailure from any of its runs when memory is exhausted."""

    def __init__(self, graphs: VoiceGraphs) -> None:
        """Raises UnsupportedModel: a part cannot run, or is not what a voice's should be."""
        self._graphs = graphs
        try:
            self._reading, self._flow, self._decoder = map(_session, (graphs.reading, graphs.flow, graphs.decoder))
            self.hop = 0  # samples of a frame
            self.hop = self._probe()
        except DeviceFailure:
            raise
        except Exception as error:  # onnxruntime's own, of which there are several
            raise UnsupportedModel("the voice", f"its graph does not run: {error}") from error

    def read(self, ids: Sequence[int], manner: Manner, noise: Floats) -> Reading:
        """`noise` (1, 2, ids) is of the phonemes' lengths."""
        graphs = self._graphs
        given = {
            IDS: np.array([ids], np.int64),
            LENGTHS: np.array([len(ids)], np.int64),
            SCALES: manner.array(),
            graphs.duration_noise: noise,
        }
        values = dict(zip(graphs.reading.outputs, _run(self._reading, given), strict=True))
        return Reading(values, values[graphs.mean].shape)

    def sketch(self, reading: Reading, manner: Manner, noise: Floats) -> Floats:
        """The latent (1, channels, frames) of what is read; `noise` has the reading's shape."""
        every = {**reading.values, SCALES: manner.array(), self._graphs.frame_noise: noise}
        return _run(self._flow, {name: every[name] for name in self._graphs.flow.inputs})[0]

    def sound(self, latent: Floats, first: int, last: int) -> Floats:
        """The samples of frames `first` to `last` (not included), in [-1, 1]: exactly those of the whole's."""
        low, high = max(0, first - CONTEXT), min(latent.shape[-1], last + CONTEXT)
        heard = self._decode(latent[..., low:high])
        return heard[(first - low) * self.hop : (last - low) * self.hop]

    def _decode(self, latent: Floats) -> Floats:
        (name,) = self._graphs.decoder.inputs
        return _run(self._decoder, {name: np.ascontiguousarray(latent)})[0].reshape(-1)

    def _probe(self) -> int:
        """Samples of a frame, once a part of a sound is found to be as in the whole. Raises ValueError."""
        manner, draw = Manner(1.0, 1.0, 0.0), np.random.default_rng(0)
        reading = self.read([1] * _PROBE, manner, np.zeros((1, 2, _PROBE), np.float32))
        channels = reading.shape[1]
        self.sketch(reading, manner, np.zeros(reading.shape, np.float32))
        latent = draw.standard_normal((1, channels, 3 * CONTEXT), dtype=np.float32)
        whole = self._decode(latent)
        self.hop, rest = divmod(len(whole), latent.shape[-1])
        if rest or not self.hop:
            raise ValueError("frames of unequal length")
        part = self.sound(latent, CONTEXT, CONTEXT + 1)
        if not np.allclose(part, whole[CONTEXT * self.hop : (CONTEXT + 1) * self.hop], atol=1e-5):
            raise ValueError(f"a frame's sound depends on more than {CONTEXT} frames on either side")
        return self.hop


def _session(part: Part) -> Any:
    options: Any = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.use_deterministic_compute = True
    options.enable_cpu_mem_arena = False  # an arena keeps what the longest sentence took
    options.enable_mem_pattern = False
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(part.model, options, providers=["CPUExecutionProvider"])


def _run(session: Any, given: Mapping[str, NDArray[Any]]) -> list[Floats]:
    try:
        return session.run(None, dict(given))
    except MemoryError as error:
        raise DeviceFailure(str(error)) from error
    except Exception as error:
        if any(sign in str(error) for sign in _MEMORY):
            raise DeviceFailure(str(error)) from error
        raise
