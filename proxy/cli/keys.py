"""`wxgate keys`: what deployers do with keys. The verbs are files beside this one. Nothing prints key bytes."""

from __future__ import annotations

import click

from proxy.cli.keys_doctor import doctor_command
from proxy.cli.keys_import import import_kek_command
from proxy.cli.keys_look import list_command, show_command
from proxy.cli.keys_make import init_command, rotate_command
from proxy.cli.keys_rewrap import rewrap_command
from proxy.cli.keys_shred import receipt_group, shred_command
from proxy.cli.keys_state import destroy_command, disable_command, enable_command
from proxy.cli.keys_transfer import export_command, import_command
from proxy.serve.memory import close_memory


@click.group()
def keys() -> None:
    """Make, look at, rotate, move and destroy the keys that values are protected with."""
    close_memory()


for command in (
    init_command,
    list_command,
    show_command,
    rotate_command,
    rewrap_command,
    disable_command,
    enable_command,
    destroy_command,
    shred_command,
    receipt_group,
    export_command,
    import_command,
    import_kek_command,
    doctor_command,
):
    keys.add_command(command)
