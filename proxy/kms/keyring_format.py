"""What stands in a keyring, and how it is written and read. Pure. docs/spec/keyring.md is normative."""

from __future__ import annotations

import base64
import enum
import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace

from proxy.crypto.data_key import KEY_ID_SIZE, Purpose
from proxy.kms.service import NAME, REGION, Slot, Wrapped
from proxy.kms.shredded import KEK_ID_SIZE, Shredded
from proxy.kms.strict_json import MalformedError, Record, loads
from proxy.ports import Owner

FORMAT = 2
OLD_FORMAT = 1

_MAX_SEALED = 4096
_MAX_VERSION = 1_000_000
# The last second of the year 9999, the last that dates are written of.
_MAX_TIME = 253_402_300_799
_MAX_COUNT = 2**63 - 1
# With customer-brought keys the id is twice as long.
_KEY_ID = re.compile(rf"[0-9a-f]{{{2 * KEY_ID_SIZE}}}([0-9a-f]{{{2 * KEY_ID_SIZE}}})?", re.ASCII)
_KEK_ID = re.compile(rf"[0-9a-f]{{{2 * KEK_ID_SIZE}}}", re.ASCII)
_TAG = re.compile(r"[0-9a-f]{64}", re.ASCII)
_WRAPPED = frozenset({"id", "service", "kek_version", "wrapped"})
_OLD_MEMBERS = frozenset(
    {
        *("id", "tenant", "region", "group", "purpose", "state"),
        *("created", "activated", "retired", "kek_version", "wrapped"),
    }
)
_MEMBERS = _OLD_MEMBERS | {"service", "uses", "bytes", "changes"}


class KeyState(enum.Enum):
    """PENDING opens, and will protect. ACTIVE opens and protects. RETIRING opens. DISABLED does neither and can come
    back. DESTROYED cannot: its wrapped DEK is gone.

    A lookup key that is RETIRING and not yet retired still makes the values of before: its replacement is under way.
    """

    PENDING = "pending"
    ACTIVE = "active"
    RETIRING = "retiring"
    DISABLED = "disabled"
    DESTROYED = "destroyed"


USABLE = frozenset({KeyState.PENDING, KeyState.ACTIVE, KeyState.RETIRING})
_STATE = re.compile("|".join(state.value for state in KeyState))
_PURPOSE = re.compile("|".join(purpose.value for purpose in Purpose))


@dataclass(frozen=True, slots=True)
class Entry:
    """One DEK. Times: whole Unix seconds, None if it has not come to that. `activated` of a pending key: when it is
    to become active. `uses` and `size` (bytes): what was protected with it on this machine, or
    more. `changes`: how often the rest of it was changed, on whatever machine."""

    slot: Slot
    wrapped: Wrapped
    state: KeyState
    created: int
    activated: int | None = None
    retired: int | None = None
    uses: int = 0
    size: int = 0
    changes: int = 0

    @property
    def id(self) -> bytes:
        return self.wrapped.key_id

    @property
    def being_replaced(self) -> bool:
        """Whether it is a lookup key whose values are still made beside those of its successor."""
        return self.slot.purpose is Purpose.LOOKUP and self.state is KeyState.RETIRING and self.retired is None


@dataclass(frozen=True, slots=True)
class Document:
    """A keyring as a whole. `revision` counts its changes. `tag_key`: the wrapped key of its integrity tag, with the
    region of the gateway that made it; None in format 1, where the unlock key stands for it. `shredded`: KEKs of
    embedded key services, on whatever machine, that are to be there no more."""

    entries: tuple[Entry, ...]
    revision: int = 0
    tag_key: Wrapped | None = None
    region: str = ""
    shredded: frozenset[Shredded] = frozenset()


def shared(document: Document) -> tuple[object, ...]:
    """What all machines have in common: everything but the revision, the order and each machine's own counts."""
    entries = {entry.id: replace(entry, uses=0, size=0) for entry in document.entries}
    return entries, document.tag_key, document.region, document.shredded


def noted(entries: tuple[Entry, ...], before: tuple[Entry, ...]) -> tuple[Entry, ...]:
    """`entries` with each change since `before` counted in its `changes`, unless it came with a greater number."""
    known = {entry.id: entry for entry in before}

    def count(entry: Entry) -> Entry:
        old = known.get(entry.id)
        if old is None or entry.changes > old.changes or replace(entry, uses=old.uses, size=old.size) == old:
            return entry
        return replace(entry, changes=old.changes + 1)

    return tuple(count(entry) for entry in entries)


def tagged_text(document: Document) -> bytes:
    """What the integrity tag is made of: the document without its tag, members sorted, no white space, ASCII."""
    return json.dumps(_members(document), sort_keys=True, separators=(",", ":")).encode()


def encode(document: Document, tag: str) -> bytes:
    """The text of the file. Raises MalformedError: what could not be read back must not replace what can."""
    data = json.dumps(_members(document) | {"tag": tag}, indent=1).encode() + b"\n"
    decode(data)
    return data


