"""What a rule means, whatever it is called and wherever it stands, and when one is weaker than another. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from proxy.crypto.mask import KindMask, Mask
from proxy.crypto.normalise import Normaliser
from proxy.policy.rules import FORM_OF, UNCLASSIFIED, Action, DataClass, OnError, Reveal, Rule
from proxy.policy.transform import Form, Forms
from proxy.source.problem import Place

_NOWHERE: Final = Place("", 0, 0)
# What becomes of a value no rule knows; see `plan.draft_plan` and `head.read_header`.
REFUSED: Final = Rule(None, _NOWHERE, Action.REFUSE)
NOT_SENT: Final = Rule(None, _NOWHERE, Action.DROP)
SEALED: Final = Rule(None, _NOWHERE, Action.ENCRYPT, UNCLASSIFIED, UNCLASSIFIED.name)

# From the strongest to the weakest: what somebody who reads the message as it leaves can learn of the value. Lookup
# values tell which are equal; what is opened for a role is worse, even masked, for the token was there to be kept.
_STRENGTH_OF_ACTION: Final = {Action.REFUSE: 9, Action.DROP: 8, Action.REDACT: 7, Action.MASK: 6, Action.ALLOW: 0}
_TOKEN: Final = 5
_STRENGTH_OF_FORM: Final = {
    Form.REDACTION: 7,
    Form.MASK: 6,
    Form.HASH: 4,
    Form.INDEX: 4,
    Form.FORMAT_PRESERVING: 4,
}
_DETERMINISTIC: Final = 4
_STRENGTH_OF_REVEAL: Final = {None: 9, Reveal.MASK: 3, Reveal.PLAIN: 2}
_ON_ERROR: Final = {OnError.REFUSE: 2, OnError.DROP: 1, OnError.REDACT: 0}
OTHERS: Final = "*"
UNWRITTEN: Final = {"reveal": "* keep", "deterministic": "false", "group": "default", "on_error": "refuse"}
"""What holds where `meaning` says nothing of a key."""
_KEPT: Final[Mapping[str, Reveal | None]] = {OTHERS: Reveal.KEEP}


def meaning(rule: Rule) -> dict[str, str]:
    """Everything about `rule` that makes a difference, by the key an author writes it under, without what is so anyway.
    The name of a class is only a name."""
    found = {"action": rule.action.value}
    if rule.action is Action.REFUSE:
        return found
    data_class, forms = _class(rule), _forms(rule)
    if rule.datum:
        found["as"] = rule.datum
    if rule.binds:
        found["bind"] = ", ".join(rule.binds)
    if rule.keys and data_class.group != "default":
        found["group"] = data_class.group
    if Form.TOKEN in forms and data_class.deterministic:
        found["deterministic"] = "true"
    if _revealed(rule) != _KEPT:
        found["reveal"] = _reveals(rule)
    if rule.write:
        found["write"] = ", ".join(sorted(f"{name} {form.value}" for name, form in rule.write))
    if rule.on_error is not OnError.REFUSE:
        found["on_error"] = rule.on_error.value
    for form in sorted(forms | _forms_for_roles(rule), key=lambda form: form.value):
        if form in _SPELL:
            found[_KEY_OF[form]] = _SPELL[form](data_class.forms)
    return found


def weaker(old: Rule, new: Rule) -> bool:
    """Whether `new` protects a value less than `old` for anybody, or in a way that cannot be compared."""
    if any(_strength(new, role) < _strength(old, role) for role in _roles(old) | _roles(new)):
        return True
    return (
        _ON_ERROR[new.on_error] < _ON_ERROR[old.on_error]
        or _bound_to_less(old, new)
        or _told_more(old, new)
        or _masked_less(old, new)
        or _indexed_finer(old, new)
    )


def _class(rule: Rule) -> DataClass:
    return rule.data_class or UNCLASSIFIED


def _forms(rule: Rule) -> frozenset[Form]:
    """Everything that is written for the value."""
    if rule.write:
        return frozenset(form.base for _, form in rule.write)
    form = FORM_OF.get(rule.action)
    return frozenset() if form is None else frozenset({form})


def _forms_for_roles(rule: Rule) -> frozenset[Form]:
    """What is made of the value for a reader, or for want of a way to treat it."""
    masks = {Form.MASK} if Reveal.MASK in (rule.reveal or {}).values() else set()
    redacts = {Form.REDACTION} if rule.on_error is OnError.REDACT else set()
    return frozenset(masks | redacts)


def _revealed(rule: Rule) -> dict[str, Reveal | None]:
    """Role to what it may see, without roles that get what all others get. No word of it keeps the token for all."""
    written: Mapping[str, Reveal | None] = _KEPT if rule.reveal is None else rule.reveal
    others = written.get(OTHERS)
    return {role: what for role, what in written.items() if role != OTHERS and what is not others} | {OTHERS: others}


def _reveals(rule: Rule) -> str:
    return ", ".join(f"{role} {what.value if what else 'refused'}" for role, what in sorted(_revealed(rule).items()))


def _roles(rule: Rule) -> set[str]:
    return {OTHERS, *(rule.reveal or {})}


def _strength(rule: Rule, role: str) -> int:
    if rule.action in _STRENGTH_OF_ACTION:
        return _STRENGTH_OF_ACTION[rule.action]
    revealed = Reveal.KEEP if rule.reveal is None else rule.reveal_for(role)
    if revealed is not Reveal.KEEP:
        return _STRENGTH_OF_REVEAL[revealed]
    return min(_strength_of(form, rule) for form in _forms(rule))


def _strength_of(form: Form, rule: Rule) -> int:
    if form is Form.TOKEN:
        return _DETERMINISTIC if _class(rule).deterministic else _TOKEN
    return _STRENGTH_OF_FORM[form]


def _bound_to_less(old: Rule, new: Rule) -> bool:
    """A token that is bound to less opens in more places, an index can be joined over more."""
    return bool(old.keys and new.keys) and not set(old.binds) <= set(new.binds)


def _told_more(old: Rule, new: Rule) -> bool:
    """The same is written as before and something besides: a mask beside a token tells what the token does not."""
    before, after = _forms(old), _forms(new)
    return bool(before) and before < after and bool(after - before - {Form.REDACTION})


def _masked_less(old: Rule, new: Rule) -> bool:
    if Form.MASK not in (_forms(old) | _forms_for_roles(old)) & (_forms(new) | _forms_for_roles(new)):
        return False
    before, after = _class(old).forms.mask, _class(new).forms.mask
    if isinstance(before, Mask) and isinstance(after, Mask):
        return after.keep_first > before.keep_first or after.keep_last > before.keep_last
    return before != after and after != Mask()  # which characters a kind keeps depends on the value


def _indexed_finer(old: Rule, new: Rule) -> bool:
    """With more bits fewer values share an index by chance."""
    before, after = _class(old).forms.index, _class(new).forms.index
    both = Form.INDEX in _forms(old) & _forms(new)
    return both and before is not None and after is not None and after.bits > before.bits


_KEY_OF: Final = {
    Form.MASK: "mask",
    Form.INDEX: "index",
    Form.HASH: "normalise",
    Form.FORMAT_PRESERVING: "alphabet",
    Form.REDACTION: "text",
}


def _spell_mask(forms: Forms) -> str:
    mask = forms.mask
    if isinstance(mask, KindMask):
        return mask.kind
    return f"first {mask.keep_first}, last {mask.keep_last}" if mask else ""


def _spell_index(forms: Forms) -> str:
    index = forms.index
    return f"{index.bits} bits, {index.spelling}, {_spell_steps(index.normaliser)}" if index else ""


def _spell_steps(normaliser: Normaliser | None) -> str:
    if normaliser is None or not normaliser.steps:
        return "as it is"
    return " ".join((*normaliser.steps, normaliser.country)).rstrip()


_SPELL: Final[Mapping[Form, Callable[[Forms], str]]] = {
    Form.MASK: _spell_mask,
    Form.INDEX: _spell_index,
    Form.HASH: lambda forms: _spell_steps(forms.hash_of),
    Form.FORMAT_PRESERVING: lambda forms: forms.alphabet.characters if forms.alphabet else "",
    Form.REDACTION: lambda forms: "" if forms.redaction is None else forms.redaction,
}
