"""
Tag and send a draft once, and record its sender, also if processes are killed at any point.

The order: create the draft's Lease, tag the draft, send it, write the ``Envelope``, complete the Lease. While
the Lease is fresh, only its holder sends; a second click, tab or replica waits. An expired Lease is taken
over, and then eSAW is asked first whether the draft still exists: a sent draft does not. If it is gone, every
envelope that this user sent since the Lease was created gets its ``Envelope``: all of them are this sender's,
whichever of them was the draft.

A bulk becomes up to 1,000 envelopes. Their ids are stored in the Lease in one write, before the first
``Envelope``. From then on nobody asks eSAW any more, and the recovery writes what this attempt does not
(docs/decisions/0026).
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TypeVar

from counterfoil import resources
from counterfoil.clock import Clock
from counterfoil.esaw import EsawError, EsawUserClient, HttpStatusError, drafts
from counterfoil.esaw.drafts import SentHit
from counterfoil.esaw.errors import ResponseTooLarge, had_no_effect
from counterfoil.kube.answers import parse_readable
from counterfoil.kube.client import KubeClient
from counterfoil.kube.errors import AlreadyExists, ApiError, NotFound, Rejected
from counterfoil.resources import Envelope, EnvelopeSpec, Organization, Sender
from counterfoil.untrusted.fair_slots import FairSlots
from webhook.http_server.errors import HttpErrorKind, PageError
from webhook.pages.errors import PageErrorKind, from_esaw
from webhook.pages.limits import MAX_ENVELOPE_WRITES, PageLimits
from webhook.pages.metadata import DraftMetadataUnreadable, merged
from webhook.pages.send_lease import SendLease, SendLeases
from webhook.pages.sent_hits import SearchedUser, SentHits, is_same_address

_log = logging.getLogger(__name__)

SHARE_OF_SENDING = 0.75
"""Share of an attempt's time after which sending stops, so that it ends before another one may begin."""

SHARE_OF_QUESTIONS = 0.7
"""Share of an attempt's time after which eSAW is not asked any more who sent what a search found. One
envelope of the user is enough for the answer to the person, and the recovery asks about the others."""

SHARE_OF_RECORDING = 0.2
"""Share of an attempt's time for writing the Envelopes of a sent draft while its person waits. After that the
browser continues, and the recovery writes the others."""

MAX_WRITE_ATTEMPTS = 5
"""Maximum number of attempts to write the Envelopes of a sent draft; after that the recovery writes them."""

SEARCH_OVERLAP = timedelta(seconds=1)
"""Time by which two parts of a search overlap: eSAW may leave out their very ends."""

MIN_SEARCH = timedelta(seconds=10)
"""Time of sending that is not split further."""

T = TypeVar("T")


@dataclass(frozen=True)
class SendJob:
    """A draft to send, its sender, and its tags (None: the form asks for none)."""

    organization: Organization
    sender: Sender
    user: EsawUserClient
    draft: str
    tags: Mapping[str, str] | None = None


