"""Owns the way from token ids to text, token by token: whole characters only, and nothing of a stop string.

Pure: each function returns the new state, so that a step that fails leaves the old one. The pieces of a row join to
the decoding of all its tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from services.nn.text.tokenizer import Vocabulary

_CONTEXT = 6  # prompt tokens that a decoder may need to see, to know that a word is not the first
_REPLACEMENT = "\ufffd"


class TextState(NamedTuple):
    """What a row's detokenizer holds back: bytes of an unfinished character, or the ids of its window."""

    pending: bytes = b""
    shown: tuple[int, ...] = ()  # ids whose text is out already; they give the window its context
    hidden: tuple[int, ...] = ()  # ids whose text is not


class Detokenizer(Protocol):
    def start(self, prompt: Sequence[int]) -> TextState: ...
    def push(self, state: TextState, token: int) -> tuple[TextState, str]:
        """Add one token; return the text that is final."""
        ...

    def flush(self, state: TextState) -> str:
        """The rest, with U+FFFD for bytes that no further token can complete."""
        ...


def make_detokenizer(vocabulary: Vocabulary) -> Detokenizer:
    return ByteLevelDetokenizer(vocabulary) if vocabulary.byte_level else WindowDetokenizer(vocabulary)


class ByteLevelDetokenizer:
    """For byte-level BPE: the text is the tokens' bytes, joined and read as UTF-8."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary

    def start(self, prompt: Sequence[int]) -> TextState:
        return TextState()

    def push(self, state: TextState, token: int) -> tuple[TextState, str]:
        if token in self._vocabulary.special_ids:
            return state, ""
        data = state.pending + self._vocabulary.token_bytes(token)
        cut = len(data) - _unfinished(data)
        return TextState(data[cut:]), data[:cut].decode(errors="replace")

    def flush(self, state: TextState) -> str:
        return state.pending.decode(errors="replace")


class WindowDetokenizer:
    """For every other decoder: decode a short window of ids twice, and take what the newest tokens added.

    A byte-fallback token never ends a piece: its decoder reads a run of bytes as a whole, valid or not.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary

    def start(self, prompt: Sequence[int]) -> TextState:
        context = tuple(prompt[-_CONTEXT:])
        cut_character = self._vocabulary.decode(context).endswith(_REPLACEMENT)
        return TextState() if cut_character else TextState(shown=context)

    def push(self, state: TextState, token: int) -> tuple[TextState, str]:
        if token in self._vocabulary.special_ids:
            return state, ""
        held = state._replace(hidden=(*state.hidden, token))
        if self._vocabulary.is_raw_byte(token):
            return held, ""
        before, text = self._decode(held)
        if text.endswith(_REPLACEMENT) or not text.startswith(before):
            return held, ""
        return TextState(shown=held.hidden), text[len(before) :]

    def flush(self, state: TextState) -> str:
        before, text = self._decode(state)
        return text[len(before) :]

    def _decode(self, state: TextState) -> tuple[str, str]:
        return self._vocabulary.decode(state.shown), self._vocabulary.decode(state.shown + state.hidden)


def _unfinished(data: bytes) -> int:
    """How many trailing bytes begin a UTF-8 character that more bytes could complete (0 to 3)."""
    for back in range(1, min(3, len(data)) + 1):
        byte = data[-back]
        if byte >= 0xC0:
            return back if _can_grow(data[-back:]) else 0
        if byte < 0x80:
            return 0
    return 0


def _can_grow(start: bytes) -> bool:
    """Whether some continuation makes these bytes one valid character (Unicode 15, table 3-7)."""
    first = start[0]
    size = 2 if 0xC2 <= first < 0xE0 else 3 if 0xE0 <= first < 0xF0 else 4 if 0xF0 <= first < 0xF5 else 0
    if len(start) >= size:
        return False
    if len(start) == 1:
        return True
    low, high = {0xE0: (0xA0, 0xBF), 0xED: (0x80, 0x9F), 0xF0: (0x90, 0xBF), 0xF4: (0x80, 0x8F)}.get(
        first, (0x80, 0xBF)
    )
    return low <= start[1] <= high


class Scan(NamedTuple):
    """`text` may go out, `held` may be the beginning of a stop string; `stopped`: a stop string was met."""

    text: str
    held: str
    stopped: bool


def scan_stops(buffer: str, stops: Sequence[str], *, armed: bool = True) -> Scan:
    """Split what is held at the earliest stop string, or before what may grow into one.

    `armed` is False while the row must go on (min_tokens): whole stop strings then pass as text.
    """
    if not stops:
        return Scan(buffer, "", False)
    if armed:
        found = [at for at in (buffer.find(stop) for stop in stops) if at >= 0]
        if found:
            return Scan(buffer[: min(found)], "", True)
    held = max(overlap(buffer, stop) for stop in stops)
    return Scan(buffer[: len(buffer) - held], buffer[len(buffer) - held :], False)


def overlap(buffer: str, stop: str) -> int:
    """Length of the longest end of `buffer` that is a beginning of `stop`, and not all of it."""
    for size in range(min(len(buffer), len(stop) - 1), 0, -1):
        if stop.startswith(buffer[len(buffer) - size :]):
            return size
    return 0
