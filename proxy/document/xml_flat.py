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
_TEXT = r"[^<>&\r\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]*+"
# A section ends at the first "]]>". Possessive throughout: what was read is never read again.
_SECTION = r"(?:[^\]\r\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]++|\](?!\]>))*+"
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
        start = match.start(2)
        end = start + len(content)
        if section is None:
            leaf = Leaf((name, element), content, Kind.STRING, start, end, (position, end + len(element) + 3))
        else:
            leaf = Leaf((name, element), section, Kind.STRING, start, end, (position, end + len(element) + 3), CDATA)
        leaves.append(leaf)
        if len(leaves) > MAX_LEAVES:  # before the signature is checked anybody may send this
            return None
        position = match.end()
    closing = f"</{name}>"
    if not leaves or not text.startswith(closing, position):
        return None
    return tuple(leaves) if _BLANK.fullmatch(text, position + len(closing)) else None
