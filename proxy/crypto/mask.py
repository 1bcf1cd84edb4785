"""One-way masks: what remains readable of a value. Pure."""

from __future__ import annotations

from dataclasses import dataclass

MASK = "*"


@dataclass(frozen=True, slots=True)
class Mask:
    """How many characters stay at each end."""

    keep_first: int = 0
    keep_last: int = 0

    def apply(self, text: str) -> str:
        """`text` with the rest replaced. At most half of it stays: a short value would stay whole otherwise."""
        first, last = self.keep_first, self.keep_last
        if first + last > len(text) // 2:
            first = last = 0
        middle = max(len(text) - first - last, 1)
        return text[:first] + MASK * middle + text[len(text) - last :]
