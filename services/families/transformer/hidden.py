"""Owns letters that stand for users' text while a chat template is at work, so that both can be told apart after."""

from __future__ import annotations

import json
import secrets
from typing import Any, TypeVar, cast

from services.nn.text.tokenizer import Vocabulary

ValueT = TypeVar("ValueT")


def make_mark(index: int) -> str:
    """Letters that no client can have written, no tokenizer reads as special, and no template has reason to change."""
    letters = secrets.token_hex(16).translate(str.maketrans("0123456789", "ghijklmnop"))
    return f"q{letters}{'abcdefghij'[index % 10]}q"


def places_of(text: str, mark: str) -> list[int]:
    places: list[int] = []
    at = text.find(mark)
    while at >= 0:
        places.append(at)
        at = text.find(mark, at + len(mark))
    return places


class Hidden:
    """Texts of special tokens in what templates write as JSON: tools, arguments of calls. `texts` by their marks."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self.texts: dict[str, str] = {}

    def hide(self, value: ValueT) -> ValueT:
        """The value with a mark for each such text, in keys too."""
        if not self._vocabulary.special_spans(json.dumps(value, ensure_ascii=False)):
            return value
        return cast(ValueT, self._hidden(value))

    def _hidden(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._without(value)
        if isinstance(value, dict):
            return {self._without(str(key)): self._hidden(each) for key, each in cast(dict[Any, Any], value).items()}
        if isinstance(value, list):
            return [self._hidden(each) for each in cast(list[Any], value)]
        return value

    def _without(self, text: str) -> str:
        out, end = "", 0
        for start, stop, _ in self._vocabulary.special_spans(text):
            mark = make_mark(len(self.texts))
            self.texts[mark] = text[start:stop]
            out, end = out + text[end:start] + mark, stop
        return out + text[end:]
