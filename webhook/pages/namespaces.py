"""The parts of the pages for one namespace: its views, and the recovery of its drafts."""

import asyncio
import logging
from dataclasses import dataclass, field
from typing import Final

from counterfoil.clock import Clock
from counterfoil.kube.client import KubeClient
from counterfoil.kube.errors import ApiError, Forbidden, NotFound
from counterfoil.metrics import Metrics
from counterfoil.resources import Organization
from webhook.http_server.errors import HttpErrorKind, PageError
from webhook.http_server.namespaces import NamespaceTable
from webhook.pages.send_recovery import SendRecovery
from webhook.pages.views import PageViews

_log = logging.getLogger(__name__)

CHECK_SECONDS: Final = 60.0
"""Interval between two checks whether a namespace can be served."""

_NOBODY: Final = "counterfoil-nobody"
"""A name of an Organization that is asked for in place of one in a namespace that is not served."""


@dataclass(frozen=True, kw_only=True)
class PageNamespace:
    """The parts for one namespace."""

    kube: KubeClient
    views: PageViews
    recovery: SendRecovery
    clock: Clock
    process_metrics: Metrics
    _closing: asyncio.Event = field(init=False, default_factory=asyncio.Event)

    @property
    def name(self) -> str:
        """The namespace."""
        return self.kube.namespace

    async def run(self) -> None:
        """Recover the drafts of the namespace until ``close``: another replica continues what is left."""
        async with asyncio.TaskGroup() as tasks:
            working = [tasks.create_task(each) for each in (self.recovery.run(), self._report_forever())]
            await self._closing.wait()
            for each in working:
                each.cancel()

    def close(self) -> None:
        """Let ``run`` end."""
        self._closing.set()

    async def unavailable_reason(self) -> str | None:
        """Return why no Organization of the namespace can be read, or None."""
        try:
            await self.kube.page(Organization, limit=1)
        except ApiError as problem:
            return str(problem)
        return None

    async def _report_forever(self) -> None:
        """Show whether the Organizations can be read."""
        is_reported = False
        while True:
            try:
                await self.kube.page(Organization, limit=1)
            except (Forbidden, NotFound) as problem:
                self.process_metrics.set_namespace_ready(self.name, "NamespaceForbidden", is_ready=False)
                if not is_reported:
                    _log.warning("the pages cannot serve a namespace: %s", problem)
                is_reported = True
            except ApiError as problem:
                _log.info("it is not known whether a namespace can be served: %s", problem)
            else:
                self.process_metrics.set_namespace_ready(self.name, "Serving", is_ready=True)
                is_reported = False
            await self.clock.sleep(CHECK_SECONDS)


PageNamespaces = NamespaceTable[PageNamespace]


async def namespace_of(namespaces: PageNamespaces, namespace: str) -> PageNamespace:
    """
    Return the parts of the namespace in an address (empty: the release's own).

    One that is not served is answered as an unknown Organization, also in time and while the API server is
    down: the same request is made. Raises ``PageError``, ``ApiError``.
    """
    found = namespaces.find(namespace)
    if found is None:
        for each in namespaces:
            await each.views.site(_NOBODY)
            break
        raise PageError(HttpErrorKind.NOT_FOUND, "no such namespace is served")
    return found


async def all_unavailable(namespaces: PageNamespaces) -> str | None:
    """Return why no namespace can be served, or None: the trouble of one is not that of the others."""
    reason: str | None = "no namespace is served"
    for each in namespaces:
        reason = await each.unavailable_reason()
        if reason is None:
            return None
    return reason
