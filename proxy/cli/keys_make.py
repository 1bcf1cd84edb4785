"""`wxgate keys init` and `rotate`: new keys."""

from __future__ import annotations

import secrets
import time
from pathlib import Path

import click

from proxy.cli.deployment import AS_JSON, CONFIG, explained
from proxy.cli.keys_carry import CARRY, require_carried
from proxy.cli.keys_desk import YES, ask_twice, choosing, open_desk, told
from proxy.cli.keys_table import show_keys
from proxy.crypto.data_key import Purpose
from proxy.kms.making import end_lookup, make_missing, rotate, rotate_lookup
from proxy.kms.private_file import make_private_directory
from proxy.kms.selection import Selection
from proxy.kms.service import KeysError, Slot

_LOOKUP_NEXT = """\
Values are made with the old key and the new one from now on. Have the CRM's values written anew, then end it:
`wxgate keys rotate --lookup --end`."""

_END = "Values of the old lookup keys are not made any more: what the CRM still holds of them is not found again."


@click.command("init")
@CONFIG
@CARRY
@YES
@AS_JSON
@explained
def init_command(config: Path, carry_kek: bool, yes: bool, as_json: bool) -> None:
    """Make the keys that the configuration and its policies need and that are not there yet.

    For a tenant that brings its own KEK nothing is made until that was imported: exit status 1, after all others' keys
    were made.
    """
    desk = open_desk(config)
    settings = desk.settings
    make_private_directory(settings.state)
    desk.follow_shreds()
    awaited = {owner: text for owner in settings.owners if (text := desk.services.awaited(owner))}
    owners = [owner for owner in settings.owners if owner not in awaited]
    new = [owner for owner in owners if desk.services.keeps_here(owner) and not desk.services.has_kek(owner)]
    remind = require_carried(desk, new, carry=carry_kek, yes=yes)
    wanted = [Slot(owner, group, use) for owner in owners for group in settings.groups for use in Purpose]
    with desk.on_record("init", "all keys") as concerned:
        made = make_missing(desk.file, desk.services, wanted, time.time(), secrets.token_bytes)
        concerned(entry.id for entry in made)
    remind()
    show_keys(made, as_json, none="No key was missing.")
    if not as_json:
        click.echo(f"Back up {settings.state} and, apart from it, what opens its KEKs: without, all of it is lost.")
    if awaited:
        raise KeysError("\n".join((*awaited.values(), "Nothing was made for it; then run `wxgate keys init` again.")))


@click.command("rotate")
@CONFIG
@choosing
@click.option("--lookup", is_flag=True, help="Lookup keys, which never rotate by themselves.")
@click.option("--now", "at_once", is_flag=True, help="Protect with them at once, not when every worker knows them.")
@click.option("--end", is_flag=True, help="With --lookup: stop making values with the old keys.")
@YES
@AS_JSON
@explained
def rotate_command(
    config: Path,
    tenant: str | None,
    region: str | None,
    group: str | None,
    lookup: bool,
    at_once: bool,
    end: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Make new data keys. They protect from `keys.activate_after` on, when every worker and machine knows them; the old
    ones still open what they protected.

    Lookup keys are left alone unless --lookup is said: a new one makes other values of the same text, so both are made
    until --end.
    """
    if end and not lookup:
        raise click.UsageError("--end goes with --lookup")
    desk, chosen, now = open_desk(config), Selection(tenant, region, group), time.time()
    if at_once and desk.settings.keys.redis is not None:
        raise KeysError("other machines must learn of new keys first: --now is not for keyrings that are exchanged")
    if end:
        ask_twice(_END, "end", yes=yes)
    verb = "rotate" if not lookup else ("end_lookup" if end else "rotate_lookup")
    with desk.on_record(verb, told(chosen)) as concerned:
        if end:
            made = end_lookup(desk.file, chosen, now)
        else:
            make = rotate_lookup if lookup else rotate
            delay = 0.0 if at_once else desk.settings.keys.limits.activate_after
            made = make(desk.file, desk.services, chosen, now, secrets.token_bytes, delay)
        concerned(entry.id for entry in made)
    show_keys(made, as_json, none="")
    if lookup and not end and not as_json:
        click.echo(_LOOKUP_NEXT)
