"""
The contract of archives, for a system behind an HTTP endpoint, and what is particular to that.
"""

from collections.abc import AsyncIterator

import pytest

from counterfoil.archives import open_backend
from counterfoil.archives.backend import ArchiveBackend
from counterfoil.archives.errors import ArchiveRefused, NameTaken, SettingsInvalid
from counterfoil.archives.filing import store
from counterfoil.resources.archive import HttpMode, SignaturePolicy, VerifyMode
from counterfoil.testing.archive_contract import (
    ArchiveFixture,
    FilingContract,
    FullContract,
    LoginContract,
    PermissionContract,
    RootContract,
    WireContract,
)
from sandbox.servers.http_document_system import DocumentSystem, document_system
from tests.support.fakes.archives import SourceCut, a_layout, a_source, content, once
from tests.support.scenes.archive_fixtures import an_http_spec, login_of, refusing


@pytest.fixture
async def system() -> AsyncIterator[DocumentSystem]:
    async with document_system() as running:
        yield running


class TestHttp(FilingContract, WireContract, LoginContract, RootContract, FullContract, PermissionContract):
    @pytest.fixture
    async def ground(self, system: DocumentSystem) -> ArchiveFixture:
        return ArchiveFixture(
            an_http_spec(system.url),
            login_of(system),
            address=("127.0.0.1", system.port),
            reroute=lambda port: an_http_spec(f"http://127.0.0.1:{port}/inbox"),
        )

    @pytest.fixture
    async def stranger(self, system: DocumentSystem) -> ArchiveBackend:
        return await open_backend(
            "dms", an_http_spec(system.url), {**login_of(system), "signingSecret": b"whsec_V1JPTkc="}
        )

    @pytest.fixture
    async def rootless(self, system: DocumentSystem) -> ArchiveBackend:
        return await open_backend(
            "dms", an_http_spec(f"http://127.0.0.1:{system.port}/nowhere"), login_of(system)
        )

    @pytest.fixture
    async def full(self, system: DocumentSystem) -> AsyncIterator[ArchiveBackend]:
        async with refusing(f"http://127.0.0.1:{system.port}", {"POST"}, 507) as url:
            yield await open_backend("dms", an_http_spec(f"{url}/inbox"), login_of(system))

    @pytest.fixture
    async def forbidden(self, system: DocumentSystem) -> AsyncIterator[ArchiveBackend]:
        async with refusing(f"http://127.0.0.1:{system.port}", {"POST"}, 403) as url:
            yield await open_backend("dms", an_http_spec(f"{url}/inbox"), login_of(system))


async def test_an_empty_list_does_not_say_that_nothing_is_stored(system: DocumentSystem) -> None:
    backend = await open_backend("dms", an_http_spec(system.url), login_of(system))
    assert (await backend.entries("a"), backend.lists_files) == ([], False)


@pytest.mark.parametrize("size", [0, 1, 5_000_001])
async def test_a_form_uploads_a_file_of_any_size(system: DocumentSystem, size: int) -> None:
    backend = await open_backend("dms", an_http_spec(system.url, mode=HttpMode.MULTIPART), login_of(system))
    file = a_layout().files[0]

    stored_file = await store(backend, file, a_source(content(size)), tags={"customer": "c"})

    assert stored_file.written
    assert system.filed[file.name].path.read_bytes() == content(size)


async def test_a_form_that_is_cut_is_not_stored(system: DocumentSystem) -> None:
    backend = await open_backend("dms", an_http_spec(system.url, mode=HttpMode.MULTIPART), login_of(system))

    with pytest.raises(SourceCut):
        await store(backend, a_layout().files[0], a_source(content(3_000_000), cut_at=1_000_000), tags={})

    assert system.filed == {}


async def test_a_form_has_name_and_tags_as_fields(system: DocumentSystem) -> None:
    backend = await open_backend("dms", an_http_spec(system.url, mode=HttpMode.MULTIPART), login_of(system))

    await backend.put(
        "a/ü.pdf", once(b"x"), tags={"customer": "Müller & Söhne"}, content_type="application/pdf"
    )

    stored = system.filed["a/ü.pdf"]
    assert stored.fields == {"name": "a/ü.pdf", "tags.customer": "Müller & Söhne"}
    assert stored.tags == {"customer": "Müller & Söhne"}


async def test_a_file_that_is_sent_again_has_the_same_key(system: DocumentSystem) -> None:
    keys = []
    for data in (b"old", b"new"):
        backend = await open_backend("dms", an_http_spec(system.url), login_of(system))
        await backend.put("a/b.pdf", once(data), tags={}, content_type=None)
        keys.append(system.filed["a/b.pdf"].key)

    assert keys[0] == keys[1]
    assert system.filed["a/b.pdf"].size == 3


async def test_a_file_that_another_run_replaced_is_found_by_its_name(system: DocumentSystem) -> None:
    backend, other = [await open_backend("dms", an_http_spec(system.url), login_of(system)) for _ in range(2)]
    await backend.put("a/b.pdf", once(b"one"), tags={}, content_type=None)
    await other.put("a/b.pdf", once(b"two"), tags={}, content_type=None)

    assert b"".join([block async for block in backend.read("a/b.pdf")]) == b"two"


async def test_a_name_that_the_system_gave_to_another_is_occupied(system: DocumentSystem) -> None:
    backend = await open_backend("dms", an_http_spec(system.url), login_of(system))
    await backend.put("a/b.pdf", once(b"theirs"), tags={}, content_type=None)
    system.filed["a/b.pdf"].key = "somebody else's"

    with pytest.raises(NameTaken, match="is there already"):
        await backend.put("a/b.pdf", once(b"ours"), tags={}, content_type=None)


async def test_a_system_that_serves_no_reads_can_report_the_checksum_of_its_files() -> None:
    async with document_system(serves_downloads=False) as system:
        spec = an_http_spec(system.url, verify=VerifyMode.CHECKSUM, signatures=SignaturePolicy.IGNORE)
        backend = await open_backend("dms", spec, login_of(system))
        file = a_layout().files[0]

        stored_file = await store(backend, file, a_source(content(3_000_000)), tags={})

        assert stored_file.written
        assert stored_file.content is None
        assert system.filed[file.name].sha256 == stored_file.sha256


async def test_a_system_that_serves_no_reads_is_reported_when_a_read_is_needed() -> None:
    async with document_system(serves_downloads=False) as system:
        backend = await open_backend("dms", an_http_spec(system.url), login_of(system))

        with pytest.raises(ArchiveRefused, match="does not return the stored files") as trouble:
            await store(backend, a_layout().files[0], a_source(content(1000)), tags={})

    assert trouble.value.reason == "ArchiveLacksFeature"


async def test_checksum_and_signatures_do_not_go_together(system: DocumentSystem) -> None:
    with pytest.raises(SettingsInvalid, match=r"spec\.signatures to Ignore"):
        await open_backend("dms", an_http_spec(system.url, verify=VerifyMode.CHECKSUM), login_of(system))


async def test_a_signing_secret_that_is_none_is_refused(system: DocumentSystem) -> None:
    with pytest.raises(SettingsInvalid, match="base64 behind `whsec_`"):
        await open_backend("dms", an_http_spec(system.url), {"signingSecret": b"whsec_%%%"})
