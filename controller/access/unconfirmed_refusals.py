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

All keys of an Organization can be refused, and each is checked again every five minutes. So no question looks
at all of them. It ends with two keys that show a common cause, and leaves out those that show none until they
are refused again.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from math import inf

from controller.cache import OrganizationSenders
from counterfoil.clock import Clock, believed_time
from counterfoil.esaw.token import ApiToken
from counterfoil.resources import Sender, find_condition

CONFIRMATION = timedelta(minutes=1)
"""Time from the first 401 to the question that confirms it."""

COMMON_CAUSE_SECONDS = 600.0
"""Maximum time between the first refusals of two keys with one cause, and maximum age of the last refusal of
each; refused keys are checked every five minutes."""

_COMMON = "KeysRejected"
"""Reason of a refusal with a common cause."""


@dataclass(frozen=True)
class _Refusal:
    fingerprint: str
    first: float
    last: float | None
    """None: only the Sender's condition says it. It counts as one of the time of the next question."""
    common_in: int | None = None
    """Number of keys that eSAW had accepted when the cause was found to be common; a further one ends that.
    A key that is refused later can have the same cause."""


class _Times:
    """The first refusals of keys in the order of time."""

    def __init__(self) -> None:
        self._entries: list[tuple[float, str]] = []

    def add(self, first: float, sender: str) -> None:
        at = bisect_left(self._entries, (first, sender))
        if self._entries[at : at + 1] != [(first, sender)]:
            self._entries.insert(at, (first, sender))

    def discard(self, first: float, sender: str) -> None:
        at = bisect_left(self._entries, (first, sender))
        if self._entries[at : at + 1] == [(first, sender)]:
            del self._entries[at]

    def clear(self) -> None:
        self._entries.clear()

    def count(self, start: float, end: float, needed: int, shows: Callable[[str], bool]) -> int:
        """Return how many of this time show a common cause, at most the number that is needed. Those that do
        not are dropped."""
        entries, found = self._entries, list[tuple[float, str]]()
        begin = at = bisect_left(entries, (start, ""))
        while len(found) < needed and at < len(entries) and entries[at][0] <= end:
            if shows(entries[at][1]):
                found.append(entries[at])
            at += 1
        entries[begin:at] = found
        return len(found)


@dataclass
class _OrganizationRefusals:
    """The refusals of one Organization."""

    by_sender: dict[str, _Refusal] = field(default_factory=dict)
    times: _Times = field(default_factory=_Times)
    """Without those that showed no common cause since the last refusal of the key."""
    observed: list[str] = field(default_factory=list)
    """Those that only a condition said since the last question."""
    common: _Times = field(default_factory=_Times)
    """Those whose cause was found to be common."""
    accepted: int = 0
    """Number of times that eSAW accepted a key."""
    accepted_at: float = -inf

    def put(self, sender: str, refusal: _Refusal) -> None:
        known = self.by_sender.get(sender)
        if known is not None and known.first != refusal.first:
            self.remove(sender)
        self.by_sender[sender] = refusal
        self.times.add(refusal.first, sender)
        if refusal.common_in == self.accepted:
            self.common.add(refusal.first, sender)
        else:
            self.common.discard(refusal.first, sender)

    def remove(self, sender: str) -> None:
        known = self.by_sender.pop(sender, None)
        if known is not None:
            self.times.discard(known.first, sender)
            self.common.discard(known.first, sender)


