"""
The console as people meet it: a real Chromium, a real API server, users with all rights, with view rights and
with none.

The tests share one console; what they change is their own.
"""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Locator, Page, Response, expect

from counterfoil.resources import EnvelopeEvent, Import, Organization
from counterfoil.resources.audit_annotation import audit_entries
from sandbox.browser.axe import axe
from sandbox.controlplane import rbac
from sandbox.controlplane.control_plane import ControlPlane
from tests.support.pauses import BROWSER_STEP_MILLISECONDS
from tests.support.scenes.console import MISSING_BUCKET, Scene, a_condition, console_scene, now

expect.set_options(timeout=BROWSER_STEP_MILLISECONDS)

NAMESPACE = "browser-console"
ELSEWHERE = "browser-console-elsewhere"
"""A second namespace of the console, which the person with all rights may only read."""
NO_RIGHTS = "browser-console-closed"
"""A third one, in which nobody here has rights."""
SETTINGS = {"page_rate": "1000", "address_rate": "1000", "namespaces": f"{ELSEWHERE},{NO_RIGHTS}"}
PAGES = ("/attention", "/events", "/senders", "/archives", "/organizations", "/imports")


@pytest.fixture(scope="module")
async def scene(plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    await plane.namespace(NAMESPACE)
    async with console_scene(plane, NAMESPACE, tmp_path_factory.mktemp("console"), **SETTINGS) as built:
        await built.an_archive("dms", "True", "Probed")
        await built.an_archive("bucket", "False", "ArchiveBucketMissing", MISSING_BUCKET)
        await built.an_organization(events={"Failed": 3, "AwaitingConsent": 37, "Succeeded": 1})
        await built.a_sender("anna", truth="False", reason="TokenRejected")
        await built.a_sender("ben")
        for _ in range(37):
            await built.waiting()
        await built.failed("EnvelopeNotFound", "The sender's key does not show the envelope.")
        await built.an_event(**ARCHIVED)
        await built.an_import("old-stock")
        await plane.namespace(ELSEWHERE)
        for each in readable_by("full"):
            await plane.objects(ELSEWHERE).apply(each)
        yield built


def readable_by(account: str) -> list[dict[str, Any]]:
    """Return a Role with a viewer's rights, bound to an account of the first namespace."""
    _, role, binding = rbac.service_account_with_rules(account, rbac.VIEWER)
    subjects = [{"kind": "ServiceAccount", "name": account, "namespace": NAMESPACE}]
    return [role, {**binding, "subjects": subjects}]


WIDER_THAN_THE_WINDOW = """
  document.documentElement.scrollWidth <= window.innerWidth ? [] : [...document.querySelectorAll("main *")]
    .filter(each => each.getBoundingClientRect().right > window.innerWidth && !each.closest(".scroll"))
    .map(each => each.outerHTML.slice(0, 120))
"""

ARCHIVED: dict[str, Any] = {
    "phase": "Succeeded",
    "reason": "ArchivedAndDeleted",
    "completionTime": now(),
    "envelope": {"name": "Rental contract", "status": "Completed"},
    "archive": {"ref": {"name": "dms"}, "manifest": "file:///srv/acme/counterfoil.json"},
    "documents": [
        {
            "fileID": "1",
            "kind": "Document",
            "fileName": "contract.pdf",
            "size": 250_000,
            "sha256": "ab" * 32,
            "location": "file:///srv/acme/Document/contract.pdf",
        }
    ],
}


COPYABLE = ARCHIVED | {
    "envelope": {"name": "Copied lease", "status": "Completed"},
    "conditions": [
        a_condition(each, "True", "Tested") for each in ("Validated", "Collected", "Archived", "Cleaned")
    ],
}
FAILED_COPY = {
    "ref": {"name": "bucket"},
    "attempts": 7,
    "reason": "ArchiveBucketMissing",
    "message": MISSING_BUCKET,
}
VERIFIED_COPY = {
    "ref": {"name": "worm"},
    "manifest": f"s3://preserved-contracts/acme/{'0f9c1c2e-1111-4222-8333-444455556666'}/counterfoil.json",
    "verifiedTime": now(),
    "documents": "ab" * 32,
}


@asynccontextmanager
async def a_browser(browser: Browser, **kind: Any) -> AsyncIterator[BrowserContext]:
    """Somebody's browser."""
    async with await browser.new_context(**{"locale": "en-GB", **kind}) as context:
        context.set_default_timeout(BROWSER_STEP_MILLISECONDS)
        yield context


@pytest.fixture
async def page(context: BrowserContext) -> AsyncIterator[Page]:
    """A tab in which nothing may be wrong that the browser itself would report, as something that the policy
    forbids."""
    tab = await context.new_page()
    complaints: list[str] = []

    def hear(message: ConsoleMessage) -> None:
        if message.type == "error" and "Failed to load resource" not in message.text:
            complaints.append(message.text)

    tab.on("console", hear)
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    yield tab
    assert complaints == []


async def sign_in(page: Page, scene: Scene, who: str = "full", at: str = "/") -> None:
    await page.goto(f"{scene.console.public}{at}")
    await page.get_by_label("Kubernetes token").fill(scene.tokens[who])
    await page.get_by_role("button", name="Sign in").click()
    await page.wait_for_url(lambda url: "sign-in" not in url)


async def failing(page: Page) -> list[str]:
    """Return what axe-core finds that is serious or critical."""
    await page.evaluate((await axe()).read_text())
    found = await page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{each['id']}: {each['help']}: {each['nodes'][0]['html']}"
        for each in found["violations"]
        if each["impact"] in ("serious", "critical")
    ]


