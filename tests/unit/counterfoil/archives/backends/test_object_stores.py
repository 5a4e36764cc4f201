"""
Object stores with a hostile server: redirects, endless answers, hostile lists.
"""

import asyncio
import base64
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from counterfoil.archives import open_backend, streams
from counterfoil.archives.backend import ArchiveBackend, NegativeCacheBackend, StoredEntry, server_of
from counterfoil.archives.backends._http import HttpSite
from counterfoil.archives.backends._object_store.authorizers import string_to_sign
from counterfoil.archives.backends._object_store.client import (
    RETRY_PAUSES_SECONDS,
    SENT_AT_ONCE,
    BucketAddress,
    ErrorDialect,
    ObjectStoreClient,
    StoreRequest,
)
from counterfoil.archives.backends._object_store.identity import (
    Cached,
    NoIdentity,
    amazon_identity,
    azure_identity,
    google_identity,
)
from counterfoil.archives.backends._object_store.listing import ListUnreadable, read_page
from counterfoil.archives.backends.azblob import open_azblob
from counterfoil.archives.backends.gcs import open_gcs
from counterfoil.archives.backends.s3 import open_s3
from counterfoil.archives.credentials import Credentials
from counterfoil.archives.errors import ArchiveError, ArchiveRefused, ArchiveUnavailable, NameTaken
from counterfoil.archives.readback import read_back
from counterfoil.archives.streams import observe_sent
from counterfoil.resources.archive import S3, ArchiveSpec, AzureBlob, CredentialsReference, GoogleCloudStorage
from tests.support.archive_servers import OBJECT_STORES
from tests.support.builders import NOON, AClock
from tests.support.fakes.archives import once
from tests.support.servers.scripted_esaw import server_tls
from tests.support.signing_keys import rsa_private_pem

MIB = 1024 * 1024
REF = CredentialsReference(name="bucket-credentials")


@dataclass
class Server:
    """Records its requests, with all of their headers, and answers by ``answer``."""

    url: str = ""
    heads: list[str] = field(default_factory=list)
    answer: Callable[[web.Request], Awaitable[web.StreamResponse]] | None = None

    async def serve(self, request: web.Request) -> web.StreamResponse:
        self.heads.append(f"{request.method} {request.path_qs} {dict(request.headers)}")
        await request.read()
        assert self.answer is not None
        return await self.answer(request)


ServerT = TypeVar("ServerT", bound=Server)


@asynccontextmanager
async def serving(server: ServerT) -> AsyncIterator[ServerT]:
    app = web.Application(client_max_size=64 * MIB)
    app.router.add_route("*", "/{path:.*}", server.serve)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield server
    await runner.cleanup()


async def opened(kind: str, url: str, clock: AClock | None = None) -> ArchiveBackend:
    """Open an archive of a kind at a server, with credentials whose traces can be found. It never sleeps."""
    clock = clock or AClock()
    match kind:
        case "s3":
            settings = S3(bucket="contracts", endpoint=url, force_path_style=True, credentials_secret_ref=REF)
            keys = {"accessKeyId": b"KEY", "secretAccessKey": b"s", "sessionToken": b"SESSION-TOKEN"}
            return await open_s3("dms", ArchiveSpec(s3=settings), keys, clock=clock)
        case "azblob":
            azure = AzureBlob(container="contracts", endpoint=url, credentials_secret_ref=REF)
            keys = {"accountName": b"acme", "accountKey": base64.b64encode(b"key")}
            return await open_azblob("dms", ArchiveSpec(azblob=azure), keys, clock=clock)
        case _:
            account = {"client_email": "a@acme.example", "private_key_id": "1"}
            key = json.dumps({**account, "private_key": rsa_private_pem()})
            gcs = GoogleCloudStorage(bucket="contracts", credentials_secret_ref=REF)
            keys = {"serviceAccountJson": key.encode()}
            return await open_gcs("dms", ArchiveSpec(gcs=gcs), keys, address=url, clock=clock)


async def do(backend: ArchiveBackend, operation: str) -> None:
    """Carry out an operation."""
    match operation:
        case "read":
            await read_back(backend, "a/contract.pdf")
        case "entries":
            await backend.entries("a")
        case "discard":
            await backend.discard("a/contract.pdf")
        case "probe":
            await backend.probe()
        case "put":
            await backend.put("a/b.pdf", once(b"%PDF-document"), tags={}, content_type=None)
        case _:
            await backend.put("a/b.pdf", once(b"x" * (6 * MIB)), tags={}, content_type=None)


