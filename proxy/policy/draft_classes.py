"""What a value of a sample is, guessed from the field's name and the value's shape. Pure.

A wrong guess never opens anything: what looks like data is encrypted under one class or another, and what looks
technical is refused until somebody decides.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from proxy.document.tree import Kind, Leaf


class Guess(NamedTuple):
    """`data_class`: empty for what looks technical, then `reason` says why. Of two guesses for one field the lower
    `rank` counts: the more a value could tell, the lower."""

    rank: int
    data_class: str
    reason: str = ""


# Class -> how a policy writes it. An empty text: wechat-envelope.yaml has it. The order is the rank.
CLASSES = {
    "person.openid": "",
    "person.unionid": "{action: encrypt, deterministic: true}",
    "person.number": "{action: encrypt, mask: {kind: id}}",
    "person.phone": "{action: encrypt, mask: {kind: phone}}",
    "person.email": "{action: encrypt, mask: {kind: email}}",
    "person.name": "{action: encrypt, mask: {kind: name}}",
    "person.address": "{action: encrypt}",
    "person.position": "{action: encrypt}",
    "person.detail": "{action: encrypt}",
    "secret": "{action: encrypt}",
    "content.media": "{action: encrypt}",
    "content.text": "{action: encrypt}",
    "business.date": "{action: encrypt}",
    "business.amount": "{action: encrypt}",
    "business.reference": "{action: encrypt}",
}
# The same datum under the same name in all messages: what wechat-envelope.yaml calls a follower's id.
DATA = {name: name for name in CLASSES} | {"person.openid": "openid", "person.unionid": "unionid"}
_RANK = {name: rank for rank, name in enumerate(CLASSES)}

# Of names in lower case without _, - and blanks. The first that is found counts.
_CLEAR_NAMES = (
    ("person.unionid", r"unionid"),
    ("person.openid", r"openid|^touser$|^(from|friend)user(name)?$|^tousername$"),
    ("secret", r"passw|secret|ticket|token|credential|verif\w*code"),
    ("person.email", r"mail(?!ing)"),
    ("person.phone", r"phone|mobile|^tel|fax|whatsapp"),
    ("person.number", r"idcard|identity|idno|passport|bank|iban|^tax|taxno|taxid|licen[cs]e|cardn[ou]"),
    ("person.position", r"latitude|longitude|^lat$|^lng$|^lon$|location[xy]|location$|position|^geo|poi(name|id)?$"),
    ("person.address", r"addr|street|^city|city$|province|district|county|postal|zip|postcode"),
    ("content.media", r"media|picurl|url|uri$|link|href|thumb|filekey|avatar|headimg|photo|image|voice|video|picmd5"),
    ("content.text", r"content|text|descr|comment|remark|note|message|^msg$|errmsg|subject|title|recogni|reason"),
    ("content.text", r"keyword|question|answer|label|body|eventkey|scanresult|pagepath|reply"),
    ("person.name", r"nick|username|realname|firstname|lastname|fullname|surname|contact|owner|receiver|sender|^name$"),
    ("person.name", r"(customer|account|person|user|display|member)name"),
    ("person.detail", r"birth|gender|^sex$|^age$|nation|marital|religio|health"),
)
_FAINT_NAMES = (
    ("business.date", r"date|time|stamp|^(created|modified|updated)at?$"),
    ("business.amount", r"amount|price|fee$|total|money|balance|cost|salary|refund|payment$|budget"),
    ("business.reference", r"id$|ids$|idc$|no$|noc$|number|(?<!err)code$|sn$|key$|ref$|reference|serial|md5|hash"),
    ("person.name", r"name"),
)
_CLEAR_SHAPES = (
    ("person.openid", r"o[A-Za-z0-9_-]{27}"),
    ("person.email", r"[^@\s]+@[^@\s]+\.[^@\s]+"),
    ("person.number", r"[0-9]{17}[0-9Xx]|[0-9]{16}|[0-9]{19}"),
    (
        "person.phone",
        r"(\+|00)[0-9][0-9 ()-]{5,18}|1[3-9][0-9]{9}|0[0-9]{2,3}[ -][0-9]{6,8}|1[3-9][0-9]([ -][0-9]{4}){2}",
    ),
    ("content.media", r"[A-Za-z][A-Za-z0-9+.-]{1,15}://\S*"),
    ("person.position", r"-?[0-9]{1,3}\.[0-9]{4,}"),
)
_FAINT_SHAPES = (
    ("business.date", r"[0-9]{4}[-/.][0-9]{1,2}[-/.][0-9]{1,2}([T ].{0,32})?|1[0-9]{9}|1[0-9]{12}"),
    ("business.amount", r"[¥$€£]? ?-?[0-9]{1,12}[.,][0-9]{1,3}( ?[A-Z]{3})?"),
    ("business.reference", r"(?=.*[0-9])[A-Za-z0-9_=+/.-]{15,}|[0-9]{6,}"),  # Salesforce's ids and UUIDs too
)
_WORD = re.compile(r"[A-Za-z0-9_.:/-]{1,32}", re.ASCII)
_TEXT_LIMIT = 256  # what is longer has the shape of a text, or of something one cannot decide

_Compiled = tuple[tuple[str, re.Pattern[str]], ...]


def _compiled(table: tuple[tuple[str, str], ...]) -> _Compiled:
    return tuple((name, re.compile(pattern, re.ASCII)) for name, pattern in table)


_BY_CLEAR_NAME, _BY_FAINT_NAME = _compiled(_CLEAR_NAMES), _compiled(_FAINT_NAMES)
_BY_CLEAR_SHAPE, _BY_FAINT_SHAPE = _compiled(_CLEAR_SHAPES), _compiled(_FAINT_SHAPES)


def classify(name: str, leaf: Leaf) -> Guess:
    """What stands in `leaf`, a field called `name` (empty if its name is data itself, or it has none)."""
    plain = re.sub(r"[_\s-]", "", name).lower()
    found = (
        _by_name(_BY_CLEAR_NAME, plain)
        or _by_shape(_BY_CLEAR_SHAPE, leaf)
        or _by_name(_BY_FAINT_NAME, plain)
        or _by_shape(_BY_FAINT_SHAPE, leaf)
    )
    if found:
        return Guess(_RANK[found], found)
    reason = _technical(leaf)
    return Guess(len(_RANK), "", reason) if reason else Guess(_RANK["content.text"], "content.text")


def _by_name(table: _Compiled, name: str) -> str:
    return next((found for found, pattern in table if pattern.search(name)), "")


def _by_shape(table: _Compiled, leaf: Leaf) -> str:
    if leaf.kind not in (Kind.STRING, Kind.NUMBER) or len(leaf.text) > _TEXT_LIMIT:
        return ""
    text = leaf.text.strip()
    return next((found for found, pattern in table if pattern.fullmatch(text)), "")


def _technical(leaf: Leaf) -> str:
    """Why a value looks technical; empty if it looks like a text somebody wrote."""
    if leaf.kind is Kind.EMPTY:
        return "an empty list or object in the sample"
    if leaf.kind is Kind.LITERAL:
        return "true, false or null in the sample"
    if leaf.kind is Kind.NUMBER:
        return "a number without more meaning"
    if not leaf.text.strip():
        return "empty in the sample"
    return "a short word or number" if _WORD.fullmatch(leaf.text) else ""


_NAME = re.compile(r"[A-Za-z_@][A-Za-z0-9_.@ -]{0,63}(?<! )", re.ASCII)
# Five digits in a row, an @ that does not lead, an openid, a long mixture of letters and digits.
_DATA = re.compile(r".*[0-9]{5}.*|.+@.*|o[A-Za-z0-9_-]{27}|(?=(.*[0-9]){2})[A-Za-z0-9]{15,}", re.ASCII)


def is_data(name: str) -> bool:
    """Whether what stands where a name should be looks like a value: an id, a number, an address, no ASCII word."""
    return not _NAME.fullmatch(name) or _DATA.fullmatch(name) is not None
