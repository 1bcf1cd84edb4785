"""`wxgate policy fits`: what is told, in text and JSON, and one clear line for whatever is no policy or no metadata."""

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from proxy.cli.policy import policy
from tests.policy.metadata import described, metadata

ROOT = Path(__file__).parents[2] / "policies"
CONTACTS, CONTACT = ROOT / "contacts.yaml", ROOT / "crm/contact-describe.json"
RULES = """version: 1
classes: {words: {action: encrypt}}
messages:
  - name: m
    direction: agent
    match: {method: POST, path: /m}
    request:
      json:$.f: {class: words, as: f, max: MAX, fits: crm:Contact.F}
      json:$.g: {class: words, as: g}
"""


def fits(file: Path, *crm: Path, options: tuple[str, ...] = ()) -> Result:
    arguments = ["fits", str(file), *(part for path in crm for part in ("--crm", str(path))), *options]
    result = CliRunner().invoke(policy, arguments)
    assert result.exception is None or isinstance(result.exception, SystemExit)
    assert "Traceback" not in result.output
    return result


def written(directory: Path, content: str | bytes, name: str) -> Path:
    path = directory / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.fixture
def crm(tmp_path: Path) -> Path:
    return written(tmp_path, metadata(described("F", filterable=False)), "crm.json")


def rules(directory: Path, characters: int, name: str = "p.yaml") -> Path:
    return written(directory, RULES.replace("MAX", str(characters)), name)


def test_the_shipped_contacts_fit_the_shipped_metadata_without_a_warning() -> None:
    result = fits(CONTACTS, CONTACT)
    assert result.exit_code == 0
    lines = result.output.splitlines()
    assert "warning" not in result.output
    assert lines[-1].startswith(f"{CONTACTS}: everything fits, values written: {len(lines) - 1}; rules")
    assert any(
        line.endswith(
            ": Contact.Phone_enc__c (string, 255): randomised token, at most 239 characters for values up to 40 "
            "characters, 120 bytes (the length of Contact.Phone); what fits: 132 ASCII or 44 Chinese characters"
        )
        for line in lines
    )
    assert any(": index of 128 bits, at most 32 characters" in line and "any value" in line for line in lines)


def test_tenants_who_bring_their_keys_have_room_for_less(tmp_path: Path, crm: Path) -> None:
    """132 ASCII characters fill a field of 255 to the last; an id of 32 bytes leaves room for 116."""
    file = rules(tmp_path, 38)
    assert fits(file, crm).exit_code == 0
    assert "what fits: 132 ASCII or 44 Chinese" in fits(file, crm).output
    longer = fits(file, crm, options=("--brought-keys",))
    assert "what fits: 116 ASCII or 38 Chinese" in longer.output and longer.exit_code == 0
    assert fits(rules(tmp_path, 39), crm, options=("--brought-keys",)).exit_code == 1
    assert fits(rules(tmp_path, 39), crm).exit_code == 0


def test_what_does_not_fit_is_a_line_with_its_place(tmp_path: Path, crm: Path) -> None:
    path = rules(tmp_path, 45)
    result = fits(path, crm)
    assert result.exit_code == 1
    first, second, last = result.output.splitlines()
    assert first.startswith(f"{path}:8:7: Contact.F (string, 255): randomised token, at most 259 characters")
    assert second.startswith(f"{path}:8:7: fits-length Contact.F holds 255 characters; the randomised token takes up")
    assert second.endswith('or write "max: 44" if no value is longer')
    assert last == f"{path}: 1 problem, values written: 1; rules that write for the CRM without saying where to: 1"
    assert fits(rules(tmp_path, 44), crm).exit_code == 0


def test_a_warning_does_not_fail(tmp_path: Path) -> None:
    result = fits(rules(tmp_path, 44), written(tmp_path, metadata(described("F")), "crm.json"))
    assert (result.exit_code, "warning fits-search" in result.output) == (0, True)


def test_a_field_in_which_nothing_fits_is_said_to_hold_nothing(tmp_path: Path) -> None:
    crm = written(tmp_path, metadata(described("F", length=40)), "crm.json")
    assert "what fits: nothing" in fits(rules(tmp_path, 1), crm).output


