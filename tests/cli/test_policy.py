"""`wxgate policy check`: what an author is told, in text and JSON, for good files, bad ones and what is no file."""

import json
import os
import re
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from proxy.cli.policy import policy

ROOT = Path(__file__).parents[2]
GOOD = "version: 1\nclasses: {secret: {action: encrypt}}\n"
BAD = "version: 1\nclases: {}\nmessages: [{}]\n"


def check(*arguments: str | Path) -> Result:
    result = CliRunner().invoke(policy, ["check", *(str(argument) for argument in arguments)])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    assert "Traceback" not in result.output
    return result


def file(directory: Path, text: str | bytes, name: str = "p.yaml") -> Path:
    path = directory / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_the_shipped_policies_are_right_and_their_tests_hold() -> None:
    result = check(*sorted((ROOT / "policies").glob("*.yaml")))
    assert result.exit_code == 0
    assert re.search(r"wechat-crm\.yaml: ok, revision [0-9a-f]{16}, messages: [0-9]+, [0-9]+ tests hold", result.output)
    assert result.output.count("\n") == len(list((ROOT / "policies").glob("*.yaml")))


def test_the_policy_in_the_documentation_is_right(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "policies", tmp_path, dirs_exist_ok=True)
    example = next(block for block in re.findall(r"```yaml\n(.*?)```", (ROOT / "docs/policy.md").read_text(), re.S))
    result = check(file(tmp_path, example, "example.yaml"))
    assert (result.exit_code, "1 test holds" in result.output) == (0, True), result.output


def test_every_problem_is_a_line_with_file_line_and_column(tmp_path: Path) -> None:
    path = file(tmp_path, BAD)
    result = check(path)
    assert result.exit_code == 1
    lines = result.output.splitlines()
    assert lines[0] == f'{path}:2:1: unknown-key a policy has no "clases"; did you mean "classes"?'
    assert {line.split(" ")[0] for line in lines[1:-1]} == {f"{path}:3:12:"}
    assert [line.split(" ")[1] for line in lines[1:-1]] == ["match-malformed", *["missing-key"] * 3]
    assert lines[-1] == f"{path}: 5 problems"


def test_a_problem_in_an_extended_file_is_shown_where_that_file_is(tmp_path: Path) -> None:
    file(tmp_path, "version: 1\nnonsense: 1\n", "base.yaml")
    result = check(file(tmp_path, "version: 1\nextends: [base.yaml, gone.yaml]\n"))
    assert result.exit_code == 1
    assert f"{tmp_path}/base.yaml:2:1: unknown-key" in result.output
    assert f"{tmp_path}/p.yaml:2:22: extends-missing" in result.output


@pytest.mark.parametrize("base", [".", "/dev/zero", "no/where", "x" * 300])
def test_a_base_that_is_no_file_is_a_problem(tmp_path: Path, base: str) -> None:
    result = check(file(tmp_path, f"version: 1\nextends: ['{base}']\n"))
    assert (result.exit_code, "extends-missing" in result.output) == (1, True)


def test_a_warning_does_not_fail(tmp_path: Path) -> None:
    text = (
        GOOD + "messages: [{name: m, direction: inbound, match: {type: image}, request: {'xml:/xml/PicUrl': allow}}]\n"
    )
    result = check(file(tmp_path, text))
    assert result.exit_code == 0
    assert "p.yaml:3:74: warning allow-handle" in result.output
    assert "ok, revision" in result.output


def test_a_test_that_fails_is_a_problem_at_its_line(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "policies", tmp_path, dirs_exist_ok=True)
    text = (tmp_path / "wechat-crm.yaml").read_text()
    result = check(file(tmp_path, text.replace("CreateTime: allowed", "CreateTime: encrypted")))
    assert result.exit_code == 1
    assert re.search(
        r'p\.yaml:\d+:5: test-failed "samples/text\.xml": xml:/xml/CreateTime should be encrypted and is allowed by '
        r"wechat-envelope\.yaml:11:7\n.*p\.yaml: 1 problem\n",
        result.output,
    )


def test_a_sample_that_is_missing_is_a_problem(tmp_path: Path) -> None:
    result = check(file(tmp_path, GOOD + "tests: [{sample: nope.xml, expect: {}}]\n"))
    assert (result.exit_code, "p.yaml:3:9: sample-missing" in result.output) == (1, True)


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "yaml-empty"),
        (b"\x7fELF\x02\x01\x01\x00\xff\xfe", "yaml-encoding"),
        (b"\x00" * 100, "yaml-encoding"),
        (b"just a sentence", "wrong-type"),
        (b'{"a": 1}', "missing-key"),
        (b"<xml/>", "wrong-type"),
        (b"[" * 100_000, "yaml-too-large"),
        (b"version: 1\n\tclasses: 1\n", "yaml-syntax"),
        (b"a: &a [*a]\n", "yaml-alias"),
    ],
)
def test_what_is_no_policy_is_told_by_code(tmp_path: Path, content: bytes, code: str) -> None:
    result = check(file(tmp_path, content))
    assert (result.exit_code, f" {code} " in result.output) == (1, True)


def test_what_cannot_be_read_is_one_line_and_the_others_are_still_checked(tmp_path: Path) -> None:
    huge = tmp_path / "huge.yaml"
    with huge.open("wb") as stream:
        stream.truncate(50 * 1024 * 1024)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    good = file(tmp_path, GOOD)
    result = check(tmp_path / "gone.yaml", tmp_path, huge, pipe, "/dev/zero", good)
    assert result.exit_code == 2
    assert result.output.splitlines()[:5] == [
        f"Error: {tmp_path}/gone.yaml does not exist; check the path",
        f"Error: {tmp_path} is a directory; name a file",
        f"Error: {huge} has more than 2097152 bytes; it is not what this command reads",
        f"Error: {pipe} is no regular file; name a file",
        "Error: /dev/zero is no regular file; name a file",
    ]
    assert result.output.splitlines()[5].startswith(f"{good}: ok")


def test_no_file_is_a_usage_error() -> None:
    assert check().exit_code == 2


def test_nothing_a_file_holds_or_is_called_reaches_the_terminal_raw(tmp_path: Path) -> None:
    named = tmp_path / "a\x1b[2J\nb.yaml"
    named.write_text('version: 1\n"x\\n\\ty": 1\n')
    broken = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.yaml"))
    result = check(named, broken)
    assert result.exit_code == 2
    assert "\x1b" not in result.output
    assert len(result.output.splitlines()) == 3
    assert "\\udcff.yaml does not exist" in result.output


def test_json_says_the_same_for_machines(tmp_path: Path) -> None:
    bad, good = file(tmp_path, "version: 2\n"), file(tmp_path, GOOD, "good.yaml")
    result = check(bad, good, tmp_path / "gone", "--format", "json")
    found = json.loads(result.output)
    assert (result.exit_code, found["ok"]) == (2, False)
    assert [entry["ok"] for entry in found["files"]] == [False, True, False]
    assert found["files"][0]["problems"] == [
        {
            "file": str(bad),
            "line": 1,
            "column": 10,
            "code": "wrong-value",
            "message": '"version" must be a whole number from 1 to 1',
            "fix": "",
            "warning": False,
        }
    ]
    assert (found["files"][1]["problems"], len(found["files"][1]["revision"])) == ([], 16)
    assert "does not exist" in found["files"][2]["unreadable"]
    assert (check(good, "--format", "json").exit_code, check(bad, "--format", "json").exit_code) == (0, 1)
