"""Rules as compiled: who may see what."""

from proxy.policy.rules import Action, Reveal, Rule
from proxy.source.problem import Place


def test_a_role_sees_what_it_is_named_for_and_others_what_the_star_says() -> None:
    rule = Rule(None, Place("f", 1, 1), Action.ENCRYPT, reveal={"agent": Reveal.PLAIN, "*": Reveal.KEEP})
    assert rule.reveal_for("agent") is Reveal.PLAIN
    assert rule.reveal_for("") is Reveal.KEEP
    assert rule.reveal_for("Agent") is Reveal.KEEP
    assert Rule(None, Place("f", 1, 1), Action.ENCRYPT, reveal={"agent": Reveal.PLAIN}).reveal_for("crm") is None
    assert Rule(None, Place("f", 1, 1), Action.ENCRYPT).reveal_for("agent") is None
