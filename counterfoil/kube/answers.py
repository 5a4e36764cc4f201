"""
Read answers of the API server: JSON of a known shape, and the lines of a watch.

A proxy, a login page or a cut connection may answer instead, so any bytes are possible. What is not the API
server's becomes ``Unavailable``. This module sends no requests.
"""

import logging
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Annotated, Any, Literal, TypeVar, cast

import msgspec

from counterfoil.kube.errors import Unavailable, api_error
from counterfoil.kube.watch import Raw, WatchEvent
from counterfoil.resources.base import Resource, ResourceInvalid, ResourceWithComputedStatus
from counterfoil.untrusted.json_bounds import JSON_ERRORS

_log = logging.getLogger(__name__)

PartialT = TypeVar("PartialT")
R = TypeVar("R", bound=Resource)


ResourceVersion = Annotated[str, msgspec.Meta(pattern=r"^[0-9]+$")]
"""A version of an object or a list; versions are compared as numbers (KEP-5504)."""


class _WatchLine(msgspec.Struct):
    type: Literal["ADDED", "MODIFIED", "DELETED", "BOOKMARK", "ERROR"]
    object: Raw


class _WatchedMetadata(msgspec.Struct, rename="camel"):
    name: str
    resource_version: ResourceVersion
    uid: str = ""
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    finalizers: list[str] = []


class _WatchedObject(msgspec.Struct):
    metadata: _WatchedMetadata


class _VersionMetadata(msgspec.Struct, rename="camel"):
    resource_version: ResourceVersion


class _WatchBookmark(msgspec.Struct):
    metadata: _VersionMetadata


class _PageMetadata(msgspec.Struct, rename={"resource_version": "resourceVersion", "token": "continue"}):
    resource_version: ResourceVersion
    token: str = ""


class _ObjectPage(msgspec.Struct):
    metadata: _PageMetadata
    items: list[_WatchedObject]


def decode_as(shape: type[PartialT], answer: bytes) -> PartialT:
    """Return the JSON of an answer. Raises ``Unavailable`` for an answer of another form."""
    try:
        return msgspec.json.decode(answer, type=shape)
    except JSON_ERRORS:
        # A proxy's page, or a truncated line: the API server itself sends JSON.
        raise foreign_answer("or was cut off") from None


def object_list(answer: object) -> Raw:
    """Return the JSON of a list of objects, or of a page of one. Raises ``Unavailable`` for JSON of another
    form."""
    return cast("Raw", _checked(answer, _ObjectPage, "it sent no list"))


def watch_event(line: bytes) -> WatchEvent:
    """Return the change in one line of a watch, with an object that has a name and a version, or a bookmark.
    Raises ``ApiError``: the error in the line, or ``Unavailable``."""
    payload = decode_as(_WatchLine, line)
    raw = payload.object
    if payload.type == "ERROR":
        code = raw.get("code")
        raise api_error(code if isinstance(code, int) else 500, line, None, creating=False)
    _checked(
        raw,
        _WatchBookmark if payload.type == "BOOKMARK" else _WatchedObject,
        "it sent a change without an object",
    )
    return WatchEvent(payload.type, raw)


def _checked(answer: object, shape: type[Any], reason: str) -> object:
    """Return an answer that has this shape. Raises ``Unavailable`` with the reason for any other."""
    try:
        msgspec.convert(answer, shape)
    except (msgspec.ValidationError, RecursionError):
        raise foreign_answer(reason) from None
    return answer


def foreign_answer(reason: str) -> Unavailable:
    """Return the error for an answer that is not the API server's."""
    return Unavailable(0, "NoAnswer", f"what answered is not the API server, {reason}")


def http_date(header: str | None) -> datetime | None:
    """Return the time in a ``Date`` header, in UTC; None for a header that is absent or no date."""
    try:
        date = parsedate_to_datetime(header or "")
    except ValueError:
        return None
    return date.replace(tzinfo=UTC) if date.tzinfo is None else date.astimezone(UTC)


def parse_each(
    kind: type[R], raws: Iterable[Mapping[str, Any]], invalid: list[ResourceInvalid] | None = None
) -> tuple[R, ...]:
    """Return the objects that this version can read, and add to ``invalid`` why the others can't be. The
    controller logs those as well, and reports unreadable events as a problem."""
    found = []
    for raw in raws:
        try:
            found.append(kind.parse(raw))
        except ResourceInvalid as problem:
            if invalid is not None:
                invalid.append(problem)
    return tuple(found)


def parse_readable(kind: type[R], raw: Mapping[str, Any]) -> R | None:
    """Return an object; None, with an error in the log, for one that this version can't read. The log also
    names the fields of a status that count as absent."""
    try:
        resource = kind.parse(raw)
    except ResourceInvalid as invalid:
        _log.error("an object can't be read and is ignored: %s", invalid)
        return None
    if isinstance(resource, ResourceWithComputedStatus) and resource.unread_status:
        fields = ", ".join(f"status.{each}" for each in resource.unread_status)
        absent = "%s/%s: %s can't be read and counts as absent until the controller writes it again"
        _log.warning(absent, kind.KIND, resource.name, fields)
    return resource
