"""What the parts of gateway.yaml have in common: names, secrets, files, URLs and addresses, each with its problem."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from proxy.serve.secret import SecretError, resolve
from proxy.source.problem import Place, Problem, Problems, nearest
from proxy.source.section import Section
from proxy.source.yaml_reader import MAX_BYTES


def read_bounded(path: Path) -> bytes:
    """The bytes of a file people write, at most one more than is allowed. Raises OSError."""
    with path.open("rb") as file:
        return file.read(MAX_BYTES + 1)


class Parts:
    """One file being read. Problems gather in `problems`; paths are relative to the file's directory."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.base = path.parent
        self.problems: list[Problem] = []

    def content(self, path: Path) -> bytes:
        """Raises Problems: without the file there is nothing else to say."""
        try:
            return read_bounded(path)
        except OSError as error:
            message = f"the file cannot be read ({(error.strerror or 'error').lower()})"
            raise Problems([Problem(Place(str(path), 1, 1), "file-unreadable", message)]) from None

    def add[T](self, table: dict[str, T], section: Section, item: T) -> None:
        name: str = item.name  # type: ignore[attr-defined]
        if name in table:
            section.problem(section.place, "name-duplicate", f'there are two entries named "{name}"')
        table[name] = item

    def secret(self, section: Section, key: str, *, required: bool = True) -> bytes:
        """What the reference under `key` leads to; empty if there is none."""
        node = section.take(key, required=required)
        if node is None:
            return b""
        try:
            return resolve(section.as_text(node, key) or "", self.base)
        except SecretError as error:
            section.problem(node.place, "secret", f'"{key}": {error}')
            return b""

    def file(self, section: Section, key: str, *, required: bool = False) -> Path | None:
        node = section.take(key, required=required)
        name = section.as_text(node, key) if node is not None else None
        if node is None or name is None:
            return None
        path = self.base / name
        if not path.is_file():
            section.problem(node.place, "file-unreadable", f'"{key}": there is no file {name}')
        return path

    def url(self, section: Section, key: str, *, required: bool = False) -> SplitResult:
        """All its parts are empty if there is none or it is not one."""
        text = section.text(key, required=required, pattern=r"[!-~]{1,512}", hint="a URL in ASCII")
        try:
            url = urlsplit(text)
            _ = url.port  # raises as well
        except ValueError:
            section.problem(section.place, "wrong-value", f'"{key}" is not a URL')
            return urlsplit("")
        return url

    def address(self, section: Section, key: str, default: str) -> tuple[str, int]:
        """IP address and port; port 0 if it is not one."""
        node = section.take(key, required=not default)
        text = (section.as_text(node, key) or "") if node is not None else default
        host, _, port = text.rpartition(":")
        try:
            address = ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
        except ValueError:
            address = None
        # Port 0 would give every worker a port of its own.
        if address is None or not re.fullmatch(r"[0-9]{1,5}", port, re.ASCII) or not 0 < int(port) < 65536:
            place = node.place if node is not None else section.place
            section.problem(place, "wrong-value", f'"{key}" must be ADDRESS:PORT, for example 0.0.0.0:443')
            return "127.0.0.1", 0
        return str(address), int(port)

    def named(self, section: Section, key: str, table: Mapping[str, object]) -> str:
        """The name under `key`, which must be one of `table`'s."""
        node = section.take(key, required=True)
        name = section.as_text(node, key) or "" if node is not None else ""
        if node is not None and name not in table:
            section.problem(node.place, "name-unknown", f'there is no {key} "{name}"', nearest(name, list(table)))
        return name
