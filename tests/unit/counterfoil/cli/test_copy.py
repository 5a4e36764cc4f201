"""``kubectl counterfoil copy``: what asks for the missing copies of archived events, and what it refuses."""

import io
from typing import Any

import pytest

from counterfoil.cli.plugin import entry_point
from counterfoil.cli.plugin.exit_status import CommandError, ExitStatus
from counterfoil.cli.plugin.send_request import COPY
from counterfoil.kube.errors import Forbidden
from counterfoil.resources import (
    REQUEST_LABEL,
    EnvelopeEvent,
    EnvelopeSummary,
    EventCopy,
    LocalObjectReference,
    Organization,
    Phase,
)
from counterfoil.resources.audit_annotation import audit_entries
from tests.support.builders import NOON, an_event, an_organization
from tests.support.fakes.kube import InMemoryKubeClient

COPIED = an_organization(copies=[{"archiveRef": {"name": "worm"}}])
VERIFIED = EventCopy(ref=LocalObjectReference(name="worm"), manifest="s3://a", verified_time=NOON)


def archived(**status: Any) -> EnvelopeEvent:
    """Build an event that succeeded before its Organization had copies."""
    built = an_event().archived().with_condition("Cleaned")
    return built.status(phase=Phase.SUCCEEDED, reason="ArchivedAndDeleted", **status).build()


class Named(InMemoryKubeClient):
    """An API server that says who its user is."""

    async def whoami(self) -> str:
        return "anna"


FAILED_COPY = (
    an_event()
    .archived()
    .with_condition("Copied", "False", "OriginalDiffers")
    .in_phase(Phase.FAILED, "OriginalDiffers")
)


async def copied(kube: InMemoryKubeClient, *words: str) -> tuple[ExitStatus, str]:
    """Run the command; return its exit status and what it prints."""
    out = io.StringIO()
    args = entry_point.parsers()[0].parse_args(["copy", *words, "-o", "text"])
    return await COPY.run(args, kube, out), out.getvalue()


async def test_the_copies_of_an_archived_event_are_asked_for_and_who_asked_is_recorded() -> None:
    event = archived()
    kube = Named(COPIED, event)

    status, said = await copied(kube, event.name, "--because", "the mirror is new")

    assert (status, said) == (ExitStatus.DONE, f"{event.name}: copy is asked for, it was Succeeded\n")
    metadata = kube.stored(event.name).metadata
    assert metadata.labels[REQUEST_LABEL] == "copy"
    assert metadata.annotations["counterfoil.dev/request-by"] == "anna"
    (act,) = audit_entries(metadata.annotations)
    assert (act.who, act.what, act.why) == ("anna", "copy", "the mirror is new")


@pytest.mark.parametrize(
    ("event", "organization"),
    [
        (archived(copies=(VERIFIED,)), COPIED),
        (archived(), an_organization()),
        (archived(), an_organization("other")),
    ],
    ids=["all verified", "no copies", "no Organization"],
)
async def test_an_event_without_a_missing_copy_is_not_changed(
    event: EnvelopeEvent, organization: Organization
) -> None:
    kube = Named(organization, event)
    status, said = await copied(kube, event.name)
    assert (status, said) == (
        ExitStatus.NOT_ALL,
        f"{event.name}: nothing to copy, it is {event.status.phase}\n",
    )
    assert REQUEST_LABEL not in kube.stored(event.name).metadata.labels


AS_EXPIRED = (
    an_event()
    .archived()
    .with_condition("Archived", "False", "Expired")
    .in_phase(Phase.SKIPPED, "ArchivedAsExpired")
)
SKIPPED_EXPIRED = (
    an_event()
    .archived()
    .with_condition("Archived", "False", "SkippedByRequest")
    .in_phase(Phase.SKIPPED, "SkippedByRequest")
    .status(skipped_time=NOON, envelope=EnvelopeSummary(status="Expired"))
)
AWAITING = an_event().archived().in_phase(Phase.AWAITING_CONSENT, "TokenRejected")


@pytest.mark.parametrize(
    ("event", "why"),
    [
        (an_event().in_phase(Phase.ARCHIVING).build(), "The envelope is not archived yet. "),
        (an_event().in_phase(Phase.SUCCEEDED, "Recorded").build(), "The event archived nothing, "),
        (FAILED_COPY.build(), "The event is Failed. Retry it: that makes its copies."),
        (
            AS_EXPIRED.build(),
            "The event is Skipped. Retry it: that makes its copies.",
        ),
        (AWAITING.build(), "The event waits for the key of its sender. "),
        (
            SKIPPED_EXPIRED.build(),
            "A person skipped the event, and its envelope may be restarted, so no copy is made. A "
            "retry takes the skip back. It makes the copies, and deletes the envelope unless "
            "spec.cleanup keeps it.",
        ),
    ],
    ids=[
        *("not archived", "recorded", "failed for a required copy", "archived as Expired"),
        *("waits for a consent", "skipped"),
    ],
)
async def test_an_event_that_takes_no_request_for_copies_is_answered_with_the_cause(
    event: EnvelopeEvent, why: str
) -> None:
    kube = Named(COPIED, event)
    status, said = await copied(kube, event.name)
    assert status is ExitStatus.NOT_ALL
    assert said.startswith(f"{event.name}: {why}")
    assert REQUEST_LABEL not in kube.stored(event.name).metadata.labels


async def test_a_choice_of_events_is_shown_first_and_then_asked_for_by_its_digest() -> None:
    event = archived()
    kube = Named(COPIED, event)
    choice = ("-l", "", "--reason", "ArchivedAndDeleted")

    _, said = await copied(kube, *choice, "--dry-run")
    assert f"{event.name}: copy would be asked for, it is Succeeded\n" in said
    digest = said.split("--digest ")[1].strip()
    assert REQUEST_LABEL not in kube.stored(event.name).metadata.labels

    kube.edit(EnvelopeEvent, event.name, {"status": {"reason": "ArchivedAndKept"}})
    with pytest.raises(CommandError, match="other events match now"):
        await copied(kube, event.name, "--digest", digest)
    kube.edit(EnvelopeEvent, event.name, {"status": {"reason": "ArchivedAndDeleted"}})
    assert (await copied(kube, *choice, "--digest", digest))[0] is ExitStatus.DONE
    assert kube.stored(event.name).metadata.labels[REQUEST_LABEL] == "copy"


async def test_an_event_that_changes_during_the_request_is_not_changed() -> None:
    event = archived()
    kube = Named(COPIED, event)
    changed = {"status": {"phase": "Pending", "reason": "Redelivered"}}
    kube.just_before("patch", lambda: kube.edit(EnvelopeEvent, event.name, changed))

    status, said = await copied(kube, event.name)

    assert status is ExitStatus.NOT_ALL
    assert "it changed from Succeeded/ArchivedAndDeleted to Pending/Redelivered" in said
    assert REQUEST_LABEL not in kube.stored(event.name).metadata.labels


async def test_who_may_not_read_the_organization_asks_for_nothing() -> None:
    class Closed(Named):
        async def get(self, kind: Any, name: str) -> Any:
            if kind is Organization:
                raise Forbidden(403, "Forbidden", "organizations is forbidden")
            return await super().get(kind, name)

    event = archived()
    kube = Closed(COPIED, event)
    with pytest.raises(Forbidden):
        await copied(kube, event.name)
    assert REQUEST_LABEL not in kube.stored(event.name).metadata.labels
