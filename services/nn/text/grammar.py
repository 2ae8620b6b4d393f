"""Owns forms of answers as grammars of one model's tokens: compiled, kept, and followed by rows. Never sees a logit.

By llguidance (github.com/guidance-ai/llguidance): a lexer of regular expressions by derivatives below an Earley parser,
walked along a trie of the tokens' bytes.
"""

from __future__ import annotations

import json
import time
from collections import OrderedDict
from threading import Lock
from typing import Any

from llguidance import LLMatcher, LLTokenizer, TokenizerWrapper, regex_to_lark

from services.engine.counts import Counts
from services.nn.text.grammar_trial import BadGrammar, limits, said, try_grammar
from services.nn.text.tokenizer import Vocabulary
from shared.errors import InvalidRequest, Overloaded
from shared.schemas.forms import AnswerForm

KEPT_GRAMMARS = 64  # of one model, some MB at most each
RETRY_S = 5.0


class Follower:
    """A row's place in its grammar. Looked at in a step, before the step is committed: it finds its way back."""

    def __init__(self, matcher: LLMatcher, ends: int) -> None:
        self._matcher, self._ends = matcher, ends
        self._read = 0  # tokens of the answer that the matcher has taken

    def allowed(self, made: int) -> bytes:
        """A bit for each token that may follow the row's first `made` ones, lowest first; none where it has failed."""
        if self._read > made:  # the step that read further came to nothing
            self._matcher.rollback(self._read - made)
            self._read = made
        mask = self._matcher.compute_bitmask()
        return bytes(len(mask)) if self._matcher.is_error() else mask

    def ends(self, allowed: bytes) -> bool:
        """Whether nothing but the end is allowed."""
        return int.from_bytes(allowed, "little") & ~self._ends == 0

    def completes(self, token: int, made: int) -> bool:
        """Read a token behind the row's first `made` ones. Whether the answer is whole, and nothing can follow."""
        if self._read > made or not self._matcher.consume_token(token):
            return False  # what has failed allows nothing, which the next step finds
        self._read = made + 1
        return self._matcher.is_stopped() and not self._matcher.is_error()


class Grammar:
    """A form of answers, compiled for a model. Rows share it, and follow copies of it."""

    def __init__(self, matcher: LLMatcher, ends: int, form: AnswerForm) -> None:
        self._matcher, self._ends, self.form = matcher, ends, form

    def follow(self) -> Follower:
        return Follower(self._matcher.deep_copy(), self._ends)


class Grammars:
    """A model's forms. Thread-safe. `width` is the logits' width, `ends` are the tokens that end an answer.

    The tokens' trie is made for the first form that is asked for, and KEPT_GRAMMARS forms are kept, refused ones too.
    """

    def __init__(self, vocabulary: Vocabulary, width: int, ends: frozenset[int]) -> None:
        self._vocabulary, self._width, self._ends = vocabulary, width, ends
        self._end_bits = sum(1 << i for i in ends)
        self._kept: OrderedDict[tuple[str, str, str | tuple[str, ...]], Grammar | str] = OrderedDict()
        self._tokenizer: LLTokenizer | None = None
        self._making, self._lock = Lock(), Lock()

    def __len__(self) -> int:
        return len(self._kept)

    def compile(self, form: AnswerForm, salt: str = "", counts: Counts | None = None) -> Grammar:
        """`counts`: of the model that asks, which may share its forms with others.

        Takes a tenth of a second for a form that is new to its salt, so that none learns by time of another's.

        Raises InvalidRequest for one that cannot be followed.
        Raises Overloaded where the machine has no time to find out.
        """
        key, counts = (salt, form.kind, form.text), counts or Counts()
        with self._lock:
            found = self._kept.get(key)
            if found is not None:
                self._kept.move_to_end(key)
                counts.add(forms_found=1)
        if found is None:
            found = self._counted(form, counts)
            with self._lock:
                self._kept[key] = found
                while len(self._kept) > KEPT_GRAMMARS:
                    self._kept.popitem(last=False)
        if isinstance(found, str):
            raise InvalidRequest(f"The answer cannot have this form: {found}", param=form.param)
        return found

    def _counted(self, form: AnswerForm, counts: Counts) -> Grammar | str:
        """As `_compiled`. Counted as refused is also what there was no time for."""
        began, found = time.monotonic(), None
        try:
            found = self._compiled(form)
            return found
        finally:
            outcome = "forms_compiled" if isinstance(found, Grammar) else "forms_refused"
            counts.add(form_seconds=time.monotonic() - began, **{outcome: 1})

    def _compiled(self, form: AnswerForm) -> Grammar | str:
        """The grammar, or what is wrong with it."""
        try:
            text = grammar_text(form)
            try_grammar(text)
        except ValueError as error:  # a BadGrammar, or the library's for what it cannot read at all
            return said(str(error))
        except TimeoutError:  # of the machine, not of the form: another time it may do
            raise Overloaded("There was no time to try the form of the answer.", retry_after=RETRY_S) from None
        matcher = LLMatcher(self._tokens(), text, log_level=0, limits=limits())
        if not matcher.is_error():
            matcher.compute_bitmask()  # what the first step of every row would do again
        return said(matcher.get_error()) or Grammar(matcher, self._end_bits, form)

    def _tokens(self) -> LLTokenizer:
        with self._making:
            if self._tokenizer is None:
                tokens = TokenizerWrapper(_Tokens(self._vocabulary, self._width, self._ends))
                slices = LLTokenizer.json_slices()
                self._tokenizer = LLTokenizer(tokens, self._width, eos_token=sorted(self._ends), slices=slices)
            return self._tokenizer