async def test_the_bytes_of_an_upload_are_reported_in_small_pieces_while_they_are_sent() -> None:
    sent: list[int] = []

    async def stored(request: web.Request) -> web.Response:
        return web.Response(text="<a><UploadId>1</UploadId></a>", headers={"ETag": '"1"'})

    async with serving(Server(answer=stored)) as server:
        backend = await opened("s3", server.url)
        observe_sent(sent.append)
        await backend.put("a/b.pdf", once(b"x" * (6 * MIB)), tags={}, content_type=None)
        await backend.close()
    assert (sum(sent) >= 6 * MIB, max(sent)) == (True, SENT_AT_ONCE)


# -- Probes --------------------------------------------------------------------------------------------------


class Probed(Server):
    """A server that stores files. A read gets ``read_status``, None: no answer. While ``answers`` is not set,
    it answers no DELETE."""

    def __init__(self) -> None:
        super().__init__(answer=self._reply)
        self.files: dict[str, bytes] = {}
        self.answers, self.is_read = asyncio.Event(), asyncio.Event()
        self.read_status: int | None = 200

    async def _reply(self, request: web.Request) -> web.StreamResponse:
        match request.method:
            case "PUT":
                self.files[request.path] = await request.read()
                return web.Response(status=201, headers={"ETag": '"1"'})
            case "GET":
                self.is_read.set()
                if self.read_status is None:
                    await self.answers.wait()
                return web.Response(status=self.read_status or 200, body=self.files[request.path])
            case "DELETE":
                await self.answers.wait()
                self.files.pop(request.path, None)
                return web.Response(status=204)
            case _:
                return web.json_response({"access_token": "t", "expires_in": 3600, "token_type": "Bearer"})


@pytest.mark.parametrize("is_cancelled", [True, False], ids=["cancelled", "refused"])
@pytest.mark.parametrize("kind", OBJECT_STORES)
async def test_a_probe_ends_although_the_store_answers_no_delete_and_the_next_one_takes_its_place(
    kind: str, is_cancelled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "CLEANUP_TIMEOUT_SECONDS", 0.05)
    async with serving(Probed()) as server:
        server.read_status = None if is_cancelled else 403
        backend = await opened(kind, server.url)
        probe = asyncio.create_task(backend.probe())
        await server.is_read.wait()
        if is_cancelled:
            probe.cancel()
        done, _ = await asyncio.wait([probe], timeout=5)
        server.answers.set()
        assert done, "the end of the probe needs no answer"
        assert probe.cancelled() or isinstance(probe.exception(), ArchiveError)
        assert len(server.files) == 1

        server.read_status = 200
        await backend.probe()
        await backend.close()
    assert server.files == {}


# -- Redirects -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("operation", ["read", "entries", "discard", "probe", "put", "put in parts"])
@pytest.mark.parametrize("kind", OBJECT_STORES)
async def test_no_redirect_is_followed_and_no_foreign_bytes_count(
    kind: str, operation: str, status: int
) -> None:
    async def foreign_bytes(request: web.Request) -> web.StreamResponse:
        return web.Response(body=b"%PDF-document", headers={"ETag": '"e"'})

    async def redirect(request: web.Request) -> web.StreamResponse:
        return web.Response(status=status, headers={"Location": f"{foreign.url}{request.path_qs}"})

    async with AsyncExitStack() as stack:
        foreign = await stack.enter_async_context(serving(Server(answer=foreign_bytes)))
        site = await stack.enter_async_context(serving(Server(answer=redirect)))
        backend = await opened(kind, site.url)
        with pytest.raises(ArchiveError) as refused:
            await do(backend, operation)
        await backend.close()

    assert foreign.heads == []
    assert site.heads != []
    assert refused.value.reason in {"ArchiveRedirects", "ArchiveRegionWrong"}
    assert foreign.url not in str(refused.value)


# -- Lists ---------------------------------------------------------------------------------------------------

