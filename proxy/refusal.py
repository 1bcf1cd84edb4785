"""The answer table: every reason wxgate has for not going on, and what each caller gets for it.

One place, because what a caller learns from a refusal is part of the security design. Bodies are static: no byte of a
request, a response or an exception ever enters one.

What WeChat gets (protocol reference 1.4, 1.6): only HTTP 200 counts as received. A delivery that was proved to be
WeChat's and can never succeed gets `success`, so that it is not delivered again and again and the account is not
suspended; one that may succeed later gets 503, so that WeChat delivers it again; one that was not proved gets 403.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache


class Audience(enum.Enum):
    """Who is on the other end of the connection. HTTP: not known yet, the request was not routed."""

    HTTP = "http"
    WECHAT = "wechat"
    CRM = "crm"
    AGENT = "agent"


class Wechat(enum.Enum):
    """What WeChat gets: status and body."""

    RECEIVED = (200, b"success")
    AGAIN = (503, b"")
    DENIED = (403, b"")


class Level(enum.IntEnum):
    """Log level of a refusal, in the numbers of the standard library."""

    INFO = 20
    WARNING = 30
    ERROR = 40


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. `again`: trying the same once more may succeed."""

    stage: str
    status: int
    wechat: Wechat
    level: Level
    again: bool
    message: str


def _row(stage: str, status: int, wechat: Wechat, level: Level, message: str) -> Row:
    return Row(stage, status, wechat, level, wechat is Wechat.AGAIN, message)


_R, _A, _D = Wechat.RECEIVED, Wechat.AGAIN, Wechat.DENIED
_INFO, _WARN, _ERR = Level.INFO, Level.WARNING, Level.ERROR

