"""Bytes that do not show themselves. Pure."""

from __future__ import annotations

from typing import NoReturn, override


class SecretBytes(bytes):
    """Key bytes on their way: `bytes` to whatever computes with them, and a name only to whatever prints.

    `repr`, `str` and formats show the length; a traceback with local variables shows the same. Pickle and copy raise.
    Slices and sums are plain bytes: wrap them again where they are kept.
    """

    __slots__ = ()

    @override
    def __repr__(self) -> str:
        return f"<{len(self)} secret bytes>"

    __str__ = __repr__

    @override
    def __format__(self, _spec: str) -> str:
        return repr(self)

    @override
    def __reduce_ex__(self, _protocol: object) -> NoReturn:
        raise TypeError("secret bytes cannot be pickled or copied")
