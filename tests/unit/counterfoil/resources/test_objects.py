"""Objects cross the border once in each direction, and come out as they went in."""

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from counterfoil.durations import Duration
from counterfoil.resources import (
    FINAL_PHASES,
    ActionRule,
    Archive,
    Condition,
    Envelope,
    EnvelopeEvent,
    EnvelopeEventStatus,
    FiledDocument,
    FileKind,
    LastError,
    Organization,
    Phase,
    Resource,
    ResourceInvalid,
    SecretKeyRef,
    Sender,
    TagRule,
    merge_patch,
    to_json_dict,
)
from counterfoil.resources.archive import DEFAULT_PATH, KINDS, CredentialsReference
from counterfoil.resources.archive_kinds import EXAMPLES
from counterfoil.resources.base import parse_part

ID = "0f9c1c2e-5d1b-4f6e-9c55-2f1f0a3b7d10"
NOON = datetime(2026, 7, 2, 12, tzinfo=UTC)
Raw = dict[str, Any]

LEAST: dict[type[Resource], Raw] = {
    Organization: {"baseURL": "https://saas.esignanywhere.net"},
    Archive: {"filesystem": {"root": "/archive"}},
    Sender: {"organizationRef": {"name": "acme"}, "userID": "jane"},
    Envelope: {"organizationRef": {"name": "acme"}, "envelopeID": ID, "senderRef": {"name": "jane"}},
    EnvelopeEvent: {"organizationRef": {"name": "acme"}, "envelopeID": ID, "action": "envelopeFinished"},
}
each_kind = pytest.mark.parametrize("kind", LEAST, ids=lambda kind: kind.KIND)


def raw(kind: type[Resource], **spec: Any) -> Raw:
    return {
        "apiVersion": "counterfoil.dev/v1beta1",
        "kind": kind.KIND,
        "metadata": {"name": ID},
        "spec": LEAST[kind] | spec,
    }


def organization(**spec: Any) -> Organization:
    return Organization.parse(raw(Organization, **spec))


@each_kind
def test_the_least_object_comes_out_as_it_went_in(kind: type[Resource]) -> None:
    assert kind.parse(raw(kind)).to_dict() == raw(kind)


@each_kind
def test_a_field_of_a_newer_version_is_ignored(kind: type[Resource]) -> None:
    assert kind.parse(raw(kind, ofTheFuture=1)).to_dict() == raw(kind)


@each_kind
def test_an_object_without_a_needed_field_is_refused_with_kind_name_and_field(kind: type[Resource]) -> None:
    with pytest.raises(ResourceInvalid, match=rf"^{kind.KIND}/{ID}: .*"):
        kind.parse(raw(kind) | {"spec": 1})


@each_kind
def test_an_object_can_not_be_changed(kind: type[Resource]) -> None:
    untyped: Any = kind.parse(raw(kind))
    with pytest.raises(AttributeError):
        untyped.metadata = None


def test_a_wrong_duration_is_refused_with_its_path_and_an_example() -> None:
    with pytest.raises(ResourceInvalid, match=r"'soon' is not a duration; .* `\$\.spec\.retry\.initial`"):
        organization(retry={"initial": "soon"})


@pytest.mark.parametrize("value", [5, {"seconds": 5}, ["5s"], True])
def test_a_duration_that_is_no_string_is_refused_with_its_path_and_an_example(value: Any) -> None:
    with pytest.raises(ResourceInvalid, match=r"as in 500ms, 10s or 1h30m .*`\$\.spec\.retry\.initial`"):
        organization(retry={"initial": value})


@pytest.mark.parametrize("metadata", [[1], "a", 1, None, {"name": 1}])
def test_an_object_whose_metadata_is_none_is_refused(metadata: Any) -> None:
    with pytest.raises(ResourceInvalid, match=r"^Archive/"):
        Archive.parse({"metadata": metadata, "spec": {}})


def test_metadata_of_a_stored_object_is_read() -> None:
    stored = raw(Sender)
    stored["metadata"] |= {
        "namespace": "esaw",
        "uid": "u",
        "resourceVersion": "7",
        "generation": 2,
        "creationTimestamp": "2026-07-02T12:00:00Z",
        "labels": {"counterfoil.dev/request": "retry"},
        "managedFields": [{"manager": "kubectl"}],
    }
    sender = Sender.parse(stored)
    assert (sender.uid, sender.metadata.resource_version, sender.metadata.generation) == ("u", "7", 2)
    assert sender.metadata.creation_timestamp == NOON
    assert sender.metadata.labels == {"counterfoil.dev/request": "retry"}


