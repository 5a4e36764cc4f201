"""
``status``: one screen about an installation: its processes, its Organizations, and what waits for a person.

What waits is what the first page of the console lists (``counterfoil.i18n.attention``), with the command to
type. What the user may not read is named, not guessed.
"""

import argparse
import asyncio
import re
import textwrap
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from typing import Any, NamedTuple, TextIO, TypeVar

import msgspec

from counterfoil import __version__
from counterfoil.cli.plugin.exit_status import ExitStatus, counted, format_answer, is_for_programs, printable
from counterfoil.cli.plugin.missing_right import is_undefined, undefined_text, unread_text, unreadable_text
from counterfoil.cli.plugin.why import NOT_PROCESSED, controller_log
from counterfoil.durations import Duration
from counterfoil.i18n.attention import (
    RETRYING_SELECTOR,
    AttentionItem,
    AttentionKind,
    ClusterSnapshot,
    attention_items,
)
from counterfoil.i18n.commands import commands_about, without_commands
from counterfoil.i18n.reasons import Responsible, find_reason
from counterfoil.kube.answers import parse_each
from counterfoil.kube.client import KubeClient
from counterfoil.kube.errors import ApiError
from counterfoil.kube.shard_leases import PODS, served_shard_leases, unprocessed_change
from counterfoil.kube.watch import Raw
from counterfoil.resources import (
    FINAL_PHASES,
    Archive,
    EnvelopeEvent,
    Import,
    Organization,
    Phase,
    Resource,
    ResourceInvalid,
    Sender,
    find_condition,
)
from counterfoil.resources.audit_annotation import last_suspension
from counterfoil.resources.base import GROUP
from counterfoil.resources.envelopeevent import SUSPENDED, SUSPENDED_SELECTOR
from counterfoil.resources.lease import UnheldShard
from counterfoil.resources.routes import archive_names
from counterfoil.retention import forbids_delete

SUMMARY = "show processes, Organizations and what waits for a person, on one screen"
DETAILS = (
    "Each entry of what waits says for whom, since when, and what to type. The exit status is 1 if something "
    "waits for a person. It is 4 if nothing does, but not everything could be read."
)

T = TypeVar("T")

COMPONENT_LABEL = "app.kubernetes.io/component"
RELEASE_LABEL = "app.kubernetes.io/instance"
POLICIES_ANNOTATION = "counterfoil.dev/admission-policies"
"""On the controllers' pods: the names of the admission policies that the release installs."""

MAX_OBJECTS = 500
"""Organizations, Senders, Archives and Imports of each kind that are read."""

MAX_UNREADABLE = 10
"""Objects of each kind that can't be read and are named."""

MAX_EVENTS = 500
"""Events of each kind that are read; the controller's counts stand for the rest."""

MAX_SUSPENDED_EVENTS = 10
"""Suspended events of which each has a line; the others are counted."""

WIDTH = 118
_WHETHER_POLICIES = "admission policies, of which it is unknown whether one is missing"
_EVENTS_QUOTA = f"count/{EnvelopeEvent.PLURAL}.{GROUP}"
_QUANTITY = re.compile(r"(\d+(?:\.\d+)?)(|[kMGTPE]|[KMGTPE]i)")
"""A number of objects as Kubernetes writes it in a ResourceQuota."""

_SHELL_WORD = re.compile(r"""(?:[^\s'"\\]|\\.|'[^']*'|"(?:[^"\\]|\\.)*")+""")
"""A word of a command as the shell reads it, with its quotes."""

_COLUMNS = ("NAME", "READY", "REASON", "ARCHIVE", "UNFINISHED", "CONSENT", "FAILED")
_UNREAD_ROW = ("not read", *[""] * (len(_COLUMNS) - 1))

TURNS: Mapping[Responsible, str] = {
    Responsible.NOBODY: "nobody yet",
    Responsible.SENDER: "the sender",
    Responsible.ADMINISTRATOR: "an administrator",
}


