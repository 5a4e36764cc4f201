"""
The 401 answers without an error id, and the keys that they prove to be refused. A proxy's 401 looks as
eSAW's, unless it is a web page, which is none of these answers.

A key counts as refused only when eSAW refuses it again a while later. If the keys of several senders of one
Organization worked, and began to be refused at about the same time, and eSAW accepts none since, the cause is
not in the keys. A key that was refused long before says nothing about another one, however often it is
checked again.
Memory only: after a restart a refusal has to be confirmed again; the Sender's condition says since when a key
is refused, and whether the cause was a common one. All times in memory are seconds of the clock that is never
set.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import timedelta

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
    is_common: bool = False
    """Whether the cause was found to be common. A key that is refused later can have the same cause."""


class KeyRefusals:
    """The unconfirmed and confirmed refusals of the senders' present keys, by Organization and Sender."""

    def __init__(self, clock: Clock, confirmation: timedelta) -> None:
        self._clock = clock
        self._confirmation = confirmation.total_seconds()
        self._refusals: defaultdict[str, dict[str, _Refusal]] = defaultdict(dict)
        self._accepted: dict[str, float] = {}

    def add(self, sender: Sender, token: ApiToken) -> timedelta:
        """Record a 401; return the time until the next one confirms it, which has passed if it is not
        positive."""
        now = self._clock.monotonic()
        known = (
            self._find(sender, token)
            or self._recorded(sender, token.fingerprint)
            or _Refusal(token.fingerprint, now, now)
        )
        self._refusals[_organization(sender)][sender.name] = replace(known, last=now)
        return self._until_confirmation(known)

    def accepted(self, sender: Sender) -> None:
        """Record that eSAW accepted the sender's key."""
        refusals = self._refusals[_organization(sender)]
        refusals.pop(sender.name, None)
        for name, each in refusals.items():
            refusals[name] = replace(each, is_common=False)
        self._accepted[_organization(sender)] = self._clock.monotonic()

    def recall(self, sender: Sender) -> None:
        """Record a refusal with a common cause that only the Sender's condition knows, as after a restart."""
        refusals, key = self._refusals[_organization(sender)], sender.status.key
        if sender.name in refusals or key is None or key.fingerprint is None:
            return
        recorded = self._recorded(sender, key.fingerprint)
        if recorded is not None and recorded.is_common:
            refusals[sender.name] = recorded

    def until_confirmation(self, sender: Sender, token: ApiToken) -> timedelta | None:
        """Return the time until another 401 confirms the refusal of this key; None: it was not refused."""
        known = self._find(sender, token)
        return self._until_confirmation(known) if known is not None else None

    def is_common(self, sender: Sender, colleagues: Iterable[Sender]) -> bool:
        """
        Whether keys of these other senders are refused for the same cause, and eSAW accepted none since they
        all are.

        Only keys that worked before show that, at least two: any text is refused as a key.
        """
        refusals, now = self._refusals[_organization(sender)], self._clock.monotonic()
        own, accepted = refusals.get(sender.name), self._accepted.get(_organization(sender))
        if own is None:
            return False
        shown = [
            other
            for each in colleagues
            if (other := refusals.get(each.name)) is not None
            and _has_worked(each, other)
            and now - other.last <= COMMON_CAUSE_SECONDS
            and (other.is_common or abs(own.first - other.first) <= COMMON_CAUSE_SECONDS)
            and (accepted is None or accepted <= max(own.first, other.first))
        ]
        return any(each.is_common for each in shown) or len(shown) + _has_worked(sender, own) > 1

    def set_common(self, sender: Sender, *, is_common: bool) -> None:
        """Record whether the refusal of the sender's key has a common cause."""
        refusals = self._refusals[_organization(sender)]
        if (own := refusals.get(sender.name)) is not None:
            refusals[sender.name] = replace(own, is_common=is_common)

    def forget(self, name: str) -> None:
        """Drop the refusal of a deleted Sender."""
        for organization, refusals in list(self._refusals.items()):
            refusals.pop(name, None)
            if not refusals:
                del self._refusals[organization]

    def _find(self, sender: Sender, token: ApiToken) -> _Refusal | None:
        known = self._refusals[_organization(sender)].get(sender.name)
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
        return _Refusal(fingerprint, first, monotonic, is_common=refused.reason == "KeysRejected")


def _has_worked(sender: Sender, refusal: _Refusal) -> bool:
    """Whether eSAW accepted the refused key before."""
    key = sender.status.key
    return key is not None and key.fingerprint == refusal.fingerprint and key.verified_time is not None


def _organization(sender: Sender) -> str:
    return sender.spec.organization_ref.name
