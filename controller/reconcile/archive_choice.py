"""
The one way from an event to its Archive: which one it is, whether it can be used now, and its backend.

``known_choice`` says what the status and the spec tell. Where routes decide, ``choose`` asks eSAW for what
they look at, in the phase Collecting, and the choice is stored with its outcome. From then on the status
tells it. Until its own files have places, an event follows another one of its envelope that has files
somewhere. No two of them run at the same time, so that the first one decides for all that exist with it.

``spec.archiveRef`` of an Import comes before the routes. But its events may be about envelopes that were
archived before, and whose events were removed. So the usual Archive, and those of all Imports of the
Organization, are asked for a manifest of the envelope. The event follows it. That is no proof: the files
there are compared as any others.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Final, NamedTuple

from controller.access.archive_pool import ArchivePool
from controller.access.archive_root import is_root_known, not_probed_message
from controller.cache import Cache
from controller.reconcile.context import CopyAccess, Destination, ReconcileContext, RunContext
from controller.reconcile.copy_rules import copy_faults
from controller.reconcile.fence import Fence, FencedBackend
from controller.reconcile.import_archives import ImportArchives
from controller.reconcile.outcomes import Hold, Outcome, Pause, Wait
from controller.reconcile.routing import (
    Decision,
    RouteFacts,
    RouteFault,
    RouteTags,
    TagValues,
    UnsureTag,
    decide,
    route_fault,
    too_heavy,
    undecided_by_tags,
)
from controller.reconcile.signature_policy import SignatureChecker
from controller.reconcile.state_machine import phase_to_resume
from controller.reopening.fix_rules import archive_may_fix
from controller.scheduling.due import (
    ARCHIVE_NOT_PROBED,
    ARCHIVE_PROBE_OVERDUE,
    ARCHIVE_REPLACED,
    FIRST_PROBE_PAUSE,
    WAITING_FOR_ARCHIVE,
)
from controller.scheduling.retry_policy import RESYNC_SECONDS
from counterfoil.archives.backend import NegativeCacheBackend
from counterfoil.archives.errors import ArchiveError, OtherSource
from counterfoil.archives.filing import find_concluded
from counterfoil.archives.layout import EnvelopeFacts
from counterfoil.archives.tags import MetadataTooHeavy, TagMissing
from counterfoil.archives.tags_subprocess import TagWorkers
from counterfoil.clock import Clock
from counterfoil.resources import (
    IMPORT_LABEL,
    MAX_ATTEMPT_HISTORY,
    Archive,
    Attempt,
    Condition,
    EnvelopeEvent,
    Organization,
    find_condition,
    is_condition_true,
)
from counterfoil.resources.envelopeevent import ARCHIVED_PHASES, COPY_INVALID, MAX_COPIES
from counterfoil.resources.organization import ARCHIVE_SHARED, shared_archive_conflict
from counterfoil.resources.routes import (
    ArchiveRoute,
    Choice,
    KeptChoice,
    has_manifest,
    import_choice,
    is_named,
    keeps_choice,
    kept_choices,
    known_choice,
    needed_choice,
    own_kept_choice,
    required_copy_names,
    stored_choice,
    stored_copy,
    way_from,
)
from counterfoil.untrusted.fair_slots import FairSlots

TRIED_BY_EVENTS: Final = frozenset({"ArchiveOverloaded", "ArchiveUnresponsive"})
"""Reasons of an Archive whose end only the transfers of events show."""

FIRST_PROBE_GRACE: Final = timedelta(minutes=5)
"""Age up to which an event waits without an attempt for the probe that stores the root of its Archive. Later
the deadline runs, so that a probe that never stores the root is reported."""


class CertainArchive(NamedTuple):
    """The Archive of an event before it runs, which nothing in the run can change."""

    archive: Archive
    choice: Choice


@dataclass(frozen=True)
class ArchiveChooser(CopyAccess):
    """Chooses the Archives of events, and opens them."""

    cache: Cache
    archive_pool: ArchivePool
    tag_workers: TagWorkers
    signature_checker: SignatureChecker
    clock: Clock
    import_archives: ImportArchives
    take_slot: Callable[[str, str, timedelta, Callable[[], None]], Awaitable[bool]]
    """Lets the run of this event wait until the limit of this Archive has room for it, and returns whether it
    has. It waits this time at most; the last argument is called before."""
    has_slot: Callable[[str, str], bool]
    """Whether the run of this event has a slot of this Archive now."""
    _patterns: FairSlots = field(default_factory=lambda: FairSlots(1))
    """The turn to compile rules and to compare patterns, of one Organization at a time."""

    def admit(self, event: EnvelopeEvent, organization: Organization) -> CertainArchive | Wait | Hold | None:
        """Return the Archive of an event before it runs, or why the event is not tried now; None: the run has
        to choose."""
        if organization.spec.archive_ref is None:
            return no_archive(organization)
        choice, archive = _certain_choice(event, organization), None
        if choice is not None:
            found = self.find(choice, event, organization)
            if not isinstance(found, Archive):
                return found
            is_archived = phase_to_resume(event.status) in ARCHIVED_PHASES
            if not is_archived and (why := self.replaced(event)) is not None:
                return Wait(ARCHIVE_REPLACED, why)
            archive = found
        needed = archive or self.cache.archives.get(self.cache.archive_name(event))
        if needed is not None and (unready := _unready_archive(event, organization, needed)) is not None:
            return unready
        return CertainArchive(archive, choice) if choice is not None and archive is not None else None

    async def choose(self, context: ReconcileContext) -> Destination | Outcome:
        """
        Choose the Archive of an event, and open it. The context has the choice, also if it can't be used now.

        Raises ``EsawError``, ``ApiError``, ``ArchiveError``,
        and what ``TagWorkers.evaluate`` raises.
        """
        if (kept := await self._of_sibling(context)) is not None:
            context.awaited = kept.awaited
            found = await self._opened(kept.choice, context)
            if isinstance(found, Destination):
                return found
            if not self.is_still_there(kept):
                # The next run follows the other event no more.
                context.awaited = None
                return found
            there = f"EnvelopeEvent/{kept.event} has files of the envelope there."
            way = way_from(kept.choice.archive, context.event, context.organization.spec)
            return replace(found, message=" ".join(filter(None, (found.message, there, way))))
        choice = await self._of_event(context)
        if not isinstance(choice, Choice):
            return choice
        context.choice = choice
        return await self._opened(choice, context)

    async def _opened(self, choice: Choice, context: ReconcileContext) -> Destination | Outcome:
        event, known = context.event, context.destination
        if known is not None and known.archive.name == choice.archive:
            return known
        find = partial(self.find, choice, event, context.organization)
        archive = await self._with_room(find, context, context.forget_metadata)
        if not isinstance(archive, Archive):
            return archive
        return await self.open(archive, choice, event, context.fence)

    async def _with_room(
        self, find: Callable[[], Archive | Wait | Hold], context: RunContext, before_wait: Callable[[], None]
    ) -> Archive | Wait | Hold | Pause:
        """
        Return an Archive under whose limit the run continues from now on; or why it can't be used now.
        ``find`` looks it up. ``before_wait`` is called before a wait for the limit.

        What the run has decided counts only for the objects of before. It also asked eSAW since then, and may
        have waited for that. So it ends if the Organization names other Archives by now, or if the Archive is
        another one of its name: the next run decides again.
        """
        known = find()
        if not isinstance(known, Archive):
            return known
        limit = longest_wait(context)
        has_room = await self.take_slot(context.event.name, known.name, limit, before_wait)
        organization = context.organization
        # A person may have suspended or changed it during the wait.
        newest = find()
        outdated = self._created_again(known, newest)
        if not _names_same_archives(self.cache.organizations.get(organization.name), organization):
            outdated = self._outdated(f"Organization/{organization.name} names other Archives")
        if outdated is not None and isinstance(context, ReconcileContext):
            # A stored choice would count with any conditions of its route.
            context.choice = None
        return outdated or (newest if has_room else self._busy(known.name))

    def _created_again(self, known: Archive, newest: Archive | Wait | Hold | None) -> Pause | None:
        """Return why a run ends that has decided about an Archive which is another one of its name by now."""
        if not isinstance(newest, Archive) or newest.uid == known.uid:
            return None
        return self._outdated(f"Archive/{known.name} was deleted and created again")

    def _outdated(self, change: str) -> Pause:
        """Return the outcome of a run that ends so that the next one decides again. The event is due."""
        message = f"{change} since the run began. The next one begins with what is there now."
        return Pause(WAITING_FOR_ARCHIVE, message, until=self.clock.now())

    async def _of_sibling(self, context: ReconcileContext) -> KeptChoice | None:
        """
        Return the Archive in which another event of the envelope has files. Raises ``ApiError``.

        One that does not exist any more, or is another one of that name, is not followed: nothing else would
        let the event continue. Where neither routes nor an Import ever decide, only events of present actions
        are looked for: the phase Archiving asks for these anyway.
        """
        may_be_anywhere = context.destination is None or await self.import_archives.may_name_one(
            context.organization.name
        )
        if may_be_anywhere and context.may_have_siblings:
            kept = kept_choices(await context.siblings())
        else:
            kept = kept_choices(await context.possible_siblings())
        return next((each for each in kept if self.is_still_there(each)), None)

    def is_still_there(self, kept: KeptChoice) -> bool:
        """Whether the Archive exists in which another event of the envelope has files."""
        archive = self.cache.archives.get(kept.choice.archive)
        return archive is not None and kept.may_be_in(archive.metadata.creation_timestamp)

    async def _of_event(self, context: ReconcileContext) -> Choice | Outcome:
        """Return the Archive of an event for which no other event of the envelope decides. Raises as
        ``choose``."""
        known = context.destination
        if known is not None and known.choice == stored_choice(context.event.status):
            return known.choice
        usual = known.choice if known is not None else await self._by_routes(context)
        if not isinstance(usual, Choice) or IMPORT_LABEL not in context.event.metadata.labels:
            return usual
        wanted = import_choice(context.event) or usual
        others = dict[str, Choice]()
        for each in (usual, *await self.import_archives.of(context.organization.name)):
            others.setdefault(each.archive, each)
        others.pop(wanted.archive, None)
        for other in others.values():
            context.awaited = other.awaited
            is_there = await self._has_envelope(other, context)
            if not isinstance(is_there, bool):
                return is_there
            context.awaited = None
            if is_there:
                return other
        return wanted

    async def _has_envelope(self, place: Choice, context: ReconcileContext) -> bool | Wait | Pause | Hold:
        """
        Return whether an Archive has a manifest that names the envelope, with or without our seal; or why it
        can't be asked now. Raises as ``choose``, and ``NameTaken`` if something else has the manifest's name.

        One that does not exist any more can't be asked. It holds the Import as long as the Organization names
        it.
        """
        event, archive = context.event, self.cache.archives.get(place.archive)
        if archive is None:
            return False
        if archive.spec.suspend:
            held = suspended(archive)
            unknown = "so it is not known whether it has the envelope already"
            return replace(held, message=f"{held.message.removesuffix('.')}, {unknown}.")
        opened = await self.open(archive, place, event, context.fence)
        if not isinstance(opened, Destination):
            return opened
        try:
            layout = await context.layout_in(archive)
            found = await find_concluded(
                opened.backend, layout, event.spec.envelope_id, key=opened.signature_checker.public_key
            )
        except (TagMissing, OtherSource):
            # The path has a tag that the envelope lacks. The folder is another envelope's.
            return False
        if (changed := self._created_again(archive, self.cache.archives.get(archive.name))) is not None:
            return changed
        return found is not None and (found.is_ours or found.claim is not None)

    async def _by_routes(self, context: ReconcileContext) -> Choice | Wait:
        event, organization = context.event, context.organization
        facts = RouteFacts(event.spec.action, context.sender.name, (await context.envelope()).status)
        tags: TagValues = {}
        decision = decide(organization.spec, facts, tags)
        if decision.undecided is not None:
            tags = await self.tag_values(organization, facts, await context.envelope_facts())
            decision = await self.decide(organization, facts, tags)
        if decision.choice is not None:
            return decision.choice
        fault = self._fault(decision, tags)
        return Wait(*fault) if fault is not None else no_archive(organization)

    async def decide(self, organization: Organization, facts: RouteFacts, tags: TagValues) -> Decision:
        """Return the decision of the routes about an envelope. Patterns are compared beside the event loop,
        those of one Organization at a time."""
        if not any(each.has_pattern for each in organization.spec.routes):
            return decide(organization.spec, facts, tags)
        async with self._patterns.slot(organization.name):
            return await asyncio.to_thread(decide, organization.spec, facts, tags)

    def _fault(self, decision: Decision, tags: TagValues) -> RouteFault | None:
        """Return why a decision was not possible; None: no route is the cause."""
        if (undecided := decision.undecided) is None:
            return None
        route = undecided.route
        if (fault := route_fault(route, self.cache.archives.get(route.archive_ref.name))) is not None:
            return fault
        message = f"The route `{route.name}` can't be judged: {undecided.why}."
        if any(isinstance(each, UnsureTag) for each in tags.get(route.name, {}).values()):
            advice = "Correct the application that writes the metadata, or the route."
            return RouteFault("MetadataUnreadable", f"{message} {advice}")
        return RouteFault("RouteInvalid", message)

    async def tag_values(
        self, organization: Organization, facts: RouteFacts, envelope: EnvelopeFacts
    ) -> TagValues:
        """Return the tags of an envelope that decide about its routes. Raises as ``choose``."""
        tags = await self.judged(organization, undecided_by_tags(organization.spec, facts))
        try:
            found = await self.tag_workers.evaluate(tags.rules, envelope)
        except MetadataTooHeavy as heavy:
            raise too_heavy(heavy) from heavy
        return tags.values(found)

    async def judged(self, organization: Organization, routes: Sequence[ArchiveRoute]) -> RouteTags:
        """Return those of the routes that can be judged, with the rules of their tags. Rules and patterns are
        compiled beside the event loop, those of one Organization at a time."""
        if not any(each.when.tags for each in routes):
            return RouteTags.of(routes, self.cache.archives.get)
        async with self._patterns.slot(organization.name):
            return await asyncio.to_thread(RouteTags.of, routes, self.cache.archives.get)

    def find(self, choice: Choice, event: EnvelopeEvent, organization: Organization) -> Archive | Wait | Hold:
        """Return the Archive of a choice if it is there and may be used by the Organization."""
        route = f" of the route `{choice.route}`" if choice.route is not None else ""
        kept = ", and files of this event may be there" if keeps_choice(event.status) else ""
        missing = f"{route} does not exist{kept}"
        again = ". Create it again: no setting leads this event elsewhere"
        if has_manifest(event.status):
            missing += again
        if choice.import_ is not None:
            named = f", which Import/{choice.import_} named for this event, does not exist{kept}"
            missing = f"{named}{again}"
        archive = self._usable(choice.archive, organization, missing)
        if not isinstance(archive, Archive) or is_condition_true(event.status.conditions, "Archived"):
            return archive
        copies = organization.spec.copies
        # Nothing waits for a copy that is not required.
        if not (required := required_copy_names(copies)):
            return archive
        faults = copy_faults(copies, (choice.archive,), self.cache.archives.get)
        fault = next((each for each in faults if each.archive in required), None)
        return Wait(COPY_INVALID, fault.message) if fault is not None else archive

    def replaced(self, event: EnvelopeEvent) -> str | None:
        """
        Return why no document may be sent to the Archive in which the event has files: it was deleted, and
        somebody created another one of this name, which the Organization does not name now. None: it may.

        What is there may be read: the files prove themselves.
        """
        kept = own_kept_choice(event)
        if kept is None or self.is_still_there(kept):
            return None
        name, organization = kept.choice.archive, self.cache.organizations.get(event.organization)
        if name not in self.cache.archives:
            return None
        if organization is not None and is_named(name, event, organization.spec):
            return None
        then = "Retry the event: it chooses its Archive again."
        if has_manifest(event.status):
            then = "If it may get the documents, name it in spec.archiveRef or in a route."
        return (
            f"Archive/{name} was created after this event had its files in one of this name, and "
            f"Organization/{event.organization} does not name it. No document is sent there. {then}"
        )

    def _usable(self, name: str, organization: Organization, missing: str) -> Archive | Wait | Hold:
        """Return an Archive if it is there and may be used by the Organization. ``missing`` continues the
        sentence about one that is not there."""
        archive = self.cache.archives.get(name)
        if archive is None:
            return Wait("ArchiveMissing", f"Archive/{name}{missing}.")
        if archive.spec.suspend:
            return suspended(archive)
        if (reason := shared_archive_conflict(organization, archive, self.cache.archive_use)) is not None:
            return Wait(ARCHIVE_SHARED, reason)
        return archive

    def has_copy_slot(self, context: RunContext, name: str) -> bool:
        """Return whether the run continues under the limit of this Archive now."""
        return self.has_slot(context.event.name, name)

    def copy_hold(self, name: str) -> Hold | None:
        """Return why a person holds the copy in this Archive; None: nobody does."""
        archive = self.cache.archives.get(name)
        if archive is None or not archive.spec.suspend:
            return None
        return replace(suspended(archive), of_copies=True)

    async def open_copy(self, context: RunContext, name: str) -> Destination | Outcome:
        """Open the Archive of a copy. The run continues under its limit, so a slow one takes no slot of the
        first Archive."""
        event, copy = context.event, stored_copy(context.event.status, name)
        archive = self._find_copy(context, name)
        if not isinstance(archive, Archive):
            return archive
        if (unready := _unready(archive, context.organization, copy.reason, copy.attempts)) is not None:
            return unready
        found = await self._with_room(partial(self._find_copy, context, name), context, _keep_all)
        if not isinstance(found, Archive):
            return found
        return await self.open(found, Choice(name, None), event, context.fence)

    def _find_copy(self, context: RunContext, name: str) -> Archive | Wait | Hold:
        """Return the Archive of a copy if it is there and may be used for it."""
        organization = context.organization
        archive = self._usable(name, organization, " of a copy does not exist")
        if isinstance(archive, Hold):
            return replace(archive, of_copies=True)
        if not isinstance(archive, Archive):
            return archive
        faults = copy_faults(organization.spec.copies, (context.archive.name,), self.cache.archives.get)
        fault = next((each for each in faults if each.archive == name), None)
        return Wait(COPY_INVALID, fault.message) if fault is not None else archive

    async def leave_copies(self, context: RunContext) -> bool:
        """Let the run continue under the limit of its first Archive. False: there is no room."""
        left = await self._with_room(lambda: context.archive, context, _keep_all)
        return isinstance(left, Archive)

    def _busy(self, name: str) -> Pause:
        """Return the outcome of a run that ends to give its places back. The event is due, and waits in the
        queue under the limit of this Archive."""
        message = f"Archive/{name} works on as many events as spec.maxConcurrency allows."
        return Pause(WAITING_FOR_ARCHIVE, message, until=self.clock.now())

    async def open(
        self, archive: Archive, choice: Choice, event: EnvelopeEvent, fence: Fence
    ) -> Destination | Wait | Pause:
        """Return the Archive with its backend, or why it can't be used now. Raises ``ApiError``."""
        pool = self.archive_pool
        try:
            backend = await pool.backend(archive)
            anchors = await pool.anchors(archive)
        except ArchiveError as trouble:
            return Wait("ArchiveNotReady", str(trouble))
        if not is_root_known(archive, backend):
            return self._without_root(event, archive)
        return Destination(
            archive=archive,
            choice=choice,
            backend=FencedBackend(NegativeCacheBackend(pool.marked(archive, backend)), fence),
            check_root=partial(pool.check_root, archive, backend),
            signature_checker=self.signature_checker.with_anchors(anchors),
            on_file_archived=partial(pool.count_archived_bytes, archive.name),
        )

    def _without_root(self, event: EnvelopeEvent, archive: Archive) -> Wait | Pause:
        """
        Return the outcome of an event whose archive has a root that no probe has confirmed.

        A probe that ends stores the root or says what is wrong. The new status of the Archive lets the event
        continue; the pause is for a status that this process missed.
        """
        ready = find_condition(archive.status.conditions, "Ready")
        if ready is not None and ready.status == "False" and _is_observed(archive, ready):
            # With a reason for which the recovery of the archive lets the event continue.
            return Wait(ready.reason if archive_may_fix(ready.reason) else "ArchiveNotReady", ready.message)
        message = not_probed_message(archive)
        if _is_younger(event, self.clock.now() - FIRST_PROBE_GRACE):
            return Pause(ARCHIVE_NOT_PROBED, message, until=self.clock.now() + FIRST_PROBE_PAUSE)
        if _is_probe_overdue(event, self.clock.now()):
            advice = "A probe ends within a minute, so probably no controller probes the Archive."
            return Wait(ARCHIVE_PROBE_OVERDUE, f"{message} {advice}")
        return Wait(ARCHIVE_NOT_PROBED, message)