class ProcessStatus(msgspec.Struct, frozen=True, rename="camel"):
    """The pods of one process."""

    name: str
    pods: int
    ready: int
    problems: tuple[str, ...] = ()


class OrganizationLine(msgspec.Struct, frozen=True, rename="camel"):
    """One Organization."""

    name: str
    ready: str
    reason: str
    archive: str
    unfinished: int
    awaiting_consent: int
    failed: int
    suspended: bool


class WaitingItem(msgspec.Struct, frozen=True, rename="camel"):
    """One cause for which something waits."""

    what: str
    reason: str
    for_whom: str
    since: datetime | None
    since_condition: str
    """Type of the condition that is False since then, perhaps for other reasons before; empty: it is the time
    of the reason."""
    message: str
    do: str
    commands: tuple[str, ...]
    """Commands to type; a line that begins with ``#`` says when."""

    @property
    def explanation(self) -> str:
        """The message if the advice refers to it; its commands are printed below. Empty: it does not."""
        is_needed = self.message and "message" in self.do.lower()
        return f"Message: {without_commands(self.message, self.reason)}" if is_needed else ""


class SuspendedObject(msgspec.Struct, frozen=True, rename="camel"):
    """An object that a person suspended. Who did so, when and why is unknown after an edit of its spec."""

    name: str
    """Kind and name."""
    since: datetime | None
    by: str
    reason: str
    waiting: int
    """Events that wait."""
    keeps_envelope: bool = False
    """Whether it is an event that has ended, and whose envelope is therefore not deleted."""


class InstallationStatus(msgspec.Struct, frozen=True, rename="camel"):
    """The state of one namespace."""

    namespace: str
    plugin: str
    processes: tuple[ProcessStatus, ...]
    organizations: tuple[OrganizationLine, ...]
    waiting: tuple[WaitingItem, ...]
    are_pods_read: bool
    is_refused: bool
    """Whether a read failed, so that more may wait for a person."""
    suspended: tuple[SuspendedObject, ...] = ()
    is_more_suspended: bool = False
    """Whether there are more suspended events than were read."""
    unread: tuple[str, ...] = ()
    """Objects that could not be read, each with the reason."""


@dataclass(frozen=True)
class AdmissionPolicies:
    """The admission policies that a release installs."""

    release: str
    names: frozenset[str]
    missing: frozenset[str] = frozenset()
    """Those that the cluster does not have, or that have no binding."""


