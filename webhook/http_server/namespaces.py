"""
The parts of a process for each namespace that it serves: they begin and end with the list of namespaces.

A namespace that is added begins within ten seconds, and one that is removed ends, while the others work on.
An error in one of several namespaces is logged there, and its work begins again. It ends neither another one
nor the process. In a process with one namespace it ends the process, which a kubelet restarts.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Final, Generic, Protocol, TypeVar

from counterfoil.clock import Clock
from counterfoil.health import Check
from counterfoil.kube.errors import ApiError
from counterfoil.kube.served_namespaces import READ_AGAIN, ServedNamespaces
from counterfoil.kube.watch import exponential_backoff
from counterfoil.logs import log_context
from counterfoil.metrics import Metrics

_log = logging.getLogger(__name__)

END_SECONDS = 10.0
"""Maximum time for which the parts of a removed namespace finish their work."""


class NamespaceParts(Protocol):
    """The parts of one namespace."""

    async def run(self) -> None:
        """Work until ``close``, and then until nothing is left to do. It may be cancelled, and called
        again after an error."""
        ...

    def close(self) -> None:
        """Let ``run`` end."""
        ...


P = TypeVar("P", bound=NamespaceParts)


class NamespaceTable(Generic[P]):
    """
    The parts of each served namespace. ``new`` makes those of one, and ``ended`` follows the end of one.

    Without a namespace that is served there is nothing to find, and nothing runs.
    """

    def __init__(
        self,
        served: ServedNamespaces,
        new: Callable[[str], P],
        clock: Clock,
        *,
        ended: Callable[[str], None],
    ) -> None:
        """Make the parts of all namespaces. Raises what ``new`` raises."""
        self._served = served
        self.own: Final = served.own
        """The release's own namespace: an address without a namespace leads there."""
        self._new = new
        self._ended = ended
        self._clock = clock
        self._parts = {namespace: new(namespace) for namespace in served.names}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._ending: set[asyncio.Task[None]] = set()

    def __iter__(self) -> Iterator[P]:
        return iter(tuple(self._parts.values()))

    def __len__(self) -> int:
        return len(self._parts)

    def find(self, namespace: str) -> P | None:
        """Return the parts of a namespace, by the one in an address (empty: the release's own); None if it is
        not served."""
        return self._parts.get(namespace or self.own)

    async def run(self) -> None:
        """Let the parts work, and follow the list of namespaces, until cancelled. Raises what breaks the work
        in the only namespace."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                self._follow(tasks)
                await self._clock.sleep(READ_AGAIN.total_seconds())
                self._served.read_again()

    async def close(self, seconds: float) -> None:
        """Let all parts finish their work, for ``seconds`` at most."""
        for each in self:
            each.close()
        working = {*self._tasks.values(), *self._ending}
        if working:
            await asyncio.wait(working, timeout=seconds)

    def _follow(self, tasks: asyncio.TaskGroup) -> None:
        for namespace in self._parts.keys() - set(self._served.names):
            self._end(namespace, tasks)
        for namespace in self._served.names:
            if namespace not in self._parts and not self._add(namespace):
                continue
            if namespace not in self._tasks:
                work = self._work(namespace, self._parts[namespace])
                self._tasks[namespace] = tasks.create_task(work)

    def _add(self, namespace: str) -> bool:
        """Make the parts of a namespace that was added; False: they can't be made now."""
        try:
            self._parts[namespace] = self._new(namespace)
        except Exception:
            _log.exception("a namespace cannot be served yet", extra={"namespace": namespace})
            return False
        _log.info("a namespace is served from now on", extra={"namespace": namespace})
        return True

    def _end(self, namespace: str, tasks: asyncio.TaskGroup) -> None:
        """Take a namespace out of the table at once; what it began may finish."""
        _log.info("a namespace is no longer served", extra={"namespace": namespace})
        self._parts.pop(namespace).close()
        work = self._tasks.pop(namespace)
        self._ending.add(work)
        tasks.create_task(self._end_work(namespace, work))

    async def _end_work(self, namespace: str, work: asyncio.Task[None]) -> None:
        await asyncio.wait({work}, timeout=END_SECONDS)
        work.cancel()
        self._ending.discard(work)
        if namespace not in self._parts:
            self._ended(namespace)

    async def _work(self, namespace: str, parts: P) -> None:
        """Let the parts of a namespace work; begin again after an unexpected error. Raises it in the only
        namespace that is served."""
        failures = 0
        with log_context(namespace=namespace):
            while True:
                try:
                    return await parts.run()
                except Exception:
                    if self._served.names == (namespace,):
                        raise
                    _log.exception("the work for a namespace broke off, and begins again")
                await self._clock.sleep(exponential_backoff(failures))
                failures += 1


async def reason_of_all(checks: Iterable[Check]) -> str | None:
    """Return why the check of each namespace fails, or None as soon as one does not: the trouble of one
    namespace is not that of the others."""
    reason: str | None = "no namespace is served"
    for check in checks:
        reason = await check()
        if reason is None:
            return None
    return reason


def show_start(metrics: Metrics, namespace: str) -> None:
    """Show in the metrics of the process that the Organizations of a namespace were not read yet."""
    metrics.set_namespace_ready(namespace, "Starting", is_ready=False)


def show_namespace(metrics: Metrics, namespace: str, problem: ApiError | None) -> None:
    """Show in the metrics of the process whether its Organizations can be read there (None: they can). Only
    a missing namespace or right says something about it."""
    if problem is None:
        metrics.set_namespace_ready(namespace, "Serving", is_ready=True)
    elif problem.is_about_namespace:
        metrics.set_namespace_ready(namespace, "NamespaceForbidden", is_ready=False)
