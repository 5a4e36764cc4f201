"""
The CustomResourceDefinitions hold what the contract says, and the Python types are the same as they are.

Whether the API server applies their rules is proved in tests/cluster/test_crd_rules.py.
"""

import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, cast, get_type_hints

import msgspec
import pytest
import yaml
from msgspec import NODEFAULT
from msgspec.inspect import (
    BoolType,
    CustomType,
    DateTimeType,
    DictType,
    EnumType,
    Field,
    FloatType,
    IntType,
    LiteralType,
    NoneType,
    StrType,
    StructType,
    UnionType,
    VarTupleType,
    type_info,
)

from counterfoil import durations
from counterfoil.esaw.limits import FILE_ID_LENGTH, VERSION_LENGTH
from counterfoil.resources import (
    ACTION_LABEL,
    ENVELOPE_LABEL,
    GROUP,
    MAX_ATTEMPT_HISTORY,
    MAX_DOCUMENTS,
    MAX_LOCATION_LENGTH,
    MAX_MESSAGE_LENGTH,
    MAX_TEXT_LENGTH,
    ORGANIZATION_LABEL,
    VERSION,
    Archive,
    Envelope,
    EnvelopeEvent,
    LocalObjectReference,
    Organization,
    Resource,
    ResourcePart,
    Sender,
    envelope_id,
    event_name,
)
from counterfoil.resources.base import parse_part
from counterfoil.resources.envelopeevent import MAX_PARAMETER_LENGTH, MAX_TAG_LENGTH
from counterfoil.resources.request import MAX_REQUEST_TEXT_LENGTH

ROOT = Path(__file__).parents[4]
KINDS: tuple[type[Resource], ...] = (Archive, Envelope, EnvelopeEvent, Organization, Sender)
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
        "categories": ["counterfoil"],
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
    assert shown == ["ENVELOPE", "ACTION", "PHASE", "REASON", "ATTEMPTS", "DELIVERIES", "NEXT", "AGE"]
    assert wide == ["SENDER", "ORIGIN", "ARCHIVE", "MESSAGE"]


def test_events_can_be_selected_by_phase_envelope_organization_origin_and_notice() -> None:
    paths = [each["jsonPath"] for each in version_of(EnvelopeEvent)["selectableFields"]]
    assert paths == [
        ".status.phase",
        ".status.reason",
        ".spec.envelopeID",
        ".spec.organizationRef.name",
        ".status.notice.state",
        ".spec.origin",
    ]


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


BOUNDS = [
    (EnvelopeEvent, ".status.documents", "maxItems", MAX_DOCUMENTS),
    (EnvelopeEvent, ".status.attemptHistory", "maxItems", MAX_ATTEMPT_HISTORY),
    (EnvelopeEvent, ".status.documents[].fileID", "maxLength", FILE_ID_LENGTH),
    (EnvelopeEvent, ".status.documents[].fileName", "maxLength", MAX_TEXT_LENGTH),
    (EnvelopeEvent, ".status.documents[].location", "maxLength", MAX_LOCATION_LENGTH),
    (EnvelopeEvent, ".status.archive.manifest", "maxLength", MAX_LOCATION_LENGTH),
    (EnvelopeEvent, ".status.archive.tags[]", "maxLength", MAX_TAG_LENGTH),
    (EnvelopeEvent, ".status.envelope.name", "maxLength", MAX_TEXT_LENGTH),
    (EnvelopeEvent, ".status.parameters[]", "maxLength", MAX_PARAMETER_LENGTH),
    (EnvelopeEvent, ".status.message", "maxLength", MAX_MESSAGE_LENGTH),
    (EnvelopeEvent, ".status.lastError.message", "maxLength", MAX_MESSAGE_LENGTH),
    (EnvelopeEvent, ".status.notice.lastError.message", "maxLength", MAX_MESSAGE_LENGTH),
    (EnvelopeEvent, ".status.conditions[].message", "maxLength", MAX_MESSAGE_LENGTH),
    (Organization, ".status.conditions[].message", "maxLength", MAX_MESSAGE_LENGTH),
    (Sender, ".status.conditions[].message", "maxLength", MAX_MESSAGE_LENGTH),
    (Archive, ".status.conditions[].message", "maxLength", MAX_MESSAGE_LENGTH),
    (Organization, ".status.version", "maxLength", VERSION_LENGTH),
    *(
        (kind, f".status.lastRequest.{text}", "maxLength", MAX_REQUEST_TEXT_LENGTH)
        for kind in (EnvelopeEvent, Organization, Sender, Archive)
        for text in ("id", "by", "reason", "message")
    ),
]


