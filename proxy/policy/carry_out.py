"""Carries a plan out: keys and nonces in, the final bytes out. Pure.

A token from the CRM counts as one only if it opens for the right tenant, datum and bound values; where a rule protects,
anything else is clear text and is encrypted; where a rule reveals, anything else is refused.
"""

from __future__ import annotations

import hmac
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import field

from proxy.crypto import field_token, format_preserving
from proxy.crypto.blind_index import blind_index, keyed_hash
from proxy.crypto.data_key import DataKey, Purpose
from proxy.crypto.field_token import Scope, TokenError
from proxy.crypto.mask import MASK
from proxy.crypto.xaes import NONCE_SIZE
from proxy.document.head import field_values
from proxy.document.tree import DROP, Document, Kind, Leaf, Path, Value, render
from proxy.message import HeaderList
from proxy.policy.plan import Plan, Step, Treatment
from proxy.policy.rules import FORM_OF, Action, DataClass, OnError
from proxy.policy.selector import part_of
from proxy.policy.transform import Form, Forms
from proxy.record import record
from proxy.refusal import Refusal

_KIND_LETTER = {Kind.STRING: "s", Kind.NUMBER: "n", Kind.LITERAL: "l"}
REDACTED = "[redacted]"
_LETTER_KIND = {letter: kind for kind, letter in _KIND_LETTER.items()}
# There are three literals, and empty containers are all alike: equal ones would show, and with that what they are.
_TOO_FEW = frozenset({Kind.LITERAL, Kind.EMPTY})

Source = Leaf | Value
"""What a form is made of: a leaf as it came, or what its token says."""


@record
class Keyset:
    """The keys a plan asked for. `opening` may lack ids nobody has. `replaced`: lookup keys whose values are written
    beside those of their successors, by class group."""

    sealing: Mapping[tuple[str, Purpose], DataKey]
    opening: Mapping[bytes, DataKey]
    replaced: Mapping[str, DataKey] = field(default_factory=dict)


