"""
Requests to the controller by the label ``counterfoil.dev/request``, and the commands ``retry``, ``skip`` and
``copy``.

The controller carries a request out, writes ``status.lastRequest`` and removes the label. Who asks is
recorded on the object (``counterfoil.resources.audit_annotation``, as the console does). These commands only
ask; when the user's rights do not suffice, the output names the events with a request.
"""

import argparse
import asyncio
import secrets
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple, TextIO, TypeVar

import msgspec
from msgspec.structs import replace

from counterfoil.cli.plugin import selection
from counterfoil.cli.plugin.exit_status import (
    CommandError,
    ExitStatus,
    counted,
    format_answer,
    is_for_programs,
    printable,
)
from counterfoil.kube.client import KubeClient
from counterfoil.kube.errors import ApiError, Conflict, NotFound
from counterfoil.kube.recorded_write import NoLongerMatches, is_any, write_recorded
from counterfoil.kube.shard_leases import served_shard_leases
from counterfoil.kube.watch import Raw
from counterfoil.resources import (
    Archive,
    EnvelopeEvent,
    Import,
    LastRequest,
    NoticeState,
    Organization,
    Request,
    Resource,
    ResourceInvalid,
    Sender,
)
from counterfoil.resources.audit_annotation import AuditEntry
from counterfoil.resources.envelopeevent import digest_of, has_state, state_of
from counterfoil.resources.lease import Absence, NamespaceNotServed, ShardLeases
from counterfoil.resources.naming import UNSHARDED_WORK
from counterfoil.resources.reopening import (
    is_reopened_by_retry,
    lacks_copies,
    remaining_delay,
    takes_back_skip,
    takes_copies,
    takes_skip,
    why_no_copies,
)
from counterfoil.resources.request import EXPECTED_PARAMETER, attribution, request_changes

DIGEST_LENGTH = 16
"""Number of characters of a digest that a user copies from one command to the next."""

PAUSE_SECONDS = 0.5
"""Interval between looks for the answer to a request."""

CONTROLLER_SECONDS = 5.0
"""Interval between looks whether a controller still works."""

R = TypeVar("R", Archive, EnvelopeEvent, Organization, Sender)


async def make_request(
    kube: KubeClient,
    kind: type[R],
    name: str,
    request: str,
    *,
    because: str | None = None,
    parameters: Mapping[str, str] | None = None,
) -> str:
    """
    Make a request on an object, in the user's name; return its id.

    ``parameters`` become annotations ``counterfoil.dev/request-<key>``. Raises ``CommandError`` when others
    write the object all the time, ``ApiError``.
    """
    by, id_ = await kube.whoami(), secrets.token_hex(8)
    change = request_changes(request, id_=id_, by=by, reason=because, parameters=parameters)
    raw, entry = await kube.get(kind, name), _audit_entry(by, request, because)
    kind.parse(raw)
    try:
        await write_recorded(kube, kind, raw, entry, change={"metadata": change}, is_current=is_any)
    except Conflict as conflict:
        raise CommandError(ExitStatus.NOT_ALL, f"{conflict}; try again") from None
    return id_


async def wait_for_answer(
    kube: KubeClient,
    kind: type[R],
    name: str,
    id_: str,
    seconds: float,
    *,
    known: Organization | None = None,
    look_seconds: float = CONTROLLER_SECONDS,
) -> tuple[R, LastRequest]:
    """
    Wait for the answer to a request; return the object and the answer.

    ``known`` is the Organization of an object of another kind if it was read: its status names the release
    that serves the namespace. Raises ``CommandError`` after ``seconds`` without an answer, as soon as no
    controller does such work, and for a request that another one followed; ``ApiError``.
    """
    look_at = 0.0
    try:
        async with asyncio.timeout(seconds):
            while True:
                resource = kind.parse(await kube.get(kind, name))
                last, waiting = resource.status.last_request, Request.find(resource.metadata)
                if last is not None and last.id == id_:
                    return resource, last
                if waiting is None or waiting.id != id_:
                    raise CommandError(
                        ExitStatus.NOT_ALL,
                        f"somebody made another request on {kind.KIND}/{name}. The Kubernetes Events say "
                        "whether this one was carried out.",
                    )
                # A controller that was killed holds its Lease for some seconds more.
                if time.monotonic() >= look_at:
                    if absence := await find_absences(kube, (resource,), known):
                        words = absence_text(absence[resource.name], "the request is carried out")
                        raise CommandError(ExitStatus.NOT_ALL, words)
                    look_at = time.monotonic() + look_seconds
                await asyncio.sleep(PAUSE_SECONDS)
    except TimeoutError:
        raise CommandError(
            ExitStatus.NOT_ALL,
            f"the controller has not answered within {seconds:g} s. It will when it runs; see "
            f"status.lastRequest of {kind.KIND}/{name}.",
        ) from None


