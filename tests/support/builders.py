"""
Builders of resources for tests: good defaults, and words for what a test is about.

``an_event().in_phase("Archiving").with_condition("Archived", "True").build()``
"""

import asyncio
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Self

import msgspec

from counterfoil.esaw import ApiToken
from counterfoil.resources import (
    Archive,
    ArchiveLocation,
    Attempt,
    AttemptOutcome,
    Envelope,
    EnvelopeEvent,
    EnvelopeEventStatus,
    EnvelopeSummary,
    FiledDocument,
    FileKind,
    LocalObjectReference,
    Organization,
    OrganizationStatus,
    Origin,
    Phase,
    Sender,
    SenderReference,
    with_condition,
)
from counterfoil.resources.base import ObjectMeta
from counterfoil.resources.conditions import ConditionStatus
from counterfoil.resources.envelopeevent import EnvelopeEventSpec, Workstep
from counterfoil.resources.naming import EnvelopeId, event_name

OWN_ADDRESS = partial(Organization.with_address, namespace="tests", own="tests")
"""Addresses of Organizations in the release's own namespace."""
FURTHER_ADDRESS = partial(Organization.with_address, namespace="tests", own="release")
NOON = datetime(2026, 7, 1, 12, 0, tzinfo=UTC)
ORIGIN = "https://esaw.example.com"
ENVELOPE = EnvelopeId("0f9c1c2e-4b1d-4c58-9a57-6d1f0a3b2c4d")
KEY = "k" * 66
"""The API token of ``a_sender``."""
OTHER_KEY = "n" * 66
ANNA = "7a0f9b9e-0000-4000-8000-000000000001"
"""The eSAW user of ``a_sender``."""
DORA = "7a0f9b9e-0000-4000-8000-000000000002"
"""The user of the Sender ``dora``."""
WEBHOOK = {"url": "https://erp.acme.example/hook", "signingSecretRef": {"name": "hook", "key": "secret"}}
"""The ``spec.webhook`` of an Organization."""


class AClock:
    """The one clock that a test sets. With ``step``, each reading advances it by these seconds."""

    def __init__(self, now: datetime = NOON, *, step: float = 0.0) -> None:
        self._now = now
        self._monotonic = 0.0
        self._step = step
        self.slept: list[float] = []
        self.ahead = timedelta(0)
        """Difference of the clock of the API server that answered last to the others, which are right."""

    def now(self) -> datetime:
        """Return the set time."""
        self.advance(seconds=self._step)
        return self._now + self.ahead

    def lead(self) -> timedelta:
        """Return by how much the time is ahead."""
        return self.ahead

    def advance(self, **how_long: float) -> None:
        """Let time pass."""
        self._now += timedelta(**how_long)
        self._monotonic += timedelta(**how_long).total_seconds()

    def monotonic(self) -> float:
        """Return the seconds that passed."""
        self.advance(seconds=self._step)
        return self._monotonic

    def set_back(self, **how_far: float) -> None:
        """Correct the time, without time passing."""
        self._now -= timedelta(**how_far)

    async def sleep(self, seconds: float) -> None:
        """Let time pass at once, and others do what they have to do."""
        self.slept.append(seconds)
        self.advance(seconds=max(0.0, seconds))
        await asyncio.sleep(0)


class EventBuilder:
    """Builds EnvelopeEvents."""

    def __init__(self, envelope: str = ENVELOPE) -> None:
        self._spec = EnvelopeEventSpec(
            organization_ref=LocalObjectReference(name="acme"),
            envelope_id=envelope,
            action="envelopeFinished",
        )
        self._status = EnvelopeEventStatus()
        self._version = 1
        self._created = NOON
        self._labels: dict[str, str] = {}
        self._name: str | None = None
        self._uid: str | None = None
        self._workstep = ""

    def named(self, name: str) -> Self:
        """Set the object's name."""
        self._name = name
        return self

    def by(self, origin: Origin) -> Self:
        """Set the origin of the event."""
        self._spec = msgspec.structs.replace(self._spec, origin=origin)
        return self

    def for_action(self, action: str) -> Self:
        """Say which action was called about."""
        self._spec = msgspec.structs.replace(self._spec, action=action)
        return self

    def of_workstep(self, workstep: str) -> Self:
        """Say which workstep was called about."""
        self._workstep = workstep
        self._spec = msgspec.structs.replace(self._spec, workstep=Workstep(id=workstep))
        return self

    def with_parameters(self, **parameters: str) -> Self:
        """Set the organization's parameters of the callback."""
        self._spec = msgspec.structs.replace(self._spec, parameters=parameters)
        return self

    def suspended(self) -> Self:
        """Hold it."""
        self._spec = msgspec.structs.replace(self._spec, suspend=True)
        return self

    def labelled(self, label: str, value: str) -> Self:
        """Put a label on."""
        self._labels[label] = value
        return self

    def at_version(self, version: int) -> Self:
        """Set the resourceVersion."""
        self._version = version
        return self

    def created(self, when: datetime) -> Self:
        """Set the creation time."""
        self._created = when
        return self

    def created_again(self, when: datetime) -> Self:
        """Make it an event that is created under the same name after the first one was removed."""
        self._created, self._uid = when, "created-again"
        return self

    def status(self, **changes: Any) -> Self:
        """Set fields of the status."""
        self._status = msgspec.structs.replace(self._status, **changes)
        return self

    def in_phase(self, phase: Phase, reason: str | None = None) -> Self:
        """Set phase and reason."""
        return self.status(phase=phase, reason=reason)

    def with_condition(self, type_: str, truth: ConditionStatus = "True", reason: str = "Tested") -> Self:
        """Set a condition."""
        return self.status(
            conditions=with_condition(
                self._status.conditions, type_, truth, reason=reason, message="", now=NOON, generation=1
            )
        )

    def archived(self, *names: str) -> Self:
        """Bring it to where everything is in the archive and proved."""
        documents = tuple(
            FiledDocument(
                file_id=f"file-{name}",
                kind=FileKind.DOCUMENT,
                file_name=name,
                size=10,
                sha256="ab" * 32,
                location=f"file:///archive/{name}",
            )
            for name in names or ("contract.pdf",)
        )
        return (
            self.status(
                phase=Phase.CLEANING,
                documents=documents,
                archive=ArchiveLocation(
                    ref=LocalObjectReference(name="dms"), manifest="file:///archive/counterfoil.json"
                ),
                envelope=EnvelopeSummary(
                    name="Contract", status="Completed", sender_ref=SenderReference(name="anna", user_id=ANNA)
                ),
            )
            .with_condition("Validated")
            .with_condition("Collected")
            .with_condition("Archived")
        )

    def build(self) -> EnvelopeEvent:
        """Return the event."""
        name = self._name or event_name(
            "acme", EnvelopeId(self._spec.envelope_id), self._spec.action, self._workstep
        )
        return EnvelopeEvent(
            metadata=ObjectMeta(
                name=name,
                namespace="tests",
                uid=self._uid or f"uid-{name}",
                resource_version=str(self._version),
                generation=1,
                creation_timestamp=self._created,
                labels=self._labels,
            ),
            spec=self._spec,
            status=self._status,
        )


