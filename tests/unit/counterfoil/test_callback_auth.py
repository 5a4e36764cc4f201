"""Proof of a callback: tokens by hash, basic auth by scrypt."""

import hashlib
import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from counterfoil.callback_auth import (
    TOKEN_SALT_BYTES,
    CallbackSecretInvalid,
    basic_auth_credentials,
    basic_auth_hash,
    callback_token,
    is_token_hash,
    is_valid_token,
    matches_basic_auth,
    matches_credentials,
    token_hash,
)

TOKEN = "a-Token_that.is~long1"
SALT = bytes(range(16))
ROOT = Path(__file__).parents[3]
SAFE = st.text(alphabet="abcXYZ019-._~", min_size=16, max_size=256)


@pytest.fixture(scope="module")
def expected() -> str:
    return basic_auth_hash("esaw", "geheim", b"salt")


def test_a_token_is_kept_as_its_salted_sha256() -> None:
    digest = hashlib.sha256(SALT + TOKEN.encode()).hexdigest()
    assert token_hash(TOKEN, SALT) == f"sha256${SALT.hex()}${digest}"
    assert is_token_hash(token_hash(TOKEN, SALT))


def test_the_api_server_takes_salted_hashes_only() -> None:
    crd = yaml.safe_load((ROOT / "crds" / "organizations.yaml").read_text(encoding="utf-8"))
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]["properties"]
    items = schema["callbackTokenHashes"]["items"]
    longest = token_hash("x" * 256, SALT)
    assert len(longest) <= items["maxLength"]
    assert re.search(items["pattern"], longest)
    assert not re.search(items["pattern"], hashlib.sha256(TOKEN.encode()).hexdigest())


def test_one_token_has_another_hash_with_another_salt() -> None:
    other = token_hash(TOKEN, bytes(16))
    assert other != token_hash(TOKEN, SALT)
    assert is_valid_token(TOKEN, [other])


@pytest.mark.parametrize(
    "text",
    [
        hashlib.sha256(TOKEN.encode()).hexdigest(),
        f"sha256$${hashlib.sha256(TOKEN.encode()).hexdigest()}",
        f"sha256${bytes(15).hex()}${hashlib.sha256(bytes(15) + TOKEN.encode()).hexdigest()}",
        f"sha256${SALT.hex().upper()}${hashlib.sha256(SALT + TOKEN.encode()).hexdigest()}",
        token_hash(TOKEN, SALT) + "\n",
    ],
)
def test_a_hash_in_another_form_is_nobodys(text: str) -> None:
    assert not is_token_hash(text)
    assert not is_valid_token(TOKEN, [text])


def test_a_secret_made_of_a_file_with_a_line_break_is_the_same_token() -> None:
    assert callback_token(TOKEN.encode() + b"\n") == callback_token(TOKEN) == TOKEN


@pytest.mark.parametrize("length", [16, 256])
def test_a_token_of_the_least_and_of_the_greatest_length_is_taken(length: int) -> None:
    assert callback_token("x" * length) == "x" * length


def test_a_salt_of_the_documented_length_makes_a_hash() -> None:
    assert is_token_hash(token_hash(TOKEN, bytes(TOKEN_SALT_BYTES)))


@pytest.mark.parametrize("token", ["", "short", "x" * 15, "x" * 257])
def test_a_token_that_is_too_short_or_too_long_is_refused(token: str) -> None:
    with pytest.raises(CallbackSecretInvalid):
        callback_token(token)


@pytest.mark.parametrize(
    "token", ["with a space in it", "with/a/slash/in/it", "percent%20percent", "ümlaut" * 4]
)
def test_a_token_that_cannot_be_part_of_a_path_is_refused_without_naming_it(token: str) -> None:
    for form in (token, token.encode()):
        with pytest.raises(CallbackSecretInvalid) as refusal:
            callback_token(form)
        assert token not in str(refusal.value)


