"""Unique markers, and how to find them again in whatever somebody wrote them into."""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, quote_plus


class Markers:
    """Makes markers and searches for all of them, in every spelling a leak is likely to have."""

    def __init__(self) -> None:
        self._needles: dict[bytes, str] = {}

    def mark(self, name: str, *, chinese: bool = False) -> str:
        """A new marker for the field `name`: letters and digits, or also Chinese."""
        text = f"Zq{secrets.token_hex(8)}" + ("秘密消息" if chinese else "")
        self.add(name, text.encode())
        return text

    def number(self, name: str) -> str:
        """A marker that passes for a coordinate."""
        text = f"{10 + secrets.randbelow(80)}.{secrets.randbelow(10**14):014d}"
        self.add(name, text.encode())
        return text

    def add(self, name: str, value: bytes) -> None:
        """Search for `value` too."""
        for spelling, needle in _spellings(value):
            self._needles[needle] = f"{name} ({spelling})"

    def found_in(self, data: bytes) -> list[str]:
        return [name for needle, name in self._needles.items() if needle in data]

    def found_under(self, directory: Path) -> list[str]:
        """In the names and contents of a file or of all files below a directory."""
        found = []
        for path in (directory, *directory.rglob("*")):
            content = path.read_bytes() if path.is_file() else b""
            found += [f"{path}: {name}" for name in self.found_in(str(path).encode() + b"\n" + content)]
        return found


def _spellings(value: bytes) -> Iterator[tuple[str, bytes]]:
    yield "as it is", value
    yield "hex", value.hex().encode()
    yield "HEX", value.hex().upper().encode()
    for shift in range(3):  # where the marker stands in what was encoded decides how it looks
        whole = base64.b64encode(b"\0" * shift + value)
        core = whole[(0, 2, 3)[shift] : len(whole) // 4 * 4 - 4]  # the ends depend on the neighbours
        yield "base64", core
        yield "base64url", core.replace(b"+", b"-").replace(b"/", b"_")
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return
    if not text.isascii():
        yield "JSON", json.dumps(text)[1:-1].encode()
        yield "percent-encoded", quote(text).encode()
        yield "form-encoded", quote_plus(text).lower().encode()
        yield "entities", "".join(f"&#{ord(letter)};" for letter in text if ord(letter) > 127).encode()
        yield "GB 18030", text.encode("gb18030")
    yield "UTF-16", text.encode("utf-16-le")
    yield "backwards", text[::-1].encode()
