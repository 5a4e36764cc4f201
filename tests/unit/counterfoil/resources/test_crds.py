"""
The CustomResourceDefinitions are written from the types, and hold what the contract says.

Whether the API server applies their rules is proved in tests/cluster/test_crd_rules.py.
"""

import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from counterfoil.resources import (
    ACTION_LABEL,
    ENVELOPE_LABEL,
    GROUP,
    MAX_LOCATION_LENGTH,
    MAX_MESSAGE_LENGTH,
    MAX_TEXT_LENGTH,
    ORGANIZATION_LABEL,
    VERSION,
    Archive,
    Envelope,
    EnvelopeEvent,
    Import,
    LocalObjectReference,
    Organization,
    Resource,
    Sender,
    envelope_id,
    event_name,
)
from counterfoil.resources.envelopeevent import MAX_FILE_ID_LENGTH, MAX_PARAMETER_LENGTH, MAX_TAG_LENGTH
from counterfoil.resources.request import MAX_REQUEST_TEXT_LENGTH
from docs.tools import generate_crds
from tests.support.crd_cases import RULES

ROOT = Path(__file__).parents[4]
KINDS: tuple[type[Resource], ...] = (Archive, Envelope, EnvelopeEvent, Import, Organization, Sender)
Schema = dict[str, Any]


@cache
def crd(kind: type[Resource]) -> Schema:
    """The CRD as its file has it; all tests share it, and change nothing in it."""
    loaded: Schema = yaml.safe_load((ROOT / "crds" / f"{kind.PLURAL}.yaml").read_text())
    return loaded


def version_of(kind: type[Resource]) -> Schema:
    (version,) = crd(kind)["spec"]["versions"]
    found: Schema = version
    return found


def schema_of(kind: type[Resource]) -> Schema:
    schema: Schema = version_of(kind)["schema"]["openAPIV3Schema"]
    return schema


def nodes(schema: Schema, path: str) -> Iterator[tuple[str, Schema]]:
    """Every schema below this one, but what Kubernetes itself describes."""
    for name, inner in schema.get("properties", {}).items():
        if (path, name) not in {("", "apiVersion"), ("", "kind"), ("", "metadata")}:
            yield from [(f"{path}.{name}", inner), *nodes(inner, f"{path}.{name}")]
    for inner in (schema.get("items"), schema.get("additionalProperties")):
        if inner is not None:
            yield from [(f"{path}[]", inner), *nodes(inner, f"{path}[]")]


def fields(kind: type[Resource]) -> list[tuple[str, Schema]]:
    return list(nodes(schema_of(kind), ""))


each_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.KIND)


def test_there_is_one_file_per_kind_and_no_other() -> None:
    assert {path.name for path in (ROOT / "crds").iterdir()} == {f"{kind.PLURAL}.yaml" for kind in KINDS}


@each_kind
def test_a_kind_is_named_as_the_contract_says(kind: type[Resource]) -> None:
    short = {"EnvelopeEvent": ["ee"], "Organization": ["org"], "Envelope": ["env"]}
    spec = crd(kind)["spec"]
    assert (spec["group"], version_of(kind)["name"], spec["scope"]) == (GROUP, VERSION, "Namespaced")
    assert crd(kind)["metadata"]["name"] == f"{kind.PLURAL}.{GROUP}"
    assert spec["names"] == {
        "kind": kind.KIND,
        "listKind": f"{kind.KIND}List",
        "plural": kind.PLURAL,
        "singular": kind.KIND.lower(),
        # Of these there are many thousands, and nobody configures them.
        **({} if kind in (Envelope, EnvelopeEvent) else {"categories": ["counterfoil"]}),
        **({"shortNames": short[kind.KIND]} if kind.KIND in short else {}),
    }


@each_kind
def test_a_kind_with_a_status_keeps_it_apart_from_the_spec(kind: type[Resource]) -> None:
    has_status = "status" in schema_of(kind)["properties"]
    assert ("status" in version_of(kind).get("subresources", {})) == has_status
    assert hasattr(kind, "status") == has_status


@each_kind
def test_an_object_has_its_summary_before_anybody_wrote_a_status(kind: type[Resource]) -> None:
    status = schema_of(kind)["properties"]["status"]
    assert "default" in status, "the defaults within it apply only then"
    default = status["properties"]["conditions"]["default"]
    found = {each["type"]: (each["status"], each["reason"]) for each in default}
    waiting = {"Ready": ("Unknown", "Pending"), "Stalled": ("Unknown", "Pending")}
    recorded = {"Ready": ("True", "SenderRecorded"), "Stalled": ("False", "NotStalled")}
    # Of events there are many thousands, and the controller's first write comes soon.
    event = {"Ready": ("Unknown", "Pending")}
    assert found == {Envelope: recorded, EnvelopeEvent: event}.get(kind, waiting)


