"""
Rendering: nothing that anybody wrote becomes HTML, every language says the same, and a page runs nothing but
our files.
"""

from collections import Counter
from itertools import cycle
from typing import Any

import lxml.html
import pytest
from msgspec.structs import replace

from counterfoil.esaw_check.facts import FactId
from counterfoil.i18n import attention
from counterfoil.i18n.attention import ClusterSnapshot
from counterfoil.i18n.catalogue import LANGUAGES, CatalogueName, load_catalogue
from counterfoil.i18n.import_estimate import estimate_of
from counterfoil.i18n.key_advice import key_advice
from counterfoil.i18n.reasons import find_reason
from counterfoil.resources import (
    Activity,
    Attempt,
    AttemptOutcome,
    EnvelopeSummary,
    FiledDocument,
    FileKind,
    HourlyActivity,
    LastError,
    LastRequest,
    LocalObjectReference,
    Organization,
    OrganizationStatus,
    Phase,
    RequestOutcome,
    SenderReference,
)
from counterfoil.resources.audit_annotation import AuditEntry, with_audit_entry
from counterfoil.resources.envelopeevent import state_of
from counterfoil.resources.imports import (
    ImportGroup,
    ImportReportParts,
    ImportSample,
    ImportSender,
    ImportWindows,
    last_day,
)
from counterfoil.resources.lease import UnheldShard
from counterfoil.resources.organization import (
    CallbackURLs,
    CheckOutcome,
    OrganizationCheck,
    OrganizationCheckResult,
)
from tests.support.builders import ANNA, NOON, EventBuilder
from tests.support.markup import NASTY
from tests.support.scenes.console_parts import (
    FULL,
    VIEW,
    a_sender_that,
    an_archive_that,
    an_authenticated_user,
    an_import_that,
    an_organization_that,
)
from webhook.console import charts
from webhook.console.access import Rights
from webhook.console.actions import Action
from webhook.console.errors import ConsoleErrorKind
from webhook.console.events import filters
from webhook.console.events.bulk import confirmation
from webhook.console.events.search import FoundEvents
from webhook.console.events.suited import can_retry, can_skip
from webhook.console.events.timeline import timeline_entries
from webhook.console.imports import ImportFailures, ImportState, senders_of, state_of_import
from webhook.console.limits import ConsoleLimits
from webhook.console.objects import SenderSearch, page_of
from webhook.console.rendering import POLICY, ConsoleRenderer
from webhook.http_server.errors import ErrorKind, HttpErrorKind

RENDERER = ConsoleRenderer(ConsoleLimits())


def shown(
    template: str, language: str = "en", rights: Rights = FULL, here: str = "/", **values: Any
) -> lxml.html.HtmlElement:
    html = RENDERER.page(
        template,
        load_catalogue(CatalogueName.CONSOLE, language),
        NOON,
        auth_user=an_authenticated_user(rights),
        here=here,
        **{
            "absence": None,
            "is_cut": False,
            "unread": (),
            "unreadable": (),
            "is_controller_unknown": False,
            **values,
        },
    )
    return lxml.html.document_fromstring(html)


def an_event(text: str = "x", phase: Phase = Phase.FAILED, reason: str = "NameOccupied") -> Any:
    return (
        EventBuilder()
        .with_parameters(orderNo=text)
        .in_phase(phase, reason)
        .with_condition("Archived", "False", reason="NameOccupied")
        .status(
            message=text,
            last_error=LastError(reason="ArchiveFull", message=text + "!", time=NOON),
            attempt_history=tuple(
                Attempt(
                    phase=Phase.ARCHIVING,
                    start_time=NOON,
                    duration_seconds=7,
                    outcome=each,
                    reason="ArchiveFull",
                )
                for each in AttemptOutcome
            ),
            last_request=LastRequest(
                request="retry", by=text, reason=text, outcome=RequestOutcome.DONE, handled_time=NOON
            ),
            envelope=EnvelopeSummary(
                name=text, status=text, sender_ref=SenderReference(name="anna", user_id=ANNA)
            ),
            documents=(
                FiledDocument(file_id="1", kind=FileKind.DOCUMENT, file_name=text, size=3000, location=text),
            ),
        )
        .build()
    )


