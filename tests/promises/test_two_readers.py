"""Two readers look at every request. Each alone refuses what differs, so that a fault in one is no way in.

Over a socket one of them would hide that the other had gone; here each is asked by itself.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from proxy.edge import http_layer
from proxy.edge.http_body import Body
from proxy.edge.http_guard import Head, read_head
from proxy.emulate.stage import PUSH_PATH
from proxy.refusal import Refusal
from tests.promises.house import House, http

HEAD = b"POST /a HTTP/1.1\r\nHost: a\r\n"


@pytest.mark.parametrize(
    "fields",
    [
        b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: gzip, chunked\r\n",
        b"Content-Length: 5\r\nContent-Length: 5\r\n",
        b"Content-Length: +5\r\n",
        b"A: b\rc\r\n",
        b"A: b\0c\r\n",
        b"A: b\x7fc\r\n",
        b"A: b\r\n c\r\n",
        b"A : b\r\n",
        b"Host: b\r\n",
    ],
)
def test_the_first_reader_refuses_alone(fields: bytes) -> None:
    assert read_head(HEAD + b"\r\n").path == "/a"
    with pytest.raises(Refusal, match="http_malformed"):
        read_head(HEAD + fields + b"\r\n")


@pytest.mark.parametrize("chunks", [b"0\r\nA: b\r\n\r\n", b"1\r\na\r\n0\r\nA: b\r\n\r\n", b"1\r\nab\r\n0\r\n\r\n"])
def test_the_first_reader_takes_no_trailers_and_no_other_sizes(chunks: bytes) -> None:
    with pytest.raises(Refusal, match="http_malformed"):
        Body(None, 100).feed(bytearray(chunks))


MISTAKES: dict[str, dict[str, object]] = {
    "another path": {"path": PUSH_PATH},
    "another query": {"query": "a=b"},
    "a field less": {"headers": ((b"host", b"localhost"),)},
    "a shorter body": {"length": 3},
    "no body": {"length": 0},
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_the_second_reader_refuses_what_the_first_misunderstood(
    house: House, monkeypatch: pytest.MonkeyPatch, mistake: str
) -> None:
    delivery = house.files.pusher.deliver(house.text())
    path = "/elsewhere" if mistake == "another path" else PUSH_PATH

    def mistaken(raw: bytes) -> Head:
        return replace(read_head(raw), **MISTAKES[mistake])

    monkeypatch.setattr(http_layer, "read_head", mistaken)
    sent = house.sent
    got = house.ask(house.files.public, http("POST", f"{path}?{delivery.query}", delivery.body))
    assert got.status == 400 and b'"http_malformed"' in got.body
    assert house.sent == sent
