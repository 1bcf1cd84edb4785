"""Blind index and keyed hash: what they are made of, what they are bound to, and the examples of the specification."""

import base64
import hashlib
import hmac
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.crypto.blind_index import SPELLINGS, Spelling, blind_index, keyed_hash, length
from proxy.crypto.data_key import DataKey, Purpose, PurposeError
from proxy.crypto.field_token import Scope

_SPECIFICATION = Path(__file__).parents[2] / "docs" / "spec" / "token.md"
DEK = bytes(range(32))
KEY = DataKey(DEK, Purpose.LOOKUP)
SCOPE = Scope("acme", "cn", "phone")
VALUE = "+8613800138000"
# As the section "Lookup values" of the specification says it.
AAD = bytes.fromhex("0004 7769312e 0004 61636d65 0002 636e 0005 70686f6e65")
EXAMPLES = {
    "hex": "8966be60a15c7054107c055881482bee",
    "base32": "rftl4yfblryfied4avmicsbl5y",
    "hash": "d1ddd8cb774ba84f62cfff3d9f49281fd64047c6b32b82aa74096d68e7d5ba3b",
}


def _sub_key(info: bytes) -> bytes:
    """One block of RFC 5869 from `hmac` alone."""
    return hmac.digest(hmac.digest(bytes(32), DEK, "sha256"), info + b"\1", "sha256")


def test_index_as_specified() -> None:
    mac = hmac.new(_sub_key(b"wxgate/1 index"), AAD + VALUE.encode(), hashlib.sha256).digest()
    assert blind_index(KEY, VALUE, SCOPE) == mac[:16].hex() == EXAMPLES["hex"]
    assert blind_index(KEY, VALUE, SCOPE, 256) == mac.hex()
    assert blind_index(KEY, VALUE, SCOPE, 128, "base32") == EXAMPLES["base32"]
    assert base64.b32decode(EXAMPLES["base32"].upper() + "======") == mac[:16]


def test_hash_as_specified() -> None:
    mac = hmac.digest(_sub_key(b"wxgate/1 hash"), AAD.replace(b"wi1.", b"wh1.") + VALUE.encode(), "sha256")
    assert keyed_hash(KEY, VALUE, SCOPE) == mac.hex() == EXAMPLES["hash"]
    assert len(keyed_hash(KEY, VALUE, SCOPE, "base32")) == length(256, "base32") == 52


@pytest.mark.parametrize("example", EXAMPLES.values())
def test_the_specification_has_the_examples(example: str) -> None:
    assert f"`{example}`" in _SPECIFICATION.read_text()


@pytest.mark.parametrize("bits", range(32, 257, 8))
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_lengths(bits: int, spelling: Spelling) -> None:
    index = blind_index(KEY, VALUE, SCOPE, bits, spelling)
    assert len(index) == length(bits, spelling)
    assert set(index) <= set("0123456789abcdef" if spelling == "hex" else "abcdefghijklmnopqrstuvwxyz234567")


@pytest.mark.parametrize("bits", [-8, 0, 8, 24, 31, 33, 127, 129, 257, 264])
def test_other_lengths_are_refused(bits: int) -> None:
    with pytest.raises(ValueError, match="32 to 256 bits"):
        blind_index(KEY, VALUE, SCOPE, bits)
    with pytest.raises(ValueError, match="32 to 256 bits"):
        length(bits)


def test_everything_but_binds_changes_the_index() -> None:
    scopes = [
        SCOPE,
        Scope("acm", "ecn", "phone"),
        Scope("acmec", "n", "phone"),
        Scope("acme", "cnp", "hone"),
        Scope("acme", "cn", "phone2"),
        Scope("other", "cn", "phone"),
        Scope("acme", "eu", "phone"),
    ]
    found = [blind_index(KEY, VALUE, scope) for scope in scopes]
    found += [blind_index(KEY, text, SCOPE) for text in ("", VALUE + "0", VALUE[1:], " " + VALUE)]
    found.append(blind_index(DataKey(bytes(32), Purpose.LOOKUP), VALUE, SCOPE))
    found.append(keyed_hash(KEY, VALUE, SCOPE)[:32])
    assert len(set(found)) == len(found)


@pytest.mark.parametrize("function", [blind_index, keyed_hash])
def test_binds_are_no_part(function: Callable[[DataKey, str, Scope], str]) -> None:
    assert function(KEY, VALUE, replace(SCOPE, binds=("one", "two"))) == function(KEY, VALUE, SCOPE)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.text(max_size=4), st.text(max_size=4), st.text(max_size=4), st.text(max_size=4)), max_size=8)
)
def test_no_two_inputs_are_taken_for_one(inputs: list[tuple[str, str, str, str]]) -> None:
    """A border between tenant, region, datum and value cannot be moved."""
    for (a, b, c, text), (x, y, z, other) in combinations(set(inputs), 2):
        assert blind_index(KEY, text, Scope(a, b, c), 256) != blind_index(KEY, other, Scope(x, y, z), 256)


@pytest.mark.parametrize("function", [blind_index, keyed_hash])
def test_a_data_key_gives_no_lookup_value(function: Callable[[DataKey, str, Scope], str]) -> None:
    key = DataKey(DEK, Purpose.DATA)
    with pytest.raises(PurposeError, match=key.id.hex()):
        function(key, VALUE, SCOPE)


def test_a_broken_value_is_refused_and_not_shown() -> None:
    with pytest.raises(ValueError, match="surrogate") as raised:
        blind_index(KEY, "secret\ud800", SCOPE)
    assert not isinstance(raised.value, UnicodeError)  # its `object` would be the value
    assert raised.value.__suppress_context__
    with pytest.raises(ValueError, match="too long"):
        keyed_hash(KEY, VALUE, Scope("a" * 65536, "cn", "phone"))
