"""Owns the way from chat messages to token ids, by the model's own template or by its end token alone.

Users' text never becomes a special token. Tools go into the template where it teaches a format of calls that is known;
else a system message tells of them.

The ids are those of the template's rendering, as `apply_chat_template` gives them, if the contents added no special
token to it: that is checked against a rendering with innocent contents. If they did (a user wrote "<|im_end|>"), the
rendering is taken apart at the template's own special tokens, found in the rendering with innocent contents, and the
text between them is tokenised as plain text. A template that rewrites such contents is not followed: the request is
refused, for nobody could tell the template's special tokens from the user's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

from transformers import PreTrainedTokenizerBase

from services.families.transformer.hidden import Hidden, make_mark, places_of
from services.families.transformer.turns import Turn, told_turns, turns_of
from services.nn.text.call_formats import HERMES, CallFormat, format_of
from services.nn.text.tokenizer import Vocabulary
from shared.errors import InvalidRequest
from shared.schemas.text import ChatMessage
from shared.schemas.tools import FunctionTool


class _Rendering(NamedTuple):
    """A template's text cut at the contents: markup[0] content[0] markup[1] ... ; `order` says by marks whose."""

    markup: list[str]
    order: list[str]


class ChatEncoder:
    """One model's chat template. Thread-safe: nothing changes after construction."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, vocabulary: Vocabulary) -> None:
        self._tokenizer, self._vocabulary = tokenizer, vocabulary
        self._own_format = format_of(_template_for_tools(tokenizer))

    @property
    def calls(self) -> CallFormat:
        """The template's own, or that of the message that tells of tools."""
        return self._own_format or HERMES

    def encode(self, messages: Sequence[ChatMessage], tools: Sequence[FunctionTool] = ()) -> list[int]:
        """Ids of the conversation, ending where the assistant's answer begins. Raises InvalidRequest."""
        hidden = Hidden(self._vocabulary)
        if self._own_format is None:
            turns, definitions = told_turns(messages, tools), None
        else:
            turns = [turn._replace(more=hidden.hide(turn.more)) for turn in turns_of(messages, self._own_format)]
            definitions = hidden.hide([tool.definition for tool in tools]) if tools else None
        text = self._render(turns, definitions)
        ids = self._vocabulary.encode_markup(text)
        innocent, marks = self._innocent(turns, definitions)
        if not hidden.texts and self._specials(ids) == self._specials(self._vocabulary.encode_markup(innocent)):
            return ids
        return self._encode_apart(text, turns, _cut(innocent, [*marks, *hidden.texts]), marks, hidden)

    def end_of_turn(self) -> int | None:
        """The special token that the template writes after an assistant's message, if it writes one."""
        mark = make_mark(0)
        try:
            text = self._render([Turn("user", "a", {}, ""), Turn("assistant", mark, {}, "")], prompt=False)
        except InvalidRequest:
            return None
        after = self._vocabulary.encode_markup(text.partition(mark)[2].lstrip())
        return after[0] if after and after[0] in self._vocabulary.special_ids else None

    def _render(self, turns: Sequence[Turn], tools: list[Any] | None = None, *, prompt: bool = True) -> str:
        messages = [{"role": turn.role, "content": turn.content, **turn.more} for turn in turns]
        try:
            text = self._tokenizer.apply_chat_template(
                messages, tools=tools, tokenize=False, add_generation_prompt=prompt
            )
        except Exception as error:  # a template is a program, and refuses by raising what it likes
            raise InvalidRequest(
                f"This model's chat template refuses these messages: {error}", param="messages"
            ) from error
        return cast(str, text)

    def _specials(self, ids: Sequence[int]) -> list[int]:
        return [i for i in ids if i in self._vocabulary.special_ids]

    def _innocent(self, turns: Sequence[Turn], tools: list[Any] | None) -> tuple[str, list[str]]:
        """The rendering with unguessable letters for contents, and the letters; an empty content of a call stays."""
        marks = [make_mark(i) for i in range(len(turns))]
        marked = [
            turn if not turn.content and "tool_calls" in turn.more else turn._replace(content=mark)
            for turn, mark in zip(turns, marks, strict=True)
        ]
        return self._render(marked, tools), marks

    def _encode_apart(
        self, text: str, turns: Sequence[Turn], rendering: _Rendering, marks: Sequence[str], hidden: Hidden
    ) -> list[int]:
        for contents in ([t.content for t in turns], [t.content.strip() for t in turns]):  # some templates trim
            said = dict(zip(marks, contents, strict=True))
            pieces = [said.get(mark, mark) for mark in rendering.order]  # what is hidden is so in the text as well
            if text == "".join(map("".join, zip(rendering.markup, [*pieces, ""], strict=True))):
                return self._join(rendering.markup, [hidden.texts.get(piece, piece) for piece in pieces])
        culprits = [turn for turn in turns if self._specials(self._vocabulary.encode_markup(turn.content))]
        raise InvalidRequest(
            "The content holds the text of a special token, and this model's chat template rewrites contents, so the "
            "two cannot be told apart.",
            param=culprits[0].param if culprits else "messages",
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

    @property
    def calls(self) -> None:
        """Nothing has taught it any."""

    def encode(self, messages: Sequence[ChatMessage], tools: Sequence[FunctionTool] = ()) -> list[int]:
        """Ids of the turns, each with the end token behind it. Raises InvalidRequest for a system message."""
        ids: list[int] = []
        for i, message in enumerate(messages):
            if message.role not in ("user", "assistant"):
                raise InvalidRequest(
                    f"This model was trained on turns alone, and takes no {message.role} message.",
                    param=f"messages[{i}].role",
                )
            if message.calls:
                raise InvalidRequest("This model cannot call tools.", param=f"messages[{i}].tool_calls")
            ids += [*self._vocabulary.encode(message.text), self._end]
        return ids

    def end_of_turn(self) -> int:
        return self._end


def _template_for_tools(tokenizer: PreTrainedTokenizerBase) -> str:
    """The template that is taken where there are tools: of several, the one for them."""
    try:
        return tokenizer.get_chat_template(tools=[{}])
    except ValueError:  # several, and none is the default: nothing can be rendered, which requests will be told
        return ""


def _cut(text: str, marks: Sequence[str]) -> _Rendering:
    """A text at its marks."""
    places = sorted((at, mark) for mark in marks for at in places_of(text, mark))
    markup: list[str] = []
    end = 0
    for at, mark in places:
        markup.append(text[end:at])
        end = at + len(mark)
    return _Rendering([*markup, text[end:]], [mark for _, mark in places])
