"""Whether what the rules write fits the fields of the CRM: length, type, uniqueness and search. Pure.

Every rule with `fits` is judged against what the CRM says of its fields. Salesforce refuses a text that is too long for
its field; a CRM that cuts one instead makes a token unreadable for good.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from proxy.crypto.data_key import KEY_ID_SIZE
from proxy.policy.compiled import Policy
from proxy.policy.crm_fields import CrmField, CrmObjects
from proxy.policy.field_demands import demands_of
from proxy.policy.lengths import ASCII_BYTES, CHINESE_BYTES, Extent, longest, most_that_fits, of_characters
from proxy.policy.rules import FORM_OF, DataClass, Fits, OnError, Phase, Rule, RuleSet
from proxy.policy.transform import Form
from proxy.source.problem import Place, Problem, nearest


@dataclass(frozen=True, slots=True)
class Clear:
    """The longest value a rule can meet, and on whose word."""

    extent: Extent
    word: str

    def __str__(self) -> str:
        return f"values up to {self.extent.characters} characters, {self.extent.octets} bytes ({self.word})"


@dataclass(frozen=True, slots=True)
class Fit:
    """One value that a rule writes, and the field it goes to. `longest`: characters it can come to, None if nobody says
    how long the clear value is. `ascii` and `chinese`: characters of a clear value that fit; None for any number, -1 if
    not even the empty value does."""

    rule: Place
    target: str
    field: CrmField
    form: str
    longest: int | None
    ascii: int | None
    chinese: int | None
    clear: str


@dataclass(frozen=True, slots=True)
class Fitting:
    """`silent`: how many rules write for the CRM without saying where to."""

    fits: tuple[Fit, ...]
    problems: tuple[Problem, ...]
    silent: int

    @property
    def holds(self) -> bool:
        return all(problem.warning for problem in self.problems)


def check_fits(policy: Policy, objects: CrmObjects, key_id_size: int = KEY_ID_SIZE) -> Fitting:
    """Judges every rule of `policy` that says `fits`. A rule that messages inherit counts once. `key_id_size`: of the
    tokens, 32 with customer-brought keys."""
    rules = {rule.place: rule for rules in _rule_sets(policy) for rule in rules.rules if _writes(rule)}
    judge = _Judge(objects, key_id_size)
    for rule in rules.values():
        if rule.fits and rule.data_class:
            judge.rule(rule, rule.fits, rule.data_class)
    silent = sum(rule.fits is None for rule in rules.values())
    return Fitting(tuple(judge.fits), tuple(sorted(set(judge.problems))), silent)


def _rule_sets(policy: Policy) -> Iterator[RuleSet]:
    for phase in Phase:
        yield from policy.inbound_rules(phase)
    for call in policy.calls:
        yield from call.rule_sets().values()


def _writes(rule: Rule) -> bool:
    return rule.action in FORM_OF and rule.reveal is None


def _written(rule: Rule, fits: Fits) -> list[tuple[str, Form]]:
    """Names of fields and what is written there; on_error puts its redaction in the value's own place."""
    written = [(name, form.base) for name, form in rule.write] or [(fits.field, FORM_OF[rule.action])]
    if rule.on_error is OnError.REDACT:
        written.append((fits.field, Form.REDACTION))
    return written


_WORDS = {
    Form.INDEX: "index",
    Form.HASH: "keyed hash",
    Form.MASK: "mask",
    Form.FORMAT_PRESERVING: "format-preserving value",
    Form.REDACTION: "redaction",
}


def form_words(form: Form, data_class: DataClass) -> str:
    """What stands in a field, in words."""
    if form is Form.TOKEN:
        return f"{'deterministic' if data_class.deterministic else 'randomised'} token"
    if form is Form.INDEX and data_class.forms.index:
        return f"index of {data_class.forms.index.bits} bits"
    return _WORDS[form]


class _Judge:
    def __init__(self, objects: CrmObjects, key_id_size: int) -> None:
        self.objects = objects
        self.key_id_size = key_id_size
        self.fits: list[Fit] = []
        self.problems: list[Problem] = []

    def problem(self, place: Place, code: str, message: str, fix: str = "") -> None:
        self.problems.append(Problem(place, code, message, fix))

    def rule(self, rule: Rule, fits: Fits, data_class: DataClass) -> None:
        source = self.field(rule.place, fits.object, fits.field)
        if source is None:
            return
        clear = _clear(fits, source)
        suits = True
        for name, form in _written(rule, fits):
            field = source if name == source.name else self.field(rule.place, fits.object, name)
            if field is not None:
                suits &= self.value(rule, data_class, form, f"{fits.object}.{name}", field, clear)
        if clear is None and suits:
            message = f"{fits.object}.{source.name} ({source.type}) has no length: nobody says how long its values are"
            self.problem(rule.place, "fits-max", message, 'add "max: N", in characters')

    def field(self, place: Place, owner: str, name: str) -> CrmField | None:
        fields = self.objects.get(owner)
        if fields is None:
            fix = nearest(owner, list(self.objects)) or "give its describe result too"
            self.problem(place, "fits-unknown", f'the metadata has no object "{owner}"', fix)
            return None
        if name not in fields:
            self.problem(
                place, "fits-unknown", f'the object "{owner}" has no field "{name}"', nearest(name, list(fields))
            )
        return fields.get(name)

    def value(
        self, rule: Rule, data_class: DataClass, form: Form, target: str, field: CrmField, clear: Clear | None
    ) -> bool:
        """Notes what is wrong with one value in its field; whether the field is of a kind that can hold it."""
        words = form_words(form, data_class)
        demands = demands_of(rule, data_class, form, words, target, field)
        self.problems += demands.problems
        if demands.unsuited:
            return False
        room = Extent(field.length, field.octets or field.length * CHINESE_BYTES)
        extent = longest(data_class, form, clear.extent, self.key_id_size) if clear else None
        ascii_, chinese = (
            most_that_fits(data_class, form, room, size, self.key_id_size) for size in (ASCII_BYTES, CHINESE_BYTES)
        )
        characters = extent.characters if extent else None
        self.fits.append(Fit(rule.place, target, field, words, characters, ascii_, chinese, str(clear or "unknown")))
        if extent and not extent.within(room):
            message = (
                f"{target} holds {field.length} characters; the {words} takes up to {extent.characters} for {clear}"
            )
            self.problem(rule.place, "fits-length", message, _way_out(ascii_, chinese, extent, room))
        return True


def _clear(fits: Fits, source: CrmField) -> Clear | None:
    if fits.most is not None:
        return Clear(of_characters(fits.most), "the rule's max")
    if source.length == 0:
        return None
    octets = source.octets or source.length * CHINESE_BYTES
    return Clear(Extent(source.length, octets), f"the length of {fits.object}.{source.name}")


def _way_out(ascii_: int | None, chinese: int | None, extent: Extent, room: Extent) -> str:
    if extent.characters <= room.characters:
        return "take a field of more bytes"
    wider = f"take a field of {extent.characters} characters"
    if ascii_ is None or chinese is None:
        return wider
    if ascii_ < 0:
        return f"not even the empty value fits; {wider}"
    known = f', or write "max: {chinese}" if no value is longer' if chinese else ""
    return f"what fits: {ascii_} ASCII or {chinese} Chinese characters; {wider}{known}"
