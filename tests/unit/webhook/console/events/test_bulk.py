"""One action on many events: counted, confirmed, bounded, and with a result for each."""

import dataclasses
from typing import Any

import lxml.html
import pytest
from msgspec.structs import replace

from counterfoil.i18n.catalogue import CatalogueName, load_catalogue
from counterfoil.kube.errors import Forbidden, NotFound, Rejected
from counterfoil.resources import EnvelopeEvent, EventCopy, LocalObjectReference, Organization, Phase
from counterfoil.resources.audit_annotation import audit_entries
from counterfoil.resources.routes import CopySpec
from tests.support.builders import NOON, AClock, EventBuilder
from tests.support.fakes.kube import InMemoryKubeClient, SmallPages
from tests.support.scenes.console_parts import FULL, VIEW, an_authenticated_user, an_organization_that
from webhook.console.access import Rights
from webhook.console.actions import ActionService
from webhook.console.errors import ConsoleErrorKind
from webhook.console.events.views import EventViews
from webhook.console.limits import ConsoleLimits
from webhook.console.rendering import ConsoleRenderer
from webhook.console.view_base import ConsoleRequest
from webhook.http_server.errors import HttpErrorKind, PageError

LIMITS = ConsoleLimits(
    affected_events=5, batch_rows=4, writers=1, bulk_failures=2, searched=8, selected_events=6
)
RENDERER = ConsoleRenderer(LIMITS)


def an_event(number: int, phase: Phase = Phase.FAILED, reason: str | None = "NameOccupied") -> EnvelopeEvent:
    name = f"{number:08x}-4b1d-4c58-9a57-6d1f0a3b2c4d-0123456789abcdef"
    return EventBuilder().named(name).in_phase(phase, reason).build()


def asked(kube: InMemoryKubeClient) -> dict[str, str]:
    """The request on each event that has one."""
    labels = {name: raw["metadata"].get("labels", {}) for (_, name), raw in kube.objects.items()}
    found = {name: each.get("counterfoil.dev/request") for name, each in labels.items()}
    return {name: request for name, request in found.items() if request is not None}


async def sent(kube: InMemoryKubeClient, **form: str) -> lxml.html.HtmlElement:
    return await sent_by(FULL, kube, form)


async def sent_by(
    rights: Rights, kube: InMemoryKubeClient, form: dict[str, str], limits: ConsoleLimits = LIMITS
) -> lxml.html.HtmlElement:
    clock = AClock()
    views = EventViews(RENDERER, ActionService(clock), clock, limits=limits)
    user = an_authenticated_user(rights, kube)
    request = ConsoleRequest(user, load_catalogue(CatalogueName.CONSOLE, "en"), {}, "/bulk")
    return lxml.html.document_fromstring((await views.bulk(request, form)).html)


def selected(*events: EnvelopeEvent) -> dict[str, str]:
    return {f"e-{each.name}": "1" for each in events}


def confirmation(page: lxml.html.HtmlElement, **more: str) -> dict[str, str]:
    """The values that the form of a confirmation sends."""
    (form,) = page.xpath("//form[@action='/bulk']")
    given = {each.get("name"): each.get("value") or "" for each in form.xpath(".//input")}
    (button,) = form.xpath(".//button")
    return {**given, button.get("name"): button.get("value"), **more}


async def test_a_selection_is_counted_first_and_changed_when_it_is_confirmed() -> None:
    events = [an_event(1), an_event(2), an_event(3, Phase.SUCCEEDED)]
    kube = InMemoryKubeClient(an_organization_that(), an_event(4), *events)

    page = await sent(kube, do="retry-selected", **selected(*events))

    assert page.xpath("string(//h1)") == "Retry 2 events?"
    assert "One further event stays as it is" in page.text_content()
    assert asked(kube) == {}

    page = await sent(kube, **confirmation(page, why="the folder is there"))

    assert "A retry was requested for 2 events." in page.text_content()
    assert asked(kube) == {events[0].name: "retry", events[1].name: "retry"}
    annotations = kube.stored(events[0].name).metadata.annotations
    assert annotations["counterfoil.dev/request-reason"] == "the folder is there"
    (act,) = audit_entries(annotations)
    assert (act.who, act.what, act.why) == ("jane@example.com", "retry", "the folder is there")
    (told,) = kube.announced
    assert told["regarding"]["name"] == "acme"
    assert "2 events" in told["note"]


