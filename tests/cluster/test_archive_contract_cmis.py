"""
The contract of archives, for a folder of a real CMIS repository, and what is particular to CMIS.
"""

import secrets
from collections.abc import AsyncIterator

import pytest

from counterfoil.archives import open_backend
from counterfoil.archives.backend import ArchiveBackend
from counterfoil.archives.errors import ArchiveRefused, NameTaken, SettingsInvalid
from counterfoil.resources.archive import ArchiveSpec, Cmis, CredentialsReference, TagRule
from counterfoil.testing.archive_contract import (
    ArchiveFixture,
    ListingContract,
    RefusalContract,
    WireContract,
)
from counterfoil.testing.archive_contract.fixture import a_layout
from sandbox.servers.cmis_opencmis import PASSWORD, REPOSITORY, USERNAME, CmisServer, cmis_server
from sandbox.servers.plain_http import plain_http
from tests.support.fakes.archives import once
from tests.support.scenes.archive_fixtures import refusing

LOGIN = {"username": USERNAME.encode(), "password": PASSWORD.encode()}


@pytest.fixture(scope="module")
async def server() -> AsyncIterator[CmisServer]:
    async with cmis_server() as running:
        yield running


@pytest.fixture
async def root(server: CmisServer) -> str:
    """The folder on the server that is the archive of one test."""
    name = secrets.token_hex(4)
    await server.make_folder(name)
    return name


@pytest.fixture
async def backend(server: CmisServer, root: str) -> AsyncIterator[ArchiveBackend]:
    backend = await open_backend("dms", a_spec(server.url, root=root), LOGIN)
    yield backend
    await backend.close()


class TestCmis(ListingContract, WireContract, RefusalContract):
    # The server holds every document in memory, several times while it sends it.
    LARGEST = 64 * 1024 * 1024

    @pytest.fixture
    async def ground(self, server: CmisServer, root: str) -> ArchiveFixture:
        # Its password is a word that messages may have.
        return ArchiveFixture(
            a_spec(server.url, root=root),
            LOGIN,
            address=("127.0.0.1", server.port),
            reroute=lambda port: a_spec(f"http://127.0.0.1:{port}/cmis/browser", root=root),
        )

    @pytest.fixture
    async def stranger(self, server: CmisServer) -> AsyncIterator[ArchiveBackend]:
        # The server lets everybody in.
        async with refusing(f"http://127.0.0.1:{server.port}", {"GET"}, 401) as url:
            yield await open_backend("dms", a_spec(f"{url}/cmis/browser"), LOGIN)

    @pytest.fixture
    async def rootless(self, server: CmisServer) -> ArchiveBackend:
        return await open_backend("dms", a_spec(server.url, root="no/where"), LOGIN)

    @pytest.fixture
    async def full(self, server: CmisServer, root: str) -> AsyncIterator[ArchiveBackend]:
        told = b'{"exception": "storage", "message": "disk full"}'
        async with refusing(f"http://127.0.0.1:{server.port}", {"POST"}, 500, told) as url:
            yield await open_backend("dms", a_spec(f"{url}/cmis/browser", root=root), LOGIN)

    @pytest.fixture
    async def forbidden(self, server: CmisServer, root: str) -> AsyncIterator[ArchiveBackend]:
        told = b'{"exception": "permissionDenied", "message": "no"}'
        async with refusing(f"http://127.0.0.1:{server.port}", {"POST"}, 403, told) as url:
            yield await open_backend("dms", a_spec(f"{url}/cmis/browser", root=root), LOGIN)

    async def test_two_controllers_at_once_leave_what_one_leaves(self, ground: ArchiveFixture) -> None:
        """This server checks the name of a new folder and creates it in two steps, so two controllers at once
        can make two folders of one name. They exist beforehand here."""
        backend, file = await ground.backend(), a_layout(ground.spec, ["a.pdf"]).files[0]
        await backend.put(file.name, once(b"x"), tags={}, content_type=None)
        await backend.discard(file.name)
        await backend.close()

        await super().test_two_controllers_at_once_leave_what_one_leaves(ground)


