"""
Names and shards of events (rule 2, "one key, one event").

The same callback has the same name in every receiver. The sweep uses the same function, so that an envelope
found by the sweep and its callback are one event.
"""

import hashlib
import re
import uuid
from typing import Final, NewType

from counterfoil.resources.base import ValidationRule

EnvelopeId = NewType("EnvelopeId", str)
"""A GUID in lower case with hyphens, as in ``0f9c1c2e-…``. (Namirial: "We are using the GUID format for
envelope IDs")"""

SHARD_COUNT = 64
"""Number of values of an event's shard. The holder of Lease k of n has those with remainder k modulo n."""

_GUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_ACTION = re.compile(r"[A-Za-z][A-Za-z0-9]{0,63}")

ENVELOPE_ID_RULE = ValidationRule(
    f"self.matches(r'^{_GUID.pattern}$')",
    "an envelope id is a GUID in lower case, as in 0f9c1c2e-5d1b-4f6e-9c55-2f1f0a3b7d10",
)
ACTION_RULE = ValidationRule(
    f"self.matches(r'^{_ACTION.pattern}$')",
    "an action is a letter, then at most 63 letters and digits, as in envelopeFinished",
)
PARAMETER_NAME_RULE = ValidationRule(
    "self.matches(r'^[A-Za-z][A-Za-z0-9_.-]{0,62}$')",
    "a parameter's name is a letter, then at most 62 letters, digits, dots, hyphens and _",
)
TAG_NAME_RULE = ValidationRule(
    "self.matches(r'^[A-Za-z_][A-Za-z0-9_.-]{0,62}$')",
    "a tag's name is a letter or _, then at most 62 letters, digits, dots, hyphens and _",
)
PATTERN_RULE = ValidationRule(
    "'x'.matches(self) || !'x'.matches(self)",
    "pattern is not a regular expression (syntax of RE2)",
)
"""True of each pattern that the API server can read."""


def envelope_id(text: str) -> EnvelopeId:
    """Read an envelope id in any letter case. Raises ``ValueError`` when it is not a GUID."""
    lowered = text.lower()
    if _GUID.fullmatch(lowered) is None:
        raise ValueError("an envelope id is a GUID, as in 01234567-89ab-cdef-0123-456789abcdef")
    return EnvelopeId(lowered)


def is_action(text: str) -> bool:
    """Whether the text is a valid eSAW action: a letter, then at most 63 letters and digits."""
    return _ACTION.fullmatch(text) is not None


def action_label(action: str) -> str:
    """Return the value of the label for an action: a label has at most 63 characters, one fewer than an
    action."""
    return action[:63]


def is_envelope_action(action: str) -> bool:
    """Whether an action is about the whole envelope, as ``envelopeFinished``; others are about a workstep."""
    return action.lower().startswith("envelope")


def event_name(organization: str, envelope: EnvelopeId, action: str, workstep_id: str = "") -> str:
    """Return the name of the one EnvelopeEvent for this organization, envelope, action and, unless the action
    is about the whole envelope, workstep."""
    workstep_id = "" if is_envelope_action(action) else workstep_id
    # No part can contain NUL, so different keys have different texts.
    key = "\0".join((organization, envelope, action, workstep_id))
    return f"{envelope}-{hashlib.sha256(key.encode()).hexdigest()[:16]}"


def envelope_of(event: str) -> EnvelopeId:
    """Return the envelope id in the name of an EnvelopeEvent, also if the rest of the object is
    unreadable."""
    return EnvelopeId(event[:36])


def consented_sender_name(organization: str, user_id: str) -> str:
    """Return the name of the Sender that a user's consent creates, equal for any notation of the user id."""
    return hashlib.sha256(f"{organization}\0{_canonical_user_id(user_id)}".encode()).hexdigest()[:16]


def is_same_user(user_id: str, other: str) -> bool:
    """Whether two user ids are of one user: equal as GUIDs if both are, else equal in any letter case."""
    return _canonical_user_id(user_id) == _canonical_user_id(other)


def _canonical_user_id(user_id: str) -> str:
    try:
        return str(uuid.UUID(user_id))
    except ValueError:
        return user_id.lower()


UNSHARDED_WORK: Final = ("walk", "events")
"""Kind and name, as of a shared object, of the work that only one controller does: the garbage collector's
pass, the checks of Organizations, mails. These words decide its shard, so they stay as they are."""


def shard_of_shared_object(kind: str, name: str, count: int) -> int:
    """Return the shard, of ``count``, whose holder writes the status of an object that no shard has alone."""
    digest = hashlib.sha256(f"{kind}/{name}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % count


def shard(envelope: EnvelopeId) -> int:
    """Return the envelope's shard, 0..63: equal for all events of one envelope, so that one process handles
    them."""
    return int.from_bytes(hashlib.sha256(envelope.encode()).digest()[:8], "big") % SHARD_COUNT
