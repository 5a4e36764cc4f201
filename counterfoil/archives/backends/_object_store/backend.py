"""
Object stores as archives: the calls of an ``ArchiveBackend`` as requests to a bucket.

An object appears whole or not at all: a small one by one request, a bigger one by an upload in parts that is
completed at the end and ended on any error. A run that is killed outright leaves parts that no listing shows;
each store has its way to clear those away, see docs/archives.md.

Memory per transfer is three parts and a block. No conditional requests: not every server supports them, and
``claim_names`` reserves the names.
"""

import asyncio
import re
import secrets
from abc import abstractmethod
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Mapping
from contextlib import aclosing
from functools import partial
from typing import ClassVar
from urllib.parse import quote, unquote_plus

from counterfoil.archives.backend import (
    MAX_ENTRIES,
    MAX_LISTED_NAME,
    TEMPORARY_PREFIX,
    ArchiveBackend,
    FileNotStored,
    StoredEntry,
    segments,
    too_many_files,
)
from counterfoil.archives.backends._object_store.client import (
    Content,
    ObjectStoreClient,
    StoreAnswer,
    StoreRequest,
)
from counterfoil.archives.backends._object_store.listing import (
    LIST_LIMIT,
    ListPage,
    ListUnreadable,
    read_page,
)
from counterfoil.archives.errors import ArchiveRefused, SettingsInvalid
from counterfoil.archives.readback import ReadingList, probe_with_file, reading_list
from counterfoil.archives.streams import INLINE, clean_up, in_hashing_thread
from counterfoil.resources.archive import ArchiveSpec

PART = 5 * 1024 * 1024
"""Bytes of one part, the least that S3 takes: up to 10,000 of them, 48 GiB, and little memory."""

PARTS_IN_FLIGHT = 2
"""Parts that are sent at the same time, while the next one is filled."""

MAX_TAGS = 10
"""Maximum number of tags of one object, of S3 and of Azure."""

TAG_VALUE_LIMIT = 256
"""Bytes of UTF-8 of a tag's value; S3 counts units of UTF-16, some servers count bytes. The manifest has it
all."""

PAGE = 1000
"""Objects that are asked for at once."""

MAX_PAGES = 2 * MAX_ENTRIES // PAGE
"""Pages of one list; a server can give pages without an entry indefinitely."""

NOT_FOUND = 404
OBJECT_MISSING = frozenset({"NoSuchKey", "BlobNotFound"})
"""Codes of the services for an object that is not there. Another code with a 404 may be of a gateway."""