def event_page(
    text: str = "x", language: str = "en", rights: Rights = FULL, **more: Any
) -> lxml.html.HtmlElement:
    told = {"eventTime": NOON.isoformat(), "reason": "R", "note": text}
    return of_event(an_event(text, **more), told, language=language, rights=rights)


def of_event(
    event: Any, *told: dict[str, str], first: int = 0, language: str = "en", rights: Rights = FULL
) -> lxml.html.HtmlElement:
    return shown(
        "event.html",
        language,
        rights,
        event=event,
        first=first,
        sender=None,
        newer=None,
        absence=UnheldShard(),
        can_retry=can_retry(event),
        can_skip=can_skip(event),
        can_copy=False,
        copies=event.status.copies,
        given_up=(),
        unplanned_copies=(),
        state=state_of(event),
        moments=timeline_entries(event, told, now=NOON),
    )


def events_page(
    text: str = "x", language: str = "en", rights: Rights = FULL, **values: Any
) -> lxml.html.HtmlElement:
    page: dict[str, Any] = {
        "events": (an_event(text),),
        "filter": filters.EventFilter(
            phase="Failed", text=text, token="t", refused=dict.fromkeys(("since", "reason"), text)
        ),
        "senders": (a_sender_that(),),
    }
    return shown(
        "events.html",
        language,
        rights,
        **(page | values),
        found=FoundEvents((), "next-page", are_all_senders_known=True, is_restarted=True, looked=7),
        order=None,
        orders=tuple(filters.EventOrder),
        is_whole=False,
        senders_by_name={"anna": a_sender_that()},
        count_time=NOON,
        organizations=(an_organization_that(),),
        counts={"Failed": 3},
        has_copies=True,
        phases=tuple(Phase),
        ages=tuple(filters.AGES),
    )


def attention_page(text: str = "x", language: str = "en", rights: Rights = FULL) -> lxml.html.HtmlElement:
    snapshot = ClusterSnapshot(
        organizations=(
            an_organization_that(),
            an_organization_that("False", "CallbackTokenMissing", name="globex"),
        ),
        senders=(a_sender_that(), a_sender_that(reason="SealKeyUnknown", name="ben")),
        archives=(an_archive_that(),),
        failed=(an_event(text), an_event(text)),
    )
    return shown(
        "attention.html",
        language,
        rights,
        entries=attention.attention_items(snapshot),
        organizations=snapshot.organizations,
        archives=snapshot.archives,
        of="",
        charts=charts.overview([busy()]),
        counts={"Failed": 3},
        confirmation=confirmation,
    )


@pytest.mark.parametrize("action", Action)
@pytest.mark.parametrize("language", LANGUAGES)
def test_the_last_action_about_an_archive_is_shown_in_words(language: str, action: Action) -> None:
    archive = an_archive_that()
    annotations = with_audit_entry({}, AuditEntry("admin", action, NOON, "a reason"))
    acted = replace(archive, metadata=replace(archive.metadata, annotations=annotations))
    said = shown("archives.html", language, FULL, archives=(acted,)).text_content()
    assert load_catalogue(CatalogueName.CONSOLE, language).say("acted", action) in said


def test_a_suspended_organization_shows_who_suspended_it_and_why() -> None:
    acme = an_organization_that()
    act = AuditEntry("admin", "suspend", NOON, "update of eSAW")
    held = replace(
        acme,
        metadata=replace(acme.metadata, annotations=with_audit_entry({}, act)),
        spec=replace(acme.spec, suspend=True),
    )
    page = shown(
        "attention.html",
        "en",
        FULL,
        entries=(),
        organizations=(held,),
        archives=(),
        of="",
        charts=charts.overview([busy()]),
        counts={},
        confirmation=confirmation,
    )
    said = page.text_content()
    assert "admin" in said
    assert "update of eSAW" in said


def tasks_page(*items: attention.AttentionItem) -> lxml.html.HtmlElement:
    return shown(
        "attention.html",
        entries=items,
        organizations=(an_organization_that(),),
        archives=(),
        of="",
        charts=charts.overview([busy()]),
        counts={},
        confirmation=confirmation,
    )


