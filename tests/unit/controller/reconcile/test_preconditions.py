"""Before the phases: each rung of the ladder, with what its reader sees."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec import structs

from controller.access.archive_root import root_of
from controller.kept_metadata import KEPT_ANNOTATIONS, MAX_KEPT_ANNOTATION
from controller.reconcile.context import (
    MAX_SIBLINGS_MEMORY,
    MEMORY_OF_SIBLING,
    SiblingCollector,
    TooManyEvents,
)
from controller.reconcile.outcomes import Fail, Hold, NeedConsent, Outcome, Pause, Wait
from controller.reconcile.preconditions import Admitted, RecordOnly
from counterfoil.archives.errors import ArchiveError
from counterfoil.esaw.errors import NotProven
from counterfoil.i18n.reasons import CATALOGUE, Responsible
from counterfoil.kube.errors import Unavailable
from counterfoil.kube.watch import Raw
from counterfoil.resources import (
    ENVELOPE_LABEL,
    LISTED_BY_LABEL,
    MAX_DOCUMENTS,
    SENDER_LABEL,
    Archive,
    Attempt,
    AttemptOutcome,
    Condition,
    EnvelopeEvent,
    FiledDocument,
    FileKind,
    LastError,
    Organization,
    Origin,
    Phase,
    Sender,
)
from counterfoil.resources.conditions import ConditionStatus, with_condition
from counterfoil.resources.envelopeevent import MAX_DOCUMENTS_BYTES, SENDER_GRACE, stored_size
from tests.support.builders import (
    ENVELOPE,
    KEY,
    NOON,
    a_sender,
    an_envelope,
    an_event,
    an_organization,
)
from tests.support.fakes.reconcile_context import (
    a_probed_archive,
    an_archive,
    probed,
)
from tests.support.scenes.preconditions import PreconditionsScene


@pytest.fixture
def scene() -> PreconditionsScene:
    return PreconditionsScene()


# -- May it be worked on at all? -----------------------------------------------------------------------------


def test_an_event_whose_organization_archives_its_action_may_be_worked_on(scene: PreconditionsScene) -> None:
    assert scene.preconditions.admit(an_event().build()) == an_organization()


def test_letter_case_of_the_action_does_not_matter(scene: PreconditionsScene) -> None:
    assert isinstance(
        scene.preconditions.admit(an_event().for_action("ENVELOPEfinished").build()), Organization
    )


def test_a_suspended_event_is_held_even_without_its_organization(scene: PreconditionsScene) -> None:
    scene.cache.organizations.remove("acme")
    outcome = scene.preconditions.admit(an_event().suspended().build())
    assert outcome == Hold("Suspended", "spec.suspend of this event is true.")


def test_an_event_without_its_organization_waits_for_it(scene: PreconditionsScene) -> None:
    scene.cache.organizations.remove("acme")
    outcome = scene.preconditions.admit(an_event().build())
    assert outcome == Wait("OrganizationMissing", "Organization/acme does not exist.")


def test_a_suspended_organization_holds_all_its_events(scene: PreconditionsScene) -> None:
    scene.organization(suspend=True)
    outcome = scene.preconditions.admit(an_event().build())
    assert outcome == Hold("OrganizationSuspended", "spec.suspend of Organization/acme is true.")


def test_a_suspended_archive_holds_the_events_that_need_it(scene: PreconditionsScene) -> None:
    scene.organization(
        actions=[{"action": "envelopeFinished"}, {"action": "workstepFinished", "handling": "Record"}]
    )
    scene.cache.archives.put(an_archive(version=9, suspend=True))
    outcome = scene.preconditions.admit(an_event().build())
    assert outcome == Hold("ArchiveSuspended", "spec.suspend of Archive/dms is true.")
    recorded = scene.preconditions.admit(an_event().for_action("workstepFinished").build())
    assert isinstance(recorded, RecordOnly)
    # An archive of another Organization holds nothing here.
    scene.cache.organizations.put(an_organization(archiveRef={"name": "other"}, version=3))
    assert isinstance(scene.preconditions.admit(an_event().build()), Organization)


def test_an_action_that_is_only_recorded_needs_no_phase(scene: PreconditionsScene) -> None:
    scene.organization(actions=[{"action": "workstepFinished", "handling": "Record"}])
    assert isinstance(
        scene.preconditions.admit(an_event().for_action("workstepFinished").build()), RecordOnly
    )


def an_attempt(phase: Phase, outcome: str, reason: str) -> Attempt:
    return Attempt(
        phase=phase, start_time=NOON, duration_seconds=1, outcome=AttemptOutcome(outcome), reason=reason
    )


@pytest.mark.parametrize(
    "begun",
    [
        {"documents": (FiledDocument(file_id="file-1", kind=FileKind.DOCUMENT, file_name="a.pdf"),)},
        {"attempts": 1, "attempt_history": (an_attempt(Phase.COLLECTING, "Wait", "NoFiles"),)},
        {"attempt_history": (an_attempt(Phase.ARCHIVING, "Fail", "ArchiveFull"),)},
        {"attempt_history": (an_attempt(Phase.VALIDATING, "Done", "StatusAccepted"),)},
        {"phase": Phase.ARCHIVING},
        {
            "conditions": with_condition(
                (), "Validated", "True", "StatusAccepted", "It is Completed.", now=NOON, generation=1
            )
        },
    ],
)
def test_an_event_whose_archiving_had_begun_is_held_and_not_recorded(
    scene: PreconditionsScene, begun: dict[str, Any]
) -> None:
    """Otherwise a failed or half archived envelope would end as if nothing else were needed."""
    scene.organization(actions=[{"action": "envelopeFinished", "handling": "Record"}])
    outcome = scene.preconditions.admit(an_event().status(**begun).build())
    assert isinstance(outcome, Hold)
    assert (outcome.reason, outcome.message) == (
        "ActionNotConfigured",
        "spec.actions of Organization/acme lists the action envelopeFinished with handling Record, but the "
        "archiving of this envelope had begun. Set the handling to Archive, or skip this event: then no "
        "event deletes the envelope.",
    )


@pytest.mark.parametrize(
    "reason", ["StillActive", "SenderPending", "OrganizationMissing", "EnvelopeNotFound", "EsawUnreachable"]
)
def test_an_event_that_only_waited_until_its_archiving_may_begin_is_recorded(
    scene: PreconditionsScene, reason: str
) -> None:
    """A held event would wait permanently: a person who sets Record wants nothing archived by it."""
    scene.organization(actions=[{"action": "envelopeFinished", "handling": "Record"}])
    waited = (
        an_event()
        .in_phase(Phase.VALIDATING, reason)
        .status(
            attempts=3,
            attempt_history=(an_attempt(Phase.VALIDATING, "Wait", reason),),
            last_error=LastError(reason=reason, message="It was not possible.", time=NOON),
            conditions=with_condition((), "Validated", "False", reason, "No.", now=NOON, generation=1),
        )
    )
    assert isinstance(scene.preconditions.admit(waited.build()), RecordOnly)


def test_an_action_that_is_no_longer_listed_holds_its_events(scene: PreconditionsScene) -> None:
    outcome = scene.preconditions.admit(an_event().for_action("envelopeExpired").build())
    assert isinstance(outcome, Hold)
    assert (outcome.reason, outcome.message) == (
        "ActionNotConfigured",
        "spec.actions of Organization/acme does not list the action envelopeExpired. "
        "List it there, or skip this event.",
    )


# -- Who sent it? --------------------------------------------------------------------------------------------


async def test_the_envelope_shows_who_sent_it(scene: PreconditionsScene) -> None:
    scene.kube.put(an_envelope("ben"))
    scene.cache.senders.put(a_sender("ben"))
    assert await scene.sender() == a_sender("ben")


async def test_without_an_envelope_it_is_the_organizations_default_sender(scene: PreconditionsScene) -> None:
    sender = await scene.sender()
    assert isinstance(sender, Sender)
    assert sender.name == "anna"


async def test_the_envelope_of_another_organization_with_the_same_id_reveals_nothing(
    scene: PreconditionsScene,
) -> None:
    scene.organization(defaultSenderRef={"name": "anna"})
    scene.kube.put(an_envelope(sender="other", organization="other"))
    sender = await scene.sender()
    assert isinstance(sender, Sender)
    assert sender.name == "anna"


async def test_what_the_sweep_found_with_a_senders_key_is_this_senders(scene: PreconditionsScene) -> None:
    scene.cache.senders.put(a_sender("ben"))
    found = an_event().by(Origin.SWEEP).labelled(LISTED_BY_LABEL, "ben").build()
    assert await scene.sender(found) == a_sender("ben")
    scene.cache.sender_of.clear()
    called = an_event().labelled(SENDER_LABEL, "ben").build()
    sender = await scene.sender(called)
    assert isinstance(sender, Sender)
    assert sender.name == "anna", "for a callback, the label is but a guess of the receiver's"


async def test_an_event_that_an_import_starts_again_is_of_the_sender_whose_key_listed_it(
    scene: PreconditionsScene,
) -> None:
    scene.cache.senders.put(a_sender("ben"))
    event = an_event().labelled(SENDER_LABEL, "anna").labelled(LISTED_BY_LABEL, "ben").build()
    assert await scene.sender(event) == a_sender("ben")


async def test_a_label_with_a_sender_of_another_organization_reveals_nothing(
    scene: PreconditionsScene,
) -> None:
    scene.organization(defaultSenderRef={"name": "anna"})
    scene.cache.senders.put(a_sender("emil", organization="other"))
    found = an_event().by(Origin.SWEEP).labelled(LISTED_BY_LABEL, "emil").build()
    sender = await scene.sender(found)
    assert isinstance(sender, Sender)
    assert sender.name == "anna"


async def test_the_sender_is_looked_up_once_per_event(scene: PreconditionsScene) -> None:
    await scene.sender()
    await scene.sender()
    assert scene.kube.asked == [("get", ENVELOPE)]


async def test_an_envelope_that_esaw_does_not_show_to_this_sender_may_be_recorded_as_anothers_since(
    scene: PreconditionsScene,
) -> None:
    await scene.sender()
    scene.kube.put(an_envelope("ben"))
    scene.cache.senders.put(a_sender("ben"))
    assert await scene.sender(an_event().in_phase(Phase.VALIDATING, "EnvelopeNotFound").build()) == a_sender(
        "ben"
    )


async def test_an_event_whose_sender_nobody_knows_fails_and_says_what_to_do(
    scene: PreconditionsScene,
) -> None:
    scene.organization(defaultSenderRef=None)
    outcome = await scene.sender()
    assert isinstance(outcome, Fail)
    assert outcome.reason == "SenderUnknown"
    assert "Set a default" in outcome.message


async def test_an_event_whose_sender_does_not_exist_waits_for_it_and_looks_again(
    scene: PreconditionsScene,
) -> None:
    scene.cache.senders.remove("anna")
    outcome = await scene.sender()
    assert outcome == Wait("SenderMissing", "Sender/anna does not exist.")
    scene.cache.senders.put(a_sender())
    assert isinstance(await scene.sender(), Sender)


async def test_a_sender_of_another_organization_is_never_used(scene: PreconditionsScene) -> None:
    scene.cache.senders.put(a_sender(version=2, organization="other"))
    outcome = await scene.sender()
    assert isinstance(outcome, Fail)
    assert outcome.reason == "SenderOfOtherOrganization"


async def test_an_unreachable_api_server_is_no_reason_to_take_the_default_sender(
    scene: PreconditionsScene,
) -> None:
    scene.kube.go_away("get", times=1)
    with pytest.raises(Unavailable):
        await scene.sender()


# -- With which key, into which archive? ---------------------------------------------------------------------


async def test_when_all_is_there_the_event_is_admitted(scene: PreconditionsScene) -> None:
    admitted = await scene.prepare()
    assert isinstance(admitted, Admitted)
    assert admitted.token.reveal() == KEY
    assert (admitted.context.archive.name, admitted.context.sender.name) == ("dms", "anna")


async def test_the_siblings_of_an_event_are_those_of_its_envelope_by_their_specs(
    scene: PreconditionsScene,
) -> None:
    other = "11111111-4b1d-4c58-9a57-6d1f0a3b2c4d"
    hidden = an_event().for_action("workstepFinished").labelled(ENVELOPE_LABEL, other).build()
    foreign = an_event(other).labelled(ENVELOPE_LABEL, ENVELOPE).build()
    scene.kube.put(hidden)
    scene.kube.put(foreign)
    admitted = await scene.prepare()
    assert isinstance(admitted, Admitted)
    found = await admitted.context.sibling_events()
    assert [each.name for each in found.events] == [hidden.name]


def steps_with(*lists: Sequence[str]) -> list[EnvelopeEvent]:
    """Return an event for each list of archived files, of different worksteps."""
    builders = (an_event().for_action("workstepFinished").named(f"step-{n}") for n in range(len(lists)))
    return [each.archived(*names).build() for each, names in zip(builders, lists, strict=True)]


async def test_files_that_the_siblings_of_an_event_have_in_common_are_in_memory_once(
    scene: PreconditionsScene,
) -> None:
    """A caller chooses the number of events, and each may list 2,000 files."""
    names = [f"{number}.pdf" for number in range(30)]
    for each in steps_with(*[names] * 20, [*names, "trail.pdf"]):
        scene.kube.put(each)
    admitted = await scene.prepare()
    assert isinstance(admitted, Admitted)
    siblings = await admitted.context.siblings()
    assert sorted(len(each.status.documents) for each in siblings) == [*[30] * 20, 31]
    assert len({id(each.status.documents) for each in siblings}) == 2
    assert len({id(file) for each in siblings for file in each.status.documents}) == 31


def collect(*lists: Sequence[str], most: int = MAX_SIBLINGS_MEMORY) -> int:
    """Return how many events with these files are collected. Raises ``TooManyEvents``."""
    collector = SiblingCollector(most=most)
    for each in steps_with(*lists):
        collector.add(each)
    return len(collector.events)


def files_of(step: int, number: int) -> list[str]:
    """Return names of files in the folder of a workstep."""
    return [f"{step:0>50}/{each:0>80}.pdf" for each in range(number)]


def test_more_siblings_than_fit_into_the_memory_of_a_run_are_refused() -> None:
    with pytest.raises(TooManyEvents, match="remove"):
        collect(*([*files_of(step, 100)] for step in range(9)), most=8 * 100 * 1024)
    assert collect(*[files_of(0, 100)] * 9, most=8 * 100 * 1024) == 9


def test_siblings_with_few_files_are_counted_as_well() -> None:
    with pytest.raises(TooManyEvents):
        collect(*[("contract.pdf",)] * 11, most=10 * MEMORY_OF_SIBLING)


def with_parameters_of_a_caller(event: EnvelopeEvent) -> EnvelopeEvent:
    parameters = {f"parameter{n}": f"{n:0>256}" for n in range(16)}
    return structs.replace(
        event,
        spec=structs.replace(event.spec, parameters=parameters),
        status=structs.replace(event.status, parameters=parameters),
    )


def test_the_parameters_of_siblings_are_counted() -> None:
    """A caller chooses them, and the number of events."""
    event = with_parameters_of_a_caller(an_event().build())
    with pytest.raises(TooManyEvents):
        SiblingCollector(most=MEMORY_OF_SIBLING + 2 * 16 * 256).add(event)


def test_of_the_metadata_of_siblings_only_that_is_kept_which_is_read() -> None:
    """Kubernetes bounds annotations by 256 KiB, and labels by the size of the object only."""
    event = an_event().labelled("example.com/team", "sales").labelled(SENDER_LABEL, "anna").build()
    annotations = {f"example.com/note-{n}": f"{n:0>1024}" for n in range(64)}
    metadata = structs.replace(event.metadata, annotations=annotations)
    collector = SiblingCollector()
    collector.add(structs.replace(event, metadata=metadata))
    (kept,) = collector.events
    assert (kept.metadata.labels, kept.metadata.annotations) == ({SENDER_LABEL: "anna"}, {})


def test_the_kept_metadata_of_siblings_is_counted() -> None:
    event = an_event().build()
    annotations = dict.fromkeys(KEPT_ANNOTATIONS, "\U0001f600" * MAX_KEPT_ANNOTATION)
    event = structs.replace(event, metadata=structs.replace(event.metadata, annotations=annotations))
    with pytest.raises(TooManyEvents):
        SiblingCollector(most=MEMORY_OF_SIBLING + 4 * MAX_KEPT_ANNOTATION * len(annotations)).add(event)


def test_ten_siblings_with_the_longest_lists_in_different_folders_fit() -> None:
    lists = [files_of(step, MAX_DOCUMENTS) for step in range(10)]
    (first,) = steps_with(lists[0])
    assert stored_size(first.status.documents) > MAX_DOCUMENTS_BYTES * 0.9
    assert collect(*lists) == 10


async def test_a_sibling_that_cannot_be_read_forbids_the_delete_and_hides_no_other(
    scene: PreconditionsScene,
) -> None:
    sibling = an_event().for_action("workstepFinished").build()
    odd = an_event().for_action("other").build()
    scene.kube.put(sibling)
    scene.kube.put(odd)
    scene.kube.edit(EnvelopeEvent, odd.name, {"status": {"phase": "Unheard"}})
    admitted = await scene.prepare()
    assert isinstance(admitted, Admitted)
    with pytest.raises(NotProven, match=odd.name):
        await admitted.context.siblings_before_delete()
    assert [each.name for each in await admitted.context.siblings()] == [sibling.name]


async def test_a_sender_who_sends_by_the_page_may_be_recorded_after_the_first_callback(
    scene: PreconditionsScene,
) -> None:
    oauth = {"clientID": "c", "clientSecretRef": {"name": "s", "key": "k"}}
    scene.organization(defaultSenderRef=None, oauth=oauth)
    outcome = await scene.sender()
    assert isinstance(outcome, Wait)
    assert (outcome.reason, outcome.message) == (
        "SenderPending",
        "The sender of this envelope is not recorded yet.",
    )

    scene.clock.advance(seconds=SENDER_GRACE.total_seconds())

    outcome = await scene.sender()
    assert isinstance(outcome, Fail)
    assert outcome.reason == "SenderUnknown"


def a_draft_lease(created: datetime, kind: str = "draft", organization: str = "acme") -> Raw:
    labels = {"counterfoil.dev/note": kind, "counterfoil.dev/organization": organization}
    metadata = {"name": "counterfoil-draft-1", "labels": labels, "creationTimestamp": created.isoformat()}
    return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": {}}


OAUTH = {"clientID": "c", "clientSecretRef": {"name": "s", "key": "k"}}


async def test_the_default_sender_waits_some_minutes_while_a_draft_is_open(scene: PreconditionsScene) -> None:
    scene.organization(oauth=OAUTH)
    event = an_event().build()
    scene.kube.objects[("leases", "counterfoil-draft-1")] = a_draft_lease(NOON - timedelta(minutes=2))

    outcome = await scene.sender(event)
    assert isinstance(outcome, Wait)
    assert outcome.reason == "SenderPending"

    scene.clock.advance(seconds=SENDER_GRACE.total_seconds())
    assert isinstance(await scene.sender(event), Sender)


async def test_an_open_draft_delays_the_default_sender_no_longer_than_the_deadline_of_a_retry(
    scene: PreconditionsScene,
) -> None:
    scene.organization(oauth=OAUTH, retry={"initial": "10s", "max": "30s", "deadline": "3m"})
    event = an_event().build()
    scene.kube.objects[("leases", "counterfoil-draft-1")] = a_draft_lease(NOON - timedelta(minutes=2))
    assert isinstance(await scene.sender(event), Wait)

    scene.clock.advance(minutes=3)
    assert isinstance(await scene.sender(event), Sender)


async def test_an_event_without_a_sender_waits_as_long_as_a_draft_is_open(scene: PreconditionsScene) -> None:
    scene.organization(defaultSenderRef=None, oauth=OAUTH)
    event = an_event().build()
    scene.kube.objects[("leases", "counterfoil-draft-1")] = a_draft_lease(NOON - timedelta(minutes=2))
    scene.clock.advance(hours=5)
    assert isinstance(await scene.sender(event), Wait)

    del scene.kube.objects[("leases", "counterfoil-draft-1")]
    assert isinstance(await scene.sender(event), Fail)


@pytest.mark.parametrize(
    "lease",
    [
        a_draft_lease(NOON - timedelta(minutes=2), kind="sent"),
        a_draft_lease(NOON - timedelta(minutes=2), organization="globex"),
        a_draft_lease(NOON + timedelta(hours=1)),
        a_draft_lease(NOON - timedelta(days=2)),
    ],
    ids=["sent", "of another organization", "begun after the callback", "of the day before yesterday"],
)
async def test_a_lease_that_can_not_be_about_the_envelope_delays_no_event(
    scene: PreconditionsScene, lease: Raw
) -> None:
    scene.organization(oauth=OAUTH)
    scene.kube.objects[("leases", "counterfoil-draft-1")] = lease
    assert isinstance(await scene.sender(), Sender)


async def test_an_organization_without_the_page_lists_no_lease(scene: PreconditionsScene) -> None:
    scene.organization()
    await scene.sender()
    assert "list" not in [verb for verb, _ in scene.kube.asked]


async def test_a_suspended_sender_holds_its_events(scene: PreconditionsScene) -> None:
    scene.cache.senders.put(a_sender(version=2, suspend=True))
    outcome = await scene.prepare()
    assert outcome == Hold("SenderSuspended", "spec.suspend of Sender/anna is true.")


async def test_an_organization_without_an_archive_lets_its_events_wait(scene: PreconditionsScene) -> None:
    scene.organization(archiveRef=None)
    outcome = await scene.prepare()
    assert outcome == Wait("ArchiveMissing", "Organization/acme has no spec.archiveRef.")


async def test_an_archive_that_does_not_exist_is_waited_for(scene: PreconditionsScene) -> None:
    scene.cache.archives.remove("dms")
    outcome = await scene.prepare()
    assert outcome == Wait("ArchiveMissing", "Archive/dms does not exist.")


def created(organization: Organization, day: int) -> Organization:
    metadata = structs.replace(organization.metadata, creation_timestamp=datetime(2026, 7, day, tzinfo=UTC))
    return structs.replace(organization, metadata=metadata)


OTHER = {"baseURL": "https://other-esaw.example.com"}
ONE_FOLDER = "{{envelope.id}}/{{file.name}}"
SHARED: dict[str, tuple[str, dict[str, Any], int]] = {
    "by one Archive": (ONE_FOLDER, OTHER, 1),
    "by two Archives of one place": (ONE_FOLDER, OTHER | {"archiveRef": {"name": "twin"}}, 1),
    "although the files have other names": ("{{envelope.id}}/{{organization}}-{{file.name}}", OTHER, 1),
}
APART: dict[str, tuple[str, dict[str, Any], int]] = {
    "by the Organization": ("{{organization}}/{{envelope.id}}/{{file.name}}", OTHER, 1),
    "by the place": (ONE_FOLDER, OTHER | {"archiveRef": {"name": "other"}}, 1),
    "by the ids of one eSAW": (ONE_FOLDER, {"baseURL": "https://ESAW.example.com/"}, 1),
    "since the other one is newer": (ONE_FOLDER, OTHER, 3),
}


async def prepared_beside(
    scene: PreconditionsScene, path: str, other: dict[str, Any], day: int
) -> Admitted | Outcome:
    """Prepare a run of an Organization of the second day, beside another one."""
    scene.cache.archives.put(a_probed_archive(version=2, path=path))
    scene.cache.archives.put(an_archive("twin", path=path))
    scene.cache.archives.put(an_archive("other", path=path, filesystem={"root": "/elsewhere"}))
    scene.cache.organizations.put(created(an_organization(version=2), 2))
    scene.cache.organizations.put(created(an_organization("globex", **other), day))
    return await scene.prepare()


@pytest.mark.parametrize("shared", SHARED)
async def test_an_organization_waits_while_an_older_one_of_another_esaw_has_the_same_folders(
    scene: PreconditionsScene, shared: str
) -> None:
    outcome = await prepared_beside(scene, *SHARED[shared])
    is_by_twin = shared == "by two Archives of one place"
    twin = "It names Archive/twin, which is at the same place. " if is_by_twin else ""
    assert outcome == Wait(
        "ArchiveShared",
        "Archive/dms has the same folders for Organization/globex, which is of another eSignAnyWhere. "
        f"{twin}Organization/acme waits, so that neither replaces files of the other. Put "
        "{{organization}} before the file's part of spec.path, or let the Organization name another Archive.",
    )


@pytest.mark.parametrize("apart", APART)
async def test_an_organization_whose_folders_are_apart_from_those_of_others_is_archived(
    scene: PreconditionsScene, apart: str
) -> None:
    assert isinstance(await prepared_beside(scene, *APART[apart]), Admitted)


S3_BUCKET = {"bucket": "contracts", "region": "eu-central-1"}
AMAZON = "https://s3.eu-central-1.amazonaws.com"
DAV = "https://dms.acme.example/dav"
AZURE = "https://acme.blob.core.windows.net"
SFTP = {"host": "sftp.acme.example", "credentialsSecretRef": {"name": "one"}}
CMIS = {"url": DAV, "repositoryID": "r"}
ONE_PLACE: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"s3": S3_BUCKET}, {"s3": S3_BUCKET | {"endpoint": AMAZON}}),
    ({"s3": S3_BUCKET | {"prefix": "one"}}, {"s3": S3_BUCKET | {"prefix": "one/"}}),
    ({"webdav": {"url": DAV}}, {"webdav": {"url": "https://DMS.acme.example:443/dav/"}}),
    (
        {"azblob": {"container": "c-1", "endpoint": AZURE}},
        {"azblob": {"container": "c-1", "endpoint": AZURE}},
    ),
    *(
        ({"azblob": one}, {"azblob": one})
        for one in [{"container": "c-1", "credentialsSecretRef": {"name": "one"}}]
    ),
    (
        {"sftp": SFTP | {"root": "/a"}},
        {"sftp": SFTP | {"root": "/a/", "credentialsSecretRef": {"name": "two"}}},
    ),
    ({"cmis": CMIS}, {"cmis": CMIS | {"rootFolder": "/"}}),
]
TWO_PLACES: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"s3": S3_BUCKET | {"prefix": "one"}}, {"s3": S3_BUCKET | {"prefix": "two"}}),
    ({"s3": S3_BUCKET}, {"s3": S3_BUCKET | {"endpoint": "https://minio.acme.example"}}),
    ({"webdav": {"url": f"{DAV}/one"}}, {"webdav": {"url": f"{DAV}/two"}}),
    (
        {"azblob": {"container": "c-1", "credentialsSecretRef": {"name": "one"}}},
        {"azblob": {"container": "c-1", "credentialsSecretRef": {"name": "two"}}},
    ),
    ({"sftp": SFTP}, {"sftp": SFTP | {"credentialsSecretRef": {"name": "two"}}}),
    ({"cmis": CMIS}, {"cmis": CMIS | {"repositoryID": "s"}}),
    ({"http": {"url": f"{DAV}/one"}}, {"http": {"url": f"{DAV}/two"}}),
]


async def prepared_at(scene: PreconditionsScene, one: Archive, other: Archive) -> Admitted | Outcome:
    """Prepare a run whose Archive is beside that of an older Organization of another eSAW."""
    scene.cache.archives.put(one if one.status.root is not None else await probed_by(scene, one))
    scene.cache.archives.put(other)
    scene.cache.organizations.put(created(an_organization(version=2), 2))
    scene.cache.organizations.put(
        created(an_organization("globex", baseURL=OTHER["baseURL"], archiveRef={"name": "twin"}), 1)
    )
    return await scene.prepare()


async def probed_by(scene: PreconditionsScene, archive: Archive) -> Archive:
    """Return the Archive as after its first probe; unchanged if it can't be opened."""
    try:
        return probed(archive, root_of(await scene.archive_pool.backend(archive)))
    except ArchiveError:
        return archive


