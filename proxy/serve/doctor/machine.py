"""The machine under the gateway: certificates, files, memory, disk."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from proxy.kms.kek_file import FILE as KEK_FILE
from proxy.kms.keyring_file import FILE as KEYRING_FILE
from proxy.serve.certificates import CertificateError, days_left, load_chain
from proxy.serve.disk import disk_problem
from proxy.serve.doctor.finding import Finding, fine, note, now, soon
from proxy.serve.memory import exposed_swap, is_closed
from proxy.serve.null_cipher import null_cipher_in_use
from proxy.serve.selfcheck import key_pairs
from proxy.serve.settings import Settings

_CERTIFICATE_DAYS = 30.0
_LEAST_FREE = 0.05  # of the disk, and bytes
_LEAST_BYTES = 256 * 1024 * 1024


def certificates(settings: Settings, at: float) -> Iterator[Finding]:
    """Those the listeners show, those shown to upstreams, and the CAs they are verified against."""
    when = datetime.fromtimestamp(at, UTC)
    paths = {pair.certificate for pair in key_pairs(settings)}
    for upstream in settings.upstreams:
        paths |= {Path(name) for name in (upstream.client_certificate, upstream.ca_file) if name}
    for path in sorted(paths):
        try:
            left = days_left(load_chain(path.read_bytes()), when)
        except (CertificateError, OSError) as error:
            yield now("certificate", f"{path}: {error}", "put a PEM chain there")
            continue
        if left <= 0:
            yield now("certificate", f"{path} has expired", "renew it; the gateway takes it up by itself")
        elif left < _CERTIFICATE_DAYS:
            yield soon("certificate", f"{path} expires in {left:.0f} days", "renew it; it is taken up by itself")
        else:
            yield fine("certificate", f"{path} is good for {left:.0f} days")


def files(settings: Settings) -> Iterator[Finding]:
    """Modes and owners of what holds secrets. Secrets that gateway.yaml names were checked when it was read."""
    wanted = [(settings.state, 0o700), (settings.state / KEYRING_FILE, 0o600), (settings.state / KEK_FILE, 0o600)]
    wanted += [(settings.audit, 0o700), *((pair.key, 0o600) for pair in key_pairs(settings))]
    bad = False
    for path, mode in dict(wanted).items():
        try:
            status = path.lstat()
        except FileNotFoundError:
            continue  # another key service, or no record yet; what is needed and missing is told by others
        except OSError as error:
            yield now("file mode", f"{path}: {error.strerror}", "check the directories above it")
            bad = True
            continue
        if status.st_mode & 0o777 & ~mode or status.st_uid != os.geteuid():
            found = f"{path} has mode {status.st_mode & 0o777:04o} and user {status.st_uid}"
            yield now("file mode", found, f"find out who could read it, then `chmod {mode:o}` and `chown` it")
            bad = True
    if not bad:
        yield fine("file mode", "keys, keyring, audit log and TLS keys are closed to other users")


def memory() -> Iterator[Finding]:
    """Swap, and whether this machine lets a process close its memory; the gateway does the same at its start."""
    exposed = exposed_swap()
    for name in exposed:
        yield soon("swap", f"{name} is not seen to be encrypted; keys may be written to it", "`swapoff`, or encrypt it")
    if not exposed:
        yield fine("swap", "there is none in clear")
    if is_closed():
        yield fine("core dumps", "off, and no debugger gets in")
    else:
        yield now("core dumps", "this machine does not let a process turn them off", "run on Linux, without a tracer")


def disk(settings: Settings) -> Iterator[Finding]:
    """Encryption where the region asks for it; room for the audit log, without which everything is refused."""
    if problem := disk_problem(settings.disk, settings.state):
        yield now("disk encryption", problem, "see `region` in gateway.example.yaml")
    elif settings.disk.required:
        yield fine("disk encryption", f"{settings.state} lies on an encrypted device")
        if null_cipher_in_use() is None:
            fix = "as root: `dmsetup table` must not say cipher_null"
            yield note("disk encryption", "/proc/crypto cannot be read here: with which cipher is not known", fix)
    elif settings.disk.attested:
        yield note("disk encryption", f"taken on your word: {settings.disk.attested}")
    for path in dict.fromkeys((settings.state, settings.audit)):
        while not path.exists():
            path = path.parent
        usage = shutil.disk_usage(path)
        text = f"{usage.free // 2**20} MiB free under {path}"
        if usage.free < _LEAST_BYTES or usage.free < _LEAST_FREE * usage.total:
            yield soon("disk room", text, "make room: when the audit log cannot be written, every message is refused")
        else:
            yield fine("disk room", text)
