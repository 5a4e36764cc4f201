"""Views: each page reads a bounded number of objects, and an action redirects back to its page."""

import dataclasses
from datetime import timedelta
from typing import Any

import lxml.html
import msgspec
import pytest
from msgspec.structs import replace

from counterfoil.kube.client import KubeClient
from counterfoil.kube.errors import Forbidden
from counterfoil.resources import (
    SENDER_LABEL,
    Import,
    ImportStatus,
    Phase,
    ReportedProblem,
    Resource,
    Sender,
)
from counterfoil.resources.audit_annotation import audit_entries
from counterfoil.resources.imports import ImportReportParts, ImportSample, ImportSender, ImportWindows
from counterfoil.resources.organization import CheckOutcome, OrganizationCheck, OrganizationCheckResult
from tests.support.builders import NOON, AClock, EventBuilder
from tests.support.fakes.kube import InMemoryKubeClient, SmallPages
from tests.support.fakes.leases import a_shard_lease
from tests.support.scenes.console_parts import (
    FULL,
    NOBODY,
    UNREADABLE_SPECS,
    VIEW,
    a_console_request,
    a_listed_event,
    a_sender_that,
    an_event_of_import,
    an_import_that,
    an_organization_that,
)
from tests.support.scenes.notifications import an_archive_that_is, an_unauthorized_sender
from webhook.console.access import Rights
from webhook.console.actions import ActionService
from webhook.console.errors import ConsoleErrorKind
from webhook.console.events.views import EventViews
from webhook.console.limits import ConsoleLimits
from webhook.console.rendering import ConsoleRenderer
from webhook.console.views import ConsoleViews
from webhook.http_server.errors import PageError

EVENTS_ONLY = Rights(frozenset({("list", "envelopeevents"), ("list", "organizations")}))
READER = Rights(FULL.granted | {("list", "leases")})
LIMITS = ConsoleLimits(
    rows=4,
    scanned=16,
    surveyed=5,
    listed_objects=2,
    documents=2,
    sender_rows=2,
    listed_senders=4,
    listed_imports=3,
)
RENDERER = ConsoleRenderer(LIMITS)


def views(limits: ConsoleLimits = LIMITS) -> ConsoleViews:
    clock = AClock()
    return ConsoleViews(RENDERER, ActionService(clock), clock, limits=limits)


def event_views() -> EventViews:
    clock = AClock()
    return EventViews(RENDERER, ActionService(clock), clock, limits=LIMITS)


def parsed(html: str) -> lxml.html.HtmlElement:
    return lxml.html.document_fromstring(html)


@pytest.mark.parametrize("page", ["organizations", "archives"])
async def test_a_page_that_has_fewer_large_objects_is_not_all_there_are(page: str) -> None:
    kube, archive = SmallPages(), an_archive_that_is("True")
    for name in ("acme", "beta"):
        kube.put(an_organization_that(name=name))
        kube.put(replace(archive, metadata=replace(archive.metadata, name=name)))
    shown = parsed((await getattr(views(), page)(a_console_request(kube))).html)
    assert len(shown.xpath("//section[contains(@class, 'card')]")) == 2
    assert "There are more" not in shown.text_content()


def with_size(sender: Sender, size: int) -> Sender:
    """Return a Sender to which somebody wrote an annotation of this size."""
    return replace(sender, metadata=replace(sender.metadata, annotations={"a": "x" * size}))


async def test_a_search_of_senders_reads_a_bounded_size_and_does_not_say_that_there_is_no_other() -> None:
    senders = [with_size(a_sender_that(name=f"sender-{number}"), 2000) for number in range(9)]
    kube, limits = SmallPages(*senders), dataclasses.replace(LIMITS, searched_bytes=9000)
    shown = await views(limits).senders(a_console_request(kube, text="sender-8"))
    assert kube.asked.count(("page", "senders")) < 6
    assert "There are more objects than this page has." in shown.html


async def test_senders_that_match_are_kept_up_to_a_bounded_size() -> None:
    senders = [with_size(a_sender_that(name=f"sender-{number}"), 2000) for number in range(9)]
    kube, limits = (
        SmallPages(*senders),
        dataclasses.replace(LIMITS, kept_bytes=5000, sender_rows=9, listed_senders=9),
    )
    page = parsed((await views(limits).senders(a_console_request(kube, text="sender"))).html)
    assert page.xpath("//tbody/tr/@id") == ["sender-0", "sender-1"]
    assert "There are more: search to find them." in page.text_content()


