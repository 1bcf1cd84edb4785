"""`--format sarif`: SARIF 2.1.0 (OASIS, errata 01), as code scanning services take it.

Section numbers are those of the standard.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final
from urllib.parse import quote

from proxy import __version__
from proxy.cli.policy_table import shown
from proxy.cli.report.checked import Checked
from proxy.cli.report.problem_help import problem_help
from proxy.source.problem import Place, Problem

Json = dict[str, object]

_SCHEMA: Final = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"


def as_sarif(found: Sequence[Checked]) -> str:
    """One run. Each code that was found is a rule with its help; a file that cannot be read is a notification."""
    problems = [problem for checked in found for problem in checked.problems]
    codes = sorted({problem.code for problem in problems})
    unreadable = [checked for checked in found if checked.unreadable]
    run = {
        "tool": {"driver": {"name": "wxgate", "version": __version__, "rules": [_rule(code) for code in codes]}},
        "invocations": [
            {
                "executionSuccessful": not unreadable,
                "exitCode": max(checked.status for checked in found),
                "toolExecutionNotifications": [_notification(checked) for checked in unreadable],
            }
        ],
        "columnKind": "unicodeCodePoints",  # 3.14.17: what a column counts
        "results": [_result(problem, codes.index(problem.code)) for problem in problems],
    }
    return json.dumps({"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2)


def _rule(code: str) -> Json:
    said = problem_help()[code]
    return {
        "id": code,
        "shortDescription": {"text": said.means},
        "fullDescription": {"text": f"{said.means} Cause: {said.cause}"},
        "help": {
            "text": f"Means: {said.means}\nCause: {said.cause}\nFix: {said.fix}",
            "markdown": f"- **Means:** {said.means}\n- **Cause:** {said.cause}\n- **Fix:** {said.fix}",
        },
    }


def _result(problem: Problem, rule: int) -> Json:
    fix = f"; {problem.fix}" if problem.fix else ""
    return {
        "ruleId": problem.code,
        "ruleIndex": rule,
        "level": "warning" if problem.warning else "error",
        "message": _message(problem.message + fix),
        "locations": [_location(problem.place)],
    }


def _notification(checked: Checked) -> Json:
    location = {"physicalLocation": {"artifactLocation": {"uri": uri_of(checked.file)}}}
    return {"level": "error", "message": _message(checked.unreadable), "locations": [location]}


def _location(place: Place) -> Json:
    region = {"startLine": place.line, "startColumn": place.column}
    return {"physicalLocation": {"artifactLocation": {"uri": uri_of(place.file)}, "region": region}}


def _message(text: str) -> Json:
    """3.11.5, 3.11.6: in a message, single braces are placeholders and `[text](target)` is a link."""
    return {"text": shown(text).replace("{", "{{").replace("}", "}}").replace("](", "] (")}


def uri_of(file: str) -> str:
    """3.4.3: a path as a URI reference (RFC 3986): everything is escaped that is not unreserved, byte by byte."""
    path = quote(os.fsencode(Path(file)))
    return f"file://{path}" if path.startswith("/") else path