PAGES = {
    "s3": b"<L><IsTruncated>true</IsTruncated><NextContinuationToken>m</NextContinuationToken></L>",
    "azblob": b"<L><NextMarker>m</NextMarker></L>",
    "gcs": b"<L><IsTruncated>true</IsTruncated><NextContinuationToken>m</NextContinuationToken></L>",
}


async def entries_of(kind: str, body: bytes) -> tuple[list[StoredEntry], Server]:
    """List a folder of a server that answers each request with ``body``."""

    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(body=body)

    async with serving(Server(answer=answer)) as server:
        backend = await opened(kind, server.url)
        try:
            return await backend.entries("a"), server
        finally:
            await backend.close()


@pytest.mark.parametrize("kind", OBJECT_STORES)
async def test_pages_without_an_end_are_not_read_indefinitely(kind: str) -> None:
    with pytest.raises(NameTaken, match="more than 10000 files"):
        await entries_of(kind, PAGES[kind])


@pytest.mark.parametrize("kind", OBJECT_STORES)
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<L>",
        b"no XML",
        b'<!DOCTYPE L [<!ENTITY a "b">]><L>&a;</L>',
        b"<L>" + b"<a/>" * 60_000 + b"</L>",
        b"<L><Contents/><Blob/></L>",
        b"<L>\xff</L>",
    ],
    ids=["empty", "cut", "text", "document type", "elements", "no name", "no UTF-8"],
)
async def test_what_is_no_list_is_reported_as_such(kind: str, body: bytes) -> None:
    with pytest.raises(ArchiveRefused) as refused:
        await entries_of(kind, body)
    assert refused.value.reason == "ArchiveAnswerUnreadable"


@pytest.mark.parametrize("kind", OBJECT_STORES)
async def test_a_list_that_does_not_say_whether_it_is_whole_is_not_believed(kind: str) -> None:
    with pytest.raises(ArchiveRefused):
        await entries_of(kind, b"<L><Contents><Key>a/b</Key><Size>1</Size></Contents></L>")


def _marked(kind: str, marker: bytes) -> bytes:
    return PAGES[kind].replace(b">m<", b">" + marker + b"<")


@pytest.mark.parametrize("kind", OBJECT_STORES)
async def test_a_marker_longer_than_2_kib_is_not_sent_back(kind: str) -> None:
    server = Server()

    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(body=_marked(kind, "\u00e9".encode() * 2000))

    server.answer = answer
    async with serving(server):
        backend = await opened(kind, server.url)
        with pytest.raises(ArchiveRefused) as refused:
            await backend.entries("a")
        await backend.close()
    assert refused.value.reason == "ArchiveAnswerUnreadable"
    assert len(server.heads) == 1


@pytest.mark.parametrize("kind", OBJECT_STORES)
async def test_a_marker_of_2_kib_is_sent_back(kind: str) -> None:
    with pytest.raises(NameTaken):
        await entries_of(kind, _marked(kind, b"m" * 2048))


def _hostile_attributes(count: int) -> bytes:
    return b" ".join(b"a%d=''" % number for number in range(count))


def _hostile_namespaces(count: int) -> bytes:
    return b" ".join(b"xmlns:a%d='b'" % number for number in range(count))


@pytest.mark.parametrize("kind", OBJECT_STORES)
@pytest.mark.parametrize(
    "body",
    [
        b"<L " + _hostile_attributes(1_000) + b">%s</L>",
        b"<L " + _hostile_attributes(600_000) + b">%s</L>",
        b"<L " + _hostile_namespaces(1_000) + b">%s</L>",
        b"<L>" + b"<a b='' c='' d=''/>" * 20_000 + b"%s</L>",
        b"<L>" + b"<a>" * 1_000 + b"%s" + b"</a>" * 1_000 + b"</L>",
    ],
    ids=["attributes", "a tag of megabytes", "namespaces", "attributes of many elements", "nesting"],
)
async def test_a_list_with_too_many_attributes_or_levels_is_refused(kind: str, body: bytes) -> None:
    last = b"" if kind == "azblob" else b"<IsTruncated>false</IsTruncated>"
    with pytest.raises(ArchiveRefused) as refused:
        await entries_of(kind, body % last)
    assert refused.value.reason == "ArchiveAnswerUnreadable"


def test_a_start_tag_that_does_not_end_is_refused_before_all_of_it_is_parsed() -> None:
    with pytest.raises(ListUnreadable, match="too long"):
        read_page(b"<L " + b"a" * 7_000_000, "Contents", {"Key"})


