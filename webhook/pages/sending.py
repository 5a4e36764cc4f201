"""
Sending: a draft is tagged and sent once, and who sent it is noted down, whatever is killed at whatever moment.

The order: note the draft, tag it, send it, write the ``Envelope``, settle the note. While a note is fresh, only the attempt
that holds it sends; the second click, tab or replica waits for it. A note that was left alone is taken over, and then
eSAW is asked first whether the draft is still there: sent drafts are gone. If it is gone, every envelope that this user sent
since the note was made gets its ``Envelope``, since all of those are this sender's, whichever of them was the draft.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta

from counterfoil.clock import Clock
from counterfoil.cluster import AlreadyExists, ApiProblem, Cluster, NotFound
from counterfoil.esaw import Answered, EsawProblem, EsawUser, Paused, Unreachable, drafts
from counterfoil.resources import (
    ORGANIZATION_LABEL,
    SENDER_LABEL,
    Envelope,
    EnvelopeSpec,
    Organization,
    Ref,
    Sender,
    envelope_id,
)
from counterfoil.resources.base import Metadata
from webhook.pages.limits import PageLimits
from webhook.pages.metadata import MetadataUnreadable, merged
from webhook.pages.notes import Note, Notes
from webhook.pages.problems import Kind, Trouble, of_esaw

log = logging.getLogger(__name__)

SHARE_OF_ATTEMPT = 0.75
"""An attempt gives up after this share of its time, so that it is over before another may begin."""

WRITE_TRIES = 5
"""How often the Envelope of a draft that was just sent is tried to be written; after that the repair does it."""


@dataclass(frozen=True)
class Job:
    """What is to be sent, by whom, with which tags (None: none are asked for)."""

    organization: Organization
    sender: Sender
    user: EsawUser
    draft: str
    tags: Mapping[str, str] | None = None


class Sending:
    """Sends drafts. ``monotonic`` is a clock in seconds that never goes back."""

    def __init__(
        self,
        cluster: Cluster,
        notes: Notes,
        clock: Clock,
        *,
        attempt_seconds: float,
        limits: PageLimits,
        monotonic: Callable[[], float],
    ) -> None:
        self._cluster = cluster
        self._notes = notes
        self._clock = clock
        self._attempt_seconds = attempt_seconds
        self._limits = limits
        self._monotonic = monotonic

    async def was_sent(self, organization: str, sender: str, draft: str) -> bool:
        """Whether it is known that the draft was sent. Raises ``ApiProblem``."""
        note = await self._notes.find(organization, sender, draft)
        return note is not None and note.is_settled

    async def send(self, job: Job) -> None:
        """Return when the draft is sent, by this call or by another. Raises ``Trouble``, ``ApiProblem``."""
        note = await self._claim(job)
        if note is None:
            return
        try:
            async with asyncio.timeout(self._attempt_seconds * SHARE_OF_ATTEMPT):
                await self._attempt(job, note)
        except TimeoutError:
            raise Trouble(Kind.UNKNOWN_OUTCOME, "the attempt took too long") from None

    async def settle(self, job: Job, note: Note) -> bool:
        """
        Note down the sender of a draft that is gone; False when no envelope can be seen that it may have become.

        The note is settled when one of them is certainly this draft's. Otherwise it stays: eSAW may not show it yet, so
        the repair looks again. Raises ``EsawProblem``, ``ApiProblem``.
        """
        if await self._kept_its_id(job):
            await self._write(job, job.draft, draft=job.draft)
            await self._notes.settle(note, job.draft)
            return True
        candidates = 0
        for envelope in await self._sent_since(job, note):
            known = await self._known(envelope)
            if known is not None and known.draft_id == job.draft:
                await self._notes.settle(note, envelope)
                return True
            if known is None:
                await self._write(job, envelope)
            if known is None or known.draft_id is None:
                candidates += 1
        return candidates > 0

    # -- One attempt ----------------------------------------------------------------------------------------

    async def _claim(self, job: Job) -> Note | None:
        """Return the note of this attempt; None when the draft is known to be sent. Raises ``Trouble`` after waiting."""
        organization, sender = job.organization.name, job.sender.name
        deadline = self._monotonic() + self._limits.wait_seconds
        while True:
            note = await self._notes.begin(organization, sender, job.draft)
            if note is not None:
                return note
            found = await self._notes.find(organization, sender, job.draft)
            if found is not None and found.is_settled:
                return None
            if found is not None and found.is_left_alone(self._clock.now()):
                taken = await self._notes.take_over(found)
                if taken is not None:
                    return taken
            if self._monotonic() > deadline:
                raise Trouble(Kind.BEING_SENT, "another attempt is at it")
            await self._clock.sleep(self._limits.poll_seconds)

    async def _attempt(self, job: Job, note: Note) -> None:
        try:
            if note.is_first_attempt or await drafts.exists(job.user, job.draft):
                await self._tag(job, note)
                envelope = await self._send(job, note)
            else:
                envelope = None
        except EsawProblem as problem:
            await self._notes.let_go(note)
            raise of_esaw(problem) from problem
        if envelope is not None:
            await self._note_sender(job, note, envelope)
        else:
            await self._settle_or_tell(job, note)

    async def _tag(self, job: Job, note: Note) -> None:
        if not job.tags:
            return
        before = (await drafts.configuration(job.user, job.draft)).metadata
        try:
            after = merged(before, job.tags, limit=self._limits.metadata)
        except MetadataUnreadable as unreadable:
            await self._notes.let_go(note)
            raise Trouble(Kind.METADATA_UNREADABLE, str(unreadable)) from None
        if after != before:
            await drafts.update_metadata(job.user, job.draft, after)

    async def _send(self, job: Job, note: Note) -> str | None:
        """Send the draft; return its envelope, or None when the draft is gone and it has to be looked for."""
        try:
            return await drafts.send(job.user, job.draft)
        except EsawProblem as problem:
            if _had_no_effect(problem):
                if _says_it_is_gone(problem) and not note.is_first_attempt:
                    return None
                await self._notes.let_go(note)
                raise _refusal(problem) from problem
            log.warning("it is not known whether a draft was sent: %s", problem, extra=_about(job))
            await self._resolve_doubt(job)
            return None

    async def _resolve_doubt(self, job: Job) -> None:
        """Return when the draft is gone. Raises ``Trouble``, and leaves the note, so that nobody sends before it has grown old."""
        try:
            is_there = await drafts.exists(job.user, job.draft)
        except EsawProblem as problem:
            raise Trouble(Kind.UNKNOWN_OUTCOME, str(problem)) from problem
        if is_there:
            # eSAW may still be at it.
            raise Trouble(Kind.UNKNOWN_OUTCOME, "the draft is still there")

    async def _settle_or_tell(self, job: Job, note: Note) -> None:
        try:
            is_settled = await self.settle(job, note)
        except EsawProblem as problem:
            raise Trouble(Kind.UNKNOWN_OUTCOME, str(problem)) from problem
        if not is_settled:
            raise Trouble(
                Kind.DRAFT_MISSING, "the draft is gone and no envelope of this sender is to be seen"
            )

    async def _note_sender(self, job: Job, note: Note, envelope: str) -> None:
        """Write the Envelope of a draft that was just sent. If that can't be, the note stays and the repair does it."""
        for attempt in range(WRITE_TRIES):
            try:
                await self._write(job, envelope, draft=job.draft)
                await self._notes.settle(note, envelope)
            except ApiProblem as problem:
                log.warning("the sender of an envelope is not stored yet: %s", problem, extra=_about(job))
                await self._clock.sleep(min(0.2 * 2.0**attempt, 2.0))
            else:
                log.info("a draft was sent", extra={**_about(job), "envelope": envelope})
                return
        log.error("the sender of an envelope could not be stored; the repair will", extra=_about(job))

    # -- What a draft became --------------------------------------------------------------------------------

    async def _kept_its_id(self, job: Job) -> bool:
        """Whether the draft is an envelope now, under its own id. (Namirial says neither that the id stays nor that it changes.)"""
        try:
            await job.user.envelope(job.draft)
        except Answered as answer:
            if answer.is_missing_envelope:
                return False
            raise
        return True

    async def _sent_since(self, job: Job, note: Note) -> list[str]:
        """Return the envelopes that this user sent since the note was made."""
        email = job.sender.spec.email or (await job.user.whoami()).email
        if not email:
            return []
        start = note.begun - timedelta(seconds=self._limits.clocks_differ_seconds)
        hits = [envelope_id(hit.id) for hit in await drafts.sent_since(job.user, email, start)]
        return [envelope for envelope in hits if await self._is_sent_by(job.user, envelope, email)]

    async def _is_sent_by(self, user: EsawUser, envelope: str, email: str) -> bool:
        # The filter is eSAW's; an envelope that somebody shares with the user must not be taken for the user's own.
        sender = (await user.envelope(envelope)).sender
        return sender is not None and (sender.email or "").lower() == email.lower()

    async def _known(self, envelope: str) -> EnvelopeSpec | None:
        try:
            return Envelope.parse(await self._cluster.get(Envelope, envelope)).spec
        except NotFound:
            return None

    async def _write(self, job: Job, envelope: str, draft: str | None = None) -> None:
        resource = Envelope(
            metadata=Metadata(
                name=envelope,
                labels={ORGANIZATION_LABEL: job.organization.name, SENDER_LABEL: job.sender.name},
            ),
            spec=EnvelopeSpec(
                organization_ref=Ref(name=job.organization.name),
                envelope_id=envelope,
                sender_ref=Ref(name=job.sender.name),
                draft_id=draft,
                sent_at=self._clock.now().replace(microsecond=0) if draft is not None else None,
            ),
        )
        body = resource.to_dict()
        body["metadata"] = {key: body["metadata"][key] for key in ("name", "labels")}
        try:
            await self._cluster.create(Envelope, body)
        except AlreadyExists:
            return


def _had_no_effect(problem: EsawProblem) -> bool:
    """Whether it is certain that the draft was not sent by this call."""
    if isinstance(problem, Paused):
        return True
    if isinstance(problem, Unreachable):
        return problem.kind in {"busy", "connect", "proxy", "tls"}
    return isinstance(problem, Answered) and problem.status < 500 and problem.status != 408


def _says_it_is_gone(problem: EsawProblem) -> bool:
    return isinstance(problem, Answered) and problem.is_missing_draft


def _refusal(problem: EsawProblem) -> Trouble:
    if (
        isinstance(problem, Answered)
        and not problem.is_missing_draft
        and problem.status in {400, 403, 404, 409, 422}
    ):
        return Trouble(Kind.DRAFT_REFUSED, str(problem), code=problem.error_id or str(problem.status))
    return of_esaw(problem)


def _about(job: Job) -> dict[str, str]:
    return {"organization": job.organization.name, "sender": job.sender.name}