def test_an_event_shows_the_columns_of_the_contract() -> None:
    columns = version_of(EnvelopeEvent)["additionalPrinterColumns"]
    shown = [column["name"].upper() for column in columns if not column.get("priority")]
    wide = [column["name"].upper() for column in columns if column.get("priority")]
    assert shown == ["ORGANIZATION", "PHASE", "REASON", "AGE"]
    others = ["ENVELOPE", "ACTION", "DELIVERIES", "SENDER", "ORIGIN", "ARCHIVE", "MESSAGE"]
    assert wide == ["TITLE", "ATTEMPTS", "NEXT", *others]


def test_a_sender_shows_the_summary_and_its_reason_beside_the_key() -> None:
    columns = version_of(Sender)["additionalPrinterColumns"]
    shown = [column["name"].upper() for column in columns if not column.get("priority")]
    assert shown[:4] == ["ORGANIZATION", "AUTHORIZED", "READY", "REASON"]
    (reason,) = (each for each in columns if each["name"] == "Reason")
    assert 'type=="Ready"' in reason["jsonPath"]


def test_the_fields_by_which_events_can_be_selected() -> None:
    paths = [each["jsonPath"] for each in version_of(EnvelopeEvent)["selectableFields"]]
    assert paths == [
        ".status.phase",
        ".status.reason",
        ".spec.envelopeID",
        ".spec.organizationRef.name",
        ".status.notice.state",
        ".spec.origin",
        ".status.envelope.status",
        ".spec.suspend",
    ]


@each_kind
def test_the_name_of_a_time_ends_in_time_and_that_of_a_duration_says_its_unit(kind: type[Resource]) -> None:
    # The one of an error is `time`, as in the contract.
    times = [path for path, schema in fields(kind) if schema.get("format") == "date-time"]
    assert [each for each in times if not each.endswith("Time") and not each.endswith("lastError.time")] == []
    assert [
        path for path, _ in fields(kind) if path.rpartition(".")[2] in ("seconds", "since", "duration")
    ] == []


@each_kind
def test_every_field_is_described(kind: type[Resource]) -> None:
    assert [
        path for path, schema in fields(kind) if schema.get("description", "").strip()[-1:] not in {".", "…"}
    ] == []


@each_kind
def test_every_field_is_bounded(kind: type[Resource]) -> None:
    """Unbounded fields make rules too dear for the API server, and objects too large for etcd."""
    bound = {
        "string": {"maxLength", "enum", "format"},
        "array": {"maxItems"},
        "object": {"properties", "maxProperties"},
        "integer": {"minimum"},
        "number": {"minimum"},
        "boolean": {"type"},
    }
    assert [path for path, schema in fields(kind) if not bound[schema["type"]] & schema.keys()] == []


def test_every_text_of_an_events_status_is_bounded_by_a_constant_or_by_what_it_can_be() -> None:
    own = {
        ".status.reason",
        ".status.conditions[].type",
        ".status.conditions[].reason",
        ".status.lastError.reason",
        ".status.envelope.status",
        ".status.envelope.senderRef.name",
        ".status.envelope.senderRef.userID",
        ".status.notShownTo[].name",
        ".status.notShownTo[].uid",
        ".status.notShownTo[].key",
        ".status.archive.ref.name",
        ".status.archive.route",
        ".status.archive.import",
        ".status.awaitedArchive.ref.name",
        ".status.awaitedArchive.route",
        ".status.awaitedArchive.import",
        ".status.awaitedArchive.event",
        ".status.copies[].ref.name",
        ".status.copies[].documents",
        ".status.copies[].reason",
        ".status.documents[].sha256",
        ".status.documents[].otherContent.sha256",
        ".status.lastRequest.request",
        ".status.attemptHistory[].reason",
        ".status.notice.id",
        ".status.notice.lastError.reason",
    }
    cut = {
        MAX_FILE_ID_LENGTH,
        MAX_TEXT_LENGTH,
        MAX_LOCATION_LENGTH,
        MAX_TAG_LENGTH,
        MAX_PARAMETER_LENGTH,
        MAX_MESSAGE_LENGTH,
        MAX_REQUEST_TEXT_LENGTH,
    }
    texts = {path: schema["maxLength"] for path, schema in fields(EnvelopeEvent) if "maxLength" in schema}
    status = {
        path: length for path, length in texts.items() if path.startswith(".status") and path not in own
    }
    assert set(status.values()) <= cut


@each_kind
def test_every_list_says_how_it_is_merged(kind: type[Resource]) -> None:
    lists = [(path, schema) for path, schema in fields(kind) if schema["type"] == "array"]
    assert [path for path, schema in lists if "x-kubernetes-list-type" not in schema] == []


@each_kind
def test_every_default_of_a_single_value_is_also_in_words(kind: type[Resource]) -> None:
    """``kubectl explain`` does not show defaults."""
    single = [
        (path, schema) for path, schema in fields(kind) if isinstance(schema.get("default"), bool | int | str)
    ]
    assert [path for path, schema in single if default_in_words(schema) not in schema["description"]] == []


def default_in_words(schema: Schema) -> str:
    default = schema["default"]
    if isinstance(default, bool):
        return f"Default {default}.".lower().capitalize()
    quoted = f"Default `{default}`"
    return quoted if quoted in schema["description"] else f"Default {default}"


