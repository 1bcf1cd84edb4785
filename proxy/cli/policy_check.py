"""`wxgate policy check`: everything that is wrong with policy files, for people and for machines.

Exit status: 0 nothing wrong (warnings do not count), 1 problems found, 2 a file could not be read.
"""

import secrets
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import click

from proxy.cli.policy_files import UnreadableError, from_here, load_policy, load_samples
from proxy.cli.report.checked import Checked
from proxy.cli.report.github import as_github
from proxy.cli.report.plain import as_json, as_text
from proxy.cli.report.sarif import as_sarif
from proxy.policy.check_tests import run_test
from proxy.policy.coverage import coverage, untested
from proxy.source.problem import Problem, Problems
from proxy.wechat.push import message_type, read_body

_WHOLE: Final[dict[str, Callable[[Sequence[Checked]], str]]] = {
    "json": as_json,
    "sarif": as_sarif,
    "github": as_github,
}


@click.command("check")
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path(path_type=Path))
@click.option("--format", "form", type=click.Choice(["text", *_WHOLE]), default="text", show_default=True)
@click.option(
    "--strict", is_flag=True, help="A selector that points at nothing in any sample of the tests is an error."
)
@click.pass_context
def check_command(context: click.Context, files: tuple[Path, ...], form: str, strict: bool) -> None:
    """Tell everything that is wrong with each FILE and with what it extends, and run its tests.

    Exit status: 0 nothing wrong (warnings do not count), 1 problems found, 2 a file could not be read.
    """
    found = [check(path, strict=strict) for path in files]
    if form in _WHOLE:
        click.echo(_WHOLE[form](found))
    else:
        for checked in found:
            click.echo(as_text(checked), err=bool(checked.unreadable))
    context.exit(max(checked.status for checked in found))


def check(path: Path, *, strict: bool) -> Checked:
    """What is wrong with the policy at `path`."""
    try:
        policy = load_policy(path)
    except UnreadableError as error:
        return Checked(str(path), unreadable=str(error))
    except Problems as problems:
        return Checked(str(path), problems=tuple(problems.found))
    samples = load_samples(policy, path)
    runs = [
        run_test(policy, test, samples.get(test.sample), read_body, message_type, secrets.token_bytes)
        for test in policy.tests
    ]
    found: list[Problem] = [*policy.warnings, *(problem for run in runs for problem in run.problems)]
    if strict:
        found += coverage(policy, runs).unmatched() if runs else untested(policy)
    messages = len(policy.pushes) + len(policy.replies) + len(policy.all_conditioned()) + len(policy.calls)
    return Checked(str(path), policy.revision, messages, len(policy.tests), tuple(sorted(from_here(found, path))))
