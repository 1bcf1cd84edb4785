"""`wxgate keys doctor` on installations that are well, and on ones with one thing wrong each."""

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from click.testing import CliRunner

from proxy.cli.keys import keys
from proxy.cli.keys_desk import open_desk
from proxy.kms import transitions
from proxy.kms.keyring_format import Entry
from proxy.kms.limits import KeyLimits
from proxy.kms.redis_link import RedisLink
from proxy.kms.redis_settings import RedisSettings
from proxy.kms.rewrapping import rewrap
from proxy.kms.selection import Selection
from proxy.kms.shredded import Shredded
from proxy.kms.shredding import shred
from proxy.serve.doctor import keys as key_checks
from proxy.serve.doctor import machine
from proxy.serve.doctor.clock import clock
from proxy.serve.doctor.finding import Level
from proxy.serve.settings import load_settings
from proxy.serve.settings_region import DiskDemand
from proxy.serve.shred_following import follow_shreds
from tests.support.installation import Installation
from tests.support.redis_server import RedisServer

DAY = 86400.0


@pytest.fixture
def files() -> Iterator[Installation]:
    with Installation() as installation:
        yield installation


def examined(files: Installation, *arguments: str, exit_code: int) -> dict[str, list[dict[str, str]]]:
    """Findings by level, but for what depends on the machine the tests run on."""
    result = CliRunner().invoke(keys, ["doctor", "--config", str(files.config), "--json", *arguments])
    found: dict[str, list[dict[str, str]]] = {level.value: [] for level in Level}
    for finding in json.loads(result.stdout)["findings"]:
        if finding["check"] not in ("swap", "disk room"):
            found[finding["level"]].append(finding)
    worst = 2 if found["now"] else 1 if found["soon"] else 0
    assert worst == exit_code, (found["now"], found["soon"])
    assert result.exit_code >= exit_code
    return found


def checks(found: list[dict[str, str]]) -> set[str]:
    return {finding["check"] for finding in found}


def test_a_whole_installation_is_fine(files: Installation) -> None:
    found = examined(files, exit_code=0)
    assert checks(found["fine"]) >= {"file mode", "key service", "key missing", "key age", "certificate", "core dumps"}
    assert checks(found["note"]) == {"clock"}


def test_what_a_person_reads_begins_with_the_worst(files: Installation) -> None:
    (files.directory / "state" / "kek.json").chmod(0o644)
    result = CliRunner().invoke(keys, ["doctor", "--config", str(files.config)])
    assert result.exit_code == 2
    assert result.stdout.startswith("now ") and "chmod 600" in result.stdout


def test_a_configuration_that_cannot_be_read(files: Installation) -> None:
    files.edit("version: 1", "version: 9")
    result = CliRunner().invoke(keys, ["doctor", "--config", str(files.config)])
    assert result.exit_code == 3


@pytest.mark.parametrize(
    ("path", "mode", "check"),
    [("state/kek.json", 0o640, "file mode"), ("certs/gateway.key", 0o644, "file mode"), ("state", 0o755, "file mode")],
)
def test_files_that_others_can_read(files: Installation, path: str, mode: int, check: str) -> None:
    (files.directory / path).chmod(mode)
    found = examined(files, exit_code=2)
    assert [it["text"] for it in found["now"] if it["check"] == check and path in it["text"]]


def test_a_lost_keyring_and_a_lost_kek(files: Installation) -> None:
    keyring, kek = files.directory / "state" / "keyring.json", files.directory / "state" / "kek.json"
    text = keyring.read_bytes()
    keyring.write_bytes(text[:-20])
    assert "keyring" in checks(examined(files, exit_code=2)["now"])
    keyring.write_bytes(text)
    kek.write_text('{"version": 1, "keks": []}')
    assert checks(examined(files, exit_code=2)["now"]) & {"keyring", "key does not open"}


def test_a_missing_key(files: Installation) -> None:
    files.edit("tenant: acme", "tenant: another")
    assert "key missing" in checks(examined(files, exit_code=2)["now"])


def test_a_tenant_that_has_yet_to_bring_its_kek(files: Installation) -> None:
    plain = "keys: {unlock: 'file:secrets/unlock'}"
    files.edit(plain, "keys: {service: {kind: local, unlock: 'file:secrets/unlock'}, tenants: {another: {}}}")
    files.edit("tenant: acme", "tenant: another")
    found = examined(files, exit_code=2)
    assert {"import-kek --tenant another" in it["fix"] for it in found["now"] if it["check"] == "key missing"} == {True}


