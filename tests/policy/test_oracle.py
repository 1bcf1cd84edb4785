"""No oracle: what came from WeChat is never opened on the way back there."""

import pytest

from tests.policy.build import CLASSES, GOOD, PUSH, SEND, codes, compiled, message

REVEAL = "{class: secret, as: words, reveal: {'*': plain}}"


@pytest.mark.parametrize(
    ("name", "messages"),
    [
        ("outbound call", PUSH + SEND + f"      json:$.text.content: {REVEAL}\n"),
        ("query of an outbound call", PUSH + SEND + f"      query:text: {REVEAL}\n"),
        ("wildcard", PUSH + SEND + f"      json:$.*: {REVEAL}\n"),
        ("passive reply", PUSH + message("{reply: text}", f"response: {{'xml:/xml/Content': {REVEAL}}}")),
        ("id in another field", PUSH + SEND + "      json:$.text: {class: id, as: openid, reveal: {'*': plain}}\n"),
        ("id of a class that is not deterministic", PUSH + SEND.replace("class: id", "class: secret")),
        ("for one role only", PUSH + SEND + f"      json:$.t: {REVEAL.replace(chr(39) + '*' + chr(39), 'bot')}\n"),
        ("unclassified", SEND + "      json:$.t: {class: secret, as: unclassified, reveal: {'*': plain}}\n"),
        (
            "what WeChat answered earlier",
            SEND
            + f"      json:$.t: {REVEAL}\n"
            + message("{method: GET, path: /u}", "response: {'json:$.n': {class: secret, as: words}}", "outbound"),
        ),
    ],
)
def test_a_rule_that_would_open_a_followers_words_towards_wechat_is_refused(name: str, messages: str) -> None:
    assert codes(CLASSES + "messages:\n" + messages) == ["reveal-oracle"], name


def test_a_push_that_only_the_common_rules_know_counts_as_a_followers_too() -> None:
    text = CLASSES + "messages:\n" + SEND + f"      json:$.t: {REVEAL}\n"
    common = "common: [{direction: inbound, request: {'xml:/xml/Content': {class: secret, as: words}}}]\n"
    assert codes(text + common + "defaults: {unmatched: encrypt}\n") == ["reveal-oracle"]


def test_what_an_agent_wrote_may_be_opened_and_a_followers_id_where_the_addressee_stands() -> None:
    compiled(GOOD + "      json:$.text: {class: agent.text, as: agent.text, bind: [openid], reveal: {'*': plain}}\n")


def test_a_follower_s_words_may_be_opened_for_an_agent() -> None:
    read = f"response: {{'json:$.t': {REVEAL}}}"
    compiled(GOOD + message("{method: GET, path: /r}", read, "agent"))
