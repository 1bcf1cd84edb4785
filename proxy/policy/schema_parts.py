"""The building blocks of the JSON Schema of policies: objects, words with their meanings, conditions. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum

from proxy.policy.schema_words import KEYS, MEANINGS

type Schema = Mapping[str, object] | bool

TEXT: Schema = {"type": "string"}


def ref(name: str) -> dict[str, object]:
    return {"$ref": f"#/$defs/{name}"}


def described(name: str, schema: Schema) -> Schema:
    words = KEYS.get(name)
    if words is None or isinstance(schema, bool):
        return schema
    own = schema.get("description")
    return {"title": name, **schema, "description": f"{words}\n\n{own}" if own else words}


def closed(properties: Mapping[str, Schema], required: Iterable[str] = (), **more: object) -> dict[str, object]:
    """An object with these members and no others."""
    return {
        "type": "object",
        "properties": {name: described(name, schema) for name, schema in properties.items()},
        "required": list(required),
        "additionalProperties": False,
        **more,
    }


def choice(members: Iterable[Enum]) -> dict[str, object]:
    members = tuple(members)
    meanings = "\n".join(f"- {member.value}: {MEANINGS[member]}" for member in members)
    return {"enum": [member.value for member in members], "description": meanings}


def when(condition: Schema, then: Schema, **otherwise: object) -> dict[str, object]:
    return {"if": condition, "then": then, **({"else": otherwise} if otherwise else {})}
