"""TLS certificates: read a chain, say what is wrong with it, ask a live port for its own, make development ones.

Nothing here decides whom to trust at run time; that is the TLS library's work. These are the checks a person or the
start-up self-check makes beforehand, so that a bad file is found before a peer meets it. Certificates a live port
presents are untrusted input: bounded, parsed in full at once, and every text taken from them made printable.
"""

import ipaddress
import re
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import trustme
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

type Chain = tuple[x509.Certificate, ...]

MAX_PEM_BYTES = 1 << 20
MAX_CHAIN = 16
MAX_ANCHORS = 1000
_MAX_TEXT = 300
_DAY = timedelta(days=1)
# Every way the parser reports a certificate it cannot read; several are no ValueError.
_UNREADABLE = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_DNS_NAME = re.compile(rf"(?:\*\.)?(?:{_LABEL}\.)*(?![0-9]+\Z){_LABEL}")


class CertificateError(ValueError):
    """A certificate, key, name or port that cannot be used; the text is one printable line without secrets."""


@dataclass(frozen=True, slots=True)
class Presented:
    """What a live port showed. `distrust` says why the trust store refuses the chain, None where it accepts it."""

    chain: Chain
    version: str
    cipher: str
    distrust: str | None


@dataclass(frozen=True, slots=True)
class NewFile:
    """A development file to write; keys stay out of the repr."""

    name: str
    data: bytes = field(repr=False)


def load_chain(pem: bytes, most: int = MAX_CHAIN) -> Chain:
    """Return the certificates of a PEM file in file order, each parsed in full; a CA bundle may hold `most`.

    Raises CertificateError: too large, no PEM certificate, more than `most` of them, or one that is malformed.
    """
    if len(pem) > MAX_PEM_BYTES:
        raise CertificateError(f"larger than {MAX_PEM_BYTES} bytes: this is no certificate chain")
    try:
        certificates = x509.load_pem_x509_certificates(pem)
    except _UNREADABLE:
        raise CertificateError("holds no readable PEM certificate: expected '-----BEGIN CERTIFICATE-----'") from None
    # The parser passes over a block that is cut off; a half-copied chain must not look like a shorter good one.
    if pem.count(b"CERTIFICATE-----") != 2 * len(certificates):
        raise CertificateError("holds a certificate that is cut off or damaged: copy the file again")
    return _sound(certificates, most)


def check_chain(chain: Sequence[x509.Certificate], key_pem: bytes | None, now: datetime) -> list[str]:
    """Return the problems that make `chain` (leaf first) unfit to serve at `now` (timezone-aware); empty when fit.

    Checks validity times (RFC 5280 4.1.2.5, both ends inclusive), that each certificate is signed by the next, that
    the leaf is no CA and has a subject alternative name, and, where given, that the private key is the leaf's.
    """
    if not chain:
        return ["chain is empty"]
    key = None if key_pem is None else key_problem(chain[0], key_pem)
    return [*_time_problems(chain, now), *order_problems(chain), *_leaf_problems(chain[0]), *([key] if key else [])]


def days_left(chain: Sequence[x509.Certificate], now: datetime) -> float:
    """Return the days (fractions included, negative once expired) until the first certificate of `chain` expires."""
    return min((certificate.not_valid_after_utc - now) / _DAY for certificate in chain)


def canonical_name(text: str) -> str:
    """Return a DNS name in lower case, or an IP address in its canonical form.

    Raises CertificateError for anything else; international names are taken in their A-label form (xn--) only.
    """
    try:
        if "%" not in text:
            return str(ipaddress.ip_address(text))
    except ValueError:
        pass
    name = text.lower().removesuffix(".")
    if len(name) > 253 or not _DNS_NAME.fullmatch(name):
        raise CertificateError(f"'{printable(text)}' is neither a DNS name nor an IP address")
    return name


def covers(leaf: x509.Certificate, name: str) -> bool:
    """Tell whether `leaf` is valid for `name` by its subject alternative names (RFC 9525 6.3; the CN never counts)."""
    wanted = canonical_name(name)
    entries = _general_names(leaf)
    if any(isinstance(entry, x509.IPAddress) and str(entry.value) == wanted for entry in entries):
        return True
    # An address counts only in an IP entry, a wildcard only for the whole first label (RFC 9525 6.3, 6.4).
    if not _DNS_NAME.fullmatch(wanted):
        return False
    allowed = (wanted, "*." + wanted.partition(".")[2])
    return any(isinstance(entry, x509.DNSName) and entry.value.lower() in allowed for entry in entries)


