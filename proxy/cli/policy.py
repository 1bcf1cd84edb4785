"""`wxgate policy`: `check` tells everything wrong with policy files, `explain` what a policy does to a sample.

Exit status of `check`: 0 nothing wrong (warnings do not count), 1 problems found, 2 a file could not be read.
"""

import json
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from proxy.cli.policy_draft import draft_command
from proxy.cli.policy_explain import explain_command
from proxy.cli.policy_files import UnreadableError, from_here, load_policy, load_samples
from proxy.cli.policy_schema import schema_command
from proxy.cli.policy_table import shown
from proxy.policy.check_tests import check_tests
from proxy.source.problem import Problem, Problems
from proxy.wechat.push import message_type, read_body


@click.group()
def policy() -> None:
    """Check policy files, and see what they do to a message."""


policy.add_command(explain_command)
policy.add_command(draft_command)
policy.add_command(schema_command)


@dataclass(frozen=True, slots=True)
class _Report:
    """What `check` found out about one file. `unreadable`: why there is nothing to find out."""

    file: str
    revision: str = ""
    messages: int = 0
    tests: int = 0
    problems: tuple[Problem, ...] = ()
    unreadable: str = ""

    @property
    def status(self) -> int:
        if self.unreadable:
            return 2
        return 1 if any(not problem.warning for problem in self.problems) else 0


@policy.command("check")
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path(path_type=Path))
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.pass_context
def check_command(context: click.Context, files: tuple[Path, ...], form: str) -> None:
    """Tell everything that is wrong with each FILE and with what it extends, and run its tests.

    Exit status: 0 nothing wrong (warnings do not count), 1 problems found, 2 a file could not be read.
    """
    reports = [_check(path) for path in files]
    if form == "json":
        click.echo(_as_json(reports))
    else:
        for report in reports:
            click.echo(_as_text(report), err=bool(report.unreadable))
    context.exit(max(report.status for report in reports))


def _check(path: Path) -> _Report:
    name = shown(str(path))
    try:
        compiled = load_policy(path)
    except UnreadableError as error:
        return _Report(name, unreadable=shown(str(error)))
    except Problems as problems:
        return _Report(name, problems=tuple(problems.found))
    failed = check_tests(compiled, load_samples(compiled, path), read_body, message_type, secrets.token_bytes)
    found = sorted(from_here([*compiled.warnings, *failed], path))
    messages = len(compiled.pushes) + len(compiled.replies) + len(compiled.calls)
    return _Report(name, compiled.revision, messages, len(compiled.tests), tuple(found))


def _as_text(report: _Report) -> str:
    if report.unreadable:
        return f"Error: {report.unreadable}"
    lines = [shown(str(problem)) for problem in report.problems]
    if report.status:
        errors = sum(not problem.warning for problem in report.problems)
        lines.append(f"{report.file}: {errors} {'problem' if errors == 1 else 'problems'}")
    else:
        tests = {0: "no tests", 1: "1 test holds"}.get(report.tests, f"{report.tests} tests hold")
        lines.append(f"{report.file}: ok, revision {report.revision}, messages: {report.messages}, {tests}")
    return "\n".join(lines)


def _as_json(reports: list[_Report]) -> str:
    files = [
        {
            "file": report.file,
            "ok": report.status == 0,
            "revision": report.revision or None,
            "messages": report.messages,
            "tests": report.tests,
            "unreadable": report.unreadable or None,
            "problems": [asdict(problem.place) | _without_place(problem) for problem in report.problems],
        }
        for report in reports
    ]
    return json.dumps({"ok": not any(report.status for report in reports), "files": files}, indent=2)


def _without_place(problem: Problem) -> dict[str, object]:
    return {key: value for key, value in asdict(problem).items() if key != "place"}
