"""A new KEK over the keyring: every key opens as before, under the new version or service; nothing is lost half way."""

import secrets
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from proxy.crypto.data_key import DEK_SIZE, Purpose
from proxy.kms import rewrapping, transitions
from proxy.kms.keyring_file import KeyringFile
from proxy.kms.keyring_format import KeyState
from proxy.kms.keystore import keyring_file_of
from proxy.kms.local import LocalKms
from proxy.kms.making import make_missing, new_entry, require_open
from proxy.kms.rewrapping import rewrap
from proxy.kms.selection import Selection
from proxy.kms.service import KeysError, Slot, Wrapped
from proxy.kms.service_set import ServiceSet
from proxy.ports import Owner
from tests.kms.conftest import ACME, DATA, FOREIGN, LOOKUP, NOW

RANDOM = secrets.token_bytes
ALL = Selection()


class Killed(Exception):
    """Stands for the process ending here."""


@pytest.fixture
def old(state: Path) -> LocalKms:
    return LocalKms(state, RANDOM(32), RANDOM, "old")


@pytest.fixture
def new(tmp_path: Path) -> LocalKms:
    (tmp_path / "new").mkdir(mode=0o700)
    return LocalKms(tmp_path / "new", RANDOM(32), RANDOM, "new")


@pytest.fixture
def file(state: Path, old: LocalKms) -> KeyringFile:
    """Three active keys and a disabled one, under one version of their KEKs in `old`."""
    services = ServiceSet(old)
    file = keyring_file_of(services, state, RANDOM)
    made = make_missing(file, services, [DATA, LOOKUP, FOREIGN, Slot(ACME, "agent", Purpose.DATA)], NOW, RANDOM)
    file.change(lambda entries: transitions.disabled(entries, {made[3].id}, NOW))
    return file


def deks(file: KeyringFile, services: ServiceSet) -> dict[bytes, bytes]:
    return {entry.id: bytes(services.unwrap(entry.slot, entry.wrapped)) for entry in file.read()}


def under(file: KeyringFile) -> set[tuple[str, int]]:
    document = file.document()
    assert document.tag_key is not None
    wrapped = [document.tag_key, *(entry.wrapped for entry in document.entries)]
    return {(each.service, each.kek_version) for each in wrapped if each.sealed}


def test_every_key_is_under_the_new_version_and_opens_as_before(file: KeyringFile, old: LocalKms) -> None:
    services = ServiceSet(old)
    before = deks(file, services)
    assert under(file) == {("old", 1)}
    told = rewrap(file, services, ALL)
    assert under(file) == {("old", 2)}
    assert told.keys == 5 and set(told.versions.values()) == {("old", 2)}
    assert deks(file, services) == before
    assert {entry.state for entry in file.read()} == {KeyState.ACTIVE, KeyState.DISABLED}


def test_a_selection_leaves_others_and_the_tag_key_alone(file: KeyringFile, old: LocalKms) -> None:
    told = rewrap(file, ServiceSet(old), Selection(tenant="other"))
    assert told.keys == 1
    assert {entry.slot.owner.tenant: entry.wrapped.kek_version for entry in file.read()} == {"acme": 1, "other": 2}
    with pytest.raises(KeysError, match="wxgate keys list"):
        rewrap(file, ServiceSet(old), Selection(tenant="nobody"))


def test_keys_move_to_another_service_when_it_is_named(
    file: KeyringFile, state: Path, old: LocalKms, new: LocalKms
) -> None:
    before = deks(file, ServiceSet(old))
    services = ServiceSet(new, others=[old])
    file = keyring_file_of(services, state, RANDOM)
    with pytest.raises(KeysError, match="--to-service new"):
        rewrap(file, services, ALL)
    with pytest.raises(KeysError, match="former"):
        rewrap(file, services, ALL, to_service="elsewhere")
    assert under(file) == {("old", 1)}
    rewrap(file, services, ALL, to_service="new")
    assert under(file) == {("new", 1)}
    alone = keyring_file_of(ServiceSet(new), state, RANDOM)
    assert deks(alone, ServiceSet(new)) == before
    rewrap(alone, ServiceSet(new), ALL)
    assert under(alone) == {("new", 2)}


def test_destroyed_keys_stay_destroyed(file: KeyringFile, old: LocalKms) -> None:
    gone = file.read()[0].id
    file.change(lambda entries: transitions.destroyed(entries, {gone}, NOW))
    told = rewrap(file, ServiceSet(old), ALL)
    assert told.keys == 4
    assert {entry.id for entry in file.read() if entry.state is KeyState.DESTROYED} == {gone}


