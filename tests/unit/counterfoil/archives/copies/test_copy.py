"""A copy has each file of its original once, and proves itself by its own manifest."""

import json
from collections.abc import AsyncGenerator
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

import pytest

from counterfoil.archives.copies.copy import CopyIsOriginal, SameAddress
from counterfoil.archives.copies.original import (
    CopyTagMissing,
    OriginalChanged,
    OriginalDiffers,
    OriginalUnread,
    read_original,
)
from counterfoil.archives.errors import (
    ArchiveRefused,
    ArchiveUnavailable,
    NameTaken,
    OtherSource,
    VerificationFailed,
)
from counterfoil.archives.layout import EnvelopeFacts
from counterfoil.archives.manifest import Manifest
from counterfoil.archives.verify import verify_folder
from counterfoil.resources.archive import TagRule
from tests.support.fakes.archives import a_spec, an_envelope
from tests.support.scenes.copies import CopyScene, Killed, PlacedBackend
from tests.support.signing_keys import a_signer

FOLDER = f"copies/{an_envelope().envelope_id}"
MOVED = "https://sign.acme.example"
FILES = {"contract.pdf", "small.pdf", "counterfoil.json", "counterfoil.sha256"}
PATH = "copies/{{envelope.id}}/{{file.name}}"


@pytest.fixture
async def scene() -> CopyScene:
    scene = CopyScene()
    await scene.archive()
    return scene


def names(backend: PlacedBackend) -> set[str]:
    return {PurePosixPath(each).name for each in backend.files}


def manifest_of(scene: CopyScene) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(scene.target.files[f"{FOLDER}/counterfoil.json"])
    return found


async def test_a_copy_has_each_file_at_its_own_place(scene: CopyScene) -> None:
    location = await scene.copy()

    assert location == f"memory://worm/{FOLDER}/counterfoil.json"
    assert names(scene.target) == FILES
    assert scene.target.files[f"{FOLDER}/contract.pdf"] == scene.data(2)
    assert await verify_folder(scene.target, FOLDER) == []


async def test_its_manifest_names_the_original(scene: CopyScene) -> None:
    await scene.copy()

    extra = manifest_of(scene)["extra"]
    assert extra["archive"] == "worm"
    assert extra["original"]["manifest"] == scene.manifest
    assert extra["original"]["described"] is True
    assert manifest_of(scene)["sender"]["email"] == "ann@acme.example"
    assert manifest_of(scene)["files"][0]["location"].startswith("memory://worm/")


async def test_the_original_stays_as_it_was(scene: CopyScene) -> None:
    before = dict(scene.source.files)
    await scene.copy()
    assert scene.source.files == before


async def test_each_file_is_protected_after_it_was_verified(scene: CopyScene) -> None:
    await scene.copy()
    assert {PurePosixPath(each).name for each in scene.target.retained} == FILES


async def test_a_second_run_sends_no_file_again(scene: CopyScene) -> None:
    await scene.copy()
    scene.target.puts.clear()
    await scene.copy()
    assert scene.target.puts == []


@pytest.mark.parametrize("signer", [None, a_signer()], ids=["no key", "a key"])
async def test_a_run_that_is_killed_at_any_step_is_completed_by_the_next(signer: Any) -> None:
    steps = 0

    def count() -> None:
        nonlocal steps
        steps += 1

    whole = CopyScene(signer=signer)
    await whole.archive()
    await whole.copy(step=count)
    for at in range(steps):
        scene = CopyScene(signer=signer)
        await scene.archive()
        left = at

        def die() -> None:
            nonlocal left
            if left == 0:
                raise Killed
            left -= 1

        with pytest.raises(Killed):
            await scene.copy(step=die)
        await scene.copy()
        assert scene.target.files.keys() == whole.target.files.keys()
        assert await verify_folder(scene.target, FOLDER) == []


