"""
kopf: watches the four kinds in each namespace, and passes each change on; no other part of kopf is used.

Low-level event handlers only: no finalizers, no annotations, no patches by the framework, so an event costs
the API server only the writes of its status. Finished events leave the watch by a field selector (kopf 1.45
and newer), so they cost nothing (rule 9). A controller of several watches the events of its shards by label.

No outage ends the operator (``KOPF_REQUEST``), and no response of the API server or of a proxy before it does
(``controller.watch.kopf_responses``). If kopf ends all the same, ``run_operator`` reports it at once.
kopf can't be restarted beside other tasks: it cancels each task younger than its own. So each generation of
the controller has its own event loop.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

import kopf

from controller.scheduling.retry_policy import KOPF_REQUEST
from controller.watch.kopf_session import KopfSessions
from controller.watch.reflector import WATCHED_KINDS
from controller.watch.watched_namespaces import WatchedNamespaces
from counterfoil.kube.page_limits import SMALL_PAGE
from counterfoil.resources import FINAL_PHASES, GROUP, VERSION, Resource

UNFINISHED_SELECTOR = ",".join(f"status.phase!={phase}" for phase in sorted(FINAL_PHASES))


STOP_SECONDS = 15.0
"""Timeout for the end of kopf; it gives running handlers five seconds."""


class OperatorEnded(Exception):
    """kopf ends without a request to stop, or does not end after one. kopf logged the error."""


class NoDiffStorage(kopf.DiffBaseStorage):
    """
    Compares nothing, because only the newest state is used.

    For the comparison kopf copies each object, even when no handler uses the difference; that was half of its
    CPU time.
    """

    def build(self, *, body: kopf.Body, extra_fields: object = None) -> kopf.BodyEssence:
        """Return an empty essence."""
        return cast("kopf.BodyEssence", {})

    def fetch(self, *, body: kopf.Body) -> kopf.BodyEssence | None:
        """Return None: the last handled state is unknown."""
        return None

    def store(self, *, body: kopf.Body, patch: kopf.Patch, essence: kopf.BodyEssence) -> None:
        """Store nothing in the object."""


def operator_settings(labels: str) -> kopf.OperatorSettings:
    """Return the settings of kopf."""
    settings = kopf.OperatorSettings()
    settings.watching.field_selectors[GROUP, "envelopeevents"] = UNFINISHED_SELECTOR
    if labels:
        settings.watching.label_selectors[GROUP, "envelopeevents"] = labels
    # The responses choose other sizes (kopf_responses).
    settings.watching.chunk_size = SMALL_PAGE
    settings.watching.server_timeout = 300
    settings.watching.connect_timeout = 10
    settings.networking.request_timeout = 30
    settings.networking.error_backoffs = KOPF_REQUEST
    # Namespaced rights only: no watching of namespaces and CRDs cluster-wide.
    settings.scanning.disabled = True
    settings.posting.enabled = False
    settings.persistence.diffbase_storage = NoDiffStorage()
    # None: with a limit slow objects block others (kopf's queueing.py); fair_queue has the limits.
    settings.queueing.worker_limit = None
    # A worker lives while its object changes; a longer life would cost memory.
    settings.queueing.idle_timeout = 0.1
    return settings


WATCHED_PLURALS = tuple(kind.PLURAL for kind in WATCHED_KINDS)


NO_NAMESPACE_YET = "*"
"""A pattern: without a list of all namespaces it selects none."""


def build_registry(watched: WatchedNamespaces, sessions: KopfSessions) -> kopf.OperatorRegistry:
    """Return the registry with one low-level handler per kind."""
    registry = kopf.OperatorRegistry()

    @kopf.on.login(registry=registry)
    async def login(**arguments: Any) -> kopf.AiohttpSession | None:
        # The same order as in counterfoil.kube.client. kopf logs in again when a token has expired.
        info = kopf.login_with_kubeconfig(**arguments) or kopf.login_with_service_account(**arguments)
        return sessions.open(info) if info is not None else None

    for kind in WATCHED_KINDS:
        kopf.on.event(GROUP, VERSION, kind.PLURAL, registry=registry)(_watch_handler(watched, kind))
    return registry


async def run_operator(
    registry: kopf.OperatorRegistry,
    watched: WatchedNamespaces,
    *,
    labels: str,
    ready: asyncio.Event,
    stop: asyncio.Event,
    stop_seconds: float = STOP_SECONDS,
) -> None:
    """
    Run kopf in the watched namespaces, of which there may be none at first, until ``stop`` is set; kopf sets
    ``ready``.

    Raises ``OperatorEnded`` as soon as kopf begins to end before that, and ``stop_seconds`` after ``stop`` if
    it has not ended. Its tasks may then wait for each other without end.
    """
    cleanup = asyncio.Event()

    @kopf.on.cleanup(registry=registry)
    async def begin_cleanup(**_: Any) -> None:
        # kopf ended its main tasks, and now waits for the others, such as its watchers.
        cleanup.set()

    # Older than kopf, which cancels each task that is younger than its own.
    waiting = [asyncio.create_task(event.wait()) for event in (cleanup, stop)]
    operator = asyncio.create_task(
        kopf.operator(
            registry=registry,
            settings=operator_settings(labels),
            insights=watched.insights,
            namespaces=[NO_NAMESPACE_YET],
            standalone=True,
            ready_flag=ready,
            stop_flag=stop,
        )
    )
    try:
        await asyncio.wait([operator, *waiting], return_when=asyncio.FIRST_COMPLETED)
        if stop.is_set():
            await asyncio.wait([operator], timeout=stop_seconds)
        if operator.done():
            await operator
        if not (stop.is_set() and operator.done()):
            raise OperatorEnded(
                "kopf does not end" if stop.is_set() else "kopf ended its watches; its error is logged"
            )
    finally:
        for task in waiting:
            task.cancel()


def _watch_handler(watched: WatchedNamespaces, kind: type[Resource]) -> Callable[..., Awaitable[None]]:
    async def handle(event: kopf.RawEvent, **_: Any) -> None:
        watched.handle(kind, event["type"], event["object"])

    # kopf identifies handlers by these names.
    handle.__name__ = handle.__qualname__ = f"{kind.KIND.lower()}_seen"
    return handle
