"""
Update the problems in each Organization's status periodically, and send mails about them.

Each controller records the events that failed in its own process. One controller, which also runs the garbage
collector's pass over all events, updates the other problems and sends the mails. Errors are logged and
retried; they never affect archiving.
"""

import asyncio
import dataclasses
import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from msgspec.structs import replace

from controller.cache import Cache
from controller.mails import policy, problem_tracking
from controller.mails.delivery import MailDelivery, NotificationStatusWriter
from controller.mails.policy import NotificationTimings, removable_causes
from controller.mails.problem_tracking import FailureSummary, Observation, Problems
from counterfoil.clock import Clock, age
from counterfoil.i18n.problems import (
    ARCHIVE_MISSING,
    Ending,
    ProblemKind,
    archive_ending,
    archive_message,
    archive_of,
    callback_ending,
    callback_failure,
    esaw_ending,
    import_ending,
    key_ending,
    kind_of,
)
from counterfoil.kube.errors import ApiError
from counterfoil.logs import log_context
from counterfoil.resources import (
    FINAL_PHASES,
    Archive,
    Condition,
    EnvelopeEvent,
    Organization,
    Phase,
    ReportedProblem,
    Sender,
    SenderStatus,
    find_condition,
    is_condition_true,
)
from counterfoil.resources.routes import archive_names, copy_names

_log = logging.getLogger(__name__)

PASS_SECONDS = 2.0


