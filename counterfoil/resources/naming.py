"""
How an event is named, labelled and sharded: the one place that knows (rule 2, "one key, one event").

The same callback always gives the same name, through however many receivers it arrives; the sweep uses the
same function, so that what it finds and what eSAW calls about can never be two events.
"""

import hashlib
import re
from typing import NewType

EnvelopeId = NewType("EnvelopeId", str)
"""A GUID in lower case with hyphens, as in ``0f9c1c2e-…``. (Namirial: "We are using the GUID format for envelope IDs")"""

SHARD_COUNT = 64
"""Every event carries one of so many shards; a controller takes those that its own number leaves as remainder."""

_GUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_ACTION = re.compile(r"[A-Za-z][A-Za-z0-9]{0,63}")


def envelope_id(text: str) -> EnvelopeId:
    """Read an envelope id in any letter case. Raises ``ValueError`` when it is no GUID."""
    lowered = text.lower()
    if _GUID.fullmatch(lowered) is None:
        raise ValueError("an envelope id is a GUID, as in 01234567-89ab-cdef-0123-456789abcdef")
    return EnvelopeId(lowered)


def is_action(text: str) -> bool:
    """Whether this can be the name of an eSAW action: a letter, then at most 63 letters and digits."""
    return _ACTION.fullmatch(text) is not None


def event_name(organization: str, envelope: EnvelopeId, action: str, workstep_id: str = "") -> str:
    """Return the name of the one EnvelopeEvent for this organization, envelope, action and workstep."""
    # NUL can be in none of the four, so no two keys can run into each other.
    key = "\0".join((organization, envelope, action, workstep_id))
    return f"{envelope}-{hashlib.sha256(key.encode()).hexdigest()[:10]}"


def envelope_of(event: str) -> EnvelopeId:
    """Return the envelope that an EnvelopeEvent of this name is about, also when nothing else of it can be read."""
    return EnvelopeId(event[:36])


def consented_sender_name(organization: str, user_id: str) -> str:
    """Return the name of the Sender that a user's consent makes, equal for any letter case of the user id."""
    return hashlib.sha256(f"{organization}\0{user_id.lower()}".encode()).hexdigest()[:16]


def shard(envelope: EnvelopeId) -> int:
    """Return the envelope's shard, 0..63: equal for all events of one envelope, so that they meet in one process."""
    return int.from_bytes(hashlib.sha256(envelope.encode()).digest()[:8], "big") % SHARD_COUNT
