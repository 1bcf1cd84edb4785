"""What a CRM says of its fields: a Salesforce describe result, read strictly. Pure.

Source: Salesforce REST API, `/services/data/{version}/sobjects/{name}/describe` (DescribeSObjectResult, Field). What no
check needs is skipped. The errors name members and positions, never values.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NoReturn

MAX_METADATA: Final = 4 * 1024 * 1024  # an object of 800 fields takes one megabyte
_MAX_VALUES = 500_000
_MAX_LENGTH = 1 << 30
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,79}", re.ASCII)
_TYPE = re.compile(r"[A-Za-z][A-Za-z0-9]{0,39}", re.ASCII)


class MetadataError(ValueError):
    """No describe result. The text says where and what to do."""


@dataclass(frozen=True, slots=True)
class CrmField:
    """A field of an object. `length`: characters, `octets`: bytes of the longest value, both 0 where the type has none;
    `writable`: by the API."""

    name: str
    type: str
    length: int
    octets: int
    unique: bool
    external_id: bool
    filterable: bool
    case_sensitive: bool
    writable: bool


CrmObjects = Mapping[str, Mapping[str, CrmField]]
"""Fields by their names, by the names of their objects."""


def read_metadata(data: bytes) -> dict[str, dict[str, CrmField]]:
    """The objects in one file: a describe result, a list of them, `{"sobjects": [...]}`, or one in the `result` of the
    Salesforce CLI. Raises MetadataError."""
    top = _loads(data)
    if isinstance(top, dict) and "result" in top:
        top = top["result"]
    if isinstance(top, dict) and "sobjects" in top:
        top = top["sobjects"]
    objects: dict[str, dict[str, CrmField]] = {}
    for index, item in enumerate(top if isinstance(top, list) else [top]):
        name, fields = _object(item, f"object {index + 1}")
        if name in objects:
            raise MetadataError(f"{name} is described twice; keep one of them")
        objects[name] = fields
    return objects


def _loads(data: bytes) -> object:
    # Every value but the first of its container stands behind a comma: this bounds the memory that reading takes.
    if len(data) > MAX_METADATA or data.count(b",") > _MAX_VALUES:
        raise MetadataError("it is too large; describe fewer objects in one file")
    try:
        return json.loads(data.decode(), object_pairs_hook=_members, parse_constant=_no_number)
    except MetadataError:
        raise
    except (ValueError, RecursionError):
        raise MetadataError("it is no well-formed JSON in UTF-8") from None


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise MetadataError("a member stands twice in one object")
    return members


def _no_number(_word: str) -> NoReturn:
    raise MetadataError("it has a number that JSON does not know")


def _object(item: object, where: str) -> tuple[str, dict[str, CrmField]]:
    name = _text(item, "name", where, _NAME)
    fields = _member(item, "fields", name)
    if not isinstance(fields, list):
        raise MetadataError(f"{name}: fields must be a list")
    found: dict[str, CrmField] = {}
    for index, entry in enumerate(fields):
        field = _field(entry, f"{name}.fields[{index}]")
        if field.name in found:
            raise MetadataError(f"{name} has {field.name} twice")
        found[field.name] = field
    return name, found


def _field(item: object, where: str) -> CrmField:
    where = f"{where} ({_text(item, 'name', where, _NAME)})"
    computed = _flag(item, "calculated", where) or _flag(item, "autoNumber", where)
    may_write = [_flag(item, key, where) for key in ("createable", "updateable")]
    return CrmField(
        _text(item, "name", where, _NAME),
        _text(item, "type", where, _TYPE).lower(),
        _size(item, "length", where),
        _size(item, "byteLength", where),
        _flag(item, "unique", where),
        _flag(item, "externalId", where),
        _flag(item, "filterable", where),
        _flag(item, "caseSensitive", where),
        any(may_write) and not computed,
    )


def _member(item: object, key: str, where: str) -> object:
    if not isinstance(item, dict):
        raise MetadataError(f"{where} is no JSON object; take the answer of /sobjects/NAME/describe")
    if key not in item:
        raise MetadataError(f"{where} has no {key}; take the whole answer of /sobjects/NAME/describe")
    return item[key]


def _text(item: object, key: str, where: str, form: re.Pattern[str]) -> str:
    value = _member(item, key, where)
    if not isinstance(value, str) or not form.fullmatch(value):
        raise MetadataError(f"{where}: {key} is no name")
    return value


def _size(item: object, key: str, where: str) -> int:
    value = _member(item, key, where)
    if type(value) is not int or not 0 <= value <= _MAX_LENGTH:
        raise MetadataError(f"{where}: {key} must be a whole number, 0 or more")
    return value


def _flag(item: object, key: str, where: str) -> bool:
    value = _member(item, key, where)
    if not isinstance(value, bool):
        raise MetadataError(f"{where}: {key} must be true or false")
    return value
