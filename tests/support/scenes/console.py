"""
Scenes for the tests of the console: a console without rights, people with rights, and events in every state.

The administrator writes the events in the controller's place.
"""

import re
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import httpx
import lxml.html

from counterfoil.kube.client import KubeClient, connect
from counterfoil.resources import (
    IMPORT_LABEL,
    IMPORT_WINDOW_LABEL,
    Archive,
    EnvelopeEvent,
    Import,
    Organization,
    Sender,
    envelope_id,
)
from counterfoil.resources.event_factory import new_event
from counterfoil.resources.imports import window_label
from sandbox.controlplane import rbac
from sandbox.controlplane.control_plane import ControlPlane
from sandbox.environment.local import LocalEnvironment, local_environment
from sandbox.environment.processes import CounterfoilProcess

GROUP = "counterfoil.dev"
PEOPLE: Mapping[str, tuple[rbac.Rule, ...]] = {
    "full": rbac.ADMINISTRATOR,
    "view": rbac.VIEWER,
    "none": (),
}

CONSENT_PAGES = {
    "clientID": "counterfoil",
    "clientSecretRef": {"name": "oauth", "key": "clientSecret"},
    "publicURL": "https://pages.example.com",
}
MAILS = {"smtpSecretRef": {"name": "smtp"}, "from": "counterfoil@example.com"}

MISSING_BUCKET = "Archive/dms: the bucket contracts does not exist."


def now() -> str:
    """The present, as a status writes it."""
    return datetime.now(UTC).replace(microsecond=0).isoformat().replace("+00:00", "Z")


def a_condition(type_: str, truth: str, reason: str, message: str = "") -> dict[str, Any]:
    """A condition of a status."""
    return {
        "type": type_,
        "status": truth,
        "reason": reason,
        "message": message,
        "lastTransitionTime": now(),
        "observedGeneration": 1,
    }


@dataclass
class Person:
    """A person's browser, without scripts: it stores cookies and submits the forms of the page."""

    console: CounterfoilProcess
    http: httpx.AsyncClient
    cookies: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    """Headers that a proxy adds."""
    answer: httpx.Response = field(init=False)

    @property
    def page(self) -> lxml.html.HtmlElement:
        """The page that was shown last."""
        return lxml.html.document_fromstring(self.answer.text)

    @property
    def text(self) -> str:
        """All that it says."""
        return re.sub(r"\s+", " ", self.page.text_content())

    async def get(self, path: str, **headers: str) -> Self:
        """Go to a page, and on wherever it leads."""
        return await self._go("GET", path, None, headers)

    async def sign_in(self, token: str, at: str = "/") -> Self:
        """Sign in on the page that one comes to."""
        await self.get(at)
        return await self.send(self.page.xpath("//form[@action='/sign-in']")[0], token=token)

    async def press(self, what: str, within: str = "", why: str = "") -> Self:
        """Press a button by what it does to one object or to all of a cause, within the part of the page that
        holds a text."""
        buttons = [
            button
            for name, value in (("what", what), ("do", f"{what}-all"))
            for button in self.page.xpath(f"//form//button[@name='{name}' and @value='{value}']")
            if within in _around(button.xpath("ancestor::form")[-1])
        ]
        assert buttons, f"there is no {what} for {within!r} on this page: {self.text}"
        pressed = {buttons[0].get("name"): buttons[0].get("value")}
        return await self.send(buttons[0].xpath("ancestor::form")[-1], **pressed, why=why)

    async def send(self, form: lxml.html.HtmlElement, **values: str) -> Self:
        """Send a form with some of it filled in."""
        filled = {each.get("name"): each.get("value") or "" for each in form.xpath(".//input[@name]")}
        return await self._go("POST", form.get("action") or "", {**filled, **values}, {})

    async def _go(
        self, method: str, path: str, form: dict[str, str] | None, headers: Mapping[str, str]
    ) -> Self:
        for _ in range(5):
            cookie = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
            self.answer = await self.http.request(
                method,
                f"{self.console.public}{path}",
                data=form,
                headers={"Cookie": cookie, **self.headers, **headers},
            )
            self.keep(self.answer)
            if self.answer.status_code != 303:
                return self
            method, path, form = "GET", self.answer.headers["Location"], None
        raise AssertionError(f"the console leads in a circle, now to {path}")

    def keep(self, answer: httpx.Response) -> None:
        """Keep the cookies of an answer."""
        for header in answer.headers.get_list("Set-Cookie"):
            name, _, rest = header.partition("=")
            value = rest.partition(";")[0]
            if value:
                self.cookies[name] = value
            else:
                self.cookies.pop(name, None)


def _around(form: lxml.html.HtmlElement) -> str:
    sections = form.xpath("ancestor::section[1]")
    return str(sections[0].text_content()) if sections else ""


