"""Annotations as GitHub's runner reads them: no name or text becomes a command, a property or a line of its own."""

import re

import pytest

from proxy.cli.report.checked import Checked
from proxy.cli.report.github import as_github
from tests.cli.report.build import HOSTILE_FILES, HOSTILE_TEXT, hostile, problem


def read(line: str) -> tuple[str, dict[str, str], str]:
    """Command, properties and message, as the runner takes a line apart and undoes the escapes."""
    match = re.fullmatch(r"::(\w+) (.*?)::(.*)", line)
    assert match, line
    properties = dict(part.split("=", 1) for part in match[2].split(","))
    for code, character in (("%3A", ":"), ("%2C", ","), ("%0D", "\r"), ("%0A", "\n"), ("%25", "%")):
        properties = {key: value.replace(code, character) for key, value in properties.items()}
    return match[1], properties, match[3].replace("%0D", "\r").replace("%0A", "\n").replace("%25", "%")


def test_a_problem_is_an_annotation_at_its_place() -> None:
    found = [Checked("p.yaml", problems=(problem(), problem(code="allow-handle", warning=True))), Checked("q.yaml")]
    assert as_github(found).split("\n") == [
        "::error file=p.yaml,line=3,col=7,title=test-failed::it is; do it",
        "::warning file=p.yaml,line=3,col=7,title=allow-handle::it is; do it",
        "files: 2, errors: 1, warnings: 1",
    ]


def test_a_file_that_cannot_be_read_is_an_annotation_without_a_line() -> None:
    lines = as_github([Checked("p.yaml", unreadable="p.yaml does not exist")]).split("\n")
    assert lines == ["::error file=p.yaml,title=unreadable::p.yaml does not exist", "files: 1, errors: 1, warnings: 0"]


@pytest.mark.parametrize("file", HOSTILE_FILES)
def test_names_and_texts_stay_what_they_are(file: str) -> None:
    output = as_github([hostile(file), Checked(file, unreadable=HOSTILE_TEXT)])
    assert all(character.isprintable() or character == "\n" for character in output)
    first, second, last = output.split("\n")
    assert last == "files: 2, errors: 2, warnings: 0"
    for line, keys in ((first, ["file", "line", "col", "title"]), (second, ["file", "title"])):
        command, properties, message = read(line)
        assert (command, list(properties)) == ("error", keys)
        if file.isprintable():
            assert properties["file"] == file
        assert "::set-output name=a::b %25 [a]" in message
