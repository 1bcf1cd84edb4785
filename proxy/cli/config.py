"""`wxgate config`: look at a gateway.yaml before it is used."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from proxy.source.problem import Problems


@click.group()
def config() -> None:
    """Check a gateway.yaml."""


@config.command()
@click.argument("file", type=click.Path(path_type=Path))
def check(file: Path) -> None:
    """Tell everything that is wrong with FILE, and what it would listen on and forward to.

    Exit codes: 0 nothing is wrong (there may be warnings), 1 something is.
    """
    from proxy.serve.settings import load_settings

    try:
        settings = load_settings(file)
    except Problems as problems:
        for problem in problems.found:
            click.echo(str(problem))
        count = sum(not problem.warning for problem in problems.found)
        click.echo(f"{count} problem{'s' if count != 1 else ''}", err=True)
        sys.exit(1)
    for warning in settings.warnings:
        click.echo(str(warning))
    for listener in settings.listeners:
        oldest = "1.3" if listener.tls.tls13_only else "1.2"
        click.echo(f"listen   {listener.name}: {listener.host}:{listener.port}, TLS {oldest} or newer")
    for route in settings.routes:
        upstream = next(item for item in settings.upstreams if item.name == route.upstream)
        hosts = ", ".join(sorted(route.hosts)) or "any host"
        to = f"https://{upstream.host}:{upstream.port}{route.target}"
        click.echo(f"route    {route.name}: {route.kind.value}, {hosts} {route.path} -> {to} by {route.policy}")
    click.echo(f"admin    http://{settings.admin.host}:{settings.admin.port}")
