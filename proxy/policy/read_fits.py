"""The keys `fits` and `max` of a rule: which CRM field its value belongs to, and how long the value can be. Pure."""

from __future__ import annotations

import re

from proxy.policy.rules import Fits
from proxy.source.section import Section

# Salesforce: 40 characters and `__c`, with the prefix of a package in front.
_NAME = r"[A-Za-z][A-Za-z0-9_]{0,79}"
_FIELD = re.compile(rf"crm:(?P<object>{_NAME})\.(?P<field>{_NAME})", re.ASCII)
_MOST = 1 << 20  # characters; no body that a route takes holds more


def read_fits(section: Section) -> Fits | None:
    """What the rule says; None without `fits`. What is wrong goes to the section's problems."""
    most = section.number("max", 0, least=1, most=_MOST)
    node = section.take("fits")
    if node is None:
        if most:
            section.problem(section.place, "missing-key", '"max" needs "fits", the field it is for')
        return None
    text = section.as_text(node, "fits")
    if text is None:
        return None
    match = _FIELD.fullmatch(text)
    if not match:
        section.problem(node.place, "fits-malformed", '"fits" names no field', "write crm:Object.Field__c")
        return None
    return Fits(match["object"], match["field"], most or None)
