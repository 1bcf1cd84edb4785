"""The plan: what happens to every leaf of one message, decided before anything is touched. Pure.

A plan names the keys it needs, so that the conductor can fetch exactly those, and it is what `explain` prints.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator, Mapping
from dataclasses import field, replace

from proxy.crypto import field_token
from proxy.crypto.data_key import Purpose
from proxy.crypto.field_token import Parsed, TokenError
from proxy.document.multipart import boundary_in, boundary_of, read_multipart
from proxy.document.query import read_form, read_query
from proxy.document.tree import MAX_LEAVES, Document, Kind, Leaf
from proxy.policy.compiled import Policy
from proxy.policy.insight import Insight
from proxy.policy.rules import UNCLASSIFIED, Action, Reveal, Rule, RuleSet
from proxy.policy.selector import part_of
from proxy.record import record
from proxy.refusal import Refusal
from proxy.source.problem import Place


class Treatment(enum.Enum):
    """What becomes of a leaf. Each value is also the word that explain and metrics use."""

    __hash__ = object.__hash__  # see crypto.data_key.Purpose

    def __init__(self, word: str) -> None:
        self.word = word  # like `value`, which an Enum computes in Python each time

    ALLOWED = "allowed"
    DROPPED = "dropped"
    MASKED = "masked"
    REDACTED = "redacted"
    HASHED = "hashed"
    INDEXED = "indexed"
    FORMAT_PRESERVED = "format preserved"
    ENCRYPTED = "encrypted"
    REVEALED = "revealed"
    REVEALED_MASKED = "revealed masked"
    LOOKED_INTO = "looked into"
    REFUSED = "refused"


_BY_ACTION = {
    Action.DROP: Treatment.DROPPED,
    Action.MASK: Treatment.MASKED,
    Action.REDACT: Treatment.REDACTED,
    Action.HASH: Treatment.HASHED,
    Action.INDEX: Treatment.INDEXED,
    Action.FORMAT_PRESERVING: Treatment.FORMAT_PRESERVED,
    Action.ENCRYPT: Treatment.ENCRYPTED,
}


_SEALING = frozenset({Treatment.ENCRYPTED, Treatment.HASHED, Treatment.INDEXED, Treatment.FORMAT_PRESERVED})


@record
class Step:
    """One leaf and its treatment. `token`: the value taken apart, where a token may stand and one does.
    `code`: of the refusal, for a leaf that is refused."""

    leaf: Leaf
    treatment: Treatment
    rule: Rule
    token: Parsed | None = None
    code: str = ""

    @property
    def classified(self) -> bool:
        return self.rule.data_class is not UNCLASSIFIED


@record
class Needs:
    """`groups`: class group and purpose of every key something will be sealed with. `ids`: of every token that will be
    opened. `replaced`: class group of every lookup key whose old values will be written beside the new ones."""

    groups: set[tuple[str, Purpose]]
    ids: set[bytes]
    replaced: set[str]


@record
class Plan:
    """Steps for the leaves of all parts of a message, in the order of documents and leaves: one each.

    `inside`: of the documents that stand inside a text, the index of that text's step, by their own index. They come
    after the document they stand in and have its form.
    """

    policy: str
    revision: str
    rules: RuleSet
    documents: tuple[Document, ...]
    steps: tuple[Step, ...]
    inside: Mapping[int, int] = field(default_factory=dict)

    @property
    def body(self) -> Document | None:
        first = self.documents[0] if self.documents else None  # the body comes first
        return first if first is not None and part_of(first.form) == "body" else None

    def steps_by_document(self) -> Iterator[tuple[Document, tuple[Step, ...]]]:
        """Each document with the steps of its leaves."""
        start = 0
        for document in self.documents:
            end = start + len(document.leaves)
            yield document, self.steps[start:end]
            start = end

    @property
    def body_steps(self) -> tuple[Step, ...]:
        return self.steps[: len(self.body.leaves)] if self.body else ()

    def complete(self) -> bool:
        """Whether every leaf has its step."""
        return len(self.steps) == sum([len(document.leaves) for document in self.documents])

    def needs(self) -> Needs:
        """The keys that carrying it out takes."""
        needs = Needs(set(), set(), set())
        for step in self.steps:
            if step.token is not None:
                needs.ids.add(step.token.key_id)
            if step.treatment in _SEALING:
                needs.groups.update(step.rule.keys)
                needs.replaced.update(step.rule.replaced)
        return needs


def make_plan(
    policy: Policy, rules: RuleSet, body: Document | None, query: str, role: str, head: tuple[Document, ...] = ()
) -> Plan:
    """Decides every leaf of `body`, every parameter of `query` and every leaf of `head` (path variables, declared
    header fields) for a caller of `role`.

    Raises Refusal: `document_type` (the body is of another form than the rules), `field_unknown`, `field_refused`,
    `role_forbidden`, `clear_value_refused`, `document_malformed` (the query).
    """
    plan = draft_plan(policy, rules, body, query, role, head)
    for step in plan.steps:
        if step.code:
            raise Refusal(step.code)
    return plan


def read_call(rules: RuleSet, body: bytes, content_type: str | None, read: Callable[[bytes], Document]) -> Document:
    """The body of an API call as the policy says: it knows what the call takes, its sender's word counts nothing.

    `content_type`: for the boundary of a multipart body; None for a sample, whose body says it as well. `read`: for
    XML and JSON. Raises Refusal.
    """
    if rules.form == "form":
        return read_form(body)
    if rules.form == "multipart":
        return read_multipart(body, boundary_of(body) if content_type is None else boundary_in(content_type))
    return read(body)


def draft_plan(
    policy: Policy, rules: RuleSet, body: Document | None, query: str, role: str, head: tuple[Document, ...] = ()
) -> Plan:
    """Like `make_plan`, but a refused leaf is a step that says so: what explain shows."""
    if body is not None and body.form != rules.form:
        raise Refusal("document_type")
    if query:
        head = (read_query(query), *head)
    documents = head if body is None else (body, *head)
    steps: list[Step] = []
    if not rules.openings:
        for document in documents:
            steps += _steps(policy, rules, document, role)
        return Plan(policy.name, policy.revision, rules, documents, tuple(steps))
    return _Planner(policy, rules, role).plan(documents)


def _steps(policy: Policy, rules: RuleSet, document: Document, role: str) -> list[Step]:
    if not document.leaves:
        return []
    part = part_of(document.form)
    unmatched, table = _unmatched(policy, part), rules.tables[part]
    exact, allow = table.exact.get, Action.ALLOW
    return [
        Step(leaf, Treatment.ALLOWED, rule)  # at once: most are, and none by a pattern with `*`
        if (rule := exact(leaf.path)) is not None and rule.action is allow
        else _step(rules, leaf, rule or table.find(leaf.path), role, unmatched)
        for leaf in document.leaves
    ]


def _unmatched(policy: Policy, part: str) -> Action:
    """Only of a body may something be unknown and encrypted: an upstream acts on parameters it is given."""
    return policy.unmatched if part == "body" else Action.REFUSE


_NOWHERE = Place("", 0, 0)
_UNCLASSIFIED_RULE = Rule(None, _NOWHERE, Action.ENCRYPT, UNCLASSIFIED, UNCLASSIFIED.name)


def _step(rules: RuleSet, leaf: Leaf, rule: Rule | None, role: str, unmatched: Action) -> Step:
    if rule is None:
        if unmatched is Action.ENCRYPT:
            return Step(leaf, Treatment.ENCRYPTED, _UNCLASSIFIED_RULE)
        return Step(leaf, Treatment.REFUSED, _UNCLASSIFIED_RULE, code="field_unknown")
    if rule.action is Action.REFUSE:
        return Step(leaf, Treatment.REFUSED, rule, code="field_refused")
    if rule.action is not Action.ENCRYPT:
        return Step(leaf, _BY_ACTION[rule.action], rule)
    token = None if rules.from_wechat else _token(leaf.text)
    if rule.reveal is None:
        return Step(leaf, Treatment.ENCRYPTED, rule, token)
    return _reveal_step(leaf, rule, token, role)


def _reveal_step(leaf: Leaf, rule: Rule, token: Parsed | None, role: str) -> Step:
    reveal = rule.reveal_for(role)
    if reveal is None:
        return Step(leaf, Treatment.REFUSED, rule, code="role_forbidden")
    if reveal is Reveal.KEEP:  # must still be a token: a clear value is protected like one that is written
        return Step(leaf, Treatment.ENCRYPTED, rule, token)
    if token is None and _says_nothing(leaf):
        return Step(leaf, Treatment.ALLOWED, rule)
    if token is None:
        return Step(leaf, Treatment.REFUSED, rule, code="clear_value_refused")
    return Step(leaf, Treatment.REVEALED if reveal is Reveal.PLAIN else Treatment.REVEALED_MASKED, rule, token)


def _says_nothing(leaf: Leaf) -> bool:
    """null and the empty text: a field nobody filled in, and nothing that could be hidden."""
    return (leaf.kind is Kind.LITERAL and leaf.text == "null") or (leaf.kind is Kind.STRING and not leaf.text)


def _token(text: str) -> Parsed | None:
    try:
        return field_token.parse(text)
    except TokenError:
        return None


class _Planner:
    """Plans a message whose rules look into texts."""

    def __init__(self, policy: Policy, rules: RuleSet, role: str) -> None:
        self.policy, self.rules, self.role = policy, rules, role
        self.insight = Insight(rules)
        self.documents: list[Document] = []
        self.steps: list[Step] = []
        self.inside: dict[int, int] = {}

    def plan(self, documents: tuple[Document, ...]) -> Plan:
        self.documents += documents
        for document in self.documents:  # grows meanwhile
            self.add(document)
        policy = self.policy
        return Plan(
            policy.name, policy.revision, self.rules, tuple(self.documents), tuple(self.steps), dict(self.inside)
        )

    def add(self, document: Document) -> None:
        part = part_of(document.form)
        for step in _steps(self.policy, self.rules, document, self.role):
            inner = self.insight.of(step.leaf, part)
            if inner is not None:
                self.inside[len(self.documents)] = len(self.steps)
                self.documents.append(replace(inner, form=document.form))
                if sum(len(each.leaves) for each in self.documents) > MAX_LEAVES:
                    raise Refusal("document_too_large")
            self.steps.append(step if inner is None else Step(step.leaf, Treatment.LOOKED_INTO, _LOOKED_INTO_RULE))


_LOOKED_INTO_RULE = Rule(None, _NOWHERE, Action.REFUSE)
