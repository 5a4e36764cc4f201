"""
Archives of kind ``cmis`` at repositories that do and do not keep names unique in a folder.
"""

import asyncio

import pytest

from counterfoil.archives import open_backend
from counterfoil.archives.backend import ArchiveBackend
from counterfoil.archives.errors import ArchiveRefused
from counterfoil.archives.filing import store
from counterfoil.resources.archive import ArchiveSpec, Cmis
from tests.support.fakes.archives import a_layout, a_source, once
from tests.support.servers.cmis_repository import REPOSITORY, CmisRepositoryServer, Names, cmis_repository


async def opened(repository: CmisRepositoryServer) -> ArchiveBackend:
    spec = ArchiveSpec(cmis=Cmis(url=repository.url, repository_id=REPOSITORY))
    return await open_backend("dms", spec, {})


async def put(backend: ArchiveBackend, data: bytes) -> None:
    await backend.put("a/b.pdf", once(data), tags={}, content_type=None)


async def test_a_probe_succeeds_where_names_are_unique_and_leaves_nothing() -> None:
    async with cmis_repository(Names.UNIQUE) as repository:
        backend = await opened(repository)
        await backend.probe()
        await backend.close()

        assert repository.objects() == []


@pytest.mark.parametrize("names", [Names.EQUAL, Names.NUMBERED])
async def test_a_repository_that_takes_two_documents_of_one_name_is_refused(names: Names) -> None:
    async with cmis_repository(names) as repository:
        backend = await opened(repository)
        with pytest.raises(ArchiveRefused) as trouble:
            await backend.probe()
        await backend.close()

        assert repository.objects() == []
    assert trouble.value.reason == "ArchiveLacksFeature"
    assert "a second document of the same name" in trouble.value.message


async def test_a_document_that_is_replaced_is_there_once() -> None:
    """The probe refuses such a repository, but a folder may have other rules than the root."""
    async with cmis_repository(Names.EQUAL) as repository:
        backend = await opened(repository)
        for data in (b"old", b"new"):
            await put(backend, data)
        await backend.close()

        assert [data for name, data in repository.objects("a") if name == "b.pdf"] == [b"new"]


@pytest.mark.parametrize("names", list(Names))
async def test_a_document_that_is_stored_again_replaces_the_old_one(names: Names) -> None:
    async with cmis_repository(names) as repository:
        backend, file = await opened(repository), a_layout().files[0]
        for data in (b"old", b"new"):
            await store(backend, file, a_source(data), tags={})
        await backend.close()

        above, _, name = file.name.rpartition("/")
        assert repository.objects(above) == [(name, b"new")]


@pytest.mark.parametrize("names", list(Names))
async def test_the_first_documents_of_a_folder_make_one_folder(names: Names) -> None:
    """Some repositories check the name of a new folder and create it in two steps."""
    async with cmis_repository(names) as repository:
        backend = await opened(repository)
        repository.folder_seconds = 0.2
        await asyncio.gather(
            *(backend.put(f"a/{number}/b.pdf", once(b"x"), tags={}, content_type=None) for number in range(4))
        )
        await backend.close()

        assert repository.objects() == [("a", None)]
        assert sorted(repository.objects("a")) == [(str(number), None) for number in range(4)]


@pytest.mark.parametrize(
    "answer",
    [{}, {"objects": []}, {"hasMoreItems": False}, {"objects": [], "hasMoreItems": True}],
    ids=["nothing", "no end", "no objects", "an empty page before the end"],
)
async def test_a_list_that_does_not_say_that_it_is_complete_is_not_believed(
    answer: dict[str, object],
) -> None:
    async with cmis_repository(Names.UNIQUE) as repository:
        backend = await opened(repository)
        await put(backend, b"theirs")
        repository.children_answer = answer
        with pytest.raises(ArchiveRefused) as trouble:
            await backend.entries("a")
        await backend.close()

    assert trouble.value.reason == "ArchiveAnswerUnreadable"
