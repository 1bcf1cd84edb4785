"""The table that `wxgate policy explain` prints, and texts made safe to show on a terminal."""

import unicodedata
from collections.abc import Sequence
from typing import Final

from proxy.crypto import field_token
from proxy.crypto.field_token import TokenError
from proxy.policy.explain import Row

_HEAD: Final = ("selector", "value as it leaves", "action", "class", "as", "key", "rule", "why")
_MOST: Final = 36  # characters of a value
_TOKEN_HEAD: Final = 12


def shown(text: str) -> str:
    """`text` on one line, without anything a terminal would act on."""
    return "".join(character if character.isprintable() else _escaped(character) for character in text)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")


def table(rows: Sequence[Row], places: Sequence[str]) -> str:
    """One line for each row; `places`: of their rules, as they are to be shown."""
    lines = [_HEAD, *(_cells(row, place) for row, place in zip(rows, places, strict=True))]
    widths = [max(_width(line[column]) for line in lines) for column in range(len(_HEAD))]
    return "\n".join(
        "  ".join(cell + " " * (width - _width(cell)) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def _cells(row: Row, place: str) -> tuple[str, ...]:
    why = f"{row.code}: {row.why}" if row.code else row.why
    cells = (row.selector, _value(row.value), row.treatment.value, row.data_class, row.datum, row.keys, place, why)
    return tuple(shown(cell) or "-" for cell in cells)


def _value(value: str | None) -> str:
    if value is None:
        return "-"
    try:
        field_token.parse(value)
    except TokenError:
        return f'"{value}"' if len(value) <= _MOST else f'"{value[:_MOST]}…" ({len(value)} characters)'
    return f"{value[:_TOKEN_HEAD]}… ({len(value)} characters)"


def _width(text: str) -> int:
    """Columns on a terminal: Chinese characters take two."""
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)
