"""What can be wrong with the rules of one message that no rule shows alone. Pure."""

from __future__ import annotations

from typing import Protocol

from proxy.policy.path_template import PathTemplate
from proxy.policy.read_file import WrittenMessage
from proxy.policy.rules import REVEALING, Action, Direction, OnError, Phase, Reveal, RuleSet
from proxy.source.problem import Place


class Report(Protocol):
    def __call__(self, place: Place, code: str, message: str, fix: str = "") -> None: ...


def check_rules(rules: RuleSet, problem: Report) -> None:
    """Reports what is wrong with `rules` as a whole."""
    _check_parts(rules, problem)
    _check_lengths(rules, problem)
    _check_binds(rules, problem)
    _check_reveals(rules, problem)


def _check_parts(rules: RuleSet, problem: Report) -> None:
    """Rules of parts that this phase of this direction does not have never apply, and nobody would be told."""
    has_head = rules.phase is Phase.REQUEST and rules.direction is not Direction.INBOUND
    for rule in rules.rules:
        part = rule.selector.form if rule.selector else ""
        if part not in ("", "xml", "json") and not has_head:
            message = f"there is no {part} in {rules.direction.value} {rules.phase.value}s"
            problem(rule.place, "part-missing", message, "remove the rule")
        if part == "path" and (rule.action is Action.DROP or rule.write or rule.on_error is OnError.DROP):
            problem(rule.place, "path-action", "a variable of a path cannot be dropped or become several")


def _check_lengths(rules: RuleSet, problem: Report) -> None:
    """What a text becomes whose inside is changed, nobody knows beforehand."""
    for part, openings in rules.openings.items():
        for opening in openings.items():
            rule = rules.tables[part].find(opening.pattern)
            if rule and rule.fits:
                message = '"fits" and "max" are for values that stay whole, and rules look into this one'
                problem(rule.place, "fits-action", message)


def check_path(message: WrittenMessage, template: PathTemplate, request: RuleSet, problem: Report) -> None:
    """Every variable has its rule: what stands in a path is a value like any other."""
    names = {name for name in template.names if name}
    for name in sorted(names):
        if request.tables["path"].find((name,)) is None:
            fix = f'add "path:{name}: allow", or what it is'
            text = f'the variable {{{name}}} of "{message.name}" has no rule'
            problem(message.place, "path-unmatched", text, fix)
    for rule in message.rules.get(Phase.REQUEST, []):
        if rule.selector and rule.selector.form == "path" and rule.selector.pattern[0] not in names:
            text = f'the path of "{message.name}" has no {{{rule.selector.pattern[0]}}}'
            problem(rule.place, "path-unknown", text)


def _check_binds(rules: RuleSet, problem: Report) -> None:
    names = {rule.datum for rule in rules.rules if rule.datum}
    # A datum that is bound itself anywhere could need itself to be opened.
    names -= {rule.datum for rule in rules.rules if rule.binds}
    for rule in rules.rules:
        for name in rule.binds:
            if name not in names:
                message = f'"bind" names "{name}", which no unbound rule of this message has as its "as"'
                problem(rule.place, "bind-unknown", message)


def _check_reveals(rules: RuleSet, problem: Report) -> None:
    for rule in rules.rules:
        if rule.write and (rules.direction, rules.phase) in REVEALING:
            # A mask beside a token is made of what the token says: towards anybody but the CRM that is to reveal.
            message = f'"write" is for what the CRM stores, not for {rules.direction.value} {rules.phase.value}s'
            problem(rule.place, "write-action", message)
        if rule.reveal is None:
            continue
        if (rules.direction, rules.phase) not in REVEALING:
            message = f"nothing is revealed in {rules.direction.value} {rules.phase.value}s"
            problem(rule.place, "reveal-direction", message, 'remove "reveal"')
        masks = Reveal.MASK in rule.reveal.values()
        if masks and (rule.data_class is None or rule.data_class.forms.mask is None):
            problem(rule.place, "mask-missing", 'a role gets a mask but the class has no "mask"')
