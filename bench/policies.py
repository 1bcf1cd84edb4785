"""What policies cost: `python -m bench.policies`, in `.venv`. No sockets, no other tools.

Three questions: how long a policy takes to compile, what a text message costs under the follower pack from bytes to
bytes, and how that grows with rules and with leaves. Medians; growth is told as a ratio, which a noisy machine hardly
moves.
"""

import secrets
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from proxy.document.json_body import read_json
from proxy.document.tree import Document
from proxy.policy.carry_out import Carried, Keyset, carry_out
from proxy.policy.compile import compile_policy
from proxy.policy.compiled import Policy
from proxy.policy.explain import Occasion, find_rules, temporary_keys
from proxy.policy.plan import make_plan
from proxy.policy.rules import Direction, Phase, RuleSet
from proxy.wechat.push import message_type, read_body

_PACKS = Path(__file__).resolve().parent.parent / "policies"
_CALL = Occasion(Direction.AGENT, Phase.REQUEST, "POST", "/records")
_PUSH = Occasion(Direction.INBOUND, Phase.REQUEST)


def main() -> None:
    for part in (_compiling, _follower_text, _growth):
        for line in part():
            print(line)


def _compiling() -> Iterator[str]:
    for amount in (10, 200, 2000):
        source = _policy(f"json:$.f{number}" for number in range(amount))
        took = _median(lambda source=source: _compiled(source), 5)
        yield f"compile {amount:5} rules  {took * 1e3:9.1f} ms  {took / amount * 1e6:6.0f} us a rule"
    took = _median(_follower_pack, 5)
    yield f"compile the follower pack {took * 1e3:6.1f} ms"


def _follower_text() -> Iterator[str]:
    """The pack every push goes through, on a text message."""
    policy = _follower_pack()
    body = (_PACKS / "samples" / "text.xml").read_bytes()
    document = read_body(body)
    rules, keys = find_rules(policy, _PUSH, document.form, message_type(document)), temporary_keys(policy, _entropy)
    leaves = len(document.leaves)
    yield f"read the text message       {_median(lambda: read_body(body), 2000) * 1e6:7.1f} us  ({leaves} leaves)"
    yield f"plan and carry out, on that {_median(lambda: _carried(policy, rules, keys, document), 2000) * 1e6:7.1f} us"


def _growth() -> Iterator[str]:
    leaves = {f"f{number}": "value" for number in range(20)}
    first = 0.0
    for amount in (20, 200, 2000):
        policy = _compiled(_policy(f"json:$.f{number}" for number in range(amount)))
        took = _call(policy, leaves)
        first = first or took
        yield f"20 leaves, {amount:5} rules   {took * 1e6:9.1f} us  x{took / first:.2f}"
    policy = _compiled(_policy(["json:$.*"]))
    first = 0.0
    for amount in (10, 100, 1000):
        took = _call(policy, {f"f{number}": "value" for number in range(amount)})
        first = first or took
        yield f"1 rule, {amount:5} leaves     {took * 1e6:9.1f} us  x{took / first:.1f}"


def _call(policy: Policy, members: dict[str, str]) -> float:
    """Seconds to plan and carry out a JSON body with `members`."""
    body = "{" + ",".join(f'"{name}":"{value}"' for name, value in members.items()) + "}"
    document = read_json(body.encode())
    rules, keys = find_rules(policy, _CALL, document.form, ""), temporary_keys(policy, _entropy)
    return _median(lambda: _carried(policy, rules, keys, document), 200)


def _carried(policy: Policy, rules: RuleSet, keys: Keyset, document: Document) -> Carried:
    return carry_out(make_plan(policy, rules, document, "", ""), keys, "bench", "xx", _entropy)


def _policy(selectors: Iterator[str] | list[str]) -> bytes:
    """A policy of one call, a class and a rule that encrypts for each selector."""
    head = (
        "version: 1\nclasses: {datum: {action: encrypt}}\nmessages:\n  - name: records\n    direction: agent\n"
        "    match: {method: POST, path: /records}\n    request:\n"
    )
    return (head + "".join(f'      "{it}": {{class: datum, as: datum}}\n' for it in selectors)).encode()


def _compiled(source: bytes) -> Policy:
    return compile_policy("bench.yaml", lambda _name: source)


def _follower_pack() -> Policy:
    return compile_policy("wechat-follower.yaml", lambda name: (_PACKS / name).read_bytes())


def _median(work: Callable[[], object], times: int) -> float:
    """Seconds one call takes."""
    taken = []
    for _ in range(times):
        begun = time.perf_counter()
        work()
        taken.append(time.perf_counter() - begun)
    return statistics.median(taken)


def _entropy(size: int) -> bytes:
    return secrets.token_bytes(size)


if __name__ == "__main__":
    main()
