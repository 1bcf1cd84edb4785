"""`wxgate certs`: make development certificates, and show what is in a certificate file or behind a live port."""

import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import click
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256

from proxy.serve import certificates as tls

# What a deployer copies; {dir} is where the files went.
_IN_GATEWAY_YAML = """\
put into gateway.yaml:
  listener certificate   {dir}/gateway.pem
  listener key           file:{dir}/gateway.key
  client CA (mTLS)       {dir}/ca.pem   allow by name: crm-client.test, agent-client.test
  upstream CA            {dir}/ca.pem   for the emulated WeChat and CRM only
"""


@dataclass(frozen=True, slots=True)
class _Asked:
    """The options of one `inspect` run."""

    key: Path | None
    names: tuple[str, ...]
    ca: Path | None
    servername: str | None
    warn_days: float


@dataclass(frozen=True, slots=True)
class _Seen:
    """One certificate in readable form: printable texts, ISO 8601 times in UTC, the fingerprint as hex pairs."""

    subject: str
    issuer: str
    names: tuple[str, ...]
    key: str
    not_before: str
    not_after: str
    days_left: float
    sha256: str


@dataclass(frozen=True, slots=True)
class _Report:
    """What is shown for one target; `asdict` of it is the JSON. None: not asked, or not reached."""

    target: str
    ok: bool
    problems: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    chain: tuple[_Seen, ...] = ()
    in_order: bool | None = None
    complete: bool | None = None
    key_match: bool | None = None
    names: dict[str, bool] | None = None
    tls_version: str | None = None
    cipher: str | None = None


class _Name(click.ParamType[str]):
    """A DNS name or IP address, made canonical."""

    name = "name"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            return tls.canonical_name(value)
        except tls.CertificateError as error:
            self.fail(str(error), param, ctx)


@click.group()
def certs() -> None:
    """Make development certificates; inspect certificate files and live ports."""


@certs.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path("certs/dev"), show_default=True, help="Directory.")
@click.option("--name", "names", type=_Name(), multiple=True, help="One more name or address of the gateway.")
@click.option("--days", type=click.IntRange(1, 397), default=30, show_default=True, help="Days the leaves are valid.")
@click.option("--force", is_flag=True, help="Replace files that are there.")
def dev(out: Path, names: tuple[str, ...], days: int, force: bool) -> None:
    """Make a development CA and leaf certificates.

    Writes gateway, wechat, crm, crm-client and agent-client, each as NAME.pem (full chain) and NAME.key, and ca.pem.
    The CA's own key is thrown away. Never use these in production.
    """
    now = datetime.now(UTC)
    try:
        files = tls.development_files(names, now, days)
        _prepare(out, [file.name for file in files], force)
        for file in files:
            _place(out / file.name, file.data)
        # Wherever the directory is, its keys stay out of version control.
        _place(out / ".gitignore", b"*\n")
    except tls.CertificateError as error:
        raise click.ClickException(str(error)) from None
    except OSError as error:
        raise click.ClickException(f"{tls.printable(str(out))}: cannot write: {error.strerror}") from None
    _tell(out, files, now)


@certs.command()
@click.argument("targets", metavar="TARGET...", nargs=-1, required=True)
@click.option("--key", type=click.Path(path_type=Path), help="Private key that must belong to the (one) file.")
@click.option("--name", "names", type=_Name(), multiple=True, help="Name the leaf must be valid for.")
@click.option("--ca", type=click.Path(path_type=Path), help="CA file the chain must lead to (live: default system's).")
@click.option("--servername", type=_Name(), help="SNI for live ports, and the name to match; default HOST.")
@click.option("--warn-days", type=click.FloatRange(min=0), default=14, show_default=True, help="Warn below this.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def inspect(
    ctx: click.Context,
    targets: tuple[str, ...],
    key: Path | None,
    names: tuple[str, ...],
    ca: Path | None,
    servername: str | None,
    warn_days: float,
    as_json: bool,
) -> None:
    """Show and check certificates: each TARGET is a PEM file (leaf first) or a live HOST:PORT ([::1]:443 for IPv6).

    Exits 0 when every target is sound (warnings allowed), 1 when one has a problem, 2 on wrong usage.
    """
    live = [_endpoint(target) for target in targets]
    if key is not None and (len(targets) > 1 or live[0]):
        raise click.UsageError("--key goes with exactly one certificate file")
    if servername is not None and not any(live):
        raise click.UsageError("--servername goes with HOST:PORT")
    asked = _Asked(key, names, ca, servername, warn_days)
    reports = [_report(target, end, asked, datetime.now(UTC)) for target, end in zip(targets, live, strict=True)]
    ok = all(report.ok for report in reports)
    if as_json:
        click.echo(json.dumps({"ok": ok, "targets": [asdict(report) for report in reports]}, indent=2))
    else:
        click.echo("\n\n".join("\n".join(_lines(report)) for report in reports))
    ctx.exit(0 if ok else 1)


def _prepare(directory: Path, names: Sequence[str], force: bool) -> None:
    """Make the directory (0700) or check that it is private, and that nothing in it would be lost."""
    shown = tls.printable(str(directory))
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        directory.mkdir(mode=0o700)
    except FileExistsError:
        # Not ours to narrow: --out could be anyone's directory.
        if not directory.is_dir():
            raise tls.CertificateError(f"{shown}: not a directory; choose another --out") from None
        if directory.stat().st_mode & 0o077:
            raise tls.CertificateError(f"{shown}: open to other users; chmod 700 it or choose another --out") from None
    there = [name for name in names if os.path.lexists(directory / name)]
    if there and not force:
        raise tls.CertificateError(
            f"{shown}: holds {', '.join(there)} already; use --force to replace, or another --out"
        )


