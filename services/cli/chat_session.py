"""Owns the loop of `castalia chat`: lines in, commands or streamed answers out, in a terminal or through pipes."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from pathlib import Path

from rich.console import Console

from services.cli.client import Client, Delta, End
from services.cli.context import CliError
from services.cli.conversation import HELP, Conversation
from services.cli.printing import plain, print_piece

PROMPT = "\001\033[1;36m\002you>\001\033[0m\002 "  # \001 and \002 tell readline what takes no space


class ChatSession:
    """One chat. `interactive` shows prompts and survives errors; through pipes the first error ends it."""

    def __init__(
        self, client: Client, chat: Conversation, options: Mapping[str, object], out: Console, *, interactive: bool
    ) -> None:
        self._client, self._chat, self._options, self._out = client, chat, options, out
        self._interactive = interactive
        self._commands: Mapping[str, Callable[[str], None]] = {
            "/help": self._help,
            "/model": self._model,
            "/system": self._system,
            "/reset": self._reset,
            "/save": self._save,
        }

    def run(self) -> None:
        """Until /quit or the end of input. Raises CliError where nobody sits at the terminal."""
        if self._interactive:
            import readline  # gives input() line editing and a history

            readline.parse_and_bind("set enable-bracketed-paste on")  # pasted newlines do not send
            self._note(f"{self._chat.model} at {self._client.url}; /help lists the commands")
        while (line := self._read()) is not None:
            if line.strip() == "/quit":
                return
            if line.strip():
                self._take(line)

    def _read(self) -> str | None:
        """The next line; None at the end. Ctrl-C at the prompt drops the line."""
        if not self._interactive:
            line = sys.stdin.readline()
            return line.rstrip("\n") if line else None
        try:
            return input(PROMPT)
        except EOFError:
            self._out.print()
            return None
        except KeyboardInterrupt:
            self._out.print()
            self._note("/quit or Ctrl-D leaves")
            return ""

    def _take(self, line: str) -> None:
        try:
            if line.startswith("/"):
                self._command(line)
            else:
                self._ask(line)
        except CliError as error:
            if not self._interactive:
                raise
            self._out.print(plain(f"error: {error}", "red"))

    def _command(self, line: str) -> None:
        name, _, argument = line.strip().partition(" ")
        if name not in self._commands:
            raise CliError(f"there is no command {name}; /help lists them")
        self._commands[name](argument.strip())

    def _ask(self, question: str) -> None:
        """Stream one answer. Ctrl-C closes the stream, which frees the model, and keeps what was said."""
        answer: list[str] = []
        body = {"model": self._chat.model, "messages": self._chat.messages(question), **self._options}
        began = time.monotonic()
        try:
            with closing(self._client.chat(body)) as stream:
                end = self._show(stream, answer)
        except KeyboardInterrupt:
            if not self._interactive:
                raise
            end = None
        finally:
            if answer:
                print_piece(self._out, "\n")
        self._chat.answered(question, "".join(answer))
        self._note("stopped" if end is None else _summary(end, time.monotonic() - began))

    def _show(self, stream: Iterable[Delta | End], answer: list[str]) -> End | None:
        """Print and gather the pieces as they come; return how the answer ended."""
        end: End | None = None
        for item in stream:
            if isinstance(item, Delta):
                answer.append(item.text)
                print_piece(self._out, item.text)
            else:
                end = item
        return end

    def _note(self, text: str) -> None:
        """A remark for a person; pipes carry answers alone."""
        if self._interactive:
            self._out.print(plain(text, "dim"))

    def _help(self, _: str) -> None:
        self._out.print(plain(HELP))

    def _model(self, model: str) -> None:
        served = [found.id for found in self._client.models() if "chat" in found.tasks]
        if not model:
            for found in served:
                self._out.print(plain(f"{'*' if found == self._chat.model else ' '} {found}"))
        elif model in served:
            self._chat.model = model
            self._note(f"now talking to {model}")
        else:
            raise CliError(f"no model {model!r} does chat here; there are: {', '.join(served)}")

    def _system(self, text: str) -> None:
        if text:
            self._chat.instruct(text)
            self._note("instructions set; the conversation begins anew")
        else:
            self._out.print(plain(self._chat.system or "no instructions"))

    def _reset(self, _: str) -> None:
        self._chat.reset()
        self._note("forgotten")

    def _save(self, name: str) -> None:
        if not name:
            raise CliError("name a file: /save FILE")
        try:
            self._chat.save(Path(name).expanduser())
        except OSError as error:
            raise CliError(f"could not write {name}: {error.strerror}") from error
        self._note(f"saved to {name}")


def _summary(end: End, seconds: float) -> str:
    full = "; stopped at the limit of tokens" if end.reason == "length" else ""
    rate = end.completion_tokens / seconds if seconds > 0 else 0.0
    return f"{end.completion_tokens} tokens in {seconds:.1f} s, {rate:.0f} a second{full}"
