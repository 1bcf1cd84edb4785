"""What is wrong with the rules of one message taken together."""

import pytest

from tests.policy.build import CLASSES, codes, compiled, message, with_rules


@pytest.mark.parametrize(
    "rules",
    [
        "json:$.a: {class: secret, as: a, bind: [openid]}",
        "json:$.a: {class: secret, as: a, bind: [a]}",
        "json:$.a: {class: secret, as: a, bind: [b]}\njson:$.b: {class: secret, as: b, bind: [a]}",
        # the datum is bound in one place and not in another: opening it could need itself
        "json:$.a: {class: secret, as: a, bind: [a]}\njson:$.b: {class: secret, as: a}",
        "json:$.b: {class: secret, as: a}\njson:$.a: {class: secret, as: a, bind: [a]}",
    ],
)
def test_a_bind_names_a_datum_of_the_message_that_is_bound_to_nothing(rules: str) -> None:
    assert set(codes(with_rules(rules))) == {"bind-unknown"}


def test_a_bind_may_name_an_allowed_field_and_an_inherited_one() -> None:
    compiled(with_rules("json:$.a: {class: secret, as: a, bind: [n]}\njson:$.n: {action: allow, as: n}"))
    text = with_rules("json:$.a: {class: secret, as: a, bind: [n]}")
    compiled(text + "common: [{direction: agent, request: {'json:$.n': {class: id, as: n}}}]\n")


@pytest.mark.parametrize(("direction", "phase"), [("agent", "request"), ("outbound", "response")])
def test_nothing_is_revealed_where_nobody_may_read(direction: str, phase: str) -> None:
    text = with_rules("json:$.a: {class: secret, as: a, reveal: {'*': plain}}", direction, phase)
    assert codes(text) == ["reveal-direction"]


def test_nothing_is_revealed_in_a_push() -> None:
    rules = "request: {'xml:/xml/a': {class: id, as: a, reveal: {'*': keep}}}"
    assert codes(CLASSES + "messages:\n" + message("{type: text}", rules)) == ["reveal-direction"]


def test_a_mask_for_a_role_needs_a_mask_in_the_class() -> None:
    text = with_rules("json:$.a: {class: secret, as: a, reveal: {analyst: mask}}", phase="response")
    assert codes(text) == ["mask-missing"]
    compiled(text.replace("{action: encrypt}\n  agent", "{action: encrypt, mask: {keep_last: 2}}\n  agent"))
