"""How a class describes its forms: what is understood, and what is told of each mistake, with its place."""

import pytest

from proxy.crypto.ff1 import Alphabet
from proxy.crypto.mask import KindMask, Mask
from proxy.crypto.normalise import Normaliser
from proxy.policy.rules import Action
from proxy.policy.transform import Forms, IndexForm
from tests.policy.build import compiled, place_of, problems

E164 = Normaliser(("e164",), "86")


def forms(keys: str, action: str = "encrypt") -> Forms:
    return compiled(f"version: 1\nclasses:\n  c: {{action: {action}, {keys}}}\n").classes["c"].forms


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ("mask: {}", Forms(Mask(), hash_of=Normaliser(()))),
        ("mask: {keep_first: 1, keep_last: 2}", Forms(Mask(1, 2), hash_of=Normaliser(()))),
        ("mask: {kind: email}", Forms(KindMask("email"), hash_of=Normaliser(()))),
        ("text: 已隐去", Forms(hash_of=Normaliser(()), redaction="已隐去")),
        ("normalise: [e164], country: '86'", Forms(hash_of=E164)),
        ("normalise: [e164], country: '86', index: {}", Forms(index=IndexForm(E164), hash_of=E164)),
        (
            "normalise: [trim], index: {bits: 32, spelling: base32, normalise: [e164], country: '86'}",
            Forms(index=IndexForm(E164, 32, "base32"), hash_of=Normaliser(("trim",))),
        ),
        ("alphabet: digits", Forms(hash_of=Normaliser(()), alphabet=Alphabet("0123456789"))),
        ("alphabet: 零一二三四五六七八九", Forms(hash_of=Normaliser(()), alphabet=Alphabet("零一二三四五六七八九"))),
    ],
)
def test_what_a_class_says_of_its_forms(keys: str, expected: Forms) -> None:
    assert forms(keys) == expected


def test_an_index_without_more_words_is_understood() -> None:
    assert forms("normalise: [e164], country: '86'", "index").index == IndexForm(E164)


@pytest.mark.parametrize("name", ["digits", "lower", "upper", "alphanumeric"])
def test_the_named_alphabets_are_not_taken_for_their_letters(name: str) -> None:
    alphabet = forms(f"alphabet: {name}").alphabet
    assert alphabet is not None
    assert set(alphabet.characters) != set(name)


@pytest.mark.parametrize(
    ("line", "code", "at"),
    [
        ("action: encrypt, mask: {kind: face}", "wrong-value", "face"),
        ("action: encrypt, mask: {kind: name, keep_last: 1}", "mask-ambiguous", "{kind"),
        ("action: encrypt, mask: {keep_first: 33}", "wrong-value", "33"),
        ("action: encrypt, mask: {keep_middle: 1}", "unknown-key", "keep_middle"),
        ("action: encrypt, mask: phone", "wrong-type", "phone"),
        ("action: encrypt, index: {bits: 31}", "wrong-value", "{bits"),
        ("action: encrypt, index: {bits: 264}", "wrong-value", "{bits"),
        ("action: encrypt, index: {bits: '64'}", "wrong-value", "'64'"),
        ("action: encrypt, index: {spelling: base64}", "wrong-value", "base64"),
        ("action: encrypt, index: {normalise: [upper]}", "normalise-malformed", "{normalise"),
        ("action: encrypt, index: 64", "wrong-type", "64"),
        ("action: encrypt, normalise: [digits, e164]", "normalise-malformed", "{action"),
        ("action: encrypt, normalise: [trim, trim]", "normalise-malformed", "{action"),
        ("action: encrypt, normalise: trim", "wrong-type", "trim"),
        ("action: encrypt, country: '86'", "normalise-malformed", "{action"),
        ("action: encrypt, normalise: [e164], country: '999'", "normalise-malformed", "{action"),
        ("action: encrypt, normalise: [e164], country: 86", "wrong-type", "86"),
        ("action: encrypt, normalise: [e164], country: '+86'", "wrong-value", "'+86'"),
        ("action: encrypt, alphabet: aab", "wrong-value", "aab"),
        ("action: encrypt, alphabet: a", "wrong-value", "a}"),
        ("action: encrypt, alphabet: ''", "wrong-value", "''"),
        ("action: encrypt, alphabet: 12345", "wrong-type", "12345"),
        ('action: encrypt, alphabet: "ab\\t"', "wrong-value", '"ab'),
        ("action: redact, text: ''", "wrong-value", "''"),
        ('action: redact, text: "a\\nb"', "wrong-value", '"a'),
        ("action: mask", "mask-missing", "{action"),
        ("action: redact", "form-undescribed", "{action"),
        ("action: format_preserving", "form-undescribed", "{action"),
        ("action: hash, deterministic: true", "deterministic-action", "{action"),
    ],
)
def test_every_mistake_is_told_with_its_place(line: str, code: str, at: str) -> None:
    text = f"version: 1\nclasses:\n  c: {{{line}}}\n"
    found = [problem for problem in problems(text) if problem.code == code]
    assert [(problem.place.line, problem.place.column) for problem in found] == [place_of(text, at)]


def test_one_mistake_is_one_problem() -> None:
    assert len(problems("version: 1\nclasses:\n  c: {action: encrypt, alphabet: 12345}\n")) == 1


def test_a_problem_does_not_repeat_itself_for_each_action() -> None:
    for action in Action:
        compiled(f"version: 1\nclasses:\n  c: {{action: {action.value}, mask: {{}}, text: x, alphabet: digits}}\n")
