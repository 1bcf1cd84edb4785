"""What a CRM field demands of a value besides its length: the type, unique values, search. Pure.

Sources: Salesforce Object Reference, field types; SOQL compares text without case unless the field is case-sensitive.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from proxy.crypto.blind_index import DEFAULT_BITS
from proxy.crypto.mask import KindMask
from proxy.policy.carry_out import REDACTED
from proxy.policy.crm_fields import CrmField
from proxy.policy.rules import DataClass, Rule
from proxy.policy.transform import Form
from proxy.source.problem import Place, Problem

_ANY = frozenset(Form)
_FOR_EYES = frozenset({Form.MASK, Form.REDACTION})
_NONE: frozenset[Form] = frozenset()
# A url gets "http://" put before it, an encryptedstring comes back masked: a token would not survive either. Whatever
# is not named here holds numbers, dates, choices or references, or is no text we know of.
_TAKES: Mapping[str, frozenset[Form]] = {
    "string": _ANY,
    "textarea": _ANY,
    "phone": _FOR_EYES | {Form.FORMAT_PRESERVING},
    "url": _FOR_EYES,
    "encryptedstring": _FOR_EYES,
}
_ADDRESS = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")
_FIXES: Mapping[Form, str] = {
    Form.TOKEN: 'take a text field, or "write" a mask here and the token beside it',
    Form.MASK: "take a text field, or kind: email in an email field",
}


@dataclass(slots=True)
class Demands:
    """What a field says to a value. `unsuited`: it is of a kind that cannot hold it, however short."""

    place: Place
    unsuited: bool = False
    problems: list[Problem] = field(default_factory=list)

    def problem(self, code: str, message: str, fix: str = "", *, warning: bool = False) -> None:
        self.problems.append(Problem(self.place, code, message, fix, warning))


def demands_of(rule: Rule, data_class: DataClass, form: Form, words: str, target: str, crm_field: CrmField) -> Demands:
    """Everything but the length. `words` for `form`, `target` for the field, in messages."""
    demands = Demands(rule.place)
    if not _takes(crm_field.type, data_class, form):
        demands.unsuited = True
        fix = _FIXES.get(form, "take a text field")
        demands.problem("fits-type", f"{target} is of type {crm_field.type} and takes no {words}", fix)
        return demands
    if not crm_field.writable:
        demands.problem(
            "fits-read-only", f"{target} cannot be written: the CRM computes it or closes it", "take another"
        )
    if crm_field.unique or crm_field.external_id:
        _identify(demands, rule, data_class, form, target, crm_field)
    elif crm_field.filterable:
        _filter(demands, rule, data_class, form, target, crm_field)
    elif form is Form.INDEX:
        message = f"{target} is not filterable: nobody can search it, and an index is for nothing else"
        demands.problem("fits-search", message, "take a text field of 255 characters or less")
    elif form is Form.TOKEN and data_class.deterministic:
        message = f"{target} is not filterable: that tokens of equal values are equal shows there, and serves nobody"
        demands.problem("fits-search", message, "take a filterable field, or a randomised token", warning=True)
    return demands


def _takes(kind: str, data_class: DataClass, form: Form) -> bool:
    if kind != "email":
        return form in _TAKES.get(kind, _NONE)
    if form is Form.REDACTION:
        return bool(_ADDRESS.fullmatch(data_class.forms.redaction or REDACTED))
    return form is Form.MASK and data_class.forms.mask == KindMask("email")


def _identify(
    demands: Demands, rule: Rule, data_class: DataClass, form: Form, target: str, crm_field: CrmField
) -> None:
    """A field whose values are to be equal exactly where what they stand for is."""
    what = f"{target} is {'unique' if crm_field.unique else 'an external id'}"
    fix = f'take an index of {DEFAULT_BITS} bits or "deterministic: true"'
    index = data_class.forms.index
    if form is Form.TOKEN and not data_class.deterministic:
        message = f"{what}: randomised tokens of one value differ, so it is found by none and no duplicate is noticed"
        case = "" if crm_field.case_sensitive else "; and the CRM compares them without case"
        demands.problem("fits-unique", message + case, fix)
    elif form in _FOR_EYES:
        demands.problem("fits-unique", f"{what}: different values have one {form.value}", fix)
    elif form is Form.INDEX and index and index.bits < DEFAULT_BITS:
        demands.problem("fits-unique", f"{what}: some different values have one index of {index.bits} bits", fix)
    elif _loses_case(data_class, form, crm_field):
        message = f"{what} and compared without case, where different format-preserving values are equal"
        demands.problem("fits-unique", message, "make the field case-sensitive, or narrow the alphabet to one case")
    elif form is not Form.INDEX and form is not Form.HASH and rule.binds:
        message = f"{what}: equal values under different binds are written differently and count as two"
        demands.problem("fits-unique", message, 'remove "bind", or take an index', warning=True)


def _filter(demands: Demands, rule: Rule, data_class: DataClass, form: Form, target: str, crm_field: CrmField) -> None:
    searched_elsewhere = any(written.base in (Form.INDEX, Form.HASH) for _, written in rule.write)
    if form is Form.TOKEN and not data_class.deterministic and not searched_elsewhere:
        message = f"{target} is filterable, but a filter finds no randomised token"
        fix = "write an index beside it if it is searched; else a long text area says so"
        demands.problem("fits-search", message, fix, warning=True)
    elif _loses_case(data_class, form, crm_field):
        message = f"{target} is compared without case: a filter finds foreign format-preserving values too"
        demands.problem("fits-search", message, "narrow the alphabet to one case", warning=True)


def _loses_case(data_class: DataClass, form: Form, crm_field: CrmField) -> bool:
    """Whether texts over the alphabet can differ in nothing but case where the CRM sees none."""
    alphabet = data_class.forms.alphabet
    if crm_field.case_sensitive or form is not Form.FORMAT_PRESERVING or alphabet is None:
        return False
    return len({character.casefold() for character in alphabet.characters}) < alphabet.radix