async def test_tags_become_the_properties_that_are_named(server: CmisServer, root: str) -> None:
    spec = a_spec(server.url, root=root, document_type="ComplexType", properties={"StringProp": "customer"})
    backend = await open_backend("dms", spec, LOGIN)

    await backend.put(
        "a/b.pdf", once(b"x"), tags={"customer": "Müller & Söhne"}, content_type="application/pdf"
    )

    async with plain_http(auth=(USERNAME, PASSWORD)) as http:
        url = f"{server.url}/{REPOSITORY}/root/{root}/a/b.pdf?cmisselector=object&succinct=true"
        properties = (await http.get(url)).json()["succinctProperties"]
    assert properties["StringProp"] == "Müller & Söhne"
    assert properties["cmis:objectTypeId"] == "ComplexType"
    assert properties["cmis:contentStreamMimeType"] == "application/pdf"


async def test_a_folder_is_listed_whose_documents_have_much_to_say(
    server: CmisServer, root: str, backend: ArchiveBackend
) -> None:
    about = {"cmis:objectTypeId": "ComplexType", "StringProp": "ü" * 1024}
    url = f"{server.url}/{REPOSITORY}/root/{root}"
    async with plain_http(auth=(USERNAME, PASSWORD)) as http:
        folder = fields("createFolder", {"cmis:name": "a", "cmis:objectTypeId": "cmis:folder"})
        (await http.post(url, data=folder)).raise_for_status()
        for number in range(400):
            made = fields("createDocument", {"cmis:name": f"{number:03}.pdf", **about})
            (await http.post(f"{url}/a", data=made)).raise_for_status()

    assert [entry.name for entry in await backend.entries("a")] == [
        f"a/{number:03}.pdf" for number in range(400)
    ]


def fields(action: str, properties: dict[str, str]) -> dict[str, str]:
    """A request of the browser binding as a form."""
    form = {"cmisaction": action, "_charset_": "utf-8"}
    for number, (name, value) in enumerate(properties.items()):
        form |= {f"propertyId[{number}]": name, f"propertyValue[{number}]": value}
    return form


async def test_a_folder_under_the_name_of_a_file_is_not_replaced(backend: ArchiveBackend) -> None:
    await backend.put("a/contract.pdf/theirs.txt", once(b"theirs"), tags={}, content_type=None)

    with pytest.raises(NameTaken, match=r"contract\.pdf is a folder"):
        await backend.put("a/contract.pdf", once(b"ours"), tags={}, content_type=None)
    with pytest.raises(NameTaken, match=r"contract\.pdf is a folder"):
        await anext(backend.read("a/contract.pdf"))

    assert [entry.name for entry in await backend.entries("a")] == ["a/contract.pdf/theirs.txt"]


async def test_a_document_where_a_folder_is_needed_is_reported(backend: ArchiveBackend) -> None:
    await backend.put("a", once(b"theirs"), tags={}, content_type=None)

    with pytest.raises(NameTaken, match="/a is a document where Counterfoil needs a folder"):
        await backend.put("a/b/contract.pdf", once(b"ours"), tags={}, content_type=None)


async def test_an_address_without_a_browser_binding_is_reported(server: CmisServer) -> None:
    backend = await open_backend("dms", a_spec(f"http://127.0.0.1:{server.port}/cmis/nothing"), LOGIN)
    with pytest.raises(ArchiveRefused) as trouble:
        await backend.probe()
    assert trouble.value.reason == "ArchiveNotCmis"


async def test_a_repository_that_is_not_there_is_reported_with_those_that_are(server: CmisServer) -> None:
    backend = await open_backend("dms", a_spec(server.url, repository="B2"), LOGIN)
    with pytest.raises(ArchiveRefused, match=r"no repository `B2`\. There are: A1\."):
        await backend.probe()


async def test_a_type_that_is_not_there_is_reported(server: CmisServer) -> None:
    backend = await open_backend("dms", a_spec(server.url, document_type="acme:contract"), LOGIN)
    with pytest.raises(ArchiveRefused, match="no document type `acme:contract`"):
        await backend.probe()


async def test_properties_of_tags_that_are_not_there_are_refused(server: CmisServer) -> None:
    spec = a_spec(server.url, properties={"acme:no": "contractNo"})
    with pytest.raises(SettingsInvalid, match="contractNo"):
        await open_backend("dms", spec, LOGIN)


def a_spec(
    url: str,
    *,
    repository: str = REPOSITORY,
    root: str = "",
    document_type: str = "cmis:document",
    properties: dict[str, str] | None = None,
) -> ArchiveSpec:
    return ArchiveSpec(
        cmis=Cmis(
            url=url,
            repository_id=repository,
            root_folder=f"/{root}",
            document_type=document_type,
            properties=properties or {},
            credentials_secret_ref=CredentialsReference(name="cmis"),
        ),
        tags={"customer": TagRule(value="x")},
    )
