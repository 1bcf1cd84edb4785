"""`wxgate policy diff`: what is told of two versions, in text and JSON, and with which status."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from proxy.cli.policy_diff import diff_command

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "policies" / "wechat-crm.yaml"
OLD = """version: 1
classes: {words: {action: encrypt}}
messages:
  - name: text
    direction: inbound
    match: {type: text}
    request:
      xml:/xml/MsgType: allow
      xml:/xml/Content: {class: words, as: words}
  - name: read
    direction: agent
    match: {method: GET, path: /read}
    response:
      json:$.text: {class: words, as: words, reveal: {agent: plain, '*': keep}}
"""
PUSH = "<xml><MsgType>text</MsgType><Content>secret words</Content></xml>"


def diff(*arguments: str | Path) -> Result:
    result = CliRunner().invoke(diff_command, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return file(tmp_path, "old.yaml", OLD)


def file(directory: Path, name: str, text: str) -> Path:
    path = directory / name
    path.write_text(text)
    return path


def test_a_policy_does_not_differ_from_itself_nor_from_another_spelling(old: Path, tmp_path: Path) -> None:
    for one, two in (
        (SHIPPED, SHIPPED),
        (old, file(tmp_path, "new.yaml", "# changed\n" + OLD.replace("MsgType: ", "MsgType:   "))),
    ):
        result = diff(one, two)
        assert (result.exit_code, result.output.splitlines()[-1]) == (0, "no difference in meaning")


def test_every_shipped_policy_is_the_same_as_itself() -> None:
    for path in sorted(SHIPPED.parent.glob("*.yaml")):
        result = diff(path, path)
        assert result.exit_code == 0, result.output


def test_what_is_weaker_is_marked_with_both_places(old: Path, tmp_path: Path) -> None:
    new = file(tmp_path, "new.yaml", OLD.replace("Content: {class: words, as: words}", "Content: allow"))
    result = diff(old, new)
    assert result.exit_code == 1
    assert result.output.splitlines()[2:] == [
        "",
        "inbound push text (xml)",
        f"  WEAKER xml:/xml/Content: encrypt; as: words -> allow  ({old}:9:7, {new}:9:7)",
        "",
        "1 difference, 1 weaker; 0 values of samples changed",
    ]


@pytest.mark.parametrize(
    ("change", "status"),
    [
        (("allow", "drop"), {"any": 1, "weaker": 0}),
        (("'*': keep", "'*': plain"), {"any": 1, "weaker": 1}),
        (("name: text", "name: texts"), {"any": 0, "weaker": 0}),
    ],
)
def test_the_status_can_speak_of_what_is_weaker_only(
    old: Path, tmp_path: Path, change: tuple[str, str], status: dict[str, int]
) -> None:
    new = file(tmp_path, "new.yaml", OLD.replace(*change))
    for fail_on, wanted in status.items():
        assert diff(old, new, "--fail-on", fail_on).exit_code == wanted


def test_given_samples_and_those_of_the_tests_are_tried_each_once(old: Path, tmp_path: Path) -> None:
    sample = file(tmp_path, "s.xml", PUSH)
    tests = "tests: [{sample: s.xml, expect: {}}, {sample: gone.xml, expect: {}}, {sample: old.yaml, expect: {}}]\n"
    new = file(tmp_path, "new.yaml", OLD.replace("Content: {class: words, as: words}", "Content: drop") + tests)
    for arguments in ((), ("--sample", sample)):
        result = diff(old, new, *arguments)
        assert result.output.count(f"\nsample {sample}\n") == 1
        assert result.output.endswith("\n1 difference, 0 weaker; 1 value of samples changed\n")
    # nothing of a sample's values is shown
    assert "secret" not in result.output


def test_a_sample_of_a_call_is_tried_when_it_comes_by(old: Path, tmp_path: Path) -> None:
    sample = file(tmp_path, "s.json", '{"text": "x"}')
    new = file(tmp_path, "new.yaml", OLD.replace("'*': keep", "'*': plain"))
    call = ("--direction", "agent", "--phase", "response", "--method", "GET", "--path", "/read")
    result = diff(old, new, "--sample", sample, *call)
    assert f"sample {sample}\n  WEAKER json:$.text: reveal: * keep, agent plain -> reveal: * plain" in result.output
    assert diff(old, new, "--direction", "agent").exit_code == 2


def test_json_says_the_same_for_machines(old: Path, tmp_path: Path) -> None:
    new = file(tmp_path, "new.yaml", OLD.replace("      xml:/xml/MsgType: allow\n", ""))
    result = diff(old, new, "--json", "--sample", file(tmp_path, "s.xml", PUSH))
    found = json.loads(result.output)
    assert result.exit_code == 1
    assert (found["same"], found["weaker"], found["old"]["file"]) == (False, 0, str(old))
    row = {"selector": "xml:/xml/MsgType", "before": "allow", "after": "refuse", "weaker": False}
    row |= {"old": f"{old}:8:7", "new": None}
    assert found["fields"] == [row | {"where": "inbound push text (xml)"}]
    assert found["samples"] == [row | {"where": str(tmp_path / "s.xml")}]
    same = json.loads(diff(old, old, "--json").output)
    assert (same["same"], same["fields"], same["samples"]) == (True, [], [])


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("text", [None, "version: 2\n", "nonsense"])
def test_what_is_no_policy_is_told_and_has_status_2(old: Path, tmp_path: Path, which: int, text: str | None) -> None:
    bad = tmp_path / "bad.yaml" if text is None else file(tmp_path, "bad.yaml", text)
    result = diff(*((bad, old) if which == 0 else (old, bad)))
    assert result.exit_code == 2
    assert str(bad) in result.output
    assert "Traceback" not in result.output


@pytest.mark.parametrize("text", [None, "", "no message", "<xml><a>1</a></xml>", "<xml"])
def test_a_given_sample_that_is_no_message_has_status_2(old: Path, tmp_path: Path, text: str | None) -> None:
    sample = tmp_path / "s" if text is None else file(tmp_path, "s", text)
    result = diff(old, old, "--sample", sample)
    assert (result.exit_code, str(sample) in result.output) == (2, True)


def test_nothing_a_file_is_called_reaches_the_terminal_raw(old: Path, tmp_path: Path) -> None:
    new = file(tmp_path, "a\x1b[2J\nb.yaml", OLD.replace("json:$.text:", "json:$.words:"))
    result = diff(old, new)
    assert result.exit_code == 1, result.output
    assert "\x1b" not in result.output
    assert f"new: {tmp_path}/a\\x1b[2J\\nb.yaml, revision" in result.output


def test_an_urlencoded_sample_is_read_as_the_new_version_says(tmp_path: Path) -> None:
    call = """version: 1
classes: {words: {action: encrypt}}
messages:
  - name: form
    direction: agent
    match: {method: POST, path: /form}
    request:
      form:a: {class: words, as: words}
"""
    old, new = (
        file(tmp_path, "1.yaml", call),
        file(tmp_path, "2.yaml", call.replace("{class: words, as: words}", "drop")),
    )
    sample = file(tmp_path, "sample", "a=clear+words")
    result = diff(old, new, "--sample", sample, "--direction", "agent", "--method", "POST", "--path", "/form")
    assert f"sample {sample}" in result.output
    assert "1 value of samples changed" in result.output
