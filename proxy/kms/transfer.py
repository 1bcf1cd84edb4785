"""Wrapped data keys out of one keyring and into another: for backups of single tenants and for moving machines.

What is exported is a keyring of its own, with its integrity tag: it is worth nothing without the key services.
"""

from __future__ import annotations

import enum
import hmac
from collections.abc import Iterator
from dataclasses import dataclass, replace

from proxy.crypto.data_key import Purpose
from proxy.kms import transitions
from proxy.kms.keyring_file import KeyringFile
from proxy.kms.keyring_format import Document, Entry, KeyState
from proxy.kms.making import require_open
from proxy.kms.selection import Selection
from proxy.kms.service import KeysError, KeyService, Slot


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
class Imported:
    """`new`: the keys that the keyring did not have."""

    source: Source
    new: list[Entry]


def import_wrapped(file: KeyringFile, services: KeyService, data: bytes, now: float) -> Imported:
    """Takes the keys in `data` into the keyring, which may not be there yet. `now`: Unix seconds.

    What the keyring has destroyed stays destroyed, and no key counts fewer uses than before. A copy of the keyring is
    merged as another machine's is. Of another keyring the keys alone are taken, to open and not to protect: what was
    protected with them elsewhere since is not known; the keys of integrity and receipts stay. Raises KeysError,
    KeyMismatchError: changed on its way, or keys that the configured key services do not open.
    """
    other = file.verified(data)
    require_open(services, other.entries, {entry.slot.owner for entry in other.entries})
    imported = Imported(Source.FIRST, [])

    def edit(mine: Document) -> Document:
        nonlocal imported
        known = {entry.id for entry in mine.entries}
        source, whole = _joined(mine, other, now)
        imported = Imported(source, [entry for entry in whole.entries if entry.id not in known])
        return whole

    file.change_document(edit)
    return imported


def _joined(mine: Document, other: Document, now: float) -> tuple[Source, Document]:
    if not mine.entries and mine.tag_key is None:
        # Format 1 counted no uses.
        entries = other.entries if other.tag_key else tuple(_opening(entry, set(), now) for entry in other.entries)
        return Source.FIRST, replace(other, entries=entries)
    if mine.tag_key and other.tag_key and hmac.compare_digest(mine.tag_key.key_id, other.tag_key.key_id):
        return Source.COPY, _counting(transitions.merged(mine, other), mine, other)
    strangers = replace(mine, entries=tuple(_of_another(mine, other, now)), revision=0, shredded=frozenset())
    return Source.ANOTHER, _counting(transitions.merged(mine, strangers), mine, other)


def _of_another(mine: Document, other: Document, now: float) -> Iterator[Entry]:
    """What of another keyring's keys concerns this one: those it does not have, and which are destroyed. None of them
    takes the place of a key that is in use here."""
    known = {entry.id for entry in mine.entries}
    filled = {entry.slot for entry in mine.entries if entry.state is not KeyState.DESTROYED}
    for entry in other.entries:
        if entry.state is KeyState.DESTROYED:
            yield entry
        elif entry.id not in known:
            yield _opening(entry, filled, now)


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
