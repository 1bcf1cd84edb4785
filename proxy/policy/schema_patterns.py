"""The forms of selectors and paths as regular expressions that editors understand (ECMA-262 and Python alike). Pure.

Tests hold them against the reader's own parsers.
"""

from __future__ import annotations

from collections.abc import Iterable

from proxy.policy.selector import GATEWAYS_OWN, MAX_INSIDE

_XML = r"(?:\*|[A-Za-z_][A-Za-z0-9_.-]{0,63})"
_LETTER, _CHARACTER = r"(?:[A-Za-z_]|[^\x00-\x7f])", r"(?:[A-Za-z0-9_]|[^\x00-\x7f])"
_QUOTED = r"""'[^'\\]*'|"[^"\\]*\""""
_NAMED = rf"(?:\.{_LETTER}{_CHARACTER}*|\[(?:0|[1-9][0-9]{{0,6}}|{_QUOTED})\])"
_ANY = r"(?:\.\*|\[\*\])"
_FORMS = {
    "xml": rf"/{_XML}(?:/{_XML})+",
    "json": rf"\$(?:{_NAMED}|{_ANY})+",
    "form": r"[A-Za-z0-9_.-]{1,64}",
    "multipart": r"(?:\*|[^>]+)/(?:body|filename|type)",
    "query": r"[A-Za-z0-9_.-]{1,64}",
    "path": r"[a-z][a-z0-9_]{0,31}",
    "header": rf"(?!(?:{'|'.join(sorted(GATEWAYS_OWN))})$)[a-z0-9-]{{1,64}}",
}
SELECTOR_FORMS = tuple(_FORMS)
_INNER = {form: _FORMS[form] for form in ("json", "xml", "form")} | {
    "base64": "text",
    "within": r"[a-z][a-z0-9_-]{0,31}",
}
_STAGES = "|".join(f"{form}:{rest}" for form, rest in _INNER.items())
_INSIDE = rf"(?: > (?:{_STAGES})){{0,{MAX_INSIDE}}}"
_WHOLE_ONLY = ("path", "header")

# A selector with `*` in it, however it is spelled; a quoted '*' is a name.
WILDCARD = rf"^(?:.* > )?(?:xml:(?:/{_XML})*?/\*(?:/| |$)|json:\$(?:{_NAMED})*{_ANY}|multipart:\*/)"

_SEGMENT = r"(?!\.{1,2}(?:/|$))[A-Za-z0-9._~-]+"
PATH_TEMPLATE = rf"^(?:/(?:{_SEGMENT}|\{{[a-z][a-z0-9_]{{0,31}}\}}))+$"
MESSAGE_TYPE = r"^(?![Ee][Vv][Ee][Nn][Tt]$)[^.]+$"
EVENT = r"^[Ee][Vv][Ee][Nn][Tt]$"


def whole(pattern: str) -> str:
    """`pattern` for a whole text: JSON Schema looks for it anywhere."""
    return f"^(?:{pattern})$"


def selectors(forms: Iterable[str]) -> str:
    """Selectors of these forms."""
    return whole("|".join(f"{form}:{_FORMS[form]}" + ("" if form in _WHOLE_ONLY else _INSIDE) for form in forms))


FIELD = whole(_FORMS["header"])
