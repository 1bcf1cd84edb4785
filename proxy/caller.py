"""Who is speaking: bearer tokens and client certificates of the CRM and the agents, source networks of WeChat. Pure."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
from dataclasses import dataclass

from proxy.message import Peer, Request
from proxy.refusal import Refusal
from proxy.route import Route, RouteKind

_BEARER = re.compile(rb"[Bb]earer ([A-Za-z0-9._~+/-]{16,512}=*)")


@dataclass(frozen=True, slots=True)
class Caller:
    """`role` decides what policies reveal; `subject` is who it is in the audit log."""

    subject: str
    role: str


WECHAT = Caller("wechat", "wechat")


def admit(route: Route, peer: Peer, request: Request) -> Caller:
    """Who calls on `route`.

    Raises Refusal `caller_unknown` (nothing proves who it is), `caller_forbidden` (a source address or certificate that
    is not on the route's list).
    """
    if route.sources and not _from_sources(peer.address, route.sources):
        raise Refusal("caller_forbidden")
    if route.kind is RouteKind.INBOUND:
        return WECHAT  # the signature over the exact bytes proves it, one step on
    return _by_credential(route, peer, request)


def _from_sources(address: str, sources: tuple[str, ...]) -> bool:
    ip = ipaddress.ip_address(address)
    return any(ip in ipaddress.ip_network(source) for source in sources)


def _by_credential(route: Route, peer: Peer, request: Request) -> Caller:
    presented = _token_hash(request)
    for credential in route.credentials:
        if credential.certificate_name and credential.certificate_name not in peer.certificate_names:
            continue
        # Hashes are compared, so that neither length nor content of the right token shows in the time taken.
        if credential.token_hash and not hmac.compare_digest(credential.token_hash, presented):
            continue
        if credential.certificate_name or credential.token_hash:
            return Caller(credential.subject, credential.role)
    raise Refusal("caller_forbidden" if peer.certificate_names else "caller_unknown")


def _token_hash(request: Request) -> bytes:
    values = request.header(b"authorization")
    match = _BEARER.fullmatch(values[0]) if len(values) == 1 else None
    return hashlib.sha256(match[1]).digest() if match else b""