def an_entry(page: Page, headline: str, reason: str) -> Locator:
    """An entry of the first page: its headline is in words, with the reason's code beside it."""
    return page.get_by_role("region", name=re.compile(f"^{headline}: .*{reason}$"))


LINE_BEGINS = """each => {
    const range = document.createRange();
    range.selectNodeContents(each);
    const begins = new Map();
    for (const {top, left} of range.getClientRects()) {
        const at = Math.round(top);
        begins.set(at, Math.min(left, begins.get(at) ?? Infinity));
    }
    return [...begins.values()];
}"""
"""The left end of each line of a text, in pixels."""


async def a_problem(scene: Scene, reason: str, count: int = 2) -> list[str]:
    """Events that failed for a reason that no other test uses."""
    return [await scene.failed(reason, "It failed.") for _ in range(count)]


async def labelled(scene: Scene, name: str) -> str | None:
    labels: dict[str, str] = (await scene.event(name))["metadata"]["labels"]
    return labels.get("counterfoil.dev/request")


# -- Each page and each act, with all rights -----------------------------------------------------------------


async def test_from_the_mails_link_to_solved_it_takes_one_click(scene: Scene, page: Page) -> None:
    names = await a_problem(scene, "NameOccupied")
    await sign_in(page, scene, at="/attention?organization=acme#failed-acme-NameOccupied")
    entry = an_entry(page, "2 events failed", "NameOccupied")
    await expect(entry).to_contain_text("What to do:")

    await entry.get_by_role("button", name="Retry all").click()

    await expect(page.get_by_role("status").first).to_contain_text("A retry was requested for 2 events.")
    await page.get_by_role("link", name="Back to the list").click()
    assert [await labelled(scene, name) for name in names] == ["retry", "retry"]
    for name in names:
        await scene.kube.patch_status(EnvelopeEvent, name, ARCHIVED, resource_version=None)
    # Nobody loads the page again: it looks for news.
    await expect(entry).to_have_count(0)


async def test_a_sender_with_37_envelopes_is_one_entry_whose_link_is_copied_and_who_is_asked_again(
    scene: Scene, page: Page, context: BrowserContext
) -> None:
    await context.grant_permissions(["clipboard-read", "clipboard-write"])
    await sign_in(page, scene)
    entry = page.get_by_role("region", name="Anna Kofler: 37 envelopes wait for consent")

    await entry.get_by_role("button", name="Copy: Consent link").click()
    await expect(page.locator("#told")).to_have_text("Copied")
    assert (
        await page.evaluate("navigator.clipboard.readText()") == "https://pages.example.com/consent/acme/anna"
    )
    await entry.get_by_role("button", name="Send the consent mail again").click()

    await expect(page.get_by_role("status").first).to_contain_text("The consent mail is sent again")
    sender = await scene.local_environment.read("sender", "anna")
    assert sender["metadata"]["labels"]["counterfoil.dev/request"] == "ask"


async def test_giving_all_up_asks_why_and_records_it(scene: Scene, page: Page) -> None:
    names = await a_problem(scene, "SymbolicLink")
    await sign_in(page, scene)
    entry = an_entry(page, "2 events failed", "SymbolicLink")

    await entry.locator("summary", has_text="Skip all").click()
    await entry.get_by_label("Why? (required)").fill("a test of the archive")
    await entry.get_by_role("button", name="Skip all", exact=True).click()

    await expect(page.get_by_role("status").first).to_contain_text("A skip was requested for 2 events.")
    for name in names:
        assert await labelled(scene, name) == "skip"
        (act,) = audit_entries((await scene.event(name))["metadata"]["annotations"])
        assert (act.what, act.why) == ("skip", "a test of the archive")


async def test_events_are_filtered_and_one_of_them_is_shown_in_full(scene: Scene, page: Page) -> None:
    await sign_in(page, scene)
    await page.get_by_role("link", name="Events", exact=True).click()
    await page.get_by_label("Phase").select_option("Succeeded")
    await page.get_by_label("Organization").fill("acme")
    await page.get_by_label("Recorded").select_option("1h")
    await page.get_by_role("button", name="Show", exact=True).click()
    rows = page.get_by_role("row").filter(has_text="ArchivedAndDeleted")
    await rows.first.get_by_role("link").click()

    await expect(page.get_by_role("heading", level=1)).to_have_text("Rental contract")
    for told in ("ab" * 32, "file:///srv/acme/Document/contract.pdf", "244.1 KiB", "Recorded (Callback)"):
        await expect(page.get_by_text(told).first).to_be_visible()
    await page.locator("summary", has_text="The object as YAML").click()
    await expect(page.locator("pre")).to_contain_text("apiVersion: counterfoil.dev/v1beta1")


