"""
Tag and send a draft once, and record its sender, also if processes are killed at any point.

The order: create the draft's Lease, tag the draft, send it, write the ``Envelope``, complete the Lease. While
the Lease is fresh, only its holder sends; a second click, tab or replica waits. An expired Lease is taken
over, and then eSAW is asked first whether the draft still exists: a sent draft does not. If it is gone, every
envelope that this user sent since the Lease was created gets its ``Envelope``: all of them are this sender's,
whichever of them was the draft.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

from counterfoil import resources
from counterfoil.clock import Clock
from counterfoil.esaw import EsawError, EsawUnreachable, EsawUserClient, HttpStatusError, RateLimited, drafts
from counterfoil.kube.client import KubeClient
from counterfoil.kube.errors import AlreadyExists, ApiError, NotFound
from counterfoil.resources import Envelope, EnvelopeSpec, Organization, Sender, envelope_id
from webhook.http_server.errors import PageError
from webhook.pages.errors import PageErrorKind, from_esaw
from webhook.pages.limits import PageLimits
from webhook.pages.metadata import DraftMetadataUnreadable, merged
from webhook.pages.send_lease import SendLease, SendLeases

_log = logging.getLogger(__name__)

SHARE_OF_ATTEMPT = 0.75
"""Share of an attempt's time after which the attempt stops, so that it ends before another one may begin."""

