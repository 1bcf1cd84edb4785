"""`wxgate`: one command for deployers, policy authors and testers. Each group of commands is a file beside this one."""

from __future__ import annotations

import importlib

import click

from proxy import __version__

_COMMANDS = {
    "serve": "proxy.cli.serve",
    "config": "proxy.cli.config",
    "policy": "proxy.cli.policy",
    "keys": "proxy.cli.keys",
    "token": "proxy.cli.token",
    "certs": "proxy.cli.certs",
    "audit": "proxy.cli.audit",
    "demo": "proxy.cli.demo",
}


class _Lazy(click.Group):
    """Loads a command when it is asked for: checking a policy must not wait for the TLS engine."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, _ctx: click.Context, name: str) -> click.Command | None:
        if name not in _COMMANDS:
            return None
        command: click.Command = getattr(importlib.import_module(_COMMANDS[name]), name)
        return command


@click.command(cls=_Lazy)
@click.version_option(__version__, prog_name="wxgate")
def main() -> None:
    """wxgate, a security gateway between WeChat and a CRM.

    Start with `wxgate demo`; docs/ and `wxgate COMMAND --help` say the rest.
    """
