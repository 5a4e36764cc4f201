"""
The receiver as a process: it takes eSAW's callbacks and answers each when its event is in the API server.

This module builds the parts (for each namespace: organization cache, event writer, delivery counter; and the
ports) and ends them in order on SIGTERM. The receiver never calls eSAW and never reads a Secret.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from random import SystemRandom

from counterfoil import tracing
from counterfoil.kube.client import KubeClient, connect
from counterfoil.kube.served_namespaces import NamespacesFileInvalid, ServedNamespaces
from counterfoil.kube.server_clock import ServerClock
from counterfoil.settings import ReceiverSettings, load
from webhook.http_server.namespaces import NamespaceTable
from webhook.http_server.process import HttpProcess, run_process
from webhook.http_server.rate_limit import TokenBucket
from webhook.receiver.callback_to_event import CallbackHandler
from webhook.receiver.delivery_counter import DeliveryCounter, SharedCounting
from webhook.receiver.event_writer import EventWriter, write_turns
from webhook.receiver.limits import ReceiverLimits
from webhook.receiver.namespaces import OrganizationsReading, ReceiverNamespace, writing_fails
from webhook.receiver.organizations import OrganizationCache
from webhook.receiver.readiness import WriteProbe
from webhook.receiver.unlisted_actions import UnlistedActionCounter

_log = logging.getLogger(__name__)


async def serve(process: HttpProcess, settings: ReceiverSettings, *, limits: ReceiverLimits) -> None:
    """Run a receiver until SIGTERM or SIGINT, then answer accepted callbacks and write the counts. Raises
    ``NamespacesFileInvalid``."""
    metrics, monotonic = process.metrics, process.monotonic
    async with connect(
        namespace=settings.namespace, observe=metrics.kubernetes_request, connections=settings.connections
    ) as kube:
        clock = ServerClock(process.clock, kube)
        served = ServedNamespaces.load(settings, kube.namespace)
        namespaces = NamespaceTable(
            served,
            _new_namespace(process, settings, kube, limits=limits),
            clock,
            ended=metrics.remove_namespace,
        )
        handler = CallbackHandler(namespaces, metrics, limits=limits, clock=clock)
        ready: dict[str, Callable[[], Awaitable[str | None]]] = {
            "organizations": OrganizationsReading(namespaces).check,
            "kubernetes": partial(writing_fails, namespaces),
        }
        async with process.serving(handler, ready=ready, limits=limits), asyncio.TaskGroup() as tasks:
            working = tasks.create_task(namespaces.run())
            await process.wait_for_stop()
            deadline = monotonic() + settings.grace.total_seconds()
            await process.close_public_port()
            await namespaces.close(max(1.0, deadline - monotonic()))
            for each in namespaces:
                if pending := each.delivery_counter.pending_events:
                    message = "the callbacks of %d events stay uncounted"
                    _log.error(message, pending, extra={"namespace": each.name})
            working.cancel()


def _new_namespace(
    process: HttpProcess, settings: ReceiverSettings, kube: KubeClient, *, limits: ReceiverLimits
) -> Callable[[str], ReceiverNamespace]:
    """Return what makes the parts of a namespace. All namespaces share the connections to the API server,
    the turns to use them, and the memory for names and counts."""
    turns, shared = write_turns(settings.connections), SharedCounting(limits)
    known_names: OrderedDict[tuple[str, str], None] = OrderedDict()

    def new_namespace(namespace: str) -> ReceiverNamespace:
        own, metrics = kube.in_namespace(namespace), process.metrics.in_namespace(namespace)
        clock = ServerClock(process.clock, own)
        write_probe = WriteProbe(own, monotonic=process.monotonic, valid_seconds=limits.probe_seconds)
        delivery_counter = DeliveryCounter(
            own, clock=clock, random=SystemRandom(), limits=limits, shared=shared
        )
        return ReceiverNamespace(
            kube=own,
            metrics=metrics,
            organization_cache=OrganizationCache(
                metrics,
                clock=clock,
                new_bucket=lambda: TokenBucket(rate=settings.callback_rate, burst=settings.callback_burst),
            ),
            delivery_counter=delivery_counter,
            write_probe=write_probe,
            event_writer=EventWriter(
                own,
                delivery_counter,
                write_probe,
                turns=turns,
                clock=clock,
                limits=limits,
                known_names=known_names,
            ),
            unlisted_actions=UnlistedActionCounter(
                own, metrics, clock=clock, seconds=limits.unlisted_actions_seconds
            ),
            process_metrics=process.metrics,
        )

    return new_namespace


def main(argv: Sequence[str], environ: Mapping[str, str]) -> None:
    """Run the receiver as a process."""
    settings = load(ReceiverSettings, argv, environ)
    run_process(
        "receiver",
        settings,
        lambda process: serve(process, settings, limits=ReceiverLimits()),
        configuration_errors=(NamespacesFileInvalid,),
        context=tracing.configured("receiver", environ),
    )
