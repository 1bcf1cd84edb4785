"""Structured log: one JSON object a line on standard error, with an allow-list of keys.

A key that is not listed cannot be logged, so that nobody logs a payload by accident. The standard library's loggers,
which the engine and other libraries write to, are silenced: what they say may hold bytes of a connection.
"""

from __future__ import annotations

import json
import logging
import os
import time
import traceback
from collections.abc import Callable
from contextlib import suppress

_KEYS = frozenset(
    {"code", "stage", "route", "delivery", "worker", "pid", "listener", "reason", "revision", "policy", "count"}
    | {"address", "workers", "signal", "error", "where", "file", "seconds", "upstream", "status", "detail", "path"}
    | {"key_id", "service"}
)
_LEVELS = {10: "debug", 20: "info", 30: "warning", 40: "error"}
_MAX_FACT = 300


class StructuredLog:
    """Implements ports.Log. `write_line` receives each line with its line feed."""

    def __init__(self, write_line: Callable[[str], object], *, least: int = 20, **always: str | int) -> None:
        self._write_line = write_line
        self._least = least
        self._always = always

    def write(self, level: int, event: str, **facts: str | int | float) -> None:
        """One line. KeyError for a fact whose key is not on the allow-list."""
        if unknown := facts.keys() - _KEYS:
            raise KeyError(f"not on the allow-list of log keys: {sorted(unknown)}")
        if level < self._least:
            return
        short = {key: value[:_MAX_FACT] if isinstance(value, str) else value for key, value in facts.items()}
        line = {"at": round(time.time(), 3), "level": _LEVELS.get(level, "info"), "event": event} | self._always | short
        self._write_line(json.dumps(line, ensure_ascii=True) + "\n")

    def fault(self, error: BaseException) -> None:
        """Type of the error and the lines it went through. Its message may hold a value and is left out."""
        frames = traceback.extract_tb(error.__traceback__)[-4:]
        where = " < ".join(f"{frame.filename.rsplit('/proxy/', 1)[-1]}:{frame.lineno}" for frame in reversed(frames))
        self.write(40, "fault", error=type(error).__name__, where=where)


def silence_libraries() -> None:
    """Makes every standard-library logger drop what it is given."""
    logging.raiseExceptions = False
    logging.disable(logging.CRITICAL)


def to_stderr(line: str) -> None:
    """One write, so that lines of several processes do not mix. A reader that went away does not stop the gateway."""
    with suppress(OSError):
        os.write(2, line.encode())
