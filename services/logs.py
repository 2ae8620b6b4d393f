"""Owns how the processes of replicas and fleets log: one JSON object a line, to standard error. Never a prompt."""

from __future__ import annotations

import logging
import sys

import structlog
from structlog.stdlib import LoggerFactory, ProcessorFormatter, add_log_level


def configure(level: str) -> None:
    """Send what this tree logs, through `logging` or structlog, to standard error. Call once, as a process starts."""
    shared = [add_log_level, structlog.processors.TimeStamper(fmt="iso", utc=True)]
    render = [
        ProcessorFormatter.remove_processors_meta,
        structlog.processors.format_exc_info,
        structlog.processors.JSONRenderer(),
    ]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(ProcessorFormatter(processors=render, foreign_pre_chain=shared))
    root = logging.getLogger("services")
    root.handlers, root.propagate = [handler], False
    root.setLevel(level)
    structlog.configure(
        processors=[*shared, ProcessorFormatter.wrap_for_formatter],
        logger_factory=LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level]),
    )
