"""
Archives of kind ``webdav``: a collection of a WebDAV server (RFC 4918).

A file is sent in chunks to a temporary name in its own collection and then moved to its own, so that a name
has all of a file or none of it. The move first asks not to overwrite anything: on a folder it would remove
all that is in it. Tags become properties of the namespace ``counterfoil.dev/tags`` where the server keeps
such; the manifest has them anyway.

A 403, 404, 405 or 501 is believed of a server that shows the root as a collection: any proxy answers such as
well.

Counterfoil uses no locks (docs/decisions/0020): nothing is changed in place, and two runs move the same
content to the same name. If another client has a lock, the event waits.
"""

import math
import re
import unicodedata
from collections.abc import AsyncGenerator, AsyncIterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import ClassVar
from urllib.parse import unquote, urlsplit

import httpx
from lxml import etree

from counterfoil.archives.backend import MAX_ENTRIES, FileNotStored, Opener, required_settings, segments
from counterfoil.archives.backends._folder_tree import FolderEntry, FolderTreeBackend
from counterfoil.archives.backends._http import (
    LACKING_STATUSES,
    NOT_FOUND_STATUSES,
    RECOGNIZED_SECONDS,
    HttpSite,
    path_of,
)
from counterfoil.archives.credentials import Credentials
from counterfoil.archives.errors import ArchiveError, ArchiveRefused, ArchiveUnavailable
from counterfoil.archives.names import MAX_RUN_OF_MARKS, longest_run_of_marks
from counterfoil.clock import Clock, WallClock
from counterfoil.resources.archive import ArchiveSpec
from counterfoil.untrusted.xml_bounds import PIECE, SEPARATOR, BoundedXmlParser, XmlRefused, XmlTooLarge

TAG_NAMESPACE = "counterfoil.dev/tags"
FIELD = "spec.webdav.url"

MAX_ELEMENTS = 30 * MAX_ENTRIES
"""Elements of one listing; a response has some ten."""

LISTING_LIMIT = 16 * 1024 * 1024
"""Maximum bytes of XML in one listing: 1.6 KiB for each of ``MAX_ENTRIES`` files."""

MAX_PATH_LENGTH = 32 * 1024
"""Maximum number of characters of an address in a listing, and of any other text that is read."""

MAX_SIZE_DIGITS = 19
"""Digits of the length of a file; a longer number is none."""

MAX_EXTRA_SLASHES = 16
"""Slashes of an address in a listing beyond those that it needs; some servers double them."""

_DAV = f"DAV:{SEPARATOR}"
_RESPONSE = f"{_DAV}response"
_HREF = f"{_DAV}href"
_STATUS = f"{_DAV}status"
_LENGTH = f"{_DAV}getcontentlength"
_COLLECTION = [f"{_DAV}resourcetype", f"{_DAV}collection"]
_OK = "HTTP/1.1 200 OK"
_MULTI_STATUS = 207
_EXISTS = 405
_FORBIDDEN = 403
_CONFLICT = 409
_PRECONDITION_FAILED = 412
# XML 1.0, production 2.
_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_XML = {"Content-Type": "application/xml; charset=utf-8"}
_WANTED = (
    b'<?xml version="1.0" encoding="utf-8"?>'
    b'<propfind xmlns="DAV:"><prop><resourcetype/><getcontentlength/></prop></propfind>'
)


async def open_webdav(name: str, spec: ArchiveSpec, credentials: Mapping[str, bytes]) -> "WebDavBackend":
    """Open the archive ``name``; nothing is asked of the server yet. Raises ``SettingsInvalid``."""
    settings = required_settings(name, "spec.webdav", spec.webdav)
    secret = Credentials(name, settings.credentials_secret_ref, credentials)
    return WebDavBackend(HttpSite.open("the WebDAV server", FIELD, settings.url, secret), WallClock())


OPENER: Opener = open_webdav


@dataclass(frozen=True)
class WebDavResource:
    """An entry of a listing: the resource that was asked for, or a file or a collection in it."""

    name: str | None
    """Last part of its path; None for the resource itself."""
    is_elsewhere: bool
    """Whether its path is neither the one that was asked for nor in it."""
    is_folder: bool
    size: int | None
    is_complete: bool
    """False: the server could not say, or not list, everything (RFC 6578, 3.6)."""


