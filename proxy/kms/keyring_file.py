"""The keyring on disk: wrapped DEKs with their states, under an integrity tag. docs/spec/keyring.md is normative."""

from __future__ import annotations

import base64
import enum
import hashlib
import hmac
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from proxy.crypto.data_key import KEY_ID_SIZE, Purpose
from proxy.kms.private_file import PrivateFile
from proxy.kms.service import NAME, REGION, KeysError, Slot, Wrapped
from proxy.kms.strict_json import MalformedError, Record, loads
from proxy.ports import Owner

FILE = "keyring.json"
FORMAT = 1
# More than 30 000 entries.
MAX_BYTES = 16 * 1024 * 1024

_MAX_SEALED = 4096
_MAX_VERSION = 1_000_000
# The last second of the year 9999, the last that dates are written of.
_MAX_TIME = 253_402_300_799
_KEY_ID = re.compile(rf"[0-9a-f]{{{2 * KEY_ID_SIZE}}}", re.ASCII)
_TAG = re.compile(r"[0-9a-f]{64}", re.ASCII)
_MEMBERS = frozenset(
    {
        *("id", "tenant", "region", "group", "purpose", "state"),
        *("created", "activated", "retired", "kek_version", "wrapped"),
    }
)


class KeyState(enum.Enum):
    """PENDING opens, and will protect. ACTIVE opens and protects. RETIRING opens. DISABLED does neither and can come
    back. DESTROYED cannot: its wrapped DEK is gone."""

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
    to become active."""

    slot: Slot
    wrapped: Wrapped
    state: KeyState
    created: int
    activated: int | None = None
    retired: int | None = None

    @property
    def id(self) -> bytes:
        return self.wrapped.key_id


class KeyringFile:
    """`<state>/keyring.json`. All methods raise KeysError and then leave the file as it was."""

    def __init__(self, state: Path, tag_key: bytes) -> None:
        """`state`: the directory (0700). `tag_key`: 32 bytes, for the integrity tag."""
        self._file = PrivateFile(state / FILE, MAX_BYTES)
        self._tag_key = tag_key

    def __repr__(self) -> str:
        return f"KeyringFile({self._file.path})"

    def read(self) -> tuple[Entry, ...]:
        """All entries, checked against each other and against the tag."""
        data = self._file.read()
        if data is None:
            raise KeysError(f"{self._file.path}: there is no keyring; make one with `wxgate keys init`")
        return self._decoded(data)

    def change(self, edit: Callable[[tuple[Entry, ...]], tuple[Entry, ...]]) -> None:
        """Puts `edit(entries)` in the place of the entries while no other process can; `edit` of () if there is no
        file yet. On the disk when this returns."""
        with self._file.locked():
            data = self._file.read()
            before = () if data is None else self._decoded(data)
            after = edit(before)
            if after != before:
                self._file.replace(self._encoded(after))

    def _decoded(self, data: bytes) -> tuple[Entry, ...]:
        try:
            entries, tag = _decode(data)
        except MalformedError as error:
            raise KeysError(f"{self._file.path}: damaged: {error}; restore it from a backup") from None
        if not hmac.compare_digest(tag, self._tag(entries)):
            raise KeysError(
                f"{self._file.path}: the integrity tag does not match: the unlock key is another one, or the file was "
                "changed; check the reference to the unlock key, then restore the file"
            )
        return entries

    def _encoded(self, entries: tuple[Entry, ...]) -> bytes:
        """Read back before it is written: what could not be read must not replace what can."""
        document = {"version": FORMAT, "entries": [_members(entry) for entry in entries], "tag": self._tag(entries)}
        data = json.dumps(document, indent=1).encode() + b"\n"
        try:
            _decode(data)
        except MalformedError as error:
            raise KeysError(f"{self._file.path}: this cannot be kept: {error}; the file stays as it was") from None
        return data

    def _tag(self, entries: tuple[Entry, ...]) -> str:
        """HMAC-SHA-256, in hex, of the document without its tag: members sorted, no white space, ASCII."""
        document = {"version": FORMAT, "entries": [_members(entry) for entry in entries]}
        text = json.dumps(document, sort_keys=True, separators=(",", ":"))
        return hmac.new(self._tag_key, text.encode(), hashlib.sha256).hexdigest()


def _members(entry: Entry) -> dict[str, str | int | None]:
    return {
        "id": entry.id.hex(),
        "tenant": entry.slot.owner.tenant,
        "region": entry.slot.owner.region,
        "group": entry.slot.group,
        "purpose": entry.slot.purpose.value,
        "state": entry.state.value,
        "created": entry.created,
        "activated": entry.activated,
        "retired": entry.retired,
        "kek_version": entry.wrapped.kek_version,
        "wrapped": base64.b64encode(entry.wrapped.sealed).decode(),
    }


def _decode(data: bytes) -> tuple[tuple[Entry, ...], str]:
    """Entries and tag, the tag not verified yet. Raises MalformedError."""
    record = Record(loads(data), {"version", "entries", "tag"})
    record.number("version", FORMAT, FORMAT)
    entries = tuple(_entry(number, item) for number, item in enumerate(record.items("entries"), 1))
    if len({entry.id for entry in entries}) != len(entries):
        raise MalformedError("a key id is there twice")
    active = [entry.slot for entry in entries if entry.state is KeyState.ACTIVE]
    if len(set(active)) != len(active):
        raise MalformedError("two keys are active for the same owner, group and purpose")
    return entries, record.text("tag", _TAG)


def _entry(number: int, item: object) -> Entry:
    try:
        entry = _fields(Record(item, _MEMBERS))
        _require_consistent(entry)
    except MalformedError as error:
        raise MalformedError(f"entry {number}: {error}") from None
    return entry


def _fields(record: Record) -> Entry:
    owner = Owner(record.text("tenant", NAME), record.text("region", REGION))
    purpose = Purpose(record.text("purpose", _PURPOSE))
    key_id = bytes.fromhex(record.text("id", _KEY_ID))
    return Entry(
        Slot(owner, record.text("group", NAME), purpose),
        Wrapped(key_id, "local", record.number("kek_version", 1, _MAX_VERSION), record.data("wrapped", _MAX_SEALED)),
        KeyState(record.text("state", _STATE)),
        record.number("created", 0, _MAX_TIME),
        record.number_or_null("activated", 0, _MAX_TIME),
        record.number_or_null("retired", 0, _MAX_TIME),
    )


def _require_consistent(entry: Entry) -> None:
    """State, times and wrapped DEK must tell the same story."""
    if (entry.state is KeyState.DESTROYED) != (entry.wrapped.sealed == b""):
        raise MalformedError("a destroyed key, and no other, has no wrapped bytes")
    if entry.state in (KeyState.ACTIVE, KeyState.RETIRING) and entry.activated is None:
        raise MalformedError("the key was used but never activated")
    if (entry.state is KeyState.RETIRING and entry.retired is None) or (
        entry.state in (KeyState.PENDING, KeyState.ACTIVE) and entry.retired is not None
    ):
        raise MalformedError('"retired" does not fit the state')
