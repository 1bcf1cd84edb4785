"""Bodies and values made to cost more than they weigh. Whoever reaches a listener may send the first kind: in safe mode
the envelope is read before its signature can be checked."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable
from contextlib import suppress

import pytest

from proxy.crypto.normalise import Normaliser
from proxy.document.json_body import read_json
from proxy.document.query import read_query
from proxy.document.xml_body import read_xml
from proxy.policy.plan import make_plan
from proxy.refusal import Refusal
from tests.policy.build import compiled, refused

MEBIBYTE = 1 << 20
XML = {
    "empty elements": b"<xml>" + b"<a></a>" * (MEBIBYTE // 7) + b"</xml>",
    "line feeds": b"<xml><a>&amp;" + b"\n" * MEBIBYTE + b"</a></xml>",
    "line feeds between elements": b"<xml>\r" + b"\n" * MEBIBYTE + b"<a>1</a></xml>",
    "brackets in a section": b"<xml><a>&amp;<![CDATA[" + b"]" * MEBIBYTE + b"]]></a></xml>",
    "sections": b"<xml><a>" + b"<![CDATA[]]>" * (MEBIBYTE // 12) + b"</a></xml>",
    "references": b"<xml><a>" + b"&#65;" * (MEBIBYTE // 5) + b"</a></xml>",
    "a section without end": b"<xml><a><![CDATA[" + b"]]" * (MEBIBYTE // 2),
}
JSON = {
    "elements": b'{"a":[' + b"1," * (MEBIBYTE // 2) + b"1]}",
    "members": b"{" + b",".join(b'"%d":1' % number for number in range(MEBIBYTE // 10)) + b"}",
    "escapes": b'{"a":"' + b"\\u0041" * (MEBIBYTE // 6) + b'"}',
    "depth": b'{"a":' + b"[" * MEBIBYTE,
}


def seconds(read: Callable[[bytes], object], body: bytes) -> float:
    """CPU time, the best of three."""
    best = 9.0
    for _ in range(3):
        begun = time.process_time()
        with suppress(Refusal):
            read(body)
        best = min(best, time.process_time() - begun)
    return best


@pytest.mark.parametrize("name", XML)
def test_no_xml_body_of_the_largest_size_holds_a_worker_up(name: str) -> None:
    assert seconds(read_xml, XML[name]) < 0.08


@pytest.mark.parametrize("name", JSON)
def test_no_json_body_of_the_largest_size_holds_a_worker_up(name: str) -> None:
    assert seconds(read_json, JSON[name]) < 0.08


def test_marks_that_take_minutes_to_sort_are_refused() -> None:
    with pytest.raises(ValueError, match="combining marks"):
        Normaliser(("nfkc",)).apply("a" + "\u0300\u0316" * 100_000)


def test_marks_as_languages_have_them_are_not() -> None:
    assert Normaliser(("nfkc",)).apply("e\u0301" + "o\u0323\u0302" * 50) == "\u00e9" + "\u1ed9" * 50


POLICY = """\
version: 1
defaults: {unmatched: encrypt}
classes: {c: {action: encrypt}}
messages:
  - name: written
    direction: agent
    match: {method: POST, path: /records}
    request:
      json:$.map[*]: {class: c, as: c}
"""


def test_names_that_callers_choose_are_not_kept() -> None:
    """A table that remembered the paths it saw would hold a megabyte for each, and what they say."""
    policy = compiled(POLICY)
    rules = policy.calls[0].request

    def plan(number: int) -> None:
        name = f"{number}".rjust(20_000, "n")
        for body in (f'{{"map":{{"{name}":1}}}}', f'{{"{name}":1}}'):
            make_plan(policy, rules, read_json(body.encode()), "", "agent")

    plan(0)
    tracemalloc.start()
    try:
        for number in range(1, 101):
            plan(number)
        assert tracemalloc.get_traced_memory()[0] < 200_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("query", ["fields=Id;delete=1", "a;b=1", ";", "a=1&b=2;c=3"])
def test_a_semicolon_begins_no_parameter_that_no_rule_saw(query: str) -> None:
    assert refused(lambda: read_query(query)) == "document_malformed"


def test_an_escaped_semicolon_is_a_character_of_the_value() -> None:
    assert [leaf.text for leaf in read_query("a=1%3Bb=2&c=%3b".replace("b=2", "b")).leaves] == ["1;b", ";"]
