"""`wxgate policy check`: its formats and its strictness, from files to exit status."""

import json
import os
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from proxy.cli.policy import policy

POLICIES = Path(__file__).parents[2] / "policies"
TESTED = """version: 1
messages:
  - name: m
    direction: inbound
    match: {type: text}
    request:
      xml:/xml/MsgType: allow
      xml:/xml/*: drop
      xml:/xml/Text: drop
"""
TESTS = "tests: [{sample: s.xml, expect: {'xml:/xml/Text': dropped}}]\n"
FORMATS = ("text", "json", "sarif", "github")


def check(*arguments: str | Path) -> Result:
    result = CliRunner().invoke(policy, ["check", *(str(argument) for argument in arguments)])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    assert "Traceback" not in result.output
    return result


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s.xml").write_bytes(b"<xml><MsgType>text</MsgType><Text>x</Text></xml>")
    (tmp_path / "good.yaml").write_text(TESTED + TESTS)
    (tmp_path / "bad.yaml").write_text(TESTED.replace("name: m", "nam: m"))
    (tmp_path / "untested.yaml").write_text(TESTED)
    (tmp_path / "misspelt.yaml").write_text(TESTED + "      xml:/xml/Texxt: drop\n" + TESTS)
    return tmp_path


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(
    ("files", "status"), [(["good.yaml"], 0), (["good.yaml", "bad.yaml"], 1), (["bad.yaml", "gone.yaml"], 2)]
)
def test_the_exit_status_does_not_depend_on_the_format(
    directory: Path, form: str, files: list[str], status: int
) -> None:
    assert check(*files, "--format", form).exit_code == status


def test_sarif_and_github_say_what_text_says(directory: Path) -> None:
    text = check("bad.yaml").output.splitlines()[:-1]
    (run,) = json.loads(check("bad.yaml", "--format", "sarif").output)["runs"]
    annotations = check("bad.yaml", "--format", "github").output.splitlines()[:-1]
    assert len(text) == len(run["results"]) == len(annotations) == 2
    for line, result, annotation in zip(text, run["results"], annotations, strict=True):
        region = result["locations"][0]["physicalLocation"]["region"]
        at = f"{region['startLine']}:{region['startColumn']}"
        assert line == f"bad.yaml:{at}: {result['ruleId']} {result['message']['text']}"
        assert annotation.startswith(f"::error file=bad.yaml,line={region['startLine']},")


def test_strict_takes_a_selector_that_is_in_no_sample_for_an_error(directory: Path) -> None:
    assert check("misspelt.yaml").exit_code == 0
    result = check("misspelt.yaml", "--strict")
    assert result.exit_code == 1
    assert result.output.splitlines() == [
        'misspelt.yaml:10:7: selector-unmatched "xml:/xml/Texxt" points at nothing in any sample of the tests; '
        "correct it, or add a sample that has the field",
        "misspelt.yaml: 1 problem",
    ]


def test_strict_is_content_with_a_wildcard_that_only_stands_guard(directory: Path) -> None:
    assert check("good.yaml", "--strict").exit_code == 0


def test_strict_wants_tests_of_a_policy_with_messages(directory: Path) -> None:
    assert check("untested.yaml").exit_code == 0
    result = check("untested.yaml", "--strict")
    assert (result.exit_code, "untested.yaml:1:1: policy-untested" in result.output) == (1, True)
    assert check(POLICIES / "wechat-envelope.yaml", "--strict").exit_code == 0  # a base: nothing can be tested alone


def test_strict_leaves_the_rules_of_extended_files_to_their_own_tests(directory: Path) -> None:
    shutil.copy(directory / "misspelt.yaml", directory / "base.yaml")
    (directory / "top.yaml").write_text("version: 1\nextends: [base.yaml]\n" + TESTS)
    assert check("top.yaml", "--strict").exit_code == 0


@pytest.mark.parametrize("form", FORMATS)
def test_hostile_names_and_contents_are_harmless_in_every_format(directory: Path, form: str) -> None:
    named = directory / "a\x07\x1b[2J\n::error::b,%.yaml"
    named.write_text('version: 1\n"x\\n\\u202e::warning::y": 1\n')
    broken = os.fsdecode(os.fsencode(directory) + b"/\xff.yaml")
    result = check(named, broken, "--format", form)
    assert result.exit_code == 2
    assert all(character.isprintable() or character == "\n" for character in result.output)
    if form == "github":
        assert [line.split(" ")[0] for line in result.output.splitlines()] == ["::error", "::error", "files:"]
    elif form != "text":
        json.loads(result.output).keys()


def test_another_format_is_a_usage_error(directory: Path) -> None:
    assert check("good.yaml", "--format", "xml").exit_code == 2
