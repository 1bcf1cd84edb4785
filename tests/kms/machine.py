"""Machines that share a keyring, each with an embedded key service of its own."""

from __future__ import annotations

import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path

from proxy.kms import transitions
from proxy.kms.following import follow, to_follow
from proxy.kms.keyring_file import KeyringFile
from proxy.kms.keyring_format import Entry
from proxy.kms.keystore import keyring_file_of
from proxy.kms.local import LocalKms
from proxy.kms.making import make_missing, new_entry
from proxy.kms.service import KeysError, Slot
from proxy.kms.service_set import ServiceSet
from proxy.ports import Owner

RANDOM = secrets.token_bytes
NOW = 1_800_000_000.5


@dataclass
class Machine:
    """`state` and what stands in it, with the embedded key service of this machine alone."""

    state: Path
    unlock: bytes

    def __post_init__(self) -> None:
        self.kms = LocalKms(self.state, self.unlock, RANDOM)
        self.services = ServiceSet(self.kms)
        self.file: KeyringFile = keyring_file_of(self.services, self.state, RANDOM)

    def copy(self, state: Path) -> Machine:
        shutil.copytree(self.state, state)
        return Machine(state, self.unlock)

    def takes_up(self, other: Machine) -> None:
        theirs = other.file.document()
        self.file.change_document(lambda mine: transitions.merged(mine, theirs))

    def follows(self) -> list[Owner]:
        owners = to_follow(self.services, self.file.document().shredded)
        for owner in owners:
            follow(self.file, self.services, owner, NOW)
        return owners

    def made(self, *slots: Slot) -> list[Entry]:
        return make_missing(self.file, self.services, slots, NOW, RANDOM)

    def rotated(self, slot: Slot) -> Entry:
        entry = new_entry(self.services, slot, NOW, NOW, RANDOM)
        self.file.change(lambda entries: transitions.added(entries, [entry], NOW))
        return entry

    def of(self, owner: Owner) -> list[Entry]:
        return [entry for entry in self.file.read() if entry.slot.owner == owner]

    def opens(self, entry: Entry) -> bool:
        try:
            return len(self.services.unwrap(entry.slot, entry.wrapped)) == 32
        except KeysError:
            return False


type Two = tuple[Machine, Machine]
