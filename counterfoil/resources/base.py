"""
Base of the six kinds: what a type declares about its fields, and conversion between JSON and typed values.

A field is declared once: type and default are Python's, and ``schema`` in its annotation says the rest.
``docs/tools/generate_crds.py`` writes ``crds/`` from it. ``parse`` reads a ``dict`` of the API server into
frozen structs; ``to_dict`` builds one. Unknown fields are ignored on reading (a newer CRD can have more
fields) and never written. This module sends no requests.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, ClassVar, Self, TypeVar

import msgspec

from counterfoil.durations import PATTERN, Duration

GROUP = "counterfoil.dev"
VERSION = "v1beta1"
API_VERSION = f"{GROUP}/{VERSION}"

ORGANIZATION_LABEL = f"{GROUP}/organization"
ENVELOPE_LABEL = f"{GROUP}/envelope"
ACTION_LABEL = f"{GROUP}/action"
SHARD_LABEL = f"{GROUP}/shard"
SENDER_LABEL = f"{GROUP}/sender"
ARCHIVED_LABEL = f"{GROUP}/archived"
IMPORT_LABEL = f"{GROUP}/import"
IMPORT_WINDOW_LABEL = f"{GROUP}/import-window"
IMPORT_ENDED_LABEL = f"{GROUP}/import-ended"
"""When an event had ended that an Import starts again. With a later end, it has run since."""
IMPORT_ARCHIVE_LABEL = f"{GROUP}/import-archive"
"""The Archive that ``spec.archiveRef`` of the event's Import names."""
LISTED_BY_LABEL = f"{GROUP}/listed-by"
"""The Sender whose key listed the envelope to the search that created the event or started it again, or after
eSAW had not shown it. This key reads it, unless an Envelope names another Sender."""
LISTED_AFTER_LABEL = f"{GROUP}/listed-after"
"""The status of its envelope that a failed event knew when a search last started it for another one. No
search does so again with this status: the event may fail before eSAW shows it the other one."""
REQUEST_LABEL = f"{GROUP}/request"
REQUEST_REASON_ANNOTATION = f"{GROUP}/request-reason"
REQUEST_BY_ANNOTATION = f"{GROUP}/request-by"
TRACEPARENT_ANNOTATION = f"{GROUP}/traceparent"
CLAIM_ANNOTATION = f"{GROUP}/claim"

CONTROLLER_REPORTER = f"{GROUP}/controller"
"""Reporter of the controller's Kubernetes Events; an admission policy refuses it to all other accounts."""

_ACRONYMS = {"id": "ID", "url": "URL", "urls": "URLs"}


class ResourceInvalid(ValueError):
    """An object does not match its kind; the message names the field, after kind and name of the object
    (``subject``; empty for a part of an object)."""

    def __init__(self, problem: str, subject: str = "") -> None:
        super().__init__(f"{subject}: {problem}" if subject else problem)
        self.subject = subject


def json_name(attribute: str) -> str:
    """
    Return the name of a field in JSON: camelCase with acronyms in one case (Kubernetes API conventions).

    ``envelope_id`` becomes ``envelopeID``; an acronym at the start is lower case.
    """
    first, *rest = attribute.rstrip("_").split("_")
    return first + "".join(_ACRONYMS.get(word, word.capitalize()) for word in rest)


# -- Declarations --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ValidationRule:
    """One validation rule of the API server (CEL), and what it says to a person whose object breaks it."""

    rule: str
    message: str
    field_path: str = ""
    """The field that the message is about, such as ``.ttl.succeeded``; empty for the value itself."""
    reason: str = ""
    """Reason in the answer of the API server; empty for ``FieldValueInvalid``."""


@dataclass(frozen=True)
class FieldSchema:
    """Description and bounds of a field in the CRD; type and default come from Python."""

    description: str
    """Empty for a struct whose docstring is the description."""
    rules: tuple[ValidationRule, ...]
    is_required: bool
    """True requires a field that has a default in Python, for objects that were stored without the field."""
    parts: Mapping[str, "FieldSchema"]
    """Fields of the struct (of a list: of its elements) that are declared differently in this place."""
    keywords: Mapping[str, Any]
    """Keywords of OpenAPI v3, such as ``maxLength``. A ``default`` takes the place of the one in Python, and
    None means that the API server stores none."""


