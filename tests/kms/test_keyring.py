"""The keyring in use: who gets which key, what never opens, how changes of the file are taken up."""

import asyncio
import gc
import math
import secrets
import weakref
from collections.abc import Coroutine, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from proxy.crypto.data_key import DataKey, KeyMismatchError, Purpose
from proxy.kms import transitions
from proxy.kms.keyring import Keyring
from proxy.kms.keyring_format import Entry, KeyState
from proxy.kms.limits import KeyLimits
from proxy.kms.service import KeysError, Slot
from proxy.ports import Keys, Owner
from proxy.refusal import Refusal
from tests.kms.conftest import ACME, DATA, FOREIGN, LOOKUP, NOW, OTHER, Bench
from tests.support.embedded import init_keys, rotate_keys


async def test_a_key_is_had_by_slot_and_by_id(bench: Bench) -> None:
    keys: Keys = bench.open()
    for slot in (DATA, LOOKUP, FOREIGN):
        key = await keys.active(*slot)
        assert (key.id, key.purpose) == (bench.only(slot).id, slot.purpose)
        assert await keys.by_id(slot.owner, key.id) is key
    sealed = (await keys.active(*DATA)).seal(bytes(24), b"words", b"aad")
    assert (await bench.open().active(*DATA)).open(bytes(24), sealed, b"aad") == b"words"


async def test_no_key_of_another_owner_group_or_purpose(bench: Bench) -> None:
    keys = bench.open()
    mine = bench.only(DATA).id
    for owner in (OTHER, Owner("acme", "au"), Owner("other", "in"), Owner("", "")):
        assert await keys.by_id(owner, mine) is None
    assert await keys.by_id(ACME, bytes(16)) is None and await keys.by_id(ACME, b"") is None
    for slot in ((ACME, "agent", Purpose.DATA), (OTHER, "follower", Purpose.LOOKUP), (Owner("x", "in"), *DATA[1:])):
        with pytest.raises(Refusal, match="key_unavailable"):
            await keys.active(*slot)


@pytest.mark.parametrize(
    ("now", "times", "opens"),
    [
        (KeyState.PENDING, (1, int(NOW) + 9, None), True),
        (KeyState.PENDING, (1, None, None), True),
        (KeyState.RETIRING, (1, 2, 3), True),
        (KeyState.DISABLED, (1, 2, 3), False),
        (KeyState.DESTROYED, (1, 2, 3), False),
    ],
)
async def test_only_active_keys_protect_and_only_usable_ones_open(
    bench: Bench, now: KeyState, times: tuple[int, int | None, int | None], opens: bool
) -> None:
    entry = bench.only(DATA)
    sealed = b"" if now is KeyState.DESTROYED else entry.wrapped.sealed
    bench.put(Entry(DATA, replace(entry.wrapped, sealed=sealed), now, *times))
    keys = bench.open()
    with pytest.raises(Refusal, match="key_unavailable"):
        await keys.active(*DATA)
    assert (await keys.by_id(ACME, entry.id) is not None) is opens


def test_a_dek_that_its_id_does_not_commit_to_stops_the_start_by_name(bench: Bench) -> None:
    keys = bench.open()
    bench.kms.swapping = True
    with pytest.raises(KeyMismatchError, match=bench.file.read()[0].id.hex()):
        keys.open_active()


def test_swapped_wrapped_deks_stop_the_start_by_name(bench: Bench) -> None:
    mine, other = bench.only(DATA), bench.only(LOOKUP)
    bench.put(replace(mine, wrapped=replace(mine.wrapped, sealed=other.wrapped.sealed)))
    with pytest.raises(KeysError, match=mine.id.hex()):
        bench.open().open_active()


async def test_a_swapped_dek_is_refused_and_alarmed_while_running(bench: Bench) -> None:
    keys, heard = bench.open(), Heard()
    keys.attach(heard, heard)
    bench.kms.swapping = True
    mine = bench.only(DATA).id
    with pytest.raises(Refusal, match="key_unavailable"):
        await keys.active(*DATA)
    assert keys.not_ready() == [f"data key {mine.hex()} does not match its id"]
    assert heard.counts["key_mismatches"] == 1 and ("key_mismatch", mine.hex()) in heard.lines


