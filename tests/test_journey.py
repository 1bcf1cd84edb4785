"""The steps of a message, one after the other, without a gateway around them."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy import journey
from proxy.caller import WECHAT
from proxy.cleared import ClearedReply, ClearedRequest
from proxy.journey import Answered, Arrived, Known, Opened, Planned
from proxy.message import HeaderList, Peer, Request, Response
from proxy.policy.compile import compile_policy
from proxy.policy.explain import temporary_keys
from proxy.route import Route, RouteKind, RouteTable
from proxy.wechat.envelope import open_envelope
from proxy.wechat.push import read_body
from proxy.wechat.signature import verify
from tests.policy.build import Entropy, refused
from tests.wechat.pushes import KEY, NOW, PLAIN, SAFE, plain_query, pushed

POLICIES = Path(__file__).parents[1] / "policies"
POLICY = compile_policy("wechat-crm.yaml", lambda name: (POLICIES / name).read_bytes())
ENTROPY = Entropy()
KEYS = temporary_keys(POLICY, ENTROPY)
PUSH = Route(
    "push", RouteKind.INBOUND, "l", frozenset(), "/wx", "crm", "p", "acme", "cn", target="/webhook", account=SAFE
)
AGENT = Route("agent", RouteKind.AGENT, "l", frozenset(), "/services/data/", "crm", "p", "acme", "cn")
CALL = "/services/data/v1/sobjects/WeChat_Template__c"
TEXT = (
    b"<xml><ToUserName>gh_1</ToUserName><FromUserName>o1</FromUserName><CreateTime>1714112445</CreateTime>"
    b"<MsgType>text</MsgType><Content>hello</Content><MsgId>1</MsgId></xml>"
)


def known(
    route: Route = PUSH,
    method: str = "POST",
    path: str = "/wx",
    query: str = "",
    body: bytes = b"",
    headers: HeaderList = (),
) -> Known:
    """A request of a known caller, on a table of `route` alone."""
    arrived = Arrived(Request(method, path, query, headers, body, "h"), Peer("l", "192.0.2.1", "TLSv1.3"))
    return Known(journey.find_route(arrived, RouteTable((route,), {"p": POLICY})), WECHAT)


def opened(message: bytes = TEXT) -> Opened:
    query, body = pushed(message)
    return journey.open_push(journey.verify(known(query=query, body=body), NOW))


def cleared(planned: Planned) -> ClearedRequest:
    return journey.clear(journey.protect(planned, KEYS, ENTROPY), "d" * 32)


def reply_to(push: Opened, document: str, status: int = 200) -> ClearedReply | None:
    """What WeChat would get for the CRM's `document`."""
    answered = Answered(push.genuine.known, Response(status, document.encode()))
    planned = journey.plan_passive_reply(answered, push)
    return None if planned is None else journey.seal(journey.protect(planned, KEYS, ENTROPY), push, ENTROPY, NOW)


def test_a_push_becomes_a_request_of_our_own_to_the_route_s_target() -> None:
    request = cleared(journey.plan_push(opened()))
    assert (request.upstream, request.method, request.target) == ("crm", "POST", "/webhook")
    assert [name for name, _ in request.headers] == [
        b"content-type",
        b"wxgate-delivery",
        b"wxgate-route",
        b"wxgate-policy",
    ]
    assert b"hello" not in request.body
    assert b"o1<" not in request.body


def test_nothing_of_the_callers_headers_or_wechats_query_goes_on() -> None:
    query, body = pushed(TEXT)
    secret = ((b"x-secret", b"marker-1"), (b"cookie", b"marker-2"))
    genuine = journey.verify(known(query=query, body=body, headers=secret), NOW)
    request = cleared(journey.plan_push(journey.open_push(genuine)))
    assert "?" not in request.target
    assert not {b"x-secret", b"cookie"} & {name for name, _ in request.headers}


def test_an_api_call_keeps_method_and_path_and_gets_no_header_of_ours() -> None:
    body = b'{"Name": "n", "Text__c": "words"}'
    parsed = journey.parse_call(known(AGENT, "POST", CALL, body=body, headers=((b"authorization", b"Bearer x"),)))
    request = cleared(journey.plan_call(parsed))
    assert (request.method, request.target) == ("POST", CALL)
    assert [name for name, _ in request.headers] == [b"content-type"]
    assert b"words" not in request.body


@pytest.mark.parametrize(("method", "path"), [("GET", CALL), ("POST", CALL + "/x"), ("POST", CALL[:-1])])
def test_a_call_the_policy_does_not_know_is_refused(method: str, path: str) -> None:
    assert refused(lambda: journey.parse_call(known(AGENT, method, path))) == "message_unknown"


