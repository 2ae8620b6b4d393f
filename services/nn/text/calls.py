"""Owns the reading of calls of tools out of an answer, piece by piece: what is text, and what a call's name and JSON.

Pure, as the detokenizer is: each reading returns a new state. However an answer is cut into pieces, what is read of it
is the same. What may still become a call is held back; what turns out to be none is text after all.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Literal, NamedTuple, cast

from services.nn.text.call_formats import CallFormat
from services.nn.text.call_json import Nesting, call_of, pass_json, spaces
from services.nn.text.detokenizer import overlap

ID_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
ID_LENGTH = 24
_MOST_HEADER = 512  # characters from an object's brace to that of its arguments, where these can be streamed
_HEADER = re.compile(
    r'\{\s*(?:"type"\s*:\s*"function"\s*,\s*)?"name"\s*:\s*"([A-Za-z0-9_-]{1,64})"\s*,'
    r'\s*"(?:arguments|parameters)"\s*:\s*(?=\{)'
)
_FIRST_KEY = re.compile(r'\{\s*(?:"(?P<key>[^"]*)(?P<closed>")?)?')
_KEYS = frozenset({"type", "name", "arguments", "parameters", "id"})

# TEXT: no call is near. OPEN: what is held may become one. ARGUMENTS: they are given out as they come. ENDING: behind
# them, in their object. REST: other fields of it, which say nothing. CLOSED: behind the object. DONE: nothing is read.
Phase = Literal["text", "open", "arguments", "ending", "rest", "closed", "done"]


class CallPiece(NamedTuple):
    """A piece of the answer's call of this number; `id` and `name` in its first alone, `arguments` JSON text."""

    call: int
    id: str | None
    name: str | None
    arguments: str


Piece = str | CallPiece


class CallState(NamedTuple):
    """`held` is not given out yet, `given` characters of it the prompt had. `said`: text came since the last call."""

    phase: Phase = "text"
    held: str = ""
    given: int = 0
    calls: int = 0
    said: bool = False
    nesting: Nesting = Nesting()
    scanned: int = 0  # characters of what is held that `nesting` has passed

    @property
    def is_full(self) -> bool:
        """Whether the answer has all the calls that it may have."""
        return self.phase == "done"


@dataclass(frozen=True, slots=True)
class CallReader:
    """How one row's calls are read: their format and names; whether more than one may come; what their ids begin from.

    `opened`: the prompt ends with the format's mark. `mark_id`: the mark's token, where it is a special one.
    """

    format: CallFormat
    names: frozenset[str]
    key: bytes
    parallel: bool = True
    opened: bool = False
    mark_id: int | None = None

    def start(self) -> CallState:
        if not self.opened:
            return CallState()
        return CallState("open", self.format.mark, given=len(self.format.mark))

    def read(self, state: CallState, text: str, *, last: bool) -> tuple[CallState, tuple[Piece, ...]]:
        """What the answer's next text gives, in order. `last`: no more comes, and nothing is held back."""
        reading = _Reading(self, state._replace(held=state.held + text))
        while reading.advance():
            pass
        if last:
            reading.end()
        return reading.state, tuple(reading.pieces)

    def call_id(self, index: int) -> str:
        number = int.from_bytes(blake2b(self.key + index.to_bytes(4, "big"), digest_size=24).digest(), "big")
        letters: list[str] = []
        for _ in range(ID_LENGTH):
            number, at = divmod(number, len(ID_LETTERS))
            letters.append(ID_LETTERS[at])
        return "call_" + "".join(letters)


