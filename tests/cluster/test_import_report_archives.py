"""The report of an Import on a real server of each kind, with a kill between its files and its status."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from controller.resync.import_runner import FAILURE_SECONDS
from counterfoil.archives import open_backend
from counterfoil.archives.backend import ArchiveBackend
from counterfoil.archives.import_report.content import csv_name, read_part
from counterfoil.archives.import_report.storage import check_part
from counterfoil.archives.verify import name_at
from counterfoil.resources import Phase
from counterfoil.resources.archive import S3, ArchiveSpec, CredentialsReference, ObjectLock
from counterfoil.testing.archive_contract.fixture import read
from sandbox.demo.archives import OPENERS, demo_archive
from sandbox.servers.s3_versity import REGION, VersityServer, versity_server
from tests.support.builders import ENVELOPE
from tests.support.fakes.archives import once
from tests.support.scenes.imports import ImportScene
from tests.support.signing_keys import a_signer

LOCKED = "s3 with Object Lock"


@asynccontextmanager
async def an_archive(kind: str, folder: Path) -> AsyncIterator[tuple[ArchiveSpec, dict[str, bytes]]]:
    """Run a server; yield the spec of an empty archive on it, and the content of its Secret."""
    if kind != LOCKED:
        async with demo_archive(kind, folder) as server:
            # The repository's document type has a property of this tag.
            tags = {"customer": {"value": "acme"}}
            spec = msgspec.convert({**server.spec, "tags": tags}, ArchiveSpec)
            yield spec, {name: value.encode() for name, value in server.secret.items()}
        return
    async with versity_server() as server:
        bucket = f"b{secrets.token_hex(6)}"
        await server.make_bucket(bucket, locking=True)
        yield (
            a_locking_spec(server, bucket),
            {
                "accessKeyId": server.access_key.encode(),
                "secretAccessKey": server.secret_key.encode(),
            },
        )


def a_locking_spec(server: VersityServer, bucket: str) -> ArchiveSpec:
    return ArchiveSpec(
        s3=S3(
            bucket=bucket,
            region=REGION,
            endpoint=server.url,
            force_path_style=True,
            object_lock=ObjectLock(mode="Compliance", retain_days=30),
            credentials_secret_ref=CredentialsReference(name="bucket-credentials"),
        )
    )


async def is_killed(scene: ImportScene) -> None:
    """End the process after it wrote into the archive, before it writes the status."""

    def kill() -> None:
        raise asyncio.CancelledError

    scene.kube.just_before("patch_status", kill)
    with pytest.raises(asyncio.CancelledError):
        await scene.advance()


@pytest.mark.parametrize("kind", [*OPENERS, LOCKED])
async def test_a_report_is_written_once_and_read_again(kind: str, tmp_path: Path) -> None:
    async with an_archive(kind, tmp_path) as (spec, credentials):
        backend = await open_backend("dms", spec, credentials)
        try:
            await report_is_written_once(backend)
        finally:
            await backend.close()


async def searched(backend: ArchiveBackend) -> ImportScene:
    """An Import whose one window was searched, and whose events have ended."""
    scene = ImportScene()
    scene.opened, scene.signer = backend, a_signer()
    scene.runner = scene.new_runner()
    scene.finds("anna", ENVELOPE, "no-guid")
    await scene.advance()
    scene.finish_all(Phase.FAILED)
    return scene


async def report_is_written_once(backend: ArchiveBackend) -> None:
    scene = await searched(backend)
    await is_killed(scene)
    scene.runner = scene.new_runner()
    status = await scene.advance()
    last = status.report_parts
    assert last is not None, status.conditions
    assert (status.completion_time is not None, last.number) == (True, 1)
    name = name_at(backend, last.location)
    assert name is not None

    part = await check_part(backend, name, last.sha256, scene.signer.public if scene.signer else None)
    assert (part.faults, part.is_seal_checked) == ((), True)
    rows = read_part(part.lines)[1]
    assert {(row.envelope_id, row.outcome) for row in rows} == {(ENVELOPE, "Failed"), ("no-guid", "Refused")}

    # Another program replaces a file: the report waits, and that file stays.
    await backend.put(csv_name(name), once(b"theirs"), tags={}, content_type="text/csv")
    twin = await searched(backend)
    await twin.advance()
    assert twin.condition("Ready") == ("False", "ImportReportRefused")
    assert await read(backend, csv_name(name)) == b"theirs"
    twin.clock.advance(seconds=FAILURE_SECONDS)
    assert (await twin.advance()).report is None
