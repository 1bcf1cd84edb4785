"""Field tokens: what was sealed opens, once, under its key and scope, in one spelling; nothing else does."""

import base64
import json
import string
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from proxy.crypto import field_token
from proxy.crypto.data_key import DataKey, KeyMismatchError, Purpose, key_id_of
from proxy.crypto.field_token import MAX_TOKEN, Parsed, Scope, TokenError, open_token, parse, seal, seal_equal

_ROOT = Path(__file__).parents[2]
_VECTORS = _ROOT / "tests" / "vectors"
KEY, OTHER_KEY = DataKey(bytes(range(32)), Purpose.DATA), DataKey(bytes(range(32, 64)), Purpose.DATA)
SCOPE = Scope("acme", "cn", "follower.message", ("oAbc_1", "gh_1"))
NONCE = bytes(range(24))

scopes = st.builds(
    Scope, st.text(max_size=8), st.text(max_size=8), st.text(max_size=8), st.lists(st.text(max_size=8)).map(tuple)
)
keys = st.binary(min_size=32, max_size=32).map(lambda dek: DataKey(dek, Purpose.DATA))
nonces = st.binary(min_size=24, max_size=24)


def _load(name: str) -> list[dict[str, Any]]:
    vectors: list[dict[str, Any]] = json.loads((_VECTORS / name).read_text())["vectors"]
    return vectors


def _params(vectors: list[dict[str, Any]]) -> list[Any]:
    return [pytest.param(vector, id=vector["name"]) for vector in vectors]


def _opens(token: str, key: DataKey = KEY, scope: Scope = SCOPE) -> bool:
    try:
        open_token(key, parse(token), scope)
    except TokenError as error:
        assert not error.args, "a token error gives no reason"
        return False
    return True


@settings(deadline=None)
@given(key=keys, kind=st.sampled_from("snl"), text=st.text(max_size=80), scope=scopes, nonce=nonces)
def test_what_was_sealed_opens(key: DataKey, kind: str, text: str, scope: Scope, nonce: bytes) -> None:
    assert open_token(key, parse(seal(key, kind, text, scope, nonce)), scope) == (kind, text)
    assert open_token(key, parse(seal_equal(key, text, scope)), scope) == ("s", text)


@settings(deadline=None)
@given(text=st.text(max_size=80), scope=scopes, other=scopes)
def test_a_token_opens_in_its_scope_only(text: str, scope: Scope, other: Scope) -> None:
    assume(scope != other)
    assert not _opens(seal(KEY, "s", text, scope, NONCE), scope=other)
    assert not _opens(seal_equal(KEY, text, scope), scope=other)


@pytest.mark.parametrize(
    "other",
    [
        Scope("acme2", "cn", "follower.message", ("oAbc_1", "gh_1")),
        Scope("acme", "us", "follower.message", ("oAbc_1", "gh_1")),
        Scope("acme", "cn", "agent.message", ("oAbc_1", "gh_1")),
        Scope("acme", "cn", "follower.message", ("oAbc_2", "gh_1")),
        Scope("acme", "cn", "follower.message", ("gh_1", "oAbc_1")),
        Scope("acme", "cn", "follower.message", ("oAbc_1",)),
        Scope("acme", "cn", "follower.message", ("oAbc_1", "gh_1", "")),
        Scope("acme", "cn", "follower.message", ("oAbc_1gh_1",)),
        Scope("acmec", "n", "follower.message", ("oAbc_1", "gh_1")),
        Scope("acme", "cn", "follower.message", ("oAbc_1g", "h_1")),
        Scope("acme", "cn", "follower.message\0\6oAbc_1", ("gh_1",)),
    ],
)
def test_the_fields_of_a_scope_cannot_be_exchanged(other: Scope) -> None:
    for token in (seal(KEY, "s", "text", SCOPE, NONCE), seal_equal(KEY, "text", SCOPE)):
        assert _opens(token)
        assert not _opens(token, scope=other)


@settings(deadline=None)
@given(one=scopes, other=scopes, prefix=st.sampled_from(["wg1.", "wn1.", "wl1.", "wd1."]))
def test_the_aad_is_injective(one: Scope, other: Scope, prefix: str) -> None:
    assert (one.aad(prefix) == other.aad(prefix)) == (one == other)
    items, rest = [], one.aad(prefix)
    while rest:
        size = int.from_bytes(rest[:2], "big")
        items.append(rest[2 : 2 + size].decode())
        rest = rest[2 + size :]
    assert items == [prefix, one.tenant, one.region, one.datum, *one.binds]