class WebDavBackend(FolderTreeBackend):
    """A collection and all below it, listed one by one: few servers list a whole tree at once."""

    kind: ClassVar[str] = "webdav"

    def __init__(self, site: HttpSite, clock: Clock) -> None:
        super().__init__(site.archive, site.server, site.url)
        self._site = site
        self._clock = clock
        self._recognized = -math.inf
        """Monotonic time at which the server showed the root. It counts for files below the root: a missing
        one in it, as the marker is, has its own answer."""
        root = urlsplit(site.url).path
        self._root_parts = _decoded(root, len(root))

    def location(self, name: str) -> str:
        """Return the address of a name."""
        return self._url(segments(name))

    async def read(self, name: str) -> AsyncGenerator[bytes, None]:
        """Yield a file block by block. Raises ``FileNotStored``."""
        parts = segments(name)
        headers = {"Cache-Control": "no-cache"}
        async with self._site.stream("GET", self._url(parts), headers=headers) as response:
            status = response.status_code
            if status == 200:
                async with aclosing(self._site.stored_content(name, response)) as content:
                    async for block in content:
                        yield block
                return
        if status not in NOT_FOUND_STATUSES:
            raise await self._error_for_status(parts, status)
        if len(parts) == 1:
            await self._recognize()
        else:
            await self._recognize_recently()
        raise FileNotStored

    async def close(self) -> None:
        """Close the connections."""
        await self._site.close()

    async def _make_folder(self, parts: list[str]) -> None:
        if not parts:
            return
        answer = await self._site.request("MKCOL", self._url(parts) + "/")
        if answer.status_code in {_CONFLICT, *NOT_FOUND_STATUSES} and len(parts) > 1:
            await self._make_folder(parts[:-1])
            answer = await self._site.request("MKCOL", self._url(parts) + "/")
        # Servers have several answers for one that is there, above all when it may not be made.
        if answer.is_success or answer.status_code == _EXISTS or await self._is_folder(parts):
            return
        raise await self._error_for_status(parts, answer.status_code)

    async def _send(
        self, parts: list[str], chunks: AsyncIterable[bytes], tags: Mapping[str, str], content_type: str
    ) -> None:
        headers = {"Content-Type": content_type}
        answer = await self._site.upload("PUT", self._url(parts), chunks, headers=headers)
        if not answer.is_success:
            raise await self._error_for_status(parts, answer.status_code)
        if tags:
            # Many servers store no properties and refuse; the answer is ignored.
            await self._site.request("PROPPATCH", self._url(parts), headers=_XML, content=_properties(tags))

    async def _publish(self, temporary: list[str], parts: list[str]) -> None:
        answer = await self._move(temporary, parts, overwrite="F")
        if answer.status_code == _PRECONDITION_FAILED:
            # To overwrite a collection means to delete it with all that is in it (RFC 4918, 9.9.3).
            if await self._is_folder(parts):
                raise self._name_taken(parts, "is a folder")
            answer = await self._move(temporary, parts, overwrite="T")
        if not answer.is_success or answer.status_code == _MULTI_STATUS:
            raise await self._move_error(parts, answer.status_code)

    async def _probe_taken_name(self, taken: list[str]) -> None:
        async def rename(second: list[str]) -> bool:
            return (await self._move(second, taken, overwrite="F")).is_success

        if not await self._refuses_to_rename(taken, rename):
            raise self._lacks_feature(
                "moves a file over another one in spite of Overwrite: F, so it could remove a folder. Let it "
                "obey that header, or use another server"
            )

    async def _move(self, temporary: list[str], parts: list[str], *, overwrite: str) -> httpx.Response:
        headers = {"Destination": self._url(parts), "Overwrite": overwrite}
        return await self._site.request("MOVE", self._url(temporary), headers=headers)

    async def _move_error(self, parts: list[str], status: int) -> ArchiveError:
        if status in {400, 502}:
            return ArchiveRefused(
                "ArchiveLacksFeature",
                f"{self._archive}: {self._server} does not take itself for the one that {FIELD} names (HTTP "
                f"{status} for MOVE). Let the proxy before it pass the host name and scheme on, or adapt "
                "Destination.",
            )
        return await self._error_for_status(parts, status)

    async def _delete(self, parts: list[str]) -> None:
        answer = await self._site.request("DELETE", self._url(parts))
        if answer.status_code in NOT_FOUND_STATUSES:
            await self._recognize()
        elif not answer.is_success or answer.status_code == _MULTI_STATUS:
            raise await self._refusal(answer.status_code)

    async def _error_for_status(self, parts: list[str], status: int) -> ArchiveError:
        """Return what a refusal means, after a check of the existing entries: servers answer differently."""
        if status in {403, _EXISTS, 406, 500, _CONFLICT, *NOT_FOUND_STATUSES}:
            for depth in range(1, len(parts)):
                if await self._is_folder(parts[:depth]) is False:
                    return self._name_taken(parts[:depth], "is a file where Counterfoil needs a folder")
            if await self._is_folder(parts):
                return self._name_taken(parts, "is a folder")
        if status in {_CONFLICT, *NOT_FOUND_STATUSES}:
            await self._recognize()
            return ArchiveUnavailable(
                "ArchiveChanged",
                f"{self._archive}: a folder below {self._root} was removed while a file was filed into it.",
            )
        return await self._refusal(status)

    async def _refusal(self, status: int) -> ArchiveError:
        """Return what a refusal by the server means. Raises ``ArchiveError`` if it may be a proxy's."""
        if status == _FORBIDDEN or status in LACKING_STATUSES:
            await self._recognize()
        return self._site.error_for_status(status)

    async def _recognize(self) -> None:
        """Ask for the root, which only the server itself shows. Raises ``ArchiveError``."""
        await self._check_root()
        self._recognized = self._clock.monotonic()

    async def _recognize_recently(self) -> None:
        """As ``_recognize``, unless the server was asked in the last ``RECOGNIZED_SECONDS``."""
        if self._clock.monotonic() - self._recognized >= RECOGNIZED_SECONDS:
            await self._recognize()

    async def _is_folder(self, parts: list[str]) -> bool | None:
        """Tell whether the entry is a collection; None when there is no entry."""
        try:
            return await self._is_collection(parts, slash="")
        except FileNotStored:
            return None
        except ArchiveRefused as refused:
            # Some servers have an address for a collection with a slash at its end only.
            if refused.reason == "ArchiveRedirects":
                return True
            raise

    async def _check_root(self) -> None:
        try:
            is_folder = await self._is_collection([], slash="/")
        except FileNotStored:
            raise await self._missing_root() from None
        if not is_folder:
            raise self._name_taken([], "is a file where Counterfoil needs a folder")

    async def _is_collection(self, parts: list[str], *, slash: str) -> bool:
        """Whether what is there is a collection. Raises ``FileNotStored``; ``ArchiveRefused`` for an answer
        other than one resource, the second of which is not waited for."""
        found: WebDavResource | None = None
        async with aclosing(self._propfind(parts, depth="0", slash=slash)) as listed:
            async for each in listed:
                if found is not None:
                    raise self._not_webdav()
                found = each
        if found is None:
            raise self._not_webdav()
        return found.is_folder

    async def _children(self, parts: list[str]) -> AsyncGenerator[FolderEntry, None]:
        # A complete answer has the collection itself (RFC 4918, 9.1).
        is_complete = False
        try:
            async with aclosing(self._propfind(parts, depth="1", slash="/")) as listed:
                async for each in listed:
                    if each.is_elsewhere:
                        raise self._site.unreadable_response()
                    if each.name is not None:
                        yield FolderEntry(each.name, each.is_folder, each.size)
                    else:
                        is_complete |= each.is_complete
        except FileNotStored:
            await self._recognize_recently()
            return
        if not is_complete:
            raise self._site.unreadable_response()

    async def _propfind(
        self, parts: list[str], *, depth: str, slash: str
    ) -> AsyncGenerator[WebDavResource, None]:
        """Yield what the server says is there, itself included; raises ``FileNotStored``."""
        headers = {"Depth": depth, **_XML}
        url = self._url(parts) + slash
        async with self._site.stream("PROPFIND", url, headers=headers, content=_WANTED) as response:
            if response.status_code in NOT_FOUND_STATUSES:
                raise FileNotStored
            if response.status_code != _MULTI_STATUS:
                raise await self._listing_error(parts, response.status_code)
            path = (*self._root_parts, *parts)
            async with aclosing(self._responses(response.aiter_raw(PIECE))) as found:
                async for each in found:
                    yield self._resource(each, path)

    async def _responses(self, chunks: AsyncIterable[bytes]) -> AsyncGenerator["_Response", None]:
        """Yield the responses of a multi-status answer one by one."""
        reader = _MultiStatusReader()
        parser = BoundedXmlParser(reader, max_bytes=LISTING_LIMIT, max_elements=MAX_ELEMENTS)
        try:
            async for chunk in chunks:
                parser.feed(chunk)
                for each in reader.take():
                    yield each
            parser.close()
        except XmlTooLarge as error:
            raise self._site.unreadable_response() from error
        except XmlRefused as error:
            raise self._not_webdav() from error

    def _resource(self, response: "_Response", asked: tuple[str, ...]) -> WebDavResource:
        """Read a resource of the answer for the path ``asked``. Raises ``ArchiveRefused`` for one outside of
        the archive's root."""
        texts = response.texts
        try:
            path = _decoded(urlsplit(texts.get(_HREF, "")).path, len(asked) + MAX_EXTRA_SLASHES)
        except ValueError as error:
            raise self._site.unreadable_response() from error
        if path[: len(self._root_parts)] != self._root_parts:
            raise ArchiveRefused(
                "ArchiveAnswerUnreadable",
                f"{self._archive}: {self._server} lists its files under another address. Put that into "
                f"{FIELD}.",
            )
        length = texts.get(_LENGTH, "")
        is_size = length.isascii() and length.isdigit() and len(length) <= MAX_SIZE_DIGITS
        return WebDavResource(
            path[-1] if path != asked and path else None,
            is_elsewhere=asked not in (path, path[:-1]),
            is_folder=response.is_folder,
            size=int(length) if is_size else None,
            is_complete=(texts.get(_STATUS) or _OK).split()[1:2] == ["200"],
        )

    def _url(self, parts: list[str]) -> str:
        return f"{self._root}/{path_of(parts)}" if parts else self._root

    async def _listing_error(self, parts: list[str], status: int) -> ArchiveError:
        if 200 <= status < 300 or status in LACKING_STATUSES:
            return self._not_webdav()
        if status == _FORBIDDEN and not parts:
            return self._unrecognized(status)
        return await self._refusal(status)

    def _not_webdav(self) -> ArchiveError:
        return ArchiveRefused(
            "ArchiveNotWebDav",
            f"{self._archive}: there is no WebDAV collection at {self._root} (PROPFIND is not answered as it "
            f"should be). Correct {FIELD}, or turn WebDAV on there.",
        )

    async def _missing_root(self) -> ArchiveError:
        """Return what a 404 for the root means: a WebDAV server shows itself by a header (RFC 4918, 10.1)."""
        async with self._site.stream("OPTIONS", f"{self._root}/") as response:
            if "DAV" not in response.headers:
                return self._unrecognized(404)
        return ArchiveRefused(
            "ArchiveRootMissing",
            f"{self._archive}: the collection {self._root} does not exist. Restore it, or correct {FIELD}. "
            "Create it only for a new archive.",
        )

    def _unrecognized(self, status: int) -> ArchiveError:
        return self._site.unrecognized_response(f"HTTP {status} for {self._root}", "a sign of WebDAV")


