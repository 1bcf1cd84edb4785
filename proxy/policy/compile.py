"""Files of a policy -> the compiled policy, or everything that is wrong with them. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable
from itertools import combinations

from proxy.policy.read_file import PolicyReader, WrittenFile, WrittenMessage, read_extends
from proxy.policy.rules import (
    REVEALING,
    UNCLASSIFIED,
    Action,
    Call,
    Direction,
    OnError,
    PathTemplate,
    Phase,
    Policy,
    PolicyTest,
    Reveal,
    Rule,
    RuleSet,
    is_segment,
)
from proxy.policy.selector import PARTS, Table, part_of
from proxy.source.problem import Place, Problem, Problems

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
_VARIABLE = re.compile(r"\{[a-z][a-z0-9_]{0,31}\}", re.ASCII)
BODY_FORMS = frozenset({"xml", "json", "form"})
_MAX_EXTENDS = 8
# Where WeChat's API takes the person a message is for. A follower's id may be revealed there and nowhere else.
ADDRESSEES = frozenset({"touser", "openid", "ToUserName"})


def compile_policy(name: str, load: Callable[[str], bytes]) -> Policy:
    """The policy in the file `name`. `load` returns the bytes of a file by the name used in `extends` (or `name`);
    it raises FileNotFoundError for one that is not there.

    Raises Problems with everything found in all files; warnings alone do not raise, they are in `Policy.warnings`.
    """
    reader = PolicyReader()
    files: list[WrittenFile] = []
    _read_with_bases(name, load, reader, files, ())
    policy = _Compiler(name, files, reader.problems).compile()
    if any(not problem.warning for problem in reader.problems):
        raise Problems(reader.problems)
    return policy


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
    def __init__(self, name: str, files: list[WrittenFile], problems: list[Problem]) -> None:
        self.name, self.files, self.problems = name, files, problems
        self.common = [entry for file in files for entry in file.common]
        self.messages = [entry for file in files for entry in file.messages]
        self.names: dict[str, Place] = {}

    def problem(self, place: Place, code: str, message: str, fix: str = "") -> None:
        self.problems.append(Problem(place, code, message, fix))

    def compile(self) -> Policy:
        unmatched = next((file.unmatched for file in reversed(self.files) if file.unmatched), Action.REFUSE)
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
            hashlib.sha256(b"".join(file.digest for file in self.files)).hexdigest()[:16],
            unmatched,
            pushes,
            replies,
            self.fallback() if unmatched is Action.ENCRYPT else {},
            tuple(call for _, call in calls),
            {name: item for file in self.files for name, item in file.classes.items()},
            self.tests(),
            tuple(problem for problem in self.problems if problem.warning),
            tuple(file.file for file in self.files),
            tuple(rule for entry in (*self.common, *self.messages) for rule in entry.all_rules()),
        )
        self.check_oracle(policy)
        return policy

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
        if (rules.form, kind) in target:
            other = target[rules.form, kind].name
            self.problem(message.place, "message-overlap", f'"{message.name}" matches the same messages as "{other}"')
        target[rules.form, kind] = rules

    def call(self, message: WrittenMessage) -> Call | None:
        method, path = message.match.get("method", ""), message.match.get("path", "")
        template = _path_template(path)
        if method not in METHODS or template is None:
            fix = "write {method: POST, path: /a/{b}/c} with letters, digits, . _ ~ - and {names}"
            self.problem(message.place, "match-malformed", f'"{message.name}" does not say which call it is', fix)
            return None
        request, response = (self.rule_set(message, phase) for phase in Phase)
        self.check_path(message, template, request)
        errors = {status: self.rule_set(message, Phase.RESPONSE, own) for status, own in message.errors.items()}
        return Call(message.direction, method, template, request, response, errors)

    def check_overlap(self, calls: list[tuple[Place, Call]]) -> None:
        for (_, one), (place, two) in combinations(calls, 2):
            if one.direction is two.direction and one.method == two.method and one.path.overlaps(two.path):
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
        # The message's own word goes before what is common to all.
        kept += [
            rule
            for rule in inherited
            if rule.selector and tables[part_of(rule.selector.form)].add(rule.selector.pattern, rule) is None
        ]
        rules = RuleSet(name, direction, phase, form, tables, tuple(kept))
        self.check_parts(rules)
        self.check_binds(rules)
        self.check_reveals(rules)
        return rules

    def check_parts(self, rules: RuleSet) -> None:
        """Rules of parts that this phase of this direction does not have never apply, and nobody would be told."""
        has_head = rules.phase is Phase.REQUEST and rules.direction is not Direction.INBOUND
        for rule in rules.rules:
            part = rule.selector.form if rule.selector else ""
            if part not in ("", "xml", "json") and not has_head:
                message = f"there is no {part} in {rules.direction.value} {rules.phase.value}s"
                self.problem(rule.place, "part-missing", message, "remove the rule")
            if part == "path" and (rule.action is Action.DROP or rule.write or rule.on_error is OnError.DROP):
                self.problem(rule.place, "path-action", "a variable of a path cannot be dropped or become several")

    def check_path(self, message: WrittenMessage, template: PathTemplate, request: RuleSet) -> None:
        """Every variable has its rule: what stands in a path is a value like any other."""
        names = {name for name in template.names if name}
        for name in sorted(names):
            if request.tables["path"].find((name,)) is None:
                fix = f'add "path:{name}: allow", or what it is'
                text = f'the variable {{{name}}} of "{message.name}" has no rule'
                self.problem(message.place, "path-unmatched", text, fix)
        for rule in message.rules.get(Phase.REQUEST, []):
            if rule.selector and rule.selector.form == "path" and rule.selector.pattern[0] not in names:
                text = f'the path of "{message.name}" has no {{{rule.selector.pattern[0]}}}'
                self.problem(rule.place, "path-unknown", text)

    def check_binds(self, rules: RuleSet) -> None:
        names = {rule.datum for rule in rules.rules if rule.datum}
        # A datum that is bound itself anywhere could need itself to be opened.
        names -= {rule.datum for rule in rules.rules if rule.binds}
        for rule in rules.rules:
            for name in rule.binds:
                if name not in names:
                    message = f'"bind" names "{name}", which no unbound rule of this message has as its "as"'
                    self.problem(rule.place, "bind-unknown", message)

    def check_reveals(self, rules: RuleSet) -> None:
        for rule in rules.rules:
            if rule.write and (rules.direction, rules.phase) in REVEALING:
                # A mask beside a token is made of what the token says: towards anybody but the CRM that is to reveal.
                message = f'"write" is for what the CRM stores, not for {rules.direction.value} {rules.phase.value}s'
                self.problem(rule.place, "write-action", message)
            if rule.reveal is None:
                continue
            if (rules.direction, rules.phase) not in REVEALING:
                message = f"nothing is revealed in {rules.direction.value} {rules.phase.value}s"
                self.problem(rule.place, "reveal-direction", message, 'remove "reveal"')
            masks = Reveal.MASK in rule.reveal.values()
            if masks and (rule.data_class is None or rule.data_class.forms.mask is None):
                self.problem(rule.place, "mask-missing", 'a role gets a mask but the class has no "mask"')

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

    def check_oracle(self, policy: Policy) -> None:
        self.problems += oracles(policy, [policy])


def oracles(policy: Policy, written: Iterable[Policy]) -> list[Problem]:
    """What came from WeChat must never be opened on the way back there: the CRM could have it sent to itself.

    `written`: the policies by which it is sealed. A token does not know its policy, so all of a tenant's count.
    The one exception is the follower's id: deterministic, and only where the API takes an addressee.
    """
    data = {rule.datum for it in written for rules in _written_by_followers(it) for rule in rules.rules if rule.datum}
    data.add(UNCLASSIFIED.name)
    fix = 'give what the agent writes an "as" of its own'
    return [
        Problem(
            rule.place,
            "reveal-oracle",
            f'"{rule.datum}" is what a follower wrote; it cannot be revealed towards WeChat',
            fix,
        )
        for rule in _revealed_towards_wechat(policy)
        if rule.datum in data and not _names_addressee(rule)
    ]


def _kind(match: dict[str, str]) -> str:
    """`text`, `event.subscribe` and the like (see `wechat.push.message_type`); empty if `match` says none or two."""
    match {key: value.lower() for key, value in match.items()}:
        case {"type": "event", "event": event, **rest} if not rest:
            return f"event.{event}"
        case {"type": kind, **rest} | {"reply": kind, **rest} if not rest and kind != "event" and "." not in kind:
            return kind
    return ""


def _written_by_followers(policy: Policy) -> Iterable[RuleSet]:
    """Every rule set that reads what WeChat sent: pushes of known and unknown types, and its answers to API calls."""
    yield from policy.pushes.values()
    yield from policy.fallback.values()
    outbound = [call for call in policy.calls if call.direction is Direction.OUTBOUND]
    yield from (rules for call in outbound for rules in (call.response, *call.errors.values()))


def _revealed_towards_wechat(policy: Policy) -> Iterable[Rule]:
    outbound = [call.request for call in policy.calls if call.direction is Direction.OUTBOUND]
    for rules in (*outbound, *policy.replies.values()):
        yield from (rule for rule in rules.rules if rule.reveal is not None)


def _names_addressee(rule: Rule) -> bool:
    deterministic = rule.data_class is not None and rule.data_class.deterministic
    return deterministic and rule.selector is not None and rule.selector.pattern[-1] in ADDRESSEES


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