DAMAGES: dict[str, Any] = {
    "a changed file": lambda name, data: data[:-1] + b"!" if name.endswith("contract.pdf") else data,
    "a cut file": lambda name, data: data[:-1] if name.endswith("contract.pdf") else data,
    "a longer file": lambda name, data: data + b"!" if name.endswith("contract.pdf") else data,
    "a lost file": lambda name, data: None if name.endswith("contract.pdf") else data,
    "a lost manifest": lambda name, data: None if name.endswith(".json") else data,
    "another manifest": lambda name, data: b"{}" if name.endswith(".json") else data,
}


@pytest.mark.parametrize("damage", DAMAGES)
async def test_nothing_wrong_gets_a_name_in_the_copy(scene: CopyScene, damage: str) -> None:
    change = DAMAGES[damage]
    changed = {name: change(name, data) for name, data in scene.source.files.items()}
    scene.source.files = {name: data for name, data in changed.items() if data is not None}

    with pytest.raises(OriginalDiffers):
        await scene.copy()

    assert "contract.pdf" not in names(scene.target)
    assert "counterfoil.json" not in names(scene.target)


async def test_a_copy_that_returns_other_bytes_is_no_copy(scene: CopyScene) -> None:
    scene.target.spoil = lambda data: data + b"!"
    with pytest.raises(VerificationFailed):
        await scene.copy()
    assert scene.target.files == {}
    assert scene.target.retained == []


async def test_an_outage_is_an_error_and_nothing_is_half(scene: CopyScene) -> None:
    scene.target.problems = {"contract.pdf": ArchiveUnavailable("ArchiveFailing", "It is down.")}
    with pytest.raises(ArchiveUnavailable):
        await scene.copy()
    scene.target.problems = {}
    await scene.copy()
    assert names(scene.target) == FILES


async def test_a_file_of_another_system_is_not_replaced(scene: CopyScene) -> None:
    scene.target.files[f"{FOLDER}/contract.pdf"] = b"of another system"
    with pytest.raises(NameTaken):
        await scene.copy()
    assert scene.target.files == {f"{FOLDER}/contract.pdf": b"of another system"}


async def test_the_place_of_the_original_is_no_place_for_a_copy(scene: CopyScene) -> None:
    scene.target, scene.target_spec = scene.source, scene.source_spec
    with pytest.raises(CopyIsOriginal):
        await scene.copy()


async def test_neither_is_the_same_place_by_another_name(scene: CopyScene) -> None:
    before = dict(scene.source.files)
    scene.target = PlacedBackend(place="alias", files=scene.source.files)
    scene.target_spec = scene.source_spec
    with pytest.raises(CopyIsOriginal):
        await scene.copy()
    assert scene.source.files == before


async def test_a_mirror_of_the_original_by_another_program_is_named_as_such(scene: CopyScene) -> None:
    """It looks like the place of the original: one root may be a folder of the other one."""
    scene.target_spec = scene.source_spec
    scene.target.files.update(scene.source.files)
    with pytest.raises(CopyIsOriginal, match="another program mirrors it"):
        await scene.copy(is_elsewhere=True)


async def test_a_bucket_of_the_same_name_at_another_server_is_not_called_the_original() -> None:
    """Its address does not name the server, and the proof of a copy compares addresses."""
    scene = CopyScene(target=PlacedBackend(place="dms"), target_spec=a_spec())
    await scene.archive()

    with pytest.raises(SameAddress, match=r"spec\.path"):
        await scene.copy(is_elsewhere=True)

    assert scene.target.files == {}


@pytest.mark.parametrize("signer", [None, a_signer()], ids=["no key", "a key"])
async def test_what_was_archived_again_replaces_the_earlier_copy(signer: Any) -> None:
    scene = CopyScene(signer=signer)
    await scene.archive()
    copied = await scene.copy()
    await scene.archive("small.pdf", "contract.pdf", "annex.pdf", seed=5)

    assert await scene.copy(claimed_manifest=copied) == copied

    assert await verify_folder(scene.target, FOLDER) == []
    assert scene.target.files[f"{FOLDER}/contract.pdf"] == scene.data(2, 5)
    assert "annex.pdf" in names(scene.target)


