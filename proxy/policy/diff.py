"""Two policies: which fields of which messages change treatment, and where less is protected. Pure.

Compared is what becomes of a value, not how it is written: names of classes and messages, order, comments and the file
a rule stands in make no difference.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from proxy.document.tree import Document
from proxy.policy.cells import cells
from proxy.policy.explain import Occasion, find_rules, pattern_text
from proxy.policy.meaning import NOT_SENT, REFUSED, SEALED, UNWRITTEN, meaning, weaker
from proxy.policy.plan import Step, draft_plan
from proxy.policy.rules import Action, Call, Policy, Rule, RuleSet
from proxy.policy.selector import PARTS, Pattern, Table
from proxy.refusal import Refusal
from proxy.source.problem import Place


@dataclass(frozen=True, slots=True)
class Change:
    """One difference. `selector`: empty if it is one of a whole message. `before` and `after`: what differs only, by
    the key an author writes it under. `old` and `new`: the rules, None where none speaks of it.

    `where`: the message, or the sample it was found on.
    """

    where: str
    selector: str
    before: str
    after: str
    weaker: bool
    old: Place | None = None
    new: Place | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """A message to try both policies on: its body, if it has one, and its query. `kind`: message type of a push or
    passive reply."""

    name: str
    document: Document | None
    kind: str
    occasion: Occasion


@dataclass(frozen=True, slots=True)
class _Entry:
    """The rules of one phase of a message. `names`: of the segments of a call's path that are variable."""

    rules: RuleSet
    unmatched: Action
    names: tuple[str | None, ...] = ()


_Key = tuple[str, ...]


def diff_policies(old: Policy, new: Policy) -> tuple[Change, ...]:
    """Every difference in meaning, in the order of messages and selectors."""
    found = list(_defaults(old, new))
    before, after = _entries(old), _entries(new)
    for key in sorted(before.keys() | after.keys()):
        one, two = before.get(key) or _unnamed(old, key), after.get(key) or _unnamed(new, key)
        found += _message(_label(key, one, two), one, two)
    return tuple(found)


def diff_sample(old: Policy, new: Policy, sample: Sample) -> tuple[Change, ...]:
    """What changes for each value of `sample`, in its order."""
    one, two = _leaves(old, sample), _leaves(new, sample)
    found: list[Change | None] = []
    if isinstance(one, str) or isinstance(two, str):
        before, after = (leaves if isinstance(leaves, str) else "known" for leaves in (one, two))
        found.append(Change(sample.name, "", before, after, isinstance(one, str)) if before != after else None)
    known = next((leaves for leaves in (one, two) if not isinstance(leaves, str)), [])
    rules = [_rules(leaves, len(known)) for leaves in (one, two)]
    found += [_change(sample.name, text, *pair) for (text, _), *pair in zip(known, *rules, strict=True)]
    return tuple(change for change in found if change)


# --- messages


def _entries(policy: Policy) -> dict[_Key, _Entry]:
    """Every message the policy knows, by what it matches."""
    found: dict[_Key, _Entry] = {}
    for kind, table in (("push", policy.pushes), ("reply", policy.replies)):
        found |= {("inbound", kind, name, form): _entry(policy, rules) for (form, name), rules in table.items()}
    found |= {("inbound", "push", "", form): _entry(policy, rules) for form, rules in policy.fallback.items()}
    for call in policy.calls:
        path = "".join(f"/{segment or '{}'}" for segment in call.path.segments)
        phases = {"request": call.request, "response": call.response}
        phases |= {f"response {status}": rules for status, rules in call.errors.items()}
        for phase, rules in phases.items():
            found[call.direction.value, call.method, path, phase] = _entry(policy, rules, call)
    return found


def _entry(policy: Policy, rules: RuleSet, call: Call | None = None) -> _Entry:
    return _Entry(rules, policy.unmatched, call.path.names if call else ())


def _unnamed(policy: Policy, key: _Key) -> _Entry | None:
    """What becomes of a message the policy does not name: the common rules serve some pushes, the rest is refused."""
    if key[:2] != ("inbound", "push") or (rules := policy.fallback.get(key[3])) is None:
        return None
    return _entry(policy, rules)


def _label(key: _Key, old: _Entry | None, new: _Entry | None) -> str:
    if key[0] == "inbound":
        return f"inbound {key[1]} {key[2] or 'of any other type'} ({key[3]})"
    path, entry = key[2], new or old
    for name in entry.names if entry else ():
        path = path.replace("{}", f"{{{name}}}", 1) if name else path
    return f"{key[0]} {key[1]} {path} {key[3]}"


