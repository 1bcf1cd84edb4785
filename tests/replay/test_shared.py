import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from proxy.cleared import StoredReply
from proxy.ports import Claim, Delivery
from proxy.refusal import Refusal
from proxy.replay.shared import SharedDeliveries
from proxy.replay.table import WAYS, buckets_for

NOW, HOLD = 1_700_000_000.0, 5.0
REPLY = StoredReply("xml", b"<xml>for one follower</xml>")
SUCCESS = StoredReply("", b"success")
FIRST, PENDING = (Claim.FIRST, None), (Claim.PENDING, None)


def delivery(triple: int = 0, message: int = 0, payload: int = 0) -> Delivery:
    return Delivery(triple.to_bytes(16), payload.to_bytes(16), message.to_bytes(16))


def code(call: Callable[[], object]) -> str:
    with pytest.raises(Refusal) as caught:
        call()
    return caught.value.code


@pytest.fixture
def shared() -> Iterator[SharedDeliveries]:
    made = SharedDeliveries.create(100, 8000, processes=1)
    yield made
    made.close()


def test_a_repeat_waits_while_the_first_is_worked_on_and_then_gets_its_reply(shared: SharedDeliveries) -> None:
    assert shared.claim(delivery(), NOW, HOLD) == FIRST
    assert shared.claim(delivery(), NOW + 1, HOLD) == PENDING
    shared.settle(delivery(), REPLY, NOW + 2)
    assert shared.claim(delivery(), NOW + 60, HOLD) == (Claim.REPEAT, REPLY)


def test_a_new_triple_of_the_same_message_is_a_repeat_for_as_long_as_the_message_lives(
    shared: SharedDeliveries,
) -> None:
    shared.claim(delivery(1), NOW, HOLD)
    assert shared.claim(delivery(2), NOW + 1, HOLD) == PENDING
    shared.settle(delivery(1), REPLY, NOW + 2)
    assert shared.claim(delivery(3), NOW + 3, HOLD) == (Claim.REPEAT, REPLY)
    assert shared.claim(delivery(4), NOW + 699, HOLD) == (Claim.REPEAT, REPLY)
    assert shared.claim(delivery(4), NOW + 750, HOLD) == (Claim.REPEAT, REPLY), "a message lives as long as its triples"
    assert shared.claim(delivery(5), NOW + 699 + 700, HOLD) == FIRST


@pytest.mark.parametrize("at", [0.0, 59.0, 61.0, 699.0])
def test_the_same_triple_with_another_payload_is_a_conflict(shared: SharedDeliveries, at: float) -> None:
    shared.claim(delivery(), NOW, HOLD)
    assert code(lambda: shared.claim(delivery(payload=1), NOW + at, HOLD)) == "delivery_conflict"
    assert code(lambda: shared.claim(delivery(message=1), NOW + at, HOLD)) == "delivery_conflict"


def test_the_triples_of_repeats_are_remembered_too(shared: SharedDeliveries) -> None:
    shared.claim(delivery(1), NOW, HOLD)
    shared.claim(delivery(2), NOW, HOLD)
    assert code(lambda: shared.claim(delivery(2, payload=1), NOW, HOLD)) == "delivery_conflict"


def test_a_triple_is_replayed_after_the_repeat_window_and_until_it_is_forgotten(shared: SharedDeliveries) -> None:
    shared.claim(delivery(), NOW, HOLD)
    shared.settle(delivery(), REPLY, NOW)
    assert code(lambda: shared.claim(delivery(), NOW + 60.5, HOLD)) == "delivery_replayed"
    assert code(lambda: shared.claim(delivery(), NOW + 699.5, HOLD)) == "delivery_replayed"
    assert shared.claim(delivery(), NOW + 700, HOLD) == FIRST


def test_a_released_message_is_first_again(shared: SharedDeliveries) -> None:
    shared.claim(delivery(1), NOW, HOLD)
    shared.release(delivery(1))
    assert shared.claim(delivery(1), NOW + 1, HOLD) == FIRST
    shared.release(delivery(1))
    assert shared.claim(delivery(2), NOW + 1, HOLD) == FIRST


def test_a_claim_whose_hold_ran_out_is_first_again(shared: SharedDeliveries) -> None:
    shared.claim(delivery(), NOW, HOLD)
    assert shared.claim(delivery(), NOW + 4.5, HOLD) == PENDING
    assert shared.claim(delivery(), NOW + 5, HOLD) == FIRST
    assert shared.claim(delivery(), NOW + 9.5, HOLD) == PENDING


def test_what_is_settled_stays_settled(shared: SharedDeliveries) -> None:
    shared.claim(delivery(), NOW, HOLD)
    shared.settle(delivery(), REPLY, NOW)
    shared.release(delivery())
    shared.settle(delivery(), StoredReply("xml", b"later"), NOW)
    assert shared.claim(delivery(), NOW + 9, HOLD) == (Claim.REPEAT, REPLY)


def test_what_is_not_claimed_is_not_settled(shared: SharedDeliveries) -> None:
    shared.settle(delivery(), REPLY, NOW)
    shared.release(delivery())
    assert shared.claim(delivery(), NOW, HOLD) == FIRST
    shared.release(delivery())
    shared.settle(delivery(), REPLY, NOW)
    assert shared.claim(delivery(), NOW, HOLD) == FIRST


