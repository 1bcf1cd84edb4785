"""`wxgate keys` as a person and a program meet it."""

import base64
import json
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from proxy.cli import keys as command
from proxy.ports import Owner


@dataclass
class Settings:
    """What the commands need of the configuration."""

    state: Path
    unlock: bytes
    owners: list[Owner]
    groups: list[str]


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    owners = [Owner("acme", "in"), Owner("other", "au")]
    settings = Settings(tmp_path / "state", secrets.token_bytes(32), owners, ["agent", "follower"])
    monkeypatch.setattr(command, "settings_of", lambda config: settings)
    return settings


def run(*arguments: str, exit_code: int = 0) -> Result:
    result = CliRunner().invoke(command.keys, [*arguments, "--config", "gateway.yaml"])
    assert result.exit_code == exit_code, result.output
    return result


def listed(*arguments: str) -> list[dict[str, Any]]:
    return list(json.loads(run(*arguments, "--json").stdout)["keys"])


def test_init_makes_both_purposes_for_every_owner_and_group_once(settings: Settings) -> None:
    made = listed("init")
    assert {(e["tenant"], e["region"], e["group"], e["purpose"]) for e in made} == {
        (owner.tenant, owner.region, group, purpose)
        for owner in settings.owners
        for group in settings.groups
        for purpose in ("data", "lookup")
    }
    assert listed("init") == []
    assert "No key was missing." in run("init").stdout
    assert {e["id"] for e in listed("list")} == {e["id"] for e in made}


def test_rotate_says_what_it_made_and_what_to_do(settings: Settings) -> None:
    run("init")
    result = run("rotate", "--tenant", "acme", "--region", "in", "--group", "agent")
    assert "SIGHUP" in result.stdout and len(result.stdout.splitlines()) == 3
    assert len(listed("rotate")) == 4
    states = [e["state"] for e in listed("list")]
    assert (states.count("active"), states.count("retiring")) == (8, 5)


def test_the_table_is_for_people(settings: Settings) -> None:
    first = run("init").stdout
    assert "Back up" in first and str(settings.state) in first
    head, *rows = run("list").stdout.splitlines()
    assert head.split() == list(command._COLUMNS) and len(rows) == 8
    cells = rows[0].split()
    assert cells[1:6] == ["acme", "in", "agent", "data", "active"]
    assert cells[6].endswith("Z") and cells[8] == "-" and len(cells) == len(command._COLUMNS)


def test_no_key_bytes_are_ever_printed(settings: Settings) -> None:
    said = "".join(
        run(*arguments).output for name in ("init", "list", "rotate") for arguments in ((name,), (name, "--json"))
    )
    stored = json.loads((settings.state / "keyring.json").read_bytes())["entries"]
    wrapped = [entry["wrapped"] for entry in stored]
    for form in (*wrapped, settings.unlock.hex(), base64.b64encode(settings.unlock).decode()):
        assert form not in said
    assert "wrapped" not in said and "sealed" not in said


def test_errors_are_one_line_without_a_traceback(settings: Settings) -> None:
    result = run("list", exit_code=1)
    assert result.stderr.startswith("Error: ") and "no such file or directory" in result.stderr
    run("init")
    settings.unlock = secrets.token_bytes(32)
    assert "unlock key is another one" in run("rotate", exit_code=1).stderr
    (settings.state / "keyring.json").chmod(0o644)
    assert "chmod 600" in run("list", exit_code=1).stderr


def test_config_is_required() -> None:
    for name in ("init", "list", "rotate"):
        result = CliRunner().invoke(command.keys, [name])
        assert result.exit_code == 2 and "--config" in result.stderr
