"""
Requests of an S3 archive, and its handling of the answers, with a scripted server.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
from aiohttp import web

from counterfoil.archives import open_backend
from counterfoil.archives.backend import ArchiveBackend
from counterfoil.archives.backends.s3 import endpoint_of, open_s3
from counterfoil.archives.errors import ArchiveError, ArchiveRefused, ArchiveUnavailable, SettingsInvalid
from counterfoil.resources.archive import S3, ArchiveSpec, ObjectLock, TagRule
from counterfoil.resources.archive_kinds import CredentialsReference
from tests.support.builders import AClock
from tests.support.fakes.archives import content, once

MIB = 1024 * 1024
KEYS = {"accessKeyId": b"ACCESS", "secretAccessKey": b"very-secret"}


@dataclass
class RecordingServer:
    """Records requests. Answers as S3 does when all is well, unless ``answer`` is set."""

    url: str = ""
    requests: list[tuple[str, str, str]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    answer: tuple[int, str] | None = None

    async def serve(self, request: web.Request) -> web.StreamResponse:
        kind = next((name for name in ("uploads", "uploadId", "list-type") if name in request.query), "")
        self.requests.append((request.method, request.path, kind))
        self.headers.append(dict(request.headers))
        await request.read()
        if self.answer is not None:
            status, code = self.answer
            return web.Response(status=status, text=f"<Error><Code>{code}</Code></Error>" if code else "")
        return web.Response(headers={"ETag": '"e"'}, text=_BODIES.get((request.method, kind), ""))

    def assert_aborted(self, path: str) -> None:
        # A part in transit may arrive after it; S3 refuses it then.
        assert ("DELETE", path, "uploadId") in self.requests
        assert ("POST", path, "uploadId") not in self.requests


_BODIES = {
    (
        "POST",
        "uploads",
    ): "<InitiateMultipartUploadResult><UploadId>u1</UploadId></InitiateMultipartUploadResult>",
    ("POST", "uploadId"): "<CompleteMultipartUploadResult><ETag>e</ETag></CompleteMultipartUploadResult>",
}


@pytest.fixture
async def server() -> AsyncIterator[RecordingServer]:
    told = RecordingServer()
    app = web.Application(client_max_size=64 * MIB)
    app.router.add_route("*", "/{path:.*}", told.serve)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    told.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield told
    await runner.cleanup()


def a_spec(
    url: str = "https://s3.example", *, tags: dict[str, TagRule] | None = None, **settings: object
) -> ArchiveSpec:
    given = {
        "bucket": "contracts",
        "endpoint": url,
        "force_path_style": True,
        "credentials_secret_ref": CredentialsReference(name="bucket-credentials"),
        **settings,
    }
    return ArchiveSpec(s3=S3(**given), tags=tags or {})  # type: ignore[arg-type] # a builder takes any of its fields


@pytest.fixture
async def backend(server: RecordingServer) -> ArchiveBackend:
    return await open_backend("dms", a_spec(server.url), KEYS)


async def read(backend: ArchiveBackend, name: str) -> bytes:
    return b"".join([block async for block in backend.read(name)])


async def test_a_small_file_is_one_request_with_type_and_tags(
    server: RecordingServer, backend: ArchiveBackend
) -> None:
    await backend.put("a/b.pdf", once(b"x" * 1000), tags={"no": "47/11 <ü>"}, content_type="application/pdf")

    assert server.requests == [("PUT", "/contracts/a/b.pdf", "")]
    assert server.headers[0]["Content-Type"] == "application/pdf"
    assert server.headers[0]["x-amz-tagging"] == "no=47%2F11+_%C3%BC_"


async def test_a_tag_has_at_most_256_bytes_and_ends_between_characters(
    server: RecordingServer, backend: ArchiveBackend
) -> None:
    """S3 counts units of UTF-16, and some servers count bytes."""
    await backend.put("a/b.pdf", once(b"x"), tags={"no": "x" + "\U00020000" * 200}, content_type=None)

    assert server.headers[0]["x-amz-tagging"] == "no=x" + "%F0%A0%80%80" * 63


async def test_a_big_file_is_a_multipart_upload_that_is_completed_last(
    server: RecordingServer, backend: ArchiveBackend
) -> None:
    await backend.put("a/b.pdf", once(content(12 * MIB)), tags={"no": "1"}, content_type="application/pdf")

    assert server.requests[0] == ("POST", "/contracts/a/b.pdf", "uploads")
    assert server.headers[0]["x-amz-tagging"] == "no=1"
    assert [each[0] for each in server.requests[1:-1]] == ["PUT"] * 3
    assert server.requests[-1] == ("POST", "/contracts/a/b.pdf", "uploadId")


async def test_an_error_of_the_source_comes_out_unchanged_and_aborts_the_upload(
    server: RecordingServer, backend: ArchiveBackend
) -> None:
    broken = FileNotFoundError(2, "the source's own")

    async def chunks() -> AsyncIterator[bytes]:
        yield content(12 * MIB)
        raise broken

    with pytest.raises(FileNotFoundError) as caught:
        await backend.put("a.pdf", chunks(), tags={}, content_type=None)

    assert caught.value is broken
    server.assert_aborted("/contracts/a.pdf")


async def test_a_cancelled_upload_is_aborted_at_the_server(
    server: RecordingServer, backend: ArchiveBackend
) -> None:
    waiting = asyncio.Event()

    async def chunks() -> AsyncIterator[bytes]:
        yield content(12 * MIB)
        waiting.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(backend.put("a.pdf", chunks(), tags={}, content_type=None))
    await waiting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    server.assert_aborted("/contracts/a.pdf")


async def test_a_cancelled_wait_for_the_first_part_asks_nothing_of_the_server(
    server: RecordingServer, backend: ArchiveBackend
) -> None:
    waiting = asyncio.Event()

    async def chunks() -> AsyncIterator[bytes]:
        yield b"little"
        waiting.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(backend.put("a.pdf", chunks(), tags={}, content_type=None))
    await waiting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert server.requests == []


@pytest.mark.parametrize(
    ("status", "code", "kind", "reason"),
    [
        (503, "SlowDown", ArchiveUnavailable, "ArchiveOverloaded"),
        (503, "", ArchiveUnavailable, "ArchiveOverloaded"),
        (500, "InternalError", ArchiveUnavailable, "ArchiveFailing"),
        (507, "XMinioStorageFull", ArchiveUnavailable, "ArchiveFull"),
        (403, "AccessDenied", ArchiveRefused, "ArchivePermissionDenied"),
        (400, "ExpiredToken", ArchiveRefused, "ArchiveCredentialsRejected"),
        (400, "AuthorizationHeaderMalformed", ArchiveRefused, "ArchiveRegionWrong"),
        (403, "RequestTimeTooSkewed", ArchiveRefused, "ClockWrong"),
        (400, "KeyTooLongError", ArchiveRefused, "PathTooLong"),
        (501, "NotImplemented", ArchiveRefused, "ArchiveLacksFeature"),
        (400, "SomethingNew", ArchiveRefused, "ArchiveRefused"),
        (404, "NoSuchBucket", ArchiveRefused, "ArchiveBucketMissing"),
        (404, "NoSuchUpload", ArchiveUnavailable, "ArchiveFailing"),
    ],
)
async def test_each_answer_has_its_words_which_are_the_same_each_time(
    server: RecordingServer,
    status: int,
    code: str,
    kind: type[ArchiveError],
    reason: str,
) -> None:
    server.answer = (status, code)
    backend = await open_s3("dms", a_spec(server.url), KEYS, clock=AClock())
    said = []
    for attempt in (backend.put("a", once(b"x"), tags={}, content_type=None), backend.entries("a")):
        with pytest.raises(kind) as trouble:
            await attempt
        said.append(trouble.value)

    assert [each.reason for each in said] == [reason, reason]
    assert said[0].message == said[1].message
    assert said[0].message.startswith("Archive/dms: ")
    assert f"S3 answered {status}" in said[0].message
    assert code in said[0].message
    assert "very-secret" not in said[0].message


async def test_encryption_is_asked_for_with_each_object(server: RecordingServer) -> None:
    backend = await open_backend("dms", a_spec(server.url, server_side_encryption="AES256"), KEYS)

    await backend.put("a.pdf", once(b"x"), tags={}, content_type=None)

    assert server.headers[0]["x-amz-server-side-encryption"] == "AES256"


async def test_a_prefix_is_put_in_front_and_taken_off_again(server: RecordingServer) -> None:
    backend = await open_backend("dms", a_spec(server.url, prefix="esaw/2026/"), KEYS)

    await backend.put("a.pdf", once(b"x"), tags={}, content_type=None)

    assert server.requests == [("PUT", "/contracts/esaw/2026/a.pdf", "")]
    assert backend.location("a.pdf") == "s3://contracts/esaw/2026/a.pdf"


@pytest.mark.parametrize(
    ("spec", "keys", "fault"),
    [
        (a_spec(object_lock=ObjectLock(mode="Governance", retain_days=1)), KEYS, "objectLock"),
        (a_spec(tags={f"t{n}": TagRule(value="1") for n in range(11)}), KEYS, "at most 10 tags"),
        (a_spec(), {"accessKeyId": b"A"}, "has no `secretAccessKey`"),
        (a_spec(), {}, "has no `accessKeyId`"),
        (a_spec(), {"accessKeyId": b"\xff", "secretAccessKey": b"s"}, "no text"),
        (a_spec(server_side_encryption="rot13"), KEYS, "can't be used"),
    ],
)
async def test_settings_that_cannot_work_are_reported_before_anything_is_sent(
    spec: ArchiveSpec, keys: dict[str, bytes], fault: str
) -> None:
    with pytest.raises(SettingsInvalid, match=fault):
        await open_backend("dms", spec, keys)


@pytest.mark.parametrize(
    ("endpoint", "forced", "wanted"),
    [
        ("https://s3.example:9000/x", False, "https://contracts.s3.example:9000/x"),
        ("https://s3.example:9000", True, "https://s3.example:9000"),
        ("http://127.0.0.1:9000", False, "http://127.0.0.1:9000"),
        ("http://[::1]:9000", False, "http://[::1]:9000"),
        (None, False, None),
    ],
)
def test_the_bucket_is_in_the_host_name_unless_path_style_is_asked_for_or_the_only_way(
    endpoint: str | None, *, forced: bool, wanted: str | None
) -> None:
    assert endpoint_of(S3(bucket="contracts", endpoint=endpoint, force_path_style=forced)) == wanted
