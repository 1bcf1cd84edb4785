"""The keyring in use: who gets which key, what never opens, what a reload may and may not do."""

import asyncio
import secrets
from dataclasses import replace
from pathlib import Path

import pytest

from proxy.crypto.data_key import DataKey, KeyMismatchError, Purpose
from proxy.kms.administration import init_keys, keyring_file, rotate_keys
from proxy.kms.keyring import Keyring
from proxy.kms.keyring_file import KeyringFile
from proxy.kms.keyring_format import Entry, KeyState
from proxy.kms.local import LocalKms
from proxy.kms.service import KeysError, Slot, Wrapped
from proxy.ports import Keys, Owner
from proxy.refusal import Refusal
from tests.kms.conftest import ACME, DATA, FOREIGN, LOOKUP, NOW, OTHER


@pytest.fixture
def kms(filled: Path, unlock: bytes) -> LocalKms:
    return LocalKms(filled, unlock, secrets.token_bytes)


@pytest.fixture
def file(filled: Path, kms: LocalKms) -> KeyringFile:
    return keyring_file(filled, kms, secrets.token_bytes)


def only(file: KeyringFile, slot: Slot) -> Entry:
    (entry,) = (entry for entry in file.read() if entry.slot == slot)
    return entry


def put(file: KeyringFile, entry: Entry) -> None:
    file.change(lambda entries: tuple(entry if old.id == entry.id else old for old in entries))


async def test_a_key_is_had_by_slot_and_by_id(file: KeyringFile, kms: LocalKms) -> None:
    keys: Keys = Keyring(file, kms)
    for slot in (DATA, LOOKUP, FOREIGN):
        key = await keys.active(*slot)
        assert (key.id, key.purpose) == (only(file, slot).id, slot.purpose)
        assert await keys.by_id(slot.owner, key.id) is key
    sealed = (await keys.active(*DATA)).seal(bytes(24), b"words", b"aad")
    assert (await Keyring(file, kms).active(*DATA)).open(bytes(24), sealed, b"aad") == b"words"


async def test_no_key_of_another_owner_group_or_purpose(file: KeyringFile, kms: LocalKms) -> None:
    keys = Keyring(file, kms)
    mine = only(file, DATA).id
    for owner in (OTHER, Owner("acme", "au"), Owner("other", "in"), Owner("", "")):
        assert await keys.by_id(owner, mine) is None
    assert await keys.by_id(ACME, bytes(16)) is None and await keys.by_id(ACME, b"") is None
    for slot in ((ACME, "agent", Purpose.DATA), (OTHER, "follower", Purpose.LOOKUP), (Owner("x", "in"), *DATA[1:])):
        with pytest.raises(Refusal, match="key_unavailable"):
            await keys.active(*slot)


@pytest.mark.parametrize(
    ("now", "times", "opens"),
    [
        (KeyState.PENDING, (1, 9, None), True),
        (KeyState.RETIRING, (1, 2, 3), True),
        (KeyState.DISABLED, (1, 2, 3), False),
        (KeyState.DESTROYED, (1, 2, 3), False),
    ],
)
async def test_only_active_keys_protect_and_only_usable_ones_open(
    file: KeyringFile, kms: LocalKms, now: KeyState, times: tuple[int, int | None, int | None], opens: bool
) -> None:
    entry = only(file, DATA)
    sealed = b"" if now is KeyState.DESTROYED else entry.wrapped.sealed
    put(file, Entry(DATA, replace(entry.wrapped, sealed=sealed), now, *times))
    keys = Keyring(file, kms)
    with pytest.raises(Refusal, match="key_unavailable"):
        await keys.active(*DATA)
    assert (await keys.by_id(ACME, entry.id) is not None) is opens


class _Swapping(LocalKms):
    """A key service that opens every wrapped DEK and hands out another."""

    def unwrap(self, slot: Slot, wrapped: Wrapped) -> bytes:
        return bytes(reversed(super().unwrap(slot, wrapped)))


def test_a_dek_that_its_id_does_not_commit_to_is_refused_by_name(
    file: KeyringFile, filled: Path, unlock: bytes
) -> None:
    with pytest.raises(KeyMismatchError, match=file.read()[0].id.hex()):
        Keyring(file, _Swapping(filled, unlock, secrets.token_bytes))


def test_swapped_wrapped_deks_are_refused_by_name(file: KeyringFile, kms: LocalKms) -> None:
    mine, other = only(file, DATA), only(file, LOOKUP)
    put(file, replace(mine, wrapped=replace(mine.wrapped, sealed=other.wrapped.sealed)))
    with pytest.raises(KeysError, match=mine.id.hex()):
        Keyring(file, kms)


