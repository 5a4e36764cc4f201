"""A token goes in and out by name, and in no other way."""

import copy
import json
import pickle
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from counterfoil.esaw import ApiToken
from tests.support.builders import ORIGIN
from tests.support.servers.scripted_esaw import TOKEN


@pytest.mark.parametrize("raw", [TOKEN, TOKEN.encode(), f" \t{TOKEN}\r\n", f"{TOKEN}\n".encode()])
def test_a_token_is_read_from_a_file_as_people_write_files(raw: bytes | str) -> None:
    assert ApiToken.parse(raw, ORIGIN).reveal() == TOKEN


@pytest.mark.parametrize(
    "raw",
    [
        "",
        " \n",
        b"",
        f"{TOKEN}ü",
        f"\ufeff{TOKEN}",
        f"{TOKEN}\xff".encode("latin-1"),
        f"{TOKEN} {TOKEN}",
        f"{TOKEN}\n{TOKEN}",
        f"{TOKEN}\x00{TOKEN}",
        f"{TOKEN}\x7f{TOKEN}",
        "x" * 4097,
    ],
)
def test_what_can_not_be_a_token_is_refused_without_being_repeated(raw: bytes | str) -> None:
    with pytest.raises(ValueError, match="API token") as refused:
        ApiToken.parse(raw, ORIGIN)
    assert TOKEN not in str(refused.value)
    assert refused.value.__cause__ is None
    assert refused.value.__context__ is None


@given(st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=9, max_size=4096))
def test_no_way_of_showing_a_token_shows_it(secret: str) -> None:
    token = ApiToken.parse(secret, ORIGIN)
    for shown in (repr(token), str(token), f"{token}", f"{[token]}"):
        assert secret not in shown
        assert token.fingerprint in shown


@pytest.mark.parametrize(
    "write",
    [pickle.dumps, json.dumps, msgspec.json.encode, msgspec.to_builtins, vars, copy.deepcopy, copy.copy],
)
def test_a_token_is_not_serialised_by_accident(write: Callable[[ApiToken], object]) -> None:
    with pytest.raises(TypeError) as refused:
        write(ApiToken.parse(TOKEN, ORIGIN))
    assert TOKEN not in str(refused.value)


def test_a_format_that_a_token_does_not_know_is_refused_without_showing_it() -> None:
    with pytest.raises(TypeError) as refused:
        format(ApiToken.parse(TOKEN, ORIGIN), ">80")
    assert TOKEN not in str(refused.value)


def test_tokens_are_equal_by_value_and_to_nothing_else() -> None:
    assert ApiToken.parse(TOKEN, ORIGIN) == ApiToken.parse(TOKEN.encode(), ORIGIN)
    assert hash(ApiToken.parse(TOKEN, ORIGIN)) == hash(ApiToken.parse(TOKEN, ORIGIN))
    assert ApiToken.parse(TOKEN, ORIGIN) != ApiToken.parse(TOKEN + "1", ORIGIN)
    assert ApiToken.parse(TOKEN, ORIGIN) != TOKEN


def test_the_fingerprint_is_the_beginning_of_the_sha256() -> None:
    assert ApiToken.parse("abc", ORIGIN).fingerprint == "ba7816bf"


def test_the_same_token_of_another_origin_is_another_token() -> None:
    assert ApiToken.parse(TOKEN, ORIGIN) != ApiToken.parse(TOKEN, f"{ORIGIN}:8443")
