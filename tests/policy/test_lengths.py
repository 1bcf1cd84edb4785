"""Predicted lengths are the lengths of what is really made: sealed, indexed, masked, written by a whole rule."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.crypto.data_key import DEK_SIZE, DataKey, Purpose, key_id_of
from proxy.crypto.ff1 import Alphabet
from proxy.crypto.field_token import Scope, seal, seal_equal
from proxy.policy.lengths import Extent, extent_of, longest, most_that_fits, of_characters, token_length
from proxy.policy.rules import Action, DataClass
from proxy.policy.transform import Form, Forms
from tests.policy.forms import WRITE, agent, house

SCOPE = Scope("acme", "cn", "name")
RANDOMISED = DataClass("r", Action.ENCRYPT)
DETERMINISTIC = DataClass("d", Action.ENCRYPT, deterministic=True)
TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=200)
IT = house(f"""
    json:$.phone: {{class: phone, as: phone, {WRITE}}}
    json:$.id: {{class: id, as: id}}
    json:$.name: {{class: masked}}
""")


def token(text: str, *, deterministic: bool = False, kind: str = "s") -> str:
    if deterministic:
        return seal_equal(DataKey(bytes(DEK_SIZE), Purpose.LOOKUP), text, SCOPE)
    return seal(DataKey(bytes(DEK_SIZE), Purpose.DATA), kind, text, SCOPE, bytes(24))


def class_of(forms: Forms) -> DataClass:
    return DataClass("c", Action.ENCRYPT, forms=forms)


def room(characters: int) -> Extent:
    return Extent(characters, 3 * characters)


# docs/spec/token.md, "Lengths": ASCII and Chinese characters that a field holds as a token.
@pytest.mark.parametrize(
    ("field", "randomised", "deterministic"),
    [
        (40, (-1, -1), (-1, -1)),
        (78, (-1, -1), (14, 4)),
        (79, (0, 0), (14, 4)),
        (80, (1, 0), (15, 5)),
        (255, (132, 44), (124, 41)),
        (32768, (24517, 8172), (20445, 6815)),
        (131072, (98245, 32748), (81885, 27295)),
    ],
)
def test_a_field_holds_as_many_characters_as_predicted_and_not_one_more(
    field: int, randomised: tuple[int, int], deterministic: tuple[int, int]
) -> None:
    for data_class, expected in ((RANDOMISED, randomised), (DETERMINISTIC, deterministic)):
        for character, holds in zip("a汉", expected, strict=True):
            size = len(character.encode())
            assert most_that_fits(data_class, Form.TOKEN, room(field), size) == holds
            lengths = [
                len(token(character * count, deterministic=data_class.deterministic)) for count in (holds, holds + 1)
            ]
            assert lengths[1] > field >= (lengths[0] if holds >= 0 else 0)


@pytest.mark.parametrize("size", [40, 80, 255, 131072])
@pytest.mark.parametrize("data_class", [RANDOMISED, DETERMINISTIC], ids=lambda item: item.name)
def test_the_predicted_maximum_of_a_value_is_the_measured_maximum(size: int, data_class: DataClass) -> None:
    predicted = longest(data_class, Form.TOKEN, of_characters(size)).characters
    values = ["a" * size, "é" * size, "汉" * size, "😀" * (size // 2)]
    measured = [len(token(value, deterministic=data_class.deterministic)) for value in values]
    assert max(measured) == measured[2] == predicted


@settings(deadline=None)
@given(TEXTS, st.booleans())
def test_every_token_has_the_predicted_length_and_no_text_is_beyond_the_maximum(text: str, deterministic: bool) -> None:
    made = token(text, deterministic=deterministic)
    assert len(made) == token_length(len(text.encode()), deterministic=deterministic)
    most = of_characters(extent_of(text).characters)
    assert extent_of(text).within(most)
    assert extent_of(made).within(longest(DETERMINISTIC if deterministic else RANDOMISED, Form.TOKEN, most))


@settings(deadline=None)
@given(TEXTS, st.booleans())
def test_tokens_of_brought_keys_have_the_length_predicted_for_them(text: str, deterministic: bool) -> None:
    dek = bytes(range(32))
    key = DataKey(dek, Purpose.LOOKUP if deterministic else Purpose.DATA, key_id_of(dek, 32))
    scope = Scope("acme", "cn", "d")
    made = seal_equal(key, text, scope) if deterministic else seal(key, "s", text, scope, bytes(24))
    assert len(made) == token_length(len(text.encode()), deterministic=deterministic, key_id_size=32)
    most = of_characters(extent_of(text).characters)
    found = longest(DETERMINISTIC if deterministic else RANDOMISED, Form.TOKEN, most, 32)
    assert extent_of(made).within(found)
    assert most_that_fits(DETERMINISTIC if deterministic else RANDOMISED, Form.TOKEN, found, 3, 32) == most.characters


def test_numbers_and_literals_are_as_long_as_their_text() -> None:
    assert len(token("18800.5", kind="n")) == token_length(7, deterministic=False)
    assert len(token("false", kind="l")) == token_length(5, deterministic=False)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10**9 - 1).map(lambda number: f"13{number:09}"))
def test_what_a_rule_writes_has_the_predicted_lengths(number: str) -> None:
    found = json.loads(agent(IT, json.dumps({"phone": number})))
    rule = next(rule for rule in next(iter(IT.policy.calls)).request.rules if rule.write)
    assert rule.data_class
    for name, form in rule.write:
        assert len(found[name]) == longest(rule.data_class, form, Extent(11, 11)).characters, form


@settings(deadline=None)
@given(TEXTS)
def test_no_mask_is_longer_than_its_value(text: str) -> None:
    found = json.loads(agent(IT, json.dumps({"name": text})))["name"]
    masked = IT.policy.classes["masked"]
    assert extent_of(found).within(longest(masked, Form.MASK, of_characters(extent_of(text).characters)))


def test_the_mask_of_the_longest_value_has_its_length_and_that_of_nothing_is_one_star() -> None:
    masked = IT.policy.classes["masked"]
    for count in (0, 1, 80):
        found = json.loads(agent(IT, json.dumps({"name": "汉" * count})))["name"]
        assert len(found) == longest(masked, Form.MASK, of_characters(count)).characters == max(count, 1)


def test_what_does_not_depend_on_the_value_fits_any_or_none() -> None:
    phone = IT.policy.classes["phone"]  # 64 bits in base32
    assert most_that_fits(phone, Form.INDEX, room(13), 3) is None
    assert most_that_fits(phone, Form.INDEX, room(12), 3) == -1
    assert most_that_fits(phone, Form.HASH, room(64), 3) is None
    assert most_that_fits(phone, Form.HASH, room(63), 3) == -1
    assert most_that_fits(phone, Form.REDACTION, room(8), 1) is None
    assert most_that_fits(phone, Form.REDACTION, room(7), 1) == -1


def test_format_preserving_values_grow_where_the_alphabet_has_characters_of_several_sizes() -> None:
    mixed, wide = (class_of(Forms(alphabet=Alphabet(text))) for text in ("0123456789😀", "😀😁😂🤣😃😄😅😆😉😊"))
    assert longest(mixed, Form.FORMAT_PRESERVING, of_characters(10)) == Extent(20, 40)
    assert longest(wide, Form.FORMAT_PRESERVING, of_characters(10)) == Extent(10, 20)
    assert longest(mixed, Form.FORMAT_PRESERVING, of_characters(1000)) == Extent(510, 1020)


def test_a_form_the_class_does_not_describe_has_no_length() -> None:
    for form in (Form.INDEX, Form.FORMAT_PRESERVING):
        with pytest.raises(ValueError, match="the class"):
            longest(RANDOMISED, form, of_characters(1))
