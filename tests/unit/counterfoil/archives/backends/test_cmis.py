"""
Archives of kind ``cmis`` at repositories that do and do not keep names unique in a folder.
"""

import pytest

from counterfoil.archives import open_backend
from counterfoil.archives.backend import ArchiveBackend
from counterfoil.archives.errors import ArchiveRefused
from counterfoil.archives.filing import store
from counterfoil.resources.archive import ArchiveSpec, Cmis
from tests.support.fakes.archives import a_plan, a_source, once
from tests.support.servers.cmis_repository import REPOSITORY, CmisRepositoryServer, cmis_repository

RED_8 = pytest.mark.xfail(strict=True, reason="a rename that succeeds counts as a name that was free")


async def opened(repository: CmisRepositoryServer) -> ArchiveBackend:
    spec = ArchiveSpec(cmis=Cmis(url=repository.url, repository_id=REPOSITORY))
    return await open_backend("dms", spec, {})


async def put(backend: ArchiveBackend, data: bytes) -> None:
    await backend.put("a/b.pdf", once(data), tags={}, content_type=None)


async def test_a_probe_succeeds_where_names_are_unique_and_leaves_nothing() -> None:
    async with cmis_repository(unique=True) as repository:
        backend = await opened(repository)
        await backend.probe()
        await backend.close()

        assert repository.names() == []


@RED_8
async def test_a_repository_that_takes_two_documents_of_one_name_is_refused() -> None:
    async with cmis_repository(unique=False) as repository:
        backend = await opened(repository)
        with pytest.raises(ArchiveRefused) as trouble:
            await backend.probe()
        await backend.close()

        assert repository.names() == []
    assert trouble.value.reason == "ArchiveLacksFeature"
    assert "two documents" in trouble.value.message


@RED_8
async def test_a_document_that_is_replaced_is_there_once() -> None:
    """The probe refuses such a repository, but a folder may have other rules than the root."""
    async with cmis_repository(unique=False) as repository:
        backend = await opened(repository)
        for data in (b"old", b"new"):
            await put(backend, data)
        await backend.close()

        assert [data for name, data in repository.names("a") if name == "b.pdf"] == [b"new"]


@pytest.mark.parametrize(
    "unique", [pytest.param(True, id="unique"), pytest.param(False, id="not unique", marks=RED_8)]
)
async def test_a_document_that_is_stored_again_replaces_the_old_one(unique: bool) -> None:
    async with cmis_repository(unique=unique) as repository:
        backend, file = await opened(repository), a_plan().files[0]
        for data in (b"old", b"new"):
            await store(backend, file, a_source(data), tags={})
        await backend.close()

        above, _, name = file.name.rpartition("/")
        assert repository.names(above) == [(name, b"new")]
