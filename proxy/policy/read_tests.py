"""The tests of a policy as their author wrote them. Pure."""

from __future__ import annotations

from proxy.policy.compiled import PolicyTest
from proxy.policy.conditions import SHAPES
from proxy.policy.plan import Treatment
from proxy.policy.read_rules import read_selector
from proxy.policy.rules import Direction, Phase
from proxy.source.problem import Problem, nearest
from proxy.source.section import Section
from proxy.source.yaml_reader import Node, Scalar

SITUATION = ("account", "tenant", "region", "content_type")


def read_test(section: Section) -> PolicyTest:
    """One entry under `tests`."""
    sample = section.text("sample", required=True)
    direction = Direction(section.choice("direction", [item.value for item in Direction], "inbound"))
    phase = Phase(section.choice("phase", [item.value for item in Phase], "request"))
    method, path, role = section.text("method"), section.text("path"), section.text("role")
    query, protect = section.text("query"), section.flag("protect")
    headers = _headers(section.section("headers"))
    expect_node = section.take("expect", required=True)
    expect: dict[str, str] = {}
    if expect_node is not None:
        inner = Section(expect_node, section.problems, '"expect"')
        expect = {key.text: _expectation(key, value, section.problems) for key, value in inner.rest()}
    status = section.number("status", 200, least=200, most=599)
    situation = {name: section.text(name, pattern=SHAPES[name]) for name in SITUATION}
    section.done()
    return PolicyTest(
        section.place,
        sample,
        direction,
        phase,
        expect,
        method,
        path,
        role,
        query,
        headers,
        protect,
        status,
        **situation,
    )


def _headers(section: Section | None) -> tuple[tuple[str, str], ...]:
    """Header fields of a test's request; only such as can have rules."""
    found: list[tuple[str, str]] = []
    if section is None:
        return ()
    for key, value in section.rest():
        read_selector(Scalar(key.place, f"header:{key.text}", f"header:{key.text}"), section.problems)
        found.append((key.text, value.text if isinstance(value, Scalar) else ""))
        if not isinstance(value, Scalar):
            section.problem(value.place, "wrong-type", f'"{key.text}" must be a text')
    return tuple(found)


def _expectation(key: Scalar, value: Node, problems: list[Problem]) -> str:
    read_selector(key, problems)
    word = value.text if isinstance(value, Scalar) else ""
    words = [item.value for item in Treatment]
    if word not in words:
        message = f'"{key.text}" cannot be expected to be "{word}"'
        problems.append(Problem(value.place, "wrong-value", message, nearest(word, words)))
    return word