def archive_in(name: str, spec: dict[str, Any]) -> Archive:
    return an_archive(name, version=2, path=ONE_FOLDER, **{"filesystem": None, **spec})


@pytest.mark.parametrize("places", ONE_PLACE)
async def test_archives_of_one_place_in_two_spellings_have_the_same_folders(
    scene: PreconditionsScene, places: tuple[dict[str, Any], dict[str, Any]]
) -> None:
    outcome = await prepared_at(scene, archive_in("dms", places[0]), archive_in("twin", places[1]))
    assert isinstance(outcome, Wait)
    assert outcome.reason == "ArchiveShared"


@pytest.mark.parametrize("places", TWO_PLACES)
async def test_archives_of_two_places_on_one_server_are_apart(
    scene: PreconditionsScene, places: tuple[dict[str, Any], dict[str, Any]]
) -> None:
    outcome = await prepared_at(scene, archive_in("dms", places[0]), archive_in("twin", places[1]))
    # Some of their Secrets do not exist, which is found later.
    assert isinstance(outcome, Admitted) or outcome.reason == "ArchiveNotReady"


async def test_archives_of_one_place_have_the_same_folders_although_their_files_have_other_names(
    scene: PreconditionsScene,
) -> None:
    path = "{{envelope.id}}/{{file.kind}}/{{file.name}}"
    other = an_archive("twin", version=2, path=path, filesystem=None, s3=S3_BUCKET)
    outcome = await prepared_at(scene, archive_in("dms", {"s3": S3_BUCKET}), other)
    assert isinstance(outcome, Wait)
    assert outcome.reason == "ArchiveShared"


