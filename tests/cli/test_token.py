"""`wxgate token inspect`: what is told freely, what only on record, and that nothing is told that is not on record."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from proxy.cli.keys import keys
from proxy.cli.keys_desk import open_desk
from proxy.cli.token import token
from proxy.crypto.data_key import DataKey, Purpose
from proxy.crypto.field_token import Scope, seal, seal_equal
from proxy.kms.keyring_format import KeyState
from proxy.observe.audit_verify import verify
from proxy.ports import Owner
from tests.support.installation import Installation

OWNER = Owner("acme", "cn")
SECRET = "words of a follower"
BIND = "oFollowerOfTheTest"


@pytest.fixture(scope="module")
def files() -> Iterator[Installation]:
    with Installation() as installation:
        yield installation


@pytest.fixture
def key(files: Installation) -> DataKey:
    return active(files, Purpose.DATA)


def active(files: Installation, purpose: Purpose) -> DataKey:
    desk = open_desk(files.config)
    (entry,) = [e for e in desk.file.read() if e.state is KeyState.ACTIVE and e.slot == (OWNER, "default", purpose)]
    return DataKey(desk.services.unwrap(entry.slot, entry.wrapped), purpose, entry.id)


@pytest.fixture
def made(key: DataKey) -> str:
    return seal(key, "s", SECRET, Scope(*OWNER, "follower.message", (BIND,)), bytes(24))


def run(*arguments: str | Path, input: str = "", exit_code: int = 0) -> Result:
    result = CliRunner().invoke(token, ["inspect", *map(str, arguments)], input=input)
    assert result.exit_code == exit_code, result.output
    return result


def told(*arguments: str | Path, input: str = "", exit_code: int = 0) -> dict[str, Any]:
    return dict(json.loads(run(*arguments, "--json", input=input, exit_code=exit_code).stdout))


def records(files: Installation) -> list[dict[str, Any]]:
    path = files.directory / "state" / "audit" / "worker-9999.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return [line for line in lines if line["event"] == "token_opened"]


REVEAL = ("--reveal", "--as", "follower.message", "--bind", "-", "--role", "auditor")


def test_without_a_configuration_the_text_alone_is_told(made: str, key: DataKey) -> None:
    assert told(input=f"{made}\n") == {
        "prefix": "wg1.",
        "type": "string",
        "length": len(made),
        "canonical": True,
        "value_bytes": len(SECRET),
        "key_id": key.id.hex(),
    }
    assert told(made) == told("-", input=made)


@pytest.mark.parametrize("change", [lambda text: text + "=", lambda text: text + "\r", str.upper, lambda text: ""])
def test_what_is_no_token_is_refused_with_the_reason(made: str, change: Any) -> None:
    found = told(input=change(made) + "\n", exit_code=1)
    assert found["canonical"] is False and found["refused_at"] in ("spelling", "prefix") and found["because"]
    assert "key_id" not in found


def test_the_configuration_tells_key_state_and_owner(files: Installation, made: str) -> None:
    found = told("--config", files.config, input=made)
    assert [found[name] for name in ("key_state", "tenant", "region", "group", "purpose")] == [
        *("active", "acme", "cn", "default", "data")
    ]
    foreign = seal(DataKey(bytes(range(32)), Purpose.DATA), "s", SECRET, Scope(*OWNER, "x"), bytes(24))
    assert told("--config", files.config, input=foreign)["key_state"] == "unknown"
    assert records(files) == []


def test_a_rotated_key_still_tells_and_opens(files: Installation, made: str, key: DataKey) -> None:
    result = CliRunner().invoke(keys, ["rotate", "--now", "--config", str(files.config)])
    assert result.exit_code == 0, result.output
    found = told("--config", files.config, *REVEAL, input=f"{made}\n{BIND}\n")
    assert (found["key_state"], found["value"]) == ("retiring", SECRET)


def test_revealing_is_on_record_first(files: Installation, made: str, key: DataKey) -> None:
    before = len(records(files))
    found = told("--config", files.config, *REVEAL, input=f"{made}\n{BIND}\n")
    assert (found["value_type"], found["value"]) == ("s", SECRET)
    (record,) = records(files)[before:]
    assert [record[name] for name in ("role", "subject", "key_ids", "outcome")] == [
        *("auditor", "follower.message", key.id.hex(), "revealed")
    ]
    assert record["caller"]
    text = (files.directory / "state" / "audit" / "worker-9999.jsonl").read_text()
    assert SECRET not in text and BIND not in text and made not in text
    assert not [report.finding for report in verify(files.directory / "state" / "audit", None) if report.finding]


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"--as": "agent.message"}, id="another datum"),
        pytest.param({"--bind": "oSomebodyElse"}, id="another bind"),
    ],
)
def test_another_scope_opens_nothing_and_is_on_record(files: Installation, made: str, changed: dict[str, str]) -> None:
    options = dict(zip(REVEAL[1::2], REVEAL[2::2], strict=True)) | changed
    before = len(records(files))
    arguments = [part for pair in options.items() for part in pair]
    found = told("--config", files.config, "--reveal", *arguments, input=f"{made}\n{BIND}\n", exit_code=1)
    assert "value" not in found and "does not open" in found["because"]
    assert [record["outcome"] for record in records(files)[before:]] == ["kept"]


def test_a_deterministic_token_is_opened_as_well(files: Installation) -> None:
    text = seal_equal(active(files, Purpose.LOOKUP), SECRET, Scope(*OWNER, "openid"))
    found = told("--config", files.config, "--reveal", "--as", "openid", "--role", "auditor", input=text)
    assert (found["type"], found["purpose"], found["value"]) == ("deterministic", "lookup", SECRET)


@pytest.mark.parametrize("missing", ["--config", "--as", "--role"])
def test_revealing_needs_all_it_is_told_of(files: Installation, made: str, missing: str) -> None:
    given = {"--config": str(files.config), "--as": "follower.message", "--role": "auditor"}
    del given[missing]
    run("--reveal", *[part for pair in given.items() for part in pair], input=made, exit_code=2)


@pytest.mark.parametrize("role", ["", "Auditor", "a b", "x" * 40])
def test_a_role_is_a_name(files: Installation, made: str, role: str) -> None:
    run("--config", files.config, "--reveal", "--as", "x", "--role", role, input=made, exit_code=2)


def test_what_cannot_be_put_on_record_is_not_told(files: Installation, made: str) -> None:
    chain = files.directory / "state" / "audit" / "worker-9999.jsonl"
    chain.parent.mkdir(mode=0o700, exist_ok=True)
    chain.touch(0o600)
    os.chmod(chain, 0o644)
    try:
        result = run("--config", files.config, *REVEAL, input=f"{made}\n{BIND}\n", exit_code=1)
        assert SECRET not in result.output and "audit" in result.stderr
    finally:
        os.chmod(chain, 0o600)


def test_text_for_people_holds_no_control_character(files: Installation, key: DataKey) -> None:
    made = seal(key, "s", "\x1b[2Jred\nline", Scope(*OWNER, "x"), bytes(24))
    result = run("--config", files.config, "--reveal", "--as", "x", "--role", "auditor", input=made)
    assert "\\x1b[2Jred\\nline" in result.stdout and "\x1b" not in result.stdout