TABLE: Mapping[str, Row] = {
    # accept, HTTP
    "http_malformed": _row("http", 400, _D, _INFO, "the request is not well-formed HTTP/1.1"),
    "http_unsupported": _row("http", 501, _D, _INFO, "this method or protocol is not served here"),
    "http_expectation": _row("http", 417, _D, _INFO, "only Expect: 100-continue is understood"),
    "http_head_too_large": _row("http", 431, _D, _INFO, "the request head is too large or has too many fields"),
    "http_body_too_large": _row("http", 413, _D, _INFO, "the request body is too large"),
    "http_timeout": _row("http", 408, _D, _INFO, "the request did not arrive in time"),
    "content_encoding": _row("http", 415, _D, _INFO, "encoded bodies are not accepted"),
    # route, admit
    "route_unknown": _row("route", 404, _D, _INFO, "there is no such route"),
    "method_not_allowed": _row("route", 405, _D, _INFO, "the route does not serve this method"),
    "caller_unknown": _row("admit", 401, _D, _WARN, "the caller did not prove who it is"),
    "caller_forbidden": _row("admit", 403, _D, _WARN, "the caller may not use this route"),
    # verify
    "signature_malformed": _row("verify", 403, _D, _WARN, "a signed parameter is missing, repeated or malformed"),
    "signature_wrong": _row("verify", 403, _D, _WARN, "the signature does not match"),
    "mode_downgraded": _row("verify", 403, _D, _WARN, "the account is in safe mode and the push is not"),
    "timestamp_stale": _row("verify", 403, _D, _WARN, "the timestamp is outside the accepted window"),
    "delivery_replayed": _row("verify", 403, _D, _WARN, "this delivery was seen before and its time is over"),
    "delivery_conflict": _row("verify", 403, _D, _WARN, "a signature that was seen before came with another payload"),
    "deliveries_full": _row("verify", 503, _A, _ERR, "no room to remember another delivery"),
    # open, parse
    "envelope_broken": _row("open", 403, _D, _WARN, "the envelope does not open"),
    "document_malformed": _row("parse", 400, _R, _WARN, "the body is not a well-formed document"),
    "document_too_large": _row("parse", 413, _R, _WARN, "the document exceeds a limit of size, depth or count"),
    "document_type": _row("parse", 415, _R, _WARN, "the body is of another type than this route takes"),
    # plan, carry out
    "message_unknown": _row("plan", 422, _R, _ERR, "no message of the policy matches"),
    "field_unknown": _row("plan", 422, _R, _ERR, "a field is not covered by any rule of the policy"),
    "field_refused": _row("plan", 422, _R, _WARN, "a field is refused by the policy"),
    "bind_missing": _row("plan", 422, _R, _WARN, "a value that a rule binds to is missing or ambiguous"),
    "token_refused": _row("plan", 422, _R, _WARN, "a token does not open for this datum, tenant and addressee"),
    "clear_value_refused": _row("plan", 422, _R, _WARN, "a value is in clear where the policy wants a token"),
    "value_refused": _row("plan", 422, _R, _WARN, "a value cannot be treated as its rule says"),
    "reply_misaddressed": _row("plan", 422, _R, _ERR, "the reply is addressed to somebody else than the sender"),
    "role_forbidden": _row("plan", 403, _D, _WARN, "the policy reveals nothing of this to the caller's role"),
    "key_unavailable": _row("keys", 503, _A, _ERR, "a key that the policy needs is not available"),
    # send
    "upstream_unreachable": _row("send", 502, _A, _ERR, "the upstream cannot be reached"),
    "upstream_untrusted": _row("send", 502, _A, _ERR, "the upstream did not prove who it is"),
    "upstream_timeout": _row("send", 504, _A, _ERR, "the upstream did not answer in time"),
    "upstream_broken": _row("send", 502, _A, _ERR, "the upstream's answer is not well-formed HTTP"),
    "upstream_busy": _row("send", 503, _A, _ERR, "too many requests wait for the upstream"),
    # reply
    "upstream_refused": _row("reply", 502, _R, _ERR, "the upstream refused the message"),
    "upstream_failed": _row("reply", 502, _A, _ERR, "the upstream failed on the message"),
    "reply_malformed": _row("reply", 502, _R, _ERR, "the upstream's answer is not a well-formed document"),
    # the house itself
    "deadline": _row("gateway", 504, _A, _ERR, "the exchange took too long"),
    "cancelled": _row("gateway", 503, _A, _WARN, "the exchange was cancelled"),
    "audit_unwritable": _row("gateway", 503, _A, _ERR, "the audit log cannot be written"),
    "not_cleared": _row("gateway", 500, _A, _ERR, "the message was not cleared"),
    "internal": _row("gateway", 500, _A, _ERR, "an internal fault"),
}


class Refusal(Exception):
    """A decision not to go on. `code` is a key of TABLE; `upstream_status` is the status code an upstream answered.

    Carries nothing else on purpose: what it does not carry cannot leak through a log or an answer.
    """

    def __init__(self, code: str, *, upstream_status: int | None = None) -> None:
        super().__init__(code)
        self.code = code
        self.row = TABLE[code]
        self.upstream_status = upstream_status


def plain(refusal: Refusal) -> Refusal:
    """`refusal` as the table knows it, `internal` if it does not: what a subclass or a stray attribute holds ends here,
    before anything is told of it."""
    code, status = getattr(refusal, "code", None), getattr(refusal, "upstream_status", None)
    known = isinstance(code, str) and code in TABLE
    return Refusal(str(code) if known else "internal", upstream_status=status if isinstance(status, int) else None)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a refusal looks like on the wire: status, media type, body."""

    status: int
    content_type: bytes
    body: bytes


def answer(refusal: Refusal, audience: Audience) -> Answer:
    """The answer that `audience` gets for `refusal`."""
    if audience is Audience.WECHAT and refusal.row.stage not in ("http", "route"):
        status, body = refusal.row.wechat.value
        return Answer(status, b"text/plain", body)
    return _json_answer(refusal.code, refusal.upstream_status)


@cache
def _json_answer(code: str, upstream_status: int | None) -> Answer:
    row = TABLE[code]
    error: dict[str, object] = {"code": code, "message": row.message, "retry": row.again}
    if upstream_status is not None:
        error["upstream_status"] = upstream_status
    return Answer(row.status, b"application/json", json.dumps({"error": error}).encode() + b"\n")
