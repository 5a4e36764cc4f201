"""
Archives that use HTTP, with servers that refuse, redirect, stop sending or have a wrong certificate.
"""

import asyncio
import ssl
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from urllib.parse import quote

import httpx
import msgspec
import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from yarl import URL

from counterfoil.archives import open_backend
from counterfoil.archives.backend import ArchiveBackend, FileNotStored
from counterfoil.archives.backends._http import HttpSite, make_http_client
from counterfoil.archives.backends.http import MAX_SENT_MEMORY, HttpBackend, SentFile, SentFiles
from counterfoil.archives.backends.webdav import WebDavBackend
from counterfoil.archives.credentials import Credentials
from counterfoil.archives.errors import ArchiveError, ArchiveRefused, ArchiveUnavailable, SettingsInvalid
from counterfoil.archives.filing import SPARE_READS
from counterfoil.resources.archive import (
    ArchiveSpec,
    Cmis,
    CredentialsReference,
    Http,
    SignaturePolicy,
    VerifyMode,
    WebDav,
)
from counterfoil.resources.archive_kinds import HttpMode
from counterfoil.resources.envelopeevent import MAX_LOCATION_LENGTH
from counterfoil.standard_webhooks import WebhookSignature
from counterfoil.untrusted.http_transport import new_client
from tests.support.builders import AClock
from tests.support.fakes.archives import content, once
from tests.support.servers.scripted_esaw import Script, head, running, sending, server_tls

LISTING = (
    '<?xml version="1.0"?><multistatus '
    'xmlns="DAV:"><response><href>/dms/</href><propstat><prop><resourcetype>'
    "<collection/></resourcetype></prop><status>HTTP/1.1 200 OK</status></propstat></response></multistatus>"
)


