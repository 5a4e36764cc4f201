"""
The state of events that a person was shown before a request, so that it changes exactly these. Pure.

A request that changes several events, or one permanently, carries the number of events and a digest of their
names and states. Console, plugin and controller compare them again, also after a conflict. An event that no
longer matches is reported and stays as it is.
"""

import hashlib
from collections.abc import Iterable

from counterfoil.resources.envelopeevent import EnvelopeEvent


def state_of(event: EnvelopeEvent) -> str:
    """Return phase and cause of an event, such as ``Failed/ArchiveFull``."""
    return f"{event.status.phase}/{event.status.cause}"


def digest_of(events: Iterable[EnvelopeEvent]) -> str:
    """Return a SHA-256 in hex of the names, uids and states of events in any order."""
    lines = sorted(f"{each.name} {each.uid} {state_of(each)}" for each in events)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
