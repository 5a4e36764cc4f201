"""
Which Senders may read the histories of their envelopes in eSAW. Memory only.

A history proves a delete also after a kill. Some users may not read any; eSAW's answer to the first question
tells.
"""

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from counterfoil.clock import Clock
from counterfoil.resources import Sender

REMEMBERED: Final = timedelta(days=1)
"""Time for which an answer counts: the rights of a user may be changed."""


@dataclass(frozen=True)
class HistoryAccess:
    """The answers of eSAW, by name of the Sender."""

    clock: Clock
    _found: dict[str, tuple[bool, float]] = field(default_factory=dict, init=False)

    def sender_changed(self, before: Sender | None, after: Sender | None) -> None:
        """Forget a Sender that was deleted."""
        if after is None and before is not None:
            self._found.pop(before.name, None)

    def is_readable(self, sender: str) -> bool | None:
        """Whether the Sender may read histories; None: eSAW must be asked."""
        readable, since = self._found.get(sender, (None, 0.0))
        return readable if self.clock.monotonic() - since < REMEMBERED.total_seconds() else None

    def found(self, sender: str, *, readable: bool) -> None:
        """Record whether eSAW showed a history to the Sender."""
        self._found[sender] = readable, self.clock.monotonic()