@record
class Carried:
    """A message after its plan was carried out: what may leave, and how much was done to it. `path`: empty if the plan
    had none.

    `values`: what each of the plan's leaves leaves as, None if it was dropped.
    """

    plan: Plan
    form: str
    body: bytes = field(repr=False)
    query: str = field(repr=False)
    path: str = field(repr=False)
    headers: HeaderList = field(repr=False)
    counts: Mapping[str, int]
    done: int
    values: tuple[str | None, ...] = field(repr=False)
    boundary: str = ""

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
        self.steps: tuple[Step, ...] = ()
        self.texts: dict[int, str] = {}
        self._names: Counter[Path] | None = None

    def begin(self, steps: tuple[Step, ...]) -> None:
        """From here on the steps of one document: names of body and query have nothing to do with each other."""
        self.steps, self._names = steps, None

    @property
    def names(self) -> Counter[Path]:
        if self._names is None:
            self._names = _names(self.steps)
        return self._names

    def scope(self, step: Step) -> Scope:
        rule = step.rule
        binds = tuple([self.bind(name) for name in rule.binds]) if rule.binds else ()
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
        if token.deterministic != (key.purpose is Purpose.LOOKUP):
            return None
        try:
            letter, text = field_token.open_token(key, token, self.scope(step))
        except TokenError:
            return None
        return Value(text, _LETTER_KIND[letter])

    def carry(self, step: Step) -> Value | None:
        """What the leaf becomes; None if it stays as it is."""
        word = step.treatment.word
        try:
            value = _DO[step.treatment](self, step)
        except Refusal as refusal:
            if refusal.code != "value_refused" or step.rule.on_error is OnError.REFUSE:
                raise
            value = DROP if step.rule.on_error is OnError.DROP else Value(redaction_of(step))
            word = f"could not be {word}"
        self.count(word)
        self.done += 1
        return value

    def allow(self, leaves: int) -> None:
        """That many leaves stay as they are."""
        self.count(Treatment.ALLOWED.word, leaves)
        self.done += leaves

    def count(self, word: str, times: int = 1) -> None:
        self.counts[word] = self.counts.get(word, 0) + times

    def drop(self, _step: Step) -> Value:
        return DROP

    def looked_into(self, step: Step) -> Value | None:
        """What was made of the text's inside, which is carried out before."""
        text = self.texts[id(step.leaf)]
        return None if text == step.leaf.text else Value(text)

    def convert(self, step: Step) -> Value:
        """One of the forms that cannot be turned back, in the value's own place."""
        self.require_short(step)
        return Value(self.written(step, FORM_OF[step.rule.action], step.leaf))

    def encrypt(self, step: Step) -> Value | None:
        opened = None
        if step.token is not None:
            opened = self.opened(step)
            self.count("token look-alike" if opened is None else "already protected")
        if opened is None:
            self.require_short(step)
        if not step.classified:
            self.count("unclassified")
        stays = opened is not None and self.is_current(step)
        if step.rule.write:
            return self.companions(step, opened, stays)
        return None if stays else Value(self.token(step, opened or step.leaf))

    def is_current(self, step: Step) -> bool:
        """Whether a token that opens may stay: a deterministic one under an older lookup key is made anew, or equal
        values would stay apart for ever."""
        data_class = step.rule.data_class
        if data_class is None or not data_class.deterministic or step.token is None:
            return True
        return hmac.compare_digest(step.token.key_id, self.key(step, Form.TOKEN)[1].id)

    def require_short(self, step: Step) -> None:
        """The CRM would refuse, or cut, what is made of a longer value than the rule's `max`; a cut token is lost. And
        of bytes that are no text no token, mask or index is made."""
        binary = step.leaf.kind is Kind.BINARY and step.treatment is not Treatment.REDACTED
        if binary or (step.rule.fits is not None and not step.rule.fits.admits(step.leaf.text)):
            raise Refusal("value_refused")

    def companions(self, step: Step, opened: Value | None, stays: bool) -> Value:
        """Several members in the place of one, each a form of the same value. A token that `stays` is the token."""
        path = step.leaf.path
        above = path[:-1]
        if not isinstance(path[-1], str) or any(self.names[*above, name] > 1 for name, _ in step.rule.write):
            raise Refusal("value_refused")  # two members of one name: which one a reader takes is anybody's guess
        members = []
        for name, form in step.rule.write:
            as_it_is = stays and form is Form.TOKEN
            members.append((name, step.leaf.text if as_it_is else self.written(step, form, opened or step.leaf)))
        return Value("", Kind.STRING, tuple(members))

    def written(self, step: Step, form: Form, source: Source) -> str:
        """`source` in one of the forms its class knows. Refusal `value_refused` if it cannot be written so."""
        try:
            return _WRITE[form.base](self, step, source, form)
        except ValueError:
            raise Refusal("value_refused") from None

    def token(self, step: Step, source: Source, form: Form = Form.TOKEN) -> str:
        data_class, key = self.key(step, form)
        # An empty object or array has no value to hide but may not stay: a constant stands for it.
        kind, text = ("l", "null") if source.kind is Kind.EMPTY else (_KIND_LETTER[source.kind], source.text)
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
        keys = self.keys
        key = keys.replaced.get(data_class.group) if form.previous else keys.sealing.get((data_class.group, purpose))
        if key is None:
            raise Refusal("key_unavailable")
        return data_class, key

    def forms(self, step: Step) -> Forms:
        return step.rule.data_class.forms if step.rule.data_class else Forms()

    def mask(self, step: Step, source: Source, _form: Form = Form.MASK) -> str:
        mask = self.forms(step).mask
        if mask is None:
            raise Refusal("value_refused")
        # As many stars as "false" has letters would say which literal it is.
        return MASK if source.kind is Kind.LITERAL else mask.apply(source.text)

    def redaction(self, step: Step, _source: Source, _form: Form = Form.REDACTION) -> str:
        return redaction_of(step)

    def index(self, step: Step, source: Source, which: Form) -> str:
        form = self.forms(step).index
        if form is None:
            raise Refusal("value_refused")
        _, key = self.key(step, which)
        text = form.normaliser.apply(_findable(source))
        return blind_index(key, text, self.scope(step), form.bits, form.spelling)

    def hash(self, step: Step, source: Source, form: Form) -> str:
        normaliser = self.forms(step).hash_of
        if normaliser is None:
            raise Refusal("value_refused")
        _, key = self.key(step, form)
        return keyed_hash(key, normaliser.apply(_findable(source)), self.scope(step))

    def format_preserving(self, step: Step, source: Source, form: Form) -> str:
        alphabet = self.forms(step).alphabet
        if alphabet is None:
            raise Refusal("value_refused")
        _, key = self.key(step, form)
        return format_preserving.encrypt(key, _findable(source), self.scope(step), alphabet)

    def reveal(self, step: Step) -> Value:
        value = self.opened(step)
        if value is None:
            raise Refusal("token_refused")
        return value

    def reveal_masked(self, step: Step) -> Value:
        return Value(self.mask(step, self.reveal(step)))


