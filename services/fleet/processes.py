"""Owns the end of processes: those that a fleet started, and no others."""

from __future__ import annotations

from collections.abc import Sequence

import psutil

LEAVE_S = 5.0  # for processes that were told to end some other way
TERMINATE_S = 3.0


def descendants(process: psutil.Process) -> list[psutil.Process]:
    """Everything that the process started, itself or through others. Empty if it is gone."""
    try:
        return process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def end_all(processes: Sequence[psutil.Process], *, leave_s: float = LEAVE_S, terminate_s: float = TERMINATE_S) -> int:
    """Wait, then ask, then kill. Returns how many had to be killed. psutil never signals a reused pid."""
    _, left = psutil.wait_procs(processes, timeout=leave_s)
    for process in left:
        _signal(process, kill=False)
    _, left = psutil.wait_procs(left, timeout=terminate_s)
    for process in left:
        _signal(process, kill=True)
    psutil.wait_procs(left, timeout=terminate_s)
    return len(left)


def _signal(process: psutil.Process, *, kill: bool) -> None:
    try:
        (process.kill if kill else process.terminate)()
    except psutil.NoSuchProcess:
        return
