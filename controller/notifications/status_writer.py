"""
Writing to the status of Organizations and Senders: a change on top of whatever stands there, until it holds.

A change is a pure function from status to status. It is asked again when somebody else wrote meanwhile, and may raise
``ClaimLost`` when what stands there now makes it void.
"""

from collections.abc import Callable
from typing import Any, TypeVar

from msgspec.structs import replace

from controller.cache import Cache
from controller.notifications.problem_tracking import Problems
from counterfoil.kube.client import KubeClient
from counterfoil.kube.errors import Conflict
from counterfoil.resources import (
    Organization,
    OrganizationStatus,
    Sender,
    SenderStatus,
    merge_patch,
    to_json_dict,
)

MAX_WRITES = 5
"""Tries to write a status that somebody else is writing too."""

K = TypeVar("K", Organization, Sender)


class ClaimLost(Exception):
    """Another process was quicker."""


class NotificationStatusWriter:
    """Writes."""

    def __init__(
        self, kube: KubeClient, cache: Cache, changed: Callable[[Organization | Sender], None]
    ) -> None:
        """``changed`` is told of every new state that was written."""
        self._kube = kube
        self._cache = cache
        self._changed = changed

    async def problems(self, organization: str, change: Callable[[Problems], Problems]) -> Organization:
        """Change the problems of an Organization. Raises ``ApiProblem``, and what ``change`` raises."""
        return await self.organization(
            organization, lambda status: replace(status, problems=change(status.problems))
        )

    async def organization(
        self, name: str, change: Callable[[OrganizationStatus], OrganizationStatus]
    ) -> Organization:
        """Change the status of an Organization. Raises ``ApiProblem``, and what ``change`` raises."""
        return await self._write(Organization, name, self._cache.organizations.get(name), change)

    async def sender(self, name: str, change: Callable[[SenderStatus], SenderStatus]) -> Sender:
        """Change the status of a Sender. Raises ``ApiProblem``, and what ``change`` raises."""
        return await self._write(Sender, name, self._cache.senders.get(name), change)

    async def _write(self, kind: type[K], name: str, known: K | None, change: Callable[[Any], Any]) -> K:
        for _ in range(MAX_WRITES):
            resource = known or kind.parse(await self._kube.get(kind, name))
            changes = merge_patch(to_json_dict(resource.status), to_json_dict(change(resource.status)))
            if not changes:
                return resource
            try:
                raw = await self._kube.patch_status(
                    kind, name, changes, resource_version=resource.metadata.resource_version
                )
            except Conflict:
                known = None
                continue
            written = kind.parse(raw)
            self._changed(written)
            return written
        raise Conflict(409, "Conflict", f"{kind.KIND}/{name} is written by others all the time")