@pytest.mark.parametrize(("same_marker", "same_place"), [(True, False), (False, True)])
async def test_the_markers_of_two_archives_decide_whether_they_have_the_same_folders(
    scene: PreconditionsScene, same_marker: bool, same_place: bool
) -> None:
    def marked(name: str, place: str, marker: str) -> Archive:
        archive = archive_in(name, {"webdav": {"url": f"{DAV}/{place}"}})
        known = probed(archive, f"{DAV}/{place}/", marker)
        generation = archive.metadata.generation
        return structs.replace(known, status=structs.replace(known.status, observed_generation=generation))

    outcome = await prepared_at(
        scene,
        marked("dms", "one", "1" * 32),
        marked("twin", "one" if same_place else "two", "1" * 32 if same_marker else "2" * 32),
    )
    assert isinstance(outcome, Wait if same_marker else Admitted)


async def test_a_key_that_is_not_there_needs_a_person(scene: PreconditionsScene) -> None:
    del scene.kube.secrets["anna-key"]
    outcome = await scene.prepare()
    assert isinstance(outcome, NeedConsent)
    assert outcome.reason == "KeyMissing"


async def test_an_archive_that_cannot_be_opened_is_waited_for_in_its_own_words(
    scene: PreconditionsScene,
) -> None:
    scene.cache.archives.put(an_archive(version=2, generation=2, filesystem={"root": "relative"}))
    outcome = await scene.prepare()
    assert isinstance(outcome, Wait)
    assert outcome.reason == "ArchiveNotReady"
    assert outcome.message.startswith("Archive/dms: ")


