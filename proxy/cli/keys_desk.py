"""What the commands about keys share: the keyring with its key services, who is chosen, asking twice."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from proxy.cli.deployment import settings_of
from proxy.kms.keyring_file import KeyringFile
from proxy.kms.keystore import keyring_file_of
from proxy.kms.selection import Selection
from proxy.kms.service_set import ServiceSet
from proxy.kms.services import open_services
from proxy.serve.key_record import on_record
from proxy.serve.shred_following import follow_shreds

if TYPE_CHECKING:
    from collections.abc import Iterable

    from proxy.serve.settings import Settings

YES = click.option("--yes", is_flag=True, help="Do not ask.")
_CHOSEN = (
    click.option("--tenant", help="Only this tenant's keys."),
    click.option("--region", help="Only this region's keys."),
    click.option("--group", help="Only this class group's keys."),
)


@dataclass(frozen=True, slots=True)
class Desk:
    """A deployment's keys. `services` are reached when they are asked."""

    settings: Settings
    services: ServiceSet
    file: KeyringFile

    def follow_shreds(self) -> None:
        """Before KEKs are made or used anew: none that another machine shredded is among them."""
        if self.file.stamp() is not None:
            follow_shreds(self.settings, self.services, self.file)

    def on_record(
        self, verb: str, subject: str, key_ids: Iterable[bytes] = ()
    ) -> AbstractContextManager[Callable[[Iterable[bytes]], None]]:
        """See key_record.on_record."""
        return on_record(self.settings, verb, subject, key_ids)


def open_desk(config: Path) -> Desk:
    """Raises Problems, KeysError."""
    settings = settings_of(config)
    services = open_services(settings.keys, settings.state, secrets.token_bytes)
    return Desk(settings, services, keyring_file_of(services, settings.state, secrets.token_bytes))


def choosing[F: Callable[..., object]](command: F) -> F:
    """The options --tenant, --region and --group; `Selection` takes them."""
    for option in reversed(_CHOSEN):
        command = option(command)
    return command


def told(chosen: Selection) -> str:
    """A selection in words, for the record."""
    said = [f"{name} {value}" for name, value in _asked(chosen) if value is not None]
    return ", ".join(said) or "all keys"


def _asked(chosen: Selection) -> tuple[tuple[str, str | None], ...]:
    return ("tenant", chosen.tenant), ("region", chosen.region), ("group", chosen.group)


def ask_twice(what: str, name: str, *, yes: bool) -> None:
    """Once whether, and once for `name`, typed. Unless `yes`, raises ClickException when it was not meant."""
    if yes:
        return
    click.echo(what, err=True)
    meant = click.confirm("Go on?", err=True)
    if not meant or click.prompt(f'Type "{name}" to confirm', err=True, default="", show_default=False) != name:
        raise click.ClickException("nothing was changed")
