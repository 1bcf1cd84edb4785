"""TLS contexts of the listeners, on pyOpenSSL: versions, suites, certificates by server name, client certificates.

Suites: ECDHE with AES-GCM or ChaCha20-Poly1305 only (RFC 9325 section 4.2). Contexts live long and are built before the
workers are forked, so that session tickets of one worker are good at the others.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cryptography import x509
from OpenSSL import SSL

from proxy.edge.listener_settings import KeyPair, TlsSettings

TLS12_SUITES = (
    b"ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:"
    b"ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:"
    b"ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305"
)
TLS13_SUITES = b"TLS_AES_256_GCM_SHA384:TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256"
_GROUPS = b"X25519:P-256:P-384"
_SESSION_ID = b"wxgate"
_ALPN = b"http/1.1"
_TICKET_SECONDS = 3600


class TlsConfigurationError(Exception):
    """A certificate or key cannot be used; says which file, never what is in it."""


class _Asked:
    """What became of the server name of one handshake; rides on the connection."""

    __slots__ = ("unknown",)

    def __init__(self) -> None:
        self.unknown = False


def unknown_name(connection: SSL.Connection) -> bool:
    """Whether the handshake asked for a server name the listener does not have."""
    asked = connection.get_app_data()
    return isinstance(asked, _Asked) and asked.unknown


class ContextSet:
    """The contexts of one listener. Replaced as a whole when a certificate changed."""

    def __init__(self, settings: TlsSettings) -> None:
        """Raises TlsConfigurationError."""
        self._default = _context(settings, settings.default)
        self._own = dns_names(x509.load_pem_x509_certificates(settings.default.certificate.read_bytes())[0])
        self._names = {name.lower(): _context(settings, pair) for name, pair in settings.names.items()}
        self._default.set_tlsext_servername_callback(self._choose)

    def connection(self) -> SSL.Connection:
        """A server-side connection on memory buffers, before its handshake."""
        connection = SSL.Connection(self._default)
        connection.set_app_data(_Asked())
        connection.set_accept_state()
        return connection

    def _choose(self, connection: SSL.Connection) -> None:
        asked_for = connection.get_servername()
        if asked_for is None:
            return
        name = asked_for.decode("ascii", "replace").lower()
        context = self._names.get(name)
        if context is not None:
            connection.set_context(context)
        elif name in self._own or f"*.{name.partition('.')[2]}" in self._own:
            return  # the default certificate is good for it
        elif isinstance(asked := connection.get_app_data(), _Asked):
            asked.unknown = True


def dns_names(certificate: x509.Certificate) -> frozenset[str]:
    """The DNS names of a certificate, lower-case; wildcards as they are."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return frozenset()
    return frozenset(name.lower() for name in names.get_values_for_type(x509.DNSName))


def _context(settings: TlsSettings, pair: KeyPair) -> SSL.Context:
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(SSL.TLS1_3_VERSION if settings.tls13_only else SSL.TLS1_2_VERSION)
    context.set_options(SSL.OP_NO_COMPRESSION | SSL.OP_CIPHER_SERVER_PREFERENCE | SSL.OP_NO_RENEGOTIATION)
    context.set_cipher_list(TLS12_SUITES)
    context.set_tls13_ciphersuites(TLS13_SUITES)
    # pyOpenSSL has no call for groups yet; its binding has.
    if not SSL._lib.SSL_CTX_set1_curves_list(context._context, _GROUPS):  # type: ignore[attr-defined]
        raise TlsConfigurationError("the key exchange groups cannot be set")
    context.set_session_id(_SESSION_ID)  # without it resumption fails where client certificates are asked for
    context.set_timeout(_TICKET_SECONDS)
    context.set_alpn_select_callback(_alpn)
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    _load_pair(context, pair)
    if settings.client_ca is not None:
        _ask_for_client(context, settings.client_ca, settings.client_required)
    return context


def _load_pair(context: SSL.Context, pair: KeyPair) -> None:
    try:
        context.use_certificate_chain_file(str(pair.certificate))
        context.use_privatekey_file(str(pair.key))
        context.check_privatekey()
    except (SSL.Error, OSError):
        message = f"certificate {pair.certificate} and key {pair.key} cannot be used together"
        raise TlsConfigurationError(message) from None


def _ask_for_client(context: SSL.Context, ca: Path, required: bool) -> None:
    try:
        context.load_verify_locations(str(ca))
        context.load_client_ca(str(ca).encode())
    except (SSL.Error, OSError):
        raise TlsConfigurationError(f"client CA {ca} cannot be used") from None
    # No callback: OpenSSL's own verdict stands.
    context.set_verify(SSL.VERIFY_PEER | (SSL.VERIFY_FAIL_IF_NO_PEER_CERT if required else 0))


def _alpn(_connection: SSL.Connection, offered: list[bytes]) -> Any:
    # Without a common protocol the connection goes on without one: HTTP/1.1 is all there is.
    return _ALPN if _ALPN in offered else SSL.NO_OVERLAPPING_PROTOCOLS