def decode(data: bytes) -> tuple[Document, str]:
    """The document and its tag, the tag not verified yet. Raises MalformedError."""
    content = loads(data)
    old = isinstance(content, dict) and content.get("version") == OLD_FORMAT
    record = Record(content, {"version", "entries", "tag"} | (set() if old else {"revision", "tag_key", "shredded"}))
    record.number("version", OLD_FORMAT if old else FORMAT, FORMAT)
    entries = tuple(_entry(number, item, old) for number, item in enumerate(record.items("entries"), 1))
    _require_whole(entries)
    if old:
        return Document(entries), record.text("tag", _TAG)
    tag_key = Record(record.any("tag_key"), _WRAPPED | {"region"})
    document = Document(
        entries,
        record.number("revision", 1, _MAX_COUNT),
        _wrapped(tag_key),
        tag_key.text("region", REGION),
        frozenset(_shredded(item) for item in record.items("shredded")),
    )
    return document, record.text("tag", _TAG)


def _members(document: Document) -> dict[str, object]:
    if document.tag_key is None:
        drop = {"service", "uses", "bytes", "changes"}
        entries = [{k: v for k, v in _entry_members(e).items() if k not in drop} for e in document.entries]
        return {"version": OLD_FORMAT, "entries": entries}
    return {
        "version": FORMAT,
        "revision": document.revision,
        "tag_key": {"region": document.region, **_wrapped_members(document.tag_key)},
        "shredded": [
            {"tenant": owner.tenant, "region": owner.region, "kek": kek_id.hex()}
            for owner, kek_id in sorted(document.shredded)
        ],
        "entries": [_entry_members(entry) for entry in document.entries],
    }


def _entry_members(entry: Entry) -> dict[str, object]:
    return {
        "tenant": entry.slot.owner.tenant,
        "region": entry.slot.owner.region,
        "group": entry.slot.group,
        "purpose": entry.slot.purpose.value,
        "state": entry.state.value,
        "created": entry.created,
        "activated": entry.activated,
        "retired": entry.retired,
        "uses": entry.uses,
        "bytes": entry.size,
        "changes": entry.changes,
        **_wrapped_members(entry.wrapped),
    }


def _wrapped_members(wrapped: Wrapped) -> dict[str, object]:
    return {
        "id": wrapped.key_id.hex(),
        "service": wrapped.service,
        "kek_version": wrapped.kek_version,
        "wrapped": base64.b64encode(wrapped.sealed).decode(),
    }


def _shredded(item: object) -> Shredded:
    record = Record(item, {"tenant", "region", "kek"})
    owner = Owner(record.text("tenant", NAME), record.text("region", REGION))
    return Shredded(owner, bytes.fromhex(record.text("kek", _KEK_ID)))


def _wrapped(record: Record, service: str = "") -> Wrapped:
    return Wrapped(
        bytes.fromhex(record.text("id", _KEY_ID)),
        service or record.text("service", NAME),
        record.number("kek_version", 1, _MAX_VERSION),
        record.data("wrapped", _MAX_SEALED),
    )


def _entry(number: int, item: object, old: bool) -> Entry:
    try:
        entry = _fields(Record(item, _OLD_MEMBERS if old else _MEMBERS), old)
        _require_consistent(entry)
    except MalformedError as error:
        raise MalformedError(f"entry {number}: {error}") from None
    return entry


def _fields(record: Record, old: bool) -> Entry:
    owner = Owner(record.text("tenant", NAME), record.text("region", REGION))
    return Entry(
        Slot(owner, record.text("group", NAME), Purpose(record.text("purpose", _PURPOSE))),
        _wrapped(record, "local" if old else ""),
        KeyState(record.text("state", _STATE)),
        record.number("created", 0, _MAX_TIME),
        record.number_or_null("activated", 0, _MAX_TIME),
        record.number_or_null("retired", 0, _MAX_TIME),
        0 if old else record.number("uses", 0, _MAX_COUNT),
        0 if old else record.number("bytes", 0, _MAX_COUNT),
        0 if old else record.number("changes", 0, _MAX_COUNT),
    )


def _require_consistent(entry: Entry) -> None:
    """State, times and wrapped DEK must tell the same story."""
    if (entry.state is KeyState.DESTROYED) != (entry.wrapped.sealed == b""):
        raise MalformedError("a destroyed key, and no other, has no wrapped bytes")
    if entry.state in (KeyState.ACTIVE, KeyState.RETIRING) and entry.activated is None:
        raise MalformedError("the key was used but never activated")
    missing = entry.state is KeyState.RETIRING and entry.retired is None and not entry.being_replaced
    if missing or (entry.state in (KeyState.PENDING, KeyState.ACTIVE) and entry.retired is not None):
        raise MalformedError('"retired" does not fit the state')


def _require_whole(entries: tuple[Entry, ...]) -> None:
    """What the entries must be together."""
    if len({entry.id for entry in entries}) != len(entries):
        raise MalformedError("a key id is there twice")
    if _repeats(entry.slot for entry in entries if entry.state is KeyState.ACTIVE):
        raise MalformedError("two keys are active for the same owner, group and purpose")
    if _repeats(entry.slot for entry in entries if entry.being_replaced):
        raise MalformedError("two lookup keys are being replaced for the same owner and group")


def _repeats(slots: Iterable[Slot]) -> bool:
    return any(amount > 1 for amount in Counter(slots).values())
