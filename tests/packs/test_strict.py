"""The tests that ship with the packs are strict: every rule has a sample, and of every value that is classified, a test
says what becomes of it, for each role that gets something else."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from proxy.cli.policy import policy as command
from proxy.cli.policy_files import load_policy
from proxy.policy.check_tests import occasion_of, points_at
from proxy.policy.compiled import Policy, PolicyTest
from proxy.policy.explain import find_rules, head_of, read_sample
from proxy.policy.plan import draft_plan
from proxy.policy.rules import Direction
from proxy.policy.selector import parse_selector
from proxy.source.problem import Place
from proxy.wechat.push import message_type, read_body

ROOT = Path(__file__).parents[2] / "policies"
PACKS = sorted(ROOT.glob("*.yaml"))
POLICIES = {path.name: load_policy(path) for path in PACKS}
OTHERS = "*"


@pytest.mark.parametrize("path", PACKS, ids=lambda path: path.name)
def test_check_finds_nothing_in_a_pack(path: Path) -> None:
    result = CliRunner().invoke(command, ["check", "--strict", str(path)])
    assert (result.exit_code, result.output.count("\n")) == (0, 1), result.output


def test_no_rule_of_a_pack_is_out_of_reach_of_its_tests() -> None:
    result = CliRunner().invoke(command, ["test", "--strict", *map(str, PACKS)])
    assert result.exit_code == 0, result.output


def told(policy: Policy, test: PolicyTest) -> Iterator[tuple[Place, str]]:
    """The rules that decide the values `test` expects something of, and for whom: a role the rule names, or others."""
    where = occasion_of(test)
    document = read_sample(policy, where, (ROOT / test.sample).read_bytes(), read_body)
    kind = message_type(document) if document and test.direction is Direction.INBOUND else ""
    rules = find_rules(policy, where, document.form if document else "", kind)
    plan = draft_plan(policy, rules, document, where.query, where.role, head_of(policy, rules, where))
    forms = (document.form for document in plan.documents for _ in document.leaves)
    selectors = [parse_selector(text) for text in test.expect]
    for form, step in zip(forms, plan.steps, strict=True):
        if any(points_at(selector, form, step.leaf.path) for selector in selectors):
            yield step.rule.place, where.role if where.role in (step.rule.reveal or ()) else OTHERS


def test_what_becomes_of_each_classified_value_is_told_for_each_role() -> None:
    rules = {rule.place: rule for policy in POLICIES.values() for rule in policy.written if rule.data_class}
    roles = {place: {*(rule.reveal or ()), OTHERS} for place, rule in rules.items()}
    wanted = {(place, role) for place in rules for role in roles[place]}
    assert wanted
    assert wanted - {it for policy in POLICIES.values() for test in policy.tests for it in told(policy, test)} == set()
