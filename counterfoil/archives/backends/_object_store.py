"""
Shared by the kinds of archives that are object stores, through ``obstore``; each kind adds its
``ErrorDialect``.

An object appears whole or not at all: a small one by one request, a bigger one by an upload in parts that is
completed at the end and ended on any error. A run that is killed outright leaves parts that no listing shows;
each store has its way to clear those away, see docs/archives.md.

Memory per transfer is two parts and a block. No conditional requests: not every server honours them, and
names are ours by ``claim``.
"""

import asyncio
import re
import secrets
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import quote

from obstore.exceptions import BaseError
from obstore.store import AzureStore, GCSStore, S3Store

from counterfoil.archives.backend import (
    MAX_ENTRIES,
    TEMPORARY_PREFIX,
    FileNotStored,
    StoredEntry,
    segments,
    too_many_files,
)
from counterfoil.archives.errors import (
    ArchiveError,
    ArchiveRefused,
    ArchiveUnavailable,
    ErrorText,
    SettingsInvalid,
    VerificationFailed,
    find_text,
)
from counterfoil.archives.streams import BLOCK, single_chunk
from counterfoil.resources.archive import ArchiveSpec

if TYPE_CHECKING:
    from obstore import Attributes
    from obstore.store import ClientConfig, RetryConfig

Store = S3Store | AzureStore | GCSStore

PART = 5 * 1024 * 1024
"""Bytes of one part, the least that S3 takes: up to 10,000 of them, 48 GiB, and little memory."""

PARTS_IN_FLIGHT = 2
"""Parts that are sent at the same time, while the next one is filled."""

MAX_TAGS = 10
"""Maximum number of tags of one object, of S3 and of Azure."""

TAG_VALUE_LIMIT = 256
"""Bytes of UTF-8 of a tag's value; S3 counts units of UTF-16, some servers count bytes. The manifest has it
all."""

ABORT_TIMEOUT_SECONDS = 10.0
"""Seconds that a cancelled upload may take to be aborted at the server."""

# obstore's own retries are for a hiccup; what lasts longer is the controller's to wait for.
RETRY: "RetryConfig" = {
    "max_retries": 3,
    "retry_timeout": timedelta(seconds=30),
    "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=2), "base": 2},
}

# ``timeout`` would count for a whole download, however long; a server that says nothing is what has to end.
CLIENT: "ClientConfig" = {
    "connect_timeout": timedelta(seconds=5),
    "read_timeout": timedelta(seconds=60),
    "timeout": timedelta(hours=12),
}


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
    no_identity: re.Pattern[str]
    """Pattern of errors of a pod without identity: addresses that ``obstore`` requests without a key."""
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
    """An answer as read from an error of ``obstore``: status and the service's code."""

    service: str
    status: str = ""
    code: str = ""

    @classmethod
    def read(cls, service: str, text: str) -> "ObjectStoreResponse":
        """Find both in the text of an error; they are empty when no answer came."""
        status = re.search(r"status code: (\d{3})\b", text)
        code = re.search(r"<Code>([A-Za-z0-9.]{1,64})</Code>", text)
        return cls(service, status[1] if status else "", code[1] if code else "")

    def __str__(self) -> str:
        return f"{self.service} answered {self.status} {self.code}".rstrip()


def error_of(text: str, dialect: ErrorDialect, bucket: BucketAddress) -> ArchiveError:
    """Return the error for a text of ``obstore``, by who must act. The text itself is not passed on."""
    if dialect.no_identity.search(text):
        return ArchiveRefused(
            "ArchiveNoIdentity",
            f"{bucket.archive}: the pod has no identity that {bucket.server} knows. Name a Secret in "
            f"{dialect.field}.credentialsSecretRef, or give the controller's ServiceAccount a role.",
        )
    return error_of_response(ObjectStoreResponse.read(dialect.service, text), dialect, bucket)


