"""The list of events and the page of one: a bounded number of objects is read for each."""

from dataclasses import replace

import lxml.html
import pytest

from counterfoil.i18n.catalogue import CatalogueName, load_catalogue
from counterfoil.kube.errors import Expired
from counterfoil.resources import SENDER_LABEL, EnvelopeEvent, FiledDocument, FileKind, Phase, Resource
from tests.support.builders import AClock, EventBuilder
from tests.support.fakes.kube import InMemoryKubeClient
from tests.support.scenes.console_parts import (
    FULL,
    VIEW,
    a_sender_that,
    an_authenticated_user,
    an_organization_that,
)
from webhook.console.access import Rights
from webhook.console.actions import ActionService
from webhook.console.events.views import EventViews
from webhook.console.limits import ConsoleLimits
from webhook.console.rendering import ConsoleRenderer
from webhook.console.view_base import ConsoleRequest

LIMITS = ConsoleLimits(rows=4, scanned=16, surveyed=5, listed_objects=2, documents=2)


def event_views(clock: AClock | None = None) -> EventViews:
    clock = clock or AClock()
    return EventViews(ConsoleRenderer(LIMITS), ActionService(clock, limits=LIMITS), clock, limits=LIMITS)


def a_console_request(
    kube: InMemoryKubeClient, rights: Rights = FULL, here: str = "/", **query: str
) -> ConsoleRequest:
    return ConsoleRequest(
        an_authenticated_user(rights, kube), load_catalogue(CatalogueName.CONSOLE, "en"), query, here
    )


def an_event(number: int, phase: Phase = Phase.FAILED, sender: str = "anna") -> EnvelopeEvent:
    name = f"{number:08x}-4b1d-4c58-9a57-6d1f0a3b2c4d-0123456789abcdef"
    return EventBuilder().named(name).labelled(SENDER_LABEL, sender).in_phase(phase, "NameOccupied").build()


def parsed(html: str) -> lxml.html.HtmlElement:
    return lxml.html.document_fromstring(html)


async def test_a_list_that_goes_on_has_a_link_to_its_next_page() -> None:
    kube = InMemoryKubeClient(*(an_event(number) for number in range(6)))

    page = parsed((await event_views().events(a_console_request(kube, phase="Failed"))).html)

    assert len(page.xpath("//tbody/tr")) == 4
    assert page.xpath("//a[contains(@href, 'token=4')]/@href") == ["/events?phase=Failed&token=4"]
    assert "in the order of their ids" in page.text_content()


async def test_an_open_list_that_looks_for_news_reads_nothing_but_events() -> None:
    kube = InMemoryKubeClient(an_event(1), a_sender_that(), an_organization_that())
    whole = a_console_request(kube)

    await event_views().events(whole)
    assert sorted(kube.asked) == [("page", kind) for kind in ("envelopeevents", "organizations", "senders")]
    kube.asked.clear()
    page = parsed((await event_views().events(replace(whole, is_refresh=True))).html)

    assert kube.asked == [("page", "envelopeevents")]
    assert len(page.xpath("//*[@id='live']//tbody/tr")) == 1


async def test_a_list_whose_token_is_too_old_begins_anew_and_says_so() -> None:
    kube = InMemoryKubeClient(an_event(1))
    kube.fail("page", Expired(410, "Expired", "too old"))

    page = parsed((await event_views().events(a_console_request(kube, VIEW, token="3"))).html)

    assert "it starts again" in page.text_content()
    assert len(page.xpath("//tbody/tr")) == 1


async def test_a_search_for_an_age_asks_twice_at_most_and_then_offers_to_go_on() -> None:
    old: list[Resource] = [an_event(number) for number in range(20)]
    kube = InMemoryKubeClient(*old)
    clock = AClock()
    clock.advance(hours=5)

    page = parsed((await event_views(clock).events(a_console_request(kube, age="1h"))).html)

    assert kube.asked.count(("page", "envelopeevents")) == 2
    assert page.xpath("//a[text()='Continue the search']/@href") == ["/events?age=1h&token=16"]


async def test_an_event_of_another_version_is_shown_as_it_is_stored() -> None:
    kube = InMemoryKubeClient(an_event(1))
    name = an_event(1).name
    kube.edit(EnvelopeEvent, name, {"status": {"phase": "Invented"}})

    led = await event_views().event(a_console_request(kube), name)
    page = parsed((await event_views().yaml(a_console_request(kube), name)).html)

    assert led.location == f"/events/{name}/yaml"
    assert "phase: Invented" in page.text_content()


@pytest.mark.parametrize(
    ("start", "shown"),
    [
        ("2", ["c"]),
        ("0", ["a", "b"]),
        ("-1", ["a", "b"]),
        ("1", ["a", "b"]),
        ("4", ["a", "b"]),
        ("²", ["a", "b"]),
    ],
)
async def test_a_page_of_documents_begins_where_there_is_one(start: str, shown: list[str]) -> None:
    files = [FiledDocument(file_id=each, kind=FileKind.DOCUMENT, file_name=each) for each in "abc"]
    event = EventBuilder().status(documents=tuple(files)).build()
    console_request = ConsoleRequest(
        an_authenticated_user(VIEW, InMemoryKubeClient(event)),
        load_catalogue(CatalogueName.CONSOLE, "en"),
        {"from": start},
        "/",
    )

    page = parsed((await event_views().event(console_request, event.name)).html)

    assert page.xpath("//tbody/tr/td[1]/text()") == shown


async def test_the_name_of_an_event_leads_to_it() -> None:
    name = an_event(1).name
    console_response = await event_views().events(a_console_request(InMemoryKubeClient(), text=name))
    assert console_response.location == f"/events/{name}"
