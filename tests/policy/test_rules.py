"""The compiled form: which call a request is, and who may see what."""

import pytest

from proxy.policy.rules import Action, Direction, PathTemplate, Reveal, Rule, is_segment
from proxy.source.problem import Place
from tests.policy.build import compiled

CALLS = """
version: 1
messages:
  - {name: read, direction: agent, match: {method: GET, path: '/data/{version}/Case/{id}'},
     request: {'path:version': allow, 'path:id': allow}}
  - {name: send, direction: outbound, match: {method: POST, path: /cgi-bin/send}, request: {'json:$.a': allow}}
"""


@pytest.mark.parametrize("text", ["a", "v59.0", "500-x_Y~", "...", "a" * 512])
def test_a_path_segment_is_made_of_unreserved_characters(text: str) -> None:
    assert is_segment(text)


@pytest.mark.parametrize(
    "text", ["", ".", "..", "a/b", "a%2f", "a b", "a?", "a;b", "名", "a\n", "a" * 513, "a\\b", "@"]
)
def test_what_could_change_a_path_is_no_segment(text: str) -> None:
    assert not is_segment(text)


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


@pytest.mark.parametrize(
    ("one", "two", "overlap"),
    [
        (("a", None), ("a", "b"), True),
        (("a", None), (None, "b"), True),
        (("a",), ("a",), True),
        (("a", "b"), ("a", "c"), False),
        (("a", None), ("a",), False),
        (("a", None), ("b", None), False),
    ],
)
def test_templates_overlap_if_one_path_fits_both(
    one: tuple[str | None, ...], two: tuple[str | None, ...], overlap: bool
) -> None:
    assert PathTemplate(one).overlaps(PathTemplate(two)) is overlap
    assert PathTemplate(two).overlaps(PathTemplate(one)) is overlap


def test_a_role_sees_what_it_is_named_for_and_others_what_the_star_says() -> None:
    rule = Rule(None, Place("f", 1, 1), Action.ENCRYPT, reveal={"agent": Reveal.PLAIN, "*": Reveal.KEEP})
    assert rule.reveal_for("agent") is Reveal.PLAIN
    assert rule.reveal_for("") is Reveal.KEEP
    assert rule.reveal_for("Agent") is Reveal.KEEP
    assert Rule(None, Place("f", 1, 1), Action.ENCRYPT, reveal={"agent": Reveal.PLAIN}).reveal_for("crm") is None
    assert Rule(None, Place("f", 1, 1), Action.ENCRYPT).reveal_for("agent") is None


def test_the_groups_of_a_policy_are_those_of_its_classes_and_the_default() -> None:
    text = "version: 1\nclasses: {a: {action: encrypt, group: chat}, b: {action: drop}}"
    assert compiled(text).groups == {"default", "chat"}
    assert compiled("version: 1").groups == {"default"}
