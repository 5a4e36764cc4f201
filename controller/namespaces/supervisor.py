"""
The work in each served namespace: it starts, fails, starts again and ends without the others.

A namespace that does not exist, is being deleted, or in which the Role was taken away is reported and tried
again; it holds nobody up. While a process serves several namespaces, an error in the components of one ends
these components alone, and they are built again after a pause; so do components that no longer get on. The
process ends when those of all namespaces are stuck. In a process with one namespace both end the process,
which a kubelet restarts.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Final, Protocol

from controller.namespaces.status import (
    NamespaceProblem,
    NamespaceReason,
    NamespaceStatus,
    problem_of,
    problem_of_imports,
    problem_of_statuses,
)
from controller.watch.reflector import WATCHED_KINDS, InitialSync
from controller.watch.watched_namespaces import WatchedNamespaces
from counterfoil.clock import Clock
from counterfoil.health import Check, Checks
from counterfoil.kube.client import KubeClient
from counterfoil.kube.errors import ApiError, NotFound
from counterfoil.kube.served_namespaces import ServedNamespaces
from counterfoil.kube.watch import exponential_backoff
from counterfoil.logs import log_context
from counterfoil.resources import GROUP, Envelope, Import, Resource

_log = logging.getLogger("controller")

NEEDED_KINDS: Final[tuple[type[Resource], ...]] = (*WATCHED_KINDS, Envelope)
"""The kinds without which nothing is archived: each event reads its Envelope. Imports are the other kind."""

STORED_STATUSES: Final[tuple[type[Resource], ...]] = (*WATCHED_KINDS, Import)
"""The kinds whose statuses are stored. An object whose status is refused tells nobody itself."""

PROBE_INTERVAL = timedelta(seconds=60)
"""Interval of the requests that determine whether a namespace can be served: one for each kind."""

PROBE_INTERVAL_NOT_SERVED = timedelta(seconds=10)
"""The interval while a namespace is not served."""

PROBE_INTERVAL_STARTING = timedelta(seconds=1)
"""The interval while its objects are read for the first time."""

STEADY = timedelta(minutes=10)
"""Duration of the work in a namespace after which an error counts as the first one, and after which the
reason of an earlier end is no longer shown."""

LIVENESS_CHECKS = ("schedule", "watches")
"""The names of the liveness checks of the components."""


class NamespaceWork(Protocol):
    """The components of a namespace, as ``controller.namespaces.components`` builds them."""

    @property
    def kube(self) -> KubeClient:
        """The client of the namespace."""
        ...

    @property
    def initial_sync(self) -> InitialSync:
        """The first read of its objects."""
        ...

    @property
    def live(self) -> Checks:
        """The liveness checks ``LIVENESS_CHECKS``."""
        ...

    async def run(self, watched: WatchedNamespaces) -> None:
        """Work until cancelled. Raises what breaks a component."""
        ...

    async def drain(self) -> None:
        """Start no more work, and return when the running work has reached a safe point."""
        ...


class NamespaceStuck(Exception):
    """The components of a namespace do not get on; the message is that of the liveness check."""


@dataclass
class NamespaceSupervisor:
    """Runs the components of each namespace that is served."""

    served: ServedNamespaces
    build: Callable[[str], NamespaceWork]
    """Returns new components for a namespace."""
    watched: WatchedNamespaces
    status: NamespaceStatus
    clock: Clock
    grace: timedelta
    """Time that running work has to reach a safe point when its namespace leaves the list."""
    patience: timedelta
    """Time after which components that are stuck are found so at the latest."""
    _components: dict[str, NamespaceWork] = field(default_factory=dict)
    """Those that run, by namespace."""
    _tasks: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    """The tasks of the namespaces in the list."""
    _good: set[str] = field(default_factory=set)
    """The namespaces whose components have worked for longer than the patience."""

    _is_draining: bool = False

    @property
    def live(self) -> Checks:
        """The liveness checks of the process: each fails when it fails in every namespace."""
        return {name: partial(self._check_live, name) for name in LIVENESS_CHECKS}

    async def check_synced(self) -> str | None:
        """Return why no namespace has been read yet, or None as soon as one has; for readiness."""
        checks = [each.initial_sync.check for each in self._components.values()]
        return await _common(checks) if checks else "no namespace has been read yet"

    async def run(self) -> None:
        """Serve the namespaces of the list, which may change, until cancelled. Raises what breaks the work in
        the only namespace, and ``NamespaceStuck`` if the work in all of them is stuck."""
        async with asyncio.TaskGroup() as group:
            # The last end of the work in each namespace that left the list at some time.
            ends = dict[str, asyncio.Task[None]]()
            self.served.read_again()
            self.status.forget_others(self.served.names)
            async for names in self.served.follow(self.clock):
                for name in self._tasks.keys() - set(names):
                    ends[name] = group.create_task(self._end(name, self._tasks.pop(name), ends.get(name)))
                for name in set(names) - self._tasks.keys():
                    self._tasks[name] = group.create_task(self._serve(name, ends.get(name)))

    async def drain(self) -> None:
        """Start no more work in any namespace, and return when the running work has reached a safe point."""
        self._is_draining = True
        working = list[NamespaceWork]()
        for namespace, each in tuple(self._components.items()):
            if await each.initial_sync.check() is None:
                working.append(each)
            elif task := self._tasks.get(namespace):
                # It would begin to work when it has read its objects.
                task.cancel()
        await asyncio.gather(*(each.drain() for each in working))

    async def _serve(self, namespace: str, earlier: asyncio.Task[None] | None) -> None:
        """Work in a namespace, again after each error; first let the ``earlier`` work there end."""
        if earlier is not None:
            await asyncio.wait([earlier])
        failures = 0
        with log_context(namespace=namespace):
            while not self._is_draining:
                began = self.clock.monotonic()
                try:
                    await self._work(namespace)
                except Exception as error:
                    problem = _problem_of_end(namespace, error)
                    if self._tasks.get(namespace) is not asyncio.current_task():
                        _log.exception("the work in the namespace %s, which left the list, broke", namespace)
                        return
                    if self._is_alone(namespace):
                        raise
                    self.status.set_restarting(namespace, problem)
                    if self._are_all_stuck(problem):
                        raise
                    _log.exception("the work in the namespace %s starts again", namespace)
                if self.clock.monotonic() - began > STEADY.total_seconds():
                    failures = 0
                await self.clock.sleep(exponential_backoff(failures))
                failures += 1

    async def _work(self, namespace: str) -> None:
        components = self.build(namespace)
        self._components[namespace] = components
        self.status.set_starting(namespace)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(components.run(self.watched))
                group.create_task(self._probe(components))
        finally:
            del self._components[namespace]
            self._good.discard(namespace)

    async def _probe(self, components: NamespaceWork) -> None:
        """Report whether the namespace can be served. Raises ``NamespaceStuck`` if its work must start again
        alone."""
        namespace, began = components.kube.namespace, self.clock.monotonic()
        while True:
            pause = PROBE_INTERVAL_NOT_SERVED
            try:
                problem = await self._problem(components)
            except ApiError:
                # The API server does not answer: this says nothing about one namespace.
                problem = None
            else:
                worked = self.clock.monotonic() - began
                if problem is not None and problem.reason is not NamespaceReason.INCOMPLETE:
                    self.status.set_problem(namespace, problem)
                    if problem.reason is not NamespaceReason.UNAVAILABLE:
                        self._good.discard(namespace)
                elif await components.initial_sync.check() is None:
                    # Work that ends again and again has one reason, or no alert about it would be pending.
                    is_steady = not self.status.is_restarting(namespace) or worked >= STEADY.total_seconds()
                    if is_steady and problem is not None:
                        self.status.set_problem(namespace, problem)
                    elif is_steady:
                        self.status.set_serving(namespace)
                    if worked >= self.patience.total_seconds():
                        self._good.add(namespace)
                    pause = PROBE_INTERVAL
                else:
                    pause = PROBE_INTERVAL_STARTING
            is_stuck = problem is not None and problem.reason is NamespaceReason.STUCK
            if problem is not None and is_stuck and not self._is_alone(namespace):
                raise NamespaceStuck(problem.message)
            await self.clock.sleep(pause.total_seconds())

    async def _problem(self, components: NamespaceWork) -> NamespaceProblem | None:
        """Return what keeps the namespace from being served. Raises ``ApiError`` if that is unknown."""
        kube = components.kube
        for kind in NEEDED_KINDS:
            if (refusal := await _refusal(kube, kind)) is not None:
                return problem_of(kube.namespace, refusal)
        for check in components.live.values():
            if (reason := await check()) is not None:
                message = f"The work in namespace {kube.namespace} is stuck: {reason}."
                return NamespaceProblem(NamespaceReason.STUCK, message)
        if (refusal := await _refusal(kube, Import)) is not None:
            return problem_of_imports(kube.namespace, refusal)
        refused = [each.PLURAL for each in STORED_STATUSES if not await _may_store_status(kube, each)]
        return problem_of_statuses(kube.namespace, refused) if refused else None

    async def _end(
        self, namespace: str, task: asyncio.Task[None], earlier: asyncio.Task[None] | None
    ) -> None:
        """
        End the work in a namespace that left the list, once its running work is at a safe point.

        Returns after the ``earlier`` end too: until then the work of ``task`` has not begun, and the
        components are those of the work before.
        """
        _log.info("the namespace %s is no longer served", namespace)
        if earlier is not None and not earlier.done():
            task.cancel()
            await asyncio.wait([task, earlier])
        elif components := self._components.get(namespace):
            drained = asyncio.create_task(components.drain())
            await asyncio.wait(
                [drained, task],
                timeout=self.grace.total_seconds(),
                return_when=asyncio.FIRST_COMPLETED,
            )
            drained.cancel()
        task.cancel()
        await asyncio.wait([task])
        self.status.forget(namespace)

    def _is_alone(self, namespace: str) -> bool:
        """Whether the process serves this namespace only."""
        return self.served.names == (namespace,)

    def _are_all_stuck(self, problem: NamespaceProblem) -> bool:
        """Whether the work in all namespaces that can be served is stuck: a cause of the process. Work that
        began again counts until it has shown that it gets on."""
        doubtful = set(self.served.names) - self._good
        return problem.reason is NamespaceReason.STUCK and all(
            each in doubtful and self.status.is_stuck(each) for each in self.served.names
        )

    async def _check_live(self, name: str) -> str | None:
        return await _common([each.live[name] for each in self._components.values()])


async def _common(checks: Sequence[Check]) -> str | None:
    """Return the reasons of all checks, or None as soon as one has none; they are made at once."""
    tasks = [asyncio.ensure_future(each()) for each in checks]
    reasons = list[str]()
    try:
        for each in asyncio.as_completed(tasks):
            if (reason := await each) is None:
                return None
            reasons.append(reason)
    finally:
        for task in tasks:
            task.cancel()
    return "; ".join(dict.fromkeys(reasons)) or None


async def _refusal(kube: KubeClient, kind: type[Resource]) -> ApiError | None:
    """Return the 403 or 404 that says why objects of a kind can't be listed in the namespace. Raises
    ``ApiError`` if the answer says nothing about the namespace."""
    try:
        await kube.page(kind, limit=1)
    except ApiError as error:
        if error.is_about_namespace:
            return error
        # An API server that lacks the kind answers so, and a proxy may do so too.
        if error.status == 404 and not await kube.serves(kind):
            return NotFound(404, error.reason, f"the API server lacks {kind.PLURAL}.{GROUP}")
        raise
    return None


async def _may_store_status(kube: KubeClient, kind: type[Resource]) -> bool:
    """Whether the statuses of a kind may be stored in the namespace, as far as the API server tells. Who may
    not ask may have the right."""
    try:
        return await kube.is_allowed("patch", f"{kind.PLURAL}/status")
    except ApiError:
        return True


def _problem_of_end(namespace: str, error: Exception) -> NamespaceProblem:
    """Return why the components of a namespace have ended."""
    stuck = error.subgroup(NamespaceStuck) if isinstance(error, ExceptionGroup) else None
    if stuck is not None:
        return NamespaceProblem(NamespaceReason.STUCK, str(stuck.exceptions[0]))
    return NamespaceProblem(
        NamespaceReason.BROKEN,
        f"The work in namespace {namespace} ended with an error, which is in the log; it starts again.",
    )