async def test_an_open_list_of_events_shows_what_is_new(scene: Scene, page: Page) -> None:
    (first,) = await a_problem(scene, "FolderMissing", 1)
    await sign_in(page, scene, at="/events?phase=Failed&age=1h")
    rows = page.get_by_role("row").filter(has_text="FolderMissing")
    await expect(rows).to_have_count(1)

    await a_problem(scene, "FolderMissing", 1)
    # Nobody loads the page again.
    await expect(rows).to_have_count(2)
    await scene.kube.patch_status(EnvelopeEvent, first, ARCHIVED, resource_version=None)
    await expect(rows).to_have_count(1)


async def test_an_event_is_found_by_the_envelopes_id(scene: Scene, page: Page) -> None:
    (name,) = await a_problem(scene, "FileTooBig", 1)
    await sign_in(page, scene, at="/events")
    await page.get_by_label("Search").fill(name[:36].upper())
    await page.get_by_role("button", name="Show", exact=True).click()
    await expect(page.get_by_role("row")).to_have_count(2)
    await expect(page.get_by_role("link", name=f"Envelope {name[:8]}…")).to_be_visible()


async def test_an_event_is_found_by_name_and_person_and_its_whole_id_is_copied(
    scene: Scene, page: Page, context: BrowserContext
) -> None:
    name = await scene.an_event(sender="ben", phase="Succeeded", envelope={"name": "Lease of a boat"})
    await context.grant_permissions(["clipboard-read", "clipboard-write"])
    await sign_in(page, scene, at="/events")
    await page.get_by_label("Search").fill("LEASE of")
    await page.get_by_role("button", name="Show", exact=True).click()
    await expect(page.get_by_text("searched.")).to_be_visible()
    row = page.get_by_role("row").filter(has_text="Lease of a boat")
    await expect(row).to_contain_text("Ben Kofler ben@example.com")
    await row.get_by_role("button", name=f"Copy: {name[:36]}").click()
    assert await page.evaluate("navigator.clipboard.readText()") == name[:36]

    await page.get_by_label("Search").fill("ben@example")
    await page.get_by_role("button", name="Show", exact=True).click()
    await expect(page.get_by_role("link", name="Lease of a boat")).to_be_visible()

    await page.get_by_label("To (UTC)").fill("yesterday")
    await page.get_by_role("button", name="Show", exact=True).click()
    await expect(page.get_by_text("Enter a day or a minute in UTC, not before")).to_be_visible()
    await expect(page.get_by_label("To (UTC)")).to_have_value("yesterday")


async def test_a_selection_is_skipped_after_a_confirmation_with_its_count(scene: Scene, page: Page) -> None:
    names = await a_problem(scene, "ArchiveRetentionMissing", 3)
    await sign_in(page, scene, at="/events?reason=ArchiveRetentionMissing")
    for name in names[:2]:
        await page.locator(f"#s-{name}").check()
    await page.get_by_role("button", name="Skip selected…").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Skip 2 events?")
    await page.get_by_label("Why? (required)").fill("a test")
    await page.get_by_role("button", name="Skip 2 events").click()
    await expect(page.get_by_role("status").first).to_contain_text("A skip was requested for 2 events.")
    assert [await labelled(scene, name) for name in names] == ["skip", "skip", None]


async def test_on_a_phone_filters_are_closed_and_an_event_has_three_lines(
    scene: Scene, browser: Browser
) -> None:
    await scene.an_event(phase="Succeeded", envelope={"name": "Two lines"})
    async with a_browser(browser, viewport={"width": 390, "height": 844}) as context:
        page = await context.new_page()
        await sign_in(page, scene, at="/events?text=Two+lines")
        await expect(page.get_by_label("Phase")).to_be_hidden()
        row = page.get_by_role("row").filter(has_text="Two lines")
        assert await row.evaluate("each => each.getBoundingClientRect().height") < 100
        filters = page.locator("summary", has_text="Filters and order")
        # Only an item of a list has the triangle of a summary.
        assert await filters.evaluate("each => getComputedStyle(each).display") == "list-item"
        await filters.click()
        await expect(page.get_by_label("Phase")).to_be_visible()


async def test_on_a_phone_the_reason_and_the_sender_of_an_event_are_whole_and_one_line_each(
    scene: Scene, browser: Browser
) -> None:
    await scene.an_event(
        sender="ben", phase="Failed", reason="AuditTrailMissing", envelope={"name": "Whole lines"}
    )
    async with a_browser(browser, viewport={"width": 375, "height": 844}) as context:
        page = await context.new_page()
        await sign_in(page, scene, at="/events?text=Whole+lines")
        row = page.get_by_role("row").filter(has_text="Whole lines")
        for cell in (row.locator("td.reason"), row.locator("td.who")):
            assert await cell.evaluate("each => each.scrollWidth <= each.clientWidth")
            assert await cell.evaluate("each => each.getBoundingClientRect().height") < 30