def fetch(host: str, port: int, servername: str | None, anchors: Chain | None, timeout: float = 5.0) -> Presented:
    """Return what the TLS port presents to a client that speaks TLS 1.2 and 1.3 and asks for `servername`.

    The chain is verified against `anchors` (None: the system's store), and is returned when it fails too; the name is
    left to `covers`. `timeout` is in seconds for each network step. Raises CertificateError: no port, no TLS.
    """
    try:
        return _handshake(host, port, servername, _client_context(anchors), timeout, None)
    except ssl.SSLCertVerificationError as error:
        distrust = f"chain is not trusted: {printable(error.verify_message)}"
    if anchors is None:
        distrust += " (judged by the system's store; give --ca for a private CA)"
    seeing = _client_context(anchors)
    # Only to show what a refused port presents: nothing is sent over this connection.
    seeing.verify_mode = ssl.CERT_NONE
    return _handshake(host, port, servername, seeing, timeout, distrust)


def development_files(names: Sequence[str], now: datetime, days: int) -> tuple[NewFile, ...]:
    """Return a new development CA and its leaves as files: NAME.pem (full chain), NAME.key, and ca.pem (the root).

    `names` are added to the gateway's own. The leaves are issued by an intermediate, as a public CA does, so that a
    forgotten chain is noticed in development. The CA keys are not among the files: nothing can be issued afterwards.
    Raises CertificateError for a name no certificate can carry.
    """
    root = trustme.CA(path_length=1, organization_name="wxgate development", organization_unit_name="root CA")
    issuing = trustme.CA(
        parent_cert=root, path_length=0, organization_name="wxgate development", organization_unit_name="issuing CA"
    )
    files = [NewFile("ca.pem", root.cert_pem.bytes())]
    for leaf, identities in _development_leaves(names).items():
        files += _leaf_files(issuing, leaf, identities, now, days)
    return tuple(files)


def printable(text: str) -> str:
    """Return `text` bounded and with anything that could steer a terminal or break a log line escaped."""
    shown = text if len(text) <= _MAX_TEXT else text[:_MAX_TEXT] + "..."
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in shown)


def _sound(certificates: Sequence[x509.Certificate], most: int = MAX_CHAIN) -> Chain:
    if not 0 < len(certificates) <= most:
        raise CertificateError(f"holds {len(certificates)} certificates: expected 1 to {most}")
    # Parsing is lazy: touch what is used later, so that a malformed certificate fails here and not in a report.
    for place, certificate in enumerate(certificates, 1):
        try:
            _ = certificate.extensions, certificate.subject.rfc4514_string(), certificate.issuer.rfc4514_string()
            _ = certificate.public_key()
        except _UNREADABLE:
            raise CertificateError(f"certificate {place} is malformed or of an unsupported kind") from None
    return tuple(certificates)


def _label(chain: Sequence[x509.Certificate], index: int) -> str:
    return f"certificate {index + 1} ({printable(chain[index].subject.rfc4514_string())})"


def _time_problems(chain: Sequence[x509.Certificate], now: datetime) -> list[str]:
    problems = []
    for index, certificate in enumerate(chain):
        if now > certificate.not_valid_after_utc:
            problems.append(f"{_label(chain, index)} expired on {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC")
        if now < certificate.not_valid_before_utc:
            problems.append(
                f"{_label(chain, index)} is not yet valid: from {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC"
            )
    return problems


def order_problems(chain: Sequence[x509.Certificate]) -> list[str]:
    """Return where a certificate of `chain` is not signed by the next one, or the next one is no CA."""
    problems = []
    for index in range(1, len(chain)):
        if not _is_ca(chain[index]):
            problems.append(f"{_label(chain, index)} is no CA certificate: put the leaf first, then its issuers")
        elif not _signed_by(chain[index - 1], chain[index]):
            problems.append(
                f"chain out of order: {_label(chain, index - 1)} is not signed by {_label(chain, index)}; "
                "put the leaf first, then each issuer"
            )
    return problems


def _leaf_problems(leaf: x509.Certificate) -> list[str]:
    problems = []
    if _is_ca(leaf):
        problems.append("leaf is a CA certificate: the first certificate must be the server's or client's own")
    if not _general_names(leaf):
        problems.append("leaf has no subject alternative name: no peer can match it, issue it with one")
    return problems


def key_problem(leaf: x509.Certificate, key_pem: bytes) -> str | None:
    """Return why the PEM private key cannot be used with `leaf` (encrypted, unreadable, another's), None if it can."""
    try:
        key = load_pem_private_key(key_pem, password=None).public_key()
    except TypeError:
        return "private key is encrypted: give it unencrypted, in a file only the gateway's user can read"
    except (ValueError, UnsupportedAlgorithm):
        return "private key is not readable: expected an unencrypted PEM private key"
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if key.public_bytes(*form) != leaf.public_key().public_bytes(*form):
        return "private key does not belong to the leaf certificate"
    return None


