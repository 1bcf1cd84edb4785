"""Masks: what stays of a value, and that short values do not stay whole."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.crypto.mask import MASK, Mask


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
