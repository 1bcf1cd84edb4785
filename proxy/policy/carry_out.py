"""Carries a plan out: keys and nonces in, the final bytes out. Pure.

A token from the CRM counts as one only if it opens for the right tenant, datum and bound values; where a rule protects,
anything else is clear text and is encrypted; where a rule reveals, anything else is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from proxy.crypto import field_token, format_preserving
from proxy.crypto.blind_index import blind_index, keyed_hash
from proxy.crypto.data_key import DataKey, Purpose
from proxy.crypto.field_token import Scope, TokenError
from proxy.crypto.xaes import NONCE_SIZE
from proxy.document.tree import DROP, Document, Kind, Path, Value, render
from proxy.policy.plan import Plan, Step, Treatment
from proxy.policy.rules import FORM_OF, DataClass, OnError
from proxy.policy.transform import Form, Forms
from proxy.refusal import Refusal

_KIND_LETTER = {Kind.STRING: "s", Kind.NUMBER: "n", Kind.LITERAL: "l"}
REDACTED = "[redacted]"
_LETTER_KIND = {letter: kind for kind, letter in _KIND_LETTER.items()}


@dataclass(frozen=True, slots=True)
class Keyset:
    """The keys a plan asked for. `opening` may lack ids nobody has."""

    sealing: Mapping[tuple[str, Purpose], DataKey]
    opening: Mapping[bytes, DataKey]


@dataclass(frozen=True, slots=True)
class Carried:
    """A message after its plan was carried out: what may leave, and how much was done to it.

    `values`: what each of the plan's leaves leaves as, None if it was dropped.
    """

    plan: Plan
    form: str
    body: bytes = field(repr=False)
    query: str = field(repr=False)
    counts: Mapping[str, int]
    done: int
    values: tuple[str | None, ...] = field(repr=False)

    def complete(self) -> bool:
        """Whether every leaf of the message was decided and every decision carried out."""
        return self.plan.complete() and self.done == len(self.plan.steps)

    def final(self, *path: str | int) -> str | None:
        """The text of the one body leaf at `path` as it leaves; None if there is none, or several: which of them a
        reader takes is anybody's guess."""
        pairs = zip(self.plan.body_steps, self.values, strict=False)  # the query's values follow the body's
        found = [value for step, value in pairs if step.leaf.path == path]
        return found[0] if len(found) == 1 else None


class _Bench:
    """Everything one carrying-out works with."""

    def __init__(self, plan: Plan, keys: Keyset, tenant: str, region: str, entropy: Callable[[int], bytes]) -> None:
        self.plan, self.keys, self.tenant, self.region, self.entropy = plan, keys, tenant, region, entropy
        self.counts: dict[str, int] = {}
        self.done = 0
        self.binds: dict[str, str] = {}
        self.taken: set[Path] = set()

    @cached_property
    def paths(self) -> frozenset[Path]:
        return frozenset(leaf.path for leaf in self.plan.body_leaves)

    def scope(self, step: Step) -> Scope:
        rule = step.rule
        binds = tuple(self.bind(name) for name in rule.binds) if rule.binds else ()
        return Scope(self.tenant, self.region, rule.datum, binds)

    def bind(self, name: str) -> str:
        """The clear value of the datum `name` in this message; exactly one must be there."""
        if name not in self.binds:
            values = {self.clear(step) for step in self.plan.steps if step.rule.datum == name}
            if len(values) != 1:
                raise Refusal("bind_missing")
            self.binds[name] = values.pop()
        return self.binds[name]

    def clear(self, step: Step) -> str:
        opened = self.opened(step)
        return step.leaf.text if opened is None else opened.text

    def opened(self, step: Step) -> Value | None:
        """What the step's token says; None if it has none or it does not open."""
        token = step.token
        if token is None or (key := self.keys.opening.get(token.key_id)) is None:
            return None
        if (token.prefix == field_token.DETERMINISTIC) != (key.purpose is Purpose.LOOKUP):
            return None
        try:
            letter, text = field_token.open_token(key, token, self.scope(step))
        except TokenError:
            return None
        return Value(text, _LETTER_KIND[letter])

    def carry(self, step: Step) -> Value | None:
        """What the leaf becomes; None if it stays as it is."""
        treatment = step.treatment
        value = None if treatment is Treatment.ALLOWED else self.carried(step)
        self.count(treatment.value)
        self.done += 1
        return value

    def carried(self, step: Step) -> Value | None:
        try:
            return _DO[step.treatment](self, step)
        except Refusal as refusal:
            if refusal.code != "value_refused" or step.rule.on_error is OnError.REFUSE:
                raise
            self.count(f"could not be {step.treatment.value}")
            return DROP if step.rule.on_error is OnError.DROP else Value(REDACTED)

    def count(self, word: str) -> None:
        self.counts[word] = self.counts.get(word, 0) + 1

    def drop(self, _step: Step) -> Value:
        return DROP

    def convert(self, step: Step) -> Value:
        """One of the forms that cannot be turned back, in the value's own place."""
        return Value(self.written(step, FORM_OF[step.rule.action], step.leaf.text))

    def encrypt(self, step: Step) -> Value | None:
        opened = None
        if step.token is not None:
            opened = self.opened(step)
            self.count("token look-alike" if opened is None else "already protected")
        if not step.classified:
            self.count("unclassified")
        if step.rule.write:
            return self.companions(step, step.leaf.text if opened is None else opened.text)
        return Value(self.token(step, step.leaf.text)) if opened is None else None

    def companions(self, step: Step, text: str) -> Value:
        """Several members in the place of one, each a form of the same value."""
        path = step.leaf.path
        for name, _ in step.rule.write:
            place = (*path[:-1], name)
            if not isinstance(path[-1], str) or place in self.taken or (place in self.paths and place != path):
                raise Refusal("value_refused")  # two members of one name: which one a reader takes is anybody's guess
            self.taken.add(place)
        members = tuple((name, self.written(step, form, text)) for name, form in step.rule.write)
        return Value("", Kind.STRING, members)

    def written(self, step: Step, form: Form, text: str) -> str:
        """`text` in one of the forms its class knows. Refusal `value_refused` if it cannot be written so."""
        try:
            return _WRITE[form](self, step, text)
        except ValueError:
            raise Refusal("value_refused") from None

    def token(self, step: Step, text: str) -> str:
        data_class, key = self.key(step, Form.TOKEN)
        leaf = step.leaf
        # An empty object or array has no value to hide but may not stay: a constant stands for it.
        kind, text = ("l", "null") if leaf.kind is Kind.EMPTY else (_KIND_LETTER[leaf.kind], text)
        try:
            if data_class.deterministic:
                return field_token.seal_equal(key, text, self.scope(step))
            return field_token.seal(key, kind, text, self.scope(step), self.entropy(NONCE_SIZE))
        except ValueError:
            raise Refusal("value_refused") from None

    def key(self, step: Step, form: Form) -> tuple[DataClass, DataKey]:
        data_class = step.rule.data_class
        purpose = data_class.purpose(form) if data_class else None
        if data_class is None or purpose is None:
            raise Refusal("internal")
        key = self.keys.sealing.get((data_class.group, purpose))
        if key is None:
            raise Refusal("key_unavailable")
        return data_class, key

    def forms(self, step: Step) -> Forms:
        return step.rule.data_class.forms if step.rule.data_class else Forms()

    def mask(self, step: Step, text: str) -> str:
        mask = self.forms(step).mask
        if mask is None:
            raise Refusal("value_refused")
        return mask.apply(text)

    def redaction(self, step: Step, _text: str) -> str:
        text = self.forms(step).redaction
        return REDACTED if text is None else text

    def index(self, step: Step, text: str) -> str:
        form = self.forms(step).index
        if form is None:
            raise Refusal("value_refused")
        _, key = self.key(step, Form.INDEX)
        return blind_index(key, form.normaliser.apply(text), self.scope(step), form.bits, form.spelling)

    def hash(self, step: Step, text: str) -> str:
        normaliser = self.forms(step).hash_of
        if normaliser is None:
            raise Refusal("value_refused")
        _, key = self.key(step, Form.HASH)
        return keyed_hash(key, normaliser.apply(text), self.scope(step))

    def format_preserving(self, step: Step, text: str) -> str:
        alphabet = self.forms(step).alphabet
        if alphabet is None:
            raise Refusal("value_refused")
        _, key = self.key(step, Form.FORMAT_PRESERVING)
        return format_preserving.encrypt(key, text, self.scope(step), alphabet)

    def reveal(self, step: Step) -> Value:
        value = self.opened(step)
        if value is None:
            raise Refusal("token_refused")
        return value

    def reveal_masked(self, step: Step) -> Value:
        return Value(self.mask(step, self.reveal(step).text))