@pytest.mark.parametrize("page", ["organizations", "attention", "senders"])
async def test_a_page_says_that_it_does_not_have_all_objects(page: str) -> None:
    kube = InMemoryKubeClient(*(an_organization_that(name=name) for name in ("acme", "beta", "gamma")))
    shown = parsed((await getattr(views(), page)(a_console_request(kube))).html)
    assert "There are more" in shown.text_content()


async def test_more_failures_than_are_read_are_shown_as_a_lower_bound() -> None:
    kube = InMemoryKubeClient(*(a_listed_event(number) for number in range(9)))

    page = parsed((await views().attention(a_console_request(kube))).html)

    assert "> 5 events failed: " in page.text_content()


def cause_form(page: lxml.html.HtmlElement, action: str) -> dict[str, str]:
    """The values that the button of an entry of failures sends."""
    (form,) = page.xpath(f"//form[.//button[@value='{action}-all']]")
    assert form.get("action") == "/bulk"
    given = {each.get("name"): each.get("value") or "" for each in form.xpath(".//input")}
    return {**given, "do": f"{action}-all", "why": "a test"}


def requested(kube: InMemoryKubeClient) -> int:
    labels = [raw["metadata"].get("labels", {}) for raw in kube.objects.values()]
    return sum("counterfoil.dev/request" in each for each in labels)


@pytest.mark.parametrize("action", ["retry", "skip"])
async def test_all_events_of_a_cause_are_changed_at_once_if_they_are_those_that_were_shown(
    action: str,
) -> None:
    kube = InMemoryKubeClient(an_organization_that(), a_listed_event(1), a_listed_event(2))
    form = cause_form(parsed((await views().attention(a_console_request(kube))).html), action)

    page = parsed((await event_views().bulk(a_console_request(kube), form)).html)

    assert f"A {action} was requested for 2 events." in page.text_content()
    assert requested(kube) == 2


@pytest.mark.parametrize("action", ["retry", "skip"])
@pytest.mark.parametrize("more", [1, 7], ids=["another event since", "more events than are read"])
async def test_more_events_of_a_cause_than_were_shown_are_shown_first(action: str, more: int) -> None:
    kube = InMemoryKubeClient(an_organization_that(), a_listed_event(0))
    if more > 1:
        for number in range(1, more + 1):
            kube.put(a_listed_event(number))
    form = cause_form(parsed((await views().attention(a_console_request(kube))).html), action)
    if more == 1:
        kube.put(a_listed_event(1))

    page = parsed((await event_views().bulk(a_console_request(kube), form)).html)

    assert page.xpath("string(//h1)") == f"{action.title()} {more + 1} events?"
    assert requested(kube) == 0


@pytest.mark.parametrize(
    ("phase", "reason", "says"),
    [
        (Phase.AWAITING_CONSENT, "TokenRejected", "WrongUser"),
        (Phase.ARCHIVING, "ArchiveNotProbed", "ArchiveRootChanged"),
    ],
)
async def test_the_page_of_an_event_shows_what_the_object_that_it_waits_for_says_now(
    phase: Phase, reason: str, says: str
) -> None:
    event = EventBuilder().labelled(SENDER_LABEL, "anna").in_phase(phase, reason).build()
    objects = (
        an_unauthorized_sender(reason="WrongUser"),
        an_archive_that_is("False", reason="ArchiveRootChanged"),
    )
    kube = InMemoryKubeClient(an_organization_that(), *objects, event)
    page = parsed((await event_views().event(a_console_request(kube), event.name)).html)
    assert says in page.xpath("string(//h2[@id='state'])")
    assert f"{says}, in words." in page.text_content()


async def test_a_skip_on_the_page_of_an_event_says_which_state_it_showed() -> None:
    event = a_listed_event(1)
    kube = InMemoryKubeClient(an_organization_that(), event)
    page = parsed((await event_views().event(a_console_request(kube), event.name)).html)
    (expected,) = page.xpath("//form[.//button[@value='skip']]//input[@name='expected']/@value")
    form = {"kind": "envelopeevents", "name": event.name, "what": "skip", "why": "a test"}

    with pytest.raises(PageError):
        await views().act(a_console_request(kube), {**form, "expected": "Failed/AnotherCause"})
    assert requested(kube) == 0

    await views().act(a_console_request(kube), {**form, "expected": expected})
    assert requested(kube) == 1


