"""
Setup of the browser tests of consent: a whole installation, and users with a Chromium each.

eSAW is at 127.0.0.1 and the pages are at localhost, so that they are two sites for a browser: cookies and
policies do what they do out there.
"""

import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from playwright.async_api import Page

from counterfoil.resources import Sender, consented_sender_name
from counterfoil.sealing import Sealing
from sandbox.controlplane.control_plane import ControlPlane
from sandbox.environment.local import LocalEnvironment, local_environment
from sandbox.environment.processes import CounterfoilProcess
from sandbox.esaw import OAuthApp, StandIn, User
from sandbox.servers.smtp import ReceivedMail, SmtpServer
from tests.support.pauses import eventually
from tests.support.scenes.pages import FIELDS, PASSWORD

PATIENCE_SECONDS = 60.0
ADMINISTRATOR = "admin@acme.example"
QUERY = "draftId=##EnvelopeId##&userId=##SenderUserId##&organizationId=##OrganizationId##"


@dataclass
class Scene:
    """Organizations with pages, receiver, controller, eSAW and a mail server; the tests share it, with
    separate users."""

    local_environment: LocalEnvironment
    mail: SmtpServer
    receiver: CounterfoilProcess
    pages: CounterfoilProcess
    public: str
    """Address of the pages for browsers."""
    apps: dict[str, OAuthApp] = field(default_factory=dict)

    @property
    def esaw(self) -> StandIn:
        """The stand-in eSAW."""
        return self.local_environment.esaw

    @property
    def inbox(self) -> str:
        """Address of the last page."""
        return f"{self.esaw.url}/Inbox/Index"

    async def organization(self, name: str, **before_send: Any) -> None:
        """Set one organization up as its administrator would."""
        redirect_uri = f"{self.public}/oauth/{name}/return"
        app = self.esaw.register_app(name=f"Counterfoil of {name}", redirect_uris=[redirect_uri])
        self.apps[name] = app
        secret = {"clientSecret": app.client_secret}
        await self.local_environment.secret(f"{name}-oauth", "oauth", origin=self.esaw.url, **secret)
        await self.local_environment.organization(
            name,
            archive="folder",
            oauth={
                "clientID": app.client_id,
                "clientSecretRef": {"name": f"{name}-oauth", "key": "clientSecret"},
                "publicURL": self.public,
            },
            beforeSend={"inboxURL": self.inbox, **before_send},
            notifications=await self.local_environment.mails(self.mail, ADMINISTRATOR),
        )

    def belongs_to(self, organization: str) -> None:
        """From now on eSAW's settings are those of this organization."""
        self.esaw.set_before_send_redirect(f"{self.public}/before-send/{organization}?{QUERY}")
        self.esaw.set_default_callbacks(
            completed=self.local_environment.callback_url(organization, self.receiver), status_change=None
        )

    def a_user(self, name: str) -> User:
        """Somebody who has never sent anything."""
        return self.esaw.add_user(
            email=f"{name.lower()}@example.com", given_name=name, surname="Tester", password=PASSWORD
        )

    def link(self, organization: str, draft: str, user: User) -> str:
        """Target of NEXT."""
        return f"{self.public}/before-send/{organization}?draftId={draft}&userId={user.user_id}"

    def envelope_of(self, draft: str) -> str:
        """The envelope that a draft was sent as."""
        envelope = self.esaw.envelope_of(draft)
        assert envelope is not None, "the draft was not sent"
        return envelope

    async def event_of(self, envelope: str) -> dict[str, Any]:
        """The status of the envelope's event; empty before there is one."""
        found = await self.local_environment.events("-l", f"counterfoil.dev/envelope={envelope}")
        status: dict[str, Any] = found[0].get("status", {}) if found else {}
        return status

    async def until_phase(self, phase: str, *envelopes: str) -> None:
        """Wait until the events of these envelopes are in this phase."""

        async def are() -> bool:
            events = await self.local_environment.events()
            wanted = [each for each in events if each["spec"]["envelopeID"] in envelopes]
            phases = [each.get("status", {}).get("phase") for each in wanted]
            return phases == [phase] * len(envelopes)

        await eventually(are)

    async def sender_of(self, envelope: str) -> str:
        """The recorded sender of an envelope."""
        found = await self.local_environment.read("envelope", envelope)
        name: str = found["spec"]["senderRef"]["name"]
        return name

    def manifest_of(self, envelope: str) -> dict[str, Any]:
        """The archive's manifest of an envelope."""
        path = next((self.local_environment.folder / "archive").rglob(f"{envelope}/counterfoil.json"))
        manifest: dict[str, Any] = json.loads(path.read_text())
        return manifest

    async def token_of(self, user: User) -> str:
        """The key that a user's consent gave, opened as the controller opens it."""
        sender = await self.local_environment.read("sender", sender_name("acme", user))
        secret = await self.local_environment.read("secret", sender["metadata"]["name"])
        data = base64.b64decode(secret["data"]["token"])
        opened = Sealing(self.local_environment.sealing_keys).open(
            data, self.local_environment.namespace, Sender.parse(sender)
        )
        return opened.reveal()

    async def all_that_is_written(self) -> dict[str, str]:
        """Every text that anybody could read who may not read Secrets, by where it stands."""
        kubectl = self.local_environment.kubectl
        listed = (await kubectl("api-resources", "--verbs=list", "--namespaced", "-o", "name")).split()
        kinds = ",".join(kind for kind in listed if kind != "secrets")
        written = {"objects": await kubectl("get", kinds, "-o", "yaml", "--show-managed-fields")}
        written |= {path.name: path.read_text() for path in self.local_environment.folder.glob("*.log")}
        written |= {
            f"metrics of {each.name}": await each.metrics() for each in self.local_environment.processes
        }
        written["mails"] = "".join(f"{each.raw!r}{each.text}{each.html}" for each in self.mail.mails)
        manifests = (self.local_environment.folder / "archive").rglob("counterfoil.*")
        return written | {str(path): path.read_text() for path in manifests}

    def mails_to(self, user: User) -> list[ReceivedMail]:
        """Mails that the mail server accepted for a recipient."""
        return [each for each in self.mail.mails if user.email in each.to]


