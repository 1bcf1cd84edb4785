"""WeChat's signatures: the published vectors, and what an unseparated hash would let through without fixed forms."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.refusal import Refusal
from proxy.wechat.signature import sign, verify

_FOLDER = Path(__file__).parents[1] / "vectors" / "wechat"
_ALL: list[dict[str, Any]] = [json.loads(path.read_text()) for path in sorted(_FOLDER.glob("*.json"))]
TOKEN, TIMESTAMP, NONCE, ENCRYPT = "AAAAA", "1714036504", "1514711492", "+qdx1OKCy5JPCBFWw70tg=="
PLAIN, FULL = sign(TOKEN, TIMESTAMP, NONCE), sign(TOKEN, TIMESTAMP, NONCE, ENCRYPT)


def _signed() -> list[Any]:
    """Every signature the vectors publish: id, signature, items."""
    found = []
    for vector in _ALL:
        inputs = vector["inputs"]
        if "token" not in inputs:
            continue
        both = {**inputs, **vector["expected"]}
        items = [inputs["token"], inputs["timestamp"], inputs["nonce"]]
        if "signature" in both:
            found.append(pytest.param(both["signature"], items, id=f"{vector['name']}-signature"))
        if "msg_signature" in both:
            encrypt = both["encrypt"]
            found.append(pytest.param(both["msg_signature"], [*items, encrypt], id=f"{vector['name']}-msg_signature"))
    return found


def refused(*items: str | None) -> str:
    with pytest.raises(Refusal) as raised:
        verify(*items)  # type: ignore[arg-type]
    return raised.value.code


def test_every_vector_is_used() -> None:
    assert len(_ALL) == 10
    assert len(_signed()) == 11


@pytest.mark.parametrize(("signature", "items"), _signed())
def test_published_signatures(signature: str, items: list[str]) -> None:
    assert sign(*items) == signature
    if len(items[1]) == 10 and items[1].isdigit():
        verify(signature, *items)
    else:  # made-up timestamps of SDK tests: right, but not of WeChat's form
        assert refused(signature, *items) == "signature_malformed"


@settings(deadline=None)
@given(items=st.lists(st.text(max_size=12), min_size=3, max_size=4))
def test_items_are_sorted_by_their_bytes(items: list[str]) -> None:
    joined = b"".join(sorted(item.encode() for item in items))
    assert sign(*items) == hashlib.sha1(joined).hexdigest()


def test_upper_case_sorts_before_lower_and_signs_before_digits() -> None:
    assert sign("b", "1714036504", "B", "+/") == hashlib.sha1(b"+/1714036504Bb").hexdigest()


def test_the_right_one_passes() -> None:
    verify(PLAIN, TOKEN, TIMESTAMP, NONCE)
    verify(FULL, TOKEN, TIMESTAMP, NONCE, ENCRYPT)


def test_the_two_kinds_do_not_stand_in_for_each_other() -> None:
    assert refused(FULL, TOKEN, TIMESTAMP, NONCE) == "signature_wrong"
    assert refused(PLAIN, TOKEN, TIMESTAMP, NONCE, ENCRYPT) == "signature_wrong"


def test_a_digit_shifted_between_the_items_hashes_alike_and_is_refused() -> None:
    """Protocol 1.4: the same hash, so only the form can tell."""
    for timestamp, nonce in (("21714036504", "151471149"), ("714036504", "15147114921")):
        assert sign(TOKEN, timestamp, nonce) == PLAIN
        assert refused(PLAIN, TOKEN, timestamp, nonce) == "signature_malformed"


def test_exchanged_items_hash_alike_and_are_told_apart_by_the_timestamp_alone() -> None:
    """Both have ten digits here, so the signature passes; freshness refuses the other reading."""
    verify(PLAIN, TOKEN, NONCE, TIMESTAMP)
    signature = sign(TOKEN, TIMESTAMP, "151471149")
    assert refused(signature, TOKEN, "151471149", TIMESTAMP) == "signature_malformed"


@pytest.mark.parametrize(
    "signature",
    [
        "",
        PLAIN.upper(),
        PLAIN[:-1].lower() + "F",
        PLAIN[:-1],
        PLAIN[1:],
        PLAIN + "0",
        PLAIN + "\n",
        " " + PLAIN,
        PLAIN[:39] + "g",
        PLAIN[:39] + "\u0660",
        "0x" + PLAIN[2:],
        PLAIN[:20],
        "é" * 40,
    ],
)
def test_a_signature_of_another_form_is_malformed(signature: str) -> None:
    assert refused(signature, TOKEN, TIMESTAMP, NONCE) == "signature_malformed"


@pytest.mark.parametrize(
    "timestamp",
    [
        "",
        "171403650",
        "17140365040",
        "01714036504",
        "+714036504",
        "-714036504",
        " 714036504",
        "714036504 ",
        "1714036504\n",
        "1e9",
        "1.14036504",
        "171403650x",
        "17140_6504",
        "171403650\u0664",
        "１７１４０３６５０４",
        "0x66f0a1b2",
    ],
)
def test_a_timestamp_has_ten_ascii_digits(timestamp: str) -> None:
    assert refused(sign(TOKEN, timestamp, NONCE), TOKEN, timestamp, NONCE) == "signature_malformed"


@pytest.mark.parametrize("nonce", ["", "a" * 33, "a-b", "a_b", "a b", "a\n", "é", "\u0661", "a+", "a=", "a.b", "a\0"])
def test_a_nonce_has_up_to_32_letters_and_digits(nonce: str) -> None:
    assert refused(sign(TOKEN, TIMESTAMP, nonce), TOKEN, TIMESTAMP, nonce) == "signature_malformed"


@pytest.mark.parametrize("nonce", ["0", "a" * 32, "Az09"])
def test_other_nonces_pass(nonce: str) -> None:
    verify(sign(TOKEN, TIMESTAMP, nonce), TOKEN, TIMESTAMP, nonce)


@settings(deadline=None)
@given(which=st.integers(0, 4), place=st.integers(0, 1000), bit=st.integers(0, 6))
def test_any_flipped_bit_is_refused(which: int, place: int, bit: int) -> None:
    items = [FULL, TOKEN, TIMESTAMP, NONCE, ENCRYPT]
    raw = bytearray(items[which].encode())
    raw[place % len(raw)] ^= 1 << bit
    items[which] = raw.decode()
    assert refused(*items) in ("signature_malformed", "signature_wrong")
