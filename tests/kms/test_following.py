"""What one machine shredded is destroyed in the others' embedded key services, and nothing else is."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from proxy.crypto.data_key import Purpose
from proxy.kms import transitions
from proxy.kms.following import follow, to_follow
from proxy.kms.keyring_format import Document, Entry, KeyState
from proxy.kms.local import LocalKms
from proxy.kms.service import KeysError, Slot
from proxy.kms.service_set import ServiceSet
from proxy.kms.shredded import Shredded, kek_id_of
from proxy.kms.shredding import shred
from proxy.ports import Owner
from tests.kms.conftest import ACME, DATA, NOW, OTHER
from tests.kms.machine import Machine, Two

RANDOM = secrets.token_bytes
THIRD = Slot(Owner("third", "jp"), "follower", Purpose.DATA)


def test_what_one_shredded_no_backup_of_the_keyring_opens_on_the_other(two: Two) -> None:
    one, other = two
    backup = other.of(ACME)
    assert all(other.opens(entry) for entry in backup)
    shred(one.file, one.services, ACME, NOW)
    other.takes_up(one)
    assert all(other.opens(entry) for entry in backup), "until it follows"
    assert other.follows() == [ACME]
    assert not any(other.opens(entry) for entry in backup)
    assert all(other.opens(entry) for entry in other.of(OTHER)), "and nobody else's"
    assert other.follows() == [] and other.kms.create_kek(ACME) == 2, "the number is not given out again"


def test_every_version_goes(two: Two) -> None:
    one, other = two
    backup = other.of(ACME)
    one.kms.rotate_kek(ACME)
    shutil.copy(one.state / "kek.json", other.state / "kek.json")
    backup.append(other.rotated(DATA))
    assert {entry.wrapped.kek_version for entry in backup} == {1, 2}
    shred(one.file, one.services, ACME, NOW)
    other.takes_up(one)
    other.follows()
    assert not any(other.opens(entry) for entry in backup) and other.kms.kek_ids(ACME) == {}


@pytest.mark.parametrize("transition", [transitions.destroyed, transitions.disabled])
def test_rows_taken_out_of_use_one_by_one_are_no_shredding(
    two: Two, transition: Callable[[tuple[Entry, ...], set[bytes], float], tuple[Entry, ...]]
) -> None:
    one, other = two
    ids = {entry.id for entry in one.of(ACME)}
    one.file.change(lambda entries: transition(entries, ids, NOW))
    other.takes_up(one)
    assert other.follows() == [] and set(other.kms.kek_ids(ACME)) == {1}


def test_who_begins_anew_keeps_the_new_kek_however_late_others_come(two: Two, tmp_path: Path) -> None:
    one, other = two
    late = one.copy(tmp_path / "late")
    shred(one.file, one.services, ACME, NOW)
    (anew, *_) = one.made(DATA)
    assert anew.wrapped.kek_version == 2
    shutil.copy(one.state / "kek.json", other.state / "kek.json")
    other.takes_up(one)
    late.takes_up(one)
    assert late.follows() == [ACME]
    for machine, theirs in ((one, late), (other, late), (one, other)):
        machine.takes_up(theirs)
        assert machine.follows() == [] and machine.opens(anew)
        assert [e.state for e in machine.file.read() if e.id == anew.id] == [KeyState.ACTIVE]


def test_another_kek_of_the_same_version_is_not_the_one_that_was_shredded(two: Two) -> None:
    """One machine shredded a tenant before the other ever heard of it, and the other begins it, as version 1."""
    one, other = two
    one.made(THIRD)
    shred(one.file, one.services, THIRD.owner, NOW)
    (theirs,) = other.made(THIRD)
    assert theirs.wrapped.kek_version == 1
    for machine, source in ((other, one), (one, other), (other, one)):
        machine.takes_up(source)
        assert machine.follows() == []
    assert other.opens(theirs) and [e.state for e in other.file.read() if e.id == theirs.id] == [KeyState.ACTIVE]


def test_rows_of_another_kek_of_the_same_version_stay(two: Two) -> None:
    """The one that follows has the shredded KEK and, merged, rows under another machine's KEK of that number."""
    one, other = two
    one.made(THIRD)
    shutil.copy(one.state / "kek.json", other.state / "kek.json")
    stranger = other.copy(other.state.parent / "stranger")
    _drop(stranger, THIRD.owner)
    (theirs,) = stranger.made(THIRD)
    assert theirs.wrapped.kek_version == 1 and not other.opens(theirs)
    shred(one.file, one.services, THIRD.owner, NOW)
    other.takes_up(stranger)
    other.takes_up(one)
    assert THIRD.owner in other.follows()
    assert [e.state for e in other.file.read() if e.id == theirs.id] == [KeyState.ACTIVE]


def _drop(machine: Machine, owner: Owner) -> None:
    """As if the machine had never had a KEK of `owner`."""
    keks = machine.kms._file.read()
    with machine.kms._file.locked():
        machine.kms._file.replace(replace(keks, rows=[row for row in keks.rows if row.owner != owner]))


