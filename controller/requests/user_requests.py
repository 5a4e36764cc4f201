"""
Carry out the requests of people: the label ``counterfoil.dev/request``, on every kind, also on finished
events.

The main watch does not contain finished events, so the requests on events have a separate watch by the label.
Those on other kinds come from the cache; of several controllers one carries them out. An event's request is
carried out while no worker processes the envelope.

The steps of each request: id -> act -> ``status.lastRequest`` -> Kubernetes Event -> label removed. A process
that dies in between leaves the label, so the next one continues: before ``lastRequest`` is stored it acts
again, after that it only removes the label. An unexpected error is retried a few times, then the request has
failed; errors of the API server are retried without end. Each request is a separate task, so one that waits
for a long transfer blocks no other.
"""

import asyncio
import logging
import secrets
from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from msgspec.structs import replace

from controller.cache import Cache
from controller.event_recorder import EventRecorder
from controller.kept_metadata import with_kept_metadata
from controller.reconcile.error_policy import INTERNAL_ERROR
from controller.requests.request_table import (
    RequestResult,
    RequestTable,
    RequestType,
    refusal,
)
from controller.scheduling.retry_policy import USER_REQUEST
from counterfoil.clock import Clock
from counterfoil.kube.client import KubeClient
from counterfoil.kube.errors import ApiError, Conflict, NotFound, Rejected
from counterfoil.kube.status import StatusWriter, Superseded, apply_change
from counterfoil.kube.watch import SECOND_LIST_DELAY_SECONDS, list_and_watch_forever
from counterfoil.resources import (
    REQUEST_LABEL,
    EnvelopeEvent,
    EnvelopeEventStatus,
    Resource,
    ResourceInvalid,
)
from counterfoil.resources.request import (
    REQUEST_ID_ANNOTATION,
    LastRequest,
    Request,
    RequestOutcome,
    attribution,
    request_removal,
)

_log = logging.getLogger(__name__)

MAX_BROKEN_ATTEMPTS = 5
"""Number of attempts at a request that break with an unexpected error, or whose write the API server refuses,
after which it has failed."""

MAX_CONCURRENT_REQUESTS = 8
"""Maximum number of requests on one kind that are carried out at the same time; one label command can set
thousands."""

R = TypeVar("R", bound=Resource)


