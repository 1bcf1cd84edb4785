"""`wxgate keys export-wrapped` and `import-wrapped`: data keys, as they are wrapped, to and from a file."""

from __future__ import annotations

import os
import time
from pathlib import Path

import click

from proxy.cli.deployment import AS_JSON, CONFIG, explained
from proxy.cli.keys_desk import YES, ask_twice, choosing, open_desk, told
from proxy.cli.keys_table import show_keys
from proxy.kms.keyring_file import MAX_BYTES
from proxy.kms.private_file import make_private_directory
from proxy.kms.selection import Selection
from proxy.kms.service import KeysError
from proxy.kms.transfer import Losses, Source, export_wrapped, import_wrapped, losses

_FILE = click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
_SAID = {
    Source.FIRST: "There was no keyring here: it begins as a copy, with FILE's keys of integrity and receipts.",
    Source.ANOTHER: "FILE is of another keyring. Its keys open here and do not protect (`wxgate keys init` makes what "
    "is missing); the keys of integrity and receipts stay the ones that were here.",
}


@click.command("export-wrapped")
@_FILE
@CONFIG
@choosing
@explained
def export_command(file: Path, config: Path, tenant: str | None, region: str | None, group: str | None) -> None:
    """Write data keys, wrapped, to FILE, which must not be there yet (mode 0600).

    FILE opens with the same key services only. It says which tenants there are and when their keys were made.
    """
    desk, chosen = open_desk(config), Selection(tenant, region, group)
    with desk.on_record("export", told(chosen)) as concerned:
        data, entries = export_wrapped(desk.file, chosen)
        _write_new(file, data)
        concerned(entry.id for entry in entries)
    click.echo(f"{len(entries)} keys in {file}")


@click.command("import-wrapped")
@_FILE
@CONFIG
@YES
@AS_JSON
@explained
def import_command(file: Path, config: Path, yes: bool, as_json: bool) -> None:
    """Take the data keys of FILE into the keyring. What was destroyed here stays destroyed.

    If FILE is a copy of the keyring that is here, what was destroyed there is destroyed here too, after asking. If it
    comes from another keyring, its keys open and do not protect, and keys that are here stay as they are.
    """
    desk = open_desk(config)
    make_private_directory(desk.settings.state)
    with file.open("rb") as stream:
        data = stream.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise KeysError(f"{file}: larger than a keyring can be")
    lost = losses(desk.file, data)
    _ask(lost, yes=yes)
    gone = [entry.id for entry in lost.keys]
    with desk.on_record("import", file.name, gone) as concerned:
        imported = import_wrapped(desk.file, desk.services, data, time.time(), lost)
        concerned([*(entry.id for entry in imported.new), *gone])
    destroyed = [entry for entry in desk.file.read() if entry.id in gone]
    show_keys([*imported.new, *destroyed], as_json, none="All of these keys were there already.")
    if said := _SAID.get(imported.source):
        click.echo(said, err=True)
    for entry in imported.left:
        click.echo(f"{entry.id.hex()} is destroyed in FILE and {entry.state.value} here: it stays.", err=True)


def _ask(lost: Losses, *, yes: bool) -> None:
    """People type the first id, or the first tenant if only KEKs are to go. Raises ClickException."""
    if not lost:
        return
    said = [f"destroy {entry.id.hex()}  {entry.slot}  {entry.state.value}" for entry in lost.keys]
    said += [f"shred {owner.tenant}/{owner.region}" for owner in lost.owners]
    said.append(
        "FILE is a copy of this keyring, in which they are destroyed. What is under them can never be read again."
    )
    ask_twice("\n".join(said), lost.keys[0].id.hex()[:8] if lost.keys else lost.owners[0].tenant, yes=yes)


def _write_new(path: Path, data: bytes) -> None:
    """Never over another file, and read by nobody else meanwhile. Raises OSError."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(fd, "wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(fd)
