"""Reading a callback's query: what eSAW sends, what people paste, and what attackers try."""

import string
import uuid
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from counterfoil.resources import Workstep
from tests.support.scenes.receiver_parts import GUID
from webhook.receiver.callback import CallbackParameters, MalformedCallback, parse_callback


def read(query: str, *own: str) -> CallbackParameters:
    return parse_callback(query, max_parameters=32, own_names={each.lower(): each for each in own})


def a_query(**changes: str) -> str:
    return urlencode({"envelopeId": GUID, "action": "envelopeFinished", **changes})


def test_the_envelope_and_the_action_are_read() -> None:
    assert read(a_query()) == (GUID, "envelopeFinished", None, {}, 0)


@pytest.mark.parametrize(
    "query",
    [
        f"envelopeId={GUID}&action=x",
        f"ENVELOPEID={GUID}&ACTION=x",
        f"EnvelopeId={GUID.upper()}&Action=x",
        f"envelope={GUID}&action=x",
        f"Envelope={GUID}&envelopeId={GUID}&action=x&action=x",
        f"envelopeId={GUID}&action=x&reference=4711&reference=4712&=&a",
    ],
)
def test_names_count_in_any_case_and_what_is_unknown_is_ignored(query: str) -> None:
    assert read(query) == (GUID, "x", None, {}, 0)


@pytest.mark.parametrize("query", [f"envelope={GUID}", f"envelopeId={GUID}&action="])
def test_an_action_may_be_absent(query: str) -> None:
    assert read(query) == (GUID, None, None, {}, 0)


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("", "envelopeId is missing or empty"),
        ("action=x", "envelopeId is missing or empty"),
        ("envelopeId=&action=x", "envelopeId is missing or empty"),
        ("envelopeId=%23%23EnvelopeId%23%23&action=x", "envelopeId is a placeholder that was not replaced"),
        (f"envelopeId={GUID}&action=%23%23Action%23%23", "action is a placeholder that was not replaced"),
        (f"envelopeId={GUID}&action=x&workstepId=%23%23WorkstepId%23%23", "workstepId is a placeholder"),
        (f"envelopeId={GUID}x&action=x", "envelopeId is no GUID"),
        (f"envelopeId={{{GUID}}}&action=x", "envelopeId is no GUID"),
        (f"envelopeId={GUID}&action=9x", "action is not a letter"),
        (f"envelopeId={GUID}&action=a-b", "action is not a letter"),
        (f"envelopeId={GUID}&action={'x' * 65}", "action is not a letter"),
        (f"envelopeId={GUID}&action=%C3%BC", "action is not a letter"),
        (f"envelopeId={GUID}&action=x&action=y", "action is given twice"),
        (f"envelopeId={GUID}&envelope={uuid.UUID(int=1)}&action=x", "envelopeId is given twice"),
        (f"envelopeId={GUID}&action=x&workstepId=a%20b", "workstepId is not"),
        (f"envelopeId={GUID}&action=x&workstepId=a@b", "workstepId is not"),
        (f"envelopeId={GUID}&action=x&workstepId={'w' * 129}", "workstepId is not"),
        (f"envelopeId={GUID}&action=%FF", "the query is not UTF-8"),
        ("&".join("a=1" for _ in range(33)), "the query has more than 32 parameters"),
    ],
)
def test_what_cannot_be_a_callback_is_refused_with_a_reason(query: str, told: str) -> None:
    with pytest.raises(MalformedCallback, match=told):
        read(query)


def test_a_workstep_event_keeps_what_belongs_to_the_workstep() -> None:
    callback = read(
        a_query(action="SignWorkstepDocument", WorkstepId="W1", EVENTTYPE="E", source="internal", time="T")
    )
    assert callback.workstep == Workstep(id="W1", event_type="E", source="internal", time="T")


@pytest.mark.parametrize("name", ["eventType", "source", "time"])
@pytest.mark.parametrize("value", ["a@example.com", "##Time##", "x" * 65, "Ümlaut", "a\nb"])
def test_a_detail_that_does_not_fit_is_left_out_and_the_callback_still_counts(name: str, value: str) -> None:
    assert read(a_query(**{name: value})).workstep is None


# The organization's own parameters


@pytest.mark.parametrize("name", ["orderNo", "ORDERNO", "orderno"])
def test_a_listed_parameter_is_read_in_any_case_and_has_the_spelling_of_the_list(name: str) -> None:
    callback = read(a_query(**{name: "4711/ä b", "unlisted": "x"}), "orderNo", "tenant")
    assert (callback.own, callback.left_out) == ({"orderNo": "4711/ä b"}, 0)


def test_an_empty_own_parameter_is_none() -> None:
    callback = read(a_query(orderNo=""), "orderNo")
    assert (callback.own, callback.left_out) == ({}, 0)


@pytest.mark.parametrize(
    "value",
    [
        "x" * 257,
        "a\nb",
        "a\x00b",
        "a\u202eb",
        "a\u2028b",
        "signer@example.com",
        "##OrderNo##",
        "%FF",
    ],
    ids=["long", "line end", "NUL", "direction", "line separator", "e-mail", "placeholder", "no UTF-8"],
)
def test_an_own_parameter_that_is_unusable_is_left_out_and_the_callback_still_counts(value: str) -> None:
    query = a_query(tenant="a", orderNo=value).replace("%25FF", "%FF")
    callback = read(query, "orderNo", "tenant")
    assert (callback.envelope_id, callback.own, callback.left_out) == (GUID, {"tenant": "a"}, 1)


def test_of_two_different_values_of_an_own_parameter_none_is_taken_and_of_two_equal_ones_one() -> None:
    callback = read(a_query() + "&a=1&A=2&a=3&b=1&B=1", "a", "b")
    assert (callback.own, callback.left_out) == ({"b": "1"}, 1)


def test_an_own_parameter_of_the_maximum_length_is_kept() -> None:
    assert read(a_query(a="ä" * 256), "a").own == {"a": "ä" * 256}


@given(st.text(max_size=300))
def test_no_value_of_an_own_parameter_makes_a_callback_malformed(value: str) -> None:
    callback = read(a_query(a=value.encode(errors="replace").decode()), "a")
    assert callback.own == {} or callback.own["a"].isprintable()


@given(st.sampled_from(["recipientEmail", "RecipientEmail", "description", "recipientOrder"]))
def test_personal_data_is_not_even_looked_at(name: str) -> None:
    assert "@" not in repr(read(a_query(**{name: "signer@example.com"})))


@given(st.text(max_size=300))
def test_any_text_is_a_callback_or_malformed_and_nothing_else(query: str) -> None:
    try:
        callback = read(query)
    except MalformedCallback:
        return
    assert callback.envelope_id


@given(
    st.uuids(),
    st.text(string.ascii_letters, min_size=1, max_size=64),
    st.text(string.ascii_letters + string.digits + "-_.:#?&=/+ %", min_size=1, max_size=128).filter(
        lambda text: " " not in text and not text.startswith("##")
    ),
)
def test_every_proper_callback_is_read_as_it_was_written(
    envelope: uuid.UUID, action: str, workstep: str
) -> None:
    callback = read(
        urlencode({"EnvelopeID": str(envelope).upper(), "action": action, "workstepId": workstep})
    )
    assert callback == (str(envelope), action, Workstep(id=workstep), {}, 0)