@pytest.mark.parametrize("signer", [None, a_signer()], ids=["no key", "a key"])
async def test_a_file_of_another_system_beside_an_earlier_copy_is_not_replaced(signer: Any) -> None:
    scene = CopyScene(signer=signer)
    await scene.archive()
    copied = await scene.copy()
    before = {**scene.target.files, f"{FOLDER}/annex.pdf": b"of another system"}
    scene.target.files.update(before)
    await scene.archive("small.pdf", "contract.pdf", "annex.pdf", seed=5)

    with pytest.raises(NameTaken, match=r"annex\.pdf"):
        await scene.copy(claimed_manifest=copied)

    assert scene.target.files == before


@pytest.mark.parametrize("damage", ["missing", "damaged"])
async def test_a_copy_without_its_manifest_is_made_again_of_what_is_equal(
    scene: CopyScene, damage: str
) -> None:
    copied = await scene.copy()
    manifest = f"{FOLDER}/counterfoil.json"
    if damage == "missing":
        del scene.target.files[manifest]
    else:
        scene.target.files[manifest] = b"{"

    assert await scene.copy(claimed_manifest=copied) == copied

    assert await verify_folder(scene.target, FOLDER) == []


async def test_a_tag_of_the_metadata_is_taken_from_the_original() -> None:
    rule = TagRule(json_path="$.area", required=True)
    scene = CopyScene(
        envelope=an_envelope(metadata='{"area": "HR"}'),
        source_spec=a_spec(tags={"area": rule}),
        target_spec=a_spec(path="{{tags.area}}/{{envelope.id}}/{{file.name}}", tags={"area": rule}),
    )
    await scene.archive()
    await scene.copy()
    assert all(each.startswith("HR/") for each in scene.target.files)


async def test_a_required_tag_that_the_original_lacks_stops_the_copy_before_its_first_file() -> None:
    scene = CopyScene(target_spec=a_spec(path=PATH, tags={"area": TagRule(xpath="//area", required=True)}))
    await scene.archive()
    with pytest.raises(CopyTagMissing, match="`area`"):
        await scene.copy()
    assert scene.target.puts == []


async def test_after_a_change_of_the_signing_key_the_missing_seal_is_the_reason_and_not_the_tag() -> None:
    rule = TagRule(json_path="$.area", required=True)
    scene = CopyScene(
        signer=a_signer(1),
        envelope=an_envelope(metadata='{"area": "HR"}'),
        source_spec=a_spec(tags={"area": rule}),
        target_spec=a_spec(path=PATH, tags={"area": rule}),
    )
    await scene.archive()
    scene.signer = a_signer(2)
    with pytest.raises(CopyTagMissing, match="has no seal of the present signing key"):
        await scene.copy()
    assert scene.target.puts == []


async def test_a_manifest_without_our_seal_describes_nothing_that_we_seal() -> None:
    scene = CopyScene()
    await scene.archive()
    scene.signer = a_signer()

    await scene.copy()

    found = manifest_of(scene)
    assert found["extra"]["original"]["described"] is False
    assert found["sender"]["email"] == ""
    assert found["sealedBy"] == a_signer().public.id
    sealed = Manifest.decode(scene.target.files[f"{FOLDER}/counterfoil.json"])
    assert {each.sha256 for each in sealed.files} == {each.sha256 for each in scene.documents}


@pytest.mark.parametrize("signer", [None, a_signer()], ids=["no key", "a key"])
async def test_a_copy_is_made_of_what_was_archived_before_esignanywhere_moved(signer: Any) -> None:
    scene = CopyScene(signer=signer)
    await scene.archive()
    archived, scene.envelope = scene.envelope, replace(scene.envelope, origin=MOVED)
    scene.first_origin = archived.origin

    await scene.copy()

    assert manifest_of(scene)["envelope"]["origin"] == archived.origin
    assert await verify_folder(scene.target, FOLDER) == []


async def test_so_it_is_if_the_signing_key_is_younger_and_names_the_address_of_today() -> None:
    scene = CopyScene()
    await scene.archive()
    scene.signer, scene.envelope = a_signer(), replace(scene.envelope, origin=MOVED)

    await scene.copy()

    assert manifest_of(scene)["envelope"]["origin"] == MOVED
    assert manifest_of(scene)["extra"]["original"]["described"] is False


