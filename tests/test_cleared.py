"""The two sealed doors: only what was carried out to the last value can be cleared, nothing can be made up."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from dataclasses import replace

import pytest

from proxy import cleared
from proxy.cleared import ClearedReply, ClearedRequest, require_cleared_reply, require_cleared_request
from proxy.document.json_body import read_json
from proxy.policy.carry_out import Carried
from proxy.policy.rules import Direction
from tests.policy.build import House, compiled, refused

POLICY = """version: 1
messages:
  - name: ask
    direction: agent
    match: {method: POST, path: /ask}
    request:
      query:q: allow
      json:$.a: allow
      json:$.b: allow
"""
OWN = ((b"wxgate-route", b"r"),)


def carried(body: str = '{"a": 1, "b": 2}', query: str = "q=1") -> Carried:
    house = House(compiled(POLICY))
    document = read_json(body.encode()) if body else None
    return house.carry(house.rules(Direction.AGENT, "POST", "/ask"), document, query=query)


def a_request(evidence: Carried) -> ClearedRequest:
    return cleared.clear_request(evidence, upstream="crm", method="POST", path="/ask", own_headers=OWN)


def test_a_request_is_its_final_bytes_and_our_own_headers() -> None:
    request = a_request(carried())
    assert (request.upstream, request.method, request.target) == ("crm", "POST", "/ask?q=1")
    assert request.headers == ((b"content-type", b"application/json; charset=utf-8"), *OWN)
    assert request.body == b'{"a": 1, "b": 2}'
    assert require_cleared_request(request) is request


def test_without_a_body_there_is_no_media_type_and_without_a_query_no_mark() -> None:
    request = a_request(carried(body="", query=""))
    assert (request.target, request.headers, request.body) == ("/ask", OWN, b"")


def test_a_reply_is_its_final_bytes() -> None:
    reply = cleared.clear_reply(carried(), status=201)
    assert (reply.status, reply.body) == (201, b'{"a": 1, "b": 2}')
    assert require_cleared_reply(reply) is reply


CLEARERS: list[Callable[[Carried], object]] = [
    a_request,
    cleared.clear_reply,
    lambda evidence: cleared.clear_sealed(evidence, b"<xml/>"),
]


@pytest.mark.parametrize("clear", CLEARERS)
def test_what_was_not_carried_out_to_the_end_is_not_cleared(clear: Callable[[Carried], object]) -> None:
    whole = carried()
    unfinished = replace(whole, done=whole.done - 1)
    undecided = replace(whole, plan=replace(whole.plan, steps=whole.plan.steps[:-1]), done=whole.done - 1)
    for evidence in (unfinished, undecided):
        assert refused(lambda one=evidence: clear(one)) == "not_cleared"  # type: ignore[misc]


@pytest.mark.parametrize("clear", CLEARERS)
def test_what_only_looks_like_evidence_is_none(clear: Callable[[Carried], object]) -> None:
    class Pretender(Carried):
        def complete(self) -> bool:
            return True

    whole = carried()
    fake = Pretender(whole.plan, "json", b"{}", "", "", (), {}, 0, ())
    for evidence in (fake, None, b"{}", object()):
        assert refused(lambda one=evidence: clear(one)) == "not_cleared"  # type: ignore[misc,arg-type]


def test_without_the_seal_nothing_is_made() -> None:
    for seal in (None, object(), True):
        assert refused(lambda one=seal: ClearedRequest(one, "crm", "GET", "/", (), b"")) == "not_cleared"  # type: ignore[misc]
        assert refused(lambda one=seal: ClearedReply(one, 200, b"", b"")) == "not_cleared"  # type: ignore[misc]


class _LikeRequest(ClearedRequest):
    pass


class _LikeReply(ClearedReply):
    pass


def test_the_doors_take_nothing_that_was_made_around_the_seal() -> None:
    bare_request, bare_reply = object.__new__(ClearedRequest), object.__new__(ClearedReply)
    like_request, like_reply = object.__new__(_LikeRequest), object.__new__(_LikeReply)
    reply, request = cleared.clear_success(), a_request(carried())
    object.__setattr__(like_request, "_seal", request._seal)
    object.__setattr__(like_reply, "_seal", reply._seal)
    for value in (bare_request, like_request, reply, None, b"POST / HTTP/1.1"):
        assert refused(lambda one=value: require_cleared_request(one)) == "not_cleared"  # type: ignore[misc]
    for value in (bare_reply, like_reply, request, None, b"HTTP/1.1 200 OK"):
        assert refused(lambda one=value: require_cleared_reply(one)) == "not_cleared"  # type: ignore[misc]


def test_a_cleared_value_cannot_be_changed_or_rebuilt() -> None:
    reply = cleared.clear_success()
    with pytest.raises(AttributeError):
        reply.body = b"other"  # type: ignore[misc]
    with pytest.raises((TypeError, ValueError)):
        replace(reply, body=b"other")
    for attempt in (lambda: pickle.loads(pickle.dumps(reply)), lambda: copy.deepcopy(reply)):
        try:
            copied = attempt()
        except Exception:
            continue
        assert refused(lambda one=copied: require_cleared_reply(one)) == "not_cleared"  # type: ignore[misc]


def test_reprs_show_no_byte_of_a_message() -> None:
    shown = repr(a_request(carried())) + repr(cleared.clear_reply(carried())) + repr(carried().values)
    assert "/ask" not in shown
    assert "q=1" not in shown


def test_wechats_constants_need_no_evidence() -> None:
    success = cleared.clear_success()
    assert (success.status, success.content_type, success.body) == (200, b"text/plain", b"success")
    echo = cleared.clear_echo(b"5838479218127813673")
    assert (echo.status, echo.content_type, echo.body) == (200, b"text/plain", b"5838479218127813673")


@pytest.mark.parametrize("reply", [cleared.clear_success(), cleared.clear_reply(carried())], ids=["success", "json"])
def test_a_stored_reply_comes_back_as_it_was(reply: ClearedReply) -> None:
    again = cleared.clear_stored(cleared.store(reply))
    assert (again.status, again.content_type, again.body) == (reply.status, reply.content_type, reply.body)
    assert require_cleared_reply(again) is again