def test_what_was_made_before_the_shredding_was_known_goes_with_it_everywhere(two: Two) -> None:
    one, other = two
    shred(one.file, one.services, ACME, NOW)
    made = other.rotated(DATA)
    other.takes_up(one)
    assert other.follows() == [ACME] and not other.opens(made)
    one.takes_up(other)
    for machine in two:
        assert {entry.state for entry in machine.of(ACME)} == {KeyState.DESTROYED}


def test_who_is_interrupted_finishes_the_next_time(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = two
    shred(one.file, one.services, ACME, NOW)
    made = other.rotated(DATA)
    other.takes_up(one)
    with monkeypatch.context() as patch:
        patch.setattr(LocalKms, "destroy_keks", _fails)
        with pytest.raises(KeysError):
            other.follows()
    assert {entry.state for entry in other.of(ACME)} == {KeyState.DESTROYED}, "no active key without its KEK"
    assert other.opens(made) and other.follows() == [ACME] and not other.opens(made)


def _fails(*_: object) -> None:
    raise KeysError("the disk is full")


def test_nobody_makes_keys_while_it_follows(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = two
    shred(one.file, one.services, ACME, NOW)
    other.takes_up(one)
    held: list[Owner] = []
    real = LocalKms.destroy_keks

    def looking(kms: LocalKms, owner: Owner, ids: set[bytes]) -> None:
        with pytest.raises(KeysError, match="has held this lock"), other.file.making(["local"], 0.0):
            pass
        held.append(owner)
        real(kms, owner, ids)

    monkeypatch.setattr(LocalKms, "destroy_keks", looking)
    assert other.follows() == [ACME] and held


def test_a_kek_that_comes_back_from_a_backup_goes_again(two: Two) -> None:
    one, _ = two
    backup = (one.state / "kek.json").read_bytes()
    shred(one.file, one.services, ACME, NOW)
    assert one.follows() == []
    (one.state / "kek.json").write_bytes(backup)
    assert one.follows() == [ACME] and one.kms.kek_ids(ACME) == {}


def test_of_an_owner_that_began_anew_only_what_was_shredded_goes(two: Two) -> None:
    """The old KEK comes back beside the new one."""
    one, _ = two
    kek_file = one.kms._file
    old = [row for row in kek_file.read().rows if row.owner == ACME]
    shred(one.file, one.services, ACME, NOW)
    (anew,) = one.made(DATA)
    with kek_file.locked():
        keks = kek_file.read()
        kek_file.replace(
            replace(keks, rows=[*old, *(row for row in keks.rows if (row.owner, row.version) != (ACME, 1))])
        )
    assert set(one.kms.kek_ids(ACME)) == {1, 2}
    assert one.follows() == [ACME]
    assert set(one.kms.kek_ids(ACME)) == {2} and one.opens(anew)


def test_no_copy_of_the_keyring_takes_the_word_back(two: Two) -> None:
    one, other = two
    shred(one.file, one.services, ACME, NOW)
    shredded = one.file.document().shredded
    assert {each.owner for each in shredded} == {ACME}
    for _ in range(5):
        other.file.change(lambda entries: transitions.disabled(entries, {e.id for e in entries}, NOW))
        other.file.change(lambda entries: transitions.enabled(entries, {e.id for e in entries}, NOW))
    assert other.file.document().revision > one.file.document().revision
    for newer, older in ((one, other), (other, one)):
        newer.takes_up(older)
        assert newer.file.document().shredded == shredded


def test_a_receipt_says_for_which_machine_it_speaks(two: Two) -> None:
    one, _ = two
    receipt = shred(one.file, one.services, ACME, NOW, several_machines=True)
    assert receipt.destroyed.operation.startswith("removed version 1 of acme/in from kek.json; this is the embedded")
    assert receipt.destroyed.operation.endswith("of one machine, others destroy the KEKs that the keyring names")
    again = shred(one.file, one.services, ACME, NOW, several_machines=True)
    assert again.destroyed == receipt.destroyed, "they were told the first time"
    _drop(one, OTHER)
    gone = shred(one.file, one.services, OTHER, NOW, several_machines=True, kek_is_gone=True)
    assert "others were not told" in gone.destroyed.operation, "nothing was there to tell of"


def test_without_an_embedded_service_there_is_nothing_to_follow(two: Two) -> None:
    one, _ = two

    class Other:
        name = "other"

    services = ServiceSet(Other())  # type: ignore[arg-type]
    assert to_follow(services, frozenset({Shredded(ACME, bytes(16))})) == []
    assert follow(one.file, services, ACME, NOW) == []


def test_an_id_is_of_one_kek() -> None:
    assert kek_id_of(bytes(32)) == kek_id_of(bytes(32)) != kek_id_of(bytes([1] * 32))
    assert len(kek_id_of(bytes(32))) == 16


def test_a_keyring_without_the_word_is_refused(two: Two) -> None:
    one, _ = two
    path = one.state / "keyring.json"
    path.write_text(path.read_text().replace('"shredded": [],\n', ""))
    with pytest.raises(KeysError, match="damaged"):
        one.file.read()


def test_merging_keeps_what_both_say() -> None:
    mine = Document((), 3, shredded=frozenset({Shredded(ACME, b"a" * 16)}))
    other = Document((), 9, shredded=frozenset({Shredded(OTHER, b"b" * 16)}))
    for merged in (transitions.merged(mine, other), transitions.merged(other, mine)):
        assert merged.shredded == mine.shredded | other.shredded
