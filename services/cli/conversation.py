"""Owns a chat: its messages, and the commands that change it. Never sees a terminal or a socket."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

HELP = """\
/help           this list
/model [ID]     show the models, or talk to another one
/system [TEXT]  show the instructions, or set them and begin anew; /system - removes them
/reset          forget what was said
/save FILE      write the conversation as JSON
/quit           leave (so does Ctrl-D)
Ctrl-C stops the answer that is being written."""


@dataclass(slots=True)
class Conversation:
    """What was said so far, ready for the next request."""

    model: str
    system: str | None = None
    turns: list[dict[str, str]] = field(default_factory=list[dict[str, str]])

    def messages(self, question: str) -> list[dict[str, str]]:
        """The messages to send for a question; it is not part of the history yet."""
        opening = [{"role": "system", "content": self.system}] if self.system else []
        return [*opening, *self.turns, {"role": "user", "content": question}]

    def answered(self, question: str, answer: str) -> None:
        """Keep a question with what was answered to it, whole or stopped; one without any answer is forgotten."""
        if answer:
            self.turns += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]

    def reset(self) -> None:
        self.turns.clear()

    def instruct(self, text: str) -> None:
        """Set the instructions ("-" removes them) and begin anew: old answers followed the old ones."""
        self.system = None if text == "-" else text
        self.reset()

    def save(self, path: Path) -> None:
        """Write model and messages as JSON into a new file. Raises OSError, FileExistsError included."""
        opening = [{"role": "system", "content": self.system}] if self.system else []
        text = json.dumps({"model": self.model, "messages": [*opening, *self.turns]}, ensure_ascii=False, indent=1)
        with path.open("x", encoding="utf-8") as file:
            file.write(text + "\n")
