"""
Errors of object stores: what a service answers, in words for the administrator.

The text of an answer is not passed on, only its status and code.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from counterfoil.archives.errors import (
    ArchiveError,
    ArchiveRefused,
    ErrorText,
    SettingsInvalid,
    find_text,
)
from counterfoil.resources.archive import ArchiveSpec

MAX_TAGS = 10
"""Maximum number of tags of one object, of S3 and of Azure."""

# Rules for HTTP statuses, for every service. ``ErrorDialect.synonyms`` has the codes that mean the same.
COMMON_ERROR_RULES: Mapping[frozenset[str], ErrorText] = {
    frozenset({"401"}): ErrorText(
        "ArchiveCredentialsRejected", "{server} does not accept {key} ({answer}). Give a valid one."
    ),
    frozenset({"413"}): ErrorText(
        "FileTooBig", "{server} does not take a file of this size ({answer}). Raise its limit."
    ),
    frozenset({"501"}): ErrorText(
        "ArchiveLacksFeature",
        "{server} can't do what the Archive asks for ({answer}). Leave out tags or encryption, or use "
        "another server.",
    ),
    frozenset({"507"}): ErrorText(
        "ArchiveFull",
        "no space is left in `{bucket}` ({answer}). Enlarge it or raise its quota; archiving continues "
        "automatically.",
    ),
    frozenset({"429", "503"}): ErrorText(
        "ArchiveOverloaded", "{server} asks for a pause ({answer}). Archiving continues automatically."
    ),
    frozenset({"500", "502", "504", "408"}): ErrorText(
        "ArchiveFailing", "{server} does not work ({answer}). Archiving continues automatically once it does."
    ),
    frozenset({"301", "302", "303", "307", "308"}): ErrorText(
        "ArchiveRedirects",
        "{server} points to another address ({answer}), and Counterfoil does not follow with documents. Put "
        "the final address into {field}.",
    ),
}


@dataclass(frozen=True)
class ErrorDialect:
    """The errors of one service."""

    service: str
    """As in ``S3 answered 404``."""
    field: str
    """As in ``spec.s3``."""
    root_missing: frozenset[str]
    """Its codes for a bucket that is not there, where 404 could also mean an object."""
    rules: Mapping[frozenset[str], ErrorText]
    """The first entry that has the code counts; then the first that has the HTTP status."""
    synonyms: Mapping[str, str]
    """Code to the HTTP status whose rule in ``COMMON_ERROR_RULES`` also holds for the code."""


@dataclass(frozen=True)
class BucketAddress:
    """Address of an archive, as texts for messages."""

    archive: str
    """As in ``Archive/dms``."""
    server: str
    name: str
    key: str
    """Owner of the rights, for messages."""


@dataclass(frozen=True)
class ObjectStoreResponse:
    """An answer other than success: status and the service's code, empty if there is none."""

    service: str
    status: str = ""
    code: str = ""

    @classmethod
    def read(cls, service: str, status: int, body: bytes) -> "ObjectStoreResponse":
        """Find the code in the body of an answer."""
        code = re.search(rb"<Code>([A-Za-z0-9.]{1,64})</Code>", body)
        return cls(service, str(status), code[1].decode() if code else "")

    def __str__(self) -> str:
        return f"{self.service} answered {self.status} {self.code}".rstrip()


def error_of_response(
    answer: ObjectStoreResponse, dialect: ErrorDialect, bucket: BucketAddress
) -> ArchiveError:
    """Return the error for an answer other than success, by who must act."""
    code = dialect.synonyms.get(answer.code, answer.code)
    for said in filter(None, (code, answer.status)):
        if (text := find_text({**dialect.rules, **COMMON_ERROR_RULES}, said)) is not None:
            return text.error(
                bucket.archive,
                answer=answer,
                bucket=bucket.name,
                key=bucket.key,
                server=bucket.server,
                field=dialect.field,
            )
    return ArchiveRefused(
        "ArchiveRefused",
        f"{bucket.archive}: {bucket.server} refuses what the Archive asks for ({answer}). Check "
        f"{dialect.field}.",
    )


def no_identity(dialect: ErrorDialect, bucket: BucketAddress) -> ArchiveRefused:
    """Return the error for a pod that has no identity which the service knows."""
    return ArchiveRefused(
        "ArchiveNoIdentity",
        f"{bucket.archive}: the pod has no identity that {bucket.server} knows. Name a Secret in "
        f"{dialect.field}.credentialsSecretRef, or give the controller's ServiceAccount a role.",
    )


def check_tag_count(archive: str, spec: ArchiveSpec, service: str, target: str) -> None:
    """Raise ``SettingsInvalid`` for more than ``MAX_TAGS`` tags."""
    if len(spec.tags) > MAX_TAGS:
        raise SettingsInvalid(
            f"Archive/{archive}: {service} takes at most {MAX_TAGS} tags for {target}, "
            f"spec.tags has {len(spec.tags)}."
        )