async def test_a_sender_beyond_those_that_are_read_is_looked_up_when_events_wait() -> None:
    senders = [a_sender_that("True", "KeyAccepted", name=name) for name in ("anna", "ben")]
    zoe = a_sender_that(name="zoe")
    waiting = a_listed_event(1, Phase.AWAITING_CONSENT, "zoe")
    kube = InMemoryKubeClient(*senders, zoe, an_organization_that(), waiting)

    page = parsed((await views().attention(a_console_request(kube))).html)

    assert "Zoe Kofler: one envelope waits for consent" in page.text_content()


async def test_a_check_is_shown_with_a_button_for_the_next_one() -> None:
    organization = an_organization_that()
    line = OrganizationCheckResult(
        id="draft", outcome=CheckOutcome.DEVIATES, found="not-found", message="No such draft."
    )
    check = OrganizationCheck(start_time=NOON, completion_time=NOON, version="25.4", results=(line,))
    status = msgspec.structs.replace(organization.status, check=check)
    kube = InMemoryKubeClient(msgspec.structs.replace(organization, status=status))

    page = parsed((await views().check(a_console_request(kube), "acme")).html)

    assert kube.asked == [("get", "acme")]
    assert "0 as expected, 1 deviate, 0 not testable" in page.text_content()
    assert "No such draft." in page.text_content()
    assert page.xpath("//button[@name='what']/@value") == ["check"]


async def test_an_organization_that_was_never_checked_is_shown_as_unchecked() -> None:
    page = parsed(
        (
            await views().check(a_console_request(InMemoryKubeClient(an_organization_that()), VIEW), "acme")
        ).html
    )
    assert "Nobody has asked for a check yet." in page.text_content()
    assert not page.xpath("//button[@name='what']")


async def test_a_user_who_may_see_nothing_sees_no_check() -> None:
    kube = InMemoryKubeClient(an_organization_that())
    with pytest.raises(PageError) as trouble:
        await views().check(a_console_request(kube, NOBODY), "acme")
    assert (trouble.value.kind, kube.asked) == (ConsoleErrorKind.NOT_ALLOWED, [])


async def test_a_sender_is_found_by_address_behind_the_first_that_are_listed() -> None:
    kube = InMemoryKubeClient(*(a_sender_that(name=f"sender-{number}") for number in range(9)))

    listed = parsed((await views().senders(a_console_request(kube))).html)
    found = parsed((await views().senders(a_console_request(kube, text="sender-8@example"))).html)

    assert len(listed.xpath("//tbody/tr")) == 2
    assert "Page 1 of 2" in listed.text_content()
    assert "There are more" in listed.text_content()
    assert found.xpath("//tbody/tr/@id") == ["sender-8"]


async def test_the_counts_of_the_first_page_agree_with_its_entries() -> None:
    organization = an_organization_that()
    organization = msgspec.structs.replace(
        organization,
        status=msgspec.structs.replace(organization.status, events={"Failed": 1, "Archiving": 7}),
    )
    kube = InMemoryKubeClient(
        organization, a_listed_event(1), a_listed_event(2), a_listed_event(3, Phase.ARCHIVING)
    )

    text = " ".join(parsed((await views().attention(a_console_request(kube))).html).text_content().split())

    assert "2 events failed" in text
    assert "Failed 2" in text
    assert "Archiving 1" in text


async def test_an_event_that_waits_for_a_person_is_on_the_first_page_while_it_is_retried() -> None:
    event = EventBuilder().in_phase(Phase.ARCHIVING, "TagMissing").build()
    page = parsed((await views().attention(a_console_request(InMemoryKubeClient(event)))).html)
    assert "One event waits" in page.text_content()
    assert "tries again automatically" in page.text_content()


@pytest.mark.parametrize("page", ["attention", "events", "senders", "archives", "organizations", "imports"])
async def test_nothing_is_read_for_a_user_who_may_see_nothing(page: str) -> None:
    kube = InMemoryKubeClient(a_listed_event(1))
    with pytest.raises(PageError) as trouble:
        await getattr(event_views() if page == "events" else views(), page)(a_console_request(kube, NOBODY))
    assert trouble.value.kind is ConsoleErrorKind.NOT_ALLOWED
    assert kube.asked == []


