"""
Before the phases: may this event be worked on at all, for which sender, with which key, into which archive?

A ladder of early returns, each with the outcome that its reader will see; at its end stands a ``Desk``. It decides
from the newest known Organization, Sender and Archive, so an event that waited sees what was mended since.
"""

import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from controller.desk import Desk
from controller.doors import Doors
from controller.keyring import Keyring, KeyUnseen, KeyUnusable
from controller.notary import Notary
from controller.office import Office
from controller.outcomes import Fail, Hold, NeedConsent, Outcome, Skip, Wait
from counterfoil.archives.trouble import ArchiveTrouble
from counterfoil.clock import Clock
from counterfoil.cluster import Cluster, NotFound
from counterfoil.esaw.clients import Esaws
from counterfoil.esaw.token import ApiToken
from counterfoil.resources import (
    ENVELOPE_LABEL,
    SENDER_LABEL,
    Archive,
    Envelope,
    EnvelopeEvent,
    Handling,
    Organization,
    Origin,
    ResourceInvalid,
    Sender,
)

_log = logging.getLogger(__name__)

NOTING_SECONDS = 300
"""So long after its first callback an envelope may be without a noted sender, if its senders come by the before-send page:
one that is signed by machines can be finished before the page has written down whose it is."""


@dataclass(frozen=True)
class Recorded:
    """The action is only to be noted down: the event is finished without a phase."""


@dataclass(frozen=True)
class Seated:
    """The event may be worked on; ``token`` is the key in use, to be named when eSAW refuses it."""

    desk: Desk
    token: ApiToken


class Reception:
    """Looks up everything that a run needs."""

    def __init__(
        self,
        *,
        cluster: Cluster,
        office: Office,
        keyring: Keyring,
        doors: Doors,
        esaws: Esaws,
        clock: Clock,
        notary: Notary,
    ) -> None:
        self._cluster = cluster
        self._office = office
        self._keyring = keyring
        self._doors = doors
        self._esaws = esaws
        self._clock = clock
        self._notary = notary

    async def sender(self, event: EnvelopeEvent, organization: Organization) -> Sender | Outcome:
        """Return who sent the envelope: the one its Envelope names, else the organization's default."""
        if event.status.reason == "EnvelopeNotFound":
            # Not to whoever was taken for its sender; the page may have noted since whose it is.
            self._office.sender_of.pop(event.name, None)
        name = self._office.sender_of.get(event.name) or await self._look_up(event, organization)
        if name is None and self._may_be_noted_yet(event, organization):
            return Wait("SenderUnknown", "Who sent this envelope is not noted down yet.")
        if name is None:
            return Fail(
                "SenderUnknown",
                "No Envelope resource tells who sent this envelope, and "
                f"Organization/{organization.name} has no spec.defaultSenderRef. Set a default, or create the Envelope "
                "and retry.",
            )
        sender = self._office.senders.get(name)
        if sender is None:
            return Wait("SenderMissing", f"Sender/{name} does not exist.")
        if sender.spec.organization_ref.name != organization.name:
            return Fail("SenderOfOtherOrganization", f"Sender/{name} belongs to another Organization.")
        self._office.sender_of[event.name] = name
        return sender

    def standing(self, event: EnvelopeEvent) -> Organization | Recorded | Outcome:
        """Return the organization if it wants this event worked on now."""
        organization = self._office.organizations.get(event.organization)
        if event.spec.suspend:
            return Hold("Suspended", "spec.suspend of this event is true.")
        if organization is None:
            return Wait("OrganizationMissing", f"Organization/{event.organization} does not exist.")
        if organization.spec.suspend:
            return Hold("OrganizationSuspended", f"spec.suspend of Organization/{organization.name} is true.")
        rule = organization.spec.rule(event.spec.action)
        if rule is None:
            return Skip(
                "ActionNotConfigured",
                f"Organization/{organization.name} no longer lists the action {event.spec.action}.",
            )
        return Recorded() if rule.handling is Handling.RECORD else organization

    async def seat(
        self, event: EnvelopeEvent, organization: Organization, sender: Sender
    ) -> Seated | Outcome:
        """
        Return the desk for a run.

        Raises what eSAW or the API server raise when a key has to be verified or a Secret read first.
        """
        if sender.spec.suspend:
            return Hold("SenderSuspended", f"spec.suspend of Sender/{sender.name} is true.")
        archive = self._archive(organization)
        if not isinstance(archive, Archive):
            return archive
        esaw = self._esaws.of(organization)
        try:
            token = await self._keyring.key(sender, esaw)
        except KeyUnseen as unseen:
            return Wait(unseen.reason, str(unseen))
        except KeyUnusable as unusable:
            return NeedConsent(unusable.reason, str(unusable))
        try:
            door = await self._doors.door(archive)
            anchors = await self._doors.anchors(archive)
        except ArchiveTrouble as trouble:
            return Wait("ArchiveNotReady", str(trouble))
        desk = Desk(
            event=event,
            organization=organization,
            sender=sender,
            archive=archive,
            door=door,
            esaw=esaw.as_user(token),
            clock=self._clock,
            notary=self._notary.trusting(anchors),
            archived_bytes=partial(self._doors.filed, archive.name),
            siblings=partial(self._siblings, event),
        )
        return Seated(desk, token)

    async def _siblings(self, event: EnvelopeEvent) -> AsyncIterator[EnvelopeEvent]:
        # Not out of the office, which knows no finished ones.
        label = f"{ENVELOPE_LABEL}={event.spec.envelope_id}"
        async for raw in self._cluster.list(EnvelopeEvent, labels=label):
            try:
                sibling = EnvelopeEvent.parse(raw)
            except ResourceInvalid as invalid:
                _log.warning("an event can't be read: %s", invalid)
                continue
            if sibling.name != event.name and sibling.organization == event.organization:
                yield sibling

    def _archive(self, organization: Organization) -> Archive | Outcome:
        ref = organization.spec.archive_ref
        if ref is None:
            return Wait("ArchiveMissing", f"Organization/{organization.name} has no spec.archiveRef.")
        archive = self._office.archives.get(ref.name)
        if archive is None:
            return Wait("ArchiveMissing", f"Archive/{ref.name} does not exist.")
        return archive

    def _may_be_noted_yet(self, event: EnvelopeEvent, organization: Organization) -> bool:
        """Whether the before-send page may still write the Envelope: it does so after sending, or its repair does."""
        created = event.metadata.creation_timestamp
        if organization.spec.oauth is None or created is None:
            return False
        return self._clock.now() - created < timedelta(seconds=NOTING_SECONDS)

    async def _look_up(self, event: EnvelopeEvent, organization: Organization) -> str | None:
        try:
            envelope = Envelope.parse(await self._cluster.get(Envelope, event.spec.envelope_id))
        except (NotFound, ResourceInvalid):
            if event.spec.origin is Origin.SWEEP and SENDER_LABEL in event.metadata.labels:
                # The sweep found it with this sender's key, so this sender may see it.
                return event.metadata.labels[SENDER_LABEL]
            default = organization.spec.default_sender_ref
            return default.name if default is not None else None
        return envelope.spec.sender_ref.name
