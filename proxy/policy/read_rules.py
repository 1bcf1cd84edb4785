"""Rules as their author wrote them: what is wrong with one that can be seen without its neighbours. Pure."""

from __future__ import annotations

import re

from proxy.document.parts import REST
from proxy.document.tree import Into
from proxy.policy.read_fits import read_fits
from proxy.policy.rules import FORM_OF, Action, DataClass, OnError, Reveal, Rule
from proxy.policy.selector import Selector, parse_selector
from proxy.policy.transform import Form
from proxy.source.problem import Problem, nearest
from proxy.source.section import Section
from proxy.source.yaml_reader import Mapping, Node, Scalar

NAME = r"[A-Za-z][A-Za-z0-9_.-]{0,63}"
_PLAIN_ACTIONS = (Action.ALLOW.value, Action.DROP.value, Action.REFUSE.value)
_OF_REST = (Action.ALLOW, Action.REFUSE)
# Links and handles to content (protocol 2): whoever reads one can fetch what the follower sent.
HANDLES = frozenset({"PicUrl", "ThumbUrl", "MediaId", "ThumbMediaId", "MediaId16K", "FileKey"})


class RuleReader:
    """Reads the rules of one policy; `problems` and `classes` are those of all its files."""

    def __init__(self, problems: list[Problem], classes: dict[str, DataClass]) -> None:
        self.problems, self.classes = problems, classes

    def read(self, node: Node) -> list[Rule]:
        """The rules under `request`, `response` or a class of errors."""
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
            if form is Form.TOKEN_PREVIOUS and data_class is not None and not data_class.deterministic:
                message = f'class "{data_class.name}" is not deterministic: its tokens are made with no lookup key'
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
        if rule.fits and rule.selector and rule.selector.inside:
            problem("fits-action", '"fits" is for a whole field of the CRM, not for what stands inside a text')
        if rule.fits and (rule.action not in FORM_OF or rule.reveal is not None):
            problem("fits-action", '"fits" goes with a class that changes the value for the CRM, without "reveal"')
        if rule.selector and rule.selector.inside is Into.WITHIN:
            drops = rule.action is Action.DROP or rule.on_error is OnError.DROP
            if rule.selector.pattern[-1] == REST and rule.action not in _OF_REST:
                fix = "protect the parts, or the whole field"
                problem("rest-action", f'"{key.text}" can be allowed or refused only', fix)
            elif drops:
                message = f'"{key.text}" cannot be dropped: what stands beside it would run together'
                problem("part-action", message, "redact it")
        if rule.selector is None or rule.action is not Action.ALLOW:
            return
        if rule.selector.has_wildcard:
            problem("allow-wildcard", f'"{key.text}" allows everything under *', "allow each field by its name")
        elif rule.selector.pattern[-1] in HANDLES and not because:
            message = f'"{rule.selector.pattern[-1]}" opens what the follower sent and is allowed in clear'
            problem("allow-handle", message, 'encrypt it, or add "because: REASON"', warning=True)
        elif rule.selector.inside and not because:
            message = f'"{key.text}" is as the writer of the text likes, and is allowed in clear'
            problem("allow-inside", message, 'protect it, or add "because: REASON"', warning=True)

    def selector(self, key: Scalar) -> Selector | None:
        return read_selector(key, self.problems)


def read_selector(key: Scalar, problems: list[Problem]) -> Selector | None:
    """The selector `key` spells; None, and a problem, if it is none."""
    try:
        return parse_selector(key.text)
    except ValueError as error:
        problems.append(Problem(key.place, "selector-malformed", str(error)))
        return None


def _has_siblings(selector: Selector) -> bool:
    """Whether other names can stand beside what `selector` points at."""
    return selector.innermost not in ("header", "multipart", "base64", "within") and isinstance(
        selector.pattern[-1], str
    )
