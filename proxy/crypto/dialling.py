"""Dialling plans: how telephone numbers are written inside a country, for the normalise step `e164`. Pure.

Sources: ITU-T E.164 (numbers), ITU Operational Bulletin 994 (international and trunk prefixes), the national numbering
plans notified to the ITU. A country without a plan here can be used with numbers that begin with +. Guessing a plan
would give one person's number to another.
"""

from __future__ import annotations

from dataclasses import dataclass

# E.164 has 15 digits at most; the shortest national plans come to 7 with the country code.
_LEAST, _MOST = 7, 15


@dataclass(frozen=True, slots=True)
class Plan:
    """Prefix of calls abroad, trunk prefix (perhaps none), least and most digits of a national number without it."""

    abroad: str
    trunk: str
    least: int
    most: int

    def holds(self, national: str) -> bool:
        """Whether `national` can be a number of this country: of the right length and without prefixes."""
        return self.least <= len(national) <= self.most and not national.startswith(self.trunk or "0")


PLANS = {
    "1": Plan("011", "1", 10, 10),  # United States, Canada
    "33": Plan("00", "0", 9, 9),  # France
    "44": Plan("00", "0", 9, 10),  # United Kingdom
    "61": Plan("0011", "0", 9, 9),  # Australia
    "65": Plan("001", "", 8, 8),  # Singapore
    "81": Plan("010", "0", 9, 10),  # Japan
    "852": Plan("001", "", 8, 8),  # Hong Kong
    "853": Plan("00", "", 8, 8),  # Macao
    "86": Plan("00", "0", 10, 11),  # mainland China: mobile 11; area code and subscriber 10 or 11
    "886": Plan("002", "0", 8, 9),  # Taiwan
}


def to_e164(digits: str, country: str, *, international: bool) -> str:
    """`digits` as + and country code. `international`: a + stood before them.

    ValueError if they are no number of the plan of `country`, or national and `country` is "".
    """
    if international:
        return _checked(digits)
    if not country:
        raise ValueError("a national telephone number without a country code; give the step e164 one")
    plan = PLANS[country]
    if digits.startswith(plan.abroad):
        return _checked(digits.removeprefix(plan.abroad))
    if plan.holds(national := digits.removeprefix(plan.trunk)):
        return "+" + country + national
    # "8613800138000": too long for a national number, so the code is already there.
    return _checked(_with_code(digits, country))


def _with_code(digits: str, country: str) -> str:
    if not digits.startswith(country):
        raise ValueError("a value is no telephone number of the country it is said to be of")
    return digits


def _checked(digits: str) -> str:
    if not _LEAST <= len(digits) <= _MOST or digits.startswith("0"):
        raise ValueError(f"a telephone number with its country code has {_LEAST} to {_MOST} digits and no 0 in front")
    plan_of = next((code for code in PLANS if digits.startswith(code)), None)
    if plan_of is not None and not PLANS[plan_of].holds(digits.removeprefix(plan_of)):
        raise ValueError("a telephone number is too long, too short or has a trunk prefix behind its country code")
    return "+" + digits
