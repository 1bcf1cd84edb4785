"""HTTP messages and connection facts as frozen values of our own. May import nothing of the project.

A `Request` or `Response` is complete: framing has been undone, the body is all there. Header names are lower-case.
"""

from __future__ import annotations

from dataclasses import dataclass

from proxy.record import record

HeaderList = tuple[tuple[bytes, bytes], ...]


def header_values(headers: HeaderList, name: bytes) -> list[bytes]:
    """All values of the header `name` (lower-case), in order; duplicates stay visible."""
    return [value for key, value in headers if key == name]


@dataclass(frozen=True, slots=True)
class Peer:
    """Facts of the connection a request came over, as the TLS engine proved them."""

    listener: str
    address: str
    tls_version: str
    sni: str = ""
    certificate_names: tuple[str, ...] = ()
    """DNS and URI names of the verified client certificate; empty when none was asked for or shown."""


@record
class Request:
    """A complete HTTP request in origin form (RFC 9112 section 3.2.1)."""

    method: str
    path: str
    query: str
    headers: HeaderList
    body: bytes
    host: str = ""
    """Host without port, lower-case; empty for HTTP/1.0 without Host."""

    def header(self, name: bytes) -> list[bytes]:
        return header_values(self.headers, name)

    @property
    def content_type(self) -> str:
        """The one Content-Type field; empty if there is none, or several."""
        types = self.header(b"content-type")
        return types[0].decode("latin-1") if len(types) == 1 else ""

    @property
    def media_type(self) -> str:
        """Of `content_type`, in lower case, without parameters."""
        return self.content_type.split(";")[0].strip(" \t").lower()

    def __repr__(self) -> str:
        return f"Request({self.method} {self.path})"  # query, headers and body hold what nobody may log


@record
class Response:
    """A complete HTTP response of an upstream. Without its header fields: none of them goes on to anybody."""

    status: int
    body: bytes

    def __repr__(self) -> str:
        return f"Response({self.status})"