def an_event(envelope: str = ENVELOPE) -> EventBuilder:
    """Begin an event as a callback makes it."""
    return EventBuilder(envelope)


def a_history(*reasons: str) -> tuple[Attempt, ...]:
    """Return a history of attempts that ended for these reasons, oldest first."""
    return tuple(
        Attempt(
            phase=Phase.VALIDATING,
            start_time=NOON,
            duration_seconds=1,
            outcome=AttemptOutcome.WAIT,
            reason=each,
        )
        for each in reasons
    )


def an_organization(
    name: str = "acme", *, version: int = 1, generation: int = 1, **spec: Any
) -> Organization:
    """Build an Organization; ``spec`` in the words of the CRD."""
    return Organization.parse(
        {
            "metadata": {
                "name": name,
                "uid": f"uid-{name}",
                "resourceVersion": str(version),
                "generation": generation,
            },
            "spec": {
                "baseURL": "https://esaw.example.com",
                "callback": {"tokenSecretRefs": [{"name": "callback", "key": "token"}]},
                "archiveRef": {"name": "dms"},
                "cleanup": {"policy": "Delete"},
                "defaultSenderRef": {"name": "anna"},
                **spec,
            },
        }
    )


def created_again(organization: Organization, *, version: int = 1_000) -> Organization:
    """Return the Organization that took the place of a deleted one with its name: it has no status."""
    metadata = msgspec.structs.replace(
        organization.metadata,
        uid=f"{organization.uid}-again",
        resource_version=str(version),
        generation=1,
        labels={},
        annotations={},
    )
    return msgspec.structs.replace(organization, metadata=metadata, status=OrganizationStatus())


def reachable(
    organization: Organization, truth: ConditionStatus = "True", reason: str = "EsawAnswers"
) -> Organization:
    """Return the Organization as it is after the controller asked the eSAW at its address."""
    status = organization.status
    conditions = with_condition(
        status.conditions,
        "Reachable",
        truth,
        reason,
        "",
        now=NOON,
        generation=organization.metadata.generation,
    )
    return msgspec.structs.replace(
        organization, status=msgspec.structs.replace(status, conditions=conditions)
    )


def a_sender(
    name: str = "anna",
    *,
    authorized: ConditionStatus | None = "True",
    version: int = 1,
    organization: str = "acme",
    since: str = "2026-07-01T12:00:00Z",
    **spec: Any,
) -> Sender:
    """Build a Sender whose key is known to work, or not, or unknown, since some time."""
    conditions = []
    if authorized is not None:
        conditions.append(
            {
                "type": "Authorized",
                "status": authorized,
                "reason": "Tested",
                "message": "",
                "lastTransitionTime": since,
            }
        )
    return Sender.parse(
        {
            "metadata": {
                "name": name,
                "uid": f"uid-{name}",
                "resourceVersion": str(version),
                "generation": 1,
            },
            "spec": {
                "organizationRef": {"name": organization},
                "userID": DORA if name == "dora" else ANNA,
                "tokenSecretRef": {"name": f"{name}-key", "key": "token"},
                **spec,
            },
            "status": {"conditions": conditions},
        }
    )


def ready(archive: Archive, truth: str = "True") -> Archive:
    raw = archive.to_dict()
    raw["status"] = {
        "conditions": [
            {
                "type": "Ready",
                "status": truth,
                "reason": "Tested",
                "message": "",
                "lastTransitionTime": "2026-07-01T12:00:00Z",
            }
        ]
    }
    return Archive.parse(raw)


def known_to_work(sender: Sender, key: str = KEY, origin: str = ORIGIN) -> Sender:
    """Return the sender as it is after its key was verified."""
    status = {"key": {"fingerprint": ApiToken.parse(key, origin).fingerprint, "origin": origin}}
    raw = sender.to_dict()
    raw["status"] = {**raw.get("status", {}), **status}
    return Sender.parse(raw)


def an_envelope(sender: str, organization: str = "acme") -> Envelope:
    return Envelope.parse(
        {
            "metadata": {"name": ENVELOPE},
            "spec": {
                "organizationRef": {"name": organization},
                "envelopeID": ENVELOPE,
                "senderRef": {"name": sender},
            },
        }
    )
