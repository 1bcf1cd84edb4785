"""WeChat's repeated deliveries, its verification of the URL and its modes, against a running installation.

Protocol reference 1.2 to 1.7: a repeat is no error and gets the stored reply; everything else that looks like one is
refused. That the time of a repeat ends after a minute is tested with a clock of its own in tests/replay.
"""

from __future__ import annotations

import itertools
import json
import re
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlencode

import pytest

from proxy.emulate.stage import API, PUSH_PATH, Reply, Stage
from proxy.emulate.wechat import Delivery, Pusher
from proxy.wechat import signature

_NUMBERS = itertools.count(1)


@pytest.fixture(scope="module")
def running() -> Iterator[Stage]:
    with Stage(workers=2) as stage:
        template = {"Name": "welcome", "Text__c": "您好，马上为您查询。"}
        assert stage.call("agent", "POST", f"{API}WeChat_Template__c", template).status == 201
        yield stage


@pytest.fixture
def stage(running: Stage) -> Iterator[Stage]:
    yield running
    running.crm_behaves("normal")


def openid() -> str:
    return f"oRepeat{next(_NUMBERS):04d}"


def text(stage: Stage, content: str = "where is my order?") -> str:
    return stage.pusher.message(openid(), "text", Content=content)


def seen(stage: Stage) -> list[dict[str, str]]:
    """What the CRM's webhook got so far."""
    webhook: list[dict[str, str]] = stage.in_crm()["webhook"]
    return webhook


def new_in_crm(stage: Stage, act: Callable[[], object]) -> list[dict[str, str]]:
    before = len(seen(stage))
    act()
    return seen(stage)[before:]


# --- the same delivery


def test_a_repeat_gets_the_stored_reply_and_the_crm_sees_one(stage: Stage) -> None:
    delivery = stage.pusher.deliver(text(stage))
    replies: list[Reply] = []
    got = new_in_crm(stage, lambda: replies.extend(stage.push(delivery) for _ in range(16)))
    assert len(got) == 1
    chains = [file.read_text() for file in (stage.directory / "state" / "audit").rglob("*") if file.is_file()]
    assert len([chain for chain in chains if '"repeated"' in chain]) == 2  # both workers answered
    assert {reply.status for reply in replies} == {200}
    assert len({reply.body for reply in replies}) == 1  # byte for byte, whichever of the two workers answered
    assert stage.pusher.open_reply(replies[-1].body)["Content"] == "您好，马上为您查询。"


def test_a_repeat_without_a_reply_gets_success(stage: Stage) -> None:
    stage.crm_behaves("silent")
    delivery = stage.pusher.deliver(text(stage))
    bodies: list[bytes] = []
    assert len(new_in_crm(stage, lambda: bodies.extend(stage.push(delivery).body for _ in range(3)))) == 1
    assert bodies == [b"success"] * 3


def test_deliveries_at_the_same_time_reach_the_crm_once(stage: Stage) -> None:
    delivery = stage.pusher.deliver(text(stage))

    def at_once() -> list[Reply]:
        with ThreadPoolExecutor(8) as pool:
            return list(pool.map(stage.push, [delivery] * 8))

    replies: list[Reply] = []
    assert len(new_in_crm(stage, lambda: replies.extend(at_once()))) == 1
    assert {reply.status for reply in replies} == {200}
    assert len({reply.body for reply in replies}) == 1


def test_a_new_triple_with_the_same_message_is_a_repeat(stage: Stage) -> None:
    """Protocol 1.7: WeChat signs a repeated message anew."""
    document = text(stage)
    replies: list[Reply] = []
    deliveries = [stage.pusher.deliver(document, nonce=str(number)) for number in range(1, 5)]
    assert len(new_in_crm(stage, lambda: replies.extend(map(stage.push, deliveries)))) == 1
    assert len({reply.body for reply in replies}) == 1
    assert b"Encrypt" in replies[0].body


def test_another_message_of_the_same_follower_is_none(stage: Stage) -> None:
    who = openid()
    deliveries = [stage.pusher.deliver(stage.pusher.message(who, "text", Content="same words")) for _ in range(3)]
    assert len(new_in_crm(stage, lambda: [stage.push(delivery) for delivery in deliveries])) == 3


def test_events_without_id_repeat_by_their_content(stage: Stage) -> None:
    event = stage.pusher.message(openid(), "event", Event="subscribe", EventKey="")
    other = event.replace("<EventKey><![CDATA[]]>", "<EventKey><![CDATA[qrscene_7]]>")
    assert other != event
    deliveries = [stage.pusher.deliver(document) for document in (event, event, other)]
    assert len(new_in_crm(stage, lambda: [stage.push(delivery) for delivery in deliveries])) == 2