@pytest.mark.parametrize(
    ("kind", "path"),
    [(attention.AttentionKind.ORGANIZATION, "events"), (attention.AttentionKind.IMPORT, "imports")],
)
def test_the_name_of_an_example_chooses_no_other_page(kind: attention.AttentionKind, path: str) -> None:
    item = attention.AttentionItem(
        kind=kind, name="acme", organization="acme", reason="EsawUnreachable", examples=("../x?y#z",)
    )
    (link,) = tasks_page(item).xpath("//a[contains(@href, 'y%23z')]/@href")
    assert link.endswith(f"/{path}/..%2Fx%3Fy%23z")


@pytest.mark.parametrize(
    ("reason", "colour"), [("EsawUnreachable", "wait"), ("EsawRedirects", "bad"), ("SettingsInvalid", "bad")]
)
def test_only_what_needs_a_person_is_red(reason: str, colour: str) -> None:
    page = tasks_page(
        attention.AttentionItem(
            kind=attention.AttentionKind.ORGANIZATION, name="acme", organization="acme", reason=reason
        )
    )
    (card,) = page.xpath("//section[@id='organization-acme-acme']")
    assert card.get("class") == f"card {colour}"
    says_what_to_do = "What to do:" in card.text_content()
    assert says_what_to_do is ("No action is necessary" not in card.text_content())


@pytest.mark.parametrize(("reason", "is_offered"), [("NameOccupied", True), ("EnvelopeDeleted", False)])
def test_a_retry_is_offered_only_where_it_can_help(reason: str, *, is_offered: bool) -> None:
    failed = an_event(reason=reason)
    page = tasks_page(*attention.attention_items(ClusterSnapshot(failed=(failed,))))
    assert bool(page.xpath("//button[@value='retry-all']")) is is_offered
    assert page.xpath("//button[@value='skip-all']")
    of_event = event_page(reason=reason)
    assert bool(of_event.xpath("//button[@value='retry']")) is is_offered


@pytest.mark.parametrize("phase", Phase)
def test_a_phase_has_its_name_in_kubernetes_beside_the_word(phase: Phase) -> None:
    (chip,) = events_page(events=(an_event(phase=phase),)).xpath("//td[@class='state']/span")
    assert chip.get("title") == phase
    assert "onsent" not in chip.text, "the key may be one that the sender brings"


@pytest.mark.parametrize(("name", "is_unknown"), [("acm", True), ("acme", False)])
def test_a_filter_by_a_part_of_a_name_says_that_it_needs_the_whole(name: str, *, is_unknown: bool) -> None:
    by_organization, by_sender = (
        filters.EventFilter(organization=name),
        filters.EventFilter(sender=name),
    )
    for chosen, kind in ((by_organization, "an Organization"), (by_sender, "a Sender")):
        page = events_page(events=(), filter=chosen, senders=(a_sender_that(name="acme"),))
        assert "No event matches." in page.text_content()
        assert (f"Enter the name of {kind} object." in page.text_content()) is is_unknown


@pytest.mark.parametrize(("organization", "is_offered"), [("acme", True), ("gone", False)])
def test_only_an_organization_that_exists_can_be_suspended(organization: str, *, is_offered: bool) -> None:
    item = attention.AttentionItem(
        kind=attention.AttentionKind.RETRYING,
        name="r",
        organization=organization,
        reason="OrganizationMissing",
    )
    page = shown(
        "attention.html",
        "en",
        FULL,
        entries=(item,),
        organizations=(an_organization_that(),),
        archives=(),
        of="",
        charts=charts.overview([busy()]),
        counts={},
        confirmation=confirmation,
    )
    assert ("Suspend the organization" in page.text_content()) is is_offered


def test_the_last_label_of_a_chart_ends_within_its_drawing() -> None:
    (hours, *_) = attention_page().xpath("//figure/svg[count(rect) > 8]")
    *_, last = hours.xpath("text[@y='117']")
    assert last.get("text-anchor") == "end"
    assert float(last.get("x")) <= float(hours.get("viewbox").split()[2])


def busy() -> Organization:
    """An organization with something to draw."""
    activity = Activity(
        count_time=NOON,
        hours=(HourlyActivity(start_time=NOON, noted=3, archived=2),),
        unfinished_for={"1m": 1},
    )
    return replace(
        an_organization_that(), status=OrganizationStatus(activity=activity, events={"Failed": 3, "Odd": 1})
    )