@dataclass
class Notifier:
    """Keeps the problems of all Organizations."""

    cache: Cache
    notification_writer: NotificationStatusWriter
    mail_delivery: MailDelivery
    clock: Clock
    timings: NotificationTimings
    sends_mail: bool
    """Whether this process sends mails; only one process of all does."""
    _observations: dict[str, dict[str, Observation]] = field(default_factory=dict)
    _counted: dict[str, datetime] = field(default_factory=dict)
    """Times at which failures were counted, by the event's name."""
    _passes: dict[str, tuple[datetime, FailureSummary]] = field(default_factory=dict)
    _of_archives: dict[str, Counter[str]] = field(default_factory=dict)
    """Number of the unfinished events that need each Archive in the last pass, by Organization."""
    _running_checks: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    """The running check of each Organization, by name."""
    _full_kinds: dict[str, frozenset[str]] = field(default_factory=dict)
    """Kinds of problems that are full and were logged, by Organization."""

    # -- Notifications from other components -----------------------------------------------------------------

    def event_failed(self, event: EnvelopeEvent) -> None:
        """Record an event that failed in this process."""
        observation = problem_tracking.failure_observation(event, self.cache.problem_archive(event))
        if event.name in self._counted:
            # A retry failed: the event is counted already.
            observation = dataclasses.replace(observation, count=0)
        self._counted[event.name] = self.clock.now()
        if len(self._counted) > problem_tracking.MAX_REMEMBERED_EVENTS:
            del self._counted[next(iter(self._counted))]
        self._add_observation(event.organization, observation)

    def notice_failed(self, event: EnvelopeEvent, reason: str, message: str) -> None:
        """Record an event whose notice to the webhook was given up in this process."""
        now = self.clock.now()
        observation = problem_tracking.notice_observation(event, reason, message, now)
        self._add_observation(event.organization, observation)

    def pass_finished(self, began: datetime, summaries: Mapping[str, FailureSummary]) -> None:
        """Record the result of a pass over all events that began at ``began``."""
        for organization in self.cache.organizations:
            summary = summaries.get(organization.name, FailureSummary())
            if organization.name in self._passes:
                # Not stored yet; no later pass finds again what that one removed.
                summary.carry_over(self._passes[organization.name][1])
            self._passes[organization.name] = (began, summary)
            self._of_archives[organization.name] = summary.archives
        since = {name: at for name, at in self._counted.items() if at >= began - problem_tracking.CLOCK_SKEW}
        found = {name: began for summary in summaries.values() for name in summary.names}
        self._counted = dict(list((found | since).items())[-problem_tracking.MAX_REMEMBERED_EVENTS :])

    def _add_observation(self, organization: str, observation: Observation) -> None:
        waiting = self._observations.setdefault(organization, {})
        known = waiting.get(observation.cause)
        merged = observation if known is None else problem_tracking.merge(known, observation)
        waiting[observation.cause] = merged

    # -- Checks ----------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Check all Organizations until cancelled. A slow mail server only delays its own Organization."""
        async with asyncio.TaskGroup() as group:
            while True:
                self._forget_deleted()
                for each in self.cache.organizations:
                    if each.name not in self._running_checks:
                        self._running_checks[each.name] = group.create_task(
                            self._check_and_log(each.name), name=f"problems of {each.name}"
                        )
                await self.clock.sleep(PASS_SECONDS)

    async def drain(self) -> None:
        """Start no further mail, and return when the mails in progress are sent and marked."""
        self.mail_delivery.close()
        if self._running_checks:
            await asyncio.wait(self._running_checks.values())

    async def run_once(self) -> None:
        """Check each Organization once."""
        for each in self.cache.organizations:
            await self._check_and_log(each.name)

    def _forget_deleted(self) -> None:
        names = {each.name for each in self.cache.organizations}
        self.mail_delivery.forget_others(names)
        for memory in (self._observations, self._passes, self._of_archives, self._full_kinds):
            for name in memory.keys() - names:
                del memory[name]

    async def _check_and_log(self, name: str) -> None:
        with log_context(organization=name):
            try:
                await self._check_organization(name)
            except ApiError as problem:
                _log.warning("the problems of an organization could not be stored: %s", problem)
            except Exception:
                _log.exception("the check of an organization's problems failed")
            finally:
                self._running_checks.pop(name, None)

    async def _check_organization(self, name: str) -> None:
        await self._store_observations(name)
        organization = self.cache.organizations.get(name)
        if organization is None or not self.sends_mail:
            return
        await self.mail_delivery.write_pending_marks(organization)
        organization = await self.notification_writer.problems(
            name, lambda problems: self._reconciled_problems(organization, problems)
        )
        self._log_full_kinds(organization)
        await self.mail_delivery.send_due(organization, self._senders(organization))

    def _log_full_kinds(self, organization: Organization) -> None:
        full = problem_tracking.full_kinds(organization.status.problems)
        for each in sorted(full - self._full_kinds.get(organization.name, frozenset())):
            _log.error(
                "status.problems is full of problems of one kind: a further one is in no mail",
                extra={"kind": each},
            )
        self._full_kinds[organization.name] = full

    # -- Problems --------------------------------------------------------------------------------------------

    async def _store_observations(self, name: str) -> None:
        """Store the failures since the last check, and the result of a pass over all events."""
        observations, finished_pass = self._observations.pop(name, {}), self._passes.pop(name, None)
        if not observations and finished_pass is None:
            return
        now = self.clock.now()
        organization = self.cache.organizations.get(name)
        has_webhook = organization is not None and organization.spec.webhook is not None

        def changed(problems: Problems) -> Problems:
            # First, so that a pass that has read the same events does not count them too.
            for each in observations.values():
                problems = problem_tracking.add_observation(problems, each, now)
            if finished_pass is not None:
                began, summary = finished_pass
                summary = summary.with_esaw(organization, began, now)
                # An observation of this process stands for all notices of its cause; without a webhook
                # there is no problem, but also no solution.
                notices = summary.notices.items() if has_webhook else ()
                counted = {cause: each for cause, each in notices if cause not in observations}
                undelivered = {*summary.at_risk, *summary.notices, *observations}
                summary = dataclasses.replace(summary, notices=counted, at_risk=undelivered)
                problems = problem_tracking.apply_summary(problems, summary, began=began, now=now)
            return problems

        try:
            await self.notification_writer.problems(name, changed)
        except ApiError:
            for each in observations.values():
                self._add_observation(name, each)
            if finished_pass is not None:
                self._passes.setdefault(name, finished_pass)[1].carry_over(finished_pass[1])
            raise

    def _reconciled_problems(self, organization: Organization, problems: Problems) -> Problems:
        """Update the problems that follow from states, not from events: archives, eSAW, callbacks, Imports,
        keys, unresponsive senders. While the Organization is suspended: callbacks only."""
        now = self.clock.now()
        if organization.spec.suspend:
            return self._with_callbacks(organization, problems, now)
        senders = self._senders(organization, problems)
        problems = problem_tracking.with_import_reasons(problems)
        imports = {each.name: each for each in self.cache.imports_of(organization.name)}
        unreachable = self.mail_delivery.unreachable(organization.name)
        unresponsive = policy.unresponsive_senders(senders, organization, now, unreachable=unreachable)
        waiting = self._waiting_for_archives(organization, problems)
        # What waited may have ended in the seconds before the mail.
        problems = problem_tracking.without_untold(problems, self._unneeded(organization, waiting))
        current = [
            *self._outage_observations(organization, problems, waiting, now),
            *self._callback_observations(organization, problems, now),
            *policy.import_observations(imports, problems, now, self.timings.stalled),
            *policy.administrator_observations(senders, organization),
            *policy.unresponsive_observations(unresponsive),
            *problem_tracking.digest_observations(problems, now, self.timings.digest),
        ]
        for each in current:
            problems = problem_tracking.with_state(problems, each, now)
        causes = {each.cause for each in current}
        for known in problems:
            if known.cause not in causes:
                ending = self._ending(known, organization, senders, waiting)
                problems = problem_tracking.with_ending(problems, known.cause, now, ending)
        for cause in removable_causes(problems, now, self.timings):
            problems = problem_tracking.close_problem(problems, cause)
        return problems

    def _with_callbacks(self, organization: Organization, problems: Problems, now: datetime) -> Problems:
        observed = list(self._callback_observations(organization, problems, now))
        if observed:
            return problem_tracking.with_state(problems, observed[0], now)
        ending = callback_ending(organization)
        problems = problem_tracking.with_ending(problems, ProblemKind.CALLBACK, now, ending)
        for cause in removable_causes(problems, now, self.timings):
            problems = problem_tracking.close_problem(problems, cause)
        return problems

    def _ending(
        self,
        problem: ReportedProblem,
        organization: Organization,
        senders: list[Sender],
        waiting: Mapping[str, int],
    ) -> Ending | None:
        """Return how a problem without a current observation ended; None: it is open. About events and
        notices only a pass over all events decides."""
        match kind_of(problem):
            case ProblemKind.ARCHIVE:
                name = archive_of(problem)
                used = {*self.cache.archives_of(organization), *waiting}
                if organization.name not in self._of_archives and self._has_others(organization):
                    # No pass has read yet for which Archives the events of other processes wait.
                    used.add(name)
                return archive_ending(problem, used, self.cache.archives.get(name))
            case ProblemKind.ESAW:
                return esaw_ending(problem, organization)
            case ProblemKind.CALLBACK:
                return callback_ending(organization)
            case ProblemKind.KEY:
                return key_ending(problem, senders, organization)
            case ProblemKind.CONSENT:
                return policy.consent_ending(problem, senders, organization)
            case ProblemKind.IMPORT if self.cache.imports is not None:
                mine = self.cache.imports_of(organization.name)
                return import_ending(problem, {each.name: each for each in mine})
            case ProblemKind.WEBHOOK if organization.spec.webhook is None:
                return Ending.WEBHOOK_REMOVED
            case ProblemKind.COPY if archive_of(problem) not in copy_names(organization.spec):
                return Ending.ARCHIVE_UNUSED
            case ProblemKind.DIGEST:
                return Ending.SOLVED
        return None

    def _outage_observations(
        self, organization: Organization, problems: Problems, waiting: Mapping[str, int], now: datetime
    ) -> Iterable[Observation]:
        """Yield the archives and the eSAW that do not work, or refuse what is needed, while events wait:
        ``waiting`` of them for each archive."""
        for cause, failed, number in self._outages(organization, waiting):
            is_needed = number or self._holds_import(organization, failed)
            is_long = age(failed.last_transition_time, now) >= self.timings.before_mail(failed.reason)
            if problem_tracking.is_open(problems, cause) or (is_needed and is_long):
                message = failed.message[: problem_tracking.MAX_MESSAGE_LENGTH]
                yield Observation(cause, failed.reason, message=message, count=number)
        if not problem_tracking.is_open(problems, ProblemKind.ESAW):
            # The passes over all events count and end it, but in a large cluster they are rare.
            refused = FailureSummary()
            for each in self.cache.events_of(organization.name):
                refused.add_refusal(each)
            yield from refused.with_esaw(organization, now, now).failed.values()

    def _callback_observations(
        self, organization: Organization, problems: Problems, now: datetime
    ) -> Iterable[Observation]:
        """Yield the token or login for which callbacks are refused, whether events wait or not."""
        failed = callback_failure(organization)
        if failed is None:
            return
        is_long = age(failed.last_transition_time, now) >= self.timings.outage
        if is_long or problem_tracking.is_open(problems, ProblemKind.CALLBACK):
            message = failed.message[: problem_tracking.MAX_MESSAGE_LENGTH]
            yield Observation(ProblemKind.CALLBACK, failed.reason, message=message)

    def _unneeded(self, organization: Organization, waiting: Mapping[str, int]) -> frozenset[str]:
        """Return the causes of the outages for whose end nothing waits."""
        return frozenset(
            cause
            for cause, failed, number in self._outages(organization, waiting)
            if not number and not self._holds_import(organization, failed)
        )

    def _holds_import(self, organization: Organization, failed: Condition) -> bool:
        """Whether an Import waits for the end of an outage."""
        found = (
            find_condition(each.status.conditions, "Ready")
            for each in self.cache.imports_of(organization.name)
        )
        return any(each is not None and each.reason == failed.reason for each in found)

    def _outages(
        self, organization: Organization, waiting: Mapping[str, int]
    ) -> Iterable[tuple[str, Condition, int]]:
        """Yield cause, condition and number of events of each archive and eSAW that does not work."""
        conditions = organization.status.conditions
        named = self.cache.archives_of(organization)
        for name in dict.fromkeys([*named, *waiting]):
            archive = self.cache.archives.get(name)
            ready = find_condition(conditions if archive is None else archive.status.conditions, "Ready")
            # Unknown is an Archive whose first probe is not over.
            if ready is None or ready.status != "False":
                continue
            if archive is None:
                # For one that only events have chosen, their deadline runs. That of an Import is its problem.
                if ready.reason != ARCHIVE_MISSING or name not in archive_names(organization.spec):
                    continue
            elif name not in named:
                ready = replace(ready, message=archive_message(ready, archive, (organization,)))
            elif archive.spec.suspend:
                # A person suspended it for a maintenance.
                continue
            yield f"{ProblemKind.ARCHIVE}/{name}", ready, waiting.get(name, 0)
        reachable = find_condition(conditions, "Reachable")
        if reachable is not None and reachable.status == "False":
            yield ProblemKind.ESAW, reachable, self._waiting(organization)

    def _waiting(self, organization: Organization) -> int:
        """Return the number of unfinished events: those of this process, or of the last pass if that counted
        more."""
        here = len(self.cache.events_of(organization.name))
        return max(here, _counted(organization))

    def _waiting_for_archives(self, organization: Organization, problems: Problems) -> Mapping[str, int]:
        """
        Return the number of unfinished events of each Archive that they have chosen, or that a required copy
        of them needs: those of this process, or of the last pass if that counted more. Empty if each Archive
        works and none is a problem: then nobody asks, and to count many events takes long.

        Events of other processes that no pass has read wait for the Archive that the Organization names, if
        it is the only one.
        """
        named = self.cache.archives_of(organization)
        archives = [*self.cache.archives, *map(self.cache.archives.get, named)]
        if all(map(_works, archives)) and not any(kind_of(each) == ProblemKind.ARCHIVE for each in problems):
            return {}
        events = self.cache.events_of(organization.name)
        here = Counter(name for each in events for name in self.cache.used_archives(each))
        # Of the events of this process, the last pass knows less than its cache.
        in_pass = self._of_archives.get(organization.name) if self._has_others(organization) else None
        found = here | (in_pass or Counter())
        if len(named) == 1:
            (name,) = named
            found[name] = max(found[name], _counted(organization) - (found.total() - found[name]))
        return {name: number for name, number in found.items() if name and number > 0}

    def _has_others(self, organization: Organization) -> bool:
        """Whether other processes have unfinished events of an Organization."""
        return _counted(organization) > len(self.cache.events_of(organization.name))

    def _senders(self, organization: Organization, problems: Problems = ()) -> list[Sender]:
        """
        Return the Organization's senders whose keys are not known to work, and those that problems name, with
        the number of events that wait for each of them. All others neither are a problem nor end one: to look
        at many thousand of them in each check takes long.
        """
        known = self.cache.senders.of(organization.name)
        named = (name for each in problems for name in each.examples)
        senders = {**known.unauthorized, **{name: known.all[name] for name in named if name in known.all}}
        if not senders:
            return []
        parked = Counter(
            self.cache.sender_name(each)
            for each in self.cache.events_of(organization.name)
            if each.status.phase is Phase.AWAITING_CONSENT
        )
        return [
            replace(each, status=_with_waiting_events(each.status, parked[name]))
            for name, each in senders.items()
        ]


def _works(archive: Archive | None) -> bool:
    return archive is not None and is_condition_true(archive.status.conditions, "Ready")


def _counted(organization: Organization) -> int:
    """Return the number of unfinished events in the last count of all."""
    return sum(number for phase, number in organization.status.events.items() if phase not in FINAL_PHASES)


def _with_waiting_events(status: SenderStatus, here: int) -> SenderStatus:
    return replace(status, waiting_events=max(status.waiting_events, here))