def _place(path: Path, data: bytes) -> None:
    """Put a whole file in place at once, a key readable by its owner only from its first byte on."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".new-")  # mkstemp makes it 0600
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            if path.suffix != ".key":
                os.fchmod(file.fileno(), 0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _tell(out: Path, files: Sequence[tls.NewFile], now: datetime) -> None:
    shown = tls.printable(str(out))
    click.echo(f"wrote to {shown} (mode 0700; for development only):")
    for file in files:
        if file.name.endswith(".pem"):
            leaf = tls.load_chain(file.data)[0]
            key = "" if file.name == "ca.pem" else f" + {file.name.removesuffix('.pem')}.key"
            names = ", ".join(tls.names_text(leaf)) or "the root to trust; its key is not kept"
            click.echo(f"  {file.name + key:<36} {names}")
            last = leaf
    click.echo(f"valid until {last.not_valid_after_utc:%Y-%m-%d %H:%M} UTC ({tls.days_left((last,), now):.0f} days)")
    click.echo(_IN_GATEWAY_YAML.format(dir=shown), nl=False)


def _endpoint(target: str) -> tuple[str, int] | None:
    """Return host and port of HOST:PORT, None for what is (or can only be) a file."""
    host, colon, port = target.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if Path(target).exists() or not colon or not (port.isascii() and port.isdigit() and 0 < int(port[:6]) < 65536):
        return None
    if ":" in host and not bracketed:
        return None
    try:
        return tls.canonical_name(host[1:-1] if bracketed else host), int(port)
    except tls.CertificateError:
        return None


def _report(target: str, live: tuple[str, int] | None, asked: _Asked, now: datetime) -> _Report:
    try:
        anchors = None if asked.ca is None else _chain_file(asked.ca, tls.MAX_ANCHORS)
        if live is None and ":" in target and not Path(target).exists():
            raise tls.CertificateError("neither a file nor HOST:PORT with a port of 1 to 65535")
        if live is None:
            key_pem = None if asked.key is None else _read(asked.key)
            return _judge(target, _chain_file(Path(target)), key_pem, asked.names, anchors, asked, now)
        name = asked.servername or live[0]
        shown = tls.fetch(*live, name, anchors)
        return _judge(target, shown.chain, None, asked.names or (name,), anchors, asked, now, shown)
    except tls.CertificateError as error:
        return _Report(tls.printable(target), ok=False, problems=(str(error),))


def _judge(
    target: str,
    chain: tls.Chain,
    key_pem: bytes | None,
    names: Sequence[str],
    anchors: tls.Chain | None,
    asked: _Asked,
    now: datetime,
    shown: tls.Presented | None = None,
) -> _Report:
    gap = tls.gap(chain, anchors, now)
    matches = {name: tls.covers(chain[0], name) for name in names}
    problems = tls.check_chain(chain, key_pem, now)
    problems += [f"leaf is not valid for {name}" for name, hit in matches.items() if not hit]
    problems += [text for text in (gap, shown.distrust if shown else None) if text]
    left = tls.days_left(chain, now)
    return _Report(
        target=tls.printable(target),
        ok=not problems,
        problems=tuple(problems),
        warnings=(f"{left:.1f} days left, fewer than {asked.warn_days:g}",) if 0 <= left < asked.warn_days else (),
        chain=tuple(_seen(certificate, now) for certificate in chain),
        in_order=not tls.order_problems(chain),
        complete=gap is None,
        key_match=None if key_pem is None else tls.key_problem(chain[0], key_pem) is None,
        names=matches,
        tls_version=shown.version if shown else None,
        cipher=shown.cipher if shown else None,
    )


def _seen(certificate: x509.Certificate, now: datetime) -> _Seen:
    return _Seen(
        subject=tls.printable(certificate.subject.rfc4514_string()),
        issuer=tls.printable(certificate.issuer.rfc4514_string()),
        names=tls.names_text(certificate),
        key=tls.key_text(certificate),
        not_before=certificate.not_valid_before_utc.isoformat(),
        not_after=certificate.not_valid_after_utc.isoformat(),
        days_left=round(tls.days_left((certificate,), now), 1),
        sha256=certificate.fingerprint(SHA256()).hex(":").upper(),
    )


def _chain_file(path: Path, most: int = tls.MAX_CHAIN) -> tls.Chain:
    pem = _read(path)
    try:
        return tls.load_chain(pem, most)
    except tls.CertificateError as error:
        raise tls.CertificateError(f"{tls.printable(str(path))}: {error}") from None


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(tls.MAX_PEM_BYTES + 1)
    except OSError as error:
        raise tls.CertificateError(
            f"{tls.printable(str(path))}: cannot read: {(error.strerror or '').lower()}"
        ) from None


def _lines(report: _Report) -> list[str]:
    lines = [f"{report.target}: {'ok' if report.ok else 'problem'}"]
    for place, seen in enumerate(report.chain, 1):
        lines += [
            f"  {place}  subject   {seen.subject}",
            f"     issuer    {seen.issuer}",
            f"     names     {', '.join(seen.names) or '-'}",
            f"     key       {seen.key}",
            f"     valid     {seen.not_before} to {seen.not_after}, {seen.days_left} days left",
            f"     sha-256   {seen.sha256}",
        ]
    checks = {"in order": report.in_order, "complete": report.complete, "key matches": report.key_match}
    checks |= {f"valid for {name}": hit for name, hit in (report.names or {}).items()}
    lines += [f"  {check}: {'yes' if hit else 'no'}" for check, hit in checks.items() if hit is not None]
    if report.tls_version:
        lines.append(f"  negotiated: {report.tls_version}, {report.cipher}")
    lines += [f"  problem: {text}" for text in report.problems]
    return lines + [f"  warning: {text}" for text in report.warnings]
