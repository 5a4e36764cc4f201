"""
Names and shards of events never change: objects in clusters carry them, and other processes compute them
again.

The known values were computed with coreutils, as in
``printf 'acme\\000…\\000envelopeFinished\\000' | sha256sum``.
"""

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from counterfoil.resources import (
    SHARD_COUNT,
    EnvelopeId,
    consented_sender_name,
    envelope_id,
    event_name,
    is_action,
    is_same_user,
    shard,
)

ID = EnvelopeId("0f9c1c2e-5d1b-4f6e-9c55-2f1f0a3b7d10")
text = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20)


@pytest.mark.parametrize(
    ("organization", "action", "workstep", "digits"),
    [
        ("acme", "envelopeFinished", "", "486a4fe22fcc9d69"),
        ("acme", "envelopeFinished", "ws1", "486a4fe22fcc9d69"),
        ("acme", "ENVELOPEclosed", "ws1", "612b3aab2d972687"),
        ("other", "envelopeFinished", "", "80566d038ccb3268"),
        ("acme", "workstepFinished", "", "1c8f7106e9b7ffe4"),
        ("acme", "workstepFinished", "ws1", "975a1e22380594e4"),
    ],
)
def test_the_name_of_an_event_is_a_known_value(
    organization: str, action: str, workstep: str, digits: str
) -> None:
    assert event_name(organization, ID, action, workstep) == f"{ID}-{digits}"


@pytest.mark.parametrize(
    ("envelope", "number"),
    [
        ("0f9c1c2e-5d1b-4f6e-9c55-2f1f0a3b7d10", 55),
        ("00000000-0000-0000-0000-000000000000", 20),
        ("ffffffff-ffff-ffff-ffff-ffffffffffff", 2),
        ("01234567-89ab-cdef-0123-456789abcdef", 29),
    ],
)
def test_the_shard_of_an_envelope_is_a_known_value(envelope: str, number: int) -> None:
    assert shard(envelope_id(envelope)) == number


@given(st.uuids())
def test_a_shard_is_one_of_those_that_there_are(guid: object) -> None:
    assert 0 <= shard(envelope_id(str(guid))) < SHARD_COUNT


_actions = text.map(lambda each: f"workstep{each}")


@given(st.tuples(text, _actions, text), st.tuples(text, _actions, text))
def test_two_callbacks_have_the_same_name_only_if_they_are_the_same(
    one: tuple[str, str, str], other: tuple[str, str, str]
) -> None:
    names = {
        event_name(organization, ID, action, workstep) for organization, action, workstep in (one, other)
    }
    assert len(names) == len({one, other})


def test_parts_of_a_key_do_not_run_into_each_other() -> None:
    assert event_name("ac", ID, "meFinished") != event_name("acme", ID, "Finished")
    assert event_name("acme", ID, "a", "b") != event_name("acme", ID, "ab", "")


@given(st.uuids())
def test_an_envelope_id_is_read_in_any_letter_case(guid: object) -> None:
    assert envelope_id(str(guid).upper()) == str(guid)


@pytest.mark.parametrize(
    "told",
    [
        "",
        "##EnvelopeId##",
        "0f9c1c2e5d1b4f6e9c552f1f0a3b7d10",
        "{0f9c1c2e-5d1b-4f6e-9c55-2f1f0a3b7d10}",
        "0f9c1c2e-5d1b-4f6e-9c55-2f1f0a3b7d1g",
        "0f9c1c2e-5d1b-4f6e-9c55-2f1f0a3b7d10\n",
        "../0f9c1c2e-5d1b-4f6e-9c55-2f1f0a3b7d10",
        "\u0660f9c1c2e-5d1b-4f6e-9c55-2f1f0a3b7d10",
    ],
)
def test_what_is_no_guid_is_no_envelope_id(told: str) -> None:
    with pytest.raises(ValueError, match="an envelope id is a GUID"):
        envelope_id(told)


@pytest.mark.parametrize("told", ["envelopeFinished", "A", "a1", "a" * 64])
def test_a_letter_and_then_letters_and_digits_are_an_action(told: str) -> None:
    assert is_action(told)


@pytest.mark.parametrize("told", ["", "1a", "a-b", "a b", "##Action##", "a" * 65, "aktión", "a\n"])
def test_anything_else_is_no_action(told: str) -> None:
    assert not is_action(told)


USER = "7a0f9b9e-0000-4000-8000-000000000001"


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (USER, USER.upper(), True),
        (USER, f"{{{USER}}}", True),
        (USER.replace("-", ""), USER, True),
        (USER, "7a0f9b9e-0000-4000-8000-000000000002", False),
        ("anna", "ANNA", True),
        ("anna", "{anna}", False),
        ("anna", USER, False),
    ],
)
def test_user_ids_are_one_users_in_every_notation_of_a_guid(one: str, other: str, same: bool) -> None:
    assert is_same_user(one, other) == same
    assert (consented_sender_name("acme", one) == consented_sender_name("acme", other)) == same


def test_the_names_of_consented_senders_are_those_of_earlier_versions() -> None:
    assert consented_sender_name("acme", USER) == sha256(f"acme\0{USER}".encode()).hexdigest()[:16]