# --- what only looks like one


def refused(stage: Stage, delivery: Delivery) -> None:
    got: list[Reply] = []
    assert new_in_crm(stage, lambda: got.append(stage.push(delivery))) == []
    assert (got[0].status, got[0].body) == (403, b"")


def test_the_same_triple_with_another_payload_is_refused(stage: Stage) -> None:
    """In safe mode the signature covers the envelope, so only one who knows the token can do it: the mode without
    envelopes is below."""
    at, nonce = int(time.time()), "4711"
    first, second = (stage.pusher.deliver(text(stage), at=at, nonce=nonce) for _ in range(2))
    assert stage.push(first).status == 200
    swapped = Delivery(first.query, second.body)
    refused(stage, swapped)


@pytest.mark.parametrize("seconds", [-301, -86400, 302, 86400])
def test_a_stale_delivery_is_refused(stage: Stage, seconds: int) -> None:
    refused(stage, stage.pusher.deliver(text(stage), at=int(time.time()) + seconds))


@pytest.mark.parametrize("seconds", [-290, 290])
def test_one_within_the_window_is_not(stage: Stage, seconds: int) -> None:
    assert stage.push(stage.pusher.deliver(text(stage), at=int(time.time()) + seconds)).status == 200


def test_a_forged_delivery_does_not_use_the_message_up(stage: Stage) -> None:
    delivery = stage.pusher.deliver(text(stage))
    forged = Delivery(re.sub("msg_signature=.{4}", "msg_signature=0000", delivery.query), delivery.body)
    refused(stage, forged)
    assert len(new_in_crm(stage, lambda: stage.push(delivery))) == 1


# --- after a failure


def test_after_a_failure_of_the_crm_the_redelivery_reaches_it_under_the_same_id(stage: Stage) -> None:
    document = text(stage)
    stage.crm_behaves("unavailable")
    got = new_in_crm(stage, lambda: _again(stage.push(stage.pusher.deliver(document))))
    stage.crm_behaves("normal")
    got += new_in_crm(stage, lambda: _answered(stage.push(stage.pusher.deliver(document))))
    assert len(got) == 2
    assert len({push["wxgate-delivery"] for push in got}) == 1
    assert re.fullmatch("[0-9a-f]{32}", got[0]["wxgate-delivery"])


def test_the_very_same_delivery_may_come_again_after_a_failure(stage: Stage) -> None:
    delivery = stage.pusher.deliver(text(stage))
    stage.crm_behaves("unavailable")
    _again(stage.push(delivery))
    stage.crm_behaves("normal")
    assert len(new_in_crm(stage, lambda: _answered(stage.push(delivery)))) == 1


def test_what_can_never_succeed_is_received_and_so_is_its_repeat(stage: Stage) -> None:
    document = stage.pusher.message(openid(), "text", Content="hello", Unknown="a field no rule knows")
    deliveries = [stage.pusher.deliver(document)] * 2 + [stage.pusher.deliver(document)]
    replies: list[Reply] = []
    assert new_in_crm(stage, lambda: replies.extend(map(stage.push, deliveries))) == []
    assert [(reply.status, reply.body) for reply in replies] == [(200, b"success")] * 3


def test_what_the_crm_refused_for_good_is_not_brought_again(stage: Stage) -> None:
    delivery = stage.pusher.deliver(text(stage))
    stage.crm_behaves("echo400")
    replies: list[Reply] = []
    got = new_in_crm(stage, lambda: replies.extend(stage.push(delivery) for _ in range(2)))
    assert len(got) == 1
    assert [reply.body for reply in replies] == [b"success"] * 2


def _again(reply: Reply) -> None:
    assert (reply.status, reply.body) == (503, b"")


def _answered(reply: Reply) -> None:
    assert reply.status == 200 and b"Encrypt" in reply.body


# --- verification of the URL


def test_the_url_is_verified(stage: Stage) -> None:
    for echo in ("5837397520665436492", "a-B_9"):
        reply = stage.ask(stage.public, "GET", f"{PUSH_PATH}?{stage.pusher.verification(echo)}")
        assert (reply.status, reply.body, reply.headers["content-type"]) == (200, echo.encode(), "text/plain")


@pytest.mark.parametrize(
    ("change", "by"),
    [("signature=[0-9a-f]{4}", "signature=0000"), ("nonce=.", "nonce=x"), ("echostr=.*", "echostr=%3Cscript%3E")],
)
def test_a_forged_verification_is_refused(stage: Stage, change: str, by: str) -> None:
    query = re.sub(change, by, stage.pusher.verification("5837397520665436492"))
    reply = stage.ask(stage.public, "GET", f"{PUSH_PATH}?{query}")
    assert (reply.status, reply.body) == (403, b"")