@pytest.mark.parametrize("first", [None, a_signer(2)], ids=["first key", "other key"])
async def test_a_copy_is_repaired_that_was_made_before_esignanywhere_moved(first: Any) -> None:
    """The signing key is younger, so nothing but the status tells that the address was another one."""
    scene = CopyScene(signer=first)
    await scene.archive()
    location = await scene.copy()
    scene.signer, scene.envelope = a_signer(), replace(scene.envelope, origin=MOVED)
    scene.target.files[f"{FOLDER}/contract.pdf"] = b"damaged"
    with pytest.raises(OtherSource):
        await scene.copy()

    assert await scene.copy(claimed_manifest=location) == location

    assert scene.target.files[f"{FOLDER}/contract.pdf"] == scene.data(2)
    assert await verify_folder(scene.target, FOLDER) == []
    assert await scene.copy(claimed_manifest=location) == location


@pytest.mark.parametrize("changed", ["files", "envelope"])
async def test_a_manifest_with_other_files_in_the_place_of_such_a_copy_stays(changed: str) -> None:
    """A folder of another eSignAnyWhere may be there by now."""
    scene = CopyScene()
    await scene.archive()
    location = await scene.copy()
    found, name = manifest_of(scene), f"{FOLDER}/counterfoil.json"
    if changed == "files":
        found["files"][0]["sha256"] = "0" * 64
    else:
        found["envelope"]["organization"] = "other"
    scene.target.files[name] = stored = json.dumps(found).encode()
    scene.signer, scene.envelope = a_signer(), replace(scene.envelope, origin=MOVED)

    with pytest.raises(OtherSource):
        await scene.copy(claimed_manifest=location)

    assert scene.target.files[name] == stored


@pytest.mark.parametrize(
    "origin",
    [
        f"https://{'a@b:c/' * 5000}",
        "https://Esaw",
        "https://esaw/",
        f"https://{'a.' * 300}example",
        "https://[",
    ],
)
async def test_what_is_no_address_in_the_place_of_such_a_copy_is_not_taken_over(origin: str) -> None:
    """A run would keep it for hours, and a message would repeat it."""
    scene = CopyScene()
    await scene.archive()
    location = await scene.copy()
    found, name = manifest_of(scene), f"{FOLDER}/counterfoil.json"
    found["envelope"]["origin"] = origin
    scene.target.files[name] = json.dumps(found).encode()

    with pytest.raises(OtherSource) as caught:
        await scene.copy(claimed_manifest=location)

    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("origin", ["https://forged.example", f"https://{'aB' * 20_000}", "no address"])
async def test_an_address_that_nobody_sealed_and_counterfoil_did_not_record_is_not_repeated(
    origin: str,
) -> None:
    scene = CopyScene()
    await scene.archive()
    (manifest,) = (data for name, data in scene.source.files.items() if name.endswith(".json"))
    scene.change_original(envelope={**json.loads(manifest)["envelope"], "origin": origin})

    location = await scene.copy()

    assert manifest_of(scene)["envelope"]["origin"] == scene.envelope.origin
    assert await scene.copy(claimed_manifest=location) == location


@pytest.mark.parametrize("part", ["id", "namespace", "organization"])
async def test_nothing_is_copied_from_a_manifest_that_names_another(scene: CopyScene, part: str) -> None:
    (manifest,) = (data for name, data in scene.source.files.items() if name.endswith(".json"))
    found = json.loads(manifest)["envelope"]
    scene.change_original(envelope={**found, part: "other"})
    with pytest.raises(OriginalDiffers, match="is not about this envelope"):
        await scene.copy()


async def test_a_status_without_files_proves_no_manifest_of_another_address(scene: CopyScene) -> None:
    scene.documents, scene.envelope = (), replace(scene.envelope, origin=MOVED)
    with pytest.raises(OriginalDiffers, match="is not about this envelope"):
        await scene.copy()