MAX_WRITE_ATTEMPTS = 5
"""Maximum number of attempts to write the Envelope of a sent draft; after that the recovery writes it."""


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
    monotonic: Callable[[], float]

    async def was_sent(self, organization: str, sender: str, draft: str) -> bool:
        """Whether it is known that the draft was sent. Raises ``ApiError``."""
        send_lease = await self.send_leases.find(organization, sender, draft)
        return send_lease is not None and send_lease.is_completed

    async def send(self, job: SendJob) -> None:
        """Return when the draft is sent, by this call or by another. Raises ``PageError``, ``ApiError``."""
        send_lease = await self._acquire_lease(job)
        if send_lease is None:
            return
        try:
            async with asyncio.timeout(self.attempt_seconds * SHARE_OF_ATTEMPT):
                await self._attempt(job, send_lease)
        except TimeoutError:
            raise PageError(PageErrorKind.UNKNOWN_OUTCOME, "the attempt took too long") from None

    async def complete(self, job: SendJob, send_lease: SendLease) -> bool:
        """
        Record the sender of a draft that is gone; False when eSAW shows no envelope that may be the draft.

        The Lease is completed when one of them is certainly this draft. Otherwise it stays open: eSAW may not
        show the envelope yet, so the recovery checks again. Raises ``EsawError``, ``ApiError``.
        """
        if await self._kept_its_id(job):
            await self._create_envelope(job, job.draft, draft=job.draft)
            await self.send_leases.complete(send_lease, job.draft)
            return True
        candidates = 0
        for envelope in await self._sent_since(job, send_lease):
            known = await self._existing_spec(envelope)
            if known is None:
                await self._create_envelope(job, envelope)
            elif known.draft_id == job.draft:
                await self.send_leases.complete(send_lease, envelope)
                return True
            if known is None or known.draft_id is None:
                candidates += 1
        return candidates > 0

    # -- One attempt ----------------------------------------------------------------------------------------

    async def _acquire_lease(self, job: SendJob) -> SendLease | None:
        """Return the Lease of this attempt; None when the draft was sent. Raises ``PageError`` after
        waiting."""
        organization, sender = job.organization.name, job.sender.name
        deadline = self.monotonic() + self.limits.wait_seconds
        while True:
            send_lease = await self.send_leases.acquire(organization, sender, job.draft)
            if send_lease is not None:
                return send_lease
            found = await self.send_leases.find(organization, sender, job.draft)
            if found is not None and found.is_completed:
                return None
            if found is not None and found.is_expired(self.clock.now()):
                taken = await self.send_leases.take_over(found)
                if taken is not None:
                    return taken
            if self.monotonic() > deadline:
                raise PageError(PageErrorKind.BEING_SENT, "another attempt is at it")
            await self.clock.sleep(self.limits.poll_seconds)

    async def _attempt(self, job: SendJob, send_lease: SendLease) -> None:
        try:
            envelope = None
            if send_lease.is_first_attempt or await drafts.exists(job.user, job.draft):
                await self._write_tags(job, send_lease)
                envelope = await self._send(job, send_lease)
        except EsawError as problem:
            await self.send_leases.release(send_lease)
            raise from_esaw(problem) from problem
        if envelope is not None:
            await self._record_sender(job, send_lease, envelope)
        else:
            await self._complete_or_raise(job, send_lease)

    async def _write_tags(self, job: SendJob, send_lease: SendLease) -> None:
        if not job.tags:
            return
        before = (await drafts.configuration(job.user, job.draft)).metadata
        try:
            after = merged(before, job.tags, limit=self.limits.metadata)
        except DraftMetadataUnreadable as unreadable:
            await self.send_leases.release(send_lease)
            raise PageError(PageErrorKind.METADATA_UNREADABLE, str(unreadable)) from None
        if after != before:
            await drafts.update_metadata(job.user, job.draft, after)

    async def _send(self, job: SendJob, send_lease: SendLease) -> str | None:
        """Send the draft; return its envelope, or None when the draft is gone and it has to be looked for."""
        try:
            return await drafts.send(job.user, job.draft)
        except EsawError as problem:
            if _had_no_effect(problem):
                is_missing = isinstance(problem, HttpStatusError) and problem.is_missing_draft
                if is_missing and not send_lease.is_first_attempt:
                    return None
                await self.send_leases.release(send_lease)
                raise _as_page_error(problem) from problem
            _log.warning("it is not known whether a draft was sent: %s", problem, extra=_log_fields(job))
            await self._raise_if_draft_exists(job)
            return None

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

    async def _complete_or_raise(self, job: SendJob, send_lease: SendLease) -> None:
        try:
            is_completed = await self.complete(job, send_lease)
        except EsawError as problem:
            raise PageError(PageErrorKind.UNKNOWN_OUTCOME, str(problem)) from problem
        if not is_completed:
            detail = "the draft is gone and eSAW shows no envelope of this sender"
            raise PageError(PageErrorKind.DRAFT_MISSING, detail)

    async def _record_sender(self, job: SendJob, send_lease: SendLease, envelope: str) -> None:
        """Write the Envelope of a draft that was just sent. On failure the Lease stays open and the recovery
        writes the Envelope."""
        fields = _log_fields(job)
        for attempt in range(MAX_WRITE_ATTEMPTS):
            try:
                await self._create_envelope(job, envelope, draft=job.draft)
                await self.send_leases.complete(send_lease, envelope)
            except ApiError as problem:
                _log.warning("the sender of an envelope is not stored yet: %s", problem, extra=fields)
                await self.clock.sleep(min(0.2 * 2.0**attempt, 2.0))
            else:
                _log.info("a draft was sent", extra={**fields, "envelope": envelope})
                return
        _log.error("the sender of an envelope could not be stored; the recovery will store it", extra=fields)

    # -- What a draft became --------------------------------------------------------------------------------

    async def _kept_its_id(self, job: SendJob) -> bool:
        """Whether the draft is an envelope now, under its own id. (Namirial says neither that the id stays
        nor that it changes.)"""
        try:
            await job.user.envelope(job.draft)
        except HttpStatusError as answer:
            if answer.is_missing_envelope:
                return False
            raise
        return True

    async def _sent_since(self, job: SendJob, send_lease: SendLease) -> list[str]:
        """Return the envelopes that this user sent since the Lease was created."""
        email = job.sender.spec.email or (await job.user.whoami()).email
        if not email:
            return []
        start = send_lease.started - timedelta(seconds=self.limits.clock_skew_seconds)
        hits = [envelope_id(hit.id) for hit in await drafts.find_sent_since(job.user, email, start)]
        return [envelope for envelope in hits if await self._is_sent_by(job.user, envelope, email)]

    async def _is_sent_by(self, user: EsawUserClient, envelope: str, email: str) -> bool:
        # The filter is eSAW's; an envelope that somebody shares with the user must not count as the user's
        # own.
        sender = (await user.envelope(envelope)).sender
        return sender is not None and (sender.email or "").lower() == email.lower()

    async def _existing_spec(self, envelope: str) -> EnvelopeSpec | None:
        try:
            return Envelope.parse(await self.kube.get(Envelope, envelope)).spec
        except NotFound:
            return None

    async def _create_envelope(self, job: SendJob, envelope: str, draft: str | None = None) -> None:
        organization, sender = job.organization.name, job.sender.name
        spec = EnvelopeSpec(
            organization_ref=resources.LocalObjectReference(name=organization),
            envelope_id=envelope,
            sender_ref=resources.LocalObjectReference(name=sender),
            draft_id=draft,
            sent_time=self.clock.now().replace(microsecond=0) if draft is not None else None,
        )
        labels = {resources.ORGANIZATION_LABEL: organization, resources.SENDER_LABEL: sender}
        body = {
            "apiVersion": Envelope.API_VERSION,
            "kind": Envelope.KIND,
            "metadata": {"name": envelope, "labels": labels},
            "spec": resources.to_json_dict(spec),
        }
        with suppress(AlreadyExists):
            await self.kube.create(Envelope, body)


def _had_no_effect(problem: EsawError) -> bool:
    """Whether it is certain that the draft was not sent by this call."""
    if isinstance(problem, RateLimited):
        return True
    if isinstance(problem, EsawUnreachable):
        return problem.kind in {"busy", "connect", "proxy", "tls"}
    return isinstance(problem, HttpStatusError) and problem.status < 500 and problem.status != 408


def _as_page_error(problem: EsawError) -> PageError:
    if not isinstance(problem, HttpStatusError) or problem.is_missing_draft:
        return from_esaw(problem)
    if problem.status not in {400, 403, 404, 409, 422}:
        return from_esaw(problem)
    code = problem.error_id or str(problem.status)
    return PageError(PageErrorKind.DRAFT_REFUSED, str(problem), code=code)


def _log_fields(job: SendJob) -> dict[str, str]:
    return {"organization": job.organization.name, "sender": job.sender.name}