class _Reading:
    """One reading on its way. Each step of `advance` makes of what is held as much as it can."""

    def __init__(self, reader: CallReader, state: CallState) -> None:
        self._reader, self._format = reader, reader.format
        self.state = state
        self.pieces: list[Piece] = []

    def advance(self) -> bool:
        """Whether there may be more to do."""
        return _STEPS[self.state.phase](self)

    def end(self) -> None:
        """Give out what is held, but for space behind a call, and say where the answer ends."""
        state = self.state
        rest = state.held.strip()
        is_end_of_call = not rest or (state.phase == "closed" and self._format.close.startswith(rest))
        if not (is_end_of_call and state.calls and not state.said):
            self._say(len(state.held))
        self.state = self.state._replace(held="")
        if not self.pieces:  # so that the last counts of tokens have a piece to go with
            self.pieces.append(CallPiece(state.calls - 1, None, None, "") if state.calls and not state.said else "")

    def read_text(self) -> bool:
        state, mark = self.state, self._format.mark
        if not mark:
            return self._beginning()
        at = state.held.find(mark)
        cut = len(state.held) - overlap(state.held, mark) if at < 0 else at
        self._say(len(state.held[:cut].rstrip()))
        if at >= 0:
            self._go("open")
        return at >= 0

    def _beginning(self) -> bool:
        """Of formats without a mark: an answer that begins as a call does, or goes on so behind one, may be one."""
        state = self.state
        rest = state.held.lstrip()
        if state.said or (rest and rest[0] != "{" and not rest.startswith(self._format.tag[: len(rest)] or "{")):
            self._say(len(state.held))
            return False
        if rest:
            self._go("open")
        return bool(rest)

    def read_open(self) -> bool:
        at = self._brace()
        if at is None:
            return False
        held = self.state.held
        if at < 0 or self._is_hopeless(at):
            return self._no_call()
        if header := _HEADER.match(held, at, at + _MOST_HEADER):
            if header[1] not in self._reader.names:
                return self._no_call()
            self._call(header[1], "")
            self._go("arguments", held=held[header.end() :])
            return True
        return self._whole(at)

    def _brace(self) -> int | None:
        """Where the object begins, behind what leads to it; None: it may still come; -1: it cannot."""
        held, form = self.state.held, self._format
        at = spaces(held, 0)
        for lead in (form.mark, form.tag, form.separator if self.state.calls else "", form.bracket):
            rest = held[at:]
            if lead and rest.startswith(lead):
                at = spaces(held, at + len(lead))
            elif rest and lead.startswith(rest):
                return None
        return None if at == len(held) else at if held[at] == "{" else -1

    def _is_hopeless(self, at: int) -> bool:
        """Whether the object's first field is none of a call's."""
        held = self.state.held
        first = cast(re.Match[str], _FIRST_KEY.match(held, at))
        key = first["key"]
        if key is None:
            return first.end() < len(held)
        return key not in _KEYS if first["closed"] else not any(known.startswith(key) for known in _KEYS)

    def _whole(self, at: int) -> bool:
        """A call whose fields have another order is read once its object is whole."""
        state = self.state
        nesting, end = pass_json(state.held, max(state.scanned, at), state.nesting)
        if end is None:
            self.state = state._replace(nesting=nesting, scanned=len(state.held))
            return False
        found = call_of(state.held[at:end])
        if found is None or found[0] not in self._reader.names:
            return self._no_call()
        self._call(*found)
        self._go("closed" if self._reader.parallel else "done", held=state.held[end:])
        return True

    def _no_call(self) -> bool:
        """What led to it is text; the rest is looked at again."""
        mark, held = self._format.mark, self.state.held
        at = spaces(held, 0)
        self._go("text")
        self._say(at + (len(mark) if held.startswith(mark, at) else 1) if mark else len(held))
        return True

    def read_arguments(self) -> bool:
        state = self.state
        nesting, end = pass_json(state.held, 0, state.nesting)
        if piece := state.held[:end]:
            self._argue(piece)
        if end is None:
            self.state = state._replace(held="", nesting=nesting)
            return False
        self._go("ending" if self._reader.parallel else "done", held=state.held[end:])
        return True

    def read_ending(self) -> bool:
        held = self.state.held
        at = spaces(held, 0)
        if at == len(held):
            return False
        if held[at] == "}":
            self._go("closed", held=held[at + 1 :])
        elif held[at] == ",":
            self._go("rest", held=held[at + 1 :], nesting=Nesting(depth=1))
        else:
            self._go("text")
        return True

    def read_rest(self) -> bool:
        state = self.state
        nesting, end = pass_json(state.held, 0, state.nesting)
        if end is None:
            self.state = state._replace(held="", nesting=nesting)
            return False
        self._go("closed", held=state.held[end:])
        return True

    def read_closed(self) -> bool:
        held, form = self.state.held, self._format
        at = spaces(held, 0)
        rest = held[at:]
        if not rest or (rest != form.close and form.close.startswith(rest)):
            return False
        if form.close and rest.startswith(form.close):
            self._go("text", held=rest[len(form.close) :])
        elif form.separator and rest.startswith(form.separator):
            self._go("open")
        else:
            self._go("text")
        return True

    def read_done(self) -> bool:
        self.state = self.state._replace(held="")
        return False

    def _go(self, phase: Phase, *, held: str | None = None, nesting: Nesting | None = None) -> None:
        """`held` is what is left of what was; None: all of it."""
        state = self.state
        given = state.given if held is None else 0
        held = state.held if held is None else held
        self.state = state._replace(phase=phase, held=held, given=given, nesting=nesting or Nesting(), scanned=0)

    def _say(self, length: int) -> None:
        """So much of what is held is text; what the prompt had of it is not said again."""
        state = self.state
        if text := state.held[min(state.given, length) : length]:
            if self.pieces and isinstance(self.pieces[-1], str):
                self.pieces[-1] += text
            else:
                self.pieces.append(text)
        given = max(0, state.given - length)
        self.state = state._replace(held=state.held[length:], given=given, said=state.said or bool(text))

    def _call(self, name: str, arguments: str) -> None:
        index = self.state.calls
        self.pieces.append(CallPiece(index, self._reader.call_id(index), name, arguments))
        self.state = self.state._replace(calls=index + 1, said=False)

    def _argue(self, text: str) -> None:
        index = self.state.calls - 1
        before = self.pieces[-1] if self.pieces else None
        if isinstance(before, CallPiece) and before.call == index:
            self.pieces[-1] = before._replace(arguments=before.arguments + text)
        else:
            self.pieces.append(CallPiece(index, None, None, text))


_STEPS: Mapping[Phase, Callable[[_Reading], bool]] = {
    "text": _Reading.read_text,
    "open": _Reading.read_open,
    "arguments": _Reading.read_arguments,
    "ending": _Reading.read_ending,
    "rest": _Reading.read_rest,
    "closed": _Reading.read_closed,
    "done": _Reading.read_done,
}