class ObjectStoreBackend(ArchiveBackend):
    """A bucket, perhaps below a prefix. Each kind says how tags, lists and uploads look there."""

    lists_files = True
    NOT_IN_TAGS: ClassVar[re.Pattern[str]]
    """Characters that the service does not take in a tag."""

    def __init__(self, client: ObjectStoreClient, *, prefix: str = "") -> None:
        self._client = client
        self._bucket = client.bucket
        self._prefix = prefix.strip("/")
        self._kept_probe: str | None = None
        """The probe whose removal is not known; the next one takes its place, so that there is only one."""

    @abstractmethod
    def uri(self) -> str:
        """Return the URI of the bucket, without a slash at its end."""

    @abstractmethod
    def _object_headers(self, tags: Mapping[str, str], content_type: str | None) -> dict[str, str]:
        """Return the headers that describe a new object."""

    @abstractmethod
    async def _put_whole(self, path: str, content: Content, headers: Mapping[str, str]) -> None:
        """Store an object by one request."""

    @abstractmethod
    async def _begin_upload(self, path: str, headers: Mapping[str, str]) -> str:
        """Begin an upload in parts; return its id."""

    @abstractmethod
    async def _put_part(self, path: str, upload: str, number: int, content: Content) -> str:
        """Send one part, the first of which is number 1; return what the completion says about it."""

    @abstractmethod
    async def _complete_upload(
        self, path: str, upload: str, parts: list[str], headers: Mapping[str, str]
    ) -> None:
        """Make an object of the parts."""

    @abstractmethod
    async def _abort_upload(self, path: str, upload: str) -> None:
        """Give up an upload."""

    @abstractmethod
    def _list_query(self, prefix: str, marker: str | None) -> dict[str, str]:
        """Return the query for one page of a list."""

    @abstractmethod
    def _read_list(self, content: bytes) -> tuple[list[tuple[str, int | None]], str | None]:
        """Return the keys and sizes of a page, and the marker of the next one. Raises
        ``ListUnreadable``."""

    def tags(self, tags: Mapping[str, str]) -> dict[str, str]:
        """Return the tags of the object, without the characters that the service does not take."""
        return {name: _cut(self.NOT_IN_TAGS.sub("_", value)) for name, value in tags.items()}

    def location(self, name: str) -> str:
        """Return the URI of a name, percent-encoded."""
        return f"{self.uri()}/" + quote(self._key(name), safe="/!$&'()*+,;=:@")

    @property
    def server_origin(self) -> str:
        """Return scheme, host and port of the service: buckets of several services can have one name."""
        return self._client.origin

    async def entries(self, folder: str) -> list[StoredEntry]:
        """Return everything below a folder."""
        prefix, marker = f"{self._key(folder)}/", None
        found: list[StoredEntry] = []
        async with reading_list(self, folder) as bounds:
            for _ in range(MAX_PAGES):
                request = StoreRequest("GET", query=self._list_query(prefix, marker))
                keys, marker = await self._keys(request, bounds)
                for key, size in keys:
                    if not key.startswith(prefix):
                        raise self._client.unreadable()
                    # A console stores an empty object with a slash at its end for a folder.
                    if not key.endswith("/"):
                        found.append(StoredEntry(self._name(key), size))
                        bounds.add(found[-1].name)
                # Before the next page is asked for, since the answer can take long.
                del keys
                await bounds.wait_for_memory()
                if marker is None:
                    return sorted(found, key=lambda entry: entry.name)
        raise too_many_files(self.location(folder))

    async def put(
        self, name: str, chunks: AsyncIterable[bytes], *, tags: Mapping[str, str], content_type: str | None
    ) -> None:
        """Store an object, with its tags and content type. Raises ``ArchiveError``."""
        path, headers = self._path(name), self._object_headers(tags, content_type)
        async with aclosing(_parts(chunks)) as parts:
            first = [await anext(parts, bytearray())]
            if len(first[0]) < PART:
                await self._put_whole(path, first[0], headers)
            else:
                await self._put_in_parts(path, _chained(first, parts), headers)

    async def read(self, name: str) -> AsyncGenerator[bytes, None]:
        """Yield an object block by block. Raises ``FileNotStored``."""
        async with self._client.open(StoreRequest("GET", self._path(name))) as response:
            if response.status_code == 200:
                async with aclosing(self._client.stored_content(name, response)) as content:
                    async for block in content:
                        yield block
                return
            answer = await self._client.read_answer(response)
        if await self._is_absent(name, answer):
            raise FileNotStored
        raise self._client.error(answer)

    async def discard(self, name: str) -> None:
        """Remove an object; nothing happens when it is absent."""
        answer = await self._client.request(StoreRequest("DELETE", self._path(name)))
        if not answer.is_success and not await self._is_absent(name, answer):
            raise self._client.error(answer)

    async def _is_absent(self, name: str, answer: StoreAnswer) -> bool:
        """
        Whether the answer to a request for an object says that there is none. Raises ``ArchiveError``.

        A proxy can answer 404 as well. Without the code of a missing object, its whole list decides.
        """
        if answer.status != NOT_FOUND:
            return False
        if self._client.parsed(answer).code in OBJECT_MISSING:
            return True
        if self._client.is_root_missing(answer):
            return False
        key, marker = self._key(name), None
        async with reading_list(self, name) as bounds:
            # A page without the object may continue, also an empty one.
            for _ in range(MAX_PAGES):
                request = StoreRequest("GET", query=self._list_query(key, marker))
                found, marker = await self._keys(request, bounds)
                if key in (each for each, _ in found):
                    return False
                if marker is None:
                    return True
                del found
                await bounds.wait_for_memory()
        return False

    async def probe(self) -> None:
        """Write, read back and, where that is allowed, remove a small object. Raises ``ArchiveError``."""
        name = self._kept_probe = self._kept_probe or f"{TEMPORARY_PREFIX}probe-{secrets.token_hex(8)}"
        try:
            await probe_with_file(self, name, self._bucket.archive, self._bucket.server)
        except BaseException:
            await clean_up(self._discard_probe(name))
            raise
        await self._discard_probe(name)

    async def _discard_probe(self, name: str) -> None:
        try:
            await self.discard(name)
        except ArchiveRefused as refused:
            # Filing needs no right to delete, and some archives are there to grant none. A proxy may be what
            # refuses.
            if refused.reason not in {"ArchivePermissionDenied", "ArchiveAnswerUnreadable"}:
                raise
        else:
            self._kept_probe = None

    async def remove_leftovers(self, folder: str) -> None:
        """Nothing to do: what a killed run leaves is in no listing, and the bucket's lifecycle rule ends
        it."""

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def _put_in_parts(
        self, path: str, parts: AsyncIterable[bytearray], headers: Mapping[str, str]
    ) -> None:
        upload = await self._begin_upload(path, headers)
        sending: list[asyncio.Task[str]] = []
        try:
            async for part in parts:
                if len(sending) >= PARTS_IN_FLIGHT:
                    await sending[-PARTS_IN_FLIGHT]
                sending.append(asyncio.create_task(self._put_part(path, upload, len(sending) + 1, part)))
                del part
            await self._complete_upload(path, upload, [await each for each in sending], headers)
        except BaseException:
            await clean_up(self._end_upload(path, upload, sending))
            raise

    async def _end_upload(self, path: str, upload: str, sending: list[asyncio.Task[str]]) -> None:
        for each in sending:
            each.cancel()
        await asyncio.gather(*sending, return_exceptions=True)
        await self._abort_upload(path, upload)

    async def _keys(
        self, request: StoreRequest, bounds: ReadingList
    ) -> tuple[list[tuple[str, int | None]], str | None]:
        answer = await self._client.request(request, limit=LIST_LIMIT, grow=bounds.wait_for_memory)
        if not answer.is_success:
            raise self._client.error(answer)
        return await self._page(answer.body)

    async def _page(self, content: bytes) -> tuple[list[tuple[str, int | None]], str | None]:
        try:
            return (
                self._read_list(content)
                if len(content) <= INLINE
                else await in_hashing_thread(partial(self._read_list, content))
            )
        except ListUnreadable as error:
            raise self._client.unreadable() from error

    async def _expect_success(self, request: StoreRequest) -> StoreAnswer:
        """Send a request that must succeed; return its answer. Raises ``ArchiveError``."""
        answer = await self._client.request(request)
        if not answer.is_success:
            raise self._client.error(answer)
        return answer

    def _path(self, name: str) -> str:
        """Return the percent-encoded path of a name, as signatures want it."""
        return quote(self._key(name), safe="/-_.~")

    def _key(self, name: str) -> str:
        path = "/".join(segments(name))
        return f"{self._prefix}/{path}" if self._prefix else path

    def _name(self, key: str) -> str:
        return key.removeprefix(f"{self._prefix}/") if self._prefix else key


