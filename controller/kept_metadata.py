"""
The labels and annotations that the controller keeps of an object in memory.

Kubernetes bounds labels by the size of the object only, and annotations by 256 KiB. Others choose most of
them: kubectl, GitOps, a user with the right to patch, and without the chart's policies also a receiver that
was taken over. What is kept is for reading only: a write sets single keys, and the record of people's acts
and the annotations of a request are read from the API server when they are needed.
"""

from collections.abc import Mapping
from typing import Final, TypeVar

from msgspec.structs import replace

from counterfoil.resources import CLAIM_ANNOTATION, TRACEPARENT_ANNOTATION, Resource
from counterfoil.resources.base import (
    ACTION_LABEL,
    ARCHIVED_LABEL,
    ENVELOPE_LABEL,
    IMPORT_ARCHIVE_LABEL,
    IMPORT_ENDED_LABEL,
    IMPORT_LABEL,
    IMPORT_WINDOW_LABEL,
    LISTED_AFTER_LABEL,
    LISTED_BY_LABEL,
    ORGANIZATION_LABEL,
    REQUEST_LABEL,
    SENDER_LABEL,
    SHARD_LABEL,
)

KEPT_LABELS: Final = frozenset(
    {
        ORGANIZATION_LABEL,
        ENVELOPE_LABEL,
        ACTION_LABEL,
        SHARD_LABEL,
        SENDER_LABEL,
        ARCHIVED_LABEL,
        IMPORT_LABEL,
        IMPORT_WINDOW_LABEL,
        IMPORT_ENDED_LABEL,
        IMPORT_ARCHIVE_LABEL,
        LISTED_AFTER_LABEL,
        LISTED_BY_LABEL,
        REQUEST_LABEL,
    }
)
"""A value has 63 characters at most."""

KEPT_ANNOTATIONS: Final = frozenset({CLAIM_ANNOTATION, TRACEPARENT_ANNOTATION})
MAX_KEPT_ANNOTATION: Final = 256
"""Characters of an annotation that is kept. Counterfoil's are shorter, so a longer one is not from it."""

R = TypeVar("R", bound=Resource)


def with_kept_metadata(resource: R) -> R:
    """Return the object with no other labels and annotations than the kept ones."""
    metadata = resource.metadata
    labels, annotations = _kept_labels(metadata.labels), _kept_annotations(metadata.annotations)
    if len(labels) == len(metadata.labels) and len(annotations) == len(metadata.annotations):
        return resource
    return replace(resource, metadata=replace(metadata, labels=labels, annotations=annotations))


def _kept_labels(labels: Mapping[str, str]) -> dict[str, str]:
    return {key: labels[key] for key in KEPT_LABELS if key in labels}


def _kept_annotations(annotations: Mapping[str, str]) -> dict[str, str]:
    return {
        key: annotations[key]
        for key in KEPT_ANNOTATIONS
        if key in annotations and len(annotations[key]) <= MAX_KEPT_ANNOTATION
    }
