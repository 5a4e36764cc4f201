"""The desk: what is read for a page is bounded, and the way back from an act leads to where it was."""

from dataclasses import replace
from typing import Any

import lxml.html
import pytest

from counterfoil.cluster import Expired
from counterfoil.resources import SENDER_LABEL, EnvelopeEvent, FiledDocument, FileKind, Phase, Resource
from tests.builders import AClock, EventBuilder
from tests.unit.console_parts import FULL, NOBODY, VIEW, a_sender_that, a_visitor, an_organization_that
from tests.unit.fake_cluster import ACluster
from webhook.console.actions import Actions
from webhook.console.desk import Desk, Visit
from webhook.console.languages import words_of
from webhook.console.limits import ConsoleLimits
from webhook.console.problems import Kind, Trouble
from webhook.console.rendering import Renderer
from webhook.console.visitors import Rights

LIMITS = ConsoleLimits(rows=4, scanned=16, surveyed=5, others=2, documents=2)


def desk() -> Desk:
    clock = AClock()
    return Desk(Renderer(LIMITS), Actions(clock, limits=LIMITS), clock, limits=LIMITS)


def a_visit(cluster: ACluster, rights: Rights = FULL, here: str = "/", **query: str) -> Visit:
    return Visit(a_visitor(rights, cluster), words_of("en"), query, here)


def an_event(number: int, phase: Phase = Phase.FAILED, sender: str = "anna") -> EnvelopeEvent:
    name = f"{number:08x}-4b1d-4c58-9a57-6d1f0a3b2c4d-0123456789"
    return EventBuilder().named(name).labelled(SENDER_LABEL, sender).in_phase(phase, "NameOccupied").build()


def told(html: str) -> lxml.html.HtmlElement:
    return lxml.html.document_fromstring(html)


async def test_a_list_that_goes_on_has_a_link_to_its_next_page() -> None:
    cluster = ACluster(*(an_event(number) for number in range(6)))

    page = told((await desk().events(a_visit(cluster, phase="Failed"))).html)

    assert len(page.xpath("//tbody/tr")) == 4
    assert page.xpath("//a[contains(@href, 'token=4')]/@href") == ["/events?phase=Failed&token=4"]
    assert "in the order of their ids" in page.text_content()


async def test_an_open_list_that_looks_for_news_reads_nothing_but_events() -> None:
    cluster = ACluster(an_event(1), a_sender_that(), an_organization_that())
    whole = a_visit(cluster)

    await desk().events(whole)
    assert sorted(cluster.asked) == [
        ("page", kind) for kind in ("envelopeevents", "organizations", "senders")
    ]
    cluster.asked.clear()
    page = told((await desk().events(replace(whole, is_news=True))).html)

    assert cluster.asked == [("page", "envelopeevents")]
    assert len(page.xpath("//*[@id='live']//tbody/tr")) == 1


async def test_a_list_whose_token_is_too_old_begins_anew_and_says_so() -> None:
    cluster = ACluster(an_event(1))
    cluster.fail("page", Expired(410, "Expired", "too old"))

    page = told((await desk().events(a_visit(cluster, VIEW, token="3"))).html)

    assert "it begins anew" in page.text_content()
    assert len(page.xpath("//tbody/tr")) == 1


async def test_a_search_for_an_age_asks_twice_at_most_and_then_offers_to_go_on() -> None:
    old: list[Resource] = [an_event(number) for number in range(20)]
    cluster = ACluster(*old)
    clock = AClock()
    clock.advance(hours=5)
    slow = Desk(Renderer(LIMITS), Actions(clock, limits=LIMITS), clock, limits=LIMITS)

    page = told((await slow.events(a_visit(cluster, age="1h"))).html)

    assert cluster.asked.count(("page", "envelopeevents")) == 2
    assert page.xpath("//a[text()='Search on']/@href") == ["/events?age=1h&token=16"]


async def test_an_event_of_another_version_is_shown_as_it_is_stored() -> None:
    cluster = ACluster(an_event(1))
    name = an_event(1).name
    cluster.edit(EnvelopeEvent, name, {"status": {"phase": "Invented"}})

    led = await desk().event(a_visit(cluster), name)
    page = told((await desk().yaml(a_visit(cluster), name)).html)

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
    visit = Visit(a_visitor(VIEW, ACluster(event)), words_of("en"), {"from": start}, "/")

    page = told((await desk().event(visit, event.name)).html)

    assert page.xpath("//tbody/tr/td[1]/text()") == shown


async def test_the_name_of_an_event_leads_to_it() -> None:
    reply = await desk().events(a_visit(ACluster(), text=an_event(1).name))
    assert reply.location == f"/events/{an_event(1).name}"


async def test_more_failures_than_are_read_are_more_than_so_many() -> None:
    cluster = ACluster(*(an_event(number) for number in range(9)))

    page = told((await desk().attention(a_visit(cluster))).html)

    assert "> 5 events failed: NameOccupied" in page.text_content()


async def test_a_sender_beyond_those_that_are_read_is_looked_up_when_events_wait() -> None:
    senders = [a_sender_that("True", "KeyAccepted", name=name) for name in ("anna", "ben")]
    zoe = a_sender_that(name="zoe")
    cluster = ACluster(*senders, zoe, an_event(1, Phase.AWAITING_CONSENT, "zoe"))

    page = told((await desk().attention(a_visit(cluster))).html)

    assert "Zoe Kofler: one envelope waits for consent" in page.text_content()


@pytest.mark.parametrize("page", ["attention", "events", "senders", "archives", "organizations"])
async def test_nothing_is_read_for_whoever_may_see_nothing(page: str) -> None:
    cluster = ACluster(an_event(1))
    with pytest.raises(Trouble) as trouble:
        await getattr(desk(), page)(a_visit(cluster, NOBODY))
    assert trouble.value.kind is Kind.NOT_ALLOWED
    assert cluster.asked == []


@pytest.mark.parametrize(
    ("back", "led"),
    [
        ("/events?phase=Failed&done=skip&n=3#x", "/events?phase=Failed&done=retry&n=1"),
        ("/events/a-name", "/events/a-name?done=retry&n=1"),
        ("//evil.example/x", "/?done=retry&n=1"),
        ("https://evil.example", "/?done=retry&n=1"),
        ("/\\evil.example", "/?done=retry&n=1"),
        ("/a\r\nSet-Cookie: x=y", "/?done=retry&n=1"),
    ],
)
async def test_the_way_back_is_where_it_was_and_never_elsewhere(back: str, led: str) -> None:
    cluster = ACluster(an_event(1))
    form = {"kind": "envelopeevents", "name": an_event(1).name, "what": "retry", "back": back}

    reply = await desk().act(a_visit(cluster), form)

    assert reply.location == led


@pytest.mark.parametrize(
    "form",
    [
        {},
        {"what": "delete", "kind": "envelopeevents", "name": "a"},
        {"what": "retry", "kind": "secrets", "name": "a"},
        {"what": "retry", "kind": "envelopeevents", "name": "../secrets/x"},
        {"what": "retry", "kind": "cause", "organization": "acme,status.phase=Succeeded"},
    ],
)
async def test_a_form_that_means_nothing_does_nothing(form: dict[str, Any]) -> None:
    cluster = ACluster(an_event(1), an_organization_that())
    with pytest.raises(Trouble):
        await desk().act(a_visit(cluster), form)
    assert cluster.asked == []
