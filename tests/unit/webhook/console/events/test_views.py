"""The list of events and the page of one: a bounded number of objects is read for each."""

from dataclasses import replace
from datetime import timedelta

import lxml.html
import msgspec
import pytest

from counterfoil.i18n.catalogue import CatalogueName, load_catalogue
from counterfoil.kube.errors import Expired
from counterfoil.resources import (
    SENDER_LABEL,
    Activity,
    EnvelopeEvent,
    EnvelopeSummary,
    EventCopy,
    EventNotice,
    FiledDocument,
    FileKind,
    LastError,
    LocalObjectReference,
    NoticeState,
    Organization,
    OrganizationStatus,
    Phase,
    Resource,
)
from counterfoil.resources.routes import CopySpec
from tests.support.builders import ENVELOPE, NOON, AClock, EventBuilder
from tests.support.fakes.kube import InMemoryKubeClient, SmallPages
from tests.support.fakes.leases import a_shard_lease
from tests.support.scenes.console_parts import (
    FULL,
    VIEW,
    a_console_request,
    a_listed_event,
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

LIMITS = ConsoleLimits(rows=4, scanned=16, scan_rows=12, sorted_rows=6, listed_objects=2, documents=2)
RENDERER = ConsoleRenderer(LIMITS)
NOT_ALL_SENDERS = "Not all senders could be read, so events of some of them may be missing."


def event_views(clock: AClock | None = None, limits: ConsoleLimits = LIMITS) -> EventViews:
    clock = clock or AClock()
    return EventViews(RENDERER, ActionService(clock), clock, limits=limits)


def parsed(html: str) -> lxml.html.HtmlElement:
    return lxml.html.document_fromstring(html)


async def test_a_list_with_a_further_page_has_a_link_to_it() -> None:
    kube = InMemoryKubeClient(*(a_listed_event(number) for number in range(6)))

    page = parsed((await event_views().events(a_console_request(kube, phase="Failed"))).html)

    assert len(page.xpath("//tbody/tr")) == 4
    assert page.xpath("//a[contains(@href, 'token=4')]/@href") == ["/events?phase=Failed&token=4"]
    assert "in the order of their ids" in page.text_content()


async def test_a_list_does_not_deny_an_organization_behind_those_that_were_read() -> None:
    kube = InMemoryKubeClient(*(an_organization_that(name=name) for name in ("acme", "beta", "gamma")))
    page = parsed((await event_views().events(a_console_request(kube, organization="gamma"))).html)
    assert "There are more objects" in page.text_content()
    assert "Enter the name of an Organization object." not in page.text_content()


async def test_an_open_list_that_polls_reads_events_and_their_senders_only() -> None:
    kube = InMemoryKubeClient(a_listed_event(1), a_sender_that(), an_organization_that())
    whole = a_console_request(kube)

    await event_views().events(whole)
    assert sorted(kube.asked) == [("page", kind) for kind in ("envelopeevents", "organizations", "senders")]
    kube.asked.clear()
    page = parsed((await event_views().events(replace(whole, is_refresh=True))).html)

    assert sorted(kube.asked) == [("page", "envelopeevents"), ("page", "senders")]
    assert len(page.xpath("//*[@id='live']//tbody/tr")) == 1


async def test_a_list_whose_token_is_too_old_starts_again_and_reports_it() -> None:
    kube = InMemoryKubeClient(a_listed_event(1))
    kube.fail("page", Expired(410, "Expired", "too old"))

    page = parsed((await event_views().events(a_console_request(kube, VIEW, token="3"))).html)

    assert "it starts again" in page.text_content()
    assert len(page.xpath("//tbody/tr")) == 1


async def test_a_search_for_an_age_asks_twice_at_most_and_then_offers_to_continue() -> None:
    old: list[Resource] = [a_listed_event(number) for number in range(20)]
    kube = InMemoryKubeClient(*old)
    clock = AClock()
    clock.advance(hours=5)

    page = parsed((await event_views(clock).events(a_console_request(kube, age="1h"))).html)

    assert kube.asked.count(("page", "envelopeevents")) == 2
    assert page.xpath("//a[text()='Continue the search']/@href") == ["/events?age=1h&token=16"]


async def test_an_event_of_another_version_is_shown_as_it_is_stored() -> None:
    kube = InMemoryKubeClient(a_listed_event(1))
    name = a_listed_event(1).name
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
    name = a_listed_event(1).name
    console_response = await event_views().events(a_console_request(InMemoryKubeClient(), text=name))
    assert console_response.location == f"/events/{name}"


async def test_the_list_shows_envelope_person_and_a_short_id_that_can_be_copied_whole() -> None:
    event = a_listed_event(1).name
    named = (
        EventBuilder()
        .named(event)
        .labelled(SENDER_LABEL, "anna")
        .status(envelope=EnvelopeSummary(name="Rental contract"), phase=Phase.SUCCEEDED)
    )
    kube = InMemoryKubeClient(named.build(), a_sender_that())

    page = parsed((await event_views().events(a_console_request(kube))).html)

    assert page.xpath("//tbody//a/text()") == ["Rental contract"]
    assert page.xpath("//tbody//code/text()") == [ENVELOPE]
    assert "Anna Kofler anna@example.com" in " ".join(
        page.xpath("//td[@class='who']")[0].text_content().split()
    )
    assert page.xpath("//tbody//button[@data-copy]/@aria-label") == [f"Copy: {ENVELOPE}"]
    assert page.xpath("//td[@class='when']/time/@title") == ["2026-07-01 12:00:00 UTC"]
    assert "Action" not in page.xpath("//thead")[0].text_content()


async def test_what_differs_between_the_events_has_its_column() -> None:
    other = EventBuilder("1f9c1c2e-4b1d-4c58-9a57-6d1f0a3b2c4d").for_action("workstepFinished").build()
    kube = InMemoryKubeClient(a_listed_event(1), other)

    head = parsed((await event_views().events(a_console_request(kube))).html).xpath("//thead")[0]

    assert "Action" in head.text_content()
    assert "Organization" not in head.text_content()


async def test_a_next_attempt_that_has_passed_is_due() -> None:
    event = a_listed_event(1, Phase.ARCHIVING)
    late = EventBuilder().named(event.name).status(phase=Phase.ARCHIVING, next_attempt_time=NOON).build()

    page = parsed((await event_views().events(a_console_request(InMemoryKubeClient(late)))).html)

    assert page.xpath("//td[@class='extra']/time/text()") == ["due now"]


async def test_the_counts_by_phase_are_those_of_the_organization_with_their_time() -> None:
    counts = OrganizationStatus(
        events={"Failed": 3}, activity=Activity(count_time=NOON - timedelta(minutes=5))
    )
    acme = msgspec.structs.replace(an_organization_that(), status=counts)
    globex = msgspec.structs.replace(
        an_organization_that(name="globex"), status=OrganizationStatus(events={"Failed": 9})
    )
    kube = InMemoryKubeClient(acme, globex)

    page = parsed((await event_views().events(a_console_request(kube, organization="acme"))).html)

    counted = page.xpath("normalize-space(//div[@class='counted'])")
    assert counted == "Failed 3 Number of events per phase, counted 5 min ago"


async def test_counts_of_all_organizations_are_as_old_as_the_newest_of_them() -> None:
    idle = OrganizationStatus(events={"Failed": 3}, activity=Activity(count_time=NOON - timedelta(hours=5)))
    used = OrganizationStatus(events={"Failed": 9}, activity=Activity(count_time=NOON - timedelta(minutes=5)))
    kube = InMemoryKubeClient(
        msgspec.structs.replace(an_organization_that(), status=idle),
        msgspec.structs.replace(an_organization_that(name="globex"), status=used),
    )
    page = parsed((await event_views().events(a_console_request(kube))).html)
    counted = page.xpath("normalize-space(//div[@class='counted'])")
    assert counted == "Failed 12 Number of events per phase, counted 5 min ago"


@pytest.mark.parametrize(
    ("message", "text", "code"),
    [
        ("The tag `a` needs `/b`.", "The tag a needs /b.", ["a", "/b"]),
        ("The file is `<b>`", "The file is <b>", ["<b>"]),
        ("The file `a has a backtick", "The file `a has a backtick", []),
    ],
)
async def test_names_in_a_message_are_shown_as_code(message: str, text: str, code: list[str]) -> None:
    event = EventBuilder().in_phase(Phase.ARCHIVING, "TagMissing").status(message=message).build()
    console_request = a_console_request(InMemoryKubeClient(event))
    page = parsed((await event_views().event(console_request, event.name)).html)
    (shown,) = page.xpath(
        "//section[@aria-labelledby='state']/p[starts-with(., 'The file ') or starts-with(., 'The tag ')]"
    )
    assert shown.text_content() == text
    assert [each.text for each in shown.iter("code")] == code


async def test_an_order_that_is_chosen_reads_more_and_says_what_it_is_about() -> None:
    events = [
        EventBuilder().named(a_listed_event(number).name).created(NOON + timedelta(minutes=number)).build()
        for number in range(8)
    ]
    kube = InMemoryKubeClient(*events)

    page = parsed((await event_views().events(a_console_request(kube, sort="newest"))).html)

    assert page.xpath("//tbody//a/@href") == [f"/events/{each.name}" for each in reversed(events[:6])]
    caption = page.xpath("string(//caption)")
    assert " events, newest first within this page: there are more" in " ".join(caption.split())


async def test_a_search_says_how_many_events_were_read_and_where_it_continues() -> None:
    kube = InMemoryKubeClient(*(a_listed_event(number) for number in range(40)))

    page = parsed((await event_views().events(a_console_request(kube, text="rental"))).html)

    assert kube.asked.count(("page", "envelopeevents")) == 2
    assert "16 events were searched." in page.text_content()
    assert page.xpath("//a[text()='Continue the search']/@href") == ["/events?text=rental&token=16"]


async def test_a_person_is_found_by_a_part_of_the_address_with_one_request() -> None:
    kube = InMemoryKubeClient(
        a_listed_event(1), a_listed_event(2, sender="ben"), a_sender_that(), a_sender_that(name="ben")
    )

    page = parsed((await event_views().events(a_console_request(kube, text="ANNA@example"))).html)

    assert page.xpath("//tbody//a/@href") == [f"/events/{a_listed_event(1).name}"]
    assert kube.asked.count(("page", "envelopeevents")) == 1


async def test_an_address_that_no_sender_has_finds_nothing_and_reads_no_events() -> None:
    kube = InMemoryKubeClient(a_listed_event(1), a_sender_that())

    page = parsed((await event_views().events(a_console_request(kube, text="eve@example.com"))).html)

    assert "No event matches." in page.text_content()
    assert ("page", "envelopeevents") not in kube.asked


@pytest.mark.parametrize(
    ("rights", "phase", "is_said"),
    [
        (FULL, Phase.ARCHIVING, True),
        (FULL, Phase.FAILED, False),
        (Rights(FULL.granted | {("list", "leases")}), Phase.ARCHIVING, False),
    ],
)
async def test_a_page_says_that_it_is_not_known_whether_a_controller_works(
    rights: Rights, phase: Phase, is_said: bool
) -> None:
    event = a_listed_event(1, phase)
    kube = InMemoryKubeClient(event, a_shard_lease(0, 1, renewed=NOON))
    page = await event_views().event(a_console_request(kube, rights), event.name)
    assert ("It is not known whether a controller works on this event" in page.html) is is_said


async def test_a_user_who_may_not_list_senders_can_still_search_events() -> None:
    kube = InMemoryKubeClient(a_listed_event(1), a_sender_that())
    rights = Rights(frozenset({("list", "envelopeevents")}))

    page = parsed((await event_views().events(a_console_request(kube, rights, text="00000001"))).html)
    by_address = await event_views().events(a_console_request(kube, rights, text="anna@example.com"))

    assert page.xpath("//td[@class='who']/text()") == []
    assert "No event matches." in by_address.html
    assert NOT_ALL_SENDERS in page.text_content()
    assert NOT_ALL_SENDERS in by_address.html
    assert ("page", "senders") not in kube.asked


async def test_a_search_by_address_says_that_not_all_senders_were_read() -> None:
    names = [f"anna-{number}" for number in range(9)]
    kube = SmallPages(*(a_sender_that(name=name) for name in names))
    kube.put(a_listed_event(1, sender="anna-8"))
    views = event_views(limits=replace(LIMITS, searched_bytes=2000))
    page = parsed((await views.events(a_console_request(kube, text="@example"))).html)
    assert NOT_ALL_SENDERS in page.text_content()
    page = parsed((await event_views().events(a_console_request(kube, text="@example"))).html)
    assert NOT_ALL_SENDERS not in page.text_content()


async def test_a_search_of_events_keeps_a_bounded_size_and_can_be_continued() -> None:
    kube = SmallPages(*(a_listed_event(number) for number in range(12)))
    views = event_views(limits=replace(LIMITS, rows=24, kept_bytes=1500))
    page = parsed((await views.events(a_console_request(kube, reason="NameOccupied"))).html)
    assert 1 <= len(page.xpath("//tbody/tr")) < 6
    assert "Continue the search" in page.text_content()


async def test_a_field_that_is_wrong_has_its_message_and_keeps_what_was_filled_in() -> None:
    kube = InMemoryKubeClient(a_listed_event(1))

    page = parsed((await event_views().events(a_console_request(kube, since="yesterday"))).html)

    (field,) = page.xpath("//input[@name='since']")
    assert (field.get("value"), field.get("aria-invalid")) == ("yesterday", "true")
    assert "2026-07-01T08:30" in page.xpath(f"string(//*[@id='{field.get('aria-describedby')}'])")
    assert page.xpath("//details[@class='narrow']/@open")


WORM, MIRROR = (LocalObjectReference(name=each) for each in ("worm", "mirror"))
ARCHIVED = EventBuilder().archived().with_condition("Cleaned").in_phase(Phase.SUCCEEDED, "ArchivedAndDeleted")
VERIFIED = EventCopy(ref=WORM, manifest="s3://worm/counterfoil.json", verified_time=NOON)
COPIED = an_organization_that(copies=tuple(CopySpec(archive_ref=each) for each in (WORM, MIRROR)))


def copies_of(page: lxml.html.HtmlElement) -> list[str]:
    return [
        " ".join(each.text_content().split()) for each in page.xpath("//dt[text()='Copy']/following::dd[1]")
    ]


@pytest.mark.parametrize(
    ("rights", "is_offered"),
    [(FULL, True), (VIEW, False), (Rights(FULL.granted - {("list", "organizations")}), False)],
)
async def test_the_page_of_an_archived_event_offers_a_copy_that_was_added_later(
    rights: Rights, *, is_offered: bool
) -> None:
    event = ARCHIVED.status(copies=(VERIFIED,)).build()
    kube = InMemoryKubeClient(COPIED, event)

    page = parsed((await event_views().event(a_console_request(kube, rights), event.name)).html)

    assert bool(page.xpath("//button[@value='copy']")) is is_offered
    verified = "worm · verified 2026-07-01 12:00:00 UTC · s3://worm/counterfoil.json"
    is_known = rights.can_list("organizations")
    assert copies_of(page) == (
        [verified, "mirror · missing · no attempt is planned"] if is_known else [verified]
    )


@pytest.mark.parametrize(
    ("phase", "reason"),
    [(Phase.FAILED, "DeadlineExceeded"), (Phase.SKIPPED, "SkippedByRequest"), (Phase.ARCHIVING, "")],
)
@pytest.mark.parametrize("rights", [FULL, Rights(FULL.granted - {("list", "organizations")})])
async def test_a_former_copy_is_not_called_missing(phase: Phase, reason: str, rights: Rights) -> None:
    former = EventCopy(ref=LocalObjectReference(name="tape"), manifest="file:///tape/counterfoil.json")
    event = EventBuilder().in_phase(phase, reason).status(copies=(former, VERIFIED)).build()
    kube = InMemoryKubeClient(COPIED, event)

    page = parsed((await event_views().event(a_console_request(kube, rights), event.name)).html)

    assert copies_of(page) == ["worm · verified 2026-07-01 12:00:00 UTC · s3://worm/counterfoil.json"]


async def test_no_copy_is_offered_where_none_is_missing_or_wanted() -> None:
    mirrored = EventCopy(ref=MIRROR, manifest="file:///mirror/counterfoil.json", verified_time=NOON)
    event = ARCHIVED.status(copies=(VERIFIED, mirrored)).build()
    for organization in (COPIED, an_organization_that()):
        kube = InMemoryKubeClient(organization, event)
        page = parsed((await event_views().event(a_console_request(kube), event.name)).html)
        assert not page.xpath("//button[@value='copy']")


@pytest.mark.parametrize(("organization", "is_offered"), [(COPIED, True), (an_organization_that(), False)])
@pytest.mark.parametrize("is_refresh", [True, False])
async def test_a_list_with_archived_events_offers_their_copies_where_their_organization_has_some(
    organization: Organization, *, is_offered: bool, is_refresh: bool
) -> None:
    kube = InMemoryKubeClient(organization, ARCHIVED.status(copies=()).build())
    request = replace(a_console_request(kube), is_refresh=is_refresh)
    page = parsed((await event_views().events(request)).html)
    offered = page.xpath("//*[@id='live']//button[starts-with(@value, 'copy-')]/@value")
    assert offered == (["copy-selected", "copy-all"] if is_offered else [])


@pytest.mark.parametrize(("attempts", "is_told"), [(99, True), (1, False)])
async def test_the_page_of_an_event_says_who_acts_about_a_copy_that_was_given_up(
    attempts: int, *, is_told: bool
) -> None:
    lost = EventCopy(ref=MIRROR, reason="OriginalDiffers", message="It is gone.", attempts=attempts)
    missing = ARCHIVED.with_condition("Copied", "False", "CopyGivenUp")
    event = missing.status(copies=(VERIFIED, lost)).build()
    request = a_console_request(InMemoryKubeClient(COPIED, event))

    text = parsed((await event_views().event(request, event.name)).html).text_content()

    assert ("of the first archive into another folder" in text) is is_told
    assert ("No action is necessary" in text) is not is_told


async def test_the_page_says_who_acts_about_it_also_without_a_right_to_the_organization() -> None:
    lost = EventCopy(ref=MIRROR, reason="OriginalDiffers", message="It is gone.", attempts=99)
    event = ARCHIVED.with_condition("Copied", "False", "CopyGivenUp").status(copies=(VERIFIED, lost)).build()
    request = a_console_request(InMemoryKubeClient(event))

    text = parsed((await event_views().event(request, event.name)).html).text_content()

    assert "of the first archive into another folder" in text
    assert "No action is necessary" not in text


@pytest.mark.parametrize(("reason", "is_told"), [("WebhookGone", True), ("WebhookRemoved", False)])
async def test_the_page_of_an_event_says_who_acts_about_a_notice_that_was_given_up(
    reason: str, *, is_told: bool
) -> None:
    error = LastError(reason=reason, message="HTTP 410.", time=NOON)
    notice = EventNotice(id="msg_1", state=NoticeState.FAILED, attempts=9, last_error=error)
    event = ARCHIVED.with_condition("Copied").status(copies=(), notice=notice).build()
    request = a_console_request(InMemoryKubeClient(event))

    text = parsed((await event_views().event(request, event.name)).html).text_content()

    assert ("Correct spec.webhook.url" in text) is is_told
    assert ("No action is necessary" in text) is not is_told


@pytest.mark.parametrize("objects", [(COPIED,), ()], ids=["known", "no Organization"])
async def test_a_copy_that_only_a_suspension_prevents_is_not_said_to_have_no_attempt(
    objects: tuple[Organization, ...],
) -> None:
    held = EventCopy(ref=MIRROR, reason="ArchiveSuspended", message="It is suspended.")
    missing = ARCHIVED.with_condition("Copied", "False", "CopyMissing")
    event = missing.status(copies=(VERIFIED, held)).build()
    request = a_console_request(InMemoryKubeClient(*objects, event))

    page = parsed((await event_views().event(request, event.name)).html)

    assert copies_of(page)[1] == "mirror · missingArchiveSuspended: It is suspended."


async def test_the_page_says_of_a_missing_copy_and_of_a_notice_when_they_are_tried_again() -> None:
    copies = (
        EventCopy(ref=WORM, reason="ArchiveFull", next_attempt_time=NOON - timedelta(minutes=1)),
        EventCopy(ref=MIRROR, reason="ArchiveUnreachable", attempts=99),
    )
    notice = EventNotice(id="msg_1", state=NoticeState.PENDING, next_attempt_time=NOON - timedelta(minutes=1))
    missing = ARCHIVED.with_condition("Copied", "False", "CopyMissing")
    event = missing.status(copies=copies, notice=notice).build()

    page = parsed(
        (await event_views().event(a_console_request(InMemoryKubeClient(COPIED, event)), event.name)).html
    )

    first, second = copies_of(page)
    assert first.startswith("worm · missing · Next attempt: due now")
    assert second.startswith("mirror · missing · no attempt is planned")
    (notice_row,) = page.xpath("//dt[text()='Notice to the webhook']/following::dd[1]")
    assert "Next attempt: due now" in notice_row.text_content()


@pytest.mark.parametrize("cause", ["TransferBroken", "NoFiles", "StillActive"])
async def test_the_page_of_an_event_that_failed_says_that_an_administrator_must_act(cause: str) -> None:
    given_up = EventBuilder().in_phase(Phase.FAILED, "DeadlineExceeded")
    event = given_up.status(last_error=LastError(reason=cause, message="m", time=NOON)).build()
    request = a_console_request(InMemoryKubeClient(an_organization_that(), event))
    (state,) = parsed((await event_views().event(request, event.name)).html).xpath(
        "//section[@aria-labelledby='state']"
    )
    text = " ".join(state.text_content().split())
    assert "An administrator must act" in text
    assert "No action is necessary" not in text
    assert "then retry the event." in text