@dataclass
class UserRequests:
    """Carries out requests of people."""

    kube: KubeClient
    cache: Cache
    status_writer: StatusWriter
    event_recorder: EventRecorder
    clock: Clock
    labels: str
    """Selector of the events that this process works on."""
    table: RequestTable
    owns: Callable[[Resource], bool]
    """Whether this process carries out the requests on an object that is no event."""
    event_lock: Callable[[str], AbstractAsyncContextManager[None]]
    _observed: asyncio.Queue[Resource] = field(default_factory=asyncio.Queue)
    _pending: set[tuple[str, str]] = field(default_factory=set)
    _recorded: dict[tuple[str, str], str | None] = field(default_factory=dict)
    """The ids of requests whose Kubernetes Event is posted and whose label is still there, by object."""
    _locks: WeakValueDictionary[tuple[str, str], asyncio.Lock] = field(default_factory=WeakValueDictionary)
    """The locks in use, by object."""
    _semaphores: defaultdict[str, asyncio.Semaphore] = field(
        default_factory=partial(defaultdict, partial(asyncio.Semaphore, MAX_CONCURRENT_REQUESTS))
    )

    def object_changed(self, _: Resource | None, after: Resource | None) -> None:
        """Observe the request on an object that is no event."""
        if after is not None and REQUEST_LABEL in after.metadata.labels and self.owns(after):
            self._observed.put_nowait(after)

    @property
    def remembered(self) -> int:
        """Number of objects about which something is kept in memory."""
        return len({*self._pending, *self._recorded, *self._locks})

    async def run(self) -> None:
        """Watch the label until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._watch_events())
            while True:
                self._start(await self._observed.get(), tasks)

    async def _watch_events(self) -> None:
        await self.clock.sleep(SECOND_LIST_DELAY_SECONDS)
        labels = ",".join(filter(None, (REQUEST_LABEL, self.labels)))
        changes = list_and_watch_forever(self.kube, EnvelopeEvent, labels=labels, on_error=_log_watch_error)
        async for change in changes:
            if change.type in ("ADDED", "MODIFIED"):
                self._event_observed(change.raw)

    def _event_observed(self, raw: Mapping[str, Any]) -> None:
        try:
            self._observed.put_nowait(with_kept_metadata(EnvelopeEvent.parse(raw)))
        except ResourceInvalid as invalid:
            _log.error("a request is on an object that can't be read: %s", invalid)

    def _start(self, observed: Resource, tasks: asyncio.TaskGroup) -> None:
        # A repeated watch event of a pending request is ignored: carrying it out reads the object again.
        if _key(observed) not in self._pending:
            self._pending.add(_key(observed))
            tasks.create_task(self._retry_until_carried_out(observed), name=f"request {observed.name}")

    async def _retry_until_carried_out(self, observed: Resource) -> None:
        broken = 0
        for pause in USER_REQUEST:
            try:
                async with self._lock(observed), self._semaphores[observed.KIND]:
                    self._pending.discard(_key(observed))
                    await self._carry_out(
                        type(observed), observed.name, is_last=broken + 1 >= MAX_BROKEN_ATTEMPTS
                    )
            except (ApiError, Superseded) as problem:
                _log.warning("a request could not be carried out yet: %s", problem)
                broken += isinstance(problem, Rejected)
            except Exception:
                # The event waits for the request, so the request must not be lost.
                broken += 1
                _log.exception("a request could not be carried out", extra={"event": observed.name})
            else:
                return
            self._pending.add(_key(observed))
            await self.clock.sleep(pause)

    def _lock(self, observed: Resource) -> AbstractAsyncContextManager[None]:
        if isinstance(observed, EnvelopeEvent):
            return self.event_lock(observed.spec.envelope_id)
        return self._locks.setdefault(_key(observed), asyncio.Lock())

    async def _carry_out(self, kind: type[R], name: str, *, is_last: bool) -> None:
        """Carry out the request on an object. ``is_last``: a handler that breaks again ends it."""
        key = (kind.KIND, name)
        try:
            found = await self._identified(kind, name)
        except NotFound:
            found = None
        if found is None:
            self._recorded.pop(key, None)
            return
        resource, request = found
        type_ = self.table[kind].get(request.name)
        last = _last_request(resource)
        if last is None or not request.is_handled(last):
            resource, last = await self._act(resource, request, type_, is_last=is_last)
        if self._recorded.get(key) != request.id:
            # Once, also if the label can't be removed yet.
            self._record(resource, request, last, type_)
            self._recorded[key] = request.id
        self.cache.update_written(await self._remove_label(resource, request))
        del self._recorded[key]

    async def _act(
        self, resource: R, request: Request, type_: RequestType | None, *, is_last: bool
    ) -> tuple[R, LastRequest]:
        """Act, and store the result: a failure if acting breaks at the last attempt."""
        if type_ is None:
            return await self._store(resource, request, refusal(type(resource), self.table[type(resource)]))
        try:
            return await self._store(resource, request, await type_.handler(resource, request))
        except Exception as problem:
            is_passing = isinstance(problem, ApiError | Superseded) and not isinstance(problem, Rejected)
            if is_passing or not is_last:
                raise
            _log.exception("a request failed", extra={"event": resource.name})
            message = INTERNAL_ERROR.message
            if isinstance(problem, Rejected):
                message = f"The API server refuses a write of this request: {problem}"
            return await self._store(resource, request, RequestResult(RequestOutcome.FAILED, message))

    async def _identified(self, kind: type[R], name: str) -> tuple[R, Request] | None:
        """Return the object with its request, which has an id; None without a request."""
        while True:
            resource = kind.parse(await self.kube.get(kind, name))
            request = Request.find(resource.metadata)
            if request is None:
                return None
            if request.id is not None:
                return resource, request
            annotations = {REQUEST_ID_ANNOTATION: secrets.token_hex(8)}
            version = resource.metadata.resource_version
            changes = {"metadata": {"annotations": annotations, "resourceVersion": version}}
            try:
                resource = kind.parse(await self.kube.patch(kind, name, changes))
            except Conflict:
                # A delivery was counted, for example.
                continue
            if (request := Request.find(resource.metadata)) is not None:
                return resource, request

    async def _store(self, resource: R, request: Request, result: RequestResult) -> tuple[R, LastRequest]:
        """Store the result in the status; return the object as stored, and what the status says."""
        last = request.handled(result.outcome, result.message, now=self.clock.now())

        def change(each: Any) -> Any:
            return replace(result.change(_with_skipped_time(each.status)), last_request=last)

        stored: Any
        try:
            if isinstance(resource, EnvelopeEvent):
                stored = await self.status_writer.store(resource, change(resource))
            else:
                newest: Any = self.cache.store(type(resource)).get(resource.name)
                stored = await apply_change(
                    self.kube, type(resource), resource.name, newest, change, uid=resource.uid
                )
        except Rejected as refused:
            # The API server will refuse each repeated write.
            return resource, request.handled(RequestOutcome.REFUSED, str(refused), now=self.clock.now())
        self.cache.update_written(stored)
        return stored, last

    def _record(
        self, resource: Resource, request: Request, last: LastRequest, type_: RequestType | None
    ) -> None:
        note = _note(request, last)
        if type_ is not None and last.outcome is RequestOutcome.DONE:
            self.event_recorder.record(resource, type_.event_reason, note, action="Request")
        elif last.outcome is RequestOutcome.FAILED:
            self.event_recorder.record(resource, "RequestFailed", note, type_="Warning", action="Request")
        else:
            self.event_recorder.record(resource, "RequestRefused", note, action="Request")

    async def _remove_label(self, resource: R, request: Request) -> R:
        """Remove the label, unless a person has replaced it by another request meanwhile."""
        kind = type(resource)
        while request.is_same(Request.find(resource.metadata)):
            changes = {"metadata": request_removal(resource.metadata)}
            try:
                raw = await self.kube.patch(kind, resource.name, changes)
            except Conflict:
                raw = await self.kube.get(kind, resource.name)
            resource = kind.parse(raw)
        return resource


def _key(resource: Resource) -> tuple[str, str]:
    return resource.KIND, resource.name


def _with_skipped_time(status: Any) -> Any:
    """Return the status with the time of a person's skip: earlier versions stored it only in the last
    request, which is replaced."""
    is_event = isinstance(status, EnvelopeEventStatus)
    if not is_event or status.skipped_time is not None or not status.is_skipped_by_person:
        return status
    return replace(status, skipped_time=status.last_request.handled_time)


def _last_request(resource: Any) -> LastRequest | None:
    found: LastRequest | None = resource.status.last_request
    return found


def _log_watch_error(problem: ApiError) -> None:
    _log.warning("requests can't be watched at the moment: %s", problem)


def _note(request: Request, last: LastRequest) -> str:
    """Return the note; the person's name is unverified, so it is quoted (docs/decisions/0019)."""
    asked = attribution(request.by, request.reason)
    return f"{request.name!r} was asked for{asked}. {last.message or ''}".rstrip()