@dataclass
class Scene:
    """A namespace with a console in it."""

    local_environment: LocalEnvironment
    kube: KubeClient
    """The administrator's."""
    console: CounterfoilProcess
    tokens: dict[str, str]
    http: httpx.AsyncClient

    def person(self, address: str = "") -> Person:
        """A browser that nobody has used; with an address, it comes by a proxy that tells it."""
        return Person(self.console, self.http, headers={"X-Forwarded-For": address} if address else {})

    async def signed_in(self, who: str = "full", at: str = "/") -> Person:
        """A browser in which somebody has signed in."""
        return await self.person().sign_in(self.tokens[who], at)

    async def an_event(
        self, organization: str = "acme", sender: str = "anna", imported: str = "", **status: Any
    ) -> str:
        """Note an event down and bring it into a state; return its name. ``imported`` is the Import that
        created it."""
        envelope = envelope_id(str(uuid.uuid4()))
        body = new_event(
            organization=organization, envelope=envelope, action="envelopeFinished", sender=sender
        )
        if imported:
            uid = (await self.kube.get(Import, imported))["metadata"]["uid"]
            window = window_label(uid, sender, 0, datetime(2019, 1, 8, tzinfo=UTC))
            body["metadata"]["labels"] |= {IMPORT_LABEL: imported, IMPORT_WINDOW_LABEL: window}
        raw = await self.kube.create(EnvelopeEvent, body)
        name: str = raw["metadata"]["name"]
        if status:
            await self.kube.patch_status(EnvelopeEvent, name, status, resource_version=None)
        return name

    async def failed(self, reason: str, message: str = "", **more: Any) -> str:
        """An event that failed."""
        return await self.an_event(
            **more, phase="Failed", reason=reason, message=message, completionTime=now()
        )

    async def waiting(self, sender: str = "anna", **more: Any) -> str:
        """An event that waits for consent."""
        return await self.an_event(sender=sender, **more, phase="AwaitingConsent", reason="TokenRejected")

    async def event(self, name: str) -> dict[str, Any]:
        """An event as it is stored."""
        return await self.kube.get(EnvelopeEvent, name)

    async def told(self) -> list[dict[str, Any]]:
        """All Kubernetes Events."""
        return [dict(each) for each in await self.kube.list_events()]

    async def a_sender(self, name: str, *, truth: str = "True", reason: str = "KeyAccepted") -> None:
        """A sender whose key works, or does not."""
        body = {
            "apiVersion": f"{GROUP}/v1beta1",
            "kind": "Sender",
            "metadata": {"name": name, "labels": {f"{GROUP}/organization": "acme"}},
            "spec": {
                "organizationRef": {"name": "acme"},
                "userID": str(uuid.uuid4()),
                "email": f"{name}@example.com",
                "givenName": name.capitalize(),
                "surname": "Kofler",
            },
        }
        await self.kube.create(Sender, body)
        status = {
            "conditions": [a_condition("Authorized", truth, reason)],
            "key": {"verifiedTime": now(), "fingerprint": "0a1b2c3d"},
            "consentURL": f"https://pages.example.com/consent/acme/{name}",
        }
        await self.kube.patch_status(Sender, name, status, resource_version=None)

    async def an_archive(self, name: str, truth: str, reason: str, message: str = "") -> None:
        """An archive that can be used, or can't."""
        await self.local_environment.archive(name, filesystem={"root": "/srv"})
        status = {"conditions": [a_condition("Ready", truth, reason, message)], "bytesTotal": 5 * 1024**2}
        await self.kube.patch_status(Archive, name, status, resource_version=None)

    async def an_import(self, name: str) -> None:
        """An Import that waits for the key of one of its two senders."""
        body = {
            "apiVersion": f"{GROUP}/v1beta1",
            "kind": "Import",
            "metadata": {"name": name},
            "spec": {"organizationRef": {"name": "acme"}, "from": "2019-01-01"},
        }
        await self.kube.create(Import, body)
        message = "1 Senders can't be searched, such as Sender/anna (TokenRejected)."
        status = {
            "conditions": [
                a_condition("Ready", "False", "SendersNotSearched", message),
                a_condition("Stalled", "True", "SendersNotSearched", message),
            ],
            "windows": {"done": 60, "total": 100},
            "found": 1200,
            "known": 30,
            "archived": 1100,
            "failed": 1,
            "bytes": 5 * 1024**3,
            "senders": [
                {"name": "anna", "windowsDone": 10, "reason": "TokenRejected", "message": "401 from eSAW."},
                {"name": "ben", "windowsDone": 50, "searched": True},
            ],
            "groups": [{"year": 2019, "status": "Completed", "found": 1200}],
            "startTime": now(),
        }
        await self.kube.patch_status(Import, name, status, resource_version=None)

    async def an_organization(self, name: str = "acme", archive: str = "dms", **status: Any) -> None:
        """An organization as the controller keeps it."""
        await self.local_environment.organization(
            name, archive=archive, oauth=CONSENT_PAGES, notifications=MAILS
        )
        urls = {
            kind: f"https://callbacks.example.com/callbacks/{name}/<token>?{kind}"
            for kind in ("envelope", "status", "workstep")
        }
        ready = [a_condition("Ready", "True", "Ready")]
        activity = {
            "countTime": now(),
            "hours": [{"startTime": now()[:13] + ":00:00Z", "noted": 118, "archived": 117}],
            "archivedWithin": {"1s": 4, "10s": 113},
            "unfinishedFor": {"1h": 38, "24h": 3},
        }
        await self.kube.patch_status(
            Organization,
            name,
            {"conditions": ready, "callbackURLs": urls, "activity": activity, **status},
            resource_version=None,
        )


@asynccontextmanager
async def console_scene(
    plane: ControlPlane, namespace: str, folder: Path, **settings: str
) -> AsyncIterator[Scene]:
    """Set the scene."""
    async with (
        local_environment(plane, folder, namespace=namespace) as built,
        connect(namespace=namespace, kubeconfig=plane.kubeconfig) as kube,
        httpx.AsyncClient(trust_env=False, timeout=60, verify=False) as http,
    ):
        console = await built.console(kubeconfig=None, **settings)
        tokens = {name: await built.person(name, *rules) for name, rules in PEOPLE.items()}
        yield Scene(built, kube, console, tokens, http)
