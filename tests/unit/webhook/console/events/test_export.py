"""The events of a filter as a file: complete, bounded, and without formulas."""

import csv
import io
import json
from typing import Any

import pytest

from counterfoil.i18n.catalogue import CatalogueName, load_catalogue
from counterfoil.kube.errors import Forbidden
from counterfoil.resources import SENDER_LABEL, EnvelopeEvent, EnvelopeSummary, Phase
from tests.support.builders import NOON, AClock, EventBuilder
from tests.support.fakes.kube import InMemoryKubeClient
from tests.support.scenes.console_parts import NOBODY, VIEW, a_sender_that, an_authenticated_user
from webhook.console.access import Rights
from webhook.console.actions import ActionService
from webhook.console.errors import ConsoleErrorKind
from webhook.console.events.export import UNREADABLE, ExportFormat
from webhook.console.events.views import EventViews
from webhook.console.limits import ConsoleLimits
from webhook.console.rendering import ConsoleRenderer
from webhook.console.view_base import ConsoleRequest
from webhook.http_server.errors import HttpErrorKind, PageError
from webhook.http_server.responses import PageResponse

LIMITS = ConsoleLimits(batch_rows=3, exported=5, export_read=8, exports=1, named_senders=3)
RENDERER = ConsoleRenderer(LIMITS)


def an_event(
    number: int, name: str = "", phase: Phase = Phase.FAILED, *, sender: str = "anna"
) -> EnvelopeEvent:
    builder = EventBuilder().named(f"{number:08x}-4b1d-4c58-9a57-6d1f0a3b2c4d-0123456789abcdef")
    builder = builder.labelled(SENDER_LABEL, sender).created(NOON).in_phase(phase, "NameOccupied")
    return builder.status(envelope=EnvelopeSummary(name=name), message="A\nB").build()


def event_views() -> EventViews:
    clock = AClock()
    return EventViews(RENDERER, ActionService(clock), clock, limits=LIMITS)


def a_request(kube: InMemoryKubeClient, **query: str) -> ConsoleRequest:
    return a_request_by(VIEW, kube, query)


def a_request_by(rights: Rights, kube: InMemoryKubeClient, query: dict[str, str]) -> ConsoleRequest:
    words = load_catalogue(CatalogueName.CONSOLE, "en")
    return ConsoleRequest(an_authenticated_user(rights, kube), words, query, "/events.csv")


async def content(response: PageResponse) -> bytes:
    assert response.stream is not None
    return response.stream_start + b"".join([chunk async for chunk in response.stream])


async def rows(kube: InMemoryKubeClient, **query: str) -> list[dict[str, str]]:
    response = await event_views().export(a_request(kube, **query), ExportFormat.CSV)
    return list(csv.DictReader(io.StringIO((await content(response)).decode("utf-8-sig"))))


async def document(kube: InMemoryKubeClient, **query: str) -> Any:
    response = await event_views().export(a_request(kube, **query), ExportFormat.JSON)
    return json.loads(await content(response))


async def test_a_file_has_a_row_for_each_event_of_the_filter_with_its_person() -> None:
    kube = InMemoryKubeClient(
        an_event(1, "Rental; contract"), an_event(2, phase=Phase.SUCCEEDED), a_sender_that()
    )

    (row,) = await rows(kube, phase="Failed")

    assert row["event"] == an_event(1).name
    assert (row["envelopeName"], row["message"]) == ("Rental; contract", "A\nB")
    assert (row["senderName"], row["senderEmail"]) == ("Anna Kofler", "anna@example.com")
    assert (row["recorded"], row["completed"]) == ("2026-07-01T12:00:00Z", "")


async def test_an_event_that_cannot_be_read_is_not_missing_in_a_file() -> None:
    kube = InMemoryKubeClient(an_event(1), an_event(2))
    kube.edit(EnvelopeEvent, an_event(1).name, {"status": {"conditions": "of another version"}})

    found, cells = await document(kube), await rows(kube)

    assert [each["event"] for each in found["events"]] == [an_event(1).name, an_event(2).name]
    assert found["events"][0]["message"] == cells[0]["message"] == UNREADABLE
    assert cells[0]["attempts"] == ""


async def test_a_file_has_all_events_of_an_address_that_many_senders_have() -> None:
    names = [f"anna-{number}" for number in range(LIMITS.named_senders + 1)]
    kube = InMemoryKubeClient(
        *(a_sender_that(name=name) for name in names),
        *(an_event(number, sender=name) for number, name in enumerate([*names[-4:], "berta"])),
    )

    found = await document(kube, text="@example")

    assert [each["sender"] for each in found["events"]] == names[-4:]
    assert found["isTruncated"] is False


