"""Normalise: different spellings of one value become one, before it is indexed, hashed or format-preserved. Pure.

A step changed in a policy means indexing everything anew. Each step is idempotent, and so is any chain of them: it runs
until nothing changes. No error shows the value.

    nfkc      Unicode compatibility composition (UAX #15): full-width letters, ligatures, composed accents
    trim      no blanks, control characters or invisible marks of direction and joining at either end
    casefold  Unicode full case folding
    digits    ASCII digits only; blanks, dashes, stops, brackets, slashes and plus signs go, any other character refuses
    e164      a telephone number as + and 7 to 15 digits (ITU-T E.164), national ones by the plan of a country
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass

from proxy.crypto.dialling import PLANS, to_e164

# All that str.strip takes (a test compares), the C0 and C1 controls, zero-width space, direction marks and isolates
# (address books wrap numbers in them), word joiner, byte order mark. Joiners stay: emoji are made with them.
_BLANKS = "\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000 \xa0"
_CONTROLS = "".join(map(chr, (*range(32), *range(127, 160))))
_INVISIBLE = "\u200b\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\u2066\u2067\u2068\u2069\ufeff"
EDGES = _BLANKS + _CONTROLS + _INVISIBLE
_DASHES = "-\u2010\u2011\u2012\u2013\u2014\u2015\u2212\uff0d"
SEPARATORS = frozenset(EDGES + _DASHES + "./()+\uff08\uff09\uff0b\uff0e\uff0f\u00b7")
_PLUSES = ("+", "\uff0b")
# "+44 (0)20 ...": whether this 0 belongs to the number differs by country.
_BRACKETED_ZERO = re.compile("[(\uff08] *[0\uff10] *[)\uff09]")
# Two passes settle everything known; what does not settle is refused, not indexed somehow.
_PASSES = 4
_MARKS = 30  # UAX #15 section 13, stream-safe text


@dataclass(frozen=True, slots=True)
class Normaliser:
    """The steps of a rule, in their order. `country`: the country calling code of national numbers, for `e164`."""

    steps: tuple[str, ...]
    country: str = ""

    def __post_init__(self) -> None:
        """ValueError for unknown, repeated or clashing steps, a country without `e164` or without a plan here."""
        for step in self.steps:
            if step not in STEPS:
                raise ValueError(f"there is no normalise step {step!r}; there are {', '.join(STEPS)}")
        if len(set(self.steps)) != len(self.steps):
            raise ValueError("a normalise step stands twice; name each once")
        if {"digits", "e164"} <= set(self.steps):
            raise ValueError("the step digits takes away the + that e164 reads; e164 alone does")
        if self.country and "e164" not in self.steps:
            raise ValueError("a country code goes with the step e164; add the step or remove the code")
        if self.country and self.country not in PLANS:
            raise ValueError(f"no dialling plan for country code {self.country!r}; there are {', '.join(PLANS)}")

    def apply(self, text: str) -> str:
        """The one spelling of `text`; may be empty without `digits` and `e164`. ValueError if there is none."""
        if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
            raise ValueError("a value holds half of a surrogate pair")
        for _ in range(_PASSES):
            before, text = text, self._once(text)
            if text == before:
                return text
        raise ValueError("a value does not settle under the normalise steps")

    def _once(self, text: str) -> str:
        for step in self.steps:
            text = STEPS[step](text, self.country)
        return text


def _nfkc(text: str, _country: str) -> str:
    _check_marks(text)
    return unicodedata.normalize("NFKC", text)


def _check_marks(text: str) -> None:
    """ValueError for more marks in a row than any language has: the time to bring them into order grows with their
    square, to minutes for a megabyte."""
    run = 0
    for character in () if text.isascii() else text:
        run = run + 1 if unicodedata.combining(character) else 0
        if run > _MARKS:
            raise ValueError(f"a value has more than {_MARKS} combining marks in a row")


def _trim(text: str, _country: str) -> str:
    return text.strip(EDGES)


def _casefold(text: str, _country: str) -> str:
    return text.casefold()


def _digits(text: str, _country: str) -> str:
    found = digits_of(text)
    if not found:
        raise ValueError("a value has no digits")
    return found


def _e164(text: str, country: str) -> str:
    inner = text.strip(EDGES)
    if _BRACKETED_ZERO.search(inner):
        raise ValueError("a telephone number has (0) in it; write it without")
    return to_e164(digits_of(inner), country, international=inner.startswith(_PLUSES))


def digits_of(text: str) -> str:
    """The decimal digits of any script as ASCII, without separators. ValueError for any other character."""
    digits = [digit_of(character) for character in text]
    if None in digits:
        raise ValueError("a value has characters that are neither digits nor separators")
    return "".join(filter(None, digits))


def digit_of(character: str) -> str | None:
    """An ASCII digit for a decimal digit of any script, "" for a separator, None for anything else."""
    if character in SEPARATORS:
        return ""
    value = unicodedata.decimal(character, None)
    return None if value is None else str(value)


STEPS: dict[str, Callable[[str, str], str]] = {
    "nfkc": _nfkc,
    "trim": _trim,
    "casefold": _casefold,
    "digits": _digits,
    "e164": _e164,
}
