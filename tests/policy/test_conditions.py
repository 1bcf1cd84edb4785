"""What `match` may ask besides what kind of message it is, and what variants say otherwise for some owners."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.document.json_body import read_json
from proxy.document.xml_body import read_xml
from proxy.policy.compiled import Policy
from proxy.policy.conditions import ANYWHERE, Conditions, Situation
from proxy.policy.diff import diff_policies
from proxy.policy.plan import Treatment, make_plan
from proxy.policy.rules import Action, Direction, Phase
from tests.policy.build import codes, compiled, problems

NAMES = ("account", "tenant", "region", "role", "content_type")
VALUES = st.dictionaries(st.sampled_from(NAMES), st.frozensets(st.sampled_from("ab"), min_size=1))


def conditions(wanted: dict[str, frozenset[str]]) -> Conditions:
    return Conditions(tuple(wanted.items()))


@given(VALUES, VALUES)
def test_two_overlap_if_a_situation_fulfils_both(
    one: dict[str, frozenset[str]], two: dict[str, frozenset[str]]
) -> None:
    first, second = conditions(one), conditions(two)
    everywhere = (Situation(*values) for values in product("ab", repeat=len(NAMES)))
    both = any(first.admit(where) and second.admit(where) for where in everywhere)
    assert first.overlap(second) is both
    assert second.overlap(first) is both


def test_without_conditions_anything_will_do() -> None:
    assert Conditions().admit(ANYWHERE)
    assert not Conditions()


def test_what_is_not_known_fulfils_nothing() -> None:
    assert not conditions({"role": frozenset({"agent"})}).admit(ANYWHERE)


HEAD = "version: 1\nclasses: {secret: {action: encrypt}, fixed: {action: redact, text: x}}\n"


def push(name: str, more: str, rule: str = "allow", kind: str = "{type: text") -> str:
    return f"""  - name: {name}
    direction: inbound
    match: {kind}{more}}}
    request: {{xml:/xml/MsgType: allow, xml:/xml/Content: {rule}}}
"""


def call(name: str, more: str, rule: str = "allow") -> str:
    return f"""  - name: {name}
    direction: agent
    match: {{method: POST, path: '/a/{{id}}'{more}}}
    request: {{path:id: allow, json:$.a: {rule}}}
