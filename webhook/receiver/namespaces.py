"""
The parts of the receiver for one namespace, and all served namespaces together.

Each namespace has its own organizations, its own counts and its own proof that writing works. So one that
does not exist, or in which the rights are missing, delays no callback of another.
"""

import asyncio
from dataclasses import dataclass
from functools import cached_property, partial

from counterfoil.kube.client import KubeClient
from counterfoil.metrics import Metrics
from webhook.http_server.namespaces import NamespaceTable, reason_of_all, show_namespace, show_start
from webhook.receiver.delivery_counter import DeliveryCounter
from webhook.receiver.event_writer import EventWriter
from webhook.receiver.organizations import OrganizationCache
from webhook.receiver.readiness import WriteProbe
from webhook.receiver.unlisted_actions import UnlistedActionCounter


@dataclass(frozen=True, kw_only=True)
class ReceiverNamespace:
    """The parts for one namespace."""

    kube: KubeClient
    metrics: Metrics
    """Those of the namespace."""
    organization_cache: OrganizationCache
    delivery_counter: DeliveryCounter
    write_probe: WriteProbe
    event_writer: EventWriter
    unlisted_actions: UnlistedActionCounter
    process_metrics: Metrics

    def __post_init__(self) -> None:
        show_start(self.process_metrics, self.name)
        self.metrics.organizations_age_seconds.set_function(self._age_seconds)

    def _age_seconds(self) -> float:
        """Return the age of the organizations. It is 0 where they were never read because only this namespace
        is missing: no token of them is valid, and another metric shows it."""
        cache = self.organization_cache
        if not cache.is_synced and self.process_metrics.is_missing_alone(self.name):
            return 0.0
        return cache.age_seconds

    @cached_property
    def name(self) -> str:
        """The namespace."""
        return self.kube.namespace

    async def run(self) -> None:
        """Follow the organizations and write the counts, until ``close``; then write the rest."""
        report = partial(show_namespace, self.process_metrics, self.name)
        async with asyncio.TaskGroup() as tasks:
            watch = tasks.create_task(self.organization_cache.watch(self.kube, report))
            counting = tasks.create_task(self.delivery_counter.run())
            naming = tasks.create_task(self.unlisted_actions.run())
            await asyncio.wait({counting, naming})
            watch.cancel()

    def close(self) -> None:
        """Let ``run`` end once everything is written. Nothing may be counted after this."""
        self.unlisted_actions.close()
        self.delivery_counter.close()


ReceiverNamespaces = NamespaceTable[ReceiverNamespace]


class OrganizationsReading:
    """
    Whether the receiver knows the organizations: readiness.

    It starts once each namespace was asked for, and one of them was read. A namespace that is added later
    delays nobody: until it is read, its own callbacks are answered 503.
    """

    def __init__(self, namespaces: ReceiverNamespaces) -> None:
        self._namespaces = namespaces
        self._has_started = False

    async def check(self) -> str | None:
        """Return why the receiver is not ready, or None."""
        caches = [each.organization_cache for each in self._namespaces]
        is_any_read = any(each.is_synced for each in caches)
        if is_any_read and all(each.is_synced or each.has_failed for each in caches):
            self._has_started = True
        return None if is_any_read and self._has_started else "they are not read yet"


async def writing_fails(namespaces: ReceiverNamespaces) -> str | None:
    """Return why the receiver can write in no namespace, or None: the trouble of one namespace is not that of
    the others."""
    return await reason_of_all(each.write_probe.check for each in namespaces)