@dataclass(frozen=True)
class Reading:
    """The objects of a namespace, as far as they can be read."""

    snapshot: ClusterSnapshot
    pods: Sequence[Raw] | None
    """None: they could not be read."""
    unread: tuple[str, ...]
    is_refused: bool
    """Whether a read failed; else ``unread`` only names lists that were cut."""
    quotas: Sequence[Raw] = ()
    """The ResourceQuotas of the namespace."""
    unprocessed: Mapping[str, str] = field(default_factory=dict)
    """By kind and name, the Organizations and Archives with a change that no controller has processed."""
    policies: AdmissionPolicies | None = None
    """None: the release installs none, or they could not be read."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "-A", "--all-namespaces", action="store_true", help="each namespace with an Organization"
    )


async def run(args: argparse.Namespace, kube: KubeClient, out: TextIO) -> ExitStatus:
    """Print it. Raises ``ApiError`` if nothing at all can be read."""
    clients = await _clients(kube) if args.all_namespaces else [kube]
    now = datetime.now(UTC)
    found = [overview(await read(each), each.namespace, now) for each in clients]
    if is_for_programs(args.output):
        out.write(format_answer(args.output, found if args.all_namespaces else found[0]))
    else:
        out.write(page_of_all(found, now) if args.all_namespaces else page(found[0], now))
    return exit_status(found)


def exit_status(found: Sequence[InstallationStatus]) -> ExitStatus:
    """Return the exit status: a success says that nothing waits, so it needs all reads."""
    if any(map(needs_person, found)):
        return ExitStatus.NOT_ALL
    return ExitStatus.NOT_ALLOWED if any(each.is_refused for each in found) else ExitStatus.DONE


def needs_person(found: InstallationStatus) -> bool:
    """Whether a person has to act: what ends without one is shown, and is no fault."""
    is_waiting = any(each.for_whom != TURNS[Responsible.NOBODY] for each in found.waiting)
    return is_waiting or any(each.problems for each in found.processes)


async def _clients(kube: KubeClient) -> list[KubeClient]:
    """Return a client for each namespace with an Organization. Raises ``ApiError``."""
    everywhere = kube.in_all_namespaces()
    namespaces = {raw["metadata"].get("namespace", "") async for raw in everywhere.list(Organization)}
    return [kube.in_namespace(each) for each in sorted(namespaces)]


# -- Reading -------------------------------------------------------------------------------------------------


async def read(kube: KubeClient) -> Reading:
    """Read what the user may. Raises ``ApiError`` if the Organizations can't be read."""
    unread, failed_reads, now = list[str](), list[ApiError | ResourceInvalid](), datetime.now(UTC)
    unprocessed = dict[str, str]()

    def failed(subject: str, problem: ApiError) -> None:
        failed_reads.append(problem)
        unread.append(unread_text(subject, problem))

    async def first(kind: type[Resource]) -> tuple[Any, ...]:
        invalid = list[ResourceInvalid]()
        parse = partial(_parsed, kind, unprocessed, now, invalid)
        found, is_cut = await kube.first(kind, parse, limit=MAX_OBJECTS)
        failed_reads.extend(invalid)
        unread.extend(_unreadable_lines(kind, invalid))
        if is_cut:
            unread.append(f"{kind.PLURAL}: there are more than the first {len(found)}")
        return tuple(found)

    async def optional(kind: type[Resource]) -> tuple[Any, ...]:
        try:
            return await first(kind)
        except ApiError as problem:
            if is_undefined(problem):
                failed_reads.append(problem)
                unread.append(f"{kind.PLURAL}: {undefined_text((kind,))}")
            else:
                failed(kind.PLURAL, problem)
            return ()

    async def events(fields: str) -> tuple[tuple[Any, ...], bool]:
        try:
            raws, more = await kube.page(EnvelopeEvent, limit=MAX_EVENTS, fields=fields)
        except ApiError as problem:
            failed(EnvelopeEvent.PLURAL, problem)
            return (), True
        found = parse_each(EnvelopeEvent, raws)
        return found, bool(more) or len(found) < len(raws)

    async def answered(subject: str, answer: Awaitable[T]) -> T | None:
        try:
            return await answer
        except ApiError as problem:
            failed(subject, problem)
            return None

    organizations = await first(Organization)
    (
        senders,
        archives,
        imports,
        (failed_events, is_more_failed),
        (waiting, is_more_waiting),
        (retrying, is_more_retrying),
        (suspended_events, is_more_suspended),
    ) = await asyncio.gather(
        optional(Sender),
        optional(Archive),
        optional(Import),
        events(f"status.phase={Phase.FAILED}"),
        events(f"status.phase={Phase.AWAITING_CONSENT}"),
        events(RETRYING_SELECTOR),
        events(SUSPENDED_SELECTOR),
    )
    leases = await answered("leases, which tell whether a controller works", served_shard_leases(kube, now))
    pods = await answered("pods", kube.pods(labels=PODS))
    quotas = await answered("resourcequotas, of which a full one refuses callbacks", kube.resource_quotas())
    policies, unknown = await _policies(kube, pods or ())
    unread.extend(unknown)
    snapshot = ClusterSnapshot(
        organizations=organizations,
        senders=senders,
        archives=archives,
        failed=failed_events,
        waiting=waiting,
        retrying=retrying,
        suspended_events=suspended_events,
        imports=imports,
        read_time=now,
        unheld_shards=leases.unheld_shards(now) if leases is not None else (),
        is_more_failed=is_more_failed,
        is_more_waiting=is_more_waiting,
        is_more_retrying=is_more_retrying,
        is_more_suspended=is_more_suspended,
    )
    return Reading(
        snapshot, pods, tuple(dict.fromkeys(unread)), bool(failed_reads), quotas or (), unprocessed, policies
    )


