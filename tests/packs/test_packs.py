"""The policies that ship: they compile, know every type of message, and let nothing personal through."""

import re
from pathlib import Path

import pytest

from proxy.cli.policy_files import load_policy, load_samples
from proxy.document.tree import Document
from proxy.policy.carry_out import Carried, carry_out
from proxy.policy.check_tests import check_tests
from proxy.policy.compiled import Policy, PolicyTest
from proxy.policy.explain import Occasion, find_rules, protect_first, temporary_keys
from proxy.policy.plan import Plan, Treatment, draft_plan, make_plan
from proxy.policy.rules import Action, Phase, RuleSet
from proxy.wechat.push import message_type, read_body
from tests.packs.reference import EVENTS, FAMILIES, FIELDS, ID_NAMES, JSON_TOO, MESSAGES, PERSONAL_NAMES
from tests.policy.build import Entropy

ROOT = Path(__file__).parents[2]
PACKS = sorted((ROOT / "policies").glob("*.yaml"))
SAMPLES = ROOT / "policies/samples"
# Extended by others, without messages of their own: nothing to test alone.
BASES = {"chat-classes.yaml", "wechat-classes.yaml", "wechat-envelope.yaml"}
ALLOW = Action.ALLOW
CLEAR = {Treatment.ALLOWED, Treatment.REVEALED, Treatment.REVEALED_MASKED}
POLICIES = {path.name: load_policy(path) for path in PACKS}
FOLLOWER = POLICIES["wechat-follower.yaml"]
CHAT = POLICIES["chat-encryption.yaml"]
PUSHES = sorted(
    path for path in SAMPLES.rglob("*.*") if path.parent.name not in ("chat", "follower", "contacts", "crm")
)


def push(path: Path) -> tuple[str, Document, Plan]:
    document = read_body(path.read_bytes())
    kind = message_type(document)
    return kind, document, make_plan(FOLLOWER, FOLLOWER.pushes[document.form, kind], document, "", "")


def names(path: tuple[str | int, ...], form: str) -> str:
    """`List/TemplateId`, the same for XML and JSON: without the root element and without positions."""
    parts = [part for part in path if isinstance(part, str)]
    text = "/".join(parts[1:] if form == "xml" else parts)
    return re.sub(r"^(SubscribeMsg\w+Event|BussiCallBackInfo)/", "", text)


def carried(plan: Plan) -> Carried:
    entropy = Entropy()
    return carry_out(plan, temporary_keys(FOLLOWER, entropy), "acme", "cn", entropy)


@pytest.mark.parametrize("path", PACKS, ids=lambda path: path.name)
def test_a_pack_compiles_without_a_warning_and_its_tests_hold(path: Path) -> None:
    policy = POLICIES[path.name]
    assert policy.warnings == ()
    assert bool(policy.tests) == (path.name not in BASES)
    assert check_tests(policy, load_samples(policy, path), read_body, message_type, Entropy()) == []


def test_every_sample_belongs_to_a_test() -> None:
    files = {path.relative_to(ROOT / "policies").as_posix() for path in SAMPLES.rglob("*") if path.is_file()}
    assert files == {test.sample for policy in POLICIES.values() for test in policy.tests}


@pytest.mark.parametrize("path", PUSHES, ids=lambda path: path.name)
def test_every_field_of_a_push_has_a_rule(path: Path) -> None:
    _, _, plan = push(path)
    assert [step.leaf.path for step in plan.steps if not step.classified] == []


@pytest.mark.parametrize("path", PUSHES, ids=lambda path: path.name)
def test_no_personal_field_leaves_in_clear(path: Path) -> None:
    kind, document, plan = push(path)
    table = dict(field.split(":") for field in FIELDS.get(kind, "").split())
    for step, value in zip(plan.steps, carried(plan).values, strict=True):
        where = names(step.leaf.path, document.form)
        name = where.rpartition("/")[2].lower()
        if step.treatment is Treatment.DROPPED:
            continue
        if where in table or name in PERSONAL_NAMES:
            assert step.treatment is Treatment.ENCRYPTED, f"{kind} {where} is {step.treatment.value}"
            assert value is not None
            assert value[:4] in ("wg1.", "wn1.", "wl1.", "wd1.")
        if table.get(where) == "ID" or name in ID_NAMES:
            assert value is not None
            assert value.startswith("wd1."), f"{kind} {where}: the CRM could not match it"


