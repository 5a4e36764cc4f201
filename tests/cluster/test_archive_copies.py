"""
A copy from each kind of archive into each other one, on real servers: whole, once, and with its own proof.

``gcs`` has no server to run here, so an S3 server that checks no signatures stands in for it, as in the
contract of that kind.
"""

import json
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import msgspec
import pytest

from counterfoil.archives.backend import ArchiveBackend
from counterfoil.archives.backends.gcs import open_gcs
from counterfoil.archives.errors import ArchiveUnavailable
from counterfoil.archives.proof import documents_digest
from counterfoil.archives.verify import verify_copy, verify_folder
from counterfoil.resources.archive import ArchiveSpec
from counterfoil.testing.archive_contract.fixture import open_on_loopback
from sandbox.demo.archives import OPENERS, demo_archive
from sandbox.servers.plain_http import plain_http
from sandbox.servers.rclone import rclone_server
from tests.support.fakes.archives import an_envelope
from tests.support.scenes.copies import NAMES, CopyScene, Killed
from tests.support.signing_keys import a_signer, rsa_private_pem

KINDS = (*OPENERS, "gcs")
PAIRS = [(one, other) for one in KINDS for other in KINDS]
GCS_KEY = {
    "serviceAccountJson": json.dumps(
        {"client_email": "a@acme.example", "private_key_id": "1", "private_key": rsa_private_pem()}
    ).encode()
}

Opened = tuple[ArchiveSpec, ArchiveBackend]


@pytest.fixture(scope="module")
async def archives(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[dict[str, Opened]]:
    """One archive of each kind."""
    folder, found = Path(tmp_path_factory.mktemp("archives")), dict[str, Opened]()
    async with AsyncExitStack() as stack:
        for kind in OPENERS:
            running = await stack.enter_async_context(demo_archive(kind, folder))
            # The demo files a tag as a property. These envelopes have none.
            settings = {name: each for name, each in running.spec[kind].items() if name != "properties"}
            spec = msgspec.convert({kind: settings}, ArchiveSpec)
            secret = {name: value.encode() for name, value in running.secret.items()}
            found[kind] = spec, await open_on_loopback(spec, secret)
        server, bucket = await stack.enter_async_context(rclone_server("s3")), "copies"
        address = f"http://127.0.0.1:{server.port}"
        async with plain_http() as http:
            (await http.put(f"{address}/{bucket}")).raise_for_status()
        spec = msgspec.convert(
            {"gcs": {"bucket": bucket, "credentialsSecretRef": {"name": "gcs"}}}, ArchiveSpec
        )
        found["gcs"] = spec, await open_gcs("dms", spec, GCS_KEY, address=address)
        yield found
        for _, backend in found.values():
            await backend.close()


@pytest.fixture
async def scene(archives: dict[str, Opened], request: pytest.FixtureRequest) -> CopyScene:
    """An envelope in the first archive of the pair, at a place that no other test has."""
    (one, source), (other, target) = (archives[kind] for kind in request.param)
    place = secrets.token_hex(4)

    def at(spec: ArchiveSpec, name: str) -> ArchiveSpec:
        path = f"{name}-{place}/{{{{envelope.id}}}}/{{{{file.name}}}}"
        return msgspec.structs.replace(spec, path=path)

    scene = CopyScene(
        signer=a_signer(),
        source=source,
        target=target,
        source_spec=at(one, "original"),
        target_spec=at(other, "copy"),
    )
    await scene.archive()
    return scene


def dies_after(steps: int) -> Callable[[], None]:
    left = steps

    def step() -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise Killed

    return step


def names_of(pair: tuple[str, str]) -> str:
    return "-to-".join(pair)


async def assert_whole(scene: CopyScene, manifest: str) -> None:
    folder = f"{scene.target_spec.path.partition('/')[0]}/{an_envelope().envelope_id}"
    assert manifest == scene.target.location(f"{folder}/counterfoil.json")
    assert await verify_folder(scene.target, folder) == []
    if scene.target.lists_files:
        listed = [each.name.rpartition("/")[2] for each in await scene.target.entries(folder)]
        own = ["counterfoil.json", "counterfoil.sha256", "counterfoil.json.sig"]
        assert sorted(listed) == sorted([*NAMES, *own])
    key = a_signer().public
    checks: Any = verify_copy(scene.target, manifest, scene.documents, an_envelope(), key=key)
    assert [each async for each in checks] == []
    assert documents_digest(scene.documents) is not None


@pytest.mark.parametrize("scene", PAIRS, indirect=True, ids=names_of)
async def test_a_copy_is_whole_and_a_second_run_changes_nothing(scene: CopyScene) -> None:
    manifest = await scene.copy()
    await assert_whole(scene, manifest)
    assert await scene.copy() == manifest
    await assert_whole(scene, manifest)


@pytest.mark.parametrize("scene", PAIRS, indirect=True, ids=names_of)
async def test_a_copy_that_was_killed_in_its_middle_is_completed_once(scene: CopyScene) -> None:
    for steps in (8, 14):
        with pytest.raises((Killed, ArchiveUnavailable)):
            await scene.copy(step=dies_after(steps))
    try:
        manifest = await scene.copy()
    except ArchiveUnavailable:
        # A connection of the killed run is still in the pool of this process. The event is tried again.
        manifest = await scene.copy()
    await assert_whole(scene, manifest)
