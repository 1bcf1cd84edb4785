"""Keys shown to people as a table and to programs as JSON. Never their bytes, wrapped or not."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

import click

from proxy.kms.keyring_format import Entry

_COLUMNS = ("id", "tenant", "region", "group", "purpose", "state", "created", "activated", "retired", "service", "kek")
_TIMES = ("created", "activated", "retired")


def show_keys(entries: Iterable[Entry], as_json: bool, none: str) -> None:
    """Prints them; `none` if there are none and a person reads."""
    found = [members(entry) for entry in entries]
    if as_json:
        click.echo(json.dumps({"keys": found}))
    elif found:
        show_table(
            _COLUMNS,
            [[str(row["kek_version" if name == "kek" else name]) for name in _COLUMNS] for row in map(dated, found)],
        )
    else:
        click.echo(none)


def show_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Columns as wide as what stands in them."""
    lines = [[name.upper() for name in columns], *rows]
    widths = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
    for line in lines:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def members(entry: Entry) -> dict[str, str | int | None]:
    """What is told of a key. Times: Unix seconds."""
    owner, group, purpose = entry.slot
    return {
        "id": entry.id.hex(),
        "tenant": owner.tenant,
        "region": owner.region,
        "group": group,
        "purpose": purpose.value,
        "state": entry.state.value,
        "created": entry.created,
        "activated": entry.activated,
        "retired": entry.retired,
        "service": entry.wrapped.service,
        "kek_version": entry.wrapped.kek_version,
        "uses": entry.uses,
        "bytes": entry.size,
    }


def dated(found: dict[str, str | int | None]) -> dict[str, str | int | None]:
    """The same with dates for people."""
    return found | {name: date(found[name]) for name in _TIMES}


def date(seconds: str | int | None) -> str:
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if seconds is not None else "-"