@dataclass(frozen=True)
class DraftSender:
    """Sends drafts. ``monotonic`` is a clock in seconds that never goes back."""

    kube: KubeClient
    send_leases: SendLeases
    clock: Clock
    attempt_seconds: float
    limits: PageLimits
    sent_hits: SentHits
    monotonic: Callable[[], float]
    writes: FairSlots = field(default_factory=lambda: FairSlots(MAX_ENVELOPE_WRITES))
    """Slots to read or write an Envelope; all namespaces of a process share them."""
    _open_drafts: dict[str, int] = field(init=False, default_factory=dict)
    """Number of open drafts by Organization, at the last recovery pass."""

    def observe_open_drafts(self, counts: Mapping[str, int]) -> None:
        """A recovery pass found these numbers of drafts whose sending began and is not confirmed."""
        self._open_drafts.clear()
        self._open_drafts.update(counts)

    async def was_sent(self, organization: str, sender: str, draft: str) -> bool:
        """Whether it is known that the draft was sent. Raises ``ApiError``."""
        send_lease = await self.send_leases.find(organization, sender, draft)
        return send_lease is not None and send_lease.is_sent

    async def send(self, job: SendJob) -> bool:
        """
        Return when the draft is sent, by this call or by another. Raises ``PageError``, ``ApiError``.

        False if another attempt may have sent it with other tags than this job has: these are lost then,
        since nobody changes the metadata of an envelope that was sent.

        Until ``draft/send`` is called, an error says that this attempt sent nothing; its Lease is released.
        From then on, and if an earlier attempt may have sent the draft, the result is unknown.
        """
        send_lease = await self._acquire_lease(job)
        if send_lease.is_sent:
            return self._has_tags(job, send_lease)
        now = asyncio.get_running_loop().time()
        end = now + self.attempt_seconds * SHARE_OF_SENDING
        end_of_questions = now + self.attempt_seconds * SHARE_OF_QUESTIONS
        is_draft = await self._prepare(job, send_lease, end)
        try:
            async with asyncio.timeout_at(end):
                envelopes = await self._send(job, send_lease) if is_draft else ()
                if not envelopes:
                    await self._complete_or_raise(job, send_lease, end_of_questions)
        except TimeoutError:
            raise PageError(PageErrorKind.UNKNOWN_OUTCOME, "the attempt took too long") from None
        except ApiError as problem:
            raise PageError(PageErrorKind.UNKNOWN_OUTCOME, str(problem)) from problem
        if not envelopes:
            return self._has_tags(job, send_lease)
        await self._record_in_time(send_lease, envelopes)
        return True

    def _has_tags(self, job: SendJob, send_lease: SendLease) -> bool:
        """Whether the draft certainly has the job's tags, whichever attempt sent it."""
        return not job.tags or self.send_leases.has_tags(send_lease, job.tags)

    async def record(self, send_lease: SendLease, envelopes: Sequence[str]) -> None:
        """
        Write an Envelope for each envelope that the draft became, then complete the Lease. May be repeated.

        Several ids are stored in the Lease first, so that only a kill before that needs a search in eSAW.
        Raises ``ApiError`` if an Envelope could not be written.
        """
        if len(envelopes) > 1 and not send_lease.envelopes:
            with suppress(NotFound):
                send_lease = await self.send_leases.store_envelopes(send_lease, envelopes)
        await self._for_each(
            envelopes, lambda envelope: self._create_envelope(send_lease, envelope, draft=send_lease.draft)
        )
        await self.send_leases.complete(send_lease, envelopes[0])

    async def complete(self, job: SendJob, send_lease: SendLease, *, until: float | None = None) -> bool:
        """
        Record the sender of a draft that is gone; False when eSAW shows no envelope that may be the draft.

        The Lease is completed when one of them is certainly this draft. Otherwise it stays open: eSAW may not
        show the envelope yet, so the recovery checks again. What is confirmed is recorded at once, so a call
        that was ended by its time is continued by the next. ``until`` is the event loop's time at which the
        questions who sent a hit end; None: they have no end.

        Raises ``EsawError``, ``ApiError``, and ``TimeoutError`` if no envelope was found in that time.
        """
        if await self._kept_its_id(job):
            await self.record(send_lease, (job.draft,))
            return True
        # eSAW first: a user may have another address since the Sender was written.
        email = (await job.user.whoami()).email or job.sender.spec.email
        hits = await self._find_sent(job, email, send_lease) if email else ()
        known: dict[str, EnvelopeSpec] = {}

        async def look_up(hit: SentHit) -> None:
            spec = await self._existing_spec(hit.envelope)
            if spec is not None:
                known[hit.envelope] = spec

        await self._for_each(hits, look_up)
        for hit in hits:
            # The search may not show all envelopes of a bulk yet.
            if not hit.bulk_parent and hit.envelope in known and known[hit.envelope].draft_id == job.draft:
                await self.send_leases.complete(send_lease, hit.envelope)
                return True

        async def record(hit: SentHit) -> None:
            draft = job.draft if hit.bulk_parent == job.draft.lower() else None
            await self._create_envelope(send_lease, hit.envelope, draft=draft)

        is_known = any(spec.draft_id in {None, job.draft} for spec in known.values())
        try:
            has_new = await self.sent_hits.record_own(
                SearchedUser(f"{self.kube.namespace}/{job.organization.name}", job.user, email or ""),
                [hit for hit in hits if hit.envelope not in known],
                lambda own: self._for_each(own, record),
                until=until,
            )
        except TimeoutError:
            if not is_known:
                raise
            return True
        return has_new or is_known

    # -- One attempt ----------------------------------------------------------------------------------------

    async def _acquire_lease(self, job: SendJob) -> SendLease:
        """Return the Lease of this attempt, or of the one that sent the draft. Raises ``PageError`` after
        waiting."""
        await self._check_room(job)
        send_lease = await self._try_to_acquire(job)
        if send_lease is not None:
            return send_lease
        try:
            return await self._wait_for_lease(job)
        except ApiError as problem:
            # Another attempt has begun, and may have sent the draft.
            raise PageError(PageErrorKind.UNKNOWN_OUTCOME, str(problem)) from problem

    async def _check_room(self, job: SendJob) -> None:
        """Raise ``PageError`` for a new draft of an Organization with very many open ones. One whose sending
        began is continued."""
        organization = job.organization.name
        count = self._open_drafts.get(organization, 0)
        if count < self.limits.open_drafts:
            return
        if await self.send_leases.find(organization, job.sender.name, job.draft) is None:
            raise PageError(HttpErrorKind.BUSY, f"{count} drafts of Organization/{organization} are open")

    async def _try_to_acquire(self, job: SendJob) -> SendLease | None:
        return await self.send_leases.acquire(job.organization.name, job.sender.name, job.draft, job.tags)

    async def _wait_for_lease(self, job: SendJob) -> SendLease:
        """Return the Lease once the other attempt has ended, whether it sent the draft or not."""
        deadline = self.monotonic() + self.limits.wait_seconds
        while True:
            found = await self.send_leases.find(job.organization.name, job.sender.name, job.draft)
            if found is not None and found.is_sent:
                return found
            if found is not None and found.is_expired(self.clock.now()):
                taken = await self.send_leases.take_over(found, job.tags)
                if taken is not None:
                    return taken
            if found is None:
                acquired = await self._try_to_acquire(job)
                if acquired is not None:
                    return acquired
            if self.monotonic() > deadline:
                raise PageError(PageErrorKind.BEING_SENT, "another attempt is at it")
            await self.clock.sleep(self.limits.poll_seconds)

    async def _prepare(self, job: SendJob, send_lease: SendLease, end: float) -> bool:
        """
        Write the tags; return whether the draft can be sent, False if it is gone.

        ``end`` is the event loop's time at which sending stops. Raises ``PageError`` after the Lease is
        released.
        """
        try:
            async with asyncio.timeout_at(end):
                if not send_lease.is_first_attempt and not await drafts.exists(job.user, job.draft):
                    return False
                await self._write_tags(job)
                return True
        except TimeoutError:
            error = PageError(PageErrorKind.ESAW_DOWN, "eSAW was too slow, so the draft was not sent")
        except EsawError as problem:
            error = from_esaw(problem)
        except DraftMetadataUnreadable as unreadable:
            error = PageError(PageErrorKind.METADATA_UNREADABLE, str(unreadable))
        raise await self._ended(send_lease, error)

    async def _ended(self, send_lease: SendLease, error: PageError) -> PageError:
        """Release the Lease of an attempt that sent nothing; return the error that the person reads."""
        try:
            await self.send_leases.release(send_lease)
        except ApiError as problem:
            _log.warning("the Lease of a draft stays until it expires: %s", problem)
        if send_lease.is_first_attempt or error.kind is PageErrorKind.DRAFT_REFUSED:
            return error
        return PageError(PageErrorKind.UNKNOWN_OUTCOME, str(error))

    async def _write_tags(self, job: SendJob) -> None:
        """Write the tags of the form. Raises ``EsawError``, ``DraftMetadataUnreadable``."""
        if not job.tags:
            return
        before = (await drafts.configuration(job.user, job.draft)).metadata
        after = await asyncio.to_thread(merged, before, job.tags, limit=self.limits.metadata)
        if after != before:
            await drafts.update_metadata(job.user, job.draft, after)

    async def _send(self, job: SendJob, send_lease: SendLease) -> Sequence[str]:
        """Send the draft; return its envelopes, or none when the draft is gone and they have to be looked
        for."""
        try:
            return await drafts.send(job.user, job.draft)
        except EsawError as problem:
            if had_no_effect(problem):
                is_missing = isinstance(problem, HttpStatusError) and problem.is_missing_draft
                if is_missing and not send_lease.is_first_attempt:
                    return ()
                raise await self._ended(send_lease, _as_page_error(problem)) from problem
            _log.warning("it is not known whether a draft was sent: %s", problem, extra=_log_fields(job))
            await self._raise_if_draft_exists(job)
            return ()

    async def _raise_if_draft_exists(self, job: SendJob) -> None:
        """Return when the draft is gone. Otherwise raise ``PageError``; the Lease stays: nobody else
        sends."""
        try:
            is_there = await drafts.exists(job.user, job.draft)
        except EsawError as problem:
            raise PageError(PageErrorKind.UNKNOWN_OUTCOME, str(problem)) from problem
        if is_there:
            # eSAW may still process the call.
            raise PageError(PageErrorKind.UNKNOWN_OUTCOME, "the draft is still there")

    async def _complete_or_raise(self, job: SendJob, send_lease: SendLease, until: float) -> None:
        try:
            is_completed = await self.complete(job, send_lease, until=until)
        except EsawError as problem:
            raise PageError(PageErrorKind.UNKNOWN_OUTCOME, str(problem)) from problem
        if not is_completed:
            detail = "the draft is gone and eSAW shows no envelope of this sender"
            raise PageError(PageErrorKind.DRAFT_MISSING, detail)

    async def _record_in_time(self, send_lease: SendLease, envelopes: Sequence[str]) -> None:
        """Record the sender of a draft that was just sent. On failure, or if it takes too long, the Lease
        stays open and the recovery continues."""
        fields = {"organization": send_lease.organization, "sender": send_lease.sender}
        try:
            async with asyncio.timeout(self.attempt_seconds * SHARE_OF_RECORDING):
                for attempt in range(MAX_WRITE_ATTEMPTS):
                    try:
                        await self.record(send_lease, envelopes)
                    except ApiError as problem:
                        _log.warning("the sender of an envelope is not stored yet: %s", problem, extra=fields)
                        await self.clock.sleep(min(0.2 * 2.0**attempt, 2.0))
                    else:
                        _log_sent(envelopes, fields)
                        return
        except TimeoutError:
            pass
        _log.warning(
            "the sender is not stored yet for each of the %d envelopes of a draft; the recovery stores it",
            len(envelopes),
            extra=fields,
        )

    # -- What a draft became --------------------------------------------------------------------------------

    async def _kept_its_id(self, job: SendJob) -> bool:
        """Whether the draft is an envelope now, under its own id. (Namirial says neither that the id stays
        nor that it changes.)"""
        try:
            envelope = await job.user.envelope(job.draft)
        except HttpStatusError as answer:
            if answer.is_missing_envelope:
                return False
            raise
        # The id comes from a URL, and a user may also read an envelope that a colleague sent.
        email = envelope.sender.email if envelope.sender is not None else None
        if not email:
            # In doubt it is not the user's own; the search finds what the user sent.
            _log.warning("eSAW does not name the sender of an envelope", extra=_log_fields(job))
            return False
        if is_same_address(email, job.sender.spec.email):
            return True
        if is_same_address(email, (await job.user.whoami()).email):
            return True
        _log.warning("a draft has the id of an envelope of another sender", extra=_log_fields(job))
        return False

    async def _find_sent(self, job: SendJob, email: str, send_lease: SendLease) -> Sequence[SentHit]:
        """Return the envelopes that this address sent since the Lease was created, each once; split the
        search when eSAW's answer is too large."""
        skew = timedelta(seconds=self.limits.clock_skew_seconds)
        parts: list[tuple[datetime, datetime | None]] = [(send_lease.started - skew, None)]
        hits: dict[SentHit, None] = {}
        for _ in range(self.limits.searches):
            if not parts or len(hits) >= self.limits.search_hits:
                break
            start, end = parts.pop()
            try:
                found = await drafts.find_sent(job.user, email, start, end)
            except ResponseTooLarge:
                middle = start + ((end or self.clock.now() + skew) - start) / 2
                if middle - start < MIN_SEARCH:
                    raise
                parts += [(middle - SEARCH_OVERLAP, end), (start, middle)]
            else:
                hits.update(dict.fromkeys(found))
        if parts or len(hits) > self.limits.search_hits:
            _log.warning(
                "a search for a sent draft has too many hits; not all are used", extra=_log_fields(job)
            )
        return list(hits)[: self.limits.search_hits]

    async def _existing_spec(self, envelope: str) -> EnvelopeSpec | None:
        """Return the spec of the stored Envelope; None if there is none that lasts: it is being deleted, or
        can't be read. Raises ``ApiError``."""
        try:
            existing = parse_readable(Envelope, await self.kube.get(Envelope, envelope))
        except NotFound:
            return None
        if existing is None or existing.metadata.deletion_timestamp is not None:
            return None
        return existing.spec

    async def _create_envelope(self, send_lease: SendLease, envelope: str, *, draft: str | None) -> None:
        organization, sender = send_lease.organization, send_lease.sender
        sent_time = (send_lease.sent_time or self.clock.now()).replace(microsecond=0)
        spec = EnvelopeSpec(
            organization_ref=resources.LocalObjectReference(name=organization),
            envelope_id=envelope,
            sender_ref=resources.LocalObjectReference(name=sender),
            draft_id=draft,
            sent_time=sent_time if draft is not None else None,
        )
        labels = {resources.ORGANIZATION_LABEL: organization, resources.SENDER_LABEL: sender}
        body = {
            "apiVersion": Envelope.API_VERSION,
            "kind": Envelope.KIND,
            "metadata": {"name": envelope, "labels": labels},
            "spec": resources.to_json_dict(spec),
        }
        try:
            await self.kube.create(Envelope, body)
        except AlreadyExists:
            before = await self._existing_spec(envelope)
            if before is None:
                message = f"Envelope/{envelope} exists, and is being deleted or can't be read"
                raise Rejected(409, "AlreadyExists", message) from None
            if (before.organization_ref, before.sender_ref) != (
                spec.organization_ref,
                spec.sender_ref,
            ):
                # Two eSAWs may use one id. The first Envelope is never replaced, so a person has to decide.
                _log.error(
                    "Envelope/%s names another sender (Sender/%s of Organization/%s), so the sender is not "
                    "stored; delete this Envelope if it is wrong",
                    envelope,
                    before.sender_ref.name,
                    before.organization_ref.name,
                    extra={"organization": organization, "sender": sender, "envelope": envelope},
                )

    async def _for_each(self, items: Sequence[T], act: Callable[[T], Awaitable[None]]) -> None:
        """
        Do it for each item, some concurrently; all drafts of the process share the limit.

        An item that the API server rejects costs itself. Any other ``ApiError`` ends one of the workers, so
        an API server that is down ends all of them at once. The first error is raised, one that may pass
        before the others.
        """
        remaining = iter(items)
        problems: list[ApiError] = []

        async def work() -> None:
            for item in remaining:
                async with self.writes.slot(self.kube.namespace):
                    try:
                        await act(item)
                    except Rejected as problem:
                        problems.append(problem)
                    except ApiError as problem:
                        problems.insert(0, problem)
                        return

        async with asyncio.TaskGroup() as tasks:
            for _ in range(min(MAX_ENVELOPE_WRITES, len(items))):
                tasks.create_task(work())
        if problems:
            raise problems[0]


def _as_page_error(problem: EsawError) -> PageError:
    if not isinstance(problem, HttpStatusError) or problem.is_missing_draft:
        return from_esaw(problem)
    if problem.status not in {400, 403, 404, 409, 422}:
        return from_esaw(problem)
    code = problem.error_id or str(problem.status)
    return PageError(PageErrorKind.DRAFT_REFUSED, str(problem), code=code)


def _log_sent(envelopes: Sequence[str], fields: Mapping[str, str]) -> None:
    if len(envelopes) == 1:
        _log.info("a draft was sent", extra={**fields, "envelope": envelopes[0]})
    else:
        _log.info("a bulk draft was sent; it became %d envelopes", len(envelopes), extra=dict(fields))


def _log_fields(job: SendJob) -> dict[str, str]:
    return {"organization": job.organization.name, "sender": job.sender.name}
