"""
The plan of a round: envelopes, processes, and faults at random moments. Pure: the same seed and number give
the same plan.

The moment of a fault is a count of requests, not a time. So a round that is repeated meets the same fault at
the same step, as far as the order of the requests is the same.
"""

import math
import random
from collections.abc import Collection, Iterable
from typing import Final, NamedTuple

DEFAULT_FAULTS: Final = 600
"""Number of planned faults in a round."""
FAULTS_PER_ENVELOPE: Final = 8
"""Number of planned faults for each envelope of a round: with fewer envelopes, a round is shorter."""

FOLDER: Final = "filesystem"
REDIRECTED: Final = "/redirected"
"""Beginning of the path of a redirect, to another host, which nobody may follow."""
PLANTED: Final = ("forged", "sealed", "other-source", "garbage", "extra")
"""Kinds of files that another program writes into the folder of an envelope (``planted.py``)."""
ARCHIVES: Final = ("webdav", "webdav", "s3", "s3", FOLDER)
"""Archive kinds, each with its share of the rounds."""
SERVERS: Final = ("s3", "webdav")
"""Archive kinds with a server. Copies are at another one than their originals."""
AREAS: Final = ("HR", "Sales")
"""Values of the tag that decides where an envelope goes; the first one has a route."""


class FaultKind(NamedTuple):
    """One kind of fault: where it strikes, and its share."""

    way: str
    """The connection whose requests trigger it: ``api``, ``esaw``, ``archive`` or ``copy``."""
    operations: tuple[str, ...]
    """The requests that trigger it; one is drawn. ``*`` is any request."""
    weight: int
    """Share of the faults of a round."""
    at_most: float = 100
    """Maximum number among 100 faults of a round."""
    rounds: float = 1.0
    """Share of the rounds that have it."""
    points: tuple[str, ...] = ("ARRIVED",)
    """Names of ``TrapPoint``; one is drawn."""
    times: tuple[int, int] = (1, 1)
    """Range of the number of consecutive requests that it strikes."""
    seconds: tuple[float, float] = (0.0, 0.0)
    """Range of its duration, of the pause after each byte, or of the time by which a clock is set."""
    is_shared: bool = False
    """Whether it strikes what both Organizations of a round share, although its way is the first one's."""

    @property
    def is_of_first_organization(self) -> bool:
        """Whether it strikes nothing that both Organizations share."""
        return self.way in ("esaw", "archive", "copy") and not self.is_shared


API: Final = ("create", "status", "other", "lease", "secret", "watch", "list")
"""``other`` is a write to another kind than EnvelopeEvents."""
DISCOVERY: Final = ("discovery",)
"""Requests for the kinds that the API server knows."""
ESAW: Final = ("envelope", "files", "configuration", "file", "delete")
DRAFT: Final = ("Retrieve", "send")
"""Requests of the pages for a sender: the exchange of a code for a key, and the sending of a draft."""
RECORD: Final = ("record",)
"""Requests that store an Envelope, which names the sender."""
DECIDED: Final = ("envelope", "files", "files")
"""Requests at which a person decides about an envelope. ``files`` is the last one before its delete."""
ARCHIVE: Final = ("write", "read", "stat", "change")
COPY: Final = tuple(f"copy-{each}" for each in ARCHIVE)
"""Requests to the server of the copies."""
WRITES: Final = ("create", "status", "other", "lease")
STEPS: Final = ("status", "other", "lease", "secret", *ESAW, *ARCHIVE, *COPY)
"""Requests of a controller. A kill or a pause can be before and after each of them."""

