"""Differences between policies: all of those that mean something, and none of those that do not."""

import re
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.policy.compiled import Policy
from proxy.policy.diff import Change, diff_policies
from proxy.policy.meaning import REFUSED, SEALED, meaning, weaker
from proxy.policy.rules import Rule
from proxy.policy.selector import ANY, parse_selector
from tests.policy.build import compiled

HEAD = """version: 1
classes:
  words: {action: encrypt, mask: {keep_last: 1}}
  id: {action: encrypt, deterministic: true}
  veiled: {action: mask, mask: {keep_last: 1}}
"""
TEXT = (
    HEAD
    + """common:
  - direction: inbound
    request:
      xml:/xml/From: {class: id, as: openid}
messages:
  - name: push
    direction: inbound
    match: {type: text}
    request:
      xml:/xml/Text: {class: words, as: words}
      xml:/xml/Kind: allow
  - name: reply
    direction: inbound
    match: {reply: text}
    response: {'xml:/xml/Kind': allow}
  - name: send
    direction: outbound
    match: {method: POST, path: '/send/{to}/{again}'}
    request:
      path:to: allow
      path:again: drop_not
      query:token: allow
      header:if-match: allow
      json:$.text: {class: words, as: agent.text, reveal: {'*': plain}}
    response: {'json:$.code': allow}
    errors:
      4xx: {'json:$.why': drop}
""".replace("drop_not", "{class: id, as: again}")
)


def rows(old: str, new: str) -> list[tuple[str, str, str, str, bool]]:
    """Message, selector, before, after, weaker."""
    changes = diff_policies(compiled(old), compiled(new))
    return [(it.where, it.selector, it.before, it.after, it.weaker) for it in changes]


def changed(old: str, new: str) -> list[tuple[str, str, str, str, bool]]:
    """What changes if `old` becomes `new` in the policy."""
    assert TEXT.count(old) == 1
    return rows(TEXT, TEXT.replace(old, new))


SEND = "outbound POST /send/{to}/{again}"


@pytest.mark.parametrize(
    ("old", "new", "row"),
    [
        (
            "Text: {class: words, as: words}",
            "Text: allow",
            ("inbound push text (xml)", "xml:/xml/Text", "encrypt; as: words", "allow", True),
        ),
        (
            "xml:/xml/Kind: allow",
            "xml:/xml/Kind: drop",
            ("inbound push text (xml)", "xml:/xml/Kind", "allow", "drop", False),
        ),
        (
            "'xml:/xml/Kind': allow",
            "'xml:/xml/Kind': drop",
            ("inbound reply text (xml)", "xml:/xml/Kind", "allow", "drop", False),
        ),
        (
            "      xml:/xml/Kind: allow\n",
            "",
            ("inbound push text (xml)", "xml:/xml/Kind", "allow", "refuse", False),
        ),
        (
            "{action: encrypt, deterministic: true}",
            "{action: encrypt, deterministic: true, group: chat}",
            None,
        ),
        (
            "path:to: allow",
            "path:to: {class: veiled}",
            (f"{SEND} request", "path:to", "allow", "mask; mask: first 0, last 1", False),
        ),
        ("      query:token: allow\n", "", (f"{SEND} request", "query:token", "allow", "refuse", False)),
        ("      header:if-match: allow\n", "", (f"{SEND} request", "header:if-match", "allow", "drop", False)),
        (
            "header:if-match: allow",
            "header:if-match: drop",
            (f"{SEND} request", "header:if-match", "allow", "drop", False),
        ),
        (
            "reveal: {'*': plain}}",
            "reveal: {crm: plain}}",
            (f"{SEND} request", "json:$.text", "reveal: * plain", "reveal: * refused, crm plain", False),
        ),
        (
            "reveal: {'*': plain}}",
            "bind: [again], reveal: {'*': plain}}",
            (f"{SEND} request", "json:$.text", "bind: none", "bind: again", False),
        ),
        (
            "response: {'json:$.code': allow}",
            "response: {'json:$.code': drop}",
            (f"{SEND} response", "json:$.code", "allow", "drop", False),
        ),
        (
            "{'json:$.why': drop}",
            "{'json:$.why': allow}",
            (f"{SEND} response 4xx", "json:$.why", "drop", "allow", True),
        ),
    ],
)
def test_a_field_that_changes_is_told_once(old: str, new: str, row: tuple[str, str, str, str, bool] | None) -> None:
    found = changed(old, new)
    if row is None:  # the class stands for two fields
        assert [(where, selector) for where, selector, *_ in found] == [
            ("inbound push text (xml)", "xml:/xml/From"),
            (f"{SEND} request", "path:again"),
        ]
        assert {it[2:] for it in found} == {("group: default", "group: chat", False)}
    else:
        assert found == [row]