"""


def policy(*messages: str) -> Policy:
    return compiled(HEAD + "messages:\n" + "".join(messages))


SHOPS = policy(
    push("shop", ", account: shop"),
    push("others", ", account: [vip, club]", "drop"),
    push("events", ", event: CLICK", kind="{type: event"),
)


@pytest.mark.parametrize(("account", "name"), [("shop", "shop"), ("vip", "others"), ("club", "others")])
def test_a_push_is_known_by_its_account(account: str, name: str) -> None:
    rules = SHOPS.find_inbound(Phase.REQUEST, "xml", "text", Situation(account))
    assert rules is not None and rules.name == name


@pytest.mark.parametrize("where", [ANYWHERE, Situation("none"), Situation(tenant="shop")])
def test_a_push_of_no_such_account_is_unknown(where: Situation) -> None:
    assert SHOPS.find_inbound(Phase.REQUEST, "xml", "text", where) is None


def test_conditions_of_one_type_say_nothing_of_another() -> None:
    assert SHOPS.find_inbound(Phase.REQUEST, "json", "text", Situation("shop")) is None
    assert SHOPS.find_inbound(Phase.RESPONSE, "xml", "text", Situation("shop")) is None
    rules = SHOPS.find_inbound(Phase.REQUEST, "xml", "event.click", Situation("anything"))
    assert rules is not None and rules.name == "events"


CALLS = policy(
    call("clerk", ", role: [clerk, chief], content_type: application/json"),
    call("form", ", role: [clerk, chief], content_type: application/x-www-form-urlencoded"),
    call("robot", ", role: robot, region: cn"),
    call("abroad", ", role: robot, region: [jp, au]"),
)


@pytest.mark.parametrize(
    ("where", "name"),
    [
        (Situation(role="clerk", content_type="application/json"), "clerk"),
        (Situation(role="chief", content_type="application/x-www-form-urlencoded"), "form"),
        (Situation(role="robot", region="cn"), "robot"),
        (Situation(role="robot", region="au"), "abroad"),
        (Situation(role="robot", region="in"), None),
        (Situation(role="clerk", content_type="text/plain"), None),
        (Situation(role="other", content_type="application/json"), None),
    ],
)
def test_a_call_is_known_by_caller_owner_and_media_type(where: Situation, name: str | None) -> None:
    found = CALLS.find_call(Direction.AGENT, "POST", "/a/1", where)
    assert (found and found.request.name) == name


@pytest.mark.parametrize(
    "messages",
    [
        (push("a", ""), push("b", ", account: shop")),
        (push("a", ", account: [shop, vip]"), push("b", ", account: vip")),
        (push("a", ", account: shop"), push("b", ", tenant: acme")),
        (call("a", ", role: clerk"), call("b", ", region: cn")),
        (call("a", ", role: clerk"), call("b", "")),
    ],
)
def test_what_one_message_could_fulfil_twice_overlaps(messages: tuple[str, ...]) -> None:
    assert codes(HEAD + "messages:\n" + "".join(messages)) == ["message-overlap"]


@pytest.mark.parametrize(
    "message",
    [
        push("a", ", role: clerk"), push("a", ", content_type: text/xml"), call("a", ", account: shop"),
    ],
)  # fmt: skip
def test_conditions_belong_to_their_direction(message: str) -> None:
    assert codes(HEAD + "messages:\n" + message) == ["unknown-key"]


@pytest.mark.parametrize("value", ["''", "[]", "'*'", "CN", "[cn, '']", "china"])
def test_conditions_have_a_form(value: str) -> None:
    assert set(codes(HEAD + "messages:\n" + push("a", f", region: {value}"))) == {"wrong-value"}


# --- variants

VARIED = (
    HEAD
    + """variants:
  - {when: {tenant: acme}, classes: {fixed: {action: encrypt}}}
  - {when: {tenant: [beta, gamma], region: [cn, hk]}, defaults: {unmatched: encrypt}}
messages:
  - name: m
    direction: agent
    match: {method: POST, path: /m}
    request: {json:$.a: {class: fixed, as: a}}
"""
)


def treatment(tenant: str, region: str, body: bytes = b'{"a":"x"}') -> Treatment:
    found = compiled(VARIED).for_owner(tenant, region)
    known = found.find_call(Direction.AGENT, "POST", "/m")
    assert known is not None
    (step,) = make_plan(found, known.request, read_json(body), "", "").steps
    return step.treatment


def test_a_variant_says_otherwise_of_a_class() -> None:
    assert treatment("acme", "cn") is Treatment.ENCRYPTED
    assert treatment("other", "cn") is Treatment.REDACTED


def test_a_variant_says_otherwise_of_what_is_unmatched() -> None:
    assert treatment("beta", "hk", b'{"b":"x"}') is Treatment.ENCRYPTED
    assert compiled(VARIED).for_owner("beta", "jp").unmatched is Action.REFUSE
    assert set(compiled(VARIED).for_owner("gamma", "cn").fallback) == {"xml", "json"}


def test_each_variant_has_a_revision_of_its_own() -> None:
    it = compiled(VARIED)
    assert len({it.revision, *(variant.policy.revision for variant in it.variants)}) == 3


def test_a_policy_needs_the_keys_of_its_variants() -> None:
    assert compiled(VARIED).groups == {"default"}
    text = VARIED.replace("fixed: {action: redact, text: x}", "fixed: {action: redact, text: x, group: chat}")
    assert "variant-group" in codes(text)
    assert compiled(text.replace("{action: encrypt}}}", "{action: encrypt, group: chat}}}")).groups == {
        "default",
        "chat",
    }


def test_what_is_wrong_for_one_owner_only_is_told_as_that() -> None:
    text = VARIED.replace("{class: fixed, as: a}", "{class: fixed}")
    (found,) = problems(text)
    assert found.code == "as-missing" and found.message.startswith("for tenant acme: ")


def test_a_variant_can_make_no_oracle() -> None:
    text = """version: 1