_KINDS: Final = {
    # The API server, as its clients see it through a proxy; "down" ends the real one.
    "api-cut": FaultKind("api", API + DISCOVERY, 8),
    "api-answer-lost": FaultKind("api", WRITES, 8, points=("DONE",)),
    "api-slow": FaultKind("api", API + DISCOVERY, 4, seconds=(0.1, 2.5)),
    "api-401": FaultKind("api", ("watch", "list", *DISCOVERY), 4, times=(1, 3)),
    "api-409": FaultKind("api", WRITES, 6),
    "api-410": FaultKind("api", ("watch", "list"), 4),
    "api-429": FaultKind("api", ("create", "status", "secret", "watch", "list"), 4, times=(1, 3)),
    "api-500": FaultKind("api", API + DISCOVERY, 6, times=(1, 3)),
    "api-garbage": FaultKind("api", API, 6),
    "api-unreachable": FaultKind("api", ("*",), 2, times=(5, 40)),
    "api-down": FaultKind("api", ("status",), 1, at_most=1),
    "etcd-restored": FaultKind("api", ("status",), 1, at_most=0.3, rounds=0.25, seconds=(0.5, 8.0)),
    # eSAW through a proxy
    "esaw-cut": FaultKind("esaw", ESAW, 5),
    "esaw-answer-lost": FaultKind("esaw", ESAW, 6, points=("DONE",)),
    "esaw-truncated": FaultKind("esaw", ("file",), 6, points=("MIDDLE",)),
    "esaw-slow": FaultKind("esaw", ESAW, 4, seconds=(0.1, 2.5)),
    "esaw-429": FaultKind("esaw", ESAW, 4),
    "esaw-5xx": FaultKind("esaw", ESAW, 6, times=(1, 3)),
    "esaw-garbage": FaultKind("esaw", ESAW, 8),
    "esaw-down": FaultKind("esaw", ("*",), 2, times=(3, 20)),
    "esaw-trickle": FaultKind("esaw", ("files", "file"), 2, at_most=1, seconds=(0.0005, 0.05)),
    "esaw-endless": FaultKind("esaw", ("envelope", "files", "file"), 2, at_most=1),
    "esaw-hang": FaultKind("esaw", ESAW, 2, at_most=1, seconds=(1.0, 20.0)),
    "esaw-redirect": FaultKind("esaw", ESAW, 3),
    # eSAW itself
    "esaw-key-revoked": FaultKind("esaw", ("*",), 1, at_most=1, seconds=(0.0, 4.0)),
    "esaw-key-rotated": FaultKind("esaw", ("*",), 1, at_most=1),
    "esaw-envelope-deleted": FaultKind("esaw", ("*",), 1, at_most=1),
    "esaw-envelope-restarted": FaultKind("esaw", ("*",), 1, at_most=1),
    "esaw-foreign-ids": FaultKind("esaw", ("*",), 1, at_most=0.3, rounds=0.5),
    "esaw-find-flood": FaultKind("esaw", ("*",), 1, at_most=0.3, rounds=0.3, seconds=(0.5, 5.0)),
    "esaw-callbacks-given-up": FaultKind("api", ("create",), 1, at_most=1, rounds=0.5, seconds=(0.5, 5.0)),
    # The archive through a proxy; "down" ends the real server.
    "archive-cut": FaultKind("archive", ARCHIVE, 6),
    "archive-answer-lost": FaultKind("archive", ARCHIVE, 8, points=("DONE",)),
    "archive-truncated": FaultKind("archive", ("read",), 4, points=("MIDDLE",)),
    "archive-slow": FaultKind("archive", ARCHIVE, 4, seconds=(0.1, 2.5)),
    "archive-5xx": FaultKind("archive", ARCHIVE, 6, times=(1, 3)),
    "archive-full": FaultKind("archive", ("write",), 3, times=(1, 4)),
    "archive-read-corrupted": FaultKind("archive", ("read",), 5),
    "archive-write-corrupted": FaultKind("archive", ("write",), 5),
    "archive-trickle": FaultKind("archive", ("read",), 2, at_most=1, seconds=(0.0005, 0.05)),
    "archive-endless": FaultKind("archive", ("read", "stat"), 2, at_most=1),
    "archive-hang": FaultKind("archive", ARCHIVE, 2, at_most=1, seconds=(1.0, 20.0)),
    "archive-hangs-all": FaultKind(
        "archive", ("*",), 1, at_most=0.3, rounds=0.3, times=(30, 90), seconds=(5.0, 20.0)
    ),
    "archive-redirect": FaultKind("archive", ARCHIVE, 3),
    "archive-names-doubled": FaultKind("archive", ("stat",), 3, times=(5, 15)),
    "archive-down": FaultKind("archive", ("*",), 1, at_most=1, seconds=(0.2, 2.0)),
    "archive-disk-full": FaultKind("esaw", ("file",), 2, at_most=2, seconds=(0.2, 3.0)),
    # Processes
    "controller-killed": FaultKind("*", STEPS, 4, at_most=6, points=("ARRIVED", "DONE")),
    "controller-stopped": FaultKind("*", STEPS, 2, at_most=2, seconds=(0.3, 13.0)),
    "receiver-killed": FaultKind("api", ("create",), 2, at_most=2, points=("ARRIVED", "DONE")),
    "shards-changed": FaultKind("esaw", ("file",), 1, at_most=1, is_shared=True),
    "clock-set": FaultKind("*", STEPS, 1, at_most=2, rounds=0.4, seconds=(-60.0, 60.0)),
    "clock-jumps-days": FaultKind("*", STEPS, 1, at_most=2, rounds=0.25, seconds=(0.3, 6.0)),
    # People. The request is held until the API server has stored what they decide.
    "person-suspends": FaultKind("esaw", DECIDED, 1, at_most=1, rounds=0.5, seconds=(0.5, 5.0)),
    "person-suspends-event": FaultKind(
        "esaw", DECIDED, 4, at_most=5, rounds=0.6, times=(1, 3), seconds=(0.5, 5.0)
    ),
    "person-skips": FaultKind("esaw", DECIDED, 4, at_most=5, rounds=0.6, times=(1, 3), seconds=(0.5, 5.0)),
    "person-relabels": FaultKind("esaw", ESAW, 2, at_most=2, rounds=0.5, seconds=(0.5, 5.0)),
    "person-suspends-archive": FaultKind("esaw", DECIDED, 2, at_most=2, rounds=0.5, seconds=(0.5, 5.0)),
    "person-changes-routes": FaultKind("esaw", ESAW, 3, at_most=3, rounds=0.7, seconds=(0.5, 8.0)),
    "person-changes-copies": FaultKind("esaw", DECIDED, 5, at_most=6, rounds=0.7, seconds=(0.5, 8.0)),
    "person-requests-copy": FaultKind("esaw", (*ESAW, "delete"), 4, at_most=5, rounds=0.7),
    "import-makes-copies": FaultKind("esaw", ("*",), 1, at_most=0.5, rounds=0.5),
    # The pages and the people who send drafts with them
    "pages-killed": FaultKind("*", (*DRAFT, *RECORD), 4, at_most=6, points=("ARRIVED", "DONE")),
    "draft-answer-lost": FaultKind("esaw", DRAFT, 4, at_most=6, points=("DONE",)),
    "draft-5xx": FaultKind("esaw", DRAFT, 3, at_most=4, points=("ARRIVED", "DONE")),
    "draft-garbage": FaultKind("esaw", DRAFT, 3, at_most=4, points=("ARRIVED", "DONE")),
    "envelope-refused": FaultKind("api", RECORD, 4, at_most=6, times=(1, 4)),
    "sender-leaves": FaultKind("esaw", ("send",), 2, at_most=2, points=("DONE",), seconds=(0.0, 4.0)),
    "sealing-key-rotated": FaultKind("api", (*RECORD, "other"), 2, at_most=0.4),
    "mail-down": FaultKind("esaw", ("*",), 1, at_most=1, seconds=(0.5, 5.0), is_shared=True),
}

