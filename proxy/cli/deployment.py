"""What the commands about a deployed gateway share: its gateway.yaml, errors as one line, records of what was done."""

from __future__ import annotations

import os
import pwd
import time
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from proxy.crypto.data_key import KeyMismatchError
from proxy.kms.service import KeysError
from proxy.observe.audit import AuditChain, AuditValue
from proxy.source.problem import Problems

if TYPE_CHECKING:
    from proxy.serve.settings import Settings

AUDIT_SLOT: Final = 9999
"""The audit chain of commands; no worker has it (docs/spec/audit.md)."""

CONFIG = click.option(
    "--config", required=True, type=click.Path(path_type=Path, dir_okay=False), help="The gateway.yaml."
)
AS_JSON = click.option("--json", "as_json", is_flag=True, help="One JSON document instead of a table.")


def explained[**P, R](command: Callable[P, R]) -> Callable[P, R]:
    """What can go wrong with keys, files and the audit log becomes one line and exit status 1."""

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except (KeysError, KeyMismatchError, Problems, OSError) as error:
            raise click.ClickException(str(error)) from None

    return run


def settings_of(config: Path) -> Settings:
    """Raises Problems."""
    # Here and not above: it pulls in the policy compiler, for which no other command should wait.
    from proxy.serve.settings import load_settings

    return load_settings(config)


def put_on_record(settings: Settings, event: str, **facts: AuditValue) -> None:
    """Writes what a command does into the audit log, with who called it, and brings it to the disk.

    Raises AuditUnwritable; the caller then does not do it.
    """
    chain = AuditChain.open(settings.audit, AUDIT_SLOT, max_bytes=settings.audit_max_bytes)
    try:
        chain.append({"event": event, "at": round(time.time(), 3), "caller": _caller(), **facts})
    finally:
        chain.close()  # syncs


def _caller() -> str:
    """The name of the user, or the number if the machine knows no name."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid-{os.getuid()}"
