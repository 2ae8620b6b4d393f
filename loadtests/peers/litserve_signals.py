"""How a LitServe server of ours ends: it ends its processes on Ctrl-C, and a SIGTERM would leave them alone."""

from __future__ import annotations

from types import FrameType


def end_as_by_ctrl_c(signum: int, frame: FrameType | None) -> None:
    del signum, frame
    raise KeyboardInterrupt