@pytest.mark.parametrize(
    ("back", "led"),
    [
        ("/events?phase=Failed&done=skip#x", "/events?phase=Failed&done=retry"),
        ("/events/a-name", "/events/a-name?done=retry"),
        ("//evil.example/x", "/?done=retry"),
        ("https://evil.example", "/?done=retry"),
        ("/\\evil.example", "/?done=retry"),
        ("/a\r\nSet-Cookie: x=y", "/?done=retry"),
    ],
)
async def test_the_way_back_is_where_it_was_and_never_elsewhere(back: str, led: str) -> None:
    kube = InMemoryKubeClient(a_listed_event(1))
    form = {"kind": "envelopeevents", "name": a_listed_event(1).name, "what": "retry", "back": back}

    console_response = await views().act(a_console_request(kube), form)

    assert console_response.location == led


async def test_the_page_says_that_an_action_is_recorded_without_a_kubernetes_event() -> None:
    kube = InMemoryKubeClient(a_listed_event(1))
    form = {"kind": "envelopeevents", "name": a_listed_event(1).name, "what": "retry"}

    console_response = await views().act(a_console_request(kube, VIEW), form)

    assert console_response.location == "/?done=retry&no_event=1"
    page = parsed((await views().attention(a_console_request(kube, done="retry", no_event="1"))).html)
    assert "so there is no Event" in page.text_content()


@pytest.mark.parametrize(
    "form",
    [
        {},
        {"what": "delete", "kind": "envelopeevents", "name": "a"},
        {"what": "retry", "kind": "secrets", "name": "a"},
        {"what": "retry", "kind": "envelopeevents", "name": "../secrets/x"},
        {"what": "retry", "kind": "cause", "organization": "acme"},
    ],
)
async def test_a_form_that_means_nothing_does_nothing(form: dict[str, Any]) -> None:
    kube = InMemoryKubeClient(a_listed_event(1), an_organization_that())
    with pytest.raises(PageError):
        await views().act(a_console_request(kube), form)
    assert kube.asked == []


SEES_LEASES = Rights(FULL.granted | {("list", "leases")})


@pytest.mark.parametrize(
    ("rights", "minutes_ago", "is_said"), [(SEES_LEASES, 5, True), (SEES_LEASES, 0, False), (FULL, 5, False)]
)
async def test_that_no_controller_works_is_said_on_the_first_page_and_on_an_event_in_progress(
    rights: Rights, minutes_ago: int, is_said: bool
) -> None:
    lease = a_shard_lease(0, 1, renewed=NOON - timedelta(minutes=minutes_ago))
    event = a_listed_event(1, Phase.ARCHIVING)
    kube = InMemoryKubeClient(event, lease, a_listed_event(2, Phase.SUCCEEDED))

    first = parsed((await views().attention(a_console_request(kube, rights))).html).text_content()
    page = parsed(
        (await event_views().event(a_console_request(kube, rights), event.name)).html
    ).text_content()
    finished = await event_views().event(a_console_request(kube, rights), a_listed_event(2).name)

    said = "pod-1 renewed Lease/counterfoil-shard-0-of-1 for the last time"
    assert (said in first, said in page) == (is_said, is_said)
    assert said not in finished.html


@pytest.mark.parametrize("page", ["organizations", "archives", "senders", "imports"])
@pytest.mark.parametrize(("minutes_ago", "is_said"), [(5, True), (0, False)])
async def test_a_page_of_conditions_says_that_no_controller_keeps_them_true(
    page: str, minutes_ago: int, is_said: bool
) -> None:
    lease = a_shard_lease(0, 1, renewed=NOON - timedelta(minutes=minutes_ago))
    request = a_console_request(InMemoryKubeClient(an_organization_that(), lease), SEES_LEASES)
    shown = parsed((await getattr(views(), page)(request)).html).text_content()
    assert ("pod-1 renewed Lease/counterfoil-shard-0-of-1 for the last time" in shown) == is_said


class FurtherNamespace(InMemoryKubeClient):
    """A namespace that the release in another one serves."""

    def __init__(self, release: InMemoryKubeClient, *resources: Resource) -> None:
        super().__init__(*resources)
        self.release = release

    def in_namespace(self, namespace: str) -> KubeClient:
        """Return the client of the release."""
        assert namespace == "release"
        return self.release


async def test_in_a_further_namespace_a_page_says_nothing_of_controllers_that_can_not_be_known() -> None:
    acme = an_organization_that()
    named = replace(acme, status=replace(acme.status, release_namespace="release"))
    release = InMemoryKubeClient()
    release.trouble["page"] = Forbidden(403, "Forbidden", "you may not")
    kube = FurtherNamespace(release, named)
    user = dataclasses.replace(a_console_request(kube, SEES_LEASES).user, root="/namespaces/unit-a")
    request = dataclasses.replace(a_console_request(kube, SEES_LEASES), user=user)

    first = parsed((await views().attention(request)).html).text_content()
    assert "No controller" not in first
    assert "You may not list these, so tasks may be missing: leases." in first
    assert "No controller" not in (await views().organizations(request)).html

    release.trouble.clear()
    release.put(a_shard_lease(0, 1, renewed=NOON))
    assert "No task is open." in parsed((await views().attention(request)).html).text_content()


