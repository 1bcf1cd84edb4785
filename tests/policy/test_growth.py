"""What a message costs grows with its leaves, not with the rules of its policy. Counted in instructions, not time."""

import sys
from collections.abc import Callable, Iterable
from types import FrameType
from typing import Any

from proxy.document.json_body import read_json
from proxy.policy.carry_out import carry_out
from proxy.policy.plan import make_plan
from proxy.policy.rules import Direction
from tests.policy.build import REGION, TENANT, House, compiled

FIELDS = [f"f{number}" for number in range(20)]


def steps_of(work: Callable[[], object]) -> int:
    """Instructions of Python that were carried out: a loop counts, whatever stands in it."""
    made = 0

    def count(frame: FrameType, event: str, _arg: Any) -> Any:
        nonlocal made
        frame.f_trace_opcodes = True
        made += event == "opcode"
        return count

    before = sys.gettrace()
    sys.settrace(count)
    try:
        work()
    finally:
        sys.settrace(before)
    return made


def cost(rules: Iterable[str], members: Iterable[str]) -> int:
    """Of planning and carrying out a body with `members`, under `rules`."""
    policy = compiled(
        "version: 1\nclasses: {datum: {action: encrypt}}\nmessages:\n  - name: records\n    direction: agent\n"
        "    match: {method: POST, path: /records}\n    request:\n"
        + "".join(f'      "json:$.{rule}": {{class: datum, as: datum}}\n' for rule in rules)
    )
    house = House(policy)
    table = house.rules(Direction.AGENT, "POST", "/records")
    body = read_json(("{" + ",".join(f'"{name}":"value"' for name in members) + "}").encode())

    def carried() -> None:
        carry_out(make_plan(policy, table, body, "", ""), house.keys, TENANT, REGION, house.entropy)

    carried()  # whatever is kept from the first time on
    return steps_of(carried)


def test_rules_a_message_does_not_meet_cost_it_nothing() -> None:
    more = [f"g{number}" for number in range(500)]
    assert cost([*more, *FIELDS], FIELDS) == cost(FIELDS, FIELDS)


def test_neither_do_rules_with_wildcards() -> None:
    wild = [f"g{number}.*.x" for number in range(500)]
    assert cost([*wild, "*"], FIELDS) == cost(["*"], FIELDS)


def test_leaves_cost_alike_however_many_there_are() -> None:
    one, some, many = (cost(["*"], [f"f{number}" for number in range(amount)]) for amount in (1, 11, 101))
    assert (many - one) == 10 * (some - one)