async def test_on_a_phone_a_command_that_is_wrapped_is_indented_from_its_second_line_on(
    scene: Scene, browser: Browser
) -> None:
    await a_problem(scene, "V5EnvelopeKept")
    async with a_browser(browser, viewport={"width": 375, "height": 844}) as context:
        page = await context.new_page()
        await sign_in(page, scene, at="/attention")
        commands = page.locator("details", has_text="V5EnvelopeKept").filter(has_text="Commands")
        await commands.locator("summary").click()
        lines = commands.locator("pre .line")
        # One beginning of a line further left than all others for each command.
        for at in range(await lines.count()):
            begins = await lines.nth(at).evaluate(LINE_BEGINS)
            assert len(begins) > 1
            assert begins[0] < min(begins[1:]) - 8


async def test_a_long_reason_is_whole_on_a_phone_and_a_table_that_is_cut_shows_it(
    scene: Scene, browser: Browser
) -> None:
    reason = "ArchiveCredentialsRejectedByTheServer"
    await scene.an_event(phase="Failed", reason=reason, envelope={"name": "Long reason"})
    async with a_browser(browser, viewport={"width": 390, "height": 844}) as context:
        page = await context.new_page()
        await sign_in(page, scene, at="/events?text=Long+reason")
        cell = page.get_by_role("row").filter(has_text="Long reason").locator("td.reason")
        assert await cell.evaluate("each => each.scrollWidth <= each.clientWidth")
        await page.set_viewport_size({"width": 768, "height": 1024})
        shadows = "each => getComputedStyle(each).backgroundImage.split('linear-gradient').length - 1"
        assert await page.get_by_role("region", name="Events").evaluate(shadows) == 4
        await page.locator("summary", has_text="Menu").click()
        system, light = [
            await page.get_by_role("button", name=each).bounding_box() for each in ("As the system", "Light")
        ]
        assert system is not None
        assert light is not None
        assert (
            light["x"] - (system["x"] + system["width"]) >= 4
            or light["y"] >= system["y"] + system["height"] + 4
        )


async def test_one_event_is_held_resumed_tried_again_and_given_up(scene: Scene, page: Page) -> None:
    name = await scene.an_event(phase="Archiving", reason="ArchiveFull")
    await sign_in(page, scene, at=f"/events/{name}")

    await page.locator("summary", has_text="Suspend").click()
    await page.locator("#why-suspend").fill("an audit")
    await page.get_by_role("button", name="Suspend", exact=True).click()
    await expect(page.get_by_text("suspended", exact=True).first).to_be_visible()
    await page.get_by_role("button", name="Resume").click()
    await page.get_by_role("button", name="Retry").click()
    await page.locator("summary", has_text="Skip").click()
    await page.get_by_role("textbox", name="Why? (required)").fill("no longer needed")
    await page.get_by_role("button", name="Skip", exact=True).click()
    await expect(page.get_by_text("“no longer needed”")).to_be_visible()

    event = await scene.event(name)
    acts = audit_entries(event["metadata"]["annotations"])
    assert [act.what for act in acts] == ["suspend", "resume", "retry", "skip"]
    told = [each["reason"] for each in await scene.told() if each["regarding"]["name"] == name]
    assert sorted(told) == ["ResumeRequested", "RetryRequested", "SkipRequested", "SuspendRequested"]


async def test_copies_that_were_added_later_are_asked_for_one_by_one_and_for_a_selection(
    scene: Scene, page: Page
) -> None:
    names = [await scene.an_event(**COPYABLE) for _ in range(2)]
    await scene.kube.patch(Organization, "acme", {"spec": {"copies": [{"archiveRef": {"name": "bucket"}}]}})
    await sign_in(page, scene, at=f"/events/{names[0]}")
    await expect(page.get_by_text("bucket · missing · no attempt is planned")).to_be_visible()
    assert await failing(page) == []

    await page.get_by_role("button", name="Make missing copies").click()

    await expect(page.get_by_role("status").first).to_contain_text("The missing copies are made now.")
    await expect(page.get_by_text("asked for the missing copies")).to_be_visible()
    await page.goto(f"{scene.console.public}/events?text=Copied+lease")
    await page.locator(f"#s-{names[1]}").check()
    await page.get_by_role("button", name="Make missing copies of selected…").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Make missing copies of one event?")
    await page.get_by_role("button", name="Make copies of one event").click()
    await expect(page.get_by_role("status").first).to_contain_text("The copies of one event were requested.")
    assert [await labelled(scene, name) for name in names] == ["copy", "copy"]
    (act,) = audit_entries((await scene.event(names[0]))["metadata"]["annotations"])
    assert act.what == "copy"


