"""AWS KMS: what a wrapped DEK is bound to, what destroying leaves, and whom the session believes."""

import json
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from botocore.exceptions import ClientError

from proxy.crypto.data_key import Purpose
from proxy.kms.aws import AwsKms
from proxy.kms.service import KeysError, KeyServiceDownError, Slot
from proxy.kms.service_settings import AwsSettings, KeySettings, ServiceSettings
from proxy.kms.services import open_services
from proxy.ports import Owner
from tests.support.moto import Moto
from tests.support.servers import Authority, Server, replies

ACME = Owner("acme", "in")
DATA = Slot(ACME, "follower", Purpose.DATA)
DEK = bytes(range(32))


@pytest.fixture(scope="module")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Moto]:
    server = Moto(tmp_path_factory.mktemp("moto"))
    yield server
    server.stop()


@pytest.fixture
def settings(moto: Moto) -> AwsSettings:
    return AwsSettings("eu-west-1", moto.url, None, b"AKIATESTING", b"testing", timeout=30.0)


@pytest.fixture
def kms(settings: AwsSettings) -> AwsKms:
    return AwsKms(settings)


def client(settings: AwsSettings) -> Any:
    return botocore.session.Session().create_client(
        "kms",
        settings.region,
        endpoint_url=settings.endpoint,
        aws_access_key_id="other",
        aws_secret_access_key="other",
    )


def test_the_factory_opens_it(settings: AwsSettings, tmp_path: Path) -> None:
    services = open_services(KeySettings(ServiceSettings("cloud", settings)), tmp_path, secrets.token_bytes)
    services.check()
    services.create_kek(ACME)
    wrapped = services.wrap(DATA, DEK)
    assert (wrapped.service, services.unwrap(DATA, wrapped)) == ("cloud", DEK)


def test_the_encryption_context_is_what_binds(settings: AwsSettings, kms: AwsKms) -> None:
    """Written from docs/keys.md: what AWS must be asked to open a wrapped DEK."""
    kms.create_kek(ACME)
    wrapped = kms.wrap(DATA, DEK)
    bound = {"wxgate": "wrapped dek 1", "tenant": "acme", "region": "in", "purpose": "data", "group": "follower"}
    bound["key_id"] = wrapped.key_id.hex()
    asked = {"KeyId": f"alias/wxgate/acme/in/v{wrapped.kek_version}", "CiphertextBlob": wrapped.sealed}
    aws = client(settings)
    assert aws.decrypt(**asked, EncryptionContext=bound)["Plaintext"] == DEK
    for name in bound:
        with pytest.raises(aws.exceptions.InvalidCiphertextException):
            aws.decrypt(**asked, EncryptionContext={**bound, name: "other"})


def test_destroying_schedules_the_deletion_of_every_version_and_says_when(settings: AwsSettings, kms: AwsKms) -> None:
    owner = Owner("destroyed", "in")
    kms.create_kek(owner)
    kms.rotate_kek(owner)
    receipt = kms.destroy_kek(owner)
    aws = client(settings)
    aliases = {each["AliasName"]: each["TargetKeyId"] for each in aws.list_aliases()["Aliases"]}
    mine = {name: key for name, key in aliases.items() if "/destroyed/in/" in name}
    assert sorted(mine) == ["alias/wxgate/destroyed/in/destroyed-v1", "alias/wxgate/destroyed/in/destroyed-v2"]
    for key in mine.values():
        found = aws.describe_key(KeyId=key)["KeyMetadata"]
        assert (found["KeyState"], key in receipt.operation) == ("PendingDeletion", True)
        assert receipt.effective is not None and int(found["DeletionDate"].timestamp()) <= receipt.effective
    days = (receipt.effective or 0) - time.time()
    assert 6.9 * 86400 < days <= 7 * 86400
    assert kms.destroy_kek(owner) == receipt
    assert kms.create_kek(owner) == 3
    assert kms.destroy_kek(Owner("never", "in")).operation.startswith("found no KEK")


def as_aws_does(kms: AwsKms) -> list[str]:
    """A key that waits for its deletion takes no alias, which moto does not know; the verbs that were asked for."""
    asked: list[str] = []

    def before(params: dict[str, Any], model: Any, **_: Any) -> None:
        asked.append(model.name)
        if model.name == "CreateAlias":
            key = kms._session.ask(lambda aws: aws.describe_key(KeyId=params["TargetKeyId"])["KeyMetadata"])
            if key["KeyState"] == "PendingDeletion":
                refusal = {"Error": {"Code": "KMSInvalidStateException"}, "ResponseMetadata": {"HTTPStatusCode": 400}}
                raise ClientError(refusal, "CreateAlias")  # type: ignore[arg-type]

    kms._session.ask(lambda aws: aws.meta.events.register("before-parameter-build.kms", before))
    return asked


