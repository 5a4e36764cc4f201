"""
What ``retry`` and ``skip`` share: the label by which a person asks, with who asked and why beside it.

The controller carries it out and takes the label off; this only asks. Where it finds the rights missing it says for which
events it asked already.
"""

import argparse
from typing import TextIO

import msgspec

from counterfoil.cluster import Cluster, NotFound
from counterfoil.plugin import choosing
from counterfoil.plugin.access import who
from counterfoil.plugin.outcome import Ending, as_json
from counterfoil.resources import (
    REQUEST_BY_ANNOTATION,
    REQUEST_LABEL,
    REQUEST_REASON_ANNOTATION,
    EnvelopeEvent,
    Phase,
)


class Asked(msgspec.Struct, frozen=True):
    """What came of asking for one event."""

    event: str
    asked: bool
    says: str


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    choosing.arguments(parser)
    parser.add_argument("--because", metavar="TEXT", help="why, for whoever reads the event later")
    parser.add_argument("--dry-run", action="store_true", help="only say for which events it would be asked")


async def ask(
    request: str, useless: frozenset[Phase], chosen: argparse.Namespace, cluster: Cluster, out: TextIO
) -> Ending:
    """Ask for all chosen events but those in a phase where it is ``useless``. Raises ``Stopped``, ``ApiProblem``."""
    events = await choosing.several(cluster, chosen)
    by = "" if chosen.dry_run else await who(cluster)
    answers = []
    for event in events:
        answers.append(await _ask(cluster, event, request=request, useless=useless, by=by, chosen=chosen))
        if chosen.output != "json":
            # At once, so that an end in the middle shows how far it came.
            out.write(f"{answers[-1].event}: {answers[-1].says}\n")
    if chosen.output == "json":
        out.write(as_json(answers))
    elif not events:
        out.write("no event is meant by that\n")
    return Ending.DONE if all(each.asked for each in answers) else Ending.NOT_ALL


async def _ask(
    cluster: Cluster,
    event: EnvelopeEvent,
    *,
    request: str,
    useless: frozenset[Phase],
    by: str,
    chosen: argparse.Namespace,
) -> Asked:
    if event.status.phase in useless:
        return Asked(event.name, asked=False, says=f"nothing to {request}, it is {event.status.phase}")
    if chosen.dry_run:
        return Asked(event.name, asked=True, says=f"{request} would be asked for, it is {event.status.phase}")
    annotations = {REQUEST_BY_ANNOTATION: by, REQUEST_REASON_ANNOTATION: chosen.because}
    try:
        await cluster.patch(
            EnvelopeEvent,
            event.name,
            {"metadata": {"labels": {REQUEST_LABEL: request}, "annotations": annotations}},
        )
    except NotFound:
        return Asked(event.name, asked=False, says="it was removed meanwhile")
    return Asked(event.name, asked=True, says=f"{request} is asked for, it was {event.status.phase}")