def a_failing_archive(reason: str, *, generation: int = 1) -> Archive:
    archive = a_probed_archive(version=2, generation=generation)
    return structs.replace(archive, status=structs.replace(archive.status, conditions=(failing(reason),)))


def failing(reason: str, truth: ConditionStatus = "False") -> Condition:
    """Return the condition of an Archive that was probed with its first spec."""
    message, day = "Archive/dms: it failed.", datetime(2026, 1, 1, tzinfo=UTC)
    return Condition("Ready", truth, reason, message, day, observed_generation=1)


@pytest.mark.parametrize(
    ("conditions", "generation"),
    [((), 1), ((failing("ArchiveFull"),), 2), ((failing("Probed", "True"),), 1)],
    ids=["never probed", "probed with another spec", "probed by the version before"],
)
async def test_an_event_waits_without_an_attempt_until_a_probe_has_stored_the_root(
    scene: PreconditionsScene, conditions: tuple[Condition, ...], generation: int
) -> None:
    archive = an_archive(version=2, generation=generation)
    scene.cache.archives.put(
        structs.replace(archive, status=structs.replace(archive.status, conditions=conditions))
    )
    waiting = await scene.prepare()
    assert isinstance(waiting, Pause)
    assert waiting.reason == "ArchiveNotProbed"


