"""
The 401 answers without an error id, and the keys that they prove to be refused. A proxy's 401 looks as
eSAW's.

A key counts as refused only when eSAW refuses it again a while later. If the keys of several senders of one
Organization are refused meanwhile, and eSAW accepts none, the cause is not in the keys. Memory only: after a
restart a refusal has to be confirmed again.
"""

from collections import defaultdict
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from counterfoil.clock import Clock
from counterfoil.esaw.token import ApiToken
from counterfoil.resources import Sender

CONFIRMATION = timedelta(minutes=1)
"""Time from the first 401 to the question that confirms it."""

COMMON_CAUSE = timedelta(minutes=10)
"""Maximum age of another sender's refusal that counts as the same cause; refused keys are checked every five
minutes."""


@dataclass(frozen=True)
class _Refusal:
    fingerprint: str
    first: datetime
    last: datetime


class KeyRefusals:
    """The unconfirmed and confirmed refusals of the senders' present keys, by Organization and Sender."""

    def __init__(self, clock: Clock, confirmation: timedelta) -> None:
        self._clock = clock
        self._confirmation = confirmation
        self._refusals: defaultdict[str, dict[str, _Refusal]] = defaultdict(dict)
        self._accepted: dict[str, datetime] = {}

    def add(self, sender: Sender, token: ApiToken) -> datetime:
        """Record a 401; return from when on the next one confirms it."""
        now = self._clock.now()
        known = self._find(sender, token) or _Refusal(token.fingerprint, now, now)
        self._refusals[_organization(sender)][sender.name] = replace(known, last=now)
        return known.first + self._confirmation

    def accepted(self, sender: Sender) -> None:
        """Record that eSAW accepted the sender's key."""
        self._refusals[_organization(sender)].pop(sender.name, None)
        self._accepted[_organization(sender)] = self._clock.now()

    def confirmable_at(self, sender: Sender, token: ApiToken) -> datetime | None:
        """Return from when on another 401 confirms the refusal of this key; None: it was not refused."""
        known = self._find(sender, token)
        return known.first + self._confirmation if known is not None else None

    def is_common(self, sender: Sender) -> bool:
        """Whether keys of other senders are refused too, and eSAW accepted none since they all are."""
        refusals, now = self._refusals[_organization(sender)], self._clock.now()
        own, accepted = refusals.get(sender.name), self._accepted.get(_organization(sender))
        return own is not None and any(
            now - other.last <= COMMON_CAUSE and (accepted is None or accepted <= max(own.first, other.first))
            for name, other in refusals.items()
            if name != sender.name
        )

    def forget(self, name: str) -> None:
        """Drop the refusal of a deleted Sender."""
        for refusals in self._refusals.values():
            refusals.pop(name, None)

    def _find(self, sender: Sender, token: ApiToken) -> _Refusal | None:
        known = self._refusals[_organization(sender)].get(sender.name)
        return known if known is not None and known.fingerprint == token.fingerprint else None


def _organization(sender: Sender) -> str:
    return sender.spec.organization_ref.name
