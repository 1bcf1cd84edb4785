"""`wxgate keys`: make, list and rotate the keys of the embedded key service. Never prints key bytes."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING

import click

from proxy.crypto.data_key import KeyMismatchError, Purpose
from proxy.kms.administration import init_keys, list_keys, rotate_keys
from proxy.kms.keyring_file import Entry
from proxy.kms.service import KeysError
from proxy.source.problem import Problems

if TYPE_CHECKING:
    from proxy.serve.settings import Settings

_COLUMNS = ("ID", "TENANT", "REGION", "GROUP", "PURPOSE", "STATE", "CREATED", "ACTIVATED", "RETIRED", "KEK")
_RELOAD = "A running gateway takes the keyring up when it is reloaded (SIGHUP)."
_CONFIG = click.option(
    "--config", required=True, type=click.Path(path_type=Path, dir_okay=False), help="The gateway.yaml."
)
_JSON = click.option("--json", "as_json", is_flag=True, help="One JSON document instead of a table.")


def _explained[**P, R](command: Callable[P, R]) -> Callable[P, R]:
    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except (KeysError, KeyMismatchError, Problems) as error:
            raise click.ClickException(str(error)) from None

    return run


def _settings(config: Path) -> Settings:
    # Here and not above: it pulls in the policy compiler, for which no other command should wait.
    from proxy.serve.settings import load_settings

    return load_settings(config)


@click.group()
def keys() -> None:
    """Make, list and rotate the keys that values are protected with."""


@keys.command("init")
@_CONFIG
@_JSON
@_explained
def init_command(config: Path, as_json: bool) -> None:
    """Make the keys that the configuration and its policies need and that are not there yet."""
    settings = _settings(config)
    wanted = [(owner, group, use) for owner in settings.owners for group in settings.groups for use in Purpose]
    made = init_keys(settings.state, settings.unlock, wanted, time.time(), secrets.token_bytes)
    _show(made, as_json, none="No key was missing.")
    if not as_json:
        click.echo(f"Back up {settings.state} and, apart from it, the unlock key: what they protect is lost with them.")


@keys.command("list")
@_CONFIG
@_JSON
@_explained
def list_command(config: Path, as_json: bool) -> None:
    """Show every key with its state, never its bytes."""
    settings = _settings(config)
    _show(list_keys(settings.state, settings.unlock, secrets.token_bytes), as_json, none="The keyring is empty.")


@keys.command("rotate")
@_CONFIG
@click.option("--tenant", help="Only this tenant's keys.")
@click.option("--region", help="Only this region's keys.")
@click.option("--group", help="Only this class group's keys.")
@_JSON
@_explained
def rotate_command(config: Path, tenant: str | None, region: str | None, group: str | None, as_json: bool) -> None:
    """Make new active data keys. The old ones still open what they protected; lookup keys are left alone."""
    settings = _settings(config)
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
