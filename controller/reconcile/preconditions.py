"""
Before the phases: may this event be reconciled, for which Sender, with which key, into which Archive?

Early returns, each with the outcome that the status shows; the last result is a ``ReconcileContext``. The
newest known Organization, Sender and Archive decide, so an event that waited sees what was fixed since. Where
routes have to ask eSAW, the run begins without an Archive (``archive_choice``).
"""

import dataclasses
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Final

import msgspec

from controller.access.history_access import HistoryAccess
from controller.access.sender_keys import KeyUnusable, SenderKeys
from controller.cache import Cache
from controller.envelopes import read_envelope, recorded_sender
from controller.reader import KeyState, Reader, is_of_other_user, proved_by
from controller.reconcile import error_policy
from controller.reconcile.archive_choice import ArchiveChooser, no_archive, suspended
from controller.reconcile.context import (
    Destination,
    ReconcileContext,
    RunContext,
    SiblingCollector,
    SiblingEvents,
)
from controller.reconcile.fence import Fence
from controller.reconcile.outcomes import Fail, Hold, NeedConsent, Outcome, Wait
from controller.reconcile.phases.restarted_envelope import with_answer
from controller.scheduling.due import (
    ACTION_NOT_CONFIGURED,
    are_copies_suspended,
    is_held_by_action,
)
from controller.sharding import HeldShards
from counterfoil.clock import Clock
from counterfoil.esaw.client import EsawClients
from counterfoil.esaw.errors import EsawError
from counterfoil.esaw.token import ApiToken
from counterfoil.kube.client import KubeClient
from counterfoil.kube.errors import ApiError, NotFound
from counterfoil.kube.status import apply_change
from counterfoil.resources import (
    ORGANIZATION_LABEL,
    SENDER_LABEL,
    ActionHandling,
    Archive,
    Envelope,
    EnvelopeEvent,
    Organization,
    ResourceInvalid,
    Sender,
)
from counterfoil.resources.envelopeevent import (
    ENVELOPE_NOT_FOUND,
    SENDER_GRACE,
    SENDER_PENDING,
    SUSPENDED,
)
from counterfoil.resources.lease import KIND_DRAFT, LEASE_KIND_LABEL, Lease
from counterfoil.resources.organization import FURTHER_ACTIONS, OrganizationStatus
from counterfoil.resources.reopening import RETRY_REQUESTED, copies_after_end
from counterfoil.resources.routes import is_copying_next, known_choice, open_copies
from counterfoil.retention import asks_before_copies

_log = logging.getLogger(__name__)

MAX_DRAFT_AGE: Final = timedelta(days=1)
"""Maximum age of the Lease of a draft for which an event waits."""


_SENDER_MAY_HAVE_CHANGED: Final = frozenset(
    {ENVELOPE_NOT_FOUND, "OtherSenderRecorded", "CauseSolved", "FoundBySweep", "FoundByImport"}
)
"""Reasons of events whose sender may have been wrong: the page, a person or a search may have named the
correct one since."""

_SENDER_NOT_RECORDED: Final = Wait(SENDER_PENDING, "The sender of this envelope is not recorded yet.")


@dataclass(frozen=True)
class RecordOnly:
    """The action is only recorded: the event finishes without a phase."""


@dataclass(frozen=True)
class Admitted:
    """The event may be worked on; ``token`` is the key in use, to be named when eSAW refuses it."""

    context: ReconcileContext
    token: ApiToken


@dataclass(frozen=True)
class AdmittedCopies:
    """The copies of the event may be worked on. No key is needed."""

    context: RunContext
    unanswered: Outcome | None = None
    """Why eSAW can't be asked before whether the envelope was restarted; None: there is nothing to ask."""


@dataclass(frozen=True)
class Relabelled:
    """The sender's label was corrected: the event is queued again, under the limits of the correct sender."""

    event: EnvelopeEvent