def test_the_example_of_the_specification() -> None:
    spelled = "0004 7767312e  0004 61636d65  0002 636e  0006 6f70656e6964"
    assert Scope("acme", "cn", "openid").aad("wg1.") == bytes.fromhex(spelled)


def test_an_item_of_65536_bytes_is_refused() -> None:
    longest = Scope("t", "r", "d", ("界" * 21845,))  # 65 535 bytes
    assert _opens(seal(KEY, "s", "text", longest, NONCE), scope=longest)
    too_long = Scope("t", "r", "d", ("界" * 21845 + "x",))
    with pytest.raises(ValueError, match="too long"):
        seal(KEY, "s", "text", too_long, NONCE)
    assert not _opens(seal(KEY, "s", "text", longest, NONCE), scope=too_long)


@settings(deadline=None)
@given(
    text=st.text(max_size=20),
    deterministic=st.booleans(),
    place=st.integers(min_value=0),
    character=st.one_of(st.sampled_from(string.ascii_letters + string.digits + "-_.=+/ \n"), st.characters()),
)
def test_any_change_of_one_character_is_refused(text: str, deterministic: bool, place: int, character: str) -> None:
    token = seal_equal(KEY, text, SCOPE) if deterministic else seal(KEY, "s", text, SCOPE, NONCE)
    place %= len(token)
    changed = token[:place] + character + token[place + 1 :]
    assert _opens(changed) == (changed == token)
    assert not _opens(token[:place] + character + token[place:])
    assert not _opens(token[:place] + token[place + 1 :])
    assert not _opens(token[:place])
    assert not _opens(token + character)


@settings(deadline=None)
@given(text=st.text())
def test_arbitrary_text_is_refused(text: str) -> None:
    for prefix in ("", "wg1.", "wn1.", "wl1.", "wd1."):
        assert not _opens(prefix + text)


@settings(deadline=None)
@given(raw=st.binary(max_size=120), prefix=st.sampled_from(["wg1.", "wn1.", "wl1."]))
def test_well_spelled_noise_under_the_right_key_id_is_refused(raw: bytes, prefix: str) -> None:
    assert not _opens(prefix + base64.urlsafe_b64encode(KEY.id + raw).rstrip(b"=").decode())
    assert not _opens("wd1." + base64.b32encode(KEY.id + raw).rstrip(b"=").decode().lower())


@pytest.mark.parametrize("vector", _params(_load("crypto/base64url-canonical.json")))
def test_only_the_canonical_spelling_is_read(vector: dict[str, Any]) -> None:
    """Behind 57 bytes (76 characters), so that the shortest token is reached and quartets stay whole."""
    front, text = bytes(range(57)), vector["inputs"]["text"]
    token = "wg1." + base64.urlsafe_b64encode(front).decode() + text
    if vector["expected"]["verdict"] == "refuse":
        with pytest.raises(TokenError):
            parse(token)
        return
    decoded = front + bytes.fromhex(vector["expected"]["decoded_hex"])
    assert parse(token) == Parsed("wg1.", decoded[:16], decoded[16:])


_WD = seal_equal(KEY, "ab", SCOPE)  # 34 bytes, 55 characters: the last has one spare bit


@pytest.mark.parametrize(
    "spelling",
    [
        _WD.upper(),
        "wd1." + _WD[4:].upper(),
        "WD1." + _WD[4:],
        _WD + "=",
        _WD[:10] + "1" + _WD[11:],
        _WD[:10] + "0" + _WD[11:],
        _WD[:10] + "8" + _WD[11:],
        _WD[:-1],
        _WD + "\n",
        " " + _WD,
        _WD[:20] + "\n" + _WD[20:],
        _WD[:-1] + "ſ",
    ],
)
def test_base32_has_one_spelling(spelling: str) -> None:
    assert not _opens(spelling)


def test_base32_spare_bits_must_be_zero() -> None:
    alphabet = "abcdefghijklmnopqrstuvwxyz234567"
    last = alphabet.index(_WD[-1])
    spelling = _WD[:-1] + alphabet[last ^ 1]
    raw = base64.b32decode(spelling[4:].upper() + "=")
    assert raw == base64.b32decode(_WD[4:].upper() + "="), "a lenient reader takes both spellings for one"
    with pytest.raises(TokenError):
        parse(spelling)


