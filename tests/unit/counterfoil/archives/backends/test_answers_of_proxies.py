"""
The answer of a proxy, an ingress or a login page in the place of an archive says nothing about the archive.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import product

import pytest
from aiohttp import web

from counterfoil.archives import open_backend
from counterfoil.archives.backend import ArchiveBackend, FileNotStored
from counterfoil.archives.backends._http import RECOGNIZED_SECONDS
from counterfoil.archives.backends._object_store.backend import MAX_PAGES
from counterfoil.archives.backends.http import HttpBackend
from counterfoil.archives.backends.webdav import WebDavBackend
from counterfoil.archives.errors import ArchiveError, ArchiveRefused, ArchiveUnavailable
from counterfoil.archives.filing import claim_names
from counterfoil.resources.archive import ArchiveSpec, Cmis, VerifyMode
from counterfoil.resources.archive_kinds import HttpMode
from counterfoil.standard_webhooks import WebhookSignature
from sandbox.servers.proxies import Instead, Proxy, Ticks, TrapPoint
from tests.support.archive_servers import HTTP_KINDS, OBJECT_STORES, open_at
from tests.support.builders import AClock
from tests.support.fakes.archives import a_layout, once
from tests.support.servers.cmis_repository import REPOSITORY, CmisRepositoryServer, Names, cmis_repository
from tests.support.servers.page_front import PAGE, Front, listing, nothing, opened
from tests.support.servers.scripted_esaw import Script, answering, running

MARKER = ".counterfoil-archive.json"
MANIFEST = "acme/e1/counterfoil.json"
SEAL = f"{MANIFEST}.sig"


async def do(backend: ArchiveBackend, operation: str) -> None:
    match operation:
        case "read the marker":
            await read(backend, MARKER)
        case "read":
            await read(backend, "acme/e1/contract.pdf")
        case "list":
            await backend.entries("acme/e1")
        case "put":
            await backend.put("acme/e1/contract.pdf", once(b"%PDF"), tags={}, content_type=None)
        case "discard":
            await backend.discard("acme/e1/contract.pdf")
        case _:
            await backend.probe()


async def read(backend: ArchiveBackend, name: str) -> bytes:
    return b"".join([block async for block in backend.read(name)])


async def refusal(action: Awaitable[object]) -> ArchiveError:
    with pytest.raises(ArchiveError) as refused:
        await action
    assert isinstance(refused.value, ArchiveRefused)
    return refused.value


# -- Errors --------------------------------------------------------------------------------------------------

NOT_CMIS = frozenset({"ArchiveAnswerUnreadable", "ArchiveNotCmis"})

OF_A_GATEWAY = '{"error": "Not Found", "exception": "com.netflix.zuul.exception.ZuulException", "path": "/"}'
"""The error of a gateway, which names an exception of its program."""


@pytest.mark.parametrize("status", [401, 403, 404, 407, 410])
@pytest.mark.parametrize(
    ("kind", "operation"),
    # A list of the kind http sends no request.
    sorted({*product(HTTP_KINDS, ("read the marker", "read", "list", "put", "probe"))} - {("http", "list")}),
)
async def test_a_page_with_an_error_says_nothing_about_rights_keys_or_files(
    kind: str, operation: str, status: int
) -> None:
    async with opened(kind, Front(page=status)) as backend:
        refused = await refusal(do(backend, operation))
    assert refused.reason in (NOT_CMIS if kind == "cmis" else {"ArchiveAnswerUnreadable"})
    assert "Allow" not in refused.message
    assert "HTTP 4" in refused.message or refused.reason == "ArchiveNotCmis"


@pytest.mark.parametrize("status", [404, 410])
@pytest.mark.parametrize("kind", [kind for kind in HTTP_KINDS if kind != "http"])
async def test_a_page_does_not_show_that_a_file_is_removed(kind: str, status: int) -> None:
    async with opened(kind, Front(page=status)) as backend:
        refused = await refusal(backend.discard("acme/e1/contract.pdf"))
    assert refused.reason in (NOT_CMIS if kind == "cmis" else {"ArchiveAnswerUnreadable"})


@pytest.mark.parametrize("status", [400, 403, 404, 405, 409])
@pytest.mark.parametrize("kind", OBJECT_STORES)
async def test_an_error_without_a_code_of_the_store_does_not_show_that_an_object_is_removed(
    kind: str, status: int
) -> None:
    async with opened(kind, Front(page=status)) as backend:
        refused = await refusal(backend.discard("acme/e1/contract.pdf"))
    assert refused.reason == "ArchiveAnswerUnreadable"


@asynccontextmanager
async def cmis_behind_a_proxy() -> AsyncIterator[tuple[ArchiveBackend, Proxy, CmisRepositoryServer]]:
    """An archive in a repository of CMIS, the proxy before it, and the repository."""
    async with (
        cmis_repository(Names.UNIQUE) as repository,
        Proxy(repository.url.removesuffix("/browser"), ticks=Ticks()) as proxy,
    ):
        repository.url = f"{proxy.url}/browser"
        spec = ArchiveSpec(cmis=Cmis(url=repository.url, repository_id=REPOSITORY))
        backend = await open_backend("dms", spec, {})
        yield backend, proxy, repository
        await backend.close()


@pytest.mark.parametrize(
    ("status", "body"),
    [
        *((status, body) for status in (401, 403, 404, 405, 501) for body in (PAGE, OF_A_GATEWAY)),
        (404, '{"exception": "runtime"}'),
    ],
)
async def test_a_page_in_the_place_of_a_cmis_repository_that_answered_before_says_nothing(
    status: int, body: str
) -> None:
    async with cmis_behind_a_proxy() as (backend, proxy, _):
        await backend.probe()

        async def page() -> None:
            raise Instead(status, body.encode(), "text/html" if body is PAGE else "application/json")

        proxy.trap(lambda passage: True, TrapPoint.ARRIVED, page, times=None)
        for operation in ("read the marker", "read", "list", "put", "discard"):
            assert (await refusal(do(backend, operation))).reason == "ArchiveAnswerUnreadable"
        proxy.clear()
        await do(backend, "put")
        with pytest.raises(FileNotStored):
            await read(backend, MARKER)


NO_OBJECTS = (
    '{"status": "maintenance"}',
    "{}",
    '{"succinctProperties": {"cmis:name": "e1"}}',
    '{"properties": {"cmis:baseTypeId": {"value": "cmis:document"}}}',
    PAGE,
)
"""Answers of a proxy with status 200. A repository names the base type of each object, in the form that is
requested (CMIS 1.1, 5.2.11)."""

LIST_WITHOUT_TYPES = (
    '{"objects": [{"object": {"succinctProperties": {"cmis:name": "e1"}}}], "hasMoreItems": false}'
)


@asynccontextmanager
async def answered_cmis() -> AsyncIterator[tuple[ArchiveBackend, Callable[[str, str], None]]]:
    """An archive that a repository answered before, and what lets the proxy answer 200 to some queries."""
    async with cmis_behind_a_proxy() as (backend, proxy, _):
        await do(backend, "put")

        def answer(query: str, body: str) -> None:
            async def instead() -> None:
                raise Instead(200, body.encode(), "text/html" if body is PAGE else "application/json")

            proxy.trap(lambda passage: query in passage.query, TrapPoint.ARRIVED, instead, times=None)

        yield backend, answer


@pytest.mark.parametrize("body", NO_OBJECTS)
async def test_an_answer_with_success_is_no_object_of_cmis_without_its_type(body: str) -> None:
    async with answered_cmis() as (backend, answer):
        answer("cmisselector=object", body)
        for operation in ("put", "read the marker"):
            assert (await refusal(do(backend, operation))).reason == "ArchiveAnswerUnreadable"


@pytest.mark.parametrize("body", [*NO_OBJECTS, LIST_WITHOUT_TYPES])
async def test_an_answer_with_success_is_no_list_of_cmis_without_types(body: str) -> None:
    async with answered_cmis() as (backend, answer):
        answer("cmisselector=children", body)
        assert (await refusal(do(backend, "list"))).reason == "ArchiveAnswerUnreadable"


@pytest.mark.parametrize("body", NO_OBJECTS)
async def test_an_answer_with_success_describes_no_type_of_cmis(body: str) -> None:
    async with answered_cmis() as (backend, answer):
        answer("cmisselector=typeDefinition", body)
        assert (await refusal(do(backend, "probe"))).reason in NOT_CMIS


@asynccontextmanager
async def answered_cmis_content(
    status: int, body: str, *, length: int | None
) -> AsyncIterator[tuple[ArchiveBackend, CmisRepositoryServer]]:
    """An archive with a document of this length (None: without that property), whose content the proxy
    answers."""
    async with cmis_behind_a_proxy() as (backend, proxy, repository):
        await backend.put("acme/e1/contract.pdf", once(b"x" * (length or 0)), tags={}, content_type=None)

        async def instead() -> None:
            raise Instead(status, body.encode(), "text/html" if body is PAGE else "application/json")

        repository.has_lengths = length is not None
        proxy.trap(lambda passage: "cmisselector=content" in passage.query, TrapPoint.ARRIVED, instead)
        yield backend, repository


NO_CONTENT = '{"exception": "constraint", "message": "no content"}'


@pytest.mark.parametrize(
    ("status", "body"),
    [
        *((status, body) for status in (400, 403, 404, 405, 409, 410, 501) for body in (PAGE, OF_A_GATEWAY)),
        (403, '{"exception": "permissionDenied"}'),
        (200, ""),
        (204, ""),
    ],
)
@pytest.mark.parametrize("length", [None, 4])
async def test_an_answer_of_a_proxy_does_not_show_that_a_cmis_document_is_empty(
    status: int, body: str, length: int | None
) -> None:
    async with answered_cmis_content(status, body, length=length) as (backend, _):
        await refusal(do(backend, "read"))


@pytest.mark.parametrize(
    ("status", "body", "length"),
    [(409, NO_CONTENT, None), (409, NO_CONTENT, 0), (404, PAGE, 0), (200, "", 0)],
)
async def test_a_cmis_document_is_empty_by_its_length_or_by_the_exception_for_no_content(
    status: int, body: str, length: int | None
) -> None:
    async with answered_cmis_content(status, body, length=length) as (backend, _):
        assert await read(backend, "acme/e1/contract.pdf") == b""


async def test_a_cmis_document_that_was_removed_before_its_length_was_read_is_not_empty() -> None:
    async with answered_cmis_content(200, "", length=4) as (backend, repository):
        repository.root.children.clear()
        with pytest.raises(FileNotStored):
            await do(backend, "read")


@pytest.mark.parametrize("body", ['{"status": "maintenance"}', "{}", PAGE])
async def test_an_answer_with_success_to_a_new_name_is_about_no_feature_of_cmis(body: str) -> None:
    """The probe renames a second file to a name that is taken, and the proxy answers that request only."""
    async with cmis_behind_a_proxy() as (backend, proxy, repository):

        async def instead() -> None:
            raise Instead(200, body.encode())

        proxy.trap(
            lambda passage: b"cmisaction=update" in passage.body and repository.actions.count("update") == 1,
            TrapPoint.ARRIVED,
            instead,
            times=None,
        )
        assert (await refusal(backend.probe())).reason == "ArchiveAnswerUnreadable"


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (PAGE, "refuses what filing needs"),
        ('{"exception": "invalidArgument", "message": "no such type"}', "Correct spec.cmis.documentType"),
    ],
)
async def test_a_document_type_is_missing_if_the_repository_says_it(body: str, says: str) -> None:
    async def no_type(request: web.BaseRequest) -> web.StreamResponse | None:
        if "cmisselector" in request.query:
            return web.Response(status=400, text=body)
        return web.json_response({"r": {"rootFolderUrl": front.url, "repositoryUrl": front.url}})

    front = Front(no_type)
    async with opened("cmis", front) as backend:
        assert says in (await refusal(backend.probe())).message


# -- Headers -------------------------------------------------------------------------------------------------

STRANGE = {
    "UTF-8": ("text/html; charset=\xc3\xa9", "text/html; charset=e"),
    "Latin-1": ("text/html; charset=\xe9", "text/html; charset=e"),
    "long": (f"text/html; charset={'x' * 60_000}", "text/html; charset=x"),
}
"""Values of a header, and simple ones that mean the same."""


async def outcome(kind: str, operation: str, answer: Script) -> str:
    """The reason of what a server with always the same answer leads to."""
    async with running(answer) as server:
        backend = await open_at(kind, f"{server.url}/dms" if kind == "webdav" else server.url)
        try:
            await do(backend, operation)
        except ArchiveError as error:
            return error.reason
        except FileNotStored:
            return "FileNotStored"
        finally:
            await backend.close()
    return ""


@pytest.mark.parametrize("value", STRANGE)
@pytest.mark.parametrize(
    ("kind", "name"),
    [
        *((kind, "content_type") for kind in HTTP_KINDS),
        ("azblob", "x_ms_error_code"),
        ("webdav", "dav"),
        ("webdav", "www_authenticate"),
    ],
)
async def test_no_value_of_a_header_is_an_internal_error(kind: str, name: str, value: str) -> None:
    strange, simple = STRANGE[value]
    for operation in ("read the marker", "discard", "probe"):
        for status in (200, 401, 403, 404):
            answers = [answering(PAGE.encode(), status, **{name: each}) for each in (strange, simple)]
            reached = [await outcome(kind, operation, each) for each in answers]
            assert reached[0] == reached[1]


@pytest.mark.parametrize(
    "address", ["http://xn--\xc3\xa9/", "//\xe9:x", "mailto:a", "http://a:99999999/", ""]
)
@pytest.mark.parametrize("kind", HTTP_KINDS)
async def test_a_redirect_to_what_is_no_address_is_a_redirect(kind: str, address: str) -> None:
    answer = answering(PAGE.encode(), 302, location=address)
    assert await outcome(kind, "read the marker", answer) == "ArchiveRedirects"


# -- Pages with success --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [MARKER, MANIFEST])
@pytest.mark.parametrize("kind", [kind for kind in HTTP_KINDS if kind != "cmis"])
async def test_a_login_page_is_not_read_as_a_file_that_counterfoil_writes(kind: str, name: str) -> None:
    async with opened(kind, Front(page=200)) as backend:
        refused = await refusal(read(backend, name))
    assert refused.reason == "ArchiveAnswerUnreadable"
    assert "login page" in refused.message


@pytest.mark.parametrize("kind", [kind for kind in HTTP_KINDS if kind not in {"cmis", "http"}])
async def test_a_login_page_that_takes_a_probe_does_not_return_other_bytes_than_were_written(
    kind: str,
) -> None:
    async def take(request: web.BaseRequest) -> web.StreamResponse | None:
        if request.method == "PROPFIND":
            return listing(request)
        return None if request.method == "GET" else web.Response(status=201)

    async with opened(kind, Front(take, page=200)) as backend:
        assert (await refusal(backend.probe())).reason == "ArchiveAnswerUnreadable"


@pytest.mark.parametrize("name", ["acme/e1/page.html", "acme/e1/audit.xml"])
@pytest.mark.parametrize("kind", [kind for kind in HTTP_KINDS if kind != "cmis"])
async def test_a_document_may_begin_as_a_page(kind: str, name: str) -> None:
    async with opened(kind, Front(page=200)) as backend:
        assert await read(backend, name) == PAGE.encode()


# -- Object stores -------------------------------------------------------------------------------------------

LISTS = {
    "s3": "<L><IsTruncated>false</IsTruncated>{}</L>",
    "gcs": "<L><IsTruncated>false</IsTruncated>{}</L>",
    "azblob": "<L><NextMarker/>{}</L>",
}


def objects(kind: str, key: str) -> str:
    outer, inner = ("Blob", "Name") if kind == "azblob" else ("Contents", "Key")
    return f"<{outer}><{inner}>{key}</{inner}></{outer}>"


@pytest.mark.parametrize(
    ("key", "is_absent"), [(MARKER, False), (f"{MARKER}.old", True)], ids=["the object", "another one"]
)
@pytest.mark.parametrize("kind", OBJECT_STORES)
async def test_a_404_without_a_code_counts_if_a_list_of_the_store_does_not_have_the_object(
    kind: str, key: str, *, is_absent: bool
) -> None:
    async def lists(request: web.BaseRequest) -> web.StreamResponse | None:
        if "prefix" not in request.query:
            return None
        assert request.query["prefix"] == MARKER
        return web.Response(text=LISTS[kind].format(objects(kind, key)))

    async with opened(kind, Front(lists)) as backend:
        if is_absent:
            with pytest.raises(FileNotStored):
                await read(backend, MARKER)
            await backend.discard(MARKER)
        else:
            assert (await refusal(read(backend, MARKER))).reason == "ArchiveAnswerUnreadable"


CONTINUED = {
    "s3": "<L><IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>{}</L>",
    "gcs": "<L><IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>{}</L>",
    "azblob": "<L><NextMarker>t</NextMarker>{}</L>",
}


@pytest.mark.parametrize(
    ("key", "is_absent"), [(MARKER, False), (f"{MARKER}.old", True)], ids=["the object", "another one"]
)
@pytest.mark.parametrize("is_empty", [True, False])
@pytest.mark.parametrize("kind", OBJECT_STORES)
async def test_a_list_that_continues_says_nothing_before_its_last_page(
    kind: str, key: str, *, is_empty: bool, is_absent: bool
) -> None:
    async def lists(request: web.BaseRequest) -> web.StreamResponse | None:
        if "prefix" not in request.query:
            return None
        if "t" in (request.query.get("continuation-token"), request.query.get("marker")):
            return web.Response(text=LISTS[kind].format(objects(kind, key)))
        return web.Response(text=CONTINUED[kind].format("" if is_empty else objects(kind, f"{MARKER}.new")))

    async with opened(kind, Front(lists)) as backend:
        if is_absent:
            with pytest.raises(FileNotStored):
                await read(backend, MARKER)
            await backend.discard(MARKER)
        else:
            for action in (read(backend, MARKER), backend.discard(MARKER)):
                assert (await refusal(action)).reason == "ArchiveAnswerUnreadable"


@pytest.mark.parametrize("kind", OBJECT_STORES)
async def test_a_list_that_never_ends_says_nothing(kind: str) -> None:
    async def lists(request: web.BaseRequest) -> web.StreamResponse | None:
        return web.Response(text=CONTINUED[kind].format("")) if "prefix" in request.query else None

    front = Front(lists)
    async with opened(kind, front) as backend:
        assert (await refusal(read(backend, MARKER))).reason == "ArchiveAnswerUnreadable"
    assert len(front.requests) == 1 + MAX_PAGES


@pytest.mark.parametrize("kind", OBJECT_STORES)
async def test_a_404_with_a_code_of_the_store_needs_no_further_request(kind: str) -> None:
    async def missing(request: web.BaseRequest) -> web.StreamResponse | None:
        return web.Response(status=404, text="<Error><Code>NoSuchKey</Code></Error>")

    front = Front(missing)
    async with opened(kind, front) as backend:
        with pytest.raises(FileNotStored):
            await read(backend, MARKER)
    assert len([each for each in front.requests if each.startswith("GET")]) == 1


@pytest.mark.parametrize("code", ["NotFound", "ResourceNotFound", "NoSuchUpload", "Zuul"])
@pytest.mark.parametrize("is_listed", [True, False])
@pytest.mark.parametrize("kind", OBJECT_STORES)
async def test_of_a_404_with_another_code_the_list_of_the_store_decides(
    kind: str, code: str, *, is_listed: bool
) -> None:
    async def answer(request: web.BaseRequest) -> web.StreamResponse | None:
        if "prefix" in request.query:
            return web.Response(text=LISTS[kind].format(objects(kind, MARKER if is_listed else "other")))
        return web.Response(status=404, text=f"<Error><Code>{code}</Code></Error>")

    async with opened(kind, Front(answer)) as backend:
        with pytest.raises(ArchiveError if is_listed else FileNotStored):
            await read(backend, MARKER)


@pytest.mark.parametrize("kind", OBJECT_STORES)
async def test_a_404_with_another_code_to_everything_says_nothing(kind: str) -> None:
    async def answer(request: web.BaseRequest) -> web.StreamResponse | None:
        return web.Response(status=404, text="<Error><Code>NotFound</Code></Error>")

    async with opened(kind, Front(answer)) as backend:
        for operation in ("read the marker", "read", "list", "discard"):
            await refusal(do(backend, operation))


@pytest.mark.parametrize(
    ("status", "code", "reason"),
    [
        (403, "AuthorizationPermissionMismatch", "ArchivePermissionDenied"),
        (403, "AuthenticationFailed", "ArchiveCredentialsRejected"),
        (404, "ContainerNotFound", "ArchiveBucketMissing"),
    ],
)
async def test_azure_may_give_its_code_in_a_header_only(status: int, code: str, reason: str) -> None:
    async def answer(request: web.BaseRequest) -> web.StreamResponse | None:
        return web.Response(status=status, headers={"x-ms-error-code": code})

    async with opened("azblob", Front(answer)) as backend:
        assert (await refusal(read(backend, MARKER))).reason == reason


@pytest.mark.parametrize("status", [501, 505, 507, 520])
@pytest.mark.parametrize("operation", ["read", "put", "probe"])
@pytest.mark.parametrize("kind", OBJECT_STORES)
async def test_an_error_of_the_server_without_a_code_of_the_store_is_an_outage(
    kind: str, operation: str, status: int
) -> None:
    async with opened(kind, Front(page=status)) as backend:
        with pytest.raises(ArchiveUnavailable) as refused:
            await do(backend, operation)
    assert refused.value.reason == "ArchiveFailing"
    assert f"answered {status})" in refused.value.message


@pytest.mark.parametrize(
    ("status", "reason"), [(501, "ArchiveLacksFeature"), (507, "ArchiveFull"), (520, "ArchiveFailing")]
)
@pytest.mark.parametrize("kind", OBJECT_STORES)
async def test_any_code_shows_that_a_number_is_of_the_store(kind: str, status: int, reason: str) -> None:
    async def refuse(request: web.BaseRequest) -> web.StreamResponse | None:
        return web.Response(status=status, text="<Error><Code>SomethingNew</Code></Error>")

    async with opened(kind, Front(refuse)) as backend:
        with pytest.raises(ArchiveError) as refused:
            await do(backend, "put")
    assert refused.value.reason == reason


async def test_a_redirect_of_an_ingress_is_no_other_region() -> None:
    async def to_tls(request: web.BaseRequest) -> web.StreamResponse | None:
        return web.Response(status=301, headers={"Location": "https://dms.example"}, text=PAGE)

    async with opened("s3", Front(to_tls)) as backend:
        assert (await refusal(read(backend, MARKER))).reason == "ArchiveRedirects"


async def test_a_probe_needs_no_right_to_delete_also_where_a_proxy_refuses_that() -> None:
    stored: dict[str, bytes] = {}

    async def no_deletes(request: web.BaseRequest) -> web.StreamResponse | None:
        if request.method == "PUT":
            stored[request.path] = await request.read()
            return web.Response()
        return web.Response(body=stored[request.path]) if request.method == "GET" else None

    async with opened("s3", Front(no_deletes, page=403)) as backend:
        await backend.probe()
    assert len(stored) == 1


# -- WebDAV --------------------------------------------------------------------------------------------------


async def a_collection(request: web.BaseRequest) -> web.StreamResponse | None:
    """A WebDAV server with an empty root. All files are missing."""
    return listing(request) if (request.method, request.path) == ("PROPFIND", "/dms/") else None


async def test_a_404_of_a_server_that_has_the_root_says_that_a_file_is_missing() -> None:
    front = Front(a_collection)
    async with opened("webdav", front) as backend:
        for name in (MARKER, MANIFEST, MARKER):
            with pytest.raises(FileNotStored):
                await read(backend, name)
        assert await backend.entries("acme/e1") == []
    # A file in the root, which the marker is, is never missing by an answer to an earlier question.
    assert front.requests.count("PROPFIND /dms/") == 2


async def test_an_answer_about_the_root_counts_for_a_while_for_the_files_below_it() -> None:
    clock, front = AClock(), Front(a_collection)
    async with opened("webdav", front) as opened_backend:
        assert isinstance(opened_backend, WebDavBackend)
        backend = WebDavBackend(opened_backend._site, clock)
        for _ in range(3):
            with pytest.raises(FileNotStored):
                await read(backend, MANIFEST)
        assert front.requests.count("PROPFIND /dms/") == 1
        clock.advance(seconds=RECOGNIZED_SECONDS)
        front.answer = nothing
        assert (await refusal(read(backend, MANIFEST))).reason == "ArchiveAnswerUnreadable"


@pytest.mark.parametrize(
    ("dav", "reason"), [({"DAV": "1, 2"}, "ArchiveRootMissing"), ({}, "ArchiveAnswerUnreadable")]
)
@pytest.mark.parametrize("operation", ["read the marker", "put", "probe"])
async def test_a_collection_is_missing_if_a_webdav_server_says_it(
    operation: str, dav: dict[str, str], reason: str
) -> None:
    async def options(request: web.BaseRequest) -> web.StreamResponse | None:
        return web.Response(headers=dav) if request.method == "OPTIONS" else None

    async with opened("webdav", Front(options)) as backend:
        assert (await refusal(do(backend, operation))).reason == reason


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({"WWW-Authenticate": 'Basic realm="dms"'}, "ArchiveCredentialsRejected"),
        ({}, "ArchiveAnswerUnreadable"),
    ],
)
@pytest.mark.parametrize("kind", ["webdav", "cmis", "http"])
async def test_a_401_that_asks_for_no_login_says_nothing_about_the_login(
    kind: str, headers: dict[str, str], reason: str
) -> None:
    async def login(request: web.BaseRequest) -> web.StreamResponse | None:
        return web.Response(status=401, headers=headers)

    async with opened(kind, Front(login)) as backend:
        assert (await refusal(backend.probe())).reason == reason


@pytest.mark.parametrize(
    ("method", "status", "reason"),
    [
        *((method, 403, "ArchivePermissionDenied") for method in ("MKCOL", "PUT", "MOVE")),
        # To MKCOL it says that the folder is there.
        *((method, 405, "ArchiveLacksFeature") for method in ("PUT", "MOVE")),
        *((method, 501, "ArchiveLacksFeature") for method in ("MKCOL", "PUT", "MOVE")),
    ],
)
@pytest.mark.parametrize("has_root", [True, False])
async def test_a_refusal_counts_if_the_server_shows_the_root(
    method: str, status: int, reason: str, *, has_root: bool
) -> None:

    async def refuse(request: web.BaseRequest) -> web.StreamResponse | None:
        if request.method == "PROPFIND":
            is_there = has_root and request.path == "/dms/"
            return listing(request) if is_there else web.Response(status=404)
        return None if request.method == method else web.Response(status=201)

    async with opened("webdav", Front(refuse, page=status)) as backend:
        refused = await refusal(do(backend, "put"))
    assert refused.reason == (reason if has_root else "ArchiveAnswerUnreadable")


# -- The plain HTTP endpoint ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("has_system", "type_"),
    [(True, "text/html"), (True, "application/json"), (False, "application/json")],
)
async def test_a_404_of_a_system_that_takes_files_says_that_a_file_is_missing(
    type_: str, *, has_system: bool
) -> None:
    async def answer(request: web.BaseRequest) -> web.StreamResponse | None:
        return web.Response() if has_system and request.method == "POST" else None

    async with opened("http", Front(answer, type=type_)) as backend:
        with pytest.raises(FileNotStored):
            await read(backend, "acme/e1/contract.pdf")


@pytest.mark.parametrize("type_", ["text/html", "Text/HTML", "text/plain"])
@pytest.mark.parametrize("status", [403, 404, 405, 409, 410, 422, 501])
@pytest.mark.parametrize("operation", ["read", "put", "discard", "probe"])
async def test_an_error_with_a_text_is_no_answer_of_a_system(operation: str, status: int, type_: str) -> None:
    async with opened("http", Front(page=status, type=type_)) as backend:
        refused = await refusal(do(backend, operation))
    assert refused.reason == "ArchiveAnswerUnreadable"
    assert f"HTTP {status}" in refused.message


@pytest.mark.parametrize("type_", ["application/json", "text/html"])
@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (403, "ArchivePermissionDenied"),
        (404, "ArchiveRootMissing"),
        (405, "ArchiveLacksFeature"),
        (409, "NameOccupied"),
        (422, "StoredWrong"),
    ],
)
async def test_an_error_without_a_text_is_the_answer_of_a_system(
    status: int, reason: str, type_: str
) -> None:
    async def refuse(request: web.BaseRequest) -> web.StreamResponse | None:
        text = "" if type_ == "text/html" else "{}"
        return web.Response(status=status, text=text, content_type=type_)

    async with opened("http", Front(refuse)) as backend:
        with pytest.raises(ArchiveError) as refused:
            await do(backend, "put")
    assert refused.value.reason == reason


@pytest.mark.parametrize(
    ("has_system", "reason"), [(True, "ArchiveLacksFeature"), (False, "ArchiveAnswerUnreadable")]
)
async def test_a_405_to_a_read_is_about_the_system_if_it_takes_a_probe(
    *, has_system: bool, reason: str
) -> None:
    async def store(request: web.BaseRequest) -> web.StreamResponse | None:
        return web.json_response({}) if request.method == "POST" else None

    front = Front(store, page=405)
    async with opened("http", front) as backend:
        await do(backend, "put")
        front.answer = store if has_system else nothing
        assert (await refusal(do(backend, "read"))).reason == reason


@pytest.mark.parametrize("status", [404, 405, 410, 501])
async def test_a_system_that_takes_a_probe_may_answer_a_delete_with_a_text(status: int) -> None:
    async def take(request: web.BaseRequest) -> web.StreamResponse | None:
        return web.Response() if request.method == "POST" else None

    async with opened("http", Front(take, page=status)) as backend:
        await do(backend, "discard")


async def test_a_probe_that_the_system_took_counts_for_a_while() -> None:
    async def take(request: web.BaseRequest) -> web.StreamResponse | None:
        return web.Response() if request.method == "POST" else None

    clock, front = AClock(), Front(take)
    async with opened("http", front) as opened_backend:
        assert isinstance(opened_backend, HttpBackend)
        signature = WebhookSignature((), clock)
        site = opened_backend._site
        backend = HttpBackend(site, HttpMode.PER_FILE, VerifyMode.READ_BACK, signature, clock)
        for number in range(20):
            with pytest.raises(FileNotStored):
                await read(backend, f"acme/e1/{number}.pdf")
        assert front.requests.count("POST /") == 1
        for _ in range(2):
            with pytest.raises(FileNotStored):
                await read(backend, MARKER)
        assert front.requests.count("POST /") == 3
        clock.advance(seconds=RECOGNIZED_SECONDS)
        front.answer = nothing
        assert (await refusal(do(backend, "read"))).reason == "ArchiveAnswerUnreadable"
        front.answer = take
        await backend.probe()
        front.answer = nothing
        with pytest.raises(FileNotStored):
            await do(backend, "read")
        for action in (read(backend, MARKER), backend.probe()):
            assert (await refusal(action)).reason == "ArchiveAnswerUnreadable"


@pytest.mark.parametrize("text", [PAGE, "\n<HTML>", '<?xml version="1.0"?><maintenance/>'])
async def test_a_page_in_the_place_of_a_seal_is_no_seal_that_does_not_fit(text: str) -> None:
    async def answer(request: web.BaseRequest) -> web.StreamResponse | None:
        return web.Response(text=text)

    async with opened("http", Front(answer)) as backend:
        assert (await refusal(read(backend, SEAL))).reason == "ArchiveAnswerUnreadable"


async def test_a_seal_that_begins_as_a_tag_is_no_page() -> None:
    seal = b"<h" + bytes(62)

    async def answer(request: web.BaseRequest) -> web.StreamResponse | None:
        return web.Response(body=seal)

    async with opened("http", Front(answer)) as backend:
        assert await read(backend, SEAL) == seal


@pytest.mark.parametrize(
    ("type_", "text"),
    [
        ("application/json", '{"error": "maintenance"}'),
        ("text/plain", "Service under maintenance"),
        ("text/html", PAGE),
    ],
)
async def test_what_is_returned_for_a_manifest_may_be_of_a_proxy(type_: str, text: str) -> None:
    async def answer(request: web.BaseRequest) -> web.StreamResponse | None:
        return web.Response(text=text, content_type=type_)

    async with opened("http", Front(answer)) as backend:
        assert (await refusal(claim_names(backend, a_layout(), key=None))).reason == "ArchiveAnswerUnreadable"
