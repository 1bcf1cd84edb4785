"""Where TLS records end in a stream. Knows their five-byte headers and nothing else (RFC 8446 section 5.1)."""

from __future__ import annotations

_HEADER = 5  # bytes: type, version, length
_MOST = 16  # records of one read that are counted: nobody has proved anything yet, and they may all be empty


class RecordCounter:
    """Follows what one peer sends, from its first byte on."""

    def __init__(self) -> None:
        self._whole = True

    def is_one_record(self, data: bytes) -> bool:
        """Whether `data`, the next bytes of the stream, is one whole record: then there is nothing more in it.

        Once `data` ended within a record, or held very many, this is never said again.
        """
        records = position = 0
        while self._whole and records < _MOST and position + _HEADER <= len(data):
            position += _HEADER + int.from_bytes(data[position + 3 : position + _HEADER])
            records += 1
        self._whole = self._whole and position == len(data)
        return self._whole and records == 1
