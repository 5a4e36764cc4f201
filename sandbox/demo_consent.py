"""
The demo's third organization: its people send from eSAW's web page, and no key is configured for them anywhere.

A browser without a screen plays Carla, who is asked for consent once, fills in tags, and later renews a key that died by the link
in the one mail about it. ``by_hand`` says how to do the same in a real browser.
"""

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from counterfoil.resources import consented_sender_name
from sandbox.esaw import Browser, OAuthApp, StandIn, User
from sandbox.mail import MailServer
from sandbox.stage import Process, Stage

PATIENCE_SECONDS = 60.0
ORGANIZATION = "initech"
PASSWORD = "carla"  # noqa: S105 - of a person of the demo, to be typed by hand
WAITING = 3
"""So many envelopes wait for the new key."""

FIELDS: list[dict[str, Any]] = [
    {"name": "customer", "label": "Customer", "required": True},
    {"name": "kind", "label": "Kind of contract", "options": ["Lease", "Sale"]},
]
ANSWERS = {"tag.customer": "Rossi & Figli", "tag.kind": "Lease"}

Checked = tuple[str, bool]
"""What had to be seen, and whether it was."""


@dataclass
class Consenting:
    """What is on stage."""

    stage: Stage
    pages: Process
    mail: MailServer
    app: OAuthApp
    carla: User
    archive: Path

    @property
    def esaw(self) -> StandIn:
        """The stand-in eSAW."""
        return self.stage.esaw

    async def are(self, phase: str, envelopes: list[str]) -> None:
        """Wait until the events of these envelopes are in this phase. Raises TimeoutError."""
        until, found = time.monotonic() + PATIENCE_SECONDS, {}
        while time.monotonic() < until:
            events = await self.stage.events("-l", f"counterfoil.dev/organization={ORGANIZATION}")
            found = {each["spec"]["envelopeId"]: each.get("status", {}).get("phase") for each in events}
            if all(found.get(each) == phase for each in envelopes):
                return
            await asyncio.sleep(0.3)
        raise TimeoutError(f"not {phase} within {PATIENCE_SECONDS:.0f} s: {found}")


@asynccontextmanager
async def consenting(stage: Stage, folder: Path) -> AsyncIterator[Consenting]:
    """Start the pages and a mail server; set the organization up."""
    async with MailServer() as mail:
        pages = await stage.pages()
        redirect_uri = f"{pages.public}/oauth/{ORGANIZATION}/return"
        app = stage.esaw.register_app(name="Counterfoil", redirect_uris=[redirect_uri])
        carla = stage.esaw.add_user(
            email="carla.moser@example.com", given_name="Carla", surname="Moser", password=PASSWORD
        )
        root = folder / f"archive-of-{ORGANIZATION}"
        root.mkdir()
        tags = {each["name"]: {"xpath": f"/tags/{each['name']}"} for each in FIELDS}
        await stage.archive(ORGANIZATION, filesystem={"root": str(root)}, tags=tags)
        await stage.secret(f"{ORGANIZATION}-oauth", clientSecret=app.client_secret)
        await stage.organization(
            ORGANIZATION,
            archive=ORGANIZATION,
            oauth={
                "clientId": app.client_id,
                "clientSecretRef": {"name": f"{ORGANIZATION}-oauth", "key": "clientSecret"},
                "publicURL": pages.public,
            },
            beforeSend={"fields": FIELDS, "inboxURL": f"{stage.esaw.url}/Documents"},
            notifications=await stage.mails(mail, "admin@initech.example"),
        )
        await stage.ready(f"archive/{ORGANIZATION}", f"org/{ORGANIZATION}")
        yield Consenting(stage, pages, mail, app, carla, root)


async def play(scene: Consenting, receiver: Process, say: Callable[[str], None]) -> list[Checked]:
    """Play Carla's story; return what had to be seen."""
    esaw = scene.esaw
    query = "draftId=##EnvelopeId##&userId=##SenderUserId##&organizationId=##OrganizationId##"
    esaw.set_before_send_redirect(f"{scene.pages.public}/before-send/{ORGANIZATION}?{query}")
    esaw.set_default_callbacks(completed=scene.stage.callback_url(ORGANIZATION, receiver), status_change=None)
    async with Browser() as browser:
        say("Carla sends from eSAW's web page; there is no key of hers anywhere yet")
        await browser.open(f"{esaw.url}/Auth/Login")
        await browser.press("Sign in", email=scene.carla.email, password=PASSWORD)
        first, seen = await _send(scene, browser, "Lease with Rossi")
        await esaw.complete(first)
        await scene.are("Succeeded", [first])
        checked = [
            ("the first Send asked for consent, once", seen.count("Allow") == 1),
            ("what Carla filled in is in the manifest", _tags(scene, first) == _answered()),
            ("archived, and deleted in eSAW", not esaw.exists(first)),
        ]
        return checked + await _renew(scene, browser, say)