@pytest.mark.parametrize("conditions", [(), (failing("Probed", "True"),)], ids=["never probed", "Ready"])
async def test_an_older_event_counts_attempts_while_no_probe_stores_the_root(
    scene: PreconditionsScene, conditions: tuple[Condition, ...]
) -> None:
    archive = an_archive(version=2)
    scene.cache.archives.put(
        structs.replace(archive, status=structs.replace(archive.status, conditions=conditions))
    )
    scene.clock.advance(minutes=5)
    waiting = await scene.prepare()
    assert isinstance(waiting, Wait)
    assert waiting.reason == "ArchiveNotProbed"


def unprobed(scene: PreconditionsScene, *reasons: str, seconds: float) -> EnvelopeEvent:
    """An event whose last attempts ended with these reasons, the first one some seconds ago."""
    scene.cache.archives.put(an_archive(version=2))
    scene.clock.advance(minutes=10)
    first = scene.clock.now() - timedelta(seconds=seconds)
    history = tuple(
        Attempt(Phase.ARCHIVING, first + timedelta(seconds=at), 0, AttemptOutcome.WAIT, reason)
        for at, reason in enumerate(reasons)
    )
    return an_event().in_phase(Phase.ARCHIVING, reasons[-1]).status(attempt_history=history).build()


