"""
Writing to the status of Organizations and Senders: a change on top of whatever stands there, until it holds.

A change is a pure function from status to status. It is asked again when somebody else wrote meanwhile, and may raise
``Lost`` when what stands there now makes it void.
"""

from collections.abc import Callable
from typing import Any, TypeVar

from msgspec.structs import replace

from controller.notify.ledger import Problems
from controller.office import Office
from counterfoil.cluster import Cluster, Conflict
from counterfoil.resources import Organization, OrganizationStatus, Sender, SenderStatus, merge_patch, plain

WRITES = 5
"""Tries to write a status that somebody else is writing too."""

K = TypeVar("K", Organization, Sender)


class Lost(Exception):
    """Another process was quicker."""


class Notes:
    """Writes."""

    def __init__(
        self, cluster: Cluster, office: Office, changed: Callable[[Organization | Sender], None]
    ) -> None:
        """``changed`` is told of every new state that was written."""
        self._cluster = cluster
        self._office = office
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
        return await self._write(Organization, name, self._office.organizations.get(name), change)

    async def sender(self, name: str, change: Callable[[SenderStatus], SenderStatus]) -> Sender:
        """Change the status of a Sender. Raises ``ApiProblem``, and what ``change`` raises."""
        return await self._write(Sender, name, self._office.senders.get(name), change)

    async def _write(self, kind: type[K], name: str, known: K | None, change: Callable[[Any], Any]) -> K:
        for _ in range(WRITES):
            resource = known or kind.parse(await self._cluster.get(kind, name))
            changes = merge_patch(plain(resource.status), plain(change(resource.status)))
            if not changes:
                return resource
            try:
                raw = await self._cluster.patch_status(
                    kind, name, changes, resource_version=resource.metadata.resource_version
                )
            except Conflict:
                known = None
                continue
            written = kind.parse(raw)
            self._changed(written)
            return written
        raise Conflict(409, "Conflict", f"{kind.KIND}/{name} is written by others all the time")
