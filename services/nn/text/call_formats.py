"""Owns the formats in which models write calls of tools, and how a model's own is told from its chat template."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class CallFormat:
    """How calls are written: mark, head, an object of name and arguments, more of them, tail.

    `head` follows the mark before the first object, `between` two of them, `tail` the last; `arguments` names their
    field. For reading: `separator` stands between two objects, `close` behind the last or behind each, `bracket` before
    the first; `tag` may stand before all. Without a mark, calls are an answer's beginning. `repeats`: each call has its
    own mark. `single`: the template takes no answer back that has more than one call, so none is made.
    """

    mark: str
    head: str
    between: str
    tail: str
    arguments: str = "arguments"
    separator: str = ""
    close: str = ""
    bracket: str = ""
    tag: str = ""
    single: bool = False

    @property
    def repeats(self) -> bool:
        return bool(self.mark) and self.mark in self.between


# Hermes 2 Pro (NousResearch/Hermes-Function-Calling), and Qwen 2.5 and 3 by their templates.
HERMES = CallFormat("<tool_call>", "\n", "\n</tool_call>\n<tool_call>\n", "\n</tool_call>", close="</tool_call>")
# Llama 3.1 and 3.2 (Meta's "User-defined Custom tool calling"): calls are the whole answer.
LLAMA = CallFormat("", "", "; ", "", arguments="parameters", separator=";", tag="<|python_tag|>")
# Mistral's tokenizers v2 and v3: one list, behind a token of its own.
MISTRAL = CallFormat("[TOOL_CALLS]", " [", ", ", "]", separator=",", close="]", bracket="[")


def format_of(template: str) -> CallFormat | None:
    """The format that a chat template teaches its model; None: it takes no tools, or teaches none that is known here.

    Qwen3-Coder's calls of XML and Mistral's later `[ARGS]` are not known.
    """
    if "tools" not in template:
        return None
    if "<tool_call>" in template and "<function=" not in template:
        return HERMES
    if "[TOOL_CALLS]" in template and "[ARGS]" not in template:
        return MISTRAL
    if '"parameters": ' in template and ("<|python_tag|>" in template or "Environment: ipython" in template):
        return replace(LLAMA, single="single tool-calls" in template)  # as it says in refusing more
    return None
