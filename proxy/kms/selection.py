"""Which keys of a keyring a command is about. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from proxy.kms.keyring_format import Entry
from proxy.kms.service import KeysError, Slot
from proxy.ports import Owner

_SHORTEST = 8  # hex digits that name a key for people


@dataclass(frozen=True, slots=True)
class Selection:
    """None: any."""

    tenant: str | None = None
    region: str | None = None
    group: str | None = None

    def has(self, slot: Slot) -> bool:
        asked = (self.tenant, self.region, self.group)
        return all(want in (None, have) for want, have in zip(asked, (*slot.owner, slot.group), strict=True))

    def includes(self, owner: Owner) -> bool:
        """Whether keys of `owner` may be among the selected."""
        return self.tenant in (None, owner.tenant) and self.region in (None, owner.region)

    def owners(self, entries: Iterable[Entry]) -> list[Owner]:
        """Owners of the selected entries, each once, in order."""
        return sorted({entry.slot.owner for entry in entries if self.has(entry.slot)})


def in_order(entries: Iterable[Entry]) -> list[Entry]:
    """By tenant, region, group, purpose, age."""
    return sorted(entries, key=lambda it: (*it.slot.owner, it.slot.group, it.slot.purpose.value, it.created, it.id))


def named(entries: Iterable[Entry], name: str) -> Entry:
    """The one entry whose key id begins with `name`, at least 8 hex digits. Raises KeysError."""
    found = [entry for entry in entries if entry.id.hex().startswith(name.lower())] if len(name) >= _SHORTEST else []
    if len(found) != 1:
        how = "more than one key" if found else "no key"
        raise KeysError(f'there is {how} with an id that begins with "{name[:64]}"; see `wxgate keys list`')
    return found[0]
