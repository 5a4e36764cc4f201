"""
Common part of ``retry`` and ``skip``: the label of a request, and its annotations with the user and the
reason.

The controller carries it out and takes the label off; this only asks, and records on the event who did
(``counterfoil.resources.audit_annotation``, as the console does). Where it finds the rights missing it says
for which events it asked already.
"""

import argparse
from datetime import UTC, datetime
from typing import Any, TextIO

import msgspec

from counterfoil.cli.plugin import selection
from counterfoil.cli.plugin.exit_status import ExitStatus, format_json
from counterfoil.kube.client import KubeClient
from counterfoil.kube.errors import Conflict, NotFound
from counterfoil.resources import (
    REQUEST_BY_ANNOTATION,
    REQUEST_LABEL,
    REQUEST_REASON_ANNOTATION,
    EnvelopeEvent,
    Phase,
)
from counterfoil.resources.audit_annotation import AuditEntry, with_audit_entry

MAX_WRITE_ATTEMPTS = 5
"""Tries to write one request beside what others write at the same time."""


class EventRequestResult(msgspec.Struct, frozen=True, rename="camel"):
    """Result of the request for one event."""

    event: str
    asked: bool
    says: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    selection.add_arguments(parser)
    parser.add_argument("--because", metavar="TEXT", help="reason of the request, stored with the event")
    parser.add_argument("--dry-run", action="store_true", help="only print the events; request nothing")


async def request_for_events(
    request: str, skipped_phases: frozenset[Phase], args: argparse.Namespace, kube: KubeClient, out: TextIO
) -> ExitStatus:
    """Ask for all chosen events but those in a phase where it is ``skipped_phases``. Raises ``CommandError``,
    ``ApiError``."""
    events = await selection.select_events(kube, args)
    by = "" if args.dry_run else await kube.whoami()
    answers = []
    for event in events:
        answers.append(
            await _request_for_event(
                kube, event, request=request, skipped_phases=skipped_phases, by=by, args=args
            )
        )
        if args.output != "json":
            # At once, so that an end in the middle shows how far it came.
            out.write(f"{answers[-1].event}: {answers[-1].says}\n")
    if args.output == "json":
        out.write(format_json(answers))
    elif not events:
        out.write("no event is meant by that\n")
    return ExitStatus.DONE if all(each.asked for each in answers) else ExitStatus.NOT_ALL


async def _request_for_event(
    kube: KubeClient,
    event: EnvelopeEvent,
    *,
    request: str,
    skipped_phases: frozenset[Phase],
    by: str,
    args: argparse.Namespace,
) -> EventRequestResult:
    if event.status.phase in skipped_phases:
        return EventRequestResult(
            event.name, asked=False, says=f"nothing to {request}, it is {event.status.phase}"
        )
    if args.dry_run:
        return EventRequestResult(
            event.name, asked=True, says=f"{request} would be asked for, it is {event.status.phase}"
        )
    for _ in range(MAX_WRITE_ATTEMPTS):
        try:
            await kube.patch(EnvelopeEvent, event.name, _patch_body(event, request, by, args.because))
        except NotFound:
            return EventRequestResult(event.name, asked=False, says="it was removed meanwhile")
        except Conflict:
            # The controller writes its status at the same time.
            event = await selection.select_event(kube, event.name)
        else:
            return EventRequestResult(
                event.name, asked=True, says=f"{request} is asked for, it was {event.status.phase}"
            )
    return EventRequestResult(event.name, asked=False, says="it is written by others all the time; try again")


def _patch_body(event: EnvelopeEvent, request: str, by: str, because: str | None) -> dict[str, Any]:
    entry = AuditEntry(who=by, what=request, when=datetime.now(UTC).replace(microsecond=0), why=because or "")
    annotations: dict[str, str | None] = {
        **with_audit_entry(event.metadata.annotations, entry),
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
