"""
Archives of kind ``s3``: Amazon S3 and what speaks its protocol, by ``obstore``.

An object appears whole or not at all: a small one by one PUT, a bigger one by a multipart upload that is
completed at the end and aborted on any error. A run that is killed outright leaves an unfinished multipart upload
that no listing shows; a lifecycle rule (AbortIncompleteMultipartUpload) clears those away, see docs/archives.md.

Memory per transfer is two parts and a block. No conditional requests: not every server honours them, and names
are ours by ``claim``.
"""

import asyncio
import re
import secrets
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import quote, urlsplit

from obstore.exceptions import BaseError
from obstore.store import S3Store

from counterfoil.archives.door import MAX_ENTRIES, TEMPORARY_PREFIX, Absent, Entry, segments
from counterfoil.archives.streams import BLOCK
from counterfoil.archives.trouble import (
    ArchiveRefused,
    ArchiveTrouble,
    ArchiveUnavailable,
    Occupied,
    SettingsInvalid,
    StoredWrong,
)
from counterfoil.resources.archive import S3, ArchiveSpec

if TYPE_CHECKING:
    from obstore import Attributes
    from obstore.store import ClientConfig, RetryConfig, S3Config, S3Credential, S3CredentialProvider

PART = 5 * 1024 * 1024
"""Bytes of one part, the least that S3 takes: up to 10,000 of them, 48 GiB, and little memory."""

PARTS_IN_FLIGHT = 2
"""Parts that are sent at the same time, while the next one is filled."""

MAX_TAGS = 10
"""Tags that S3 takes for one object."""

TAG_VALUE_LIMIT = 256
"""Characters of a tag's value; the manifest has the whole of it."""

ABORT_PATIENCE = 10.0
"""Seconds that a cancelled upload may take to be aborted at the server."""

# obstore's own retries are for a hiccup; what lasts longer is the controller's to wait for.
_RETRY: "RetryConfig" = {
    "max_retries": 3,
    "retry_timeout": timedelta(seconds=30),
    "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=2), "base": 2},
}

# ``timeout`` would count for a whole download, however long; a server that says nothing is what has to end.
_CLIENT: "ClientConfig" = {
    "connect_timeout": timedelta(seconds=5),
    "read_timeout": timedelta(seconds=60),
    "timeout": timedelta(hours=12),
}

_KEYS = frozenset({"accessKeyId", "secretAccessKey", "sessionToken"})
_NOT_IN_TAGS = re.compile(r"[^\w +\-=.:/@]")


async def open_s3(name: str, spec: ArchiveSpec, credentials: Mapping[str, bytes]) -> "S3Door":
    """
    Open the archive ``name``; nothing is asked of the server yet. Raises ``SettingsInvalid``.

    Without ``credentials`` the pod's own identity counts, as the environment tells (web identity, container,
    instance).
    """
    settings = spec.s3
    if settings is None:
        raise SettingsInvalid(f"Archive/{name}: spec.s3 is missing.")
    if settings.object_lock is not None:
        raise SettingsInvalid(
            f"Archive/{name}: spec.s3.objectLock can't be set per object yet. Set a default retention on the bucket "
            f"`{settings.bucket}` instead, and remove spec.s3.objectLock."
        )
    if len(spec.tags) > MAX_TAGS:
        raise SettingsInvalid(
            f"Archive/{name}: S3 takes at most {MAX_TAGS} tags for an object, spec.tags has {len(spec.tags)}."
        )
    try:
        store = S3Store(
            settings.bucket,
            config=_config(settings),
            # Not part of the config, where a key of ours could meet a session token of the environment's.
            credential_provider=_identity(name, settings, credentials),
            client_options={**_CLIENT, "allow_http": (settings.endpoint or "").startswith("http://")},
            retry_config=_RETRY,
        )
    except (BaseError, ValueError) as error:
        raise SettingsInvalid(f"Archive/{name}: spec.s3 can't be used as it is written.") from error
    return S3Door(name, settings, store)


