"""What the gateway looks at besides the policy, each seen from outside: over sockets, by what the other sides got."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import pytest

from proxy.emulate.crm import _reply
from proxy.emulate.server import Call, Result
from proxy.emulate.stage import API, PUSH_PATH
from proxy.refusal import Refusal
from tests.promises.house import House, http


def welcome(house: House) -> str:
    """The prepared answer as the CRM has it."""
    return str(house.record("WeChat_Template__c")[1]["Text__c"])


def answering(house: House, content: str, status: int = 200, **changes: str) -> None:
    """The CRM answers every push with a passive reply; `changes`: to the fields it is addressed by."""

    def answer(call: Call) -> Result:
        texts = call.body.decode()
        fields = {name: _field(texts, name) for name in ("FromUserName", "ToUserName")} | changes
        return Result(_reply(fields, content).encode(), status, "text/xml")

    house.crm_answers = answer


def _field(document: str, name: str) -> str:
    return document.partition(f"<{name}>")[2].partition(f"</{name}>")[0].removeprefix("<![CDATA[").removesuffix("]]>")


def test_a_reply_goes_back_sealed(house: House) -> None:
    answering(house, welcome(house))
    assert house.files.pusher.open_reply(house.push(house.text()).body)["Content"] == "hi"


@pytest.mark.parametrize(
    ("status", "expected"),
    [(500, (503, b"")), (503, (503, b"")), (429, (503, b"")), (400, (200, b"success")), (302, (200, b"success"))],
)
def test_only_successes_of_the_crm_are_read(house: House, status: int, expected: tuple[int, bytes]) -> None:
    answering(house, welcome(house), status)
    got = house.push(house.text())
    assert (got.status, got.body) == expected


def test_a_reply_to_somebody_else_is_refused(house: House) -> None:
    """The token of another follower's id opens, and is not the sender's."""
    other = house.record("WeChat_Answer__c")[1]["OpenId__c"]
    answering(house, welcome(house), FromUserName=other)
    got = house.push(house.text("somebody"))
    assert (got.status, got.body) == (200, b"success")
    assert '"reply_misaddressed"' in house.log[-1]


@pytest.mark.parametrize("content", ["words in clear", "wg1.AAAA"])
def test_a_reply_without_a_token_is_refused(house: House, content: str) -> None:
    answering(house, content)
    got = house.push(house.text())
    assert (got.status, got.body) == (200, b"success")
    assert '"clear_value_refused"' in house.log[-1]


@pytest.mark.parametrize("body", [b"", b"success", b" success\r\n"])
def test_a_crm_with_nothing_to_say_is_no_fault(house: House, body: bytes) -> None:
    house.crm_answers = lambda _call: Result(body, 200, "text/plain")
    told = len(house.log)
    got = house.push(house.text())
    assert (got.status, got.body, house.log[told:]) == (200, b"success", [])


JSON_REPLY = b'{"ToUserName": "a", "FromUserName": "b", "CreateTime": 1, "MsgType": "text", "Content": "c"}'


@pytest.mark.parametrize("body", [b"<xml><a>", b"hello", b"{}", JSON_REPLY])
def test_what_is_no_reply_is_refused(house: House, body: bytes) -> None:
    house.crm_answers = lambda _call: Result(body, 200, "text/xml")
    got = house.push(house.text())
    assert (got.status, got.body) == (200, b"success")
    assert '"reply_malformed"' in house.log[-1]


def test_what_is_sent_stands_in_the_audit_log_before(house: House) -> None:
    seen: list[bool] = []

    def answer(call: Call) -> Result:
        records = house.audited().splitlines()
        seen.append(any(call.headers["wxgate-delivery"] in record and '"cleared"' in record for record in records))
        return Result(b"success", 200, "text/plain")

    house.crm_answers = answer
    assert house.push(house.text()).status == 200
    assert seen == [True]


class _Unwritable:
    def append(self, _record: Any, _names: Any) -> None:
        raise OSError(28, "no space left on device")


def test_what_cannot_be_audited_is_not_sent(house: House) -> None:
    house.world = dataclasses.replace(house.world, audit=_Unwritable())
    sent = house.sent
    assert house.push(house.text()).status == 503
    assert house.call("crm", "POST", *house.outgoing()).status == 503
    assert house.sent == sent


def test_a_repeat_does_not_reach_the_crm(house: House) -> None:
    delivery = house.files.pusher.deliver(house.text())
    first = house.deliver(delivery)
    sent = house.sent
    assert house.deliver(delivery).body == first.body
    assert house.sent == sent


def test_after_a_failure_it_does(house: House) -> None:
    delivery = house.files.pusher.deliver(house.text())
    house.crm_answers = lambda _call: Result(b"", 503)
    assert house.deliver(delivery).status == 503
    house.crm_answers = None
    assert house.deliver(delivery).status == 200


@pytest.mark.parametrize("encoding", ["gzip", "br", "identity, gzip", ""])
def test_encoded_bodies_are_refused(house: House, encoding: str) -> None:
    bearer = f"authorization: Bearer {house.files.secrets['agent-bearer']}\r\ncontent-encoding: {encoding}\r\n"
    body = b'{"Name": "n", "Text__c": "t"}'
    sent = house.sent
    request = http("POST", f"{API}WeChat_Template__c", body, bearer)
    assert house.ask(house.files.internal, request).status == 415
    assert house.sent == sent


def test_a_follower_is_sent_only_what_was_written_for_that_follower(house: House) -> None:
    target, message = house.outgoing()
    other = {"OpenId__c": "oSomebodyElse", "Text__c": "another answer"}
    assert house.call("agent", "POST", f"{API}WeChat_Answer__c", other).status == 201
    swapped = message | {"touser": house.record("WeChat_Answer__c")[1]["OpenId__c"]}
    sent = house.sent
    got = house.call("crm", "POST", target, swapped)
    assert got.status == 422 and b'"token_refused"' in got.body
    assert house.sent == sent


@pytest.mark.parametrize("who", ["crm", "analyst"])
def test_a_caller_of_another_route_or_role_reads_nothing(house: House, who: str) -> None:
    key, record = house.record("WeChat_Message__c")
    got = house.call(who, "GET", f"{API}{key}")
    assert got.status in (200, 401)
    assert b"words" not in got.body
    if who == "analyst":
        assert str(record["Text__c"]).encode() in got.body  # the token stays


def test_methods_a_push_cannot_have_are_refused(house: House) -> None:
    delivery = house.files.pusher.deliver(house.text())
    sent = house.sent
    request = http("PUT", f"{PUSH_PATH}?{delivery.query}", delivery.body)
    assert house.ask(house.files.public, request).status == 405
    assert house.sent == sent


def test_an_exchange_ends_at_its_deadline(house: House) -> None:
    def answer(_call: Call) -> Result:
        time.sleep(0.6)
        return Result(b"success")

    house.crm_answers = answer
    house.deadline(0.2)
    begun = time.monotonic()
    assert house.push(house.text()).status == 503
    assert time.monotonic() - begun < 0.55


def test_a_refusal_says_what_the_table_says(house: House) -> None:
    """Whatever somebody wrote into it on the way."""

    class _Talkative:
        async def send(self, _request: Any, _deadline: float) -> Any:
            refusal = Refusal("internal")
            refusal.code = "words of a follower"
            raise refusal

    house.world = dataclasses.replace(house.world, upstream=_Talkative())
    told = len(house.log)
    assert house.push(house.text()).status == 503
    assert "words of a follower" not in "".join(house.log[told:]) + house.audited()


class _Mute:
    def write(self, *_: Any, **__: Any) -> None:
        raise OSError(28, "no space left on device")

    fault = write


def test_a_log_that_fails_stops_no_clock(house: House) -> None:
    """One caller after the other begins a request and never ends it: each is cut although telling of it fails."""
    house.world = dataclasses.replace(house.world, log=_Mute())
    listener = house.assembly.listeners["public"]
    before = listener.settings
    listener.settings = dataclasses.replace(before, limits=dataclasses.replace(before.limits, head=0.1, lingering=0.1))
    house.runner.get_loop().set_exception_handler(lambda _loop, _what: None)
    try:
        for _ in range(2):
            house.ask(house.files.public, b"POST / HTTP/1.1\r\n")
    finally:
        listener.settings = before
        house.runner.get_loop().set_exception_handler(None)


def test_a_body_is_not_waited_for_before_its_sender_is_known(house: House) -> None:
    """The head alone is sent, and announces a body that never comes: a stranger's memory costs nothing."""
    head = b"POST /services/data/v61.0/sobjects/WeChat_Answer__c HTTP/1.1\r\nhost: localhost\r\n"
    rest = b"content-length: 1000000\r\nauthorization: Bearer " + b"x" * 40 + b"\r\n\r\n"
    stranger = house.ask(house.files.internal, head + rest)
    assert (stranger.status, b"caller_unknown" in stranger.body) == (401, True)
