"""Owns the way from chat messages to token ids, by the model's own template or by its end token alone.

Users' text never becomes a special token.

The ids are those of the template's rendering, as `apply_chat_template` gives them, if the contents added no special
token to it: that is checked against a rendering with innocent contents. If they did (a user wrote "<|im_end|>"), the
rendering is taken apart at the template's own special tokens, found in the rendering with innocent contents, and the
text between them is tokenised as plain text. A template that rewrites such contents is not followed: the request is
refused, for nobody could tell the template's special tokens from the user's.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import NamedTuple, cast

from transformers import PreTrainedTokenizerBase

from services.nn.text.tokenizer import Vocabulary
from shared.errors import InvalidRequest
from shared.schemas.text import ChatMessage

# OpenAI's name for what templates call the system message.
_ROLES = {"developer": "system"}


class Turn(NamedTuple):
    role: str
    content: str
    name: str | None = None


class _Rendering(NamedTuple):
    """A template's text cut at the contents: markup[0] content[0] markup[1] ... ; `order` says whose content."""

    markup: list[str]
    order: list[int]


class ChatEncoder:
    """One model's chat template. Thread-safe: nothing changes after construction."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, vocabulary: Vocabulary) -> None:
        self._tokenizer, self._vocabulary = tokenizer, vocabulary

    def encode(self, messages: Sequence[ChatMessage]) -> list[int]:
        """Ids of the conversation, ending where the assistant's answer begins. Raises InvalidRequest."""
        turns = [Turn(_ROLES.get(m.role, m.role), m.text, m.name) for m in messages]
        text = self._render(turns)
        ids = self._vocabulary.encode_markup(text)
        innocent, rendering = self._innocent(turns)
        if self._specials(ids) == self._specials(self._vocabulary.encode_markup(innocent)):
            return ids
        return self._encode_apart(text, turns, rendering)

    def end_of_turn(self) -> int | None:
        """The special token that the template writes after an assistant's message, if it writes one."""
        mark = _mark(0)
        try:
            text = self._render([Turn("user", "a"), Turn("assistant", mark)], prompt=False)
        except InvalidRequest:
            return None
        after = self._vocabulary.encode_markup(text.partition(mark)[2].lstrip())
        return after[0] if after and after[0] in self._vocabulary.special_ids else None

    def _render(self, turns: Sequence[Turn], *, prompt: bool = True) -> str:
        messages = [
            {"role": turn.role, "content": turn.content} | ({} if turn.name is None else {"name": turn.name})
            for turn in turns
        ]
        try:
            text = self._tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=prompt)
        except Exception as error:  # a template is a program, and refuses by raising what it likes
            raise InvalidRequest(
                f"This model's chat template refuses these messages: {error}", param="messages"
            ) from error
        return cast(str, text)

    def _specials(self, ids: Sequence[int]) -> list[int]:
        return [i for i in ids if i in self._vocabulary.special_ids]

    def _innocent(self, turns: Sequence[Turn]) -> tuple[str, _Rendering]:
        """The rendering with unguessable letters for contents, whole and cut at them."""
        marks = [_mark(i) for i in range(len(turns))]
        text = self._render([turn._replace(content=mark) for turn, mark in zip(turns, marks, strict=True)])
        places = sorted((at, i) for i, mark in enumerate(marks) for at in _all(text, mark))
        markup: list[str] = []
        end = 0
        for at, i in places:
            markup.append(text[end:at])
            end = at + len(marks[i])
        return text, _Rendering([*markup, text[end:]], [i for _, i in places])

    def _encode_apart(self, text: str, turns: Sequence[Turn], rendering: _Rendering) -> list[int]:
        for contents in ([t.content for t in turns], [t.content.strip() for t in turns]):  # some templates trim
            pieces = [contents[i] for i in rendering.order]
            if text == "".join(map("".join, zip(rendering.markup, [*pieces, ""], strict=True))):
                return self._join(rendering.markup, pieces)
        culprit = next((i for i, t in enumerate(turns) if self._specials(self._vocabulary.encode_markup(t.content))), 0)
        raise InvalidRequest(
            "The content holds the text of a special token, and this model's chat template rewrites contents, so the "
            "two cannot be told apart.",
            param=f"messages[{culprit}].content",
        )

    def _join(self, markup: Sequence[str], contents: Sequence[str]) -> list[int]:
        """Ids: the markup's special tokens as such, all text between two of them as one plain text."""
        ids: list[int] = []
        plain = ""
        for written, content in zip(markup, [*contents, ""], strict=True):
            end = 0
            for start, stop, special in self._vocabulary.special_spans(written):
                ids += self._vocabulary.encode(plain + written[end:start])
                ids.append(special)
                plain, end = "", stop
            plain += written[end:] + content
        return ids + self._vocabulary.encode(plain)


class TurnEncoder:
    """Turns joined by the end token alone, as DialoGPT (Zhang 2019, arXiv:1911.00536) was trained: no roles."""

    def __init__(self, vocabulary: Vocabulary, end: int) -> None:
        self._vocabulary, self._end = vocabulary, end

    def encode(self, messages: Sequence[ChatMessage]) -> list[int]:
        """Ids of the turns, each with the end token behind it. Raises InvalidRequest for a system message."""
        ids: list[int] = []
        for i, message in enumerate(messages):
            if message.role not in ("user", "assistant"):
                raise InvalidRequest(
                    f"This model was trained on turns alone, and takes no {message.role} message.",
                    param=f"messages[{i}].role",
                )
            ids += [*self._vocabulary.encode(message.text), self._end]
        return ids

    def end_of_turn(self) -> int:
        return self._end


def _mark(index: int) -> str:
    """Letters that no client can have written, no tokenizer reads as special, and no template has reason to change."""
    letters = secrets.token_hex(16).translate(str.maketrans("0123456789", "ghijklmnop"))
    return f"q{letters}{'abcdefghij'[index % 10]}q"


def _all(text: str, mark: str) -> list[int]:
    places: list[int] = []
    at = text.find(mark)
    while at >= 0:
        places.append(at)
        at = text.find(mark, at + len(mark))
    return places
