"""Carries a plan out: keys and nonces in, the final bytes out. Pure.

A token from the CRM counts as one only if it opens for the right tenant, datum and bound values; where a rule protects,
anything else is clear text and is encrypted; where a rule reveals, anything else is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from proxy.crypto import field_token
from proxy.crypto.data_key import DataKey, Purpose
from proxy.crypto.field_token import Scope, TokenError
from proxy.crypto.xaes import NONCE_SIZE
from proxy.document.tree import DROP, Document, Kind, Value, render
from proxy.policy.plan import Plan, Step, Treatment
from proxy.refusal import Refusal

_KIND_LETTER = {Kind.STRING: "s", Kind.NUMBER: "n", Kind.LITERAL: "l"}
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
        value = None if treatment is Treatment.ALLOWED else _DO[treatment](self, step)
        self.count(treatment.value)
        self.done += 1
        return value

    def count(self, word: str) -> None:
        self.counts[word] = self.counts.get(word, 0) + 1

    def drop(self, _step: Step) -> Value:
        return DROP

    def mask(self, step: Step) -> Value:
        return Value(self.masked(step, step.leaf.text))

    def masked(self, step: Step, text: str) -> str:
        data_class = step.rule.data_class
        if data_class is None or data_class.mask is None:
            raise Refusal("value_refused")
        return data_class.mask.apply(text)

    def encrypt(self, step: Step) -> Value | None:
        if step.token is not None:
            if self.opened(step) is not None:
                self.count("already protected")
                return None
            self.count("token look-alike")
        if not step.classified:
            self.count("unclassified")
        return Value(self.seal(step))

    def seal(self, step: Step) -> str:
        data_class = step.rule.data_class
        if data_class is None:
            raise Refusal("internal")
        purpose = Purpose.LOOKUP if data_class.deterministic else Purpose.DATA
        key = self.keys.sealing.get((data_class.group, purpose))
        if key is None:
            raise Refusal("key_unavailable")
        leaf = step.leaf
        # An empty object or array has no value to hide but may not stay: a constant stands for it.
        kind, text = ("l", "null") if leaf.kind is Kind.EMPTY else (_KIND_LETTER[leaf.kind], leaf.text)
        try:
            if data_class.deterministic:
                return field_token.seal_equal(key, text, self.scope(step))
            return field_token.seal(key, kind, text, self.scope(step), self.entropy(NONCE_SIZE))
        except ValueError:
            raise Refusal("value_refused") from None

    def reveal(self, step: Step) -> Value:
        value = self.opened(step)
        if value is None:
            raise Refusal("token_refused")
        return value

    def reveal_masked(self, step: Step) -> Value:
        return Value(self.masked(step, self.reveal(step).text))


_DO: Mapping[Treatment, Callable[[_Bench, Step], Value | None]] = {
    Treatment.DROPPED: _Bench.drop,
    Treatment.MASKED: _Bench.mask,
    Treatment.ENCRYPTED: _Bench.encrypt,
    Treatment.REVEALED: _Bench.reveal,
    Treatment.REVEALED_MASKED: _Bench.reveal_masked,
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
        values.append(step.leaf.text if value is None else None if value is DROP else value.text)
    return render(document, changes), tuple(values)