async def test_on_a_narrow_phone_the_page_of_an_event_with_copies_has_no_part_outside(
    scene: Scene, browser: Browser
) -> None:
    name = await scene.an_event(**COPYABLE, copies=[FAILED_COPY, VERIFIED_COPY])
    async with a_browser(browser, viewport={"width": 360, "height": 800}) as context:
        page = await context.new_page()
        await sign_in(page, scene, at=f"/events/{name}")
        await expect(page.get_by_text("ArchiveBucketMissing").first).to_be_visible()
        assert await page.evaluate(WIDER_THAN_THE_WINDOW) == []


async def test_an_archive_is_probed_and_an_organization_swept_held_and_resumed(
    scene: Scene, page: Page
) -> None:
    await sign_in(page, scene, at="/archives")
    await page.get_by_role("button", name="Probe now: bucket").click()
    await expect(page.get_by_role("status").first).to_contain_text("being probed")

    await page.get_by_role("link", name="Organizations").click()
    workstep = page.get_by_text("https://callbacks.example.com/callbacks/acme/<token>?workstep", exact=True)
    await expect(workstep).to_be_visible()
    await expect(page.get_by_role("img", name="Recorded per hour")).to_be_visible()
    await page.get_by_role("button", name="Sweep now: acme").click()
    await expect(page.get_by_role("status").first).to_contain_text("The sweep begins")
    await page.locator("summary", has_text="Suspend").click()
    await page.get_by_label("Why?").fill("a move")
    await page.get_by_role("button", name="Suspend", exact=True).click()
    await page.get_by_role("button", name="Resume: acme").click()
    await expect(page.get_by_role("status").first).to_contain_text("Resumed.")

    raw = await scene.kube.get(Organization, "acme")
    assert [act.what for act in audit_entries(raw["metadata"]["annotations"])] == [
        "sweep",
        "suspend",
        "resume",
    ]


async def test_an_import_is_paused_and_resumed_and_leads_to_its_failed_events(
    scene: Scene, page: Page
) -> None:
    name = await scene.failed("NameOccupied", imported="old-stock")
    await sign_in(page, scene)
    await page.get_by_role("link", name="Imports").click()
    row = page.get_by_role("row").filter(has_text="old-stock")
    await expect(row).to_contain_text("a person must act")
    await row.get_by_role("link", name="old-stock").click()

    await expect(page.get_by_role("progressbar", name="Searched")).to_be_visible()
    await expect(page.get_by_text("1 of 2 senders were searched.")).to_be_visible()
    await expect(page.get_by_role("row").filter(has_text="anna")).to_contain_text("not fully searched")
    await page.get_by_text("Suspend…").click()
    await page.get_by_label("Why?").fill("migration of eSAW")
    await page.get_by_role("button", name="Suspend", exact=True).click()
    await expect(page.get_by_role("status").first).to_contain_text("Suspended.")
    assert (await scene.kube.get(Import, "old-stock"))["spec"]["suspend"] is True
    await expect(page.get_by_text("migration of eSAW")).to_be_visible()
    await page.get_by_role("button", name="Resume").click()
    await expect(page.get_by_role("status").first).to_contain_text("Resumed.")
    assert (await scene.kube.get(Import, "old-stock"))["spec"]["suspend"] is False

    await page.get_by_role("link", name="NameOccupied: 1").click()
    await expect(page.locator(f'[id="e-{name}"]')).to_be_visible()
    await expect(page.locator("table.events tbody tr")).to_have_count(1)


async def test_a_sender_is_found_by_address_and_written_to_from_the_list(scene: Scene, page: Page) -> None:
    await sign_in(page, scene, at="/senders")
    rows = page.locator("tbody tr")
    await expect(rows.first.get_by_role("rowheader")).to_contain_text("Anna Kofler")
    await page.get_by_role("searchbox", name="Name or e-mail address").fill("BEN@example")
    await page.get_by_role("button", name="Show", exact=True).click()
    await expect(rows).to_have_count(1)
    await expect(rows.get_by_role("rowheader")).to_contain_text("Ben Kofler")

    await page.goto(f"{scene.console.public}/senders?text=anna")
    await page.locator("summary", has_text="Details").click()
    await page.get_by_role("button", name="Send the consent mail again: Anna Kofler").click()
    await expect(page.get_by_role("status").first).to_contain_text("The consent mail is sent again")


async def test_what_somebody_is_typing_is_not_removed_by_an_update(scene: Scene, page: Page) -> None:
    await a_problem(scene, "TagMissing", 1)
    await sign_in(page, scene)
    entry = an_entry(page, "One event failed", "TagMissing")
    await entry.locator("summary", has_text="Skip").click()
    await entry.get_by_label("Why? (required)").fill("because")

    await page.evaluate(
        "htmx.ajax('GET', '/attention', {target: '#live', select: '#live', swap: 'outerHTML'})"
    )

    await expect(entry.get_by_label("Why? (required)")).to_have_value("because")


