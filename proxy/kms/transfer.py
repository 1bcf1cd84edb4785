"""Wrapped data keys out of one keyring and into another: for backups of single tenants and for moving machines.

What is exported is a keyring of its own, with its integrity tag: it is worth nothing without the key services.
"""

from __future__ import annotations

from dataclasses import replace

from proxy.kms import transitions
from proxy.kms.keyring_file import KeyringFile
from proxy.kms.keyring_format import Document, Entry
from proxy.kms.making import require_open
from proxy.kms.selection import Selection
from proxy.kms.service import KeysError, KeyService


def export_wrapped(file: KeyringFile, chosen: Selection) -> tuple[bytes, list[Entry]]:
    """The chosen keys as the text of a keyring, and which they are. Raises KeysError, also if there is none."""
    document = file.document()
    entries = tuple(entry for entry in document.entries if chosen.has(entry.slot))
    if not entries:
        raise KeysError("no key of that tenant, region and group; see `wxgate keys list`")
    if document.tag_key is None:
        raise KeysError("the keyring has format 1; any change of it, such as `wxgate keys rotate`, renews it")
    return file.text(replace(document, entries=entries, shredded=frozenset())), list(entries)


def import_wrapped(file: KeyringFile, services: KeyService, data: bytes) -> list[Entry]:
    """Takes the keys in `data` into the keyring, which may not be there yet; those it did not have.

    What the keyring has destroyed stays destroyed, and where both have a key the newer revision counts. Raises
    KeysError, KeyMismatchError: changed on its way, or keys that the configured key services do not open.
    """
    other = file.verified(data)
    require_open(services, other.entries, {entry.slot.owner for entry in other.entries})
    new: list[Entry] = []

    def edit(mine: Document) -> Document:
        known = {entry.id for entry in mine.entries}
        whole = transitions.merged(mine, other) if mine.entries else other
        new.extend(entry for entry in whole.entries if entry.id not in known)
        return whole

    file.change_document(edit)
    return new