@pytest.mark.parametrize(
    ("reasons", "seconds", "expected"),
    [
        (("ArchiveNotProbed",), 299, "ArchiveNotProbed"),
        (("ArchiveNotProbed",), 300, "ArchiveProbeOverdue"),
        (("EsawFailing", "ArchiveNotProbed"), 301, "ArchiveProbeOverdue"),
        (("ArchiveNotProbed", "EsawFailing"), 3600, "ArchiveNotProbed"),
        (("ArchiveNotProbed", "ArchiveProbeOverdue"), 3600, "ArchiveProbeOverdue"),
        (("ArchiveProbeOverdue",), 60, "ArchiveProbeOverdue"),
        (("ArchiveNotProbed",) * 10, 100, "ArchiveProbeOverdue"),
        (("ArchiveNotProbed",), -3600, "ArchiveNotProbed"),
    ],
)
async def test_an_event_whose_attempts_find_no_probe_for_five_minutes_says_that_an_administrator_must_act(
    scene: PreconditionsScene, reasons: tuple[str, ...], seconds: float, expected: str
) -> None:
    event, organization = unprobed(scene, *reasons, seconds=seconds), scene.cache.organizations.get("acme")
    sender = scene.cache.senders.get("anna")
    assert organization is not None
    assert sender is not None
    waiting = await scene.preconditions.prepare(event, organization, sender)
    assert isinstance(waiting, Wait)
    assert waiting.reason == expected
    responsible = Responsible.NOBODY if expected == "ArchiveNotProbed" else Responsible.ADMINISTRATOR
    assert CATALOGUE[expected].responsible is responsible


