"""``python -m counterfoil.cli.verify s3://…`` on a real S3 server, with keys from the environment."""

import asyncio
import io
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime

import pytest

from counterfoil.archives import open_backend
from counterfoil.archives.filing import conclude, store
from counterfoil.cli.verify import INTACT, UNCHECKED, WRONG, main
from counterfoil.resources.archive import S3, ArchiveSpec, CredentialsReference
from sandbox.servers.s3_rclone import S3Server, s3_server
from tests.support.fakes.archives import a_filed_document, a_layout, a_source, an_envelope, files_named
from tests.support.signed_pdfs import signed, unsigned


@pytest.fixture(scope="module")
async def server() -> AsyncIterator[S3Server]:
    async with s3_server(buckets=("contracts",)) as running:
        yield running


@pytest.fixture(scope="module")
async def folder(server: S3Server) -> str:
    """An archived envelope; its folder within the bucket."""
    spec = ArchiveSpec(
        s3=S3(
            bucket="contracts",
            region="eu-central-1",
            endpoint=server.url,
            force_path_style=True,
            credentials_secret_ref=CredentialsReference(name="key"),
        )
    )
    keys = {"accessKeyId": server.access_key.encode(), "secretAccessKey": server.secret_key.encode()}
    backend, layout = (
        await open_backend("dms", spec, keys),
        a_layout(*files_named("one.pdf", "two.pdf"), spec=spec),
    )
    documents = [
        a_filed_document(each.facts, await store(backend, each, a_source(data), tags={}))
        for each, data in zip(layout.files, (signed(), unsigned()), strict=True)
    ]
    await conclude(
        backend,
        layout,
        an_envelope(),
        documents,
        archived_at=datetime(2026, 3, 1, tzinfo=UTC),
        extra={},
        signer=None,
    )
    await backend.close()
    return layout.folder


async def verified(location: str, environ: Mapping[str, str]) -> tuple[int, str]:
    out = io.StringIO()
    arguments = [location, "--path-style", "--region", "eu-central-1"]
    return await asyncio.to_thread(main, arguments, environ, out), out.getvalue()


def keys_of(server: S3Server, *, secret: str | None = None) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL": server.url,
        "AWS_ACCESS_KEY_ID": server.access_key,
        "AWS_SECRET_ACCESS_KEY": secret or server.secret_key,
    }


async def test_an_envelope_in_a_bucket_proves_itself(server: S3Server, folder: str) -> None:
    for location in (f"s3://contracts/{folder}", f"s3://contracts/{folder}/counterfoil.json"):
        status, printed = await verified(location, keys_of(server))
        assert status == INTACT, printed


async def test_a_wrong_key_says_nothing_about_the_envelope(
    server: S3Server, folder: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status, _ = await verified(f"s3://contracts/{folder}", keys_of(server, secret="wrong"))
    assert status == UNCHECKED
    assert "does not accept the key" in capsys.readouterr().err


async def test_an_empty_folder_is_not_checked(server: S3Server, folder: str) -> None:
    assert (await verified(f"s3://contracts/{folder}/nowhere", keys_of(server)))[0] == UNCHECKED


async def test_what_was_changed_in_the_bucket_is_found(server: S3Server, folder: str) -> None:
    changed = next((server.folder / "contracts" / folder).rglob("*.pdf"))
    changed.write_bytes(changed.read_bytes()[:-1])
    status, printed = await verified(f"s3://contracts/{folder}", keys_of(server))
    assert status == WRONG, printed
