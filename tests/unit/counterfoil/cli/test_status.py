"""``kubectl counterfoil status``: what it says about processes, Organizations and what waits."""

import argparse
import io
import shlex
import subprocess
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec import structs

from counterfoil import __version__
from counterfoil.cli.plugin import why as why_command
from counterfoil.cli.plugin.entry_point import describe
from counterfoil.cli.plugin.exit_status import CommandError, ExitStatus
from counterfoil.cli.plugin.installation import status as status_command
from counterfoil.cli.plugin.installation.status import (
    MAX_OBJECTS,
    MAX_SUSPENDED_EVENTS,
    InstallationStatus,
    Reading,
    WaitingItem,
    command_lines,
    exit_status,
    needs_person,
    overview,
    page,
    read,
)
from counterfoil.cli.plugin.selection import select_event
from counterfoil.cli.plugin.why import explain
from counterfoil.cli.plugin.why import page as why_page
from counterfoil.i18n.attention import ClusterSnapshot
from counterfoil.i18n.reasons import CATALOGUE, ReasonContext, Responsible, find_reason
from counterfoil.kube.client import KubeClient
from counterfoil.kube.errors import Forbidden
from counterfoil.kube.secret import Placeholder, SecretUse, create_command
from counterfoil.kube.watch import Raw
from counterfoil.resources import (
    Archive,
    EnvelopeEvent,
    EventCopy,
    Import,
    LastError,
    LocalObjectReference,
    Organization,
    Phase,
    ReportedProblem,
    Resource,
    ResourceInvalid,
)
from counterfoil.resources.audit_annotation import AuditEntry, with_audit_entry
from counterfoil.resources.base import SENDER_LABEL
from counterfoil.resources.conditions import with_condition
from counterfoil.resources.lease import UnheldShard
from counterfoil.resources.routes import ArchiveRoute, Choice, CopySpec, RouteConditions
from tests.support.builders import NOON, EventBuilder
from tests.support.fakes.kube import InMemoryKubeClient
from tests.support.inline_commands import printed_in_manual
from tests.support.scenes.console_parts import (
    UNREADABLE_SPECS,
    an_archive_that,
    an_import_that,
    an_organization_that,
)
from tests.support.scenes.notifications import an_unauthorized_sender


def a_pod(component: str, *, is_ready: bool = True, **status_: Any) -> dict[str, Any]:
    ready = {"type": "Ready", "status": "True" if is_ready else "False"}
    return {
        "metadata": {
            "name": f"counterfoil-{component}-x",
            "labels": {"app.kubernetes.io/component": component},
        },
        "status": {"phase": "Running", "conditions": [ready], **status_},
    }


def found(*pods: dict[str, Any], unread: tuple[str, ...] = (), **snapshot: Any) -> InstallationStatus:
    return overview(Reading(ClusterSnapshot(**snapshot), pods, unread, is_refused=False), "contracts", NOON)


def test_each_process_says_how_many_of_its_pods_are_ready_and_why_another_is_not() -> None:
    crashing = {"containerStatuses": [{"state": {"waiting": {"reason": "CrashLoopBackOff"}}}]}
    text = page(found(a_pod("receiver"), a_pod("receiver", is_ready=False, **crashing)), NOON)
    assert "receiver    2 pods, 1 ready" in text
    assert "counterfoil-receiver-x: CrashLoopBackOff" in text


async def test_it_says_which_objects_it_did_not_read() -> None:
    kube, archive = InMemoryKubeClient(an_organization_that()), an_archive_that()
    for number in range(MAX_OBJECTS + 1):
        kube.put(structs.replace(archive, metadata=structs.replace(archive.metadata, name=f"dms-{number}")))
    reading = await read(kube)
    assert f"archives: there are more than the first {MAX_OBJECTS}" in reading.unread
    assert len(reading.snapshot.archives) == MAX_OBJECTS


def test_a_finished_job_is_no_process() -> None:
    assert found(a_pod("quota", is_ready=False, phase="Succeeded")).processes == ()


def test_what_waits_says_for_whom_since_when_and_what_to_type() -> None:
    failed = (
        EventBuilder()
        .in_phase(Phase.FAILED, "NameOccupied")
        .status(completion_time=NOON - timedelta(hours=3))
        .build()
    )
    organization = an_organization_that()
    (entry,) = found(organizations=(organization,), failed=(failed,)).waiting
    assert (entry.what, entry.reason, entry.for_whom) == (
        "1 event of acme",
        "NameOccupied",
        "an administrator",
    )
    mine = "-l counterfoil.dev/organization=acme"
    chosen = f"--all-failed --reason NameOccupied {mine}"
    assert entry.commands == (
        f"kubectl counterfoil -n contracts why {failed.name}",
        f"kubectl counterfoil -n contracts retry {chosen}",
        f"kubectl counterfoil -n contracts skip {chosen} --dry-run",
    )
    text = page(found(organizations=(organization,), failed=(failed,)), NOON)
    assert "1 event of acme: NameOccupied, for an administrator, since 3h" in text
    for each in entry.commands:
        assert f"    $ {each}\n" in text.replace(" \\\n        ", " ")


NOT_READY = {
    "type": "Ready",
    "status": "False",
    "message": "containers with unready status: [receiver]",
    "lastTransitionTime": "2026-07-01T11:57:00Z",
}