def test_a_push_the_policy_does_not_know_is_refused() -> None:
    unknown = opened(TEXT.replace(b"<MsgType>text<", b"<MsgType>video<"))
    assert refused(lambda: journey.plan_push(unknown)) == "message_unknown"


def test_a_request_nobody_routes_goes_nowhere() -> None:
    assert refused(lambda: known(path="/other")) == "route_unknown"


@pytest.mark.parametrize("encodings", [(b"gzip",), (b"identity", b"identity"), (b"",)])
def test_encoded_bodies_are_refused(encodings: tuple[bytes, ...]) -> None:
    routed = known(headers=tuple((b"content-encoding", value) for value in encodings)).routed
    assert refused(lambda: journey.admit(routed)) == "content_encoding"


def test_identity_is_no_encoding() -> None:
    assert journey.admit(known(headers=((b"content-encoding", b"identity"),)).routed).caller is WECHAT


def test_a_route_without_account_proves_nothing() -> None:
    bare = known(Route("push", RouteKind.INBOUND, "l", frozenset(), "/wx", "crm", "p", "acme", "cn"))
    assert refused(lambda: journey.verify(bare, NOW)) == "internal"
    assert refused(lambda: journey.echo(bare, NOW)) == "internal"


def test_the_url_is_verified() -> None:
    reply = journey.echo(known(method="GET", query=plain_query(echostr="583847")), NOW)
    assert (reply.status, reply.body) == (200, b"583847")


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (100, "upstream_refused"),
        (301, "upstream_refused"),
        (400, "upstream_refused"),
        (404, "upstream_refused"),
        (408, "upstream_failed"),
        (425, "upstream_failed"),
        (429, "upstream_failed"),
        (500, "upstream_failed"),
        (503, "upstream_failed"),
    ],
)
def test_only_successes_are_read_on(status: int, code: str) -> None:
    assert refused(lambda: journey.check_status(Answered(known(), Response(status, b"secret")))) == code


@pytest.mark.parametrize("status", [200, 201, 204, 299])
def test_successes_are(status: int) -> None:
    journey.check_status(Answered(known(), Response(status, b"")))


REPLY = (
    "<xml><ToUserName>{to}</ToUserName><FromUserName>gh_1</FromUserName><CreateTime>1</CreateTime>"
    "<MsgType>text</MsgType><Content>{content}</Content></xml>"
)


def as_crm(push: Opened) -> str:
    """The sender as the CRM got it: a token."""
    document = read_body(cleared(journey.plan_push(push)).body)
    return str(document.single("xml", "FromUserName"))


def prepared(text: str) -> str:
    """A prepared text as the CRM stored it."""
    body = f'{{"Name": "n", "Text__c": "{text}"}}'.encode()
    request = cleared(journey.plan_call(journey.parse_call(known(AGENT, "POST", CALL, body=body))))
    return str(read_body(request.body).single("Text__c"))


def test_a_passive_reply_is_revealed_sealed_and_signed_for_the_sender() -> None:
    push = opened()
    reply = reply_to(push, REPLY.format(to=as_crm(push), content=prepared("welcome")))
    assert reply is not None
    sealed = read_body(reply.body)
    values = [str(sealed.single("xml", name)) for name in ("MsgSignature", "TimeStamp", "Nonce", "Encrypt")]
    verify(values[0], SAFE.token, *values[1:])
    message = read_body(open_envelope(KEY, values[3], SAFE.app_id))
    assert (message.single("xml", "ToUserName"), message.single("xml", "Content")) == ("o1", "welcome")


def test_a_reply_to_somebody_else_is_refused() -> None:
    other = as_crm(opened(TEXT.replace(b">o1<", b">o2<")))
    reply = REPLY.format(to=other, content=prepared("welcome"))
    assert refused(lambda: reply_to(opened(), reply)) == "reply_misaddressed"


@pytest.mark.parametrize("nothing", ["", "success", " success\n"])
def test_a_crm_with_nothing_to_say_plans_nothing(nothing: str) -> None:
    assert reply_to(opened(), nothing) is None


@pytest.mark.parametrize("broken", ["<html>", "{}", '"success"', "<xml>"])
def test_an_answer_that_is_no_reply_is_refused(broken: str) -> None:
    assert refused(lambda: reply_to(opened(), broken)) == "reply_malformed"


def test_a_reply_of_a_kind_the_policy_does_not_know_is_refused() -> None:
    video = REPLY.format(to="x", content="y").replace(">text<", ">video<")
    assert refused(lambda: reply_to(opened(), video)) == "message_unknown"


def test_an_empty_answer_is_no_document_and_a_broken_one_is_refused() -> None:
    assert journey.read_reply(Response(200, b"")) is None
    assert refused(lambda: journey.read_reply(Response(200, b"<html"))) == "reply_malformed"


