"""
Archives of kind ``cmis``: a folder of a CMIS 1.1 repository, by its browser binding (OASIS CMIS 1.1, 5).

A document is created with its bytes and properties under a temporary name, then given its own name. A
document that has this name is set aside first, and removed once the new one is verified, so that for a moment
there is none; half a document there never is. The repository must keep names unique in a folder. No versions
are made: a type that has to be versioned gets one major version per document.

Tags become the properties that ``spec.cmis.properties`` names; the manifest has all of them.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Annotated, ClassVar, TypeVar
from urllib.parse import quote, urlencode
from weakref import WeakValueDictionary

import httpx
import msgspec

from counterfoil.archives.backend import (
    MAX_ENTRIES,
    MAX_LISTED_NAME,
    TEMPORARY_PREFIX,
    FileNotStored,
    Opener,
    required_settings,
    segments,
)
from counterfoil.archives.backends._folder_tree import FolderEntry, FolderTreeBackend
from counterfoil.archives.backends._http import (
    LACKING_STATUSES,
    NOT_FOUND_STATUSES,
    HttpSite,
    MultipartForm,
    path_of,
)
from counterfoil.archives.credentials import Credentials
from counterfoil.archives.errors import (
    ArchiveError,
    ArchiveRefused,
    ErrorText,
    SettingsInvalid,
    find_text,
)
from counterfoil.origin import origin_of
from counterfoil.resources.archive import ArchiveSpec, Cmis
from counterfoil.untrusted.json_bounds import JSON_ERRORS, has_too_many_values

FIELD = "spec.cmis.url"
PAGE = 500
"""Objects that are asked for at once."""

LISTED = "cmis:name,cmis:baseTypeId,cmis:contentStreamLength"
"""Properties that are requested of each object. A document can have many more, and without a filter the
repository chooses which ones it returns (CMIS 1.1, 2.2.1.2.1)."""

FOLDER = "cmis:folder"

MAX_ADDRESS_LENGTH = 2048
"""Characters of an address that a repository names."""

MAX_PAGE_CONTAINERS = 50 * PAGE
"""Maximum number of lists and objects in an answer; one of the objects has some ten if the repository ignores
which properties are requested."""

T = TypeVar("T")
_FORM = {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}


async def open_cmis(name: str, spec: ArchiveSpec, credentials: Mapping[str, bytes]) -> "CmisBackend":
    """Open the archive ``name``; nothing is asked of the repository yet. Raises ``SettingsInvalid``."""
    settings = required_settings(name, "spec.cmis", spec.cmis)
    if unknown := sorted(set(settings.properties.values()) - set(spec.tags)):
        raise SettingsInvalid(
            f"Archive/{name}: spec.cmis.properties wants tags that spec.tags does not have: "
            f"{', '.join(unknown)}."
        )
    secret = Credentials(name, settings.credentials_secret_ref, credentials)
    return CmisBackend(HttpSite.open("the CMIS repository", FIELD, settings.url, secret), settings)


OPENER: Opener = open_cmis


CmisAddress = Annotated[str, msgspec.Meta(max_length=MAX_ADDRESS_LENGTH)]
CmisText = Annotated[str, msgspec.Meta(max_length=MAX_LISTED_NAME)]


class CmisRepositoryInfo(msgspec.Struct, frozen=True, rename="camel"):
    """One repository, as the service document describes it."""

    root_folder_url: CmisAddress
    repository_url: CmisAddress


class CmisTypeInfo(msgspec.Struct, frozen=True):
    """The document type. Each has an id."""

    id: CmisText
    versionable: bool = False


class CmisProperties(msgspec.Struct, frozen=True):
    """The properties that are read; an object can have many more."""

    name: CmisText | None = msgspec.field(name="cmis:name", default=None)
    base_type: CmisText | None = msgspec.field(name="cmis:baseTypeId", default=None)
    length: int | float | CmisText | None = msgspec.field(name="cmis:contentStreamLength", default=None)


class CmisObject(msgspec.Struct, frozen=True):
    """An object of the repository, or an exception."""

    properties: CmisProperties = msgspec.field(name="succinctProperties", default=CmisProperties())
    exception: CmisText = ""

    @property
    def entry(self) -> FolderEntry:
        """The object as an entry of a listing; the rest of an answer is not kept."""
        length = self.properties.length
        return FolderEntry(
            self.properties.name or "",
            is_folder=self.properties.base_type == FOLDER,
            size=length if isinstance(length, int) and length >= 0 else None,
        )


class CmisChild(msgspec.Struct, frozen=True):
    """One of the children of a folder."""

    object: CmisObject


class CmisChildren(msgspec.Struct, frozen=True, rename="camel"):
    """A page of the children of a folder."""

    objects: Annotated[tuple[CmisChild, ...], msgspec.Meta(max_length=PAGE)]
    has_more_items: bool


@dataclass(frozen=True)
class CmisRepository:
    """Description of the repository: the address of its root, and the versioning of documents."""

    root: str
    versioning: str


class CmisBackend(FolderTreeBackend):
    """A folder of a repository and all below it."""

    kind: ClassVar[str] = "cmis"

    def __init__(self, site: HttpSite, settings: Cmis) -> None:
        super().__init__(site.archive, site.server, settings.root_folder)
        self._site = site
        self._settings = settings
        self._root_parts = [part for part in settings.root_folder.split("/") if part]
        self._repository: CmisRepository | None = None
        self._making: WeakValueDictionary[tuple[str, ...], asyncio.Lock] = WeakValueDictionary()
        """By path of a folder: some repositories check its name and create it in two steps."""

    def location(self, name: str) -> str:
        """Return the address of a name by path, as most repositories have it."""
        path = path_of([*self._root_parts, *segments(name)])
        return f"{self._site.url}/{quote(self._settings.repository_id, safe='')}/root/{path}"

    async def read(self, name: str) -> AsyncGenerator[bytes, None]:
        """Yield a document block by block. Raises ``FileNotStored``."""
        parts = segments(name)
        url = await self._address(parts, "content")
        async with self._site.stream("GET", url) as response:
            status = response.status_code
            if status == 200:
                is_empty = True
                async with aclosing(self._site.stored_content(name, response)) as content:
                    async for block in content:
                        is_empty = False
                        yield block
                if not is_empty:
                    return
                answer = httpx.Response(status)
            else:
                answer = await self._site.small_answer(response)
        if status in {200, 400, 403, 409, *LACKING_STATUSES, *NOT_FOUND_STATUSES}:
            await self._check_document_is_empty(parts, answer)
            return
        raise self._site.error_for_status(status)

    async def close(self) -> None:
        """Close the connections."""
        await self._site.close()

    async def _check_root(self) -> None:
        self._repository = None
        if await self._find_object([]) is None:
            raise self._root_missing()

    async def _get_repository(self) -> CmisRepository:
        """Return what the repository tells about itself; asked for once."""
        if self._repository is None:
            self._repository = await self._fetch_repository()
        return self._repository

    async def _fetch_repository(self) -> CmisRepository:
        repository = await self._fetch_repository_info()
        self._check_origin(repository.root_folder_url)
        self._check_origin(repository.repository_url)
        versioning = "major" if await self._is_versionable(repository.repository_url) else "none"
        return CmisRepository(repository.root_folder_url.rstrip("/"), versioning)

    async def _fetch_repository_info(self) -> CmisRepositoryInfo:
        answer = await self._site.request("GET", self._site.url)
        if answer.status_code in NOT_FOUND_STATUSES:
            raise self._not_cmis()
        if not answer.is_success:
            raise self._refusal(answer)
        repositories = self._decoded(answer, dict[CmisText, CmisRepositoryInfo])
        repository = repositories.get(self._settings.repository_id)
        if repository is None:
            raise ArchiveRefused(
                "ArchiveRootMissing",
                f"{self._archive}: {self._server} has no repository `{self._settings.repository_id}`. There "
                f"are: {', '.join(sorted(repositories)[:10]) or 'none'}. Correct spec.cmis.repositoryID.",
            )
        return repository

    async def _is_versionable(self, repository: str) -> bool:
        kind = self._settings.document_type
        query = urlencode({"cmisselector": "typeDefinition", "typeId": kind})
        answer = await self._site.request("GET", f"{repository}?{query}")
        if self._is_missing(answer) or (answer.status_code == 400 and _exception_in(answer)):
            raise ArchiveRefused(
                "ArchiveRefused",
                f"{self._archive}: {self._server} has no document type `{kind}`. Correct "
                "spec.cmis.documentType.",
            )
        if not answer.is_success:
            raise self._refusal(answer)
        return self._decoded(answer, CmisTypeInfo).versionable

    def _check_origin(self, url: str) -> None:
        """Documents and credentials go only to the host that the Archive names."""
        try:
            told = origin_of(url)
        except ValueError:
            raise self._site.unreadable_response() from None
        if told != origin_of(self._site.url):
            raise ArchiveRefused(
                "ArchiveRedirects",
                f"{self._archive}: {self._server} gives addresses on another host "
                f"({told}). Put that one into {FIELD}, or let the proxy before it "
                "pass host name and scheme on.",
            )

    async def _address(self, parts: list[str], selector: str, **more: str) -> str:
        repository = await self._get_repository()
        path = path_of([*self._root_parts, *parts])
        query = urlencode({"cmisselector": selector, "succinct": "true", **more})
        return f"{repository.root}/{path}?{query}" if path else f"{repository.root}?{query}"

    async def _find_object(self, parts: list[str]) -> FolderEntry | None:
        """Return what lies at a path; None when nothing does."""
        answer = await self._site.request("GET", await self._address(parts, "object", filter=LISTED))
        if self._is_missing(answer):
            return None
        if not answer.is_success:
            raise self._refusal(answer)
        return self._entry(self._object(answer))

    def _object(self, answer: httpx.Response) -> CmisObject:
        try:
            return _decode_json(answer.content, CmisObject)
        except JSON_ERRORS as error:
            raise self._site.unreadable_response() from error

    def _entry(self, found: CmisObject) -> FolderEntry:
        """Return an object as an entry. One without its base type is an answer of another program."""
        if found.properties.base_type is None:
            raise self._site.unreadable_response()
        return found.entry

    async def _post_action(self, parts: list[str], action: str, fields: Mapping[str, str]) -> httpx.Response:
        """Have something done with the object at a path."""
        url = (await self._address(parts, "object")).partition("?")[0]
        content = urlencode({"cmisaction": action, "succinct": "true", **fields}).encode()
        return await self._site.request("POST", url, headers=_FORM, content=content)

    async def _make_folder(self, parts: list[str]) -> None:
        if await self._is_folder(parts):
            return
        if not parts:
            raise self._root_missing()
        await self._make_folder(parts[:-1])
        making = self._making.setdefault(tuple(parts), asyncio.Lock())
        others_make_it = making.locked()
        async with making:
            if not (others_make_it and await self._is_folder(parts)):
                await self._create_folder(parts)

    async def _create_folder(self, parts: list[str]) -> None:
        made = await self._post_action(
            parts[:-1], "createFolder", _properties({"cmis:name": parts[-1], "cmis:objectTypeId": FOLDER})
        )
        if not made.is_success:
            refusal = self._refusal(made)
            del made
            # Another controller may have been faster.
            if not await self._is_folder(parts):
                raise refusal

    async def _is_folder(self, parts: list[str]) -> bool:
        """Whether a folder exists. Raises ``NameTaken`` for a document."""
        there = await self._find_object(parts)
        if there is not None and not there.is_folder:
            raise self._name_taken(parts, "is a document where Counterfoil needs a folder")
        return there is not None

    async def _send(
        self, parts: list[str], chunks: AsyncIterable[bytes], tags: Mapping[str, str], content_type: str
    ) -> None:
        home = await self._get_repository()
        properties = {"cmis:name": parts[-1], "cmis:objectTypeId": self._settings.document_type}
        properties |= {key: tags[tag] for key, tag in self._settings.properties.items() if tag in tags}
        fields = {"cmisaction": "createDocument", "succinct": "true", "versioningState": home.versioning}
        form = MultipartForm({**fields, **_properties(properties)}, "content", parts[-1], content_type)
        url = (await self._address(parts[:-1], "object")).partition("?")[0]
        headers = {"Content-Type": form.content_type}
        answer = await self._site.upload("POST", url, form.encode(chunks), headers=headers)
        if not answer.is_success:
            raise self._refusal(answer)

    async def _publish(self, temporary: list[str], parts: list[str]) -> None:
        # Asked before: a repository may rename a second document to a name that is taken.
        there = await self._find_object(parts)
        if there is None:
            answer = await self._update_name(temporary, parts)
            if answer.is_success:
                return
            refusal = self._refusal(answer)
            del answer
            there = await self._find_object(parts)
            if there is None:
                raise refusal
        if there.is_folder:
            raise self._name_taken(parts, "is a folder")
        await self._replace_by_renaming(temporary, parts)

    async def _probe_taken_name(self, taken: list[str]) -> None:
        async def rename(second: list[str]) -> bool:
            answer = await self._update_name(second, taken)
            if answer.is_success:
                # Some repositories add a number to the name.
                given = self._object(answer).properties.name
                del answer
                if given is None:
                    raise self._site.unreadable_response()
                if given.startswith(TEMPORARY_PREFIX):
                    await self._delete([*taken[:-1], given])
                return True
            return False

        if not await self._refuses_to_rename(taken, rename):
            raise self._lacks_feature(
                "does not refuse a second document of the same name in a folder, so nobody can tell which of "
                "the two is proven. Let it refuse that, or use another repository"
            )

    async def _update_name(self, old: list[str], new: list[str]) -> httpx.Response:
        return await self._post_action(old, "update", _properties({"cmis:name": new[-1]}))

    async def _rename(self, old: list[str], new: list[str]) -> bool:
        answer = await self._update_name(old, new)
        if not answer.is_success and not self._is_missing(answer):
            raise self._refusal(answer)
        return answer.is_success

    async def _delete(self, parts: list[str]) -> None:
        answer = await self._post_action(parts, "delete", {"allVersions": "true"})
        if not answer.is_success and not self._is_missing(answer):
            raise self._refusal(answer)

    async def _check_document_is_empty(self, parts: list[str], answer: httpx.Response) -> None:
        """
        Handle a document without content: some repositories store an empty file so, and it has no length.

        Raises ``FileNotStored``, and ``ArchiveError`` if neither its length nor the exception for no content
        shows that the document is empty: a proxy may have answered.
        """
        there = await self._find_object(parts)
        if there is None:
            raise FileNotStored
        if there.is_folder:
            raise self._name_taken(parts, "is a folder")
        exception = _exception_in(answer)
        if there.size == 0 or (there.size is None and exception in _NO_CONTENT):
            return
        if answer.is_success:
            raise self._site.unreadable_response()
        raise self._refusal(answer) if exception else self._unrecognized(answer)

    async def _children(self, parts: list[str]) -> AsyncGenerator[FolderEntry, None]:
        skipped, more = 0, True
        while more and skipped <= MAX_ENTRIES:
            url = await self._address(
                parts, "children", filter=LISTED, maxItems=str(PAGE), skipCount=str(skipped)
            )
            answer = await self._site.request("GET", url)
            if self._is_missing(answer):
                return
            if not answer.is_success:
                raise self._refusal(answer)
            page, more = self._entries_of_page(answer)
            del answer
            skipped += len(page)
            for each in page:
                yield each
            # Before the next page is asked for, since the answer can take long.
            del page

    def _entries_of_page(self, answer: httpx.Response) -> tuple[list[FolderEntry], bool]:
        """Return the entries of a page, and whether there are more."""
        try:
            page = _decode_json(answer.content, CmisChildren)
        except JSON_ERRORS as error:
            raise self._site.unreadable_response() from error
        if page.has_more_items and not page.objects:
            raise self._site.unreadable_response()
        return [self._entry(child.object) for child in page.objects], page.has_more_items

    def _decoded(self, answer: httpx.Response, kind: type[T]) -> T:
        try:
            return _decode_json(answer.content, kind)
        except JSON_ERRORS as error:
            raise self._not_cmis() from error

    def _is_missing(self, answer: httpx.Response) -> bool:
        """Whether the repository says that there is no such object. Raises ``ArchiveError`` for a 404 without
        that exception, which may be of a proxy."""
        if answer.status_code not in NOT_FOUND_STATUSES:
            return False
        if _exception_in(answer) != _OBJECT_NOT_FOUND:
            raise self._unrecognized(answer)
        return True

    def _refusal(self, answer: httpx.Response) -> ArchiveError:
        """Return what an exception of the repository means."""
        exception = _exception_in(answer)
        if (text := find_text(_ERROR_RULES, exception)) is not None:
            return text.error(self._archive, server=self._server, exception=exception)
        if not exception and answer.status_code in {403, *LACKING_STATUSES, *NOT_FOUND_STATUSES}:
            return self._unrecognized(answer)
        return (
            self._changed()
            if answer.status_code in NOT_FOUND_STATUSES
            else self._site.error_for_status(answer.status_code)
        )

    def _unrecognized(self, answer: httpx.Response) -> ArchiveError:
        return self._site.unrecognized_response(f"HTTP {answer.status_code}", "an exception of CMIS")

    def _not_cmis(self) -> ArchiveError:
        return ArchiveRefused(
            "ArchiveNotCmis",
            f"{self._archive}: there is no CMIS browser binding at {self._site.url}. Correct {FIELD}: it is "
            "the address that ends in /browser with most products.",
        )

    def _root_missing(self) -> ArchiveError:
        return ArchiveRefused(
            "ArchiveRootMissing",
            f"{self._archive}: {self._server} has no folder {self._settings.root_folder}, or the login may "
            "not see it. Restore it, or correct spec.cmis.rootFolder. Create it only for a new archive.",
        )


_OBJECT_NOT_FOUND = "objectNotFound"
_EXCEPTIONS = frozenset(
    {
        "constraint",
        "contentAlreadyExists",
        "filterNotValid",
        "invalidArgument",
        "nameConstraintViolation",
        "notSupported",
        _OBJECT_NOT_FOUND,
        "permissionDenied",
        "runtime",
        "storage",
        "streamNotSupported",
        "updateConflict",
        "versioning",
    }
)
"""All exceptions of CMIS 1.1."""

_NO_CONTENT = frozenset({"constraint", "notSupported", "streamNotSupported"})
"""Exceptions for a document without content (CMIS 1.1, 2.2.4.10), or of a type that has none."""

_ERROR_RULES: Mapping[frozenset[str], ErrorText] = {
    frozenset({"storage"}): ErrorText(
        "ArchiveFull",
        "no space is left at {server}, or its store does not work; check its log (CMIS says {exception}).",
    ),
    frozenset({"updateConflict"}): ErrorText(
        "ArchiveChanged",
        "somebody changed something at {server} while it was being filed (CMIS says {exception}).",
    ),
    frozenset(
        {"constraint", "invalidArgument", "nameConstraintViolation", "versioning", "notSupported"}
    ): ErrorText(
        "ArchiveRefused",
        "{server} has rules that a document does not fit: check spec.cmis.documentType, spec.cmis.properties "
        "and what the type requires (CMIS says {exception}).",
    ),
}


def _decode_json(content: bytes, kind: type[T]) -> T:
    """Raises ``JSON_ERRORS``, also for more values than the memory is for."""
    if has_too_many_values(content, MAX_PAGE_CONTAINERS):
        raise msgspec.ValidationError("it has too many values")
    return msgspec.json.decode(content, type=kind)


def _exception_in(answer: httpx.Response) -> str:
    """Return the name of the exception that each error has (CMIS 1.1, 5.2.10); empty if there is none.
    Gateways write other names into their errors."""
    try:
        exception = _decode_json(answer.content, CmisObject).exception
    except JSON_ERRORS:
        return ""
    return exception if exception in _EXCEPTIONS else ""


def _properties(values: Mapping[str, str]) -> dict[str, str]:
    """Return properties as the fields of a form."""
    fields: dict[str, str] = {}
    for number, (key, value) in enumerate(values.items()):
        fields |= {f"propertyId[{number}]": key, f"propertyValue[{number}]": value}
    return fields