def others(language: str = "en", rights: Rights = FULL) -> dict[str, lxml.html.HtmlElement]:
    return {
        "senders": shown(
            "senders.html",
            language,
            rights,
            search=SenderSearch(organization="acme", text="kofler", page=2),
            found=page_of([a_sender_that(name=name) for name in ("anna", "ben", "carl")], 2, rows=1),
            is_cut=True,
            organizations=(an_organization_that(),),
            are_organizations_cut=True,
            advice_of=lambda sender, reason: key_advice(sender, an_organization_that(), reason),
        ),
        "archives": shown("archives.html", language, rights, archives=(an_archive_that(),)),
        "organizations": shown(
            "organizations.html",
            language,
            rights,
            organizations=(busy(),),
            charts={"acme": charts.callbacks(busy())},
        ),
        "check": check_page(language=language, rights=rights),
        "imports": shown(
            "imports.html",
            language,
            rights,
            imports=(an_import_that(), an_import_that("ImportComplete", name="counted")),
            is_cut=True,
            state_of=state_of_import,
        ),
        "import": import_page(language=language, rights=rights),
        "yaml": yaml_page(language),
    }


def check_page(text: str = "x", language: str = "en", rights: Rights = FULL) -> lxml.html.HtmlElement:
    """Every fact once, and one that this version does not know."""
    lines = [
        OrganizationCheckResult(id=name, outcome=outcome, found=text, message=text, setting=text)
        for outcome, name in zip(cycle(CheckOutcome), [*FactId, "of-a-newer-version"], strict=False)
    ]
    check = OrganizationCheck(start_time=NOON, completion_time=NOON, version=text, results=tuple(lines))
    outcomes = Counter(each.outcome.value for each in check.results)
    return shown(
        "check.html", language, rights, organization=an_organization_that(), check=check, outcomes=outcomes
    )


def import_page(
    text: str = "x", language: str = "en", rights: Rights = FULL, **spec: Any
) -> lxml.html.HtmlElement:
    """An Import with everything that it can show: two senders with a problem, one of them in this table."""
    senders = tuple(
        ImportSender(name=name, reason="TokenRejected", message=text, doubt=text, found=3)
        for name in ("anna", "ben")
    )
    imported = an_import_that(
        "SendersNotSearched",
        text,
        senders=senders,
        refused=1,
        cursor="2019-02-01",
        start_time=NOON,
        estimated_completion_time=NOON,
        windows=ImportWindows(done=1, total=4),
        rate=2,
        found=6,
        sample=ImportSample(envelopes=1, unreadable=1, files=2, bytes=3),
        groups=(ImportGroup(year=2019, status=text, found=3),),
        report=text,
        report_parts=ImportReportParts(number=2, location=text, sha256="0" * 64),
    )
    imported = replace(imported, spec=replace(imported.spec, **spec))
    return shown(
        "import.html",
        language,
        rights,
        imported=imported,
        until=last_day(imported),
        state=state_of_import(imported),
        senders=senders_of(imported, 1),
        failures=ImportFailures((("NameOccupied", 2),), is_cut=True),
        asked=["anna", "ben"],
        ask_command=text,
        estimate=estimate_of(replace(imported, spec=replace(imported.spec, dry_run=True)), None),
        duration=(3, "hour"),
    )


@pytest.mark.parametrize("copies_only", [False, True])
def test_an_import_that_only_copies_shows_no_search_and_no_archive(copies_only: bool) -> None:
    page = import_page(copies_only=copies_only, archive_ref=LocalObjectReference(name="nope"))
    found = (bool(page.xpath("//progress")), "nope" in page.text_content())
    assert found == ((False, False) if copies_only else (True, True))


def skeleton(page: lxml.html.HtmlElement) -> list[tuple[str, ...]]:
    """Every element with the names of its attributes: what a text must not be able to change."""
    return [(str(each.tag), *sorted(each.attrib)) for each in page.iter() if isinstance(each.tag, str)]


@pytest.mark.parametrize("nasty", NASTY)
def test_nothing_that_eSAW_or_a_person_wrote_can_add_markup(nasty: str) -> None:
    for page in (event_page, events_page, attention_page, check_page, import_page):
        assert skeleton(page(nasty)) == skeleton(page("plain")), page.__name__
    assert skeleton(yaml_page(status={"message": nasty})) == skeleton(yaml_page(status={"message": "plain"}))


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_page_can_be_said_in_every_language(language: str) -> None:
    pages = [event_page(language=language), events_page(language=language), attention_page(language=language)]
    for page in (*pages, *others(language).values()):
        assert page.get("lang") == language
        assert len(page.xpath("//h1")) == 1
        assert page.xpath("//title/text()")[0].strip()


