"""The strict reader: everything that is not exactly the format is refused, without its values."""

import re
from collections.abc import Callable

import pytest

from proxy.kms.strict_json import MalformedError, Record, loads

WORD = re.compile("[a-z]+")


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"{", b'{"a":1,"a":1}', b'[{"a":{"b":1,"b":2}}]', '{"é":1}'.encode(), b'{"a":1}x', b"[" * 100_000),
        *(b"\xff", b'{"a":\x00}', b"1" * 5000, '{"a":1}'.encode("utf-16")),
    ],
)
def test_other_than_strict_json_is_refused(data: bytes) -> None:
    with pytest.raises(MalformedError):
        loads(data)


@pytest.mark.parametrize("value", [None, [], "a", {"a": 1}, {"a": 1, "b": 2, "c": 3}, {"a": 1, "c": 2}])
def test_members_are_exactly_those_named(value: object) -> None:
    with pytest.raises(MalformedError, match="exactly the members a, b"):
        Record(value, {"a", "b"})


@pytest.mark.parametrize(
    ("value", "read"),
    [
        *((value, lambda r: r.text("a", WORD)) for value in (1, None, "", "A", "secret!", "abc\n")),
        *((value, lambda r: r.number("a", 0, 9)) for value in (True, 1.0, "1", None, -1, 10, 10**400)),
        *((value, lambda r: r.number_or_null("a", 0, 9)) for value in (False, "", 10)),
        *((value, lambda r: r.data("a", 4)) for value in (1, None, "AA", "AAA", "AB==", "AA==\n", "A-==", "A" * 8)),
        *((value, lambda r: r.data("a", 4)) for value in ("A" * 100_000, "AA==AAAA", "é===")),
        *((value, lambda r: r.items("a")) for value in ({}, None, "ab")),
    ],
)
def test_wrong_types_and_values_are_refused_and_not_repeated(value: object, read: Callable[[Record], object]) -> None:
    with pytest.raises(MalformedError) as caught:
        read(Record({"a": value}, {"a"}))
    assert '"a"' in str(caught.value) and "secret" not in str(caught.value)


def test_what_fits_is_read() -> None:
    record = Record(loads(b'{"t":"ab","n":3,"z":null,"d":"AQID","l":[1]}'), set("tnzdl"))
    assert (record.text("t", WORD), record.number("n", 0, 9), record.number_or_null("n", 0, 9)) == ("ab", 3, 3)
    assert (record.number_or_null("z", 0, 9), record.data("d", 3), record.items("l")) == (None, b"\x01\x02\x03", [1])