@pytest.mark.parametrize("page", ["attention", "organizations", "archives", "senders", "imports"])
@pytest.mark.parametrize(("served", "is_said"), [(["unit-b"], True), (["unit-a"], False), (None, False)])
async def test_in_a_namespace_that_is_no_longer_listed_each_page_reports_it(
    page: str, served: list[str] | None, is_said: bool
) -> None:
    acme = an_organization_that()
    named = replace(acme, status=replace(acme.status, release_namespace="release"))
    release = InMemoryKubeClient(a_shard_lease(0, 1, renewed=NOON, served=served))
    kube = FurtherNamespace(release, named)
    kube.namespace = "unit-a"
    user = dataclasses.replace(a_console_request(kube, SEES_LEASES).user, root="/namespaces/unit-a")
    request = dataclasses.replace(a_console_request(kube, SEES_LEASES), user=user)

    shown = parsed((await getattr(views(), page)(request)).html).text_content()

    said = ("No controller serves this namespace", "their list does not have the namespace unit-a")
    assert [each in shown for each in said] == [is_said, is_said]
    assert "No controller is active" not in shown


# -- Imports -------------------------------------------------------------------------------------------------


async def test_imports_are_listed_with_their_progress_the_newest_first() -> None:
    older, newer = an_import_that(name="older"), an_import_that("ImportComplete", name="newer")
    metadata = msgspec.structs.replace(older.metadata, creation_timestamp=NOON - timedelta(days=1))
    progress = ImportStatus(
        conditions=older.status.conditions, windows=ImportWindows(done=1, total=3), found=12
    )
    kube = InMemoryKubeClient(
        msgspec.structs.replace(older, metadata=metadata, status=progress),
        msgspec.structs.replace(newer, status=msgspec.structs.replace(newer.status, completion_time=NOON)),
    )

    page = parsed((await views().imports(a_console_request(kube, VIEW))).html)

    assert page.xpath("//tbody/tr/th/a/@href") == ["/imports/newer", "/imports/older"]
    newest, oldest = (row.text_content() for row in page.xpath("//tbody/tr"))
    assert "complete" in newest
    assert all(each in oldest for each in ("in progress", "ImportRunning", "33 %", "12"))


@pytest.mark.parametrize(
    ("kind", "name", "spec"), UNREADABLE_SPECS, ids=[kind.KIND for kind, _, _ in UNREADABLE_SPECS]
)
async def test_an_object_that_can_not_be_read_is_named_on_the_page_of_tasks(
    kind: type[Resource], name: str, spec: dict[str, Any]
) -> None:
    archive, imported = an_archive_that_is("True"), an_import_that(name="old")
    kube = InMemoryKubeClient(an_organization_that(), archive, an_unauthorized_sender(), imported)
    kube.put(a_shard_lease(0, 1, renewed=NOON))
    request = a_console_request(kube, VIEW)
    before = parsed((await views().attention(request)).html).text_content()
    kube.edit(kind, name, {"spec": spec})

    shown = parsed((await views().attention(request)).html).text_content()

    said = f"These can't be read, so nothing works on them: {kind.KIND}/{name}."
    assert (said in before, said in shown, "No task is open." in shown) == (False, True, False)


async def test_tasks_that_may_not_be_read_are_not_said_to_be_none() -> None:
    kube = InMemoryKubeClient(an_organization_that(), a_shard_lease(0, 1, renewed=NOON))
    shown = parsed((await views().attention(a_console_request(kube, EVENTS_ONLY))).html).text_content()
    assert "No task is open." not in shown
    assert "You may not list these, so tasks may be missing: senders, archives, imports, leases." in shown
    shown = parsed((await views().attention(a_console_request(kube, READER))).html).text_content()
    assert "No task is open." in shown
    assert "tasks may be missing" not in shown