async def test_a_list_has_names_and_sizes_and_no_placeholders_of_folders() -> None:
    entry = "<Contents><Key>{}</Key><Size>{}</Size><Owner><ID>x</ID></Owner></Contents>"
    found = entry.format("a/d&amp;c.pdf", 7) + entry.format("a/x/", 0) + entry.format("a/b.pdf", "?")
    body = f'<L xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><IsTruncated>false</IsTruncated>{found}</L>'
    entries, server = await entries_of("s3", body.encode())
    assert entries == [StoredEntry("a/b.pdf", None), StoredEntry("a/d&c.pdf", 7)]
    assert "prefix=a%2F" in server.heads[0]


async def test_the_directories_of_an_azure_account_with_a_hierarchical_namespace_are_no_files() -> None:
    entry = (
        "<Blob><Name>{}</Name><Properties><Content-Length>{}</Content-Length>"
        "<ResourceType>{}</ResourceType></Properties></Blob>"
    )
    found = entry.format("a/Document", 0, "directory") + entry.format("a/Document/one.pdf", 7, "file")
    entries, _ = await entries_of("azblob", f"<L><Blobs>{found}</Blobs><NextMarker/></L>".encode())
    assert entries == [StoredEntry("a/Document/one.pdf", 7)]


async def test_a_list_is_asked_for_with_encoded_keys_and_has_those_that_xml_can_not_hold() -> None:
    entry = "<Contents><Key>{}</Key><Size>1</Size></Contents>"
    found = entry.format("a/%01b+c%2Bd.pdf") + entry.format("a/%C3%A9.pdf")
    head = "<EncodingType>url</EncodingType><IsTruncated>false</IsTruncated>"
    entries, server = await entries_of("s3", f"<L>{head}{found}</L>".encode())
    assert entries == [StoredEntry("a/\x01b c+d.pdf", 1), StoredEntry("a/\u00e9.pdf", 1)]
    assert "encoding-type=url" in server.heads[0]
    plain, _ = await entries_of(
        "s3", f"<L><IsTruncated>false</IsTruncated>{entry.format('a/%41+b')}</L>".encode()
    )
    assert plain == [StoredEntry("a/%41+b", 1)]


def _listed(kind: str, key: str, count: int = 1) -> bytes:
    """A page with these keys, each with a number at its end."""
    outer, inner = ("Blob", "Name") if kind == "azblob" else ("Contents", "Key")
    entries = (
        f"<{outer}><{inner}>{key}{number}</{inner}><Size>1</Size></{outer}>" for number in range(count)
    )
    return f"<L><IsTruncated>false</IsTruncated><NextMarker/>{''.join(entries)}</L>".encode()


@pytest.mark.parametrize("kind", OBJECT_STORES)
@pytest.mark.parametrize("key", ["a/" + "b" * 1023, "other/b"], ids=["too long", "in another folder"])
async def test_a_key_that_the_store_can_not_have_or_was_not_asked_for_is_refused(kind: str, key: str) -> None:
    with pytest.raises(ArchiveRefused) as refused:
        await entries_of(kind, _listed(kind, key))
    assert refused.value.reason == "ArchiveAnswerUnreadable"


@pytest.mark.parametrize("kind", OBJECT_STORES)
async def test_names_of_a_list_that_take_more_than_8_mib_of_memory_are_refused(kind: str) -> None:
    with pytest.raises(NameTaken, match="names take more than 8 MiB"):
        await entries_of(kind, _listed(kind, "a/\U0001f600" + "b" * 1000, 2_500))


async def test_buckets_of_one_name_at_two_services_do_not_share_a_server() -> None:
    backends = [await opened("s3", f"http://127.0.0.{number}:9000") for number in (1, 2)]
    assert [server_of(each) for each in backends] == ["http://127.0.0.1:9000", "http://127.0.0.2:9000"]
    assert server_of(NegativeCacheBackend(backends[0])) == "http://127.0.0.1:9000"
    for each in backends:
        await each.close()


# -- Uploads -------------------------------------------------------------------------------------------------


