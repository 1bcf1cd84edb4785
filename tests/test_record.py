"""Records are immutable for the type checker and cheap at run time."""

from __future__ import annotations

from dataclasses import field, replace
from pathlib import Path

import pytest
from mypy import api

from proxy.record import record


@record
class Point:
    x: int
    y: int = field(default=0, repr=False)


def test_it_is_compared_shown_and_copied_by_its_fields() -> None:
    point = Point(1, 2)
    assert point == Point(1, 2) != Point(1, 3)
    assert len({point, Point(1, 2)}) == 1
    assert replace(point, x=5) == Point(5, 2)
    assert repr(point) == "Point(x=1)"


def test_it_takes_no_other_fields() -> None:
    with pytest.raises(AttributeError):
        Point(1).z = 1  # type: ignore[attr-defined]
    assert not hasattr(Point(1), "__dict__")


def test_the_type_checker_lets_nobody_set_a_field(tmp_path: Path) -> None:
    source = tmp_path / "program.py"
    lines = "from proxy.record import record", "@record", "class Point:", "    x: int", "point = Point(1)"
    source.write_text("\n".join(lines) + "\n")
    assert _checked(source) == 0
    source.write_text("\n".join((*lines, "point.x = 2")) + "\n")
    assert _checked(source) == 1


def _checked(source: Path) -> int:
    """The type checker's exit status."""
    return api.run(["--strict", "--cache-dir", str(source.parent / "cache"), str(source)])[2]
