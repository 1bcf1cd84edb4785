"""A whole policy: which call a request is, and which keys it needs."""

import pytest

from proxy.policy.rules import Direction
from tests.policy.build import compiled

CALLS = """
version: 1
messages:
  - {name: read, direction: agent, match: {method: GET, path: '/data/{version}/Case/{id}'},
     request: {'path:version': allow, 'path:id': allow}}
  - {name: send, direction: outbound, match: {method: POST, path: /cgi-bin/send}, request: {'json:$.a': allow}}
"""


@pytest.mark.parametrize(
    ("direction", "method", "path", "found"),
    [
        (Direction.AGENT, "GET", "/data/v1/Case/500x", "read"),
        (Direction.AGENT, "POST", "/data/v1/Case/500x", None),
        (Direction.AGENT, "get", "/data/v1/Case/500x", None),
        (Direction.OUTBOUND, "GET", "/data/v1/Case/500x", None),
        (Direction.AGENT, "GET", "/data/v1/Case/500x/", None),
        (Direction.AGENT, "GET", "/data/v1/Case/", None),
        (Direction.AGENT, "GET", "/data/v1/Case", None),
        (Direction.AGENT, "GET", "/data/../Case/x", None),
        (Direction.AGENT, "GET", "/data/v1/Case/%2e%2e", None),
        (Direction.AGENT, "GET", "//data/v1/Case/x", None),
        (Direction.AGENT, "GET", "x/data/v1/Case/x", "read"),  # the HTTP layer lets no such path in
        (Direction.OUTBOUND, "POST", "/cgi-bin/send", "send"),
        (Direction.OUTBOUND, "POST", "/CGI-BIN/send", None),
        (Direction.INBOUND, "POST", "/cgi-bin/send", None),
    ],
)
def test_a_call_is_found_by_direction_method_and_whole_path(
    direction: Direction, method: str, path: str, found: str | None
) -> None:
    call = compiled(CALLS).find_call(direction, method, path)
    assert (call.request.name if call else None) == found


def test_the_groups_of_a_policy_are_those_of_its_classes_and_the_default() -> None:
    text = "version: 1\nclasses: {a: {action: encrypt, group: chat}, b: {action: drop}}"
    assert compiled(text).groups == {"default", "chat"}
    assert compiled("version: 1").groups == {"default"}
