"""
Repair: what an attempt to send began and did not end, because it was killed or something it needed was down.

Every replica does it, round after round; all of it can be done twice. It never sends: a draft that is still a draft waits
for its user, and one that is gone gets its sender noted down. Old notes are removed on the way.
"""

import logging
from datetime import datetime, timedelta

from counterfoil.clock import Clock
from counterfoil.cluster import ApiProblem, Cluster, NotFound
from counterfoil.esaw import EsawProblem, Esaws, drafts
from counterfoil.resources import Organization, ResourceInvalid, is_true
from webhook.pages.consents import Consents
from webhook.pages.limits import PageLimits
from webhook.pages.notes import Note, Notes
from webhook.pages.sending import Job, Sending

log = logging.getLogger(__name__)


class Repair:
    """Goes round over the notes."""

    def __init__(
        self,
        *,
        cluster: Cluster,
        notes: Notes,
        sending: Sending,
        consents: Consents,
        esaws: Esaws,
        clock: Clock,
        limits: PageLimits,
    ) -> None:
        self._cluster = cluster
        self._notes = notes
        self._sending = sending
        self._consents = consents
        self._esaws = esaws
        self._clock = clock
        self._limits = limits

    async def run(self) -> None:
        """Go round until cancelled."""
        while True:
            try:
                await self.round()
            except ApiProblem as problem:
                log.warning("the notes can't be looked at at the moment: %s", problem)
            except Exception:
                log.exception("a round of repair broke off")
            await self._clock.sleep(self._limits.repair_seconds)

    async def round(self) -> None:
        """Look at every note once. Raises ``ApiProblem``."""
        async for note in self._notes.drafts():
            now = self._clock.now()
            if note.is_settled:
                if now - note.renewed > timedelta(seconds=self._limits.note_kept_seconds):
                    await self._notes.drop(note)
            elif note.is_left_alone(now):
                try:
                    await self._look_after(note, now)
                except EsawProblem as problem:
                    log.info("a draft can't be looked after at the moment: %s", problem, extra=_about(note))
        await self._notes.forget_states(older_than=self._limits.state_kept_seconds)

    async def _look_after(self, note: Note, now: datetime) -> None:
        job = await self._job(note)
        if job is None:
            return
        is_old = now - note.begun > timedelta(seconds=self._limits.given_up_seconds)
        if not await drafts.exists(job.user, job.draft):
            if await self._sending.settle(job, note):
                log.info("the sender of a draft that was cut off is noted down", extra=_about(note))
            elif is_old:
                log.warning("a draft vanished, and its sender sent nothing since", extra=_about(note))
        if is_old:
            await self._notes.drop(note)

    async def _job(self, note: Note) -> Job | None:
        """Return what the attempt was about, with the sender's key; None while there is none that works."""
        try:
            organization = Organization.parse(await self._cluster.get(Organization, note.organization))
        except (NotFound, ResourceInvalid):
            return None
        sender = await self._consents.known(organization, note.sender)
        if sender is None or not is_true(sender.status.conditions, "Authorized"):
            return None
        key = await self._consents.key_of(sender)
        if key is None:
            return None
        return Job(organization, sender, self._esaws.of(organization).as_user(key), note.draft)


def _about(note: Note) -> dict[str, str]:
    return {"organization": note.organization, "sender": note.sender}
