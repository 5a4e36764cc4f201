"""The stand-in eSAW says what the table of facts says: names, types, and nulls where they are allowed."""

import json
from collections.abc import Mapping
from typing import Any

import httpx
import pytest

from sandbox.esaw import (
    ActionKind,
    Behaviour,
    CallbackUrls,
    DocumentSpec,
    EnvelopeStatus,
    Recipient,
    StandIn,
    User,
)
from sandbox.esaw.core.model import ApiVersion
from sandbox.esaw.facts import FILE, Facts, Member, read_facts

FACTS = read_facts()
NOBODYS = "00000000-0000-0000-0000-000000000000"
URLS = CallbackUrls(
    envelope="https://r.example/1", status="https://r.example/2", workstep="https://r.example/3"
)
EVERYBODY = [Recipient(email=f"{kind.lower()}@example.com", action=kind) for kind in ActionKind]


def deviations(call: str, answer: httpx.Response) -> list[str]:
    """Each deviation of an answer from the facts, and each member that it leaves out."""
    kind = FACTS.calls[call].answer
    assert kind is not None
    found = answer.json()
    return [*FACTS.deviations(kind, found), *(f"{each} is left out" for each in FACTS.missing(kind, found))]


def an_envelope(esaw: StandIn, user: User, status: str = "Completed", api_version: ApiVersion = "v6") -> str:
    """An envelope with a recipient and a paper of each kind."""
    return esaw.add_envelope(
        sender=user,
        status=status,
        api_version=api_version,
        recipients=EVERYBODY,
        attachments=[DocumentSpec(name="map.png")],
        legal_documents=[DocumentSpec(name="CA22D.pdf")],
        audit_trail_per_document=True,
        callbacks=CallbackUrls() if status == "Completed" else URLS,
        metadata=None if status == "Completed" else "<a/>",
    )


async def test_whoami_is_as_the_facts_say(api: httpx.AsyncClient) -> None:
    assert deviations("whoami", await api.get("authorization/whoami")) == []


@pytest.mark.parametrize("status", list(EnvelopeStatus))
@pytest.mark.parametrize(
    ("call", "path"),
    [
        ("envelope", "envelope/{}"),
        ("files", "envelope/{}/files"),
        ("configuration", "envelope/{}/configuration"),
        ("history", "envelope/{}/history"),
    ],
)
async def test_what_is_said_about_an_envelope_is_as_the_facts_say(
    esaw: StandIn, user: User, api: httpx.AsyncClient, call: str, path: str, status: str
) -> None:
    envelope = an_envelope(esaw, user, status)
    assert deviations(call, await api.get(path.format(envelope))) == []


async def test_the_history_of_a_callback_and_of_a_deleted_envelope_is_as_the_facts_say(
    esaw: StandIn, user: User, api: httpx.AsyncClient
) -> None:
    envelope = esaw.add_envelope(sender=user, status="Active")
    await esaw.finish_workstep(envelope)
    await esaw.stall(envelope, remaining_attempts=0)
    assert deviations("history", await api.get(f"envelope/{envelope}/history")) == []
    await esaw.delete(envelope)
    assert deviations("history", await api.get(f"envelope/{envelope}/history")) == []


@pytest.mark.parametrize("status", list(EnvelopeStatus))
async def test_v5_says_about_an_envelope_what_the_facts_say(
    esaw: StandIn, user: User, api: httpx.AsyncClient, status: str
) -> None:
    envelope = an_envelope(esaw, user, status, api_version="v5")
    assert deviations("envelope_v5", await api.get(f"../v5/envelope/{envelope}")) == []


async def test_a_search_is_as_the_facts_say(esaw: StandIn, user: User, api: httpx.AsyncClient) -> None:
    for status in EnvelopeStatus:
        an_envelope(esaw, user, status)
    assert deviations("find", await api.post("envelope/find", json={})) == []
    assert deviations("find", await api.post("envelope/find", json={"SearchText": "none has this"})) == []


@pytest.mark.parametrize("bulk", [(), (Recipient(email="a@example.com"), Recipient(email="b@example.com"))])
async def test_what_is_said_about_a_draft_is_as_the_facts_say(
    esaw: StandIn, user: User, api: httpx.AsyncClient, bulk: tuple[Recipient, ...]
) -> None:
    draft = esaw.add_draft(owner=user, recipients=EVERYBODY, bulk_recipients=bulk)
    assert deviations("draft", await api.get(f"draft/{draft}")) == []
    assert deviations("draft_configuration", await api.get(f"draft/{draft}/configuration")) == []
    assert deviations("draft_send", await api.post("draft/send", json={"DraftId": draft})) == []


async def test_an_error_is_as_the_facts_say(api: httpx.AsyncClient) -> None:
    assert deviations("error", await api.get(f"envelope/{NOBODYS}")) == []


async def test_an_envelope_made_by_v6_is_refused_by_v5(
    esaw: StandIn, user: User, api: httpx.AsyncClient
) -> None:
    answer = await api.get(f"../v5/envelope/{an_envelope(esaw, user)}")
    assert (answer.status_code, answer.json()["ErrorId"]) == (400, "ERR0063")