def test_an_object_that_was_never_stored_has_an_empty_uid() -> None:
    assert Sender.parse(raw(Sender)).uid == ""


def test_an_organization_has_the_defaults_of_the_contract() -> None:
    spec = organization().spec
    assert spec.actions == (ActionRule(action="envelopeFinished"),)
    assert [str(each) for each in spec.statuses] == ["Completed"]
    assert (spec.cleanup.policy, str(spec.cleanup.after)) == ("Keep", "0s")
    assert (spec.limits.concurrency, spec.limits.per_sender_concurrency) == (16, 4)
    assert spec.limits.requests_per_minute is None
    assert [str(each) for each in (spec.retry.initial, spec.retry.max, spec.retry.deadline)] == [
        "10s",
        "1h",
        "24h",
    ]
    assert (str(spec.ttl.succeeded), spec.ttl.failed) == ("792h", None)
    assert (str(spec.sweep.interval), str(spec.sweep.lookback)) == ("6h", "768h")


def test_a_part_that_is_given_in_part_keeps_its_other_defaults() -> None:
    retry = organization(retry={"initial": "1s"}).spec.retry
    assert (retry.initial, retry.max) == (Duration(seconds=1), Duration(hours=1))


def test_a_full_organization_comes_out_as_it_went_in() -> None:
    spec = {
        "callback": {"tokenSecretRefs": [{"name": "t", "key": "new"}, {"name": "t", "key": "old"}]},
        "actions": [{"action": "envelopeExpired", "handling": "Record"}],
        "statuses": ["Completed", "Rejected"],
        "archiveRef": {"name": "dms"},
        "cleanup": {"policy": "Delete"},
        "oauth": {
            "clientID": "c",
            "clientSecretRef": {"name": "o", "key": "s"},
            "publicURL": "https://pages.acme.example",
        },
        "beforeSend": {
            "fields": [{"name": "costCenter", "required": True, "options": ["a", "b"]}],
            "inboxURL": "https://saas.esignanywhere.net/inbox",
        },
        "limits": {"requestsPerMinute": 150},
        "sweep": {"interval": "1h"},
        "ttl": {"failed": "2160h"},
        "notifications": {
            "from": "a@acme.example",
            "administrators": ["b@acme.example"],
            "consoleURL": "https://console.acme.example",
        },
        "suspend": True,
    }
    assert organization(**spec).to_dict() == raw(Organization, **spec)


def test_tokens_of_callbacks_are_a_list_for_rotation() -> None:
    spec = organization(callback={"tokenSecretRefs": [{"name": "t", "key": "new"}]}).spec
    assert spec.callback.token_secret_refs == (SecretKeyRef(name="t", key="new"),)


@pytest.mark.parametrize("told", ["envelopeFinished", "ENVELOPEFINISHED", "envelopefinished"])
def test_the_rule_of_an_action_is_found_in_any_letter_case(told: str) -> None:
    assert organization().spec.rule(told) == ActionRule(action="envelopeFinished")


@pytest.mark.parametrize(
    ("actions", "expected"),
    [
        ([("envelopeRejected", "Archive"), ("EnvelopeFinished", "Archive")], "EnvelopeFinished"),
        ([("envelopeRejected", "Archive"), ("envelopeFinished", "Record")], "envelopeRejected"),
        ([("envelopeExpired", "Record"), ("b", "Archive"), ("a", "Archive")], "b"),
        ([("envelopeFinished", "Record")], None),
    ],
)
def test_the_archive_action_is_the_usual_one_where_that_is_archived_else_the_first(
    actions: list[tuple[str, str]], expected: str | None
) -> None:
    rules = [{"action": action, "handling": handling} for action, handling in actions]
    assert organization(actions=rules).spec.archive_action == expected


def test_an_action_that_is_not_configured_has_no_rule() -> None:
    assert organization().spec.rule("workstepOpened") is None


@pytest.mark.parametrize("kind", KINDS)
def test_an_archive_knows_its_kind(kind: str) -> None:
    settings = {key: value for key, value in EXAMPLES[kind].items() if key != "credentialsSecretRef"}
    archive = Archive.parse(raw(Archive) | {"spec": {kind: settings}})
    assert archive.spec.kind == kind
    assert archive.spec.credentials_secret_ref is None
    assert archive.spec.path == DEFAULT_PATH


@pytest.mark.parametrize("spec", [{}, {"filesystem": {"root": "/a"}, "s3": {"bucket": "abc"}}])
def test_an_archive_with_no_kind_or_two_reports_it(spec: Raw) -> None:
    archive = Archive.parse(raw(Archive) | {"spec": spec})
    with pytest.raises(ValueError, match=r"exactly one of filesystem, s3, .* must be set"):
        _ = archive.spec.kind


