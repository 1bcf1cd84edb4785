"""While a lookup key is replaced: new values have the new key, a search finds both, old tokens are made anew."""

import json
from dataclasses import replace

import pytest

from proxy.crypto.blind_index import blind_index, keyed_hash
from proxy.crypto.data_key import DEK_SIZE, DataKey, Purpose
from proxy.crypto.field_token import parse, seal_equal
from proxy.document.json_body import read_json
from proxy.policy.carry_out import Keyset
from proxy.policy.plan import make_plan
from proxy.policy.rules import Direction
from tests.policy.build import House, codes, refused
from tests.policy.forms import CLASSES, HEAD, house, scope

BOTH = "phone_ix: index, phone_old: index_previous, h: hash_previous, f: format_preserving_previous"
IT = house(f"""
    json:$.phone: {{class: phone, as: phone, write: {{{BOTH}}}}}
    json:$.id: {{class: id, as: id}}
    json:$.search: {{class: id, as: id, write: {{search: token, search_old: token_previous}}}}
    json:$.stored: {{class: phone, as: phone, write: {{stored: mask, stored_ix: index}}}}
""")
NEW, OLD = IT.keys.sealing["default", Purpose.LOOKUP], DataKey(b"\x07" * DEK_SIZE, Purpose.LOOKUP)
DURING = Keyset(IT.keys.sealing, {**IT.keys.opening, OLD.id: OLD}, {"default": OLD})
AFTER = replace(DURING, replaced={"default": NEW})


def left(body: object, keys: Keyset = DURING, it: House = IT) -> dict[str, str]:
    rules = it.rules(Direction.AGENT, "POST", "/m")
    return dict(json.loads(it.carry(rules, read_json(json.dumps(body).encode()), keys=keys).body))


def test_a_search_has_the_values_of_both_keys() -> None:
    found = left({"phone": "13800138000"})
    of = scope("phone")
    assert found["phone_ix"] == blind_index(NEW, "+8613800138000", of, 64, "base32")
    assert found["phone_old"] == blind_index(OLD, "+8613800138000", of, 64, "base32")
    assert found["h"] == keyed_hash(OLD, "+8613800138000", of) and found["f"] != "13800138000"
    stored = left({"stored": "13800138000"})
    assert stored["stored_ix"] == found["phone_ix"]  # what is stored from now on has the new value


def test_when_no_key_is_replaced_both_are_the_same() -> None:
    found = left({"phone": "13800138000"}, AFTER)
    assert found["phone_ix"] == found["phone_old"]


def test_deterministic_tokens_have_both_as_well() -> None:
    found = left({"search": "oFollower"})
    assert found["search"] == seal_equal(NEW, "oFollower", scope("id"))
    assert found["search_old"] == seal_equal(OLD, "oFollower", scope("id"))


@pytest.mark.parametrize("keys", [DURING, AFTER])
def test_a_token_under_the_old_key_is_made_anew_and_one_under_the_new_stays(keys: Keyset) -> None:
    old, new = seal_equal(OLD, "oFollower", scope("id")), seal_equal(NEW, "oFollower", scope("id"))
    assert left({"id": old}, keys) == left({"id": new}, keys) == {"id": new}
    assert left({"search": old})["search"] == new


def test_a_token_of_another_datum_is_no_token_whatever_its_key() -> None:
    strange = seal_equal(OLD, "oFollower", scope("other"))
    token = left({"id": strange})["id"]
    assert parse(token).key_id == NEW.id and len(token) > len(strange)


def test_a_plan_names_the_keys_it_needs() -> None:
    rules = IT.rules(Direction.AGENT, "POST", "/m")
    plan = make_plan(IT.policy, rules, read_json(b'{"phone": "1"}'), "", "")
    assert plan.needs().groups == {("default", Purpose.LOOKUP)} and plan.needs().replaced == {"default"}
    plan = make_plan(IT.policy, rules, read_json(b'{"stored": "1"}'), "", "")
    assert plan.needs().replaced == set()


def test_without_the_old_key_nothing_is_written() -> None:
    assert refused(lambda: left({"phone": "13800138000"}, replace(DURING, replaced={}))) == "key_unavailable"


def test_only_deterministic_classes_have_tokens_of_the_key_before() -> None:
    text = CLASSES + HEAD + "      json:$.a: {class: phone, as: phone, write: {a: token, b: token_previous}}\n"
    assert "form-undescribed" in codes(text)