async def _policies(kube: KubeClient, pods: Iterable[Raw]) -> tuple[AdmissionPolicies | None, Sequence[str]]:
    """Return the policies of the release, and why they can't be read. They belong to the cluster, so a person
    with all rights in the namespace need not have this one."""
    policies = _installed_policies(pods)
    if policies is None:
        return None, ()
    try:
        present = await kube.admission_policies(labels=PODS)
    except ApiError as problem:
        return None, (unread_text(_WHETHER_POLICIES, problem),)
    return replace(policies, missing=policies.names - present), ()


def _installed_policies(pods: Iterable[Raw]) -> AdmissionPolicies | None:
    """Return what the newest values of the release install; pods of the values before remain for a while."""
    installed = [each for each in pods if POLICIES_ANNOTATION in (each["metadata"].get("annotations") or {})]
    if not installed:
        return None
    metadata = max(installed, key=lambda each: each["metadata"]["creationTimestamp"])["metadata"]
    release = metadata["labels"].get(RELEASE_LABEL, "RELEASE")
    return AdmissionPolicies(release, frozenset(metadata["annotations"][POLICIES_ANNOTATION].split()))


def _parsed(
    kind: type[Resource],
    unprocessed: dict[str, str],
    now: datetime,
    invalid: list[ResourceInvalid],
    raws: Sequence[Raw],
) -> tuple[Any, ...]:
    """Return the objects that can be parsed. Add to ``unprocessed`` the changes of any, and to ``invalid``
    why others can't be parsed."""
    for raw in raws if kind in (Organization, Archive) else ():
        if text := unprocessed_change(kind.KIND, raw, now):
            unprocessed[f"{kind.KIND}/{raw['metadata']['name']}"] = text
    return parse_each(kind, raws, invalid)


def _unreadable_lines(kind: type[Resource], invalid: Sequence[ResourceInvalid]) -> Iterable[str]:
    yield from map(unreadable_text, invalid[:MAX_UNREADABLE])
    if (left := len(invalid) - MAX_UNREADABLE) > 0:
        yield f"{kind.PLURAL}: {left} more can't be read"


# -- Decisions -----------------------------------------------------------------------------------------------


def overview(reading: Reading, namespace: str, now: datetime) -> InstallationStatus:
    """Return the state of an installation; pure."""
    snapshot = reading.snapshot
    processes = tuple(_processes(reading.pods or ()))
    # Without a controller nothing is processed, which has its entry.
    unprocessed = {} if snapshot.absences else reading.unprocessed
    # What the others advise is by a status that is older than the spec.
    outdated = unprocessed if snapshot.is_served else reading.unprocessed
    shown: Iterable[Organization | Archive | Sender | Import] = (
        *snapshot.organizations,
        *snapshot.archives,
        *snapshot.senders,
        *(each for each in snapshot.imports if each.status.completion_time is None),
    )
    suspended = (
        *(_suspended(each, snapshot) for each in shown if each.spec.suspend),
        *map(_suspended_event, snapshot.suspended_events),
    )
    return InstallationStatus(
        namespace=namespace,
        plugin=__version__,
        processes=processes,
        organizations=tuple(_organization_line(each, snapshot) for each in snapshot.organizations),
        # A suspended event is listed as each other suspended object.
        waiting=(
            *_unanswered(processes, namespace),
            *_full_quotas(reading.quotas, namespace),
            *_missing_policies(reading.policies, namespace),
            *_not_processed(unprocessed, namespace),
            *(
                _waiting(each, namespace)
                for each in attention_items(snapshot)
                if (each.kind, each.reason) != (AttentionKind.RETRYING, SUSPENDED)
                and _subject(each) not in outdated
            ),
        ),
        suspended=suspended,
        is_more_suspended=snapshot.is_more_suspended,
        unread=reading.unread,
        is_refused=reading.is_refused,
        are_pods_read=reading.pods is not None,
    )