class Heard:
    """Log and measures that keep what they are told."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.lines: list[tuple[str, str]] = []

    def count(self, name: str, *_labels: str) -> None:
        self.counts[name] = self.counts.get(name, 0) + 1

    def count_each(self, name: str, amounts: Mapping[str, int]) -> None: ...

    def observe(self, name: str, samples: Iterable[tuple[str, float]]) -> None: ...

    def write(self, _level: int, event: str, **facts: str | int | float) -> None:
        self.lines.append((event, str(facts.get("key_id", ""))))

    def fault(self, error: BaseException) -> None:
        raise error


def test_without_a_keyring_or_its_keks_there_is_no_start(bench: Bench) -> None:
    (bench.state / "kek.json").rename(bench.state / "aside")
    with pytest.raises(KeysError, match="no KEK version 1"):
        bench.open()
    (bench.state / "aside").rename(bench.state / "kek.json")
    (bench.state / "keyring.json").unlink()
    with pytest.raises(KeysError, match="wxgate keys init"):
        bench.open()


async def test_a_change_of_the_file_is_taken_up_at_the_next_look(bench: Bench, unlock: bytes) -> None:
    keys = bench.open()
    old = await keys.active(*DATA)
    (new,) = rotate_keys(bench.state, unlock, NOW, secrets.token_bytes, tenant="acme")
    third = Slot(Owner("third", "jp"), "follower", Purpose.DATA)
    init_keys(bench.state, unlock, [third], NOW, secrets.token_bytes)
    assert await keys.active(*DATA) is old  # nothing moves before it is told to
    await keys.tick()
    assert (await keys.active(*DATA)).id == new.id
    assert await keys.by_id(ACME, old.id) is old
    assert (await keys.active(*third)).purpose is Purpose.DATA


@pytest.mark.parametrize("becomes", [KeyState.DISABLED, KeyState.DESTROYED])
async def test_what_may_not_be_used_any_more_is_dropped_at_the_next_look(bench: Bench, becomes: KeyState) -> None:
    keys = bench.open()
    key = await keys.active(*DATA)
    change = transitions.disabled if becomes is KeyState.DISABLED else transitions.destroyed
    bench.change(lambda entries: change(entries, [key.id], NOW))
    await keys.tick()
    assert await keys.by_id(ACME, key.id) is None
    with pytest.raises(Refusal, match="key_unavailable"):
        await keys.active(*DATA)
    assert bench.kms.unwrapped == 1
    assert key.seal(bytes(24), b"words", b"")  # an exchange that has it goes on with it


async def _asked_and_destroyed(bench: Bench, keys: Keyring) -> asyncio.Task[DataKey | None]:
    """A call for a key that was destroyed while the key service, which has yet to answer, was asked for it."""
    mine = bench.only(DATA)
    bench.kms.answers.clear()
    asked = asyncio.get_running_loop().create_task(keys.by_id(ACME, mine.id))
    while not bench.kms.unwrapped:
        await asyncio.sleep(0.001)
    bench.change(lambda entries: transitions.destroyed(entries, [mine.id], NOW))
    await keys.tick()
    return asked


async def test_a_key_taken_out_of_use_while_it_is_unwrapped_is_not_given_out(bench: Bench) -> None:
    keys = bench.open()
    asked = await _asked_and_destroyed(bench, keys)
    bench.kms.answers.set()
    with pytest.raises(Refusal, match="key_unavailable"):
        await asked


@pytest.mark.parametrize("breakage", ["damaged", "another tag", "missing", "mode"])
async def test_a_broken_file_is_warned_of_and_everything_held_stays(bench: Bench, breakage: str) -> None:
    keys = bench.open()
    held = [await keys.active(*slot) for slot in (DATA, LOOKUP, FOREIGN)]
    path = bench.state / "keyring.json"
    whole = path.read_bytes()
    if breakage == "damaged":
        path.write_bytes(b"{")
    elif breakage == "another tag":
        path.write_bytes(whole.replace(b'"uses": 0', b'"uses": 1', 1))
    elif breakage == "missing":
        path.unlink()
    else:
        path.chmod(0o640)
    await keys.tick()
    assert "keyring cannot be read" in keys.warnings()[0] and keys.not_ready() == []
    assert [await keys.active(*slot) for slot in (DATA, LOOKUP, FOREIGN)] == held
    again = bench.open(before=keys)  # a worker that starts now goes on with what is known
    assert (await again.active(*DATA)).id == held[0].id and again.warnings()
    with pytest.raises(KeysError):
        again.reload()
    path.unlink(missing_ok=True)
    path.write_bytes(whole)
    path.chmod(0o600)
    await keys.tick()
    assert keys.warnings() == []


async def test_a_pending_key_becomes_active_by_the_clock_and_is_at_hand_before(bench: Bench) -> None:
    limits = KeyLimits(activate_after=10.0)
    keys = bench.open(limits)
    old = await keys.active(*DATA)
    entry = bench.made(DATA, NOW + 10)
    bench.change(lambda entries: transitions.added(entries, [entry], NOW))
    bench.kms.unwrapped = 0
    await keys.tick()
    await keys.quiet()
    assert bench.kms.unwrapped == 1 and await keys.active(*DATA) is old
    opened = await keys.by_id(ACME, entry.id)
    bench.clock.move(10)
    await keys.tick()
    assert (await keys.active(*DATA)).id == entry.id and await keys.by_id(ACME, old.id) is old
    assert opened is not None and bench.kms.unwrapped == 1


async def test_previous_is_the_key_being_replaced_or_the_active_one(bench: Bench) -> None:
    keys = bench.open()
    old = await keys.active(*LOOKUP)
    assert await keys.previous(ACME, "follower") is old
    entry = bench.made(LOOKUP, NOW)
    bench.change(lambda entries: transitions.lookup_begun(entries, entry, NOW))
    await keys.tick()
    assert (await keys.active(*LOOKUP)).id == entry.id and await keys.previous(ACME, "follower") is old
    bench.change(lambda entries: transitions.lookup_ended(entries, LOOKUP, NOW))
    await keys.tick()
    assert (await keys.previous(ACME, "follower")).id == entry.id and await keys.by_id(ACME, old.id) is old
    with pytest.raises(Refusal, match="key_unavailable"):
        await keys.previous(OTHER, "follower")


async def test_the_look_ups_of_a_cached_key_never_wait(bench: Bench) -> None:
    keys = bench.open()
    await keys.active(*DATA)
    await keys.active(*LOOKUP)
    look_ups: list[Coroutine[Any, Any, Any]] = [
        keys.active(*DATA),
        keys.by_id(ACME, bench.only(DATA).id),
        keys.previous(ACME, "follower"),
        keys.by_id(OTHER, bench.only(DATA).id),
    ]
    for look_up in look_ups:
        with pytest.raises(StopIteration):
            look_up.send(None)
        look_up.close()


async def test_an_unknown_id_costs_one_look_an_interval_and_no_call(bench: Bench, monkeypatch: Any) -> None:
    keys = bench.open()
    looks = 0
    stamp = keys.file.stamp

    def counted() -> Any:
        nonlocal looks
        looks += 1
        return stamp()

    monkeypatch.setattr(keys.file, "stamp", counted)
    for _ in range(3):
        found = await asyncio.gather(*(keys.by_id(ACME, secrets.token_bytes(16)) for _ in range(300)))
        assert found == [None] * 300
    assert (looks, bench.kms.unwrapped) == (1, 0)
    bench.clock.move(1.1)
    await asyncio.gather(*(keys.by_id(ACME, secrets.token_bytes(16)) for _ in range(300)))
    assert (looks, bench.kms.unwrapped) == (2, 0)


async def test_a_key_another_process_made_is_found_at_once(bench: Bench) -> None:
    keys, other = bench.open(), bench.open()
    assert await keys.by_id(ACME, bytes(16)) is None  # the look of this interval is spent
    bench.clock.move(100 * 86400.0)
    await other.upkeep.keep()
    coming = [entry for entry in bench.file.read() if entry.state is KeyState.PENDING and entry.slot.owner == ACME]
    assert len(coming) == 1 and await keys.by_id(ACME, coming[0].id) is not None


async def test_a_changed_file_that_cannot_be_read_is_read_once_an_interval(bench: Bench, monkeypatch: Any) -> None:
    """Whoever sends tokens with made-up key ids could otherwise have the file read for each."""
    keys, reads = bench.open(), 0
    document = keys.file.document

    def counted() -> Any:
        nonlocal reads
        reads += 1
        return document()

    monkeypatch.setattr(keys.file, "document", counted)
    (bench.state / "keyring.json").write_bytes(b"{}")
    for seconds, expected in ((0.0, 1), (0.5, 1), (0.6, 2), (0.5, 2)):
        bench.clock.move(seconds)
        if expected > reads:
            bench.budget.note_change()
        for _ in range(20):
            assert await keys.by_id(ACME, secrets.token_bytes(16)) is None
        assert reads == expected and keys.warnings()


async def test_many_look_ups_meet_many_changes(bench: Bench, unlock: bytes) -> None:
    keys = bench.open()
    done = False

    async def use() -> int:
        count = 0
        while not done:
            key = await keys.active(*DATA)
            assert isinstance(await keys.by_id(ACME, key.id), DataKey)
            count += 1
            await asyncio.sleep(0)
        return count

    async with asyncio.TaskGroup() as group:
        users = [group.create_task(use()) for _ in range(4)]
        for _ in range(5):
            await asyncio.to_thread(rotate_keys, bench.state, unlock, NOW, secrets.token_bytes)
            await keys.tick()
        done = True
    assert all(user.result() for user in users)


async def test_a_keyring_takes_over_what_the_one_before_had_unwrapped(bench: Bench) -> None:
    before = bench.open()
    key = await before.active(*DATA)
    bench.kms.error = KeysError("no calls now")
    after = bench.open(before=before)
    assert (await after.active(*DATA)).id == key.id and bench.kms.unwrapped == 0


def test_ages_tell_since_when_and_how_much_a_key_is_in_use(bench: Bench, unlock: bytes) -> None:
    rotate_keys(bench.state, unlock, NOW + 60, secrets.token_bytes, tenant="acme")
    bench.put(replace(bench.only(FOREIGN), state=KeyState.PENDING, activated=int(NOW) + 1000, uses=2**31))
    lookup = bench.only(LOOKUP)
    bench.put(replace(lookup, state=KeyState.DESTROYED, retired=5, wrapped=replace(lookup.wrapped, sealed=b"")))
    keys = bench.open()
    ages = {(age.owner, age.state): age for age in keys.ages(NOW + 100.5)}
    assert {key: (age.seconds, age.spent) for key, age in ages.items()} == {
        (ACME, KeyState.RETIRING): (101.0, 0.0),
        (ACME, KeyState.ACTIVE): (41.0, 0.0),
        (OTHER, KeyState.PENDING): (101.0, 0.5),
    }
    assert ages[ACME, KeyState.ACTIVE].key_id == bench.file.read()[-1].id
    assert all(age.seconds == 0.0 for age in keys.ages(0))


def test_the_next_due_is_never_if_nothing_is_coming(bench: Bench) -> None:
    keys: Keyring = bench.open()
    assert keys._holdings.next_due == math.inf


def test_the_file_is_refused_at_the_start(bench: Bench) -> None:
    path: Path = bench.state / "keyring.json"
    path.chmod(0o604)
    with pytest.raises(KeysError, match="mode 0604"):
        bench.open()


async def test_an_older_file_put_back_counts_and_is_told(bench: Bench, unlock: bytes) -> None:
    keys, heard = bench.open(), Heard()
    keys.attach(heard, heard)
    path = bench.state / "keyring.json"
    old, first = path.read_bytes(), bench.only(DATA).id
    (new,) = rotate_keys(bench.state, unlock, NOW, secrets.token_bytes, tenant="acme")
    await keys.tick()
    assert (await keys.active(*DATA)).id == new.id
    path.write_bytes(old)
    await keys.tick()
    assert (await keys.active(*DATA)).id == first and await keys.by_id(ACME, new.id) is None
    assert ("keyring_older", "") in heard.lines


@pytest.mark.parametrize("becomes", [KeyState.DISABLED, KeyState.DESTROYED])
@pytest.mark.parametrize("slot", [DATA, LOOKUP])
async def test_a_key_taken_out_of_use_leaves_memory_without_the_collector(
    bench: Bench, becomes: KeyState, slot: Slot
) -> None:
    keys = bench.open()
    key = weakref.ref(await keys.active(*slot))
    change = transitions.disabled if becomes is KeyState.DISABLED else transitions.destroyed
    bench.change(lambda entries: change(entries, [bench.only(slot).id], NOW))
    with frozen():
        await keys.tick()
        assert key() is None


async def test_a_call_for_a_key_that_was_taken_out_of_use_is_still_a_thread_at_work(bench: Bench) -> None:
    keys = bench.open()
    asked = await _asked_and_destroyed(bench, keys)
    quiet = asyncio.get_running_loop().create_task(keys.quiet())
    await asyncio.wait([quiet], timeout=0.1)
    assert not quiet.done()
    bench.kms.answers.set()
    await quiet
    with pytest.raises(Refusal, match="key_unavailable"):
        await asked


async def test_a_key_unwrapped_after_it_was_taken_out_of_use_is_not_kept(bench: Bench) -> None:
    keys = bench.open()
    held = keys._holdings.by_id[ACME, bench.only(DATA).id]
    asked = await _asked_and_destroyed(bench, keys)
    bench.kms.answers.set()
    with pytest.raises(Refusal, match="key_unavailable"):
        await asked
    assert held.key is None


async def test_a_closed_keyring_holds_no_key_and_opens_none(bench: Bench) -> None:
    before = bench.open()
    key = weakref.ref(in_use := await before.active(*DATA))
    after = bench.open(before=before)
    with frozen():
        before.close()
        assert in_use.seal(bytes(24), b"words", b"")  # an exchange that has it goes on with it
        del in_use
        assert key() is None
    with pytest.raises(Refusal, match="key_unavailable"):
        await before.active(*DATA)
    assert (await after.active(*DATA)).id == bench.only(DATA).id and bench.kms.unwrapped == 0
    mine = bench.made(DATA, NOW + 60)
    bench.change(lambda entries: (*entries, mine))
    before._reading.take_up(bench.file.document())  # a reading that was under way
    assert (ACME, mine.id) not in before._holdings.by_id
    assert all(held.key is None for held in before._holdings.by_id.values())


@contextmanager
def frozen() -> Iterator[None]:
    """As in a worker that serves: what is there now the collector never looks at."""
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()
