"""`--format github`: workflow commands that GitHub Actions shows as annotations at their lines.

`::error file=F,line=L,col=C,title=T::MESSAGE`. Values are escaped as the toolkit of GitHub Actions does it: what a file
holds must not become a command of its own.
"""

from collections.abc import Sequence

from proxy.cli.policy_table import shown
from proxy.cli.report.checked import Checked
from proxy.source.problem import Problem


def as_github(found: Sequence[Checked]) -> str:
    """One line for each problem and each unreadable file, and one with figures alone."""
    lines = [line for checked in found for line in _lines(checked)]
    errors = sum(checked.errors + bool(checked.unreadable) for checked in found)
    warnings = sum(problem.warning for checked in found for problem in checked.problems)
    return "\n".join([*lines, f"files: {len(found)}, errors: {errors}, warnings: {warnings}"])


def _lines(checked: Checked) -> list[str]:
    if checked.unreadable:
        return [f"::error file={_property(checked.file)},title=unreadable::{_data(checked.unreadable)}"]
    return [_annotation(problem) for problem in checked.problems]


def _annotation(problem: Problem) -> str:
    place, fix = problem.place, f"; {problem.fix}" if problem.fix else ""
    at = f"file={_property(place.file)},line={place.line},col={place.column},title={_property(problem.code)}"
    return f"::{'warning' if problem.warning else 'error'} {at}::{_data(problem.message + fix)}"


def _data(text: str) -> str:
    """On one line already, and without what a terminal would act on."""
    return shown(text).replace("%", "%25")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
