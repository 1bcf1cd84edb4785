"""`wxgate keys disable`, `enable` and `destroy`: what single keys may still do."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from pathlib import Path

import click

from proxy.cli.deployment import AS_JSON, CONFIG, explained
from proxy.cli.keys_desk import YES, Desk, ask_twice, open_desk
from proxy.cli.keys_table import show_keys
from proxy.kms import transitions
from proxy.kms.keyring_format import Entry, KeyState
from proxy.kms.selection import named
from proxy.kms.transitions import Entries

_IDS = click.argument("key_ids", metavar="ID...", nargs=-1, required=True)


@click.command("disable")
@_IDS
@CONFIG
@YES
@AS_JSON
@explained
def disable_command(key_ids: tuple[str, ...], config: Path, yes: bool, as_json: bool) -> None:
    """Let keys neither protect nor open, until they are enabled again.

    ID: the first digits of a key id, 8 at least. What is under a disabled key cannot be read meanwhile.
    """
    _change("disable", transitions.disabled, key_ids, config, yes=yes, as_json=as_json)


@click.command("enable")
@_IDS
@CONFIG
@AS_JSON
@explained
def enable_command(key_ids: tuple[str, ...], config: Path, as_json: bool) -> None:
    """Let disabled keys open again. A data key then retires: it protects no more."""
    _change("enable", transitions.enabled, key_ids, config, yes=True, as_json=as_json)


@click.command("destroy")
@_IDS
@CONFIG
@YES
@AS_JSON
@explained
def destroy_command(key_ids: tuple[str, ...], config: Path, yes: bool, as_json: bool) -> None:
    """Take the wrapped bytes of keys out of the keyring, for good. A backup of the keyring still has them.

    To make a whole tenant unreadable, backups included, see `wxgate keys shred`.
    """
    _change("destroy", transitions.destroyed, key_ids, config, yes=yes, as_json=as_json)


def _change(
    verb: str,
    transition: Callable[[Entries, Collection[bytes], float], Entries],
    names: tuple[str, ...],
    config: Path,
    *,
    yes: bool,
    as_json: bool,
) -> None:
    desk = open_desk(config)
    before = desk.file.read()
    ids = {named(before, name).id for name in names}
    _ask(verb, [entry for entry in before if entry.id in ids], yes=yes)
    with desk.on_record(verb, f"{len(ids)} keys", sorted(ids)) as concerned:
        desk.file.change(lambda entries: transition(entries, ids, time.time()))
        concerned(sorted(ids))
    show_keys(_now(desk, ids), as_json, none="")


def _ask(verb: str, entries: list[Entry], *, yes: bool) -> None:
    """People type the first id; of keys in use they are told what it means."""
    active = [entry for entry in entries if entry.state is KeyState.ACTIVE]
    said = [f"{verb} {entry.id.hex()}  {entry.slot}  {entry.state.value}" for entry in entries]
    if active:
        said.append("Active keys are among them: messages that need them are refused until others are active.")
    if verb == "destroy":
        said.append("What is under them can never be read again.")
    ask_twice("\n".join(said), entries[0].id.hex()[:8], yes=yes)


def _now(desk: Desk, ids: Collection[bytes]) -> list[Entry]:
    return [entry for entry in desk.file.read() if entry.id in ids]
