"""
The request of a person: the label ``counterfoil.dev/request`` on an object of any kind. Pure functions.

The label says what is wanted, annotations that begin with ``counterfoil.dev/request-`` say the rest: ``-by``,
``-reason``, and parameters of the request. The controller acts, writes ``status.lastRequest`` and removes the
label with these annotations.

``-id`` distinguishes a request from an equal one before it. A client chooses it and then finds the answer by
it; for a label without it the controller adds one. So a request that was interrupted after it was carried
out is not carried out again, and no newer request is removed with an older one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Final

from counterfoil.resources.base import (
    REQUEST_BY_ANNOTATION,
    REQUEST_LABEL,
    REQUEST_REASON_ANNOTATION,
    FieldSchema,
    ObjectMeta,
    ResourcePart,
    schema,
)

REQUEST_ANNOTATION_PREFIX: Final = f"{REQUEST_LABEL}-"
EXPECTED_PARAMETER: Final = "expected"
"""Parameter of a request to skip: the state of the event that the person was shown, such as
``Failed/ArchiveFull`` (``counterfoil.resources.envelopeevent``). An event in another state is not skipped."""

REQUEST_ID_ANNOTATION: Final = f"{REQUEST_ANNOTATION_PREFIX}id"

MAX_REQUEST_TEXT_LENGTH: Final = 1024
"""Maximum characters of each text in ``status.lastRequest``; annotations can be much longer."""


class RequestOutcome(StrEnum):
    """Result of a request."""

    DONE = "Done"
    NOTHING_TO_DO = "NothingToDo"
    REFUSED = "Refused"
    FAILED = "Failed"


def request_values(values: str) -> FieldSchema:
    """Declare the label's value in a status; ``values`` are those of the kind."""
    return schema(f"Value of the label. {values}.", maxLength=63)


class LastRequest(ResourcePart, frozen=True):
    """The last request of a person (label counterfoil.dev/request), and its result."""

    request: Annotated[str, request_values("Example: retry")]
    outcome: Annotated[
        RequestOutcome,
        schema(
            "`Done`: it was carried out. `NothingToDo`: there was nothing left to do. `Refused`: it was not "
            "carried out, `message` says why. `Failed`: an internal error ended it."
        ),
    ]
    handled_time: Annotated[
        datetime, schema("Time at which the controller handled the request (RFC 3339, UTC).")
    ]
    id: Annotated[
        str | None,
        schema(
            "Id of the request, from its annotation counterfoil.dev/request-id.",
            maxLength=MAX_REQUEST_TEXT_LENGTH,
        ),
    ] = None
    # Unverified: a user who may set the label may write any name (docs/decisions/0019).
    by: Annotated[
        str | None,
        schema(
            "Person who made the request, by its own statement (annotation counterfoil.dev/request-by).",
            maxLength=MAX_REQUEST_TEXT_LENGTH,
        ),
    ] = None
    reason: Annotated[
        str | None,
        schema(
            "Reason of the request (annotation counterfoil.dev/request-reason).",
            maxLength=MAX_REQUEST_TEXT_LENGTH,
        ),
    ] = None
    message: Annotated[
        str | None, schema("Result of the request, for people.", maxLength=MAX_REQUEST_TEXT_LENGTH)
    ] = None


@dataclass(frozen=True)
class Request:
    """A request that is on an object now."""

    name: str
    id: str | None = None
    by: str | None = None
    reason: str | None = None
    parameters: Mapping[str, str] = field(default_factory=dict)
    """All its annotations, by their names after ``counterfoil.dev/request-``."""

    @classmethod
    def find(cls, metadata: ObjectMeta) -> "Request | None":
        """Return the request on an object, or None."""
        if (name := metadata.labels.get(REQUEST_LABEL)) is None:
            return None
        parameters = {
            key.removeprefix(REQUEST_ANNOTATION_PREFIX): value
            for key, value in metadata.annotations.items()
            if key.startswith(REQUEST_ANNOTATION_PREFIX)
        }
        id_, by, reason = (parameters.get(key) or None for key in ("id", "by", "reason"))
        return cls(name, id_, by, reason, parameters)

    def is_same(self, other: "Request | None") -> bool:
        """Whether both are one request, also if annotations were added to it meanwhile."""
        return other is not None and (self.name, self.id) == (other.name, other.id)

    def is_handled(self, last: LastRequest | None) -> bool:
        """Whether this request was carried out; only its label is still there."""
        return last is not None and self.id is not None and (last.request, last.id) == (self.name, self.id)

    def handled(self, outcome: RequestOutcome, message: str, *, now: datetime) -> LastRequest:
        """Return what the status says of this request."""
        return LastRequest(
            request=self.name,
            outcome=outcome,
            handled_time=now.replace(microsecond=0),
            id=_bounded(self.id),
            by=_bounded(self.by),
            reason=_bounded(self.reason),
            message=_bounded(message),
        )


def attribution(by: str | None, reason: str | None) -> str:
    """Return who asked and why, to follow the name of a request; empty if neither is known."""
    name = f", in the name of {by}" if by else ""
    because = f", because: {reason}" if reason else ""
    return f"{name}{because}"


def request_changes(
    name: str,
    *,
    id_: str,
    by: str,
    reason: str | None = None,
    parameters: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return the changes of ``metadata`` that make a request; of another request they leave no reason
    and no expected state."""
    annotations: dict[str, str | None] = {
        REQUEST_ID_ANNOTATION: id_,
        REQUEST_BY_ANNOTATION: by,
        REQUEST_REASON_ANNOTATION: reason or None,
        f"{REQUEST_ANNOTATION_PREFIX}{EXPECTED_PARAMETER}": None,
    }
    for key, value in (parameters or {}).items():
        annotations[f"{REQUEST_ANNOTATION_PREFIX}{key}"] = value
    return {"labels": {REQUEST_LABEL: name}, "annotations": annotations}


def request_removal(metadata: ObjectMeta) -> dict[str, Any]:
    """Return the changes of ``metadata`` that remove the request, if nobody has changed the object since."""
    found = [each for each in metadata.annotations if each.startswith(REQUEST_ANNOTATION_PREFIX)]
    return {
        "labels": {REQUEST_LABEL: None},
        "annotations": dict.fromkeys(found),
        "resourceVersion": metadata.resource_version,
    }


def _bounded(text: str | None) -> str | None:
    return None if text is None else text[:MAX_REQUEST_TEXT_LENGTH]