def test_without_a_ready_receiver_status_says_that_callbacks_are_not_answered() -> None:
    """A full quota, or a Role without the right to create events, ends the readiness of each receiver."""
    seen = found(
        a_pod("controller"),
        a_pod("receiver", conditions=[NOT_READY]),
        organizations=(an_organization_that(),),
    )
    (entry,) = seen.waiting
    assert (entry.what, entry.reason, entry.for_whom) == (
        "no receiver is ready, callbacks are not answered",
        "ReceiverNotReady",
        "an administrator",
    )
    assert entry.commands == (
        "kubectl -n contracts logs -l app.kubernetes.io/component=receiver --tail=20",
        "kubectl -n contracts describe pods -l app.kubernetes.io/component=receiver",
    )
    text = " ".join(page(seen, NOON).split())
    assert f"counterfoil-receiver-x: {NOT_READY['message']}" in text
    assert exit_status([seen]) is ExitStatus.NOT_ALL


def test_one_ready_receiver_answers_callbacks() -> None:
    assert found(a_pod("receiver"), a_pod("receiver", conditions=[NOT_READY])).waiting == ()
    assert found(a_pod("receiver", conditions=[NOT_READY], phase="Succeeded")).waiting == ()


def changed(resource: Resource, *, seconds: float, generation: int = 3, observed: int = 2) -> dict[str, Any]:
    """The object of the API server, whose spec was changed that long ago."""
    at = (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat()
    writes = [{"time": at}, {"time": datetime.now(UTC).isoformat(), "subresource": "status"}]
    raw = resource.to_dict()
    raw["metadata"] |= {"generation": generation, "managedFields": writes}
    raw["status"]["observedGeneration"] = observed
    return raw


async def after_changes(*raws: dict[str, Any], shards: bool = True) -> InstallationStatus:
    kube = InMemoryKubeClient()
    for plural, raw in zip((Organization.PLURAL, Archive.PLURAL), raws, strict=True):
        kube.objects[plural, raw["metadata"]["name"]] = raw
    reading = await read(kube)
    unheld = () if shards else (UnheldShard(),)
    snapshot = replace(reading.snapshot, unheld_shards=unheld)
    return overview(replace(reading, snapshot=snapshot), "contracts", NOON)


async def test_a_change_that_no_controller_processes_is_reported_instead_of_the_old_status() -> None:
    """``NotProcessed``: the namespace is no longer listed, and the old advice can't help."""
    acme, dms = an_organization_that(), an_archive_that("False", "ArchiveFull")
    seen = await after_changes(changed(acme, seconds=0, observed=3), changed(dms, seconds=310))
    (entry,) = seen.waiting
    assert (entry.what, entry.reason, entry.for_whom) == ("Archive/dms", "NotProcessed", "an administrator")
    assert entry.message == "Archive/dms has generation 3, and its status is of generation 2."
    assert entry.commands == (
        "kubectl -n contracts logs -l app.kubernetes.io/component=controller --tail=20",
    )
    assert "`watchNamespaces`" in page(seen, NOON)


@pytest.mark.parametrize(("seconds", "observed"), [(240, 2), (3600, 3)])
async def test_a_change_that_is_processed_or_new_leaves_the_status_as_it_is(
    seconds: float, observed: int
) -> None:
    acme, dms = an_organization_that(), an_archive_that("False", "ArchiveFull")
    seen = await after_changes(
        changed(acme, seconds=0, observed=3), changed(dms, seconds=seconds, observed=observed)
    )
    assert [each.reason for each in seen.waiting] == ["ArchiveFull"]


async def test_without_a_controller_no_change_is_reported_beside_it() -> None:
    acme, dms = an_organization_that(), an_archive_that("False", "ArchiveFull")
    seen = await after_changes(
        changed(acme, seconds=900), changed(dms, seconds=900, observed=3), shards=False
    )
    assert [each.reason for each in seen.waiting] == ["ControllerAbsent", "ArchiveFull"]


async def test_why_does_not_advise_by_a_status_that_is_older_than_the_spec() -> None:
    event = EventBuilder().named("x").in_phase(Phase.ARCHIVING, "ArchiveSuspended").build()
    kube = InMemoryKubeClient(event, an_organization_that())
    dms = an_archive_that("False", "ArchiveSuspended")
    kube.objects[Archive.PLURAL, "dms"] = changed(dms, seconds=310)
    out = io.StringIO()
    await why_command.run(argparse.Namespace(event="x", all_namespaces=False, output="text"), kube, out)
    text = " ".join(out.getvalue().split())
    assert "Archive/dms has generation 3, and its status is of generation 2." in text
    assert "`watchNamespaces`" in text
    assert "spec.suspend" not in text


def a_quota(*, used: str | None, hard: str = "100k", name: str = "contracts") -> dict[str, Any]:
    kind = "count/envelopeevents.counterfoil.dev"
    counted = {} if used is None else {"used": {kind: used, "pods": "7"}}
    return {
        "metadata": {"name": name},
        "spec": {"hard": {kind: hard, "pods": "7"}},
        "status": {"hard": {kind: hard, "pods": "7"}, **counted},
    }


@pytest.mark.parametrize("used", ["100000", "100k", "100001"])
async def test_a_full_quota_is_named_while_each_organization_is_ready(used: str) -> None:
    """``QuotaFull``: nothing else reports it, as the callbacks leave no event."""
    kube = InMemoryKubeClient(an_organization_that())
    kube.quotas = [a_quota(used="7", name="other"), a_quota(used=used)]
    seen = overview(await read(kube), "contracts", NOON)
    (entry,) = seen.waiting
    assert (entry.what, entry.reason, entry.for_whom) == (
        "ResourceQuota/contracts is full, callbacks are answered with 503",
        "QuotaFull",
        "an administrator",
    )
    assert entry.commands == ("kubectl -n contracts describe resourcequota contracts",)
    text = " ".join(page(seen, NOON).split())
    assert f"count/envelopeevents.counterfoil.dev: {used} of 100k are used" in text
    assert exit_status([seen]) is ExitStatus.NOT_ALL


async def test_a_quota_that_was_raised_is_no_longer_listed() -> None:
    """``QuotaFull`` as its text advises. One that nobody counts yet refuses all, and is named, too."""
    kube = InMemoryKubeClient(an_organization_that())
    kube.quotas = [a_quota(used="100000", hard="200000"), {"metadata": {"name": "cpu"}}]
    assert overview(await read(kube), "contracts", NOON).waiting == ()
    kube.quotas = [a_quota(used=None)]
    (entry,) = overview(await read(kube), "contracts", NOON).waiting
    assert (entry.reason, entry.message) == (
        "QuotaFull",
        "count/envelopeevents.counterfoil.dev: not counted yet, of 100k.",
    )


async def test_an_envelope_without_an_event_may_have_callbacks_that_were_refused() -> None:
    with pytest.raises(
        CommandError, match=r"503, or not at all, leaves no event.*`kubectl counterfoil status`"
    ):
        await select_event(InMemoryKubeClient(), "0f9c1c2e-4b1d-4c58-9a57-6d1f0a3b2c4d")


async def test_quotas_that_may_not_be_read_are_named() -> None:
    message = (
        'resourcequotas is forbidden: User "jane" cannot list resource "resourcequotas" in API group "" in '
        'the namespace "contracts"'
    )
    kube = InMemoryKubeClient(an_organization_that())
    kube.trouble["resource_quotas"] = Forbidden(403, "Forbidden", message)
    reading = await read(kube)
    (said,) = [each for each in reading.unread if each.startswith("resourcequotas")]
    assert "--clusterrole=view --user=jane`" in said
    assert reading.is_refused


def a_controller_of(release: str, *policies: str, created: str = "2026-10-01T00:00:00Z") -> dict[str, Any]:
    """Return a pod of a release that installs these policies."""
    pod = a_pod("controller")
    pod["metadata"]["labels"]["app.kubernetes.io/instance"] = release
    pod["metadata"]["creationTimestamp"] = created
    pod["metadata"]["annotations"] = {"counterfoil.dev/admission-policies": " ".join(policies)}
    return pod


def about_policies(seen: InstallationStatus) -> list[WaitingItem]:
    return [each for each in seen.waiting if each.reason == "AdmissionPolicyMissing"]


async def test_admission_policies_that_were_deleted_are_named_with_what_installs_them() -> None:
    """``AdmissionPolicyMissing``: nothing else reports it, as all processes work without them."""
    kube = InMemoryKubeClient(an_organization_that())
    kube.stored_pods = [a_controller_of("prod", "contracts-prod-noted", "contracts-prod-status")]
    kube.policies = {"contracts-prod-noted", "other-status"}
    seen = overview(await read(kube), "contracts", NOON)
    (entry,) = about_policies(seen)
    assert (entry.what, entry.for_whom) == ("1 of 2 admission policies is missing", "an administrator")
    assert entry.commands[-1] == "helm -n contracts upgrade prod CHART --reuse-values"
    assert "Message: contracts-prod-status" in " ".join(page(seen, NOON).split())
    assert exit_status([seen]) is ExitStatus.NOT_ALL

    kube.policies.add("contracts-prod-status")
    assert about_policies(overview(await read(kube), "contracts", NOON)) == []


async def test_only_the_policies_of_the_newest_values_are_expected() -> None:
    """During an upgrade there are pods of the values before. A release without policies has no annotation."""
    kube = InMemoryKubeClient(an_organization_that())
    kube.stored_pods = [
        a_controller_of("prod", "a", created="2026-10-02T00:00:00Z"),
        a_controller_of("prod", "a", "b", created="2026-10-01T00:00:00Z"),
    ]
    kube.policies = {"a"}
    assert about_policies(overview(await read(kube), "contracts", NOON)) == []
    kube.stored_pods, kube.policies = [a_pod("controller")], set()
    assert about_policies(overview(await read(kube), "contracts", NOON)) == []
    assert kube.count("admission_policies") == 1


async def test_policies_that_may_not_be_read_are_named_without_another_exit_status() -> None:
    """They belong to the cluster. So a person with all rights in the namespace does not end with status 4."""
    kube = InMemoryKubeClient(an_organization_that())
    kube.stored_pods = [a_controller_of("prod", "contracts-prod-noted")]
    message = 'validatingadmissionpolicies is forbidden: User "jane" cannot list it at the cluster scope'
    kube.trouble["admission_policies"] = Forbidden(403, "Forbidden", message)
    reading = await read(kube)
    assert reading.unread == (
        f"admission policies, of which it is unknown whether one is missing: {message}",
    )
    assert not reading.is_refused
    assert about_policies(overview(reading, "contracts", NOON)) == []


def test_a_key_for_which_no_event_waits_yet_counts_none() -> None:
    default = an_organization_that(default_sender_ref=LocalObjectReference(name="anna"))
    seen = found(organizations=(default,), senders=(an_unauthorized_sender(waiting=0),))
    assert [each.what for each in seen.waiting] == ["Sender/anna of acme"]


def test_the_age_of_a_condition_is_not_shown_as_the_age_of_its_reason() -> None:
    acme = an_organization_that()
    conditions = with_condition(
        (), "Ready", "False", "CallbackTokenMissing", "", now=NOON - timedelta(minutes=2), generation=1
    )
    # The reason is another one since, and the time of the condition stays as it was.
    conditions = with_condition(conditions, "Ready", "False", "SecretNotLabelled", "", now=NOON, generation=1)
    broken = structs.replace(acme, status=structs.replace(acme.status, conditions=conditions))
    archive = an_archive_that("False", "ArchiveFull")
    sender = an_unauthorized_sender(waiting=2)
    seen = found(organizations=(broken,), archives=(archive,), senders=(sender,))
    said = page(seen, NOON)
    assert "SecretNotLabelled, for an administrator, not Ready since 2m\n" in said
    assert ", since" not in said
    assert {each.since_condition for each in seen.waiting} == {"Ready", "Authorized"}


def test_the_table_counts_the_events_that_are_listed_below_it() -> None:
    failed = EventBuilder().in_phase(Phase.FAILED, "NameOccupied").build()
    parked = EventBuilder().in_phase(Phase.AWAITING_CONSENT, "TokenRejected").build()
    retrying = EventBuilder().in_phase(Phase.ARCHIVING, "ArchiveFull").build()
    acme = an_organization_that()
    old = structs.replace(acme, status=structs.replace(acme.status, events={"Failed": 0, "Pending": 7}))
    events: dict[str, Any] = {"failed": (failed,), "waiting": (parked,), "retrying": (retrying,)}
    (line,) = found(organizations=(old,), **events).organizations
    assert (line.unfinished, line.awaiting_consent, line.failed) == (2, 1, 1)


def test_where_not_every_event_can_be_read_the_table_has_the_counts_of_the_controller() -> None:
    acme = an_organization_that()
    counts = {"Failed": 600, "Pending": 7, "AwaitingConsent": 2}
    counted = structs.replace(acme, status=structs.replace(acme.status, events=counts))
    failed = EventBuilder().in_phase(Phase.FAILED, "NameOccupied").build()
    (cut,) = found(organizations=(counted,), failed=(failed,), is_more_failed=True).organizations
    assert cut.failed == 600
    (forbidden,) = found(
        organizations=(counted,), is_more_failed=True, is_more_waiting=True, is_more_retrying=True
    ).organizations
    assert (forbidden.unfinished, forbidden.awaiting_consent, forbidden.failed) == (9, 2, 600)


def test_a_key_that_does_not_work_says_what_its_owner_needs() -> None:
    sender = an_unauthorized_sender(waiting=2)
    (entry,) = found(organizations=(an_organization_that(),), senders=(sender,)).waiting
    assert entry.what.startswith(f"Sender/{sender.name} of acme, 2 events")
    assert entry.commands[0].startswith("kubectl ")


def test_an_absent_controller_and_an_archive_that_fails_have_a_command() -> None:
    snapshot: dict[str, Any] = {
        "organizations": (an_organization_that(),),
        "archives": (an_archive_that(),),
        "unheld_shards": (UnheldShard(),),
    }
    commands = [each.commands for each in found(**snapshot).waiting]
    assert commands == [
        ("kubectl -n contracts get pods -l app.kubernetes.io/component=controller",),
        ("kubectl -n contracts describe archive dms",),
    ]


def test_an_outage_that_ends_without_a_person_is_shown_and_is_no_fault() -> None:
    conditions = with_condition((), "Reachable", "False", "EsawUnreachable", "", now=NOON, generation=1)
    acme = an_organization_that()
    away = structs.replace(acme, status=structs.replace(acme.status, conditions=conditions))
    seen = found(organizations=(away,))
    assert [each.for_whom for each in seen.waiting] == ["nobody yet"]
    assert not needs_person(seen)
    assert needs_person(found(archives=(an_archive_that(),), organizations=(acme,)))
    assert needs_person(found(a_pod("receiver", is_ready=False)))


def test_what_is_suspended_and_what_could_not_be_read_are_said_apart() -> None:
    archive = an_archive_that("False", "ArchiveSuspended")
    suspended = structs.replace(archive, spec=structs.replace(archive.spec, suspend=True))
    seen = found(archives=(suspended,), unread=("pods: no right",))
    assert seen.waiting == ()
    assert [each.name for each in seen.suspended] == ["Archive/dms"]
    assert "Archive/dms" in page(seen, NOON)
    assert "pods: no right" in page(seen, NOON)


def test_an_import_that_is_suspended_and_not_complete_is_listed() -> None:
    """Else a pause of an Import of years is forgotten: it is no task, and no alert fires."""
    held, complete = (
        structs.replace(each, spec=structs.replace(each.spec, suspend=True))
        for each in (
            an_import_that("ImportSuspended"),
            an_import_that("ImportComplete", name="done", completion_time=NOON),
        )
    )
    entry = AuditEntry("admin", "suspend", NOON - timedelta(hours=2), "update of eSAW")
    metadata = structs.replace(held.metadata, annotations=with_audit_entry({}, entry))
    held = structs.replace(held, metadata=metadata)
    seen = found(organizations=(an_organization_that(),), imports=(held, complete))
    assert seen.waiting == ()
    assert [each.name for each in seen.suspended] == ["Import/old-stock"]
    assert "  Import/old-stock, since 2h, by admin: update of eSAW\n" in page(seen, NOON)


def a_suspended_event(number: int, phase: Phase, reason: str, **act: Any) -> EnvelopeEvent:
    event = EventBuilder().named(f"event-{number:02}").suspended().in_phase(phase, reason).build()
    entry = AuditEntry("admin", "suspend", NOON - timedelta(hours=2), "legal hold")
    return structs.replace(
        event, metadata=structs.replace(event.metadata, annotations=with_audit_entry({}, entry))
    )


def test_suspended_events_are_listed_with_who_did_it_and_are_no_task() -> None:
    held = a_suspended_event(1, Phase.ARCHIVING, "Suspended")
    ended = a_suspended_event(2, Phase.SUCCEEDED, "ArchivedAndKept")
    seen = found(organizations=(an_organization_that(),), retrying=(held,), suspended_events=(held, ended))
    assert seen.waiting == ()
    assert exit_status([seen]) == ExitStatus.DONE
    assert (
        "Suspended (`kubectl counterfoil -n contracts resume KIND/NAME` ends it)\n"
        "  EnvelopeEvent/event-01, since 2h, by admin: legal hold, 1 event waits\n"
        "  EnvelopeEvent/event-02, since 2h, by admin: legal hold, its envelope is not deleted\n"
    ) in page(seen, NOON)


def test_of_many_suspended_events_some_are_shown_and_all_are_counted() -> None:
    many = tuple(a_suspended_event(number, Phase.PENDING, "Suspended") for number in range(30))
    said = page(found(suspended_events=many), NOON)
    assert said.count("EnvelopeEvent/") == MAX_SUSPENDED_EVENTS
    assert (
        "  and 20 more events: kubectl -n contracts get envelopeevents --field-selector spec.suspend=true\n"
    ) in said
    more = page(found(suspended_events=many, is_more_suspended=True), NOON)
    assert "  and more than 20 more events: kubectl" in more


async def test_suspended_events_of_each_phase_are_read() -> None:
    ended = a_suspended_event(2, Phase.SUCCEEDED, "ArchivedAndKept")
    kube = InMemoryKubeClient(an_organization_that(), ended, EventBuilder().in_phase(Phase.SUCCEEDED).build())
    reading = await read(kube)
    assert [each.name for each in reading.snapshot.suspended_events] == [ended.name]


def test_nothing_is_concluded_from_what_could_not_be_read() -> None:
    refused = "pods: no right"
    seen = overview(Reading(ClusterSnapshot(), None, (refused,), is_refused=True), "contracts", NOON)
    text = page(seen, NOON)
    assert "no pod was found" not in text
    assert "Processes\n  not read" in text
    assert "What waits for a person\n  nothing in what could be read" in text
    assert exit_status([seen]) == ExitStatus.NOT_ALLOWED
    assert exit_status([found()]) == ExitStatus.DONE
    assert "no pod was found" in page(found(), NOON)


async def test_a_refused_read_is_named_with_the_command_that_gives_the_right() -> None:
    message = (
        'leases.coordination.k8s.io is forbidden: User "jane" cannot list resource "leases" in API group '
        '"coordination.k8s.io" in the namespace "contracts"'
    )
    kube = InMemoryKubeClient(an_organization_that())
    kube.refused["page", "leases"] = Forbidden(403, "Forbidden", message)
    reading = await read(kube)
    assert reading.is_refused
    (said,) = [each for each in reading.unread if each.startswith("leases")]
    assert "`kubectl -n contracts create rolebinding counterfoil-view --clusterrole=view --user=jane`" in said


def test_what_is_suspended_says_since_when_by_whom_why_and_how_much_waits() -> None:
    acts = with_audit_entry({}, AuditEntry("admin", "suspend", NOON - timedelta(hours=2), "update of eSAW"))
    acts = with_audit_entry(acts, AuditEntry("ben", "sweep", NOON, ""))
    acme = an_organization_that()
    held = structs.replace(
        acme,
        metadata=structs.replace(acme.metadata, annotations=acts),
        spec=structs.replace(acme.spec, suspend=True),
        status=structs.replace(acme.status, events={"Pending": 2, "Failed": 1, "Archiving": 1}),
    )
    # Not every event could be read, so the controller's count is shown.
    seen = found(organizations=(held,), is_more_retrying=True)
    said = page(seen, NOON)
    assert "  Organization/acme, since 2h, by admin: update of eSAW, 3 events wait\n" in said
    event = EventBuilder().in_phase(Phase.ARCHIVING, "OrganizationSuspended").build()
    assert "since 2h, by admin: update of eSAW" in why_page(explain(event, held, None, (), NOON))


def test_of_a_suspended_archive_the_events_that_have_chosen_it_are_counted() -> None:
    vault = an_archive_that("False", "ArchiveSuspended", name="vault")
    vault = structs.replace(vault, spec=structs.replace(vault.spec, suspend=True))
    to_vault = ArchiveRoute(
        name="hr", archive_ref=LocalObjectReference(name="vault"), when=RouteConditions(senders=("ben",))
    )

    def waiting(number: int, choice: Choice) -> EnvelopeEvent:
        builder = EventBuilder().named(f"event-{number}").in_phase(Phase.COLLECTING, "EsawUnreachable")
        return builder.status(archive=choice.location).build()

    for acme in (an_organization_that(routes=(to_vault,)), an_organization_that()):
        elsewhere = tuple(waiting(number, Choice("dms", None)) for number in range(37))
        there = structs.replace(Choice("vault", "hr").location, manifest="file:///srv/x/counterfoil.json")
        own = EventBuilder().named("own").in_phase(Phase.CLEANING, "ArchiveSuspended")
        events = (*elsewhere, own.status(archive=there).build())
        archives = (an_archive_that("True", "Probed"), vault)
        seen = found(organizations=(acme,), archives=archives, retrying=events)
        assert [(each.name, each.waiting) for each in seen.suspended] == [("Archive/vault", 1)]
        assert needs_person(seen) is not bool(acme.spec.routes)


def test_of_the_suspended_archive_of_a_copy_the_archived_events_that_wait_for_it_are_counted() -> None:
    second = an_archive_that("False", "ArchiveSuspended", name="second")
    second = structs.replace(second, spec=structs.replace(second.spec, suspend=True))
    first = an_archive_that("True", "Probed")
    first = structs.replace(first, spec=structs.replace(first.spec, suspend=True))
    acme = an_organization_that(copies=(CopySpec(LocalObjectReference(name="second")),))
    filed = structs.replace(Choice("dms", None).location, manifest="file:///srv/x/counterfoil.json")
    missing = EventCopy(ref=LocalObjectReference(name="second"), reason="ArchiveSuspended")
    event = (
        EventBuilder().in_phase(Phase.COPYING, "ArchiveSuspended").status(archive=filed, copies=(missing,))
    )
    event.with_condition("Archived").with_condition("Copied", "Unknown", "CopiesPending")
    seen = found(organizations=(acme,), archives=(first, second), retrying=(event.build(),))
    waiting = {each.name: each.waiting for each in seen.suspended}
    assert waiting == {"Archive/dms": 0, "Archive/second": 1}
    assert "Archive/second, 1 event waits\n" in page(seen, NOON)


def test_an_advice_that_refers_to_the_message_is_printed_with_it() -> None:
    create = create_command("main-s3", {"accessKeyId": Placeholder.ACCESS_KEY_ID}, SecretUse.ARCHIVE)
    conditions = with_condition(
        (),
        "Ready",
        "False",
        "ArchiveSecretMissing",
        f"Archive/dms: Secret/main-s3 does not exist. Put the credentials there (type `{create}`).",
        now=NOON,
        generation=1,
    )
    archive = an_archive_that()
    archive = structs.replace(archive, status=structs.replace(archive.status, conditions=conditions))
    seen = found(organizations=(an_organization_that(),), archives=(archive,))
    text = page(seen, NOON)
    assert (
        "    The message says how to put the values there. Do that, or correct the reference in the "
        "Archive.\n"
        "    Message: Archive/dms: Secret/main-s3 does not exist. Put the credentials there "
        "(type the command below).\n"
    ) in text
    typed = create.replace("kubectl", "kubectl -n contracts", 1)
    assert f"    $ {typed}\n" in text.replace(" \\\n        ", " ")
    assert f"`{create}`" in seen.waiting[0].message


def test_copies_that_were_given_up_have_the_advice_of_their_reason() -> None:
    problem = ReportedProblem(
        "copy/mirror", "CopyGivenUp", NOON, message="OriginalReplaced: EnvelopeEvent/first is there."
    )
    (entry,) = found(organizations=(an_organization_that(problems=(problem,)),)).waiting
    texts = [find_reason(each).localized_text().do for each in ("CopyGivenUp", "OriginalReplaced")]
    assert entry.do == " ".join(texts)
    assert "EnvelopeEvent/first" in entry.explanation


def test_a_message_of_a_status_controls_no_terminal_and_fits() -> None:
    conditions = with_condition(
        (), "Ready", "False", "SettingsInvalid", "\x1b[2J evil " * 40, now=NOON, generation=1
    )
    archive = an_archive_that()
    archive = structs.replace(archive, status=structs.replace(archive.status, conditions=conditions))
    text = page(found(organizations=(an_organization_that(),), archives=(archive,)), NOON)
    assert "evil" in text
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) <= 120