def test_certificates_that_end_soon_or_ended(files: Installation) -> None:
    settings = load_settings(files.config)
    at = time.time()
    for days, level in ((0, Level.FINE), (70, Level.SOON), (100, Level.NOW)):
        found = list(machine.certificates(settings, at + days * DAY))
        assert level in {finding.level for finding in found if "gateway.pem" in finding.text}, days
    (files.directory / "certs" / "gateway.pem").write_text("nothing")
    assert Level.NOW in {finding.level for finding in machine.certificates(settings, at)}


def entries_of(files: Installation) -> tuple[Entry, ...]:
    return open_desk(files.config).file.read()


def test_keys_that_are_old_or_nearly_used_up(files: Installation) -> None:
    limits = KeyLimits(budget_uses=1000, rotate_after=10 * DAY)
    entries, at = entries_of(files), time.time()
    assert {it.level for it in key_checks.worn(entries, limits, at)} == {Level.FINE}
    assert {it.check for it in key_checks.worn(entries, limits, at + 11 * DAY) if it.level is Level.SOON} == {"key age"}
    used = tuple(replace(entry, uses=950) for entry in entries)
    assert {it.check for it in key_checks.worn(used, limits, at) if it.level is Level.SOON} == {"key budget"}
    used = tuple(replace(entry, uses=1000) for entry in entries)
    assert {it.level for it in key_checks.worn(used, limits, at)} == {Level.NOW}


def test_backups_of_what_was_destroyed(files: Installation) -> None:
    desk = open_desk(files.config)
    desk.file.change(lambda entries: transitions.destroyed(entries, {entries[0].id}, time.time()))
    (found,) = key_checks.backups(desk.services, desk.file.read())
    assert found.level is Level.NOTE and time.strftime("%Y-", time.gmtime()) in found.text


def test_keys_under_a_kek_that_another_machine_made(files: Installation) -> None:
    settings, desk = load_settings(files.config), open_desk(files.config)
    kek_file = settings.state / "kek.json"
    before = kek_file.read_bytes()
    assert list(key_checks.keks_here(settings, desk.services, desk.file.document())) == []
    rewrap(desk.file, desk.services, Selection())
    document = desk.file.document()
    assert list(key_checks.keks_here(settings, desk.services, document)) == []
    kek_file.write_bytes(before)  # as where the keyring came and the file did not
    (found,) = key_checks.keks_here(settings, desk.services, document)
    assert found.level is Level.NOW and "under KEK version 2" in found.text and "lost-kek.md" in found.fix
    shared = replace(settings, keys=replace(settings.keys, redis=RedisSettings("localhost", 1)))
    (found,) = key_checks.keks_here(shared, desk.services, document)
    assert f"to {kek_file}" in found.fix and "several-machines.md" in found.fix
    assert "several-machines.md" in key_checks.keyring_fix(shared)


def test_a_shredding_that_was_not_followed(files: Installation) -> None:
    kek_file = files.directory / "state" / "kek.json"
    before, desk = kek_file.read_bytes(), open_desk(files.config)
    (owner,) = {entry.slot.owner for entry in desk.file.read()}
    shred(desk.file, desk.services, owner, time.time())
    assert list(key_checks.shreddings(desk.services, desk.file.document())) == []
    kek_file.write_bytes(before)
    found, _ = key_checks.shreddings(desk.services, desk.file.document())
    assert found.level is Level.SOON and f"{owner.tenant}/{owner.region}" in found.text
    follow_shreds(desk.settings, desk.services, desk.file)
    assert list(key_checks.shreddings(desk.services, desk.file.document())) == []


def test_a_kek_that_opens_nothing_but_backups(files: Installation) -> None:
    desk = open_desk(files.config)
    assert list(key_checks.shreddings(desk.services, desk.file.document())) == []
    desk.file.change(lambda entries: transitions.destroyed(entries, {e.id for e in entries}, time.time()))
    (found,) = key_checks.shreddings(desk.services, desk.file.document())
    assert found.level is Level.NOTE and "wxgate keys shred" in found.fix


def test_a_key_that_was_made_before_the_shredding_was_known(files: Installation) -> None:
    """No advice may bring the KEK back."""
    settings, desk = load_settings(files.config), open_desk(files.config)
    before = desk.file.read()[0]
    shred(desk.file, desk.services, before.slot.owner, time.time())
    late = replace(before, wrapped=replace(before.wrapped, key_id=bytes(range(16))))
    desk.file.change(lambda entries: (*entries, late))
    document = desk.file.document()
    found = [
        *key_checks.open_well(settings, desk.services, document),
        *key_checks.keks_here(settings, desk.services, document),
    ]
    assert [it.check for it in found] == ["key does not open", "KEK missing"]
    for finding in found:
        assert f"`wxgate keys destroy {late.id.hex()}`" in finding.fix
        assert "only if the tenant began anew" in finding.fix