def test_the_places_of_both_rules_are_told() -> None:
    (change,) = diff_policies(compiled(TEXT), compiled(TEXT.replace("xml:/xml/Kind: allow\n", "xml:/xml/Kind: drop\n")))
    assert change.old == change.new
    assert change.old is not None
    (gone,) = diff_policies(compiled(TEXT), compiled(TEXT.replace("      xml:/xml/Kind: allow\n", "")))
    assert (gone.old, gone.new) == (change.old, None)


# --- whole messages

NEW = """  - name: image
    direction: inbound
    match: {type: image}
    request: {'xml:/xml/Url': {class: words, as: url}}
"""


def test_a_message_that_is_added_lets_through_what_was_refused() -> None:
    where = "inbound push image (xml)"
    assert rows(TEXT, TEXT + NEW) == [
        (where, "", "refused", "known", True),
        (where, "xml:/xml/From", "refuse", "encrypt; as: openid; deterministic: true", True),
        (where, "xml:/xml/Url", "refuse", "encrypt; as: url", True),
    ]


def test_a_message_that_is_removed_is_refused_and_nothing_is_weaker() -> None:
    found = rows(TEXT + NEW, TEXT)
    assert found[0] == ("inbound push image (xml)", "", "known", "refused", False)
    assert not any(it[-1] for it in found)


def test_a_push_that_is_removed_falls_to_the_common_rules_if_there_is_such_a_fall() -> None:
    tail = "defaults: {unmatched: encrypt}\n"
    assert rows(TEXT + NEW + tail, TEXT + tail) == [
        (
            "inbound push image (xml)",
            "xml:/xml/Url",
            "as: url",
            "as: unclassified",
            False,
        )
    ]


def test_what_happens_to_the_unknown_is_told_for_itself_and_for_what_it_concerns() -> None:
    found = rows(TEXT, TEXT + "defaults: {unmatched: encrypt}\n")
    assert found[0] == ("defaults", "", "unmatched: refuse", "unmatched: encrypt", True)
    assert ("inbound push of any other type (xml)", "", "refused", "known", True) in found
    assert (
        "inbound push of any other type (xml)",
        "xml:/xml/From",
        "refuse",
        "encrypt; as: openid; deterministic: true",
        True,
    ) in found
    back = rows(TEXT + "defaults: {unmatched: encrypt}\n", TEXT)
    assert len(back) == len(found)
    assert not any(it[-1] for it in back)


def test_errors_that_get_rules_were_refused_before() -> None:
    found = changed(
        "      4xx: {'json:$.why': drop}\n", "      4xx: {'json:$.why': drop}\n      5xx: {'json:$.x': drop}\n"
    )
    assert found == [
        (f"{SEND} response 5xx", "", "refused", "known", True),
        (f"{SEND} response 5xx", "json:$.x", "refuse", "drop", True),
    ]


def test_a_body_of_another_form_is_another_body() -> None:
    found = changed("json:$.text: {class: words, as: agent.text,", "form:text: {class: words, as: agent.text,")
    assert [(selector, before, after) for _, selector, before, after, _ in found] == [
        ("form:text", "refuse", "encrypt; as: agent.text; reveal: * plain"),
        ("json:$.text", "encrypt; as: agent.text; reveal: * plain", "refuse"),
    ]


# --- what means nothing


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("name: send", "name: sends"),
        ("{to}", "{target}"),
        ("  words: {action: encrypt, mask: {keep_last: 1}}", "  words: {mask: {keep_last: 1}, action: encrypt}"),
        ("      xml:/xml/Kind: allow\n", "      # a comment\n\n      'xml:/xml/Kind':   {action: allow}\n"),
        ("json:$.text:", "json:$['text']:"),
        ("{method: POST, path: '/send/{to}/{again}'}", "{path: '/send/{to}/{again}', method: POST}"),
    ],
)
def test_another_way_to_write_it_is_no_difference(old: str, new: str) -> None:
    text = TEXT.replace(old, new).replace("path:to:", "path:target:" if "target" in new else "path:to:")
    assert text != TEXT
    assert rows(TEXT, text) == []


def test_where_a_rule_stands_is_no_difference() -> None:
    base = TEXT[: TEXT.index("messages:")]
    split = "version: 1\nextends: [base.yaml]\n" + TEXT[TEXT.index("messages:") :]
    assert diff_policies(compiled(TEXT), compiled(split, base=base)) == ()