def schema(
    description: str = "",
    *rules: ValidationRule,
    required: bool = False,
    parts: Mapping[str, FieldSchema] | None = None,
    list_type: str = "",
    keys: tuple[str, ...] = (),
    **keywords: Any,
) -> FieldSchema:
    """
    Declare a field; ``keywords`` are those of OpenAPI v3, in their own spelling.

    ``keys`` are the fields by which elements of a list are merged. ``list_type`` is the way to merge a list
    without them: ``set``, the default for texts, or ``atomic``, the default for structs.
    """
    lists = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [*keys]} if keys else {}
    if list_type:
        lists = {"x-kubernetes-list-type": list_type}
    return FieldSchema(description, rules, required, parts or {}, {**keywords, **lists})


@dataclass(frozen=True)
class PrinterColumn:
    """One column of ``kubectl get``."""

    name: str
    json_path: str
    description: str
    type: str = "string"
    is_wide: bool = False
    """Whether only ``kubectl get -o wide`` shows it."""


DURATION_RULE = ValidationRule(f"self.matches(r'{PATTERN}')", "write a duration as in 500ms, 10s or 1h30m")
"""The rule of every field of type ``Duration``."""

EMAIL_RULE = ValidationRule(
    r"self.matches(r'^[^@\s,;<>]+@[^@\s,;<>]+$')",
    "write one plain e-mail address, as in jane.doe@acme.example",
)

_HOST = r"([A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])"


def duration_bound(rule: str, message: str) -> ValidationRule:
    """Bound a duration by a rule of CEL; ``DURATION_RULE`` alone refuses a text that is no duration."""
    return ValidationRule(f"!{DURATION_RULE.rule} || {rule}", message)


def compare_durations(fields: str, rule: str, message: str, field_path: str = "") -> ValidationRule:
    """Compare several durations by a rule of CEL; ``fields`` are separated by commas."""
    each = DURATION_RULE.rule.replace("self.", "each.")
    return ValidationRule(f"![{fields}].all(each, {each}) || {rule}", message, field_path)


def names_of_map(rule: ValidationRule) -> ValidationRule:
    """Return a rule for a text as one for each name of a map."""
    return ValidationRule(f"self.all(name, {rule.rule.replace('self.', 'name.')})", rule.message)


def address_rules(
    message: str, *, port: str = "[0-9]{1,5}", rest: str = r"(/[^?#\s\\]*)?", end: str = "(/|$)"
) -> tuple[ValidationRule, ...]:
    """Return the rules for an address of a server: its form, and https unless it stays in the cluster."""
    return (
        ValidationRule(f"self.matches(r'^https?://{_HOST}(:{port})?{rest}$')", message),
        ValidationRule(
            "!self.startsWith('http://') || "
            r"self.matches(r'^http://(127\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}|\[::1\]|[a-z]([a-z0-9-]*[a-z0-9])?"
            rf"|[a-z0-9.-]+\.(svc|cluster\.local))(:[0-9]+)?{end}')",
            "use https; plain http is for loopback and cluster-internal names only (no dot, or ending in "
            ".svc or .cluster.local)",
        ),
    )


def address(description: str, example: str, max_length: int = 1024) -> FieldSchema:
    """Declare the address of a server; ``example`` is for the rule's message."""
    form = f"write scheme, host and perhaps port and path, with no user, query or fragment, as in {example}"
    return schema(description, *address_rules(form), maxLength=max_length)


OBJECT_NAME = "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"
"""Pattern of the name of an object (RFC 1123, without its length)."""
REASON = "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$"
"""Pattern of a reason (metav1.Condition)."""

