"""`wxgate keys shred`: a tenant's data made unreadable for good, with a receipt; and `receipt` to verify one.

Exit status of `receipt verify`: 0 it is genuine, 1 it is not, 2 it was not called right.
"""

from __future__ import annotations

import base64
import time
from pathlib import Path
from typing import BinaryIO

import click

from proxy.cli.deployment import CONFIG, explained
from proxy.cli.keys_desk import YES, Desk, ask_twice, open_desk
from proxy.cli.keys_table import date
from proxy.kms.receipt import MAX_BYTES, Receipt, ReceiptError, verified
from proxy.kms.shredding import shred, signing_key, to_shred
from proxy.ports import Owner

_WARNING = """\
Everything that was ever protected for tenant {tenant}{regions} becomes unreadable, for ever, wherever it is kept:
{keys} data keys lose their KEK. No backup of the keyring brings them back."""
_REMINDER = """\
A backup of kek.json made before today still opens these keys with the unlock key: destroy those backups too."""


@click.command("shred")
@CONFIG
@click.option("--tenant", required=True, help="Whose data.")
@click.option("--region", help="Only in this region.")
@click.option("--receipt", "receipts", type=click.Path(path_type=Path, file_okay=False), help="Directory for receipts.")
@click.option("--kek-is-gone", is_flag=True, help="Go on though no key opens: the KEK was destroyed or lost before.")
@YES
@explained
def shred_command(
    config: Path, tenant: str, region: str | None, receipts: Path | None, kek_is_gone: bool, yes: bool
) -> None:
    """Destroy a tenant's KEK in every key service that opens for it, then its keys, and print a signed receipt for each
    region.

    Take the tenant's routes out of gateway.yaml first: the gateway refuses their messages from now on. Running workers
    forget the keys within seconds (see docs/keys.md).
    """
    desk = open_desk(config)
    document = desk.file.document()
    owners = to_shred(document, tenant, region)
    keys = sum(entry.slot.owner in owners for entry in document.entries)
    regions = f" in {', '.join(owner.region for owner in owners)}"
    ask_twice(_WARNING.format(tenant=tenant, regions=regions, keys=keys), tenant, yes=yes)
    for owner in owners:
        _shred(desk, owner, receipts, kek_is_gone=kek_is_gone)


def _shred(desk: Desk, owner: Owner, receipts: Path | None, *, kek_is_gone: bool) -> None:
    signer = signing_key(desk.file)  # before anything is destroyed: without a key there would be no receipt
    ids = [entry.id for entry in desk.file.read() if entry.slot.owner == owner]
    with desk.on_record("shred", f"{owner.tenant}/{owner.region}", ids) as concerned:
        receipt = shred(
            desk.file,
            desk.services,
            owner,
            time.time(),
            kek_is_gone=kek_is_gone,
            several_machines=desk.settings.keys.redis is not None,
        )
        concerned(receipt.key_ids)
    text = receipt.signed(signer).decode()
    click.echo(text, nl=False)
    if receipts is not None:
        receipts.mkdir(parents=True, exist_ok=True)
        (receipts / f"shredded-{owner.tenant}-{owner.region}-{receipt.at}.json").write_text(text)
    if receipt.destroyed.effective is not None:
        click.echo(f"The key service destroys the KEK on {date(receipt.destroyed.effective)}.", err=True)
    if not receipt.destroyed.found:
        click.echo("No key service has such a KEK: none was destroyed, and the receipt says so.", err=True)
    if "from kek.json" in receipt.destroyed.operation:
        click.echo(_REMINDER, err=True)


@click.group("receipt")
def receipt_group() -> None:
    """Verify receipts of shredding."""


@receipt_group.command("key")
@CONFIG
@explained
def receipt_key_command(config: Path) -> None:
    """Print the public key that verifies this gateway's receipts. Give it to the auditor before it is needed."""
    click.echo(base64.b64encode(signing_key(open_desk(config).file).public_key().public_bytes_raw()))


@receipt_group.command("verify")
@click.argument("file", type=click.File("rb"))
@click.option("--key", required=True, help="The public key, as `wxgate keys receipt key` printed it; not from FILE.")
@explained
def receipt_verify_command(file: BinaryIO, key: str) -> None:
    """Tell whether FILE is a receipt that KEY signed, and what it says."""
    try:
        receipt = verified(file.read(MAX_BYTES), key)
    except ReceiptError as error:
        raise click.ClickException(str(error)) from None
    click.echo("\n".join(_lines(receipt)))


def _lines(receipt: Receipt) -> list[str]:
    effective = receipt.destroyed.effective
    when = "at once" if effective is None else date(effective)
    return [
        "genuine: signed by the gateway with this key",
        f"shredded   {receipt.owner.tenant}/{receipt.owner.region} at {date(receipt.at)}",
        f"service    {receipt.service}: {receipt.destroyed.operation}",
        f"effective  {when if receipt.destroyed.found else 'no: there was no KEK to destroy'}",
        *(f"key        {key_id.hex()}" for key_id in receipt.key_ids),
    ]
