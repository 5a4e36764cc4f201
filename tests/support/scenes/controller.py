"""
A namespace with a running controller, its archive on the disk, and the stand-in eSAW behind it.

``eventually`` asks until the condition holds. Nothing here waits for a fixed time or decides a result.
"""

import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from counterfoil.kube.client import KubeClient, connect
from counterfoil.resources import (
    REQUEST_LABEL,
    Archive,
    EnvelopeEvent,
    Organization,
    Phase,
    Sender,
    envelope_id,
    event_name,
    find_condition,
)
from counterfoil.resources.event_factory import new_event
from sandbox.controlplane.control_plane import ControlPlane
from sandbox.environment.local import LocalEnvironment, local_environment
from sandbox.environment.processes import CounterfoilProcess
from sandbox.esaw import DocumentSpec, StandIn, User
from tests.support.pauses import eventually

R = TypeVar("R", Organization, Sender, Archive)

TypeAndReason = tuple[str, str]
"""Type and reason of a Kubernetes Event."""


class ControllerScene:
    """One namespace: organization ``acme``, its default sender ``anna``, its archive ``dms``."""

    def __init__(self, built: LocalEnvironment, kube: KubeClient, folder: Path) -> None:
        self.local_environment = built
        self.kube = kube
        self.archive = folder / "dms"
        self.esaw: StandIn = built.esaw
        self.tokens: list[str] = []
        """Every token of eSAW that ever was."""
        self.anna: User = self.user("Anna")
        self.controller: CounterfoilProcess

    # -- What a test sets up ---------------------------------------------------------------------------------

    def user(self, name: str) -> User:
        """Make a user of eSAW."""
        user = self.esaw.add_user(email=f"{name.lower()}@example.com", given_name=name, surname="Kofler")
        self.tokens.append(user.token)
        return user

    def new_token(self, user: User) -> str:
        """Make one more token of a user."""
        self.tokens.append(self.esaw.new_token(user))
        return self.tokens[-1]

    async def organization(self, name: str, **spec: Any) -> User:
        """Make an organization with its own sender, both of that name; return the sender's user."""
        user = self.user(name.capitalize())
        await self.local_environment.sender(name, user, organization=name)
        await self.local_environment.organization(name, archive="dms", sender=name, **spec)
        await self.has_swept(name)
        return user

    async def has_swept(self, organization: str) -> None:
        """
        Wait until a new organization and its senders were swept, or can't be.

        A sender is searched as soon as its key works, which would create the event of an envelope before its
        callback does.
        """

        async def is_swept() -> bool:
            found = Organization.parse(await self.kube.get(Organization, organization))
            reachable = find_condition(found.status.conditions, "Reachable")
            if reachable is not None and reachable.status == "False":
                return True
            if found.spec.archive_action is None:
                return found.status.sweep is not None
            return found.status.sweep is not None and found.status.sweep.message is None

        await eventually(is_swept)

    def envelope(self, sender: User | None = None, **options: Any) -> str:
        """Make a completed envelope of two small documents and what eSAW adds to them."""
        documents = [DocumentSpec(name="contract.pdf", size=3000), DocumentSpec(name="annex.pdf", size=2000)]
        return self.esaw.add_envelope(sender=sender or self.anna, **{"documents": documents, **options})

    async def note(self, envelope: str, organization: str = "acme", action: str = "envelopeFinished") -> str:
        """Create an event as the receiver does; return its name."""
        body = new_event(
            organization=organization, envelope=envelope_id(envelope), action=action, sender="anna"
        )
        await self.kube.create(EnvelopeEvent, body)
        return event_name(organization, envelope_id(envelope), action)

    async def noted(self, organization: str = "acme", sender: User | None = None, **options: Any) -> str:
        """Make an envelope and create its event; return the event's name."""
        return await self.note(self.envelope(sender, **options), organization)

    # -- What a test looks at --------------------------------------------------------------------------------

    async def event(self, name: str) -> EnvelopeEvent:
        """Return an event as it is."""
        return EnvelopeEvent.parse(await self.kube.get(EnvelopeEvent, name))

    async def is_so(self, name: str, so: Callable[[EnvelopeEvent], bool]) -> EnvelopeEvent:
        """Wait until the condition holds for an event; return the event at that time."""
        last: EnvelopeEvent | None = None

        async def event() -> EnvelopeEvent | None:
            nonlocal last
            last = await self.event(name)
            return last if so(last) else None

        try:
            return await eventually(event)
        except AssertionError:
            raise AssertionError(f"it never came to that; the event is {last and last.status!r}") from None

    async def reaches(self, name: str, phase: Phase, reason: str | None = None) -> EnvelopeEvent:
        """Wait until an event is in that phase, for that reason if one is given."""
        return await self.is_so(
            name, lambda event: event.status.phase is phase and reason in (None, event.status.reason)
        )

    async def recorded(self, name: str) -> list[TypeAndReason]:
        """Return the Kubernetes Events about an object up to now, in no order."""
        recorded = await self.local_environment.listed("events")
        return [(each["type"], each["reason"]) for each in recorded if each["regarding"]["name"] == name]

    async def until_recorded(self, name: str, wanted: TypeAndReason) -> list[TypeAndReason]:
        """
        Wait until there is such a Kubernetes Event about an object; return all about it.

        The controller posts Events one after the other, in the order of their causes, and later than the
        status that says the same.
        """
        found: list[TypeAndReason] = []

        async def is_recorded() -> bool:
            found[:] = await self.recorded(name)
            return wanted in found

        await eventually(is_recorded)
        return found

    async def condition_of(
        self, kind: type[Organization | Sender | Archive], name: str, type_: str
    ) -> TypeAndReason:
        """Return status and reason of a condition; empty texts when it is not set."""
        found = find_condition(kind.parse(await self.kube.get(kind, name)).status.conditions, type_)
        return ("", "") if found is None else (found.status, found.reason)

    async def until_condition(
        self, kind: type[Organization | Sender | Archive], name: str, type_: str, wanted: TypeAndReason
    ) -> None:
        """Wait until a condition has this status."""

        async def is_so() -> bool:
            return await self.condition_of(kind, name, type_) == wanted

        await eventually(is_so)

    async def answered(self, kind: type[R], name: str) -> R:
        """Wait until the request on an object is carried out; return the object."""
        found: list[R] = []

        async def is_so() -> bool:
            found.append(kind.parse(await self.kube.get(kind, name)))
            return REQUEST_LABEL not in found[-1].metadata.labels

        await eventually(is_so)
        return found[-1]

    def filed(self, envelope: str) -> list[str]:
        """Return the names of the files in the archive for an envelope."""
        found = [each for each in self.archive.rglob("*") if each.is_file() and envelope in str(each)]
        return sorted(each.name for each in found)


@asynccontextmanager
async def a_controller_scene(
    plane: ControlPlane, folder: Path, *, manifest_key: str = ""
) -> AsyncIterator[ControllerScene]:
    """Build a namespace, start a controller in it, and take all down in the end."""
    namespace = f"controller-{uuid.uuid4().hex[:8]}"
    await plane.namespace(namespace)
    async with (
        local_environment(plane, folder, namespace=namespace) as built,
        connect(namespace=namespace, kubeconfig=plane.kubeconfig) as kube,
    ):
        made = ControllerScene(built, kube, folder)
        made.archive.mkdir()
        await built.archive("dms", filesystem={"root": str(made.archive)})
        await built.sender("anna", made.anna, organization="acme")
        await built.organization("acme", archive="dms", sender="anna")
        await built.record_sweep("acme")
        made.controller = await built.controller(log_level="debug", manifest_key=manifest_key)
        yield made
