"""Associated data as a list of texts, written so that no two lists give the same bytes. Pure."""

from __future__ import annotations

from collections.abc import Iterable


def items(texts: Iterable[str]) -> bytes:
    """For each text its UTF-8 length as u16 big-endian, then its bytes. ValueError if one has 65 536 bytes or more."""
    parts: list[bytes] = []
    for text in texts:
        raw = text.encode()
        if len(raw) > 0xFFFF:
            raise ValueError("an item of the AAD is too long")
        parts += (len(raw).to_bytes(2, "big"), raw)
    return b"".join(parts)