@asynccontextmanager
async def served(
    serve: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]], tls: ssl.SSLContext | None = None
) -> AsyncIterator[str]:
    """Run a server; give its address."""
    runner = web.ServerRunner(web.Server(serve, access_log=None), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
    try:
        yield f"{'https' if tls else 'http'}://127.0.0.1:{runner.addresses[0][1]}/dms"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def scripted_server(
    answers: dict[str, web.Response], tls: ssl.SSLContext | None = None
) -> AsyncIterator[str]:
    """Run a server with a fixed answer for each method, and 404 for all others; give its address."""

    async def serve(request: web.BaseRequest) -> web.StreamResponse:
        await request.read()
        told = answers.get(request.method, web.Response(status=404))
        return web.Response(status=told.status, headers=told.headers, body=told.body)

    async with served(serve, tls) as url:
        yield url


async def a_backend(url: str, **credentials: bytes) -> ArchiveBackend:
    ref = CredentialsReference(name="dav") if credentials else None
    return await open_backend(
        "dms", ArchiveSpec(webdav=WebDav(url=url, credentials_secret_ref=ref)), credentials
    )


async def put(backend: ArchiveBackend, data: bytes = b"x") -> None:
    await backend.put("a/b.pdf", once(data), tags={}, content_type=None)


@pytest.mark.parametrize(
    ("status", "kind", "reason", "says"),
    [
        (401, ArchiveRefused, "ArchiveCredentialsRejected", "does not accept somebody without a login"),
        (411, ArchiveRefused, "ArchiveLacksFeature", "Let it take chunked bodies"),
        (413, ArchiveRefused, "FileTooBig", "Raise its limit"),
        (414, ArchiveRefused, "PathTooLong", "Shorten spec.path"),
        (418, ArchiveRefused, "ArchiveRefused", "HTTP 418"),
        (423, ArchiveUnavailable, "ArchiveLocked", "once it is free"),
        (429, ArchiveUnavailable, "ArchiveOverloaded", "asks for a pause"),
        (500, ArchiveUnavailable, "ArchiveFailing", "does not work"),
        (503, ArchiveUnavailable, "ArchiveOverloaded", "asks for a pause"),
        (507, ArchiveUnavailable, "ArchiveFull", "no space is left"),
        (599, ArchiveUnavailable, "ArchiveFailing", "HTTP 599"),
    ],
)
async def test_every_refusal_has_its_words(
    status: int, kind: type[ArchiveError], reason: str, says: str
) -> None:
    refusal = web.Response(status=status, headers={"WWW-Authenticate": "Basic"})
    async with scripted_server({"MKCOL": web.Response(status=201), "PUT": refusal}) as url:
        backend = await a_backend(url)
        with pytest.raises(kind) as trouble:
            await put(backend)
        await backend.close()

    assert trouble.value.reason == reason
    assert says in trouble.value.message
    assert trouble.value.message.startswith("Archive/dms: ")
    assert url in trouble.value.message


@pytest.mark.parametrize("method", ["MKCOL", "PUT"])
async def test_nobody_is_followed_with_documents(method: str) -> None:
    away = web.Response(status=307, headers={"Location": "http://127.0.0.1:1/elsewhere"})
    async with scripted_server({"MKCOL": web.Response(status=201), method: away}) as url:
        backend = await a_backend(url, username=b"u", password=b"secret-word")
        with pytest.raises(ArchiveRefused) as trouble:
            await put(backend)
        await backend.close()

    assert trouble.value.reason == "ArchiveRedirects"
    assert "elsewhere" not in trouble.value.message


async def test_a_move_that_a_proxy_breaks_is_reported() -> None:
    answers = {
        "MKCOL": web.Response(status=201),
        "PUT": web.Response(status=201),
        "MOVE": web.Response(status=502),
    }
    async with scripted_server(answers) as url:
        backend = await a_backend(url)
        with pytest.raises(ArchiveRefused, match="does not take itself for the one"):
            await put(backend)
        await backend.close()


@pytest.mark.parametrize(("status", "is_usable"), [(412, True), (201, False), (204, False)])
async def test_a_webdav_server_must_not_move_over_a_file_unless_it_is_asked_to(
    status: int, is_usable: bool
) -> None:
    """On a folder, such a move would remove all that is in it."""
    files: dict[str, bytes] = {}

    async def serve(request: web.BaseRequest) -> web.StreamResponse:
        body = await request.read()
        if request.method == "PUT":
            files[request.path] = body
        elif request.method == "DELETE":
            return web.Response(status=204 if files.pop(request.path, None) is not None else 404)
        elif request.method == "MOVE":
            target = URL(request.headers["Destination"]).path
            if target in files and status == 412:
                return web.Response(status=412)
            files[target] = files.pop(request.path)
        elif request.method == "GET":
            return web.Response(body=files[request.path])
        elif request.method == "PROPFIND":
            return web.Response(status=207, text=LISTING)
        return web.Response(status=201)

    async with served(serve) as url:
        backend = await a_backend(url)
        if is_usable:
            await backend.probe()
        else:
            with pytest.raises(ArchiveRefused, match=r"Overwrite: F") as trouble:
                await backend.probe()
            assert trouble.value.reason == "ArchiveLacksFeature"
        await backend.close()

    assert files == {}


NOT_IN_XML = ("\uffff", "\ufffe", "\x00", "\x0b", "\x1f", "\ud800")


@pytest.mark.parametrize(
    "value",
    [*NOT_IN_XML, "]]>&<", "\U0001ffff", "\t\r\n"],
    ids=ascii,
)
async def test_a_tag_with_any_character_is_sent_to_a_webdav_server(value: str) -> None:
    answers = {method: web.Response(status=201) for method in ("MKCOL", "PUT", "PROPPATCH", "MOVE")}
    async with scripted_server(answers) as url:
        backend = await a_backend(url)
        await backend.put("a/b.pdf", once(b"x"), tags={"customer": f"a{value}b"}, content_type=None)
        await backend.close()


async def test_what_cleans_up_after_the_connections_are_closed_gets_an_error_of_an_archive() -> None:
    """kopf raises the error of any task that it ends, and the process would end with it."""
    credentials = Credentials("dms", None, {})
    site = HttpSite.open("the WebDAV server", "spec.webdav.url", "http://127.0.0.1:1", credentials)
    await site.close()
    with pytest.raises(ArchiveUnavailable) as trouble:
        await site.request("DELETE", f"{site.url}/probe")
    assert trouble.value.reason == "ArchiveUnreachable"


async def test_a_server_that_falls_silent_is_given_up() -> None:
    async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(silence, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        credentials = Credentials("dms", None, {})
        site = HttpSite.open("the WebDAV server", "spec.webdav.url", url, credentials, silence=0.2)
        backend = WebDavBackend(site, AClock())
        with pytest.raises(ArchiveUnavailable) as trouble:
            await backend.probe()
        await backend.close()

    assert trouble.value.reason == "ArchiveUnreachable"


async def test_a_server_whose_certificate_nobody_knows_gets_nothing(tmp_path: Path) -> None:
    async with scripted_server({}, tls=own_certificate(tmp_path)) as url:
        backend = await a_backend(url, bearerToken=b"secret-word")
        with pytest.raises(ArchiveRefused) as trouble:
            await backend.probe()
        await backend.close()

    assert trouble.value.reason == "ArchiveTlsFailed"
    assert "can't prove who it is (self-signed certificate)" in trouble.value.message


async def reason_of_a_refused_probe(body: str) -> str:
    """Probe a WebDAV archive that answers with this listing; return why it is refused."""
    async with scripted_server({"PROPFIND": web.Response(status=207, text=body)}) as url:
        backend = await a_backend(url)
        with pytest.raises(ArchiveRefused) as trouble:
            await backend.probe()
        await backend.close()
    return trouble.value.reason


async def test_a_listed_name_with_a_long_run_of_marks_keeps_its_form() -> None:
    """Its normal form takes quadratic time: seconds for a name of 32 KiB."""
    short, hostile = "e" + "\u0301" * 30, "e" + "\u0301" * 31
    listed = [LISTING.replace("/dms/", f"/dms/a/{name}") for name in ("", short, hostile)]
    body = "".join(listed).replace(f"</multistatus>{LISTING[: LISTING.index('<response>')]}", "")
    body = body.replace("<collection/></resourcetype>", "</resourcetype>")
    async with scripted_server({"PROPFIND": web.Response(status=207, text=body)}) as url:
        backend = await a_backend(url)
        names = [each.name for each in await backend.entries("a")]
        await backend.close()
    assert names == sorted([f"a/\u00e9{short[2:]}", f"a/{hostile}"])


@pytest.mark.parametrize(
    "body",
    [
        "no xml",
        '<!DOCTYPE a [<!ENTITY b "c">]><multistatus xmlns="DAV:">&b;</multistatus>',
        LISTING.replace("/dms/", "/other/"),
        LISTING.replace("/dms/", "http://["),
        "",
    ],
    ids=["no XML", "an entity", "another address", "no address", "nothing"],
)
async def test_an_invalid_listing_is_reported(body: str) -> None:
    assert await reason_of_a_refused_probe(body) in ("ArchiveNotWebDav", "ArchiveAnswerUnreadable")


@pytest.mark.parametrize(
    "body",
    [
        '<multistatus xmlns="DAV:"/>',
        LISTING.replace("/dms/", "/dms/a/b.pdf"),
        '<multistatus xmlns="DAV:"><response><href>/dms/a/</href><status>HTTP/1.1 507 Insufficient Storage'
        "</status></response></multistatus>",
    ],
    ids=["nothing", "without the collection", "cut (RFC 6578, 3.6)"],
)
async def test_a_listing_without_the_collection_itself_is_not_believed(body: str) -> None:
    async with scripted_server({"PROPFIND": web.Response(status=207, text=body)}) as url:
        backend = await a_backend(url)
        with pytest.raises(ArchiveRefused) as trouble:
            await backend.entries("a")
        await backend.close()

    assert trouble.value.reason == "ArchiveAnswerUnreadable"


def concluded_at(place: str, **more: web.Response) -> dict[str, web.Response]:
    """Answers of a system that has stored ``x`` and names its location."""
    return {"POST": web.json_response({"location": place, "sha256": sha256(b"x").hexdigest()}), **more}


@pytest.mark.parametrize("place", ["http://[", "https://dms.acme.example:99999/a", "//dms.acme.example/a"])
async def test_an_impossible_position_is_reported(place: str) -> None:
    async with scripted_server(concluded_at(place)) as url:
        backend = await open_backend("dms", ArchiveSpec(http=Http(url=url)), {})
        with pytest.raises(ArchiveRefused) as trouble:
            await backend.put("a/b.pdf", once(b"x"), tags={}, content_type=None)
    assert trouble.value.reason == "ArchiveLacksFeature"


@pytest.mark.parametrize("letter", ["a", "\u00e9", "\U0001f600", '"'])
async def test_a_place_is_at_most_8192_characters_long_in_the_address_that_is_requested(letter: str) -> None:
    longest = MAX_LOCATION_LENGTH // len(quote(letter))
    async with scripted_server(concluded_at(letter * longest)) as url:
        backend = await open_backend("dms", ArchiveSpec(http=Http(url=url)), {})
        await backend.put("a/b.pdf", once(b"x"), tags={}, content_type=None)
    async with scripted_server(concluded_at(letter * (longest + 1))) as url:
        backend = await open_backend("dms", ArchiveSpec(http=Http(url=url)), {})
        with pytest.raises(ArchiveRefused, match="or too long"):
            await backend.put("a/b.pdf", once(b"x"), tags={}, content_type=None)


@pytest.mark.parametrize("body", [b"no JSON", b'{"location": "\xff"}', b'{"later": ' + b"[" * 5000])
async def test_a_conclusion_that_is_no_json_is_reported(body: bytes) -> None:
    async with scripted_server({"POST": web.Response(body=body)}) as url:
        backend = await open_backend("dms", ArchiveSpec(http=Http(url=url)), {})
        with pytest.raises(ArchiveRefused) as trouble:
            await backend.put("a/b.pdf", once(b"x"), tags={}, content_type=None)
    assert trouble.value.reason == "ArchiveLacksFeature"


@pytest.mark.parametrize("status", [200, 400])
@pytest.mark.parametrize("body", [b"no JSON", b'{"dms": "\xff"}', b'{"dms": ' + b"[" * 5000])
async def test_an_answer_that_is_not_of_cmis_is_reported(status: int, body: bytes) -> None:
    async with scripted_server({"GET": web.Response(status=status, body=body)}) as url:
        spec = ArchiveSpec(cmis=Cmis(url=url, repository_id="dms"))
        backend = await open_backend("dms", spec, {})
        with pytest.raises(ArchiveError):
            await backend.probe()
        await backend.close()


async def test_another_host_is_asked_for_nothing_even_if_a_system_says_that_a_file_is_there() -> None:
    spoiled, gone = web.Response(status=500), web.Response(status=204)
    async with (
        scripted_server({"DELETE": spoiled}) as elsewhere,
        scripted_server(concluded_at(f"{elsewhere}/b.pdf", DELETE=gone)) as url,
    ):
        spec = ArchiveSpec(http=Http(url=url), verify=VerifyMode.CHECKSUM, signatures=SignaturePolicy.IGNORE)
        backend = await open_backend("dms", spec, {})
        await backend.put("a/b.pdf", once(b"x"), tags={}, content_type=None)
        await backend.discard("a/b.pdf")


async def test_a_server_that_answers_before_it_has_all_has_not_got_it() -> None:
    async def early(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        if head.startswith(b"PUT"):
            writer.transport.abort()
        writer.close()

    async with await asyncio.start_server(early, "127.0.0.1", 0) as server:
        backend = await a_backend(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        with pytest.raises(ArchiveUnavailable):
            await put(backend, content(30_000_000))
        await backend.close()


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"username": b"u"}, "has no `password`"),
        ({"password": b"p"}, "has no `username`"),
        ({"bearerToken": "tökén".encode()}, "`bearerToken` in Secret `dav` is no token"),
        ({"bearerToken": b"a\r\nb"}, "no single line"),
    ],
)
async def test_a_secret_that_can_not_work_is_reported(given: dict[str, bytes], says: str) -> None:
    with pytest.raises(SettingsInvalid, match=says):
        await a_backend("https://dms.acme.example", **given)


