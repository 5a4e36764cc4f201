"""
The demo's third organization: its people send from eSAW's web page, and no key is configured for them
anywhere.

A browser without a screen plays Carla, who is asked for consent once, fills in tags, and later renews a key
that died by the link in the one mail about it. ``manual_steps`` says how to do the same in a real browser.
"""

import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from counterfoil.resources import consented_sender_name
from sandbox.demo.envelopes import DemoEnvelopes
from sandbox.demo.output import DemoOutput
from sandbox.environment.local import LocalEnvironment
from sandbox.environment.processes import CounterfoilProcess
from sandbox.esaw import Browser, OAuthApp, StandIn, User
from sandbox.servers.smtp import SmtpServer

TIMEOUT_SECONDS = 60.0
ORGANIZATION = "initech"
PASSWORD = "carla"  # noqa: S105 - of a person of the demo, to be typed by hand
WAITING_ENVELOPES = 3
"""Number of envelopes that wait for the new key."""

FIELDS: list[dict[str, Any]] = [
    {"name": "customer", "label": "Customer", "required": True},
    {"name": "kind", "label": "Kind of contract", "options": ["Lease", "Sale"]},
]
FIELD_VALUES = {"tag.customer": "Rossi & Figli", "tag.kind": "Lease"}

Checked = tuple[str, bool]
"""The checks and their results."""


@dataclass
class ConsentDemo:
    """The parts of a demo run."""

    local_environment: LocalEnvironment
    envelopes: DemoEnvelopes
    pages: CounterfoilProcess
    mail: SmtpServer
    app: OAuthApp
    carla: User
    archive: Path

    @property
    def esaw(self) -> StandIn:
        """The stand-in eSAW."""
        return self.local_environment.esaw

    @property
    def output(self) -> DemoOutput:
        """The output of the demo."""
        return self.envelopes.output


@asynccontextmanager
async def consent_demo(
    local_environment: LocalEnvironment, envelopes: DemoEnvelopes, folder: Path
) -> AsyncIterator[ConsentDemo]:
    """Start the pages and a mail server; set the organization up."""
    async with SmtpServer() as mail:
        pages = await local_environment.pages()
        redirect_uri = f"{pages.public}/oauth/{ORGANIZATION}/return"
        app = local_environment.esaw.register_app(name="Counterfoil", redirect_uris=[redirect_uri])
        carla = local_environment.esaw.add_user(
            email="carla.moser@example.com", given_name="Carla", surname="Moser", password=PASSWORD
        )
        root = folder / f"archive-of-{ORGANIZATION}"
        root.mkdir()
        tags = {each["name"]: {"xpath": f"/tags/{each['name']}"} for each in FIELDS}
        await local_environment.archive(ORGANIZATION, filesystem={"root": str(root)}, tags=tags)
        await local_environment.secret(f"{ORGANIZATION}-oauth", "oauth", clientSecret=app.client_secret)
        await local_environment.organization(
            ORGANIZATION,
            archive=ORGANIZATION,
            oauth={
                "clientID": app.client_id,
                "clientSecretRef": {"name": f"{ORGANIZATION}-oauth", "key": "clientSecret"},
                "publicURL": pages.public,
            },
            beforeSend={"fields": FIELDS, "inboxURL": f"{local_environment.esaw.url}/Inbox/Index"},
            notifications=await local_environment.mails(mail, "admin@initech.example"),
        )
        await local_environment.ready(f"archive/{ORGANIZATION}", f"org/{ORGANIZATION}")
        yield ConsentDemo(local_environment, envelopes, pages, mail, app, carla, root)


async def run_consent_demo(consent_demo: ConsentDemo, receiver: CounterfoilProcess) -> list[Checked]:
    """Play Carla's story; return what had to be seen."""
    esaw = consent_demo.esaw
    query = "draftId=##EnvelopeId##&userId=##SenderUserId##&organizationId=##OrganizationId##"
    esaw.set_before_send_redirect(f"{consent_demo.pages.public}/before-send/{ORGANIZATION}?{query}")
    esaw.set_default_callbacks(
        completed=consent_demo.local_environment.callback_url(ORGANIZATION, receiver), status_change=None
    )
    async with Browser() as browser:
        consent_demo.output.step(
            "Carla sends from eSAW's web page; she consents once, and nobody copies a key"
        )
        await browser.open(f"{esaw.url}/Account/Login")
        await browser.press("Sign in", email=consent_demo.carla.email, password=PASSWORD)
        first, seen = await _send(consent_demo, browser, "Lease with Rossi")
        await esaw.complete(first)
        await consent_demo.envelopes.wait_for({"Succeeded"}, [first])
        checked = [
            ("the first Send asked for consent, once", seen.count("Allow") == 1),
            (
                "what Carla filled in is in the manifest",
                _archived_tags(consent_demo, first) == _expected_tags(),
            ),
            ("archived, and deleted in eSAW", not esaw.exists(first)),
        ]
        return checked + await _renew(consent_demo, browser)


