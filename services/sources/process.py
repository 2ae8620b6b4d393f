"""Owns child processes that do one piece of work and report by lines. Never outlives its caller's interest in them."""

from __future__ import annotations

import subprocess
from collections import deque
from collections.abc import Callable, Mapping, Sequence


class ChildFailed(Exception):
    """The child ended with another status than 0; `tail` holds the last lines that it wrote."""

    def __init__(self, status: int, tail: str) -> None:
        super().__init__(f"exit status {status}: {tail}")
        self.status, self.tail = status, tail


def run_child(command: Sequence[str], on_line: Callable[[str], None], *, env: Mapping[str, str]) -> None:
    """Run a command to its end, giving each line of its output (both streams) to `on_line`.

    The child's standard input is a pipe that closes when this process dies in any way, so that a child that watches it
    can follow. An exception here, an interrupt included, kills the child.
    """
    tail: deque[str] = deque(maxlen=15)
    with subprocess.Popen(  # noqa: S603 - the command is ours; nothing passes through a shell
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=dict(env),
    ) as child:
        assert child.stdout is not None
        try:
            for line in child.stdout:
                tail.append(line.rstrip())
                on_line(line.rstrip())
            status = child.wait()
        except BaseException:
            child.kill()
            raise
    if status != 0:
        raise ChildFailed(status, "\n".join(tail))
