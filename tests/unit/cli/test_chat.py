import json
import os
import pty
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.cli.conftest import Run
from tests.unit.cli.wire_server import WireServer

ANSWER = "Hello\u2028é"


def test_each_line_of_a_pipe_is_answered_with_the_history_before_it(run: Run, server: WireServer) -> None:
    result = run("chat", "--url", server.url, input="one\n\ntwo\n")
    assert (result.exit_code, result.stdout) == (0, f"{ANSWER}\n{ANSWER}\n")
    assert server.asked[1]["messages"] == [
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": ANSWER},
        {"role": "user", "content": "two"},
    ]


def test_reset_forgets_the_history_and_keeps_the_instructions(run: Run, server: WireServer) -> None:
    run("chat", "--system", "Rhyme.", "--url", server.url, input="one\n/reset\ntwo\n")
    assert [message["content"] for message in server.asked[1]["messages"]] == ["Rhyme.", "two"]


def test_system_sets_and_removes_the_instructions_and_begins_anew(run: Run, server: WireServer) -> None:
    result = run("chat", "--url", server.url, input="one\n/system Rhyme.\n/system\ntwo\n/system -\nthree\n")
    assert [[m["content"] for m in asked["messages"]] for asked in server.asked] == [
        ["one"],
        ["Rhyme.", "two"],
        ["three"],
    ]
    assert "Rhyme." in result.stdout


def test_model_lists_and_changes_the_model(run: Run, server: WireServer) -> None:
    server.models.append({**server.models[1], "id": "second"})
    result = run("chat", "--url", server.url, input="/model\n/model second\nhi\n")
    assert "* tiny\n  second\n" in result.stdout
    assert server.asked[0]["model"] == "second"


def test_save_writes_the_conversation_and_never_over_a_file(run: Run, server: WireServer, tmp_path: Path) -> None:
    result = run("chat", "--url", server.url, input="one\n/save said.json\n/save said.json\n")
    saved = json.loads((tmp_path / "said.json").read_text())
    assert saved == {
        "model": "tiny",
        "messages": [{"role": "user", "content": "one"}, {"role": "assistant", "content": ANSWER}],
    }
    assert result.exit_code == 1
    assert "File exists" in result.stderr


def test_help_lists_every_command(run: Run, server: WireServer) -> None:
    result = run("chat", "--url", server.url, input="/help\n")
    for command in ("/help", "/reset", "/model", "/system", "/save", "/quit"):
        assert command in result.stdout


def test_quit_ends_before_the_lines_after_it(run: Run, server: WireServer) -> None:
    assert run("chat", "--url", server.url, input="/quit\nhello\n").exit_code == 0
    assert not server.asked


@pytest.mark.parametrize("line", ["/nonsense", "/model absent", "/save"])
def test_through_a_pipe_a_wrong_command_ends_with_an_error(run: Run, server: WireServer, line: str) -> None:
    result = run("chat", "--url", server.url, input=f"{line}\nhello\n")
    assert result.exit_code == 1
    assert not server.asked


def test_through_a_pipe_a_broken_stream_ends_with_an_error(run: Run, server: WireServer) -> None:
    server.ending = "error"
    result = run("chat", "--url", server.url, input="one\ntwo\n")
    assert result.exit_code == 1
    assert "the model failed" in result.stderr
    assert len(server.asked) == 1


# A test run in the background ignores Ctrl-C, and its children would inherit that.
CHAT = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from services.cli import main
main()
"""


class Terminal:
    """`castalia chat` in a pseudo-terminal."""

    def __init__(self, url: str, home: Path) -> None:
        self._master, slave = pty.openpty()
        command = [sys.executable, "-c", CHAT, "chat", "--url", url]
        env = os.environ | {"CASTALIA_HOME": str(home), "TERM": "xterm", "COLUMNS": "200"}
        self.process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, env=env)
        os.close(slave)
        self._seen = ""

    def wait_for(self, text: str) -> str:
        """Read on until the text appears; return what came before it and has not been returned yet."""
        assert self._appears(text, 60), f"{text!r} did not appear in {self._seen!r}"
        before, _, self._seen = self._seen.partition(text)
        return before

    def _appears(self, text: str, seconds: float) -> bool:
        while text not in self._seen:
            ready, _, _ = select.select([self._master], [], [], seconds)
            if not ready:
                return False
            self._seen += os.read(self._master, 4096).decode()
        return True

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def interrupt(self) -> None:
        self.process.send_signal(signal.SIGINT)

    def interrupt_until(self, text: str) -> None:
        """Press Ctrl-C as a person would, again if need be: CPython misses one that comes just before it blocks."""
        for _ in range(60):
            self.interrupt()
            if self._appears(text, 1):
                break
        self.wait_for(text)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._master)


def test_ctrl_c_stops_the_answer_and_not_the_program(server: WireServer, tmp_path: Path) -> None:
    server.ending = "hang"
    terminal = Terminal(server.url, tmp_path)
    try:
        terminal.wait_for("you>")
        terminal.type("first\n")
        terminal.wait_for("Hello")
        terminal.interrupt_until("stopped")
        assert server.left.wait(30), "the stopped answer must be closed on the wire, or it would go on costing"

        server.ending = "done"
        terminal.type("second\n")
        terminal.wait_for("2 tokens in")
        assert [message["content"] for message in server.asked[1]["messages"]] == ["first", ANSWER, "second"]

        terminal.wait_for("you>")
        terminal.interrupt_until("Ctrl-D leaves")
        terminal.wait_for("you>")
        terminal.type("\x04")
        assert terminal.process.wait(30) == 0
    finally:
        terminal.close()


def test_in_a_terminal_an_error_does_not_end_the_chat_and_control_characters_do_nothing(
    server: WireServer, tmp_path: Path
) -> None:
    server.ending = "cut"
    server.pieces = ["red \x1b[31malert\x07"]
    terminal = Terminal(server.url, tmp_path)
    try:
        terminal.wait_for("you>")
        terminal.type("first\n")
        assert terminal.wait_for("cut off").count("\x1b[31malert") == 0
        server.ending = "done"
        terminal.type("second\n")
        terminal.wait_for("red [31malert")
        assert [message["content"] for message in server.asked[1]["messages"]] == ["second"]
        terminal.type("/quit\n")
        assert terminal.process.wait(30) == 0
    finally:
        terminal.close()
