"""The route table: exactly one route or none, never a default; overlaps are found before anything listens."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.message import Request
from proxy.policy.rules import Direction
from proxy.refusal import Audience
from proxy.route import Route, RouteKind, RouteTable, overlapping
from tests.policy.build import refused

PUSH = Route("push", RouteKind.INBOUND, "public", frozenset({"wx.test"}), "/wechat", "crm", "p", "acme", "cn")
CALLS = Route("calls", RouteKind.OUTBOUND, "internal", frozenset(), "/cgi-bin/", "wechat", "p", "acme", "cn")
TABLE = RouteTable((PUSH, CALLS), {})


@pytest.mark.parametrize(
    ("listener", "host", "path", "found"),
    [
        ("public", "wx.test", "/wechat", PUSH),
        ("public", "", "/wechat", PUSH),
        ("internal", "", "/cgi-bin/", CALLS),
        ("internal", "anything.test", "/cgi-bin/message/custom/send", CALLS),
    ],
)
def test_listener_host_and_path_decide(listener: str, host: str, path: str, found: Route) -> None:
    assert TABLE.find(listener, host, path) is found
    assert TABLE.match(listener, Request("POST", path, "", (), b"", host)) is found


@pytest.mark.parametrize(
    ("listener", "host", "path"),
    [
        ("internal", "wx.test", "/wechat"),
        ("public", "other.test", "/wechat"),
        ("public", "", "/other"),
        ("public", "wx.test", "/wechat/"),
        ("public", "wx.test", "/wechat/more"),
        ("public", "wx.test", "/Wechat"),
        ("public", "wx.test", "/"),
        ("internal", "", "/cgi-bin"),
        ("internal", "", "/cgi-binary"),
        ("nowhere", "wx.test", "/wechat"),
        ("public", "sub.wx.test", "/wechat"),
    ],
)
def test_anything_else_has_no_route(listener: str, host: str, path: str) -> None:
    assert refused(lambda: TABLE.find(listener, host, path)) == "route_unknown"


def test_without_a_host_the_listener_decides_if_it_can() -> None:
    """HTTP/1.0 has no Host. Where only the host would tell two routes apart, there is no route."""
    table = RouteTable((PUSH, replace(PUSH, name="other", hosts=frozenset({"other.test"}))), {})
    assert table.find("public", "wx.test", "/wechat") is PUSH
    assert refused(lambda: table.find("public", "", "/wechat")) == "route_unknown"


def test_an_empty_table_serves_nothing() -> None:
    assert refused(lambda: RouteTable((), {}).find("public", "", "/")) == "route_unknown"


def test_two_routes_for_one_request_serve_none() -> None:
    table = RouteTable((PUSH, replace(PUSH, name="twin")), {})
    assert refused(lambda: table.find("public", "wx.test", "/wechat")) == "route_unknown"


LISTENERS, HOSTS, PATHS = ("a", "b"), ("", "x", "y"), ("/", "/p", "/p/", "/p/q", "/p/q/", "/r")
ROUTES = st.builds(
    lambda listener, hosts, path: replace(PUSH, listener=listener, hosts=frozenset(hosts), path=path),
    st.sampled_from(LISTENERS),
    st.sets(st.sampled_from(HOSTS[1:])),
    st.sampled_from(PATHS),
)


@given(st.lists(ROUTES, max_size=8), st.sampled_from(LISTENERS), st.sampled_from(HOSTS), st.sampled_from(PATHS))
def test_a_request_gets_the_one_route_that_covers_it(routes: list[Route], listener: str, host: str, path: str) -> None:
    table = RouteTable(tuple(routes), {})
    covering = [route for route in routes if route.listener == listener and route.covers(host, path)]
    if len(covering) == 1:
        assert table.find(listener, host, path) is covering[0]
    else:
        assert refused(lambda: table.find(listener, host, path)) == "route_unknown"


@pytest.mark.parametrize(
    "other",
    [
        replace(PUSH, name="same"),
        replace(PUSH, name="any host", hosts=frozenset()),
        replace(PUSH, name="one host of two", hosts=frozenset({"a.test", "wx.test"})),
        replace(PUSH, name="prefix", path="/"),
        replace(PUSH, name="prefix, any host", path="/", hosts=frozenset()),
    ],
    ids=lambda route: route.name,
)
def test_overlaps_are_found_both_ways_round(other: Route) -> None:
    assert overlapping([PUSH, other]) == [(PUSH, other)]
    assert overlapping([other, CALLS, PUSH]) == [(other, PUSH)]


@pytest.mark.parametrize(
    "other",
    [
        replace(PUSH, name="other listener", listener="internal"),
        replace(PUSH, name="other host", hosts=frozenset({"other.test"})),
        replace(PUSH, name="other path", path="/wechat2"),
        replace(PUSH, name="deeper prefix", path="/wechat/"),
    ],
    ids=lambda route: route.name,
)
def test_what_no_request_can_share_is_no_overlap(other: Route) -> None:
    assert overlapping([PUSH, other]) == []


@pytest.mark.parametrize(
    ("kind", "audience", "direction"),
    [
        (RouteKind.INBOUND, Audience.WECHAT, Direction.INBOUND),
        (RouteKind.OUTBOUND, Audience.CRM, Direction.OUTBOUND),
        (RouteKind.AGENT, Audience.AGENT, Direction.AGENT),
    ],
)
def test_the_kind_decides_who_is_answered_and_which_rules_count(
    kind: RouteKind, audience: Audience, direction: Direction
) -> None:
    assert (kind.audience, kind.direction) == (audience, direction)
