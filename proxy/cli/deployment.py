"""What the commands about a deployed gateway share: its gateway.yaml, errors as one line."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING

import click

from proxy.crypto.data_key import KeyMismatchError
from proxy.kms.service import KeysError
from proxy.source.problem import Problems

if TYPE_CHECKING:
    from proxy.serve.settings import Settings

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
