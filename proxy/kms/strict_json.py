"""JSON of the key files, read strictly: ASCII, no member twice, none unknown or missing, exact types, bounded values.

The errors name members, never values.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Set
from typing import Any


class MalformedError(ValueError):
    """Not what the format says. The text says where."""


def loads(data: bytes) -> object:
    """The JSON value in `data`. Raises MalformedError."""
    try:
        return json.loads(data.decode("ascii"), object_pairs_hook=_members)
    except MalformedError:
        raise
    except (ValueError, RecursionError):
        raise MalformedError("not well-formed ASCII JSON") from None


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise MalformedError("a member is there twice")
    return members


class Record:
    """A JSON object with exactly the members `names`; every reader raises MalformedError."""

    def __init__(self, value: object, names: Set[str]) -> None:
        if not isinstance(value, dict) or value.keys() != names:
            raise MalformedError(f"not an object with exactly the members {', '.join(sorted(names))}")
        self._members = value

    def any(self, name: str) -> object:
        """Whatever is there."""
        return self._members[name]

    def text(self, name: str, pattern: re.Pattern[str]) -> str:
        """A string that `pattern` matches whole."""
        value = self._members[name]
        if not isinstance(value, str) or not pattern.fullmatch(value):
            raise MalformedError(f'"{name}" is not as the format says')
        return value

    def number(self, name: str, least: int, most: int) -> int:
        """An integer from `least` to `most`."""
        value = self._members[name]
        if type(value) is not int or not least <= value <= most:
            raise MalformedError(f'"{name}" is not an integer from {least} to {most}')
        return value

    def number_or_null(self, name: str, least: int, most: int) -> int | None:
        return None if self._members[name] is None else self.number(name, least, most)

    def data(self, name: str, most: int) -> bytes:
        """At most `most` bytes, written in canonical base64 (RFC 4648 section 4, padded)."""
        value = self._members[name]
        try:
            if not isinstance(value, str) or len(value) > most * 4 // 3 + 4:
                raise ValueError
            raw = base64.b64decode(value, validate=True)
            if len(raw) > most or base64.b64encode(raw).decode() != value:
                raise ValueError
        except (ValueError, binascii.Error):
            raise MalformedError(f'"{name}" is not canonical base64 of at most {most} bytes') from None
        return raw

    def items(self, name: str) -> list[object]:
        """An array."""
        value = self._members[name]
        if not isinstance(value, list):
            raise MalformedError(f'"{name}" is not an array')
        return value