def test_a_claim_that_outlived_its_record_settles_nobody_else_s() -> None:
    shared = SharedDeliveries.create(1, 8000, processes=1)
    late, now = [delivery(number, number) for number in range(1, 4)], NOW
    for one in late:
        assert shared.claim(one, now, HOLD) == FIRST
    now += 10_000.0  # all their places are free again, and taken
    others = []
    for number in range(1000, 2000):  # until every place is
        with suppress(Refusal):
            shared.claim(delivery(number, number), now, HOLD)
            others.append(delivery(number, number))
    assert len(others) == WAYS * buckets_for(1)
    for one in late:
        shared.settle(one, REPLY, now)
        shared.release(one)
    assert [shared.claim(one, now, HOLD) for one in others] == [PENDING] * len(others)
    for one in others:
        shared.settle(one, REPLY, now)
    assert [shared.claim(one, now, HOLD) for one in others] == [(Claim.REPEAT, REPLY)] * len(others)
    assert not shared._claimed
    shared.close()


def test_success_takes_no_room_in_the_ring() -> None:
    shared = SharedDeliveries.create(10, 0, processes=1)
    shared.claim(delivery(), NOW, HOLD)
    shared.settle(delivery(), SUCCESS, NOW)
    assert shared.claim(delivery(), NOW, HOLD) == (Claim.REPEAT, SUCCESS)
    assert shared.counts().replies_too_large == 0
    shared.close()


def test_an_overwritten_reply_becomes_success_and_is_counted(shared: SharedDeliveries) -> None:
    for number in range(20):
        shared.claim(delivery(number, number), NOW, HOLD)
        shared.settle(delivery(number, number), StoredReply("xml", bytes([number]) * 900), NOW)
    assert shared.claim(delivery(19, 19), NOW, HOLD) == (Claim.REPEAT, StoredReply("xml", b"\x13" * 900))
    assert shared.counts().replies_overwritten == 0
    assert shared.claim(delivery(), NOW, HOLD) == (Claim.REPEAT, SUCCESS)
    assert shared.counts().replies_overwritten == 1


def test_too_large_a_reply_becomes_success_and_is_counted(shared: SharedDeliveries) -> None:
    shared.claim(delivery(), NOW, HOLD)
    shared.settle(delivery(), StoredReply("xml", b"x" * 1000), NOW)
    assert shared.claim(delivery(), NOW, HOLD) == (Claim.REPEAT, SUCCESS)
    assert (shared.counts().replies_too_large, shared.counts().replies_overwritten) == (1, 0)


@pytest.mark.parametrize("full", ["triples", "messages"])
def test_a_full_table_refuses_and_remembers_nothing_of_it(full: str) -> None:
    shared = SharedDeliveries.create(1, 0, processes=1)
    slots = buckets_for(1) * WAYS
    refused = []
    for number in range(1, 4 * slots):
        one = delivery(number, 0 if full == "triples" else number)
        try:
            shared.claim(one, NOW, HOLD)
        except Refusal as refusal:
            assert refusal.code == "deliveries_full"
            refused.append(one)
    assert len(refused) >= 3 * slots - 1
    assert shared.counts().refused_full == len(refused)
    shared.claim(delivery(1, 0 if full == "triples" else 1), NOW, HOLD)
    assert code(lambda: shared.claim(refused[0], NOW + 699, HOLD)) == "deliveries_full"
    assert shared.claim(refused[0], NOW + 700, HOLD) == FIRST
    shared.close()


@pytest.mark.parametrize("sizes", [(0, 0, 60.0, 700.0), (1, -1, 60.0, 700.0), (1, 0, 0.0, 700.0), (1, 0, 60.0, 60.0)])
def test_refuses_sizes_and_windows_that_make_no_sense(sizes: tuple[int, int, float, float]) -> None:
    with pytest.raises(ValueError, match="deliveries need"):
        SharedDeliveries.create(*sizes, processes=1)


def open_files() -> dict[int, str]:
    links = [Path("/proc/self/fd", fd) for fd in os.listdir("/proc/self/fd")]
    return {int(link.name): os.readlink(link) for link in links if link.is_symlink()}


def test_it_is_memory_without_a_name_of_fixed_size_touched_only_when_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = open_files()
    shared = SharedDeliveries.create(1_000_000, 64 << 20, processes=1)
    new = {fd: name for fd, name in open_files().items() if fd not in before}
    assert list(new.values()) == ["/memfd:wxgate-deliveries (deleted)"]
    [fd] = new
    for size in (0, 1 << 40):
        with pytest.raises(PermissionError):
            os.ftruncate(fd, size)
    for number in range(100):
        shared.claim(delivery(number, number), NOW, HOLD)
        shared.settle(delivery(number, number), REPLY, NOW)
    assert os.fstat(fd).st_blocks * 512 < 8 << 20
    assert os.fstat(fd).st_size > 200 << 20
    assert list(tmp_path.iterdir()) == []
    shared.close()
    assert open_files() == before


def test_replies_do_not_go_into_a_core_dump(shared: SharedDeliveries) -> None:
    mapping = Path("/proc/self/smaps").read_text().split("/memfd:wxgate-deliveries", 1)[1]
    flags = next(line for line in mapping.splitlines() if line.startswith("VmFlags:"))
    assert "dd" in flags.split()