def test_there_are_words_for_every_problem_every_action_and_every_phase() -> None:
    words = load_catalogue(CatalogueName.CONSOLE, "en")
    kinds: tuple[ErrorKind, ...] = (*HttpErrorKind, *ConsoleErrorKind)
    assert all(words.has(kind, part) for kind in kinds for part in ("title", "text", "advice"))
    assert all(words.has(section, what) for section in ("act", "acted", "done") for what in Action)
    assert all(words.has("phase", phase) for phase in Phase)
    assert all(words.has("import_state", state) for state in ImportState)


def test_each_line_of_a_check_has_a_title_in_words() -> None:
    page = check_page()
    titles = page.xpath("//dl[@class='facts']/dt/strong/text()")
    assert len(titles) == len(FactId) + 1
    assert [each for each in titles if each in set(FactId)] == []
    assert "of-a-newer-version" in titles
    assert "Change: x" in page.text_content()


def test_a_check_begins_with_its_verdict_and_with_what_deviates() -> None:
    page = check_page()
    assert page.xpath("//h2/text()")[:3] == [
        "eSignAnyWhere deviates from the assumptions: read this before you archive or delete anything",
        "To correct",
        "Not tested",
    ]
    assert page.xpath("//details[summary/strong[text()='As expected']]//dt")


@pytest.mark.parametrize("language", ["de", "it"])
def test_the_lines_of_a_check_have_no_english_in_sight_in_other_languages(language: str) -> None:
    page = check_page("Only English.", language)
    told = page.xpath("//p[@lang='en'][text()='Only English.']")
    assert len(told) == len(CheckOutcome)
    assert page.xpath("//dl/dd/details/p[@lang='en']") == told


def test_no_page_has_a_script_a_style_or_a_handler_in_itself() -> None:
    for page in (event_page(), events_page(), attention_page(), *others().values()):
        assert not page.xpath("//script[not(@src)] | //style | //@style | //@onclick | //iframe | //img")
        assert all(source.startswith("/static/") for source in page.xpath("//script/@src | //link/@href"))
        assert len(page.xpath("//script/@integrity | //link/@integrity")) == 3
    assert "unsafe" not in POLICY


def test_a_read_only_user_is_offered_no_action() -> None:
    for page in (
        event_page(rights=VIEW),
        events_page(rights=VIEW),
        attention_page(rights=VIEW),
        *others(rights=VIEW).values(),
    ):
        assert page.xpath("//form[@method='post']/@action") == ["/theme", "/sign-out"]


def test_every_form_that_does_something_carries_the_sessions_token() -> None:
    for page in (event_page(), attention_page(), *others().values()):
        for form in page.xpath("//form[@method='post']"):
            assert form.xpath("./input[@name='form']/@value") == ["form-token"]


def test_every_field_has_its_label_and_no_id_stands_twice() -> None:
    for page in (event_page(), events_page(), attention_page(), *others().values()):
        ids = page.xpath("//@id")
        assert len(ids) == len(set(ids))
        for field in page.xpath("//input[not(@type='hidden')] | //select | //textarea"):
            assert page.xpath(f"//label[@for='{field.get('id')}']"), lxml.html.tostring(field)


def test_a_sender_can_be_chosen_by_what_people_call_them() -> None:
    assert events_page().xpath("//datalist[@id='senders']/option[text()='Anna Kofler']/@value") == ["anna"]


def test_an_archive_shows_its_last_error() -> None:
    broken = an_archive_that()
    condition = replace(broken.status.conditions[0], message="Archive/dms: the disk is full.")
    full = replace(broken, status=replace(broken.status, conditions=(condition,)))
    for archive, told in ((full, "the disk is full"), (an_archive_that("True", "Probed"), "none since")):
        page = shown("archives.html", archives=(archive,))
        assert told in page.xpath("string(//dt[text()='Last error']/following-sibling::dd[1])")


