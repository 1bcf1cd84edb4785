"""Two tables laid over each other: every pair of rules once, as `Table.find` would choose them."""

from itertools import product

from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.policy.cells import cells
from proxy.policy.rules import Action, Rule
from proxy.policy.selector import ANY, Pattern, Segment, Table
from proxy.source.problem import Place

Names = dict[Pattern, Rule]


def rules(*patterns: Pattern) -> Names:
    return {pattern: Rule(None, Place("p", line, 1), Action.DROP) for line, pattern in enumerate(patterns, 1)}


def table(names: Names) -> Table[Rule]:
    made: Table[Rule] = Table()
    for pattern, rule in names.items():
        made.add(pattern, rule)
    return made


def found(old: Names, new: Names) -> dict[Pattern, tuple[Pattern | None, Pattern | None]]:
    """Cell -> the patterns of the two rules."""
    by_rule = {id(rule): pattern for names in (old, new) for pattern, rule in names.items()}
    pairs = list(cells(table(old), table(new)))
    assert len({(id(one), id(two)) for _, one, two in pairs}) == len(pairs)
    return {pattern: (by_rule.get(id(one)), by_rule.get(id(two))) for pattern, one, two in pairs}


def test_nothing_over_nothing_has_no_cells() -> None:
    assert found({}, {}) == {}


def test_a_rule_that_only_one_table_has_stands_beside_nothing() -> None:
    assert found(rules(("a",)), rules(("b", 0))) == {("a",): (("a",), None), ("b", 0): (None, ("b", 0))}


def test_a_star_meets_the_name_that_overrules_it() -> None:
    star, name = (ANY, "b"), ("a", ANY)
    assert found(rules(star), rules(name)) == {
        star: (star, None),
        name: (None, name),
        ("a", "b"): (star, name),
    }


def test_a_pair_is_told_under_its_widest_pattern() -> None:
    both = rules((ANY, "x"), ("a", "y"))
    assert found(both, both) == {(ANY, "x"): ((ANY, "x"),) * 2, ("a", "y"): (("a", "y"),) * 2}


SEGMENTS: list[Segment] = ["a", "b", 0, ANY]
PATTERNS = [pattern for size in (1, 2, 3) for pattern in product(SEGMENTS, repeat=size)]
tables = st.lists(st.sampled_from(PATTERNS), max_size=6, unique=True).map(lambda patterns: rules(*patterns))


@settings(deadline=None)
@given(old=tables, new=tables, path=st.lists(st.sampled_from(["a", "b", "c", 0, 1]), min_size=1, max_size=3).map(tuple))
def test_whatever_value_there_is_its_pair_of_rules_is_among_the_cells(
    old: Names, new: Names, path: tuple[str | int, ...]
) -> None:
    pair = (table(old).find(path), table(new).find(path))
    if pair == (None, None):
        return
    (pattern,) = [cell for cell, one, two in cells(table(old), table(new)) if one is pair[0] and two is pair[1]]
    assert len(pattern) == len(path)
    assert all(a is ANY or a == b for a, b in zip(pattern, path, strict=True))