@pytest.mark.parametrize(
    ("kind", "path", "bound", "ours"), BOUNDS, ids=lambda each: each if isinstance(each, str) else ""
)
def test_a_status_takes_as_much_of_esaw_and_archives_as_the_controller_believes(
    kind: type[Resource], path: str, bound: str, ours: int
) -> None:
    assert dict(fields(kind))[path][bound] == ours


def test_every_text_of_an_events_status_is_bounded_by_what_is_compared_here_or_by_what_it_can_be() -> None:
    own = {
        ".status.reason",
        ".status.conditions[].type",
        ".status.conditions[].reason",
        ".status.lastError.reason",
        ".status.envelope.status",
        ".status.envelope.senderRef.name",
        ".status.archive.ref.name",
        ".status.documents[].sha256",
        ".status.lastRequest.request",
        ".status.attemptHistory[].reason",
        ".status.notice.id",
        ".status.notice.lastError.reason",
    }
    texts = {path for path, schema in fields(EnvelopeEvent) if "maxLength" in schema}
    compared = {path for kind, path, _, _ in BOUNDS if kind is EnvelopeEvent}
    assert {each for each in texts if each.startswith(".status")} - own <= compared


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


@each_kind
def test_the_python_type_is_the_same_as_the_schema(kind: type[Resource]) -> None:
    properties = schema_of(kind)["properties"]
    whole = type_info(kind)
    assert isinstance(whole, StructType)
    differences = [
        difference
        for field in whole.fields
        if field.encode_name != "metadata"
        for difference in compare(properties.get(field.encode_name, {}), field.type, field.encode_name)
    ]
    assert {field.encode_name for field in whole.fields} == properties.keys() - {"apiVersion", "kind"}
    assert differences == []


def test_the_comparison_sees_a_field_that_is_missing_on_either_side() -> None:
    class Ours(msgspec.Struct):
        here: str

    schema = {"type": "object", "required": ["there"], "properties": {"there": {"type": "string"}}}
    assert list(compare(schema, type_info(Ours), "spec")) == [
        "spec.here is not in the schema",
        "spec.there is not in the type",
    ]


def test_the_comparison_sees_another_type_another_enum_and_another_default() -> None:
    class Ours(msgspec.Struct):
        count: int = 1
        word: str = ""
        size: int = 3

    properties = {
        "count": {"type": "integer", "default": 2},
        "word": {"type": "integer"},
        "size": {"type": "integer"},
    }
    assert list(compare({"type": "object", "properties": properties}, type_info(Ours), "spec")) == [
        "spec.count has the default 2 in the schema, 1 in the type",
        "spec.word is of type integer in the schema, StrType in the type",
        "spec.size has no default in the schema, 3 in the type",
    ]


# How types and schemas are compared: by one line for each difference.


