"""A machine destroys what another shredded, on record, and again whenever it comes back."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest

from proxy.crypto.data_key import Purpose
from proxy.kms.keyring import Keyring
from proxy.kms.keyring_file import KeyringFile
from proxy.kms.local import LocalKms
from proxy.kms.making import make_missing
from proxy.kms.service import Slot
from proxy.kms.service_settings import KeySettings
from proxy.kms.shredded import Shredded
from proxy.kms.shredding import shred
from proxy.observe.log import StructuredLog
from proxy.ports import Owner
from proxy.serve import shred_following
from proxy.serve.settings import Settings
from proxy.serve.shred_following import ShredFollowing, follow_shreds
from tests.kms.machine import NOW, Machine

ACME = Owner("acme", "in")
DATA = Slot(ACME, "follower", Purpose.DATA)


class Log:
    """Remembers what was written."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def write(self, _level: int, event: str, **_facts: object) -> None:
        self.events.append(event)


@dataclass
class Following:
    """A machine that has taken up a shredding, and what follows there."""

    machine: Machine
    backup: bytes
    audit: Path

    def __post_init__(self) -> None:
        self.log = Log()
        self.following = ShredFollowing(cast(StructuredLog, self.log))
        self.audit_max_bytes = 1 << 20
        self.state, self.keys = self.machine.state, KeySettings.local(self.machine.unlock)
        self.file: KeyringFile = self.machine.file

    def shredded(self) -> frozenset[Shredded]:
        return self.file.document().shredded

    @property
    def settings(self) -> Settings:
        return cast(Settings, self)

    async def turn(self) -> None:
        await self.following.turn(cast(Keyring, self), self.settings)
        assert not self.following.warnings()

    def restore(self) -> None:
        """As a person does, who does not know of the shredding."""
        new = self.state / "restored"
        new.write_bytes(self.backup)
        new.chmod(0o600)
        new.rename(self.state / "kek.json")

    def has_kek(self) -> bool:
        return bool(self.machine.kms.kek_ids(ACME))

    def records(self) -> list[dict[str, Any]]:
        lines = map(json.loads, (self.audit / "worker-9999.jsonl").read_text().splitlines())
        return [line for line in lines if line["event"] == "keys_command"]


@pytest.fixture
def there(tmp_path: Path) -> Following:
    state = tmp_path / "one"
    state.mkdir(mode=0o700)
    one = Machine(state, secrets.token_bytes(32))
    make_missing(one.file, one.services, [DATA], NOW, secrets.token_bytes)
    other = one.copy(tmp_path / "other")
    backup = (other.state / "kek.json").read_bytes()
    shred(one.file, one.services, ACME, NOW, several_machines=True)
    other.rotated(DATA)
    other.takes_up(one)
    return Following(other, backup, tmp_path / "audit")


async def test_a_kek_that_comes_back_later_goes_again(there: Following) -> None:
    for _ in range(3):
        await there.turn()
        assert not there.has_kek()
    there.restore()
    assert there.has_kek()
    await there.turn()
    assert not there.has_kek() and there.log.events == ["shred_followed", "shred_followed"]


async def test_one_that_comes_back_while_it_follows_goes_again(
    there: Following, monkeypatch: pytest.MonkeyPatch
) -> None:
    def then_restored(*arguments: Any) -> list[Owner]:
        owners = follow_shreds(*arguments)
        if not there.log.events:
            there.restore()
        return owners

    monkeypatch.setattr(shred_following, "follow_shreds", then_restored)
    await there.turn()
    assert there.has_kek()
    await there.turn()
    assert not there.has_kek()


async def test_where_nothing_changed_it_does_not_look_again(there: Following, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[None] = []

    def counted(*arguments: Any) -> list[Owner]:
        looks.append(None)
        return follow_shreds(*arguments)

    monkeypatch.setattr(shred_following, "follow_shreds", counted)
    for _ in range(5):
        await there.turn()
    assert len(looks) == 2, "the work, and a look that nothing came back meanwhile"


def test_keys_are_named_in_the_record_before_they_go(there: Following, monkeypatch: pytest.MonkeyPatch) -> None:
    late = {entry.id.hex() for entry in there.machine.of(ACME) if there.machine.opens(entry)}
    real: Callable[..., None] = LocalKms.destroy_keks

    def looking(kms: LocalKms, owner: Owner, ids: set[bytes]) -> None:
        (asked,) = there.records()
        assert (asked["phase"], asked["key_ids"]) == ("asked", ",".join(late))
        real(kms, owner, ids)

    monkeypatch.setattr(LocalKms, "destroy_keks", looking)
    assert len(late) == 1
    assert follow_shreds(there.settings, there.machine.services, there.file) == [ACME]
    assert [(it["phase"], it["key_ids"]) for it in there.records()] == [
        ("asked", ",".join(late)),
        ("ended", ",".join(late)),
    ]
