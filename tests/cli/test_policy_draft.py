"""`wxgate policy draft`: a policy on stdout, or one clear line."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from proxy.cli.policy import policy
from proxy.policy.draft import ENVELOPE

POLICIES = Path(__file__).parents[2] / "policies"
TEXT = POLICIES / "samples" / "text.xml"
CASE = ("--direction", "agent", "--method", "post", "--path", "/services/data/{version}/sobjects/Case")


def run(command: str, *arguments: object) -> Result:
    result = CliRunner().invoke(policy, [command, *map(str, arguments)])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    assert "Traceback" not in result.output
    return result


def sample(directory: Path, data: bytes | str) -> Path:
    path = directory / "sample"
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


def test_a_draft_is_checked_and_explains_its_sample(tmp_path: Path) -> None:
    result = run("draft", TEXT, POLICIES / "samples" / "location.xml", "--name", "follower")
    assert result.exit_code == 0
    assert "订单" not in result.output
    (tmp_path / ENVELOPE).write_bytes((POLICIES / ENVELOPE).read_bytes())
    file = tmp_path / "first.yaml"
    file.write_text(result.output)
    assert run("check", file).exit_code == 0
    explained = run("explain", file, TEXT)
    assert explained.exit_code == 0
    assert "message: follower-text" in explained.output
    refused = run("explain", file, POLICIES / "samples" / "location.xml")
    assert refused.exit_code == 1
    assert "field_refused" in refused.output


def test_a_record_of_the_crm(tmp_path: Path) -> None:
    body = sample(tmp_path, '{"Subject":"Wo ist es?","SuppliedPhone":"13800138000","Status":"New"}')
    result = run("draft", body, *CASE, "--name", "case-create")
    assert result.exit_code == 0
    lines = [line.strip() for line in result.output.splitlines()]
    assert "- name: case-create" in lines
    assert 'match: {method: POST, path: "/services/data/{version}/sobjects/Case"}' in lines
    assert "json:$.SuppliedPhone: {class: person.phone, as: person.phone}" in lines
    assert "json:$.Status: refuse  # to decide: a short word or number" in lines
    assert "13800138000" not in result.output


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (b"", "is no document: document_malformed"),
        (b"\x7fELF\x00\xff", "is no document: document_type"),
        (b'<!DOCTYPE x [<!ENTITY a "b">]><xml>&a;</xml>', "is no document: document_malformed"),
        (b"<" * 500_000, "is no document: document_malformed"),
        (b'{"a":' * 500, "is no document: document_too_large"),
        (b"<xml><Encrypt>x</Encrypt></xml>", "an encrypted push must be opened first"),
        (b"<xml><MsgType>a</MsgType><MsgType>b</MsgType></xml>", "has no MsgType"),
        (b"<xml><MsgType>13800138000</MsgType></xml>", "the type of a message looks like a value"),
        (b"x" * (1024 * 1024 + 1), "has more than 1048576 bytes"),
    ],
)
def test_a_sample_that_is_no_message_is_one_line(tmp_path: Path, data: bytes, line: str) -> None:
    result = run("draft", sample(tmp_path, data))
    assert result.exit_code == 2
    assert result.output.startswith("Error: ")
    assert line in result.output
    assert result.output.count("\n") == 1
    assert "13800138000" not in result.output


def test_files_that_are_none_are_one_line(tmp_path: Path) -> None:
    for path, words in (
        (tmp_path / "gone", "does not exist"),
        (tmp_path, "is a directory"),
        ("/dev/null", "no regular"),
    ):
        result = run("draft", path)
        assert (result.exit_code, result.output.count("\n")) == (2, 1)
        assert words in result.output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--method", "GET"), "go with --direction outbound or agent"),
        (("--direction", "agent"), "needs --method and --path"),
        (("--direction", "outbound", "--path", "/a"), "needs --method and --path"),
        (("--name", "a b"), "--name begins with a letter"),
        (("--name", "9"), "--name begins with a letter"),
        (("--direction", "sideways"), "Invalid value"),
    ],
)
def test_options_that_do_not_go_together(options: tuple[str, ...], message: str) -> None:
    result = run("draft", TEXT, *options)
    assert result.exit_code == 2
    assert message in result.output


@pytest.mark.parametrize(
    "options",
    [
        ("--path", "nowhere", "--method", "GET"),
        ("--path", "/{a}/{a}", "--method", "GET"),
        ("--path", "/a", "--method", "BREW"),
    ],
)
def test_a_call_that_is_none_is_one_line(tmp_path: Path, options: tuple[str, ...]) -> None:
    result = run("draft", sample(tmp_path, '{"a":1}'), "--direction", "agent", *options)
    assert (result.exit_code, result.output.count("\n")) == (2, 1)
    assert "no policy can be drafted" in result.output