def sender_name(organization: str, user: User) -> str:
    """Name of the Sender that a user's consent created."""
    return consented_sender_name(organization, user.user_id)


async def sign_in(page: Page, scene: Scene, user: User) -> None:
    """Log in at eSAW, as people do."""
    await page.goto(scene.inbox)
    await page.get_by_label("E-mail").fill(user.email)
    await page.get_by_label("Password").fill(PASSWORD)
    await page.get_by_role("button", name="Sign in").click()
    await page.wait_for_url(scene.inbox)


async def a_draft(page: Page, scene: Scene, name: str = "Lease") -> str:
    """Write a draft on eSAW's pages, up to the one with NEXT; return its id."""
    await page.goto(f"{scene.esaw.url}/Drafts/New")
    await page.get_by_label("Name", exact=True).fill(name)
    await page.get_by_role("button", name="Create draft").click()
    await page.get_by_role("button", name="NEXT").wait_for()
    return urlsplit(page.url).path.rpartition("/")[2]


async def press(page: Page, words: str) -> None:
    """Press a button."""
    await page.get_by_role("button", name=words).click()


@asynccontextmanager
async def consent_scene(plane: ControlPlane, namespace: str, folder: Path) -> AsyncIterator[Scene]:
    """Set the scene: ``acme`` asks for tags, ``plain`` does not."""
    async with SmtpServer() as mail, local_environment(plane, folder, namespace=namespace) as built:
        (folder / "archive").mkdir()
        await built.archive(
            "folder",
            filesystem={"root": str(folder / "archive")},
            tags={"costCenter": {"xpath": "/tags/costCenter"}, "kind": {"xpath": "/tags/kind"}},
        )
        pages = await built.pages()
        public = f"http://localhost:{urlsplit(pages.public).port}"
        receiver = await built.receiver()
        scene = Scene(built, mail, receiver, pages, public)
        await scene.organization("acme", fields=FIELDS)
        await scene.organization("plain")
        await built.controller()
        await built.ready("archive/folder", "organization/acme", "organization/plain")
        yield scene
