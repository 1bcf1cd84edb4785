"""`--format text` and `--format json`."""

import json
from collections.abc import Sequence
from dataclasses import asdict

from proxy.cli.policy_table import shown
from proxy.cli.report.checked import Checked
from proxy.source.problem import Problem


def as_text(checked: Checked) -> str:
    """A line for each problem and one for the file. Of an unreadable file: the reason alone."""
    if checked.unreadable:
        return shown(f"Error: {checked.unreadable}")
    lines = [shown(str(problem)) for problem in checked.problems]
    file = shown(checked.file)
    if checked.status:
        lines.append(f"{file}: {checked.errors} {'problem' if checked.errors == 1 else 'problems'}")
    else:
        tests = {0: "no tests", 1: "1 test holds"}.get(checked.tests, f"{checked.tests} tests hold")
        lines.append(f"{file}: ok, revision {checked.revision}, messages: {checked.messages}, {tests}")
    return "\n".join(lines)


def as_json(found: Sequence[Checked]) -> str:
    """One object: `ok`, and `files` with everything `Checked` knows."""
    files = [
        {
            "file": shown(checked.file),
            "ok": checked.status == 0,
            "revision": checked.revision or None,
            "messages": checked.messages,
            "tests": checked.tests,
            "unreadable": shown(checked.unreadable) or None,
            "problems": [asdict(problem.place) | _without_place(problem) for problem in checked.problems],
        }
        for checked in found
    ]
    return json.dumps({"ok": not any(checked.status for checked in found), "files": files}, indent=2)


def _without_place(problem: Problem) -> dict[str, object]:
    return {key: value for key, value in asdict(problem).items() if key != "place"}