def _decoded(path: str, max_slashes: int) -> tuple[str, ...]:
    """
    Split a path of a URL into plain segments, in the normal form that our names have. A segment stays as it
    is if that form takes quadratic time.

    Raises ``ValueError``, before a path with too many segments is split.
    """
    if len(path) > MAX_PATH_LENGTH or path.count("/") > max_slashes:
        raise ValueError("it is too long")
    return tuple(_normal_form(unquote(part)) for part in path.split("/") if part)


def _normal_form(segment: str) -> str:
    if longest_run_of_marks(segment) > MAX_RUN_OF_MARKS:
        return segment
    return unicodedata.normalize("NFC", segment)


def _properties(tags: Mapping[str, str]) -> bytes:
    update = etree.Element("{DAV:}propertyupdate", nsmap={None: "DAV:", "t": TAG_NAMESPACE})
    properties = etree.SubElement(etree.SubElement(update, "{DAV:}set"), "{DAV:}prop")
    for name, value in tags.items():
        etree.SubElement(properties, f"{{{TAG_NAMESPACE}}}{name}").text = _NOT_IN_XML.sub("_", value)
    return etree.tostring(update, xml_declaration=True, encoding="utf-8")


@dataclass
class _Response:
    """The values of a response that are read."""

    texts: dict[str, str] = field(default_factory=dict)
    """The first text of each element that is read."""
    is_folder: bool = False