def test_json_says_the_same_for_machines(tmp_path: Path, crm: Path) -> None:
    path = rules(tmp_path, 45)
    result = fits(path, crm, options=("--json",))
    found = json.loads(result.output)
    assert (result.exit_code, found["ok"], found["file"], found["rules_without_fits"]) == (1, False, str(path), 1)
    assert found["values"] == [
        {
            "file": str(path),
            "line": 8,
            "column": 7,
            "target": "Contact.F",
            "type": "string",
            "length": 255,
            "written_as": "randomised token",
            "longest": 259,
            "fits_ascii": 132,
            "fits_chinese": 44,
            "judged_for": "values up to 45 characters, 135 bytes (the rule's max)",
        }
    ]
    (problem,) = found["problems"]
    assert (problem["line"], problem["code"], problem["warning"]) == (8, "fits-length", False)
    assert json.loads(fits(rules(tmp_path, 44), crm, options=("--json",)).output)["ok"] is True


def test_a_rule_of_an_extended_file_is_shown_where_that_file_is(tmp_path: Path, crm: Path) -> None:
    rules(tmp_path, 45, "base.yaml")
    result = fits(written(tmp_path, "version: 1\nextends: [base.yaml]\n", "p.yaml"), crm)
    assert f"{tmp_path}/base.yaml:8:7: fits-length" in result.output


def test_metadata_may_come_in_several_files_but_no_object_twice(tmp_path: Path, crm: Path) -> None:
    other = written(tmp_path, metadata(described("F"), name="Case"), "case.json")
    assert fits(rules(tmp_path, 44), other, crm).exit_code == 0
    result = fits(rules(tmp_path, 44), crm, crm)
    assert (result.exit_code, result.output) == (
        2,
        f"Error: {crm} describes Contact a second time; give each object once\n",
    )


def test_a_policy_without_fits_is_nothing_to_judge(tmp_path: Path, crm: Path) -> None:
    path = written(tmp_path, "version: 1\n", "p.yaml")
    result = fits(path, crm)
    assert result.exit_code == 2
    assert "add `fits: crm:Object.Field__c`" in result.output


def test_what_is_no_policy_is_told_by_line(tmp_path: Path, crm: Path) -> None:
    path = written(tmp_path, RULES.replace("crm:", "").replace("MAX", "1"), "p.yaml")
    result = fits(path, crm)
    assert result.exit_code == 2
    assert f"{path}:8:53: fits-malformed" in result.output
    assert result.output.endswith(f"Error: {path} is no valid policy; see above\n")
    assert fits(tmp_path / "gone.yaml", crm).output == f"Error: {tmp_path}/gone.yaml does not exist; check the path\n"


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (b"", "is no describe result: it is no well-formed JSON"),
        (b"\x1b[2J\xff", "is no describe result: it is no well-formed JSON"),
        (b"[" * 1_000_000, "is no describe result: it is no well-formed JSON"),
        (b'{"sobjects": [{"name": "Contact"}]}', "Contact has no fields; take the whole answer"),
        (b'{"name": "\\u001b[2J", "fields": []}', "object 1: name is no name"),
    ],
)
def test_hostile_metadata_is_one_line(tmp_path: Path, content: bytes, part: str) -> None:
    result = fits(rules(tmp_path, 44), written(tmp_path, content, "crm\x07\n.json"))
    assert (result.exit_code, part in result.output, result.output.count("\n")) == (2, True, 1)
    assert "\x07" not in result.output


def test_what_is_no_file_is_one_line(tmp_path: Path) -> None:
    huge, pipe = tmp_path / "huge", tmp_path / "pipe"
    with huge.open("wb") as stream:
        stream.truncate(50 * 1024 * 1024)
    os.mkfifo(pipe)
    for path, part in (
        (tmp_path / "gone", "does not exist"),
        (tmp_path, "is a directory"),
        (huge, "has more than 4194304 bytes"),
        (pipe, "is no regular file"),
    ):
        result = fits(rules(tmp_path, 44), path)
        assert (result.exit_code, part in result.output, result.output.count("\n")) == (2, True, 1)


def test_without_metadata_it_is_a_usage_error(tmp_path: Path) -> None:
    assert fits(rules(tmp_path, 44)).exit_code == 2
