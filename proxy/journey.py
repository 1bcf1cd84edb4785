"""The product in order: what happens to a message, one pure step after the other.

    inbound    Arrived -> Routed -> Known -> Genuine -> Opened -> Planned -> ClearedRequest
    and back   Answered -> Planned -> ClearedReply
    outbound,  Arrived -> Routed -> Known -> Parsed -> Planned -> ClearedRequest
    agent      and back as above

Each step takes what only the step before it makes, so that none can be left out. `gateway` calls them and waits for the
world in between; time, randomness and keys are arguments.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from proxy import caller as callers
from proxy import cleared
from proxy.caller import Caller
from proxy.cleared import ClearedReply, ClearedRequest
from proxy.document.head import read_header, read_path
from proxy.document.tree import Document
from proxy.message import Peer, Request, Response
from proxy.policy.carry_out import Carried, Keyset, carry_out
from proxy.policy.compiled import Call, Policy
from proxy.policy.conditions import Situation
from proxy.policy.explain import Occasion
from proxy.policy.plan import Plan, make_plan, read_call
from proxy.policy.rules import Direction, Phase, RuleSet
from proxy.policy.shadow import Difference, compare
from proxy.record import record
from proxy.refusal import Refusal
from proxy.route import Route, RouteKind, RouteTable
from proxy.wechat import delivery, push, reply
from proxy.wechat.account import Account


@record
class Arrived:
    """A complete, well-formed request on a connection."""

    request: Request
    peer: Peer


@record
class Routed:
    """`following`: a policy that is tried beside `policy`, which alone decides."""

    arrived: Arrived
    route: Route
    policy: Policy
    following: Policy | None = None


def find_route(arrived: Arrived, table: RouteTable) -> Routed:
    route = table.match(arrived.peer.listener, arrived.request)
    return Routed(arrived, route, table.policy_of(route), table.next_policy_of(route))


@record
class Known:
    """Who speaks is known; for WeChat the signature is still to be verified."""

    routed: Routed
    caller: Caller


def admit(routed: Routed) -> Known:
    encodings = routed.arrived.request.header(b"content-encoding")
    if encodings and encodings != [b"identity"]:
        raise Refusal("content_encoding")
    return Known(routed, callers.admit(routed.route, routed.arrived.peer, routed.arrived.request))


# --- inbound: WeChat speaks


@record
class Genuine:
    """A push whose signature and age are right. `encrypt`: the text of its envelope, None for a plain push."""

    known: Known
    account: Account
    proof: push.Proof
    encrypt: str | None


def echo(known: Known, now: int) -> ClearedReply:
    """The answer to WeChat's verification of the URL (GET)."""
    return cleared.clear_echo(push.verify_url(known.routed.arrived.request.query, _account(known), now))


def verify(known: Known, now: int) -> Genuine:
    request, account = known.routed.arrived.request, _account(known)
    proof = push.read_proof(request.query, account.mode)
    return Genuine(known, account, proof, push.verify_push(request.body, proof, account, now))


def _account(known: Known) -> Account:
    account = known.routed.route.account
    if account is None:
        raise Refusal("internal")
    return account


@record
class Opened:
    """A push out of its envelope, parsed. The three keys name the delivery to `ports.Deliveries`."""

    genuine: Genuine
    content: push.Opened
    triple: bytes
    payload: bytes
    message: bytes


def open_push(genuine: Genuine) -> Opened:
    account = genuine.account
    content = push.open_push(genuine.known.routed.arrived.request.body, genuine.encrypt, account)
    return Opened(
        genuine,
        content,
        delivery.triple_key(account, genuine.proof),
        delivery.payload_key(content.body),
        delivery.message_key(account, content.document, content.body),
    )


@record
class Planned:
    """Every leaf is decided; `plan` names the keys that are needed. `status`: of the answer, if it is one."""

    known: Known
    plan: Plan
    status: int = 200


def plan_push(opened: Opened) -> Planned:
    known, document = opened.genuine.known, opened.content.document
    policy = known.routed.policy
    rules = policy.find_inbound(Phase.REQUEST, document.form, push.message_type(document), _situation(known))
    if rules is None:
        raise Refusal("message_unknown")
    return _planned(known, rules, document, "")


def _situation(known: Known) -> Situation:
    """`content_type` is for calls: WeChat's says nothing reliable (protocol 1.3)."""
    route, request = known.routed.route, known.routed.arrived.request
    if route.account is not None:
        return Situation(route.account.name, route.tenant, route.region, known.caller.role)
    return Situation("", route.tenant, route.region, known.caller.role, request.media_type)


def _planned(
    known: Known, rules: RuleSet, document: Document | None, query: str, head: tuple[Document, ...] = ()
) -> Planned:
    return Planned(known, make_plan(known.routed.policy, rules, document, query, known.caller.role, head))


# --- outbound and agent: the CRM or a person speaks


@record
class Parsed:
    """An API call the policy knows, with its body read."""

    known: Known
    call: Call
    document: Document | None


def parse_call(known: Known) -> Parsed:
    request, route = known.routed.arrived.request, known.routed.route
    call = known.routed.policy.find_call(route.kind.direction, request.method, request.path, _situation(known))
    if call is None:
        raise Refusal("message_unknown")
    if not request.body:
        return Parsed(known, call, None)
    return Parsed(known, call, read_call(call.request, request.body, request.content_type, push.read_body))


