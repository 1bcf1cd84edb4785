"""SARIF parsed back: the members that the standard requires, places, levels, help, and names that are no URIs."""

import json
import os
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote_to_bytes, urlsplit

import pytest

from proxy.cli.report.checked import Checked
from proxy.cli.report.problem_help import problem_help
from proxy.cli.report.sarif import as_sarif, uri_of
from tests.cli.report.build import HOSTILE_FILES, hostile, problem

URI = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=@/%-]+|file:///[A-Za-z0-9._~/%-]+")


def run(*found: Checked) -> dict[str, Any]:
    log = json.loads(as_sarif(found))
    assert log["version"] == "2.1.0"
    assert log["$schema"].endswith("/sarif-schema-2.1.0.json")
    (only,) = log["runs"]
    return only  # type: ignore[no-any-return]


def texts(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for part in value.values():
            yield from texts(part)
    elif isinstance(value, list):
        for part in value:
            yield from texts(part)
    elif isinstance(value, str):
        yield value


def test_a_result_has_all_that_is_required_and_its_rule_has_the_help_of_its_code() -> None:
    found = run(
        Checked("a.yaml", problems=(problem("a.yaml"), problem("b.yaml", "allow-handle", warning=True))),
        Checked("c.yaml", "0" * 16, 1, 1),
    )
    driver = found["tool"]["driver"]
    assert (driver["name"], bool(driver["version"])) == ("wxgate", True)
    assert [rule["id"] for rule in driver["rules"]] == ["allow-handle", "test-failed"]
    for rule in driver["rules"]:
        said = problem_help()[rule["id"]]
        assert rule["shortDescription"]["text"] == said.means
        assert rule["help"]["text"] == f"Means: {said.means}\nCause: {said.cause}\nFix: {said.fix}"
        assert said.fix in rule["help"]["markdown"]
    assert found["columnKind"] == "unicodeCodePoints"
    assert found["results"] == [
        {
            "ruleId": code,
            "ruleIndex": index,
            "level": level,
            "message": {"text": "it is; do it"},
            "locations": [
                {
                    "physicalLocation": {
                        "artifactLocation": {"uri": uri},
                        "region": {"startLine": 3, "startColumn": 7},
                    }
                }
            ],
        }
        for code, index, level, uri in [("test-failed", 1, "error", "a.yaml"), ("allow-handle", 0, "warning", "b.yaml")]
    ]
    assert found["invocations"] == [{"executionSuccessful": True, "exitCode": 1, "toolExecutionNotifications": []}]


def test_nothing_wrong_is_a_run_without_results() -> None:
    found = run(Checked("a.yaml", "0" * 16))
    assert (found["results"], found["tool"]["driver"]["rules"], found["invocations"][0]["exitCode"]) == ([], [], 0)


def test_what_cannot_be_read_is_a_notification_and_no_success() -> None:
    (invocation,) = run(Checked("a.yaml"), Checked("b.yaml", unreadable="b.yaml does not exist"))["invocations"]
    assert (invocation["executionSuccessful"], invocation["exitCode"]) == (False, 2)
    (notification,) = invocation["toolExecutionNotifications"]
    assert notification["message"]["text"] == "b.yaml does not exist"
    assert notification["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == "b.yaml"


@pytest.mark.parametrize("file", HOSTILE_FILES)
@pytest.mark.parametrize("directory", ["", "/tmp/x/"])
def test_any_name_is_a_uri_reference_that_leads_back_to_it(directory: str, file: str) -> None:
    uri = uri_of(directory + file)
    assert URI.fullmatch(uri)
    parts = urlsplit(uri)
    assert (parts.scheme, parts.netloc, parts.query, parts.fragment) == ("file" if directory else "", "", "", "")
    expected = os.fsencode(directory + file).replace(b"//", b"/")  # as a path is written
    assert unquote_to_bytes(parts.path) == expected


@pytest.mark.parametrize("file", HOSTILE_FILES)
def test_no_text_holds_what_cannot_be_seen_a_placeholder_or_a_link(file: str) -> None:
    found = run(hostile(file), Checked(file, unreadable=f"{file} is a directory"))
    assert all(character.isprintable() or character == "\n" for text in texts(found) for character in text)
    (result,) = found["results"]
    message = result["message"]["text"]
    assert re.search(r"\[a\] \(http://evil\) \{\{0\}\} \{\{\{\{", message)
    assert "\\x1b[2J" in message
    assert "\n" not in message
