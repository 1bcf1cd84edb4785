"""Fast reader of the form every push and reply has: one root, elements below it, text or one CDATA section in each.

It accepts a subset of what the strict reader in `xml_body` accepts and understands it alike (a property test holds the
two together); for everything else it returns None and the strict reader decides.
"""

from __future__ import annotations

import re

from proxy.document.tree import MAX_LEAVES, Kind, Leaf

CDATA = 1
_NAME = r"[A-Za-z_][A-Za-z0-9_.-]{0,63}"
# Without carriage returns, which XML turns into line feeds, and the characters it has no way to write (section 2.2).
# Said of what may stand there: `re` takes twice as long to find that a character is in none of several ranges.
_TEXT = r"[\t\n\x20-%'-;=?-\ufffd\U00010000-\U0010ffff]*+"
# A section ends at the first "]]>". Possessive throughout: what was read is never read again.
_SECTION = r"(?:[\t\n\x20-\x5c\x5e-\ufffd\U00010000-\U0010ffff]++|\](?!\]>))*+"
_ROOT = re.compile(rf"[ \t\n]*<({_NAME})>[ \t\n]*", re.ASCII)
_LEAF = re.compile(rf"<({_NAME})>(<!\[CDATA\[({_SECTION})\]\]>|{_TEXT})</\1>[ \t\n]*", re.ASCII)
_BLANK = re.compile(r"[ \t\n]*")


def read_flat(text: str) -> tuple[Leaf, ...] | None:
    """The leaves of `text`, or None if it is not of this form."""
    root = _ROOT.match(text)
    if root is None:
        return None
    name, position = root[1], root.end()
    leaves: list[Leaf] = []
    while (match := _LEAF.match(text, position)) is not None:
        element, content, section = match.groups()
        start, end = match.span(2)
        whole = (position, end + len(element) + 3)
        if section is None:
            leaves.append(Leaf((name, element), content, Kind.STRING, start, end, whole))
        else:
            leaves.append(Leaf((name, element), section, Kind.STRING, start, end, whole, CDATA))
        if len(leaves) > MAX_LEAVES:  # before the signature is checked anybody may send this
            return None
        position = match.end()
    closing = f"</{name}>"
    if not leaves or not text.startswith(closing, position):
        return None
    return tuple(leaves) if _BLANK.fullmatch(text, position + len(closing)) else None
