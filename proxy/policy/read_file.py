"""One policy file, read into what its author wrote: shapes checked, meaning not yet. Pure."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field

from proxy.document.parts import Finder
from proxy.policy.compiled import PolicyTest
from proxy.policy.conditions import ALWAYS, OF_CALLS, OF_OWNERS, OF_PUSHES, SHAPES, Conditions
from proxy.policy.patterns import BUILT_IN, MAX_PATTERNS, compile_pattern
from proxy.policy.patterns import NAME as PATTERN_NAME
from proxy.policy.read_forms import read_forms
from proxy.policy.read_rules import NAME, RuleReader
from proxy.policy.read_tests import read_test
from proxy.policy.rules import FORM_OF, Action, DataClass, Direction, Phase, Rule
from proxy.source.problem import Place, Problem, nearest
from proxy.source.section import Section
from proxy.source.yaml_reader import Mapping, Node, Scalar, Sequence, read_yaml

STATUS_CLASSES = ("3xx", "4xx", "5xx")
_DESCRIBED_BY = {
    Action.MASK: "mask",
    Action.REDACT: "text",
    Action.HASH: "normalise",
    Action.INDEX: "index",
    Action.FORMAT_PRESERVING: "alphabet",
}


@dataclass(slots=True)
class WrittenMessage:
    """A `messages` entry, or a `common` one (then without name and match)."""

    place: Place
    name: str
    direction: Direction
    match: dict[str, str] = field(default_factory=dict)
    when: Conditions = ALWAYS
    rules: dict[Phase, list[Rule]] = field(default_factory=dict)
    errors: dict[str, list[Rule]] = field(default_factory=dict)

    def all_rules(self) -> list[Rule]:
        return [rule for rules in (*self.rules.values(), *self.errors.values()) for rule in rules]


@dataclass(slots=True)
class WrittenVariant:
    """A `variants` entry: what is said otherwise for some owners."""

    place: Place
    when: Conditions
    unmatched: Action | None
    classes: dict[str, DataClass]


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
    variants: list[WrittenVariant]


class PolicyReader:
    """Reads files of one policy; `problems`, `classes` and `patterns` are shared by all of them."""

    def __init__(self, overrides: dict[str, DataClass]) -> None:
        """`overrides`: classes that go before those of the files: of a variant."""
        self.problems: list[Problem] = []
        self.classes: dict[str, DataClass] = {}
        self.patterns: dict[str, Finder] = dict(BUILT_IN)
        self.rules = RuleReader(self.problems, self.classes)
        self._overrides = overrides

    def read(self, data: bytes, file: str, bases: list[WrittenFile]) -> WrittenFile:
        """Raises Problems for a file that is no YAML; everything else is noted in `problems`."""
        for base in bases:
            self.classes |= base.classes
        top = Section(read_yaml(data, file), self.problems, "a policy")
        top.number("version", 1, least=1, most=1, required=True)
        top.texts("extends")  # `read_extends` took them; here their form is checked
        unmatched = _unmatched(top)
        own = self.read_classes(top.take("classes"))
        self.classes |= own | self._overrides
        self.read_patterns(top.take("patterns"))
        written = WrittenFile(
            file,
            hashlib.sha256(data).digest(),
            unmatched,
            own,
            [self.message(item, common=True) for item in top.sections("common")],
            [self.message(item, common=False) for item in top.sections("messages")],
            [read_test(item) for item in top.sections("tests")],
            [self.variant(item) for item in top.sections("variants")],
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

    def read_patterns(self, node: Node | None) -> None:
        if node is None:
            return
        section = Section(node, self.problems, '"patterns"')
        for key, value in section.rest():
            text = section.as_text(value, key.text)
            try:
                if not re.fullmatch(PATTERN_NAME, key.text, re.ASCII) or key.text in BUILT_IN:
                    raise ValueError(f'"{key.text}" is no name for one; write lower-case letters, digits, _ -')
                if len(self.patterns) >= MAX_PATTERNS:
                    raise ValueError(f"there are more than {MAX_PATTERNS}")
                if text is not None:
                    self.patterns[key.text] = compile_pattern(key.text, text)
            except ValueError as error:
                section.problem(key.place, "pattern-malformed", f'pattern "{key.text}": {error}')

    def variant(self, section: Section) -> WrittenVariant:
        when = section.section("when", required=True)
        conditions = self.conditions(when, OF_OWNERS) if when else ALWAYS
        if when:
            when.done()
        unmatched, classes = _unmatched(section), self.read_classes(section.take("classes"))
        section.done()
        if not conditions:
            section.problem(section.place, "variant-always", 'a variant says "when": {tenant: ...} or {region: ...}')
        for name, item in classes.items():
            if name not in self.classes:
                message = f'there is no class "{name}" to say otherwise of'
                section.problem(section.place, "class-unknown", message, nearest(name, list(self.classes)))
            elif item.group != self.classes[name].group:
                message = f'"{name}" stays in its group of keys, "{self.classes[name].group}"'
                section.problem(section.place, "variant-group", message, "write the same group")
        return WrittenVariant(section.place, conditions, unmatched, classes)

    def conditions(self, section: Section, names: tuple[str, ...]) -> Conditions:
        """What `section` asks of the situation: each name with a text or a list of texts."""
        found = []
        for name in names:
            if (node := section.take(name)) is None:
                continue
            items = node.items if isinstance(node, Sequence) else (node,)
            values = [section.as_text(item, name) for item in items]
            if not values or any(value is not None and not re.fullmatch(SHAPES[name], value) for value in values):
                section.problem(node.place, "wrong-value", f'"{name}" is not of its form')
            found.append((name, frozenset(value for value in values if value is not None)))
        return Conditions(tuple(found))

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
            written.match, written.when = self.match(section.section("match", required=True), direction)
        for phase in Phase:
            node = section.take(phase.value)
            if node is not None:
                written.rules[phase] = self.rules.read(node)
        if direction is not Direction.INBOUND and not common and (errors := section.section("errors")) is not None:
            for status in STATUS_CLASSES:
                if (node := errors.take(status)) is not None:
                    written.errors[status] = self.rules.read(node)
            errors.done()
        section.done()
        return written

    def match(self, section: Section | None, direction: Direction) -> tuple[dict[str, str], Conditions]:
        if section is None:
            return {}, ALWAYS
        inbound = direction is Direction.INBOUND
        keys = ("type", "event", "reply") if inbound else ("method", "path")
        match = {key: section.text(key) for key in keys}
        when = self.conditions(section, OF_PUSHES if inbound else OF_CALLS)
        section.done()
        return {key: value for key, value in match.items() if value}, when


def _unmatched(section: Section) -> Action | None:
    defaults = section.section("defaults")
    if defaults is None:
        return None
    unmatched = Action(defaults.choice("unmatched", ("refuse", "encrypt"), "refuse"))
    defaults.done()
    return unmatched


def read_extends(data: bytes, file: str) -> list[tuple[Place, str]]:
    """The names under `extends`, with their places. Raises Problems if the file is no YAML; ignores other faults."""
    node = read_yaml(data, file)
    if not isinstance(node, Mapping):
        return []
    names = Section(node, [], "a policy").nodes("extends")
    return [(item.place, item.text) for item in names if isinstance(item, Scalar)]