@pytest.mark.parametrize(
    ("until", "shown"), [("2026-06-30", "2026-06-30"), ("9999-12-31", "creation of the Import")]
)
async def test_the_page_of_an_import_shows_where_its_span_really_ends(until: str, shown: str) -> None:
    imported = an_import_that()
    imported = replace(imported, spec=replace(imported.spec, until=until))
    request = a_console_request(InMemoryKubeClient(an_organization_that(), imported), VIEW)
    text = parsed((await views().one_import(request, "old-stock")).html).text_content()
    assert shown in text
    assert "9999-12-31" not in text


async def test_an_import_that_waits_for_a_person_is_a_task_at_once() -> None:
    kube = InMemoryKubeClient(
        an_organization_that(), an_import_that("ImportSpanEmpty", "It begins too late.")
    )
    shown = parsed((await views().attention(a_console_request(kube, VIEW))).html).text_content()
    assert "ImportSpanEmpty" in shown
    assert "It begins too late." in shown


async def test_tasks_are_shown_although_the_api_server_has_no_imports() -> None:
    kube = InMemoryKubeClient(an_organization_that("False", "CallbackTokenMissing"))
    kube.remove_definition(Import)
    shown = parsed((await views().attention(a_console_request(kube, VIEW))).html).text_content()
    assert "CallbackTokenMissing" in shown
    assert "tasks may be missing: imports" in shown


@pytest.mark.parametrize(("rights", "links"), [(VIEW, ["/imports/old-stock"]), (EVENTS_ONLY, [])])
async def test_a_task_about_an_import_leads_to_its_page(rights: Rights, links: list[str]) -> None:
    problem = ReportedProblem(
        cause="import/SendersNotSearched",
        reason="SendersNotSearched",
        start_time=NOON,
        count=1,
        examples=("old-stock",),
    )
    kube = InMemoryKubeClient(an_organization_that(problems=(problem,)))

    page = parsed((await views().attention(a_console_request(kube, rights))).html)

    assert "An Import can't continue" in page.text_content()
    assert "old-stock" in page.text_content()
    assert page.xpath("//section//a/@href[contains(., '/imports/')]") == links


async def test_a_task_about_copies_that_were_given_up_has_the_advice_of_their_reason() -> None:
    problem = ReportedProblem("copy/mirror", "CopyGivenUp", NOON, message="OriginalDiffers: It is gone.")
    kube = InMemoryKubeClient(an_organization_that(problems=(problem,)))

    page = parsed((await views().attention(a_console_request(kube, VIEW))).html)

    assert "of the first archive into another folder" in page.text_content()


async def test_more_imports_than_are_listed_are_reported() -> None:
    kube = InMemoryKubeClient(*(an_import_that(name=f"import-{number}") for number in range(4)))
    page = parsed((await views().imports(a_console_request(kube))).html)
    assert len(page.xpath("//tbody/tr")) == LIMITS.listed_imports
    assert "There are more Imports." in page.text_content()


async def test_an_import_shows_its_failures_by_reason_with_links_to_the_events() -> None:
    kube = InMemoryKubeClient(
        an_import_that(),
        an_event_of_import(1, "NameOccupied"),
        an_event_of_import(2, "NameOccupied"),
        an_event_of_import(3, "EnvelopeNotFound"),
        an_event_of_import(4, "ArchivedAndKept", Phase.SUCCEEDED),
        # Of an Import of the same name that was deleted.
        an_event_of_import(5, "PathTooLong", uid="another-uid"),
        a_listed_event(6),
    )

    page = parsed((await views().one_import(a_console_request(kube, VIEW), "old-stock")).html)

    links = {each.get("href"): each.text for each in page.xpath("//a[contains(@href, 'reason=')]")}
    by_reason = "/events?imported=old-stock&phase=Failed&reason="
    assert links == {f"{by_reason}NameOccupied": "2", f"{by_reason}EnvelopeNotFound": "1"}


async def test_an_import_shows_where_its_report_is() -> None:
    kube = InMemoryKubeClient(an_import_that())
    page = parsed((await views().one_import(a_console_request(kube), "old-stock")).html)
    assert not page.xpath("//dt[.='Report']")

    where = "s3://contracts/counterfoil-imports/acme/old-stock-16f49df5"
    parts = ImportReportParts(
        number=1, location=f"{where}/part-00001-5ba8db0c43a75ddf.jsonl", sha256="0" * 64
    )
    kube = InMemoryKubeClient(an_import_that(report=where, report_parts=parts))
    page = parsed((await views().one_import(a_console_request(kube), "old-stock")).html)
    assert page.xpath("string(//dt[.='Report']/following-sibling::dd[1])") == f"one part in {where}"