async def test_the_members_without_a_value_are_null_or_left_out_at_each_depth(
    esaw: StandIn, user: User, api: httpx.AsyncClient
) -> None:
    envelope = an_envelope(esaw, user)
    paths = [f"envelope/{envelope}{part}" for part in ("", "/files", "/configuration", "/history")]
    written = [(await api.get(path)).text for path in paths]
    esaw.set_behaviour(Behaviour(omits_nulls=True))
    left_out = [(await api.get(path)).text for path in paths]
    assert sum("null" in each for each in written) >= 3
    assert [json.loads(each) for each in left_out] == [
        json.loads(
            each, object_pairs_hook=lambda pairs: {name: value for name, value in pairs if value is not None}
        )
        for each in written
    ]


# -- Nulls in requests ---------------------------------------------------------------------------------------


def with_nulls(kind: str, **given: Any) -> dict[str, Any]:
    """A body with each member of its kind, those that are not given as null."""
    members = FACTS.objects[kind]
    assert given.keys() <= {each.name for each in members}
    assert all(each.nullable for each in members if each.name not in given)
    return {each.name: given.get(each.name) for each in members}


async def test_a_search_takes_a_null_for_each_filter(
    esaw: StandIn, user: User, api: httpx.AsyncClient
) -> None:
    envelope = an_envelope(esaw, user)
    answer = await api.post("envelope/find", json=with_nulls("EnvelopeFindRequest"))
    assert [each["Id"] for each in answer.json()["Envelopes"]] == [envelope]


async def test_an_update_of_a_draft_takes_a_null_as_a_member_that_is_not_given(
    esaw: StandIn, user: User, api: httpx.AsyncClient
) -> None:
    draft = esaw.add_draft(owner=user, metadata="<a/>")
    before = [(await api.get(f"draft/{draft}{part}")).json() for part in ("", "/configuration")]
    answer = await api.post("draft/update", json=with_nulls("DraftUpdateRequest", DraftId=draft))
    assert answer.status_code == 200
    assert [(await api.get(f"draft/{draft}{part}")).json() for part in ("", "/configuration")] == before


@pytest.mark.parametrize("selection", [None, {"WorkstepFinished": True, "WorkstepRejected": None}])
async def test_an_update_of_a_draft_takes_nulls_inside_of_its_callbacks(
    esaw: StandIn, user: User, api: httpx.AsyncClient, selection: Mapping[str, Any] | None
) -> None:
    draft = esaw.add_draft(owner=user)
    workstep = {"Url": "https://r.example/w", "ActionCallbackSelection": selection}
    callbacks = with_nulls("DraftUpdateCallbackConfiguration", ActivityActionCallbackConfiguration=workstep)
    body = with_nulls("DraftUpdateRequest", DraftId=draft, CallbackConfiguration=callbacks)
    assert (await api.post("draft/update", json=body)).status_code == 200
    configuration = (await api.get(f"draft/{draft}/configuration")).json()
    assert (
        configuration["CallbackConfiguration"]["ActivityActionCallbackConfiguration"]["Url"]
        == "https://r.example/w"
    )


# -- The table -----------------------------------------------------------------------------------------------


def a_table(**members: Member) -> Facts:
    return Facts(calls={}, objects={"It": tuple(members.values())}, enums={"Sign": ("+", "-")})


def a_member(name: str = "A", kind: str = "string", **more: Any) -> Member:
    values = {"is_list": False, "required": False, "nullable": True, **more}
    source = FACTS.objects["ErrorResponse"][0].source
    return Member(name=name, type=kind, source=source, **values)


@pytest.mark.parametrize(
    ("member", "value", "expected"),
    [
        (a_member(), {"A": "a"}, []),
        (a_member(), {"A": None}, []),
        (a_member(), {}, []),
        (a_member(required=True), {}, ["A is missing"]),
        (a_member(nullable=False), {"A": None}, ["A is null"]),
        (a_member(), {"a": "a"}, ["a is unknown"]),
        (a_member(), {"A": 1}, ["A is no string"]),
        (a_member(kind="integer"), {"A": True}, ["A is no integer"]),
        (a_member(kind="boolean"), {"A": 1}, ["A is no boolean"]),
        (a_member(kind="time"), {"A": "2026-07-01T12:00:00"}, ["A is no time"]),
        (a_member(kind="time"), {"A": "2026-07-01T12:00:00Z"}, []),
        (a_member(kind="enum:Sign"), {"A": "*"}, ["A has the unknown value '*'"]),
        (a_member(kind="any"), {"A": object()}, []),
        (a_member(is_list=True), {"A": "a"}, ["A is no list"]),
        (a_member(is_list=True), {"A": ["a", 1]}, ["A[1] is no string"]),
        (a_member(kind="It"), {"A": {"B": 1}}, ["A.B is unknown"]),
        (a_member(kind="It", is_list=True), {"A": [{}, []]}, ["A[1]. is no object"]),
    ],
)
def test_a_value_is_compared_with_the_table(member: Member, value: Any, expected: list[str]) -> None:
    assert list(a_table(A=member).deviations("It", value)) == expected


def test_members_that_are_left_out_are_found_at_each_depth() -> None:
    table = a_table(A=a_member(kind="It"), B=a_member("B", is_list=True))
    assert list(table.missing("It", {"A": {"A": None, "B": []}, "B": None})) == []
    assert list(table.missing("It", {"A": {"B": None}})) == ["A.A", "B"]


def test_each_fact_has_a_source_with_an_address_and_a_date() -> None:
    sources = {each.source for members in FACTS.objects.values() for each in members}
    assert all(each.address.startswith("https://") and each.date.year >= 2020 for each in sources)
    assert FILE.is_file()
