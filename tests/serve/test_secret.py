"""References to secrets: where they lead, and that neither file nor message gives one away."""

import os
from pathlib import Path

import pytest

from proxy.serve.secret import SecretError, resolve


def write(path: Path, content: bytes, mode: int = 0o600) -> None:
    path.write_bytes(content)
    path.chmod(mode)


def test_a_variable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WXGATE_TEST", "wörds")
    assert resolve("env:WXGATE_TEST", tmp_path) == "wörds".encode()


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
def test_a_file_beside_the_configuration_without_its_line_end(end: bytes, tmp_path: Path) -> None:
    write(tmp_path / "secret", b"wo rds" + end)
    assert resolve("file:secret", tmp_path) == b"wo rds"
    assert resolve(f"file:{tmp_path}/secret", Path("/")) == b"wo rds"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601])
def test_a_file_that_others_can_read_is_refused(mode: int, tmp_path: Path) -> None:
    write(tmp_path / "secret", b"words", mode)
    with pytest.raises(SecretError, match="file:secret can be read by others; chmod 600 it"):
        resolve("file:secret", tmp_path)


@pytest.mark.parametrize("value", ["words", "", "env:", "file:", "env:a b", "ENV:A", " env:A", "env:A\n", "http://a/b"])
def test_a_value_is_refused_and_not_repeated(value: str, tmp_path: Path) -> None:
    with pytest.raises(SecretError, match="a secret is a reference") as caught:
        resolve(value, tmp_path)
    assert not value.strip() or value.strip() not in str(caught.value).replace("env:NAME or file:PATH", "")


@pytest.mark.parametrize("content", [b"", b"\n", b"w" * 8193])
def test_nothing_and_too_much_are_refused(content: bytes, tmp_path: Path) -> None:
    write(tmp_path / "secret", content)
    with pytest.raises(SecretError, match="file:secret is empty or too long"):
        resolve("file:secret", tmp_path)


def test_the_longest(tmp_path: Path) -> None:
    write(tmp_path / "secret", b"w" * 8192 + b"\n")
    assert len(resolve("file:secret", tmp_path)) == 8192


def test_what_is_not_there_or_no_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "directory").mkdir(mode=0o700)
    for name in ("none", "directory"):
        with pytest.raises(SecretError, match=f"file:{name} cannot be read"):
            resolve(f"file:{name}", tmp_path)
    with pytest.raises(SecretError, match="env:WXGATE_NOT_SET is not set"):
        resolve("env:WXGATE_NOT_SET", tmp_path)


def test_a_pipe_nobody_writes_to_does_not_hold_the_start_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(SecretError, match="file:pipe cannot be read"):
        resolve("file:pipe", tmp_path)
