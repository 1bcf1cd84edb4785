"""`wxgate audit`: export the heads of the audit chains, and verify the chains against them.

Exit status of `verify`: 0 the chains hold (a torn last line is noted), 1 tampered with, 2 could not be judged.
"""

import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Final

import click

from proxy.observe.audit_verify import AuditUnreadable, ChainReport, Head, heads, verify

_MAX_HEAD_FILE: Final = 1 << 20  # bytes
_HEAD_LINE: Final = re.compile(r"(0|[1-9][0-9]{0,3}) ([1-9][0-9]{0,17}) ([0-9a-f]{64})", re.ASCII)


class _CannotJudge(click.ClickException):
    exit_code = 2


@click.group()
def audit() -> None:
    """Look at the audit chains: export their heads, verify them."""


@audit.command("head")
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="One JSON document instead of lines `slot n hash`.")
def head_command(directory: Path, as_json: bool) -> None:
    """Print the newest record of every chain in DIRECTORY; keep it where the gateway's machine cannot write."""
    try:
        found = heads(directory)
    except AuditUnreadable as error:
        raise _CannotJudge(str(error)) from None
    if not found:
        raise _CannotJudge(f"{directory}: no audit chain here; check the path")
    if as_json:
        click.echo(json.dumps({"heads": [asdict(head) for head in found]}))
    else:
        click.echo("\n".join(f"{head.slot} {head.n} {head.hash}" for head in found))


@audit.command("verify")
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("--head", "head_file", type=click.Path(path_type=Path), help="What `audit head` printed earlier.")
@click.option("--pruned", is_flag=True, help="Accept that retention removed the oldest files.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document instead of text.")
@click.pass_context
def verify_command(
    context: click.Context, directory: Path, head_file: Path | None, pruned: bool, as_json: bool
) -> None:
    """Verify every audit chain in DIRECTORY over its rotated files. Exit 0: holds, 1: tampered with, 2: unreadable."""
    try:
        reports = verify(directory, _read_heads(head_file) if head_file else None, pruned=pruned)
    except AuditUnreadable as error:
        raise _CannotJudge(str(error)) from None
    if not reports:
        raise _CannotJudge(f"{directory}: no audit chain here; check the path")
    click.echo(_as_json(reports) if as_json else "\n".join(_as_text(report) for report in reports))
    context.exit(1 if any(report.finding for report in reports) else 0)


def _as_json(reports: list[ChainReport]) -> str:
    holds = not any(report.finding for report in reports)
    return json.dumps({"intact": holds, "chains": [asdict(report) for report in reports]})


def _as_text(report: ChainReport) -> str:
    name = f"worker-{report.slot}"
    counted = f"{report.records} records in {len(report.files)} files, head {report.head.n} {report.head.hash}"
    if report.finding is None:
        lines = [f"{name}: intact: {counted}"]
    else:
        lines = [f"{name}: TAMPERED: {report.finding.where}: {report.finding.kind}: {report.finding.detail}"]
        lines.append(f"{name}: good up to there: {counted}")
    return "\n".join(lines + [f"{name}: note: {note}" for note in report.notes])


def _read_heads(path: Path) -> dict[int, Head]:
    """Both forms `audit head` prints are understood. Raises _CannotJudge; a head that is not understood is no head."""
    try:
        with path.open("rb") as stream:
            text = stream.read(_MAX_HEAD_FILE + 1).decode("ascii")
        if len(text) > _MAX_HEAD_FILE:
            raise ValueError
        lines = _lines_of_json(text) if text.lstrip().startswith("{") else text.splitlines()
        found = [_head(line) for line in lines if line.strip()]
    except OSError as error:
        raise _CannotJudge(f"{path}: {error.strerror}; check the path") from None
    except (ValueError, KeyError, TypeError, RecursionError):
        raise _CannotJudge(f"{path}: not what `wxgate audit head` prints; export it again") from None
    by_slot = {head.slot: head for head in found}
    if not found or len(by_slot) != len(found):
        raise _CannotJudge(f"{path}: holds no head, or two of one chain; export it again")
    return by_slot


def _lines_of_json(text: str) -> list[str]:
    return [f"{item['slot']} {item['n']} {item['hash']}" for item in json.loads(text)["heads"]]


def _head(line: str) -> Head:
    match = _HEAD_LINE.fullmatch(line.strip())
    if match is None:
        raise ValueError
    return Head(int(match[1]), int(match[2]), match[3])