@pytest.mark.parametrize("before", [60, 85, 100])
@pytest.mark.parametrize("name", [".counterfoil-archive.json", f"file:///{'signed-contracts/' * 9}"])
def test_a_name_in_a_message_is_on_one_line(name: str, before: int) -> None:
    message = f"{'x' * before} ({name}) is missing."
    conditions = with_condition((), "Ready", "False", "ArchiveRootChanged", message, now=NOON, generation=1)
    archive = an_archive_that()
    archive = structs.replace(archive, status=structs.replace(archive.status, conditions=conditions))
    assert name in page(found(organizations=(an_organization_that(),), archives=(archive,)), NOON)


def test_the_manual_shows_what_the_program_prints() -> None:
    since = NOON - timedelta(hours=3)
    sender = an_unauthorized_sender("jane-doe", waiting=2, since=since)
    waiting = [
        EventBuilder()
        .named(f"waiting-{number}")
        .labelled(SENDER_LABEL, "jane-doe")
        .in_phase(Phase.AWAITING_CONSENT, "TokenRejected")
        .build()
        for number in range(2)
    ]
    running = EventBuilder().named("running").in_phase(Phase.ARCHIVING, "").build()
    event = EventBuilder().in_phase(Phase.FAILED, "NameOccupied").status(completion_time=since).build()
    pods = [a_pod(each) for each in ("controller", "receiver") for _ in range(2)]
    seen = found(
        *pods,
        organizations=(an_organization_that(),),
        senders=(sender,),
        failed=(event,),
        waiting=tuple(waiting),
        retrying=(running,),
    )
    assert page(seen, NOON) == printed_in_manual("kubectl counterfoil status").replace("0.1.0", __version__)