async def follow_from_elsewhere(page: Page, link: str) -> None:
    """Follow a link on somebody else's page, as in a mail."""
    await page.route(
        "http://localhost:9/mail",
        lambda route: route.fulfill(body=f'<a href="{link}">Open the console</a>', content_type="text/html"),
    )
    await page.goto("http://localhost:9/mail")
    await page.get_by_role("link", name="Open the console").click()


async def test_a_link_in_a_mail_finds_the_signed_in_user(scene: Scene, page: Page) -> None:
    await sign_in(page, scene)
    await follow_from_elsewhere(page, f"{scene.console.public}/archives")
    await expect(page.get_by_role("heading", level=1)).to_have_text("Archives")


async def test_a_third_party_link_to_the_sign_in_signs_nobody_out(scene: Scene, page: Page) -> None:
    await sign_in(page, scene)
    await follow_from_elsewhere(page, f"{scene.console.public}/sign-in")
    await expect(page.get_by_role("heading", level=1)).to_have_text("Tasks")
    await page.goto(f"{scene.console.public}/archives")
    await expect(page.get_by_role("heading", level=1)).to_have_text("Archives")


async def test_an_open_page_whose_session_ended_leads_to_the_way_in(
    scene: Scene, page: Page, context: BrowserContext
) -> None:
    await sign_in(page, scene)
    await context.clear_cookies()
    # Not its promise: the response moves the page away, and a call that still waits in it fails then.
    await page.evaluate(
        "() => { htmx.ajax('GET', '/attention', {target: '#live', select: '#live', swap: 'outerHTML'}) }"
    )
    await expect(page.get_by_label("Kubernetes token")).to_be_visible()


# -- Who may do less -----------------------------------------------------------------------------------------


async def test_a_read_only_user_visits_every_page_and_finds_no_button_but_sign_out(
    scene: Scene, page: Page
) -> None:
    await sign_in(page, scene, "view")
    for path in PAGES:
        await page.goto(f"{scene.console.public}{path}")
        await expect(page.get_by_role("heading", level=1)).to_be_visible()
        acts = page.locator("form[action='/act']")
        assert await acts.count() == 0, path
    await page.locator("summary", has_text="Menu").click()
    await page.get_by_role("button", name="Sign out").click()
    await expect(page.get_by_label("Kubernetes token")).to_be_visible()


async def test_a_user_without_rights_gets_a_message_on_every_page(scene: Scene, page: Page) -> None:
    await sign_in(page, scene, "none")
    for path in PAGES:
        await page.goto(f"{scene.console.public}{path}")
        await expect(page.get_by_role("heading", level=1)).to_have_text("You have no right to do that")
    await page.get_by_role("button", name="Sign in as another user").click()
    await page.get_by_label("Kubernetes token").fill(scene.tokens["view"])
    await page.get_by_role("button", name="Sign in").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Tasks")


# -- Every user ----------------------------------------------------------------------------------------------


async def test_scripts_can_not_read_the_session(scene: Scene, page: Page, context: BrowserContext) -> None:
    await sign_in(page, scene)
    assert await page.evaluate("document.cookie") == ""
    cookies = await context.cookies()
    assert cookies
    for cookie in cookies:
        assert cookie["name"].startswith("__Host-")
        assert (cookie["httpOnly"], cookie["secure"], cookie["sameSite"]) == (True, True, "Strict")
        assert scene.tokens["full"] not in cookie["value"]


@pytest.mark.parametrize(
    "kind",
    [{}, {"color_scheme": "dark"}, {"viewport": {"width": 360, "height": 740}}],
    ids=["light", "dark", "phone"],
)
async def test_axe_finds_nothing_serious_on_any_page(
    scene: Scene, browser: Browser, kind: dict[str, Any]
) -> None:
    async with a_browser(browser, bypass_csp=True, **kind) as context:
        page = await context.new_page()
        await page.goto(f"{scene.console.public}/sign-in")
        assert await failing(page) == []
        await page.get_by_label("Kubernetes token").fill("nonsense")
        await page.get_by_role("button", name="Sign in").click()
        await expect(page.get_by_role("alert")).to_be_visible()
        assert await failing(page) == []
        await sign_in(page, scene)
        for path in await every_page(scene):
            await page.goto(f"{scene.console.public}{path}")
            await page.evaluate("for (const each of document.querySelectorAll('details')) each.open = true")
            assert await failing(page) == [], path


async def test_axe_finds_nothing_serious_where_somebody_may_do_nothing(
    scene: Scene, browser: Browser
) -> None:
    for who in ("view", "none"):
        async with a_browser(browser, bypass_csp=True) as context:
            page = await context.new_page()
            await sign_in(page, scene, who)
            for path in await every_page(scene):
                await page.goto(f"{scene.console.public}{path}")
                assert await failing(page) == [], (who, path)


async def every_page(scene: Scene) -> tuple[str, ...]:
    """Every page there is, the one for addresses that lead nowhere included."""
    events, _ = await scene.kube.page(EnvelopeEvent, limit=1, fields="status.phase=Succeeded")
    event = f"/events/{events[0]['metadata']['name']}"
    return (*PAGES, event, f"{event}/yaml", "/imports/old-stock", "/nowhere")


