"""
What ``retry`` and ``skip`` share: the label by which a person asks, with who asked and why beside it.

The controller carries it out and takes the label off; this only asks, and records on the event who did
(``counterfoil.resources.acting``, as the console does). Where it finds the rights missing it says for which
events it asked already.
"""

import argparse
from datetime import UTC, datetime
from typing import Any, TextIO

import msgspec

from counterfoil.cluster import Cluster, Conflict, NotFound
from counterfoil.plugin import choosing
from counterfoil.plugin.outcome import Ending, as_json
from counterfoil.resources import (
    REQUEST_BY_ANNOTATION,
    REQUEST_LABEL,
    REQUEST_REASON_ANNOTATION,
    EnvelopeEvent,
    Phase,
)
from counterfoil.resources.acting import Act, recorded

WRITES = 5
"""Tries to write one request beside what others write at the same time."""


class Asked(msgspec.Struct, frozen=True, rename="camel"):
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
    by = "" if chosen.dry_run else await cluster.whoami()
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
    for _ in range(WRITES):
        try:
            await cluster.patch(EnvelopeEvent, event.name, _changes(event, request, by, chosen.because))
        except NotFound:
            return Asked(event.name, asked=False, says="it was removed meanwhile")
        except Conflict:
            # The controller writes its status at the same time.
            event = await choosing.one(cluster, event.name)
        else:
            return Asked(event.name, asked=True, says=f"{request} is asked for, it was {event.status.phase}")
    return Asked(event.name, asked=False, says="it is written by others all the time; try again")


def _changes(event: EnvelopeEvent, request: str, by: str, because: str | None) -> dict[str, Any]:
    act = Act(who=by, what=request, when=datetime.now(UTC).replace(microsecond=0), why=because or "")
    annotations: dict[str, str | None] = {
        **recorded(event.metadata.annotations, act),
        REQUEST_BY_ANNOTATION: by,
        # None takes away what somebody wrote for another request.
        REQUEST_REASON_ANNOTATION: because,
    }
    return {
        "metadata": {
            "labels": {REQUEST_LABEL: request},
            "annotations": annotations,
            "resourceVersion": event.metadata.resource_version,
        }
    }