@pytest.mark.parametrize("size", [1, 3, 6])
def test_base32_lengths_that_cannot_be_are_refused(size: int) -> None:
    with pytest.raises(TokenError):
        parse("wd1." + "a" * (56 + size))


def test_the_type_is_authenticated() -> None:
    token = seal(KEY, "n", "42", SCOPE, NONCE)
    assert token.startswith("wn1.")
    for prefix in ("wg1.", "wl1.", "wg2.", "wn2.", "WN1.", "wd1.", "wn1", "wn1:"):
        assert not _opens(prefix + token[4:])


@pytest.mark.parametrize("kind", ["s", "n", "l"])
def test_a_token_shorter_than_its_parts_is_no_token(kind: str) -> None:
    shortest = seal(KEY, kind, "", SCOPE, NONCE)
    assert len(base64.urlsafe_b64decode(shortest[4:] + "=")) == 56
    assert _opens(shortest)
    with pytest.raises(TokenError):
        parse(shortest[:4] + base64.urlsafe_b64encode(bytes(55)).rstrip(b"=").decode())
    with pytest.raises(TokenError):
        parse("wd1." + base64.b32encode(bytes(31)).rstrip(b"=").decode().lower())


def test_a_text_too_long_to_be_a_token_is_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(field_token, "MAX_TOKEN", 100)
    assert MAX_TOKEN == 8 * 1024 * 1024
    assert len(parse("wg1." + "A" * 100).body) == 59
    with pytest.raises(TokenError):
        parse("wg1." + "A" * 104)


def test_a_plaintext_that_is_no_utf_8_is_refused() -> None:
    body = NONCE + KEY.seal(NONCE, b"\xff\xfe", SCOPE.aad("wg1."))
    with pytest.raises(TokenError):
        open_token(KEY, Parsed("wg1.", KEY.id, body), SCOPE)


def test_deterministic_tokens_are_equal_for_equal_values_only() -> None:
    assert seal_equal(KEY, "oAbc", SCOPE) == seal_equal(KEY, "oAbc", SCOPE)
    others = [
        seal_equal(OTHER_KEY, "oAbc", SCOPE),
        seal_equal(KEY, "oabc", SCOPE),
        seal_equal(KEY, "oAbc", Scope("", "", "")),
    ]
    assert len({seal_equal(KEY, "oAbc", SCOPE), *others}) == 4
    assert seal_equal(KEY, "oAbc", SCOPE).islower()


@pytest.mark.parametrize(("size", "length"), [(10, 92), (100, 212), (132, 255), (255, 419), (1000, 1412)])
def test_lengths_of_randomised_tokens(size: int, length: int) -> None:
    assert len(seal(KEY, "s", "a" * size, SCOPE, NONCE)) == length


def test_what_fits_a_field_of_255_characters() -> None:
    assert len(seal(KEY, "s", "界" * 44, SCOPE, NONCE)) == 255
    assert len(seal(KEY, "s", "a" * 133, SCOPE, NONCE)) > 255