ORGANIZATION_NAME = schema("Name of the Organization. Example: acme.", maxLength=63, pattern=OBJECT_NAME)
SENDER_NAME = schema("Name of the Sender.", maxLength=63, pattern=OBJECT_NAME)
ARCHIVE_NAME = schema("Name of the Archive.", maxLength=253, pattern=OBJECT_NAME)
SECRET_NAME = schema("Name of the Secret.", maxLength=253, pattern=OBJECT_NAME)
ROUTE_NAME = schema(
    "Name of the route. Example: hr.", maxLength=63, pattern="^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
)
NAMESPACE_NAME = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
"""Pattern of the name of a namespace (RFC 1123, 2.1)."""
OBSERVED_GENERATION = schema("The metadata.generation that this status describes.", minimum=0)


def is_object_name(text: str) -> bool:
    """Whether a text can be the name of an object."""
    return re.fullmatch(OBJECT_NAME, text) is not None


def is_reason(text: str) -> bool:
    """Whether a text can be a reason; who may write a status may put any text in its place."""
    return re.fullmatch(REASON, text) is not None


def secret_key(example: str) -> FieldSchema:
    """Declare the name of a key in a Secret."""
    return schema(f"Key in the Secret. Example: {example}.", maxLength=253, pattern="^[-._a-zA-Z0-9]+$")


# -- Types ---------------------------------------------------------------------------------------------------


class ResourcePart(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename=json_name):
    """Base of all parts of a resource: immutable, default values omitted in JSON."""

    RULES: ClassVar[tuple[ValidationRule, ...]] = ()
    """Rules over several fields."""


class LocalObjectReference(ResourcePart, frozen=True):
    """Reference to an object of the same namespace by its name; unless its field says otherwise, a Secret."""

    name: Annotated[str, SECRET_NAME]


class SecretKeyRef(ResourcePart, frozen=True):
    """Reference to one key of a Secret of the same namespace."""

    name: Annotated[str, SECRET_NAME]
    key: Annotated[str, secret_key("token")]


class ObjectMeta(ResourcePart, frozen=True):
    """The part of ObjectMeta that Counterfoil reads or writes."""

    name: str
    namespace: str | None = None
    uid: str | None = None
    resource_version: str | None = None
    generation: int = 0
    creation_timestamp: datetime | None = None
    deletion_timestamp: datetime | None = None
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


class Resource(ResourcePart, frozen=True):
    """
    A complete object. Each kind declares ``KIND`` and ``PLURAL``, a ``spec`` and a ``status``. The docstrings
    of a kind, its spec and its status are their descriptions in the CRD.

    ``parse`` and ``to_dict`` are inverse to each other, except for unknown fields.
    """

    KIND: ClassVar[str]
    PLURAL: ClassVar[str]
    API_VERSION: ClassVar[str] = API_VERSION
    SHORT_NAMES: ClassVar[tuple[str, ...]] = ()
    CATEGORIES: ClassVar[tuple[str, ...]] = ("counterfoil",)
    """Groups in which ``kubectl get`` lists the kind; none for one of many objects that nobody configures."""
    SELECTABLE_FIELDS: ClassVar[tuple[str, ...]] = ()
    """JSON paths of the fields that a field selector can name."""
    COLUMNS: ClassVar[tuple[PrinterColumn, ...]] = ()

    metadata: ObjectMeta

    @classmethod
    def parse(cls, raw: Mapping[str, Any]) -> Self:
        """Read an object of the API server. Raises ``ResourceInvalid`` when it does not match the kind."""
        try:
            return msgspec.convert(raw, cls, dec_hook=_decode_hook)
        except msgspec.ValidationError as mismatch:
            metadata = raw.get("metadata")
            name = metadata.get("name", "?") if isinstance(metadata, Mapping) else "?"
            raise ResourceInvalid(str(mismatch), f"{cls.KIND}/{name}") from mismatch

    def to_dict(self) -> dict[str, Any]:
        """Return the object as JSON for the API server."""
        return {"apiVersion": self.API_VERSION, "kind": self.KIND, **to_json_dict(self)}

    @property
    def name(self) -> str:
        """``metadata.name``."""
        return self.metadata.name

    @property
    def uid(self) -> str:
        """``metadata.uid``; empty for an object that is not stored."""
        return self.metadata.uid or ""


