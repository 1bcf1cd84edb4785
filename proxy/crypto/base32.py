"""Base32 as it stands in tokens: RFC 4648 section 6, lower case, no padding. Pure.

The standard library's, which works in Python group by group, was the dearest single step of a message.
"""

from __future__ import annotations

from functools import lru_cache

_DIGITS = bytes(b"abcdefghijklmnopqrstuvwxyz234567".ljust(256))
_PIECE = 320  # bytes that are worked on at once
# Five bytes lie in eight with 24 bits of room before them. Three times the upper half of every field moves up: fields
# of 40 bits become two of 20, these two of 10, these two of 5, each in a byte of its own. The masks show lower halves.
_HALVES = (
    (20, 12, b"\0\0\0\0\0\x0f\xff\xff"),
    (10, 6, b"\0\0\x03\xff\0\0\x03\xff"),
    (5, 3, b"\0\x1f\0\x1f\0\x1f\0\x1f"),
)


def encode(raw: bytes) -> str:
    """The digits of `raw`, the last one filled up with zero bits."""
    if len(raw) <= _PIECE:
        return _encode(raw)
    return "".join([_encode(raw[at : at + _PIECE]) for at in range(0, len(raw), _PIECE)])


def _encode(raw: bytes) -> str:
    groups = -(-len(raw) // 5)
    whole = raw.ljust(5 * groups, b"\0")
    fields = bytearray(8 * groups)
    for place in range(5):
        fields[3 + place :: 8] = whole[place::5]
    number = int.from_bytes(fields)
    for up, lower, upper in _moves(groups):
        number = number & lower | (number & upper) << up
    return number.to_bytes(8 * groups).translate(_DIGITS)[: -(-8 * len(raw) // 5)].decode()


@lru_cache(_PIECE // 5 + 1)
def _moves(groups: int) -> tuple[tuple[int, int, int], ...]:
    """How far the upper halves move, and the masks of both halves, for so many groups of five bytes."""
    masks = [(width, up, int.from_bytes(mask * groups)) for width, up, mask in _HALVES]
    return tuple((up, lower, lower << width) for width, up, lower in masks)