async def test_no_page_is_wider_than_a_phone(scene: Scene, browser: Browser) -> None:
    async with a_browser(browser, viewport={"width": 360, "height": 740}) as context:
        page = await context.new_page()
        await page.goto(f"{scene.console.public}/sign-in")
        assert await page.evaluate(WIDER_THAN_THE_WINDOW) == []
        await sign_in(page, scene)
        for path in await every_page(scene):
            await page.goto(f"{scene.console.public}{path}")
            wide = await page.evaluate(WIDER_THAN_THE_WINDOW)
            assert wide == [], path


async def test_on_a_phone_the_header_is_one_line_with_a_menu_and_the_content_begins_at_once(
    scene: Scene, browser: Browser
) -> None:
    async with a_browser(
        browser, viewport={"width": 390, "height": 844}, java_script_enabled=False
    ) as context:
        page = await context.new_page()
        await sign_in(page, scene)
        for path in (each for each in PAGES if each != "/events"):
            await page.goto(f"{scene.console.public}{path}")
            header = await page.locator("header").bounding_box()
            first = await page.locator("#live > *").first.bounding_box()
            assert header is not None
            assert first is not None
            assert header["height"] <= 60, path
            assert first["y"] < 300, path
        await page.locator("summary", has_text="Menu").click()
        await page.get_by_role("link", name="Archives").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text("Archives")


async def test_on_a_phone_the_menu_leads_to_another_namespace_and_back(
    scene: Scene, browser: Browser
) -> None:
    async with a_browser(browser, viewport={"width": 360, "height": 740}) as context:
        page = await context.new_page()
        await sign_in(page, scene, at="/archives")
        for name in (ELSEWHERE, NAMESPACE):
            await page.locator("summary", has_text="Menu").click()
            menu = page.get_by_role("navigation", name="Namespace")
            await expect(menu.get_by_role("link", name=NO_RIGHTS)).to_have_count(0)
            await menu.get_by_role("link", name=name, exact=True).click()
            await expect(page.get_by_role("heading", level=1)).to_have_text("Tasks")
            await expect(page.locator("nav.namespaces [aria-current]")).to_have_text(name)


async def test_a_namespace_without_rights_is_refused_at_its_address(scene: Scene, browser: Browser) -> None:
    async with a_browser(browser) as context:
        page = await context.new_page()
        await sign_in(page, scene)
        await page.goto(f"{scene.console.public}/namespaces/{NO_RIGHTS}/archives")
        await expect(page.get_by_role("heading", level=1)).to_have_text("You have no right to do that")


async def test_the_colours_are_those_of_the_system_until_a_person_chooses(
    scene: Scene, browser: Browser
) -> None:
    async with a_browser(browser, color_scheme="light", java_script_enabled=False) as context:
        page = await context.new_page()
        await sign_in(page, scene, at="/archives")
        body = page.locator("body")
        await expect(body).to_have_css("background-color", "rgb(255, 255, 255)")
        await page.locator("summary", has_text="Menu").click()
        await page.get_by_role("button", name="Dark").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text("Archives")
        await expect(body).to_have_css("background-color", "rgb(21, 24, 28)")
        await page.locator("summary", has_text="Menu").click()
        await page.get_by_role("button", name="As the system").click()
        await expect(body).to_have_css("background-color", "rgb(255, 255, 255)")


async def test_a_key_leads_to_the_search(scene: Scene, page: Page) -> None:
    await sign_in(page, scene, at="/senders")
    await page.keyboard.press("/")
    search = page.get_by_role("searchbox", name="Name or e-mail address")
    await expect(search).to_be_focused()
    await page.keyboard.type("a/b")
    await expect(search).to_have_value("a/b")


async def test_no_page_costs_more_than_its_budget(scene: Scene, browser: Browser) -> None:
    """Bytes and requests of the first load, until the browser says that the page is loaded."""
    async with a_browser(browser) as context:
        await sign_in(await context.new_page(), scene)
        state = await context.storage_state()
    for path in ("/sign-in", *await every_page(scene)):
        # Another browser each time: nothing of an earlier page is in its cache.
        async with a_browser(browser, storage_state={} if path == "/sign-in" else state) as fresh:
            page = await fresh.new_page()
            sizes = await loaded(page, f"{scene.console.public}{path}")
            await expect(page.get_by_label("Kubernetes token")).to_have_count(int(path == "/sign-in"))
            of_list = "#live > section.card" if path == "/attention" else "table.events tbody tr"
            rows = await page.locator(of_list).count()
        assert len(sizes) <= 6, (path, sizes)
        assert sum(sizes.values()) <= 100_000 + 1_800 * rows, (path, rows, sizes)


