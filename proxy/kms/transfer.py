"""Wrapped data keys out of one keyring and into another: for backups of single tenants and for moving machines.

What is exported is a keyring of its own, with its integrity tag: it is worth nothing without the key services.
"""

from __future__ import annotations

import enum
import hmac
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from proxy.crypto.data_key import Purpose
from proxy.kms import transitions
from proxy.kms.keyring_file import KeyringFile
from proxy.kms.keyring_format import Document, Entry, KeyState
from proxy.kms.making import require_open
from proxy.kms.selection import Selection
from proxy.kms.service import KeysError, KeyService, Slot
from proxy.ports import Owner


def export_wrapped(file: KeyringFile, chosen: Selection) -> tuple[bytes, list[Entry]]:
    """The chosen keys as the text of a keyring, and which they are. Raises KeysError, also if there is none."""
    document = file.document()
    entries = tuple(entry for entry in document.entries if chosen.has(entry.slot))
    if not entries:
        raise KeysError("no key of that tenant, region and group; see `wxgate keys list`")
    if document.tag_key is None:
        raise KeysError("the keyring has format 1; any change of it, such as `wxgate keys rotate`, renews it")
    shredded = frozenset(each for each in document.shredded if chosen.includes(each.owner))
    return file.text(replace(document, entries=entries, shredded=shredded)), list(entries)


class Source(enum.Enum):
    """What an imported keyring is to the one that is here."""

    FIRST = "there was none here"
    COPY = "a copy of it"
    ANOTHER = "another one"


@dataclass(frozen=True, slots=True)
class Losses:
    """What an import takes away. `keys`: they are here, and destroyed in the copy. `owners`: their KEKs were shredded
    where the copy comes from, so they are destroyed here as well, with all that is under them."""

    keys: list[Entry] = field(default_factory=list)
    owners: list[Owner] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.keys or self.owners)

    def within(self, agreed: Losses) -> bool:
        ids = {entry.id for entry in agreed.keys}
        return all(entry.id in ids for entry in self.keys) and set(self.owners) <= set(agreed.owners)


@dataclass(frozen=True, slots=True)
class Imported:
    """`new`: the keys that the keyring did not have. `left`: those that another keyring has destroyed, and that are as
    they were."""

    source: Source
    new: list[Entry]
    left: list[Entry]


def losses(file: KeyringFile, data: bytes) -> Losses:
    """What `import_wrapped` of `data` would take away. Raises KeysError, KeyMismatchError."""
    other = file.verified(data)
    return _losses(file.document(), other) if file.stamp() is not None else Losses()


def import_wrapped(
    file: KeyringFile, services: KeyService, data: bytes, now: float, agreed: Losses | None = None
) -> Imported:
    """Takes the keys in `data` into the keyring, which may not be there yet. `now`: Unix seconds.

    What the keyring has destroyed stays destroyed, and no key counts fewer uses than before. A copy of the keyring is
    merged as another machine's is; what it takes away must be `agreed`. Of another keyring the keys alone are taken, to
    open and not to protect: what was protected with them elsewhere since is not known; the keys of integrity and
    receipts stay, and so does every key that is here. Raises KeysError, KeyMismatchError: changed on its way, or keys
    that the configured key services do not open, or a loss that was not agreed.
    """
    other = file.verified(data)
    require_open(services, other.entries, {entry.slot.owner for entry in other.entries})
    imported = Imported(Source.FIRST, [], [])

    def edit(mine: Document) -> Document:
        nonlocal imported
        if not _losses(mine, other).within(agreed or Losses()):
            raise KeysError("this import would destroy keys that are here, and nobody said so; nothing was changed")
        known = {entry.id for entry in mine.entries}
        source, whole = _joined(mine, other, now)
        left = _destroyed_there(mine, other) if source is Source.ANOTHER else []
        imported = Imported(source, [entry for entry in whole.entries if entry.id not in known], left)
        return whole

    file.change_document(edit)
    return imported


def _joined(mine: Document, other: Document, now: float) -> tuple[Source, Document]:
    if not mine.entries and mine.tag_key is None:
        # Format 1 counted no uses.
        entries = other.entries if other.tag_key else tuple(_opening(entry, set(), now) for entry in other.entries)
        return Source.FIRST, replace(other, entries=entries)
    if _is_copy(mine, other):
        return Source.COPY, _counting(transitions.merged(mine, other), mine, other)
    strangers = replace(mine, entries=tuple(_of_another(mine, other, now)), revision=0, shredded=frozenset())
    return Source.ANOTHER, _counting(transitions.merged(mine, strangers), mine, other)


def _is_copy(mine: Document, other: Document) -> bool:
    if mine.tag_key is None or other.tag_key is None:
        return False
    return hmac.compare_digest(mine.tag_key.key_id, other.tag_key.key_id)


def _losses(mine: Document, other: Document) -> Losses:
    if not _is_copy(mine, other):
        return Losses()
    return Losses(_destroyed_there(mine, other), sorted({each.owner for each in other.shredded - mine.shredded}))


def _destroyed_there(mine: Document, other: Document) -> list[Entry]:
    """Keys that are here and destroyed in `other`."""
    gone = {entry.id for entry in other.entries if entry.state is KeyState.DESTROYED}
    return [entry for entry in mine.entries if entry.state is not KeyState.DESTROYED and entry.id in gone]


def _of_another(mine: Document, other: Document, now: float) -> Iterator[Entry]:
    """Those of another keyring's keys that this one does not have. None of them takes the place of a key that is in use
    here, and what was destroyed there says nothing of a key that is here: a tenant may have left there and stayed."""
    known = {entry.id for entry in mine.entries}
    filled = {entry.slot for entry in mine.entries if entry.state is not KeyState.DESTROYED}
    for entry in other.entries:
        if entry.id not in known:
            yield entry if entry.state is KeyState.DESTROYED else _opening(entry, filled, now)


def _opening(entry: Entry, filled: set[Slot], now: float) -> Entry:
    """As one that only opens, whose uses nobody knows. Those of lookup keys are not counted: where no slot of `filled`
    has one already, equal values shall stay equal."""
    if entry.slot.purpose is Purpose.LOOKUP and entry.slot not in filled:
        return entry
    if entry.state in (KeyState.PENDING, KeyState.ACTIVE) or entry.being_replaced:
        activated = entry.created if entry.state is KeyState.PENDING else entry.activated
        return replace(entry, state=KeyState.RETIRING, activated=activated, retired=int(now))
    return entry


def _counting(whole: Document, *documents: Document) -> Document:
    """With the greatest counts that any of `documents` has."""
    counts: dict[bytes, tuple[int, int]] = {}
    for entry in (entry for document in documents for entry in document.entries):
        uses, size = counts.get(entry.id, (0, 0))
        counts[entry.id] = max(uses, entry.uses), max(size, entry.size)
    return replace(whole, entries=transitions.counted(whole.entries, counts))