def _suspended(each: Organization | Archive | Sender | Import, snapshot: ClusterSnapshot) -> SuspendedObject:
    match each:
        case Import():
            waiting = 0  # Its events are not held.
        case Sender():
            waiting = each.status.waiting_events
        case Archive():
            waiting = sum(_waiting_for(each.name, one, snapshot) for one in snapshot.organizations)
        case _:
            waiting = _event_counts(each, snapshot).unfinished
    return _suspended_object(each, waiting)


def _waiting_for(archive: str, organization: Organization, snapshot: ClusterSnapshot) -> int:
    """Return the number of unfinished events of an Organization that wait for this Archive. Where not all
    were read, the others count if the Organization names no other Archive."""
    events = (*snapshot.waiting, *snapshot.retrying)
    mine = [each for each in events if each.organization == organization.name]
    read = sum(snapshot.awaited_archive(each) == archive for each in mine)
    if archive_names(organization.spec) != (archive,):
        return read
    return read + _event_counts(organization, snapshot).unfinished - len(mine)


def _suspended_event(event: EnvelopeEvent) -> SuspendedObject:
    is_ended = event.status.phase.is_final
    return _suspended_object(event, int(not is_ended), keeps_envelope=is_ended and forbids_delete(event))


def _suspended_object(each: Resource, waiting: int, *, keeps_envelope: bool = False) -> SuspendedObject:
    act = last_suspension(each.metadata.annotations)
    since, by, why = (act.when, act.who, act.why) if act is not None else (None, "", "")
    return SuspendedObject(f"{each.KIND}/{each.name}", since, by, why, waiting, keeps_envelope)


class _EventCounts(NamedTuple):
    unfinished: int
    awaiting_consent: int
    failed: int


def _event_counts(organization: Organization, snapshot: ClusterSnapshot) -> _EventCounts:
    """Return the numbers of the events that were read. The controller's counts, which may be half a minute
    old, stand for those that were not."""
    counted = organization.status.events
    unfinished = sum(number for phase, number in counted.items() if phase not in FINAL_PHASES)
    failed, parked, retrying = (
        sum(each.organization == organization.name for each in events)
        for events in (snapshot.failed, snapshot.waiting, snapshot.retrying)
    )
    if snapshot.is_more_waiting or snapshot.is_more_retrying:
        unfinished = max(unfinished, parked + retrying)
    else:
        unfinished = parked + retrying
    if snapshot.is_more_waiting:
        parked = max(parked, counted.get(Phase.AWAITING_CONSENT, 0))
    if snapshot.is_more_failed:
        failed = max(failed, counted.get(Phase.FAILED, 0))
    return _EventCounts(unfinished, parked, failed)


def _processes(pods: Iterable[Raw]) -> Iterable[ProcessStatus]:
    by_component: dict[str, list[Raw]] = {}
    for pod in pods:
        labels = pod["metadata"].get("labels") or {}
        if pod.get("status", {}).get("phase") != "Succeeded":
            by_component.setdefault(labels.get(COMPONENT_LABEL, "other"), []).append(pod)
    for name, members in sorted(by_component.items()):
        ready = [each for each in members if _is_ready(each)]
        problems = tuple(
            f"{each['metadata']['name']}: {_why_not_ready(each)}" for each in members if each not in ready
        )
        yield ProcessStatus(name, len(members), len(ready), problems)


