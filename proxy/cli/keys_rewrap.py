"""`wxgate keys rewrap`: a new KEK over the keyring, in the same key service or in another."""

from __future__ import annotations

import json
from pathlib import Path

import click

from proxy.cli.deployment import AS_JSON, CONFIG, explained
from proxy.cli.keys_carry import CARRY, require_carried
from proxy.cli.keys_desk import YES, choosing, open_desk, told
from proxy.cli.keys_table import show_table
from proxy.kms.rewrapping import new_keks_here, rewrap
from proxy.kms.selection import Selection


@click.command("rewrap")
@CONFIG
@choosing
@click.option("--to-service", default="", help="Move keys to this key service, the one gateway.yaml names for them.")
@click.option("--resume", is_flag=True, help="No new KEK version: only what an interrupted run left.")
@CARRY
@YES
@AS_JSON
@explained
def rewrap_command(
    config: Path,
    tenant: str | None,
    region: str | None,
    group: str | None,
    to_service: str,
    resume: bool,
    carry_kek: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Make a new version of every KEK and wrap the data keys under it. Nothing in the CRM changes.

    To change the key service: name the new one as `service` in gateway.yaml and the old one under `former`, then
    --to-service. Interrupted at any moment, every key opens under one or the other KEK; run it again with --resume.
    """
    desk, chosen = open_desk(config), Selection(tenant, region, group)

    def progress(done: int, of: int) -> None:
        if not as_json:
            click.echo(f"{done} of {of} keys", err=True)

    desk.follow_shreds()
    new = new_keks_here(desk.file, desk.services, chosen, resume=resume)
    remind = require_carried(desk, new, carry=carry_kek, yes=yes)
    with desk.on_record("rewrap", f"{told(chosen)}{f' to service {to_service}' if to_service else ''}"):
        done = rewrap(desk.file, desk.services, chosen, to_service=to_service, resume=resume, progress=progress)
    remind()
    rows = [
        {"tenant": owner.tenant, "region": owner.region, "service": service, "kek_version": version}
        for owner, (service, version) in sorted(done.versions.items())
    ]
    if as_json:
        click.echo(json.dumps({"rewrapped": done.keys, "keks": rows}))
        return
    show_table(("tenant", "region", "service", "kek"), [[str(cell) for cell in row.values()] for row in rows])
    click.echo(f"{done.keys} keys are under these versions now. Older versions can be disabled in the key service.")
