"""`wxgate audit`: what a person or a script is told, and the exit status."""

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from proxy.cli.audit import audit
from proxy.observe.audit import AuditChain


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    directory = tmp_path / "audit"
    for slot in (0, 1):
        chain = AuditChain.open(directory, slot, max_bytes=1 << 20)
        for _ in range(5):
            chain.append({"event": "exchange", "route": "wechat"})
        chain.close()
    return directory


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(audit, [str(argument) for argument in arguments])


def exported(directory: Path, *options: str) -> Path:
    path = directory.parent / "heads"
    result = run("head", directory, *options)
    assert result.exit_code == 0
    path.write_text(result.output)
    return path


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_both_forms_of_an_exported_head_verify(directory: Path, options: list[str]) -> None:
    result = run("verify", directory, "--head", exported(directory, *options))
    assert result.exit_code == 0
    assert [line.split(":")[:2] for line in result.output.splitlines()] == [
        ["worker-0", " intact"],
        ["worker-1", " intact"],
    ]


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_cut_tail_is_exit_1_with_the_head_and_a_note_without(directory: Path, options: list[str]) -> None:
    heads = exported(directory, *options)
    path = directory / "worker-1.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    without = run("verify", directory)
    assert without.exit_code == 0
    assert "note: no exported head was given: a cut tail" in without.output
    cut = run("verify", directory, "--head", heads)
    assert cut.exit_code == 1
    assert "worker-0: intact" in cut.output
    assert "worker-1: TAMPERED: worker-1.jsonl:end: cut: the chain ends at record 5, exported was 6" in cut.output


def test_an_edit_is_exit_1_and_names_file_and_line(directory: Path) -> None:
    path = directory / "worker-0.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    lines[2] = lines[2].replace(b"wechat", b"wechaT")
    path.write_bytes(b"".join(lines))
    result = run("verify", directory)
    assert result.exit_code == 1
    assert "worker-0: TAMPERED: worker-0.jsonl:3: edited" in result.output
    answer = json.loads(run("verify", directory, "--json").output)
    assert answer["intact"] is False
    assert answer["chains"][0]["finding"]["where"] == "worker-0.jsonl:3"
    assert answer["chains"][1]["finding"] is None


def test_a_torn_last_line_is_exit_0_and_said(directory: Path) -> None:
    path = directory / "worker-0.jsonl"
    os.truncate(path, path.stat().st_size - 10)
    result = run("verify", directory)
    assert result.exit_code == 0
    assert "worker-0: note: worker-0.jsonl:6: torn:" in result.output
    answer = json.loads(run("verify", directory, "--json").output)
    assert answer["intact"] is True
    assert run("head", directory).exit_code == 0


def test_pruned_files_have_to_be_admitted(directory: Path) -> None:
    (directory / "worker-0.jsonl").rename(directory / "worker-0.jsonl.1")
    AuditChain.open(directory, 0, max_bytes=1 << 20).close()
    (directory / "worker-0.jsonl.1").unlink()
    assert run("verify", directory).exit_code == 1
    assert run("verify", directory, "--pruned").exit_code == 0


@pytest.mark.parametrize("command", ["head", "verify"])
def test_nothing_to_judge_is_exit_2(tmp_path: Path, command: str) -> None:
    assert run(command).exit_code == 2
    assert run(command, tmp_path / "missing").exit_code == 2
    empty = run(command, tmp_path)
    assert empty.exit_code == 2
    assert "no audit chain here" in empty.output


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0 1",
        "0 0 " + "a" * 64,
        "0 1 " + "A" * 64,
        "{",
        "{}",
        '{"heads":[]}',
        '{"heads":[{"slot":0,"n":1}]}',
        '{"heads":[7]}',
        "\u00e9",
        ("0 1 " + "a" * 64 + "\n") * 2,
        " " * ((1 << 20) + 1),
    ],
)
def test_a_head_file_that_is_not_understood_is_exit_2(directory: Path, text: str) -> None:
    path = directory.parent / "heads"
    path.write_text(text)
    result = run("verify", directory, "--head", path)
    assert result.exit_code == 2
    assert "export it again" in result.output
    assert run("verify", directory, "--head", directory / "missing").exit_code == 2