def _is_ready(pod: Raw) -> bool:
    return _ready_condition(pod).get("status") == "True"


def _ready_condition(pod: Raw) -> Raw:
    conditions = pod.get("status", {}).get("conditions") or ()
    return next((each for each in conditions if each.get("type") == "Ready"), {})


def _why_not_ready(pod: Raw) -> str:
    status = pod.get("status", {})
    for container in (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())):
        waiting = (container.get("state") or {}).get("waiting") or {}
        if waiting.get("reason"):
            return str(waiting["reason"])
    said = status.get("reason") or _ready_condition(pod).get("message")
    return str(said or status.get("phase") or "not ready")


def _unanswered(processes: Iterable[ProcessStatus], namespace: str) -> Iterable[WaitingItem]:
    """Yield that no pod answers callbacks: such a callback leaves no event, so nothing else tells of it."""
    component = f"{COMPONENT_LABEL}=receiver"
    receivers = next((each for each in processes if each.name == "receiver"), None)
    if receivers is not None and not receivers.ready:
        yield _entry(
            "no receiver is ready, callbacks are not answered",
            "ReceiverNotReady",
            "; ".join(receivers.problems),
            f"kubectl -n {namespace} logs -l {component} --tail=20",
            f"kubectl -n {namespace} describe pods -l {component}",
        )


def _full_quotas(quotas: Iterable[Raw], namespace: str) -> Iterable[WaitingItem]:
    for quota in quotas:
        status, name = quota.get("status") or {}, quota["metadata"]["name"]
        # The API server decides by the status alone, and refuses each object that is not counted yet.
        hard, used = ((status.get(each) or {}).get(_EVENTS_QUOTA) for each in ("hard", "used"))
        if hard is not None and (used is None or _number(used) >= _number(hard)):
            said = f"{used} of {hard} are used." if used is not None else f"not counted yet, of {hard}."
            command = f"kubectl -n {namespace} describe resourcequota {name}"
            yield _entry(
                f"ResourceQuota/{name} is full, callbacks are answered with 503",
                "QuotaFull",
                f"{_EVENTS_QUOTA}: {said}",
                command,
            )


def _missing_policies(policies: AdmissionPolicies | None, namespace: str) -> Iterable[WaitingItem]:
    if policies is not None and policies.missing:
        number = len(policies.missing)
        yield _entry(
            f"{number} of {len(policies.names)} admission policies {'is' if number == 1 else 'are'} missing",
            "AdmissionPolicyMissing",
            ", ".join(sorted(policies.missing)),
            "# CHART is the chart of the version that is installed.",
            f"helm -n {namespace} upgrade {policies.release} CHART --reuse-values",
        )


def _subject(item: AttentionItem) -> str:
    """Return kind and name of the one object whose status an entry repeats; empty for others."""
    if item.kind is AttentionKind.ARCHIVE:
        return f"Archive/{item.name}"
    is_one = item.kind is AttentionKind.ORGANIZATION and not item.others
    return f"Organization/{item.organization}" if is_one else ""


def _not_processed(unprocessed: Mapping[str, str], namespace: str) -> Iterable[WaitingItem]:
    if unprocessed:
        names, message = ", ".join(unprocessed), next(iter(unprocessed.values()))
        yield _entry(names, NOT_PROCESSED, message, controller_log(namespace))


def _number(quantity: str) -> Decimal:
    """Return a number of objects; zero for a text that is none."""
    found = _QUANTITY.fullmatch(quantity)
    if found is None:
        return Decimal(0)
    number, suffix = found.groups()
    power = " KMGTPE".index(suffix[:1].upper() or " ")
    return Decimal(number) * Decimal(1024 if suffix.endswith("i") else 1000) ** power