async def of_all(*clients: InMemoryKubeClient) -> str:
    """Return what ``status -A`` prints."""
    out, args = io.StringIO(), argparse.Namespace(all_namespaces=True, output="text")
    await status_command.run(args, Everywhere(clients), out)
    return out.getvalue()


class Everywhere(InMemoryKubeClient):
    """An API server with several namespaces."""

    def __init__(self, clients: Sequence[InMemoryKubeClient]) -> None:
        super().__init__()
        self.clients = {each.namespace: each for each in clients}

    def in_all_namespaces(self) -> KubeClient:
        return self

    def in_namespace(self, namespace: str) -> KubeClient:
        return self.clients[namespace]

    async def list(self, kind: type[Resource], **_: Any) -> AsyncIterator[Raw]:
        for name, each in self.clients.items():
            async for raw in each.list(kind):
                raw["metadata"]["namespace"] = name
                yield raw


def in_namespace(namespace: str, *resources: Resource) -> InMemoryKubeClient:
    kube = InMemoryKubeClient(*resources)
    kube.namespace = namespace
    return kube


async def test_the_organizations_of_all_namespaces_are_in_one_table_with_their_namespace() -> None:
    small = in_namespace("unit-a", an_organization_that(name="acme"))
    large = in_namespace("a-larger-unit", an_organization_that(name="acme"), an_organization_that(name="b"))
    lines = (await of_all(small, large)).splitlines()
    assert lines[:5] == [
        "Organizations",
        "  NAMESPACE       NAME   READY   REASON   ARCHIVE   UNFINISHED   CONSENT   FAILED",
        "  a-larger-unit   acme   True    Ready    dms       0            0         0",
        "  a-larger-unit   b      True    Ready    dms       0            0         0",
        "  unit-a          acme   True    Ready    dms       0            0         0",
    ]
    parts = [each for each in lines if each.startswith(("Namespace", "Organizations", "What"))]
    assert [each.partition(",")[0] for each in parts] == [
        "Organizations",
        "Namespace a-larger-unit",
        "What waits for a person",
        "Namespace unit-a",
        "What waits for a person",
    ]


