"""Masks: what stays of a value, and that short values do not stay whole."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.crypto.mask import COMPOUND_SURNAMES, KINDS, MASK, KindMask, Mask


@pytest.mark.parametrize(
    ("first", "last", "text", "masked"),
    [
        (0, 4, "13800138000", "*******8000"),
        (3, 4, "13800138000", "****" + "*" * 7),  # seven of eleven would stay: more than half
        (3, 2, "13800138000", "138******00"),
        (1, 0, "张三", "张*"),
        (1, 0, "张", "*"),
        (0, 4, "1234567", "*******"),
        (0, 4, "12345678", "****5678"),
        (0, 0, "secret", "******"),
        (0, 0, "", "*"),
        (5, 5, "", "*"),
    ],
)
def test_masks(first: int, last: int, text: str, masked: str) -> None:
    assert Mask(first, last).apply(text) == masked


@settings(deadline=None)
@given(first=st.integers(0, 12), last=st.integers(0, 12), text=st.text(max_size=30))
def test_at_most_half_stays_and_never_all(first: int, last: int, text: str) -> None:
    masked = Mask(first, last).apply(text)
    assert len(masked) == max(len(text), 1)
    kept = len(masked) - len(masked[first : len(masked) - last] if first + last <= len(text) // 2 else masked)
    assert kept <= len(text) // 2
    assert MASK in masked
    inside = text.replace(MASK, "")
    if first + last > len(text) // 2:
        assert set(masked) == {MASK}
    elif inside:
        assert masked.startswith(text[:first])
        assert masked.endswith(text[len(text) - last :])


@pytest.mark.parametrize(
    ("kind", "text", "masked"),
    [
        ("name", "张三", "张*"),
        ("name", "张三丰", "张**"),
        ("name", "张", "*"),
        ("name", "欧阳小南", "欧阳**"),
        ("name", "歐陽小南", "歐陽**"),
        ("name", "欧阳锋", "欧**"),  # two of three would be more than half
        ("name", "欧阳", "欧*"),
        ("name", "阿依古丽·买买提", "阿*******"),
        ("name", "张三 Zhang San", "张***********"),
        ("name", "やまだ たろう", "や******"),
        ("name", "김철수", "김**"),
        ("name", "😀", "*"),
        ("name", "John Smith", "J*** S****"),
        ("name", "J Smith", "* S****"),
        ("name", "Jean-Luc  O'Neill", "J*******  O******"),
        ("name", "Élodie", "É*****"),
        ("phone", "13800138000", "138****8000"),
        ("phone", "+86 138-0013-8000", "+86 138-****-8000"),
        ("phone", "8613800138000", "86138****8000"),
        ("phone", "0086 13800138000", "0086 138****8000"),
        ("phone", "１３８００１３８０００", "１３８****８０００"),
        ("phone", "12800138000", "*******8000"),  # no mobile number
        ("phone", "138001380001", "********0001"),
        ("phone", "010-12345678", "***-****5678"),
        ("phone", "+1 (202) 555-0123", "+* (***) ***-0123"),
        ("phone", "12345678", "****5678"),
        ("phone", "1234567", "*******"),
        ("phone", "13800138000x1", "*************"),
        ("phone", "张三 13800138000", "*" * 14),
        ("phone", "- () -", "******"),
        ("id", "11010519491231002X", "**************002X"),
        ("id", "110105491231002", "***********1002"),
        ("id", "E12345678", "*****5678"),
        ("id", "1234567", "*******"),
        ("email", "zhang.san@example.com", "z********@example.com"),
        ("email", "z@example.com", "*@example.com"),
        ("email", "张三@qq.com", "张*@qq.com"),
        ("email", "a@b@example.com", "*" * 15),
        ("email", "zhang@", "******"),
        ("email", "@example.com", "*" * 12),
        ("email", "zhang@localhost", "*" * 15),
        ("email", "zhang@example.com and my address", "*" * 32),
        ("email", "zhang@example.com\n", "*" * 18),
        ("email", "zhang@-a.com", "*" * 12),
        ("email", "zhang@张三.cn", "*" * 11),
        ("email", "no address", "**********"),
    ],
)
def test_kinds(kind: str, text: str, masked: str) -> None:
    assert KindMask(kind).apply(text) == masked


@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_value_becomes_a_star(kind: str) -> None:
    assert KindMask(kind).apply("") == MASK


def test_a_domain_longer_than_dns_allows_is_no_domain() -> None:
    fits = ".".join(["a" * 60] * 4) + ".abcdefghi"
    assert len(fits) == 253
    assert KindMask("email").apply("zhang@" + fits) == "z****@" + fits
    assert set(KindMask("email").apply("zhang@" + fits + "j")) == {MASK}


def test_unknown_kinds_are_refused() -> None:
    with pytest.raises(ValueError, match="no mask for 'card'; there are name, phone, id, email"):
        KindMask("card")


def test_compound_surnames_are_pairs() -> None:
    assert {len(surname) for surname in COMPOUND_SURNAMES} == {2}


@settings(deadline=None)
@given(kind=st.sampled_from(["name", "id"]), text=st.text(min_size=1, max_size=30))
def test_names_and_ids_keep_half_at_most(kind: str, text: str) -> None:
    masked = KindMask(kind).apply(text)
    assert len(masked) == len(text)
    kept = [a for a, b in zip(text, masked, strict=True) if a == b and a != MASK and not a.isspace()]
    assert len(kept) <= len(text) // 2


@settings(deadline=None)
@given(text=st.text("0123456789+- ()", min_size=1, max_size=24))
def test_phones_keep_seven_digits_at_most_besides_a_code(text: str) -> None:
    masked = KindMask("phone").apply(text)
    digits = sum(character.isdecimal() for character in text)
    shown = sum(character.isdecimal() for character in masked)
    assert shown <= max(digits - 4, 0)
    assert shown in (0, 4, 7, 9, 11)
