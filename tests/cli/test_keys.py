"""`wxgate keys` as a person and a program meet it."""

import base64
import json
import secrets
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import pytest
from click.testing import CliRunner, Result

from proxy.cli import keys_desk as command
from proxy.cli.keys import keys
from proxy.kms.local import LocalKms
from proxy.kms.private_file import PrivateFile
from proxy.kms.redis_settings import RedisSettings
from proxy.kms.service import KeysError
from proxy.kms.service_settings import KeySettings, LocalSettings, ServiceSettings, TenantKeys
from proxy.observe.audit_verify import verify
from proxy.ports import Owner
from proxy.serve.key_record import on_record


@dataclass
class Settings:
    """What the commands need of the configuration."""

    state: Path
    unlock: bytes
    audit: Path
    owners: list[Owner] = field(default_factory=lambda: [Owner("acme", "in"), Owner("other", "au")])
    groups: list[str] = field(default_factory=lambda: ["agent", "follower"])
    audit_max_bytes: int = 1 << 20

    @property
    def keys(self) -> KeySettings:
        return KeySettings.local(self.unlock)


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    settings = Settings(tmp_path / "state", secrets.token_bytes(32), tmp_path / "audit")
    monkeypatch.setattr(command, "settings_of", lambda config: settings)
    return settings


@pytest.fixture
def made(settings: Settings) -> list[dict[str, Any]]:
    return listed("init")


def run(*arguments: str, exit_code: int = 0, input: str | None = None) -> Result:
    result = CliRunner().invoke(keys, [*arguments, "--config", "gateway.yaml"], input=input)
    assert result.exit_code == exit_code, result.output
    return result


def listed(*arguments: str) -> list[dict[str, Any]]:
    return list(json.loads(run(*arguments, "--json").stdout)["keys"])


def records(settings: Settings) -> list[dict[str, Any]]:
    path = settings.audit / "worker-9999.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return [line for line in lines if line["event"] == "keys_command"]


# --- init, list, show


def test_init_makes_both_purposes_for_every_owner_and_group_once(settings: Settings) -> None:
    made = listed("init")
    assert {(e["tenant"], e["region"], e["group"], e["purpose"]) for e in made} == {
        (owner.tenant, owner.region, group, purpose)
        for owner in settings.owners
        for group in settings.groups
        for purpose in ("data", "lookup")
    }
    assert listed("init") == []
    assert "No key was missing." in run("init").stdout
    assert {e["id"] for e in listed("list")} == {e["id"] for e in made}


def test_the_table_is_for_people(settings: Settings) -> None:
    first = run("init").stdout
    assert "Back up" in first and str(settings.state) in first
    head, *rows = run("list").stdout.splitlines()
    assert head.split() == [
        *("ID", "TENANT", "REGION", "GROUP", "PURPOSE", "STATE", "CREATED", "ACTIVATED", "RETIRED", "SERVICE", "KEK")
    ]
    assert len(rows) == 8
    cells = rows[0].split()
    assert cells[1:6] == ["acme", "in", "agent", "data", "active"]
    assert cells[6].endswith("Z") and cells[8:] == ["-", "local", "1"]


def test_the_list_can_be_narrowed(made: list[dict[str, Any]]) -> None:
    assert len(listed("list", "--tenant", "acme")) == 4
    assert len(listed("list", "--tenant", "acme", "--group", "agent")) == 2
    assert len(listed("list", "--region", "au", "--state", "active")) == 4
    assert listed("list", "--state", "disabled") == []
    assert "no such key" in run("list", "--tenant", "nobody").stdout


def test_one_key_is_shown_by_the_beginning_of_its_id(made: list[dict[str, Any]]) -> None:
    key_id = made[0]["id"]
    assert json.loads(run("show", key_id[:8], "--json").stdout) == made[0] | {"uses": made[0]["uses"]}
    assert key_id in run("show", key_id.upper()).stdout
    for name, said in (("", "no key"), (key_id[:7], "no key"), ("0" * 32, "no key"), ("zzzzzzzz", "no key")):
        assert said in run("show", name, exit_code=1).stderr