def plan_call(parsed: Parsed) -> Planned:
    request, rules = parsed.known.routed.arrived.request, parsed.call.request
    head = (read_path(request.path, parsed.call.path.names), read_header(request.headers, rules.declared_fields))
    return _planned(parsed.known, rules, parsed.document, request.query, head)


def differences(planned: Planned, following: Policy) -> tuple[Difference, ...]:
    """What `following` would have decided otherwise. Touches nothing."""
    known, rules = planned.known, planned.plan.rules
    request, body = known.routed.arrived.request, planned.plan.body
    inbound = rules.direction is Direction.INBOUND
    query = "" if inbound or rules.phase is Phase.RESPONSE else request.query
    role, status = known.caller.role, planned.status
    where = _situation(known)
    of_owner = (where.account, where.tenant, where.region, where.content_type)
    headers = request.headers if rules.phase is Phase.REQUEST else ()
    call = (request.method, request.path, role, query, status, headers)
    occasion = Occasion(rules.direction, rules.phase, *call, *of_owner)
    return compare(planned.plan, following, occasion, push.message_type(body) if inbound and body else "")


# --- both: carry out, clear, and the way back


@record
class Protected:
    """Carried out: these bytes may leave."""

    planned: Planned
    carried: Carried


def protect(planned: Planned, keys: Keyset, entropy: Callable[[int], bytes]) -> Protected:
    route = planned.known.routed.route
    return Protected(planned, carry_out(planned.plan, keys, route.tenant, route.region, entropy))


def clear(protected: Protected, delivery_id: str) -> ClearedRequest:
    """The request for the upstream. `delivery_id`: stable per message, for the CRM to recognise repeats by."""
    known = protected.planned.known
    request, route = known.routed.arrived.request, known.routed.route
    own = (
        (b"wxgate-delivery", delivery_id.encode()),
        (b"wxgate-route", route.name.encode()),
        (b"wxgate-policy", protected.carried.plan.revision.encode()),
    )
    inbound = route.kind is RouteKind.INBOUND
    return cleared.clear_request(
        protected.carried,
        upstream=route.upstream,
        method="POST" if inbound else request.method,
        path=route.target if inbound else protected.carried.path,
        own_headers=own if inbound else (),
    )


@record
class Answered:
    """The upstream's answer to a cleared request."""

    known: Known
    response: Response


def check_status(answered: Answered) -> None:
    """Refusal for an answer that says failure: an error page of an upstream may repeat what it was sent."""
    status = answered.response.status
    if 200 <= status < 300:
        return
    # 408, 425, 429 and 5xx speak of the moment, the others of the message.
    again = status >= 500 or status in (408, 425, 429)
    raise Refusal("upstream_failed" if again else "upstream_refused", upstream_status=status)


def read_reply(response: Response) -> Document | None:
    """The document in an upstream's answer, None for an empty one."""
    if not response.body:
        return None
    try:
        return push.read_body(response.body)
    except Refusal:
        raise Refusal("reply_malformed") from None


def plan_passive_reply(answered: Answered, opened: Opened) -> Planned | None:
    """The plan for the CRM's passive reply; None if the CRM has nothing to say. Refusal if it says failure."""
    check_status(answered)
    if reply.says_nothing(answered.response.body):
        return None
    document = read_reply(answered.response)
    if document is None or document.form != opened.content.document.form:
        raise Refusal("reply_malformed")
    policy, kind = answered.known.routed.policy, push.message_type(document)
    rules = policy.find_inbound(Phase.RESPONSE, document.form, kind, _situation(answered.known))
    if rules is None:
        raise Refusal("message_unknown")
    return _planned(answered.known, rules, document, "")


def plan_answer(answered: Answered, parsed: Parsed) -> Planned:
    """Raises Refusal as `check_status` for an answer that says failure, unless the policy has rules for such ones."""
    rules = parsed.call.answer_rules(answered.response.status)
    if rules is None:
        check_status(answered)
        raise Refusal("internal")
    planned = _planned(answered.known, rules, read_reply(answered.response), "")
    return replace(planned, status=answered.response.status)


def seal(protected: Protected, opened: Opened, entropy: Callable[[int], bytes], now: int) -> ClearedReply:
    """The passive reply for WeChat: addressed to the sender, sealed and signed if the push was."""
    root = ("xml",) if protected.carried.form == "xml" else ()
    if protected.carried.final(*root, "ToUserName") != push.field(opened.content.document, "FromUserName"):
        raise Refusal("reply_misaddressed")
    if opened.content.key is None:
        return cleared.clear_reply(protected.carried)
    genuine = opened.genuine
    sealed = reply.seal_reply(
        protected.carried.body,
        genuine.account,
        opened.content.key,
        form=protected.carried.form,
        random_16=entropy(16),
        timestamp=now,
        nonce=genuine.proof.nonce,
    )
    return cleared.clear_sealed(protected.carried, sealed)


def hand_back(protected: Protected, answered: Answered) -> ClearedReply:
    """The API's answer for the CRM or the agent."""
    return cleared.clear_reply(protected.carried, status=answered.response.status)
