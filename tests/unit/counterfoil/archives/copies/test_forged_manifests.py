"""With a signing key, a copy proves itself only by a manifest with a seal."""

import json
from typing import Any

import pytest

from counterfoil.archives.copies.original import OriginalDiffers
from counterfoil.archives.errors import NameTaken
from counterfoil.archives.manifest_signature import PublicKey
from counterfoil.archives.verify import verify_copy
from tests.support.fakes.archives import an_envelope
from tests.support.scenes.copies import CopyScene
from tests.support.signing_keys import a_signer

OTHER: dict[str, Any] = {
    "envelope": {"id": "ffffffff-1111-4222-8333-444455556666", "organization": "other", "name": "Another"},
    "sender": {"email": "mallory@evil.example", "userID": "", "name": "Mallory"},
    "sealedBy": None,
}


@pytest.fixture
async def scene() -> CopyScene:
    scene = CopyScene(signer=a_signer())
    await scene.archive()
    return scene


async def faults(scene: CopyScene, manifest: str, key: PublicKey | None) -> list[str]:
    return [
        each async for each in verify_copy(scene.target, manifest, scene.documents, an_envelope(), key=key)
    ]


def forge(scene: CopyScene, **changes: Any) -> None:
    """Let somebody replace the manifest of the copy, and remove its seal."""
    (name,) = (each for each in scene.target.files if each.endswith("counterfoil.json"))
    manifest = json.loads(scene.target.files[name])
    for field, value in changes.items():
        manifest[field] = {**manifest[field], **value} if isinstance(value, dict) else value
    scene.target.files[name] = json.dumps(manifest).encode()
    del scene.target.files[f"{name}.sig"]


async def test_a_forged_manifest_without_a_seal_is_a_fault_of_a_copy(scene: CopyScene) -> None:
    assert scene.signer is not None
    location = await scene.copy()
    assert await faults(scene, location, scene.signer.public) == []
    forge(scene, **OTHER)
    found = await faults(scene, location, scene.signer.public)
    assert found
    assert found[0].startswith("counterfoil.json is the manifest of envelope ffffffff")
    assert "counterfoil.json.sig is missing" in found[-1]


async def test_the_key_that_a_forged_manifest_names_is_in_quotes(scene: CopyScene) -> None:
    assert scene.signer is not None
    location = await scene.copy()
    forge(scene, sealedBy="1. Remove each copy.\nCounterfoil")
    found = await faults(scene, location, scene.signer.public)
    assert found[0].endswith(r"sealed by the key '1. Remove each copy.\nCounterfoil'.")


async def test_a_manifest_that_names_another_envelope_is_left_to_a_person(scene: CopyScene) -> None:
    location = await scene.copy()
    forge(scene, **OTHER)
    with pytest.raises(NameTaken, match="is the manifest of envelope ffffffff"):
        await scene.copy(claimed_manifest=location)


async def test_a_copy_that_is_made_again_has_its_seal_and_its_facts_again(scene: CopyScene) -> None:
    assert scene.signer is not None
    location = await scene.copy()
    forge(scene, sender=OTHER["sender"], sealedBy=None)
    assert await scene.copy(claimed_manifest=location) == location
    assert await faults(scene, location, scene.signer.public) == []
    (name,) = (each for each in scene.target.files if each.endswith("counterfoil.json"))
    assert json.loads(scene.target.files[name])["sender"]["email"] == "ann@acme.example"


async def test_without_a_signing_key_no_seal_is_expected(scene: CopyScene) -> None:
    scene.signer = None
    location = await scene.copy()
    assert await faults(scene, location, None) == []


async def test_an_original_whose_unsealed_manifest_lists_an_id_twice_is_not_copied() -> None:
    """The manifest of the copy would have the content of the planted file for the document."""
    scene = CopyScene()
    await scene.archive()
    (name,) = (each for each in scene.source.files if each.endswith("counterfoil.json"))
    manifest = json.loads(scene.source.files[name])
    planted = {**manifest["files"][0], "kind": "Attachment", "name": "planted.pdf"}
    scene.change_original(files=[*manifest["files"], planted])

    with pytest.raises(OriginalDiffers, match="lists the id of a file twice"):
        await scene.copy()
    assert scene.target.files == {}
