import mmap
from typing import Any

import pytest

from proxy.cleared import StoredReply
from proxy.replay.arena import ReplyRing

SIZE = 800
LARGEST = SIZE // 8 - 24 - len("xml")  # 24: the head
A, B = b"a" * 16, b"b" * 16


@pytest.fixture
def ring() -> ReplyRing:
    memory = mmap.mmap(-1, 8 + SIZE)
    return ReplyRing(memory, 8, SIZE, memoryview(memory)[:8].cast("Q"))


def kept(ring: ReplyRing, key: bytes, reply: StoredReply) -> int:
    position = ring.append(key, reply)
    assert position is not None
    return position


@pytest.mark.parametrize("reply", [StoredReply("xml", b"<xml/>"), StoredReply("json", b""), StoredReply("", b"\0\xff")])
def test_gives_back_what_it_was_given(ring: ReplyRing, reply: StoredReply) -> None:
    kept(ring, A, StoredReply("xml", b"before"))
    position = kept(ring, A, reply)
    kept(ring, A, StoredReply("xml", b"after"))
    assert ring.read(A, position) == reply


def test_a_reply_is_never_read_for_another_message(ring: ReplyRing) -> None:
    assert ring.read(B, kept(ring, A, StoredReply("xml", b"for a"))) is None


def test_the_largest_reply_fits_and_one_byte_more_does_not(ring: ReplyRing) -> None:
    largest = StoredReply("xml", b"x" * LARGEST)
    assert ring.read(A, kept(ring, A, largest)) == largest
    assert ring.append(A, StoredReply("xml", b"x" * (LARGEST + 1))) is None


def test_a_ring_of_no_bytes_keeps_nothing() -> None:
    memory = mmap.mmap(-1, 8)
    assert ReplyRing(memory, 8, 0, memoryview(memory).cast("Q")).append(A, StoredReply("xml", b"")) is None


def test_what_is_read_is_whole_or_gone(ring: ReplyRing) -> None:
    written: list[tuple[bytes, int, StoredReply]] = []
    for number in range(200):
        key, reply = number.to_bytes(16), StoredReply("xml", bytes([number]) * (number * 7 % (LARGEST + 1)))
        written.append((key, kept(ring, key, reply), reply))
        found = [ring.read(key, position) for key, position, _ in written]
        gone = [reply is None for reply in found]
        assert gone == sorted(gone, reverse=True), "the oldest go first"
        assert all(read in (None, reply) for read, (_, _, reply) in zip(found, written, strict=True))
        assert gone[-min(len(gone), 7) :].count(True) == 0, "seven of the largest always fit"


class Killed(Exception):
    pass


class TornMemory(mmap.mmap):
    """Raises after a write when told to, as a writer that is killed there goes no further."""

    torn = False

    def __setitem__(self, where: Any, what: Any) -> None:
        super().__setitem__(where, what)
        if self.torn:
            raise Killed


def test_what_a_killed_writer_overwrote_counts_as_gone() -> None:
    memory = TornMemory(-1, 8 + SIZE)
    ring = ReplyRing(memory, 8, SIZE, memoryview(memory)[:8].cast("Q"))
    positions = [kept(ring, A, StoredReply("xml", b"x" * LARGEST)) for _ in range(8)]
    memory.torn = True
    with pytest.raises(Killed):
        ring.append(A, StoredReply("xml", b"y" * LARGEST))
    assert [ring.read(A, position) is None for position in positions] == [True] + [False] * 7
