"""Who is let in: exactly who shows what the route asks for; nobody by default."""

from __future__ import annotations

import hashlib

import pytest

from proxy.caller import WECHAT, Caller, admit
from proxy.message import Peer, Request
from proxy.route import Credential, Route, RouteKind
from tests.policy.build import refused

TOKEN = b"0123456789abcdef0123456789abcdef"
BEARER = b"Bearer " + TOKEN
HASH = hashlib.sha256(TOKEN).digest()
NAME = "crm.internal.test"


def route(*credentials: Credential, kind: RouteKind = RouteKind.OUTBOUND, sources: tuple[str, ...] = ()) -> Route:
    return Route("r", kind, "l", frozenset(), "/", "u", "p", "acme", "cn", credentials=credentials, sources=sources)


def peer(*names: str, address: str = "192.0.2.7") -> Peer:
    return Peer("l", address, "TLSv1.3", certificate_names=names)


def request(*authorization: bytes) -> Request:
    return Request("POST", "/", "", tuple((b"authorization", value) for value in authorization), b"")


BY_TOKEN = Credential("crm", "crm", token_hash=HASH)
BY_NAME = Credential("li.na", "agent", certificate_name=NAME)
BY_BOTH = Credential("both", "admin", token_hash=HASH, certificate_name=NAME)
EMPTY = Credential("nobody", "admin")


@pytest.mark.parametrize("value", [BEARER, b"bearer " + TOKEN])
def test_the_right_token_is_let_in_as_its_subject_and_role(value: bytes) -> None:
    assert admit(route(BY_TOKEN), peer(), request(value)) == Caller("crm", "crm")


@pytest.mark.parametrize(
    "values",
    [
        (),
        (b"",),
        (b"Bearer ",),
        (TOKEN,),
        (b"Basic " + TOKEN,),
        (BEARER + b"0",),
        (BEARER[:-1],),
        (b"Bearer  " + TOKEN,),
        (BEARER + b" ",),
        (b"Bearer " + TOKEN.upper(),),
        (BEARER, BEARER),
        (b"Bearer " + HASH.hex().encode(),),
        (b"Bearer " + b"a" * 600,),
    ],
)
def test_anything_else_proves_nothing(values: tuple[bytes, ...]) -> None:
    assert refused(lambda: admit(route(BY_TOKEN), peer(), request(*values))) == "caller_unknown"


def test_a_verified_certificate_name_is_let_in() -> None:
    assert admit(route(BY_NAME), peer("other.test", NAME), request()) == Caller("li.na", "agent")


@pytest.mark.parametrize("names", [("other.test",), ("x" + NAME,), (NAME.upper(),)])
def test_another_certificate_is_not(names: tuple[str, ...]) -> None:
    assert refused(lambda: admit(route(BY_NAME), peer(*names), request(BEARER))) == "caller_forbidden"


def test_where_both_are_asked_for_both_are_needed() -> None:
    assert admit(route(BY_BOTH), peer(NAME), request(BEARER)).subject == "both"
    assert refused(lambda: admit(route(BY_BOTH), peer(), request(BEARER))) == "caller_unknown"
    assert refused(lambda: admit(route(BY_BOTH), peer(NAME), request())) == "caller_forbidden"
    assert refused(lambda: admit(route(BY_BOTH), peer(NAME), request(BEARER + b"x"))) == "caller_forbidden"


def test_a_credential_that_asks_for_nothing_lets_nobody_in() -> None:
    assert refused(lambda: admit(route(EMPTY), peer(), request(BEARER))) == "caller_unknown"
    assert refused(lambda: admit(route(EMPTY), peer(NAME), request(BEARER))) == "caller_forbidden"


def test_a_route_without_credentials_lets_nobody_in() -> None:
    assert refused(lambda: admit(route(), peer(), request(BEARER))) == "caller_unknown"


def test_each_caller_gets_its_own_role() -> None:
    other = Credential("audit", "analyst", token_hash=hashlib.sha256(b"another-token-here").digest())
    both = route(BY_TOKEN, other)
    assert admit(both, peer(), request(b"Bearer another-token-here")).role == "analyst"
    assert admit(both, peer(), request(BEARER)).role == "crm"


def test_wechat_is_let_in_up_to_its_signature() -> None:
    assert admit(route(kind=RouteKind.INBOUND), peer(), request()) is WECHAT


@pytest.mark.parametrize("kind", list(RouteKind))
def test_source_networks_hold_for_everybody(kind: RouteKind) -> None:
    limited = route(BY_TOKEN, kind=kind, sources=("198.51.100.0/24", "2001:db8::/32"))
    for address in ("198.51.100.9", "2001:db8::1"):
        admit(limited, peer(address=address), request(BEARER))
    for address in ("192.0.2.7", "198.51.101.0", "2001:db9::1", "::ffff:192.0.2.7"):
        assert refused(lambda at=address: admit(limited, peer(address=at), request(BEARER))) == "caller_forbidden"  # type: ignore[misc]