async def test_an_import_with_more_failures_than_are_read_reports_it() -> None:
    failed = (an_event_of_import(number, "NameOccupied") for number in range(LIMITS.surveyed + 1))
    kube = InMemoryKubeClient(an_import_that(), *failed)

    page = parsed((await views().one_import(a_console_request(kube), "old-stock")).html)

    assert "There are more failed events than were read" in page.text_content()


async def test_failures_that_were_not_read_are_reported_also_without_a_table() -> None:
    # The first that are listed are of an Import of the same name that was deleted.
    earlier = (an_event_of_import(number, "PathTooLong", uid="a") for number in range(LIMITS.surveyed))
    mine = an_event_of_import(LIMITS.surveyed, "NameOccupied")
    kube = InMemoryKubeClient(an_import_that(), *earlier, mine)

    page = parsed((await views().one_import(a_console_request(kube), "old-stock")).html)

    assert "There are more failed events than were read" in page.text_content()
    assert page.xpath("//a[contains(@href, 'reason=')]") == []


async def test_an_import_names_each_sender_that_was_not_searched_and_why() -> None:
    entries = (
        ImportSender(name="anna", reason="TokenRejected", message="401 from eSAW."),
        ImportSender(name="ben", searched=True, windows_done=3),
        ImportSender(name="carla", searched=True, doubt="The answer may be cut off."),
        ImportSender(name="dora", reason="SenderSuspended"),
        ImportSender(name="emil"),
    )
    kube = InMemoryKubeClient(an_import_that("SendersNotSearched", senders=entries))

    page = parsed((await views().one_import(a_console_request(kube), "old-stock")).html)

    assert "2 of 5 senders were searched." in page.text_content()
    named = page.xpath("//a[contains(@href, '/senders?text=')]/text()")
    # Two rows of a table at these limits; those that were not searched come first.
    assert named == ["anna", "dora"]
    assert "401 from eSAW." in page.text_content()
    assert "and one other sender" in page.text_content()
    assert "What to do:" in page.xpath("string(//section[@aria-labelledby='state'])")


async def test_an_import_shows_its_rate_and_the_senders_with_the_most_envelopes() -> None:
    entries = tuple(ImportSender(name=f"s{each}", found=each) for each in range(5))
    kube = InMemoryKubeClient(an_import_that(senders=entries, rate=1200))

    page = parsed((await views().one_import(a_console_request(kube), "old-stock")).html)

    assert "1200 envelopes per hour" in page.text_content()
    table = page.xpath("//h2[text()='Envelopes by sender']/following-sibling::table[1]//tr")
    # Two rows of a table at these limits, and one of all the others.
    assert [[cell.text_content() for cell in each] for each in table[1:]] == [
        ["s4", "4"],
        ["s3", "3"],
        ["All others", "3"],
    ]


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ({"requestsPerMinute": 100}, "3 hours"),
        ({}, "eSignAnyWhere and the archive decide it"),
        (None, "eSignAnyWhere and the archive decide it"),
    ],
)
async def test_a_dry_run_shows_its_estimate(limits: dict[str, int] | None, said: str) -> None:
    sample = ImportSample(envelopes=2, unreadable=1, files=4, bytes=2048)
    imported = an_import_that("ImportComplete", found=2000, sample=sample)
    imported = msgspec.structs.replace(imported, spec=msgspec.structs.replace(imported.spec, dry_run=True))
    organizations = [] if limits is None else [an_organization_that(limits=limits)]
    kube = InMemoryKubeClient(imported, *organizations)

    page = parsed((await views().one_import(a_console_request(kube), "old-stock")).html)

    rows = page.xpath("//h2[text()='Estimate']/following-sibling::dl[1]/dd")
    assert [each.text_content() for each in rows] == [
        "2000",
        "about 4000, 2.0 MiB",
        "2 · one could not be measured",
        said,
    ]


async def test_an_import_that_archives_shows_no_estimate() -> None:
    kube = InMemoryKubeClient(an_import_that(found=2000), an_organization_that())
    page = parsed((await views().one_import(a_console_request(kube), "old-stock")).html)
    assert page.xpath("//h2[text()='Estimate']") == []


