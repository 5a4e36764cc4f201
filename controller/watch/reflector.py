"""
Lists and watch events of the API server -> the cache (client-go: Reflector).

An object that cannot be parsed is logged and ignored: the CRD refuses such objects, so it is from another
version of the CRD.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from controller.cache import Cache
from counterfoil.kube.client import KubeClient
from counterfoil.resources import Archive, EnvelopeEvent, Organization, Resource, ResourceInvalid, Sender

_log = logging.getLogger(__name__)

WATCHED_KINDS: Final[tuple[type[Resource], ...]] = (EnvelopeEvent, Organization, Sender, Archive)


@dataclass(frozen=True)
class Reflector:
    """Writes the state of the API server into the cache."""

    kube: KubeClient
    cache: Cache

    async def load(self) -> None:
        """
        Read all Organizations, Senders and Archives before the first event is reconciled.

        Otherwise an event could be reconciled before its Organization is known. Raises ``ApiError``.
        """
        for kind in (Organization, Sender, Archive):
            async for raw in self.kube.list(kind):
                self.handle(kind, None, raw)

    def handle(self, kind: type[Resource], type_: str | None, raw: Mapping[str, Any]) -> None:
        """Apply an object that was listed, added, changed or deleted (an event: or finished) to the cache."""
        if type_ == "DELETED":
            metadata = raw["metadata"]
            self.cache.delete(kind, metadata["name"], int(metadata["resourceVersion"]))
            return
        try:
            resource = kind.parse(raw)
        except ResourceInvalid as invalid:
            _log.error("an object can't be read and is ignored: %s", invalid)
            return
        self.cache.update(resource)