@dataclass(frozen=True)
class Preconditions:
    """Looks up the objects, the key and the archive backend that a run needs."""

    kube: KubeClient
    cache: Cache
    sender_keys: SenderKeys
    archives: ArchiveChooser
    esaw_clients: EsawClients
    clock: Clock
    held: HeldShards
    history_access: HistoryAccess

    async def check(
        self, event: EnvelopeEvent
    ) -> Admitted | AdmittedCopies | RecordOnly | Relabelled | Outcome:
        """
        Return the context of a run, or the reason why the event is not reconciled.

        Raises what eSAW or the API server raise when a key must be verified or a Secret read first.
        """
        organization = self.admit(event)
        if not isinstance(organization, Organization):
            return organization
        if is_copying_next(event.status):
            if (suspended_sender := self.cache.suspended_sender(event)) is not None:
                return _sender_suspended(suspended_sender)
            if not asks_before_copies(event, organization.spec.retention, self.clock.now()):
                return await self._copies(event, organization)
            return await self._copies_after_question(event, organization)
        return await self._with_reader(event, organization)

    async def _copies_after_question(
        self, event: EnvelopeEvent, organization: Organization
    ) -> Admitted | AdmittedCopies | Relabelled | Outcome:
        """Return the context of a run that asks eSAW before it makes copies; without a key that can ask, of
        one that only makes them. Raises ``ApiError``."""
        try:
            admitted = await self._with_reader(event, organization)
        except EsawError as problem:
            _log.info("eSAW is not asked before the copies are made: %s", problem)
            admitted = error_policy.classify_or_raise(problem, self.clock.now())
        if isinstance(admitted, Admitted | Relabelled | Hold):
            return admitted
        copies = await self._copies(event, organization)
        if isinstance(copies, AdmittedCopies):
            return dataclasses.replace(copies, unanswered=admitted)
        # An Archive that stops the question as well is the cause: its deadline runs.
        return copies if copies.reason == admitted.reason else with_answer(copies, admitted)

    async def _with_reader(
        self, event: EnvelopeEvent, organization: Organization
    ) -> Admitted | Relabelled | Outcome:
        """Return the context of a run with a key. Raises as ``check``."""
        while True:
            sender = await self.sender(event, organization)
            if not isinstance(sender, Sender):
                return sender
            if (relabelled := await self._correct_sender_label(event, sender)) is not None:
                return Relabelled(relabelled)
            prepared = await self.prepare(event, organization, sender)
            if not isinstance(prepared, NeedConsent):
                return prepared
            # The key was refused now, which its Sender shows: it is not asked again here.
            state, other = self.cache.key_state(event, sender.name), self.cache.reader(event)
            if state is not KeyState.REFUSED or other is None or not other.is_usable:
                return prepared

    async def sender(self, event: EnvelopeEvent, organization: Organization) -> Sender | Outcome:
        """Return the Sender whose key reads the envelope (``controller.reader``)."""
        if event.status.reason in _SENDER_MAY_HAVE_CHANGED:
            self.cache.forget_sender(event.name)
        is_known, envelope = event.name in self.cache.sender_of, None
        reader = self.cache.reader(event) if is_known else None
        if reader is None or not reader.is_usable:
            is_known, envelope = False, await read_envelope(self.kube, event)
            reader = self._reader(event, envelope)
        if reader is None:
            return await self._without_reader(event, organization, envelope)
        is_guess = reader.name not in self.cache.claims(event)[:-1]
        if not is_known and is_guess and await self._may_draft_become(event, organization):
            self.cache.forget_sender(event.name)
            return _SENDER_NOT_RECORDED
        sender = self.cache.senders.get(reader.name)
        is_replaced = sender is not None and is_of_other_user(event, sender)
        if is_replaced and reader.state is KeyState.MISSING:
            is_recorded = self.cache.claims(event).recorded is not None
            self.cache.forget_sender(event.name)
            return Wait("SenderMissing", _of_other_user(event, reader.name, is_recorded=is_recorded))
        if sender is None or sender.spec.organization_ref.name != organization.name:
            self.cache.forget_sender(event.name)
            if sender is None:
                return Wait("SenderMissing", f"Sender/{reader.name} does not exist.")
            return Fail("SenderOfOtherOrganization", f"Sender/{reader.name} belongs to another Organization.")
        self.cache.sender_of[event.name] = reader.name
        return sender

    async def next_reader(self, event: EnvelopeEvent) -> Reader | None:
        """Return who reads the envelope next, by the Envelope as it is now. Raises ``ApiError``."""
        return self._reader(event, await read_envelope(self.kube, event))

    def _reader(self, event: EnvelopeEvent, envelope: Envelope | None) -> Reader | None:
        self.cache.recorded_senders[event.name] = recorded_sender(envelope, event)
        return self.cache.reader(event)

    def admit(self, event: EnvelopeEvent) -> Organization | RecordOnly | Outcome:
        """Return the organization if it wants this event worked on now."""
        organization = self.cache.organizations.get(event.organization)
        if event.spec.suspend:
            return Hold(SUSPENDED, "spec.suspend of this event is true.")
        if organization is None:
            return Wait("OrganizationMissing", f"Organization/{event.organization} does not exist.")
        if organization.spec.suspend:
            return _organization_suspended(organization)
        rule = organization.spec.rule(event.spec.action)
        if not copies_after_end(event.status):
            if is_held_by_action(event, organization.spec):
                return Hold(ACTION_NOT_CONFIGURED, _why_held(event, organization, is_listed=rule is not None))
            if rule is not None and rule.handling is ActionHandling.RECORD:
                return RecordOnly()
        archive = self.cache.archives.get(self.cache.archive_name(event))
        if archive is not None and archive.spec.suspend:
            return suspended(archive)
        return organization

    async def prepare(
        self, event: EnvelopeEvent, organization: Organization, sender: Sender
    ) -> Admitted | Outcome:
        """
        Return the context of a run.

        Raises what eSAW or the API server raise when a key must be verified or a Secret read first.
        """
        if sender.spec.suspend:
            return _sender_suspended(sender)
        certain = self.archives.admit(event, organization)
        if isinstance(certain, Wait | Hold):
            return certain
        if event.status.reason == RETRY_REQUESTED:
            self.sender_keys.check_soon(sender)
        token = await self._token(sender, organization)
        if not isinstance(token, ApiToken):
            return token
        newest = self.cache.senders.get(sender.name)
        if newest is not None and newest.uid == sender.uid:
            # Its status describes the key that was verified now.
            sender = newest
        fence, destination = Fence(self.kube, self.held, self.clock, event), None
        if certain is not None:
            opened = await self.archives.open(certain.archive, certain.choice, event, fence)
            if not isinstance(opened, Destination):
                return opened
            destination = opened
        if event.is_of_a_person and not organization.may_have_several_events:
            organization = await self._with_several_events(organization)
        context = self._context(event, organization, sender, token, fence=fence, destination=destination)
        return Admitted(context, token)

    async def _copies(self, event: EnvelopeEvent, organization: Organization) -> AdmittedCopies | Outcome:
        """Return the context of a run that begins with the copies of an event. Raises ``ApiError``."""
        fence = Fence(self.kube, self.held, self.clock, event)
        opened = await self._first_archive(event, organization, fence)
        if not isinstance(opened, Destination):
            # Who suspends each copy holds the event, with any problem of the first archive.
            return self._suspended_copy(event, organization) or opened
        return AdmittedCopies(
            RunContext(
                event=event,
                organization=organization,
                destination=opened,
                fence=fence,
                clock=self.clock,
                find_archive=self.cache.archives.get,
                copies=self.archives,
                sibling_events=partial(self._sibling_events, event),
            )
        )

    async def _first_archive(
        self, event: EnvelopeEvent, organization: Organization, fence: Fence
    ) -> Destination | Outcome:
        choice = known_choice(event, organization.spec)
        if choice is None:
            return no_archive(organization)
        archive = self.archives.find(choice, event, organization)
        if not isinstance(archive, Archive):
            return archive
        return await self.archives.open(archive, choice, event, fence)

    def _suspended_copy(self, event: EnvelopeEvent, organization: Organization) -> Hold | None:
        if not are_copies_suspended(event, organization.spec, self.cache):
            return None
        return self.archives.first_hold(open_copies(event.status, organization.spec))

    async def unrouted(self, event: EnvelopeEvent, organization: Organization) -> ReconcileContext | Outcome:
        """
        Return a context without an Archive, for questions to eSAW that change nothing; or why there is none.

        The event may be one that is not stored. Raises as ``prepare``.
        """
        if organization.spec.suspend:
            return _organization_suspended(organization)
        sender = await self.sender(event, organization)
        if event.name not in self.cache.events:
            self.cache.forget_sender(event.name)
        if not isinstance(sender, Sender):
            return sender
        if sender.spec.suspend:
            return _sender_suspended(sender)
        token = await self._token(sender, organization)
        if not isinstance(token, ApiToken):
            return token
        fence = Fence(self.kube, self.held, self.clock, event)
        return self._context(event, organization, sender, token, fence=fence)

    async def _token(self, sender: Sender, organization: Organization) -> ApiToken | Outcome:
        try:
            return await self.sender_keys.key(sender, self.esaw_clients.for_organization(organization))
        except KeyUnusable as unusable:
            return error_policy.classify_or_raise(unusable, self.clock.now())

    def _context(
        self,
        event: EnvelopeEvent,
        organization: Organization,
        sender: Sender,
        token: ApiToken,
        *,
        fence: Fence,
        destination: Destination | None = None,
    ) -> ReconcileContext:
        return ReconcileContext(
            event=event,
            organization=organization,
            sender=sender,
            destination=destination,
            find_destination=self.archives.choose,
            fence=fence,
            copies=self.archives,
            esaw=self.esaw_clients.for_organization(organization).as_user(token),
            clock=self.clock,
            tag_workers=self.archives.tag_workers,
            sibling_events=partial(self._sibling_events, event),
            find_archive=self.cache.archives.get,
            find_changed=partial(self._changed_object, organization, sender),
            history_access=self.history_access,
            file_lists=self.cache.events.file_lists,
        )

    async def _correct_sender_label(self, event: EnvelopeEvent, sender: Sender) -> EnvelopeEvent | None:
        """Replace the label that the receiver set to the default Sender; None: it was not changed."""
        if event.metadata.labels.get(SENDER_LABEL) == sender.name:
            return None
        metadata = {"labels": {SENDER_LABEL: sender.name}, "resourceVersion": event.metadata.resource_version}
        try:
            raw = await self.kube.patch(EnvelopeEvent, event.name, {"metadata": metadata})
            return EnvelopeEvent.parse(raw)
        except ApiError as problem:
            # The next run sets the label. The stale version makes the write of this run a conflict.
            _log.info("the sender's label could not be set: %s", problem)
            return None

    async def _changed_object(
        self, organization: Organization, sender: Sender, archives: Sequence[Archive]
    ) -> str | None:
        known: tuple[Organization | Sender | Archive, ...] = (organization, sender, *archives)
        # Not from the cache, which may lag behind by minutes after a watch broke.
        for each in known:
            try:
                newest = type(each).parse(await self.kube.get(type(each), each.name))
            except (NotFound, ResourceInvalid):
                newest = None
            if newest is None or _is_another(newest, each) or _has_more_events(newest, each):
                return f"{each.KIND}/{each.name}"
        return None

    async def _with_several_events(self, organization: Organization) -> Organization:
        """
        Store that a person created an event of an envelope, before that event lists the first file: from then
        on each event of this Organization looks for others before its delete.

        Raises ``ApiError``.
        """

        def change(newest: Organization) -> OrganizationStatus:
            if newest.may_have_several_events:
                return newest.status
            actions = {
                *newest.spec.actions_with_events,
                *(newest.status.archived_actions or ()),
                FURTHER_ACTIONS,
            }
            return msgspec.structs.replace(newest.status, archived_actions=tuple(sorted(actions)[:3]))

        stored = await apply_change(self.kube, Organization, organization.name, None, change)
        self.cache.update_written(stored)
        return stored

    async def _sibling_events(self, event: EnvelopeEvent) -> SiblingEvents:
        # Not from the cache, which does not contain finished events.
        # By the spec: a changed label must not hide an event, nor add that of another envelope.
        # Without a limit, so that the API server answers from its memory and does not read etcd.
        fields, unreadable = f"spec.envelopeID={event.spec.envelope_id}", ""
        collector = SiblingCollector()
        async for raw in self.kube.list(EnvelopeEvent, fields=fields, limit=0):
            try:
                sibling = EnvelopeEvent.parse(raw)
            except ResourceInvalid as invalid:
                _log.warning("an event can't be read: %s", invalid)
                if (name := raw["metadata"]["name"]) != event.name:
                    unreadable = f"EnvelopeEvent/{name} names the same envelope and can't be read"
                continue
            if sibling.name != event.name and sibling.organization == event.organization:
                collector.add(sibling)
        return SiblingEvents(tuple(collector.events), unreadable)

    async def _may_sender_still_be_recorded(self, event: EnvelopeEvent, organization: Organization) -> bool:
        """Whether the before-send page may still write the Envelope: after sending, or in its repair."""
        if organization.spec.oauth is None:
            return False
        return self._is_younger(event, SENDER_GRACE) or await self._is_draft_open(event)

    def _is_younger(self, event: EnvelopeEvent, limit: timedelta) -> bool:
        created = event.metadata.creation_timestamp
        return created is not None and self.clock.now() - created < limit

    async def _is_draft_open(self, event: EnvelopeEvent) -> bool:
        """
        Whether a draft of the Organization may still become the envelope of this event. Raises ``ApiError``.

        The pages create the Lease of a draft before they send it, and mark it as sent after they recorded
        the sender. A Lease delays an event and proves nothing else, so it is believed for a bounded time
        only (rule 13).
        """
        received, now = event.metadata.creation_timestamp, self.clock.now()
        if received is None:
            return False
        labels = f"{LEASE_KIND_LABEL}={KIND_DRAFT},{ORGANIZATION_LABEL}={event.organization}"
        async for lease in self.kube.list_readable(Lease, labels=labels):
            created = lease.metadata.creation_timestamp
            if created is not None and created <= received and now - created < MAX_DRAFT_AGE:
                return True
        return False

    async def _without_reader(
        self, event: EnvelopeEvent, organization: Organization, envelope: Envelope | None
    ) -> Outcome:
        """Return the outcome of an event if nothing tells who sent its envelope. Raises ``ApiError``."""
        self.cache.forget_sender(event.name)
        if envelope is not None:
            # The name of an Envelope is the envelope's id, so the page could not store the sender.
            return Fail(
                "SenderUnknown",
                f"Envelope/{envelope.name} belongs to Organization/{envelope.spec.organization_ref.name}, so "
                f"nothing tells who sent this envelope of Organization/{organization.name}. Delete it if it "
                "is wrong, create the correct Envelope and retry.",
            )
        unknown = Fail(
            "SenderUnknown",
            f"No Envelope resource tells who sent this envelope, and Organization/{organization.name} "
            "has no spec.defaultSenderRef. Set a default, or create the Envelope and retry.",
        )
        if await self._may_sender_still_be_recorded(event, organization):
            return dataclasses.replace(_SENDER_NOT_RECORDED, given_up=unknown)
        return unknown

    async def _may_draft_become(self, event: EnvelopeEvent, organization: Organization) -> bool:
        """Whether the envelope may be a draft whose sender is recorded in a moment. Raises ``ApiError``."""
        # With a shorter deadline, the event would fail and never ask the default Sender.
        longest = min(SENDER_GRACE, organization.spec.retry.deadline)
        is_possible = organization.spec.oauth is not None and self._is_younger(event, longest)
        return is_possible and await self._is_draft_open(event)