async def find_absences(
    kube: KubeClient, resources: Sequence[Resource], known: Organization | None = None
) -> dict[str, Absence]:
    """
    Return why no controller works on objects of one kind, by the name of each that has none.

    It is not known of objects that are missing here: a user may lack the right to list Leases. ``known`` is
    an Organization that was read, as for ``wait_for_answer``.
    """
    now = datetime.now(UTC)
    own = next((each for each in resources if isinstance(each, Organization)), None)
    try:
        leases = await served_shard_leases(kube, now, known=own or known)
    except ApiError:
        return {}
    found = ((each.name, _absence(leases, each, now)) for each in resources)
    return {name: absence for name, absence in found if absence is not None}


def _absence(leases: ShardLeases, resource: Resource, now: datetime) -> Absence | None:
    if isinstance(resource, EnvelopeEvent):
        return leases.unheld_shard(resource.shard_number, now)
    is_unsharded = isinstance(resource, Organization | Import)
    owner = UNSHARDED_WORK if is_unsharded else (resource.KIND.lower(), resource.name)
    return leases.unheld_owner(*owner, now)


def absence_text(absence: Absence, work: str) -> str:
    """Return for a person that no controller does ``work``, such as "the request is carried out"."""
    if isinstance(absence, NamespaceNotServed):
        return (
            f"no controller serves this namespace ({absence.reason}), so {work} when one does. {absence} "
            f"{absence.advice}"
        )
    return f"no controller works, so {work} when one runs. {absence} Check the controller's pods."


class EventRequestResult(msgspec.Struct, frozen=True, rename="camel"):
    """Result of the request for one event."""

    event: str
    asked: bool
    says: str


@dataclass
class _Seen:
    """The state in which the user saw an event, and the request that the write of another one replaces."""

    state: str
    replaced: Request | None = None

    def is_current(self, raw: Raw) -> bool:
        """Whether an event is in this state; remember its request that was not carried out."""
        if not has_state(raw, self.state):
            return False
        event = EnvelopeEvent.parse(raw)
        found = Request.find(event.metadata)
        is_open = found is not None and not found.is_handled(event.status.last_request)
        self.replaced = found if is_open else None
        return True

    def replaced_by(self, request: str) -> str:
        """Return which other request this one replaces; empty if it replaces none."""
        if self.replaced is None or self.replaced.name == request:
            return ""
        by = attribution(self.replaced.by, None)
        return f"It replaces the request to {self.replaced.name}{by}, which was not carried out"