def error_of_response(
    answer: ObjectStoreResponse, dialect: ErrorDialect, bucket: BucketAddress
) -> ArchiveError:
    """Return the error for an answer other than success, by who must act."""
    code = dialect.synonyms.get(answer.code, answer.code)
    for said in filter(None, (code, answer.status)):
        if (text := find_text({**dialect.rules, **COMMON_ERROR_RULES}, said)) is not None:
            return text.error(
                bucket.archive, answer=answer, bucket=bucket.name, key=bucket.key, server=bucket.server
            )
    if answer.status:
        return ArchiveRefused(
            "ArchiveRefused",
            f"{bucket.archive}: {bucket.server} refuses what the Archive asks for ({answer}). Check "
            f"{dialect.field}.",
        )
    return ArchiveUnavailable(
        "ArchiveUnreachable", f"{bucket.archive}: {bucket.server} could not be reached."
    )


def check_tag_count(archive: str, spec: ArchiveSpec, service: str, target: str) -> None:
    """Raise ``SettingsInvalid`` for more than ``MAX_TAGS`` tags."""
    if len(spec.tags) > MAX_TAGS:
        raise SettingsInvalid(
            f"Archive/{archive}: {service} takes at most {MAX_TAGS} tags for {target}, "
            f"spec.tags has {len(spec.tags)}."
        )


class ObjectStoreBackend:
    """A bucket, perhaps below a prefix. Each kind says how tags and locations look there."""

    kind: ClassVar[str]
    lists_files = True
    DIALECT: ClassVar[ErrorDialect]
    NOT_IN_TAGS: ClassVar[re.Pattern[str]]
    """Characters that the service does not take in a tag."""

    def __init__(self, store: Store, bucket: BucketAddress, *, prefix: str = "") -> None:
        self._store = store
        self._bucket = bucket
        self._prefix = prefix.strip("/")
        self._kept_probe: str | None = None
        """The probe that could not be removed; the next one takes its place, so that there is only one."""

    def uri(self) -> str:
        """Return the URI of the bucket, without a slash at its end."""
        raise NotImplementedError

    def tags(self, tags: Mapping[str, str]) -> dict[str, str]:
        """Return the tags of the object, without the characters that the service does not take."""
        return {name: _cut(self.NOT_IN_TAGS.sub("_", value)) for name, value in tags.items()}

    def attributes(self, tags: Mapping[str, str]) -> dict[str, str]:
        """Return the metadata that these tags become."""
        return {}

    def location(self, name: str) -> str:
        """Return the URI of a name, percent-encoded."""
        return f"{self.uri()}/" + quote(self._key(name), safe="/!$&'()*+,;=:@")

    async def entries(self, folder: str) -> list[StoredEntry]:
        """Return everything below a folder."""
        found: list[StoredEntry] = []
        try:
            async for page in self._store.list(self._key(folder), chunk_size=1000):
                found.extend(StoredEntry(self._name(each["path"]), each["size"]) for each in page)
                if len(found) > MAX_ENTRIES:
                    raise too_many_files(self.location(folder))
        except (BaseError, OSError) as error:
            raise self._error(error) from error
        return sorted(found, key=lambda entry: entry.name)

    async def put(
        self, name: str, chunks: AsyncIterable[bytes], *, tags: Mapping[str, str], content_type: str | None
    ) -> None:
        """Store an object, with its tags and content type. Raises ``ArchiveError``."""
        attributes: Attributes = {**self.attributes(tags)}
        if content_type is not None:
            attributes["Content-Type"] = content_type
        source = _ChunkSource(chunks)
        head = await source.head(PART)
        content = _chained(head, source) if len(head) >= PART else head
        del head
        upload = asyncio.ensure_future(
            self._store.put_async(
                self._key(name),
                content,
                attributes=attributes,
                tags=self.tags(tags) or None,
                chunk_size=PART,
                max_concurrency=PARTS_IN_FLIGHT,
            )
        )
        try:
            await asyncio.shield(upload)
        except asyncio.CancelledError:
            await _abort_upload(upload, source)
            raise
        except Exception as error:
            if source.error is not None:
                raise source.error from None
            raise self._error(error) from error

    async def read(self, name: str) -> AsyncGenerator[bytes, None]:
        """Yield an object block by block. Raises ``FileNotStored``."""
        try:
            answer = await self._store.get_async(self._key(name))
            stream = answer.stream(min_chunk_size=BLOCK)
            async for block in stream:
                yield block
        except (BaseError, OSError) as error:
            raise self._not_stored_or_error(error) from error

    async def discard(self, name: str) -> None:
        """Remove an object; nothing happens when it is absent."""
        try:
            await self._store.delete_async(self._key(name))
        except (BaseError, OSError) as error:
            trouble = self._not_stored_or_error(error)
            if not isinstance(trouble, FileNotStored):
                raise trouble from error

    async def probe(self) -> None:
        """Write, read back and, where that is allowed, remove a small object. Raises ``ArchiveError``."""
        name = self._kept_probe or f"{TEMPORARY_PREFIX}probe-{secrets.token_hex(8)}"
        content = secrets.token_hex(16).encode()
        await self.put(name, single_chunk(content), tags={}, content_type="text/plain")
        try:
            found = b"".join([block async for block in self.read(name)])
        finally:
            await self._discard_probe(name)
        if found != content:
            raise VerificationFailed(
                f"{self._bucket.archive}: {self._bucket.server} returns other bytes than were written."
            )

    async def _discard_probe(self, name: str) -> None:
        self._kept_probe = None
        try:
            await self.discard(name)
        except ArchiveRefused as refused:
            # Filing needs no right to delete, and some archives are there to grant none.
            if refused.reason != "ArchivePermissionDenied":
                raise
            self._kept_probe = name

    async def remove_leftovers(self, folder: str) -> None:
        """Nothing to do: what a killed run leaves is in no listing, and the bucket's lifecycle rule ends
        it."""

    async def close(self) -> None:
        """Nothing to do: connections end with the store."""

    def _key(self, name: str) -> str:
        path = "/".join(segments(name))
        return f"{self._prefix}/{path}" if self._prefix else path

    def _name(self, key: str) -> str:
        return key.removeprefix(f"{self._prefix}/") if self._prefix else key

    def _not_stored_or_error(self, error: Exception) -> ArchiveError | FileNotStored:
        missing = self.DIALECT.root_missing
        if (
            isinstance(error, FileNotFoundError)
            and ObjectStoreResponse.read("", str(error)).code not in missing
        ):
            return FileNotStored()
        return self._error(error)

    def _error(self, error: Exception) -> ArchiveError:
        return error_of(str(error), self.DIALECT, self._bucket)


