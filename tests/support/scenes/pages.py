"""
Scenes for the tests of the pages: a control plane, the stand-in eSAW, a pages process with its rights,
browsers.
"""

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from counterfoil.resources import Sender
from counterfoil.sealing import Sealing
from sandbox.controlplane.control_plane import ControlPlane
from sandbox.environment.local import LocalEnvironment, local_environment
from sandbox.environment.processes import CounterfoilProcess
from sandbox.esaw import OAuthApp, StandIn, User
from sandbox.esaw.browser import Browser
from tests.support.servers.standin_peers import client_of

PASSWORD = "a password of Anna's own"
ATTEMPT = "3s"
"""Timeout for an attempt to send; it is short, because the tests wait for it."""

FIELDS = [
    {"name": "costCenter", "label": "Cost centre", "required": True, "pattern": "[0-9]{4}"},
    {"name": "kind", "label": "Kind", "options": ["Lease", "Sale"]},
]


@dataclass
class Scene:
    """One organization with pages, and who uses them."""

    local_environment: LocalEnvironment
    pages: CounterfoilProcess
    app: OAuthApp
    anna: User
    bruno: User
    replicas: list[CounterfoilProcess] = field(default_factory=list)

    @property
    def esaw(self) -> StandIn:
        return self.local_environment.esaw

    def link(self, draft: str, user: User | None = None, *, pages: CounterfoilProcess | None = None) -> str:
        """Return the address to which eSAW sends a browser that wants to send this draft."""
        user_id = (user or self.anna).user_id
        base = (pages or self.pages).public
        query = f"draftId={draft}&userId={user_id}&organizationId={self.esaw.organization_id}"
        return f"{base}/before-send/acme?{query}"

    async def organization(self, **spec: Any) -> None:
        """Set the organization up (again)."""
        oauth = {
            "clientID": self.app.client_id,
            "clientSecretRef": {"name": "acme-oauth", "key": "clientSecret"},
            "publicURL": self.pages.public,
        }
        before_send = {"inboxURL": f"{self.esaw.url}/Inbox/Index", **spec.pop("beforeSend", {})}
        await self.local_environment.organization(
            "acme", archive="folder", oauth={**oauth, **spec.pop("oauth", {})}, beforeSend=before_send, **spec
        )

    async def sign_in(self, user: User | None = None, **options: Any) -> Browser:
        """Open a browser and sign in to eSAW."""
        browser = Browser(**options)
        await browser.open(f"{self.esaw.url}/Account/Login")
        await browser.press("Sign in", email=(user or self.anna).email, password=PASSWORD)
        return browser

    async def consented(self, user: User | None = None) -> Browser:
        """Open a browser of somebody who has sent before, and so has given consent."""
        browser = await self.sign_in(user)
        draft = self.esaw.add_draft(owner=user or self.anna, name="First")
        await browser.open(self.link(draft, user))
        if "Allow" in browser.page.buttons:
            await browser.press("Allow")
        if "Send envelope" in browser.page.buttons:
            await browser.press("Send envelope", **{"tag.costCenter": "1111"})
        assert self.esaw.envelope_of(draft), browser.page.text
        return browser

    async def envelopes(self) -> dict[str, dict[str, Any]]:
        """All Envelopes, by name."""
        return {each["metadata"]["name"]: each["spec"] for each in await self.listed("envelopes")}

    async def senders(self) -> list[dict[str, Any]]:
        """All Senders."""
        return await self.listed("senders")

    async def metadata(self, envelope: str, user: User | None = None) -> str:
        """The metadata of an envelope, as eSAW has it."""
        async with client_of(self.esaw, user or self.anna) as http:
            answer: dict[str, str] = (await http.get(f"envelope/{envelope}/configuration")).json()
            return answer["MetaData"]

    async def token(self, sender: dict[str, Any], *, own: str | None = None) -> str:
        """The token in a Sender's Secret, opened as the controller opens it; ``own``: the release's own
        namespace, if it is another one."""
        secret = await self.local_environment.read("secret", sender["metadata"]["name"])
        data = base64.b64decode(secret["data"]["token"])
        namespace = self.local_environment.namespace
        sealing = Sealing(self.local_environment.sealing_keys).for_namespace(namespace, own=own or namespace)
        return sealing.open(data, namespace, Sender.parse(sender)).reveal()

    async def listed(self, kind: str) -> list[dict[str, Any]]:
        """All objects of a kind."""
        return await self.local_environment.listed(kind)

    async def left_objects(self) -> str:
        """Everything that sending leaves, but Secrets, as a text to search in."""
        return str([await self.listed(kind) for kind in ("leases", "envelopes", "senders")])

    async def traces(self) -> set[str]:
        """The names of everything that the pages can have made, but used states."""
        made = await self.local_environment.kubectl("get", "senders,envelopes,secrets", "-o", "name")
        notes = await self.local_environment.kubectl(
            "get", "leases", "-l", "counterfoil.dev/note in (draft,sent)", "-o", "name"
        )
        return {*made.split(), *notes.split()}

    def a_user(self, name: str) -> User:
        """One more user, for tests that share the scene."""
        return self.esaw.add_user(
            email=f"{name.lower()}@example.com", given_name=name, surname="Tester", password=PASSWORD
        )


@dataclass
class Tab:
    """A browser's tab that goes one step at a time, with the cookies of a browser that is signed in."""

    scene: Scene
    http: httpx.AsyncClient

    async def get(self, url: str, **headers: str) -> httpx.Response:
        """One request; no redirect is followed."""
        return await self.http.get(url, headers=headers)

    async def leave(self, link: str) -> httpx.URL:
        """Open a link of the pages; where eSAW is asked for a code."""
        answer = await self.get(link)
        assert answer.status_code == 303, answer.text
        return httpx.URL(answer.headers["Location"])

    async def back(self, link: str) -> httpx.URL:
        """Open a link and go through eSAW, which asks nothing any more; the way back, not gone yet."""
        answer = await self.get(str(await self.leave(link)))
        assert answer.status_code == 302, answer.text
        return httpx.URL(answer.headers["Location"])


@asynccontextmanager
async def a_tab(scene: Scene, browser: Browser | None = None) -> AsyncIterator[Tab]:
    """Open a tab in a browser, or in one that nobody has used before."""
    cookies = browser.cookies if browser is not None else None
    async with httpx.AsyncClient(cookies=cookies, trust_env=False, timeout=60, verify=False) as http:
        yield Tab(scene, http)


SETTINGS = {
    "attempt": ATTEMPT,
    # All tests of a module come from one address, and none of them is about its rate.
    "address_rate": "1000",
    "address_burst": "10000",
    "page_rate": "1000",
    "page_burst": "10000",
}


@asynccontextmanager
async def pages_scene(
    plane: ControlPlane, namespace: str, folder: Path, **settings: str
) -> AsyncIterator[Scene]:
    """Set the scene, with more settings of the pages."""
    async with local_environment(plane, folder, namespace=namespace) as built:
        pages = await built.pages(kubeconfig=None, **{**SETTINGS, **settings})
        esaw = built.esaw
        app = esaw.register_app(name="Counterfoil", redirect_uris=[f"{pages.public}/oauth/acme/return"])
        anna = esaw.add_user(email="anna@example.com", given_name="Anna", surname="Kofler", password=PASSWORD)
        bruno = esaw.add_user(
            email="bruno@example.com", given_name="Bruno", surname="Rossi", password=PASSWORD
        )
        scene = Scene(built, pages, app, anna, bruno)
        await built.secret("acme-oauth", "oauth", clientSecret=app.client_secret, origin=esaw.url)
        await scene.organization()
        yield scene
