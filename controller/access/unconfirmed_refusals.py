"""
The 401 answers without an error id, and the keys that they prove to be refused. A proxy's 401 looks as
eSAW's, unless it is a web page, which is none of these answers.

A key counts as refused only when eSAW refuses it again a while later. If the keys of several senders of one
Organization, or of several Organizations with one eSAW, began to be refused at about the same time, and eSAW
accepts none since, the cause is not in the keys. A key that was refused long before says nothing about
another one, however often it is checked again. Memory only: after a restart a refusal has to be confirmed
again; the Sender's condition says since when a key is refused, and whether the cause was a common one. All
times in memory are seconds of the clock that is never set.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from math import inf

from counterfoil.clock import Clock, believed_time
from counterfoil.esaw.token import ApiToken
from counterfoil.resources import Sender, find_condition

CONFIRMATION = timedelta(minutes=1)
"""Time from the first 401 to the question that confirms it."""

COMMON_CAUSE_SECONDS = 600.0
"""Maximum time between the first refusals of two keys with one cause, and maximum age of the last refusal of
each; refused keys are checked every five minutes."""


@dataclass(frozen=True)
class _Refusal:
    fingerprint: str
    first: float
    last: float
    common_at: float = -inf
    """Time at which the cause was found to be common. A key that is refused later can have the same cause, if
    eSAW has accepted none since."""


class KeyRefusals:
    """The unconfirmed and confirmed refusals of the senders' present keys, by Sender."""

    def __init__(self, clock: Clock, confirmation: timedelta) -> None:
        self._clock = clock
        self._confirmation = confirmation.total_seconds()
        self._refusals: dict[str, _Refusal] = {}
        self._accepted: dict[str, float] = {}
        """Times at which eSAW accepted a key last."""

    def add(self, sender: Sender, token: ApiToken) -> timedelta:
        """Record a 401; return the time until the next one confirms it, which has passed if it is not
        positive."""
        now = self._clock.monotonic()
        known = (
            self._find(sender, token)
            or self._recorded(sender, token.fingerprint)
            or _Refusal(token.fingerprint, now, now)
        )
        self._refusals[sender.name] = replace(known, last=now)
        return self._until_confirmation(known)

    def accepted(self, sender: Sender) -> None:
        """Record that eSAW accepted the sender's key."""
        self._refusals.pop(sender.name, None)
        self._accepted[sender.name] = self._clock.monotonic()

    def recall(self, sender: Sender) -> None:
        """Record a refusal with a common cause that only the Sender's condition knows, as after a restart."""
        key = sender.status.key
        if sender.name in self._refusals or key is None or key.fingerprint is None:
            return
        recorded = self._recorded(sender, key.fingerprint)
        if recorded is not None and recorded.common_at > -inf:
            self._refusals[sender.name] = recorded

    def until_confirmation(self, sender: Sender, token: ApiToken) -> timedelta | None:
        """Return the time until another 401 confirms the refusal of this key; None: it was not refused."""
        known = self._find(sender, token)
        return self._until_confirmation(known) if known is not None else None

    def is_common(self, sender: Sender, others: Sequence[str]) -> bool:
        """Whether the keys of some of these other Senders are refused for the same cause, and eSAW accepted
        none of all these keys since they are."""
        own, now = self._refusals.get(sender.name), self._clock.monotonic()
        if own is None:
            return False
        accepted = max(self._accepted.get(each, -inf) for each in (sender.name, *others))
        return any(
            now - other.last <= COMMON_CAUSE_SECONDS
            and (other.common_at > accepted or abs(own.first - other.first) <= COMMON_CAUSE_SECONDS)
            and accepted <= max(own.first, other.first)
            for other in (self._refusals[each] for each in others if each in self._refusals)
        )

    def set_common(self, sender: Sender, *, is_common: bool) -> None:
        """Record whether the refusal of the sender's key has a common cause."""
        if (own := self._refusals.get(sender.name)) is not None:
            common_at = self._clock.monotonic() if is_common else -inf
            self._refusals[sender.name] = replace(own, common_at=common_at)

    def forget(self, name: str) -> None:
        """Drop the state of a deleted Sender."""
        self._refusals.pop(name, None)
        self._accepted.pop(name, None)

    def _find(self, sender: Sender, token: ApiToken) -> _Refusal | None:
        known = self._refusals.get(sender.name)
        return known if known is not None and known.fingerprint == token.fingerprint else None

    def _until_confirmation(self, refusal: _Refusal) -> timedelta:
        return timedelta(seconds=refusal.first + self._confirmation - self._clock.monotonic())

    def _recorded(self, sender: Sender, fingerprint: str) -> _Refusal | None:
        """Return the refusal that the Sender's condition records of this key."""
        refused, key = find_condition(sender.status.conditions, "Authorized"), sender.status.key
        if (
            refused is None
            or refused.status != "False"
            or refused.reason not in ("TokenRejected", "KeysRejected")
        ):
            return None
        if key is None or key.fingerprint != fingerprint:
            return None
        now, monotonic = self._clock.now(), self._clock.monotonic()
        since = believed_time(refused.last_transition_time, now) or now
        first = monotonic - max(0.0, (now - since).total_seconds())
        common_at = monotonic if refused.reason == "KeysRejected" else -inf
        return _Refusal(fingerprint, first, monotonic, common_at)
