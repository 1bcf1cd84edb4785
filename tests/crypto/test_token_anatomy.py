"""What is said of a token agrees with what the reader does with it, and with the published reasons."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.crypto.data_key import DataKey, Purpose
from proxy.crypto.field_token import Scope, TokenError, parse, seal, seal_equal
from proxy.crypto.token_anatomy import TYPES, dissect

_FILE = Path(__file__).parents[1] / "vectors" / "wxgate" / "token.json"
_VECTORS: list[dict[str, Any]] = [v for v in json.loads(_FILE.read_text())["vectors"] if v["kind"] != "keyring"]
_BEFORE_A_KEY = {"prefix", "spelling", "length"}
KEY = DataKey(bytes(range(32)), Purpose.LOOKUP)
SCOPE = Scope("acme", "cn", "datum")


@pytest.mark.parametrize("vector", [pytest.param(vector, id=vector["name"]) for vector in _VECTORS])
def test_the_step_is_the_published_reason(vector: dict[str, Any]) -> None:
    found = dissect(vector["inputs"]["token"])
    reason = vector["expected"].get("reason", "")
    assert found.step == (reason if reason in _BEFORE_A_KEY else "")
    assert bool(found.fault) == bool(found.step)
    assert bool(found.key_id) == (not found.step)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("refuse-prefix-version", "version that this wxgate does not know"),
        ("refuse-prefix-upper-case", "upper case"),
        ("refuse-prefix-missing", "no prefix of a token"),
        ("refuse-spelling-padding", "is padding"),
        ("refuse-spelling-line-end", "line end"),
        ("refuse-spelling-blank", "is a blank"),
        ("refuse-spelling-plus", "other base64 alphabet"),
        ("refuse-spelling-slash", "other base64 alphabet"),
        ("refuse-spelling-full-width", "U+FF"),
        ("refuse-spelling-four-spare-bits", "spare bits"),
        ("refuse-spelling-two-spare-bits", "spare bits"),
        ("refuse-spelling-impossible-length", "no byte string has"),
        ("refuse-equal-upper-case", "in lower case"),
        ("refuse-equal-spare-bits", "spare bits"),
        ("refuse-equal-impossible-length", "no byte string has"),
        ("refuse-equal-padding", "is padding"),
        ("refuse-equal-digit-one", "U+0031"),
        ("refuse-truncated-below-minimum", "it was cut"),
        ("refuse-equal-truncated-below-minimum", "it was cut"),
        ("refuse-truncated-to-prefix", "nothing stands behind"),
        ("refuse-truncated-empty", "no prefix of a token"),
    ],
)
def test_every_refusal_before_a_key_is_explained(name: str, said: str) -> None:
    (vector,) = [vector for vector in _VECTORS if vector["name"] == name]
    assert said in dissect(vector["inputs"]["token"]).fault


def test_no_refusal_of_the_vectors_is_left_unexplained() -> None:
    steps = {v["expected"]["reason"] for v in _VECTORS if v["expected"]["result"] == "refuse"}
    assert steps == _BEFORE_A_KEY | {"key id", "tag"}


@settings(deadline=None)
@given(st.sampled_from([*TYPES, "wg9.", "WG1.", ""]), st.text(st.sampled_from("aAbZ27-_+/= \n.é"), max_size=90))
def test_what_is_explained_is_what_is_refused(prefix: str, rest: str) -> None:
    try:
        parse(prefix + rest)
        taken = True
    except TokenError:
        taken = False
    assert (not dissect(prefix + rest).step) == taken


@settings(deadline=None)
@given(st.binary(max_size=120), st.sampled_from(sorted(TYPES)))
def test_canonical_spellings_fail_by_length_only(raw: bytes, prefix: str) -> None:
    text = base64.b32encode(raw).decode().lower() if prefix[1] == "d" else base64.urlsafe_b64encode(raw).decode()
    found = dissect(prefix + text.rstrip("="))
    assert found.step in (("", "length") if raw else ("spelling",))


@settings(deadline=None)
@given(st.text(max_size=60), st.sampled_from("snl"))
def test_lengths_and_key_of_a_token(value: str, kind: str) -> None:
    for token in (seal(KEY, kind, value, SCOPE, bytes(24)), seal_equal(KEY, value, SCOPE)):
        found = dissect(token)
        assert (found.length, found.value_bytes, found.key_id) == (len(token), len(value.encode()), KEY.id)
        assert found.type == TYPES[token[:4]]