async def loaded(page: Page, url: str) -> dict[str, int]:
    """Load a page; return the number of bytes of each answer."""
    answers: list[Response] = []

    def note(answer: Response) -> None:
        answers.append(answer)

    page.on("response", note)
    await page.goto(url, wait_until="load")
    return {each.url: len(await each.body()) for each in answers}


async def test_everything_can_be_done_from_the_keyboard(scene: Scene, page: Page) -> None:
    (name,) = await a_problem(scene, "NotPermitted", 1)
    await sign_in(page, scene, at=f"/events/{name}")
    await page.keyboard.press("Tab")
    await expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    await page.keyboard.press("Enter")
    button = page.get_by_role("button", name="Retry")
    for _ in range(20):
        await page.keyboard.press("Tab")
        if await button.evaluate("each => each === document.activeElement"):
            break
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("status").first).to_contain_text("The retry has begun.")


async def test_it_works_where_scripts_do_not_run(scene: Scene, browser: Browser) -> None:
    (name,) = await a_problem(scene, "PathTooLong", 1)
    async with a_browser(browser, java_script_enabled=False) as context:
        page = await context.new_page()
        await sign_in(page, scene)
        await expect(page.get_by_role("img", name="Time from callback to archive")).to_be_visible()
        await page.goto(f"{scene.console.public}/events/{name}")
        await page.get_by_text("The object as YAML").first.click()
        await page.get_by_role("link", name="The object as YAML").click()
        await expect(page.locator("pre")).to_contain_text("apiVersion: counterfoil.dev/v1beta1")
        await page.get_by_role("link", name="Back to the event").click()
        await page.get_by_role("button", name="Retry").click()
        await expect(page.get_by_role("status").first).to_contain_text("The retry has begun.")


@pytest.mark.parametrize(
    ("locale", "titles"),
    [
        ("de-AT", ("Aufgaben", "Ereignisse", "Absender", "Archive", "Organisationen", "Importe")),
        ("it-IT", ("Attività", "Eventi", "Mittenti", "Archivi", "Organizzazioni", "Importazioni")),
    ],
    ids=["German", "Italian"],
)
async def test_every_page_speaks_the_browsers_language(
    scene: Scene, browser: Browser, locale: str, titles: tuple[str, ...]
) -> None:
    async with a_browser(browser, locale=locale, bypass_csp=True) as context:
        page = await context.new_page()
        await page.goto(f"{scene.console.public}/")
        await page.get_by_label("oken").fill(scene.tokens["full"])
        await page.locator("main button").click()
        for path, title in zip(PAGES, titles, strict=True):
            await page.goto(f"{scene.console.public}{path}")
            await expect(page.get_by_role("heading", level=1)).to_have_text(title)
        for path in await every_page(scene):
            await page.goto(f"{scene.console.public}{path}")
            await expect(page.locator("html")).to_have_attribute("lang", locale[:2])
            assert await failing(page) == [], path


# -- With a controller ---------------------------------------------------------------------------------------


async def test_what_a_person_asks_for_is_done_and_seen_without_loading_the_page_again(
    plane: ControlPlane, page: Page, tmp_path_factory: pytest.TempPathFactory
) -> None:
    await plane.namespace("browser-console-whole")
    folder = tmp_path_factory.mktemp("whole")
    async with console_scene(plane, "browser-console-whole", folder) as scene:
        root = folder / "dms"
        root.mkdir()
        local_environment, esaw = scene.local_environment, scene.local_environment.esaw
        anna = esaw.add_user(email="anna@example.com", given_name="Anna", surname="Kofler")
        await local_environment.archive("dms", filesystem={"root": str(root)})
        await local_environment.organization("acme", archive="dms", sender="anna")
        await local_environment.sender("anna", anna, organization="acme")
        await local_environment.controller()
        await local_environment.ready("archive/dms", "org/acme")
        receiver = await local_environment.receiver()
        esaw.set_default_callbacks(
            completed=local_environment.callback_url("acme", receiver), status_change=None
        )
        envelope = esaw.add_envelope(sender=anna, name="Lease", status="Active")
        occupied = root / "acme" / envelope
        occupied.parent.mkdir()
        occupied.write_text("Somebody else's file lies where the envelope's folder should be.")
        await esaw.complete(envelope)
        await _until_it_is_in_trouble(scene)

        (event,) = await local_environment.events()
        await sign_in(page, scene, at=f"/events/{event['metadata']['name']}")
        await expect(page.get_by_text("What to do:").first).to_be_visible()
        occupied.unlink()
        await page.get_by_role("button", name="Retry").click()

        await expect(page.get_by_role("heading", name="Succeeded ArchivedAndDeleted")).to_be_visible()
        assert not esaw.exists(envelope)


async def _until_it_is_in_trouble(scene: Scene) -> None:
    async with asyncio.timeout(BROWSER_STEP_MILLISECONDS / 1000):
        while True:
            events = await scene.local_environment.events()
            if events and "lastError" in json.dumps(events[0].get("status", {})):
                return
            if events and events[0].get("status", {}).get("phase") == "Failed":
                return
            await asyncio.sleep(0.1)
