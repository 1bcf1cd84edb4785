"""The life of data keys: what each step makes of a keyring, and what it refuses."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.kms import transitions
from proxy.kms.keyring_format import Document, Entry, KeyState, noted
from proxy.kms.service import KeysError, Slot, Wrapped
from tests.kms.conftest import DATA, FOREIGN, LOOKUP

ACTIVE, PENDING, RETIRING = KeyState.ACTIVE, KeyState.PENDING, KeyState.RETIRING
DISABLED, DESTROYED = KeyState.DISABLED, KeyState.DESTROYED


def key(number: int, slot: Slot = DATA, state: KeyState = ACTIVE, *times: int | None) -> Entry:
    created, activated, retired = (*times, None, None, None)[:3] if times else (1, 2, None)
    sealed = b"" if state is DESTROYED else b"x"
    return Entry(slot, Wrapped(bytes([number] * 16), "local", 1, sealed), state, created or 0, activated, retired)


def states(entries: tuple[Entry, ...]) -> list[tuple[int, str, int | None, int | None]]:
    return [(entry.id[0], entry.state.value, entry.activated, entry.retired) for entry in entries]


def test_a_pending_key_becomes_active_at_its_time_and_replaces() -> None:
    entries = transitions.added((key(1), key(9, FOREIGN)), [key(2, DATA, PENDING, 5, 20)], 19)
    assert states(entries) == [(1, "active", 2, None), (9, "active", 2, None), (2, "pending", 20, None)]
    assert transitions.settled(entries, 19.9) == entries
    after = transitions.settled(entries, 25)
    assert states(after) == [(1, "retiring", 2, 20), (9, "active", 2, None), (2, "active", 20, None)]
    assert transitions.settled(after, 99) == after


def test_of_several_that_are_due_the_latest_is_active() -> None:
    entries = (key(1), key(2, DATA, PENDING, 1, 10), key(3, DATA, PENDING, 1, 12), key(4, DATA, PENDING, 1, None))
    assert states(transitions.settled(entries, 12)) == [
        (1, "retiring", 2, 12),
        (2, "retiring", 10, 12),
        (3, "active", 12, None),
        (4, "pending", None, None),
    ]


def test_a_pending_key_can_be_hastened() -> None:
    entries = (key(1), key(2, DATA, PENDING, 1, 50), key(3, DATA, PENDING, 1, 40), key(9, FOREIGN, PENDING, 1, 60))
    assert states(transitions.hastened(entries, DATA, 30)) == [
        (1, "retiring", 2, 30),
        (2, "pending", 50, None),
        (3, "active", 30, None),
        (9, "pending", 60, None),
    ]
    assert transitions.hastened(entries[:1], DATA, 30) == entries[:1]


def test_a_lookup_key_is_replaced_on_purpose_only_and_both_work_until_it_is_ended() -> None:
    old, new = key(1, LOOKUP), key(2, LOOKUP, PENDING, 5, 20)
    with pytest.raises(KeysError, match="rotate --lookup"):
        transitions.added((old,), [new], 5)
    waiting = transitions.lookup_begun((old,), new, 5)
    assert states(waiting) == [(1, "active", 2, None), (2, "pending", 20, None)]
    both = transitions.settled(waiting, 20)
    assert states(both) == [(1, "retiring", 2, None), (2, "active", 20, None)] and both[0].being_replaced
    for entries in (waiting, both):
        with pytest.raises(KeysError, match="being replaced already"):
            transitions.lookup_begun(entries, key(3, LOOKUP, PENDING, 5, 30), 25)
    ended = transitions.lookup_ended(both, LOOKUP, 40)
    assert states(ended) == [(1, "retiring", 2, 40), (2, "active", 20, None)] and not ended[0].being_replaced
    with pytest.raises(KeysError, match="not being replaced"):
        transitions.lookup_ended(ended, LOOKUP, 41)
    with pytest.raises(KeysError, match="no active lookup key"):
        transitions.lookup_begun((key(1),), key(2, DATA, PENDING, 5, 20), 5)
    with pytest.raises(KeysError, match="no active lookup key"):
        transitions.lookup_begun((), new, 5)


def test_the_first_lookup_key_of_a_slot_may_be_added() -> None:
    entries = transitions.added((key(1, LOOKUP, DESTROYED),), [key(2, LOOKUP, PENDING, 5, 5)], 5)
    assert states(entries)[1] == (2, "active", 5, None)


def test_disabled_keys_come_back_to_open_and_destroyed_ones_do_not() -> None:
    entries = (key(1), key(2, DATA, PENDING, 1, 9), key(3, DATA, RETIRING, 1, 2, 3), key(4, LOOKUP))
    ids = [entry.id for entry in entries]
    off = transitions.disabled(entries, ids, 10)
    assert [entry.state for entry in off] == [DISABLED] * 4 and [entry.retired for entry in off] == [10, 10, 3, 10]
    assert transitions.disabled(off, ids, 11) == off
    on = transitions.enabled(off, ids, 12)
    assert [(entry.state, entry.retired) for entry in on] == [
        (RETIRING, 10),
        (RETIRING, 10),
        (RETIRING, 3),
        (ACTIVE, None),
    ]
    gone = transitions.destroyed(off, ids[:1], 20)
    assert (gone[0].state, gone[0].wrapped.sealed, gone[0].retired) == (DESTROYED, b"", 10)
    assert transitions.destroyed(gone, ids[:1], 21) == gone
    for change in (transitions.disabled, transitions.enabled):
        with pytest.raises(KeysError, match="is destroyed"):
            change(gone, ids[:1], 22)
    for change in (transitions.disabled, transitions.enabled, transitions.destroyed):
        with pytest.raises(KeysError, match="there is no key"):
            change(entries, [bytes(16)], 22)


def test_rewrapping_and_counting_touch_what_they_name() -> None:
    before = (key(1), key(2))
    anew = {entry.wrapped: Wrapped(entry.id, "vault", 7, b"y") for entry in before}
    entries = (key(1), key(2, DATA, DESTROYED, 1, 2, 3))
    assert entries[1].wrapped != before[1].wrapped
    after = transitions.rewrapped(entries, anew)
    assert after == (replace(entries[0], wrapped=anew[entries[0].wrapped]), entries[1])
    counted = transitions.counted(entries, {entries[0].id: (3, 30)})
    assert (counted[0].uses, counted[0].size, counted[1]) == (3, 30, entries[1])


def test_merging_takes_what_was_changed_more_often_and_loses_no_key() -> None:
    mine = Document((key(1), key(2, FOREIGN)), 3)
    other = Document((replace(key(1), state=RETIRING, retired=9, changes=1), key(3, DATA, ACTIVE, 8, 9)), 4)
    for one, two in ((mine, other), (other, mine)):
        together = transitions.merged(one, two)
        assert together.revision == 4
        assert sorted(states(together.entries)) == [
            (1, "retiring", 2, 9),
            (2, "active", 2, None),
            (3, "active", 9, None),
        ]


@pytest.mark.parametrize("changes", [0, 1, 7])
def test_a_disabled_key_stays_so_whatever_happened_elsewhere(changes: int) -> None:
    """A later revision may be that of another key, and machines retire keys by themselves."""
    (disabled,) = transitions.disabled((key(1),), [key(1).id], 22)
    there = replace(key(1), state=RETIRING, retired=9, changes=changes)
    for other in (there, key(1)):
        here, elsewhere = Document((disabled,), 2), Document((other,), 9)
        for one, two in ((here, elsewhere), (elsewhere, here)):
            assert transitions.merged(one, two).entries[0].state is DISABLED
    (enabled,) = transitions.enabled((disabled,), [key(1).id], 23)
    assert transitions.merged(Document((enabled,), 3), Document((disabled,), 9)).entries[0].state is RETIRING


def test_changes_are_counted_but_for_uses() -> None:
    before = (key(1), key(2, FOREIGN))
    after = (replace(before[0], state=RETIRING, retired=9), replace(before[1], uses=5, size=6), key(3))
    assert [entry.changes for entry in noted(after, before)] == [1, 0, 0]
    assert [entry.changes for entry in noted((replace(after[0], changes=5),), before)] == [5]


def test_merging_keeps_destroyed_keys_destroyed_and_my_counts() -> None:
    mine = Document((replace(key(1), uses=7, size=70), key(2, DATA, DESTROYED, 1, 2, 3)), 3)
    other = Document((replace(key(1), uses=1, size=1), replace(key(2, DATA, RETIRING, 1, 2, 3), changes=9)), 9)
    together = transitions.merged(mine, other).entries
    assert (together[0].uses, together[0].size, together[1].state) == (7, 70, DESTROYED)
    (new,) = transitions.merged(Document((), 1), Document((replace(key(1), uses=5, size=5),), 2)).entries
    assert (new.uses, new.size) == (0, 0)


def test_two_keys_made_active_apart_leave_one_active() -> None:
    together = transitions.merged(
        Document((key(1, DATA, ACTIVE, 1, 5),), 2), Document((key(2, DATA, ACTIVE, 1, 6),), 2)
    )
    assert sorted(states(together.entries)) == [(1, "retiring", 5, 6), (2, "active", 6, None)]


@given(st.data())
def test_merging_in_either_order_says_the_same(data: st.DataObject) -> None:
    def drawn() -> Document:
        entries = []
        for number in data.draw(st.sets(st.integers(1, 4))):
            state = data.draw(st.sampled_from([ACTIVE, PENDING, RETIRING, DESTROYED]))
            retired = None if state in (ACTIVE, PENDING) else 9
            entries.append(key(number, DATA, state, 1, data.draw(st.integers(2, 5)), retired))
        return Document(transitions.settled(tuple(entries), 0), data.draw(st.integers(1, 2)))

    one, two = drawn(), drawn()
    forth, back = transitions.merged(one, two), transitions.merged(two, one)
    assert forth.entries == back.entries
    assert {entry.id for entry in forth.entries} == {entry.id for entry in (*one.entries, *two.entries)}
    assert sum(entry.state is ACTIVE for entry in forth.entries) <= 1