def _certain_choice(event: EnvelopeEvent, organization: Organization) -> Choice | None:
    """Return the Archive of an event; None: it is not known, or the event may follow another one
    elsewhere."""
    known, needed = (each(event, organization.spec) for each in (known_choice, needed_choice))
    is_same = known is None or needed is None or needed.archive == known.archive
    return known if is_same else None


def _names_same_archives(newest: Organization | None, known: Organization) -> bool:
    """Whether the Organization still is the same one, with the same Archives, routes and copies."""
    if newest is None or newest.uid != known.uid:
        return False
    specs = newest.spec, known.spec
    before, now = ((each.archive_ref, each.routes, each.copies) for each in specs)
    return before == now


def longest_wait(context: RunContext) -> timedelta:
    """Return how long a run waits for an Archive, without any place: shorter than the share of one copy in
    the time of its attempt."""
    return context.attempt_limit / (2 * MAX_COPIES)


def _keep_all() -> None:
    """Forget nothing before a wait: a run that copies has no metadata of the envelope any more."""


def no_archive(organization: Organization) -> Wait:
    """Return the outcome of an event whose Organization names no Archive."""
    return Wait("ArchiveMissing", f"Organization/{organization.name} has no spec.archiveRef.")


def suspended(archive: Archive) -> Hold:
    """Return the outcome of an event whose Archive a person suspended."""
    return Hold("ArchiveSuspended", f"spec.suspend of Archive/{archive.name} is true.")