def compare(schema: Schema, wanted: msgspec.inspect.Type, path: str) -> Iterator[str]:
    inner = without_none(wanted)
    if isinstance(inner, StructType):
        yield from compare_fields(schema, inner, path)
    elif isinstance(inner, VarTupleType):
        yield from compare(schema.get("items", {}), inner.item_type, f"{path}[]")
    elif isinstance(inner, DictType):
        yield from compare(schema.get("additionalProperties", {}), inner.value_type, f"{path}[]")
    elif isinstance(inner, EnumType | LiteralType):
        yield from compare_values(schema, inner, path)
    elif isinstance(inner, CustomType):
        yield from compare_duration(schema, inner, path)
    if schema.get("type") != JSON_TYPE.get(type(inner)):
        yield f"{path} is of type {schema.get('type')} in the schema, {type(inner).__name__} in the type"
    if (schema.get("format") == "date-time") != isinstance(inner, DateTimeType):
        yield f"{path} is a time on one side only"


JSON_TYPE: dict[type[msgspec.inspect.Type], str] = {
    StructType: "object",
    DictType: "object",
    VarTupleType: "array",
    EnumType: "string",
    LiteralType: "string",
    CustomType: "string",
    DateTimeType: "string",
    StrType: "string",
    IntType: "integer",
    FloatType: "number",
    BoolType: "boolean",
}


def compare_fields(schema: Schema, wanted: StructType, path: str) -> Iterator[str]:
    properties = schema.get("properties", {})
    for field in wanted.fields:
        if field.encode_name not in properties:
            yield f"{path}.{field.encode_name} is not in the schema"
            continue
        inner = properties[field.encode_name]
        yield from compare(inner, field.type, f"{path}.{field.encode_name}")
        yield from compare_default(
            inner, field, f"{path}.{field.encode_name}", schema.get("required", ()), wanted
        )
    known = {field.encode_name for field in wanted.fields}
    yield from (f"{path}.{name} is not in the type" for name in properties if name not in known)


def compare_default(
    schema: Schema, field: Field, path: str, required: list[str], within: StructType
) -> Iterator[str]:
    if field.required:
        if field.encode_name not in required:
            yield f"{path} is required in the type only"
        return
    default = field.default if field.default is not NODEFAULT else field.default_factory()
    if field.encode_name == "conditions":
        # Those of an object to which nobody wrote a status; a status that is written says its own.
        return
    if "default" in schema:
        if as_typed(schema["default"], within, field) != default:
            yield f"{path} has the default {schema['default']} in the schema, {default} in the type"
    elif default and field.encode_name not in required:
        yield f"{path} has no default in the schema, {default} in the type"


def compare_values(schema: Schema, wanted: EnumType | LiteralType, path: str) -> Iterator[str]:
    values = {each.value for each in wanted.cls} if isinstance(wanted, EnumType) else set(wanted.values)
    # Active is a status of eSAW, but none in which an envelope may be archived.
    if set(schema.get("enum", ())) != values - ({"Active"} if path == "spec.statuses[]" else set()):
        yield (
            f"{path} is one of {sorted(schema.get('enum', ()), key=str)} in the schema, "
            f"{sorted(values, key=str)} in the type"
        )


def compare_duration(schema: Schema, wanted: CustomType, path: str) -> Iterator[str]:
    rules = [rule["rule"] for rule in schema.get("x-kubernetes-validations", ())]
    if wanted.cls is not durations.Duration or f"self.matches(r'{durations.PATTERN}')" not in rules:
        yield f"{path} is no duration in the schema"


def without_none(wanted: msgspec.inspect.Type) -> msgspec.inspect.Type:
    if not isinstance(wanted, UnionType):
        return wanted
    (inner,) = (each for each in wanted.types if not isinstance(each, NoneType))
    return inner


def as_typed(value: Any, within: StructType, field: Field) -> Any:
    """Read a value of the schema as the border reads it into that field."""
    hint = get_type_hints(within.cls)[field.name]
    one = msgspec.defstruct("One", [("value", hint)], bases=(ResourcePart,), frozen=True, kw_only=True)
    return parse_part(cast("type[ResourcePart]", one), {"value": value}).value


# The page that is made from them.


def test_the_reference_page_is_up_to_date() -> None:
    ended = subprocess.run(
        [sys.executable, str(ROOT / "docs" / "generate_reference.py"), "--check"],
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
