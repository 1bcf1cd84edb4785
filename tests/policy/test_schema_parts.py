"""The building blocks of the schema, by a validator that knows nothing of wxgate."""

import pytest
from jsonschema import Draft202012Validator

from proxy.policy.rules import Reveal
from proxy.policy.schema_parts import TEXT, Schema, choice, closed, described, when
from proxy.policy.schema_words import KEYS

ENTRY = closed({"name": TEXT, "match": {"type": "object"}}, required=("name",))
TYPED = when({"properties": {"a": {"const": 1}}}, {"required": ["b"]}, required=["c"])


@pytest.mark.parametrize(
    ("schema", "value", "valid"),
    [
        (ENTRY, {"name": "a"}, True),
        (ENTRY, {"match": {}}, False),
        (ENTRY, {"name": "a", "nam": "b"}, False),
        (ENTRY, {"name": 1}, False),
        (ENTRY, [], False),
        (choice(Reveal), "keep", True),
        (choice(Reveal), "KEEP", False),
        (TYPED, {"a": 1, "b": 1}, True),
        (TYPED, {"a": 1, "c": 1}, False),
        (TYPED, {"a": 2, "c": 1}, True),
        (TYPED, {"a": 2, "b": 1}, False),
    ],
)
def test_what_is_valid(schema: dict[str, object], value: object, valid: bool) -> None:
    assert Draft202012Validator(schema).is_valid(value) == valid


def test_words_are_explained_one_by_one_below_their_key() -> None:
    explained = described("reveal", choice(Reveal))
    assert isinstance(explained, dict)
    assert explained["title"] == "reveal"
    assert explained["description"] == f"{KEYS['reveal']}\n\n{choice(Reveal)['description']}"
    assert str(choice(Reveal)["description"]).splitlines()[0] == "- plain: the value"


@pytest.mark.parametrize("schema", [True, False, {"type": "null"}])
def test_what_has_no_explanation_stays_as_it_is(schema: Schema) -> None:
    assert described("no such key", schema) == schema
