"""
Copy an archived envelope from its first archive to the Archives in ``spec.copies``, and prove each copy.

Each copy is independent: one that fails has its own reason and its own backoff, and the others continue. So
do those that need nothing of what the first archive lost. The phase ends when each required copy is proved;
one that is not required holds nothing. eSAW is not asked, so a copy that was added later is made of what was
archived long ago.

This module deletes nothing, and does not decide what proves a copy (``counterfoil.archives.proof``).
"""

import asyncio
import dataclasses
import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import TypeGuard

import msgspec

from controller.reconcile import error_policy
from controller.reconcile.context import Destination, RunContext, manifest_extra_in
from controller.reconcile.copy_rules import is_given_up
from controller.reconcile.outcomes import Done, Fail, Hold, Outcome, Pause, PhaseFacts, Wait, counted
from controller.reconcile.phases.left_behind import without_copies
from controller.reconcile.phases.missing_envelope import has_archived_last_state, outcome_if_superseded
from controller.reconcile.phases.repeated_archiving import (
    DOCUMENT_IN_DOUBT,
    archive_again,
    in_doubt,
    unconfirmed,
    unsealed_copy,
)
from controller.reconcile.phases.replaced_copies import (
    accepted_documents,
    archived_by_others,
    archived_time,
    may_replace_copy,
    proving_copies,
    replacing_event,
)
from controller.scheduling.due import WAITING_FOR_ARCHIVE
from controller.scheduling.retry_policy import is_copy_due
from controller.sharding import LeaseLost
from counterfoil.archives.backend import FileNotReturned
from counterfoil.archives.copies.copy import (
    CopyIsOther,
    CopyOfOther,
    CopyPlan,
    CopyUnproved,
    SameAddress,
    plan_copy,
    take_over_copy,
    write_copy,
)
from counterfoil.archives.copies.original import (
    Original,
    OriginalChanged,
    OriginalDiffers,
    OriginalNotReturned,
    OriginalReplaced,
    OriginalUnread,
    read_alone,
    read_original,
)
from counterfoil.archives.errors import MANIFEST_UNSEALED, NameTaken
from counterfoil.archives.layout import EnvelopeFacts
from counterfoil.archives.names import MANIFEST_NAME
from counterfoil.archives.proof import (
    FoundManifest,
    contradiction,
    documents_digest,
    doubt,
    is_copy_proved,
    missing_copies,
    missing_required_copies,
)
from counterfoil.archives.verify import first_copy_fault
from counterfoil.clock import utc_text
from counterfoil.i18n.reasons import find_reason
from counterfoil.kube.status import Superseded
from counterfoil.resources import (
    MAX_MESSAGE_LENGTH,
    PHASE_CONDITIONS,
    EnvelopeEvent,
    EventCopy,
    Phase,
    is_condition_true,
)
from counterfoil.resources.archive import has_other_root
from counterfoil.resources.envelopeevent import COPY_INVALID, MAX_COPY_MESSAGE, OPTIONAL_COPY_MISSING
from counterfoil.resources.reopening import copies_after_end
from counterfoil.resources.routes import (
    copy_names,
    failed_copy,
    required_copy_names,
    stored_copy,
    turn_of_copy,
    wanted_copies,
    with_copy,
)

_log = logging.getLogger(__name__)

_OTHER_CONTENT = frozenset({COPY_INVALID, "NameOccupied"})
"""Reasons of copies in whose place a run read something else."""


async def copy(event: EnvelopeEvent, context: RunContext) -> Outcome:
    """Make each copy that is missing and due; wait for the required ones. Files in doubt are downloaded again
    before: some archives never replace what they got."""
    if not copies_after_end(event.status):
        found = await _doubt(event, context)
        again = in_doubt(event, found) if found is not None else await _unconfirmed(event, context)
        if isinstance(again, Wait):
            return again
    run = _CopyRun(event, context, wanted_copies(event.status, context.organization.spec))
    await run.make_due_copies()
    outcome = run.outcome()
    if run.may_be_superseded and isinstance(outcome, Wait) and outcome.restart_from is None:
        superseded = await outcome_if_superseded(event, context)
        if superseded is not None:
            return dataclasses.replace(superseded, facts=outcome.facts)
    return outcome