def test_the_name_of_a_class_is_no_difference() -> None:
    assert rows(TEXT, re.sub(r"\bwords:", "talk:", TEXT).replace("class: words", "class: talk")) == []


def blocks(text: str) -> Iterator[list[str]]:
    """Groups of lines whose order is free: messages, and rules within one."""
    messages = re.findall(r"  - name:.*?(?=\n  - name:|\Z)", text.partition("messages:\n")[2], re.S)
    yield [message.rstrip("\n") for message in messages]
    for run in re.findall(r"(?:^      (?:json|xml|path|query|header):.*\n){2,}", text, re.M):
        yield run.splitlines()


@settings(deadline=None, max_examples=30)
@given(data=st.data())
def test_the_order_of_messages_and_rules_is_no_difference(data: st.DataObject) -> None:
    text = TEXT
    for group in list(blocks(TEXT))[::-1]:
        lines = "\n".join(group)
        assert lines in text or group[0].startswith("  - name")
        text = text.replace(lines, "\n".join(data.draw(st.permutations(group))))
    assert rows(TEXT, text) == []


# --- stars

RULES = ["drop", "refuse", "{class: veiled}", "{class: words, as: a}", "{class: id, as: b}", "allow"]
SEGMENTS = st.sampled_from(["a", "b", "[0]", "*"])


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    paths = st.lists(SEGMENTS, min_size=1, max_size=3).map(tuple)
    rules = draw(st.dictionaries(paths, st.sampled_from(RULES), max_size=6))
    lines = [
        f"      json:${''.join(part if part.startswith('[') else '.' + part for part in path)}: "
        + ("drop" if rule == "allow" and "*" in path else rule)
        for path, rule in rules.items()
    ]
    head = HEAD + f"defaults: {{unmatched: {draw(st.sampled_from(['refuse', 'encrypt']))}}}\nmessages:\n"
    message = "  - name: m\n    direction: agent\n    match: {method: POST, path: /m}\n    request:\n"
    return compiled(head + message + "\n".join(["      json:$.always: drop", *lines]) + "\n")


@settings(deadline=None, max_examples=150)
@given(old=policies(), new=policies(), path=st.lists(st.sampled_from(["a", "b", "c", 0]), min_size=1, max_size=3))
def test_every_value_whose_treatment_differs_is_covered_by_a_change_that_says_how(
    old: Policy, new: Policy, path: list[str | int]
) -> None:
    assert diff_policies(old, old) == ()
    found = [it for it in diff_policies(old, new) if it.selector]
    one, two = (policy.calls[0].request.tables["body"].find(tuple(path)) for policy in (old, new))
    if one is None and two is None:
        return
    covering = [it for it in found if (it.old, it.new) == (one and one.place, two and two.place) and covers(it, path)]
    before, after = one or unknown(old), two or unknown(new)
    if meaning(before) == meaning(after):
        assert not covering
    else:
        assert [it.weaker for it in covering] == [weaker(before, after)]


def unknown(policy: Policy) -> Rule:
    return SEALED if policy.unmatched.value == "encrypt" else REFUSED


def covers(change: Change, path: list[str | int]) -> bool:
    pattern = parse_selector(change.selector).pattern
    return len(pattern) == len(path) and all(a is ANY or a == b for a, b in zip(pattern, path, strict=True))


def test_a_rule_under_a_star_that_another_now_overrules_is_told_where_it_does() -> None:
    request = "messages: [{name: m, direction: agent, match: {method: POST, path: /m}, request: {RULES}}]\n"
    old = HEAD + request.replace("RULES", "'json:$.*.text': {class: words, as: a}")
    new = HEAD + request.replace("RULES", "'json:$.*.text': {class: words, as: a}, 'json:$.chat.*': {class: id, as: a}")
    assert [(it[1], it[2], it[4]) for it in rows(old, new)] == [
        ("json:$.chat.text", "deterministic: false", True),
        ("json:$.chat[*]", "refuse", True),
    ]


def test_a_large_policy_is_compared_in_bounded_time() -> None:
    rules = "".join(f"      json:$.data[*].f{n}: drop\n" for n in range(2000))
    text = (
        HEAD
        + "messages:\n  - name: m\n    direction: agent\n    match: {method: POST, path: /m}\n    request:\n"
        + rules
    )
    assert len(rows(text, text.replace("f1999: drop", "f1999: refuse"))) == 1