async def test_a_tag_of_a_manifest_that_nobody_sealed_is_made_safe_as_each_other_value() -> None:
    rule = {"area": TagRule(json_path="$.area")}
    scene = CopyScene(target_spec=a_spec(path=PATH, tags=rule))
    await scene.archive()
    scene.change_original(tags={"area": f"A\r\nX-Header: 1{'z' * 2000}"})

    await scene.copy()

    assert manifest_of(scene)["tags"]["area"] == f"A X-Header: 1{'z' * 2000}"[:1024]


async def test_a_large_manifest_that_nobody_sealed_describes_nothing(scene: CopyScene) -> None:
    """Many runs may keep it at once."""
    scene.change_original(tags={"other": "a" * 400_000 + "\U0001f600"})

    await scene.copy()

    assert manifest_of(scene)["extra"]["original"]["described"] is False
    assert manifest_of(scene)["sender"]["email"] == ""
    assert names(scene.target) == FILES


async def test_places_that_no_status_takes_are_refused_before_the_first_file(scene: CopyScene) -> None:
    scene.target_spec = a_spec(path="/".join(["{{envelope.id}}"] * 300) + "/{{file.name}}")
    with pytest.raises(ArchiveRefused, match=r"Shorten spec\.path"):
        await scene.copy()
    assert scene.target.files == {}


class EndlessFiles(PlacedBackend):
    """Returns bytes without an end for each file that it has under the name of a document."""

    sent = 0

    async def read(self, name: str) -> AsyncGenerator[bytes, None]:
        async for chunk in super().read(name):
            while name.endswith(".pdf"):
                self.sent += 1000
                assert self.sent < 1_000_000, "it is read without an end"
                yield b"x" * 1000
            yield chunk


async def test_an_answer_without_an_end_is_not_read_beyond_the_size_of_the_file() -> None:
    scene = CopyScene(target=EndlessFiles(place="worm"))
    await scene.archive()
    scene.target.files[f"{FOLDER}/contract.pdf"] = b"of another system"
    with pytest.raises(NameTaken):
        await scene.copy()


async def test_neither_is_that_of_an_earlier_copy(scene: CopyScene) -> None:
    location = await scene.copy()
    scene.target = EndlessFiles(place="worm", files=scene.target.files)
    with pytest.raises(VerificationFailed):
        await scene.copy(claimed_manifest=location)


CHECKED: dict[str, Any] = {"state": "Intact", "detail": "", "found": [], "anchors": None, "leftOut": 0}


async def a_checked_original() -> CopyScene:
    """Return the scene of a sealed original whose first file has signatures that were checked."""
    scene = CopyScene(signer=a_signer())
    await scene.archive()
    (manifest,) = (each for each in scene.source.files if each.endswith("counterfoil.json"))
    files = json.loads(scene.source.files[manifest])["files"]
    scene.change_original(files=[{**files[0], "signatures": CHECKED}, *files[1:]])
    scene.source.files[f"{manifest}.sig"] = a_signer().sign(scene.source.files[manifest])
    return scene


async def test_the_signatures_of_an_original_are_in_the_manifest_of_its_copy() -> None:
    scene = await a_checked_original()
    await scene.copy()
    assert [each.get("signatures") for each in manifest_of(scene)["files"]] == [CHECKED, None]


async def test_no_run_keeps_the_signatures_while_it_sends_the_files() -> None:
    """There may be 60,000 in each of many runs, and a slow archive takes hours."""
    scene = await a_checked_original()
    known = EnvelopeFacts(
        organization=scene.envelope.organization,
        envelope_id=scene.envelope.envelope_id,
        name="",
        status="",
        namespace=scene.envelope.namespace,
        origin=scene.envelope.origin,
    )
    key = a_signer().public
    original = await read_original(scene.source, scene.manifest, scene.documents, known, key=key)
    assert original.is_believed
    assert "Intact" not in repr(original)


async def test_a_manifest_that_changes_during_the_copy_ends_the_attempt() -> None:
    scene = await a_checked_original()

    def change() -> None:
        if scene.target.files:
            scene.change_original(tags={"area": "HR"})

    with pytest.raises(OriginalUnread) as unread:
        await scene.copy(step=change)
    assert isinstance(unread.value.problem, OriginalChanged)
    assert not any(each.endswith("counterfoil.json") for each in scene.target.files)