class KeyRefusals:
    """The unconfirmed and confirmed refusals of the senders' present keys, by Organization and Sender."""

    def __init__(self, clock: Clock, confirmation: timedelta) -> None:
        self._clock = clock
        self._confirmation = confirmation.total_seconds()
        self._refused: defaultdict[str, _OrganizationRefusals] = defaultdict(_OrganizationRefusals)

    def add(self, sender: Sender, token: ApiToken) -> timedelta:
        """Record a 401; return the time until the next one confirms it, which has passed if it is not
        positive."""
        now = self._clock.monotonic()
        known = (
            self._find(sender, token)
            or self._recorded(sender, token.fingerprint)
            or _Refusal(token.fingerprint, now, now)
        )
        self._of(sender).put(sender.name, replace(known, last=now))
        return self._until_confirmation(known)

    def accepted(self, sender: Sender) -> None:
        """Record that eSAW accepted the sender's key."""
        refused = self._of(sender)
        refused.remove(sender.name)
        refused.common.clear()
        refused.accepted += 1
        refused.accepted_at = self._clock.monotonic()

    def observe(self, sender: Sender) -> None:
        """Record a refusal with a common cause that only the Sender's condition knows, as after a restart."""
        # A Sender may name an Organization that does not exist.
        refused = self._refused.get(sender.spec.organization_ref.name)
        known, key = refused.by_sender.get(sender.name) if refused is not None else None, sender.status.key
        if known is not None and known.last is not None:
            return
        fingerprint = key.fingerprint if key is not None else None
        recorded = self._recorded(sender, fingerprint) if fingerprint is not None else None
        if recorded is not None and recorded.common_in is not None:
            if known is None or known.fingerprint != recorded.fingerprint:
                of_organization = self._of(sender)
                of_organization.put(sender.name, replace(recorded, last=None))
                of_organization.observed.append(sender.name)
        elif refused is not None:
            refused.remove(sender.name)

    def until_confirmation(self, sender: Sender, token: ApiToken) -> timedelta | None:
        """Return the time until another 401 confirms the refusal of this key; None: it was not refused."""
        known = self._find(sender, token)
        return self._until_confirmation(known) if known is not None and known.last is not None else None

    def is_common(self, sender: Sender, senders: OrganizationSenders) -> bool:
        """
        Whether keys of other senders of the Organization are refused for the same cause, and eSAW accepted
        none since they all are.

        Only keys that worked before show that, at least two: any text is refused as a key.
        """
        refused, now = self._of(sender), self._clock.monotonic()
        own = refused.by_sender.get(sender.name)
        if own is None:
            return False

        for name in refused.observed:
            if (known := refused.by_sender.get(name)) is not None and known.last is None:
                refused.by_sender[name] = replace(known, last=now)
        refused.observed.clear()

        def shows(name: str) -> bool:
            each, other = senders.all.get(name), refused.by_sender[name]
            is_recent = other.last is not None and now - other.last <= COMMON_CAUSE_SECONDS
            return is_recent and each is not None and _has_worked(each, other)

        # The own refusal is in neither list meanwhile: it shows nothing about others.
        refused.remove(sender.name)
        earliest = refused.accepted_at if own.first < refused.accepted_at else -inf
        near = max(earliest, own.first - COMMON_CAUSE_SECONDS), own.first + COMMON_CAUSE_SECONDS
        needed = 1 if _has_worked(sender, own) else 2
        is_common = (
            refused.common.count(earliest, inf, 1, shows) > 0
            or refused.times.count(*near, needed, shows) == needed
        )
        refused.put(sender.name, own)
        return is_common

    def set_common(self, sender: Sender, *, is_common: bool) -> None:
        """Record whether the refusal of the sender's key has a common cause."""
        refused = self._of(sender)
        if (own := refused.by_sender.get(sender.name)) is not None:
            refused.put(sender.name, replace(own, common_in=refused.accepted if is_common else None))

    def forget(self, name: str) -> None:
        """Drop the refusal of a deleted Sender."""
        for organization, refused in list(self._refused.items()):
            refused.remove(name)
            if not (refused.by_sender or refused.accepted):
                del self._refused[organization]

    def _of(self, sender: Sender) -> _OrganizationRefusals:
        return self._refused[sender.spec.organization_ref.name]

    def _find(self, sender: Sender, token: ApiToken) -> _Refusal | None:
        known = self._of(sender).by_sender.get(sender.name)
        return known if known is not None and known.fingerprint == token.fingerprint else None

    def _until_confirmation(self, refusal: _Refusal) -> timedelta:
        return timedelta(seconds=refusal.first + self._confirmation - self._clock.monotonic())

    def _recorded(self, sender: Sender, fingerprint: str) -> _Refusal | None:
        """Return the refusal that the Sender's condition records of this key."""
        refused, key = find_condition(sender.status.conditions, "Authorized"), sender.status.key
        if refused is None or refused.status != "False" or refused.reason not in ("TokenRejected", _COMMON):
            return None
        if key is None or key.fingerprint != fingerprint:
            return None
        now, monotonic = self._clock.now(), self._clock.monotonic()
        since = believed_time(refused.last_transition_time, now) or now
        first = monotonic - max(0.0, (now - since).total_seconds())
        common_in = self._of(sender).accepted if refused.reason == _COMMON else None
        return _Refusal(fingerprint, first, monotonic, common_in)


def _has_worked(sender: Sender, refusal: _Refusal) -> bool:
    """Whether eSAW accepted the refused key before."""
    key = sender.status.key
    return key is not None and key.fingerprint == refusal.fingerprint and key.verified_time is not None
