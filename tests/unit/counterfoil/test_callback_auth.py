"""Proof of a callback: tokens by hash, basic auth by a hash with the token as key."""

import base64
import hashlib
import hmac
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from counterfoil.callback_auth import (
    SALT_BYTES,
    CallbackSecretInvalid,
    basic_auth_credentials,
    basic_auth_hash,
    callback_token,
    is_basic_auth_hash,
    is_token_hash,
    is_valid_basic_auth,
    is_valid_token,
    matches_basic_auth,
    token_hash,
)

TOKEN = "a-Token_that.is~long1"
PASSWORD = "geheim-012345678"
SALT = bytes(range(16))
ROOT = Path(__file__).parents[3]
SAFE = st.text(alphabet="abcXYZ019-._~", min_size=16, max_size=256)


def a_header(credentials: str) -> str:
    return "Basic " + base64.b64encode(credentials.encode()).decode()


@pytest.fixture(scope="module")
def expected() -> str:
    return basic_auth_hash("esaw", PASSWORD, token=TOKEN, salt=SALT)


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
    items, basic = schema["basicAuthHashes"]["items"], basic_auth_hash("e", "x" * 256, token=TOKEN, salt=SALT)
    assert len(basic) <= items["maxLength"]
    assert re.search(items["pattern"], basic)
    assert not re.search(items["pattern"], longest)


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
    assert is_token_hash(token_hash(TOKEN, bytes(SALT_BYTES)))


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
    assert matches_basic_auth("esaw", PASSWORD, TOKEN, expected)
    assert not matches_basic_auth("esaw", "anders-012345678", TOKEN, expected)
    assert not matches_basic_auth("esaw", PASSWORD, "another-token-0123456789", expected)


def test_a_password_is_kept_as_its_salted_hmac_with_the_token_as_key(expected: str) -> None:
    digest = hmac.new(TOKEN.encode(), SALT + f"esaw:{PASSWORD}".encode(), hashlib.sha256).hexdigest()
    assert expected == f"hmac-sha256${SALT.hex()}${digest}"
    assert is_basic_auth_hash(expected)


def test_the_right_header_is_valid_with_its_token_in_any_spelling_of_its_scheme(expected: str) -> None:
    header = a_header(f"esaw:{PASSWORD}")
    assert is_valid_basic_auth(header, TOKEN, [expected])
    assert is_valid_basic_auth(header.replace("Basic", "bASIC"), TOKEN, ["another", expected, "é"])
    assert not is_valid_basic_auth(header, "another-token-0123456789", [expected])
    assert not is_valid_basic_auth(header, "\ud800", [expected])
    assert not is_valid_basic_auth(header, TOKEN, [])


@pytest.mark.parametrize(
    "header", [None, "", "Basic", "Basic ", "Bearer abc", a_header("foo"), a_header("esaw:wrong-0123456789")]
)
def test_any_other_header_is_not_valid(header: str | None, expected: str) -> None:
    assert not is_valid_basic_auth(header, TOKEN, [expected])


def test_a_short_password_works() -> None:
    short = basic_auth_hash("esaw", "x", token=TOKEN, salt=SALT)
    assert is_valid_basic_auth(a_header("esaw:x"), TOKEN, [short])


@pytest.mark.parametrize(("username", "password"), [("", PASSWORD), ("a:b", PASSWORD), ("a", "")])
def test_a_user_name_or_password_that_basic_auth_cannot_carry_is_refused(
    username: str, password: str
) -> None:
    with pytest.raises(CallbackSecretInvalid, match="without a colon and a password"):
        basic_auth_hash(username, password, token=TOKEN, salt=SALT)


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
    "change",
    [
        lambda text: "",
        lambda text: "scrypt$16384$8$1$c2FsdA==$FNn3IYIJGHWrDcfmdIBCtdKXhgutT3LlNnV1N13LaHs=",
        lambda text: text.removeprefix("hmac-"),
        lambda text: text.upper(),
        lambda text: text + "\n",
        lambda text: text[:-1],
    ],
)
def test_a_hash_of_basic_auth_in_another_form_is_nobodys(change: Callable[[str], str], expected: str) -> None:
    assert not is_basic_auth_hash(change(expected))
    assert not is_valid_basic_auth(a_header(f"esaw:{PASSWORD}"), TOKEN, [change(expected)])