classes: {a: {action: encrypt}, b: {action: encrypt}, c: {action: mask, mask: {keep_last: 1}}}
variants: [{when: {tenant: acme}, classes: {c: {action: encrypt}}}]
messages:
  - name: in
    direction: inbound
    match: {type: text}
    request: {xml:/xml/Content: {class: c, as: told}}
  - name: out
    direction: outbound
    match: {method: POST, path: /send}
    request: {json:$.t: {class: b, as: told, reveal: {'*': plain}}}
"""
    assert codes(text)[-1] == "reveal-oracle"


@pytest.mark.parametrize(
    ("variants", "code"),
    [
        ("[{when: {}}]", "variant-always"),
        ("[{classes: {}}]", "missing-key"),
        ("[{when: {role: agent}}]", "unknown-key"),
        ("[{when: {tenant: a}, classes: {secrt: {action: drop}}}]", "class-unknown"),
        ("[{when: {tenant: a}, classes: {secret: {action: drop, group: other}}}]", "variant-group"),
        ("[{when: {tenant: a}}, {when: {region: cn}}]", "variant-overlap"),
        ("[" + ", ".join(f"{{when: {{tenant: t{n}}}}}" for n in range(65)) + "]", "variants-many"),
        ("[{when: {tenant: [a, b]}}, {when: {tenant: b}}]", "variant-overlap"),
    ],
)
def test_variants_that_are_none(variants: str, code: str) -> None:
    assert code in codes(HEAD + f"variants: {variants}\n")


def test_variants_of_what_is_extended_hold_too() -> None:
    it = compiled("version: 1\nextends: [base.yaml]\n", base=VARIED)
    assert it.for_owner("beta", "cn").unmatched is Action.ENCRYPT
    assert it.for_owner("acme", "cn").classes["fixed"].action is Action.ENCRYPT


def test_differences_for_some_owners_are_told_as_that() -> None:
    without = VARIED.replace("  - {when: {tenant: acme}, classes: {fixed: {action: encrypt}}}\n", "")
    one, two = compiled(without), compiled(VARIED)
    for changes, weaker in ((diff_policies(one, two), True), (diff_policies(two, one), False)):
        found = [(change.where, change.selector, change.weaker) for change in changes]
        named = "tenant acme in region cn, tenant acme in region hk, tenant acme"
        assert found == [(f"agent POST /m request, for {named}", "json:$.a", weaker)]


def test_owners_are_compared_with_what_holds_for_them_whatever_variant_names_them() -> None:
    text = HEAD + "variants: [{when: {region: VALUES}, classes: {fixed: {action: encrypt}}}]\nmessages:\n"
    text += call("m", "", "{class: fixed, as: a}")
    one, two = compiled(text.replace("VALUES", "[cn, hk]")), compiled(text.replace("VALUES", "[cn, au, jp]"))
    assert [(change.where, change.weaker) for change in diff_policies(one, two)] == [
        ("agent POST /a/{id} request, for region au, region jp", True),
        ("agent POST /a/{id} request, for region hk", False),
    ]


def test_the_tests_of_a_policy_name_owner_and_account() -> None:
    from proxy.policy.check_tests import check_tests
    from proxy.wechat.push import message_type, read_body

    text = (
        VARIED
        + """tests:
  - {sample: s, direction: agent, method: POST, path: /m, tenant: acme, region: cn, expect: {json:$.a: encrypted}}
  - {sample: s, direction: agent, method: POST, path: /m, tenant: none, region: cn, expect: {json:$.a: redacted}}
"""
    )
    it = compiled(text)
    assert check_tests(it, {"s": b'{"a":"x"}'}, read_body, message_type, lambda size: b"k" * size) == []
    pushed = (
        HEAD
        + "messages:\n"
        + push("shop", ", account: shop")
        + """tests:
  - {sample: p, account: shop, expect: {xml:/xml/Content: allowed}}
  - {sample: p, account: none, expect: {xml:/xml/Content: allowed}}
"""
    )
    sample = b"<xml><MsgType>text</MsgType><Content>x</Content></xml>"
    found = check_tests(compiled(pushed), {"p": sample}, read_body, message_type, lambda size: b"k" * size)
    assert [problem.code for problem in found] == ["test-failed"]
    assert "message_unknown" in found[0].message
    assert read_xml(sample).leaves[1].text == "x"
