"""policies/contacts.yaml: what an agent writes is stored so that it is read by role and found by its index."""

import json
from pathlib import Path
from urllib.parse import quote

import pytest

from proxy.crypto.data_key import Purpose
from proxy.document.json_body import read_json
from proxy.policy.compile import compile_policy
from proxy.policy.plan import make_plan
from proxy.policy.rules import Direction
from tests.policy.build import House, refused

POLICIES = Path(__file__).parents[2] / "policies"
IT = House(compile_policy("contacts.yaml", lambda name: (POLICIES / name).read_bytes()))
CONTACT = "/services/data/v60.0/sobjects/Contact"
CLEAR = json.loads((POLICIES / "samples/contacts/contact.json").read_bytes())
READ = IT.rules(Direction.AGENT, "GET", f"{CONTACT}/003XX000004TmiQYAS", response=True)
SEARCH = IT.rules(Direction.AGENT, "GET", "/services/data/v60.0/parameterizedSearch")
FOUND = IT.rules(Direction.AGENT, "GET", "/services/data/v60.0/parameterizedSearch", response=True)


def stored(contact: dict[str, str], method: str = "POST", path: str = CONTACT) -> dict[str, str]:
    found = json.loads(IT.json(IT.rules(Direction.AGENT, method, path), json.dumps(contact)))
    assert isinstance(found, dict)
    return found


def searched(number: str) -> str:
    return IT.carry(SEARCH, None, query=f"q={quote(number, safe='')}&sobject=Contact").query


def test_nothing_of_a_contact_is_stored_in_clear() -> None:
    record = stored(CLEAR)
    names = ["LastName", "Name_enc__c", "Phone", "Phone_enc__c", "Phone_ix__c", "Email", "Email_enc__c", "Email_ix__c"]
    assert list(record) == names
    shown = {"LastName": "欧阳**", "Phone": "138 **** 8000", "Email": "X*************@example.com"}
    assert record | shown == record
    assert not [clear for clear in CLEAR.values() if clear in json.dumps(record, ensure_ascii=False)]


@pytest.mark.parametrize(
    ("role", "expected"),
    [
        (
            "agent",
            {"Name_enc__c": "欧阳小南", "Phone_enc__c": "138 0013 8000", "Email_enc__c": "Xiaonan.Ouyang@example.com"},
        ),
        (
            "clerk",
            {"Name_enc__c": "欧阳**", "Phone_enc__c": "138 **** 8000", "Email_enc__c": "X*************@example.com"},
        ),
    ],
)
def test_a_role_reads_what_the_policy_reveals_to_it(role: str, expected: dict[str, str]) -> None:
    assert json.loads(IT.json(READ, json.dumps(stored(CLEAR)), role=role)) == expected


def test_a_field_nobody_filled_in_is_read_as_empty() -> None:
    assert json.loads(IT.json(READ, '{"Phone":null,"Phone_enc__c":null,"Email_enc__c":""}', role="clerk")) == {
        "Phone_enc__c": None,
        "Email_enc__c": "",
    }


def test_everybody_else_gets_the_tokens() -> None:
    record = stored(CLEAR)
    kept = {name: text for name, text in record.items() if name.endswith("_enc__c")}
    assert json.loads(IT.json(READ, json.dumps(record), role="intern")) == kept


def test_what_was_read_with_the_tokens_can_be_stored_again() -> None:
    before = stored(CLEAR)
    again = stored({"Phone": before["Phone_enc__c"]}, "PATCH", f"{CONTACT}/003XX000004TmiQYAS")
    assert again == {name: before[name] for name in ("Phone", "Phone_enc__c", "Phone_ix__c")}


@pytest.mark.parametrize("number", ["13800138000", "+86 138-0013-8000", "（138）0013 8000", "0086 13800138000"])
def test_a_number_is_found_however_it_is_typed(number: str) -> None:
    assert searched(number) == f"q={stored(CLEAR)['Phone_ix__c']}&sobject=Contact"


@pytest.mark.parametrize(
    ("region", "typed", "same"),
    [
        ("hk", "9123 4567", "+852 91234567"),
        ("sg", "9123 4567", "+65 91234567"),
        ("cn", "13800138000", "+8613800138000"),
    ],
)
def test_a_national_number_is_one_of_its_region(region: str, typed: str, same: str) -> None:
    there = House(IT.policy.for_owner("acme", region))
    rules = there.rules(Direction.AGENT, "POST", CONTACT)
    one, two = (json.loads(there.json(rules, json.dumps({"Phone": number})))["Phone_ix__c"] for number in (typed, same))
    assert one == two


def test_a_search_takes_the_lookup_key_only() -> None:
    plan = make_plan(IT.policy, SEARCH, None, "q=13800138000", "")
    assert plan.needs().groups == {("default", Purpose.LOOKUP)}


def test_another_number_is_not_found_and_none_is_refused() -> None:
    assert searched("13800138001") != searched("13800138000")
    assert refused(lambda: searched("Xiaonan")) == "value_refused"


def test_equal_texts_of_two_data_have_two_indexes() -> None:
    record = stored({"Phone": "13800138000", "Email": "+8613800138000"})
    assert record["Phone_ix__c"] != record["Email_ix__c"]


@pytest.mark.parametrize("name", ["Phone_enc__c", "Phone_ix__c", "Name_enc__c", "Description"])
def test_a_client_cannot_write_what_the_gateway_writes(name: str) -> None:
    assert refused(lambda: stored(CLEAR | {name: "made up"})) == "field_unknown"


def test_a_second_record_with_one_number_is_for_people_to_decide() -> None:
    record = {"attributes": {"type": "Contact", "url": "/x"}, "Id": "003"}
    IT.carry(FOUND, read_json(json.dumps({"searchRecords": [record]}).encode()))
    two = read_json(json.dumps({"searchRecords": [record, record]}).encode())
    assert refused(lambda: IT.carry(FOUND, two)) == "field_unknown"