def _cut(value: str) -> str:
    return value.encode()[:TAG_VALUE_LIMIT].decode(errors="ignore")


def list_page(
    content: bytes, record: str, key: str, size: str, marker: str
) -> tuple[ListPage, list[tuple[str, int | None]]]:
    """
    Return a page of a list, and its keys and sizes. Raises ``ListUnreadable``.

    Azure lists the directories of an account with a hierarchical namespace too, as blobs without content
    (https://learn.microsoft.com/rest/api/storageservices/list-blobs, ResourceType). They are left out.
    """
    wanted = {key, size, marker, "IsTruncated", "EncodingType", "ResourceType"}
    page = read_page(content, record, wanted)
    found: list[tuple[str, int | None]] = []
    for each in page.records:
        if each.get("ResourceType") == "directory":
            continue
        if key not in each:
            raise ListUnreadable("an entry has no name")
        length = each.get(size, "")
        is_number = length.isascii() and length.isdigit() and len(length) < 20
        name = unquote_plus(each[key]) if page.rest.get("EncodingType") == "url" else each[key]
        if len(name) > MAX_LISTED_NAME:
            raise ListUnreadable("a key is longer than any store allows")
        found.append((name, int(length) if is_number else None))
    return page, found


async def _parts(chunks: AsyncIterable[bytes]) -> AsyncGenerator[bytearray, None]:
    """Yield the bytes in parts of exactly ``PART`` bytes, except the last one; nothing for an empty
    stream."""
    part, length, is_first = bytearray(), 0, True
    async for chunk in chunks:
        rest = memoryview(chunk)
        while rest:
            if not part and not is_first:
                # Whole at once, since a buffer that grows is copied. Most files are smaller than one part.
                part = bytearray(PART)
            taken = rest[: PART - length]
            part[length : length + len(taken)] = taken
            length, rest = length + len(taken), rest[len(taken) :]
            if length == PART:
                yield part
                part, length, is_first = bytearray(), 0, False
    if length:
        del part[length:]
        yield part


async def _chained(first: list[bytearray], rest: AsyncIterator[bytearray]) -> AsyncGenerator[bytearray, None]:
    # Nothing else keeps it: it is sent while the rest is read.
    yield first.pop()
    async for part in rest:
        yield part


def check_tag_count(archive: str, spec: ArchiveSpec, service: str, target: str) -> None:
    """Raise ``SettingsInvalid`` for more than ``MAX_TAGS`` tags."""
    if len(spec.tags) > MAX_TAGS:
        raise SettingsInvalid(
            f"Archive/{archive}: {service} takes at most {MAX_TAGS} tags for {target}, "
            f"spec.tags has {len(spec.tags)}."
        )