@pytest.mark.parametrize(
    ("rights", "is_shown"), [(VIEW, True), (Rights(frozenset({("list", "imports")})), False)]
)
async def test_an_import_shows_the_command_that_asks_all_senders_without_a_key(
    rights: Rights, *, is_shown: bool
) -> None:
    entries = tuple(ImportSender(name=each, reason="ConsentRequired") for each in ("anna", "ben"))
    kube = InMemoryKubeClient(
        an_import_that("SendersNotSearched", senders=entries),
        an_organization_that(),
        a_sender_that(name="anna"),
        a_sender_that(name="ben"),
    )

    page = parsed((await views().one_import(a_console_request(kube, rights), "old-stock")).html)

    command = f"kubectl -n {kube.namespace} label senders anna ben counterfoil.dev/request=ask"
    assert (page.xpath("//pre/text()") == [command]) is is_shown
    assert ("sends the consent mail to 2 senders" in page.text_content()) is is_shown


def a_stored_sender(name: str) -> Sender:
    """A Sender without a key, as the API server has it."""
    sender = a_sender_that(name=name)
    metadata = msgspec.structs.replace(sender.metadata, resource_version="1")
    return msgspec.structs.replace(sender, metadata=metadata)


async def test_one_click_asks_all_senders_whose_keys_an_import_lacks() -> None:
    entries = tuple(ImportSender(name=each, reason="ConsentRequired") for each in ("anna", "ben"))
    kube = InMemoryKubeClient(
        an_import_that("SendersNotSearched", senders=entries),
        an_organization_that(),
        *map(a_stored_sender, ("anna", "ben", "carl")),
    )
    page = parsed((await views().one_import(a_console_request(kube), "old-stock")).html)
    (button,) = page.xpath("//button[@value='ask']")
    assert button.text_content() == "Send the consent mail to 2 senders"
    form = {each.name: each.value for each in button.xpath("ancestor::form//input")}

    response = await views().act(a_console_request(kube), {**form, "what": "ask"})

    assert response.location.endswith("done=ask")
    labels = {name: raw["metadata"].get("labels", {}) for (plural, name), raw in kube.objects.items()}
    asked = {name for name, each in labels.items() if each.get("counterfoil.dev/request") == "ask"}
    assert asked == {"anna", "ben"}


async def test_a_sender_that_can_not_be_asked_stops_no_other() -> None:
    entries = tuple(ImportSender(name=each, reason="ConsentRequired") for each in ("anna", "ben"))
    senders = map(a_stored_sender, ("anna", "ben"))
    kube = InMemoryKubeClient(
        an_import_that("SendersNotSearched", senders=entries), an_organization_that(), *senders
    )
    kube.fail("patch", Forbidden(403, "Forbidden", "no"))
    form = {"kind": "imports", "name": "old-stock", "what": "ask", "back": "/imports"}
    with pytest.raises(Forbidden):
        await views().act(a_console_request(kube), form)
    asked = [
        name
        for (plural, name), raw in kube.objects.items()
        if plural == "senders" and raw["metadata"].get("labels", {}).get("counterfoil.dev/request")
    ]
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("is_suspended", "is_complete", "offered"),
    [(False, False, "suspend"), (True, False, "resume"), (False, True, None)],
)
async def test_an_import_is_paused_and_resumed_on_its_page(
    is_suspended: bool, is_complete: bool, offered: str | None
) -> None:
    imported = an_import_that(completion_time=NOON if is_complete else None)
    spec = msgspec.structs.replace(imported.spec, suspend=is_suspended)
    kube = InMemoryKubeClient(msgspec.structs.replace(imported, spec=spec))
    page = parsed((await views().one_import(a_console_request(kube), "old-stock")).html)
    assert page.xpath("//form[@action='/act']//button/@value") == ([offered] if offered else [])
    if offered is None:
        return

    form = {"kind": "imports", "name": "old-stock", "what": offered, "why": "a test", "back": "/imports"}
    response = await views().act(a_console_request(kube), form)

    raw = kube.objects["imports", "old-stock"]
    assert response.location == f"/imports?done={offered}"
    assert raw["spec"]["suspend"] is not is_suspended
    assert [(each.who, each.what, each.why) for each in audit_entries(raw["metadata"]["annotations"])] == [
        ("jane@example.com", offered, "a test")
    ]


async def test_a_person_who_may_only_see_imports_gets_no_button_and_no_event() -> None:
    kube = InMemoryKubeClient(an_import_that(), an_event_of_import(1, "NameOccupied"))
    only_imports = Rights(frozenset({("list", "imports")}))

    page = parsed((await views().one_import(a_console_request(kube, only_imports), "old-stock")).html)

    assert not page.xpath("//form[@action='/act']")
    assert not page.xpath("//a[contains(@href, '/events')]")
    assert kube.asked == [("get", "old-stock")]