async def test_an_error_after_the_200_of_a_completion_is_no_success() -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        if "uploads" in request.query:
            return web.Response(text="<U><UploadId>u1</UploadId></U>")
        if request.method == "POST":
            return web.Response(text="<Error><Code>InternalError</Code></Error>")
        return web.Response(headers={"ETag": '"e"'})

    async with serving(Server(answer=answer)) as server:
        backend = await opened("s3", server.url)
        with pytest.raises(ArchiveUnavailable) as failed:
            await do(backend, "put in parts")
        await backend.close()
    assert failed.value.reason == "ArchiveFailing"
    assert any(head.startswith("DELETE") for head in server.heads)


@pytest.mark.parametrize("kind", OBJECT_STORES)
async def test_a_request_that_fails_for_a_moment_is_repeated(kind: str) -> None:
    failures, clock = iter([503, 500]), AClock()

    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(status=next(failures, 201))

    async with serving(Server(answer=answer)) as server:
        backend = await opened(kind, server.url, clock)
        await do(backend, "put")
        await backend.close()
    assert len(server.heads) == 3
    assert clock.slept == list(RETRY_PAUSES_SECONDS[:2])


@pytest.mark.parametrize("kind", OBJECT_STORES)
async def test_after_the_connections_are_closed_nothing_is_repeated_and_no_token_asked_for(kind: str) -> None:
    """A clean-up at the end of a process has no time for requests that can't succeed."""

    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(status=503)

    async with serving(Server(answer=answer)) as server:
        clock = AClock()
        backend = await opened(kind, server.url, clock)
        await backend.close()
        with pytest.raises(ArchiveUnavailable, match="its connections are closed"):
            await do(backend, "discard")
    assert (server.heads, clock.slept) == ([], [])


async def test_connections_that_are_closed_during_a_pause_end_the_repetitions() -> None:
    backends: list[ArchiveBackend] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        await backends[0].close()
        return web.Response(status=503)

    async with serving(Server(answer=answer)) as server:
        clock = AClock()
        backends.append(await opened("s3", server.url, clock))
        with pytest.raises(ArchiveUnavailable):
            await do(backends[0], "discard")
    assert (len(server.heads), clock.slept) == (1, [])


async def test_closed_connections_ask_for_no_identity() -> None:
    asked: list[str] = []

    class Counting:
        async def headers(self, method: str, *_: Any, **__: Any) -> dict[str, str]:
            asked.append(method)
            return {}

        def refused(self, headers: Any) -> None:
            raise AssertionError

    site = HttpSite.open("S3", "spec.s3", "http://127.0.0.1:1", Credentials("dms", None, {}))
    address = BucketAddress("Archive/dms", "S3", "contracts", "the key")
    dialect = ErrorDialect("S3", "spec.s3", frozenset(), {}, {})
    client = ObjectStoreClient(site, address, dialect, Counting(), AClock())
    await client.close()
    with pytest.raises(ArchiveUnavailable):
        await client.request(StoreRequest("DELETE", "probe"))
    assert asked == []


# -- Proofs of the right to a bucket -------------------------------------------------------------------------


def test_the_text_that_azure_signs_is_as_in_its_documentation() -> None:
    # "Authorize with Shared Key", the example of Put Blob.
    headers = {
        "Content-Type": "text/plain; charset=UTF-8",
        "x-ms-date": "Sun, 20 Sep 2009 20:36:40 GMT",
        "x-ms-meta-m1": "v1",
        "x-ms-meta-m2": "v2",
    }
    url = "https://testaccount1.blob.core.windows.net/mycontainer/hello.txt?comp=metadata&Restype=container"
    assert string_to_sign("testaccount1", "PUT", url, headers, 11) == (
        "PUT\n\n\n11\n\ntext/plain; charset=UTF-8\n\n\n\n\n\n\n"
        "x-ms-date:Sun, 20 Sep 2009 20:36:40 GMT\nx-ms-meta-m1:v1\nx-ms-meta-m2:v2\n"
        "/testaccount1/mycontainer/hello.txt\ncomp:metadata\nrestype:container"
    )


