"""`wxgate keys`: make, list and rotate the keys of the embedded key service. Never prints key bytes."""

from __future__ import annotations

import json
import secrets
import time
from datetime import UTC, datetime
from pathlib import Path

import click

from proxy.cli.deployment import AS_JSON, CONFIG, explained, settings_of
from proxy.crypto.data_key import Purpose
from proxy.kms.administration import init_keys, list_keys, rotate_keys
from proxy.kms.keyring_format import Entry
from proxy.serve.memory import close_memory

_COLUMNS = ("ID", "TENANT", "REGION", "GROUP", "PURPOSE", "STATE", "CREATED", "ACTIVATED", "RETIRED", "KEK")
_RELOAD = "A running gateway takes the keyring up when it is reloaded (SIGHUP)."


@click.group()
def keys() -> None:
    """Make, list and rotate the keys that values are protected with."""
    close_memory()


@keys.command("init")
@CONFIG
@AS_JSON
@explained
def init_command(config: Path, as_json: bool) -> None:
    """Make the keys that the configuration and its policies need and that are not there yet."""
    settings = settings_of(config)
    wanted = [(owner, group, use) for owner in settings.owners for group in settings.groups for use in Purpose]
    made = init_keys(settings.state, settings.unlock, wanted, time.time(), secrets.token_bytes)
    _show(made, as_json, none="No key was missing.")
    if not as_json:
        click.echo(f"Back up {settings.state} and, apart from it, the unlock key: what they protect is lost with them.")


@keys.command("list")
@CONFIG
@AS_JSON
@explained
def list_command(config: Path, as_json: bool) -> None:
    """Show every key with its state, never its bytes."""
    settings = settings_of(config)
    _show(list_keys(settings.state, settings.unlock, secrets.token_bytes), as_json, none="The keyring is empty.")


@keys.command("rotate")
@CONFIG
@click.option("--tenant", help="Only this tenant's keys.")
@click.option("--region", help="Only this region's keys.")
@click.option("--group", help="Only this class group's keys.")
@AS_JSON
@explained
def rotate_command(config: Path, tenant: str | None, region: str | None, group: str | None, as_json: bool) -> None:
    """Make new active data keys. The old ones still open what they protected; lookup keys are left alone."""
    settings = settings_of(config)
    made = rotate_keys(
        settings.state, settings.unlock, time.time(), secrets.token_bytes, tenant=tenant, region=region, group=group
    )
    _show(made, as_json, none="")
    if not as_json:
        click.echo(_RELOAD)


def _show(entries: list[Entry], as_json: bool, none: str) -> None:
    if as_json:
        click.echo(json.dumps({"keys": [_as_json(entry) for entry in entries]}))
        return
    rows = [_COLUMNS, *(_as_row(entry) for entry in entries)] if entries else [(none,)]
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _as_json(entry: Entry) -> dict[str, str | int | None]:
    owner, group, purpose = entry.slot
    return {
        "id": entry.id.hex(),
        "tenant": owner.tenant,
        "region": owner.region,
        "group": group,
        "purpose": purpose.value,
        "state": entry.state.value,
        "created": entry.created,
        "activated": entry.activated,
        "retired": entry.retired,
        "kek_version": entry.wrapped.kek_version,
    }


def _as_row(entry: Entry) -> tuple[str, ...]:
    fields = _as_json(entry)
    for name in ("created", "activated", "retired"):
        fields[name] = _date(fields[name])
    return tuple(str(field) for field in fields.values())


def _date(seconds: str | int | None) -> str:
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if seconds is not None else "-"