def _defaults(old: Policy, new: Policy) -> Iterator[Change]:
    if old.unmatched is not new.unmatched:
        before, after = (f"unmatched: {policy.unmatched.value}" for policy in (old, new))
        yield Change("defaults", "", before, after, new.unmatched is Action.ENCRYPT)


def _message(where: str, old: _Entry | None, new: _Entry | None) -> list[Change]:
    found: list[Change | None] = []
    if old is None or new is None:
        before, after = ("refused" if entry is None else "known" for entry in (old, new))
        found.append(Change(where, "", before, after, old is None))
    for part in PARTS:
        for form in sorted(_forms(part, old) | _forms(part, new)):
            found += _fields(where, part, form, old, new)
    return [change for change in found if change]


def _forms(part: str, entry: _Entry | None) -> set[str]:
    """In which forms a part of a message can come."""
    if entry is None:
        return set()
    return {part} if part != "body" else {entry.rules.form} - {""}


# --- fields


def _fields(where: str, part: str, form: str, old: _Entry | None, new: _Entry | None) -> list[Change]:
    rows = []
    for pattern, one, two in cells(_table(old, part, form), _table(new, part, form)):
        before, after = one or _unknown(old, part, form), two or _unknown(new, part, form)
        text = pattern_text(form, _named(pattern, new or old) if part == "path" else pattern)
        if change := _change(where, text, before, after):
            rows.append(change)
    return sorted(rows, key=lambda change: change.selector)


def _table(entry: _Entry | None, part: str, form: str) -> Table[Rule]:
    if entry is None or (part == "body" and entry.rules.form != form):
        return Table()
    table = entry.rules.tables[part]
    return _by_position(table, entry.names) if part == "path" else table


def _by_position(table: Table[Rule], names: tuple[str | None, ...]) -> Table[Rule]:
    """Variables of a path by where they stand: what they are called is nobody's business."""
    placed: Table[Rule] = Table()
    for position, name in enumerate(names):
        if name is not None and (rule := table.find((name,))) is not None:
            placed.add((position,), rule)
    return placed


def _named(pattern: Pattern, entry: _Entry | None) -> Pattern:
    names = entry.names if entry else ()
    return tuple(names[part] or part if isinstance(part, int) else part for part in pattern)


def _unknown(entry: _Entry | None, part: str, form: str) -> Rule:
    """What becomes of a value no rule knows."""
    if entry is None or (part == "body" and entry.rules.form != form):
        return REFUSED
    if part == "header":
        return NOT_SENT
    return SEALED if part == "body" and entry.unmatched is Action.ENCRYPT else REFUSED


def _change(where: str, selector: str, old: Rule, new: Rule) -> Change | None:
    before, after = meaning(old), meaning(new)
    if before == after:
        return None
    keys = list(dict.fromkeys((*before, *after)))
    if old.action is new.action:
        keys = [key for key in keys if before.get(key) != after.get(key)]
    places = (rule.place if rule.place.line else None for rule in (old, new))
    return Change(where, selector, _told(before, keys), _told(after, keys), weaker(old, new), *places)


def _told(found: Mapping[str, str], keys: Iterable[str]) -> str:
    """`action` comes first, and then the rest of what that action needs; without it, what differs."""
    if "action" in keys:
        return "; ".join(f"{key}: {found[key]}" if key != "action" else found[key] for key in keys if key in found)
    return "; ".join(f"{key}: {found.get(key, UNWRITTEN.get(key, 'none'))}" for key in keys)


# --- samples


_Leaves = list[tuple[str, Rule]]


def _leaves(policy: Policy, sample: Sample) -> _Leaves | str:
    """The leaves of the sample with the rules of the policy's plan, or why the whole message is refused."""
    try:
        form = sample.document.form if sample.document else ""
        rules = find_rules(policy, sample.occasion, form, sample.kind)
        plan = draft_plan(policy, rules, sample.document, sample.occasion.query, sample.occasion.role)
    except Refusal as refusal:
        return f"refused: {refusal.code}"
    places = [(document.form, leaf.path) for document in plan.documents for leaf in document.leaves]
    return [(pattern_text(*place), _done_by(step)) for place, step in zip(places, plan.steps, strict=True)]


def _done_by(step: Step) -> Rule:
    return REFUSED if step.code == "field_unknown" else step.rule


def _rules(leaves: _Leaves | str, number: int) -> list[Rule]:
    return [REFUSED] * number if isinstance(leaves, str) else [rule for _, rule in leaves]