KINDS: Final = _KINDS | {
    # The server of the copies, as that of the archive
    name.replace("archive-", "copy-"): kind._replace(
        way="copy", operations=tuple(each if each == "*" else f"copy-{each}" for each in kind.operations)
    )
    for name, kind in _KINDS.items()
    if kind.way == "archive"
}

OF_COPIES: Final = frozenset(
    {
        *(name for name, kind in KINDS.items() if kind.way == "copy"),
        "person-changes-copies",
        "person-requests-copy",
        "import-makes-copies",
    }
)
"""Kinds that need copies."""
OF_ROUTES: Final = frozenset({"person-changes-routes"})
"""Kinds that need routes."""
OF_DRAFTS: Final = frozenset(
    {
        "pages-killed",
        "draft-answer-lost",
        "draft-5xx",
        "draft-garbage",
        "envelope-refused",
        "sender-leaves",
        "sealing-key-rotated",
    }
)
"""Kinds that need people who send drafts."""
CLOCKS: Final = frozenset({"clock-set", "clock-jumps-days"})
"""Kinds that set clocks."""

WAYS: Final = {
    **dict.fromkeys(API + DISCOVERY, "api"),
    **dict.fromkeys(RECORD, "api"),
    **dict.fromkeys((*ESAW, *DRAFT), "esaw"),
    **dict.fromkeys(ARCHIVE, "archive"),
    **dict.fromkeys(COPY, "copy"),
}
"""The way of each operation."""

