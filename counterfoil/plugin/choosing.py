"""
Which events are meant: by name, by the envelope's GUID, by label selector, by reason, or all that failed.
"""

import argparse
from collections.abc import Iterable

from counterfoil.cluster import Cluster, NotFound
from counterfoil.plugin.outcome import Ending, Stopped
from counterfoil.resources import EnvelopeEvent, Phase, envelope_id

MOST_NAMED = 10
"""Names that a message lists."""


async def one(cluster: Cluster, word: str) -> EnvelopeEvent:
    """Return the event of that name or envelope. Raises ``Stopped`` for none, and for several of one envelope."""
    try:
        return EnvelopeEvent.parse(await cluster.get(EnvelopeEvent, word))
    except NotFound:
        found = await _of_envelope(cluster, word)
    if not found:
        raise Stopped(
            Ending.NOT_FOUND,
            f"no EnvelopeEvent in namespace {cluster.namespace} has this name or envelope id: {word}. Either eSignAnyWhere "
            "never called about it (`kubectl counterfoil sweep ORGANIZATION` looks for such envelopes), or it was finished "
            "long ago and removed.",
        )
    if len(found) > 1:
        names = "".join(f"\n  {each.name}  ({each.spec.action}, {each.status.phase})" for each in found)
        raise Stopped(Ending.NOT_FOUND, f"envelope {word} has several events; name the one you mean:{names}")
    return found[0]


async def several(cluster: Cluster, chosen: argparse.Namespace) -> list[EnvelopeEvent]:
    """Return the events that the arguments of ``arguments`` choose, each once. Raises ``Stopped``."""
    if chosen.events and (chosen.selector or chosen.all_failed or chosen.reason):
        raise Stopped(Ending.MISUSED, "give names, or a choice by -l, --all-failed and --reason; not both.")
    if chosen.events:
        found = [await one(cluster, word) for word in chosen.events]
        return list({each.name: each for each in found}.values())
    if not (chosen.selector or chosen.all_failed or chosen.reason):
        raise Stopped(
            Ending.MISUSED, "say which events: NAME or GUID, -l SELECTOR, --all-failed or --reason REASON."
        )
    fields = f"status.phase={Phase.FAILED}" if chosen.all_failed else ""
    listed = [
        EnvelopeEvent.parse(raw)
        async for raw in cluster.list(EnvelopeEvent, labels=chosen.selector or "", fields=fields)
    ]
    return [each for each in listed if chosen.reason in (None, each.status.reason)]


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``several``."""
    parser.add_argument(
        "events", nargs="*", metavar="NAME|GUID", help="an event, by its name or its envelope's id"
    )
    parser.add_argument("-l", "--selector", metavar="SELECTOR", help="all events with these labels")
    parser.add_argument("--all-failed", action="store_true", help="all events in phase Failed")
    parser.add_argument(
        "--reason",
        metavar="REASON",
        help="only those whose column REASON says this, such as ArchiveUnreachable",
    )


def named(events: Iterable[EnvelopeEvent]) -> str:
    """Return the first few names, for a sentence."""
    names = [each.name for each in events]
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more


async def _of_envelope(cluster: Cluster, word: str) -> list[EnvelopeEvent]:
    try:
        envelope = envelope_id(word)
    except ValueError:
        return []
    return [
        EnvelopeEvent.parse(raw)
        async for raw in cluster.list(EnvelopeEvent, fields=f"spec.envelopeId={envelope}")
    ]