@pytest.mark.parametrize("killed_at", ["ScheduleKeyDeletion", "DeleteAlias"])
def test_wherever_destroying_is_interrupted_the_second_run_tells_the_date(
    settings: AwsSettings, kms: AwsKms, killed_at: str
) -> None:
    owner = Owner(f"interrupted-{killed_at}", "in")
    as_aws_does(kms)
    kms.create_kek(owner)
    other = AwsKms(settings)

    def killed(**_: Any) -> None:
        raise KeyboardInterrupt

    other._session.ask(lambda aws: aws.meta.events.register(f"before-parameter-build.kms.{killed_at}", killed))
    with pytest.raises(KeyboardInterrupt):
        other.destroy_kek(owner)
    first = kms.destroy_kek(owner)
    assert first.effective is not None and kms.destroy_kek(owner) == first
    assert kms.create_kek(owner) == 2


def test_the_alias_of_a_destroyed_key_comes_before_its_deletion(kms: AwsKms) -> None:
    owner = Owner("ordered", "in")
    kms.create_kek(owner)
    asked = as_aws_does(kms)
    kms.destroy_kek(owner)
    order = [verb for verb in asked if verb in ("CreateAlias", "ScheduleKeyDeletion", "DeleteAlias")]
    assert order == ["CreateAlias", "ScheduleKeyDeletion", "DeleteAlias"]


def test_a_key_that_somebody_else_scheduled_keeps_its_alias_and_its_date_is_told(
    settings: AwsSettings, kms: AwsKms
) -> None:
    owner = Owner("scheduled", "in")
    kms.create_kek(owner)
    key = kms._newest(owner).key
    client(settings).schedule_key_deletion(KeyId=key, PendingWindowInDays=30)
    as_aws_does(kms)
    receipt = kms.destroy_kek(owner)
    assert key in receipt.operation and (receipt.effective or 0) > time.time() + 29 * 86400
    assert kms.destroy_kek(owner) == receipt


def test_an_alias_that_is_denied_stops_it(kms: AwsKms) -> None:
    owner = Owner("limited", "in")
    kms.create_kek(owner)

    def limited(**_: Any) -> None:
        refusal = {"Error": {"Code": "LimitExceededException"}, "ResponseMetadata": {"HTTPStatusCode": 400}}
        raise ClientError(refusal, "CreateAlias")  # type: ignore[arg-type]

    kms._session.ask(lambda aws: aws.meta.events.register("before-parameter-build.kms.CreateAlias", limited))
    with pytest.raises(KeysError, match="LimitExceeded"):
        kms.destroy_kek(owner)
    assert kms._newest(owner).version == 1


def test_a_key_that_the_tenant_made_is_taken_as_its_kek(settings: AwsSettings, kms: AwsKms) -> None:
    """By AWS's own means, as docs/keys.md tells: whatever its origin, the alias makes it the KEK."""
    owner, aws = Owner("brings", "in"), client(settings)
    key = aws.create_key(Origin="EXTERNAL")["KeyMetadata"]["KeyId"]
    aws.enable_key(KeyId=key)  # as the import of the material does
    aws.create_alias(AliasName="alias/wxgate/brings/in/v1", TargetKeyId=key)
    assert (kms.create_kek(owner), kms._newest(owner).key) == (1, key)
    slot = DATA._replace(owner=owner)
    assert kms.unwrap(slot, kms.wrap(slot, DEK)) == DEK


def test_a_key_that_somebody_disabled_is_not_replaced(settings: AwsSettings, kms: AwsKms) -> None:
    owner = Owner("disabled", "in")
    kms.create_kek(owner)
    client(settings).disable_key(KeyId=kms._newest(owner).key)
    for ask in (lambda: kms.create_kek(owner), lambda: kms.rotate_kek(owner)):
        with pytest.raises(KeysError, match="that is enabled"):
            ask()


