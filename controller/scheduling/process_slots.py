"""
The slots of a process for running events, which its namespaces share: pure bookkeeping.

A free slot goes to a namespace that has an event for it: first to one whose event is of no Import, then to
the one with the fewest running events; equal ones take turns. Events of Imports leave a quarter of the slots
free that no other events use. While a process works in several namespaces, each leaves a quarter free for the
others, so the first event of a namespace does not wait for the end of another one's run. Within a namespace,
``FairQueue`` decides.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple


class _Claim(NamedTuple):
    """The use that a namespace has for a slot."""

    is_import: bool
    limit: int


@dataclass
class ProcessSlots:
    """Counts the running events of each namespace, and knows which ones wait for a slot."""

    _members: dict[str, Callable[[], None]] = field(default_factory=dict)
    """The function that wakes each namespace in which work runs."""
    _in_use: Counter[str] = field(default_factory=Counter)
    _imports: Counter[str] = field(default_factory=Counter)
    """The part of them with events of Imports."""
    _claims: dict[str, _Claim] = field(default_factory=dict)
    _turns: dict[str, int] = field(default_factory=dict)
    """Order of the namespaces: a lower number took a slot earlier."""
    _last_turn: int = 0

    def join(self, namespace: str, wake: Callable[[], None]) -> None:
        """Let a namespace have slots; ``wake`` is called when it may have got room."""
        self._members[namespace] = wake

    @property
    def in_use(self) -> int:
        """Number of slots that are taken, over all namespaces."""
        return self._in_use.total()

    def share(self, limit: int) -> int:
        """Return the part of a limit of the process that one namespace may use: all of it while there is no
        other one."""
        return limit if len(self._members) <= 1 else less_a_quarter(limit)

    def leave(self, namespace: str) -> None:
        """Give up the slots and the claim of a namespace that is no longer served."""
        for book in (self._members, self._in_use, self._imports, self._claims, self._turns):
            book.pop(namespace, None)
        for wake in self._members.values():
            wake()

    def has_room(self, namespace: str, claim: _Claim) -> bool:
        """Whether a namespace may take a slot now, and no other one comes before it."""
        if not self._is_below_limits(namespace, claim):
            return False
        rank = self._rank(namespace, claim)
        return not any(
            self._rank(other, waiting) < rank and self._is_below_limits(other, waiting)
            for other, waiting in self._claims.items()
            if other != namespace
        )

    def take(self, namespace: str, *, is_import: bool) -> None:
        """Count a slot, and let the namespace wait behind equal ones."""
        self._in_use[namespace] += 1
        self._imports[namespace] += is_import
        self._last_turn += 1
        self._turns[namespace] = self._last_turn

    def release(self, namespace: str, *, is_import: bool) -> None:
        """Free a slot, and wake the namespace that comes first."""
        if namespace in self._members:
            self._in_use[namespace] -= 1
            self._imports[namespace] -= is_import
            self._wake_first(by=None)

    def set_claim(self, namespace: str, claim: _Claim | None) -> None:
        """Note what a namespace waits for, if anything, and wake the next one if it has room."""
        self._claims.pop(namespace, None)
        if claim is not None and namespace in self._members:
            self._claims[namespace] = claim
        self._wake_first(by=namespace)

    def _wake_first(self, *, by: str | None) -> None:
        """Wake the namespace that comes first, unless it is the one that has just looked for room itself."""
        waiting = sorted(self._claims, key=lambda each: self._rank(each, self._claims[each]))
        first = next((each for each in waiting if self._is_below_limits(each, self._claims[each])), None)
        if first is not None and first != by:
            self._members[first]()

    def _is_below_limits(self, namespace: str, claim: _Claim) -> bool:
        if claim.is_import and self._imports.total() >= self._share_of_imports(claim.limit):
            return False
        return self.in_use < claim.limit and self._in_use[namespace] < self.share(claim.limit)

    def _share_of_imports(self, limit: int) -> int:
        """Return how many events of Imports may run beside the others."""
        others = self.in_use - self._imports.total()
        free = max(0, limit - others)
        return free - max(1, free // 4) if others else less_a_quarter(limit)

    def _rank(self, namespace: str, claim: _Claim) -> tuple[bool, int, int]:
        return claim.is_import, self._in_use[namespace], self._turns.get(namespace, 0)


@dataclass(frozen=True)
class NamespaceSlots:
    """The part of one namespace in the slots of its process."""

    process: ProcessSlots
    namespace: str
    wake: Callable[[], None]

    @classmethod
    def alone(cls) -> "NamespaceSlots":
        """Return the slots of a process that has one queue."""
        slots = cls(ProcessSlots(), "", lambda: None)
        slots.join()
        return slots

    def join(self) -> None:
        """Have slots from now on: the queue runs. Until then, the namespace keeps none from others."""
        self.process.join(self.namespace, self.wake)

    def has_room(self, limit: int, *, is_import: bool) -> bool:
        """Whether an event may take a slot now; ``limit``: the slots of the process."""
        return self.process.has_room(self.namespace, _Claim(is_import, limit))

    def take(self, *, is_import: bool) -> None:
        """Take a slot."""
        self.process.take(self.namespace, is_import=is_import)

    def release(self, *, is_import: bool) -> None:
        """Free a slot."""
        self.process.release(self.namespace, is_import=is_import)

    def claim(self, limit: int, *, is_import: bool) -> None:
        """Wait for a slot: an event would run with it."""
        self.process.set_claim(self.namespace, _Claim(is_import, limit))

    def claim_nothing(self) -> None:
        """Wait for no slot."""
        self.process.set_claim(self.namespace, None)

    def leave(self) -> None:
        """Give up everything: the queue has ended."""
        self.process.leave(self.namespace)


def less_a_quarter(limit: int) -> int:
    """Return the part of a limit that Imports, or one of several namespaces, may use; at least one."""
    return max(1, limit - max(1, limit // 4))