def test_a_stale_verification_is_refused(stage: Stage) -> None:
    timestamp = str(int(time.time()) - 301)
    signed = signature.sign(stage.pusher.token, timestamp, "1")
    query = urlencode({"signature": signed, "timestamp": timestamp, "nonce": "1", "echostr": "1"})
    assert stage.ask(stage.public, "GET", f"{PUSH_PATH}?{query}").status == 403


# --- keys and modes; these come last, since they reload the gateway


def test_a_safe_account_is_not_pushed_to_in_clear(stage: Stage) -> None:
    refused(stage, plain_delivery(stage.pusher, text(stage)))


def test_the_previous_key_opens_and_seals_its_reply(stage: Stage) -> None:
    old = stage.pusher
    new = Pusher(old.token, "N" * 43, old.app_id)
    file = stage.directory / "secrets" / "wechat-key-new"
    file.touch(mode=0o600)
    file.write_text(new.encoding_aes_key)
    account = "encoding_aes_key: file:secrets/wechat-key\n"
    both = "encoding_aes_key: file:secrets/wechat-key-new\n    previous_encoding_aes_key: file:secrets/wechat-key\n"
    configure(stage, account, both)
    try:
        for pusher in (old, new):
            reply = stage.push(pusher.deliver(text(stage)))
            assert pusher.open_reply(reply.body)["Content"] == "您好，马上为您查询。"
        refused(stage, Pusher(old.token, "X" * 43, old.app_id).deliver(text(stage)))
    finally:
        configure(stage, both, account)


def test_compatible_mode_believes_the_envelope_alone(stage: Stage) -> None:
    configure(stage, "mode: safe", "mode: compatible")
    try:
        true, false = text(stage, "the envelope's"), text(stage, "the clear field's")
        sealed = stage.pusher.deliver(true)
        encrypt = re.search(b"<Encrypt>.*</Encrypt>", sealed.body)
        assert encrypt is not None
        both = false.encode().replace(b"</xml>", encrypt[0] + b"</xml>")
        replies: list[Reply] = []
        got = new_in_crm(stage, lambda: replies.append(stage.push(Delivery(sealed.query, both))))
        assert "Content" in got[0]["body"] and sender(true) not in got[0]["body"]
        assert stage.pusher.open_reply(replies[0].body)["ToUserName"] == sender(true)
        refused(stage, plain_delivery(stage.pusher, text(stage)))
    finally:
        configure(stage, "mode: compatible", "mode: safe")


def test_plain_mode(stage: Stage) -> None:
    configure(stage, "mode: safe", "mode: plain")
    try:
        document = text(stage)
        delivery = plain_delivery(stage.pusher, document)
        replies: list[Reply] = []
        assert len(new_in_crm(stage, lambda: replies.extend(stage.push(delivery) for _ in range(2)))) == 1
        assert "您好，马上为您查询。".encode() in replies[0].body
        assert replies[0].body == replies[1].body
        refused(stage, Delivery(delivery.query, text(stage, "other words").encode()))
        refused(stage, stage.pusher.deliver(text(stage)))
    finally:
        configure(stage, "mode: plain", "mode: safe")


def plain_delivery(pusher: Pusher, document: str) -> Delivery:
    timestamp, nonce = str(int(time.time())), str(next(_NUMBERS))
    signed = signature.sign(pusher.token, timestamp, nonce)
    return Delivery(urlencode({"signature": signed, "timestamp": timestamp, "nonce": nonce}), document.encode())


def sender(document: str) -> str:
    found = re.search(r"<FromUserName><!\[CDATA\[(.*?)]]>", document)
    assert found is not None
    return found[1]


def configure(stage: Stage, old: str, new: str) -> None:
    """Changes gateway.yaml and waits until every worker has it."""
    config = stage.config.read_text()
    assert old in config
    stage.config.write_text(config.replace(old, new))
    before = len(reloads(stage))
    stage.gateway.send_signal(signal.SIGHUP)
    deadline = time.monotonic() + 10
    while len(reloads(stage)) == before or not stage.is_ready():
        assert time.monotonic() < deadline, stage.log.read_text()
        time.sleep(0.02)


def reloads(stage: Stage) -> list[Any]:
    lines = [json.loads(line) for line in stage.log.read_text().splitlines()]
    assert not [line for line in lines if line["event"] == "reload_failed"]
    return [line for line in lines if line["event"] == "reloaded"]
