"""
Visitors: a person at the console, the API server as this person sees it, and what this person may do there.

What somebody may do is asked of the API server (SelfSubjectAccessReview) and remembered for half a minute, by a hash of the
token. It decides only what is offered: every act is the person's own call, and refused by the API server if need be.
"""

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from counterfoil.cluster import Cluster, Forbidden, Gate
from counterfoil.resources import GROUP
from webhook.console.limits import ConsoleLimits
from webhook.console.problems import Kind, Trouble

EVENTS, SENDERS, ARCHIVES, ORGANIZATIONS = "envelopeevents", "senders", "archives", "organizations"

_ASKED: Final = (
    *(
        (verb, kind, GROUP)
        for kind in (EVENTS, SENDERS, ARCHIVES, ORGANIZATIONS)
        for verb in ("list", "patch")
    ),
    ("list", "events", "events.k8s.io"),
    ("create", "events", "events.k8s.io"),
)


@dataclass(frozen=True)
class Rights:
    """What somebody may do in the console's namespace."""

    granted: frozenset[tuple[str, str]]

    def see(self, kind: str) -> bool:
        """Whether the kind may be listed."""
        return ("list", kind) in self.granted

    def change(self, kind: str) -> bool:
        """Whether objects of the kind may be changed."""
        return ("patch", kind) in self.granted

    @property
    def tell(self) -> bool:
        """Whether Kubernetes Events may be written."""
        return ("create", "events") in self.granted

    @property
    def sees_anything(self) -> bool:
        """Whether there is any page to show."""
        return any(self.see(kind) for kind in (EVENTS, SENDERS, ARCHIVES, ORGANIZATIONS))


@dataclass(frozen=True)
class Visitor:
    """Somebody who is signed in."""

    name: str
    cluster: Cluster
    rights: Rights
    form_token: str
    """What this visitor's forms carry."""


@dataclass(frozen=True)
class _Known:
    name: str
    rights: Rights
    until: float


class Visitors:
    """Tells who somebody is. ``monotonic`` is a clock in seconds that never goes back."""

    def __init__(self, gate: Gate, *, limits: ConsoleLimits, monotonic: Callable[[], float]) -> None:
        self._gate = gate
        self._limits = limits
        self._monotonic = monotonic
        self._known: OrderedDict[bytes, _Known] = OrderedDict()

    async def who(self, token: str) -> str:
        """Return whose token it is, asking the API server with the token itself. Raises ``Trouble``, ``ApiProblem``."""
        try:
            name = await self._gate.of(token).whoami()
        except Forbidden as refused:
            raise Trouble(Kind.TOKEN_REFUSED, str(refused)) from None
        if not name or name == "system:anonymous":
            raise Trouble(Kind.TOKEN_REFUSED, "the API server takes the token for nobody's")
        return name

    async def visitor(self, token: str, form_token: str) -> Visitor:
        """Return the visitor with this token. Raises ``Trouble``, ``ApiProblem``."""
        mark = hashlib.sha256(token.encode()).digest()
        known = self._known.get(mark)
        if known is None or known.until <= self._monotonic():
            known = await self._ask(token)
            self._known[mark] = known
            self._known.move_to_end(mark)
            while len(self._known) > self._limits.remembered:
                self._known.popitem(last=False)
        return Visitor(known.name, self._gate.of(token), known.rights, form_token)

    async def _ask(self, token: str) -> _Known:
        cluster = self._gate.of(token)
        name = await self.who(token)
        answers = await asyncio.gather(
            *(cluster.may(verb, kind, group=group) for verb, kind, group in _ASKED)
        )
        granted = frozenset((verb, kind) for (verb, kind, _), may in zip(_ASKED, answers, strict=True) if may)
        return _Known(name, Rights(granted), self._monotonic() + self._limits.rights_seconds)
