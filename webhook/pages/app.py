"""
The pages as a process: this module builds their parts and ends them in order on SIGTERM.

Unlike the receiver, the pages call eSAW and read Secrets, each by its name, with a ServiceAccount for the
pages alone.
"""

import asyncio
from collections.abc import Mapping, Sequence

from counterfoil import tracing
from counterfoil.esaw import EsawClients, new_http_client
from counterfoil.health import Checks
from counterfoil.kube.client import KubeClient, connect
from counterfoil.kube.errors import ApiError
from counterfoil.kube.server_clock import ServerClock
from counterfoil.resources import Organization
from counterfoil.sealing import Sealing, SealingKeysInvalid
from counterfoil.settings import PagesSettings, load
from counterfoil.untrusted.addresses import ALLOWED, allowed_addresses
from webhook.http_server.process import HttpProcess, page_rates, run_process
from webhook.pages.code_exchange import ConsentService
from webhook.pages.cookies import FlowCookies
from webhook.pages.handler import PageHandler
from webhook.pages.limits import ESAW_LIMITS, PageLimits, ReturnRates
from webhook.pages.rendering import PageRenderer
from webhook.pages.send import DraftSender
from webhook.pages.send_lease import SendLeases
from webhook.pages.send_recovery import SendRecovery
from webhook.pages.sent_hits import SentHits
from webhook.pages.views import PageViews


async def serve(
    process: HttpProcess, settings: PagesSettings, sealing: Sealing, *, limits: PageLimits
) -> None:
    """Run the pages until SIGTERM or SIGINT, then answer accepted requests."""
    metrics, monotonic = process.metrics, process.monotonic
    async with (
        connect(
            namespace=settings.namespace, observe=metrics.kubernetes_request, connections=settings.connections
        ) as kube,
        new_http_client(call_limits=ESAW_LIMITS, connections=limits.esaw_connections) as http,
    ):
        clock = ServerClock(process.clock, kube)
        attempt = settings.attempt.total_seconds()
        esaw_clients = EsawClients(http, clock, metrics.esaw_request, ESAW_LIMITS)
        send_leases = SendLeases(kube, sealing, clock, attempt_seconds=max(1, round(attempt)))
        consent_service = ConsentService(kube, sealing, clock)
        draft_sender = DraftSender(
            kube,
            send_leases,
            clock,
            attempt_seconds=attempt,
            limits=limits,
            sent_hits=SentHits(limits),
            monotonic=monotonic,
        )
        renderer = PageRenderer()
        views = PageViews(
            kube=kube,
            flow_cookies=FlowCookies(
                sealing, clock, flow_seconds=limits.flow_seconds, form_seconds=limits.form_seconds
            ),
            send_leases=send_leases,
            consent_service=consent_service,
            draft_sender=draft_sender,
            esaw_clients=esaw_clients,
            renderer=renderer,
            limits=limits,
            returns=ReturnRates(limits),
            monotonic=monotonic,
        )
        handler = PageHandler(
            views,
            renderer,
            metrics,
            rates=page_rates(settings, limits),
            proxies=settings.proxies,
            limits=limits,
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
        metrics.sealing_key_faults.set_function(sealing.fault_count)
        ready = _readiness_checks(kube)
        async with process.serving(handler, ready=ready, limits=limits), asyncio.TaskGroup() as tasks:
            recovering = tasks.create_task(recovery.run())
            await process.wait_for_stop()
            await process.close_public_port()
            recovering.cancel()


def _readiness_checks(kube: KubeClient) -> Checks:
    """Return the checks. The sealing keys are none of them: those in memory are always usable."""

    async def kubernetes() -> str | None:
        try:
            await kube.page(Organization, limit=1)
        except ApiError as problem:
            return str(problem)
        return None

    return {"kubernetes": kubernetes}


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
        configuration_errors=(SealingKeysInvalid,),
        context=tracing.configured("pages", environ),
    )