def test_without_a_keyring_or_its_keks_there_is_no_start(filled: Path, file: KeyringFile, unlock: bytes) -> None:
    (filled / "kek.json").rename(filled / "aside")
    with pytest.raises(KeysError, match="no KEK version 1"):
        Keyring(file, LocalKms(filled, unlock, secrets.token_bytes))
    (filled / "aside").rename(filled / "kek.json")
    (filled / "keyring.json").unlink()
    with pytest.raises(KeysError, match="wxgate keys init"):
        Keyring(file, LocalKms(filled, unlock, secrets.token_bytes))


async def test_reload_takes_up_a_rotation_and_a_new_owner(
    filled: Path, file: KeyringFile, kms: LocalKms, unlock: bytes
) -> None:
    keys = Keyring(file, kms)
    old = await keys.active(*DATA)
    (new,) = rotate_keys(filled, unlock, NOW + 9, secrets.token_bytes, tenant="acme")
    third = Slot(Owner("third", "jp"), "follower", Purpose.DATA)
    init_keys(filled, unlock, [third], NOW, secrets.token_bytes)
    assert await keys.active(*DATA) is old  # nothing moves before it is told to
    keys.reload()
    assert (await keys.active(*DATA)).id == new.id
    again = await keys.by_id(ACME, old.id)
    assert again is not None and again.id == old.id
    assert (await keys.active(*third)).purpose is Purpose.DATA


@pytest.mark.parametrize("breakage", ["file", "missing", "keks", "one key"])
async def test_a_broken_reload_raises_and_keeps_everything(
    filled: Path, file: KeyringFile, kms: LocalKms, unlock: bytes, breakage: str
) -> None:
    keys = Keyring(file, LocalKms(filled, unlock, secrets.token_bytes))
    held = [await keys.active(*slot) for slot in (DATA, LOOKUP, FOREIGN)]
    rotate_keys(filled, unlock, NOW + 9, secrets.token_bytes)
    if breakage == "file":
        (filled / "keyring.json").write_bytes(b"{")
    elif breakage == "missing":
        (filled / "keyring.json").unlink()
    elif breakage == "keks":
        keys._kms = LocalKms(filled, unlock, secrets.token_bytes)
        (filled / "kek.json").unlink()
    else:
        last = file.read()[-1]
        put(file, replace(last, wrapped=replace(last.wrapped, sealed=bytes(72))))
    with pytest.raises(KeysError):
        keys.reload()
    assert [await keys.active(*slot) for slot in (DATA, LOOKUP, FOREIGN)] == held


def test_the_look_ups_never_wait(file: KeyringFile, kms: LocalKms) -> None:
    keys = Keyring(file, kms)
    for look_up in (keys.active(*DATA), keys.by_id(ACME, only(file, DATA).id), keys.by_id(ACME, bytes(16))):
        with pytest.raises(StopIteration):
            look_up.send(None)
        look_up.close()


async def test_many_look_ups_meet_one_reload(filled: Path, file: KeyringFile, kms: LocalKms, unlock: bytes) -> None:
    keys = Keyring(file, kms)
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
            await asyncio.to_thread(rotate_keys, filled, unlock, NOW, secrets.token_bytes)
            await asyncio.to_thread(keys.reload)
        done = True
    assert all(user.result() for user in users)


def test_ages_tell_since_when_a_key_is_in_use(filled: Path, file: KeyringFile, kms: LocalKms, unlock: bytes) -> None:
    rotate_keys(filled, unlock, NOW + 60, secrets.token_bytes, tenant="acme")
    pending = replace(only(file, FOREIGN), state=KeyState.PENDING, activated=int(NOW) + 1000)
    put(file, pending)
    lookup = only(file, LOOKUP)
    gone = replace(lookup, state=KeyState.DESTROYED, retired=5, wrapped=replace(lookup.wrapped, sealed=b""))
    put(file, gone)
    ages = {(age.owner, age.state): age for age in Keyring(file, kms).ages(NOW + 100.5)}
    assert {key: age.seconds for key, age in ages.items()} == {
        (ACME, KeyState.RETIRING): 101.0,
        (ACME, KeyState.ACTIVE): 41.0,
        (OTHER, KeyState.PENDING): 101.0,
    }
    assert ages[ACME, KeyState.ACTIVE].key_id == file.read()[-1].id
    assert all(age.seconds == 0.0 for age in Keyring(file, kms).ages(0))
