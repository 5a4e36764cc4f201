"""
Takes all pictures in docs/screenshots/: ``.venv/bin/python docs/tools/generate_screenshots.py`` (two minutes;
needs Debian's chromium).

All that the pictures of pages show happened: a whole installation archives into an S3 server, on a real API
server, with the stand-in eSAW. People consent and send with a browser. The pictures of the plugin are drawn
from what docs/plugin.md shows (``generate_terminal_pictures``). A test compares these.
"""

import asyncio
import tempfile
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
from playwright.async_api import Browser, BrowserContext, Page

from docs.tools import generate_terminal_pictures
from sandbox.browser.chromium import chromium
from sandbox.controlplane import rbac
from sandbox.controlplane.control_plane import control_plane
from sandbox.demo.archives import BUCKET, DemoArchive, demo_archive
from sandbox.environment.local import local_environment
from sandbox.esaw import DocumentSpec, User
from sandbox.servers.smtp import SmtpServer
from tests.support.pauses import eventually
from tests.support.scenes.browser_consent import Scene, a_draft, press, sender_name, sign_in
from tests.support.scenes.pages import PASSWORD

FOLDER = Path(__file__).parents[1] / "screenshots"
SIZE = {"width": 1280, "height": 900}
PHONE = {"width": 390, "height": 844}
NAMESPACE = "contracts"

PAGES = {
    "attention": "/attention",
    "events": "/events",
    "event": "/events/{event}",
    "senders": "/senders",
    "archives": "/archives",
    "organizations": "/organizations",
    "check": "/organizations/acme/check",
}

FIELDS = [
    {"name": "costCenter", "label": "Cost centre", "required": True, "pattern": "[0-9]{4}"},
    {"name": "kind", "label": "Kind of contract", "options": ["Rent", "Sale", "Service"]},
]
METADATA = "<tags><costCenter>4711</costCenter><kind>Rent</kind></tags>"
ARCHIVED = (
    "Rental contract Rossi",
    "Sale of a garage",
    "Cleaning service 2027",
    "Parking space 14",
    "Lease Huber",
)
WAITING = ("Rental contract Kofler", "Rental contract Moser", "Sublease Kofler")


@dataclass
class Pictures:
    """A browser, and what it takes pictures of."""

    browser: Browser
    scene: Scene
    console: str
    token: str

    async def of_console(self, path: str, name: str, **kind: Any) -> None:
        """Take a picture of a page of the console, in a browser of this kind."""
        async with self.context(**kind) as context:
            page = await context.new_page()
            await page.goto(self.console)
            await page.get_by_label("Kubernetes token").fill(self.token)
            await page.get_by_role("button", name="Sign in").click()
            await page.goto(f"{self.console}{path}", wait_until="networkidle")
            await page.screenshot(path=FOLDER / f"console-{name}.png")

    @asynccontextmanager
    async def context(self, **kind: Any) -> AsyncIterator[BrowserContext]:
        """A browser of somebody."""
        async with await self.browser.new_context(**{"locale": "en-GB", "viewport": SIZE, **kind}) as context:
            yield context


async def install(scene: Scene, store: DemoArchive, ben: User) -> None:
    """Create what an administrator creates: archives, an organization, and a sender who brings a key."""
    built = scene.local_environment
    await built.secret("second-archive", "archive", **store.secret)
    tags = {
        "costCenter": {"xpath": "/tags/costCenter", "required": True},
        "kind": {"xpath": "/tags/kind"},
    }
    await built.archive(BUCKET, **store.spec, tags=tags)
    await built.archive("old-share", filesystem={"root": "/srv/contracts"})
    app = scene.esaw.register_app(name="Counterfoil", redirect_uris=[f"{scene.public}/oauth/acme/return"])
    scene.apps["acme"] = app
    await built.secret("acme-oauth", "oauth", origin=scene.esaw.url, clientSecret=app.client_secret)
    await built.organization(
        "acme",
        archive=BUCKET,
        sender="ben",
        evidence={"wait": "1s"},
        oauth={
            "clientID": app.client_id,
            "clientSecretRef": {"name": "acme-oauth", "key": "clientSecret"},
            "publicURL": scene.public,
        },
        beforeSend={"inboxURL": scene.inbox, "fields": FIELDS},
        notifications=await built.mails(scene.mail, "admin@acme.example"),
    )
    await built.sender("ben", ben, organization="acme")
    await built.controller()
    await built.ready(f"archive/{BUCKET}", "organization/acme")
    scene.belongs_to("acme")