@each_kind
def test_every_rule_has_a_message_of_one_line(kind: type[Resource]) -> None:
    schemas = [("", schema_of(kind)), *fields(kind)]
    rules = [(path, rule) for path, schema in schemas for rule in schema.get("x-kubernetes-validations", ())]
    messages = [(path, rule.get("message", "")) for path, rule in rules]
    assert [
        path for path, message in messages if len(message) < 15 or "\n" in message or message[-1] == "."
    ] == []


@each_kind
def test_conditions_are_those_of_kubernetes(kind: type[Resource]) -> None:
    if kind is Envelope:
        return
    conditions = schema_of(kind)["properties"]["status"]["properties"]["conditions"]
    assert conditions["x-kubernetes-list-type"] == "map"
    assert conditions["x-kubernetes-list-map-keys"] == ["type"]
    assert set(conditions["items"]["required"]) == {
        "type",
        "status",
        "reason",
        "message",
        "lastTransitionTime",
    }


@pytest.mark.parametrize("path", generate_crds.files(), ids=lambda path: path.name)
def test_a_file_is_what_its_type_declares(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == generate_crds.files()[path], "run: make chart"


# The page that is made from them.


def test_the_reference_page_is_up_to_date() -> None:
    ended = subprocess.run(
        [sys.executable, str(ROOT / "docs" / "tools" / "generate_reference.py"), "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")


# The examples.


def examples() -> dict[str, Schema]:
    """The examples of Counterfoil's own kinds; secrets.yaml has Secrets only."""
    paths = (ROOT / "docs" / "examples").glob("*.yaml")
    return {path.name: yaml.safe_load(path.read_text()) for path in paths if path.name != "secrets.yaml"}


def dotted(value: Any, path: str = "") -> set[str]:
    """Paths of all single values, lists being single."""
    if not isinstance(value, dict):
        return {path}
    return {each for key, inner in value.items() for each in dotted(inner, f"{path}.{key}".lstrip("."))}


def test_there_is_an_example_of_each_kind() -> None:
    assert {each["kind"] for each in examples().values()} == {kind.KIND for kind in KINDS}


@pytest.mark.parametrize("example", [pytest.param(each, id=name) for name, each in examples().items()])
def test_an_example_has_no_field_that_the_type_does_not_know(example: Schema) -> None:
    kinds = {kind.KIND: kind for kind in KINDS}
    written = kinds[example["kind"]].parse(example).to_dict()
    # What equals a default is left out when it is written, so it may be in the example only.
    assert dotted(written) <= dotted(example)
    assert dotted(example) - dotted(written) <= {"spec.cleanup.policy", "spec.statuses"}


def test_the_examples_fit_together() -> None:
    organization = Organization.parse(examples()["organization.yaml"])
    sender = Sender.parse(examples()["sender.yaml"])
    envelope = Envelope.parse(examples()["envelope.yaml"])
    event = EnvelopeEvent.parse(examples()["envelopeevent.yaml"])
    archive = Archive.parse(examples()["archive-s3.yaml"])
    assert organization.spec.archive_ref == LocalObjectReference(name=archive.name)
    assert sender.spec.organization_ref == envelope.spec.organization_ref == event.spec.organization_ref
    assert event.organization == organization.name
    assert envelope.spec.sender_ref == LocalObjectReference(name=sender.name)
    assert event.spec.envelope_id == envelope.spec.envelope_id
    assert organization.spec.rule(event.spec.action) is not None


def test_the_example_of_an_event_has_the_receivers_name_and_labels_except_for_the_shard() -> None:
    event = EnvelopeEvent.parse(examples()["envelopeevent.yaml"])
    envelope = envelope_id(event.spec.envelope_id)
    assert event.name == event_name(event.organization, envelope, event.spec.action)
    assert event.metadata.labels == {
        ORGANIZATION_LABEL: event.organization,
        ENVELOPE_LABEL: envelope,
        ACTION_LABEL: event.spec.action,
    }


def test_no_rule_of_the_crds_is_without_a_case() -> None:
    proved = [(rule.kind, rule.at, rule.says) for rule in RULES]
    assert [
        f"{kind.KIND} {path}: {message}"
        for kind, path, message in rules_of_the_crds()
        if not any((kind, path) == (of, at) and message.startswith(says) for of, at, says in proved)
    ] == []


def rules_of_the_crds() -> Iterator[tuple[type[Resource], str, str]]:
    for kind in KINDS:
        yield from ((kind, path, message) for path, message in rules_below(schema_of(kind), ""))


def rules_below(schema: dict[str, Any], path: str) -> Iterator[tuple[str, str]]:
    for rule in schema.get("x-kubernetes-validations", ()):
        yield path + rule.get("fieldPath", ""), rule["message"]
    for name, inner in schema.get("properties", {}).items():
        yield from rules_below(inner, f"{path}.{name}".lstrip("."))
    for inner in (schema.get("items"), schema.get("additionalProperties")):
        if inner is not None:
            yield from rules_below(inner, f"{path}[]")
