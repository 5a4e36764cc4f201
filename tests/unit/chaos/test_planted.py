"""The planted files are an attack: the product can read each forged manifest."""

import hashlib
from pathlib import PurePosixPath

import pytest

from counterfoil.archives.manifest import Manifest, ManifestDamaged
from tests.support.signing_keys import a_signer
from verification.chaos.plan import PLANTED
from verification.chaos.planted import Source, planted_files

SOURCE = Source("e1", "acme", "round-1", "https://esaw.example", a_signer().public.id)
FORGED = b"%PDF ten times as much"
DOCUMENTS = {"f1": "contract-1.pdf", "f2": "contract-2.pdf"}


@pytest.mark.parametrize("kind", PLANTED)
def test_all_planted_files_are_in_the_folder_of_the_envelope(kind: str) -> None:
    files = planted_files(kind, SOURCE, DOCUMENTS, FORGED)
    assert files
    assert all(path.startswith("acme/e1/") for path in files)


@pytest.mark.parametrize("kind", ["forged", "sealed", "other-source"])
def test_a_forged_manifest_can_be_read_and_lists_the_forged_documents(kind: str) -> None:
    files = planted_files(kind, SOURCE, DOCUMENTS, FORGED)
    manifest = Manifest.decode(files["acme/e1/counterfoil.json"])
    assert {each.file_id: PurePosixPath(each.name).name for each in manifest.files} == DOCUMENTS
    for entry in manifest.files:
        content = files[f"acme/e1/{entry.name}"]
        assert (len(content), hashlib.sha256(content).hexdigest()) == (entry.size, entry.sha256)
    assert (manifest.envelope.origin == SOURCE.origin) is (kind != "other-source")


def test_a_planted_seal_names_the_key_of_the_controller_and_is_not_valid() -> None:
    files = planted_files("sealed", SOURCE, DOCUMENTS, FORGED)
    content, seal = files["acme/e1/counterfoil.json"], files["acme/e1/counterfoil.json.sig"]
    assert Manifest.decode(content).sealed_by == a_signer().public.id
    assert len(seal) == len(a_signer().sign(content))
    assert not a_signer().public.verifies(seal, content)


def test_garbage_is_no_manifest_and_an_additional_file_has_none() -> None:
    (garbage,) = planted_files("garbage", SOURCE, DOCUMENTS, FORGED).values()
    with pytest.raises(ManifestDamaged):
        Manifest.decode(garbage)
    assert planted_files("extra", SOURCE, DOCUMENTS, FORGED) == {"acme/e1/Document/extra.pdf": FORGED}
