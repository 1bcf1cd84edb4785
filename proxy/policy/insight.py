"""Whether a text is looked into. Pure.

Only if it can be read as its rules say and everything in it has a rule. Otherwise it is one value, under the rule of
the field itself: the names in it are its writer's words too, and may not pass with it.
"""

from __future__ import annotations

from itertools import dropwhile

from proxy.document.parts import MAX_TEXT, REST
from proxy.document.tree import Document, Into, Leaf, Path
from proxy.policy.patterns import BUILT_IN
from proxy.policy.rules import Action, Opening, Rule, RuleSet
from proxy.policy.selector import ANY, Pattern
from proxy.refusal import Refusal

# Characters that are read in texts for one message: reading costs time whether or not it comes to anything.
MOST_INSIDE = 128 * 1024
MOST_IN_SENTENCES = 4 * MAX_TEXT


class Insight:
    """What stands inside the texts of one message."""

    def __init__(self, rules: RuleSet) -> None:
        self._rules = rules
        self._seen: dict[int, tuple[Leaf, Document | None]] = {}  # with the leaf, or its id could be another's
        self._left, self._left_in_sentences = MOST_INSIDE, MOST_IN_SENTENCES

    def of(self, leaf: Leaf, part: str) -> Document | None:
        """The document inside `leaf`, of a part of the message; None for one value. Refusal `document_too_large` if the
        texts of the message take too long to read."""
        if id(leaf) not in self._seen:
            self._seen[id(leaf)] = leaf, self._look(leaf, part)
        return self._seen[id(leaf)][1]

    def _look(self, leaf: Leaf, part: str) -> Document | None:
        openings = self._rules.openings.get(part)
        opening = openings.find(leaf.path) if openings else None
        rule = self._rules.tables[part].find(leaf.path)
        if opening is None or not self._is_meant(opening, leaf, rule):
            return None
        self._spend(len(leaf.text), opening.into)
        inner = opening.read(leaf)
        if inner is None or _is_one_part(inner, opening, rule):
            return None
        return inner if all(self._has_rules(each, part) for each in inner.leaves) else None

    def _is_meant(self, opening: Opening, leaf: Leaf, rule: Rule | None) -> bool:
        """The most specific word counts: of the opening and of the rule for the whole value, too."""
        if not _names(opening.pattern, leaf.path) or (
            rule is not None and _goes_before(_pattern(rule), opening.pattern)
        ):
            return False
        if opening.into is not Into.WITHIN:
            return True
        # What a follower wrote may look like a token; among clear words it would be taken for one.
        look_alike = self._rules.from_wechat and BUILT_IN["token"].pattern.search(leaf.text, 0) is not None
        return len(leaf.text) <= MAX_TEXT and not look_alike

    def _spend(self, characters: int, into: Into) -> None:
        self._left -= characters
        if into is Into.WITHIN:
            self._left_in_sentences -= characters
        if self._left < 0 or self._left_in_sentences < 0:
            raise Refusal("document_too_large")

    def _has_rules(self, leaf: Leaf, part: str) -> bool:
        rule = self._rules.tables[part].find(leaf.path)
        return _names(_pattern(rule), leaf.path) if rule else self.of(leaf, part) is not None


def _pattern(rule: Rule) -> Pattern:
    return rule.selector.pattern if rule.selector else ()


def _is_one_part(inner: Document, opening: Opening, rule: Rule | None) -> bool:
    """A sentence that is a part from end to end: a token, perhaps, of the whole value or of the part, and nobody could
    tell. It is the whole value's where that can be a token."""
    sole = opening.into is Into.WITHIN and len(inner.leaves) == 1 and inner.leaves[0].path[-1] != REST
    return sole and rule is not None and rule.action is Action.ENCRYPT


def _names(pattern: Pattern, path: Path) -> bool:
    """Whether `pattern` names everything that is called something inside a text; its `*` may stand for positions."""
    pairs = dropwhile(lambda pair: not isinstance(pair[1], Into), zip(pattern, path, strict=True))
    return all(segment is not ANY or isinstance(part, int) for segment, part in pairs)


def _goes_before(one: Pattern, other: Pattern) -> bool:
    """Whether, of two patterns of the same value, `one` is the more specific."""
    return next((b is ANY for a, b in zip(one, other, strict=True) if a != b), False)
