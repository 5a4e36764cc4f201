"""
The second Organization of a round: its own eSAW, sender, archive and administrators. It shares the processes,
the API server and the mail server with the first one. No fault is aimed at it, so all its work ends well.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from sandbox.environment.local import LocalEnvironment
from sandbox.environment.processes import CounterfoilProcess
from sandbox.esaw import CallbackUrls, DocumentSpec, StandIn, User
from sandbox.servers.proxies import Proxy, Ticks

NAME: Final = "neighbour"
"""Name of the Organization, of its Archive and of its folder."""
ADMINISTRATOR: Final = "ops@neighbour.example"
SHARE: Final = 10
"""Number of envelopes of the first Organization for each one of the second."""
INTERVAL_SECONDS: Final = 1.0
"""Interval between two of its envelopes, so that they meet all phases of a round."""


def seed_of(number: int) -> int:
    """Return the seed of its eSAW, so that no id and no key is one of the eSAW of the first Organization.
    ``random`` takes a seed and its negative for the same."""
    return number + 1_000_000


@dataclass(eq=False)
class Neighbour:
    """The second Organization; made by ``opened``."""

    esaw: StandIn
    way: Proxy
    """The proxy before its eSAW."""
    archive: Path
    """The folder in which its archive keeps its files."""
    user: User
    callback_url: Callable[[str, CounterfoilProcess], str]
    envelopes: list[str] = field(default_factory=list)

    async def send(self, count: int, receivers: list[CounterfoilProcess]) -> None:
        """Let this number of envelopes end in its eSAW, one after the other."""
        for number in range(count):
            url = self.callback_url(NAME, receivers[number % len(receivers)])
            envelope = self.esaw.add_envelope(
                sender=self.user,
                status="Active",
                documents=[DocumentSpec(name="lease.pdf", size=40_000)],
                callbacks=CallbackUrls(envelope=url),
            )
            self.envelopes.append(envelope)
            await self.esaw.complete(envelope)
            await asyncio.sleep(INTERVAL_SECONDS)

    def seconds(self) -> dict[str, float]:
        """Return the seconds from the accepted callback of each envelope to its delete, by the clock of
        eSAW."""
        accepted = {each.envelope_id: each.time for each in self.esaw.callbacks() if each.status == 200}
        return {
            envelope: (call.time - accepted[envelope]).total_seconds()
            for envelope in self.envelopes
            for call in self.esaw.delete_calls(envelope)
            if call.outcome == 200 and envelope in accepted
        }

    def strayed(self, first: StandIn) -> tuple[str, ...]:
        """Return the requests at either eSAW that are about an envelope, or have a key, of the other one."""
        return (
            *(f"{each.operation} at its eSAW" for each in self.esaw.requests() if self._is_foreign(each)),
            *(
                f"{each.operation} at the eSAW of the first Organization"
                for envelope in self.envelopes
                for each in first.requests(None, envelope)
            ),
        )

    def _is_foreign(self, request: Any) -> bool:
        # A key of another eSAW has no user here.
        has_other_key = request.token_sha256 is not None and request.user_id != self.user.user_id
        is_about_envelope = request.operation in {"envelope", "files", "delete"}
        return has_other_key or (is_about_envelope and request.id not in self.envelopes)


@asynccontextmanager
async def opened(
    environment: LocalEnvironment,
    ticks: Ticks,
    notifications: dict[str, Any],
    *,
    number: int,
    evidence_wait: str,
) -> AsyncIterator[Neighbour]:
    """Make the second Organization of the round with this number in the namespace of the first."""
    root = environment.folder / NAME
    root.mkdir()
    async with StandIn(seed=seed_of(number)) as esaw, Proxy(esaw.url, ticks=ticks) as way:
        user = esaw.add_user(email="nora@neighbour.example", given_name="Nora", surname="Baur")
        await environment.archive(NAME, filesystem={"root": str(root)})
        await environment.organization(
            NAME,
            archive=NAME,
            sender="nora",
            baseURL=way.url,
            evidence={"wait": evidence_wait},
            retry={"initial": "100ms", "max": "1s", "deadline": "10m"},
            notifications={**notifications, "administrators": [ADMINISTRATOR]},
        )
        await environment.sender("nora", user, organization=NAME, origin=way.url)
        yield Neighbour(esaw, way, root, user, environment.callback_url)