@given(SAFE, st.lists(SAFE, max_size=3))
def test_every_token_whose_hash_is_published_is_known(token: str, others: list[str]) -> None:
    hashes = [token_hash(each, SALT) for each in (*others, token)]
    assert is_valid_token(token, hashes)


@given(st.text(max_size=40))
def test_no_other_text_is_known(presented: str) -> None:
    assert not is_valid_token(presented, [token_hash(TOKEN, SALT), "not-even-a-hash", "é"])


def test_without_published_hashes_no_token_is_known() -> None:
    assert not is_valid_token(TOKEN, [])


def test_the_controller_recognises_the_hash_it_wrote_before(expected: str) -> None:
    assert matches_basic_auth("esaw", "geheim", expected)
    assert not matches_basic_auth("esaw", "anders", expected)


# What another program publishes for esaw:geheim, with these N and r.
USUAL_COST = "scrypt$16384$8$1$c2FsdA==$FNn3IYIJGHWrDcfmdIBCtdKXhgutT3LlNnV1N13LaHs="
GREATEST_COST = "scrypt$131072$2$1$c2FsdA==$4IWUpHAkW6mAL11YomJn+IlY/QgeIjdZU7uIiSWNO4E="
GREATEST_COST_WITH_THE_USUAL_R = "scrypt$131072$8$1$c2FsdA==$sEjoinlAMkba9JZNvVTMoDzn3v6LiDgiLUzgZ033Idc="
MORE_COST = "scrypt$262144$2$1$c2FsdA==$Npba/qDiMXBFlftdyAbTVwReaUWHsXRyQq4/DKM+kbc="
MORE_MEMORY = "scrypt$16384$128$1$c2FsdA==$qS+WDnugCYglYyTfNjcYFGjNKbqhf+ge14FnxKeZvOw="


def test_a_password_is_kept_as_scrypt_with_the_costs_that_rfc_7914_names_for_logins(expected: str) -> None:
    assert expected == USUAL_COST


@pytest.mark.parametrize("hash_", [USUAL_COST, GREATEST_COST, GREATEST_COST_WITH_THE_USUAL_R])
def test_a_hash_of_the_greatest_cost_is_still_computed(hash_: str) -> None:
    assert matches_credentials(b"esaw:geheim", hash_)


@pytest.mark.parametrize("hash_", [MORE_COST, MORE_MEMORY, USUAL_COST.replace("scrypt", "yescrypt")])
def test_a_hash_of_more_cost_more_memory_or_another_kind_matches_nothing(hash_: str) -> None:
    assert matches_credentials(b"esaw:geheim", hash_) is False


@pytest.mark.parametrize(("username", "password"), [("", "x"), ("a:b", "x"), ("a", "")])
def test_a_user_name_or_password_that_basic_auth_cannot_carry_is_refused(
    username: str, password: str
) -> None:
    with pytest.raises(CallbackSecretInvalid):
        basic_auth_hash(username, password, b"salt")


@pytest.mark.parametrize(
    ("header", "credentials"),
    [
        ("Basic ZXNhdzpnZWhlaW0=", b"esaw:geheim"),
        ("bASIC ZXNhdzpnZWhlaW0=", b"esaw:geheim"),
        (None, None),
        ("Bearer ZXNhdzpnZWhlaW0=", None),
        ("Basic !!!", None),
        ("Basic é", None),
    ],
)
def test_the_credentials_of_a_header_are_those_of_basic_auth_only(
    header: str | None, credentials: bytes | None
) -> None:
    assert basic_auth_credentials(header) == credentials


@pytest.mark.parametrize(
    "hash_",
    [
        "",
        "scrypt",
        "scrypt$x$8$1$YQ==$YQ==",
        "scrypt$16384$8$1$!$!",
        "md5$1$1$1$a$b",
        "scrypt$1073741824$8$1$YQ==$YQ==",
    ],
)
def test_a_hash_that_nobody_could_have_made_matches_nothing(hash_: str) -> None:
    assert not matches_credentials(b"esaw:geheim", hash_)