async def test_the_confirmation_of_a_retry_says_how_many_skips_of_persons_it_takes_back() -> None:
    skipped = (an_event(each, Phase.SKIPPED, "SkippedByRequest") for each in (1, 2))
    by_a_person = [replace(each, status=replace(each.status, skipped_time=NOON)) for each in skipped]
    # The retry of a failed event leaves the skip of before.
    failed = replace(an_event(3), status=replace(an_event(3).status, skipped_time=NOON))
    events = [*by_a_person, failed]
    page = await sent(InMemoryKubeClient(*events), do="retry-selected", **selected(*events))
    assert "A person skipped 2 of them." in page.text_content()
    page = await sent(InMemoryKubeClient(failed), do="retry-selected", **selected(failed))
    assert "A person skipped" not in page.text_content()


async def test_all_of_a_filter_is_what_the_filter_finds_up_to_the_bound() -> None:
    wanted = [an_event(number) for number in range(7)]
    kube = InMemoryKubeClient(an_organization_that(), an_event(9, reason="SenderUnknown"), *wanted)

    page = await sent(kube, do="skip-all", filter="reason=NameOccupied&token=4")

    assert page.xpath("string(//h1)") == "Skip 5 events?"
    assert "More events match. One click changes 5 of them" in page.text_content()
    assert page.xpath("//form[@action='/bulk']//button/@class") == ["danger"]

    page = await sent(kube, **confirmation(page, why="a test"))

    assert len(asked(kube)) == 5
    assert set(asked(kube).values()) == {"skip"}
    assert "More events match: repeat the action." in page.text_content()


async def test_a_filter_that_finds_nothing_stops_at_the_bound_of_events_that_are_read() -> None:
    kube = InMemoryKubeClient(*(an_event(number) for number in range(20)))

    page = await sent(kube, do="retry-all", filter="reason=SenderUnknown")

    assert kube.asked.count(("page", "envelopeevents")) == 2
    assert "No event to change" in page.text_content()


async def test_more_events_than_were_confirmed_are_confirmed_again() -> None:
    kube = InMemoryKubeClient(an_organization_that(), an_event(1))
    form = confirmation(await sent(kube, do="skip-all", filter="phase=Failed"), why="a test")
    kube.put(an_event(2))

    page = await sent(kube, **form)

    assert page.xpath("string(//h1)") == "Skip 2 events?"
    assert page.xpath("//input[@name='why']/@value") == ["a test"]
    assert asked(kube) == {}


async def test_a_skip_of_other_events_than_were_confirmed_is_confirmed_again() -> None:
    kube = InMemoryKubeClient(an_organization_that(), an_event(1), an_event(2))
    form = confirmation(await sent(kube, do="skip-all", filter="phase=Failed"), why="a test")
    kube.put(an_event(1, Phase.SUCCEEDED))
    kube.put(an_event(3))

    page = await sent(kube, **form)

    assert page.xpath("string(//h1)") == "Skip 2 events?"
    assert asked(kube) == {}
    await sent(kube, **confirmation(page))
    assert asked(kube) == {an_event(2).name: "skip", an_event(3).name: "skip"}


@pytest.mark.parametrize("scope", ["all", "selected"])
@pytest.mark.parametrize("action", ["retry", "skip"])
async def test_events_that_failed_for_another_cause_since_are_confirmed_again(
    action: str, scope: str
) -> None:
    kube = InMemoryKubeClient(an_organization_that(), an_event(1), an_event(2))
    both = selected(an_event(1), an_event(2))
    page = await sent(kube, do=f"{action}-{scope}", filter="phase=Failed", **both)
    form = confirmation(page, why="a test")
    kube.put(an_event(1, reason="SenderUnknown"))

    page = await sent(kube, **form)

    assert page.xpath("string(//h1)") == f"{action.title()} 2 events?"
    assert asked(kube) == {}
    await sent(kube, **confirmation(page))
    assert asked(kube) == {an_event(1).name: action, an_event(2).name: action}


@pytest.mark.parametrize("action", ["retry", "skip"])
async def test_an_event_that_changes_during_its_write_is_skipped_and_counted(action: str) -> None:
    kube = InMemoryKubeClient(an_organization_that(), an_event(1), an_event(2))
    form = confirmation(await sent(kube, do=f"{action}-all", filter="phase=Failed"), why="a test")
    first, changed = an_event(1).name, {"status": {"reason": "SenderUnknown"}}
    kube.just_before("patch", lambda: kube.edit(EnvelopeEvent, first, changed))

    page = await sent(kube, **form)

    assert asked(kube) == {an_event(2).name: action}
    assert "One event had changed in the meantime" in page.text_content()


