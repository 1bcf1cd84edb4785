"""New KEKs of the embedded key service where several machines share the keyring: only if somebody carries them over."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import click

from proxy.cli.keys_desk import Desk, ask_twice
from proxy.kms.kek_file import FILE
from proxy.kms.service import KeysError
from proxy.ports import Owner

CARRY = click.option(
    "--carry-kek", is_flag=True, help=f"Where machines share the keyring: I copy {FILE} to all of them, now."
)

_WARNING = """\
New KEKs of {owners} will be in {file} of this machine alone.
What is wrapped under them opens on no other machine before the file was copied there."""
_REMINDER = """\
Copy {file} to every other machine now, and to all backups: docs/runbooks/several-machines.md."""


def require_carried(desk: Desk, owners: Iterable[Owner], *, carry: bool, yes: bool) -> Callable[[], None]:
    """Before new KEKs of `owners` are made. What is returned reminds of the copying, after they were. Raises KeysError
    if they would be on this machine alone and nobody said that they are carried over; ClickException if it was not
    meant. The first keyring of all is no matter of other machines yet."""
    here = sorted({owner for owner in owners if desk.services.keeps_here(owner)})
    if desk.settings.keys.redis is None or desk.file.stamp() is None or not here:
        return lambda: None
    names = ", ".join(f"{owner.tenant}/{owner.region}" for owner in here)
    path = desk.settings.state / FILE
    if not carry:
        raise KeysError(
            "machines share this keyring, and the embedded key service is this machine's alone: what is wrapped under "
            f"a new KEK of {names} does not open on the others. Move to a key service that all of them reach (vault, "
            "pkcs11 or aws: docs/runbooks/moving-kms.md), or say --carry-kek and copy kek.json to every other machine "
            "(docs/runbooks/several-machines.md)"
        )
    ask_twice(_WARNING.format(owners=names, file=path), "carry", yes=yes)
    return lambda: click.echo(_REMINDER.format(file=path), err=True)
