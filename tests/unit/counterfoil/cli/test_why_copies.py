"""``kubectl counterfoil why``: where each copy is, or why it is missing."""

from datetime import timedelta

from counterfoil.cli.plugin.why import explain, page
from counterfoil.resources import EventCopy, LocalObjectReference
from tests.support.builders import NOON, an_event, an_organization

WORM = EventCopy(
    ref=LocalObjectReference(name="worm"),
    manifest="s3://worm/counterfoil.json",
    verified_time=NOON,
    documents="0" * 64,
)
MIRROR = EventCopy(
    ref=LocalObjectReference(name="mirror"),
    reason="ArchiveUnreachable",
    message="It is down.",
    attempts=2,
    start_time=NOON,
    next_attempt_time=NOON + timedelta(minutes=5),
)


def lines(*copies: EventCopy) -> list[str]:
    event = an_event().status(copies=copies).build()
    text = page(explain(event, an_organization(), None, (), NOON))
    return [line.removeprefix("Copy").strip() for line in text.splitlines() if line.startswith("Copy ")]


def test_each_copy_is_named_with_its_state() -> None:
    assert lines(WORM, MIRROR) == [
        "Archive/worm, verified 2026-07-01T12:00:00Z: s3://worm/counterfoil.json",
        "Archive/mirror, missing: ArchiveUnreachable, next attempt 2026-07-01T12:05:00Z. It is down.",
    ]


def test_an_event_without_copies_says_nothing_about_them() -> None:
    assert lines() == []
