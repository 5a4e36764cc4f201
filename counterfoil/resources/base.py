"""
Base of the five kinds: conversion between the JSON of the API server and typed values.

``parse`` reads a ``dict`` of the API server into frozen structs; ``to_dict`` builds one. Unknown fields are
ignored on reading (a newer CRD can have more fields) and never written. This module sends no requests.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar, Self, TypeVar

import msgspec

from counterfoil.durations import Duration

GROUP = "counterfoil.dev"
VERSION = "v1beta1"
API_VERSION = f"{GROUP}/{VERSION}"

ORGANIZATION_LABEL = f"{GROUP}/organization"
ENVELOPE_LABEL = f"{GROUP}/envelope"
ACTION_LABEL = f"{GROUP}/action"
SHARD_LABEL = f"{GROUP}/shard"
SENDER_LABEL = f"{GROUP}/sender"
ARCHIVED_LABEL = f"{GROUP}/archived"
REQUEST_LABEL = f"{GROUP}/request"
REQUEST_REASON_ANNOTATION = f"{GROUP}/request-reason"
REQUEST_BY_ANNOTATION = f"{GROUP}/request-by"
TRACEPARENT_ANNOTATION = f"{GROUP}/traceparent"
CLAIM_ANNOTATION = f"{GROUP}/claim"

CONTROLLER_REPORTER = f"{GROUP}/controller"
"""Reporter of the controller's Kubernetes Events; an admission policy refuses it to all other accounts."""

_ACRONYMS = {"id": "ID", "url": "URL", "urls": "URLs"}


class ResourceInvalid(ValueError):
    """An object does not match its kind; the message names the field."""


def json_name(attribute: str) -> str:
    """
    Return the name of a field in JSON: camelCase with acronyms in one case (Kubernetes API conventions).

    ``envelope_id`` becomes ``envelopeID``; an acronym at the start is lower case.
    """
    first, *rest = attribute.rstrip("_").split("_")
    return first + "".join(_ACRONYMS.get(word, word.capitalize()) for word in rest)


class ResourcePart(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename=json_name):
    """Base of all parts of a resource: immutable, default values omitted in JSON."""


class LocalObjectReference(ResourcePart, frozen=True):
    """Reference to an object of the same namespace by its name."""

    name: str


class SecretKeyRef(ResourcePart, frozen=True):
    """Reference to one key of a Secret of the same namespace."""

    name: str
    key: str


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
    owner_references: tuple[dict[str, Any], ...] = ()


class Resource(ResourcePart, frozen=True):
    """
    A complete object. Each kind declares ``KIND`` and ``PLURAL``, a ``spec`` and a ``status``.

    ``parse`` and ``to_dict`` are inverse to each other, except for unknown fields.
    """

    KIND: ClassVar[str]
    PLURAL: ClassVar[str]
    API_VERSION: ClassVar[str] = API_VERSION

    metadata: ObjectMeta

    @classmethod
    def parse(cls, raw: Mapping[str, Any]) -> Self:
        """Read an object of the API server. Raises ``ResourceInvalid`` when it does not match the kind."""
        try:
            return msgspec.convert(raw, cls, dec_hook=_decode_hook)
        except msgspec.ValidationError as mismatch:
            metadata = raw.get("metadata")
            name = metadata.get("name", "?") if isinstance(metadata, Mapping) else "?"
            raise ResourceInvalid(f"{cls.KIND}/{name}: {mismatch}") from mismatch

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
