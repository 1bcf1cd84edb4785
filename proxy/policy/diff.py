"""Two policies: which fields of which messages change treatment, and where less is protected. Pure.

Compared is what becomes of a value, not how it is written: names of classes and messages, order, comments and the file
a rule stands in make no difference.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import product

from proxy.document.tree import Into
from proxy.policy.cells import cells
from proxy.policy.compiled import Call, Policy
from proxy.policy.conditions import OF_OWNERS
from proxy.policy.explain import pattern_text
from proxy.policy.meaning import NOT_SENT, REFUSED, SEALED, UNWRITTEN, meaning, weaker
from proxy.policy.rules import Action, Phase, Rule, RuleSet
from proxy.policy.selector import PARTS, Pattern, Table
from proxy.source.problem import Place

_SHOWN = 5  # owners named for one difference


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
class _Entry:
    """The rules of one phase of a message. `names`: of the segments of a call's path that are variable."""

    rules: RuleSet
    unmatched: Action
    names: tuple[str | None, ...] = ()


_Key = tuple[str, ...]


def diff_policies(old: Policy, new: Policy) -> tuple[Change, ...]:
    """Every difference in meaning, in the order of messages and selectors; then what differs for some owners only."""
    found = _differences(old, new)
    known = {(change.where, change.selector, change.before, change.after) for change in found}
    for owners, one, two in _pairs(old, new):
        for change in _differences(one, two):
            if (change.where, change.selector, change.before, change.after) not in known:
                found.append(replace(change, where=f"{change.where}, for {owners}"))
    return tuple(found)


def _pairs(old: Policy, new: Policy) -> list[tuple[str, Policy, Policy]]:
    """The pairs that one owner can have, but for the two policies themselves, with the owners that have them."""
    named: dict[str, set[str]] = {name: set() for name in OF_OWNERS}
    for variant in (*old.variants, *new.variants):
        for name, values in variant.when.wanted:
            named[name] |= values
    tenants, regions = ([*sorted(values), ""] for values in named.values())  # "" stands for all others
    found: dict[tuple[int, int], tuple[list[str], Policy, Policy]] = {}
    for owner in product(tenants, regions):
        one, two = old.for_owner(*owner), new.for_owner(*owner)
        if one is not old or two is not new:
            words = [f"{name} {value}" for name, value in zip(OF_OWNERS, owner, strict=True) if value]
            found.setdefault((id(one), id(two)), ([], one, two))[0].append(" in ".join(words) or "all others")
    return [(_listed(owners), one, two) for owners, one, two in found.values()]


def _listed(owners: list[str]) -> str:
    more = f" and {len(owners) - _SHOWN} more" if len(owners) > _SHOWN else ""
    return ", ".join(owners[:_SHOWN]) + more


def _differences(old: Policy, new: Policy) -> list[Change]:
    found = list(_defaults(old, new))
    before, after = _entries(old), _entries(new)
    for key in sorted(before.keys() | after.keys()):
        one, two = before.get(key) or _unnamed(old, key), after.get(key) or _unnamed(new, key)
        found += _message(_label(key, one, two), one, two)
    return found


# --- messages


def _entries(policy: Policy) -> dict[_Key, _Entry]:
    """Every message the policy knows, by what it matches."""
    found: dict[_Key, _Entry] = {}
    for kind, table in (("push", policy.pushes), ("reply", policy.replies)):
        found |= {("inbound", kind, name, form, ""): _entry(policy, rules) for (form, name), rules in table.items()}
    for item in policy.all_conditioned():
        kind = "push" if item.rules.phase is Phase.REQUEST else "reply"
        found["inbound", kind, item.kind, item.rules.form, str(item.when)] = _entry(policy, item.rules)
    found |= {("inbound", "push", "", form, ""): _entry(policy, rules) for form, rules in policy.fallback.items()}
    for call in policy.calls:
        path = "".join(f"/{segment or '{}'}" for segment in call.path.segments)
        for phase, rules in call.rule_sets().items():
            found[call.direction.value, call.method, path, phase, str(call.when)] = _entry(policy, rules, call)
    return found


