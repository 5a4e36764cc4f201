"""
The pages as a process: this module builds their parts and ends them in order on SIGTERM.

Unlike the receiver, the pages call eSAW and read Secrets, each by its name, with a ServiceAccount for the
pages alone.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import httpx

from counterfoil import tracing
from counterfoil.esaw import EsawClients, new_http_client
from counterfoil.kube.client import KubeClient, connect
from counterfoil.kube.served_namespaces import NamespacesFileInvalid, ServedNamespaces
from counterfoil.kube.server_clock import ServerClock
from counterfoil.sealing import Sealing, SealingKeysInvalid
from counterfoil.settings import PagesSettings, load
from counterfoil.untrusted.addresses import ALLOWED, allowed_addresses
from counterfoil.untrusted.fair_slots import FairSlots
from webhook.http_server.namespaces import NamespaceTable
from webhook.http_server.process import HttpProcess, page_rates, run_process
from webhook.pages.code_exchange import ConsentService
from webhook.pages.cookies import FlowCookies
from webhook.pages.handler import PageHandler, PageNamespace, all_unavailable
from webhook.pages.limits import ESAW_LIMITS, MAX_ENVELOPE_WRITES, PageLimits, ReturnRates
from webhook.pages.rendering import PageRenderer
from webhook.pages.send import DraftSender
from webhook.pages.send_lease import SendLeases
from webhook.pages.send_recovery import SendRecovery
from webhook.pages.sent_hits import SentHits
from webhook.pages.views import PageViews


async def serve(
    process: HttpProcess, settings: PagesSettings, sealing: Sealing, *, limits: PageLimits
) -> None:
    """Run the pages until SIGTERM or SIGINT, then answer accepted requests. Raises
    ``NamespacesFileInvalid``."""
    metrics = process.metrics
    async with (
        connect(
            namespace=settings.namespace, observe=metrics.kubernetes_request, connections=settings.connections
        ) as kube,
        new_http_client(call_limits=ESAW_LIMITS, connections=limits.esaw_connections) as http,
    ):
        renderer = PageRenderer()
        builder = _NamespaceBuilder(
            process=process,
            attempt_seconds=settings.attempt.total_seconds(),
            kube=kube,
            http=http,
            sealing=sealing,
            renderer=renderer,
            limits=limits,
            returns=ReturnRates(limits),
            sent_hits=SentHits(limits),
            writes=FairSlots(MAX_ENVELOPE_WRITES),
        )
        namespaces = NamespaceTable(
            ServedNamespaces.load(settings, kube.namespace),
            builder.new_namespace,
            ServerClock(process.clock, kube),
            ended=metrics.remove_namespace,
        )
        handler = PageHandler(
            namespaces,
            renderer,
            metrics,
            rates=page_rates(settings, limits),
            proxies=settings.proxies,
            limits=limits,
            monotonic=process.monotonic,
        )
        metrics.sealing_key_faults.set_function(sealing.fault_count)
        # The sealing keys are none of the checks: those in memory are always usable.
        ready = {"kubernetes": partial(all_unavailable, namespaces)}
        async with process.serving(handler, ready=ready, limits=limits), asyncio.TaskGroup() as tasks:
            working = tasks.create_task(namespaces.run())
            await process.wait_for_stop()
            await process.close_public_port()
            working.cancel()


@dataclass(frozen=True, kw_only=True)
class _NamespaceBuilder:
    """Makes the parts of each namespace. They share the connections, the rates of returns, and the bounds of
    questions to eSAW and of writes."""

    process: HttpProcess
    attempt_seconds: float
    kube: KubeClient
    """Of the release's own namespace."""
    http: httpx.AsyncClient
    sealing: Sealing
    renderer: PageRenderer
    limits: PageLimits
    returns: ReturnRates
    sent_hits: SentHits
    writes: FairSlots

    def new_namespace(self, namespace: str) -> PageNamespace:
        """Return the parts of a namespace. Raises ``SealingKeysInvalid``."""
        metrics, monotonic, limits = self.process.metrics, self.process.monotonic, self.limits
        kube, own = self.kube.in_namespace(namespace), self.kube.namespace
        sealing = self.sealing.for_namespace(namespace, own=own)
        clock = ServerClock(self.process.clock, kube)
        observe = metrics.in_namespace(namespace).esaw_request
        esaw_clients = EsawClients(self.http, clock, observe, ESAW_LIMITS)
        send_leases = SendLeases(kube, sealing, clock, attempt_seconds=max(1, round(self.attempt_seconds)))
        consent_service = ConsentService(kube, sealing, clock)
        draft_sender = DraftSender(
            kube,
            send_leases,
            clock,
            attempt_seconds=self.attempt_seconds,
            limits=limits,
            sent_hits=self.sent_hits,
            monotonic=monotonic,
            writes=self.writes,
        )
        views = PageViews(
            kube=kube,
            own_namespace=own,
            flow_cookies=FlowCookies(
                sealing, clock, flow_seconds=limits.flow_seconds, form_seconds=limits.form_seconds
            ),
            send_leases=send_leases,
            consent_service=consent_service,
            draft_sender=draft_sender,
            esaw_clients=esaw_clients,
            renderer=self.renderer,
            limits=limits,
            returns=self.returns,
            monotonic=monotonic,
        )
        recovery = SendRecovery(
            kube=kube,
            send_leases=send_leases,
            draft_sender=draft_sender,
            consent_service=consent_service,
            esaw_clients=esaw_clients,
            clock=clock,
            limits=limits,
        )
        return PageNamespace(kube=kube, views=views, recovery=recovery, clock=clock, process_metrics=metrics)


def _sealing(settings: PagesSettings) -> Sealing:
    if settings.sealing_keys is None:
        raise SealingKeysInvalid(
            "COUNTERFOIL_SEALING_KEYS is not set; name the folder of the sealing keys, without which no key "
            "can be stored."
        )
    return Sealing(settings.sealing_keys)


def main(argv: Sequence[str], environ: Mapping[str, str]) -> None:
    """Run the pages as a process."""
    settings = load(PagesSettings, argv, environ)
    ALLOWED.set(
        allowed_addresses(
            settings.node_addresses or (),
            allows_loopback=settings.allow_loopback,
            allows_node=settings.allow_node,
        )
    )
    limits = PageLimits(recovery_seconds=settings.attempt.total_seconds() / 2)
    run_process(
        "pages",
        settings,
        lambda process: serve(process, settings, _sealing(settings), limits=limits),
        configuration_errors=(SealingKeysInvalid, NamespacesFileInvalid),
        context=tracing.configured("pages", environ),
    )
