"""Messages are values: headers keep their duplicates, and nothing can be added to them."""

from __future__ import annotations

import pytest

from proxy.message import Peer, Request, Response, header_values

HEADERS = ((b"host", b"a"), (b"x", b"1"), (b"X", b"no"), (b"x", b"2"))


def test_all_values_of_a_header_in_order() -> None:
    assert header_values(HEADERS, b"x") == [b"1", b"2"]
    assert header_values(HEADERS, b"y") == []
    assert Request("GET", "/", "", HEADERS, b"").header(b"x") == [b"1", b"2"]


@pytest.mark.parametrize(
    "value",
    [Request("GET", "/", "", (), b""), Response(200, b""), Peer("public", "192.0.2.1", "TLSv1.3")],
    ids=lambda value: type(value).__name__,
)
def test_nothing_can_be_added_to_a_message(value: object) -> None:
    with pytest.raises((AttributeError, TypeError)):
        value.more = "other"  # type: ignore[attr-defined]


def test_a_repr_shows_nothing_that_nobody_may_log() -> None:
    request = Request("POST", "/a", "openid=secret", ((b"authorization", b"secret"),), b"secret")
    assert "secret" not in repr(request) + str(request) + f"{request}"
    assert "secret" not in repr(Response(200, b"secret"))