def _entry(what: str, reason: str, message: str, *commands: str) -> WaitingItem:
    """Return an entry about something that only this command sees."""
    found = find_reason(reason)
    do, responsible = found.localized_text().do, TURNS[found.responsible]
    return WaitingItem(what, reason, responsible, None, "", message, do, commands)


def _organization_line(organization: Organization, snapshot: ClusterSnapshot) -> OrganizationLine:
    status, ref = organization.status, organization.spec.archive_ref
    ready = find_condition(status.conditions, "Ready")
    return OrganizationLine(
        organization.name,
        ready.status if ready is not None else "Unknown",
        ready.reason if ready is not None else "",
        ref.name if ref is not None else "",
        *_event_counts(organization, snapshot),
        organization.spec.suspend,
    )


def _waiting(item: AttentionItem, namespace: str) -> WaitingItem:
    advice = item.advice
    do = (advice.text() if advice is not None else "") or item.text().do
    number = f"{item.count}{' or more' if item.is_more else ''}"
    events = f"{number} {'event' if item.count == 1 else 'events'}"
    match item.kind:
        case AttentionKind.CONTROLLER:
            is_absent = item.reason == UnheldShard.reason
            what = "no controller works" if is_absent else f"the namespace {namespace} is not served"
        case AttentionKind.ARCHIVE:
            what = f"Archive/{item.name}" + (f", {events}" if item.count else "")
        case AttentionKind.IMPORT:
            what = f"{item.count} {'Import' if item.count == 1 else 'Imports'} of {item.organization}"
        case AttentionKind.ORGANIZATION:
            what = ", ".join(f"Organization/{each}" for each in item.organizations)
            what = f"{item.address} of {what}" if item.address else what
            what += f", {events}" if item.count else ""
        case AttentionKind.CONSENT:
            what = f"Sender/{item.name} of {item.organization}" + (f", {events}" if item.count else "")
        case _:
            what = f"{events} of {item.organization}"
    commands = tuple(line for each in commands_about(item, namespace) for line in each.lines())
    return WaitingItem(
        what,
        item.reason,
        TURNS[item.responsible],
        item.since,
        item.since_condition,
        item.message,
        do,
        commands,
    )


# -- The page ------------------------------------------------------------------------------------------------


def page(found: InstallationStatus, now: datetime) -> str:
    """Return the state as text of at most 120 columns."""
    return _printed([*_head(found), "", "Organizations", *_organization_table(found), *_tasks(found, now)])


def page_of_all(found: Sequence[InstallationStatus], now: datetime) -> str:
    """Return the state of several namespaces: one table of their Organizations, then the rest of each."""
    if not found:
        return "no namespace has an Organization\n"
    rows = [(each.namespace, *row) for each in found for row in _organization_rows(each) or (_UNREAD_ROW,)]
    lines = ["Organizations", *_table(("NAMESPACE", *_COLUMNS), rows)]
    for each in found:
        lines += ["", *_head(each), *_tasks(each, now)]
    return _printed(lines)


def _printed(lines: Iterable[str]) -> str:
    return "".join(f"{printable(line)}\n" for line in lines)


def _head(found: InstallationStatus) -> list[str]:
    no_process = "no pod was found in this namespace" if found.are_pods_read else "not read"
    return [
        f"Namespace {found.namespace}, plugin {found.plugin}",
        "",
        "Processes",
        *([_process_line(each) for each in found.processes] or [f"  {no_process}"]),
        *(f"    {problem}" for each in found.processes for problem in each.problems),
    ]


def _tasks(found: InstallationStatus, now: datetime) -> list[str]:
    lines = ["", "What waits for a person"]
    for each in found.waiting:
        not_true = f"not {each.since_condition} " if each.since_condition else ""
        since = f", {not_true}since {_age(each.since, now)}" if each.since is not None else ""
        lines.append(f"  {each.what}: {each.reason}, for {each.for_whom}{since}")
        for text in (each.do, printable(each.explanation)):
            lines += _wrapped(text, "    ")
        lines += [line for command in each.commands for line in command_lines(command)]
    nothing = "nothing in what could be read" if found.is_refused else "nothing"
    lines += [] if found.waiting else [f"  {nothing}"]
    lines += _suspended_lines(found, now)
    if found.unread:
        lines += ["", "Not read"]
        for text in found.unread:
            lines += _wrapped(text, "  ")
    return lines


