"""The bytes of a request; what could become a second request or other framing is refused."""

from __future__ import annotations

import pytest

from proxy.edge.upstream_request import encode
from proxy.refusal import Refusal
from tests.edge.upstream_support import request

_OWN = b"host: crm\r\nconnection: keep-alive\r\naccept-encoding: identity\r\n"


def test_a_body_is_counted() -> None:
    raw = encode(request(headers=((b"X-A", b"b c"),), body=b"abc"), _OWN)
    assert raw == b"POST /push HTTP/1.1\r\n" + _OWN + b"X-A: b c\r\ncontent-length: 3\r\n\r\nabc"


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
def test_an_empty_body_is_counted_where_one_is_expected(method: str) -> None:
    raw = encode(request(method, headers=(), body=b""), _OWN)
    assert raw == method.encode() + b" /push HTTP/1.1\r\n" + _OWN + b"content-length: 0\r\n\r\n"


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE", "OPTIONS"])
def test_no_body_no_length(method: str) -> None:
    raw = encode(request(method, headers=(), body=b""), _OWN)
    assert raw == method.encode() + b" /push HTTP/1.1\r\n" + _OWN + b"\r\n"


@pytest.mark.parametrize("method", ["CONNECT", "TRACE", "get", "", "GET /evil HTTP/1.1\r\nx:", "PRI"])
def test_other_methods_are_refused(method: str) -> None:
    with pytest.raises(Refusal, match="not_cleared"):
        encode(request(method), _OWN)


@pytest.mark.parametrize("target", ["", "*", "a", "http://a/", "/a b", "/a\r\nx: y", "/a\n", "/\0", "/é", "/\x7f"])
def test_targets_that_are_not_in_origin_form_are_refused(target: str) -> None:
    with pytest.raises(Refusal, match="not_cleared"):
        encode(request(target=target), _OWN)


@pytest.mark.parametrize("name", [b"", b"a b", b"a:", b"a\r\nb", b"a\n", b"a\0", b"\xc3\xa9", b" a"])
def test_names_that_are_no_tokens_are_refused(name: bytes) -> None:
    with pytest.raises(Refusal, match="not_cleared"):
        encode(request(headers=((name, b"x"),)), _OWN)


@pytest.mark.parametrize("value", [b"a\r\nb: c", b"a\r", b"a\n", b"\0", b"\x7f", b"\x1b"])
def test_values_with_controls_are_refused(value: bytes) -> None:
    with pytest.raises(Refusal, match="not_cleared"):
        encode(request(headers=((b"a", value),)), _OWN)


@pytest.mark.parametrize("name", [b"Host", b"content-length", b"Transfer-Encoding", b"CONNECTION", b"expect", b"te"])
def test_fields_of_framing_and_connection_are_refused(name: bytes) -> None:
    with pytest.raises(Refusal, match="not_cleared"):
        encode(request(headers=((name, b"x"),)), _OWN)