_DO: Mapping[Treatment, Callable[[_Bench, Step], Value | None]] = {
    Treatment.DROPPED: _Bench.drop,
    Treatment.MASKED: _Bench.convert,
    Treatment.REDACTED: _Bench.convert,
    Treatment.HASHED: _Bench.convert,
    Treatment.INDEXED: _Bench.convert,
    Treatment.FORMAT_PRESERVED: _Bench.convert,
    Treatment.ENCRYPTED: _Bench.encrypt,
    Treatment.REVEALED: _Bench.reveal,
    Treatment.REVEALED_MASKED: _Bench.reveal_masked,
}
_WRITE: Mapping[Form, Callable[[_Bench, Step, str], str]] = {
    Form.TOKEN: _Bench.token,
    Form.MASK: _Bench.mask,
    Form.REDACTION: _Bench.redaction,
    Form.INDEX: _Bench.index,
    Form.HASH: _Bench.hash,
    Form.FORMAT_PRESERVING: _Bench.format_preserving,
}


def carry_out(plan: Plan, keys: Keyset, tenant: str, region: str, entropy: Callable[[int], bytes]) -> Carried:
    """Does to every leaf what `plan` says. `entropy` gives fresh nonces.

    Raises Refusal: `token_refused`, `bind_missing`, `value_refused`, `key_unavailable`.
    """
    bench = _Bench(plan, keys, tenant, region, entropy)
    body, body_values = _document(bench, plan.body, plan.body_steps)
    query, query_values = _document(bench, plan.query, plan.query_steps)
    form = plan.body.form if plan.body else ""
    return Carried(plan, form, body, query.decode(), bench.counts, bench.done, body_values + query_values)


def _document(
    bench: _Bench, document: Document | None, steps: tuple[Step, ...]
) -> tuple[bytes, tuple[str | None, ...]]:
    if document is None:
        return b"", ()
    if not steps:
        return document.source.encode(), ()
    changes: dict[int, Value] = {}
    values: list[str | None] = []
    for index, step in enumerate(steps):
        value = bench.carry(step)
        if value is not None:
            changes[index] = value
        values.append(_shown(step, value))
    return render(document, changes), tuple(values)


def _shown(step: Step, value: Value | None) -> str | None:
    """The text a leaf leaves as; several members are told as `name: text`."""
    if value is None:
        return step.leaf.text
    if value.members:
        return ", ".join(f"{name}: {text}" for name, text in value.members)
    return None if value is DROP else value.text
