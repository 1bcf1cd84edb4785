"""Making and rotating keys: what is made, what is left alone, and that nothing is added to a keyring that is lost."""

import secrets
import stat
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from proxy.crypto.data_key import Purpose
from proxy.kms import making, transitions
from proxy.kms.keyring_format import Entry, KeyState
from proxy.kms.keystore import keyring_file_of
from proxy.kms.local import LocalKms
from proxy.kms.making import rotate, rotate_lookup
from proxy.kms.private_file import PrivateFile
from proxy.kms.selection import Selection
from proxy.kms.service import KeysError, Slot, Wrapped
from proxy.kms.service_set import ServiceSet
from proxy.observe.clock import SystemClock
from proxy.ports import Owner
from tests.kms.conftest import ACME, DATA, FOREIGN, LOOKUP, NOW
from tests.support.embedded import init_keys, keyring_file, list_keys, open_keyring, rotate_keys

RANDOM = secrets.token_bytes
ALL_OF_ACME = Selection(tenant="acme")


def files(state: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in state.iterdir()}


def test_init_makes_directory_keks_and_keys_once(tmp_path: Path, unlock: bytes) -> None:
    state = tmp_path / "new" / "state"
    wanted = [DATA, LOOKUP, FOREIGN, DATA]
    made = init_keys(state, unlock, wanted, NOW, RANDOM)
    assert [(e.slot, e.state, e.created, e.activated, e.retired) for e in made] == [
        (slot, KeyState.ACTIVE, int(NOW), int(NOW), None) for slot in (DATA, LOOKUP, FOREIGN)
    ]
    assert {name: stat.S_IMODE((state / name).stat().st_mode) for name in files(state)} == dict.fromkeys(
        ("kek.json", "kek.json.lock", "keyring.json", "keyring.json.lock", "keyring.json.local.making.lock"), 0o600
    )
    before = files(state)
    assert init_keys(state, unlock, wanted, NOW + 1, RANDOM) == []
    assert files(state) == before
    (more,) = init_keys(state, unlock, [*wanted, Slot(ACME, "agent", Purpose.DATA)], NOW + 2, RANDOM)
    assert more.slot.group == "agent" and len(list_keys(state, unlock, RANDOM)) == 4


async def test_a_keyring_is_opened_with_the_unlock_key_only(filled: Path, unlock: bytes) -> None:
    keyring = open_keyring(filled, unlock, SystemClock(), RANDOM)
    assert (await keyring.active(*LOOKUP)).purpose is Purpose.LOOKUP
    with pytest.raises(KeysError):
        open_keyring(filled, RANDOM(32), SystemClock(), RANDOM)


def test_init_finishes_what_a_killed_one_began(state: Path, unlock: bytes) -> None:
    LocalKms(state, unlock, RANDOM).create_kek(ACME)
    assert len(init_keys(state, unlock, [DATA], NOW, RANDOM)) == 1


@pytest.mark.parametrize("lost", ["kek.json", "unlock key"])
def test_nothing_is_added_to_a_keyring_that_does_not_open(filled: Path, unlock: bytes, lost: str) -> None:
    if lost == "kek.json":
        (filled / lost).unlink()
    else:
        unlock = RANDOM(32)
    before = files(filled)
    with pytest.raises(KeysError):
        init_keys(filled, unlock, [Slot(ACME, "agent", Purpose.DATA)], NOW, RANDOM)
    with pytest.raises(KeysError):
        rotate_keys(filled, unlock, NOW, RANDOM)
    assert files(filled) == before


def test_one_key_that_does_not_open_stops_every_change_of_its_owner(filled: Path, unlock: bytes) -> None:
    file = keyring_file(filled, LocalKms(filled, unlock, RANDOM), RANDOM)
    data, lookup, foreign = file.read()
    file.change(lambda _: (data, replace(lookup, wrapped=replace(lookup.wrapped, sealed=bytes(72))), foreign))
    before = files(filled)
    with pytest.raises(KeysError, match=lookup.id.hex()):
        rotate_keys(filled, unlock, NOW, RANDOM, tenant="acme")
    with pytest.raises(KeysError, match=lookup.id.hex()):
        init_keys(filled, unlock, [Slot(ACME, "agent", Purpose.DATA)], NOW, RANDOM)
    assert files(filled) == before
    assert len(rotate_keys(filled, unlock, NOW, RANDOM, tenant="other")) == 1, "another tenant's go on"


def test_a_disabled_lookup_key_is_not_replaced_and_a_disabled_data_key_is(filled: Path, unlock: bytes) -> None:
    file = keyring_file(filled, LocalKms(filled, unlock, RANDOM), RANDOM)
    file.change(lambda entries: tuple(replace(entry, state=KeyState.DISABLED, retired=5) for entry in entries))
    assert [entry.slot for entry in init_keys(filled, unlock, [DATA, LOOKUP], NOW, RANDOM)] == [DATA]


def test_rotation_makes_new_data_keys_and_retires_the_old(filled: Path, unlock: bytes) -> None:
    before = {entry.slot: entry for entry in list_keys(filled, unlock, RANDOM)}
    made = rotate_keys(filled, unlock, NOW + 10, RANDOM)
    after = {entry.id: entry for entry in list_keys(filled, unlock, RANDOM)}
    assert {entry.slot for entry in made} == {DATA, FOREIGN} and len(after) == 5
    for entry in made:
        old = after[before[entry.slot].id]
        assert (old.state, old.activated, old.retired) == (KeyState.RETIRING, int(NOW), int(NOW) + 10)
        assert (after[entry.id].state, entry.activated) == (KeyState.ACTIVE, int(NOW) + 10)
    assert after[before[LOOKUP].id] == before[LOOKUP]


