"""`wxgate keys import-kek`: a tenant's own KEK into the key service that keeps the gateway's."""

from __future__ import annotations

from pathlib import Path

import click

from proxy.cli.deployment import CONFIG, explained
from proxy.cli.keys_carry import CARRY, require_carried
from proxy.cli.keys_desk import YES, Desk, open_desk
from proxy.kms.keyring_format import KeyState
from proxy.kms.private_file import make_private_directory
from proxy.kms.rewrapping import rewrap
from proxy.kms.selection import Selection
from proxy.kms.service import KeysError
from proxy.ports import Owner
from proxy.serve.secret import SecretError, resolve


@click.command("import-kek")
@CONFIG
@click.option("--tenant", required=True, help="Whose KEK it is; one under `keys: tenants:`.")
@click.option("--region", help="Where; needed if the tenant is in several.")
@click.option(
    "--kek", "reference", required=True, metavar="env:NAME|file:PATH", help="32 random bytes, never the value."
)
@CARRY
@YES
@explained
def import_kek_command(
    config: Path, tenant: str, region: str | None, reference: str, carry_kek: bool, yes: bool
) -> None:
    """Take a KEK that a tenant brings as the newest version, and put the tenant's data keys under it.

    The bytes are raw, in hex or in base64; a file with them must be closed to others. Delete it afterwards: the tenant
    keeps the copy.
    """
    desk = open_desk(config)
    owner = _owner(desk, tenant, region)
    try:
        kek = resolve(reference, config.parent)
    except SecretError as error:
        raise KeysError(str(error)) from None
    make_private_directory(desk.settings.state)
    desk.follow_shreds()
    remind = require_carried(desk, [owner], carry=carry_kek, yes=yes)
    with desk.on_record("import_kek", f"{owner.tenant}/{owner.region}"):
        with desk.file.making([desk.services.of(owner).name]):  # no shredding goes on meanwhile
            version = desk.services.import_kek(owner, kek, _shredded(desk))
        moved = _put_under(desk, owner)
    remind()
    click.echo(f"KEK version {version} of {owner.tenant}/{owner.region}; {moved} data keys are under it.")


def _owner(desk: Desk, tenant: str, region: str | None) -> Owner:
    """Of those the routes name."""
    found = [owner for owner in desk.settings.owners if owner.tenant == tenant and region in (None, owner.region)]
    if len(found) != 1:
        how = "more than one region" if found else "no route"
        raise KeysError(f'tenant "{tenant}" has {how} in gateway.yaml; say --region')
    return found[0]


def _shredded(desk: Desk) -> set[bytes]:
    """The ids of KEKs that must not come back."""
    return set() if desk.file.stamp() is None else {each.kek_id for each in desk.file.document().shredded}


def _put_under(desk: Desk, owner: Owner) -> int:
    chosen = Selection(owner.tenant, owner.region)
    there = () if desk.file.stamp() is None else desk.file.read()
    if not chosen.owners(entry for entry in there if entry.state is not KeyState.DESTROYED):
        return 0  # `wxgate keys init` comes after
    return rewrap(desk.file, desk.services, chosen, resume=True).keys