USUAL: Final = {
    "create": 1.0, "status": 4.0, "other": 0.5, "lease": 3.0, "secret": 2.0,
    "watch": 0.6, "list": 0.4, "discovery": 0.1,
    "envelope": 2.0, "files": 4.0, "configuration": 1.0, "file": 5.0, "delete": 1.0,
    "write": 6.0, "read": 5.0, "stat": 6.0, "change": 4.0,
    "copy-write": 10.0, "copy-read": 10.0, "copy-stat": 10.0, "copy-change": 6.0,
    "Retrieve": 0.3, "send": 0.3, "record": 0.5,
    "*": 10.0,
}  # fmt: skip
"""Number of such requests for one envelope: the range from which the moment of a fault is drawn."""


class Fault(NamedTuple):
    """One planned fault."""

    kind: str
    way: str
    operation: str
    after: int
    """Number of such requests that pass before it."""
    point: str
    times: int
    seconds: float
    subject: int
    """Decides which envelope, answer or number of shards, where one has to be chosen."""


class EnvelopeOrder(NamedTuple):
    """One envelope of a round."""

    sizes: tuple[int, ...]
    """Bytes of its documents."""
    expired: bool
    """Whether nobody signs it in time."""
    trail_differs: bool
    """Whether the audit trail has other bytes at each download."""
    legal: int
    """Number of its legal documents."""
    planted: str = ""
    """One of ``PLANTED``, written into its folder before it ends; empty: nothing."""
    area: str = ""
    """Its tag, one of ``AREAS``; empty: there are no routes."""
    planted_copy: str = ""
    """One of ``PLANTED``, written into its folder in the Archive of a copy; empty: nothing."""


class CopiesOrder(NamedTuple):
    """The copies of the first Organization: a required one and an optional one."""

    server: str
    """The kind of their Archives, one of ``SERVERS``."""
    by_import: bool
    """Whether an Import makes the missing copies after the faults, or a request for each event."""


class DraftOrder(NamedTuple):
    """One draft that a person sends with the page before sending."""

    person: int
    bulk: int
    """Number of envelopes that it becomes as a bulk; 0: it is none, and becomes one."""
    after: float
    """Seconds until the person begins."""
    returns: bool
    """Whether the person comes back after the faults if it was not sent."""


class Round(NamedTuple):
    """One round of a campaign."""

    seed: int
    number: int
    archive: str
    controllers: int
    receivers: int
    shards: int
    policy: str
    """``Delete`` or ``Keep``."""
    papers_lag: float
    """Seconds until eSAW lists the audit trail and the legal documents of a finished envelope."""
    envelopes: tuple[EnvelopeOrder, ...]
    faults: tuple[Fault, ...]
    legal_documents_lag: float = 0.0
    """Seconds until eSAW lists the legal documents, if longer than ``papers_lag``."""
    documents_lag: float = 0.0
    """Seconds until eSAW lists the documents."""
    is_sealed: bool = False
    """Whether the controllers seal manifests."""
    spares_shared: bool = False
    """Whether only the first Organization has faults, so that the second one must not become slower."""
    drafts: tuple[DraftOrder, ...] = ()
    """Drafts that people send with the page before sending; empty: there are no pages."""
    has_routes: bool = False
    """Whether a tag decides about the Archive of an envelope."""
    copies: CopiesOrder | None = None
    """None: there are no copies."""