class _MultiStatusReader:
    """Takes the parts of a multi-status answer."""

    def __init__(self) -> None:
        self._complete: list[_Response] = []
        self._current: _Response | None = None
        self._open: list[str] = []
        """The open elements in the response."""
        self._texts: list[str] | None = None
        self._length = 0

    def take(self) -> list[_Response]:
        """Return the responses that are complete, and forget them."""
        taken, self._complete = self._complete, []
        return taken

    def start(self, name: str) -> None:
        """An element begins."""
        self._keep_text()
        if self._current is None:
            self._current = _Response() if name == _RESPONSE else None
            return
        self._open.append(name)
        self._current.is_folder |= self._open[-2:] == _COLLECTION
        is_read = name == _LENGTH or self._open in ([_HREF], [_STATUS])
        if is_read and name not in self._current.texts:
            self._texts, self._length = [], 0

    def end(self, name: str) -> None:
        """An element ends."""
        del name
        self._keep_text()
        if self._open:
            self._open.pop()
        elif self._current is not None:
            self._complete.append(self._current)
            self._current = None

    def text(self, data: str) -> None:
        """Some text. Raises ``XmlTooLarge``."""
        if self._texts is None:
            return
        self._length += len(data)
        if self._length > MAX_PATH_LENGTH:
            raise XmlTooLarge("a text is too long")
        self._texts.append(data)

    def _keep_text(self) -> None:
        if self._texts is not None and self._current is not None:
            self._current.texts[self._open[-1]] = "".join(self._texts)
        self._texts = None
