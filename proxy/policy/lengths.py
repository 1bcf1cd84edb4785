"""How long what a rule writes can become, in characters and bytes. Pure.

Normative lengths: docs/spec/token.md, "Lengths". Characters are UTF-16 code units: one for every Chinese character of
daily use, two for an emoji. Counted so, no character takes more than three bytes of UTF-8.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from proxy.crypto import blind_index
from proxy.crypto.data_key import KEY_ID_SIZE
from proxy.crypto.ff1 import MAX_LENGTH
from proxy.crypto.field_token import PREFIX_SIZE
from proxy.crypto.xaes import NONCE_SIZE, TAG_SIZE
from proxy.policy.carry_out import REDACTED
from proxy.policy.rules import DataClass
from proxy.policy.transform import Form

ASCII_BYTES, CHINESE_BYTES = 1, 3
_SIV_SIZE = 16  # RFC 5297
_HASH_BITS = 256
_ENDLESS = 1 << 40  # longer than any value: what holds this holds everything


@dataclass(frozen=True, slots=True)
class Extent:
    """The size of a text, or of the largest of many: characters, and bytes in UTF-8."""

    characters: int
    octets: int

    def within(self, room: Extent) -> bool:
        return self.characters <= room.characters and self.octets <= room.octets


def extent_of(text: str) -> Extent:
    """The size of one text. It has no half surrogate pairs."""
    return Extent(len(text.encode("utf-16-le")) // 2, len(text.encode()))


def of_characters(characters: int, octets_each: int = CHINESE_BYTES) -> Extent:
    return Extent(characters, characters * octets_each)


def token_length(octets: int, *, deterministic: bool, key_id_size: int = KEY_ID_SIZE) -> int:
    """Characters of the token of a value of so many bytes. `key_id_size`: 16, or 32 with customer-brought keys."""
    if deterministic:
        return PREFIX_SIZE + -(-8 * (key_id_size + _SIV_SIZE + octets) // 5)
    return PREFIX_SIZE + -(-4 * (key_id_size + NONCE_SIZE + TAG_SIZE + octets) // 3)


def longest(data_class: DataClass, form: Form, clear: Extent, key_id_size: int = KEY_ID_SIZE) -> Extent:
    """The longest text that `form` makes of values up to `clear`: characters exactly, bytes at most.

    ValueError if the class does not describe the form.
    """
    if form is Form.TOKEN:
        return _ascii(token_length(clear.octets, deterministic=data_class.deterministic, key_id_size=key_id_size))
    return _LONGEST[form](data_class, clear)


def most_that_fits(
    data_class: DataClass, form: Form, room: Extent, octets_each: int, key_id_size: int = KEY_ID_SIZE
) -> int | None:
    """How many characters of so many bytes a value may have, so that its form fits into `room`; None for any number,
    -1 if not even the empty value does."""

    def does(characters: int) -> bool:
        return longest(data_class, form, of_characters(characters, octets_each), key_id_size).within(room)

    if does(_ENDLESS):
        return None
    least, most = -1, room.characters + 1  # nothing whose length depends on the value is shorter than it
    while most - least > 1:
        middle = (least + most) // 2
        least, most = (middle, most) if does(middle) else (least, middle)
    return least


def _ascii(characters: int) -> Extent:
    return of_characters(characters, ASCII_BYTES)


def _mask(_class: DataClass, clear: Extent) -> Extent:
    """Masks keep the length; an empty value becomes one star."""
    return Extent(max(clear.characters, 1), max(clear.octets, 1))


def _index(data_class: DataClass, _clear: Extent) -> Extent:
    index = data_class.forms.index
    if index is None:
        raise ValueError("the class does not say how its index is written")
    return _ascii(blind_index.length(index.bits, index.spelling))


def _hash(_class: DataClass, _clear: Extent) -> Extent:
    return _ascii(blind_index.length(_HASH_BITS))


def _format_preserving(data_class: DataClass, clear: Extent) -> Extent:
    """As many characters of the alphabet as the value has; values of more than FF1 takes are refused."""
    alphabet = data_class.forms.alphabet
    if alphabet is None:
        raise ValueError("the class has no alphabet")
    shortest, largest = _shortest_and_largest(alphabet.characters)
    count = min(clear.characters // shortest, MAX_LENGTH)
    return Extent(count * largest.characters, count * largest.octets)


@lru_cache(64)
def _shortest_and_largest(characters: str) -> tuple[int, Extent]:
    sizes = [extent_of(character) for character in characters]
    largest = Extent(max(size.characters for size in sizes), max(size.octets for size in sizes))
    return min(size.characters for size in sizes), largest


def _redaction(data_class: DataClass, _clear: Extent) -> Extent:
    text = data_class.forms.redaction
    return extent_of(REDACTED if text is None else text)


_LONGEST: Mapping[Form, Callable[[DataClass, Extent], Extent]] = {
    Form.MASK: _mask,
    Form.INDEX: _index,
    Form.HASH: _hash,
    Form.FORMAT_PRESERVING: _format_preserving,
    Form.REDACTION: _redaction,
}