def test_keys_that_are_rotated_within_one_second_follow_each_other(filled: Path, unlock: bytes) -> None:
    for _ in range(8):  # ids are random: any order that went by them would show
        made = rotate_keys(filled, unlock, NOW, RANDOM, tenant="acme")
        assert [entry.state for entry in made] == [KeyState.ACTIVE]


@pytest.mark.parametrize(
    ("asked", "rotated"),
    [
        ({"tenant": "acme"}, {"acme"}),
        ({"region": "au"}, {"other"}),
        ({"group": "follower"}, {"acme", "other"}),
        ({"tenant": "acme", "region": "in", "group": "follower"}, {"acme"}),
    ],
)
def test_rotation_of_a_selection(filled: Path, unlock: bytes, asked: dict[str, str], rotated: set[str]) -> None:
    made = rotate_keys(filled, unlock, NOW, RANDOM, **asked)
    assert {entry.slot.owner.tenant for entry in made} == rotated


@pytest.mark.parametrize("asked", [{"tenant": "x"}, {"tenant": "acme", "region": "au"}, {"group": ""}])
def test_rotation_of_nothing_is_an_error(filled: Path, unlock: bytes, asked: dict[str, str]) -> None:
    before = files(filled)
    with pytest.raises(KeysError, match="wxgate keys list"):
        rotate_keys(filled, unlock, NOW, RANDOM, **asked)
    assert files(filled) == before


@pytest.mark.parametrize("rotating", [rotate, rotate_lookup])
def test_a_new_key_waits_its_time_from_when_it_is_in_the_file(
    filled: Path, unlock: bytes, monkeypatch: pytest.MonkeyPatch, rotating: Callable[..., list[Entry]]
) -> None:
    """However long the key service took to wrap it, and whoever held the keyring's lock then."""
    services, passed = ServiceSet(LocalKms(filled, unlock, RANDOM)), 0.0
    wrap, locked = LocalKms.wrap, PrivateFile.locked

    def wait(seconds: float) -> None:
        nonlocal passed
        passed += seconds

    def slowly(self: LocalKms, *arguments: Any) -> Wrapped:
        wait(20)
        return wrap(self, *arguments)

    def late(self: PrivateFile, *arguments: Any, **more: Any) -> AbstractContextManager[None]:
        if self.path.name == "keyring.json":
            wait(300)  # for the makers, then for who changes the file
        return locked(self, *arguments, **more)

    monkeypatch.setattr(making, "monotonic", lambda: passed)
    monkeypatch.setattr(LocalKms, "wrap", slowly)
    monkeypatch.setattr(PrivateFile, "locked", late)
    (made,) = rotating(keyring_file_of(services, filled, RANDOM), services, ALL_OF_ACME, NOW, RANDOM, delay=5.0)
    assert (made.state, made.created, made.activated) == (KeyState.PENDING, int(NOW) + 620, int(NOW) + 625)


@pytest.mark.parametrize("purpose", Purpose)
def test_what_came_in_meanwhile_is_not_made_beside_it(
    filled: Path, unlock: bytes, monkeypatch: pytest.MonkeyPatch, purpose: Purpose
) -> None:
    """As from another machine, while the key service wraps."""
    services = ServiceSet(LocalKms(filled, unlock, RANDOM))
    file, wanted = keyring_file_of(services, filled, RANDOM), Slot(ACME, "agent", purpose)
    wrap, theirs = LocalKms.wrap, making.new_entry(services, wanted, NOW, NOW, RANDOM)

    def meanwhile(self: LocalKms, *arguments: Any) -> Wrapped:
        file.change(lambda entries: transitions.added(entries, [theirs], NOW))
        return wrap(self, *arguments)

    monkeypatch.setattr(LocalKms, "wrap", meanwhile)
    assert making.make_missing(file, services, [wanted], NOW, RANDOM) == []
    assert [entry.id for entry in file.read() if entry.slot == wanted] == [theirs.id]


def test_keys_are_listed_in_order(filled: Path, unlock: bytes) -> None:
    rotate_keys(filled, unlock, NOW + 10, RANDOM)
    listed = [(entry.slot, entry.state.value) for entry in list_keys(filled, unlock, RANDOM)]
    two = ("retiring", "active")
    assert listed == [*((DATA, each) for each in two), (LOOKUP, "active"), *((FOREIGN, each) for each in two)]


def test_a_bad_owner_or_group_is_refused_before_the_keyring_changes(filled: Path, unlock: bytes) -> None:
    before = files(filled)
    for slot in (Slot(Owner("a b", "in"), "g", Purpose.DATA), Slot(ACME, "follower message", Purpose.DATA)):
        with pytest.raises(KeysError):
            init_keys(filled, unlock, [slot], NOW, RANDOM)
    assert files(filled) == before


def test_processes_that_rotate_at_once_lose_no_key(filled: Path, unlock: bytes) -> None:
    program = (
        "import sys, secrets, pathlib\nfrom tests.support.embedded import rotate_keys\n"
        "for _ in range(5): rotate_keys(pathlib.Path(sys.argv[1]), bytes.fromhex(sys.argv[2]), 1, secrets.token_bytes)"
    )
    command = [sys.executable, "-c", program, str(filled), unlock.hex()]
    running = [subprocess.Popen(command) for _ in range(4)]
    assert [each.wait(60) for each in running] == [0] * 4
    entries = list_keys(filled, unlock, RANDOM)
    assert len(entries) == 3 + 4 * 5 * 2
    assert sum(entry.state is KeyState.ACTIVE for entry in entries) == 3