def gap(chain: Chain, anchors: Chain | None, now: datetime) -> str | None:
    """Return what `chain` lacks to be complete, None if it lacks nothing.

    `anchors` are the CA certificates it must lead to; None leaves that open and asks for an issuer beside the leaf.
    """
    last = chain[-1]
    issuer = printable(last.issuer.rfc4514_string())
    if anchors is not None:
        # A dead anchor anchors nothing.
        live = [a for a in anchors if a.not_valid_before_utc <= now <= a.not_valid_after_utc]
        if last in live or any(_is_ca(a) and _signed_by(last, a) for a in live):
            return None
        return f"chain does not lead to the given CA: its last certificate is issued by {issuer}"
    if _is_ca(last) or _signed_by(last, last):
        return None
    return f"chain is incomplete: {issuer} is missing; append it, or give --ca if peers have it as their root"


def _is_ca(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _signed_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _general_names(certificate: x509.Certificate) -> tuple[x509.GeneralName, ...]:
    try:
        return tuple(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        return ()


def names_text(certificate: x509.Certificate) -> tuple[str, ...]:
    """Return the subject alternative names in printable form, as in 'DNS:localhost' or 'IP:127.0.0.1'."""
    return tuple(printable(_name_text(name)) for name in _general_names(certificate))


def _name_text(name: x509.GeneralName) -> str:
    match name:
        case x509.DNSName():
            return f"DNS:{name.value}"
        case x509.IPAddress():
            return f"IP:{name.value}"
        case x509.UniformResourceIdentifier():
            return f"URI:{name.value}"
        case x509.RFC822Name():
            return f"email:{name.value}"
    return type(name).__name__


def key_text(certificate: x509.Certificate) -> str:
    """Return kind and size of the public key, as in 'RSA 2048 bits' or 'EC secp256r1 256 bits'."""
    match certificate.public_key():
        case rsa.RSAPublicKey() as key:
            return f"RSA {key.key_size} bits"
        case ec.EllipticCurvePublicKey() as key:
            return f"EC {key.curve.name} {key.key_size} bits"
        case key:
            return type(key).__name__.removesuffix("PublicKey")


def _client_context(anchors: Chain | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False
    if anchors is None:
        context.load_default_certs()
    else:
        context.load_verify_locations(cadata=b"".join(a.public_bytes(Encoding.DER) for a in anchors))
    return context


def _handshake(
    host: str, port: int, servername: str | None, context: ssl.SSLContext, timeout: float, distrust: str | None
) -> Presented:
    try:
        plain = socket.create_connection((host, port), timeout)
    except OSError as error:
        raise CertificateError(f"cannot connect: {_reason(error)}") from None
    try:
        with plain, context.wrap_socket(plain, server_hostname=servername) as tls:
            chain = _sound([x509.load_der_x509_certificate(der) for der in tls.get_unverified_chain()])
            cipher = tls.cipher()
            return Presented(chain, tls.version() or "unknown", cipher[0] if cipher else "unknown", distrust)
    except (ssl.SSLCertVerificationError, CertificateError):
        raise
    except OSError as error:
        raise CertificateError(
            f"no TLS handshake: {_reason(error)}; expected TLS 1.2 or 1.3, and no demand for a client certificate"
        ) from None
    except _UNREADABLE:
        raise CertificateError("the port presents a malformed certificate") from None


def _reason(error: OSError) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    reason = error.reason if isinstance(error, ssl.SSLError) else error.strerror
    text = printable(str(reason or type(error).__name__)).replace("_", " ").lower()
    # OpenSSL names alerts after the version that introduced them, not the one spoken.
    return text.removeprefix("sslv3 ").removeprefix("tlsv1 ")


def _development_leaves(names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    loopback = ("localhost", "127.0.0.1", "::1")
    return {
        "gateway": tuple(dict.fromkeys((*loopback, *map(canonical_name, names)))),
        "wechat": loopback,
        "crm": loopback,
        # Clients are known by their SAN (allow rules): .test never resolves (RFC 6761), so no server can have it.
        "crm-client": ("crm-client.test",),
        "agent-client": ("agent-client.test",),
    }


def _leaf_files(issuing: trustme.CA, leaf: str, identities: Sequence[str], now: datetime, days: int) -> list[NewFile]:
    start = now.astimezone(UTC)
    try:
        issued = issuing.issue_cert(
            *identities,
            organization_name="wxgate development",
            organization_unit_name=leaf,
            # An hour back: containers and their hosts do not always agree on the time.
            not_before=start - timedelta(hours=1),
            not_after=start + days * _DAY,
        )
    except ValueError:
        raise CertificateError(f"no certificate can be made for the names {', '.join(identities)}") from None
    chain = b"".join(pem.bytes() for pem in issued.cert_chain_pems)
    return [NewFile(f"{leaf}.pem", chain), NewFile(f"{leaf}.key", issued.private_key_pem.bytes())]