@pytest.mark.parametrize(
    "url",
    ["ftp://a", "https://", "https://u:p@a/", "https://a/?b", "https://a/#b", "https://a:0", "https://[a"],
)
async def test_an_address_that_can_not_be_is_refused(url: str) -> None:
    with pytest.raises(SettingsInvalid, match=r"spec\.webdav\.url must be"):
        await a_backend(url)


def own_certificate(folder: Path) -> ssl.SSLContext:
    """The server's side of TLS with a certificate that no authority signed."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return context


async def test_a_request_that_http_does_not_allow_is_the_programs_own_fault() -> None:
    async with scripted_server({}) as url:
        site = HttpSite.open("the WebDAV server", "spec.webdav.url", url, Credentials("dms", None, {}))
        with pytest.raises(ArchiveRefused) as trouble:
            await site.request("GET", url, headers={"X-Secret": "topsecret "})
        await site.close()
    assert trouble.value.reason == "InternalError"
    assert "topsecret" not in str(trouble.value)


@pytest.mark.parametrize(
    "hostile",
    [
        "<response " + " ".join(f"a{number}=''" for number in range(2_000)) + ">",
        "<response " + " ".join(f"a{number}=''" for number in range(600_000)) + ">",
        "<response " + " ".join(f"xmlns:a{number}='b'" for number in range(2_000)) + ">",
        "<response>" + "<a b='' c='' d=''/>" * 110_000,
        "<response>" + "".join(f"<a{number}/>" for number in range(2_000)),
        "<response>" + "<a>" * 1_000,
        "<response><href>" + "x" * 40_000,
        "<response xmlns:a='" + "x" * 2_000 + "'>",
        "<response " + "a" * 5_000_000 + ">",
    ],
    ids=[
        "attributes",
        "a tag of megabytes",
        "namespaces",
        "attributes of many elements",
        "names",
        "nesting",
        "a long text",
        "a long namespace",
        "a long name",
    ],
)
async def test_a_listing_with_too_many_attributes_is_refused_before_it_is_read(hostile: str) -> None:
    body = LISTING.replace("<response>", hostile)
    assert await reason_of_a_refused_probe(body) == "ArchiveAnswerUnreadable"


async def test_a_length_of_thousands_of_digits_in_a_listing_is_no_length() -> None:
    entry = (
        "<response><href>/dms/a/b.pdf</href><propstat><prop><getcontentlength>{}</getcontentlength></prop>"
        "</propstat></response></multistatus>"
    )
    whole = LISTING.replace("/dms/", "/dms/a/").removesuffix("</multistatus>")
    sizes = []
    for digits in ("7", "9" * 19, "9" * 20, "9" * 5_000):
        body = whole + entry.format(digits)
        async with scripted_server({"PROPFIND": web.Response(status=207, text=body)}) as url:
            backend = await a_backend(url)
            sizes += [each.size for each in await backend.entries("a")]
            await backend.close()
    assert sizes == [7, int("9" * 19), None, None]


async def test_the_connections_of_all_transfers_that_claim_their_names_are_used_again() -> None:
    count = ArchiveSpec().max_concurrency + SPARE_READS
    together = asyncio.Barrier(count)

    async def answer(writer: asyncio.StreamWriter) -> None:
        # No request finds the connection of another one free.
        await together.wait()
        await sending(head(404, content_length=0))(writer)

    async with (
        asyncio.timeout(60),
        running(answer) as server,
        make_http_client(authorization=None) as http,
    ):
        for _ in range(2):
            await asyncio.gather(*(http.get(server.url) for _ in range(count)))
    assert server.connections == count


async def test_an_answer_that_is_not_http_has_its_fault_in_the_message() -> None:
    async with running(sending(b"SSH-2.0-OpenSSH_9.6\r\n")) as server:
        backend = await a_backend(server.url)
        with pytest.raises(ArchiveUnavailable, match=r"not valid HTTP \(the response is not HTTP\)"):
            await backend.entries("a")
        await backend.close()


async def test_a_second_resource_in_an_answer_about_one_is_refused_before_the_answer_ends() -> None:
    resource = LISTING.removesuffix("</multistatus>")
    second = resource[resource.index("<response>") :]

    async def without_end(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=207)
        await response.prepare(request)
        await response.write((resource + second + " " * 16 * 1024).encode())
        await asyncio.sleep(60)
        return response

    app = web.Application()
    app.router.add_route("PROPFIND", "/{path:.*}", without_end)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    backend = await a_backend(f"http://127.0.0.1:{runner.addresses[0][1]}")
    with pytest.raises(ArchiveRefused) as trouble:
        async with asyncio.timeout(10):
            await backend.probe()
    await backend.close()
    await runner.cleanup()
    assert trouble.value.reason == "ArchiveNotWebDav"


async def test_an_address_in_a_listing_with_thousands_of_segments_is_refused() -> None:
    body = LISTING.replace("/dms/", f"/dms/{'a/' * 10_000}")
    assert await reason_of_a_refused_probe(body) == "ArchiveAnswerUnreadable"


async def test_a_place_of_more_characters_than_a_status_takes_is_refused() -> None:
    async with scripted_server(concluded_at("a" * 8193)) as url:
        backend = await open_backend("dms", ArchiveSpec(http=Http(url=url)), {})
        with pytest.raises(ArchiveRefused) as trouble:
            await backend.put("a/b.pdf", once(b"x"), tags={}, content_type=None)
        await backend.close()
    assert trouble.value.reason == "ArchiveLacksFeature"


async def test_a_cmis_answer_with_hundreds_of_thousands_of_lists_is_refused() -> None:
    body = b'{"r":{"rootFolderUrl":"a","repositoryUrl":"b","x":[' + b"[]," * 200_000 + b"[]]}}"
    async with scripted_server({"GET": web.Response(body=body)}) as url:
        spec = ArchiveSpec(cmis=Cmis(url=url, repository_id="r"))
        backend = await open_backend("dms", spec, {})
        with pytest.raises(ArchiveRefused) as trouble:
            await backend.probe()
        await backend.close()
    assert trouble.value.reason == "ArchiveNotCmis"


@pytest.mark.parametrize(("count", "length"), [(1_000, 8192), (30_000, 20)])
def test_what_is_remembered_about_sent_files_takes_a_bounded_memory(count: int, length: int) -> None:
    sent = SentFiles()
    tracemalloc.start()
    try:
        for number in range(count):
            place = "\U00010348" * length + str(number)
            sent.remember(f"a/{number}.pdf", SentFile(1000 + number, f"{number:064d}", place))
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert MAX_SENT_MEMORY // 2 < taken < MAX_SENT_MEMORY * 1.2
    assert sent.get("a/0.pdf") is None
    assert sent.get(f"a/{count - 1}.pdf") is not None


def test_a_file_that_was_sent_again_counts_once_and_as_the_newest() -> None:
    sent = SentFiles()
    place = "x" * (MAX_SENT_MEMORY // 3)
    for name in ("a", "b", "a", "c"):
        sent.remember(name, SentFile(1, "0" * 64, place))
    assert [name for name in "abc" if sent.get(name) is not None] == ["a", "c"]
    for name in "abc":
        sent.forget(name)
    assert sent.memory == 0


@pytest.mark.parametrize("told", ["https://dms.müller.example/docs/ä 1", "//dms.müller.example/docs/ä 1"])
@pytest.mark.parametrize("host", ["dms.müller.example", "dms.xn--mller-kva.example"])
async def test_a_location_with_an_international_host_name_is_requested_on_this_host(
    host: str, told: str
) -> None:
    requested = []

    def serve(request: httpx.Request) -> httpx.Response:
        requested.append((request.method, request.headers["Host"], request.url.raw_path))
        return httpx.Response(200, stream=httpx.ByteStream(msgspec.json.encode({"location": told})))

    client = httpx.AsyncClient(transport=httpx.MockTransport(serve))
    site = HttpSite("Archive/dms", "the system", "nobody", "spec.http.url", f"https://{host}/in", client)
    clock = AClock()
    backend = HttpBackend(site, HttpMode.PER_FILE, VerifyMode.READ_BACK, WebhookSignature((), clock), clock)
    await put(backend)
    await anext(backend.read("a/b.pdf"))
    await backend.close()
    assert requested[-1] == ("GET", "dms.xn--mller-kva.example", b"/docs/%C3%A4%201")


async def test_a_file_whose_location_is_its_own_name_is_requested_once() -> None:
    requested = []

    async def serve(request: web.BaseRequest) -> web.StreamResponse:
        await request.read()
        requested.append(f"{request.method} {request.path}")
        return web.json_response({"location": "a/b.pdf"}, status=200 if request.method == "POST" else 404)

    async with served(serve) as url:
        backend = await open_backend("dms", ArchiveSpec(http=Http(url=url)), {})
        await put(backend)
        with pytest.raises(FileNotStored):
            await anext(backend.read("a/b.pdf"))
        await backend.close()
    assert requested == ["POST /dms", "POST /dms", "GET /dms/a/b.pdf"]


async def test_an_address_that_a_system_names_is_stored_as_an_address_is_written() -> None:
    place = "of/`kubectl delete archive dms`\u00e9%20?a=b&c=[d]"
    requested = []

    async def serve(request: web.BaseRequest) -> web.StreamResponse:
        await request.read()
        requested.append(request.raw_path)
        return web.json_response({"location": place})

    async with served(serve) as url:
        backend = await open_backend("dms", ArchiveSpec(http=Http(url=url)), {})
        await put(backend)
        sent = backend._sent.get("a/b.pdf")  # type: ignore[attr-defined]
        await anext(backend.read("a/b.pdf"))
        await backend.close()
    assert sent.location == f"{url}/of/%60kubectl%20delete%20archive%20dms%60%C3%A9%20?a=b&c=[d]"
    assert sent.location.endswith(requested[-1])


def unended(answer: bytes) -> Script:
    """Answer, and end the connection without the end of TLS."""

    async def send(writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        await writer.drain()
        writer.transport.abort()

    return send


@asynccontextmanager
async def site_that_answers(answer: bytes, folder: Path) -> AsyncIterator[HttpSite]:
    """Run a server with TLS that ends each connection after ``answer``, without the end of TLS."""
    tls, trust = server_tls(folder)
    async with running(unended(answer), tls=tls) as server:
        client = new_client(timeout=httpx.Timeout(10), idle=1, headers={}, verify=trust)
        site = HttpSite("Archive/dms", "the server", "the login", "spec.http.url", server.url, client)
        yield site
        await site.close()


@pytest.mark.parametrize("method", ["PUT", "POST"])
@pytest.mark.parametrize("status", [201, 404, 507])
@pytest.mark.parametrize("body", [b"", b"<p>told</p>"])
async def test_the_status_of_an_upload_counts_without_the_end_of_tls(
    method: str, status: int, body: bytes, tmp_path: Path
) -> None:
    async with site_that_answers(head(status, connection="close") + body, tmp_path) as site:
        answer = await site.upload(method, site.url, once(b"x"), headers={"Content-Length": "1"})
    assert (answer.status_code, answer.content) == (status, body)


@pytest.mark.parametrize(
    ("method", "status", "body"),
    [
        ("DELETE", 200, b"gone"),
        ("MOVE", 201, b""),
        ("POST", 200, b""),
        ("POST", 200, b"{}"),
        ("POST", 409, b"{}"),
        ("GET", 404, b"no"),
    ],
)
async def test_the_status_of_a_change_and_of_an_error_counts_without_the_end_of_tls(
    method: str, status: int, body: bytes, tmp_path: Path
) -> None:
    async with site_that_answers(head(status, connection="close") + body, tmp_path) as site:
        answer = await site.request(method, site.url)
    assert (answer.status_code, answer.content) == (status, body)


@pytest.mark.parametrize("body", [b"", b"{}"])
async def test_content_is_not_believed_without_the_end_of_tls(body: bytes, tmp_path: Path) -> None:
    async with site_that_answers(head(200, connection="close") + body, tmp_path) as site:
        with pytest.raises(ArchiveUnavailable):
            await site.request("GET", site.url)


@pytest.mark.parametrize("told", [b"", b'{"location": "/docs/47'])
async def test_the_conclusion_of_an_http_archive_is_not_believed_without_the_end_of_tls(
    told: bytes, tmp_path: Path
) -> None:
    async with site_that_answers(head(200, connection="close") + told, tmp_path) as site:
        clock = AClock()
        signature = WebhookSignature((), clock)
        backend = HttpBackend(site, HttpMode.PER_FILE, VerifyMode.CHECKSUM, signature, clock)
        with pytest.raises(ArchiveUnavailable):
            await backend.put("a/contract.pdf", once(b"x"), tags={}, content_type="application/pdf")


async def test_bytes_that_are_no_tls_after_the_handshake_say_nothing_about_the_certificate(
    tmp_path: Path,
) -> None:
    async def send(writer: asyncio.StreamWriter) -> None:
        with writer.get_extra_info("socket").dup() as raw:
            raw.setblocking(False)
            raw.send(b"no record of TLS" * 64)

    tls, trust = server_tls(tmp_path)
    async with running(send, tls=tls) as server:
        client = new_client(timeout=httpx.Timeout(10), idle=1, headers={}, verify=trust)
        site = HttpSite("Archive/dms", "the server", "the login", "spec.http.url", server.url, client)
        with pytest.raises(ArchiveUnavailable) as trouble:
            await site.request("GET", site.url)
        await site.close()
    assert trouble.value.reason == "ArchiveUnreachable"


async def test_an_answer_that_is_shorter_than_its_length_is_an_error(tmp_path: Path) -> None:
    async with site_that_answers(head(201, content_length=5) + b"told", tmp_path) as site:
        with pytest.raises(ArchiveUnavailable):
            await site.upload("PUT", site.url, once(b"x"), headers={"Content-Length": "1"})