async def test_a_skip_says_which_state_was_shown() -> None:
    kube = InMemoryKubeClient(an_organization_that(), an_event(1))
    await sent(kube, **confirmation(await sent(kube, do="skip-all", filter="phase=Failed"), why="a test"))
    annotations = kube.stored(an_event(1).name).metadata.annotations
    assert annotations["counterfoil.dev/request-expected"] == "Failed/NameOccupied"


async def test_an_event_that_is_refused_is_named_with_the_cause_and_stops_no_other() -> None:
    events = [an_event(number) for number in range(3)]
    kube = InMemoryKubeClient(an_organization_that(), *events)
    form = confirmation(await sent(kube, do="retry-selected", **selected(*events)))
    kube.fail("patch", Rejected(422, "Invalid", "a policy denied it"), NotFound(404, "NotFound", "gone"))

    page = await sent(kube, **form)

    assert "A retry was requested for one event." in page.text_content()
    assert "One event had changed in the meantime" in page.text_content()
    (failure,) = page.xpath("//h2/following-sibling::ul/li")
    assert failure.xpath("./a/@href") == [f"/events/{events[0].name}"]
    assert "a policy denied it" in failure.text_content()


async def test_after_too_many_failures_the_rest_is_not_tried() -> None:
    events = [an_event(number) for number in range(5)]
    kube = InMemoryKubeClient(an_organization_that(), *events)
    form = confirmation(await sent(kube, do="retry-selected", **selected(*events)))
    kube.fail("patch", *[Forbidden(403, "Forbidden", "no")] * 5)

    page = await sent(kube, **form)

    assert "3 events were not tried" in page.text_content()
    assert len([each for each in kube.asked if each[0] == "patch"]) == 2


async def test_a_skip_without_its_reason_does_nothing() -> None:
    kube = InMemoryKubeClient(an_organization_that(), an_event(1))
    form = confirmation(await sent(kube, do="skip-selected", **selected(an_event(1))))

    with pytest.raises(PageError) as trouble:
        await sent(kube, **{**form, "why": "  "})

    assert trouble.value.kind is ConsoleErrorKind.REASON_MISSING
    assert asked(kube) == {}


async def test_an_empty_selection_gets_a_message() -> None:
    page = await sent(InMemoryKubeClient(an_event(1)), do="retry-selected", filter="phase=Failed")
    assert "Select at least one event in the list." in page.text_content()
    assert not page.xpath("//form[@action='/bulk']")


async def test_a_read_only_user_reads_nothing_by_it() -> None:
    kube = InMemoryKubeClient(an_event(1))
    with pytest.raises(PageError) as trouble:
        await sent_by(VIEW, kube, {"do": "retry-all", "filter": "phase=Failed"})
    assert (trouble.value.kind, kube.asked) == (ConsoleErrorKind.NOT_ALLOWED, [])


@pytest.mark.parametrize(
    ("form", "kind"),
    [
        ({}, HttpErrorKind.LINK_BROKEN),
        ({"do": "suspend-all"}, HttpErrorKind.LINK_BROKEN),
        ({"do": "retry"}, HttpErrorKind.LINK_BROKEN),
        ({"do": "retry-all", "filter": "phase=Odd"}, HttpErrorKind.LINK_BROKEN),
        ({"do": "retry-all", "filter": "phase=Failed&phase=Skipped"}, HttpErrorKind.LINK_BROKEN),
        ({"do": "retry-selected", "e-../secrets/x": "1"}, HttpErrorKind.LINK_BROKEN),
        ({"do": "retry-selected", **selected(*map(an_event, range(7)))}, HttpErrorKind.TOO_LARGE),
        ({"do": "retry-all", "why": "x" * 301}, HttpErrorKind.TOO_LARGE),
    ],
)
async def test_a_form_that_is_wrong_changes_nothing(form: dict[str, Any], kind: HttpErrorKind) -> None:
    kube = InMemoryKubeClient(an_event(1))
    with pytest.raises(PageError) as trouble:
        await sent(kube, **form)
    assert trouble.value.kind is kind
    assert asked(kube) == {}


@pytest.mark.parametrize(
    ("phase", "reason", "retry", "skip"),
    [
        (Phase.PENDING, None, False, True),
        (Phase.PENDING, "EsawUnreachable", True, True),
        (Phase.AWAITING_CONSENT, "TokenRejected", True, True),
        (Phase.FAILED, "NameOccupied", True, True),
        (Phase.SKIPPED, "UnexpectedStatus", True, True),
        (Phase.SUCCEEDED, "ArchivedAndKept", True, True),
        (Phase.SUCCEEDED, "ArchivedAndDeleted", False, False),
    ],
)
async def test_an_action_is_for_events_that_it_can_change(
    phase: Phase, reason: str | None, retry: bool, skip: bool
) -> None:
    event = an_event(1, phase, reason)
    for what, is_suited in (("retry", retry), ("skip", skip)):
        page = await sent(InMemoryKubeClient(event), do=f"{what}-selected", **selected(event))
        assert bool(page.xpath("//form[@action='/bulk']")) is is_suited, what


