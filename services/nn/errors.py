"""Owns the reasons for which a checkpoint is refused when it is loaded."""

from __future__ import annotations


class UnsupportedModel(ValueError):
    """The checkpoint cannot be served. Names the architecture and the reason; holds no path."""

    def __init__(self, architecture: str, reason: str) -> None:
        super().__init__(f"{architecture} cannot be served: {reason}")
        self.architecture, self.reason = architecture, reason
