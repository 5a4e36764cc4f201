"""
kopf: watches the four kinds and tells the manager; nothing more of it is used.

Low-level event handlers only: no finalizers, no annotations, no patches by the framework, so an event costs the API
server just the writes of its own status. Finished events leave the watch by a field selector (kopf 1.45 and newer),
which makes them cost nothing (rule 9); a controller of several watches the events of its own shards by label.

An outage of any length ends nothing (``KOPF_REQUEST``), and no answer of the API server does, nor of what stands before it
(``controller.watch.responses``). kopf can't be begun anew beside our own tasks: it cancels whatever task is younger than itself.
"""

from collections.abc import Awaitable, Callable
from typing import Any, cast

import kopf

from controller.scheduling.backoff import KOPF_REQUEST
from controller.watch.heartbeat import WatchHeartbeat
from controller.watch.reflector import WATCHED_KINDS, Reflector
from counterfoil.resources import FINAL_PHASES, GROUP, SHARD_COUNT, SHARD_LABEL, VERSION, Resource

UNFINISHED_SELECTOR = ",".join(f"status.phase!={phase}" for phase in sorted(FINAL_PHASES))


class NoDiffStorage(kopf.DiffBaseStorage):
    """
    Compares nothing, since we look at the newest state only.

    kopf copies every object it is told of for this, also when no handler wants to know what changed; that was half of
    its CPU.
    """

    def build(self, *, body: kopf.Body, extra_fields: object = None) -> kopf.BodyEssence:
        """Return what counts as the content of an object: nothing."""
        return cast("kopf.BodyEssence", {})

    def fetch(self, *, body: kopf.Body) -> kopf.BodyEssence | None:
        """Return what was handled last: unknown."""
        return None

    def store(self, *, body: kopf.Body, patch: kopf.Patch, essence: kopf.BodyEssence) -> None:
        """Keep nothing in the object."""


def shard_selector(shard: int, shards: int) -> str:
    """Return the label selector for controller ``shard`` of ``shards``; empty when it is the only one."""
    if shards == 1:
        return ""
    mine = ",".join(str(number) for number in range(shard, SHARD_COUNT, shards))
    return f"{SHARD_LABEL} in ({mine})"


def operator_settings(labels: str) -> kopf.OperatorSettings:
    """Return kopf's settings for our way of using it."""
    settings = kopf.OperatorSettings()
    settings.watching.field_selectors[GROUP, "envelopeevents"] = UNFINISHED_SELECTOR
    if labels:
        settings.watching.label_selectors[GROUP, "envelopeevents"] = labels
    settings.watching.chunk_size = 500
    settings.watching.server_timeout = 300
    settings.watching.connect_timeout = 10
    settings.networking.request_timeout = 30
    settings.networking.error_backoffs = KOPF_REQUEST
    # Namespaced rights only: no watching of namespaces and CRDs cluster-wide.
    settings.scanning.disabled = True
    settings.posting.enabled = False
    settings.persistence.diffbase_storage = NoDiffStorage()
    # None: a limit would let slow objects starve the others (kopf's queueing.py); ours are in controller.scheduling.fair_queue.
    settings.queueing.worker_limit = None
    # A worker lives while its object changes; a longer life would only cost memory.
    settings.queueing.idle_timeout = 0.1
    return settings


WATCHED_PLURALS = tuple(kind.PLURAL for kind in WATCHED_KINDS)


def build_registry(reflector: Reflector, heartbeat: WatchHeartbeat) -> kopf.OperatorRegistry:
    """Return the registry with one low-level handler per kind."""
    registry = kopf.OperatorRegistry()

    @kopf.on.login(registry=registry)
    async def login(**arguments: Any) -> kopf.AiohttpSession | None:
        # The same order as in counterfoil.kube.client. kopf asks again when a token has expired.
        info = kopf.login_with_kubeconfig(**arguments) or kopf.login_with_service_account(**arguments)
        return heartbeat.session(info) if info is not None else None

    for kind in WATCHED_KINDS:
        kopf.on.event(GROUP, VERSION, kind.PLURAL, registry=registry)(_watch_handler(reflector, kind))
    return registry


def _watch_handler(reflector: Reflector, kind: type[Resource]) -> Callable[..., Awaitable[None]]:
    async def handle(event: kopf.RawEvent, **_: Any) -> None:
        reflector.handle(kind, event["type"], event["object"])

    # kopf identifies handlers by these names.
    handle.__name__ = handle.__qualname__ = f"{kind.KIND.lower()}_seen"
    return handle