def test_an_archive_shows_its_kind_in_words_its_target_and_a_plain_button_while_it_works() -> None:
    page = shown("archives.html", archives=(an_archive_that("True", "Probed"),))
    text = page.text_content()
    assert "Folder of a mounted volume" in text
    assert "/srv" in text
    assert "filesystem" not in text
    assert "Probed" not in text
    assert page.xpath("//button[@value='probe']/@class") == ["plain"]
    broken = shown("archives.html", archives=(an_archive_that(),))
    assert not broken.xpath("//button[@value='probe']/@class")


def test_an_organization_says_its_state_in_words_and_shows_whole_addresses() -> None:
    urls = CallbackURLs(
        envelope="https://x.example/e", status="https://x.example/s", workstep="https://x.example/w"
    )
    organization = an_organization_that("False", "CallbackTokenMissing")
    organization = replace(organization, status=replace(organization.status, callback_urls=urls))
    page = shown(
        "organizations.html", organizations=(organization,), charts={"acme": charts.callbacks(organization)}
    )
    state = page.xpath("//ul[@class='conditions']/li")[0]
    words = find_reason("CallbackTokenMissing").localized_text()
    assert words.do in state.text_content()
    assert state.xpath("./code/text()") == ["CallbackTokenMissing"]
    assert page.xpath("//div[@class='copy']/code/text()") == [urls.envelope, urls.status, urls.workstep]


@pytest.mark.parametrize("language", ["de", "it"])
def test_a_message_in_english_is_folded_away_in_other_languages(language: str) -> None:
    broken = an_archive_that()
    condition = replace(broken.status.conditions[0], message="The disk is full.")
    full = replace(broken, status=replace(broken.status, conditions=(condition,)))
    page = shown("archives.html", language, archives=(full,))
    assert page.xpath("//details/p[@lang='en']/text()") == ["The disk is full."]
    assert "The disk" not in " ".join(page.xpath("//text()[not(ancestor::details)]"))


def test_an_archive_of_which_nothing_was_counted_does_not_say_zero() -> None:
    text = shown("archives.html", archives=(an_archive_that("True", "Probed"),)).text_content()
    assert "not counted yet" in text
    assert "0 bytes" not in text


def test_an_entry_begins_with_words_and_has_its_code_beside_them() -> None:
    headline = attention_page().xpath("//section[starts-with(@id, 'failed-')]/h2")[0]
    assert " ".join(headline.text_content().split()).startswith("2 events failed: ")
    assert headline.xpath("./code/text()") == ["NameOccupied"]


@pytest.mark.parametrize("lacking", [{"oauth": None}, {"notifications": None}], ids=str)
def test_no_mail_is_offered_that_can_not_be_sent(lacking: dict[str, Any]) -> None:
    organization = an_organization_that(**lacking)
    snapshot = ClusterSnapshot(organizations=(organization,), senders=(a_sender_that(),))
    entries = attention.attention_items(snapshot)
    page = shown(
        "attention.html",
        entries=entries,
        organizations=(organization,),
        archives=(),
        of="",
        charts=(),
        counts={},
        confirmation=confirmation,
    )
    text = page.text_content()
    assert not page.xpath("//button[@value='ask']")
    assert "An administrator must act" in text
    assert "The sender must act" not in text


def test_a_succeeded_event_is_neither_tried_again_nor_given_up() -> None:
    assert not event_page(phase=Phase.SUCCEEDED).xpath("//button[@name='what']")


@pytest.mark.parametrize(
    ("language", "words"),
    [("en", "the errors view"), ("de", "die Fehleransicht"), ("it", "la vista degli errori")],
)
def test_an_envelope_that_is_stuck_in_esaw_says_what_to_do_there(language: str, words: str) -> None:
    page = event_page(language=language, phase=Phase.VALIDATING, reason="EsawErrorState")
    assert words in page.text_content()


def yaml_page(language: str = "en", **raw: Any) -> lxml.html.HtmlElement:
    whole = {"metadata": {"name": "x", "managedFields": ["hidden"]}, **raw}
    return shown("yaml.html", language, name="x", raw=whole)


def test_the_yaml_leaves_the_bookkeeping_out() -> None:
    text = yaml_page().xpath("string(//pre)")
    assert "name: x" in text
    assert "hidden" not in text


