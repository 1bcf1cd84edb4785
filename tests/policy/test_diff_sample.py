"""Two policies on one message."""

from proxy.document.json_body import read_json
from proxy.document.xml_body import read_xml
from proxy.policy.diff_sample import Sample, diff_sample
from proxy.policy.explain import Occasion
from proxy.policy.rules import Direction, Phase
from tests.policy.build import compiled
from tests.policy.test_diff import HEAD, NEW, TEXT

PUSH = read_xml(b"<xml><From>o</From><Kind>text</Kind><Text>hi</Text><Odd>1</Odd></xml>")
INBOUND = Occasion(Direction.INBOUND, Phase.REQUEST)


def on_push(old: str, new: str, kind: str = "text") -> list[tuple[str, str, str, bool]]:
    found = diff_sample(compiled(old), compiled(new), Sample("s.xml", PUSH, kind, INBOUND))
    assert {change.where for change in found} <= {"s.xml"}
    return [(it.selector, it.before, it.after, it.weaker) for it in found]


def test_the_values_of_a_sample_that_change_are_told_and_no_others() -> None:
    assert on_push(TEXT, TEXT) == []
    new = TEXT.replace("xml:/xml/Kind: allow", "xml:/xml/Kind: drop").replace(
        "'json:$.code': allow", "'json:$.code': drop"
    )
    assert on_push(TEXT, new) == [("xml:/xml/Kind", "allow", "drop", False)]
    assert on_push(TEXT, TEXT + "defaults: {unmatched: encrypt}\n") == [
        ("xml:/xml/Odd", "refuse", "encrypt; as: unclassified", True)
    ]


def test_a_sample_that_was_no_message_before_says_so_and_what_leaves_now() -> None:
    found = on_push(TEXT, TEXT + NEW, "image")
    assert found == [
        ("", "refused: message_unknown", "known", True),
        ("xml:/xml/From", "refuse", "encrypt; as: openid; deterministic: true", True),
    ]
    assert [it[-1] for it in on_push(TEXT + NEW, TEXT, "image")] == [False, False]
    assert on_push(TEXT, TEXT, "video") == []


def test_a_call_s_sample_counts_its_query_and_its_role() -> None:
    where = Occasion(Direction.OUTBOUND, Phase.REQUEST, "POST", "/send/a/b", "crm", "token=t")
    sample = Sample("s", read_json(b'{"text": "x"}'), "", where)
    new = TEXT.replace("query:token: allow", "query:token: {class: veiled}")
    (change,) = diff_sample(compiled(TEXT), compiled(new), sample)
    assert (change.selector, change.weaker) == ("query:token", False)


CALL = (
    HEAD
    + """messages:
  - name: m
    direction: agent
    match: {method: POST, path: '/a/{id}/b'}
    request: {path:id: allow, header:if-match: allow, json:$.t: {class: words, as: a}}
"""
)


def on_call(old: str, new: str, body: bytes = rb'{"t":"{\"x\":1}"}') -> list[tuple[str, str, str, bool]]:
    headers = ((b"if-match", b"1"), (b"prefer", b"x"))
    where = Occasion(Direction.AGENT, Phase.REQUEST, "POST", "/a/7/b", headers=headers)
    found = diff_sample(compiled(old), compiled(new), Sample("s", read_json(body), "", where))
    return [(it.selector, it.before, it.after, it.weaker) for it in found]


def test_variables_of_the_path_count_wherever_they_are_called_otherwise() -> None:
    assert on_call(CALL, CALL.replace("{id}", "{key}").replace("path:id", "path:key")) == []
    assert on_call(CALL, CALL.replace("path:id: allow", "path:id: {class: id, as: i}")) == [
        ("path:id", "allow", "encrypt; as: i; deterministic: true", False)
    ]


def test_header_fields_count_declared_or_not() -> None:
    assert on_call(CALL, CALL.replace("header:if-match: allow, ", "")) == [("header:if-match", "allow", "drop", False)]
    assert on_call(CALL.replace("header:if-match: allow, ", ""), CALL) == [("header:if-match", "drop", "allow", True)]


def test_what_is_looked_into_is_compared_with_the_whole() -> None:
    new = CALL.replace("json:$.t:", "'json:$.t > json:$.x': {action: allow, because: x}, json:$.t:")
    assert on_call(CALL, new) == [("json:$.t > json:$.x", "encrypt; as: a", "allow", True)]
    assert on_call(new, CALL) == [("json:$.t > json:$.x", "allow", "encrypt; as: a", False)]
    assert on_call(CALL, new, b'{"t":"words"}') == []
