"""Which rules the tests of a policy reached: a rule nobody ever saw at work may be spelt for a field that is not there.

Pure. A rule is reached when it decides a value of a sample, whatever is expected of that value. Rules of extended files
are counted, but only the policy's own can be at fault: the others have their tests where they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from proxy.policy.check_tests import Run, points_at
from proxy.policy.compiled import Policy
from proxy.policy.rules import Direction, Rule
from proxy.source.problem import Place, Problem


@dataclass(frozen=True, slots=True)
class Coverage:
    """`rules`: as written in all files of the policy `name`; `reached` and `matched`: the places of those that decided
    a value, and of those whose selector at least points at one."""

    name: str
    rules: tuple[Rule, ...]
    reached: frozenset[Place]
    matched: frozenset[Place]

    def figures(self) -> dict[str, tuple[int, int]]:
        """For each file with rules, the policy's own first: how many of them were reached, and how many there are."""
        files = sorted({rule.place.file for rule in self.rules}, key=lambda file: (file != self.name, file))
        places = [rule.place for rule in self.rules]
        return {
            file: (
                sum(place.file == file and place in self.reached for place in places),
                sum(place.file == file for place in places),
            )
            for file in files
        }

    def unreached(self, *, warning: bool) -> list[Problem]:
        """`rule-unreached` for each rule of the policy's own file that no test reached."""
        return [
            Problem(rule.place, "rule-unreached", self._why(rule), "add a test with a sample that has it", warning)
            for rule in self._own()
            if rule.place not in self.reached
        ]

    def unmatched(self) -> list[Problem]:
        """`selector-unmatched` for each rule of the policy's own file whose selector is in no sample."""
        return [
            Problem(rule.place, "selector-unmatched", self._why(rule), "correct it, or add a sample that has the field")
            for rule in self._own()
            if rule.place not in self.matched
        ]

    def _own(self) -> list[Rule]:
        return [rule for rule in self.rules if rule.place.file == self.name]

    def _why(self, rule: Rule) -> str:
        text = f'"{rule.selector.text}"' if rule.selector else "the rule"
        if rule.place in self.matched:
            return f"{text} is never the most specific rule in the samples of the tests"
        return f"{text} points at nothing in any sample of the tests"


def coverage(policy: Policy, runs: Sequence[Run]) -> Coverage:
    """What `runs`, of all tests of `policy`, reached."""
    reached = frozenset(place for run in runs for place in run.reached)
    # What decided a value points at it; a rule without `*` that did not decide, points at nothing.
    missed = {rule.place: rule for rule in policy.written if rule.place not in reached}
    matched = {place for place, rule in missed.items() if any(_matches(rule, run) for run in runs)}
    return Coverage(policy.name, policy.written, reached, reached | matched)


def _matches(rule: Rule, run: Run) -> bool:
    selector = rule.selector
    if selector is None or not selector.has_wildcard or run.rules is None:
        return False
    applies = any(rule.place == other.place for other in run.rules.rules)
    return applies and any(points_at(selector, form, path) for form, path in run.leaves)


def untested(policy: Policy) -> list[Problem]:
    """`policy-untested` for a policy that knows messages and has no test. Classes and common rules alone, there to be
    extended, meet no message and cannot be tested where they are."""
    testable = any(policy.speaks_of(direction) for direction in Direction) or policy.replies
    return [no_test(policy.name)] if testable and not policy.tests else []


def no_test(file: str) -> Problem:
    message = "no test ran: nothing says that the policy does what its author means"
    return Problem(Place(file, 1, 1), "policy-untested", message, 'add "tests"')