async def _renew(consent_demo: ConsentDemo, browser: Browser) -> list[Checked]:
    esaw = consent_demo.esaw
    sent = [await _send(consent_demo, browser, f"Sale {number + 1}") for number in range(WAITING_ENVELOPES)]
    envelopes = [envelope for envelope, _ in sent]
    consent_demo.output.step(
        f"Carla's consent is withdrawn; then {WAITING_ENVELOPES} envelopes of hers finish"
    )
    esaw.withdraw_consent(consent_demo.carla, consent_demo.app.client_id)
    for each in envelopes:
        await esaw.complete(each)
    await consent_demo.envelopes.wait_for({"AwaitingConsent"}, envelopes)
    mail = (await consent_demo.mail.arrived(1, within=TIMEOUT_SECONDS))[0]
    consent_demo.output.step(f"One mail to {', '.join(mail.to)}: {mail.subject}")
    consent_demo.output.detail(*mail.text.rstrip().splitlines())

    consent_demo.output.step("Carla follows the link in the mail; everything that waited continues")
    link = re.search(rf"{re.escape(consent_demo.pages.public)}/consent/\S+", mail.text)
    await browser.open(link.group() if link is not None else "about:blank")
    _print_page(consent_demo, browser)
    await browser.press("Allow")
    _print_page(consent_demo, browser)
    await consent_demo.envelopes.wait_for({"Succeeded"}, envelopes)
    senders = (await consent_demo.local_environment.kubectl("get", "senders")).rstrip()
    consent_demo.output.detail("$ kubectl get senders", *senders.splitlines())
    return [
        ("later Sends asked nothing but the tags", not any("Allow" in seen for _, seen in sent)),
        (f"{WAITING_ENVELOPES} envelopes waited for a new key: one mail", len(consent_demo.mail.mails) == 1),
        ("one click on its link, and all continued", not any(esaw.exists(each) for each in envelopes)),
    ]


async def _send(consent_demo: ConsentDemo, browser: Browser, name: str) -> tuple[str, list[str]]:
    """Send one envelope from eSAW's page; return it, and the buttons that were shown."""
    await browser.open(f"{consent_demo.esaw.url}/Drafts/New")
    await browser.press("Create draft", name=name)
    draft = browser.page.url.rpartition("/")[2]
    await browser.press("NEXT")
    seen = []
    for button, given in (("Allow", {}), ("Send envelope", FIELD_VALUES)):
        if button in browser.page.buttons:
            _print_page(consent_demo, browser)
            seen.append(button)
            await browser.press(button, **given)
    _print_page(consent_demo, browser)
    envelope = consent_demo.esaw.envelope_of(draft)
    if envelope is None:
        raise RuntimeError(f"{name} was not sent; the browser shows: {browser.page.text}")
    carla = consent_demo.carla
    return consent_demo.envelopes.add(envelope, name, f"{carla.given_name} {carla.surname}"), seen


def _print_page(consent_demo: ConsentDemo, browser: Browser) -> None:
    own = [each for each in browser.page.buttons if each != "Sign out"]
    buttons = "".join(f"  [{each}]" for each in own)
    consent_demo.output.detail(
        f"  {browser.page.url.partition('?')[0]}", f"      {browser.page.title}{buttons}"
    )


def _archived_tags(consent_demo: ConsentDemo, envelope: str) -> dict[str, Any]:
    manifest = json.loads(next(consent_demo.archive.rglob(f"{envelope}/counterfoil.json")).read_text())
    found: dict[str, Any] = manifest["tags"]
    return found


def _expected_tags() -> dict[str, str]:
    return {name.removeprefix("tag."): value for name, value in FIELD_VALUES.items()}


def manual_steps(consent_demo: ConsentDemo) -> str:
    """Return how to do it in a real browser on this machine."""
    name = consented_sender_name(ORGANIZATION, consent_demo.carla.user_id)
    newest = (
        f"kubectl -n {consent_demo.local_environment.namespace} get env "
        "--sort-by=.metadata.creationTimestamp -o name | tail -n 1"
    )
    return f"""  Send as a person does: {consent_demo.esaw.url}/Drafts/New
                         sign in as {consent_demo.carla.email}, password {PASSWORD}; then Create draft, NEXT
  Then let all sign:     ID=$({newest} | cut -d/ -f2)
                         curl -d '{{"envelope_id":"'$ID'"}}' {consent_demo.esaw.url}/_control/complete
  A new consent:         {consent_demo.pages.public}/consent/{ORGANIZATION}/{name}"""
