"""Secrets are references, never values: `env:NAME` or `file:PATH`."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from proxy.crypto.secret_bytes import SecretBytes

REFERENCE = re.compile(r"(env:[A-Za-z_][A-Za-z0-9_]{0,127}|file:[^\0]{1,1024})", re.ASCII)
_MAX = 8192


class SecretError(Exception):
    """A reference that leads nowhere. Says the reference, never what stands there."""


def resolve(reference: str, base: Path) -> SecretBytes:
    """The bytes behind `reference`, without a final line feed. Paths are relative to `base`.

    Raises SecretError: not a reference, nothing there, empty, too long, readable by everybody.
    """
    if not REFERENCE.fullmatch(reference):
        raise SecretError("a secret is a reference, env:NAME or file:PATH, never the value itself")
    kind, _, name = reference.partition(":")
    value = _from_environment(name) if kind == "env" else _from_file(base / name, name)
    if not value or len(value) > _MAX:
        raise SecretError(f"{reference} is empty or too long")
    return SecretBytes(value)


def _from_environment(name: str) -> bytes:
    try:
        return os.environb[name.encode()]
    except KeyError:
        raise SecretError(f"env:{name} is not set") from None


def _from_file(path: Path, name: str) -> bytes:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # a pipe could hold the start up for ever
            raise SecretError(f"file:{name} cannot be read as a file")
        if status.st_mode & 0o077:
            raise SecretError(f"file:{name} can be read by others; chmod 600 it")
        with path.open("rb") as file:
            return file.read(_MAX + 2).rstrip(b"\r\n")
    except OSError:
        raise SecretError(f"file:{name} cannot be read") from None