def test_a_key_that_another_process_makes_after_the_look_is_taken(
    settings: AwsSettings, kms: AwsKms, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, look = Owner("overtaken", "in"), kms._versions

    def overtaken(asked: Owner) -> object:
        found = look(asked)
        AwsKms(settings).create_kek(asked)
        return found

    monkeypatch.setattr(kms, "_versions", overtaken)
    assert kms.create_kek(owner) == 1


def test_processes_that_create_at_once_agree_on_one_key(settings: AwsSettings) -> None:
    owner = Owner("raced", "in")
    with ThreadPoolExecutor(6) as pool:
        versions = list(pool.map(lambda _: AwsKms(settings).create_kek(owner), range(6)))
    assert versions == [1] * 6
    aws = client(settings)
    states = [
        found["KeyState"]
        for key in aws.list_keys(Limit=1000)["Keys"]
        if "of raced/in," in (found := aws.describe_key(KeyId=key["KeyId"])["KeyMetadata"])["Description"]
    ]
    assert states.count("Enabled") == 1 and set(states) <= {"Enabled", "PendingDeletion"}


def test_many_aliases_are_read_to_the_end(settings: AwsSettings, kms: AwsKms) -> None:
    owners = [Owner(f"many-{number}", "in") for number in range(120)]
    kms.create_kek(owners[0])
    aws, key = client(settings), kms._newest(owners[0]).key
    for number in range(120):
        aws.create_alias(AliasName=f"alias/other-{number}", TargetKeyId=key)
    kms.create_kek(Owner("zz-last", "in"))
    assert kms.create_kek(Owner("zz-last", "in")) == 1


# --- whom the session believes


def failure(code: str, status: int) -> bytes:
    body = json.dumps({"__type": code, "message": "no"}).encode()
    head = f"HTTP/1.1 {status} No\r\nContent-Type: application/x-amz-json-1.1\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


@pytest.mark.parametrize(
    ("code", "status", "down"),
    [
        *(("ThrottlingException", 400, True), ("KMSInternalException", 500, True), ("Whatever", 503, True)),
        *(("DependencyTimeoutException", 503, True), ("AccessDeniedException", 400, False)),
        *(("UnrecognizedClientException", 403, False), ("ExpiredTokenException", 400, False)),
        *(("KMSInvalidStateException", 400, False), ("IncorrectKeyException", 400, False)),
    ],
)
def test_what_is_worth_trying_again_is_told_from_what_is_not(
    settings: AwsSettings, kms: AwsKms, code: str, status: int, down: bool
) -> None:
    kms.create_kek(ACME)
    wrapped = kms.wrap(DATA, DEK)
    with Server(None, replies(*[failure(code, status)] * 2)) as server:
        other = AwsKms(replace(settings, endpoint=f"http://127.0.0.1:{server.port}"))
        with pytest.raises(KeysError, match=code) as caught:
            other.unwrap(DATA, wrapped)
        assert isinstance(caught.value, KeyServiceDownError) is down
        assert len(server.requests) == 1  # backing off is the keyring's


def test_another_authority_is_not_trusted(settings: AwsSettings, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    authority, stranger = Authority(tmp_path), Authority(tmp_path / "other")
    with Server(authority.server("127.0.0.1"), replies(*[failure("AccessDeniedException", 400)] * 3)) as server:
        there = replace(settings, endpoint=f"https://127.0.0.1:{server.port}", ca=Path(authority.ca_file))
        with pytest.raises(KeysError, match="denied"):
            AwsKms(there).check()
        for ca in (Path(stranger.ca_file), None):
            with pytest.raises(KeyServiceDownError, match="SSLError"):
                AwsKms(replace(there, ca=ca)).check()


def test_old_tls_is_refused(settings: AwsSettings, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    with Server(authority.old_server("127.0.0.1"), replies()) as server:
        there = replace(settings, endpoint=f"https://127.0.0.1:{server.port}", ca=Path(authority.ca_file))
        with pytest.raises(KeyServiceDownError, match="SSLError"):
            AwsKms(there).check()


def test_the_environment_changes_nothing(kms: AwsKms, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_KMS"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name, value in (("AWS_CA_BUNDLE", "/none"), ("AWS_REGION", "xx-none-1"), ("AWS_SESSION_TOKEN", "none")):
        monkeypatch.setenv(name, value)
    kms.check()


def test_without_credentials_there_is_no_question(
    settings: AwsSettings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(KeysError, match="no credentials") as caught:
        AwsKms(replace(settings, access_key_id=b"", secret_access_key=b"")).check()
    assert not isinstance(caught.value, KeyServiceDownError)


FORKING = """
import os, sys
from proxy.crypto.data_key import Purpose
from proxy.kms.aws import AwsKms
from proxy.kms.service import Slot
from proxy.kms.service_settings import AwsSettings
from proxy.ports import Owner
kms = AwsKms(AwsSettings("eu-west-1", sys.argv[1], None, b"testing", b"testing", timeout=30.0))
slot = Slot(Owner("forked", "in"), "follower", Purpose.DATA)
kms.create_kek(slot.owner)
wrapped = kms.wrap(slot, bytes(32))
children = []
for _ in range(3):
    if (pid := os.fork()) == 0:
        os._exit(0 if all(kms.unwrap(slot, wrapped) == bytes(32) for _ in range(10)) else 1)
    children.append(pid)
mine = all(kms.unwrap(slot, wrapped) == bytes(32) for _ in range(10))
assert mine and all(os.waitpid(pid, 0)[1] == 0 for pid in children)
"""


def test_forked_processes_ask_over_connections_of_their_own(moto: Moto) -> None:
    subprocess.run([sys.executable, "-c", FORKING, moto.url], check=True, timeout=90)