# --- rotate


def test_rotate_replaces_data_keys(made: list[dict[str, Any]]) -> None:
    new = listed("rotate", "--now", "--tenant", "acme", "--region", "in", "--group", "agent")
    assert [(e["purpose"], e["state"]) for e in new] == [("data", "active")]
    assert len(listed("rotate", "--now")) == 4
    states = [e["state"] for e in listed("list")]
    assert (states.count("active"), states.count("retiring")) == (8, 5)
    assert "wxgate keys list" in run("rotate", "--tenant", "nobody", exit_code=1).stderr


def test_new_keys_wait_until_every_worker_knows_them(made: list[dict[str, Any]]) -> None:
    new = listed("rotate", "--tenant", "acme")
    assert {(e["state"], e["activated"] - e["created"]) for e in new} == {("pending", 10)}
    assert len(listed("list", "--tenant", "acme", "--state", "active")) == 4


def test_no_key_protects_at_once_where_other_machines_have_the_keyring(
    settings: Settings, made: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = Settings.keys.fget(settings)  # type: ignore[attr-defined]
    monkeypatch.setattr(Settings, "keys", replace(plain, redis=RedisSettings("localhost", 1)))
    assert "other machines" in run("rotate", "--now", exit_code=1).stderr
    assert len(listed("rotate")) == 4


def test_lookup_keys_rotate_only_when_it_is_said_and_until_it_is_ended(made: list[dict[str, Any]]) -> None:
    told = run("rotate", "--now", "--lookup", "--tenant", "acme", "--group", "agent").stdout
    assert "old key and the new one" in told
    found = {e["state"]: e for e in listed("list", "--tenant", "acme", "--group", "agent") if e["purpose"] == "lookup"}
    assert found.keys() == {"active", "retiring"} and found["retiring"]["retired"] is None
    assert "already" in run("rotate", "--lookup", "--tenant", "acme", "--group", "agent", exit_code=1).stderr
    run("rotate", "--lookup", "--end", exit_code=1, input="y\nyes\n")
    (ended,) = listed("rotate", "--lookup", "--end", "--yes")
    assert ended["id"] == found["retiring"]["id"] and ended["retired"] is not None
    assert "no lookup key" in run("rotate", "--lookup", "--end", "--yes", exit_code=1).stderr
    run("rotate", "--end", exit_code=2)


# --- states


def test_disable_and_enable(made: list[dict[str, Any]]) -> None:
    old = made[0]["id"]
    run("rotate", "--now")
    (found,) = listed("disable", old[:12], "--yes")
    assert (found["id"], found["state"]) == (old, "disabled")
    (found,) = listed("enable", old)
    assert found["state"] == "retiring"
    assert "no key" in run("disable", "0" * 32, "--yes", exit_code=1).stderr


def test_destroy_is_for_good(settings: Settings, made: list[dict[str, Any]]) -> None:
    run("rotate", "--now")
    (found,) = listed("destroy", made[0]["id"], "--yes")
    assert found["state"] == "destroyed"
    assert "is destroyed" in run("enable", made[0]["id"], exit_code=1).stderr


@pytest.mark.parametrize("verb", ["disable", "destroy"])
@pytest.mark.parametrize("answer", ["", "n\n", "y\n", "y\nwrong\n", "\n{id}\n"])
def test_what_takes_keys_away_asks_twice(made: list[dict[str, Any]], verb: str, answer: str) -> None:
    before = listed("list")
    result = run(verb, made[0]["id"], exit_code=1, input=answer.replace("{id}", made[0]["id"][:8]))
    assert listed("list") == before
    assert "Active keys are among them" in result.stderr


@pytest.mark.parametrize("verb", ["disable", "destroy"])
def test_twice_the_right_answer_goes_on(made: list[dict[str, Any]], verb: str) -> None:
    run(verb, made[0]["id"], input=f"y\n{made[0]['id'][:8]}\n")
    assert len(listed("list", "--state", "active")) == 7


# --- rewrap


def test_rewrap_puts_all_under_a_new_version(made: list[dict[str, Any]]) -> None:
    told = json.loads(run("rewrap", "--json").stdout)
    assert told["rewrapped"] == 9
    assert {(e["tenant"], e["kek_version"]) for e in told["keks"]} == {("acme", 2), ("other", 2), ("wxgate.keyring", 2)}
    assert {e["kek_version"] for e in listed("list")} == {2}
    head, *rows = run("rewrap", "--tenant", "acme").stdout.splitlines()
    assert head.split() == ["TENANT", "REGION", "SERVICE", "KEK"]
    assert rows[0].split() == ["acme", "in", "local", "3"]


def test_rewrap_to_another_service(
    settings: Settings, made: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    other = ServiceSettings("elsewhere", LocalSettings(settings.unlock))
    moving = KeySettings(other, (KeySettings.local(settings.unlock).service,))
    monkeypatch.setattr(Settings, "keys", moving)
    assert "--to-service elsewhere" in run("rewrap", exit_code=1).stderr
    run("rewrap", "--to-service", "elsewhere")
    assert {e["service"] for e in listed("list")} == {"elsewhere"}


# --- shred and receipts


def receipt_of(text: str) -> dict[str, Any]:
    return dict(json.loads(text))


def test_shred_gives_a_receipt_that_the_public_key_verifies(
    settings: Settings, made: list[dict[str, Any]], tmp_path: Path
) -> None:
    public = run("receipt", "key").stdout.strip()
    result = run("shred", "--tenant", "acme", "--yes", "--receipt", str(tmp_path / "receipts"))
    receipt = receipt_of(result.stdout)
    assert set(receipt["key_ids"]) == {e["id"] for e in made if e["tenant"] == "acme"}
    assert "backup of kek.json" in result.stderr
    (file,) = (tmp_path / "receipts").iterdir()
    verify = CliRunner().invoke(keys, ["receipt", "verify", str(file), "--key", public])
    assert verify.exit_code == 0 and verify.stdout.startswith("genuine") and receipt["key_ids"][0] in verify.stdout
    assert {(e["tenant"], e["state"]) for e in listed("list")} == {("acme", "destroyed"), ("other", "active")}
    file.write_text(file.read_text().replace("acme", "ecma"))
    assert CliRunner().invoke(keys, ["receipt", "verify", str(file), "--key", public]).exit_code == 1


@pytest.mark.parametrize("answer", ["", "n\n", "y\n", "y\nacm\n", "acme\nacme\n"])
def test_shred_asks_twice(made: list[dict[str, Any]], answer: str) -> None:
    result = run("shred", "--tenant", "acme", exit_code=1, input=answer)
    assert "4 data keys lose their KEK" in result.stderr
    assert {e["state"] for e in listed("list")} == {"active"}


def test_shred_with_both_answers(made: list[dict[str, Any]]) -> None:
    run("shred", "--tenant", "acme", "--region", "in", input="y\nacme\n")
    assert {e["tenant"] for e in listed("list", "--state", "destroyed")} == {"acme"}


def test_shred_of_a_kek_that_is_gone_says_that_none_was_destroyed(
    settings: Settings, made: list[dict[str, Any]], tmp_path: Path
) -> None:
    public = run("receipt", "key").stdout.strip()
    kek_file = settings.state / "kek.json"
    content = json.loads(kek_file.read_bytes())
    content["keks"] = [kek for kek in content["keks"] if kek["tenant"] != "acme"]
    kek_file.write_text(json.dumps(content))
    refused = run("shred", "--tenant", "acme", "--yes", exit_code=1)
    assert "--kek-is-gone" in refused.stderr and not refused.stdout
    assert {e["state"] for e in listed("list")} == {"active"}
    result = run("shred", "--tenant", "acme", "--yes", "--kek-is-gone")
    assert "none was destroyed" in result.stderr and "backup of kek.json" not in result.stderr
    file = tmp_path / "receipt.json"
    file.write_text(result.stdout)
    told = CliRunner().invoke(keys, ["receipt", "verify", str(file), "--key", public]).stdout
    assert "found no KEK" in told and "no: there was no KEK to destroy" in told and "at once" not in told


def test_shred_of_nobody(made: list[dict[str, Any]]) -> None:
    assert "no key of tenant" in run("shred", "--tenant", "nobody", "--yes", exit_code=1).stderr


def test_where_a_shredding_was_not_followed_yet_new_keys_are_not_put_under_the_old_kek(
    settings: Settings, made: list[dict[str, Any]]
) -> None:
    kek_file = settings.state / "kek.json"
    before = kek_file.read_bytes()
    run("shred", "--tenant", "acme", "--yes")
    kek_file.write_bytes(before)  # as on a machine that took up the keyring, with the gateway stopped
    already = len(records(settings))
    assert {(e["tenant"], e["kek_version"]) for e in listed("init")} == {("acme", 2)}
    told = [(it["reason"], it["subject"], it["phase"]) for it in records(settings)[already:]]
    assert told[:2] == [("follow_shred", "acme/in", "asked"), ("follow_shred", "acme/in", "ended")]
    assert [kek["sealed"] == "" for kek in json.loads(kek_file.read_bytes())["keks"] if kek["tenant"] == "acme"] == [
        True,
        False,
    ]


@pytest.mark.parametrize("verb", ["rewrap", "import-kek"])
def test_no_other_command_that_makes_keks_leaves_a_shredding_unfollowed(
    settings: Settings, made: list[dict[str, Any]], kek: Path, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    plain = Settings.keys.fget(settings)  # type: ignore[attr-defined]
    monkeypatch.setattr(Settings, "keys", replace(plain, tenants={"other": TenantKeys()}))
    kek_file = settings.state / "kek.json"
    before = kek_file.read_bytes()
    run("shred", "--tenant", "acme", "--yes")
    kek_file.write_bytes(before)
    run(verb, "--tenant", "other", *(("--kek", f"file:{kek}") if verb == "import-kek" else ()))
    assert "follow_shred" in [it["reason"] for it in records(settings)]
    assert {each["sealed"] for each in json.loads(kek_file.read_bytes())["keks"] if each["tenant"] == "acme"} == {""}


# --- several machines


@pytest.fixture
def several(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Others share the keyring through Redis."""
    plain = Settings.keys.fget(settings)  # type: ignore[attr-defined]
    shared = replace(plain, redis=RedisSettings("localhost", 1), tenants={"shop": TenantKeys()})
    monkeypatch.setattr(Settings, "keys", shared)
    return settings


def test_the_first_keyring_of_all_is_made_without_asking(several: Settings) -> None:
    assert len(listed("init")) == 8 and listed("init") == []


MAKING_KEKS: list[tuple[str, ...]] = [
    ("init",),
    ("rewrap",),
    ("rewrap", "--tenant", "acme"),
    ("import-kek", "--tenant", "shop", "--kek", "file:{kek}"),
]


@pytest.fixture
def kek(tmp_path: Path) -> Path:
    file = tmp_path / "kek"
    file.touch(0o600)
    file.write_text(secrets.token_hex(32))
    return file


@pytest.mark.parametrize("arguments", MAKING_KEKS, ids=" ".join)
def test_no_kek_is_made_that_other_machines_would_not_have(
    several: Settings, made: list[dict[str, Any]], kek: Path, arguments: tuple[str, ...]
) -> None:
    several.owners.append(Owner("shop" if arguments[0] == "import-kek" else "third", "jp"))
    words = [word.replace("{kek}", str(kek)) for word in arguments]
    before = {path.name: path.read_bytes() for path in several.state.glob("*.json")}
    said = run(*words, exit_code=1).stderr
    assert "--carry-kek" in said and "moving-kms.md" in said and "several-machines.md" in said
    run(*words, "--carry-kek", exit_code=1, input="y\nno\n")
    assert {path.name: path.read_bytes() for path in several.state.glob("*.json")} == before
    meant = run(*words, "--carry-kek", input="y\ncarry\n").stderr
    assert "of this machine alone" in meant and f"Copy {several.state / 'kek.json'}" in meant
    assert (several.state / "kek.json").read_bytes() != before["kek.json"]


def test_a_receipt_speaks_for_one_machine(several: Settings, made: list[dict[str, Any]]) -> None:
    operation = json.loads(run("shred", "--tenant", "acme", "--yes").stdout)["operation"]
    assert operation.endswith("of one machine, others destroy the KEKs that the keyring names")


def test_what_makes_no_kek_asks_nothing(several: Settings, made: list[dict[str, Any]]) -> None:
    assert run("rewrap", "--resume").stderr.count("carry") == 0
    assert len(listed("rotate")) == 4 and listed("init") == []
    several.groups.append("more")
    assert len(listed("init")) == 4


# --- export, import


def test_exported_keys_come_back_and_destroyed_ones_do_not(
    settings: Settings, made: list[dict[str, Any]], tmp_path: Path
) -> None:
    file = tmp_path / "acme.json"
    assert run("export-wrapped", str(file), "--tenant", "acme").stdout.startswith("4 keys")
    assert file.stat().st_mode & 0o777 == 0o600
    assert "File exists" in run("export-wrapped", str(file), exit_code=1).stderr
    gone = made[0]["id"]
    run("destroy", gone, "--yes")
    assert "were there already" in run("import-wrapped", str(file)).stdout
    assert [e["id"] for e in listed("list", "--state", "destroyed")] == [gone]
    (settings.state / "keyring.json").unlink()
    first = run("import-wrapped", str(file), "--json")
    assert len(json.loads(first.stdout)["keys"]) == 4 and "There was no keyring here" in first.stderr
    assert {e["tenant"] for e in listed("list")} == {"acme"}
    assert len(listed("init")) == 4, "the other tenant's"


def test_that_a_file_is_of_another_keyring_is_told(
    settings: Settings, made: list[dict[str, Any]], tmp_path: Path
) -> None:
    file, keyring = tmp_path / "keys.json", settings.state / "keyring.json"
    run("export-wrapped", str(file))
    keyring.unlink()
    run("init")
    public = run("receipt", "key").stdout
    result = run("import-wrapped", str(file))
    assert "of another keyring" in result.stderr and "do not protect" in result.stderr
    assert run("receipt", "key").stdout == public
    assert len(listed("list", "--state", "active")) == 8 and len(listed("list", "--state", "retiring")) == 8


def test_a_copy_that_destroys_keys_asks_first_and_names_them(
    settings: Settings, made: list[dict[str, Any]], tmp_path: Path
) -> None:
    file, keyring = tmp_path / "keys.json", settings.state / "keyring.json"
    gone, before = made[0]["id"], keyring.read_bytes()
    run("destroy", gone, "--yes")
    run("export-wrapped", str(file))
    keyring.write_bytes(before)
    for answer in ("n\n", f"y\n{made[1]['id'][:8]}\n"):
        assert f"destroy {gone}" in run("import-wrapped", str(file), exit_code=1, input=answer).stderr
        assert keyring.read_bytes() == before
    already = len(records(settings))
    done = run("import-wrapped", str(file), "--json", input=f"y\n{gone[:8]}\n")
    assert [(e["id"], e["state"]) for e in json.loads(done.stdout)["keys"]] == [(gone, "destroyed")]
    assert [(line["phase"], line["key_ids"]) for line in records(settings)[already:]] == [
        ("asked", gone),
        ("ended", gone),
    ]


def test_a_key_that_another_keyring_destroyed_stays_and_is_named(
    settings: Settings, made: list[dict[str, Any]], tmp_path: Path
) -> None:
    file, back, keyring = tmp_path / "keys.json", tmp_path / "back.json", settings.state / "keyring.json"
    run("export-wrapped", str(file))
    before = keyring.read_bytes()
    keyring.unlink()
    run("init")
    run("import-wrapped", str(file))
    run("destroy", made[0]["id"], "--yes")
    run("export-wrapped", str(back))
    keyring.write_bytes(before)
    assert f"{made[0]['id']} is destroyed in FILE and active here: it stays" in run("import-wrapped", str(back)).stderr
    assert made[0] in listed("list", "--state", "active")


@pytest.mark.parametrize("change", ["state", "tag", "cut", "nothing at all"])
def test_what_was_changed_on_its_way_is_not_taken(made: list[dict[str, Any]], tmp_path: Path, change: str) -> None:
    file = tmp_path / "keys.json"
    run("export-wrapped", str(file))
    text = file.read_text()
    file.write_text({
        "state": text.replace('"active"', '"retiring"'), "tag": text.replace('"tag": "', '"tag": "0')[:-3] + '"}',
        "cut": text[:-40], "nothing at all": "",
    }[change])  # fmt: skip
    before = listed("list")
    run("import-wrapped", str(file), exit_code=1)
    assert listed("list") == before


def test_keys_of_another_installation_are_not_taken(
    settings: Settings, made: list[dict[str, Any]], tmp_path: Path
) -> None:
    file = tmp_path / "keys.json"
    run("export-wrapped", str(file))
    settings.unlock, settings.state = secrets.token_bytes(32), tmp_path / "elsewhere"
    run("init")
    before = listed("list")
    run("import-wrapped", str(file), exit_code=1)
    assert listed("list") == before


# --- a tenant's own KEK


@pytest.fixture
def brought(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The tenant acme brings its own."""
    plain = Settings.keys.fget(settings)  # type: ignore[attr-defined]
    monkeypatch.setattr(Settings, "keys", replace(plain, tenants={"acme": TenantKeys()}))
    return settings


def import_kek(tmp_path: Path, value: str, *more: str, exit_code: int = 0) -> Result:
    file = tmp_path / "kek"
    file.touch(0o600)
    file.write_text(value)
    return run("import-kek", "--tenant", "acme", "--kek", f"file:{file}", *more, exit_code=exit_code)


def test_an_imported_kek_is_the_newest_and_keys_are_under_it(
    settings: Settings, made: list[dict[str, Any]], brought: Settings, tmp_path: Path
) -> None:
    kek = secrets.token_bytes(32)
    said = import_kek(tmp_path, kek.hex()).output
    assert "KEK version 2 of acme/in; 4 data keys" in said and kek.hex() not in said
    assert {(e["tenant"], e["kek_version"]) for e in listed("list")} == {("acme", 2), ("other", 1)}
    run("rewrap")
    assert {(e["tenant"], e["kek_version"]) for e in listed("list")} == {("acme", 2), ("other", 2)}, "not ours to make"
    assert {len(e["id"]) for e in listed("rotate", "--now", "--tenant", "acme")} == {64}


def test_a_kek_can_be_imported_before_there_are_keys(brought: Settings, tmp_path: Path) -> None:
    assert "KEK version 1 of acme/in; 0 data keys" in import_kek(tmp_path, secrets.token_hex(32)).output
    assert {(e["tenant"], e["kek_version"]) for e in listed("init")} == {("acme", 1), ("other", 1)}


def test_init_makes_nothing_for_who_has_yet_to_bring_its_kek_and_goes_on_with_the_others(
    brought: Settings, tmp_path: Path
) -> None:
    for _ in range(2):
        result = run("init", exit_code=1)
        assert "import-kek --tenant acme --region in" in result.stderr and "`wxgate keys init` again" in result.stderr
        assert {e["tenant"] for e in listed("list")} == {"other"}
    keks = json.loads((brought.state / "kek.json").read_bytes())["keks"]
    assert {kek["tenant"] for kek in keks} == {"other", "wxgate.keyring"}
    assert json.loads(run("init", "--json", exit_code=1).stdout) == {"keys": []}
    import_kek(tmp_path, secrets.token_hex(32))
    assert {e["tenant"] for e in listed("init")} == {"acme"}
    assert listed("init") == []


def test_nothing_makes_a_kek_for_who_has_yet_to_bring_it(
    settings: Settings, made: list[dict[str, Any]], brought: Settings
) -> None:
    run("shred", "--tenant", "acme", "--yes")
    before = (settings.state / "kek.json").read_bytes()
    run("init", exit_code=1)
    assert "import it first" in run("init", exit_code=1).stderr
    assert (settings.state / "kek.json").read_bytes() == before


def test_a_kek_is_not_imported_beside_a_shredding(
    brought: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, held, real = PrivateFile(brought.state / "keyring.json", 1), [], LocalKms.import_kek

    def looking(kms: LocalKms, owner: Owner, kek: bytes) -> int:
        with pytest.raises(KeysError, match="has held this lock"), file.locked("local.making.lock", 0.0):
            pass
        held.append(owner)
        return real(kms, owner, kek)

    monkeypatch.setattr(LocalKms, "import_kek", looking)
    import_kek(tmp_path, secrets.token_hex(32))
    assert held == [Owner("acme", "in")]


def test_a_kek_that_was_shredded_is_not_taken_again(brought: Settings, tmp_path: Path) -> None:
    kek = secrets.token_hex(32)
    import_kek(tmp_path, kek)
    run("init")
    run("shred", "--tenant", "acme", "--yes")
    assert "this KEK was shredded" in import_kek(tmp_path, kek, exit_code=1).stderr
    assert "KEK version 2" in import_kek(tmp_path, secrets.token_hex(32)).output


@pytest.mark.parametrize(
    ("value", "more", "said"),
    [
        ("placeholder", (), "not 32 random bytes"),
        ("00" * 32, (), "not 32 random bytes"),
        (bytes(range(100, 132)).hex(), ("--region", "jp"), "no route"),
    ],
)
def test_what_is_no_kek_is_not_taken(
    brought: Settings, tmp_path: Path, value: str, more: tuple[str, ...], said: str
) -> None:
    result = import_kek(tmp_path, value, *more, exit_code=1)
    assert said in result.stderr and value not in result.output


def test_a_kek_of_a_tenant_that_brings_none_is_not_taken(settings: Settings, tmp_path: Path) -> None:
    assert "does not bring its own" in import_kek(tmp_path, secrets.token_hex(32), exit_code=1).stderr
    result = run("import-kek", "--tenant", "acme", "--kek", secrets.token_hex(32), exit_code=1)
    assert "never the value itself" in result.stderr


# --- what is true of all of them


EVERY = [
    ("init",),
    ("list",),
    ("show", "{id}"),
    ("rotate",),
    ("rotate", "--now", "--lookup"),
    ("rotate", "--lookup", "--end", "--yes"),
    ("rewrap",),
    ("disable", "{id}", "--yes"),
    ("enable", "{id}"),
    ("destroy", "{id}", "--yes"),
    ("receipt", "key"),
    ("export-wrapped", "{file}"),
    ("import-wrapped", "{file}"),
    ("shred", "--tenant", "acme", "--yes"),
]


def test_no_key_bytes_are_ever_printed(settings: Settings, tmp_path: Path) -> None:
    said = run("init").output
    (settings.state / "keyring.json").read_bytes()
    key_id = listed("list")[0]["id"]
    secrets_seen = {settings.unlock.hex(), base64.b64encode(settings.unlock).decode()}
    for arguments in EVERY:
        secrets_seen |= {
            entry["wrapped"] for entry in json.loads((settings.state / "keyring.json").read_bytes())["entries"]
        }
        secrets_seen |= {kek["sealed"] for kek in json.loads((settings.state / "kek.json").read_bytes())["keks"]}
        file = str(tmp_path / "exported.json")
        said += run(*(word.replace("{id}", key_id).replace("{file}", file) for word in arguments)).output
    said += (settings.audit / "worker-9999.jsonl").read_text()
    assert not [form for form in secrets_seen if form and form in said]
    assert "wrapped" not in said and "sealed" not in said


CHANGING = [arguments for arguments in EVERY if arguments[0] not in ("list", "show", "receipt", "import-wrapped")]


@pytest.mark.parametrize("arguments", CHANGING, ids=" ".join)
def test_what_cannot_be_put_on_record_is_not_done(
    settings: Settings, made: list[dict[str, Any]], tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    run("rotate", "--now", "--lookup", "--tenant", "other")
    settings.groups.append("more")
    before = {path.name: path.read_bytes() for path in settings.state.iterdir()}
    (settings.audit / "worker-9999.jsonl").chmod(0o644)
    file = tmp_path / "exported.json"
    words = (word.replace("{id}", made[0]["id"]).replace("{file}", str(file)) for word in arguments)
    result = run(*words, exit_code=1)
    assert not file.exists()
    assert "audit" in result.stderr
    assert {path.name: path.read_bytes() for path in settings.state.iterdir()} == before


@pytest.mark.parametrize("arguments", CHANGING, ids=" ".join)
def test_what_changes_keys_is_on_record(
    settings: Settings, made: list[dict[str, Any]], tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    if "--end" in arguments:
        run("rotate", "--now", "--lookup")
    already = len(records(settings))
    file = str(tmp_path / "exported.json")
    run(*(word.replace("{id}", made[0]["id"]).replace("{file}", file) for word in arguments))
    found = records(settings)[already:]
    phases = [record["phase"] for record in found]
    assert phases == sorted(phases) and set(phases) == {"asked", "ended"}
    assert {record.get("outcome", "done") for record in found} == {"done"} and all(record["caller"] for record in found)


def named_in(settings: Settings, verb: str, phase: str) -> list[str]:
    """Key ids of the records of `verb`, in their order."""
    found = [record["key_ids"] for record in records(settings) if (record["reason"], record["phase"]) == (verb, phase)]
    return [key_id for text in found for key_id in text.split(",")]


@pytest.mark.parametrize("verb", ["disable", "enable", "destroy", "shred"])
def test_every_key_is_named_in_the_record_before_it_is_touched_and_after(
    settings: Settings, made: list[dict[str, Any]], verb: str
) -> None:
    ids = sorted(entry["id"] for entry in made if entry["tenant"] == "acme")
    assert len(ids) > 3, "more than one record has room for"
    if verb == "enable":
        run("disable", *ids, "--yes")
    asked = {"shred": ("--tenant", "acme", "--yes"), "enable": ids}.get(verb, (*ids, "--yes"))
    run(verb, *asked)
    assert sorted(named_in(settings, verb, "asked")) == sorted(named_in(settings, verb, "ended")) == ids


@pytest.mark.parametrize("verb", ["disable", "destroy", "shred"])
def test_the_keys_of_a_command_that_did_not_end_are_named(
    settings: Settings, made: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    def die(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("proxy.kms.keyring_file.KeyringFile.change_document", die)
    ids = sorted(entry["id"] for entry in made if entry["tenant"] == "acme")
    run(verb, *(("--tenant", "acme") if verb == "shred" else ids), "--yes", exit_code=1)
    assert sorted(named_in(settings, verb, "asked")) == ids
    assert [record.get("outcome") for record in records(settings)][-1] == "failed"


def test_a_command_that_fails_is_on_record(settings: Settings, made: list[dict[str, Any]]) -> None:
    run("rotate", "--tenant", "nobody", exit_code=1)
    assert [record.get("outcome") for record in records(settings)[-2:]] == [None, "failed"]


def test_errors_are_one_line_without_a_traceback(settings: Settings) -> None:
    result = run("list", exit_code=1)
    assert result.stderr.startswith("Error: ") and "no such file or directory" in result.stderr
    run("init")
    settings.unlock = secrets.token_bytes(32)
    assert "unlock key is another one" in run("rotate", exit_code=1).stderr
    (settings.state / "keyring.json").chmod(0o644)
    assert "chmod 600" in run("list", exit_code=1).stderr


def test_config_is_required() -> None:
    for arguments in EVERY:
        result = CliRunner().invoke(keys, arguments)
        assert result.exit_code == 2 and "--config" in result.stderr


def test_commands_wait_for_each_other_at_the_record(settings: Settings, made: list[dict[str, Any]]) -> None:
    already = len(records(settings))

    def use(number: int) -> None:
        with on_record(cast(Any, settings), "rotate", f"number {number}"):
            pass

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(use, range(24)))
    found = records(settings)[already:]
    assert len(found) == 48 and {record["subject"] for record in found} == {f"number {n}" for n in range(24)}
    assert not [report.finding for report in verify(settings.audit, None) if report.finding]
