"""`kek.json`: the KEKs of the embedded key service as they lie on disk, sealed. docs/spec/keyring.md is normative."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from proxy.crypto.xaes import KEY_SIZE, NONCE_SIZE, TAG_SIZE
from proxy.kms.private_file import PrivateFile
from proxy.kms.service import NAME, REGION, KeysError
from proxy.kms.strict_json import MalformedError, Record, loads
from proxy.ports import Owner

FILE = "kek.json"
FORMAT = 1
MAX_BYTES = 4 * 1024 * 1024
MAX_VERSION = 1_000_000

_SEALED_SIZE = NONCE_SIZE + KEY_SIZE + TAG_SIZE


@dataclass(frozen=True, slots=True)
class Row:
    """A version of an owner's KEK. `sealed`: empty if it was destroyed; its number is not given out again."""

    owner: Owner
    version: int
    sealed: bytes = field(repr=False)


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

    def read(self) -> list[Row]:
        """All rows; none if there is no file."""
        data = self._file.read()
        try:
            return [] if data is None else _decode(data)
        except MalformedError as error:
            raise KeysError(f"{self.path}: damaged: {error}; restore it from a backup") from None

    def replace(self, rows: Sequence[Row]) -> None:
        """Puts `rows` in the place of all rows and on the disk. To be called while `locked`."""
        data = _encode(rows)
        try:
            _decode(data)
        except MalformedError as error:
            raise KeysError(f"{FILE}: this KEK cannot be kept: {error}; check tenant and region") from None
        self._file.replace(data)


def _encode(rows: Sequence[Row]) -> bytes:
    keks = [
        {
            "tenant": row.owner.tenant,
            "region": row.owner.region,
            "version": row.version,
            "sealed": base64.b64encode(row.sealed).decode(),
        }
        for row in rows
    ]
    return json.dumps({"version": FORMAT, "keks": keks}, indent=1).encode() + b"\n"


def _decode(data: bytes) -> list[Row]:
    record = Record(loads(data), {"version", "keks"})
    record.number("version", FORMAT, FORMAT)
    rows = [_row(item) for item in record.items("keks")]
    if len({(row.owner, row.version) for row in rows}) != len(rows):
        raise MalformedError("a KEK version is there twice")
    return rows


def _row(item: object) -> Row:
    record = Record(item, {"tenant", "region", "version", "sealed"})
    owner = Owner(record.text("tenant", NAME), record.text("region", REGION))
    sealed = record.data("sealed", _SEALED_SIZE)
    if len(sealed) not in (0, _SEALED_SIZE):
        raise MalformedError(f'"sealed" has neither 0 nor {_SEALED_SIZE} bytes')
    return Row(owner, record.number("version", 1, MAX_VERSION), sealed)