async def test_a_namespace_whose_organization_can_not_be_read_has_its_line() -> None:
    unit = with_spec(in_namespace("unit-a", an_organization_that()), Organization, "acme", baseURL=7)
    lines = (await of_all(unit)).splitlines()
    assert [line.split() for line in lines[2:4]] == [["unit-a", "not", "read"], []]


async def test_without_an_organization_in_any_namespace_the_table_is_replaced_by_a_sentence() -> None:
    assert await of_all() == "no namespace has an Organization\n"


QUOTED = "kubectl -n demo patch archive folder --subresource=status --type=merge -p "
PATCH = (
    '{"status": {"root": {"location": "file:///tmp/a long folder/it\'s here/archive/", "markerID": null}}}'
)


@pytest.mark.parametrize(
    "command",
    [
        QUOTED + shlex.quote(PATCH),
        QUOTED + '"{}"',
        f"kubectl label secret a{'b' * 150} counterfoil.dev/use=token",
        "kubectl get senders && " + QUOTED + shlex.quote(PATCH),
        f"kubectl annotate secret key counterfoil.dev/origin={'x' * 90} --overwrite 'a  b' \"c   d\"",
    ],
)
def test_a_long_command_is_the_same_for_the_shell_when_it_is_pasted(command: str) -> None:
    lines = command_lines(command)
    assert lines[0].startswith("    $ ")
    pasted = "\n".join(lines).strip().removeprefix("$ ")
    assert words_for_kubectl(pasted) == words_for_kubectl(command)