def test_the_table_of_personal_fields_is_all_in_the_samples() -> None:
    seen: dict[str, set[str]] = {}
    for path in PUSHES:
        kind, document, _ = push(path)
        seen.setdefault(kind, set()).update(names(leaf.path, document.form) for leaf in document.leaves)
    missing = [(kind, field) for kind, fields in FIELDS.items() for field in fields.split()]
    assert [(kind, field) for kind, field in missing if field.split(":")[0] not in seen[kind]] == []


def test_every_type_of_message_has_an_entry_and_a_sample() -> None:
    wanted = MESSAGES | {f"event.{event}" for event in EVENTS}
    known = {kind for _, kind in FOLLOWER.pushes}
    assert wanted - known == set()
    assert {kind for kind in JSON_TOO if ("json", kind) not in FOLLOWER.pushes} == set()
    assert [family for family in FAMILIES if not any(kind.startswith(f"event.{family}") for kind in known)] == []
    assert known == {push(path)[0] for path in PUSHES}


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
def test_nothing_under_a_wildcard_leaves_in_clear(policy: Policy) -> None:
    rules = [rule for rule_set in every_rule_set(policy) for rule in rule_set.rules if rule.selector]
    assert [rule.place for rule in rules if rule.selector and rule.selector.has_wildcard and rule.action is ALLOW] == []


def every_rule_set(policy: Policy) -> list[RuleSet]:
    calls = [rules for call in policy.calls for rules in (call.request, call.response)]
    return [*policy.pushes.values(), *policy.replies.values(), *calls]


def test_a_chat_has_a_class_for_each_of_its_eight_kinds_of_content() -> None:
    used = {rule.data_class.name for rules in every_rule_set(CHAT) for rule in rules.rules if rule.data_class}
    kinds = "title message attachment custom reminder mention star recording"
    assert {f"chat.{kind}" for kind in kinds.split()} == {name for name in used if name.startswith("chat.")}
    assert {CHAT.classes[f"chat.{kind}"].group for kind in kinds.split()} == {"chat"}


READS = [
    test
    for name in ("chat-messages.yaml", "chat-attachments.yaml")
    for test in POLICIES[name].tests
    if test.phase is Phase.RESPONSE and test.role == "visitor"
]


@pytest.mark.parametrize("test", READS, ids=lambda test: test.sample)
def test_a_role_reads_of_a_chat_what_reveal_says(test: PolicyTest) -> None:
    entropy = Entropy()
    keys = temporary_keys(CHAT, entropy)
    occasion = Occasion(test.direction, test.phase, test.method, test.path)
    document = read_body((ROOT / "policies" / test.sample).read_bytes())
    rules = find_rules(CHAT, occasion, document.form, "")
    stored = protect_first(draft_plan(CHAT, rules, document, "", "supervisor"), keys, entropy)
    stored = protect_first(draft_plan(CHAT, rules, read_body(stored.body), "", "agent"), keys, entropy)
    seen = {}
    for role in ("agent", "analyst", "visitor"):
        plan = make_plan(CHAT, rules, read_body(stored.body), "", role)
        seen[role] = carry_out(plan, keys, "explained", "xx", entropy)
    protected = [step for step in draft_plan(CHAT, rules, document, "", "visitor").steps if step.treatment not in CLEAR]
    secrets = [step.leaf.text for step in protected if step.rule.datum not in ("openid", "chat.recording.url")]
    assert secrets
    for text in secrets:
        assert text in seen["agent"].body.decode()
        assert text not in seen["analyst"].body.decode()
        assert text not in seen["visitor"].body.decode()


def test_the_file_a_newcomer_starts_from_is_the_one_in_the_readme() -> None:
    text = (ROOT / "policies/minimal.yaml").read_text()
    assert len(text.splitlines()) == 10
    assert text in (ROOT / "README.md").read_text()
