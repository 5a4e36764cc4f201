"""
The root of an archive whose server is behind a proxy, which answers with pages for a while.
"""

from collections.abc import AsyncGenerator
from functools import partial

import pytest
from aiohttp import web
from msgspec.structs import replace

from controller.access.archive_root import (
    MARKER_NAME,
    EarlierManifest,
    MarkedBackend,
    check_new_root,
    check_root,
    root_of,
)
from counterfoil.archives.backend import (
    ArchiveBackend,
    FileNotStored,
    ForwardingBackend,
    NegativeCacheBackend,
)
from counterfoil.archives.copies.original import read_original
from counterfoil.archives.errors import ArchiveRefused
from counterfoil.archives.filing import claim_names, conclude, find_concluded, store
from counterfoil.archives.manifest_signature import ManifestSigner
from counterfoil.archives.names import MANIFEST_NAME, SIGNATURE_NAME
from counterfoil.resources import Archive, ArchiveRoot
from tests.support.builders import AClock
from tests.support.fakes.archives import (
    ENVELOPE_ID,
    MemoryBackend,
    a_filed_document,
    a_layout,
    a_source,
    an_envelope,
    content,
    files_named,
)
from tests.support.fakes.reconcile_context import an_archive
from tests.support.servers.page_front import Front, listing, nothing, opened
from tests.support.signing_keys import a_signer

MARKER_ID = "1" * 32
DESTINATION = "https://dms.acme.example"
KINDS = ("s3", "azblob", "gcs", "webdav")


def marked(backend: ArchiveBackend) -> Archive:
    """An Archive whose last probe found the marker in this root."""
    archive = an_archive()
    root = ArchiveRoot(location=root_of(backend), marker_id=MARKER_ID)
    return replace(archive, status=replace(archive.status, root=root, destination=DESTINATION))


async def the_marker(request: web.BaseRequest) -> web.StreamResponse | None:
    is_marker = request.method == "GET" and request.path.endswith(MARKER_NAME)
    return web.json_response({"id": MARKER_ID}) if is_marker else None


async def no_check() -> None:
    """The marker was read a moment ago."""


async def missing_at_store(request: web.BaseRequest) -> web.StreamResponse | None:
    return web.Response(status=404, text="<Error><Code>NoSuchKey</Code></Error>")


async def missing_at_webdav(request: web.BaseRequest) -> web.StreamResponse | None:
    return listing(request) if request.method == "PROPFIND" else web.Response(status=404)


@pytest.mark.parametrize("status", [200, 401, 403, 404, 405])
@pytest.mark.parametrize("kind", KINDS)
async def test_a_page_in_the_place_of_the_marker_does_not_change_the_root(kind: str, status: int) -> None:
    front = Front(the_marker, page=status)
    async with opened(kind, front) as backend:
        archive = marked(backend)
        await check_root(archive, backend)

        front.answer = nothing
        manifest = EarlierManifest(backend.location("acme/e1/counterfoil.json"), "e1")
        for check in (check_root(archive, backend), check_new_root(an_archive(), backend, [manifest])):
            with pytest.raises(ArchiveRefused) as refused:
                await check
            # A WebDAV server does not answer 405 to PROPFIND.
            is_known = (kind, status) == ("webdav", 405)
            assert refused.value.reason == ("ArchiveNotWebDav" if is_known else "ArchiveAnswerUnreadable")
            assert "kubectl" not in refused.value.message

        front.answer = the_marker
        await check_root(archive, backend)


@pytest.mark.parametrize("body", ["ok", '{"status": "ok"}'])
@pytest.mark.parametrize("kind", KINDS)
async def test_another_answer_in_the_place_of_the_marker_prints_no_command(kind: str, body: str) -> None:
    async def up(request: web.BaseRequest) -> web.StreamResponse | None:
        return web.Response(text=body)

    async with opened(kind, Front(up)) as backend:
        with pytest.raises(ArchiveRefused) as refused:
            await check_root(marked(backend), backend)
    assert "another program answers" in refused.value.message
    assert "kubectl" not in refused.value.message


