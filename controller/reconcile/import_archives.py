"""
The Archives that Imports name, in which an envelope may lie whose event was removed.

One process works on the Imports, and each one archives events. So they are read from the API server, once a
minute. Memory only.
"""

from dataclasses import dataclass, field
from typing import Final

from counterfoil.clock import Clock
from counterfoil.kube.client import KubeClient
from counterfoil.kube.errors import ApiError
from counterfoil.kube.watch import Raw
from counterfoil.resources import Import
from counterfoil.resources.routes import Choice

REMEMBERED_SECONDS: Final = 60.0
"""Time for which the Imports of an Organization count. What a new one archives has an event for days."""


@dataclass(frozen=True)
class ImportArchives:
    """The Archives of ``spec.archiveRef`` of all Imports."""

    kube: KubeClient
    clock: Clock
    _known: dict[str, tuple[float, tuple[Choice, ...]]] = field(default_factory=dict, init=False)
    """By Organization, with the time of the answer by the clock that is never set."""

    async def of(self, organization: str) -> tuple[Choice, ...]:
        """Return the Archives that Imports of an Organization name, each once, also those of Imports that are
        complete. Raises ``ApiError``."""
        since, known = self._known.get(organization, (float("-inf"), ()))
        if self.clock.monotonic() - since < REMEMBERED_SECONDS:
            return known
        fields, found = f"spec.organizationRef.name={organization}", dict[str, Choice]()
        async for raw, imported in self.kube.list_parsed(Import, fields=fields):
            if (name := _archive_of(raw, imported)) is not None:
                found.setdefault(name, Choice(name, None, raw["metadata"]["name"]))
        now = self.clock.monotonic()
        for name in [each for each, (at, _) in self._known.items() if now - at >= REMEMBERED_SECONDS]:
            # Those of a deleted Organization are never read again.
            del self._known[name]
        self._known[organization] = now, tuple(found.values())
        return tuple(found.values())

    async def may_name_one(self, organization: str) -> bool:
        """Return whether Imports of an Organization may name an Archive, as they may while they can't be
        read."""
        try:
            return bool(await self.of(organization))
        except ApiError:
            return True

    @property
    def remembered(self) -> set[str]:
        """The Organizations whose Imports are in memory."""
        return {*self._known}


def _archive_of(raw: Raw, imported: Import | None) -> str | None:
    """Return the Archive that an Import names; None for none, and for a dry run. One that this version can't
    read names it as well."""
    if imported is not None:
        ref = imported.spec.archive_ref
        return ref.name if ref is not None and not imported.spec.dry_run else None
    name = ((raw.get("spec") or {}).get("archiveRef") or {}).get("name")
    return name if isinstance(name, str) else None