@settings(deadline=None)
@given(text=st.text(max_size=300))
def test_lengths_are_the_formulas_of_the_specification(text: str) -> None:
    size = len(text.encode())
    assert len(seal(KEY, "s", text, SCOPE, NONCE)) == 4 + -(-4 * (56 + size) // 3)
    assert len(seal_equal(KEY, text, SCOPE)) == 4 + -(-8 * (32 + size) // 5)


class _FixedScope(Scope):
    """A scope whose AAD is its datum, to put published vectors through the whole of `open_token`."""

    def aad(self, prefix: str) -> bytes:
        return bytes.fromhex(self.datum)


@pytest.mark.parametrize("name", ["xaes-256-gcm-two-deks-both-plaintexts-printable"])
@pytest.mark.parametrize("case", range(4))
def test_a_token_that_gcm_opens_under_two_deks_opens_under_the_one_it_names(name: str, case: int) -> None:
    vector = next(vector for vector in _load("crypto/key-commitment.json") if vector["name"] == name)
    check, entries = vector["expected"]["commitment_check"][case], vector["expected"]["opens_under"]
    entry = entries["AB".index(check["key_used"])]
    token = "wg1." + vector["expected"][f"body_with_key_id_of_{check['token_carries_key_id_of']}_base64url"]
    scope = _FixedScope("", "", vector["inputs"]["aad_hex"])
    key = DataKey(bytes.fromhex(entry["dek_hex"]), Purpose.DATA)
    assert _opens(token, key, scope) == (check["verdict"] == "accept")
    if check["verdict"] == "accept":
        assert open_token(key, parse(token), scope)[1].encode().hex() == entry["plaintext_hex"]


def _scope(inputs: dict[str, Any]) -> Scope:
    return Scope(inputs["tenant"], inputs["region"], inputs["as"], tuple(inputs["bind"]))


@pytest.mark.parametrize("vector", _params(_load("wxgate/token.json")))
def test_the_projects_own_vectors(vector: dict[str, Any]) -> None:
    inputs, expected = vector["inputs"], vector["expected"]
    if vector["kind"] == "keyring":
        with pytest.raises(KeyMismatchError):
            DataKey(bytes.fromhex(inputs["dek_hex"]), Purpose.DATA, bytes.fromhex(inputs["key_id_hex"]))
        return
    key = DataKey(bytes.fromhex(inputs["dek_hex"]), Purpose.DATA, bytes.fromhex(inputs["key_id_hex"]))
    assert _scope(inputs).aad(inputs["prefix"]).hex() == inputs["aad_hex"]
    if expected["result"] == "refuse":
        assert not _opens(inputs["token"], key, _scope(inputs))
        return
    kind, text = open_token(key, parse(inputs["token"]), _scope(inputs))
    assert (kind, text) == (expected["kind"], expected["text"])
    if vector["kind"] == "deterministic":
        assert seal_equal(key, text, _scope(inputs)) == inputs["token"]
    else:
        assert seal(key, kind, text, _scope(inputs), bytes.fromhex(inputs["nonce_hex"])) == inputs["token"]


@pytest.mark.parametrize("tool", ["make-token-vectors", "verify-token-vectors"])
def test_the_tools_agree_with_the_vectors(tool: str) -> None:
    """The maker would write the same file again; the verifier, which shares no code with wxgate, comes to the same."""
    arguments = ["--check"] if tool.startswith("make") else []
    done = subprocess.run(
        [sys.executable, _ROOT / "tools" / tool, *arguments], capture_output=True, text=True, timeout=60, cwd=_ROOT
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_verifier_finds_every_wrong_vector(tmp_path: Path) -> None:
    """A verifier that passes everything would prove nothing: each vector is turned round once."""
    vectors = _load("wxgate/token.json")
    for vector in vectors:
        if vector["expected"]["result"] == "valid":
            vector["expected"]["text"] += "x"
        else:
            vector["expected"] = {"result": "valid", "kind": "s", "text": ""}
    path = tmp_path / "token.json"
    path.write_text(json.dumps({"vectors": vectors}))
    done = subprocess.run(
        [sys.executable, _ROOT / "tools" / "verify-token-vectors", path], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert {line.split(":")[0] for line in done.stderr.splitlines()} == {vector["name"] for vector in vectors}


BROUGHT = DataKey(bytes(range(32)), Purpose.DATA, key_id_of(bytes(range(32)), 32))


@settings(deadline=None)
@given(text=st.text(max_size=40), kind=st.sampled_from("snl"))
def test_brought_keys_have_tokens_of_their_own(text: str, kind: str) -> None:
    token, equal = seal(BROUGHT, kind, text, SCOPE, NONCE), seal_equal(BROUGHT, text, SCOPE)
    assert (token[:4], equal[:4]) == ({"s": "wg2.", "n": "wn2.", "l": "wl2."}[kind], "wd2.")
    assert parse(token).key_id == parse(equal).key_id == BROUGHT.id and len(BROUGHT.id) == 32
    assert (parse(token).deterministic, parse(equal).deterministic) == (False, True)
    assert open_token(BROUGHT, parse(token), SCOPE) == (kind, text)
    assert open_token(BROUGHT, parse(equal), SCOPE) == ("s", text)


def test_one_dek_under_both_its_ids_opens_only_what_names_that_id() -> None:
    short = DataKey(bytes(range(32)), Purpose.DATA)
    token = seal(BROUGHT, "s", "text", SCOPE, NONCE)
    assert short.id == BROUGHT.id[:16]
    assert _opens(token, BROUGHT) and not _opens(token, short)
    assert not _opens("wg1." + token[4:], short) and not _opens(seal(short, "s", "text", SCOPE, NONCE), BROUGHT)
