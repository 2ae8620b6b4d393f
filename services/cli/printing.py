"""Owns how text that others wrote reaches the terminal: model output, names and messages from a server."""

from __future__ import annotations

import re

from rich.console import Console
from rich.text import Text

# Control characters but tab and newline: a model must not move the cursor, recolour or retitle the terminal.
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def print_piece(console: Console, text: str) -> None:
    """Write a streamed piece at once. A terminal gets no control characters; a pipe gets every character."""
    if console.is_terminal:
        text = _CONTROLS.sub("", text)
    console.file.write(text)
    console.file.flush()


def say_made(console: Console, what: str, model: object, seed: object, seconds: float, *more: str) -> None:
    """One line on something that was made: what, by which model, with which seed, and how long that took."""
    facts = (what, str(model), *(() if seed is None else (f"seed {seed}",)), f"{seconds:.1f} s", *more)
    console.print(plain("  ".join(facts)), soft_wrap=True)


def plain(text: str, style: str = "") -> Text:
    """Text that rich prints as it is: no markup, no control characters."""
    return Text(_CONTROLS.sub("", text), style=style)