def _entry(policy: Policy, rules: RuleSet, call: Call | None = None) -> _Entry:
    return _Entry(rules, policy.unmatched, call.path.names if call else ())


def _unnamed(policy: Policy, key: _Key) -> _Entry | None:
    """What becomes of a message the policy does not name: the common rules serve some pushes, the rest is refused."""
    if key[:2] != ("inbound", "push") or (rules := policy.fallback.get(key[3])) is None:
        return None
    return _entry(policy, rules)


def _label(key: _Key, old: _Entry | None, new: _Entry | None) -> str:
    when = f", {key[4]}" if key[4] else ""
    if key[0] == "inbound":
        return f"inbound {key[1]} {key[2] or 'of any other type'} ({key[3]}){when}"
    path, entry = key[2], new or old
    for name in entry.names if entry else ():
        path = path.replace("{}", f"{{{name}}}", 1) if name else path
    return f"{key[0]} {key[1]} {path} {key[3]}{when}"


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
    olds, news = _table(old, part, form), _table(new, part, form)
    rows += _other_patterns(where, part, old, new)
    for pattern, one, two in cells(olds, news):
        before = one or _around(olds, pattern) or _unknown(old, part, form)
        after = two or _around(news, pattern) or _unknown(new, part, form)
        text = pattern_text(form, _named(pattern, new or old) if part == "path" else pattern)
        if change := change_of(where, text, before, after):
            opens = one is None and _opens_more(before, news, pattern)
            rows.append(replace(change, weaker=change.weaker or opens))
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


def _other_patterns(where: str, part: str, old: _Entry | None, new: _Entry | None) -> list[Change]:
    """Sentences that other patterns take apart now. What they find cannot be compared: it may be less."""
    one, two = (_sentences(entry, part) for entry in (old, new))
    rows = []
    for pattern in one.keys() & two.keys():
        if one[pattern] != two[pattern]:
            text = pattern_text(_form_of(part, new), pattern)
            rows.append(Change(where, text, f"within: {one[pattern]}", f"within: {two[pattern]}", weaker=True))
    return rows


def _sentences(entry: _Entry | None, part: str) -> dict[Pattern, str]:
    """What each sentence is taken apart with, by its place."""
    table = entry.rules.openings.get(part) if entry else None
    found = {opening.pattern: opening for opening in table.items()} if table else {}
    return {
        pattern: ", ".join(f"{finder.name} {finder.pattern.pattern}" for finder in opening.finders)
        for pattern, opening in found.items()
        if opening.into is Into.WITHIN
    }


def _form_of(part: str, entry: _Entry | None) -> str:
    return entry.rules.form if part == "body" and entry else part


def _opens_more(whole: Rule, table: Table[Rule], pattern: Pattern) -> bool:
    """Whether a text that was one value because of the one name at `pattern` now lets anything of it through weaker."""
    places = [at for at, segment in enumerate(pattern) if isinstance(segment, Into)]
    if not places:
        return False
    beside = table.under(pattern[: places[-1] + 1])
    return any(weaker(whole, rule) for rule in (beside.items() if beside else ()))


def _around(table: Table[Rule], pattern: Pattern) -> Rule | None:
    """The rule of the whole text, for what stands inside one that is not looked into."""
    places = [at for at, segment in enumerate(pattern) if isinstance(segment, Into)]
    return next((rule for at in reversed(places) if (rule := table.find(pattern[:at]))), None)


def _unknown(entry: _Entry | None, part: str, form: str) -> Rule:
    """What becomes of a value no rule knows."""
    if entry is None or (part == "body" and entry.rules.form != form):
        return REFUSED
    if part == "header":
        return NOT_SENT
    return SEALED if part == "body" and entry.unmatched is Action.ENCRYPT else REFUSED


def change_of(where: str, selector: str, old: Rule, new: Rule) -> Change | None:
    """What differs between two rules for one value; None if they mean the same."""
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
