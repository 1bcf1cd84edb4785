"""`wxgate keys doctor`: what would fail next.

Exit status: 0 nothing to do, 1 something will fail or is not as it should be, 2 something fails now or would not start,
3 the configuration cannot be read.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import click

from proxy.cli.deployment import AS_JSON, CONFIG
from proxy.cli.keys_desk import open_desk
from proxy.cli.policy_table import shown
from proxy.kms.service import KeysError
from proxy.serve.doctor.examine import examine
from proxy.serve.doctor.finding import Finding, Level
from proxy.source.problem import Problems

_STATUS = {Level.FINE: 0, Level.NOTE: 0, Level.SOON: 1, Level.NOW: 2}


class _CannotLook(click.ClickException):
    exit_code = 3


@click.command("doctor")
@CONFIG
@click.option("--clock", default="", metavar="URL", help="Compare the clock with this server's Date.")
@AS_JSON
@click.pass_context
def doctor_command(context: click.Context, config: Path, clock: str, as_json: bool) -> None:
    """Tell what would fail next: keys, key services, certificates, files, memory, disk, clock.

    Exit status: 0 nothing to do, 1 something will fail or is not as it should be, 2 something fails now or would not
    start, 3 the configuration cannot be read.
    """
    try:
        desk = open_desk(config)
    except (Problems, KeysError) as error:
        raise _CannotLook(str(error)) from None
    found = list(examine(desk.settings, desk.services, desk.file, time.time(), clock))
    if as_json:
        click.echo(json.dumps({"findings": [_members(finding) for finding in found]}))
    else:
        click.echo("\n".join(_lines(found)))
    context.exit(max((_STATUS[finding.level] for finding in found), default=0))


def _members(finding: Finding) -> dict[str, str]:
    return {"level": finding.level.value, "check": finding.check, "text": finding.text, "fix": finding.fix}


def _lines(found: list[Finding]) -> list[str]:
    """The worst first."""
    worst = sorted(found, key=lambda finding: -list(Level).index(finding.level))
    width = max(len(finding.check) for finding in worst)
    return [
        f"{finding.level.value:<4}  {finding.check:<{width}}  {shown(finding.text)}"
        + (f"\n{'':<{width + 8}}-> {shown(finding.fix)}" if finding.fix else "")
        for finding in worst
    ]