async def test_an_event_whose_probe_was_overdue_continues_after_the_probe(scene: PreconditionsScene) -> None:
    event = unprobed(scene, "ArchiveProbeOverdue", seconds=3600)
    organization, sender = scene.cache.organizations.get("acme"), scene.cache.senders.get("anna")
    assert organization is not None
    assert sender is not None
    waiting = await scene.preconditions.prepare(event, organization, sender)
    assert isinstance(waiting, Wait)
    assert waiting.reason == "ArchiveProbeOverdue"
    scene.cache.archives.put(a_probed_archive(version=3))
    assert isinstance(await scene.preconditions.prepare(event, organization, sender), Admitted)


@pytest.mark.parametrize(
    ("found", "reason"), [("ArchiveFull", "ArchiveFull"), ("OriginChanged", "ArchiveNotReady")]
)
async def test_an_event_counts_attempts_while_the_first_probe_of_a_root_fails(
    scene: PreconditionsScene, found: str, reason: str
) -> None:
    archive = an_archive(version=2)
    scene.cache.archives.put(
        structs.replace(archive, status=structs.replace(archive.status, conditions=(failing(found),)))
    )
    assert await scene.prepare() == Wait(reason, "Archive/dms: it failed.")


async def test_an_event_waits_for_the_probe_of_another_root_at_the_same_server(
    scene: PreconditionsScene,
) -> None:
    webdav = an_archive(version=2, filesystem=None, webdav={"url": f"{DAV}/2027"})
    scene.cache.archives.put(probed(webdav, f"{DAV}/2026/"))
    waiting = await scene.prepare()
    assert isinstance(waiting, Pause)
    assert waiting.reason == "ArchiveNotProbed"