R = TypeVar("R", bound=Resource)


class ResourceWithComputedStatus(Resource, frozen=True, kw_only=True):
    """
    A kind whose status the controller can compute again, except for a few fields of it.

    A field of the status that can't be read counts as absent, and the next write of the status replaces it.
    It is of another version of the CRD: nothing else would ever replace it, since who can't read an object
    does not write its status either.
    """

    KEPT_STATUS: ClassVar[frozenset[str]] = frozenset()
    """Fields of the status that must be read, since the controller would not find the same values again."""

    unread_status: dict[str, Any] | None = None
    """The fields of the status that can't be read, by their names in JSON. Not part of the object."""

    @classmethod
    def parse(cls, raw: Mapping[str, Any]) -> Self:
        """Read an object of the API server. Raises ``ResourceInvalid`` when its spec, or a kept field of its
        status, does not match the kind."""
        raw = {key: value for key, value in raw.items() if key != _UNREAD_STATUS}
        try:
            return super().parse(raw)
        except ResourceInvalid:
            status: Any = raw.get("status")
            unread = cls._unread_fields(status) if isinstance(status, Mapping) else {}
            if not unread:
                raise
        readable = {key: value for key, value in status.items() if key not in unread}
        return msgspec.structs.replace(super().parse({**raw, "status": readable}), unread_status=unread)

    @classmethod
    def _unread_fields(cls, status: Mapping[str, Any]) -> dict[str, Any]:
        kind = next(each.type for each in msgspec.structs.fields(cls) if each.name == "status")
        unread = {}
        for each in msgspec.structs.fields(kind):
            if each.encode_name in status and each.name not in cls.KEPT_STATUS:
                value = status[each.encode_name]
                try:
                    msgspec.convert(value, each.type, dec_hook=_decode_hook)
                except msgspec.ValidationError:
                    unread[each.encode_name] = value
        return unread

    def to_dict(self) -> dict[str, Any]:
        """Return the object as JSON for the API server, without what can't be read."""
        return {key: value for key, value in super().to_dict().items() if key != _UNREAD_STATUS}


_UNREAD_STATUS = json_name("unread_status")


def to_json_dict(part: ResourcePart) -> dict[str, Any]:
    """Convert a part of a resource into dicts, lists, strings and numbers of JSON."""
    # Through JSON: to_builtins keeps tuples, which never equal the lists of the API server.
    built: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(part, enc_hook=_encode_hook))
    return built


def parse_part(kind: type[ResourcePart], raw: Mapping[str, Any]) -> Any:
    """Read one part of a resource (a ``spec``, a ``status``) of the given type; raises
    ``ResourceInvalid``."""
    try:
        return msgspec.convert(raw, kind, dec_hook=_decode_hook)
    except msgspec.ValidationError as mismatch:
        raise ResourceInvalid(str(mismatch)) from mismatch


def _decode_hook(wanted: type, value: Any) -> Any:
    if wanted is not Duration:
        raise NotImplementedError(wanted)
    if not isinstance(value, str):
        raise ValueError("a duration is a string as in 500ms, 10s or 1h30m")  # noqa: TRY004 - msgspec reports it
    return Duration.parse(value)


def _encode_hook(value: Any) -> Any:
    if isinstance(value, Duration):
        return str(value)
    raise NotImplementedError(type(value))


def merge_patch(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return the JSON merge patch (RFC 7396) that turns ``before`` into ``after``; empty when they are equal.

    A changed list is replaced completely, as the RFC requires.
    """
    patch: dict[str, Any] = {key: None for key in before if key not in after}
    for key, value in after.items():
        old = before.get(key)
        if isinstance(value, Mapping) and isinstance(old, Mapping):
            if inner := merge_patch(old, value):
                patch[key] = inner
        elif key not in before or old != value:
            patch[key] = value
    return patch
