"""
Write the status of Organizations and Senders: apply a change to the newest state until no other write
interferes.

A change is a pure function from status to status. It runs again after a conflict, and raises ``ClaimLost``
when the newest state makes it void.
"""

from collections.abc import Callable
from typing import Any, TypeVar

from msgspec.structs import replace

from controller.cache import Cache
from controller.notifications.problem_tracking import Problems
from counterfoil.kube.client import KubeClient
from counterfoil.kube.status import apply_change
from counterfoil.resources import Organization, OrganizationStatus, Sender, SenderStatus

K = TypeVar("K", Organization, Sender)


class ClaimLost(Exception):
    """Another process claimed the mail first, or the mail is no longer due."""


class NotificationStatusWriter:
    """Writes what the notifier records about problems and mails."""

    def __init__(
        self, kube: KubeClient, cache: Cache, changed: Callable[[Organization | Sender], None]
    ) -> None:
        """``changed`` is called with every new state that was written."""
        self._kube = kube
        self._cache = cache
        self._changed = changed

    async def problems(self, organization: str, change: Callable[[Problems], Problems]) -> Organization:
        """Change the problems of an Organization. Raises ``ApiError``, and what ``change`` raises."""
        return await self.organization(
            organization, lambda status: replace(status, problems=change(status.problems))
        )

    async def organization(
        self, name: str, change: Callable[[OrganizationStatus], OrganizationStatus]
    ) -> Organization:
        """Change the status of an Organization. Raises ``ApiError``, and what ``change`` raises."""
        return await self._write(Organization, name, self._cache.organizations.get(name), change)

    async def sender(self, name: str, change: Callable[[SenderStatus], SenderStatus]) -> Sender:
        """Change the status of a Sender. Raises ``ApiError``, and what ``change`` raises."""
        return await self._write(Sender, name, self._cache.senders.get(name), change)

    async def _write(self, kind: type[K], name: str, known: K | None, change: Callable[[Any], Any]) -> K:
        written = await apply_change(self._kube, kind, name, known, lambda each: change(each.status))
        if written is not known:
            self._changed(written)
        return written