def test_an_account_in_plain_mode_is_answered_in_clear() -> None:
    route = Route(
        "push", RouteKind.INBOUND, "l", frozenset(), "/wx", "crm", "p", "acme", "cn", target="/w", account=PLAIN
    )
    push = journey.open_push(journey.verify(known(route, query=plain_query(), body=TEXT), NOW))
    reply = reply_to(push, REPLY.format(to=as_crm(push), content=prepared("welcome")))
    assert reply is not None
    assert b"welcome" in reply.body


# --- what else a call has: path, header fields, forms

CALLS = """version: 1
classes:
  id: {action: encrypt, deterministic: true}
  words: {action: encrypt}
messages:
  - name: changes
    direction: agent
    match: {method: POST, path: '/services/data/{version}/People/{id}'}
    request:
      path:version: allow
      path:id: {class: id, as: openid}
      header:if-match: allow
      header:x-note: {class: words, as: note, bind: [openid]}
      header:x-trace: drop
      form:text: {class: words, as: words, bind: [openid]}
    response:
      json:$.text: {class: words, as: words, reveal: {'*': keep}}
"""
PERSON = "/services/data/v1/People/o1"


def call(path: str = PERSON, query: str = "", body: bytes = b"text=hello", headers: HeaderList = ()) -> Known:
    """A call of an agent, on a policy of its own."""
    policy = compile_policy("p.yaml", lambda _name: CALLS.encode())
    arrived = Arrived(Request("POST", path, query, headers, body, "h"), Peer("l", "192.0.2.1", "TLSv1.3"))
    return Known(journey.find_route(arrived, RouteTable((AGENT,), {"p": policy})), WECHAT)


def sent(known: Known) -> ClearedRequest:
    return cleared(journey.plan_call(journey.parse_call(known)))


CALLERS_OWN = (
    (b"host", b"h"),
    (b"authorization", b"Bearer caller-secret"),
    (b"cookie", b"session=caller-secret"),
    (b"proxy-authorization", b"caller-secret"),
    (b"x-forwarded-for", b"caller-secret"),
    (b"content-type", b"text/caller-secret"),
    (b"x-http-method-override", b"DELETE"),
    (b"wxgate-delivery", b"caller-secret"),
)


def test_the_upstream_gets_the_policy_s_path_and_fields_and_nothing_else_of_the_caller() -> None:
    declared = ((b"if-match", b'"7"'), (b"x-note", b"for o1"), (b"x-trace", b"t"))
    request = sent(call(headers=(*CALLERS_OWN, *declared)))
    start, _, person = request.target.rpartition("/")
    assert start == "/services/data/v1/People"
    assert person.startswith("wd1.")
    names = [name for name, _ in request.headers]
    assert names == [b"content-type", b"if-match", b"x-note"]
    found = dict(request.headers)
    assert found[b"content-type"] == b"application/x-www-form-urlencoded"
    assert found[b"if-match"] == b'"7"'
    assert found[b"x-note"].startswith(b"wg1.")
    assert request.body.startswith(b"text=wg1.")
    everything = repr((request.target, request.headers, request.body))
    assert "caller-secret" not in everything
    assert "DELETE" not in everything
    assert "hello" not in everything


def test_without_declared_fields_the_body_s_type_is_all_there_is() -> None:
    assert sent(call(headers=CALLERS_OWN)).headers == ((b"content-type", b"application/x-www-form-urlencoded"),)
    assert sent(call(body=b"", headers=CALLERS_OWN)).headers == ()


@pytest.mark.parametrize("name", [b"if-match", b"x-trace"])
@pytest.mark.parametrize("values", [(b"1", b"1"), (b"\xff",), (b"a\tb",)])
def test_a_declared_field_that_is_repeated_or_no_text_refuses(name: bytes, values: tuple[bytes, ...]) -> None:
    known = call(headers=tuple((name, value) for value in values))
    assert refused(lambda: sent(known)) == "document_malformed"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"text=a&text=b", "document_malformed"),
        (b"text=a&more=b", "field_unknown"),
        (b'{"text": "a"}', "document_malformed"),
        (b"<xml><text>a</text></xml>", "document_malformed"),
    ],
)
def test_a_form_is_what_the_policy_says_whatever_the_caller_calls_it(body: bytes, code: str) -> None:
    assert refused(lambda: sent(call(body=body, headers=((b"content-type", b"application/json"),)))) == code


def test_a_parameter_without_a_rule_refuses() -> None:
    assert refused(lambda: sent(call(query="a=1"))) == "field_unknown"


@pytest.mark.parametrize("person", ["", ".", "..", "%2e%2e", "a%2fb", "a;b", "o 1", "a/b"])
def test_a_path_that_is_none_of_the_policy_s_is_refused(person: str) -> None:
    known = call("/services/data/v1/People/" + person)
    assert refused(lambda: journey.parse_call(known)) == "message_unknown"