def test_a_kek_that_was_made_anew_before_the_shredding_was_known(files: Installation) -> None:
    desk = open_desk(files.config)
    rewrap(desk.file, desk.services, Selection())
    (owner,) = {entry.slot.owner for entry in desk.file.read()}
    assert list(key_checks.shreddings(desk.services, desk.file.document())) == [], "an old version is nothing strange"
    elsewhere = Shredded(owner, bytes(16))
    desk.file.change_document(lambda document: replace(document, shredded=frozenset({elsewhere})))
    (found,) = key_checks.shreddings(desk.services, desk.file.document())
    assert found.level is Level.NOTE and "nothing is under version 1 of its KEK" in found.text
    assert "several-machines.md" in found.fix


def test_keys_that_are_still_with_a_former_service(files: Installation) -> None:
    new = "keys: {service: {kind: local, name: new, unlock: 'file:secrets/unlock'}}"
    files.edit("keys: {unlock: 'file:secrets/unlock'}", new)
    result = CliRunner().invoke(keys, ["doctor", "--config", str(files.config), "--json"])
    assert result.exit_code == 2 and "not configured" in result.stdout


class _Clock(BaseHTTPRequestHandler):
    ahead = 0.0

    def do_HEAD(self) -> None:
        self.send_response(404)
        self.end_headers()

    def date_time_string(self, timestamp: float | None = None) -> str:
        when = datetime.now(UTC) + timedelta(seconds=self.ahead)
        return when.strftime("%a, %d %b %Y %H:%M:%S GMT")

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Callable[[float], str]]:
    httpd = HTTPServer(("127.0.0.1", 0), _Clock)
    threading.Thread(target=httpd.serve_forever, daemon=True).start()

    def told(ahead: float) -> str:
        _Clock.ahead = ahead
        return f"http://127.0.0.1:{httpd.server_port}"

    yield told
    httpd.shutdown()
    httpd.server_close()


@pytest.mark.parametrize(
    ("ahead", "level"),
    [(0.0, Level.FINE), (60.0, Level.SOON), (-60.0, Level.SOON), (400.0, Level.NOW), (-400.0, Level.NOW)],
)
def test_the_clock_against_a_stated_source(
    files: Installation, server: Callable[[float], str], ahead: float, level: Level
) -> None:
    (found,) = clock(load_settings(files.config), server(ahead))
    assert found.level is level


@pytest.mark.parametrize("source", ["http://127.0.0.1:1", "nonsense", "ftp://127.0.0.1/"])
def test_a_source_that_tells_no_time(files: Installation, source: str) -> None:
    (found,) = clock(load_settings(files.config), source)
    assert found.level is Level.SOON


def test_no_finding_holds_a_secret(files: Installation) -> None:
    for path in ("kek.json", "keyring.json"):
        os.truncate(files.directory / "state" / path, 100)
    result = CliRunner().invoke(keys, ["doctor", "--config", str(files.config), "--json"])
    assert not [secret for secret in files.secrets.values() if secret in result.output]


def test_the_audit_log_needs_room(files: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load_settings(files.config)
    usage = machine.shutil.disk_usage(files.directory)
    full = type(usage)(10 * 2**30, 10 * 2**30 - 2**20, 2**20)
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda _path: full)
    assert {finding.level for finding in machine.disk(settings)} == {Level.SOON}


def test_a_cipher_that_cannot_be_known_is_to_be_looked_at(files: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = replace(load_settings(files.config), disk=DiskDemand(required=True))
    monkeypatch.setattr(machine, "disk_problem", lambda *_: "")
    for known, levels in ((False, [Level.FINE]), (None, [Level.FINE, Level.NOTE])):
        monkeypatch.setattr(machine, "null_cipher_in_use", lambda known=known: known)
        assert [found.level for found in machine.disk(settings) if found.check == "disk encryption"] == levels


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server
    server.stop()


def test_the_exchange_with_other_machines(files: Installation, redis_server: RedisServer) -> None:
    settings, file = load_settings(files.config), open_desk(files.config).file
    assert list(key_checks.exchange(settings, file)) == []
    shared = replace(settings, keys=replace(settings.keys, redis=redis_server.settings))
    (found,) = key_checks.exchange(shared, file)
    assert found.level is Level.NOTE and "revision 0" in found.text
    document = file.document()
    assert RedisLink(redis_server.settings).swap(b"", str(document.revision).encode(), file.text(document))
    (found,) = key_checks.exchange(shared, file)
    assert found.level is Level.FINE
    redis_server.stop()
    (found,) = key_checks.exchange(shared, file)
    assert found.level is Level.SOON
