"""`wxgate policy diff`: what another version of a policy does differently, and where it protects less.

Exit status: 0 no difference, 1 differences (with `--fail-on weaker`: weaker ones), 2 a file could not be read.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import click

from proxy.cli.policy_explain import CannotJudge, load_valid, occasion_options, read_occasion
from proxy.cli.policy_files import MAX_SAMPLE, UnreadableError, load_samples, place_from_here, read_file
from proxy.cli.policy_table import shown
from proxy.policy.check_tests import occasion_of
from proxy.policy.compiled import Policy
from proxy.policy.diff import Change, diff_policies
from proxy.policy.diff_sample import Sample, diff_sample
from proxy.policy.explain import Occasion, read_sample
from proxy.policy.rules import Direction
from proxy.refusal import Refusal
from proxy.source.problem import Place
from proxy.wechat.push import message_type, read_body


@dataclass(frozen=True, slots=True)
class _Version:
    """One of the two policies, and where its file is."""

    file: Path
    policy: Policy

    def place(self, place: Place | None) -> str:
        return "" if place is None else str(place_from_here(place, self.file))


@dataclass(frozen=True, slots=True)
class _Report:
    old: _Version
    new: _Version
    fields: tuple[Change, ...]
    samples: tuple[Change, ...]

    @property
    def weaker(self) -> int:
        return sum(change.weaker for change in self.fields)

    def status(self, fail_on: str) -> int:
        changes = (*self.fields, *self.samples)
        return int(any(change.weaker or fail_on == "any" for change in changes))


@click.command("diff")
@click.argument("old", type=click.Path(path_type=Path))
@click.argument("new", type=click.Path(path_type=Path))
@click.option("--sample", "samples", multiple=True, type=click.Path(path_type=Path), help="May be given several times.")
@occasion_options
@click.option("--fail-on", type=click.Choice(["any", "weaker"]), default="any", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="The same for machines.")
@click.pass_context
def diff_command(
    context: click.Context,
    /,
    old: Path,
    new: Path,
    samples: tuple[Path, ...],
    fail_on: str,
    as_json: bool,
    **occasion: Any,
) -> None:
    """Show which fields of which messages NEW treats differently than OLD, and which of them it protects less.

    Both are tried on every SAMPLE and on the samples of their own tests. --direction, --phase, --method, --path and the
    like say when the given samples come by. Exit status: 0 no difference, 1 differences (with --fail-on weaker: weaker
    ones), 2 a file could not be read or is no valid policy.
    """
    where = read_occasion(**occasion)
    before, after = (_Version(file, load_valid(file)) for file in (old, new))
    report = _report(before, after, [_given(after.policy, path, where) for path in samples])
    click.echo(_as_json(report) if as_json else _as_text(report))
    context.exit(report.status(fail_on))


def _report(old: _Version, new: _Version, given: list[Sample]) -> _Report:
    samples = {_key(sample): sample for sample in (*given, *_tested(old), *_tested(new))}
    changes = [change for sample in samples.values() for change in diff_sample(old.policy, new.policy, sample)]
    return _Report(old, new, diff_policies(old.policy, new.policy), tuple(changes))


def _key(sample: Sample) -> tuple[object, ...]:
    return sample.document and sample.document.source, sample.occasion


def _given(policy: Policy, path: Path, where: Occasion) -> Sample:
    try:
        return _sample(policy, str(path), read_file(path, MAX_SAMPLE), where)
    except UnreadableError as error:
        raise CannotJudge(str(error)) from None
    except Refusal as refusal:
        raise CannotJudge(f"{path} is no message: {refusal.code}, {refusal.row.message}") from None


def _tested(version: _Version) -> Iterator[Sample]:
    """The samples of the policy's own tests; those that are no messages are told of by `check`."""
    data = load_samples(version.policy, version.file)
    for test in version.policy.tests:
        try:
            yield _sample(version.policy, str(version.file.parent / test.sample), data[test.sample], occasion_of(test))
        except (KeyError, Refusal):
            continue


def _sample(policy: Policy, name: str, data: bytes, where: Occasion) -> Sample:
    """As `policy` reads it. Raises Refusal for what is no message."""
    document = read_sample(policy, where, data, read_body)
    inbound = where.direction is Direction.INBOUND
    return Sample(name, document, message_type(document) if document and inbound else "", where)


# --- the report


def _as_text(report: _Report) -> str:
    lines = [f"old: {_name(report.old)}", f"new: {_name(report.new)}"]
    for title, changes in (("", report.fields), ("sample ", report.samples)):
        for where, rows in groupby(changes, key=lambda change: change.where):
            lines += ["", f"{title}{where}", *(_line(report, change) for change in rows)]
    fields, samples = len(report.fields), len(report.samples)
    told = f"{_counted(fields, 'difference')}, {report.weaker} weaker; {_counted(samples, 'value')} of samples changed"
    lines += ["", told if fields or samples else "no difference in meaning"]
    return "\n".join(shown(line) for line in lines)


def _name(version: _Version) -> str:
    return f"{version.file}, revision {version.policy.revision}"


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _line(report: _Report, change: Change) -> str:
    mark = "WEAKER " if change.weaker else "       "
    places = [text for text in (report.old.place(change.old), report.new.place(change.new)) if text]
    selector = f"{change.selector}: " if change.selector else ""
    where = f"  ({', '.join(places)})" if places else ""
    return f"  {mark}{selector}{change.before} -> {change.after}{where}"


def _as_json(report: _Report) -> str:
    found = {
        "same": not report.fields and not report.samples,
        "weaker": report.weaker,
        "old": {"file": str(report.old.file), "revision": report.old.policy.revision},
        "new": {"file": str(report.new.file), "revision": report.new.policy.revision},
        "fields": [_row(report, change) for change in report.fields],
        "samples": [_row(report, change) for change in report.samples],
    }
    return json.dumps(found, indent=2)


def _row(report: _Report, change: Change) -> dict[str, object]:
    places = {"old": report.old.place(change.old) or None, "new": report.new.place(change.new) or None}
    return asdict(change) | places
