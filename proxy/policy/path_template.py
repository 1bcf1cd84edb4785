"""Templates of the paths of API calls. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

# Long enough for the token of an id: one of an OpenID has 102 characters.
_SEGMENT = re.compile(r"[A-Za-z0-9._~-]{1,512}", re.ASCII)


def is_segment(text: str) -> bool:
    """Whether `text` can stand between two slashes of a path: unreserved characters, no dot segment (RFC 3986)."""
    return bool(_SEGMENT.fullmatch(text)) and text not in (".", "..")


@dataclass(frozen=True, slots=True)
class PathTemplate:
    """`/services/data/{version}/sobjects/Case`: literal segments and, as None, variable ones.

    `names`: of the variable segments, None for the literal ones. What stands in a variable is bounded to what ids are
    made of.
    """

    segments: tuple[str | None, ...]
    names: tuple[str | None, ...] = ()

    def matches(self, segments: tuple[str, ...]) -> bool:
        return len(segments) == len(self.segments) and all(
            want == have or (want is None and is_segment(have))
            for want, have in zip(self.segments, segments, strict=True)
        )

    def overlaps(self, other: PathTemplate) -> bool:
        return len(self.segments) == len(other.segments) and all(
            a is None or b is None or a == b for a, b in zip(self.segments, other.segments, strict=True)
        )
