"""`kek.json`: the KEKs of the embedded key service as they lie on disk, sealed. docs/spec/keyring.md is normative."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from proxy.crypto.xaes import KEY_SIZE, NONCE_SIZE, TAG_SIZE
from proxy.kms.private_file import PrivateFile
from proxy.kms.service import NAME, REGION, KeysError
from proxy.kms.strict_json import MalformedError, Record, loads
from proxy.kms.unlock import ITERATIONS, LANES, MEMORY_KIB, SALT_SIZE, Stretching
from proxy.ports import Owner

FILE = "kek.json"
FORMAT = 2
MAX_BYTES = 4 * 1024 * 1024
MAX_VERSION = 1_000_000

_ARGON2ID = re.compile("argon2id")
_SEALED_SIZE = NONCE_SIZE + KEY_SIZE + TAG_SIZE


@dataclass(frozen=True, slots=True)
class Row:
    """A version of an owner's KEK. `sealed`: empty if it was destroyed; its number is not given out again."""

    owner: Owner
    version: int
    sealed: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Keks:
    """The whole content. `stretching`: how the passphrase that seals the KEKs is stretched; None: an unlock key."""

    stretching: Stretching | None
    rows: Sequence[Row]


class KekFile:
    """`<state>/kek.json`. All methods raise KeysError."""

    def __init__(self, state: Path) -> None:
        """`state`: the directory (0700). Reads nothing yet."""
        self._file = PrivateFile(state / FILE, MAX_BYTES)

    @property
    def path(self) -> Path:
        return self._file.path

    def stamp(self) -> tuple[int, ...] | None:
        """Differs after every change; see PrivateFile."""
        return self._file.stamp()

    def locked(self) -> AbstractContextManager[None]:
        """See PrivateFile."""
        return self._file.locked()

    def read(self) -> Keks:
        """The content; without rows if there is no file."""
        data = self._file.read()
        try:
            return Keks(None, ()) if data is None else _decode(data)
        except MalformedError as error:
            raise KeysError(f"{self.path}: damaged: {error}; restore it from a backup") from None

    def replace(self, keks: Keks) -> None:
        """Puts `keks` in the place of the content and on the disk. To be called while `locked`."""
        data = _encode(keks)
        try:
            _decode(data)
        except MalformedError as error:
            raise KeysError(f"{FILE}: this KEK cannot be kept: {error}; check tenant and region") from None
        self._file.replace(data)


def _encode(keks: Keks) -> bytes:
    rows = [
        {
            "tenant": row.owner.tenant,
            "region": row.owner.region,
            "version": row.version,
            "sealed": base64.b64encode(row.sealed).decode(),
        }
        for row in keks.rows
    ]
    unlock: dict[str, object] = {"kind": "key"}
    if keks.stretching is not None:
        salt, iterations, memory, lanes = keks.stretching
        unlock = {
            "kind": "argon2id",
            "salt": base64.b64encode(salt).decode(),
            "iterations": iterations,
            "memory_kib": memory,
            "lanes": lanes,
        }
    return json.dumps({"version": FORMAT, "unlock": unlock, "keks": rows}, indent=1).encode() + b"\n"


def _decode(data: bytes) -> Keks:
    document = loads(data)
    if isinstance(document, dict) and document.keys() == {"version", "keks"}:  # format 1: no passphrases yet
        Record(document, document.keys()).number("version", 1, 1)
        document = {**document, "version": FORMAT, "unlock": {"kind": "key"}}
    record = Record(document, {"version", "unlock", "keks"})
    record.number("version", FORMAT, FORMAT)
    rows = [_row(item) for item in record.items("keks")]
    if len({(row.owner, row.version) for row in rows}) != len(rows):
        raise MalformedError("a KEK version is there twice")
    return Keks(_stretching(record.any("unlock")), rows)


def _stretching(item: object) -> Stretching | None:
    if item == {"kind": "key"}:
        return None
    record = Record(item, {"kind", "salt", "iterations", "memory_kib", "lanes"})
    record.text("kind", _ARGON2ID)
    salt = record.data("salt", SALT_SIZE)
    if len(salt) != SALT_SIZE:
        raise MalformedError(f'"salt" does not have {SALT_SIZE} bytes')
    # Nobody who can change the file shall make the start cost hours or gigabytes.
    return Stretching(
        salt,
        record.number("iterations", ITERATIONS, 64),
        record.number("memory_kib", MEMORY_KIB, 1024 * 1024),
        record.number("lanes", LANES, 64),
    )


def _row(item: object) -> Row:
    record = Record(item, {"tenant", "region", "version", "sealed"})
    owner = Owner(record.text("tenant", NAME), record.text("region", REGION))
    sealed = record.data("sealed", _SEALED_SIZE)
    if len(sealed) not in (0, _SEALED_SIZE):
        raise MalformedError(f'"sealed" has neither 0 nor {_SEALED_SIZE} bytes')
    return Row(owner, record.number("version", 1, MAX_VERSION), sealed)
