"""What a text that looks like a token is made of, and what is wrong with it, said aloud. Pure.

For `wxgate token inspect`, where the reader is the deployer. The gateway itself never tells a reason
(`field_token.TokenError`): that would be an oracle. Steps and their order: docs/spec/token.md, "Opening".
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from proxy.crypto.field_token import (
    DETERMINISTIC,
    MAX_TOKEN,
    PREFIX_SIZE,
    RANDOMISED,
    TokenError,
    parse,
)
from proxy.crypto.xaes import NONCE_SIZE, TAG_SIZE

_KINDS = {"s": "string", "n": "number", "l": "literal"}
TYPES = {prefix: _KINDS[kind] for prefixes in RANDOMISED.values() for kind, prefix in prefixes.items()}
TYPES |= dict.fromkeys(DETERMINISTIC.values(), "deterministic")
"""What each prefix stands for."""
_LOOKS_LIKE = re.compile(r"w[gnld][0-9]\.", re.ASCII | re.IGNORECASE)
_SIV_SIZE = 16


@dataclass(frozen=True, slots=True)
class Anatomy:
    """`length`: characters of the whole text. `step` names where a reader stops: "prefix", "spelling" or "length",
    empty for a token; `fault` says it in words. Without a fault `key_id` and `value_bytes`, the UTF-8 length of the
    value, are known."""

    prefix: str
    type: str
    length: int
    step: str = ""
    fault: str = ""
    key_id: bytes = b""
    value_bytes: int = 0


def dissect(token: str) -> Anatomy:
    """Takes `token` apart without a key. Agrees with `field_token.parse` on what is one."""
    prefix = token[:PREFIX_SIZE]
    known = TYPES.get(prefix, "")
    try:
        parsed = parse(token)
    except TokenError:
        step, fault = _fault(prefix, token[PREFIX_SIZE:])
        return Anatomy(prefix if known else "", known, len(token), step, fault)
    frame = _SIV_SIZE if parsed.deterministic else NONCE_SIZE + TAG_SIZE
    return Anatomy(prefix, known, len(token), key_id=parsed.key_id, value_bytes=len(parsed.body) - frame)


def _fault(prefix: str, text: str) -> tuple[str, str]:
    """Step and sentence for what `parse` refuses."""
    if prefix not in TYPES:
        return "prefix", _prefix_fault(prefix)
    if len(text) > MAX_TOKEN:
        return "length", f"more than {MAX_TOKEN} characters behind the prefix; it is refused unread"
    return _spelling_fault(text, deterministic=TYPES[prefix] == "deterministic") or (
        "length",
        "fewer bytes than a token of this type has at least: it was cut",
    )


def _prefix_fault(prefix: str) -> str:
    if prefix.lower() in TYPES:
        return f"the prefix is in upper case; something changed the text's case, and {prefix.lower()} is lost with it"
    if _LOOKS_LIKE.fullmatch(prefix):
        return "the prefix is of a type or version that this wxgate does not know"
    return f"no prefix of a token; it would begin with {', '.join(TYPES)}"


def _spelling_fault(text: str, *, deterministic: bool) -> tuple[str, str] | None:
    """RFC 4648 sections 5 and 6 without padding, section 3.5: one spelling for every byte string."""
    name, alphabet = ("base32", "[a-z2-7]") if deterministic else ("base64url", "[A-Za-z0-9_-]")
    impossible, group = ((1, 3, 6), 8) if deterministic else ((1,), 4)
    if not text:
        return "spelling", "nothing stands behind the prefix"
    foreign = re.search(rf"(?!{alphabet}).", text, re.ASCII | re.DOTALL)
    if foreign:
        return "spelling", f"character {PREFIX_SIZE + foreign.start() + 1} {_foreign(foreign[0], deterministic)}"
    if len(text) % group in impossible:
        return "spelling", f"no byte string has {len(text)} characters in {name}: the text was cut or added to"
    if _spare_bits(text, deterministic=deterministic):
        return "spelling", f"the spare bits of the last {name} character are not zero: the text was changed at its end"
    return None


def _foreign(character: str, deterministic: bool) -> str:
    if character == "=":
        return "is padding; tokens have none"
    if character.isspace():
        return "is a blank or line end; tokens have none"
    if not deterministic and character in "+/":
        return "belongs to the other base64 alphabet; tokens use - and _"
    if deterministic and "A" <= character <= "Z":
        return "is in upper case; deterministic tokens are in lower case"
    return f"(U+{ord(character):04X}) is not of the token's alphabet"


def _spare_bits(text: str, *, deterministic: bool) -> int:
    """The bits of the last character that carry nothing."""
    alphabet = (
        "abcdefghijklmnopqrstuvwxyz234567"
        if deterministic
        else "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    )
    spare = len(text) * (5 if deterministic else 6) % 8
    return alphabet.index(text[-1]) & ((1 << spare) - 1)
