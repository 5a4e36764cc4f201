"""
The console as a process: this module builds its parts and ends them in order on SIGTERM.

The console calls the API server with the token of the person who uses the browser. Its own account reads and
writes one ConfigMap with the times of sign-outs, and only where several consoles share the key of sessions.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

from counterfoil import tracing
from counterfoil.kube.client import connect, open_token_client_factory
from counterfoil.kube.served_namespaces import NamespacesFileInvalid, ServedNamespaces
from counterfoil.sealing import Sealing, SealingKeysInvalid
from counterfoil.settings import ConsoleSettings, SignIn, load
from webhook.console.access import Authenticator
from webhook.console.actions import ActionService
from webhook.console.events.views import EventViews
from webhook.console.handler import ConsoleHandler
from webhook.console.identity.oidc import open_oidc_client
from webhook.console.identity.sign_outs import ProcessSignOuts, SharedSignOuts
from webhook.console.limits import ConsoleLimits
from webhook.console.rendering import ConsoleRenderer
from webhook.console.sessions import ConsoleSessions, ProcessCookieCipher
from webhook.console.views import ConsoleViews
from webhook.http_server.cookies import CookieCipher
from webhook.http_server.process import HttpProcess, page_rates, run_process

_log = logging.getLogger(__name__)


async def serve(
    process: HttpProcess, settings: ConsoleSettings, cipher: CookieCipher, *, limits: ConsoleLimits
) -> None:
    """Run the console until SIGTERM or SIGINT, then answer accepted requests. Raises
    ``NamespacesFileInvalid``."""
    clock, metrics, monotonic = process.clock, process.metrics, process.monotonic
    async with (
        open_token_client_factory(
            namespace=settings.namespace, observe=metrics.kubernetes_request, connections=settings.connections
        ) as client_factory,
        _sign_outs(process, settings) as sign_outs,
        open_oidc_client(settings, monotonic=monotonic) as oidc,
    ):
        oidc_name = oidc.config.name if oidc is not None else None
        served = ServedNamespaces.load(settings, client_factory.namespace)
        renderer = ConsoleRenderer(limits, settings.sign_in, oidc_name)
        actions = ActionService(clock)
        handler = ConsoleHandler(
            views=ConsoleViews(renderer, actions, clock, limits=limits),
            event_views=EventViews(renderer, actions, clock, limits=limits),
            renderer=renderer,
            sessions=ConsoleSessions(cipher, clock, max_age=settings.session, idle=settings.session_idle),
            sign_outs=sign_outs,
            oidc=oidc,
            authenticator=Authenticator(client_factory, limits=limits, monotonic=monotonic, served=served),
            metrics=metrics,
            clock=clock,
            sign_in=settings.sign_in,
            rates=page_rates(settings, limits),
            proxies=settings.proxies,
            limits=limits,
            monotonic=monotonic,
        )
        if isinstance(cipher, Sealing):
            metrics.sealing_key_faults.set_function(cipher.fault_count)
        ready = {"kubernetes": client_factory.unavailable_reason}
        if isinstance(sign_outs, SharedSignOuts):
            ready["sign-outs"] = sign_outs.unavailable_reason
        async with process.serving(handler, ready=ready, limits=limits), asyncio.TaskGroup() as tasks:
            # Each request looks at the present list.
            following = tasks.create_task(served.keep_current(clock))
            await process.wait_for_stop()
            following.cancel()


@asynccontextmanager
async def _sign_outs(
    process: HttpProcess, settings: ConsoleSettings
) -> AsyncIterator[ProcessSignOuts | SharedSignOuts]:
    """Open the store of sign-outs that lives as long as the sessions do."""
    if settings.sealing_keys is None or settings.sign_in is SignIn.PROXY:
        yield ProcessSignOuts(process.clock, session=settings.session)
        return
    async with connect(
        namespace=settings.namespace, observe=process.metrics.kubernetes_request, connections=2
    ) as kube:
        yield SharedSignOuts(kube, process.clock, session=settings.session, monotonic=process.monotonic)


def _cookie_cipher(settings: ConsoleSettings) -> CookieCipher:
    if settings.sealing_keys is not None:
        return Sealing(settings.sealing_keys)
    _log.info(
        "sessions are encrypted with a key of this process: they end with the process, and work with one "
        "replica only"
    )
    return ProcessCookieCipher()


def main(argv: Sequence[str], environ: Mapping[str, str]) -> None:
    """Run the console as a process."""
    settings = load(ConsoleSettings, argv, environ)
    run_process(
        "console",
        settings,
        lambda process: serve(process, settings, _cookie_cipher(settings), limits=ConsoleLimits()),
        configuration_errors=(SealingKeysInvalid, NamespacesFileInvalid),
        context=tracing.configured("console", environ),
    )