class _Tokens:
    """A vocabulary as llguidance wants it: bytes of every id below the width, and no special token is text."""

    bos_token_id = None

    def __init__(self, vocabulary: Vocabulary, width: int, ends: frozenset[int]) -> None:
        self._vocabulary = vocabulary
        self.eos_token_id = min(ends)
        self.tokens = [vocabulary.token_bytes(i) for i in range(width)]
        self.special_token_ids = sorted(i for i in vocabulary.special_ids | ends if i < width)
        special = set(self.special_token_ids)
        self._ids = {data: i for i, data in enumerate(self.tokens) if data and i not in special}
        self._longest_token = max(map(len, self._ids))

    def __call__(self, text: bytes) -> list[int]:
        """Tokens of text that must come, as the model would write it; joined, they are that text and nothing more."""
        ids = self._vocabulary.encode(text.decode(errors="replace"))
        if b"".join(self._vocabulary.token_bytes(i) for i in ids) == text:
            return ids
        return self._longest(text)  # SentencePiece begins every text with a space

    def _longest(self, text: bytes) -> list[int]:
        """The longest token that fits, again and again; less than the text where none does."""
        ids: list[int] = []
        while text:
            sizes = range(min(len(text), self._longest_token), 0, -1)
            size = next((size for size in sizes if text[:size] in self._ids), 0)
            if not size:
                break
            ids.append(self._ids[text[:size]])
            text = text[size:]
        return ids


def make_grammars(vocabulary: Vocabulary, width: int, ends: frozenset[int]) -> Grammars | None:
    """None: answers have no end token, or are not what their tokens stand for, joined (WordPiece and the like)."""
    return Grammars(vocabulary, width, ends) if ends and vocabulary.joins else None


# Compact, so that a model cannot spend its tokens on spaces; what is not known is refused, not overlooked.
_COMPACT = {"whitespace_flexible": False, "lenient": False, "item_separator": ",", "key_separator": ":"}


def grammar_text(form: AnswerForm) -> str:
    """The form in llguidance's own language. Raises BadGrammar for what is known to be too much, or no schema."""
    if form.kind == "lark":
        return LLMatcher.grammar_from_lark(str(form.text))
    if form.kind == "json":
        _schema(str(form.text))
        return LLMatcher.grammar_from_json_schema(str(form.text), overrides=_COMPACT)  # pyright: ignore[reportArgumentType]
    return LLMatcher.grammar_from_lark(form_rule("start", form))


def form_rule(name: str, form: AnswerForm) -> str:
    """The form as a rule of a grammar in lark. Raises what `grammar_text` does."""
    if isinstance(form.text, tuple):
        return f"{name}: " + " | ".join(map(json.dumps, form.text))
    if form.kind == "regex":
        return f"{name}: /" + regex_to_lark(form.text, "d") + "/"  # "d": digits are ASCII's
    return f"{name}: %json " + json.dumps(_schema(form.text) | {"x-guidance": _COMPACT})


def _schema(text: str) -> dict[str, Any]:
    schema = json.loads(text)
    if "x-guidance" in schema:
        raise BadGrammar("x-guidance is not taken")
    return schema
