"""Owns the trial of a grammar: a process of its own, whose time and memory the kernel bounds, compiles it and goes.

The library bounds its own work, but not all of it: a `multipleOf` of a billion would hold a thread for hours. Run as a
program it reads a grammar from its standard input, and says what is wrong with it, or nothing. It compiles for an
alphabet of bytes, which is what grows without bound; what depends on the model's tokens is bounded by `limits`.
"""

from __future__ import annotations

import re
import resource
import subprocess
import sys

from llguidance import LLMatcher, LLParserLimits, LLTokenizer, TokenizerWrapper

TRIAL_CPU_S = 2
TRIAL_S = 20.0  # by the clock, on a machine that has no time for it
TRIAL_MEMORY = 2**30
MOST_SAID = 300  # characters of what the library says

_BYTES = [bytes([i]) for i in range(256)]
_END = 256


class BadGrammar(ValueError):
    """What is wrong with a grammar, in the library's words or ours."""


def limits() -> LLParserLimits:
    """What compiling and a step may cost: some 20 ms at first, 7 ms a step and row, 10 MB a row."""
    return LLParserLimits(
        max_items_in_row=10_000,
        initial_lexer_fuel=1_000_000,
        step_lexer_fuel=100_000,
        step_max_items=50_000,
        max_lexer_states=5_000,
        max_grammar_size=100_000,
        verbose_errors=False,
    )


def try_grammar(grammar: str) -> None:
    """Raises BadGrammar where the grammar does not compile within its bounds. Takes a tenth of a second.

    Raises TimeoutError where the machine had no time to find out.
    """
    try:
        # The program is this file alone: nothing of the tree is imported, and torch least of all.
        done = subprocess.run(  # noqa: S603 - our own interpreter and file
            [sys.executable, "-I", __file__], input=grammar.encode(), capture_output=True, timeout=TRIAL_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise TimeoutError("a grammar was not tried in time") from None
    if done.returncode != 0:
        raise BadGrammar(f"it takes more than {TRIAL_CPU_S} seconds or {TRIAL_MEMORY >> 20} MiB to compile")
    if done.stdout:
        raise BadGrammar(done.stdout.decode(errors="replace"))


class _Bytes:
    """A tokenizer of bytes, as the library wants one."""

    eos_token_id, bos_token_id = _END, None
    tokens = (*_BYTES, b"<end>")
    special_token_ids = (_END,)

    def __call__(self, text: bytes) -> list[int]:
        return list(text)


def said(error: str) -> str:
    """The library's words on one line, without the grammar's text; empty for no error."""
    error = re.sub(r"^at \d+\(\d+\): ", "", error)
    words = re.split(r"\n\s*\d+ \|", error)[0].replace("<non-verbose/>", "")
    return " ".join(words.replace("NoExtensionBias", "nothing has it").split())[:MOST_SAID]


def main() -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (TRIAL_CPU_S, TRIAL_CPU_S))
    resource.setrlimit(resource.RLIMIT_AS, (TRIAL_MEMORY, TRIAL_MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    tokenizer = LLTokenizer(TokenizerWrapper(_Bytes()), n_vocab=len(_Bytes.tokens), eos_token=_END)
    matcher = LLMatcher(tokenizer, sys.stdin.buffer.read().decode(), log_level=0, limits=limits())
    if not matcher.is_error():
        matcher.compute_bitmask()
    sys.stdout.buffer.write(said(matcher.get_error()).encode(errors="replace"))


if __name__ == "__main__":
    main()