class RequestCommand(NamedTuple):
    """A command that requests the same for all chosen events, except those for which it does nothing."""

    request: str
    SUMMARY: str
    DETAILS: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the arguments."""
        selection.add_arguments(parser)
        parser.add_argument(
            "--because",
            type=selection.stated_reason,
            metavar="TEXT",
            help="reason of the request, stored with the event; `skip` needs one",
        )
        parser.add_argument(
            "--dry-run", action="store_true", help="only print the events and their digest; request nothing"
        )
        parser.add_argument(
            "--digest",
            metavar="DIGEST",
            help="request nothing unless --dry-run prints the same digest for the chosen events now. A "
            "choice by -l, --all-failed or --reason needs it for `skip`, and to `retry` skipped events.",
        )

    async def run(self, args: argparse.Namespace, kube: KubeClient, out: TextIO) -> ExitStatus:
        """Request it. Raises ``CommandError``, ``ApiError``."""
        events = await selection.select_events(kube, args)
        digest = digest_of(events)[:DIGEST_LENGTH]
        self._check_digest(args, events, digest)
        if self.request == "skip" and args.because is None and not args.dry_run:
            raise CommandError(
                ExitStatus.MISUSED,
                "only a retry undoes a skip, so its reason is stored with the event: give it by --because.",
            )
        by = "" if args.dry_run else await kube.whoami()
        organizations = await _organizations_of(kube, events) if self.request == "copy" else {}
        answers, asked_for = [], list[EnvelopeEvent]()
        for event in events:
            if self._does_something(event, organizations.get(event.organization)):
                asked, says = await self._request_for_event(kube, event, by, args)
            else:
                asked, says = False, self._why_nothing(event, organizations.get(event.organization))
            answers.append(EventRequestResult(event.name, asked, says))
            asked_for += [event] if asked and not args.dry_run else []
            if not is_for_programs(args.output):
                # At once, so that an end in the middle shows how far it came.
                out.write(f"{printable(f'{event.name}: {says}')}\n")
        absences = await self._absences(kube, asked_for, organizations)
        if is_for_programs(args.output):
            out.write(format_answer(args.output, [_with_absence(each, absences) for each in answers]))
        elif not events:
            out.write("no event matches\n")
        elif args.dry_run:
            reason = "--because TEXT and " if self.request == "skip" else ""
            number = counted(len(events), "event")
            out.write(f"{number}; to request exactly this, add {reason}--digest {digest}\n")
        else:
            for absence, each in Counter(absences.values()).items():
                work = f"{counted(each, 'request')} {'is' if each == 1 else 'are'} carried out"
                out.write(f"{printable(absence_text(absence, work))}\n")
        return ExitStatus.DONE if all(each.asked for each in answers) else ExitStatus.NOT_ALL

    async def _absences(
        self,
        kube: KubeClient,
        events: Sequence[EnvelopeEvent],
        organizations: Mapping[str, Organization | None],
    ) -> dict[str, Absence]:
        """Return why no controller works on events, by their names; empty if it is not known."""
        if not events:
            return {}
        name = events[0].organization
        known = organizations.get(name) or await readable_organization(kube, name)
        return await find_absences(kube, events, known)

    def _check_digest(self, args: argparse.Namespace, events: Sequence[EnvelopeEvent], digest: str) -> None:
        """Raise ``CommandError`` if the chosen events are not those that the user was shown."""
        is_choice, undone = not args.events and not args.dry_run, sum(map(self._takes_back_skip, events))
        skipped = sum(takes_skip(each.status) for each in events) if self.request == "skip" else 0
        change = ""
        if skipped:
            change = f"{counted(skipped, 'event')} would be skipped, and only a retry undoes that"
        elif undone:
            change = f"the skip of {counted(undone, 'event')} would be taken back, and the envelope deleted"
        if args.digest is None and is_choice and change:
            raise CommandError(
                ExitStatus.MISUSED,
                f"{change}. Look first with --dry-run, and repeat the command with the --digest that it "
                "prints.",
            )
        if args.digest not in (None, digest):
            raise CommandError(
                ExitStatus.NOT_ALL,
                "other events match now, or they are in other states than those of this digest. Nothing was "
                "requested. Look at them again with --dry-run.",
            )

    def _takes_back_skip(self, event: EnvelopeEvent) -> bool:
        return self.request == "retry" and takes_back_skip(event.status)

    def _does_something(self, event: EnvelopeEvent, organization: Organization | None) -> bool:
        """Whether the request changes the event. A retry of one that succeeded may list its files again, or
        send its notice again. ``organization`` is needed for the copies only."""
        if self.request == "skip":
            return takes_skip(event.status)
        if self.request == "copy":
            return organization is not None and lacks_copies(event.status, organization.spec)
        notice = event.status.notice
        is_given_up = notice is not None and notice.state is NoticeState.FAILED
        return is_given_up or is_reopened_by_retry(event.status)

    def _why_nothing(self, event: EnvelopeEvent, organization: Organization | None) -> str:
        has_copies = organization is not None and bool(organization.spec.copies)
        if self.request == "copy" and has_copies and not takes_copies(event.status):
            return why_no_copies(event.status)
        return f"nothing to {self.request}, it is {event.status.phase}"

    async def _request_for_event(
        self, kube: KubeClient, event: EnvelopeEvent, by: str, args: argparse.Namespace
    ) -> tuple[bool, str]:
        """Return whether the request is made, and what to tell the user."""
        undone = ", and a person's skip is taken back" if self._takes_back_skip(event) else ""
        if args.dry_run:
            return True, f"{self.request} would be asked for, it is {event.status.phase}{undone}"
        parameters = {EXPECTED_PARAMETER: state_of(event)} if self.request == "skip" else None
        seen, because = _Seen(state_of(event)), args.because
        change = request_changes(
            self.request, id_=secrets.token_hex(8), by=by, reason=because, parameters=parameters
        )
        try:
            await write_recorded(
                kube,
                EnvelopeEvent,
                event.to_dict(),
                _audit_entry(by, self.request, because),
                change={"metadata": change},
                is_current=seen.is_current,
            )
        except NotFound:
            return False, "it was removed meanwhile"
        except NoLongerMatches as changed:
            now = state_of(EnvelopeEvent.parse(changed.newest))
            return False, f"it changed from {seen.state} to {now}; nothing is asked for"
        except Conflict:
            return False, "it is written by others all the time; try again"
        delay = remaining_delay(event.status) if self.request == "retry" else ""
        words = f"{self.request} is asked for, it was {event.status.phase}{undone}"
        return True, ". ".join(filter(None, (words, seen.replaced_by(self.request), delay)))


RETRY = RequestCommand(
    "retry",
    SUMMARY="try events again now",
    DETAILS="This works in a final phase and during a pause. What is archived is not archived twice. A retry "
    "of an event that shows a person's skip takes it back. Other retries leave the skip, and keep the "
    "envelope.",
)
SKIP = RequestCommand(
    "skip",
    SUMMARY="give events up on purpose",
    DETAILS="Counterfoil does nothing more for them. It does not delete their envelopes, also not for other "
    "events of the same envelopes. Archived events keep their phase. Only retry takes them up again. A new "
    "callback does so for an envelope that was not known to be finished, and keeps it.",
)
COPY = RequestCommand(
    "copy",
    SUMMARY="make the missing copies of archived events",
    DETAILS="The copies are those in spec.copies of the Organization. They are made from the first archive, "
    "and eSignAnyWhere is not asked. A failed event has to be retried instead, which makes its copies too.",
)


def _with_absence(answer: EventRequestResult, absences: Mapping[str, Absence]) -> EventRequestResult:
    absence = absences.get(answer.event)
    if absence is None:
        return answer
    return replace(answer, says=f"{answer.says}; {absence_text(absence, 'the request is carried out')}")


async def readable_organization(kube: KubeClient, name: str) -> Organization | None:
    """Return an Organization; None if it is missing, or if this user can't read it."""
    try:
        return Organization.parse(await kube.get(Organization, name))
    except (ApiError, ResourceInvalid):
        return None


async def _organizations_of(
    kube: KubeClient, events: Iterable[EnvelopeEvent]
) -> dict[str, Organization | None]:
    """Return the Organizations of events by name; None for one that does not exist. Raises ``ApiError``."""
    found: dict[str, Organization | None] = {}
    for name in {each.organization for each in events}:
        try:
            found[name] = Organization.parse(await kube.get(Organization, name))
        except NotFound:
            found[name] = None
    return found


def _audit_entry(by: str, request: str, because: str | None) -> AuditEntry:
    return AuditEntry(who=by, what=request, when=datetime.now(UTC).replace(microsecond=0), why=because or "")
