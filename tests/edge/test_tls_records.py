"""However a caller's records are cut and joined on the wire, each request in them is answered, at once."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.edge.tls_records import RecordCounter
from tests.support.edge import GET, Edge, RecordCaller, until
from tests.support.servers import Authority


@pytest.fixture(scope="module")
def edge(authority: Authority) -> Iterator[Edge]:
    with Edge(authority) as running:
        yield running


def record(content: bytes) -> bytes:
    return b"\x17\x03\x03" + len(content).to_bytes(2) + content


CONTENTS = st.lists(st.binary(max_size=300), max_size=6)


@given(CONTENTS, st.lists(st.integers(0, 2000)))
def test_one_record_is_told_from_everything_else(contents: list[bytes], cuts: list[int]) -> None:
    wire = b"".join(map(record, contents))
    borders, at = [0], 0
    for content in contents:
        at += 5 + len(content)
        borders.append(at)
    places = sorted({0, len(wire), *(cut % (len(wire) + 1) for cut in cuts)})
    counter, whole = RecordCounter(), True
    for begin, end in pairwise(places):
        whole = whole and end in borders
        single = whole and borders.index(end) == borders.index(begin) + 1
        assert counter.is_one_record(wire[begin:end]) is single


def test_a_flood_of_empty_records_is_not_counted_to_its_end() -> None:
    few, many = RecordCounter(), RecordCounter()
    assert not few.is_one_record(record(b"") * 16)
    assert few.is_one_record(record(b"x"))
    assert not many.is_one_record(record(b"") * 17)
    assert not many.is_one_record(record(b"x")), "where it ended is not known any more"


def together(pieces: list[bytes]) -> list[bytes]:
    return [b"".join(pieces)]


def within_the_second(pieces: list[bytes]) -> list[bytes]:
    return [pieces[0] + pieces[1][:30], pieces[1][30:] + pieces[2]]


def within_a_header(pieces: list[bytes]) -> list[bytes]:
    return [pieces[0] + pieces[1][:3], pieces[1][3:], pieces[2]]


def each_on_its_own(pieces: list[bytes]) -> list[bytes]:
    return pieces


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("arrange", [together, within_the_second, within_a_header, each_on_its_own])
@pytest.mark.parametrize("with_the_handshake", [False, True])
def test_every_request_is_answered(
    edge: Edge, version: ssl.TLSVersion, arrange: Callable[[list[bytes]], list[bytes]], with_the_handshake: bool
) -> None:
    context = edge.trust()
    context.maximum_version = version
    with edge.caller() as caller:
        size = len(caller.ask(GET).raw)
    with edge.dial() as sock:
        sock.settimeout(10)
        client = RecordCaller(sock, context)
        begin = client.written()
        if not with_the_handshake:
            sock.sendall(begin)
            begin = b""
        for piece in arrange([client.written(GET) for _ in range(3)]):
            sock.sendall(begin + piece)
            begin = b""
        answers = client.read(3 * size)
    assert answers.count(b"HTTP/1.1 200 OK") == 3


def test_the_end_that_comes_with_a_request_is_not_missed(edge: Edge) -> None:
    with edge.dial() as sock:
        sock.settimeout(10)
        client = RecordCaller(sock, edge.trust())
        sock.sendall(client.written() + client.written(GET) + client.closing())
        assert client.read(1 << 16).count(b"HTTP/1.1 200 OK") == 1


def test_the_handshake_counts_too(edge: Edge) -> None:
    """The rest of a record that began with the handshake looks like a whole one, and others come with it."""
    with edge.caller() as caller:
        size = len(caller.ask(GET).raw)
    for _ in range(50):  # ciphertext is as good as random: one in thirty has no place that looks so
        with edge.dial() as sock:
            sock.settimeout(10)
            client = RecordCaller(sock, edge.trust())
            begin, first, *others = client.written(), *[client.written(GET) for _ in range(41)]
            cut, seeming = lookalike(first, len(others[0]), len(b"".join(others)))
            if not cut:
                continue
            before = edge.handshakes
            sock.sendall(begin + first[:cut])
            until(partial(edge.has_shaken_hands, before))
            sock.sendall((first[cut:] + b"".join(others))[:seeming])
            complete = 1 + (seeming - len(first) + cut) // len(others[0])
            assert client.read(complete * size).count(b"HTTP/1.1 200 OK") == complete > 1
            return
    raise AssertionError("no ciphertext looked like a header")


def lookalike(wire: bytes, least: int, most: int) -> tuple[int, int]:
    """Where `wire` seems to go on with a record, as long as the rest of `wire` and `least` to `most` bytes more."""
    for cut in range(1, len(wire) - 5):
        seeming = 5 + int.from_bytes(wire[cut + 3 : cut + 5])
        if least <= seeming - len(wire) + cut <= most:
            return cut, seeming
    return 0, 0