def words_for_kubectl(typed: str) -> str:
    """Return what a shell passes to kubectl."""
    script = f"kubectl() {{ printf '<%s>' \"$@\"; }}\n{typed}"
    return subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout


def test_the_page_fits_120_columns_and_controls_no_terminal() -> None:
    broken = an_archive_that("False", "ArchiveCredentialsRejected")
    organizations = tuple(
        an_organization_that("False", "ArchiveCredentialsRejected", name=f"organization-{number}")
        for number in range(3)
    )
    text = page(
        found(
            *(a_pod(each) for each in ("controller", "receiver", "pages", "console")),
            organizations=organizations,
            archives=(broken,),
            unread=("pods: the API server answered 403 " * 9, "\x1b[2J"),
        ),
        NOON,
    )
    assert max(map(len, text.splitlines())) <= 120
    assert "\x1b" not in text


# -- Imports -------------------------------------------------------------------------------------------------


async def shown(kube: InMemoryKubeClient) -> str:
    now = datetime.now(UTC)
    return page(overview(await read(kube), "contracts", now), now)


async def test_an_import_that_waits_for_a_person_is_listed_at_once() -> None:
    kube = InMemoryKubeClient(an_organization_that(), an_import_that("ImportSpanEmpty", name="future"))
    text = await shown(kube)
    assert "1 Import of acme: ImportSpanEmpty, for an administrator" in text
    assert "$ kubectl -n contracts describe import future" in text


