"""Typed access to the nodes of a file: what is taken is checked, what is left over is a problem. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence as Items

from proxy.source.problem import Place, Problem, nearest
from proxy.source.yaml_reader import Mapping, Node, Scalar, Sequence

_DURATION = re.compile(r"([0-9]{1,9})(ms|s|m|h|d)", re.ASCII)
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZE = re.compile(r"([0-9]{1,12})(B|KiB|MiB|GiB|TiB)?", re.ASCII)
_BYTES = {None: 1, "B": 1, "KiB": 1024, "MiB": 1024 * 1024, "GiB": 1024**3, "TiB": 1024**4}


class Section:
    """A mapping of a file, read key by key. Problems go to the list it shares with all sections of the file."""

    def __init__(self, node: Node, problems: list[Problem], what: str) -> None:
        self.place = node.place
        self.problems = problems
        self.what = what
        self._entries: dict[str, tuple[Scalar, Node]] = {}
        self._known: list[str] = []
        if isinstance(node, Mapping):
            self._entries = {key.text: (key, value) for key, value in node.entries}
        else:
            self.problem(node.place, "wrong-type", f"{what} must be a mapping")

    def problem(self, place: Place, code: str, message: str, fix: str = "", *, warning: bool = False) -> None:
        self.problems.append(Problem(place, code, message, fix, warning))

    def has(self, key: str) -> bool:
        """Whether `key` is there and not taken yet."""
        return key in self._entries

    def take(self, key: str, *, required: bool = False) -> Node | None:
        """The node under `key`, None if there is none (a problem if `required`)."""
        self._known.append(key)
        if key in self._entries:
            return self._entries.pop(key)[1]
        if required:
            self.problem(self.place, "missing-key", f'{self.what} needs "{key}"')
        return None

    def rest(self) -> list[tuple[Scalar, Node]]:
        """All entries not taken yet; for mappings whose keys the author names."""
        entries, self._entries = list(self._entries.values()), {}
        return entries

    def done(self) -> None:
        """Reports every key nobody asked for."""
        for key, _ in self.rest():
            message = f'{self.what} has no "{key.text}"'
            self.problem(key.place, "unknown-key", message, nearest(key.text, self._known))

    def text(self, key: str, default: str = "", *, required: bool = False, pattern: str = "", hint: str = "") -> str:
        node = self.take(key, required=required)
        if node is None:
            return default
        value = self.as_text(node, key)
        if value is None:
            return default
        if pattern and not re.fullmatch(pattern, value, re.ASCII):
            self.problem(node.place, "wrong-value", f'"{key}" is not of its form', hint)
            return default
        return value

    def as_text(self, node: Node, key: str) -> str | None:
        if isinstance(node, Scalar) and isinstance(node.value, str):
            return node.value
        self.problem(node.place, "wrong-type", f'"{key}" must be a text', "put it in quotes if it is one")
        return None

    def choice(self, key: str, choices: Items[str], default: str = "", *, required: bool = False) -> str:
        node = self.take(key, required=required)
        if node is None:
            return default
        value = node.text if isinstance(node, Scalar) else ""
        if value not in choices:
            self.problem(node.place, "wrong-value", f'"{key}" cannot be "{value}"', nearest(value, list(choices)))
            return default
        return value

    def number(self, key: str, default: int, *, least: int = 0, most: int = 2**31, required: bool = False) -> int:
        node = self.take(key, required=required)
        if node is None:
            return default
        value = node.value if isinstance(node, Scalar) else None
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            self.problem(node.place, "wrong-value", f'"{key}" must be a whole number from {least} to {most}')
            return default
        return value

    def flag(self, key: str, default: bool = False) -> bool:
        node = self.take(key)
        if node is None:
            return default
        if isinstance(node, Scalar) and isinstance(node.value, bool):
            return node.value
        self.problem(node.place, "wrong-type", f'"{key}" must be true or false')
        return default

    def duration(self, key: str, default: float, *, most: float = 86400.0 * 365) -> float:
        """Seconds, from texts such as 500ms, 4s, 2m."""
        return self._measured(key, default, _DURATION, _SECONDS, most, "a duration such as 500ms, 4s or 2m")

    def size(self, key: str, default: int, *, most: int, least: int = 1) -> int:
        """Bytes, from texts such as 64KiB or 2MiB."""
        return int(self._measured(key, default, _SIZE, _BYTES, most, "a size such as 64KiB or 2MiB", least))

    def _measured(
        self,
        key: str,
        default: float,
        pattern: re.Pattern[str],
        units: dict[str, float] | dict[str | None, int],
        most: float,
        form: str,
        least: float = 0.0,
    ) -> float:
        node = self.take(key)
        if node is None:
            return default
        match = pattern.fullmatch(node.text) if isinstance(node, Scalar) else None
        amount = float(match[1]) * units[match[2]] if match else 0.0
        if not (0 < amount <= most and amount >= least):
            self.problem(node.place, "wrong-value", f'"{key}" must be {form}, not too small and not too large')
            return default
        return amount

    def is_mapping(self, key: str) -> bool:
        """Whether a mapping stands under `key`; for what can be written short or long."""
        return key in self._entries and isinstance(self._entries[key][1], Mapping)

    def section(self, key: str, *, required: bool = False) -> Section | None:
        node = self.take(key, required=required)
        return None if node is None else Section(node, self.problems, f'"{key}"')

    def nodes(self, key: str, *, required: bool = False) -> tuple[Node, ...]:
        """The items of the list under `key`."""
        node = self.take(key, required=required)
        if node is None:
            return ()
        if isinstance(node, Sequence):
            return node.items
        self.problem(node.place, "wrong-type", f'"{key}" must be a list')
        return ()

    def sections(self, key: str, *, required: bool = False) -> list[Section]:
        what = {"ies": "y", "ses": "s"}.get(key[-3:], "")
        name = key[:-3] + what if what else key.removesuffix("s")
        return [Section(node, self.problems, f"a {name} entry") for node in self.nodes(key, required=required)]

    def texts(self, key: str, *, required: bool = False) -> tuple[str, ...]:
        values = (self.as_text(node, key) for node in self.nodes(key, required=required))
        return tuple(value for value in values if value is not None)
