"""TLS towards upstreams: the one place that builds a client context. Standard library `ssl` on OpenSSL.

`ssl.create_default_context` is not used: it obeys SSLKEYLOGFILE, which would write the session keys of every upstream
connection to a file of the environment's choice.
"""

from __future__ import annotations

import ssl

from proxy.edge.upstream_settings import UpstreamSettings

_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""TLS 1.2, RFC 7525 section 4.2: forward secrecy and AEAD only. TLS 1.3 has no others."""


def client_context(settings: UpstreamSettings) -> ssl.SSLContext:
    """A context that verifies certificate and host name, TLS 1.2 or later, with the client certificate if there is one.

    Raises ValueError: a file cannot be read or does not hold what it should.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    context.check_hostname = True
    context.hostname_checks_common_name = False
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.set_ciphers(_CIPHERS)
    context.set_alpn_protocols(["http/1.1"])
    _trust(context, settings)
    _identify(context, settings)
    return context


def _trust(context: ssl.SSLContext, settings: UpstreamSettings) -> None:
    if settings.ca_file is None:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
        return
    try:
        context.load_verify_locations(cafile=settings.ca_file)
    except (OSError, ValueError):
        raise ValueError(
            f"upstream {settings.name}: ca_file {settings.ca_file} holds no readable PEM certificate: check the file"
        ) from None


def _identify(context: ssl.SSLContext, settings: UpstreamSettings) -> None:
    if settings.client_certificate is None:
        return
    try:
        context.load_cert_chain(settings.client_certificate, settings.client_key, password=_no_password)
    except (OSError, ValueError):
        raise ValueError(
            f"upstream {settings.name}: client_certificate {settings.client_certificate} and client_key "
            f"{settings.client_key} are not a readable, unencrypted, matching pair: check both files"
        ) from None


def _no_password() -> bytes:
    """Without this OpenSSL asks on the terminal for the password of an encrypted key, and a worker waits for ever."""
    return b""