async def test_an_import_that_no_controller_processes_names_the_rights_and_definitions() -> None:
    kube = InMemoryKubeClient(an_organization_that(), an_import_that("Pending", observed_generation=None))
    text = " ".join((await shown(kube)).split())
    assert "1 Import of acme: ImportNotProcessed, for an administrator" in text
    assert "`imports.counterfoil.dev`" in text
    assert "CustomResourceDefinitions" in text


async def test_an_api_server_without_imports_is_not_said_to_have_none() -> None:
    kube = InMemoryKubeClient(an_organization_that())
    kube.remove_definition(Import)
    text = " ".join((await shown(kube)).split())
    assert "imports: the API server has no kind Import" in text
    assert "nothing in what could be read" in text
    assert exit_status([overview(await read(kube), "contracts", NOON)]) is ExitStatus.NOT_ALLOWED


WAITED_WITH = [
    name
    for name, each in CATALOGUE.items()
    if each.responsible is Responsible.NOBODY and ReasonContext.WAITING in each.contexts
]
"""The reasons with which nobody has to act about an event that waits."""


@pytest.mark.parametrize("cause", WAITED_WITH)
def test_an_event_that_failed_is_for_an_administrator_with_each_cause_of_a_wait(cause: str) -> None:
    """No retry is automatic after the deadline."""
    given_up = EventBuilder().in_phase(Phase.FAILED, "DeadlineExceeded")
    event = given_up.status(last_error=LastError(reason=cause, message="m", time=NOON)).build()
    retried = CATALOGUE["DeadlineExceeded"].localized_text().do
    shown = found(organizations=(an_organization_that(),), failed=(event,))
    assert [each.for_whom for each in shown.waiting] == ["an administrator"]
    assert shown.waiting[0].do.endswith(retried)
    assert exit_status([shown]) is ExitStatus.NOT_ALL
    why = explain(event, an_organization_that(), None, (), NOON)
    assert (why.turn, why.do.endswith(retried)) == ("an administrator", True)


