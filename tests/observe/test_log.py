"""The log: JSON lines of known keys only, never a message of an error, and a reader that left stops nothing."""

import json
import logging
import os
import subprocess
import sys

import pytest

from proxy.observe.log import StructuredLog, silence_libraries


def lines_of(write: list[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in write]


def test_one_json_object_a_line() -> None:
    written: list[str] = []
    log = StructuredLog(written.append, worker=3)
    log.write(20, "refused", code="a\nb\u2028", route="r")
    log.write(40, "died", status=1, seconds=0.5)
    assert all(line.endswith("\n") and line.count("\n") == 1 and line.isascii() for line in written)
    first, second = lines_of(written)
    assert isinstance(first.pop("at"), float)
    assert first == {"level": "info", "event": "refused", "worker": 3, "code": "a\nb\u2028", "route": "r"}
    assert (second["level"], second["event"], second["status"], second["seconds"]) == ("error", "died", 1, 0.5)


@pytest.mark.parametrize("key", ["body", "content", "openid", "token", "message", "headers", "query"])
def test_a_key_that_is_not_listed_cannot_be_logged(key: str) -> None:
    written: list[str] = []
    with pytest.raises(KeyError, match=key):
        StructuredLog(written.append).write(20, "refused", **{key: "words"})
    assert written == []


def test_even_below_the_level_a_foreign_key_is_an_error() -> None:
    with pytest.raises(KeyError):
        StructuredLog(print, least=40).write(10, "refused", body="words")


def test_the_level_is_a_floor() -> None:
    written: list[str] = []
    log = StructuredLog(written.append, least=30)
    for level in (10, 20, 30, 40):
        log.write(level, "x")
    assert [line["level"] for line in lines_of(written)] == ["warning", "error"]


def test_long_facts_are_cut() -> None:
    written: list[str] = []
    StructuredLog(written.append).write(40, "x", detail="d" * 10_000)
    assert lines_of(written)[0]["detail"] == "d" * 300


def test_a_fault_says_where_and_never_what() -> None:
    written: list[str] = []
    try:
        json.loads('{"secret words')
    except ValueError as error:
        StructuredLog(written.append).fault(error)
    (line,) = lines_of(written)
    assert (line["event"], line["error"]) == ("fault", "JSONDecodeError")
    assert "decoder.py:" in str(line["where"])
    assert "secret" not in written[0]
    StructuredLog(written.append).fault(ValueError("secret words"))
    assert "secret" not in written[1]


def test_loggers_of_libraries_are_silent(capfd: pytest.CaptureFixture[str]) -> None:
    before = logging.root.manager.disable, logging.raiseExceptions
    try:
        silence_libraries()
        logging.getLogger("mitmproxy.proxy").critical("secret words")
        logging.getLogger("asyncio").error("secret words")
    finally:
        logging.disable(before[0])
        logging.raiseExceptions = before[1]
    assert capfd.readouterr() == ("", "")


def test_a_reader_of_the_log_that_left_stops_nothing() -> None:
    read, write = os.pipe()
    os.close(read)
    code = "from proxy.observe.log import *; StructuredLog(to_stderr).write(40, 'x'); print('alive')"
    try:
        run = subprocess.run(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=write, timeout=20, check=False
        )
    finally:
        os.close(write)
    assert (run.returncode, run.stdout) == (0, b"alive\n")
