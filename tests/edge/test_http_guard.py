"""Request heads that two readers could understand differently are refused, over real TLS, before anything is routed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from proxy.edge import http_layer
from proxy.edge.http_guard import MAX_FIELDS, MAX_HEAD, Head, read_head
from proxy.refusal import Refusal
from tests.support.edge import GET, Edge
from tests.support.servers import Authority

HOST = b"Host: localhost\r\n"


@pytest.fixture(scope="module")
def edge(authority: Authority) -> Iterator[Edge]:
    with Edge(authority) as one:
        yield one


def lines(*fields: bytes, start: bytes = b"POST /hook HTTP/1.1") -> bytes:
    return b"\r\n".join((start, *fields)) + b"\r\n\r\n"


def start(line: bytes) -> bytes:
    return lines(b"Host: localhost", start=line)


BAD_START = {
    "absolute form": b"GET http://localhost/hook HTTP/1.1",
    "absolute form to another": b"GET http://169.254.169.254/latest HTTP/1.1",
    "absolute form, https": b"GET https://localhost/hook HTTP/1.1",
    "authority form": b"GET localhost:443 HTTP/1.1",
    "asterisk form": b"GET * HTTP/1.1",
    "network path": b"GET //evil.example/hook HTTP/1.1",
    "empty segment": b"GET /hook//more HTTP/1.1",
    "dot segments": b"GET /hook/../admin HTTP/1.1",
    "dot segment at the end": b"GET /hook/.. HTTP/1.1",
    "single dot": b"GET /./hook HTTP/1.1",
    "encoded dots": b"GET /%2e%2e/hook HTTP/1.1",
    "encoded slash": b"GET /hook%2fmore HTTP/1.1",
    "encoded nul": b"GET /hook%00 HTTP/1.1",
    "backslash": b"GET /hook\\more HTTP/1.1",
    "fragment": b"GET /hook#top HTTP/1.1",
    "no path": b"GET ?a=b HTTP/1.1",
    "raw utf-8": b"GET /h\xc3\xb6k HTTP/1.1",
    "control character": b"GET /hook\x01 HTTP/1.1",
    "nul": b"GET /hook\x00 HTTP/1.1",
    "two blanks": b"GET  /hook HTTP/1.1",
    "blank in the target": b"GET /hook more HTTP/1.1",
    "tab": b"GET\t/hook\tHTTP/1.1",
    "trailing blank": b"GET /hook HTTP/1.1 ",
    "leading blank": b" GET /hook HTTP/1.1",
    "no version": b"GET /hook",
    "http/0.9": b"GET /hook HTTP/0.9",
    "http/1.9": b"GET /hook HTTP/1.9",
    "http/1.11": b"GET /hook HTTP/1.11",
    "http/2.0": b"GET /hook HTTP/2.0",
    "small letters": b"GET /hook http/1.1",
    "another protocol": b"GET /hook RTSP/1.0",
    "a streaming protocol": b"DESCRIBE /hook RTSP/1.0",
    "ice": b"SOURCE /hook ICE/1.0",
    "http/2 preface": b"PRI * HTTP/2.0",
    "method in small letters": b"get /hook HTTP/1.1",
    "method with a sign": b"G-T /hook HTTP/1.1",
    "bare lf inside": b"GET /hook HTTP/1.1\nX: y",
    "bare cr inside": b"GET /hook HTTP/1.1\rX: y",
    "smuggled behind bare lf": b"GET /hook HTTP/1.1\nHost: localhost\n\nGET /hook HTTP/1.1",
    "empty line first": b"",
}


@pytest.mark.parametrize("name", BAD_START)
def test_a_malformed_request_line_is_refused(edge: Edge, name: str) -> None:
    _refused(edge, start(BAD_START[name]), 400, "http_malformed")


@pytest.mark.parametrize(
    "line",
    [
        b"CONNECT localhost:443 HTTP/1.1",
        b"CONNECT /hook HTTP/1.1",
        b"TRACE /hook HTTP/1.1",
        b"OPTIONS /hook HTTP/1.1",
        b"OPTIONS * HTTP/1.1",
        b"HEAD /hook HTTP/1.1",
        b"PROPFIND /hook HTTP/1.1",
        b"XYZZY /hook HTTP/1.1",
    ],
)
def test_methods_that_are_not_served_are_refused(edge: Edge, line: bytes) -> None:
    _refused(edge, start(line), 501, "http_unsupported")


def test_upgrades_are_refused(edge: Edge) -> None:
    websocket = (b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Version: 13")
    key = b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="
    for fields in ((*websocket, key), (b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABk"), (b"upgrade: TLS/1.0",)):
        _refused(edge, lines(HOST.strip(), *fields, start=b"GET /hook HTTP/1.1"), 501, "http_unsupported")
    _refused(edge, lines(HOST.strip(), b"HTTP2-Settings: AAMAAABk"), 501, "http_unsupported")


BAD_FIELDS = {
    "no host": (b"X: y",),
    "two hosts": (b"Host: localhost", b"Host: localhost"),
    "two different hosts": (b"Host: localhost", b"host: evil.example"),
    "empty host": (b"Host:",),
    "host list": (b"Host: localhost, evil.example",),
    "host with user": (b"Host: me@localhost",),
    "host with path": (b"Host: localhost/hook",),
    "host with a blank": (b"Host: local host",),
    "folded": (b"Host: localhost", b"X: one", b" two"),
    "folded with a tab": (b"Host: localhost", b"X: one", b"\ttwo"),
    "folded first": (b" Host: localhost",),
    "folded framing": (b"Host: localhost", b"Transfer-Encoding:", b" chunked"),
    "space before colon": (b"Host: localhost", b"X : y"),
    "space before colon of a length": (b"Host: localhost", b"Content-Length : 5"),
    "tab before colon": (b"Host: localhost", b"X\t: y"),
    "no colon": (b"Host: localhost", b"X"),
    "no name": (b"Host: localhost", b": y"),
    "name of another alphabet": (b"Host: localhost", b"X\xe4: y"),
    "name with a slash": (b"Host: localhost", b"X/Y: z"),
    "cr in a value": (b"Host: localhost", b"X: a\rb"),
    "lf in a value": (b"Host: localhost", b"X: a\nb"),
    "hidden field behind lf": (b"Host: localhost", b"X: a\nTransfer-Encoding: chunked"),
    "nul in a value": (b"Host: localhost", b"X: a\0b"),
    "escape in a value": (b"Host: localhost", b"X: \x1b[2J"),
    "delete in a value": (b"Host: localhost", b"X: a\x7fb"),
    "cr at the end": (b"Host: localhost", b"X: a\r"),
    "two framings": (b"Host: localhost", b"Content-Length: 5", b"Transfer-Encoding: chunked"),
    "two framings, reversed": (b"Host: localhost", b"Transfer-Encoding: chunked", b"Content-Length: 5"),
    "gzip and chunked": (b"Host: localhost", b"Transfer-Encoding: gzip, chunked"),
    "chunked not last": (b"Host: localhost", b"Transfer-Encoding: chunked, gzip"),
    "chunked twice": (b"Host: localhost", b"Transfer-Encoding: chunked, chunked"),
    "chunked in two fields": (b"Host: localhost", b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"),
    "identity": (b"Host: localhost", b"Transfer-Encoding: identity"),
    "identity then chunked": (b"Host: localhost", b"Transfer-Encoding: identity", b"Transfer-Encoding: chunked"),
    "unknown coding": (b"Host: localhost", b"Transfer-Encoding: xchunked"),
    "coding with a parameter": (b"Host: localhost", b"Transfer-Encoding: chunked;q=1"),
    "coding with a vertical tab": (b"Host: localhost", b"Transfer-Encoding: \x0bchunked"),
    "empty coding": (b"Host: localhost", b"Transfer-Encoding:"),
    "two lengths": (b"Host: localhost", b"Content-Length: 5", b"Content-Length: 6"),
    "two equal lengths": (b"Host: localhost", b"Content-Length: 5", b"Content-Length: 5"),
    "list of lengths": (b"Host: localhost", b"Content-Length: 5, 5"),
    "plus": (b"Host: localhost", b"Content-Length: +5"),
    "minus": (b"Host: localhost", b"Content-Length: -5"),
    "hexadecimal": (b"Host: localhost", b"Content-Length: 0x5"),
    "underscore": (b"Host: localhost", b"Content-Length: 1_0"),
    "fraction": (b"Host: localhost", b"Content-Length: 5.0"),
    "blank inside a length": (b"Host: localhost", b"Content-Length: 1 0"),
    "empty length": (b"Host: localhost", b"Content-Length:"),
    "other digits": (b"Host: localhost", b"Content-Length: \xd9\xa5"),
    "eleven digits": (b"Host: localhost", b"Content-Length: 00000000005"),
}


@pytest.mark.parametrize("name", BAD_FIELDS)
def test_malformed_fields_are_refused(edge: Edge, name: str) -> None:
    _refused(edge, lines(*BAD_FIELDS[name]), 400, "http_malformed")


@pytest.mark.parametrize("fields", [b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked\r\nHost: localhost"])
def test_http_1_0_cannot_be_chunked(edge: Edge, fields: bytes) -> None:
    _refused(edge, lines(fields, start=b"POST /hook HTTP/1.0"), 400, "http_malformed")


def test_http_1_0_with_two_hosts_is_refused(edge: Edge) -> None:
    _refused(edge, lines(b"Host: a", b"Host: a", start=b"GET /hook HTTP/1.0"), 400, "http_malformed")


def test_heads_too_large_are_refused(edge: Edge) -> None:
    _refused(edge, lines(*[b"Host: localhost", *[b"X: y"] * 10_000]), 431, "http_head_too_large")
    _refused(edge, lines(*[b"Host: localhost", *[b"X: y"] * MAX_FIELDS]), 431, "http_head_too_large")
    _refused(edge, lines(b"Host: localhost", b"X: " + bytes(32 * 1024)), 431, "http_head_too_large")
    # without an end, in many pieces
    with edge.caller() as caller:
        for _ in range(3):
            caller.send(b"GET /hook HTTP/1.1\r\nX: " + b"y" * (MAX_HEAD // 2 - 22))
        assert caller.answer().code == "http_head_too_large"


def test_the_largest_heads_are_taken(edge: Edge) -> None:
    many = lines(*[b"Host: localhost", *[b"X: y"] * (MAX_FIELDS - 1)], start=b"GET /hook HTTP/1.1")
    assert edge.ask(many).status == 200
    long = lines(b"Host: localhost", b"X: " + b"y" * (MAX_HEAD - 100), start=b"GET /hook HTTP/1.1")
    assert edge.ask(long).status == 200


def test_a_head_in_single_bytes_is_understood_as_in_one(edge: Edge) -> None:
    with edge.caller() as caller:
        for at in range(len(GET)):
            caller.send(GET[at : at + 1])
        assert caller.answer().status == 200


@pytest.mark.parametrize("raw", [*map(start, BAD_START.values()), *(lines(*it) for it in BAD_FIELDS.values())])
def test_the_guard_refuses_alone(raw: bytes) -> None:
    """Without the help of the second reader."""
    with pytest.raises(Refusal, match="http_malformed"):
        read_head(raw)


LAX = {
    "a field more": Head("GET", "/hook", "", ((b"host", b"localhost"), (b"x", b"y")), "localhost", 0, True, False),
    "a query more": Head("GET", "/hook", "a", ((b"host", b"localhost"),), "localhost", 0, True, False),
    "a length": Head("GET", "/hook", "", ((b"host", b"localhost"),), "localhost", 5, True, False),
    "chunked": Head("GET", "/hook", "", ((b"host", b"localhost"),), "localhost", None, True, False),
}


@pytest.mark.parametrize("name", LAX)
def test_the_second_reader_refuses_alone(edge: Edge, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A guard that understands a request differently than llhttp does."""
    monkeypatch.setattr(http_layer, "read_head", lambda _: LAX[name])
    count = len(edge.gateway.arrived)
    assert edge.ask(GET + b"0\r\n\r\n").code == "http_malformed"
    assert len(edge.gateway.arrived) == count


