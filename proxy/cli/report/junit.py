"""`--junit`: the XML that CI servers read test results from. It has no standard; this is what both the schema of Ant's
task (as published by windyroad) and that of Jenkins' xUnit plug-in take.
"""

import xml.etree.ElementTree as ET
from collections.abc import Sequence
from datetime import UTC, datetime
from xml.etree.ElementTree import Element, SubElement

from proxy.cli.policy_table import shown
from proxy.cli.report.outcome import Outcome
from proxy.source.problem import Problem

# What says that a test could not be run, rather than that it ran and did not hold.
_NOT_RUN = frozenset({"sample-missing", "sample-malformed"})


def as_junit(found: Sequence[Outcome], now: float) -> bytes:
    """One suite for each file, one case for each test, and one called "policy" for what is wrong besides tests, an
    unreadable file included. `now`: when the run began, in seconds since 1970."""
    root = Element("testsuites")
    for number, outcome in enumerate(found):
        _suite(root, number, outcome, datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%S"))
    ET.indent(root)
    document: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return document + b"\n"


def _suite(root: Element, number: int, outcome: Outcome, timestamp: str) -> None:
    suite = SubElement(root, "testsuite", name=shown(outcome.file), package="wxgate.policy", id=str(number))
    suite.set("timestamp", timestamp)
    suite.set("hostname", "localhost")  # required, and nobody's business
    SubElement(suite, "properties")
    for ran in outcome.ran:
        case = _case(suite, outcome.file, ran.name, ran.seconds)
        if ran.problems:
            kind = "error" if ran.problems[0].code in _NOT_RUN else "failure"
            _note(case, kind, ran.problems[0].code, [str(problem) for problem in ran.problems])
    if outcome.unreadable or outcome.errors:
        case = _case(suite, outcome.file, "policy", 0)
        _note(case, "error", *_faults(outcome.unreadable, outcome.errors))
    suite.set("tests", str(len(suite.findall("testcase"))))
    suite.set("failures", str(len(suite.findall("*/failure"))))
    suite.set("errors", str(len(suite.findall("*/error"))))
    suite.set("time", f"{sum(ran.seconds for ran in outcome.ran):.3f}")
    SubElement(suite, "system-out")
    SubElement(suite, "system-err")


def _case(suite: Element, file: str, name: str, seconds: float) -> Element:
    return SubElement(suite, "testcase", name=shown(name), classname=shown(file), time=f"{seconds:.3f}")


def _faults(unreadable: str, errors: Sequence[Problem]) -> tuple[str, list[str]]:
    return ("unreadable", [unreadable]) if unreadable else (errors[0].code, [str(problem) for problem in errors])


def _note(case: Element, kind: str, code: str, texts: Sequence[str]) -> None:
    """XML 1.0 has no way to write most control characters: what cannot be seen is spelt out."""
    lines = [shown(text) for text in texts]
    SubElement(case, kind, type=code, message=lines[0]).text = "\n".join(lines)
