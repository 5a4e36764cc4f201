"""
The notifier: from time to time it brings the problems in each Organization's status in line, and has mails sent.

Each controller writes down what failed in its own hands; one of them, where the walk over all events is made, also keeps
the rest and sends. It runs beside everything else: whatever goes wrong here is logged and tried again.
"""

import asyncio
import dataclasses
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial

from msgspec.structs import replace

from controller.notify import asking, ledger
from controller.notify.dispatch import Dispatch
from controller.notify.due import Patience, forgettable
from controller.notify.ledger import ARCHIVE, CONSENT, DIGEST, KEY, Met, Problems, Survey
from controller.notify.notes import Notes
from controller.office import Office
from counterfoil.clock import Clock
from counterfoil.cluster import ApiProblem
from counterfoil.logs import about
from counterfoil.resources import FINAL, EnvelopeEvent, Organization, Phase, Sender, condition, is_true

_log = logging.getLogger(__name__)

LOOK_SECONDS = 2.0


@dataclass
class Notifier:
    """Keeps the problems of all Organizations."""

    office: Office
    notes: Notes
    dispatch: Dispatch
    clock: Clock
    patience: Patience
    sends: bool
    """Whether mails are sent by this process; by just one of all."""
    sender_of: Callable[[EnvelopeEvent], str]
    _met: dict[str, dict[str, Met]] = field(default_factory=dict)
    _counted: dict[str, datetime] = field(default_factory=dict)
    """Names of events whose failure was counted, and when."""
    _walks: dict[str, tuple[datetime, Survey]] = field(default_factory=dict)
    _looks: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    """By Organization: the look that is under way."""

    # -- What others tell -------------------------------------------------------------------------------------

    def failed(self, event: EnvelopeEvent) -> None:
        """An event has just failed in this process."""
        news = ledger.failure(event, self.archive_of(event.organization))
        if event.name in self._counted:
            # It was tried again, in vain.
            news = dataclasses.replace(news, count=0)
        self._counted[event.name] = self.clock.now()
        if len(self._counted) > ledger.MOST_NAMES:
            del self._counted[next(iter(self._counted))]
        self._remember(event.organization, news)

    def walked(self, began: datetime, surveys: Mapping[str, Survey]) -> None:
        """A walk over all events, which began then, is finished."""
        for organization in self.office.organizations:
            self._walks[organization.name] = (began, surveys.get(organization.name, Survey()))
        since = {name: at for name, at in self._counted.items() if at >= began - ledger.DOUBT}
        found = {name: began for survey in surveys.values() for name in survey.names}
        self._counted = dict(list((found | since).items())[-ledger.MOST_NAMES :])

    def archive_of(self, organization: str) -> str:
        """Return the name of an Organization's Archive; empty when it has none."""
        found = self.office.organizations.get(organization)
        return found.spec.archive_ref.name if found is not None and found.spec.archive_ref is not None else ""

    def _remember(self, organization: str, news: Met) -> None:
        waiting = self._met.setdefault(organization, {})
        known = waiting.get(news.cause)
        waiting[news.cause] = news if known is None else ledger.together(known, news)

    # -- Looking ----------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Look until cancelled. An Organization whose mail server is slow holds up no other."""
        async with asyncio.TaskGroup() as group:
            while True:
                self._forget_the_gone()
                for each in self.office.organizations:
                    if each.name not in self._looks:
                        look = group.create_task(self._safely(each.name), name=f"problems of {each.name}")
                        self._looks[each.name] = look
                        look.add_done_callback(partial(_done, self._looks, each.name))
                await self.clock.sleep(LOOK_SECONDS)

    async def drained(self) -> None:
        """Begin no mail from now on, and return when those under way are sent and marked."""
        self.dispatch.close()
        if self._looks:
            await asyncio.wait(self._looks.values())

    async def look(self) -> None:
        """Look once at each Organization."""
        for each in self.office.organizations:
            await self._safely(each.name)

    def _forget_the_gone(self) -> None:
        names = {each.name for each in self.office.organizations}
        self.dispatch.keep(names)
        for memory in (self._met, self._walks):
            for name in memory.keys() - names:
                del memory[name]

    async def _safely(self, name: str) -> None:
        with about(organization=name):
            try:
                await self._look_at(name)
            except ApiProblem as problem:
                _log.warning("problems can't be written down at the moment: %s", problem)
            except Exception:
                _log.exception("looking after the problems of an organization broke off")

    async def _look_at(self, name: str) -> None:
        await self._write_down(name)
        organization = self.office.organizations.get(name)
        if organization is None or not self.sends or organization.spec.suspend:
            return
        await self.dispatch.finish(organization)
        senders = self._senders(organization)
        organization = await self.notes.problems(
            name, lambda problems: self._in_line(organization, senders, problems)
        )
        await self.dispatch.send_due(organization, senders)

    # -- Problems ---------------------------------------------------------------------------------------------

    async def _write_down(self, name: str) -> None:
        """Write down what failed since the last look, and what a walk found."""
        news, walk = self._met.pop(name, {}), self._walks.pop(name, None)
        if not news and walk is None:
            return
        now = self.clock.now()

        def changed(problems: Problems) -> Problems:
            if walk is not None:
                problems = ledger.surveyed(problems, walk[1], began=walk[0], now=now)
            for each in news.values():
                problems = ledger.met(problems, each, now)
            return problems

        try:
            await self.notes.problems(name, changed)
        except ApiProblem:
            for each in news.values():
                self._remember(name, each)
            raise

    def _in_line(self, organization: Organization, senders: list[Sender], problems: Problems) -> Problems:
        """Bring in line what the state of things tells, and not events: archives, keys, silent senders."""
        now = self.clock.now()
        silent = asking.silent(
            senders, organization, now, unreachable=self.dispatch.unreachable(organization.name)
        )
        standing = [
            *self._archive_trouble(organization, problems, now),
            *asking.of_administrators(senders),
            *asking.of_silence(silent),
            *ledger.of_long_ones(problems, now, self.patience.digest),
        ]
        for each in standing:
            problems = ledger.counted(problems, each, now)
        causes = {each.cause for each in standing}
        for known in problems:
            if known.cause not in causes and self._is_over(known.cause):
                problems = ledger.solved(problems, known.cause, now)
        for cause in forgettable(problems, now, self.patience):
            problems = ledger.closed(problems, cause)
        return problems

    def _is_over(self, cause: str) -> bool:
        """Whether a problem that is not met at the moment is over; of failures only the walk knows."""
        kind, _, name = cause.partition("/")
        if kind == ARCHIVE:
            archive = self.office.archives.get(name)
            return archive is None or is_true(archive.status.conditions, "Ready")
        return kind in (KEY, CONSENT, DIGEST)

    def _archive_trouble(
        self, organization: Organization, problems: Problems, now: datetime
    ) -> Iterable[Met]:
        archive = self.office.archives.get(self.archive_of(organization.name))
        ready = condition(archive.status.conditions, "Ready") if archive is not None else None
        if archive is None or ready is None or ready.status == "True":
            return
        cause, waiting = f"{ARCHIVE}/{archive.name}", self._waiting(organization)
        is_long = now - ready.last_transition_time >= self.patience.archive
        if ledger.is_open(problems, cause) or (waiting and is_long):
            yield Met(cause, ready.reason, message=ready.message[: ledger.LONGEST_MESSAGE], count=waiting)

    def _waiting(self, organization: Organization) -> int:
        """How many events are unfinished: those seen here, or what the last walk counted when others see more."""
        here = sum(1 for each in self.office.events if each.organization == organization.name)
        counted = organization.status.events
        return max(here, sum(number for phase, number in counted.items() if phase not in FINAL))

    def _senders(self, organization: Organization) -> list[Sender]:
        """Return the Organization's senders, with how many events wait for each as far as it is known here by now."""
        parked = Counter(
            self.sender_of(each)
            for each in self.office.events
            if each.status.phase is Phase.AWAITING_CONSENT and each.organization == organization.name
        )
        return [
            replace(
                each,
                status=replace(
                    each.status, waiting_events=max(each.status.waiting_events, parked[each.name])
                ),
            )
            if parked[each.name]
            else each
            for each in self.office.senders
            if each.spec.organization_ref.name == organization.name
        ]


def _done(looks: dict[str, asyncio.Task[None]], name: str, _: object) -> None:
    looks.pop(name, None)
