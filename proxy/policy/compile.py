"""Files of a policy -> the compiled policy, or everything that is wrong with them. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations

from proxy.document.parts import REST, Finder
from proxy.document.tree import Into
from proxy.policy.check_rules import check_path, check_rules
from proxy.policy.compiled import Call, Conditioned, Policy, PolicyTest, Variant
from proxy.policy.oracle import oracles
from proxy.policy.path_template import PathTemplate, is_segment
from proxy.policy.read_file import PolicyReader, WrittenFile, WrittenMessage, WrittenVariant, read_extends
from proxy.policy.rules import Action, DataClass, Direction, Opening, Phase, Rule, RuleSet
from proxy.policy.selector import PARTS, Pattern, Table, part_of
from proxy.source.problem import Place, Problem, Problems, nearest

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
_VARIABLE = re.compile(r"\{[a-z][a-z0-9_]{0,31}\}", re.ASCII)
BODY_FORMS = frozenset({"xml", "json", "form", "multipart"})
_MAX_EXTENDS = 8
MAX_VARIANTS = 64  # each is compiled as a policy of its own


def compile_policy(name: str, load: Callable[[str], bytes]) -> Policy:
    """The policy in the file `name`, with its variants. `load` returns the bytes of a file by the name used in
    `extends` (or `name`); it raises FileNotFoundError for one that is not there.

    Raises Problems with everything found in all files; warnings alone do not raise, they are in `Policy.warnings`.
    """
    files, patterns, problems = _read(name, load, {})
    policy = _Compiler(name, files, patterns, problems).compile()
    written = [variant for file in files for variant in file.variants]
    if len(written) > MAX_VARIANTS:
        message = f"there are {len(written)} variants, {MAX_VARIANTS} are allowed"
        problems.append(
            Problem(written[MAX_VARIANTS].place, "variants-many", message, "put owners alike into one list")
        )
        written = written[:MAX_VARIANTS]
    variants = tuple(_variant(name, load, variant, problems) for variant in written)
    for one, two in combinations(written, 2):
        if one.when.overlap(two.when):
            message = f"for some owners the variant at {one.place} holds too"
            problems.append(Problem(two.place, "variant-overlap", message, "name tenant and region in both"))
    if any(not problem.warning for problem in problems):
        raise Problems(problems)
    return replace(policy, variants=variants, warnings=tuple(problem for problem in problems if problem.warning))


def _variant(name: str, load: Callable[[str], bytes], written: WrittenVariant, problems: list[Problem]) -> Variant:
    """The policy once more, with what the variant says in the place of what the files say. What is wrong with it only
    then goes to `problems`."""
    files, patterns, own = _read(name, load, written.classes)
    policy = _Compiler(name, files, patterns, own, written).compile()
    known = set(problems)
    text = f"for {written.when}: "
    problems += [replace(problem, message=text + problem.message) for problem in own if problem not in known]
    return Variant(written.when, policy)


def _read(
    name: str, load: Callable[[str], bytes], overrides: dict[str, DataClass]
) -> tuple[list[WrittenFile], dict[str, Finder], list[Problem]]:
    reader = PolicyReader(overrides)
    files: list[WrittenFile] = []
    _read_with_bases(name, load, reader, files, ())
    return files, reader.patterns, reader.problems


def _read_with_bases(
    name: str, load: Callable[[str], bytes], reader: PolicyReader, files: list[WrittenFile], above: tuple[str, ...]
) -> None:
    data = load(name)
    for place, base in read_extends(data, name):
        if base in (*above, name) or len(above) >= _MAX_EXTENDS:
            reader.problems.append(Problem(place, "extends-circle", f'"{base}" is extended in a circle or too deeply'))
        elif all(base != file.file for file in files):
            try:
                _read_with_bases(base, load, reader, files, (*above, name))
            except FileNotFoundError:
                reader.problems.append(Problem(place, "extends-missing", f'there is no policy "{base}" to extend'))
    files.append(reader.read(data, name, files))


class _Compiler:
    """`variant`: what is said otherwise of classes and of what is unmatched."""

    def __init__(
        self,
        name: str,
        files: list[WrittenFile],
        patterns: dict[str, Finder],
        problems: list[Problem],
        variant: WrittenVariant | None = None,
    ) -> None:
        self.name, self.files, self.patterns, self.problems, self.variant = name, files, patterns, problems, variant
        self.conditioned: list[Conditioned] = []
        self.common = [entry for file in files for entry in file.common]
        self.messages = [entry for file in files for entry in file.messages]
        self.names: dict[str, Place] = {}

    def problem(self, place: Place, code: str, message: str, fix: str = "") -> None:
        self.problems.append(Problem(place, code, message, fix))

    def compile(self) -> Policy:
        said = [file.unmatched for file in self.files] + [self.variant.unmatched if self.variant else None]
        unmatched = next((action for action in reversed(said) if action), Action.REFUSE)
        pushes: dict[tuple[str, str], RuleSet] = {}
        replies: dict[tuple[str, str], RuleSet] = {}
        calls: list[tuple[Place, Call]] = []
        for message in self.messages:
            self.unique_name(message)
            if message.direction is Direction.INBOUND:
                self.inbound(message, pushes, replies)
            elif call := self.call(message):
                calls.append((message.place, call))
        self.check_overlap(calls)
        policy = Policy(
            self.name,
            self.revision(),
            unmatched,
            pushes,
            replies,
            self.fallback() if unmatched is Action.ENCRYPT else {},
            tuple(call for _, call in calls),
            self.classes(),
            self.tests(),
            tuple(problem for problem in self.problems if problem.warning),
            tuple(file.file for file in self.files),
            tuple(rule for entry in (*self.common, *self.messages) for rule in entry.all_rules()),
            self.by_kind(),
        )
        self.problems += oracles(policy, [policy])
        return policy

    def by_kind(self) -> dict[tuple[Phase, str, str], tuple[Conditioned, ...]]:
        found: dict[tuple[Phase, str, str], tuple[Conditioned, ...]] = {}
        for item in self.conditioned:
            key = item.rules.phase, item.rules.form, item.kind
            found[key] = (*found.get(key, ()), item)
        return found

    def revision(self) -> str:
        """Of the sources, and of the variant, which stands at one place in them."""
        variant = str(self.variant.place).encode() if self.variant else b""
        return hashlib.sha256(b"".join(file.digest for file in self.files) + variant).hexdigest()[:16]

    def classes(self) -> dict[str, DataClass]:
        own = {name: item for file in self.files for name, item in file.classes.items()}
        return own | (self.variant.classes if self.variant else {})

    def tests(self) -> tuple[PolicyTest, ...]:
        return tuple(self.files[-1].tests)

    def unique_name(self, message: WrittenMessage) -> None:
        if first := self.names.get(message.name):
            self.problem(message.place, "message-duplicate", f'a message "{message.name}" is already at {first}')
        self.names[message.name] = message.place

    def inbound(
        self,
        message: WrittenMessage,
        pushes: dict[tuple[str, str], RuleSet],
        replies: dict[tuple[str, str], RuleSet],
    ) -> None:
        target, phase = (replies, Phase.RESPONSE) if "reply" in message.match else (pushes, Phase.REQUEST)
        kind = _kind(message.match)
        if not kind:
            fix = "write {type: text}, {type: event, event: subscribe} or {reply: text}"
            self.problem(message.place, "match-malformed", f'"{message.name}" does not say which message it is', fix)
            return
        if set(message.rules) != {phase}:
            self.problem(
                message.place, "phase-wrong", f'"{message.name}" must have "{phase.value}" rules and no others'
            )
            return
        rules = self.rule_set(message, phase)
        if not rules.form:
            fix = "write one rule at least that begins with xml: or json:"
            self.problem(message.place, "form-missing", f'"{message.name}" does not say what body it has', fix)
        others = [item for item in self.conditioned if (item.rules.phase, item.kind) == (phase, kind)]
        rivals = [item.rules for item in others if item.rules.form == rules.form and item.when.overlap(message.when)]
        if (rules.form, kind) in target:
            rivals.append(target[rules.form, kind])
        if rivals:
            text = f'"{message.name}" matches the same messages as "{rivals[0].name}"'
            self.problem(message.place, "message-overlap", text)
        if message.when:
            self.conditioned.append(Conditioned(message.when, kind, rules))
        else:
            target[rules.form, kind] = rules

    def call(self, message: WrittenMessage) -> Call | None:
        method, path = message.match.get("method", ""), message.match.get("path", "")
        template = _path_template(path)
        if method not in METHODS or template is None:
            fix = "write {method: POST, path: /a/{b}/c} with letters, digits, . _ ~ - and {names}"
            self.problem(message.place, "match-malformed", f'"{message.name}" does not say which call it is', fix)
            return None
        request, response = (self.rule_set(message, phase) for phase in Phase)
        check_path(message, template, request, self.problem)
        errors = {status: self.rule_set(message, Phase.RESPONSE, own) for status, own in message.errors.items()}
        return Call(message.direction, method, template, request, response, errors, message.when)

    def check_overlap(self, calls: list[tuple[Place, Call]]) -> None:
        for (_, one), (place, two) in combinations(calls, 2):
            if one.overlaps(two):
                message = f'"{two.request.name}" matches calls that "{one.request.name}" matches too'
                self.problem(place, "message-overlap", message)

    def rule_set(self, message: WrittenMessage, phase: Phase, own: list[Rule] | None = None) -> RuleSet:
        own = message.rules.get(phase, []) if own is None else own
        forms = {rule.selector.form for rule in own if rule.selector} & BODY_FORMS
        if len(forms) > 1:
            self.problem(message.place, "forms-mixed", f'"{message.name}" mixes selectors of several kinds of body')
        form = min(forms, default="")
        inherited = [
            rule
            for entry in self.common
            if entry.direction is message.direction
            for rule in entry.rules.get(phase, [])
            if rule.selector and (rule.selector.form == form or rule.selector.form not in BODY_FORMS)
        ]
        return self.build(message.name, message.direction, phase, form, own, inherited)

    def build(
        self, name: str, direction: Direction, phase: Phase, form: str, own: list[Rule], inherited: list[Rule]
    ) -> RuleSet:
        tables: dict[str, Table[Rule]] = {part: Table() for part in PARTS}
        kept: list[Rule] = []
        for rule in own:
            if rule.selector:
                other = tables[part_of(rule.selector.form)].add(rule.selector.pattern, rule)
                if other:
                    self.problem(rule.place, "rule-duplicate", f"the same field has a rule at {other.place}")
                kept.append(rule)
        # The message's own word goes before what is common to all, for a text also before what is common inside it.
        whole = {rule.selector.pattern for rule in kept if rule.selector}
        entered = {outside for rule in kept if rule.selector for outside in rule.selector.texts}
        inherited = [
            rule
            for rule in inherited
            if rule.selector and not any(text in whole and text not in entered for text in rule.selector.texts)
        ]
        kept += [
            rule
            for rule in inherited
            if rule.selector and tables[part_of(rule.selector.form)].add(rule.selector.pattern, rule) is None
        ]
        rules = RuleSet(name, direction, phase, form, tables, tuple(kept), self.openings(kept))
        check_rules(rules, self.problem)
        return rules

    def openings(self, rules: list[Rule]) -> dict[str, Table[Opening]]:
        """What the texts that `rules` look into are read as."""
        wanted: dict[tuple[str, Pattern], tuple[Into, dict[str, Finder]]] = {}
        for rule in rules:
            selector = rule.selector
            pattern = selector.pattern if selector else ()
            for at, into in enumerate(pattern):
                if selector is None or not isinstance(into, Into):
                    continue
                known, finders = wanted.setdefault((part_of(selector.form), pattern[:at]), (into, {}))
                if known is not into:
                    message = f'"{selector.text}" looks into a text as {into.value}, another rule as {known.value}'
                    self.problem(rule.place, "inside-mixed", message)
                elif into is Into.WITHIN and (name := str(pattern[at + 1])) != REST:
                    self.finder(rule, name, finders)
        openings: dict[str, Table[Opening]] = {}
        for (part, pattern), (into, finders) in wanted.items():
            ordered = tuple(finders[name] for name in self.patterns if name in finders)
            openings.setdefault(part, Table()).add(pattern, Opening(into, pattern, ordered))
        return openings

    def finder(self, rule: Rule, name: str, finders: dict[str, Finder]) -> None:
        if name in self.patterns:
            finders[name] = self.patterns[name]
        else:
            hint = nearest(name, list(self.patterns))
            self.problem(rule.place, "pattern-unknown", f'there is no pattern "{name}"', hint)

    def fallback(self) -> dict[str, RuleSet]:
        found = {}
        for form in ("xml", "json"):
            rules = [
                rule
                for entry in self.common
                if entry.direction is Direction.INBOUND
                for rule in entry.rules.get(Phase.REQUEST, [])
                if rule.selector and rule.selector.form == form
            ]
            found[form] = self.build("unknown-message", Direction.INBOUND, Phase.REQUEST, form, [], rules)
        return found


def _kind(match: dict[str, str]) -> str:
    """`text`, `event.subscribe` and the like (see `wechat.push.message_type`); empty if `match` says none or two."""
    match {key: value.lower() for key, value in match.items()}:
        case {"type": "event", "event": event, **rest} if not rest:
            return f"event.{event}"
        case {"type": kind, **rest} | {"reply": kind, **rest} if not rest and kind != "event" and "." not in kind:
            return kind
    return ""


def _path_template(path: str) -> PathTemplate | None:
    if not path.startswith("/") or len(path) > 512:
        return None
    segments: list[str | None] = []
    names: list[str | None] = []
    for segment in path.split("/")[1:]:
        variable = _VARIABLE.fullmatch(segment)
        if not variable and not is_segment(segment):
            return None
        segments.append(None if variable else segment)
        names.append(segment[1:-1] if variable else None)
    variables = [name for name in names if name]
    return PathTemplate(tuple(segments), tuple(names)) if len(set(variables)) == len(variables) else None