def test_a_key_that_is_destroyed_meanwhile_is_not_brought_back(
    file: KeyringFile, old: LocalKms, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone, anew = file.read()[0].id, rewrapping._anew

    def destroying(services: ServiceSet, slot: Slot, wrapped: Wrapped) -> Wrapped:
        if wrapped.key_id == gone:
            file.change(lambda entries: transitions.destroyed(entries, {gone}, NOW))
        return anew(services, slot, wrapped)

    monkeypatch.setattr(rewrapping, "_anew", destroying)
    rewrap(file, ServiceSet(old), ALL)
    (found,) = [entry for entry in file.read() if entry.id == gone]
    assert (found.state, found.wrapped.sealed) == (KeyState.DESTROYED, b"")


def test_nobody_makes_keys_while_a_kek_is_rotated(
    file: KeyringFile, old: LocalKms, monkeypatch: pytest.MonkeyPatch
) -> None:
    rotate, rotated = LocalKms.rotate_kek, []

    def rotating(self: LocalKms, owner: Owner) -> int:
        with pytest.raises(KeysError, match="held this lock"), file.making(["old"], seconds=0):
            pass
        rotated.append(owner)
        return rotate(self, owner)

    monkeypatch.setattr(LocalKms, "rotate_kek", rotating)
    rewrap(file, ServiceSet(old), ALL)
    assert len(rotated) == 3


def test_a_key_that_was_made_before_the_rotation_is_not_left_behind(
    file: KeyringFile, old: LocalKms, monkeypatch: pytest.MonkeyPatch
) -> None:
    services, rotate = ServiceSet(old), LocalKms.rotate_kek

    def rotating(self: LocalKms, owner: Owner) -> int:
        if owner == ACME:
            made = new_entry(services, DATA, NOW, NOW, RANDOM)
            file.change(lambda entries: transitions.added(entries, [made], NOW))
        return rotate(self, owner)

    monkeypatch.setattr(LocalKms, "rotate_kek", rotating)
    assert rewrap(file, services, ALL).keys == 6 and len(file.read()) == 5
    assert under(file) == {("old", 2)}


@pytest.mark.parametrize("times", [1, 1000])
def test_it_ends_when_nothing_is_behind_or_says_that_there_is(
    file: KeyringFile, old: LocalKms, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    """Keys that were made before come in afterwards, as another machine's do."""
    services, anew = ServiceSet(old), rewrapping._anew
    waiting = [new_entry(services, DATA, NOW, NOW, RANDOM) for _ in range(100)][:times]

    def adding(services: ServiceSet, slot: Slot, wrapped: Wrapped) -> Wrapped:
        if waiting and slot.owner == ACME:
            come = waiting.pop()
            file.change(lambda entries: transitions.added(entries, [come], NOW))
        return anew(services, slot, wrapped)

    monkeypatch.setattr(rewrapping, "_anew", adding)
    if times == 1:
        assert rewrap(file, services, ALL).keys == 6 and under(file) == {("old", 2)}
    else:
        monkeypatch.setattr(rewrapping, "_ROUNDS", 3)
        with pytest.raises(KeysError, match="rewrap --resume"):
            rewrap(file, services, ALL)


def test_an_owner_who_comes_meanwhile_keeps_the_kek_that_is_new(
    file: KeyringFile, old: LocalKms, monkeypatch: pytest.MonkeyPatch
) -> None:
    services, create = ServiceSet(old), LocalKms.create_kek
    late = Owner("late", "in")

    def creating(self: LocalKms, owner: Owner) -> int:
        if not self.has_kek(late):
            create(self, late)
            made = new_entry(services, Slot(late, "follower", Purpose.DATA), NOW, NOW, RANDOM)
            file.change(lambda entries: transitions.added(entries, [made], NOW))
        return create(self, owner)

    monkeypatch.setattr(LocalKms, "create_kek", creating)
    assert late not in rewrap(file, services, ALL).versions
    assert {entry.wrapped.kek_version for entry in file.read() if entry.slot.owner == late} == {1}


def test_a_tag_key_that_is_another_one_meanwhile_stays(
    file: KeyringFile, state: Path, tmp_path: Path, old: LocalKms, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another keyring was put in the place of the one whose tag key was wrapped anew."""
    services, anew = ServiceSet(old), rewrapping._anew
    (tmp_path / "another").mkdir(mode=0o700)
    another = keyring_file_of(services, tmp_path / "another", RANDOM)
    make_missing(another, services, [DATA], NOW, RANDOM)
    theirs = another.document()

    def replacing(services: ServiceSet, slot: Slot, wrapped: Wrapped) -> Wrapped:
        if slot.group == "keyring":
            (state / "keyring.json").write_bytes(another.text(theirs))
        return anew(services, slot, wrapped)

    monkeypatch.setattr(rewrapping, "_anew", replacing)
    rewrap(file, services, ALL)
    assert file.document() == theirs


def interrupted(monkeypatch: pytest.MonkeyPatch, at: int) -> Callable[[], None]:
    """Ends the work at the `at`-th call that changes or asks anything; gives what lets it run again."""
    calls = 0

    def counting(work: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == at:
                raise Killed
            return work(*args, **kwargs)

        return run

    with_limits = pytest.MonkeyPatch()
    with_limits.setattr(rewrapping, "_AT_ONCE", 1)
    for of, name in (
        (LocalKms, "rotate_kek"),
        (LocalKms, "wrap"),
        (KeyringFile, "change"),
        (KeyringFile, "change_document"),
    ):
        with_limits.setattr(of, name, counting(getattr(of, name)))
    return with_limits.undo


@pytest.mark.parametrize("at", range(1, 15))
def test_wherever_it_is_interrupted_every_key_opens_and_it_can_be_resumed(
    file: KeyringFile, old: LocalKms, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    services = ServiceSet(old)
    before, undo = deks(file, services), interrupted(monkeypatch, at)
    try:
        rewrap(file, services, ALL)
        finished = True
    except Killed:
        finished = False
    finally:
        undo()
    assert deks(file, services) == before
    require_open(services, file.read(), [ACME, Owner("other", "au")])
    if finished:
        return
    rewrap(file, services, ALL, resume=True)
    assert deks(file, services) == before
    owners = {entry.slot.owner: set() for entry in file.read()}  # type: ignore[var-annotated]
    for entry in file.read():
        owners[entry.slot.owner].add(entry.wrapped.kek_version)
    assert all(len(versions) == 1 for versions in owners.values())


_PROGRAM = """
import pathlib, secrets, sys
from proxy.kms import rewrapping
from proxy.kms.keystore import keyring_file_of
from proxy.kms.local import LocalKms
from proxy.kms.selection import Selection
from proxy.kms.service_set import ServiceSet
rewrapping._AT_ONCE = 3
state, unlock = pathlib.Path(sys.argv[1]), bytes.fromhex(sys.stdin.readline())
services = ServiceSet(LocalKms(state, unlock, secrets.token_bytes, "old"))
file = keyring_file_of(services, state, secrets.token_bytes)
print("ready", flush=True)
while True:
    rewrapping.rewrap(file, services, Selection())
"""


def test_killed_at_any_moment_it_leaves_a_keyring_that_opens(state: Path) -> None:
    unlock = RANDOM(32)
    services = ServiceSet(LocalKms(state, unlock, RANDOM, "old"))
    file = keyring_file_of(services, state, RANDOM)
    make_missing(file, services, [Slot(ACME, f"g{number}", Purpose.DATA) for number in range(20)], NOW, RANDOM)
    before = deks(file, services)
    for round_ in range(8):
        with subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, str(state)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as process:
            assert process.stdin and process.stdout
            process.stdin.write(unlock.hex().encode() + b"\n")
            process.stdin.flush()
            assert process.stdout.readline() == b"ready\n"
            time.sleep(0.01 + round_ * 0.013)  # another moment each time; what the test asks for holds at all of them
            process.kill()
        assert deks(file, services) == before
    rewrap(file, services, ALL)
    assert deks(file, services) == before


class Careless(LocalKms):
    """Wraps, but another key than it was given."""

    def rewrap(self, slot: Slot, wrapped: Wrapped) -> Wrapped:
        return replace(self.wrap(slot, RANDOM(DEK_SIZE), wrapped.key_id), key_id=wrapped.key_id)


def test_what_was_wrapped_wrongly_never_takes_the_place_of_what_opens(file: KeyringFile, old: LocalKms) -> None:
    services = ServiceSet(old)
    before = deks(file, services)
    old.__class__ = Careless
    with pytest.raises(Exception, match="does not match key id"):
        rewrap(file, services, ALL)
    old.__class__ = LocalKms
    assert deks(file, services) == before