@pytest.mark.parametrize("is_for_filter", [True, False])
async def test_the_events_of_one_click_have_a_bounded_size(is_for_filter: bool) -> None:
    events = [an_event(number) for number in range(4)]
    kube = SmallPages(an_organization_that(), *events)
    form = {"do": "retry-all", "filter": "phase=Failed"}
    if not is_for_filter:
        form = {"do": "retry-selected", **selected(*events)}
    page = await sent_by(FULL, kube, form, dataclasses.replace(LIMITS, kept_bytes=500))
    assert "More events match." in page.text_content()
    assert confirmation(page)["confirmed"] in ("1", "2")


async def test_a_click_on_the_events_of_an_address_says_that_not_all_senders_could_be_read() -> None:
    kube = InMemoryKubeClient(an_organization_that(), an_event(1))
    rights = Rights(FULL.granted - {("list", "senders")})
    page = await sent_by(rights, kube, {"do": "retry-all", "filter": "text=Kofler"})
    assert "Not all senders could be read" in page.text_content()


WORM = LocalObjectReference(name="worm")


def an_archived_event(number: int, *copies: EventCopy) -> EnvelopeEvent:
    name = f"{number:08x}-4b1d-4c58-9a57-6d1f0a3b2c4d-0123456789abcdef"
    built = EventBuilder().named(name).archived().with_condition("Cleaned")
    return built.status(phase=Phase.SUCCEEDED, reason="ArchivedAndDeleted", copies=copies).build()


def an_organization_with_a_copy() -> Organization:
    return an_organization_that(copies=(CopySpec(archive_ref=WORM),))


@pytest.mark.parametrize("scope", ["selected", "all"])
async def test_missing_copies_are_asked_for_where_one_is_missing(scope: str) -> None:
    verified = EventCopy(ref=WORM, manifest="s3://worm/counterfoil.json", verified_time=NOON)
    lacking, complete, failed = an_archived_event(1), an_archived_event(2, verified), an_event(3)
    kube = InMemoryKubeClient(an_organization_with_a_copy(), lacking, complete, failed)

    page = await sent(kube, do=f"copy-{scope}", **selected(lacking, complete, failed))

    assert page.xpath("string(//h1)") == "Make missing copies of one event?"
    assert "2 further events stay as they are" in page.text_content()
    assert "are made from the first archive" in page.text_content()
    assert kube.asked.count(("get", "acme")) == 1
    assert asked(kube) == {}

    page = await sent(kube, **confirmation(page, why="the archive is new"))

    assert "The copies of one event were requested." in page.text_content()
    assert asked(kube) == {lacking.name: "copy"}
    (act,) = audit_entries(kube.stored(lacking.name).metadata.annotations)
    assert (act.who, act.what, act.why) == ("jane@example.com", "copy", "the archive is new")
    (told,) = kube.announced
    assert told["reason"] == "CopyRequested"


async def test_copies_of_other_events_than_were_confirmed_are_confirmed_again() -> None:
    kube = InMemoryKubeClient(an_organization_with_a_copy(), an_archived_event(1))
    form = confirmation(await sent(kube, do="copy-all", filter="phase=Succeeded"))
    kube.put(an_archived_event(2))

    page = await sent(kube, **form)

    assert page.xpath("string(//h1)") == "Make missing copies of 2 events?"
    assert asked(kube) == {}


@pytest.mark.parametrize("organizations", [(), (an_organization_that(),)], ids=["none", "without copies"])
async def test_without_copies_in_the_organization_there_is_nothing_to_ask_for(
    organizations: tuple[Organization, ...],
) -> None:
    kube = InMemoryKubeClient(*organizations, an_archived_event(1))
    page = await sent(kube, do="copy-selected", **selected(an_archived_event(1)))
    assert "No event to change" in page.text_content()


async def test_who_may_not_read_the_organization_gets_no_wrong_count() -> None:
    kube = InMemoryKubeClient(an_organization_with_a_copy(), an_archived_event(1))
    form = {"do": "copy-all", "filter": "phase=Succeeded"}
    kube.fail("get", Forbidden(403, "Forbidden", "organizations is forbidden"))
    with pytest.raises(Forbidden):
        await sent_by(FULL, kube, form)
    assert asked(kube) == {}