def _organization_suspended(organization: Organization) -> Hold:
    return Hold("OrganizationSuspended", f"spec.suspend of Organization/{organization.name} is true.")


def _sender_suspended(sender: Sender) -> Hold:
    return Hold("SenderSuspended", f"spec.suspend of Sender/{sender.name} is true.")


def _of_other_user(event: EnvelopeEvent, name: str, *, is_recorded: bool) -> str:
    """Return that the Sender to which eSAW showed the envelope is missing, and what to do: its name is
    another user's by now. ``is_recorded``: there is an Envelope, and who sent it never changes."""
    proved = proved_by(event)
    user = proved.user_id if proved is not None else None
    then = "Then create an Envelope that names it."
    if is_recorded:
        then = f"Then delete Envelope/{event.spec.envelope_id}, and create it with the new Sender."
    return (
        f"Sender/{name} is another user's by now: the Sender to which eSignAnyWhere showed the envelope does "
        f"not exist any more. Create a Sender with another name for the former user, spec.userID {user}. "
        f"{then}"
    )


def _why_held(event: EnvelopeEvent, organization: Organization, *, is_listed: bool) -> str:
    """Return why an event is held by its action, and what to do."""
    actions = f"spec.actions of Organization/{organization.name}"
    if is_listed:
        return (
            f"{actions} lists the action {event.spec.action} with handling Record, but the archiving of this "
            "envelope had begun. Set the handling to Archive, or skip this event: then no event deletes the "
            "envelope."
        )
    return f"{actions} does not list the action {event.spec.action}. List it there, or skip this event."


def _is_another(newest: Organization | Sender | Archive, known: Organization | Sender | Archive) -> bool:
    """Whether a person changed the object, or replaced it by another one of its name."""
    return (newest.uid, newest.spec) != (known.uid, known.spec)


def _has_more_events(newest: Organization | Sender | Archive, known: Organization | Sender | Archive) -> bool:
    """Whether an envelope may have other events, which this run did not look for."""
    if not isinstance(newest, Organization) or not isinstance(known, Organization):
        return False
    return newest.may_have_several_events and not known.may_have_several_events
