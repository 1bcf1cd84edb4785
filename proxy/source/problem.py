"""A problem in a file somebody wrote. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where in a file; line and column count from 1."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """`code` is stable and has its entry in docs/errors.md. `warning`: worth reading, stops nothing."""

    place: Place
    code: str
    message: str
    fix: str = ""
    warning: bool = False

    def __str__(self) -> str:
        level = "warning " if self.warning else ""
        return f"{self.place}: {level}{self.code} {self.message}" + (f"; {self.fix}" if self.fix else "")


class Problems(Exception):
    """Everything wrong with a file, in the order of the file."""

    def __init__(self, found: list[Problem]) -> None:
        self.found = sorted(set(found))  # a rule that many messages inherit is found at fault in each of them
        super().__init__("\n".join(str(problem) for problem in self.found))


def nearest(word: str, known: list[str]) -> str:
    """A hint with the known word closest to `word`, or with all of them if they are few."""
    if close := get_close_matches(word, known, 1):
        return f'did you mean "{close[0]}"?'
    return f"known here: {', '.join(sorted(known))}" if 0 < len(known) <= 12 else ""
