"""Normalise: each step, that a second run changes nothing, and that what has no one spelling is refused unseen."""

import sys
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.crypto.dialling import PLANS
from proxy.crypto.normalise import EDGES, STEPS, Normaliser

TEXTS = ["nfkc", "trim", "casefold"]


@pytest.mark.parametrize(
    ("steps", "text", "expected"),
    [
        ("nfkc", "Ｚｈａｎｇ", "Zhang"),
        ("nfkc", "e\u0301ﬁ", "éfi"),
        ("nfkc", "", ""),
        ("trim", " \t\u3000\ufeff\u202d张 三\u202c\n", "张 三"),
        ("trim", "\u200b", ""),
        ("trim", "👨\u200d👩", "👨\u200d👩"),
        ("casefold", "Straße ΣΑΣ", "strasse σασ"),
        ("nfkc trim casefold", "\u3000ＺＨＡＮＧ@Example.COM ", "zhang@example.com"),
        ("nfkc casefold", "\u01f0", "j\u030c"),
        ("casefold nfkc", "j\u030c", "\u01f0"),
        ("digits", "138-0013 8000", "13800138000"),
        ("digits", "１３８\u00a0(00)", "13800"),
        ("digits", "٣.٤/५", "345"),
        ("", "As It Is ", "As It Is "),
    ],
)
def test_steps(steps: str, text: str, expected: str) -> None:
    assert Normaliser(tuple(steps.split())).apply(text) == expected


@pytest.mark.parametrize(
    ("country", "text", "expected"),
    [
        ("86", "13800138000", "+8613800138000"),
        ("86", "138-0013-8000", "+8613800138000"),
        ("86", "+86 138 0013 8000", "+8613800138000"),
        ("86", "＋８６ 13800138000", "+8613800138000"),
        ("86", "0086 13800138000", "+8613800138000"),
        ("86", "8613800138000", "+8613800138000"),
        ("86", "\u202d013800138000\u202c", "+8613800138000"),
        ("86", "010-12345678", "+861012345678"),
        ("86", "(0571) 8765 4321", "+8657187654321"),
        ("86", "4008001234", "+864008001234"),
        ("86", "+852 9123 4567", "+85291234567"),
        ("852", "9123 4567", "+85291234567"),
        ("852", "001 86 13800138000", "+8613800138000"),
        ("853", "6612 3456", "+85366123456"),
        ("886", "0912 345 678", "+886912345678"),
        ("886", "002 86 13800138000", "+8613800138000"),
        ("65", "9123 4567", "+6591234567"),
        ("81", "090-1234-5678", "+819012345678"),
        ("1", "(202) 555-0123", "+12025550123"),
        ("1", "1-202-555-0123", "+12025550123"),
        ("1", "011 44 20 7946 0958", "+442079460958"),
        ("44", "020 7946 0958", "+442079460958"),
        ("33", "01 23 45 67 89", "+33123456789"),
        ("61", "0412 345 678", "+61412345678"),
        ("", "+49 30 123456", "+4930123456"),
        ("", "+390612345678", "+390612345678"),
    ],
)
def test_e164(country: str, text: str, expected: str) -> None:
    assert Normaliser(("e164",), country).apply(text) == expected


@pytest.mark.parametrize(
    ("country", "text"),
    [
        ("86", ""),
        ("86", "+"),
        ("86", "12345678"),  # no area code
        ("86", "138001380001"),
        ("86", "010-12345678-801"),  # an extension
        ("86", "13800138000/13900139000"),
        ("86", "13800138000x1"),
        ("86", "电话13800138000"),
        ("86", "+86 013800138000"),  # the trunk prefix behind the code
        ("86", "+86 1380013800"[:-3]),
        ("86", "+86 (0)10 12345678"),
        ("86", "0000000000000"),
        ("86", "00852 912345"),
        ("", "13800138000"),
        ("", "0086 13800138000"),
        ("", "+49 (0)30 123456"),
        ("", "+49 （ ０ ）30 123456"),
        ("", "+0123456789"),
        ("", "+123456"),
        ("", "+4912345678901234"),
        ("1", "202555012"),
        ("1", "+1 1202555012"),
        ("852", "+852 9123 456"),
    ],
)
def test_what_is_no_number_is_refused_and_not_shown(country: str, text: str) -> None:
    with pytest.raises(ValueError, match=r"telephone number|separators") as raised:
        Normaliser(("e164",), country).apply(text)
    assert not any(part in str(raised.value) for part in ("138", "912", "202", "123"))


@pytest.mark.parametrize("text", ["", " - ", "12a", "11010519491231002X", "5²", "½", "１２三"])
def test_what_has_other_characters_has_no_digits(text: str) -> None:
    with pytest.raises(ValueError, match="digits"):
        Normaliser(("digits",)).apply(text)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("text", ["\ud800", "138\udfff0013800"])
def test_half_a_surrogate_pair_is_refused(step: str, text: str) -> None:
    with pytest.raises(ValueError, match="surrogate"):
        Normaliser((step,)).apply(text)


@pytest.mark.parametrize(
    ("steps", "country", "message"),
    [
        (("lower",), "", "no normalise step 'lower'; there are nfkc, trim"),
        (("trim", "trim"), "", "twice"),
        (("trim",), "86", "goes with the step e164"),
        (("e164",), "999", "no dialling plan for country code '999'"),
        (("e164",), "+86", "no dialling plan"),
        (("digits", "e164"), "86", "digits takes away"),
    ],
)
def test_bad_steps_are_refused_when_they_are_written(steps: tuple[str, ...], country: str, message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("+", r"\+")):
        Normaliser(steps, country)


def test_trim_takes_all_that_python_takes_for_blank() -> None:
    blank = {character for character in map(chr, range(sys.maxunicode + 1)) if character.isspace()}
    assert blank <= set(EDGES)
    assert not any(unicodedata.category(character)[0] in "LMNS" for character in EDGES)


_CHAINS = st.lists(st.sampled_from(TEXTS), unique=True).map(tuple)


@settings(deadline=None, max_examples=200)
@given(steps=_CHAINS, text=st.text(max_size=12))
def test_chains_of_text_are_idempotent(steps: tuple[str, ...], text: str) -> None:
    normaliser = Normaliser(steps)
    once = normaliser.apply(text)
    assert normaliser.apply(once) == once


@pytest.mark.parametrize("steps", [("nfkc", "casefold"), ("casefold", "nfkc")])
def test_every_character_settles(steps: tuple[str, ...]) -> None:
    """Those that change at all, between others that may combine with them."""
    normaliser = Normaliser(steps)
    for character in map(chr, (*range(0xD800), *range(0xE000, 0x20000))):
        if unicodedata.normalize("NFKC", character).casefold() != character:
            once = normaliser.apply(f"a\u0345{character}\u0301\u0345")
            assert normaliser.apply(once) == once


_NUMBERS = st.text("0123456789+-() ", min_size=6, max_size=20)


@settings(deadline=None, max_examples=200)
@given(country=st.sampled_from(["", *PLANS]), text=_NUMBERS)
def test_what_e164_gives_it_leaves(country: str, text: str) -> None:
    normaliser = Normaliser(("e164",), country)
    try:
        number = normaliser.apply(text)
    except ValueError:
        return
    assert number[0] == "+"
    assert 7 <= len(number[1:]) <= 15
    assert number[1:].isdecimal()
    assert {Normaliser(("e164",), other).apply(number) for other in ("", *PLANS)} == {number}