@pytest.mark.parametrize("field", [b"Content-Length: 5", b"Transfer-Encoding: chunked"])
def test_a_framing_the_guard_overlooked_is_refused(edge: Edge, monkeypatch: pytest.MonkeyPatch, field: bytes) -> None:
    head = Head("GET", "/hook", "", ((b"host", b"localhost"), (b"x", b"y")), "localhost", 0, True, False)
    monkeypatch.setattr(http_layer, "read_head", lambda _: head)
    count = len(edge.gateway.arrived)
    assert edge.ask(lines(HOST.strip(), field, start=b"GET /hook HTTP/1.1")).code == "http_malformed"
    assert len(edge.gateway.arrived) == count


GOOD = [
    (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", ("GET", "/", "", "a", 0)),
    (b"GET /a?b=c%2Fd&e HTTP/1.1\r\nHOST:a:1\r\n\r\n", ("GET", "/a", "b=c%2Fd&e", "a", 0)),
    (b"GET /a? HTTP/1.1\r\nHost: [::1]:443\r\n\r\n", ("GET", "/a", "", "[::1]", 0)),
    (b"POST /a~b/c;d=e HTTP/1.1\r\nHost: A.b\r\nContent-Length: 010\r\n\r\n", ("POST", "/a~b/c;d=e", "", "a.b", 10)),
    (b"PUT /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n", ("PUT", "/a", "", "a", None)),
    (b"PATCH /... HTTP/1.1\r\nHost: a\r\nX: \xe4\t\xf6 \r\n\r\n", ("PATCH", "/...", "", "a", 0)),
]


@pytest.mark.parametrize(("raw", "expected"), GOOD)
def test_well_formed_heads_are_read(raw: bytes, expected: tuple[str, str, str, str, int | None]) -> None:
    head = read_head(raw)
    assert (head.method, head.path, head.query, head.host, head.length) == expected


def test_values_are_trimmed_and_names_lowered() -> None:
    head: Head = read_head(b"GET / HTTP/1.1\r\nHost: a\r\nX-Y: \t b c \t\r\n\r\n")
    assert head.headers == ((b"host", b"a"), (b"x-y", b"b c"))
    assert head.keep_alive


def test_expect_is_unknown_to_http_1_0() -> None:
    assert not read_head(b"POST / HTTP/1.0\r\nExpect: 100-continue\r\n\r\n").expects_continue
    with pytest.raises(Refusal, match="http_expectation"):
        read_head(b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nExpect: 100-continue\r\n\r\n")


def _refused(edge: Edge, request: bytes, status: int, code: str) -> None:
    """Refused with `code`, the connection closed, and what came behind it never read as a request."""
    count = len(edge.gateway.arrived)
    with edge.caller() as caller:
        answer = caller.ask(request + GET)
        assert (answer.status, answer.code, answer.headers["connection"]) == (status, code, "close")
        assert caller.end() == "close_notify"
    assert len(edge.gateway.arrived) == count
    assert edge.ledger.faults == []
