"""Describe results are read strictly and in bounded time; whatever else is refused with a line that shows no value."""

import json
import time
from pathlib import Path

import pytest

from proxy.policy.crm_fields import MAX_METADATA, CrmField, MetadataError, read_metadata
from tests.policy.metadata import described, metadata

SHIPPED = Path(__file__).parents[2] / "policies/crm/contact-describe.json"
ONE = {"name": "Contact", "fields": [described("Phone", "phone", 40)]}


def refused(data: bytes | object) -> str:
    with pytest.raises(MetadataError) as error:
        read_metadata(data if isinstance(data, bytes) else json.dumps(data).encode())
    return str(error.value)


def test_a_field_is_what_the_crm_says_of_it() -> None:
    field = described("Ix__c", "STRING", 64, unique=True, externalId=True, filterable=False, caseSensitive=True)
    assert read_metadata(metadata(field)) == {
        "Contact": {"Ix__c": CrmField("Ix__c", "string", 64, 192, True, True, False, True, True)}
    }


@pytest.mark.parametrize(
    ("changes", "writable"),
    [
        ({}, True),
        ({"createable": False}, True),
        ({"updateable": False}, True),
        ({"createable": False, "updateable": False}, False),
        ({"calculated": True}, False),
        ({"autoNumber": True}, False),
    ],
)
def test_what_the_crm_computes_or_closes_is_not_writable(changes: dict[str, object], writable: bool) -> None:
    assert read_metadata(metadata(described("F", **changes)))["Contact"]["F"].writable is writable


@pytest.mark.parametrize("shape", [ONE, [ONE], {"sobjects": [ONE]}, {"status": 0, "result": ONE, "warnings": []}])
def test_one_object_several_and_those_of_the_command_line_are_taken(shape: object) -> None:
    assert read_metadata(json.dumps(shape).encode())["Contact"]["Phone"].length == 40


def test_the_shipped_sample_is_a_describe_result() -> None:
    fields = read_metadata(SHIPPED.read_bytes())["Contact"]
    assert (fields["Phone"].type, fields["Phone"].length, fields["Name_enc__c"].filterable) == ("phone", 40, False)


@pytest.mark.parametrize(
    ("data", "part"),
    [
        (b"", "no well-formed JSON"),
        (b"\xff\xfe{}", "no well-formed JSON"),
        (b"<html>", "no well-formed JSON"),
        (b"[" * 200_000, "no well-formed JSON"),
        (b'{"a":' * 100_000, "no well-formed JSON"),
        (b'{"name": "Contact", "fields": [{"length": ' + b"9" * 5000 + b"}]}", "no well-formed JSON"),
        (b'{"name": NaN}', "a number that JSON does not know"),
        (b'{"name": "A", "name": "B", "fields": []}', "a member stands twice"),
        ("secret", "object 1 is no JSON object"),
        ([[]], "object 1 is no JSON object"),
        ({"name": "Contact"}, "Contact has no fields; take the whole answer"),
        ({"sobjects": [{"name": "Contact", "keyPrefix": "003"}]}, "Contact has no fields"),
        ({"name": "Contact", "fields": {}}, "Contact: fields must be a list"),
        ({"name": "a\x1b[2J", "fields": []}, "object 1: name is no name"),
        ({"name": "A" * 81, "fields": []}, "object 1: name is no name"),
        ([ONE, ONE], "Contact is described twice"),
        ({"name": "C", "fields": [None]}, "C.fields[0] is no JSON object"),
        ({"name": "C", "fields": [described("F"), described("F")]}, "C has F twice"),
        ({"name": "C", "fields": [described("__proto__")]}, "C.fields[0]: name is no name"),
        ({"name": "C", "fields": [described("F", "a b")]}, "C.fields[0] (F): type is no name"),
        ({"name": "C", "fields": [described("F", byteLength=-1)]}, "C.fields[0] (F): byteLength must be"),
        ({"name": "C", "fields": [described("F", length=True)]}, "C.fields[0] (F): length must be"),
        ({"name": "C", "fields": [described("F", length=255.0)]}, "C.fields[0] (F): length must be"),
        ({"name": "C", "fields": [described("F", length=10**12)]}, "C.fields[0] (F): length must be"),
        ({"name": "C", "fields": [described("F", length="secret")]}, "C.fields[0] (F): length must be"),
        ({"name": "C", "fields": [described("F", unique=None)]}, "C.fields[0] (F): unique must be true or false"),
        ({"name": "C", "fields": [described("F", filterable=1)]}, "C.fields[0] (F): filterable must be true or false"),
    ],
)
def test_what_is_no_describe_result_is_told_by_place_and_shows_no_value(data: bytes | object, part: str) -> None:
    message = refused(data)
    assert part in message
    assert "secret" not in message
    assert message.isprintable()


@pytest.mark.parametrize("key", sorted(described("F").keys() - {"name"}))
def test_a_field_that_does_not_say_all_is_refused(key: str) -> None:
    field = described("F")
    del field[key]
    assert refused({"name": "C", "fields": [field]}).startswith(f"C.fields[0] (F) has no {key}")


@pytest.mark.parametrize("data", [b" " * (MAX_METADATA + 1), b"[" + b"[]," * 600_000 + b"[]]", b"," * MAX_METADATA])
def test_what_is_too_large_is_refused_unread(data: bytes) -> None:
    start = time.monotonic()
    assert "too large" in refused(data)
    assert time.monotonic() - start < 0.5
