"""JUnit XML read back by a parser: shape, figures, and texts that XML cannot hold."""

import re
import xml.etree.ElementTree as ET

import pytest

from proxy.cli.report.junit import as_junit
from proxy.cli.report.outcome import Outcome, Ran
from tests.cli.report.build import HOSTILE_FILES, HOSTILE_TEXT, problem

NOW = 1_790_000_000.9
# Of the published schema of Ant's task: what each element must have, and the order of what is in it.
ATTRIBUTES = {
    "testsuites": set(),
    "testsuite": {"name", "package", "id", "timestamp", "hostname", "tests", "failures", "errors", "time"},
    "testcase": {"name", "classname", "time"},
    "failure": {"type", "message"},
    "error": {"type", "message"},
    "properties": set(),
    "system-out": set(),
    "system-err": set(),
}


def suites(*found: Outcome) -> list[ET.Element]:
    root = ET.fromstring(as_junit(found, NOW))
    assert root.tag == "testsuites"
    for element in root.iter():
        assert set(element.attrib) == ATTRIBUTES[element.tag]
    for number, suite in enumerate(root):
        names = [child.tag for child in suite]
        assert names == ["properties", *["testcase"] * (len(names) - 3), "system-out", "system-err"]
        assert (suite.get("id"), suite.get("tests")) == (str(number), str(len(names) - 3))
        assert all(len(case) <= 1 for case in suite.iter("testcase"))
    return list(root)


def test_each_test_is_a_case_and_figures_add_up() -> None:
    held, failed = Ran("one", 0.25, ()), Ran("two", 0.5, (problem(), problem(text="and that")))
    missing = Ran("three", 0, (problem(code="sample-missing"),))
    (suite,) = suites(Outcome("p.yaml", (held, failed, missing), (problem(code="rule-unreached", warning=True),)))
    assert {key: suite.get(key) for key in ("name", "tests", "failures", "errors", "time", "timestamp")} == {
        "name": "p.yaml",
        "tests": "3",
        "failures": "1",
        "errors": "1",
        "time": "0.750",
        "timestamp": "2026-09-21T14:13:20",
    }
    one, two, three = suite.iter("testcase")
    assert (one.attrib, len(one)) == ({"name": "one", "classname": "p.yaml", "time": "0.250"}, 0)
    assert (two[0].tag, two[0].get("type")) == ("failure", "test-failed")
    assert two[0].get("message") == "p.yaml:3:7: test-failed it is; do it"
    assert two[0].text == "p.yaml:3:7: test-failed it is; do it\np.yaml:3:7: test-failed and that; do it"
    assert (three[0].tag, three[0].get("type")) == ("error", "sample-missing")


@pytest.mark.parametrize(
    ("outcome", "kind"),
    [
        (Outcome("p.yaml", problems=(problem(code="unknown-key"),)), "unknown-key"),
        (Outcome("p.yaml", problems=(problem(code="rule-unreached"),)), "rule-unreached"),
        (Outcome("p.yaml", unreadable="p.yaml does not exist"), "unreadable"),
    ],
)
def test_what_fails_besides_tests_is_red_too(outcome: Outcome, kind: str) -> None:
    (suite,) = suites(outcome)
    (case,) = suite.iter("testcase")
    assert (case.get("name"), case[0].tag, case[0].get("type")) == ("policy", "error", kind)
    assert (suite.get("tests"), suite.get("errors"), suite.get("failures")) == ("1", "1", "0")


@pytest.mark.parametrize("file", HOSTILE_FILES)
def test_any_name_and_text_is_well_formed_and_on_its_line(file: str) -> None:
    ran = Ran(HOSTILE_TEXT + file, 0, (problem(file, text=HOSTILE_TEXT),))
    (suite, other) = suites(Outcome(file, (ran,)), Outcome(file, unreadable=HOSTILE_TEXT))
    name = suite.get("name") or ""
    assert name.isprintable()
    assert name == file or not file.isprintable()
    (failure,) = suite.iter("failure")
    text = failure.text or ""
    assert text.isprintable()
    assert re.search(r"]]> <x y=\"z\"> & \\ufffe \\udc80 \\r\\n::set-output", text)
    assert next(other.iter("error")).text == text.partition("test-failed ")[2].removesuffix("; do it")
