"""The two sealed doors: what may leave wxgate, and who may say so. Pure.

Only the functions here make a `ClearedRequest` or a `ClearedReply`, and each asks for the evidence that its message was
decided on: a `Carried`, which only policy.carry_out makes, for everything with content; WeChat's constants otherwise.
Types are not enforced at run time, so both doors call `require_*` on what they are handed.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from proxy.message import HeaderList
from proxy.policy.carry_out import Carried
from proxy.record import record
from proxy.refusal import Refusal
from proxy.wechat import reply as wechat_reply

_SEAL = object()


@dataclass(frozen=True, slots=True, init=False, repr=False)
class ClearedRequest:
    """A request for an upstream: the final bytes. `upstream` names a configured one; nothing here came from a caller
    unexamined."""

    upstream: str
    method: str
    target: str
    headers: HeaderList
    body: bytes
    _seal: object

    def __init__(self, seal: object, upstream: str, method: str, target: str, headers: HeaderList, body: bytes) -> None:
        if seal is not _SEAL:
            raise Refusal("not_cleared")
        put = object.__setattr__
        put(self, "upstream", upstream)
        put(self, "method", method)
        put(self, "target", target)
        put(self, "headers", headers)
        put(self, "body", body)
        put(self, "_seal", seal)


@dataclass(frozen=True, slots=True, init=False, repr=False)
class ClearedReply:
    """A reply for a caller: status, media type, final bytes."""

    status: int
    content_type: bytes
    body: bytes
    _seal: object

    def __init__(self, seal: object, status: int, content_type: bytes, body: bytes) -> None:
        if seal is not _SEAL:
            raise Refusal("not_cleared")
        put = object.__setattr__
        put(self, "status", status)
        put(self, "content_type", content_type)
        put(self, "body", body)
        put(self, "_seal", seal)


def require_cleared_request(value: object) -> ClearedRequest:
    """`value`, if it was cleared here. Refusal `not_cleared` otherwise."""
    if type(value) is not ClearedRequest or getattr(value, "_seal", None) is not _SEAL:
        raise Refusal("not_cleared")
    return value


def require_cleared_reply(value: object) -> ClearedReply:
    """`value`, if it was cleared here. Refusal `not_cleared` otherwise."""
    if type(value) is not ClearedReply or getattr(value, "_seal", None) is not _SEAL:
        raise Refusal("not_cleared")
    return value


_MEDIA = {"xml": b"text/xml; charset=utf-8", "json": b"application/json; charset=utf-8", "": b"text/plain"}
_MEDIA |= {"form": b"application/x-www-form-urlencoded", "multipart": b"multipart/form-data; boundary="}
_FORMS = {media: form for form, media in _MEDIA.items()}
_SUCCESS = ClearedReply(_SEAL, 200, _MEDIA[""], wechat_reply.SUCCESS)


def _evidence(carried: object) -> Carried:
    if type(carried) is not Carried or not carried.complete():
        raise Refusal("not_cleared")
    return carried


def clear_request(
    carried: Carried, *, upstream: str, method: str, path: str, own_headers: HeaderList
) -> ClearedRequest:
    """The request for `upstream` out of what the policy carried out. `path`: the route's or a template's own.

    Of the caller's headers go on what the policy declares; `own_headers` are the gateway's.
    """
    evidence = _evidence(carried)
    headers = (*evidence.headers, *own_headers)
    if evidence.form:
        headers = ((b"content-type", _MEDIA[evidence.form] + evidence.boundary.encode()), *headers)
    target = f"{path}?{evidence.query}" if evidence.query else path
    return ClearedRequest(_SEAL, upstream, method, target, headers, evidence.body)


def clear_reply(carried: Carried, *, status: int = 200) -> ClearedReply:
    """The reply for a caller out of what the policy carried out."""
    evidence = _evidence(carried)
    return ClearedReply(_SEAL, status, _MEDIA[evidence.form], evidence.body)


def clear_sealed(carried: Carried, sealed: bytes) -> ClearedReply:
    """A passive reply in WeChat's envelope: `sealed` is the envelope around `carried.body`."""
    evidence = _evidence(carried)
    return ClearedReply(_SEAL, 200, _MEDIA[evidence.form], sealed)


def clear_success() -> ClearedReply:
    """WeChat's constant for "received, nothing to send"."""
    return _SUCCESS


def clear_echo(echo: bytes) -> ClearedReply:
    """The answer to a URL verification. `echo`: as `push.verify_url` returned it."""
    return ClearedReply(_SEAL, 200, _MEDIA[""], echo)


@record
class StoredReply:
    """A cleared reply as it is remembered for WeChat's repeated deliveries, in memory only."""

    form: str
    body: bytes = field(repr=False)


def store(reply: ClearedReply) -> StoredReply:
    return StoredReply(_FORMS[reply.content_type], reply.body)


def clear_stored(stored: StoredReply) -> ClearedReply:
    """What was cleared once for a message, for the same message delivered again."""
    return ClearedReply(_SEAL, 200, _MEDIA[stored.form], stored.body)