async def test_a_service_account_signs_its_own_token() -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(status=404, text="<Error><Code>NoSuchKey</Code></Error>")

    async with serving(Server(answer=answer)) as server:
        backend = await opened("gcs", server.url)
        await do(backend, "read")
        await backend.close()
    token = re.search("Bearer ([^']+)", server.heads[0])
    assert token is not None
    head, claims, signature = (base64.urlsafe_b64decode(part + "==") for part in token[1].split("."))
    key = load_pem_private_key(rsa_private_pem().encode(), None)
    assert isinstance(key, RSAPrivateKey)
    text = token[1].rpartition(".")[0].encode()
    key.public_key().verify(signature, text, PKCS1v15(), SHA256())
    assert json.loads(head) == {"alg": "RS256", "typ": "JWT", "kid": "1"}
    assert json.loads(claims)["iss"] == json.loads(claims)["sub"] == "a@acme.example"
    assert json.loads(claims)["exp"] - json.loads(claims)["iat"] == 3600


async def test_a_service_accounts_key_can_not_lead_documents_to_another_server() -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response()

    async with serving(Server(answer=answer)) as server, serving(Server(answer=answer)) as foreign:
        account = {"gcs_base_url": foreign.url, "disable_oauth": True, "client_email": "a@acme.example"}
        key = json.dumps({**account, "private_key_id": "1", "private_key": rsa_private_pem()})
        gcs = GoogleCloudStorage(bucket="contracts", credentials_secret_ref=REF)
        keys = {"serviceAccountJson": key.encode()}
        backend = await open_gcs("dms", ArchiveSpec(gcs=gcs), keys, address=server.url)
        await do(backend, "put")
        await backend.close()
    assert foreign.heads == []
    assert "Bearer" in server.heads[0]


@pytest.mark.parametrize("tail", ["a" * 403 + " " + "b" * 50, "a" * 10 + " ", " a"])
async def test_a_tag_is_a_header_wherever_it_is_cut(tail: str) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response()

    tags = {f"tag{number:02d}": "x" for number in range(20)} | {"tag00": tail}
    async with serving(Server(answer=answer)) as server:
        backend = await opened("gcs", server.url)
        await backend.put("a/b.pdf", once(b"x"), tags=tags, content_type=None)
        await backend.close()
    assert f"'x-goog-meta-tag00': '{tail[:404].strip()}'" in server.heads[0]


AMAZON = {
    "AccessKeyId": "POD-KEY",
    "SecretAccessKey": "s",
    "Token": "POD-SESSION",
    "Expiration": (NOON + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ"),
}
STS = "".join(
    f"<{name}>{text}</{name}>" for name, text in {**AMAZON, "SessionToken": AMAZON["Token"]}.items()
)


def environments(url: str, file: str) -> dict[str, dict[str, str]]:
    """Return the environments of pods, by the identity that they have."""
    host = url.removeprefix("http://")
    return {
        "keys": {"AWS_ACCESS_KEY_ID": "POD-KEY", "AWS_SECRET_ACCESS_KEY": "s"},
        "web identity": {
            "AWS_WEB_IDENTITY_TOKEN_FILE": file,
            "AWS_ROLE_ARN": "arn:aws:iam::1:role/x",
            "AWS_ENDPOINT_URL_STS": f"{url}/sts",
        },
        "container": {
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{url}/container",
            "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": file,
        },
        "instance": {"AWS_EC2_METADATA_SERVICE_ENDPOINT": url},
        "workload": {
            "AZURE_CLIENT_ID": "c",
            "AZURE_TENANT_ID": "t",
            "AZURE_FEDERATED_TOKEN_FILE": file,
            "AZURE_AUTHORITY_HOST": url,
        },
        "google": {"GCE_METADATA_HOST": host},
    }


async def identity(name: str, server: Server, folder: Path, clock: AClock) -> Cached[Any]:
    """Return the identity of a pod whose environment leads to ``server``."""
    file = folder / "token"
    file.write_text("TOKEN-OF-THE-POD\n")
    environ = environments(server.url, str(file))[name]
    match name:
        case "workload":
            return Cached(azure_identity(environ), clock)
        case "google":
            return Cached(google_identity(environ), clock)
        case _:
            return Cached(amazon_identity(environ, "eu-central-1", clock), clock)


async def identity_services(request: web.Request) -> web.StreamResponse:
    """The services of the three clouds."""
    match request.path:
        case "/sts/":
            return web.Response(text=f"<R>{STS}</R>")
        case "/latest/api/token":
            return web.Response(text="metadata-token")
        case "/latest/meta-data/iam/security-credentials/":
            return web.Response(text="role")
        case "/container" | "/latest/meta-data/iam/security-credentials/role":
            return web.json_response(AMAZON)
        case _:
            return web.json_response({"access_token": "POD-TOKEN", "expires_in": 3599})


@pytest.mark.parametrize("name", environments("", ""))
async def test_a_pod_has_the_identity_that_its_environment_names(name: str, tmp_path: Path) -> None:
    clock = AClock()
    async with serving(Server(answer=identity_services)) as server:
        found = await identity(name, server, tmp_path, clock)
        first = await found.get()
        asked = len(server.heads)
        assert await found.get() == first
        assert len(server.heads) == asked, "it is kept"
        clock.advance(minutes=56)
        await found.get()
        assert (len(server.heads) > asked) == (name != "keys"), "it is renewed before its end"
    assert "POD-" in (first if isinstance(first, str) else first.access_key_id)


async def test_a_proxy_with_tls_is_trusted_also_for_an_address_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tls, _ = server_tls(tmp_path)
    body = b'{"access_token": "POD-TOKEN", "expires_in": 3599}'

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        await reader.read()
        writer.close()

    (tmp_path / "token").write_text("TOKEN-OF-THE-POD")
    async with await asyncio.start_server(answer, "127.0.0.1", 0, ssl=tls) as proxy:
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "server.pem"))
        monkeypatch.setenv("HTTP_PROXY", f"https://127.0.0.1:{proxy.sockets[0].getsockname()[1]}")
        environ = environments("http://login.invalid", str(tmp_path / "token"))["workload"]
        assert await Cached(azure_identity(environ), AClock()).get() == "POD-TOKEN"