async def _doubt(event: EnvelopeEvent, context: RunContext) -> str | None:
    """Return why a file of the event may be another one than eSAW has; None: nothing is known."""
    siblings = await context.siblings_of_any_action()
    return doubt(event.status) or contradiction(event, siblings)


async def _unconfirmed(event: EnvelopeEvent, context: RunContext) -> Wait | None:
    """Download the files again if one was cut, or is rendered at each download, which another download tells.
    None: nothing is known, or the envelope is deleted, so that nothing can be downloaded."""
    siblings = await context.siblings_of_any_action()
    cleaned = PHASE_CONDITIONS[Phase.CLEANING]
    is_deleted = any(is_condition_true(each.status.conditions, cleaned) for each in siblings)
    return None if is_deleted else unconfirmed(event, siblings, now=context.clock.now())


@dataclass
class _CopyRun:
    """One attempt of the phase."""

    event: EnvelopeEvent
    context: RunContext
    entries: tuple[EventCopy, ...]
    _problems: dict[str, Outcome] = field(default_factory=dict)
    """By Archive: why its copy could not be made in this attempt."""
    _of_others: list[str] = field(default_factory=list)
    """Archives in which the copy of another event counts as that of this one."""
    _last_states: set[str] = field(default_factory=set)
    """Archives whose place of a copy has a whole one of an event that archived the last state of the
    envelope, and it does not count as one of this event."""
    _original: Original | None = None
    _change: str | None = None
    """Why the envelope is archived again: the first archive lost a file of it."""

    @property
    def may_be_superseded(self) -> bool:
        """Whether there is the whole copy of another event that archived the last state, and this run read no
        other content in the place of a required one: no status is believed against that."""
        required = required_copy_names(self.context.organization.spec.copies)
        return bool(self._last_states) and not any(
            name in required and name not in self._last_states and problem.reason in _OTHER_CONTENT
            for name, problem in self._problems.items()
        )

    async def make_due_copies(self) -> None:
        """Make the copies one after the other. Raises ``LeaseLost``, ``Superseded``."""
        missing = missing_copies(self.event.status, self.context.organization.spec.copies)
        entries = {each: stored_copy(self.event.status, each) for each in missing}
        open_names = []
        for name in missing:
            if (hold := self.context.copies.copy_hold(name)) is not None:
                self._held(name, hold)
            else:
                open_names.append(name)
        # A run before any of these times has another cause, such as an Archive that works again.
        due = [each for each in open_names if self._is_due(entries[each])] or open_names
        due.sort(key=self._turn)
        # Equal shares, and one for what is left: what an attempt did is lost if it does not end in time.
        share = self.context.attempt_limit / (len(due) + 1)
        await self._make_each(due, share)
        if self._last_states:
            # No status is believed about a required copy that can be read.
            required = required_copy_names(self.context.organization.spec.copies)
            rest = [each for each in open_names if each in required and each not in due]
            await self._make_each(rest, share / (len(rest) + 1))

    async def _make_each(self, names: Sequence[str], share: timedelta) -> None:
        for position, name in enumerate(names):
            try:
                problem = await self._make_within(share, name)
            except (Superseded, LeaseLost):
                raise
            except OriginalDiffers as differs:
                problem = self._original_differs(differs)
            except OriginalUnread as unread:
                problem = self._classified(unread.problem)
                if self._original is None:
                    self._original_unread(names[position:], problem)
                    return
                if not isinstance(unread.problem, OriginalChanged):
                    problem = self._failed_source(name, problem)
            except Exception as error:
                problem = self._classified(error)
            if problem is not None:
                self._not_made(name, problem)

    def _turn(self, name: str) -> tuple[object, ...]:
        """Return what decides when a copy is made. The run may have begun in the limit of one of them, and to
        make another one first gives that slot back."""
        organization = self.context.organization
        has_slot = self.context.copies.has_copy_slot(self.context, name)
        return not has_slot, *turn_of_copy(self.event.status, organization.spec, name)

    async def _make_within(self, limit: timedelta, name: str) -> Outcome | None:
        """Make a copy, and return why it failed; None: it did not. It may wait for its Archive, or be sent
        slowly, for this time."""
        timeout = asyncio.timeout(limit.total_seconds())
        try:
            async with timeout:
                return await self._make(name)
        except TimeoutError:
            if not timeout.expired():
                raise
            _log.warning("a copy was ended: it was overdue")
            source = self.context.archive_name
            return Wait(
                "AttemptOverdue",
                f"It was not complete in time. All that it waited for is Archive/{name} and {source}; one of "
                "them is slow or busy. The files that arrived stay in the archive.",
            )

    def _is_due(self, entry: EventCopy) -> bool:
        return is_copy_due(entry, self.context.organization.spec.retry, now=self.context.clock.now())

    async def _make(self, name: str) -> Outcome | None:
        opened = await self.context.open_copy(name)
        if not isinstance(opened, Destination):
            return opened
        try:
            try:
                location = await self._written(opened, stored_copy(self.event.status, name))
            except OriginalDiffers as differs:
                await self._check_source()
                location = await self._place_without_original(opened, differs)
        except CopyOfOther as other:
            if (found := await _doubt(self.event, self.context)) is None:
                raise
            message = (
                f"{other.place} has the copy of another event of this envelope. It is not replaced, since a "
                f"file of this event is in doubt: {found}"
            )
            return Fail(DOCUMENT_IN_DOUBT, message)
        digest = documents_digest(self.event.status.documents)
        entry = EventCopy(
            ref=stored_copy(self.event.status, name).ref,
            manifest=location,
            verified_time=self.context.clock.now(),
            documents=digest,
        )
        self.entries = with_copy(self.entries, entry)
        if digest is not None and name not in self._of_others:
            # The copy of another event may have no seal of this key, so it is read again before the delete.
            self.context.verified_copies[name] = digest
        return None

    async def _written(self, target: Destination, entry: EventCopy) -> str:
        source, signer = self.context.chosen, self.context.signature_checker.signer
        original = await self._read_original()
        try:
            plan = await self._planned(target, entry, original)
        except CopyOfOther as other:
            await self._take_over(target, other)
            return other.place
        now = self.context.clock.now()
        archived = archived_time(self.event.status, now)
        stated = {"archived": utc_text(archived)} if archived is not None else {}
        try:
            location = await write_copy(
                source.backend,
                target.backend,
                original,
                plan,
                archived_at=now,
                extra={**manifest_extra_in(self.event, target.archive.name), "original": stated},
                signer=signer,
            )
        except OriginalUnread as unread:
            await self._read_source_alone(unread)
            raise
        target.on_file_archived(sum(size for size, _ in original.checksums.values()))
        return location

    async def _planned(self, target: Destination, entry: EventCopy, original: Original) -> CopyPlan:
        siblings = await self.context.siblings_of_any_action()

        def may_replace(place: str, found: FoundManifest | None) -> bool:
            if (other := self._copy_at(place, found, other_than=target.archive.name)) is not None:
                raise other
            now = self.context.clock.now()
            return may_replace_copy(self.event, siblings, original, place, found, now=now)

        plan_with = partial(
            plan_copy,
            target.backend,
            target.archive.spec,
            original,
            may_replace=may_replace,
            is_elsewhere=has_other_root(target.archive, self.context.archive),
            key=self.context.signature_checker.public_key,
        )
        own = {entry.manifest} if entry.manifest is not None else set()
        try:
            return await plan_with(claimed_manifests=own, of_others={})
        except NameTaken:
            # Perhaps by the copy of another event of this envelope, which may have lost its manifest.
            siblings = await self.context.siblings()
            if not siblings:
                raise
            others = [stored_copy(each.status, target.archive.name) for each in siblings]
            claimed = own | {each.manifest for each in others if each.manifest is not None}
            return await plan_with(claimed_manifests=claimed, of_others=archived_by_others(siblings))

    def _copy_at(
        self, place: str, found: FoundManifest | None, *, other_than: str
    ) -> SameAddress | CopyIsOther | None:
        """Return the error for another copy that is proved at this place, unless its Archive moved since. One
        place can have two addresses: then the manifest that was ``found`` there names the other one."""
        manifest = (found.manifest or found.claim) if found is not None else None
        files = manifest.files if manifest is not None else ()
        for name in copy_names(self.context.organization.spec):
            archive = self.context.find_archive(name)
            known = next((each for each in self.entries if each.ref.name == name), None)
            root = archive.status.root if archive is not None else None
            if name == other_than or root is None or known is None or known.manifest is None:
                continue
            if known.manifest.startswith(root.location) and is_copy_proved(known, self.event.status):
                if known.manifest == place:
                    return SameAddress(place, f"that in Archive/{name}")
                folder = known.manifest.removesuffix(MANIFEST_NAME)
                if any(each.location.startswith(folder) for each in files):
                    return CopyIsOther(place, name)
        return None

    async def _take_over(self, target: Destination, other: CopyOfOther) -> None:
        """Read and protect the copy of another event. Raises ``other`` unless it counts as one of this event
        (``accepted_documents``), and ``CopyUnproved`` if only the archive claims that there is one."""
        siblings = await self.context.siblings()
        if not other.is_sealed and not proving_copies(siblings, other.place):
            await target.check_root()
            raise CopyUnproved(other.place)
        accepted = accepted_documents(self.event, siblings, other.place, now=self.context.clock.now())
        key = self.context.signature_checker.public_key
        try:
            fault = await take_over_copy(
                target.backend, other.place, accepted, self._envelope_of_any_status, key=key
            )
            has_fault = fault is not None
        except FileNotReturned:
            has_fault = True
        await target.check_root()
        if has_fault:
            await self._look_for_last_state(target, other.place)
            raise other
        self._of_others.append(target.archive.name)

    async def _look_for_last_state(self, target: Destination, place: str) -> None:
        """Read the copy of another event as that event made it, if it archived the last state."""
        evidence, key = self.context.organization.spec.evidence, self.context.signature_checker.public_key
        copied = [
            each.status.documents
            for each in proving_copies(await self.context.siblings(), place)
            if has_archived_last_state(each, self.event, evidence)
        ]
        if not copied or _has_ended(self.event):
            return
        try:
            fault = await first_copy_fault(
                target.backend, place, copied, self._envelope_of_any_status, key=key
            )
        except FileNotReturned:
            fault = None
        if fault is None:
            self._last_states.add(target.archive.name)

    async def _place_without_original(self, target: Destination, differs: OriginalDiffers) -> str:
        """
        Return where the copy of another event is that counts as one of this event, which had ended.

        Raises ``OriginalReplaced`` if there is none, and another event has the place of its original; and
        ``CopyOfOther`` if the copy of that one is damaged. Raises ``differs`` otherwise; also before the end,
        since the envelope is archived again then.
        """
        if not _has_ended(self.event):
            raise differs
        siblings, name = await self.context.siblings(), target.archive.name
        unaccepted: list[CopyOfOther] = []
        for place in dict.fromkeys(stored_copy(each.status, name).manifest for each in siblings):
            if place is not None and proving_copies(siblings, place):
                try:
                    await self._take_over(target, CopyOfOther(place, is_sealed=False))
                except CopyOfOther as copy_of_other:
                    unaccepted.append(copy_of_other)
                else:
                    return place
        now, archive = self.context.clock.now(), self.event.status.archive
        other = replacing_event(self.event, siblings, now=now) if differs.may_be_replaced else None
        if other is None or archive is None or archive.manifest is None:
            raise differs
        for each in unaccepted:
            if await self._is_damaged(target, each.place):
                raise each
        raise OriginalReplaced(archive.manifest, other) from differs

    async def _is_damaged(self, target: Destination, place: str) -> bool:
        """Whether a copy is as none of the other events made it that have it there. One that the Archive does
        not return is not known to be damaged."""
        made = [each.status.documents for each in proving_copies(await self.context.siblings(), place)]
        key = self.context.signature_checker.public_key
        try:
            fault = await first_copy_fault(target.backend, place, made, self._envelope_of_any_status, key=key)
        except FileNotReturned:
            return False
        await target.check_root()
        return fault is not None

    @property
    def _envelope_of_any_status(self) -> EnvelopeFacts:
        """The envelope of the event. Other events may have archived it in another status."""
        return dataclasses.replace(self.context.known_facts(self.event), status="")

    async def _read_source_alone(self, unread: OriginalUnread) -> None:
        """Read what the first archive did not return while a copy was written: a file is read as fast as the
        copy takes it, so only this copy may be affected. ``_original`` stays None if that fails too. Raises
        as ``_read_original``."""
        self._original = None
        original = await self._read_original()
        self._original = None
        await read_alone(self.context.backend, unread)
        self._original = original

    async def _check_source(self) -> None:
        """Read the marker of the first archive again, before its difference counts. Raises
        ``OriginalUnread``."""
        self._original = None
        try:
            await self.context.chosen.check_root()
        except Exception as problem:
            raise OriginalUnread(problem) from problem

    async def _read_original(self) -> Original:
        if self._original is None:
            status, archive = self.event.status, self.event.status.archive
            try:
                self._original = await read_original(
                    self.context.backend,
                    (archive.manifest if archive is not None else None) or "",
                    status.documents,
                    self.context.known_facts(self.event),
                    key=self.context.signature_checker.public_key,
                    first_origin=self.context.organization.status.origin,
                )
            except (OriginalDiffers, OriginalNotReturned):
                raise
            except Exception as problem:
                raise OriginalUnread(problem) from problem
        return self._original

    def _classified(self, error: Exception) -> Outcome:
        found = error_policy.classify(error, self.context.clock.now())
        if found is not None:
            _log.info("a copy could not be made: %s", error)
            return found
        _log.error("a copy broke off", exc_info=error)
        return error_policy.INTERNAL_ERROR

    def _not_made(self, name: str, problem: Outcome) -> None:
        if isinstance(problem, Hold):
            self._held(name, problem)
        elif is_busy(problem):
            self._put_off(name, problem)
        else:
            self._failed(name, problem)

    def _held(self, name: str, hold: Hold) -> None:
        """Record why a copy is not tried. That is no attempt, and it is due once nobody holds it. The time to
        live of an event begins with the last try of a copy that was given up."""
        entry, tried = stored_copy(self.event.status, name), None
        if not self._is_awaited(name) and is_given_up(entry, self.context.organization.spec.retry):
            tried = entry.last_attempt_time
        self._not_tried(name, hold, last_attempt_time=tried, next_attempt_time=None)

    def _put_off(self, name: str, busy: Pause) -> None:
        """Record that there was no room for a copy. That is no attempt. An event waits in the queue for one
        that it needs. It does not wait for another one, which would else begin in each pass."""
        started, until = stored_copy(self.event.status, name).last_attempt_time, busy.until
        if not self._is_awaited(name):
            until = self.context.clock.now() + self.context.organization.spec.retry.max
        self._not_tried(name, busy, last_attempt_time=started, next_attempt_time=until)

    def _not_tried(self, name: str, why: Hold | Pause, **times: datetime | None) -> None:
        self._problems[name] = why
        self._change_entry(name, reason=why.reason, message=why.message[:MAX_COPY_MESSAGE], **times)

    def _change_entry(self, name: str, **changes: str | datetime | None) -> None:
        """Change the stored entry of a copy that is not proved."""
        entry = stored_copy(self.event.status, name)
        changed = msgspec.structs.replace(entry, verified_time=None, documents=None, **changes)
        self.entries = with_copy(self.entries, changed)

    def _is_awaited(self, name: str) -> bool:
        """Whether the event waits for this copy: it is required, and the event has not ended before."""
        required = required_copy_names(self.context.organization.spec.copies)
        return name in required and not copies_after_end(self.event.status)

    def _original_differs(self, differs: OriginalDiffers) -> Outcome | None:
        """Return the problem of a copy that is made of what the first archive lost. None: the envelope is
        archived again, so the copy has not failed; that of an event which had ended may be deleted since."""
        change = f"{self.context.archive_name} does not have the files as they were archived: {differs}"
        if _has_ended(self.event):
            return Fail(differs.reason, f"{change} The copy was not finished.")
        self._change = change
        return None

    def _original_unread(self, names: Sequence[str], problem: Outcome) -> None:
        """Record that the first archive does not work, so that none of these copies can be made. A copy that
        the event waits for has not failed: the event has the error."""
        message = f"It is made from {self.context.archive_name}, which can't be read: {problem.message}"
        unread = dataclasses.replace(problem, message=message[:MAX_MESSAGE_LENGTH])
        for name in names:
            if not self._is_awaited(name):
                self._failed(name, unread)
                continue
            self._problems[name] = unread
            # Without a time, it is due with the event.
            self._change_entry(
                name, reason=None, message=None, last_attempt_time=None, next_attempt_time=None
            )

    def _failed_source(self, name: str, problem: Outcome) -> Outcome:
        """Return the problem of a copy during which the first archive, which works, could not be read."""
        message = (
            f"{self.context.archive_name} could not be read while the copy in Archive/{name} was written, "
            f"and works otherwise; perhaps one of the two is slow. {problem.message}"
        )
        return dataclasses.replace(problem, message=message[:MAX_MESSAGE_LENGTH])

    def _failed(self, name: str, problem: Outcome) -> None:
        self._problems[name] = problem
        # By the stored status: an earlier proof is about other files.
        entry = stored_copy(self.event.status, name)
        message, now = problem.message[:MAX_COPY_MESSAGE], self.context.clock.now()
        self.entries = with_copy(self.entries, failed_copy(entry, problem.reason, message, now=now))

    def outcome(self) -> Outcome:
        """Return the outcome of the attempt: what is still missing decides, not what failed in it."""
        copies = self.context.organization.spec.copies
        status = msgspec.structs.replace(self.event.status, copies=self.entries)
        missing, left = missing_copies(status, copies), without_copies(self.event.status, self.context)
        facts = PhaseFacts(copies=self.entries, side_conditions=() if left is None else (left,))
        if self._change is not None:
            # Not counted as a mismatch before the delete, after which no delay of the delete would be
            # repeated.
            return dataclasses.replace(archive_again("ArchivedFilesChanged", self._change), facts=facts)
        if required := missing_required_copies(status, copies):
            return dataclasses.replace(self._missing(required), facts=facts)
        if missing:
            return Done(OPTIONAL_COPY_MISSING, _missing_message(missing), facts=facts)
        return Done("CopiesVerified", self._verified_message(), facts=facts)

    def _missing(self, required: Collection[str]) -> Outcome:
        """Return the outcome while required copies are missing. An error that a retry can't solve counts only
        if a retry makes no other copy. Suspended Archives hold the event if each copy waits for one: only
        then does nothing make it due (``due.is_suspended``)."""
        found = [(name, self._problem(name)) for name in required]
        for kind in (Wait, Pause, Fail, Hold):
            for name, problem in found:
                if isinstance(problem, kind):
                    message = f"The copy in Archive/{name} is missing: {problem.message}"[:MAX_MESSAGE_LENGTH]
                    if isinstance(problem, Hold | Pause):
                        return dataclasses.replace(problem, message=message)
                    if isinstance(problem, Wait) and problem.reason == MANIFEST_UNSEALED:
                        return unsealed_copy(name, problem.message)
                    return type(problem)(problem.reason, message)
        raise AssertionError(f"no outcome for {required}")

    def _problem(self, name: str) -> Hold | Wait | Pause | Fail:
        problem = self._problems.get(name)
        if isinstance(problem, Hold | Wait | Fail) or is_busy(problem):
            return problem
        if problem is not None:
            return Wait(problem.reason, problem.message)
        entry = stored_copy(self.event.status, name)
        return Wait(
            # Who may write the status may put any text there.
            find_reason(entry.reason or COPY_INVALID).name,
            entry.message
            or "Another copy has the same address. Give one of the two Archives another spec.path.",
        )

    def _verified_message(self) -> str:
        names = [f"Archive/{each.archive_ref.name}" for each in self.context.organization.spec.copies]
        files = counted(len(self.event.status.documents), "file")
        if not names:
            return "spec.copies of the Organization names no copy any more."
        message = f"{', '.join(names)}: each has a verified copy of {files}."
        if not self._of_others:
            return message
        others = ", ".join(f"Archive/{each}" for each in self._of_others)
        return f"{message} In {others} it is that of another event of the envelope, with its audit trails."


def _has_ended(event: EnvelopeEvent) -> bool:
    """Whether the event had ended before its copies, so that its envelope may be deleted."""
    is_cleaned = is_condition_true(event.status.conditions, PHASE_CONDITIONS[Phase.CLEANING])
    return is_cleaned or copies_after_end(event.status)


def is_busy(problem: Outcome | None) -> TypeGuard[Pause]:
    """Whether there was no room in the Archive of a copy."""
    return isinstance(problem, Pause) and problem.reason == WAITING_FOR_ARCHIVE


def _missing_message(names: Collection[str]) -> str:
    archives = ", ".join(f"Archive/{each}" for each in names)
    return (
        f"The copy in {archives} is missing, and is not required. While spec.copies names it, it is tried "
        "again; status.copies says why it failed."
    )
