"""
``retry`` and ``skip``: try events again now, or give them up on purpose.

A request is a label on the event, with annotations that name the user and the reason. The controller carries
it out and removes the label. These commands only ask, and record on the event who did
(``counterfoil.resources.audit_annotation``, as the console does). When the user's rights do not suffice, the
output names the events with a request.
"""

import argparse
from datetime import UTC, datetime
from typing import Any, NamedTuple, TextIO

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


class RequestCommand(NamedTuple):
    """A command that requests the same for all chosen events, except those in ``skipped_phases``."""

    request: str
    skipped_phases: frozenset[Phase]
    SUMMARY: str
    DETAILS: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the arguments."""
        selection.add_arguments(parser)
        parser.add_argument("--because", metavar="TEXT", help="reason of the request, stored with the event")
        parser.add_argument("--dry-run", action="store_true", help="only print the events; request nothing")

    async def run(self, args: argparse.Namespace, kube: KubeClient, out: TextIO) -> ExitStatus:
        """Request it. Raises ``CommandError``, ``ApiError``."""
        events = await selection.select_events(kube, args)
        by = "" if args.dry_run else await kube.whoami()
        answers = []
        for event in events:
            asked, says = await self._request_for_event(kube, event, by, args)
            answers.append(EventRequestResult(event.name, asked, says))
            if args.output != "json":
                # At once, so that an end in the middle shows how far it came.
                out.write(f"{event.name}: {says}\n")
        if args.output == "json":
            out.write(format_json(answers))
        elif not events:
            out.write("no event is meant by that\n")
        return ExitStatus.DONE if all(each.asked for each in answers) else ExitStatus.NOT_ALL

    async def _request_for_event(
        self, kube: KubeClient, event: EnvelopeEvent, by: str, args: argparse.Namespace
    ) -> tuple[bool, str]:
        """Return whether the request is made, and what to tell the user."""
        if event.status.phase in self.skipped_phases:
            return False, f"nothing to {self.request}, it is {event.status.phase}"
        if args.dry_run:
            return True, f"{self.request} would be asked for, it is {event.status.phase}"
        for _ in range(MAX_WRITE_ATTEMPTS):
            changes = _patch_body(event, self.request, by, args.because)
            try:
                await kube.patch(EnvelopeEvent, event.name, changes)
            except NotFound:
                return False, "it was removed meanwhile"
            except Conflict:
                # The controller writes its status at the same time.
                event = await selection.select_event(kube, event.name)
            else:
                return True, f"{self.request} is asked for, it was {event.status.phase}"
        return False, "it is written by others all the time; try again"


RETRY = RequestCommand(
    "retry",
    frozenset({Phase.SUCCEEDED}),
    SUMMARY="try events again now",
    DETAILS="From a final phase as well as from a pause. What was filed is recognised and not filed twice.",
)
SKIP = RequestCommand(
    "skip",
    frozenset({Phase.SUCCEEDED, Phase.SKIPPED}),
    SUMMARY="give events up on purpose",
    DETAILS="The envelope stays in eSignAnyWhere. A new callback, or retry, takes it up again.",
)


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
