import mmap
import random
import struct
from collections.abc import Iterator
from typing import Any

import pytest

from proxy.replay.table import KEY, NO_ROOM, WAYS, Table, buckets_for

BODY = struct.Struct("=Q")
NOW = 1000.0


@pytest.fixture
def table() -> Iterator[Table]:
    made = Table(mmap.mmap(-1, Table.size(1, BODY)), 0, 1, BODY, 12345)
    yield made
    made.close()


def put(table: Table, key: bytes, until: float, value: int) -> None:
    slot, _ = table.locate(key, NOW)
    assert slot != NO_ROOM
    table.put(slot, key, until, value)


def find(table: Table, key: bytes) -> int | None:
    slot, there = table.locate(key, NOW)
    return slot if there else None


def room(table: Table, now: float) -> int:
    slot, there = table.locate(b"k" * KEY, now)
    assert not there
    return slot


def value(table: Table, key: bytes) -> int | None:
    slot = find(table, key)
    return None if slot is None else int(table.get(slot)[0])


def test_keeps_what_was_put_by_all_sixteen_bytes(table: Table) -> None:
    key = bytes(range(KEY))
    put(table, key, NOW + 1, 7)
    assert value(table, key) == 7
    for place in range(KEY):
        other = bytearray(key)
        other[place] ^= 1
        assert value(table, bytes(other)) is None


def test_bytes_across_two_keys_are_no_key(table: Table) -> None:
    put(table, bytes(range(16)), NOW + 1, 1)
    put(table, bytes(range(16, 32)), NOW + 1, 2)
    for start in range(1, 16):
        assert value(table, bytes(range(start, start + 16))) is None


def test_a_key_that_first_shows_up_across_two_keys_is_found_in_its_own_place(table: Table) -> None:
    put(table, b"x" * 8 + b"a" * 8, NOW + 1, 1)
    put(table, b"a" * 8 + b"y" * 8, NOW + 1, 2)
    put(table, b"a" * 16, NOW + 1, 3)
    assert value(table, b"a" * 16) == 3


@pytest.mark.parametrize(
    "keys",
    [
        [bytes(16)],  # all zeros, as where nothing was written
        [b"x" * 8 + bytes(8), bytes(8) + b"y" * 8],  # as many zeros across two of them
        [b"x" + bytes(15), bytes(15) + b"y"],
    ],
)
def test_keys_that_look_like_unused_places_are_never_written_over(table: Table, keys: list[bytes]) -> None:
    for number, key in enumerate(keys):
        put(table, key, NOW + 10, number)
    for number in range(WAYS - len(keys)):
        put(table, b"%016d" % number, NOW + 10, 100 + number)
    assert [value(table, key) for key in keys] == list(range(len(keys)))
    assert [value(table, b"%016d" % number) for number in range(WAYS - len(keys))] == [
        100 + number for number in range(WAYS - len(keys))
    ]
    assert room(table, NOW) == NO_ROOM


def test_empty_slots_are_not_the_zero_key(table: Table) -> None:
    assert value(table, bytes(KEY)) is None


@pytest.mark.parametrize("key", [b"", b"short", bytes(17)])
def test_refuses_keys_of_another_length(table: Table, key: bytes) -> None:
    with pytest.raises(ValueError, match="16 bytes"):
        table.locate(key, NOW)


def test_never_evicts_a_living_record_and_reuses_a_dead_one(table: Table) -> None:
    for number in range(WAYS):
        put(table, number.to_bytes(KEY), NOW + 10 + number, number)
    assert room(table, NOW) == NO_ROOM
    assert room(table, NOW + 9.9) == NO_ROOM
    assert room(table, NOW + 10) == find(table, bytes(KEY))


def test_extending_never_shortens(table: Table) -> None:
    put(table, b"k" * KEY, NOW + 10, 1)
    slot = find(table, b"k" * KEY)
    assert slot is not None
    table.extend(slot, NOW + 5)
    assert table.lives(slot, NOW + 9)
    table.extend(slot, NOW + 20)
    assert table.lives(slot, NOW + 19) and not table.lives(slot, NOW + 20)


class Killed(Exception):
    pass


class TornBody(struct.Struct):
    """Writes half of a record, as a writer does that is killed."""

    torn = False

    def pack_into(self, buffer: Any, offset: int, *fields: Any) -> None:
        if not self.torn:
            super().pack_into(buffer, offset, *fields)
            return
        buffer[offset : offset + 4] = b"\xff" * 4
        raise Killed


@pytest.mark.parametrize("living", [False, True])
@pytest.mark.parametrize("doing", ["put", "change"])
def test_a_half_written_record_is_not_there(doing: str, living: bool) -> None:
    body = TornBody("=Q")
    table = Table(mmap.mmap(-1, Table.size(1, body)), 0, 1, body, 12345)
    put(table, b"k" * KEY, NOW + 10 if living else NOW - 10, 1)
    slot = find(table, b"k" * KEY)
    assert slot is not None
    body.torn = True
    with pytest.raises(Killed):
        if doing == "put":
            table.put(slot, b"k" * KEY, NOW + 10, 2)
        else:
            table.change(slot, 2)
    assert find(table, b"k" * KEY) is None
    body.torn = False
    put(table, b"k" * KEY, NOW + 10, 3)
    assert value(table, b"k" * KEY) == 3
    table.close()


def test_holds_as_many_records_as_promised() -> None:
    entries, chance = 20_000, random.Random(5)
    buckets = buckets_for(entries)
    table = Table(mmap.mmap(-1, Table.size(buckets, BODY)), 0, buckets, BODY, chance.getrandbits(128))
    keys = [chance.randbytes(KEY) for _ in range(entries)]
    for number, key in enumerate(keys):
        put(table, key, NOW + 1, number)
    assert all(value(table, key) == number for number, key in enumerate(keys))
    table.close()
