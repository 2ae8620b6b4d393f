"""Owns what a request for calls of tools comes to: how they are read, how the answer begins, and what holds it to them.

An answer that must call, or calls strict functions, or has a form beside its calls, follows a grammar of llguidance.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from services.nn.text.call_formats import CallFormat
from services.nn.text.calls import CallReader
from services.nn.text.grammar import form_rule
from services.nn.text.grammar_trial import said
from shared.errors import InvalidRequest
from shared.schemas.forms import AnswerForm
from shared.schemas.text import ChatRequest
from shared.schemas.tools import FunctionTool, NamedTool

# As json.dumps writes, which is how models were taught calls.
_SPACED = {"whitespace_flexible": False, "lenient": False, "item_separator": ", ", "key_separator": ": "}


@dataclass(frozen=True, slots=True)
class CallPlan:
    """How a request's rows may or must call tools. `opening` ends the prompt, `form` holds the answer."""

    format: CallFormat
    names: frozenset[str]
    parallel: bool
    opening: str
    form: AnswerForm | None
    mark_id: int | None

    def reader(self, seed: int, prompt: Sequence[int]) -> CallReader:
        """Of a row: the ids of its calls follow from its seed and its prompt."""
        key = blake2b(f"{seed} ".encode() + array("q", prompt).tobytes(), digest_size=16).digest()
        return CallReader(self.format, self.names, key, self.parallel, bool(self.opening), self.mark_id)


def plan_calls(form: CallFormat, request: ChatRequest, mark_id: int | None) -> CallPlan | None:
    """None: the request's answers call nothing. `mark_id`: the token of the format's mark, if it is a special one.

    Raises InvalidRequest for what the format cannot do.
    """
    tools = request.callable_tools
    if not tools:
        return None
    for i, tool in enumerate(tools):
        if "x-guidance" in tool.function.schema_of_arguments:
            raise InvalidRequest("x-guidance is not taken.", param=f"tools[{i}].function.parameters")
    choice, parallel = request.tool_choice, request.parallel_tool_calls and not form.single
    if isinstance(choice, NamedTool):
        tools, parallel = [tool for tool in tools if tool.function.name == choice.function.name], False
    names = frozenset(tool.function.name for tool in tools)
    if isinstance(choice, NamedTool) or choice == "required":
        held = _AnswerGrammar(form, tools, parallel, all_strict=True).calls()
        return CallPlan(form, names, parallel, form.mark, _form(held, request, tools), mark_id)
    grammar = _AnswerGrammar(form, tools, parallel, all_strict=False)
    if request.form is not None:
        if mark_id is not None:
            raise InvalidRequest(
                "This model writes calls behind a token that no form can hold: give tools or a form of the answer.",
                param=request.form.param,
            )
        return CallPlan(form, names, parallel, "", _form(grammar.calls_or(request.form), request, tools), mark_id)
    if any(tool.function.strict for tool in tools) and mark_id is None and (form.repeats or not form.mark):
        return CallPlan(form, names, parallel, "", _form(grammar.calls_or_text(), request, tools), mark_id)
    return CallPlan(form, names, parallel, "", None, mark_id)


def _form(lark: str, request: ChatRequest, tools: Sequence[FunctionTool]) -> AnswerForm:
    """`param` names the schema if there is but one."""
    asked = request.tools or []
    param = f"tools[{asked.index(tools[0])}].function.parameters" if len(tools) == 1 else "tools"
    return AnswerForm("lark", lark, param)


@dataclass(frozen=True, slots=True)
class _AnswerGrammar:
    """Writes grammars of answers. `all_strict`: each function's schema holds, else those of strict ones."""

    form: CallFormat
    tools: Sequence[FunctionTool]
    parallel: bool
    all_strict: bool

    def calls(self) -> str:
        """Calls and nothing else, behind the mark."""
        return self._grammar(_sequence(_text(self.form.head), self._some()))

    def calls_or(self, form: AnswerForm) -> str:
        """Calls, or an answer of a form."""
        calls = _sequence(_text(self.form.mark), _text(self.form.head), self._some())
        try:
            rule = form_rule("form", form)
        except ValueError as error:
            raise InvalidRequest(f"The answer cannot have this form: {said(str(error))}", param=form.param) from None
        return self._grammar(f"calls | form\ncalls: {calls}\n{rule}")

    def calls_or_text(self) -> str:
        """Text with calls in it, or, of a format without a mark, instead of it."""
        if not self.form.mark:
            return self._grammar(f"calls | TEXT?\ncalls: {self._some()}\nTEXT: /\\s*[^\\s{{](.|\\n)*/")
        marked = _sequence("head", _text(self.form.head), "call", _text(self.form.tail))
        rest = "marked* TEXT" if self.parallel else "marked | TEXT"
        mark = _as_regex(self.form.mark)
        return self._grammar(f"{rest}\nmarked: {marked}\nhead[lazy]: /(.|\\n)*{mark}/\nTEXT: /(.|\\n)*/")

    def _some(self) -> str:
        more = f"({_text(self.form.between)} call)*" if self.parallel else ""
        return _sequence("call", more, _text(self.form.tail))

    def _grammar(self, start: str) -> str:
        names = [f"call_{i}" for i in range(len(self.tools))]
        rules = [f"start: {start}", f"call: {' | '.join(names)}"]
        for i, tool in enumerate(self.tools):
            head = f'{{"name": {json.dumps(tool.function.name)}, "{self.form.arguments}": '
            rules.append(f"call_{i}: {_text(head)} arguments_{i} {_text('}')}")
            rules.append(f"arguments_{i}: %json {json.dumps(self._schema(tool))}")
        return "\n".join(rules)

    def _schema(self, tool: FunctionTool) -> dict[str, Any]:
        function = tool.function
        held = self.all_strict or function.strict
        schema = function.schema_of_arguments if held else {"type": "object"}
        return schema | {"x-guidance": _SPACED}


def _sequence(*parts: str) -> str:
    return " ".join(part for part in parts if part)


def _text(text: str) -> str:
    """A text as a grammar has it; nothing for none."""
    return json.dumps(text) if text else ""


def _as_regex(text: str) -> str:
    return "".join(char if char.isalnum() or char in "_<>" else f"\\{char}" for char in text)
