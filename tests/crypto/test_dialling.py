"""Dialling plans: they cannot be taken for one another, and all spellings of one number come to one."""

from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.crypto.dialling import PLANS, to_e164


def test_country_codes_are_prefix_free() -> None:
    """Else the code of a number could not be told from its digits."""
    assert not [pair for pair in permutations(PLANS, 2) if pair[0].startswith(pair[1])]


@pytest.mark.parametrize("country", PLANS)
def test_a_number_with_its_code_is_too_long_for_a_national_one(country: str) -> None:
    """Else "8613800138000" could be both."""
    plan = PLANS[country]
    assert len(country) + plan.least > plan.most
    assert plan.abroad.startswith("0")


@settings(deadline=None)
@given(country=st.sampled_from(list(PLANS)), data=st.data())
def test_all_spellings_of_a_number_come_to_one(country: str, data: st.DataObject) -> None:
    plan = PLANS[country]
    first = data.draw(st.sampled_from("23456789"))
    national = first + data.draw(st.text("0123456789", min_size=plan.least - 1, max_size=plan.most - 1))
    code = country + national
    spellings = [national, plan.trunk + national, plan.abroad + code, code]
    assert {to_e164(text, country, international=False) for text in spellings} == {"+" + code}
    assert to_e164(code, "", international=True) == "+" + code


@pytest.mark.parametrize("country", PLANS)
def test_one_digit_more_or_less_is_refused(country: str) -> None:
    plan = PLANS[country]
    for length in (plan.least - 1, plan.most + 1):
        for text in ("2" * length, plan.trunk + "2" * length, plan.abroad + country + "2" * length):
            with pytest.raises(ValueError, match="telephone number"):
                to_e164(text, country, international=False)
        with pytest.raises(ValueError, match="too long, too short"):
            to_e164(country + "2" * length, "", international=True)


@pytest.mark.parametrize("digits", ["", "4" * 6, "4" * 16, "0" * 10])
def test_what_e164_does_not_allow_is_refused(digits: str) -> None:
    with pytest.raises(ValueError, match="7 to 15 digits"):
        to_e164(digits, "", international=True)


def test_a_national_number_needs_a_country() -> None:
    with pytest.raises(ValueError, match="without a country code"):
        to_e164("13800138000", "", international=False)