def plan(seed: int, number: int, faults: int = DEFAULT_FAULTS) -> Round:
    """Return the plan of a round with this number of faults."""
    chance = random.Random(f"{seed}/{number}")
    spares_shared = random.Random(f"{seed}/{number}/shared").random() < 0.15
    drafts = _drafts(random.Random(f"{seed}/{number}/drafts"), faults)
    archive = chance.choice(ARCHIVES)
    kept = random.Random(f"{seed}/{number}/copies")
    has_routes, copies = kept.random() < 0.5, _copies(kept, archive)
    missing = {
        *(OF_DRAFTS if not drafts else ()),
        *(OF_COPIES if copies is None else ()),
        *(OF_ROUTES if not has_routes else ()),
    }
    without = {
        name
        for name, kind in KINDS.items()
        if (spares_shared and not kind.is_of_first_organization) or name in missing
    }
    controllers = chance.randint(1, 3)
    envelopes = tuple(
        _placed(kept, _envelope(chance), has_routes=has_routes, has_copies=copies is not None)
        for _ in range(max(2, faults // FAULTS_PER_ENVELOPE))
    )
    drawn = _faults(chance, faults, len(envelopes), archive, without=without)
    drawn_round = Round(
        seed=seed,
        number=number,
        archive=archive,
        controllers=controllers,
        receivers=chance.randint(1, 2),
        shards=chance.randint(1, controllers),
        policy=chance.choice(("Delete", "Delete", "Delete", "Delete", "Delete", "Keep")),
        papers_lag=_lag(chance, drawn),
        envelopes=envelopes,
        faults=drawn,
        legal_documents_lag=_lag(chance, drawn),
        documents_lag=_lag(chance, drawn),
        is_sealed=chance.random() < 0.7,
        spares_shared=spares_shared,
        drafts=drafts,
        has_routes=has_routes,
        copies=copies,
    )
    # After a first list with documents and audit trail, the product waits for nothing (decision 0046).
    complete = max(drawn_round.papers_lag, drawn_round.documents_lag)
    return drawn_round._replace(legal_documents_lag=min(drawn_round.legal_documents_lag, complete))


def _copies(chance: random.Random, archive: str) -> CopiesOrder | None:
    order = CopiesOrder(
        chance.choice([each for each in SERVERS if each != archive]), by_import=chance.random() < 0.5
    )
    return order if chance.random() < 0.6 else None


def _placed(
    chance: random.Random, order: EnvelopeOrder, *, has_routes: bool, has_copies: bool
) -> EnvelopeOrder:
    """Return an envelope with its tag, and with what another program writes where its copy comes."""
    area, kind, is_planted = chance.choice(AREAS), chance.choice(PLANTED), chance.random() < 0.1
    return order._replace(
        area=area if has_routes else "", planted_copy=kind if has_copies and is_planted else ""
    )


def _drafts(chance: random.Random, faults: int) -> tuple[DraftOrder, ...]:
    if chance.random() < 0.5:
        return ()
    people = chance.randint(1, 3)
    return tuple(
        DraftOrder(
            person=chance.randrange(people),
            bulk=chance.choice((0, 0, 3, 8)),
            after=round(chance.uniform(0.0, 5.0), 2),
            returns=chance.random() < 0.7,
        )
        for _ in range(max(2, faults // 20))
    )


def _lag(chance: random.Random, faults: Iterable[Fault]) -> float:
    # By the clock of a process that has no response of the API server yet, spec.evidence.wait passes at once.
    return 0.0 if any(each.kind in CLOCKS for each in faults) else chance.choice((0.0, 1.0, 2.0))


def _envelope(chance: random.Random) -> EnvelopeOrder:
    sizes = tuple(
        chance.choice((400, 3_000, 40_000, 300_000, 2_000_000)) for _ in range(chance.randint(1, 3))
    )
    return EnvelopeOrder(
        sizes,
        expired=chance.random() < 0.1,
        trail_differs=chance.random() < 0.2,
        legal=chance.choice((0, 0, 1)),
        planted=chance.choice(PLANTED) if chance.random() < 0.15 else "",
    )


def _faults(
    chance: random.Random, count: int, envelopes: int, archive: str, *, without: Collection[str]
) -> tuple[Fault, ...]:
    drawn: list[Fault] = []
    has_way, has_copies = archive != FOLDER, OF_COPIES.isdisjoint(without)
    left = {
        name: math.ceil(kind.at_most * count / 100)
        for name, kind in KINDS.items()
        if chance.random() < kind.rounds
        and (has_way or kind.way != "archive")
        and not (has_way and name == "archive-disk-full")
        and name not in without
    }
    while len(drawn) < count:
        names = [name for name, number in left.items() if number]
        name = chance.choices(names, [KINDS[each].weight for each in names])[0]
        left[name] -= 1
        fault = draw(chance, name, envelopes)
        if (has_way or fault.way != "archive") and (has_copies or fault.way != "copy"):
            drawn.append(fault)
    return tuple(drawn)


def draw(chance: random.Random, name: str, envelopes: int) -> Fault:
    """Draw a fault of this kind, with a moment within this number of envelopes."""
    kind = KINDS[name]
    operation = chance.choice(kind.operations)
    return Fault(
        kind=name,
        way=WAYS[operation] if kind.way == "*" else kind.way,
        operation=operation,
        after=chance.randrange(max(1, int(USUAL[operation] * envelopes))),
        point=chance.choice(kind.points),
        times=chance.randint(*kind.times),
        seconds=round(chance.uniform(*kind.seconds), 2),
        subject=chance.randrange(1000),
    )