def test_an_archive_names_the_secret_of_its_kind() -> None:
    archive = Archive.parse(
        raw(Archive) | {"spec": {"s3": {"bucket": "abc", "credentialsSecretRef": {"name": "keys"}}}}
    )
    assert archive.spec.credentials_secret_ref == CredentialsReference(name="keys")


def test_tags_are_read_by_their_names() -> None:
    archive = Archive.parse(raw(Archive, tags={"costCenter": {"jsonPath": "$.cc", "required": True}}))
    assert archive.spec.tags == {"costCenter": TagRule(json_path="$.cc", required=True)}


def test_three_phases_are_final() -> None:
    assert {phase for phase in Phase if phase.is_final} == FINAL_PHASES == {"Succeeded", "Skipped", "Failed"}


@pytest.mark.parametrize(
    ("origin", "counted", "deliveries"),
    [("Callback", None, 1), ("Sweep", None, 0), ("Manual", None, 0), ("Callback", 7, 7), ("Sweep", 1, 1)],
)
def test_the_creation_by_a_callback_is_its_first_delivery(
    origin: str, counted: int | None, deliveries: int
) -> None:
    status = {} if counted is None else {"deliveries": counted}
    event = EnvelopeEvent.parse(raw(EnvelopeEvent, origin=origin) | {"status": status})
    assert event.deliveries == deliveries


def test_an_event_without_a_status_is_pending() -> None:
    assert EnvelopeEvent.parse(raw(EnvelopeEvent)).status.phase is Phase.PENDING


def test_a_full_status_comes_out_as_it_went_in() -> None:
    status = EnvelopeEventStatus(
        phase=Phase.ARCHIVING,
        reason="ArchiveFull",
        message="The volume is full.",
        observed_generation=1,
        conditions=(
            Condition(
                type="Archived", status="False", reason="ArchiveFull", message="m", last_transition_time=NOON
            ),
        ),
        deliveries=2,
        attempts=3,
        next_attempt_time=NOON,
        last_error=LastError(reason="ArchiveFull", message="m", time=NOON),
        documents=(
            FiledDocument(file_id="f", kind=FileKind.DOCUMENT, file_name="a.pdf", size=0, sha256="0" * 64),
        ),
    )
    assert parse_part(EnvelopeEventStatus, to_json_dict(status)) == status


def test_lists_are_written_as_the_lists_that_the_api_server_sends() -> None:
    event = EnvelopeEventStatus(
        documents=(FiledDocument(file_id="f", kind=FileKind.DOCUMENT, file_name="a"),)
    )
    sent = {"documents": [{"fileID": "f", "kind": "Document", "fileName": "a"}]}
    assert merge_patch(sent, to_json_dict(event)) == {}


def test_times_are_written_in_utc() -> None:
    assert to_json_dict(EnvelopeEventStatus(start_time=NOON)) == {"startTime": "2026-07-02T12:00:00Z"}


def test_a_size_of_zero_is_written() -> None:
    assert (
        to_json_dict(FiledDocument(file_id="f", kind=FileKind.DOCUMENT, file_name="a", size=0))["size"] == 0
    )


@given(
    st.builds(
        EnvelopeEventStatus,
        phase=st.sampled_from(Phase),
        reason=st.none() | st.text(max_size=10),
        conditions=st.just(()),
        attempts=st.integers(min_value=0, max_value=2**40),
        next_attempt_time=st.none() | st.datetimes(timezones=st.just(UTC)),
        documents=st.lists(
            st.builds(FiledDocument, file_id=st.text(), kind=st.sampled_from(FileKind), file_name=st.text()),
            max_size=3,
        ).map(tuple),
        last_error=st.none(),
        envelope=st.none(),
        archive=st.none(),
    )
)
def test_every_status_survives_the_way_to_the_api_server_and_back(status: EnvelopeEventStatus) -> None:
    sent = msgspec.json.decode(msgspec.json.encode(to_json_dict(status)))
    assert parse_part(EnvelopeEventStatus, sent) == status


def test_an_event_of_an_earlier_version_with_names_of_tried_senders_can_be_read() -> None:
    status = {"notShownTo": ["anna", {"name": "ben", "uid": "u-1", "key": "0a1b2c3d"}]}
    event = EnvelopeEvent.parse(raw(EnvelopeEvent) | {"status": status})
    assert [(each.name, each.answers) for each in event.status.not_shown_to] == [("ben", 3)]