async def _renew(scene: Consenting, browser: Browser, say: Callable[[str], None]) -> list[Checked]:
    esaw = scene.esaw
    sent = [await _send(scene, browser, f"Sale {number + 1}") for number in range(WAITING)]
    envelopes = [envelope for envelope, _ in sent]
    say(f"Carla's key is withdrawn in eSAW; then {WAITING} envelopes of hers are completed")
    esaw.withdraw_consent(scene.carla, scene.app.client_id)
    for each in envelopes:
        await esaw.complete(each)
    await scene.are("AwaitingConsent", envelopes)
    mail = (await scene.mail.arrived(1, within=PATIENCE_SECONDS))[0]
    print(f"\nThe mail to {', '.join(mail.to)}: {mail.subject}\n\n{mail.text.rstrip()}", flush=True)

    say("Carla follows the link in the mail")
    link = re.search(rf"{re.escape(scene.pages.public)}/consent/\S+", mail.text)
    await browser.open(link.group() if link is not None else "about:blank")
    _tell(browser)
    await browser.press("Allow")
    _tell(browser)
    await scene.are("Succeeded", envelopes)
    print(await scene.stage.kubectl("get", "senders"), flush=True)
    return [
        ("later Sends asked nothing but the tags", not any("Allow" in seen for _, seen in sent)),
        (f"{WAITING} envelopes waited for a new key: one mail", len(scene.mail.mails) == 1),
        ("one click on its link, and all went on", not any(esaw.exists(each) for each in envelopes)),
    ]


async def _send(scene: Consenting, browser: Browser, name: str) -> tuple[str, list[str]]:
    """Send one envelope from eSAW's page; return it, and the buttons that were seen on the way."""
    await browser.open(f"{scene.esaw.url}/Drafts/New")
    await browser.press("Create draft", name=name)
    draft = browser.page.url.rpartition("/")[2]
    await browser.press("NEXT")
    seen = []
    for button, given in (("Allow", {}), ("Send envelope", ANSWERS)):
        if button in browser.page.buttons:
            _tell(browser)
            seen.append(button)
            await browser.press(button, **given)
    _tell(browser)
    envelope = scene.esaw.envelope_of(draft)
    if envelope is None:
        raise RuntimeError(f"{name} was not sent; the browser shows: {browser.page.text}")
    return envelope, seen


def _tell(browser: Browser) -> None:
    own = [each for each in browser.page.buttons if each != "Sign out"]
    buttons = "".join(f"  [{each}]" for each in own)
    print(f"  {browser.page.url.partition('?')[0]}\n      {browser.page.title}{buttons}", flush=True)


def _tags(scene: Consenting, envelope: str) -> dict[str, Any]:
    manifest = json.loads(next(scene.archive.rglob(f"{envelope}/counterfoil.json")).read_text())
    found: dict[str, Any] = manifest["tags"]
    return found


def _answered() -> dict[str, str]:
    return {name.removeprefix("tag."): value for name, value in ANSWERS.items()}


def by_hand(scene: Consenting) -> str:
    """Return how to do it in a real browser on this machine."""
    name = consented_sender_name(ORGANIZATION, scene.carla.user_id)
    newest = f"kubectl -n {scene.stage.namespace} get env --sort-by=.metadata.creationTimestamp -o name | tail -n 1"
    return f"""  Send as a person does: {scene.esaw.url}/Drafts/New
                         sign in as {scene.carla.email}, password {PASSWORD}; then Create draft, NEXT
  Then let all sign:     ID=$({newest} | cut -d/ -f2)
                         curl -d '{{"envelope_id":"'$ID'"}}' {scene.esaw.url}/_control/complete
  A new consent:         {scene.pages.public}/consent/{ORGANIZATION}/{name}"""
