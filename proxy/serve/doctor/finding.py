"""What a check found."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Level(enum.Enum):
    """FINE: nothing to do. NOTE: to be known. SOON: will fail, or is not as it should be. NOW: fails, or would not
    start."""

    FINE = "fine"
    NOTE = "note"
    SOON = "soon"
    NOW = "now"


@dataclass(frozen=True, slots=True)
class Finding:
    """`check`: which one, a stable name. `text`: what is so. `fix`: what to do about it; empty if there is nothing."""

    level: Level
    check: str
    text: str
    fix: str = ""


def fine(check: str, text: str) -> Finding:
    return Finding(Level.FINE, check, text)


def note(check: str, text: str, fix: str = "") -> Finding:
    return Finding(Level.NOTE, check, text, fix)


def soon(check: str, text: str, fix: str) -> Finding:
    return Finding(Level.SOON, check, text, fix)


def now(check: str, text: str, fix: str) -> Finding:
    return Finding(Level.NOW, check, text, fix)
