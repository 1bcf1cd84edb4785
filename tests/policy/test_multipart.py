"""Rules for multipart bodies: parts, file names and types are decided like any other value."""

import pytest

from proxy.document.multipart import read_multipart
from proxy.document.tree import Document
from proxy.policy.check_tests import check_tests
from proxy.policy.plan import read_call
from proxy.policy.rules import Direction
from proxy.policy.selector import parse_selector
from proxy.wechat.push import message_type, read_body
from tests.document.test_multipart import JPEG, body, part
from tests.policy.build import Entropy, House, codes, compiled, refused

HEAD = """version: 1
classes:
  secret: {action: encrypt}
  phone: {action: mask, mask: {keep_last: 4}}
  fixed: {action: redact, text: '-'}
messages:
  - name: upload
    direction: agent
    match: {method: POST, path: /upload}
    request:
"""
RULES = {
    "multipart:meta/body > json:$.Phone": "{class: phone}",
    "multipart:meta/type": "allow",
    "multipart:photo/body": "allow",
    "multipart:photo/filename": "{class: secret, as: file}",
    "multipart:photo/type": "allow",
    "multipart:note/body": "{class: secret, as: note}",
}


def policy(**changed: str) -> str:
    rules = RULES | {f"multipart:{key.replace('_', '/')}": value for key, value in changed.items()}
    return HEAD + "".join(f"      {key}: {value}\n" for key, value in rules.items())


META = part("meta", b'{"Phone": "13800138000"}', "\r\nContent-Type: application/json")
PHOTO = part("photo", JPEG, '; filename="Li.jpg"\r\nContent-Type: image/jpeg')
NOTE = part("note", "请看".encode())


def upload(data: bytes, **changed: str) -> Document:
    it = House(compiled(policy(**changed)))
    rules = it.rules(Direction.AGENT, "POST", "/upload")
    assert rules.form == "multipart"
    carried = it.carry(rules, read_call(rules, data, "multipart/form-data; boundary=b", read_body))
    return read_multipart(carried.body, carried.boundary)


def test_parts_leave_as_their_rules_say() -> None:
    found = {leaf.path: leaf.text for leaf in upload(body(META, PHOTO, NOTE)).leaves}
    assert found["meta", "body"] == '{"Phone": "*******8000"}'
    assert found["photo", "filename"].startswith("wg1.")
    assert found["photo", "body"].encode("latin-1") == JPEG
    assert found["note", "body"].startswith("wg1.")


@pytest.mark.parametrize("rule", ["{class: secret, as: photo}", "{class: phone}"])
def test_of_bytes_that_are_no_text_nothing_can_be_made(rule: str) -> None:
    assert refused(lambda: upload(body(PHOTO), photo_body=rule)) == "value_refused"
    kept = upload(body(PHOTO, NOTE), photo_body=rule.replace("}", ", on_error: drop}"))
    assert [leaf.path for leaf in kept.leaves] == [("note", "body")]
    assert upload(body(part("photo", b"text")), photo_body=rule).leaves[-1].text != "text"


def test_they_can_be_redacted_and_dropped() -> None:
    assert upload(body(PHOTO), photo_body="{class: fixed}").leaves[-1].text == "-"
    assert [leaf.path[0] for leaf in upload(body(PHOTO, NOTE), photo_body="drop").leaves] == ["note"]


@pytest.mark.parametrize(
    "more",
    [
        part("other", b"x"), part("note", b"x", '; filename="a"'), part("note", b"x", "\r\nContent-Type: text/plain"),
    ],
)  # fmt: skip
def test_what_no_rule_knows_refuses_the_message(more: bytes) -> None:
    assert refused(lambda: upload(body(PHOTO, more))) == "field_unknown"


def test_the_boundary_of_the_field_is_the_one_that_counts() -> None:
    rules = House(compiled(policy())).rules(Direction.AGENT, "POST", "/upload")
    for field in ("", "application/json", "multipart/form-data; boundary=c"):
        assert refused(lambda field=field: read_call(rules, body(NOTE), field, read_body)) == "document_malformed"


@pytest.mark.parametrize(
    "selector", ["multipart:a", "multipart:a/", "multipart:/body", "multipart:a/header", "multipart:a/b/c"]
)
def test_what_is_no_selector_of_a_part(selector: str) -> None:
    with pytest.raises(ValueError, match="NAME/body"):
        parse_selector(selector)


def test_allow_names_its_part() -> None:
    assert codes(HEAD + "      multipart:*/body: allow\n") == ["allow-wildcard"]
    assert compiled(HEAD + "      multipart:*/body: drop\n")


def test_only_requests_of_calls_have_parts() -> None:
    text = HEAD.replace("    request:", "    response:") + "      multipart:a/body: drop\n"
    assert codes(text) == ["part-missing"]


def test_several_fields_have_no_place_in_a_part() -> None:
    assert codes(HEAD + "      multipart:a/body: {class: secret, as: a, write: {b: token}}\n") == ["write-place"]


def test_a_sample_brings_its_boundary() -> None:
    tests = """tests:
  - sample: s
    direction: agent
    method: POST
    path: /upload
    expect:
      multipart:photo/body: allowed
      multipart:photo/filename: encrypted
      multipart:meta/body > json:$.Phone: masked
"""
    samples = {"s": body(META, PHOTO, boundary=b"---any")}
    assert check_tests(compiled(policy() + tests), samples, read_body, message_type, Entropy()) == []