def test_what_to_do_about_an_event_that_failed_is_not_said_twice() -> None:
    """The texts of reasons with which events fail at once end with the retry."""
    failed = EventBuilder().in_phase(Phase.FAILED, "NotPermitted").build()
    do = CATALOGUE["NotPermitted"].localized_text().do
    assert explain(failed, an_organization_that(), None, (), NOON).do == do


def with_spec(kube: InMemoryKubeClient, kind: type[Resource], name: str, **spec: Any) -> InMemoryKubeClient:
    kube.edit(kind, name, {"spec": spec})
    return kube


@pytest.mark.parametrize(
    ("kind", "name", "spec"), UNREADABLE_SPECS, ids=[kind.KIND for kind, _, _ in UNREADABLE_SPECS]
)
async def test_an_object_that_can_not_be_read_is_named_with_the_field(
    kind: type[Resource], name: str, spec: dict[str, Any]
) -> None:
    kube = InMemoryKubeClient(
        an_organization_that(),
        an_archive_that("True", "Probed"),
        an_unauthorized_sender(),
        an_import_that("Importing", name="old"),
    )
    assert f"{kind.KIND}/{name}: Expected" not in await shown(kube)
    text = " ".join((await shown(with_spec(kube, kind, name, **spec))).split())
    (field,) = spec
    assert f"{kind.KIND}/{name}: Expected" in text
    assert f"$.spec.{field}" in text
    assert "must be of the same version" in text
    assert exit_status([overview(await read(kube), "contracts", NOON)]) is not ExitStatus.DONE


async def test_an_organization_that_can_not_be_read_is_not_said_to_be_absent() -> None:
    text = await shown(with_spec(InMemoryKubeClient(an_organization_that()), Organization, "acme", baseURL=7))
    assert "none: `kubectl counterfoil setup` creates one" not in text
    assert "nothing in what could be read" in text


def test_an_object_that_can_not_be_read_is_not_blamed_on_an_older_plugin() -> None:
    invalid = ResourceInvalid("Import/old: Object missing required field `year` - at `$.status.groups[0]`")
    code, text = describe(invalid)
    assert (code, str(invalid) in text, "older" in text) == (ExitStatus.NOT_ALL, True, False)
    assert f"The plugin ({__version__}), Counterfoil and its CustomResourceDefinitions" in text