async def test_a_kind_without_a_root_needs_no_probe(scene: PreconditionsScene) -> None:
    scene.cache.archives.put(an_archive(version=2, filesystem=None, http={"url": DAV}))
    assert isinstance(await scene.prepare(), Admitted)


async def test_while_the_probe_fails_for_the_same_reason_the_event_waits_without_an_attempt(
    scene: PreconditionsScene,
) -> None:
    scene.cache.archives.put(a_failing_archive("ArchiveUnreachable"))
    waiting = await scene.prepare("ArchiveUnreachable")
    assert waiting == Wait("ArchiveUnreachable", "Archive/dms: it failed.")


@pytest.mark.parametrize(
    ("found", "event"),
    [
        ("ArchiveUnreachable", None),
        ("ArchiveUnreachable", "RetryRequested"),
        ("ArchiveUnreachable", "ArchiveFull"),
        ("ArchiveOverloaded", "ArchiveOverloaded"),
    ],
    ids=["new", "retried", "other_reason", "overloaded"],
)
async def test_an_event_that_the_probe_says_nothing_about_is_tried(
    scene: PreconditionsScene, found: str, event: str | None
) -> None:
    scene.cache.archives.put(a_failing_archive(found))
    assert isinstance(await scene.prepare(event), Admitted)


async def test_attempts_that_follow_each_other_faster_than_probes_are_made(scene: PreconditionsScene) -> None:
    scene.cache.archives.put(a_failing_archive("ArchiveUnreachable"))
    scene.organization(retry={"initial": "1s", "max": "1h"})
    assert isinstance(await scene.prepare("ArchiveUnreachable", attempts=2), Admitted)
    assert isinstance(await scene.prepare("ArchiveUnreachable", attempts=20), Wait)


async def test_an_archive_that_was_changed_since_its_probe_is_tried(scene: PreconditionsScene) -> None:
    scene.cache.archives.put(a_failing_archive("ArchiveUnreachable", generation=2))
    assert isinstance(await scene.prepare("ArchiveUnreachable"), Admitted)


async def test_what_is_filed_is_counted_for_its_archive(scene: PreconditionsScene) -> None:
    admitted = await scene.prepare()
    assert isinstance(admitted, Admitted)
    scene.kube.put(an_archive())
    admitted.context.chosen.on_file_archived(42)
    await scene.archive_pool.write_bytes(an_archive())
    assert scene.kube.status(type(an_archive()), "dms")["bytesTotal"] == 42
