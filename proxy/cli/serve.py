"""`wxgate serve`: runs the gateway until it is told to stop."""

from __future__ import annotations

import asyncio
import resource
import sys
from pathlib import Path

import click

from proxy.source.problem import Problems


@click.command()
@click.option("--config", required=True, type=click.Path(path_type=Path, dir_okay=False), help="The gateway.yaml.")
@click.option("--workers", type=click.IntRange(1, 256), default=1, show_default=True, help="Worker processes.")
def serve(config: Path, workers: int) -> None:
    """Run the gateway.

    SIGTERM drains: no new connections, what was accepted is finished. SIGHUP reloads the configuration, policies, keys
    and certificates, or keeps the old if anything is wrong with the new. Exit codes: 0 drained, 1 did not start or
    could not go on.
    """
    from proxy.admin.app import serve_admin
    from proxy.observe.log import StructuredLog, silence_libraries, to_stderr
    from proxy.serve.memory import close_memory
    from proxy.serve.settings import load_settings
    from proxy.serve.starting import StartError
    from proxy.serve.supervisor import Supervisor

    close_memory()
    # Every connection takes a descriptor; the usual soft limit of 1024 is less than what listeners let in.
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    silence_libraries()
    log = StructuredLog(to_stderr)
    try:
        settings = load_settings(config)
        for warning in settings.warnings:
            click.echo(str(warning), err=True)
        supervisor = Supervisor(settings, workers, log)
    except (Problems, StartError) as error:
        click.echo(f"wxgate does not start:\n{error}", err=True)
        sys.exit(1)

    async def main() -> int:
        admin = serve_admin(supervisor, settings.admin.token_hash)
        admin.add_sockets(supervisor.admin_sockets)
        return await supervisor.run()

    sys.exit(asyncio.run(main()))
