"""Two tables of rules laid over each other: which pairs of rules a value can have, and where. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from proxy.document.tree import Into
from proxy.policy.rules import Rule
from proxy.policy.selector import ANY, Pattern, Segment, Table

Cell = tuple[Pattern, Rule | None, Rule | None]


def cells(old: Table[Rule], new: Table[Rule]) -> Iterable[Cell]:
    """Every pair of rules that one value can have in the two tables, with the widest pattern it has them under."""
    found: dict[tuple[int, int], Cell] = {}
    for cell in _all_cells(old, new):
        pattern, one, two = cell
        known = found.setdefault((id(one), id(two)), cell)
        if known[0].count(ANY) < pattern.count(ANY):
            found[id(one), id(two)] = cell
    return found.values()


def _all_cells(old: Table[Rule], new: Table[Rule]) -> Iterator[Cell]:
    """Every pattern that either table tells apart, with what the most specific rule of each says of it. `*` in it
    stands for the names that neither table speaks of there."""
    waiting: list[tuple[Pattern, list[Table[Rule]], list[Table[Rule]]]] = [((), [old], [new])]
    while waiting:
        pattern, olds, news = waiting.pop()
        one, two = (next((table.item for table in tables if table.item), None) for tables in (olds, news))
        if one or two:
            yield pattern, one, two
        segments = {segment for table in (*olds, *news) for segment in table.below}
        waiting += [((*pattern, segment), _below(olds, segment), _below(news, segment)) for segment in segments]


def _below(tables: list[Table[Rule]], segment: Segment) -> list[Table[Rule]]:
    """The tables one segment further, the most specific first: as `Table.find` would try them."""
    wanted = (segment,) if segment is ANY or isinstance(segment, Into) else (segment, ANY)
    return [table.below[one] for table in tables for one in wanted if one in table.below]
