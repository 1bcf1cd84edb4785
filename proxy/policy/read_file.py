"""One policy file, read into what its author wrote: shapes checked, meaning not yet. Pure."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field

from proxy.policy.plan import Treatment
from proxy.policy.read_fits import read_fits
from proxy.policy.read_forms import read_forms
from proxy.policy.rules import FORM_OF, Action, DataClass, Direction, OnError, Phase, PolicyTest, Reveal, Rule
from proxy.policy.selector import Selector, parse_selector
from proxy.policy.transform import Form
from proxy.source.problem import Place, Problem, nearest
from proxy.source.section import Section
from proxy.source.yaml_reader import Mapping, Node, Scalar, read_yaml

NAME = r"[A-Za-z][A-Za-z0-9_.-]{0,63}"
STATUS_CLASSES = ("3xx", "4xx", "5xx")
_DESCRIBED_BY = {
    Action.MASK: "mask",
    Action.REDACT: "text",
    Action.HASH: "normalise",
    Action.INDEX: "index",
    Action.FORMAT_PRESERVING: "alphabet",
}
_PLAIN_ACTIONS = (Action.ALLOW.value, Action.DROP.value, Action.REFUSE.value)
# Links and handles to content (protocol 2): whoever reads one can fetch what the follower sent.
HANDLES = frozenset({"PicUrl", "ThumbUrl", "MediaId", "ThumbMediaId", "MediaId16K", "FileKey"})


@dataclass(slots=True)
class WrittenMessage:
    """A `messages` entry, or a `common` one (then without name and match)."""

    place: Place
    name: str
    direction: Direction
    match: dict[str, str] = field(default_factory=dict)
    rules: dict[Phase, list[Rule]] = field(default_factory=dict)
    errors: dict[str, list[Rule]] = field(default_factory=dict)

    def all_rules(self) -> list[Rule]:
        return [rule for rules in (*self.rules.values(), *self.errors.values()) for rule in rules]


@dataclass(slots=True)
class WrittenFile:
    """A policy file as written. `digest`: SHA-256 of its bytes."""

    file: str
    digest: bytes
    unmatched: Action | None
    classes: dict[str, DataClass]
    common: list[WrittenMessage]
    messages: list[WrittenMessage]
    tests: list[PolicyTest]


class PolicyReader:
    """Reads files of one policy; `problems` and `classes` are shared by all of them."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.classes: dict[str, DataClass] = {}

    def read(self, data: bytes, file: str, bases: list[WrittenFile]) -> WrittenFile:
        """Raises Problems for a file that is no YAML; everything else is noted in `problems`."""
        for base in bases:
            self.classes |= base.classes
        top = Section(read_yaml(data, file), self.problems, "a policy")
        top.number("version", 1, least=1, most=1, required=True)
        top.texts("extends")  # `read_extends` took them; here their form is checked
        defaults = top.section("defaults")
        unmatched = None
        if defaults:
            unmatched = Action(defaults.choice("unmatched", ("refuse", "encrypt"), "refuse"))
            defaults.done()
        own = self.read_classes(top.take("classes"))
        self.classes |= own
        written = WrittenFile(
            file,
            hashlib.sha256(data).digest(),
            unmatched,
            own,
            [self.message(item, common=True) for item in top.sections("common")],
            [self.message(item, common=False) for item in top.sections("messages")],
            [self.test(item) for item in top.sections("tests")],
        )
        top.done()
        return written

    def read_classes(self, node: Node | None) -> dict[str, DataClass]:
        if node is None:
            return {}
        classes = {}
        for key, value in Section(node, self.problems, '"classes"').rest():
            classes[key.text] = self.data_class(key.text, Section(value, self.problems, f'class "{key.text}"'))
        return classes

    def data_class(self, name: str, section: Section) -> DataClass:
        action = Action(section.choice("action", [item.value for item in Action], "refuse", required=True))
        deterministic = section.flag("deterministic")
        forms = read_forms(section, action)
        group = section.text("group", "default", pattern=r"[a-z][a-z0-9-]{0,31}", hint="lower-case letters and digits")
        section.done()
        if deterministic and action is not Action.ENCRYPT:
            section.problem(section.place, "deterministic-action", '"deterministic" goes with "action: encrypt" only')
        if action is Action.MASK and forms.mask is None:
            section.problem(section.place, "mask-missing", f'class "{name}" masks but has no "mask"')
        elif action in FORM_OF and not forms.has(FORM_OF[action]):
            message = f'class "{name}" has no "{_DESCRIBED_BY[action]}" that says how'
            section.problem(section.place, "form-undescribed", message)
        return DataClass(name, action, deterministic, forms, group)

    def message(self, section: Section, *, common: bool) -> WrittenMessage:
        direction = Direction(section.choice("direction", [item.value for item in Direction], "inbound", required=True))
        name = "common" if common else section.text("name", pattern=NAME, required=True, hint="letters, digits, . _ -")
        written = WrittenMessage(section.place, name, direction)
        if not common:
            written.match = self.match(section.section("match", required=True), direction)
        for phase in Phase:
            node = section.take(phase.value)
            if node is not None:
                written.rules[phase] = self.rules(node)
        if direction is not Direction.INBOUND and not common and (errors := section.section("errors")) is not None:
            for status in STATUS_CLASSES:
                if (node := errors.take(status)) is not None:
                    written.errors[status] = self.rules(node)
            errors.done()
        section.done()
        return written

    def match(self, section: Section | None, direction: Direction) -> dict[str, str]:
        if section is None:
            return {}
        keys = ("type", "event", "reply") if direction is Direction.INBOUND else ("method", "path")
        match = {key: section.text(key) for key in keys}
        section.done()
        return {key: value for key, value in match.items() if value}

    def rules(self, node: Node) -> list[Rule]:
        return [self.rule(key, value) for key, value in Section(node, self.problems, "the rules").rest()]

    def rule(self, key: Scalar, value: Node) -> Rule:
        selector = self.selector(key)
        if isinstance(value, Scalar):  # `selector: allow`
            value = Mapping(value.place, ((Scalar(value.place, "action", "action"), value),))
        section = Section(value, self.problems, f'the rule for "{key.text}"')
        action, data_class = self.treatment(section)
        rule = Rule(
            selector,
            key.place,
            action,
            data_class,
            section.text("as", pattern=NAME, hint="letters, digits, . _ -"),
            section.texts("bind"),
            self.reveal(section.take("reveal")),
            self.write(section.take("write"), data_class),
            OnError(section.choice("on_error", [item.value for item in OnError], OnError.REFUSE.value)),
            read_fits(section),
        )
        because = section.text("because")
        section.done()
        self.check_rule(rule, key, because)
        return rule

    def treatment(self, section: Section) -> tuple[Action, DataClass | None]:
        action, class_node = section.choice("action", _PLAIN_ACTIONS), section.take("class")
        if class_node is None:
            if not action:
                fix = "write a class, or one of allow, drop, refuse"
                section.problem(section.place, "rule-empty", f"{section.what} says nothing", fix)
            return Action(action or "refuse"), None
        name = section.as_text(class_node, "class") or ""
        data_class = self.classes.get(name)
        if data_class is None:
            hint = nearest(name, list(self.classes))
            section.problem(class_node.place, "class-unknown", f'there is no class "{name}"', hint)
        if action:
            section.problem(section.place, "rule-ambiguous", f"{section.what} has both an action and a class")
        return (data_class.action if data_class else Action.REFUSE), data_class

    def reveal(self, node: Node | None) -> dict[str, Reveal] | None:
        if node is None:
            return None
        section = Section(node, self.problems, '"reveal"')
        roles = [key.text for key, _ in node.entries] if isinstance(node, Mapping) else []
        choices = [item.value for item in Reveal]
        return {role: Reveal(section.choice(role, choices, Reveal.KEEP.value)) for role in roles}

    def write(self, node: Node | None, data_class: DataClass | None) -> tuple[tuple[str, Form], ...]:
        if node is None:
            return ()
        section = Section(node, self.problems, '"write"')
        entries = node.entries if isinstance(node, Mapping) else ()
        written = []
        for key, _ in entries:
            form = Form(section.choice(key.text, [item.value for item in Form], Form.TOKEN.value))
            if not re.fullmatch(NAME.replace("A-Za-z]", "A-Za-z_]", 1), key.text, re.ASCII):
                section.problem(key.place, "wrong-value", f'"{key.text}" is no name of a field')
            if data_class is not None and not data_class.forms.has(form):
                message = f'class "{data_class.name}" does not say how its {form.value} is written'
                section.problem(key.place, "form-undescribed", message)
            written.append((key.text, form))
        return tuple(written)

    def check_rule(self, rule: Rule, key: Scalar, because: str) -> None:
        def problem(code: str, message: str, fix: str = "", *, warning: bool = False) -> None:
            self.problems.append(Problem(key.place, code, message, fix, warning))

        if rule.keyed and not rule.datum:
            problem("as-missing", f'the rule for "{key.text}" uses a key but does not say as what', 'add "as: NAME"')
        if rule.action is not Action.ENCRYPT and (rule.binds or rule.reveal is not None):
            problem("reveal-action", '"bind" and "reveal" go with a class that encrypts only')
        if rule.write and (rule.action is not Action.ENCRYPT or rule.reveal is not None):
            problem("write-action", '"write" goes with a class that encrypts, and not with "reveal"')
        if rule.selector and rule.write and not _has_siblings(rule.selector):
            fix = "name one field of a JSON object, one element or one parameter"
            problem("write-place", f'"{key.text}" is no place for several names', fix)
        if rule.on_error is not OnError.REFUSE and rule.action not in FORM_OF:
            problem("on-error-action", f'"on_error" has no meaning beside {rule.action.value}, which cannot fail')
        if rule.fits and (rule.action not in FORM_OF or rule.reveal is not None):
            problem("fits-action", '"fits" goes with a class that changes the value for the CRM, without "reveal"')
        if rule.selector is None or rule.action is not Action.ALLOW:
            return
        if rule.selector.has_wildcard:
            problem("allow-wildcard", f'"{key.text}" allows everything under *', "allow each field by its name")
        elif rule.selector.pattern[-1] in HANDLES and not because:
            message = f'"{rule.selector.pattern[-1]}" opens what the follower sent and is allowed in clear'
            problem("allow-handle", message, 'encrypt it, or add "because: REASON"', warning=True)

    def test(self, section: Section) -> PolicyTest:
        sample = section.text("sample", required=True)
        direction = Direction(section.choice("direction", [item.value for item in Direction], "inbound"))
        phase = Phase(section.choice("phase", [item.value for item in Phase], "request"))
        method, path, role = section.text("method"), section.text("path"), section.text("role")
        query, protect = section.text("query"), section.flag("protect")
        headers = self.headers(section.section("headers"))
        expect_node = section.take("expect", required=True)
        expect: dict[str, str] = {}
        if expect_node is not None:
            inner = Section(expect_node, self.problems, '"expect"')
            expect = {key.text: self.expectation(key, value) for key, value in inner.rest()}
        status = section.number("status", 200, least=200, most=599)
        section.done()
        return PolicyTest(
            section.place, sample, direction, phase, expect, method, path, role, query, headers, protect, status
        )

    def headers(self, section: Section | None) -> tuple[tuple[str, str], ...]:
        """Header fields of a test's request; only such as can have rules."""
        found = []
        for key, value in section.rest() if section else ():
            self.selector(Scalar(key.place, f"header:{key.text}", f"header:{key.text}"))
            found.append((key.text, value.text if isinstance(value, Scalar) else ""))
            if not isinstance(value, Scalar):
                self.problems.append(Problem(value.place, "wrong-type", f'"{key.text}" must be a text'))
        return tuple(found)

    def expectation(self, key: Scalar, value: Node) -> str:
        self.selector(key)
        word = value.text if isinstance(value, Scalar) else ""
        words = [item.value for item in Treatment]
        if word not in words:
            message = f'"{key.text}" cannot be expected to be "{word}"'
            self.problems.append(Problem(value.place, "wrong-value", message, nearest(word, words)))
        return word

    def selector(self, key: Scalar) -> Selector | None:
        try:
            return parse_selector(key.text)
        except ValueError as error:
            self.problems.append(Problem(key.place, "selector-malformed", str(error)))
            return None


def _has_siblings(selector: Selector) -> bool:
    """Whether other names can stand beside what `selector` points at."""
    return selector.form != "header" and isinstance(selector.pattern[-1], str)


def read_extends(data: bytes, file: str) -> list[tuple[Place, str]]:
    """The names under `extends`, with their places. Raises Problems if the file is no YAML; ignores other faults."""
    node = read_yaml(data, file)
    if not isinstance(node, Mapping):
        return []
    names = Section(node, [], "a policy").nodes("extends")
    return [(item.place, item.text) for item in names if isinstance(item, Scalar)]