class S3Door:
    """A bucket, perhaps below a prefix. ``archive`` is the name that messages carry."""

    kind: ClassVar[str] = "s3"

    def __init__(self, archive: str, settings: S3, store: S3Store) -> None:
        self._archive = f"Archive/{archive}"
        self._settings = settings
        self._store = store
        self._prefix = settings.prefix.strip("/")

    def location(self, name: str) -> str:
        """Return the ``s3:`` URI of a name, percent-encoded."""
        return f"s3://{self._settings.bucket}/" + quote(self._key(name), safe="/!$&'()*+,;=:@")

    async def entries(self, folder: str) -> list[Entry]:
        """Return everything below a folder."""
        found: list[Entry] = []
        try:
            async for page in self._store.list(self._key(folder), chunk_size=1000):
                found.extend(Entry(self._name(each["path"]), each["size"]) for each in page)
                if len(found) > MAX_ENTRIES:
                    raise Occupied(
                        f"{self.location(folder)} has more than {MAX_ENTRIES} files. Move them away."
                    )
        except (BaseError, OSError) as error:
            raise self._trouble(error) from error
        return sorted(found, key=lambda entry: entry.name)

    async def put(
        self, name: str, chunks: AsyncIterable[bytes], *, tags: Mapping[str, str], content_type: str | None
    ) -> None:
        """Store an object, with object tags and content type. Raises ``ArchiveTrouble``."""
        attributes: Attributes = {} if content_type is None else {"Content-Type": content_type}
        source = _Source(chunks)
        head = await source.head(PART)
        upload = asyncio.ensure_future(
            self._store.put_async(
                self._key(name),
                _chained(head, source) if len(head) >= PART else head,
                attributes=attributes,
                tags=_object_tags(tags) or None,
                chunk_size=PART,
                max_concurrency=PARTS_IN_FLIGHT,
            )
        )
        try:
            await asyncio.shield(upload)
        except asyncio.CancelledError:
            await _aborted(upload, source)
            raise
        except Exception as error:
            if source.error is not None:
                raise source.error from None
            raise self._trouble(error) from error

    async def read(self, name: str) -> AsyncGenerator[bytes, None]:
        """Yield an object block by block. Raises ``Absent``."""
        try:
            answer = await self._store.get_async(self._key(name))
            stream = answer.stream(min_chunk_size=BLOCK)
            async for block in stream:
                yield block
        except (BaseError, OSError) as error:
            raise self._absent_or_trouble(error) from error

    async def discard(self, name: str) -> None:
        """Remove an object; nothing happens when it is absent."""
        try:
            await self._store.delete_async(self._key(name))
        except (BaseError, OSError) as error:
            trouble = self._absent_or_trouble(error)
            if not isinstance(trouble, Absent):
                raise trouble from error

    async def probe(self) -> None:
        """Write, read back and remove a small object. Raises ``ArchiveTrouble``."""
        name = f"{TEMPORARY_PREFIX}probe-{secrets.token_hex(8)}"
        content = secrets.token_hex(16).encode()
        await self.put(name, _one(content), tags={}, content_type="text/plain")
        try:
            found = b"".join([block async for block in self.read(name)])
        finally:
            await self.discard(name)
        if found != content:
            raise StoredWrong(f"{self._archive}: {self._server} gives back other bytes than were written.")

    async def sweep_leftovers(self, folder: str) -> None:
        """Nothing to do: what a killed run leaves is in no listing, and the bucket's lifecycle rule ends it."""

    async def close(self) -> None:
        """Nothing to do: connections end with the store."""

    def _key(self, name: str) -> str:
        path = "/".join(segments(name))
        return f"{self._prefix}/{path}" if self._prefix else path

    def _name(self, key: str) -> str:
        return key.removeprefix(f"{self._prefix}/") if self._prefix else key

    @property
    def _server(self) -> str:
        return f"S3 at {self._settings.endpoint}" if self._settings.endpoint else "Amazon S3"

    def _absent_or_trouble(self, error: Exception) -> ArchiveTrouble | Absent:
        if isinstance(error, FileNotFoundError) and Answer.read(str(error)).code != "NoSuchBucket":
            return Absent()
        return self._trouble(error)

    def _trouble(self, error: Exception) -> ArchiveTrouble:
        secret = self._settings.credentials_secret_ref
        return trouble_of(
            str(error),
            archive=self._archive,
            server=self._server,
            bucket=self._settings.bucket,
            key=f"the key in Secret `{secret.name}`" if secret else "the pod's own identity",
        )