@pytest.mark.parametrize("kind", KINDS)
async def test_a_marker_is_missing_if_the_server_of_the_archive_says_it(kind: str) -> None:
    missing = missing_at_webdav if kind == "webdav" else missing_at_store
    async with opened(kind, Front(missing)) as backend:
        with pytest.raises(ArchiveRefused) as refused:
            await check_root(marked(backend), backend)
    assert refused.value.reason == "ArchiveRootChanged"
    assert "`kubectl patch archive" in refused.value.message


class _Gateway(ForwardingBackend):
    """Answers the first read of one file in the place of the archive; None: that it is absent."""

    def __init__(self, backend: ArchiveBackend, name: str, answer: bytes | None) -> None:
        super().__init__(backend)
        self._name, self._answer, self._is_over = name, answer, False

    async def read(self, name: str) -> AsyncGenerator[bytes, None]:
        if self._is_over or not name.endswith(f"/{self._name}"):
            async for block in super().read(name):
                yield block
            return
        self._is_over = True
        if self._answer is None:
            raise FileNotStored
        yield self._answer


JSON = b'{"status": "maintenance"}'
SIGNER = a_signer()
ANSWERS: dict[str, tuple[str, bytes | None, ManifestSigner | None]] = {
    "no manifest": (MANIFEST_NAME, None, SIGNER),
    "JSON for the manifest": (MANIFEST_NAME, JSON, SIGNER),
    "JSON for the manifest, without a key": (MANIFEST_NAME, JSON, None),
    "no seal": (SIGNATURE_NAME, None, SIGNER),
    "JSON for the seal": (SIGNATURE_NAME, JSON, SIGNER),
}


class _FiledScene:
    """An archived envelope, behind a gateway that answers once in its place."""

    def __init__(self, case: str, *, is_root: bool) -> None:
        name, answer, self.signer = ANSWERS[case]
        self.key = self.signer.public if self.signer is not None else None
        self.archive, self.checks = MemoryBackend(), list[str]()
        self.layout = a_layout(*files_named("1.pdf"))
        self._is_root = is_root
        gateway = _Gateway(self.archive, name, answer)
        self.run = NegativeCacheBackend(MarkedBackend(gateway, no_check, self._check_again))

    async def _check_again(self) -> None:
        self.checks.append("now")
        if not self._is_root:
            raise ArchiveRefused("ArchiveRootChanged", "It has no marker.")

    async def conclude(self, backend: ArchiveBackend) -> str:
        stored = [
            (each.facts, await store(backend, each, a_source(content()), tags={}))
            for each in self.layout.files
        ]
        return await conclude(
            backend,
            self.layout,
            an_envelope(),
            [a_filed_document(*each) for each in stored],
            archived_at=AClock().now(),
            extra={},
            signer=self.signer,
        )


@pytest.mark.parametrize("case", ANSWERS)
async def test_the_history_of_a_manifest_is_kept_while_a_gateway_answers_for_it_or_its_seal(
    case: str,
) -> None:
    scene = _FiledScene(case, is_root=False)
    await scene.conclude(scene.archive)
    before = dict(scene.archive.files)

    with pytest.raises(ArchiveRefused) as refused:
        await scene.conclude(scene.run)

    assert refused.value.reason == "ArchiveRootChanged"
    assert scene.archive.files == before


@pytest.mark.parametrize("case", ANSWERS)
async def test_a_manifest_that_does_not_count_is_written_again_once_the_root_was_checked_again(
    case: str,
) -> None:
    scene = _FiledScene(case, is_root=True)
    await scene.conclude(scene.archive)
    scene.archive.puts.clear()

    await scene.conclude(scene.run)

    assert scene.checks
    assert MANIFEST_NAME in scene.archive.put_names


