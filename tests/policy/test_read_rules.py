"""Rules as written: every fault of one that shows by itself, at its place."""

import pytest

from tests.policy.build import ONE_PUSH, compiled, require_told


@pytest.mark.parametrize(
    ("text", "code", "at"),
    [
        (ONE_PUSH + "      Content: allow", "selector-malformed", "Content"),
        (ONE_PUSH + "      json:$..a: allow", "selector-malformed", "json:$..a"),
        (ONE_PUSH + "      xml:/xml/a: alow", "wrong-value", "alow"),
        (ONE_PUSH + "      xml:/xml/a: encrypt", "wrong-value", "encrypt"),
        (ONE_PUSH + "      xml:/xml/a: [allow]", "wrong-type", "[allow]"),
        (ONE_PUSH + "      xml:/xml/a: {}", "rule-empty", "{}"),
        (ONE_PUSH + "      xml:/xml/a: {action: drop, class: gone}", "rule-ambiguous", "{action: drop"),
        (ONE_PUSH + "      xml:/xml/a: {class: secert, as: a}", "class-unknown", "secert"),
        (ONE_PUSH + "      xml:/xml/a: {class: [secret], as: a}", "wrong-type", "[secret]"),
        (ONE_PUSH + "      xml:/xml/a: {class: secret}", "as-missing", "xml:/xml/a"),
        (ONE_PUSH + "      xml:/xml/a: {class: secret, as: 'a b'}", "wrong-value", "'a b'"),
        (ONE_PUSH + "      xml:/xml/a: {class: secret, as: a, biind: [b]}", "unknown-key", "biind"),
        (ONE_PUSH + "      xml:/xml/a: {class: secret, as: a, bind: b}", "wrong-type", "b}"),
        (ONE_PUSH + "      xml:/xml/a: {class: gone, bind: [b]}", "reveal-action", "xml:/xml/a"),
        (ONE_PUSH + "      xml:/xml/a: {action: allow, reveal: {'*': plain}}", "reveal-action", "xml:/xml/a"),
        (ONE_PUSH + "      xml:/xml/a: {class: secret, as: a, reveal: plain}", "wrong-type", "plain"),
        (ONE_PUSH + "      xml:/xml/a: {class: secret, as: a, reveal: {'*': clear}}", "wrong-value", "clear"),
        (ONE_PUSH + "      xml:/xml/*: allow", "allow-wildcard", "xml:/xml/*"),
        (ONE_PUSH + "      json:$.a[*].b: allow", "allow-wildcard", "json:$.a[*].b"),
    ],
)
def test_a_fault_of_shape_is_a_problem_at_its_place(text: str, code: str, at: str) -> None:
    require_told(text, code, at)


@pytest.mark.parametrize("name", ["PicUrl", "ThumbUrl", "MediaId", "ThumbMediaId", "MediaId16K", "FileKey"])
def test_a_handle_to_content_in_clear_is_a_warning_until_it_is_silenced_in_writing(name: str) -> None:
    policy = compiled(ONE_PUSH + f"      xml:/xml/{name}: allow")
    assert [(problem.code, problem.warning) for problem in policy.warnings] == [("allow-handle", True)]
    silenced = compiled(ONE_PUSH + f"      xml:/xml/{name}: {{action: allow, because: it is public}}")
    assert silenced.warnings == ()