def _names(steps: Iterable[Step]) -> Counter[Path]:
    """How often each name stands in a document, with the names that companions add and those of containers."""
    found: Counter[Path] = Counter()
    for step in steps:
        path, rule = step.leaf.path, step.rule
        found.update(path[:depth] for depth in range(1, len(path) + (rule.action is not Action.DROP)))
        found.update((*path[:-1], name) for name, _ in rule.write if name != path[-1])
    return found


def redaction_of(step: Step) -> str:
    """What stands for a value that is redacted, or that could not be treated: the text of its class if it has one."""
    text = step.rule.data_class.forms.redaction if step.rule.data_class else None
    return REDACTED if text is None else text


def _findable(source: Source) -> str:
    """The text of `source`. ValueError if there are too few values of its type to hide which one it is."""
    if source.kind in _TOO_FEW:
        raise ValueError("a literal or an empty container has no lookup value")
    return source.text


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
    Treatment.LOOKED_INTO: _Bench.looked_into,
}
_WRITE: Mapping[Form, Callable[[_Bench, Step, Source, Form], str]] = {
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
    parts = {"body": b"", "query": b"", "path": b""}
    headers: HeaderList = ()
    form = ""
    values: tuple[str | None, ...] = ()
    for index, (document, steps) in reversed(tuple(enumerate(plan.steps_by_document()))):
        part = part_of(document.form)
        data, own = _document(bench, document, steps)
        values = own + values
        if (holder := plan.inside.get(index)) is not None:  # comes after what it stands in
            bench.texts[id(plan.steps[holder].leaf)] = data.decode()
            continue
        parts[part] = data
        if part == "body":
            form = document.form
        elif part == "header":
            headers = field_values(document, own)
    query, path = parts["query"].decode(), parts["path"].decode()
    boundary = plan.body.boundary if plan.body else ""
    return Carried(plan, form, parts["body"], query, path, headers, bench.counts, bench.done, values, boundary)


def _document(bench: _Bench, document: Document, steps: tuple[Step, ...]) -> tuple[bytes, tuple[str | None, ...]]:
    if not steps:
        return document.raw, ()
    bench.begin(steps)
    changes: dict[int, Value] = {}
    values: list[str | None] = [step.leaf.text for step in steps]
    changing = [index for index, step in enumerate(steps) if step.treatment is not Treatment.ALLOWED]
    if len(changing) < len(steps):
        bench.allow(len(steps) - len(changing))
    for index in changing:
        value = bench.carry(steps[index])
        if value is not None:
            changes[index] = value
            values[index] = _shown(value)
    # Header fields have no text to change: they are written from the values.
    return (b"" if document.form == "header" else render(document, changes)), tuple(values)


def _shown(value: Value) -> str | None:
    """The text a changed leaf leaves as, None if it does not; several members are told as `name: text`."""
    if value.members:
        return ", ".join(f"{name}: {text}" for name, text in value.members)
    return None if value is DROP else value.text
