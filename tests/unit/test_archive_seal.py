"""
The seal of the manifest: who has the public key can tell that nobody else wrote it.
"""

import asyncio
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from counterfoil.archives.filing import claim, conclude, deposit
from counterfoil.archives.manifest import Manifest
from counterfoil.archives.plan import Plan
from counterfoil.archives.seal import PublicKey, Sealer, SealKeyInvalid
from counterfoil.archives.trouble import Occupied
from tests.unit.archive_parts import ShelfDoor, a_filed_document, a_plan, a_source, an_envelope, content
from tests.unit.seal_parts import a_sealer, key_file, private_pem, public_pem

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


async def filed(door: ShelfDoor, plan: Plan, sealer: Sealer | None) -> None:
    """File everything of the plan, as a run does, and note which names were written."""
    door.puts.clear()
    documents = []
    for planned in plan.files:
        deposited = await deposit(door, planned, a_source(content()), tags={})
        documents.append(a_filed_document(planned.facts, deposited))
    await conclude(door, plan, an_envelope(), documents, archived_at=NOON, extra={}, sealer=sealer)


async def test_the_seal_comes_before_the_manifest_which_stays_the_last() -> None:
    door, plan = ShelfDoor(), a_plan()
    await filed(door, plan, a_sealer())
    assert door.puts[-3:] == [plan.hashes_name, plan.seal_name, plan.manifest_name]


async def test_the_seal_fits_the_manifest_and_the_manifest_names_the_key() -> None:
    door, plan, sealer = ShelfDoor(), a_plan(), a_sealer()
    await filed(door, plan, sealer)
    manifest = door.shelf[plan.manifest_name]
    assert sealer.public.fits(door.shelf[plan.seal_name], manifest)
    assert Manifest.decode(manifest).sealed_by == sealer.public.id
    assert not a_sealer(2).public.fits(door.shelf[plan.seal_name], manifest)
    assert not sealer.public.fits(door.shelf[plan.seal_name], manifest + b" ")


async def test_without_a_key_there_is_no_seal() -> None:
    door, plan = ShelfDoor(), a_plan()
    await filed(door, plan, None)
    assert plan.seal_name not in door.shelf
    assert Manifest.decode(door.shelf[plan.manifest_name]).sealed_by is None


async def test_a_run_that_is_repeated_leaves_a_sealed_manifest_as_it_is() -> None:
    door, plan = ShelfDoor(), a_plan()
    await filed(door, plan, a_sealer())
    await filed(door, plan, a_sealer())
    assert door.puts == []


@pytest.mark.parametrize("seal", [None, b"", b"x" * 64])
async def test_a_seal_that_is_missing_or_does_not_fit_is_made_again(seal: bytes | None) -> None:
    door, plan, sealer = ShelfDoor(), a_plan(), a_sealer()
    await filed(door, plan, sealer)
    del door.shelf[plan.seal_name]
    if seal is not None:
        door.shelf[plan.seal_name] = seal
    await filed(door, plan, sealer)
    assert sealer.public.fits(door.shelf[plan.seal_name], door.shelf[plan.manifest_name])


async def test_another_key_seals_anew() -> None:
    door, plan = ShelfDoor(), a_plan()
    await filed(door, plan, a_sealer(1))
    await filed(door, plan, a_sealer(2))
    assert a_sealer(2).public.fits(door.shelf[plan.seal_name], door.shelf[plan.manifest_name])


async def test_a_manifest_that_is_written_anew_without_a_key_has_no_old_seal_beside_it() -> None:
    door, plan = ShelfDoor(), a_plan()
    await filed(door, plan, a_sealer())
    await filed(door, plan, None)
    assert plan.seal_name not in door.shelf


async def test_a_strangers_file_in_the_place_of_the_seal_is_not_touched() -> None:
    door, plan = ShelfDoor(), a_plan()
    door.shelf[plan.seal_name] = b"a stranger's"
    with pytest.raises(Occupied):
        await claim(door, plan)


async def test_openssl_alone_can_check_the_seal(tmp_path: Path) -> None:
    door, plan = ShelfDoor(), a_plan()
    await filed(door, plan, a_sealer())
    (tmp_path / "public.pem").write_bytes(public_pem())
    (tmp_path / "counterfoil.json").write_bytes(door.shelf[plan.manifest_name])
    (tmp_path / "counterfoil.json.sig").write_bytes(door.shelf[plan.seal_name])
    command = "openssl pkeyutl -verify -pubin -inkey public.pem -rawin -in counterfoil.json -sigfile counterfoil.json.sig"
    process = await asyncio.create_subprocess_exec(*command.split(), cwd=tmp_path)
    assert await process.wait() == 0


def test_keys_are_read_from_pem_files(tmp_path: Path) -> None:
    sealer = Sealer.load(key_file(tmp_path, private_pem()))
    public = PublicKey.load(key_file(tmp_path, public_pem()))
    assert public.fits(sealer.seal(b"content"), b"content")
    assert public.id == sealer.public.id


def an_elliptic_key() -> bytes:
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


@pytest.mark.parametrize("key", [b"", b"secret", public_pem(), an_elliptic_key()])
def test_what_is_no_key_for_sealing_is_refused_without_showing_it(tmp_path: Path, key: bytes) -> None:
    with pytest.raises(SealKeyInvalid) as invalid:
        Sealer.load(key_file(tmp_path, key))
    assert "secret" not in str(invalid.value)
    assert str(tmp_path) in str(invalid.value)


def test_a_private_key_is_no_public_one(tmp_path: Path) -> None:
    with pytest.raises(SealKeyInvalid):
        PublicKey.load(key_file(tmp_path, private_pem()))


def test_a_controller_with_a_key_that_is_none_does_not_start(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "controller", "--manifest-key", str(key_file(tmp_path, b"secret"))],
        env={},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 1
    assert "the controller can't start" in ended.stderr + ended.stdout
    assert "secret" not in ended.stderr + ended.stdout


def test_a_key_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SealKeyInvalid, match=r"nothing\.pem can't be read: No such file"):
        Sealer.load(tmp_path / "nothing.pem")