@dataclass(frozen=True)
class Answer:
    """What a server answered, as far as it can be read from an error of ``obstore``: status and S3's code."""

    status: str = ""
    code: str = ""

    @classmethod
    def read(cls, text: str) -> "Answer":
        """Find both in the text of an error; they are empty when no answer came."""
        status = re.search(r"status code: (\d{3})\b", text)
        code = re.search(r"<Code>([A-Za-z0-9.]{1,64})</Code>", text)
        return cls(status[1] if status else "", code[1] if code else "")

    def __str__(self) -> str:
        return f"S3 answered {self.status} {self.code}".rstrip()


@dataclass(frozen=True)
class Verdict:
    """What to make of an answer: S3's ``codes`` and HTTP statuses that it is for, and the words for them."""

    codes: frozenset[str]
    kind: type[ArchiveUnavailable | ArchiveRefused]
    reason: str
    words: str


# The first row that knows the code counts; then the first that knows the status.
VERDICTS = (
    Verdict(
        frozenset({"NoSuchBucket", "404"}),
        ArchiveRefused,
        "ArchiveBucketMissing",
        "the bucket `{bucket}` does not exist or the key may not see it ({answer}). Create it or correct spec.s3.bucket.",
    ),
    Verdict(
        frozenset({"InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "ExpiredToken", "401"}),
        ArchiveRefused,
        "ArchiveCredentialsRejected",
        "{server} does not accept {key} ({answer}). Give a valid one.",
    ),
    Verdict(
        frozenset(
            {"AuthorizationHeaderMalformed", "PermanentRedirect", "IllegalLocationConstraintException", "301"}
        ),
        ArchiveRefused,
        "ArchiveRegionWrong",
        "the bucket `{bucket}` is in another region ({answer}). Correct spec.s3.region.",
    ),
    Verdict(
        frozenset({"RequestTimeTooSkewed"}),
        ArchiveRefused,
        "ClockWrong",
        "{server} has another time than this machine ({answer}). Set the clock of the one that is wrong.",
    ),
    Verdict(
        frozenset({"KeyTooLongError"}),
        ArchiveRefused,
        "PathTooLong",
        "a path is longer than {server} takes ({answer}). Shorten spec.path or spec.s3.prefix.",
    ),
    Verdict(
        frozenset({"EntityTooLarge", "413"}),
        ArchiveRefused,
        "FileTooBig",
        "{server} does not take a file of this size ({answer}). Raise its limit.",
    ),
    Verdict(
        frozenset({"NotImplemented", "501"}),
        ArchiveRefused,
        "ArchiveLacksFeature",
        "{server} can't do what the Archive asks for ({answer}). Leave out tags or encryption, or use another server.",
    ),
    Verdict(
        frozenset({"QuotaExceeded", "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded", "507"}),
        ArchiveUnavailable,
        "ArchiveFull",
        "no space is left in the bucket `{bucket}` ({answer}). Enlarge it or raise its quota; filing goes on by itself.",
    ),
    Verdict(
        frozenset({"SlowDown", "RequestLimitExceeded", "429", "503"}),
        ArchiveUnavailable,
        "ArchiveOverloaded",
        "{server} asks for a pause ({answer}). Filing goes on by itself.",
    ),
    Verdict(
        frozenset({"500", "502", "504", "408"}),
        ArchiveUnavailable,
        "ArchiveFailing",
        "{server} does not work ({answer}). Filing goes on by itself once it does.",
    ),
    Verdict(
        frozenset({"AccessDenied", "AllAccessDisabled", "403"}),
        ArchiveRefused,
        "ArchivePermissionDenied",
        "{key} may not do everything that filing needs in the bucket `{bucket}` ({answer}). "
        "Allow s3:ListBucket, s3:GetObject, s3:PutObject, s3:PutObjectTagging, s3:AbortMultipartUpload and s3:DeleteObject.",
    ),
)


def trouble_of(text: str, *, archive: str, server: str, bucket: str, key: str) -> ArchiveTrouble:
    """Sort an error of ``obstore``, given by its text, by whose turn it is. The text itself goes nowhere."""
    if _NO_IDENTITY.search(text):
        return ArchiveRefused(
            "ArchiveNoIdentity",
            f"{archive}: the pod has no identity that {server} knows. Name a Secret in spec.s3.credentialsSecretRef, "
            "or give the controller's ServiceAccount a role.",
        )
    answer = Answer.read(text)
    for said in filter(None, (answer.code, answer.status)):
        for verdict in VERDICTS:
            if said in verdict.codes:
                words = verdict.words.format(answer=answer, bucket=bucket, key=key, server=server)
                return verdict.kind(verdict.reason, f"{archive}: {words}")
    if answer.status:
        return ArchiveRefused(
            "ArchiveRefused",
            f"{archive}: {server} refuses what the Archive asks for ({answer}). Check spec.s3.",
        )
    return ArchiveUnavailable("ArchiveUnreachable", f"{archive}: {server} could not be reached.")


# obstore asks these when there is no key: the instance's or container's metadata service, and AWS STS.
_NO_IDENTITY = re.compile(r"/latest/(?:api/token|meta-data)|WebIdentity|AssumeRole")


class _Stopped(Exception):
    """The upload was cancelled, so no more is to come."""


class _Source:
    """The chunks of an upload, which remembers what they raised, and can be stopped so that the upload is aborted."""

    def __init__(self, chunks: AsyncIterable[bytes]) -> None:
        self.error: BaseException | None = None
        self._chunks = aiter(chunks)
        self._stopped = False
        self._pulling: asyncio.Task[Any] | None = None

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if self._stopped:
            raise _Stopped
        self._pulling = asyncio.current_task()
        try:
            return await anext(self._chunks)
        except StopAsyncIteration:
            raise
        except asyncio.CancelledError:
            if self._stopped:
                raise _Stopped from None
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
        """Make whoever pulls get an error."""
        self._stopped = True
        if self._pulling is not None:
            self._pulling.cancel()


async def _chained(head: bytes, rest: AsyncIterable[bytes]) -> AsyncGenerator[bytes, None]:
    yield head
    async for chunk in rest:
        yield chunk


async def _aborted(upload: "asyncio.Future[Any]", source: _Source) -> None:
    """End an upload by an error of its source: cut off from outside, obstore would not tell the server."""
    upload.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
    source.stop()
    await asyncio.wait([upload], timeout=ABORT_PATIENCE)
    upload.cancel()


def path_style(settings: S3) -> bool:
    """Whether the bucket goes into the path: asked for, or the only way, since an IP address has no subdomains."""
    host = urlsplit(settings.endpoint or "").hostname or ""
    return settings.force_path_style or _IP_ADDRESS.fullmatch(host) is not None


def endpoint_of(settings: S3) -> str | None:
    """Return the endpoint with the bucket in its host name, unless it goes into the path; obstore adds neither."""
    if settings.endpoint is None or path_style(settings):
        return settings.endpoint
    parts = urlsplit(settings.endpoint)
    return parts._replace(netloc=f"{settings.bucket}.{parts.netloc}").geturl()


_IP_ADDRESS = re.compile(r"[0-9.]+|[0-9a-f]*:[0-9a-f:.]*")


def _config(settings: S3) -> "S3Config":
    config: S3Config = {"virtual_hosted_style_request": not path_style(settings)}
    if settings.region:
        config["region"] = settings.region
    if endpoint := endpoint_of(settings):
        config["endpoint"] = endpoint
    if settings.server_side_encryption:
        config["server_side_encryption"] = settings.server_side_encryption
    return config


def _identity(name: str, settings: S3, credentials: Mapping[str, bytes]) -> "S3CredentialProvider | None":
    if settings.credentials_secret_ref is None:
        return None
    secret = f"Secret `{settings.credentials_secret_ref.name}`"
    try:
        given = {key: value.decode().strip() for key, value in credentials.items() if key in _KEYS}
    except UnicodeDecodeError as error:
        raise SettingsInvalid(f"Archive/{name}: the keys in {secret} are no text.") from error
    for key in ("accessKeyId", "secretAccessKey"):
        if not given.get(key):
            raise SettingsInvalid(f"Archive/{name}: {secret} has no `{key}`.")
    credential: S3Credential = {
        "access_key_id": given["accessKeyId"],
        "secret_access_key": given["secretAccessKey"],
        "token": given.get("sessionToken"),
        "expires_at": None,
    }
    return lambda: credential


def _object_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """Return the tags with what S3 takes: letters, digits, spaces and + - = . _ : / @, at most 256 characters."""
    return {name: _NOT_IN_TAGS.sub("_", value)[:TAG_VALUE_LIMIT] for name, value in tags.items()}


async def _one(content: bytes) -> AsyncGenerator[bytes, None]:
    yield content
