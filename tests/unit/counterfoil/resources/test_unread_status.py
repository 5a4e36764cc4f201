"""A status that an earlier or later version of the CRD left, and that this version can't read completely."""

from typing import Any

import pytest

from counterfoil.kube.answers import parse_readable
from counterfoil.kube.status import write_status
from counterfoil.resources import (
    Archive,
    Envelope,
    EnvelopeEvent,
    Import,
    Organization,
    Resource,
    ResourceInvalid,
    Sender,
)
from counterfoil.resources.organization import SweepResult
from tests.support.builders import NOON, a_sender, an_event, an_organization
from tests.support.fakes.kube import InMemoryKubeClient

EARLIER_SWEEP = {"time": "2026-06-01T00:00:00Z", "found": 0}
"""As a definition stored it that had no `completionTime` yet."""

ARCHIVE = Archive.parse({"metadata": {"name": "dms"}, "spec": {"filesystem": {"root": "/archive"}}})

UNREADABLE_CONDITIONS = {"conditions": [{"type": "Ready"}]}

KEPT: dict[type[Resource], tuple[str, ...]] = {
    Organization: ("origin",),
    Archive: ("destination", "root", "secretOrigins"),
    Sender: ("key",),
}
"""Fields of the status without which keys, Secrets or documents could go to another server."""


def with_status(resource: Resource, status: dict[str, Any]) -> dict[str, Any]:
    raw = resource.to_dict()
    return raw | {"status": raw.get("status", {}) | status}


@pytest.mark.parametrize("resource", [an_organization(), ARCHIVE, a_sender()], ids=lambda each: each.KIND)
def test_a_field_of_a_status_that_can_not_be_read_counts_as_absent(resource: Any) -> None:
    raw = with_status(resource, UNREADABLE_CONDITIONS | {"observedGeneration": 7})
    found = type(resource).parse(raw)
    assert (found.status.conditions, found.status.observed_generation) == ((), 7)
    assert found.spec == resource.spec
    assert "conditions" not in found.to_dict()["status"]


@pytest.mark.parametrize(
    ("resource", "field"),
    [
        (resource, field)
        for resource in (an_organization(), ARCHIVE, a_sender())
        for field in KEPT[type(resource)]
    ],
    ids=lambda each: each if isinstance(each, str) else each.KIND,
)
def test_a_field_that_binds_keys_and_documents_to_a_server_must_be_read(resource: Any, field: str) -> None:
    raw = with_status(resource, UNREADABLE_CONDITIONS | {field: ["of another version"]})
    with pytest.raises(ResourceInvalid, match=rf"\$\.status\.{field}"):
        type(resource).parse(raw)


@pytest.mark.parametrize("kind", [EnvelopeEvent, Envelope, Import], ids=lambda kind: kind.KIND)
def test_a_status_that_is_evidence_is_read_completely_or_not_at_all(kind: type[Resource]) -> None:
    spec: dict[type[Resource], dict[str, Any]] = {
        EnvelopeEvent: an_event().build().to_dict()["spec"],
        Envelope: {
            "organizationRef": {"name": "acme"},
            "envelopeID": "0f9c1c2e-5d1b-4f6e-9c55-2f1f0a3b7d10",
            "senderRef": {"name": "anna"},
        },
        Import: {"organizationRef": {"name": "acme"}, "from": "2020-01-01"},
    }
    raw = {"metadata": {"name": "a"}, "spec": spec[kind]}
    kind.parse(raw)
    with pytest.raises(ResourceInvalid, match=r"\$\.status\.conditions"):
        kind.parse(raw | {"status": UNREADABLE_CONDITIONS})


def test_a_spec_that_can_not_be_read_is_named_also_beside_such_a_status() -> None:
    raw = with_status(an_organization(), {"sweep": EARLIER_SWEEP})
    raw["spec"]["baseURL"] = 7
    with pytest.raises(ResourceInvalid, match=r"\$\.spec\.baseURL"):
        Organization.parse(raw)


def test_the_log_names_the_field_that_counts_as_absent(caplog: pytest.LogCaptureFixture) -> None:
    raw = with_status(an_organization(), {"sweep": EARLIER_SWEEP})
    assert parse_readable(Organization, raw) is not None
    assert "Organization/acme: status.sweep can't be read" in caplog.text


async def stored_with(sweep: SweepResult | None) -> dict[str, Any]:
    """Return the stored status after a write by a controller that found the earlier sweep there."""
    kube = InMemoryKubeClient(an_organization())
    kube.edit(Organization, "acme", {"status": {"sweep": EARLIER_SWEEP}})
    known = Organization.parse(await kube.get(Organization, "acme"))
    status = type(known.status)(sweep=sweep, version="1")
    await write_status(kube, known, status)
    found: dict[str, Any] = (await kube.get(Organization, "acme"))["status"]
    return found


async def test_the_next_write_of_the_status_removes_what_could_not_be_read() -> None:
    assert "sweep" not in await stored_with(None)


async def test_the_next_write_of_the_status_leaves_nothing_of_what_it_replaces() -> None:
    found = await stored_with(SweepResult(completion_time=NOON, found=3))
    assert (found["sweep"]["found"], "time" in found["sweep"]) == (3, False)