async def send_with_consent(pictures: Pictures, anna: User) -> list[str]:
    """Let Anna consent and send, with pictures of what she sees; return her envelopes."""
    scene, envelopes = pictures.scene, []
    async with pictures.context(viewport={"width": 800, "height": 700}) as context:
        page = await context.new_page()
        await sign_in(page, scene, anna)
        for number, name in enumerate(WAITING):
            draft = await a_draft(page, scene, name)
            await press(page, "NEXT")
            if number == 0:
                await press(page, "Allow")
                await page.get_by_label("Cost centre").wait_for()
                await page.screenshot(path=FOLDER / "before-send-form.png")
                await with_fault(page)
            await page.get_by_label("Cost centre").fill("4711")
            await page.get_by_label("Kind of contract").select_option("Rent")
            await press(page, "Send envelope")
            await page.wait_for_url(scene.inbox)
            envelopes.append(scene.envelope_of(draft))
        await page.goto(f"{scene.public}/consent/acme/{sender_name('acme', anna)}")
        await page.get_by_role("heading", name="Thank you").wait_for()
        await page.screenshot(path=FOLDER / "consent-done.png")
    return envelopes


async def with_fault(page: Page) -> None:
    """Take a picture of the form after an error."""
    await page.get_by_label("Cost centre").evaluate("input => input.removeAttribute('pattern')")
    await page.get_by_label("Cost centre").fill("47a1")
    await press(page, "Send envelope")
    await page.get_by_role("alert").wait_for()
    await page.screenshot(path=FOLDER / "before-send-form-fault.png")


async def work(scene: Scene, anna: User, ben: User, waiting: list[str]) -> str:
    """Let envelopes be archived, fail and wait; return the name of an event that is archived."""
    esaw, archived = scene.esaw, []
    for name in ARCHIVED:
        envelope = esaw.add_envelope(
            sender=ben,
            name=name,
            status="Active",
            documents=[DocumentSpec(name=f"{name}.pdf")],
            metadata=METADATA,
        )
        archived.append(envelope)
        await esaw.complete(envelope)
    url = scene.local_environment.callback_url("acme", scene.receiver).replace(
        "##Action##", "envelopeFinished"
    )
    async with httpx.AsyncClient(trust_env=False) as http:
        for _ in range(2):
            await http.get(url.replace("##EnvelopeId##", str(uuid.uuid4())))
    untagged = esaw.add_envelope(sender=ben, name="Without a cost centre", status="Active")
    await esaw.complete(untagged)
    esaw.withdraw_consent(anna, scene.apps["acme"].client_id)
    for envelope in waiting:
        await esaw.complete(envelope)
    await scene.until_phase("Succeeded", *archived)
    await scene.until_phase("AwaitingConsent", *waiting)
    await scene.local_environment.kubectl("label", "organization", "acme", "counterfoil.dev/request=check")

    async def is_counted() -> bool:
        status = (await scene.local_environment.read("organization", "acme")).get("status", {})
        events = await scene.local_environment.events()
        reasons = [each.get("status", {}).get("reason") for each in events]
        is_settled = reasons.count("EnvelopeNotFound") == 2 and "TagMissing" in reasons
        return (
            is_settled
            and "check" in status
            and status.get("events", {}).get("AwaitingConsent") == len(waiting)
        )

    await eventually(is_counted, within=180)
    found = await scene.local_environment.events("-l", f"counterfoil.dev/envelope={archived[0]}")
    event: str = found[0]["metadata"]["name"]
    return event


async def main() -> None:
    """Take them all."""
    FOLDER.mkdir(exist_ok=True)
    generate_terminal_pictures.main()
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        plane = await stack.enter_async_context(control_plane())
        browser = await stack.enter_async_context(chromium())
        await plane.apply_crds()
        await plane.namespace(NAMESPACE)
        store = await stack.enter_async_context(demo_archive("s3", folder))
        mail = await stack.enter_async_context(SmtpServer())
        built = await stack.enter_async_context(local_environment(plane, folder, namespace=NAMESPACE))
        pages, receiver = await built.pages(), await built.receiver()
        public = f"http://localhost:{urlsplit(pages.public).port}"
        scene = Scene(built, mail, receiver, pages, public)
        anna, ben = (
            built.esaw.add_user(
                email=f"{given}.{name}@example.com".lower(), given_name=given, surname=name, password=PASSWORD
            )
            for given, name in (("Anna", "Kofler"), ("Ben", "Huber"))
        )
        await install(scene, store, ben)
        console = await built.console(kubeconfig=None)
        token = await built.person("jane", *rbac.ADMINISTRATOR)
        pictures = Pictures(browser, scene, console.public, token)
        event = await work(scene, anna, ben, await send_with_consent(pictures, anna))
        for name, path in PAGES.items():
            await pictures.of_console(path.format(event=event), name)
        await pictures.of_console("/attention", "attention-phone", viewport=PHONE, color_scheme="dark")


if __name__ == "__main__":
    asyncio.run(main())