def test_of_a_very_large_object_the_yaml_shows_so_much_that_it_is_written_at_once() -> None:
    documents = [{"fileID": str(number), "location": "x" * 8000} for number in range(2000)]
    text = yaml_page(status={"documents": documents, "phase": "Failed"}).xpath("string(//pre)")

    assert text.count("fileID") == 100
    assert "… 1900" in text
    assert "phase: Failed" in text
    assert len(text) < 200_000


def test_documents_beyond_a_page_are_behind_a_link() -> None:
    first, second = a_large_event_page(0), a_large_event_page(200)

    assert len(first.xpath("//tbody/tr")) == 200
    assert "1 to 200 of 250" in first.text_content()
    assert first.xpath("//a[contains(@href, 'from=200')]")
    assert len(second.xpath("//tbody/tr")) == 50
    assert "201 to 250 of 250" in second.text_content()
    assert second.xpath("//a[contains(@href, 'from=0')]")


def test_the_page_of_an_event_shows_the_parameters_of_its_callback() -> None:
    text = of_event(EventBuilder().with_parameters(orderNo="47/11", tenant="a").build()).text_content()
    assert "orderNo" in text
    assert "47/11 parameter of the callback URL" in text
    assert "parameter of the" not in of_event(EventBuilder().build()).text_content()


def a_large_event_page(first: int) -> lxml.html.HtmlElement:
    files = tuple(
        FiledDocument(file_id=str(number), kind=FileKind.DOCUMENT, file_name=f"{number}.pdf")
        for number in range(250)
    )
    event = EventBuilder().in_phase(Phase.SUCCEEDED, "ArchivedAndDeleted").status(documents=files).build()
    return of_event(event, first=first)


def test_files_are_cached_permanently_under_names_with_their_hash() -> None:
    path = next(each for each in RENDERER.assets if "htmx" in each and each.endswith(".js"))
    answer = RENDERER.static(path.removeprefix("/static/"))
    assert answer is not None
    assert "immutable" in answer.headers["Cache-Control"]
    assert RENDERER.static("../__init__.py") is None


def test_an_event_that_was_never_tried_shows_that_and_offers_no_retry() -> None:
    page = of_event(EventBuilder().in_phase(Phase.PENDING).build())

    assert "The controller has not tried it yet." in page.text_content()
    assert page.xpath("//button[@name='what']/@value") == ["skip", "suspend"]
    assert page.xpath("//button[@value='skip']/@class") == ["danger"]


@pytest.mark.parametrize(
    ("reason", "sentence"),
    [
        ("AuditTrailMissing", "The envelope stays in eSignAnyWhere."),
        ("EnvelopeDeleted", "The envelope is no longer in eSignAnyWhere."),
        ("EnvelopeNotFound", "The reason does not tell whether the envelope is in eSignAnyWhere."),
    ],
)
def test_a_person_who_skips_an_event_sees_the_known_state_of_its_envelope(reason: str, sentence: str) -> None:
    page = of_event(EventBuilder().in_phase(Phase.FAILED, reason).build())
    (hint,) = page.xpath("//details[.//button[@value='skip']]//p[@class='small dim']")
    text = hint.text_content()
    assert text.startswith("Counterfoil does nothing more for the event and does not delete its envelope, ")
    assert text.endswith(f". {sentence}")


def test_a_next_attempt_that_has_passed_is_due_and_not_in_the_past() -> None:
    late = EventBuilder().in_phase(Phase.ARCHIVING, "ArchiveFull").status(next_attempt_time=NOON, attempts=2)
    text = of_event(late.build()).text_content()

    assert "Next attempt: due now" in text
    assert text.count("Next attempt") == 1
    assert "Attempts in this phase" in text


def test_a_finished_event_has_no_number_of_attempts() -> None:
    text = event_page(phase=Phase.SUCCEEDED).text_content()
    assert "Attempts in this phase" not in text


def test_a_location_that_a_browser_can_open_is_a_link_that_takes_nothing_along() -> None:
    places = ("https://dms.example.com/contract.pdf", "file:///srv/contract.pdf")
    files = tuple(
        FiledDocument(file_id=place, kind=FileKind.DOCUMENT, file_name="contract.pdf", location=place)
        for place in places
    )
    event = EventBuilder().in_phase(Phase.SUCCEEDED, "ArchivedAndDeleted").status(documents=files).build()

    (link,) = of_event(event).xpath("//tbody//a")

    assert (link.get("href"), link.get("rel")) == (places[0], "noopener noreferrer")