async def test_a_file_of_an_address_says_that_not_all_senders_could_be_read() -> None:
    kube = InMemoryKubeClient(an_event(1), a_sender_that())
    request = a_request_by(Rights(frozenset({("list", "envelopeevents")})), kube, {"text": "@example"})
    text = await content(await event_views().export(request, ExportFormat.JSON))
    assert json.loads(text) == {"events": [], "isTruncated": True}
    cells = (await content(await event_views().export(request, ExportFormat.CSV))).decode()
    assert "Not all senders could be read" in cells


async def test_a_file_for_programs_has_the_same() -> None:
    kube = InMemoryKubeClient(*(an_event(number, "=1") for number in range(4)), a_sender_that())

    found = await document(kube)

    assert [each["event"] for each in found["events"]] == [an_event(number).name for number in range(4)]
    assert {each["envelopeName"] for each in found["events"]} == {"=1"}
    assert found["isTruncated"] is False
    assert await document(kube, phase="Skipped") == {"events": [], "isTruncated": False}


@pytest.mark.parametrize(
    "text",
    [
        *("=1+1", "+1", "-1", "@SUM(A1)", " =1", "\t1", "\r1", '"=1', "\N{FULLWIDTH EQUALS SIGN}1"),
        *("\N{FULLWIDTH HYPHEN-MINUS}1", "\N{FULLWIDTH COMMERCIAL AT}SUM(A1)"),
    ],
)
async def test_no_cell_is_a_formula(text: str) -> None:
    (row,) = await rows(InMemoryKubeClient(an_event(1, text)))

    assert row["envelopeName"].startswith("'")
    assert row["envelopeName"][1:] == text


@pytest.mark.parametrize(
    ("count", "query", "written", "is_more"),
    [
        (5, {}, 5, False),
        (6, {}, 5, True),
        (40, {"reason": "Other"}, 0, True),
        (8, {"reason": "Other"}, 0, False),
    ],
)
async def test_a_file_is_bounded_and_says_when_more_events_match(
    count: int, query: dict[str, str], written: int, is_more: bool
) -> None:
    kube = InMemoryKubeClient(*(an_event(number) for number in range(count)))

    found, cells = await document(kube, **query), await rows(kube, **query)

    assert (len(found["events"]), found["isTruncated"]) == (written, is_more)
    assert len(cells) == written + is_more
    if is_more:
        assert cells[-1]["event"] == "More events match. Set more filters."
    assert kube.asked.count(("page", "envelopeevents")) <= 2 * 3


async def test_a_file_has_its_type_and_its_name() -> None:
    kube = InMemoryKubeClient(an_event(1))
    response = await event_views().export(a_request(kube), ExportFormat.CSV)

    assert response.headers["Content-Type"] == "text/csv; charset=utf-8; header=present"
    assert response.headers["Content-Disposition"] == (
        'attachment; filename="counterfoil-events-tests-20260701T120000Z.csv"'
    )
    await content(response)


async def test_files_at_the_same_time_are_bounded_and_an_abandoned_one_counts_no_longer() -> None:
    kube, views = InMemoryKubeClient(an_event(1)), event_views()
    first = await views.export(a_request(kube), ExportFormat.CSV)

    with pytest.raises(PageError) as trouble:
        await views.export(a_request(kube), ExportFormat.CSV)
    assert trouble.value.kind is HttpErrorKind.BUSY

    assert first.stream is not None
    await first.stream.aclose()
    await content(await views.export(a_request(kube), ExportFormat.CSV))


async def test_a_filter_that_is_wrong_or_a_right_that_is_missing_makes_no_file() -> None:
    kube = InMemoryKubeClient(an_event(1))
    for rights, query, kind in (
        (VIEW, {"phase": "Odd"}, HttpErrorKind.LINK_BROKEN),
        (NOBODY, {"phase": "Failed"}, ConsoleErrorKind.NOT_ALLOWED),
    ):
        with pytest.raises(PageError) as trouble:
            await event_views().export(a_request_by(rights, kube, query), ExportFormat.CSV)
        assert trouble.value.kind is kind
    assert kube.asked == []


async def test_a_refusal_of_the_api_server_comes_before_the_file_begins() -> None:
    kube = InMemoryKubeClient(an_event(1))
    kube.fail("page", Forbidden(403, "Forbidden", "no"))
    with pytest.raises(Forbidden):
        await event_views().export(a_request(kube), ExportFormat.JSON)