@pytest.mark.parametrize("case", [each for each, answer in ANSWERS.items() if answer[2] is not None])
async def test_a_sealed_envelope_is_not_said_to_be_of_others_while_a_gateway_answers(case: str) -> None:
    scene = _FiledScene(case, is_root=False)
    await scene.conclude(scene.archive)

    with pytest.raises(ArchiveRefused) as refused:
        await claim_names(scene.run, scene.layout, key=scene.key)
    assert refused.value.reason == "ArchiveRootChanged"
    assert await claim_names(scene.archive, scene.layout, key=scene.key)


@pytest.mark.parametrize("case", ["no seal", "JSON for the seal"])
async def test_an_original_does_not_lose_its_description_while_a_gateway_answers_for_its_seal(
    case: str,
) -> None:
    scene = _FiledScene(case, is_root=False)
    location = await scene.conclude(scene.archive)
    (file,) = scene.layout.files
    stored = await store(scene.archive, file, a_source(content()), tags={})
    where = scene.archive.location(file.name)
    document = replace(a_filed_document(file.facts, stored), location=where)

    with pytest.raises(ArchiveRefused) as refused:
        await read_original(scene.run, location, [document], an_envelope(), key=scene.key)
    assert refused.value.reason == "ArchiveRootChanged"
    assert (await read_original(scene.archive, location, [document], an_envelope(), key=scene.key)).is_sealed


async def test_the_root_is_checked_again_for_an_envelope_and_not_for_each_of_its_files() -> None:
    checks: list[str] = []

    async def check() -> None:
        checks.append("recently")

    async def check_again() -> None:
        checks.append("now")

    run = NegativeCacheBackend(MarkedBackend(MemoryBackend(), check, check_again))
    layout = a_layout(*files_named("1.pdf", "2.pdf"))
    await claim_names(run, layout, key=None)
    assert checks == ["recently", "now"]

    assert await find_concluded(run, layout, ENVELOPE_ID, key=None) is None
    stored = [(file.facts, await store(run, file, a_source(content()), tags={})) for file in layout.files]
    await conclude(
        run,
        layout,
        an_envelope(),
        [a_filed_document(*each) for each in stored],
        archived_at=AClock().now(),
        extra={},
        signer=None,
    )
    assert checks == ["recently", "now", "now"], "the names were claimed, and the manifest was written"


async def test_an_absence_in_another_root_is_confirmed_by_no_later_call() -> None:
    problems = [ArchiveRefused("ArchiveRootChanged", "It has no marker.")] * 2

    async def check_again() -> None:
        if problems:
            raise problems.pop()

    run = MarkedBackend(MemoryBackend(), no_check, check_again)
    assert await run.entries("acme") == []
    for _ in range(2):
        with pytest.raises(ArchiveRefused):
            await run.confirm_absence()
    await run.confirm_absence()


@pytest.mark.parametrize("kind", KINDS)
async def test_names_are_not_claimed_while_a_proxy_answers_after_the_root_was_shown(kind: str) -> None:
    front = Front(the_marker)
    async with opened(kind, front) as backend:
        archive = marked(backend)
        await check_root(archive, backend)
        run = MarkedBackend(backend, no_check, partial(check_root, archive, backend))
        if kind == "webdav":
            front.answer = missing_at_webdav
            assert await run.entries("acme/e1") == []

        front.answer = nothing
        with pytest.raises(ArchiveRefused) as refused:
            await claim_names(run, a_layout(), key=None)
    assert refused.value.reason == "ArchiveAnswerUnreadable"


@pytest.mark.parametrize("kind", KINDS)
async def test_a_page_in_the_place_of_the_earlier_manifests_prints_no_command(kind: str) -> None:
    async def up(request: web.BaseRequest) -> web.StreamResponse | None:
        return web.json_response({"error": "maintenance"})

    async with opened(kind, Front(up)) as backend:
        manifests = [
            EarlierManifest(backend.location(f"acme/{each}/counterfoil.json"), each) for each in "ab"
        ]
        with pytest.raises(ArchiveRefused) as refused:
            await check_new_root(an_archive(), backend, manifests)
    assert refused.value.reason == "ArchiveRootChanged"
    assert "another program answers" in refused.value.message
    assert "kubectl" not in refused.value.message
