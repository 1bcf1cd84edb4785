"""Format-preserving values: FF1 under a LOOKUP key, the scope as tweak. Pure.

For CRM fields that take nothing but, say, sixteen digits. Normative text: docs/spec/token.md, "Lookup values". The
result carries neither prefix nor key id nor tag: it cannot be told from a real value, and a changed one decrypts to a
wrong one without notice. A token is better wherever it fits.
"""

from __future__ import annotations

from proxy.crypto.data_key import DataKey
from proxy.crypto.ff1 import Alphabet
from proxy.crypto.field_token import Scope

FORMAT_PRESERVING = "wf1."


def encrypt(key: DataKey, text: str, scope: Scope, alphabet: Alphabet) -> str:
    """Another text of the same length over `alphabet`; equal for equal key, text, scope (binds too) and alphabet.

    ValueError for a text that `Alphabet.check` refuses or a scope that is too long; PurposeError for a DATA key.
    """
    return key.ff1_encrypt(alphabet, text, scope.aad(FORMAT_PRESERVING))


def decrypt(key: DataKey, text: str, scope: Scope, alphabet: Alphabet) -> str:
    """Undoes `encrypt` in the same scope; in another, some other text. Errors as there."""
    return key.ff1_decrypt(alphabet, text, scope.aad(FORMAT_PRESERVING))
