"""`wxgate policy test`: results, coverage, JUnit file, exit status; policies that hold, fail or have no tests."""

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from proxy.cli.policy import policy

POLICIES = Path(__file__).parents[2] / "policies"
TESTED = """version: 1
extends: [base.yaml]
classes: {words: {action: encrypt}}
messages:
  - name: m
    direction: inbound
    match: {type: text}
    request:
      xml:/xml/Text: {class: words, as: words}
      xml:/xml/Gone: drop
  - name: send
    direction: outbound
    match: {method: POST, path: /send}
    request:
      json:$.a: {class: words, as: said, reveal: {'*': plain}}
tests:
  - sample: s.xml
    expect: {xml:/xml/Text: encrypted}
  - {sample: s.json, direction: outbound, method: POST, path: /send, protect: true, expect: {json:$.a: revealed}}
"""
BASE = """version: 1
common:
  - direction: inbound
    request: {xml:/xml/MsgType: allow, xml:/xml/Id: allow}
"""


def run(*arguments: str | Path) -> Result:
    result = CliRunner().invoke(policy, ["test", *(str(argument) for argument in arguments)])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    assert "Traceback" not in result.output
    return result


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s.xml").write_bytes(b"<xml><MsgType>text</MsgType><Text>secret words</Text></xml>")
    (tmp_path / "s.json").write_text('{"a": "secret words"}')
    (tmp_path / "base.yaml").write_text(BASE)
    (tmp_path / "p.yaml").write_text(TESTED)
    (tmp_path / "failing.yaml").write_text(TESTED.replace("protect: true, ", ""))
    (tmp_path / "untested.yaml").write_text(TESTED.partition("tests:")[0])
    (tmp_path / "broken.yaml").write_text("version: 2\n")
    return tmp_path


def test_tests_that_hold_and_the_rules_they_reached(directory: Path) -> None:
    result = run("p.yaml")
    assert result.exit_code == 0
    assert result.output.splitlines() == [
        'p.yaml:10:7: warning rule-unreached "xml:/xml/Gone" points at nothing in any sample of the tests; '
        "add a test with a sample that has it",
        "p.yaml: 2 of 2 tests hold, rules reached: 2 of 3, 1 of 2 in base.yaml",
        "files: 1, tests: 2, failed: 0",
    ]


def test_strict_takes_an_unreached_rule_of_the_file_itself_for_an_error(directory: Path) -> None:
    result = run("p.yaml", "--strict")
    assert result.exit_code == 1
    assert result.output.startswith("p.yaml:10:7: rule-unreached ")
    (directory / "p.yaml").write_text(TESTED.replace("      xml:/xml/Gone: drop\n", ""))
    assert run("p.yaml", "--strict").exit_code == 0  # the base has an unreached one, too


def test_a_test_that_fails_is_told_at_its_line_without_a_value(directory: Path) -> None:
    result = run("p.yaml", "failing.yaml")
    assert result.exit_code == 1
    assert 'failing.yaml:19:5: test-failed "s.json": json:$.a should be revealed and is refused' in result.output
    assert "failing.yaml: 1 of 2 tests hold" in result.output
    assert result.output.splitlines()[-1] == "files: 2, tests: 4, failed: 1"
    assert "secret words" not in result.output


@pytest.mark.parametrize(
    ("files", "status", "last"),
    [
        (["untested.yaml"], 1, "no test ran"),
        (["base.yaml"], 1, "no test ran"),
        (["base.yaml", "p.yaml"], 0, "files: 2, tests: 2, failed: 0"),
        (["untested.yaml", "p.yaml"], 1, "files: 2, tests: 2, failed: 0"),
        (["broken.yaml"], 1, "no test ran"),
        (["broken.yaml", "p.yaml"], 1, "files: 2, tests: 2, failed: 0"),
        (["gone.yaml"], 2, "no test ran"),
        (["gone.yaml", "p.yaml"], 2, "files: 2, tests: 2, failed: 0"),
    ],
)
def test_what_was_not_tested_is_no_success(directory: Path, files: list[str], status: int, last: str) -> None:
    result = run(*files)
    assert (result.exit_code, result.output.splitlines()[-1]) == (status, last)


def test_what_is_wrong_with_a_policy_is_told(directory: Path) -> None:
    assert "untested.yaml:1:1: policy-untested " in run("untested.yaml").output
    assert run("broken.yaml").output.splitlines()[:2] == [
        'broken.yaml:1:10: wrong-value "version" must be a whole number from 1 to 1',
        "broken.yaml: not tested, 1 problem",
    ]
    assert run("gone.yaml").output.splitlines()[0] == "Error: gone.yaml does not exist; check the path"


def test_junit_has_a_suite_for_each_file_and_the_calls_in_the_names(directory: Path) -> None:
    result = run("p.yaml", "failing.yaml", "untested.yaml", "gone.yaml", "--junit", "out.xml")
    assert result.exit_code == 2
    root = ET.fromstring((directory / "out.xml").read_bytes())
    figures = [[suite.get(key) for key in ("name", "tests", "failures", "errors")] for suite in root]
    assert figures == [
        ["p.yaml", "2", "0", "0"],
        ["failing.yaml", "2", "1", "0"],
        ["untested.yaml", "1", "0", "1"],
        ["gone.yaml", "1", "0", "1"],
    ]
    assert [case.get("name") for case in root[0].iter("testcase")] == [
        "s.xml (line 17): inbound request",
        "s.json (line 19): outbound request POST /send",
    ]
    assert "secret words" not in (directory / "out.xml").read_text()


def test_junit_is_red_exactly_if_the_exit_status_is(directory: Path) -> None:
    for arguments in (
        ["p.yaml"],
        ["p.yaml", "--strict"],
        ["broken.yaml"],
        ["untested.yaml"],
        ["base.yaml"],
        ["failing.yaml"],
    ):
        status = run(*arguments, "--junit", "out.xml").exit_code
        root = ET.fromstring((directory / "out.xml").read_bytes())
        assert bool([*root.iter("failure"), *root.iter("error")]) == bool(status), arguments


@pytest.mark.parametrize("target", ["no/where.xml", "."])
def test_junit_that_cannot_be_written_is_one_line(directory: Path, target: str) -> None:
    result = run("p.yaml", "--junit", target)
    assert result.exit_code == 2
    assert re.search(rf"Error: {re.escape(target)} cannot be written: .+\n$", result.output)


def test_hostile_names_and_contents_are_harmless(directory: Path) -> None:
    named = directory / "a\x07\x1b[2J\n<&'\".yaml"
    sample = "s\\n]]><&.xml"
    named.write_text(TESTED.replace("sample: s.xml", f'sample: "{sample}"').replace("path: /send,", 'path: "/\\t<",'))
    result = run(named, "--junit", "out.xml")
    assert result.exit_code == 1
    assert all(character.isprintable() or character == "\n" for character in result.output)
    (suite,) = ET.fromstring((directory / "out.xml").read_bytes())
    assert suite.get("name") == f"{directory}/a\\x07\\x1b[2J\\n<&'\".yaml"
    cases = list(suite.iter("testcase"))
    assert [case[0].get("type") for case in cases] == ["sample-missing", "test-failed"]
    assert (cases[0].get("name") or "").startswith("s\\n]]><&.xml (line ")


def test_the_shipped_policies_hold() -> None:
    result = run(*sorted(POLICIES.glob("*.yaml")))
    assert result.exit_code == 0
    assert result.output.splitlines()[-1].endswith("failed: 0")