def _wrapped(text: str, indent: str) -> list[str]:
    """Return the lines of a text. A name with hyphens stays whole, since people copy it."""
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=indent,
        subsequent_indent="    ",
        break_on_hyphens=False,
        break_long_words=False,
    )


def _suspended_lines(found: InstallationStatus, now: datetime) -> list[str]:
    if not found.suspended:
        return []
    events = [each for each in found.suspended if each.name.startswith(f"{EnvelopeEvent.KIND}/")]
    others = [each for each in found.suspended if each not in events]
    lines = ["", f"Suspended (`kubectl counterfoil -n {found.namespace} resume KIND/NAME` ends it)"]
    lines += [f"  {_suspended_line(each, now)}" for each in (*others, *events[:MAX_SUSPENDED_EVENTS])]
    if (left := len(events) - MAX_SUSPENDED_EVENTS) > 0:
        number = f"{'more than ' if found.is_more_suspended else ''}{counted(left, 'more event')}"
        listing = f"kubectl -n {found.namespace} get envelopeevents --field-selector {SUSPENDED_SELECTOR}"
        lines.append(f"  and {number}: {listing}")
    return lines


def _suspended_line(each: SuspendedObject, now: datetime) -> str:
    since = f", since {_age(each.since, now)}" if each.since is not None else ""
    by = f", by {each.by}" if each.by else ""
    verb = "waits" if each.waiting == 1 else "wait"
    waits = f", {counted(each.waiting, 'event')} {verb}" if each.waiting else ""
    kept = ", its envelope is not deleted" if each.keeps_envelope else ""
    return f"{each.name}{since}{by}{f': {each.reason}' if each.reason else ''}{waits}{kept}"


def command_lines(command: str) -> list[str]:
    """Return a command that can be pasted, in lines that fit unless a word of it is longer; or a comment
    about the next one."""
    if command.startswith("#"):
        return [f"    {command}"]
    lines = [""]
    # A line ends between two words of the shell, never inside quotes.
    for word in _SHELL_WORD.findall(command):
        longer = f"{lines[-1]} {word}".lstrip()
        if lines[-1] and len(longer) > WIDTH - 8:
            lines.append(word)
        else:
            lines[-1] = longer
    return textwrap.indent("$ " + " \\\n    ".join(lines), "    ").splitlines()


def _process_line(process: ProcessStatus) -> str:
    return f"  {process.name:<12}{counted(process.pods, 'pod')}, {process.ready} ready"


def _organization_table(found: InstallationStatus) -> list[str]:
    if not found.organizations:
        is_one_unread = any(each.startswith(f"{Organization.KIND}/") for each in found.unread)
        return [
            "  none that can be read" if is_one_unread else "  none: `kubectl counterfoil setup` creates one"
        ]
    return _table(_COLUMNS, _organization_rows(found))


def _organization_rows(found: InstallationStatus) -> list[tuple[str, ...]]:
    return [
        (each.name, each.ready, each.reason, each.archive, *map(str, numbers))
        for each in found.organizations
        for numbers in ((each.unfinished, each.awaiting_consent, each.failed),)
    ]


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [head, *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [
        "  " + "   ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]


def _age(moment: datetime, now: datetime) -> str:
    seconds = max(0, round((now - moment).total_seconds()))
    if seconds >= 2 * 86400:
        return f"{seconds // 86400} days"
    # Seconds matter in the first minutes only.
    return str(Duration(seconds=seconds if seconds < 600 else seconds // 60 * 60))
