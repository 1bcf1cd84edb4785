"""How a class is written other than as a token, as its author describes it. Pure."""

from __future__ import annotations

from proxy.crypto.blind_index import DEFAULT_BITS, SPELLINGS, check_bits
from proxy.crypto.ff1 import Alphabet
from proxy.crypto.mask import KINDS, KindMask, Mask
from proxy.crypto.normalise import Normaliser
from proxy.policy.rules import Action
from proxy.policy.transform import Forms, IndexForm
from proxy.source.section import Section

ALPHABETS = {
    "digits": "0123456789",
    "lower": "abcdefghijklmnopqrstuvwxyz",
    "upper": "ABCDEFGHIJKLMNOPQRSTUVWXYZ",
    "alphanumeric": "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ",
}


def read_forms(section: Section, action: Action) -> Forms:
    """The keys of a class that describe forms: mask, index, normalise and country, alphabet, text."""
    normaliser = _normaliser(section)
    return Forms(
        _mask(section.section("mask")),
        _index(section, normaliser, wanted=action is Action.INDEX),
        normaliser,
        _alphabet(section),
        section.text("text", pattern=r"[^\x00-\x1f\x7f]{1,64}") or None,
    )


def _normaliser(section: Section) -> Normaliser:
    country = section.text("country", pattern=r"[1-9][0-9]{0,2}", hint="a calling code such as 86")
    steps = section.texts("normalise")
    try:
        return Normaliser(steps, country)
    except ValueError as error:
        section.problem(section.place, "normalise-malformed", str(error))
        return Normaliser(())


def _mask(section: Section | None) -> Mask | KindMask | None:
    if section is None:
        return None
    kind = section.choice("kind", list(KINDS))
    mask = Mask(section.number("keep_first", 0, most=32), section.number("keep_last", 0, most=32))
    section.done()
    if kind and mask != Mask():
        section.problem(section.place, "mask-ambiguous", '"kind" already says which characters stay')
    return KindMask(kind) if kind else mask


def _index(outer: Section, normaliser: Normaliser, *, wanted: bool) -> IndexForm | None:
    section = outer.section("index")
    if section is None:
        return IndexForm(normaliser) if wanted else None
    bits, place = section.number("bits", DEFAULT_BITS), section.place
    spelling = section.choice("spelling", SPELLINGS, "hex")
    own = _normaliser(section)
    section.done()
    try:
        check_bits(bits)
    except ValueError as error:
        section.problem(place, "wrong-value", str(error))
    return IndexForm(own if own.steps else normaliser, bits, "base32" if spelling == "base32" else "hex")


def _alphabet(section: Section) -> Alphabet | None:
    node = section.take("alphabet")
    if node is None:
        return None
    text = section.as_text(node, "alphabet")
    if text is None:
        return None
    try:
        if not text.isprintable():
            raise ValueError("it has characters that cannot be seen")
        return Alphabet(ALPHABETS.get(text, text))
    except ValueError as error:
        section.problem(node.place, "wrong-value", f'"alphabet": {error}')
        return None
