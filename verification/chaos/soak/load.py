"""
The load and the faults of a soak test. Pure: the same seed gives the same envelopes, requests and faults.
"""

import random
from collections.abc import Iterator
from typing import Final, NamedTuple

from verification.chaos.plan import KINDS, OF_COPIES, OF_ROUTES, EnvelopeOrder, Fault, draw

ENVELOPES_PER_SECOND: Final = 2.0
FAULTS_PER_SECOND: Final = 0.5
"""Planned faults; some find no request to strike."""
SIZES: Final = {400: 30, 3_000: 30, 40_000: 30, 300_000: 9, 2_000_000: 1}
"""Bytes of documents, each with its share."""
REPEAT_SECONDS: Final = 8.0
"""Maximum time from the end of an envelope to a repeated callback."""
LEFT_OUT: Final = frozenset(
    {
        # A new process would hide the growth of the one before.
        "controller-killed",
        "receiver-killed",
        "shards-changed",
        # A restored etcd has lost events, and a wrong clock removes events too early.
        "etcd-restored",
        "clock-set",
        "clock-jumps-days",
        # An eSAW or a person that changes its settings changes what is measured.
        "esaw-foreign-ids",
        "esaw-callbacks-given-up",
        "esaw-find-flood",
        "person-suspends",
        "person-suspends-event",
        "person-skips",
        "person-relabels",
        # Only a folder as the archive has a disk that can be filled.
        "archive-disk-full",
        # There are neither copies nor routes.
        "person-suspends-archive",
        *OF_COPIES,
        *OF_ROUTES,
    }
)
"""Kinds of faults of the campaign that a soak test does not have."""
FAULTS: Final = tuple(name for name in KINDS if name not in LEFT_OUT)


class Request(NamedTuple):
    """A request to a receiver that no envelope causes."""

    kind: str
    method: str
    path: str
    """With ``{token}``, ``{envelope}`` and ``{organization}``."""
    status: int
    """The expected answer."""
    body_bytes: int = 0


FOREIGN: Final = "unknown envelope"
"""The kind of request that makes an event."""
_MINE: Final = "/callbacks/acme/{token}"
REQUESTS: Final = (
    Request(FOREIGN, "GET", f"{_MINE}?envelopeId={{envelope}}&action=envelopeFinished", 200),
    Request("unlisted action", "GET", f"{_MINE}?envelopeId={{envelope}}&action=somethingElse", 200),
    Request("wrong token", "GET", "/callbacks/acme/wrong?envelopeId={envelope}&action=envelopeFinished", 404),
    Request("unknown organization", "GET", "/callbacks/other/{token}?envelopeId={envelope}", 404),
    Request("invalid id", "GET", f"{_MINE}?envelopeId=1&action=envelopeFinished", 400),
    Request("invalid action", "GET", f"{_MINE}?envelopeId={{envelope}}&action=9", 400),
    Request("wrong method", "PUT", f"{_MINE}?envelopeId={{envelope}}", 405),
    Request("large body", "POST", f"{_MINE}?envelopeId={{envelope}}", 413, 70_000),
)  # fmt: skip


class Step(NamedTuple):
    """One moment of the load."""

    order: EnvelopeOrder
    repeats: tuple[float, ...]
    """Seconds until each repeated callback of the envelope."""
    request: Request | None


def steps(seed: int) -> Iterator[Step]:
    """Return the steps of the load, without end; one is taken ``ENVELOPES_PER_SECOND`` times a second."""
    chance = random.Random(f"load {seed}")
    while True:
        sizes = chance.choices(list(SIZES), list(SIZES.values()), k=chance.randint(1, 3))
        order = EnvelopeOrder(
            sizes=tuple(sizes),
            expired=chance.random() < 0.1,
            trail_differs=chance.random() < 0.2,
            legal=chance.choice((0, 0, 1)),
        )
        repeated = chance.randint(1, 3) if chance.random() < 0.3 else 0
        yield Step(
            order=order,
            repeats=tuple(round(chance.uniform(0, REPEAT_SECONDS), 2) for _ in range(repeated)),
            request=chance.choice(REQUESTS) if chance.random() < 0.4 else None,
        )


def faults(seed: int, wave: int, seconds: float) -> tuple[Fault, ...]:
    """Return the faults of one wave of this duration."""
    chance = random.Random(f"faults {seed}/{wave}")
    weights = [KINDS[each].weight for each in FAULTS]
    names = chance.choices(FAULTS, weights, k=round(seconds * FAULTS_PER_SECOND))
    envelopes = max(1, round(seconds * ENVELOPES_PER_SECOND))
    return tuple(draw(chance, name, envelopes) for name in names)
