"""Policies, documents and keys for the tests of this room."""

from collections.abc import Callable, Mapping

import pytest

from proxy.document.json_body import read_json
from proxy.document.tree import Document
from proxy.policy.carry_out import Carried, Keyset, carry_out
from proxy.policy.compile import compile_policy
from proxy.policy.compiled import Policy
from proxy.policy.explain import temporary_keys
from proxy.policy.plan import make_plan
from proxy.policy.rules import Direction, RuleSet
from proxy.refusal import Refusal
from proxy.source.problem import Problem, Problems

TENANT, REGION = "acme", "cn"

# A policy to be made wrong in one place.
CLASSES = """version: 1
classes:
  secret: {action: encrypt}
  agent.text: {action: encrypt}
  id: {action: encrypt, deterministic: true}
"""
PUSH = """  - name: push
    direction: inbound
    match: {type: text}
    request:
      xml:/xml/FromUserName: {class: id, as: openid}
      xml:/xml/Content: {class: secret, as: words}
"""
SEND = """  - name: send
    direction: outbound
    match: {method: POST, path: /send}
    request:
      json:$.touser: {class: id, as: openid, reveal: {'*': plain}}
"""
GOOD = CLASSES + "messages:\n" + PUSH + SEND


def message(
    match: str, rules: str = "request: {'xml:/xml/a': drop}", direction: str = "inbound", name: str = "m"
) -> str:
    return f"  - {{name: {name}, direction: {direction}, match: {match}, {rules}}}\n"


ONE_PUSH = """version: 1
classes:
  secret: {action: encrypt}
  gone: {action: drop}
messages:
  - name: m
    direction: inbound
    match: {type: text}
    request:
"""


def loader(files: Mapping[str, str]) -> Callable[[str], bytes]:
    def load(name: str) -> bytes:
        if name not in files:
            raise FileNotFoundError(name)
        return files[name].encode()

    return load


def compiled(text: str, **bases: str) -> Policy:
    """The policy `text`; `bases` are files it can extend, by name without ".yaml"."""
    return compile_policy("p.yaml", loader({"p.yaml": text} | {f"{name}.yaml": base for name, base in bases.items()}))


def problems(text: str, **bases: str) -> list[Problem]:
    with pytest.raises(Problems) as error:
        compiled(text, **bases)
    return error.value.found


def codes(text: str, **bases: str) -> list[str]:
    return [problem.code for problem in problems(text, **bases)]


def place_of(text: str, part: str) -> tuple[int, int]:
    """Line and column of the last `part` in `text`."""
    at = text.rindex(part)
    return text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at)


def require_told(text: str, code: str, at: str) -> None:
    """Fails unless a problem `code` is told at the last `at` in `text`."""
    found = problems(text)
    assert (code, *place_of(text, at)) in {(it.code, it.place.line, it.place.column) for it in found}
    assert all(problem.place.file == "p.yaml" for problem in found)


class Entropy:
    """Different bytes on every call, the same in every run."""

    def __init__(self, seed: int = 0) -> None:
        self.calls = seed

    def __call__(self, size: int) -> bytes:
        self.calls += 1
        return self.calls.to_bytes(size, "big")


class House:
    """A policy with its keys: what a gateway would do with calls and pushes."""

    def __init__(self, policy: Policy, seed: int = 0) -> None:
        self.policy = policy
        self.entropy = Entropy(seed << 32)
        self.keys = temporary_keys(policy, self.entropy)

    def rules(self, direction: Direction, method: str, path: str, *, response: bool = False) -> RuleSet:
        call = self.policy.find_call(direction, method, path)
        assert call is not None
        return call.response if response else call.request

    def carry(
        self, rules: RuleSet, body: Document | None, *, query: str = "", role: str = "", keys: Keyset | None = None
    ) -> Carried:
        plan = make_plan(self.policy, rules, body, query, role)
        carried = carry_out(plan, keys or self.keys, TENANT, REGION, self.entropy)
        assert carried.complete()
        return carried

    def json(self, rules: RuleSet, body: str, *, query: str = "", role: str = "") -> str:
        """The JSON `body` as it leaves."""
        return self.carry(rules, read_json(body.encode()), query=query, role=role).body.decode()


def refused(act: Callable[[], object]) -> str:
    """The code `act` is refused with."""
    with pytest.raises(Refusal) as error:
        act()
    return error.value.code


def with_rules(rules: str, direction: str = "agent", phase: str = "request") -> str:
    return (
        CLASSES
        + f"messages:\n  - name: m\n    direction: {direction}\n    match: {{method: POST, path: /a}}\n    {phase}:\n"
        + "".join(f"      {line}\n" for line in rules.splitlines())
    )
