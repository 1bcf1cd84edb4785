"""`wxgate token inspect`: what a token is, which key it is under, and, on record only, what it holds.

Exit status: 0 it is a token (with --reveal: it was opened), 1 it is none, does not open or could not be judged, 2 the
command was not called right.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import click

from proxy.cli.deployment import AS_JSON, explained
from proxy.cli.keys_desk import Desk, open_desk
from proxy.cli.policy_table import shown
from proxy.crypto.data_key import DataKey
from proxy.crypto.field_token import MAX_TOKEN, Scope, TokenError, open_token, parse
from proxy.crypto.token_anatomy import Anatomy, dissect
from proxy.kms.keyring_format import USABLE, Entry
from proxy.serve.key_record import put_on_record
from proxy.serve.memory import close_memory

type Told = dict[str, str | int | bool | None]

_MAX_LINE = MAX_TOKEN + 64  # characters
_ROLE = re.compile(r"[a-z][a-z0-9-]{0,31}", re.ASCII)
_DATUM = re.compile(r"[!-~]{1,128}", re.ASCII)


@click.group()
def token() -> None:
    """Look at what stands in the CRM in place of a value."""
    close_memory()


@token.command("inspect")
@click.argument("text", metavar="[TOKEN|-]", default="-")
@click.option("--config", type=click.Path(path_type=Path, dir_okay=False), help="The gateway.yaml: tells the key.")
@click.option("--reveal", is_flag=True, help="Open it, on record: needs --config, --as and --role.")
@click.option("--as", "datum", help="The datum it was protected as (`as` in the policy).")
@click.option("--bind", "binds", multiple=True, help="A bound value, in the policy's order; - takes it from input.")
@click.option("--role", help="In which role you open it; stands in the audit log.")
@AS_JSON
@click.pass_context
@explained
def inspect_command(
    context: click.Context,
    text: str,
    config: Path | None,
    reveal: bool,
    datum: str | None,
    binds: tuple[str, ...],
    role: str | None,
    as_json: bool,
) -> None:
    """Tell prefix, type, length, key and owner of TOKEN, or why it is none.

    `-`, the default, reads it from standard input, which no process list and no shell history shows; then each
    `--bind -` reads the next line.
    """
    if reveal and not (config and datum and _DATUM.fullmatch(datum) and role and _ROLE.fullmatch(role)):
        raise click.UsageError("--reveal needs --config FILE, --as DATUM and --role NAME (lower-case letters)")
    text = _line() if text == "-" else text
    anatomy = dissect(text)
    told = _told(anatomy)
    if config:
        desk = open_desk(config)
        entry = _entry(desk, anatomy.key_id)
        told |= _told_key(entry)
        if reveal and entry and datum and role and not anatomy.step:
            bound = tuple(_line() if bind == "-" else bind for bind in binds)
            told |= _opened(desk, text, entry, datum, bound, role)
    click.echo(json.dumps(told) if as_json else "\n".join(_lines(told)))
    context.exit(1 if anatomy.step or (reveal and "value" not in told) else 0)


def _line() -> str:
    """The next line of standard input without its line feed; whatever else is in it is part of it."""
    # As bytes: a carriage return is not of a token, and the text layer would take it away.
    line = sys.stdin.buffer.readline(_MAX_LINE)
    return line.removesuffix(b"\n").decode(errors="replace")


def _entry(desk: Desk, key_id: bytes) -> Entry | None:
    return {entry.id: entry for entry in desk.file.read()}.get(key_id)


def _told(anatomy: Anatomy) -> Told:
    told: Told = {
        "prefix": anatomy.prefix or None,
        "type": anatomy.type or None,
        "length": anatomy.length,
        "canonical": not anatomy.step,
    }
    if anatomy.step:
        return told | {"refused_at": anatomy.step, "because": anatomy.fault}
    return told | {"value_bytes": anatomy.value_bytes, "key_id": anatomy.key_id.hex()}


def _told_key(entry: Entry | None) -> Told:
    if entry is None:
        return {"key_state": "unknown"}
    owner, group, purpose = entry.slot
    return {
        "key_state": entry.state.value,
        "tenant": owner.tenant,
        "region": owner.region,
        "group": group,
        "purpose": purpose.value,
    }


def _opened(desk: Desk, text: str, entry: Entry, datum: str, binds: tuple[str, ...], role: str) -> Told:
    """What the token holds. On record, with the outcome, before anything is told; AuditUnwritable if it cannot be."""
    found: Told = {"because": f"its key is {entry.state.value}"}
    if entry.state in USABLE:
        key = DataKey(desk.services.unwrap(entry.slot, entry.wrapped), entry.slot.purpose, entry.id)
        scope = Scope(*entry.slot.owner, datum, binds)
        try:
            kind, value = open_token(key, parse(text), scope)
            found = {"value_type": kind, "value": value}
        except TokenError:
            found = {"because": _DOES_NOT_OPEN}
    outcome = "revealed" if "value" in found else "kept"
    put_on_record(desk.settings, "token_opened", role=role, subject=datum, key_ids=entry.id.hex(), outcome=outcome)
    return found


_DOES_NOT_OPEN = "it does not open: another datum or bound value than it was protected with, or a changed bit"


def _lines(told: Told) -> list[str]:
    width = max(map(len, told))
    return [f"{name.replace('_', ' ').ljust(width)}  {_cell(value)}" for name, value in told.items()]


def _cell(value: str | int | bool | None) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value is None else shown(str(value))
