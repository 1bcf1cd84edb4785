"""Shredding where machines have KEKs of their own: nobody is left untold, and no receipt says more than is so."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path

import pytest

from proxy.kms import transitions
from proxy.kms.keyring_file import KeyringFile
from proxy.kms.keyring_format import KeyState
from proxy.kms.keystore import keyring_file_of
from proxy.kms.local import LocalKms
from proxy.kms.rewrapping import rewrap
from proxy.kms.selection import Selection
from proxy.kms.service import Destroyed, KeysError, KeyServiceDownError
from proxy.kms.service_set import ServiceSet
from proxy.kms.shredding import shred
from tests.kms.conftest import ACME, DATA, NOW, OTHER, Passing
from tests.kms.machine import Machine, Two

RANDOM = secrets.token_bytes


def _fails(*_: object) -> Destroyed:
    raise KeyServiceDownError("no answer in 60 s")


def _shred_in_vain(one: Machine, monkeypatch: pytest.MonkeyPatch, where: object, step: str) -> None:
    """A shredding that breaks off at `step`, as by a full disk, a lock, a kill."""
    with monkeypatch.context() as patch:
        patch.setattr(where, step, _fails)
        with pytest.raises(KeysError):
            shred(one.file, one.services, ACME, NOW, several_machines=True)


# --- interrupted


@pytest.mark.parametrize("broken", ["after the KEK", "at the KEK"])
def test_an_interrupted_shredding_was_told_to_the_others_before(
    two: Two, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    one, other = two
    backup = other.of(ACME)
    if broken == "after the KEK":
        _shred_in_vain(one, monkeypatch, transitions, "destroyed")
    else:
        _shred_in_vain(one, monkeypatch, LocalKms, "destroy_kek")
    other.takes_up(one)
    assert other.follows() == [ACME] and not any(other.opens(entry) for entry in backup)
    receipt = shred(one.file, one.services, ACME, NOW, several_machines=True, kek_is_gone=broken == "after the KEK")
    assert "others destroy the KEKs that the keyring names" in receipt.destroyed.operation


def test_where_the_keyring_cannot_be_changed_no_kek_is_destroyed(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    one, _ = two
    _shred_in_vain(one, monkeypatch, KeyringFile, "change_document")
    assert one.kms.kek_ids(ACME) and all(one.opens(entry) for entry in one.of(ACME))


def test_what_is_refused_names_nothing(two: Two) -> None:
    one, _ = two
    one.services.destroy_kek(ACME)
    one.kms.create_kek(ACME)
    with pytest.raises(KeysError, match="nothing was destroyed"):
        shred(one.file, one.services, ACME, NOW, several_machines=True)
    assert not one.file.document().shredded


class Outside(Passing):
    """A key service that all machines share."""

    name = "outside"

    def __getattr__(self, name: str) -> Callable[..., object]:
        if name in ("kek_ids", "destroy_keks"):
            raise AttributeError(name)
        return super().__getattr__(name)  # type: ignore[no-any-return]


def test_what_the_service_of_before_had_is_told_though_the_one_in_use_refuses(
    two: Two, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = two
    (tmp_path / "outside").mkdir(mode=0o700)
    outside = Outside(LocalKms(tmp_path / "outside", RANDOM(32), RANDOM, "outside"))
    backup = one.of(ACME)
    for machine in two:
        machine.services = ServiceSet(outside, others=[machine.kms])  # type: ignore[arg-type]
        machine.file = keyring_file_of(machine.services, machine.state, RANDOM)
    rewrap(one.file, one.services, Selection(), to_service="outside")
    with monkeypatch.context() as patch:
        patch.setattr(outside, "destroy_kek", _fails, raising=False)
        with pytest.raises(KeyServiceDownError):
            shred(one.file, one.services, ACME, NOW, several_machines=True)
    assert shred(one.file, one.services, ACME, NOW, several_machines=True).destroyed.operation.endswith("keyring names")
    other.takes_up(one)
    other.follows()
    assert not any(other.kms.kek_ids(ACME)) and backup


# --- a KEK that another machine made


def test_rows_under_another_machine_s_kek_stop_it(two: Two) -> None:
    one, other = two
    rewrap(other.file, other.services, Selection(tenant="acme"))  # and kek.json was not carried yet
    late = one.rotated(DATA)
    one.takes_up(other)
    assert one.opens(late)
    before = one.file.document()
    with pytest.raises(KeysError, match=r"do not open here.*another machine's.*several-machines\.md"):
        shred(one.file, one.services, ACME, NOW, several_machines=True)
    assert one.file.document() == before and one.opens(late)
    shred(one.file, one.services, ACME, NOW, several_machines=True, kek_is_gone=True)
    assert {entry.state for entry in one.of(ACME)} == {KeyState.DESTROYED}


# --- beside others who make keys


@pytest.mark.parametrize("step", ["unwrap", "destroy_kek"])
def test_it_has_the_makers_lock_from_the_look_to_the_end(two: Two, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    one, _ = two
    held: list[bool] = []
    real = getattr(LocalKms, step)

    def looking(kms: LocalKms, *arguments: object) -> object:
        try:
            with one.file.making(["local"], 0.0):
                held.append(False)
        except KeysError:
            held.append(True)
        return real(kms, *arguments)

    one.file.read()  # knows the tag key
    monkeypatch.setattr(LocalKms, step, looking)
    shred(one.file, one.services, ACME, NOW)
    assert held and all(held)


# --- beside one that wraps anew


def _meanwhile(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """`act` happens when a rewrap has read the keyring and begins to wait for its turn."""
    real = KeyringFile.making
    to_come = [act]

    def making(file: KeyringFile, *arguments: object) -> object:
        if to_come:
            to_come.pop()()
        return real(file, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(KeyringFile, "making", making)


def test_who_is_shredded_while_a_rewrap_waits_gets_no_new_kek(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    one, _ = two
    beside = Machine(one.state, one.unlock)
    _meanwhile(monkeypatch, lambda: shred(beside.file, beside.services, ACME, NOW))
    done = rewrap(one.file, one.services, Selection())
    assert ACME not in done.versions and OTHER in done.versions and not one.kms.kek_ids(ACME)


def test_nor_does_one_of_whom_another_machine_says_so(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is named there before its rows are destroyed: they would go on under a KEK that nobody named."""
    one, other = two
    _shred_in_vain(one, monkeypatch, LocalKms, "destroy_kek")
    backup = other.of(ACME)
    with monkeypatch.context() as patch:
        _meanwhile(patch, lambda: other.takes_up(one))
        with pytest.raises(KeysError, match="shredded on another machine just now; try again"):
            rewrap(other.file, other.services, Selection(tenant="acme"))
    assert set(other.kms.kek_ids(ACME)) == {1}
    assert other.follows() == [ACME] and not any(other.opens(entry) for entry in backup)
