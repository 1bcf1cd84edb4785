"""Describe results for tests."""

import json

from proxy.policy.crm_fields import CrmField, read_metadata


def described(name: str, type_: str = "string", length: int = 255, **changes: object) -> dict[str, object]:
    """One field as a describe result has it."""
    flags = dict.fromkeys(("unique", "externalId", "caseSensitive", "calculated", "autoNumber"), False)
    more = dict.fromkeys(("filterable", "createable", "updateable"), True)
    return {"name": name, "type": type_, "length": length, "byteLength": 3 * length} | flags | more | changes


def metadata(*fields: dict[str, object], name: str = "Contact") -> bytes:
    return json.dumps({"name": name, "label": "Kontakt", "fields": fields}).encode()


def objects(*fields: dict[str, object], name: str = "Contact") -> dict[str, dict[str, CrmField]]:
    return read_metadata(metadata(*fields, name=name))
