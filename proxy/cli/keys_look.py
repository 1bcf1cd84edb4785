"""`wxgate keys list` and `show`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from proxy.cli.deployment import AS_JSON, CONFIG, explained
from proxy.cli.keys_desk import choosing, open_desk
from proxy.cli.keys_table import dated, members, show_keys
from proxy.kms.keyring_format import KeyState
from proxy.kms.selection import Selection, in_order, named

_STATES = click.Choice([state.value for state in KeyState])


@click.command("list")
@CONFIG
@choosing
@click.option("--state", "states", type=_STATES, multiple=True, help="Only keys in this state.")
@click.option("--ids", is_flag=True, help="Ids alone, one on a line, for other commands.")
@AS_JSON
@explained
def list_command(
    config: Path,
    tenant: str | None,
    region: str | None,
    group: str | None,
    states: tuple[str, ...],
    ids: bool,
    as_json: bool,
) -> None:
    """Show every key with its state, never its bytes."""
    chosen = Selection(tenant, region, group)
    entries = [entry for entry in open_desk(config).file.read() if chosen.has(entry.slot)]
    found = [entry for entry in entries if not states or entry.state.value in states]
    if ids:
        for entry in in_order(found):
            click.echo(entry.id.hex())
        return
    show_keys(in_order(found), as_json, none="There is no such key.")


@click.command("show")
@click.argument("key_id", metavar="ID")
@CONFIG
@AS_JSON
@explained
def show_command(key_id: str, config: Path, as_json: bool) -> None:
    """Show all that is known of the key whose id begins with ID."""
    found = members(named(open_desk(config).file.read(), key_id))
    if as_json:
        click.echo(json.dumps(found))
        return
    width = max(map(len, found))
    for name, value in dated(found).items():
        click.echo(f"{name.replace('_', ' ').ljust(width)}  {value}")
