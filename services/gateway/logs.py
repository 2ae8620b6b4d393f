"""Owns the gateway's log: one JSON object a line, to standard error. Never a prompt, key or body."""

from __future__ import annotations

import logging
import sys
from typing import Protocol, TextIO, cast

import structlog


class Log(Protocol):
    """What the gateway needs of a logger: an event's name, and its fields."""

    def info(self, event: str, **fields: object) -> object: ...
    def warning(self, event: str, **fields: object) -> object: ...
    def error(self, event: str, **fields: object) -> object: ...


def make_log(level: str, stream: TextIO | None = None) -> Log:
    """A logger of its own: no global configuration is read or written."""
    logger = structlog.wrap_logger(
        structlog.WriteLogger(stream or sys.stderr),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_number(level)),
    )
    return cast(Log, logger.bind(source="gateway"))


def _number(level: str) -> int:
    return logging.getLevelNamesMapping()[level]