def _unready_archive(event: EnvelopeEvent, organization: Organization, archive: Archive) -> Wait | None:
    """
    Return the outcome of an event that failed because of its archive, if the probe still fails for the same
    reason; None if the event is tried.

    So in a long outage only the probe contacts the archive, and no waiting event contacts eSAW. The first
    attempts of an event follow each other faster than probes, so they are made. An event that a person
    retries has another reason, so it is tried. An overloaded archive accepts a part of the requests, which
    must be the events'; and only a transfer shows that an archive is fast enough again.
    """
    return _unready(archive, organization, event.status.reason, event.status.attempts)


def _unready(archive: Archive, organization: Organization, reason: str | None, attempts: int) -> Wait | None:
    ready = find_condition(archive.status.conditions, "Ready")
    if ready is None or ready.status != "False" or not _is_observed(archive, ready):
        return None
    if ready.reason != reason or ready.reason in TRIED_BY_EVENTS:
        return None
    if organization.spec.retry.pause_ceiling(attempts) < RESYNC_SECONDS:
        return None
    return Wait(ready.reason, ready.message)


def _is_younger(event: EnvelopeEvent, moment: datetime) -> bool:
    created = event.metadata.creation_timestamp
    return created is not None and created > moment


def _is_observed(archive: Archive, condition: Condition) -> bool:
    return condition.observed_generation == archive.metadata.generation


def _is_probe_overdue(event: EnvelopeEvent, now: datetime) -> bool:
    """Whether all attempts of the last minutes found that the root of the Archive was not probed. The age of
    the event says nothing: the root may be new."""
    found: list[Attempt] = []
    for each in reversed(event.status.attempt_history):
        if each.reason == ARCHIVE_PROBE_OVERDUE:
            return True
        if each.reason != ARCHIVE_NOT_PROBED:
            break
        found.append(each)
    # With short pauses the history has no older attempt.
    is_full = len(found) >= MAX_ATTEMPT_HISTORY
    return bool(found) and (is_full or now - found[-1].start_time >= FIRST_PROBE_GRACE)
