"""`wxgate policy test`: runs the tests that live in policies, and tells which rules none of them reached.

Exit status: 0 all tests hold, 1 one does not, none ran, or a policy is at fault, 2 a file could not be read or written.
"""

import secrets
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import click

from proxy.cli.policy_files import UnreadableError, from_here, load_policy, load_samples
from proxy.cli.policy_table import shown
from proxy.cli.report.junit import as_junit
from proxy.cli.report.outcome import Outcome, Ran
from proxy.policy.check_tests import Run, run_test
from proxy.policy.compiled import Policy, PolicyTest
from proxy.policy.coverage import Coverage, coverage, no_test, untested
from proxy.policy.rules import Direction
from proxy.source.problem import Problems
from proxy.wechat.push import message_type, read_body


class _CannotWriteError(click.ClickException):
    exit_code = 2


@click.command("test")
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path(path_type=Path))
@click.option("--junit", metavar="FILE", type=click.Path(path_type=Path), help="Write the results as JUnit XML, too.")
@click.option("--strict", is_flag=True, help="A rule of FILE itself that no test reaches is an error.")
@click.pass_context
def test_command(context: click.Context, files: tuple[Path, ...], junit: Path | None, strict: bool) -> None:
    """Run the tests that live in each FILE, and tell which of its rules no test reached.

    Exit status: 0 all tests hold, 1 one does not, none ran, or a policy is at fault, 2 a file could not be read or
    written.
    """
    began = time.time()
    found = [_test(path, strict=strict) for path in files]
    ran = sum(len(outcome.ran) for outcome in found)
    if not ran:
        found = [_none_ran(outcome) for outcome in found]
    for outcome in found:
        click.echo(_as_text(outcome), err=bool(outcome.unreadable))
    failed = sum(outcome.failed for outcome in found)
    click.echo(f"files: {len(found)}, tests: {ran}, failed: {failed}" if ran else "no test ran")
    if junit:
        _write(junit, as_junit(found, began))
    context.exit(max(outcome.status for outcome in found))


def _none_ran(outcome: Outcome) -> Outcome:
    """Files there to be extended need no tests beside others; alone they must not pass for tested ones."""
    return outcome if outcome.status else replace(outcome, problems=(*outcome.problems, no_test(outcome.file)))


def _write(path: Path, data: bytes) -> None:
    try:
        path.write_bytes(data)
    except OSError as error:
        raise _CannotWriteError(shown(f"{path} cannot be written: {error.strerror}")) from None


def _test(path: Path, *, strict: bool) -> Outcome:
    try:
        policy = load_policy(path)
    except UnreadableError as error:
        return Outcome(str(path), unreadable=str(error))
    except Problems as problems:
        return Outcome(str(path), problems=tuple(problems.found))
    samples = load_samples(policy, path)
    timed = [_timed(policy, test, samples) for test in policy.tests]
    covered = coverage(policy, [run for run, _ in timed])
    problems_of_rules = covered.unreached(warning=not strict) if timed else untested(policy)
    ran = (Ran(_name(run.test), seconds, tuple(from_here(run.problems, path))) for run, seconds in timed)
    return Outcome(str(path), tuple(ran), tuple(sorted(from_here(problems_of_rules, path))), covered)


def _timed(policy: Policy, test: PolicyTest, samples: Mapping[str, bytes]) -> tuple[Run, float]:
    start = time.perf_counter()
    run = run_test(policy, test, samples.get(test.sample), read_body, message_type, secrets.token_bytes)
    return run, time.perf_counter() - start


def _name(test: PolicyTest) -> str:
    """Which test it is, by its line too: one sample may come by in several ways."""
    call = "" if test.direction is Direction.INBOUND else f" {test.method} {test.path}"
    role = f", role {test.role}" if test.role else ""
    return f"{test.sample} (line {test.place.line}): {test.direction.value} {test.phase.value}{call}{role}"


def _as_text(outcome: Outcome) -> str:
    if outcome.unreadable:
        return shown(f"Error: {outcome.unreadable}")
    failures = [problem for ran in outcome.ran for problem in ran.problems]
    lines = [shown(str(problem)) for problem in (*failures, *outcome.problems)]
    return "\n".join([*lines, f"{shown(outcome.file)}: {_summary(outcome)}"])


def _summary(outcome: Outcome) -> str:
    if outcome.covered is None:
        return f"not tested, {len(outcome.errors)} {'problem' if len(outcome.errors) == 1 else 'problems'}"
    if not outcome.ran:
        return "no tests"
    held = len(outcome.ran) - outcome.failed
    return f"{held} of {len(outcome.ran)} tests hold, rules reached: {_reached(outcome.covered)}"


def _reached(covered: Coverage) -> str:
    own, extended = (0, 0), []
    for file, (reached, rules) in covered.figures().items():
        if file == covered.name:
            own = reached, rules
        else:
            extended.append(f"{reached} of {rules} in {shown(file)}")
    return ", ".join([f"{own[0]} of {own[1]}", *extended])