@pytest.mark.parametrize("days", [30, -30], ids=["ahead", "behind"])
@pytest.mark.parametrize("name", [each for each in environments("", "") if each != "keys"])
async def test_what_was_obtained_by_a_wrong_clock_is_kept_for_an_hour_at_most(
    name: str, days: int, tmp_path: Path
) -> None:
    clock = AClock()
    async with serving(Server(answer=identity_services)) as server:
        found = await identity(name, server, tmp_path, clock)
        clock.set_back(days=-days)
        await found.get()
        clock.set_back(days=days)
        asked = len(server.heads)
        clock.advance(minutes=60)
        await found.get()
        assert len(server.heads) > asked


async def test_a_token_that_is_refused_is_replaced_at_the_next_request() -> None:
    clock, statuses = AClock(), iter([401])

    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(status=next(statuses, 403))

    async with serving(Server(answer=answer)) as server:
        backend = await opened("gcs", server.url, clock)
        for _ in range(3):
            with pytest.raises(ArchiveRefused):
                await do(backend, "entries")
            clock.advance(seconds=1)
        await backend.close()
    refused, replaced, kept = (re.findall("Bearer ([^']+)", head)[0] for head in server.heads)
    assert refused != replaced == kept


@pytest.mark.parametrize("name", [each for each in environments("", "") if each != "keys"])
@pytest.mark.parametrize(
    "answer",
    [
        web.Response(status=404),
        web.Response(status=302, headers={"Location": "http://127.0.0.1:1/"}),
        web.Response(body=b"x" * 100_000),
        web.Response(body=b"{}"),
        web.Response(body=b'{"access_token": "a\\nb", "expires_in": 1, "AccessKeyId": "a\\nb"}'),
        web.Response(body=b"[" * 60_000),
    ],
    ids=["missing", "redirect", "too long", "empty", "line ends", "nested too deeply"],
)
async def test_a_service_that_gives_no_identity_is_named(
    name: str, answer: web.Response, tmp_path: Path
) -> None:
    async def answered(request: web.Request) -> web.StreamResponse:
        return web.Response(status=answer.status, body=answer.body, headers=answer.headers)

    async with serving(Server(answer=answered)) as server:
        found = await identity(name, server, tmp_path, AClock())
        with pytest.raises(NoIdentity):
            await found.get()


async def test_the_error_of_a_pod_without_an_identity_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:1")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    backend = await open_backend("dms", ArchiveSpec(s3=S3(bucket="contracts", region="eu-central-1")), {})
    with pytest.raises(ArchiveRefused) as refused:
        await backend.entries("a")
    await backend.close()
    assert refused.value.reason == "ArchiveNoIdentity"
    assert "127.0.0.1" not in refused.value.message
