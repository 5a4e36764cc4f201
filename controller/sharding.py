"""
Which of several controllers writes the status of a shared object.

Events belong to a shard by their label (``shard_selector``); Organizations, Senders and Archives by a hash of
their name.
"""

import hashlib
from dataclasses import dataclass


@dataclass(frozen=True)
class Shard:
    """One controller of ``count``."""

    number: int
    count: int

    def owns(self, kind: str, name: str) -> bool:
        """Whether this controller is the one that writes the status of a shared object."""
        digest = hashlib.sha256(f"{kind}/{name}".encode()).digest()
        return int.from_bytes(digest[:8], "big") % self.count == self.number

    @property
    def is_only(self) -> bool:
        """Whether there is no other controller."""
        return self.count == 1
