"""A policy with a class for every form, and what proxy.crypto makes of the same values."""

from dataclasses import replace

from proxy.crypto import format_preserving
from proxy.crypto.blind_index import Spelling, blind_index, keyed_hash
from proxy.crypto.data_key import Purpose
from proxy.crypto.ff1 import Alphabet
from proxy.crypto.field_token import Scope, open_token, parse, seal, seal_equal
from proxy.policy.rules import Direction
from tests.policy.build import REGION, TENANT, House, compiled

CLASSES = """version: 1
classes:
  id: {action: encrypt, deterministic: true}
  phone:
    action: encrypt
    mask: {kind: phone}
    normalise: [e164]
    country: '86'
    index: {bits: 64, spelling: base32}
    alphabet: digits
    text: withheld
  words: {action: encrypt, normalise: [nfkc, trim, casefold], index: {}, mask: {keep_first: 1}}
  masked: {action: mask, mask: {kind: name}}
  redacted: {action: redact, text: gone}
  hashed: {action: hash, normalise: [trim, casefold]}
  indexed: {action: index, index: {bits: 128}, normalise: [e164], country: '86'}
  preserved: {action: format_preserving, alphabet: digits}
messages:
"""
HEAD = """  - name: m
    direction: agent
    match: {method: POST, path: /m}
    request:
"""
WRITE = (
    "write: {phone: mask, phone_enc: token, phone_ix: index, phone_h: hash, phone_fp: format_preserving, r: redaction}"
)


def house(rules: str) -> House:
    """A house with one agent's request of these rules, one a line without indentation."""
    lines = "".join(f"      {line.strip()}\n" for line in rules.strip().splitlines())
    return House(compiled(CLASSES + HEAD + lines))


def agent(it: House, body: str, *, query: str = "") -> str:
    return it.json(it.rules(Direction.AGENT, "POST", "/m"), body, query=query)


def scope(datum: str, *binds: str) -> Scope:
    return Scope(TENANT, REGION, datum, binds)


def index(it: House, text: str, datum: str, bits: int = 128, spelling: Spelling = "hex") -> str:
    return blind_index(it.keys.sealing["default", Purpose.LOOKUP], text, scope(datum), bits, spelling)


def hashed(it: House, text: str, datum: str) -> str:
    return keyed_hash(it.keys.sealing["default", Purpose.LOOKUP], text, scope(datum))


def preserved(it: House, text: str, datum: str, *binds: str) -> str:
    key = it.keys.sealing["default", Purpose.LOOKUP]
    return format_preserving.encrypt(key, text, scope(datum, *binds), Alphabet("0123456789"))


def opened(it: House, token: str, datum: str, *binds: str) -> tuple[str, str]:
    parsed = parse(token)
    return open_token(it.keys.opening[parsed.key_id], parsed, scope(datum, *binds))


def sealed(it: House, text: str, datum: str, *binds: str, kind: str = "s", tenant: str = TENANT) -> str:
    where = replace(scope(datum, *binds), tenant=tenant)
    return seal(it.keys.sealing["default", Purpose.DATA], kind, text, where, it.entropy(24))


def sealed_id(it: House, text: str, datum: str) -> str:
    return seal_equal(it.keys.sealing["default", Purpose.LOOKUP], text, scope(datum))