def _cut(value: str) -> str:
    return value.encode()[:TAG_VALUE_LIMIT].decode(errors="ignore")


class _UploadStopped(Exception):
    """The upload was cancelled, so no more is to come."""


class _ChunkSource:
    """The chunks of an upload, which remembers what they raised, and can be stopped so that the upload is
    aborted."""

    def __init__(self, chunks: AsyncIterable[bytes]) -> None:
        self.error: BaseException | None = None
        self._chunks = aiter(chunks)
        self._stopped = False
        self._pulling: asyncio.Task[Any] | None = None

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if self._stopped:
            raise _UploadStopped
        self._pulling = asyncio.current_task()
        try:
            return await anext(self._chunks)
        except StopAsyncIteration:
            raise
        except asyncio.CancelledError:
            if self._stopped:
                raise _UploadStopped from None
            raise
        except Exception as error:
            self.error = error
            raise
        finally:
            self._pulling = None

    async def head(self, size: int) -> bytes:
        """Return at least ``size`` bytes, or all if there are fewer."""
        taken, length = [], 0
        async for chunk in self:
            taken.append(chunk)
            length += len(chunk)
            if length >= size:
                break
        return b"".join(taken)

    def stop(self) -> None:
        """Make the next read raise an error."""
        self._stopped = True
        if self._pulling is not None:
            self._pulling.cancel()


async def _chained(head: bytes, rest: AsyncIterable[bytes]) -> AsyncGenerator[bytes, None]:
    yield head
    # It is sent while the rest is read: a part less in memory.
    del head
    async for chunk in rest:
        yield chunk


async def _abort_upload(upload: "asyncio.Future[Any]", source: _ChunkSource) -> None:
    """End an upload by an error of its source: cut off from outside, obstore would not tell the server."""
    upload.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
    source.stop()
    await asyncio.wait([upload], timeout=ABORT_TIMEOUT_SECONDS)
    upload.cancel()
