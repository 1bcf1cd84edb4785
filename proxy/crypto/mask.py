"""One-way masks: what remains readable of a value. Pure.

A mask lets an agent recognise what a customer names. It does not make a value anonymous: whoever knows the rest of a
record may fill in the stars, and the stars show the length.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from proxy.crypto.normalise import SEPARATORS, digit_of

MASK = "*"
# Two-character surnames in use, of the Hundred Family Surnames; traditional forms beside them.
# fmt: off
COMPOUND_SURNAMES = frozenset((
    "欧阳", "歐陽", "上官", "司马", "司馬", "东方", "東方", "独孤", "獨孤", "南宫",
    "南宮", "闻人", "聞人", "夏侯", "诸葛", "諸葛", "尉迟", "尉遲", "公羊", "赫连",
    "赫連", "澹台", "澹臺", "皇甫", "宗政", "濮阳", "濮陽", "申屠", "公孙", "公孫",
    "慕容", "仲孙", "仲孫", "钟离", "鍾離", "长孙", "長孫", "宇文", "司徒", "鲜于",
    "鮮于", "司空", "令狐", "拓跋", "呼延", "西门", "西門", "轩辕", "軒轅", "端木",
))
# fmt: on
# Bopomofo, kana, Han, Hangul and what belongs to them begin here; names in them start with the surname.
_FIRST_EAST_ASIAN = "\u2e80"
_WORD = re.compile(r"\S+")
# Twice as many as `_LAST_DIGITS`: at most half of a number stays.
_LAST_DIGITS, _LEAST_DIGITS = 4, 8
_MAINLAND_MOBILE = re.compile(r"(?P<code>(?:00)?86)?1[3-9][0-9]{9}", re.ASCII)
# RFC 1123 section 2.1 with at least two labels. Nothing else behind the @ is taken for a domain and left readable.
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_DOMAIN = re.compile(rf"{_LABEL}(?:\.{_LABEL})+", re.ASCII)
_MAX_DOMAIN = 253


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


@dataclass(frozen=True, slots=True)
class KindMask:
    """The mask that suits a kind of value: one of `KINDS`. What does not look like its kind stays in no part."""

    kind: str

    def __post_init__(self) -> None:
        """ValueError for an unknown kind."""
        if self.kind not in KINDS:
            raise ValueError(f"there is no mask for {self.kind!r}; there are {', '.join(KINDS)}")

    def apply(self, text: str) -> str:
        """`text` masked; one star for an empty one."""
        return KINDS[self.kind](text)


_NOTHING = Mask()


def _name(text: str) -> str:
    """East Asian names keep the surname (the first character of it if it is half the name), others their initials."""
    if text[:1] >= _FIRST_EAST_ASIAN:
        return Mask(2 if text[:2] in COMPOUND_SURNAMES and len(text) >= 4 else 1).apply(text)
    return _WORD.sub(lambda word: Mask(1).apply(word[0]), text) or MASK


def _phone(text: str) -> str:
    """Mainland mobile numbers as they are shown in China (138****8000), with the code if there is one; others the last
    four digits. Separators stay.

    Seven of eleven digits is more than half, and ten thousand numbers remain to try: take `Mask(keep_last=4)` where
    that is too much.
    """
    digits = [digit_of(character) for character in text]
    number = "".join(filter(None, digits))
    if None in digits or len(number) < _LEAST_DIGITS:
        return _NOTHING.apply(text)
    mobile = _MAINLAND_MOBILE.fullmatch(number)
    first = len(mobile["code"] or "") + 3 if mobile else 0
    return _keep_digits(text, first, len(number) - _LAST_DIGITS)


def _keep_digits(text: str, first: int, last: int) -> str:
    """Stars for the digits from place `first` up to `last`, counted without separators."""
    shown, place = [], 0
    for character in text:
        hidden = character not in SEPARATORS and first <= place < last
        shown.append(MASK if hidden else character)
        place += character not in SEPARATORS
    return "".join(shown)


def _id(text: str) -> str:
    """Identity papers: the last four characters, which is what people are asked for.

    The first six of a resident id number (GB 11643) name the county. With those and the last four shown, only the birth
    date is hidden, and the check digit leaves some 3 000 dates to try; without, the county has to be guessed as well.
    """
    return Mask(keep_last=4).apply(text)


def _email(text: str) -> str:
    """The first character and the domain. More than one @, or no domain name behind it: nothing."""
    local, at, domain = text.partition("@")
    if not (local and at and len(domain) <= _MAX_DOMAIN and _DOMAIN.fullmatch(domain)):
        return _NOTHING.apply(text)
    return Mask(1).apply(local) + at + domain


KINDS: dict[str, Callable[[str], str]] = {"name": _name, "phone": _phone, "id": _id, "email": _email}
