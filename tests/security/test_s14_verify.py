"""S14: rewrite documents and manifest of an archived envelope, and have `verify` confirm the result."""

import hashlib
import json
from pathlib import Path

from tests.support.scenes.verify import archived, verified
from tests.support.signed_pdfs import signed, unsigned, with_one_byte_changed
from tests.support.signing_keys import a_signer, key_file, public_pem


def rewrite(folder: Path) -> None:
    """Replace a document, and every hash of it."""
    document = folder / "Document" / "one.pdf"
    before, size = hashlib.sha256(document.read_bytes()).hexdigest(), document.stat().st_size
    document.write_bytes(unsigned("Another contract"))
    after = hashlib.sha256(document.read_bytes()).hexdigest()
    for name in ("counterfoil.json", "counterfoil.sha256"):
        path = folder / name
        sizes = path.read_text().replace(f'"size": {size}', f'"size": {document.stat().st_size}', 1)
        path.write_text(sizes.replace(before, after))


async def test_without_a_key_a_rewritten_manifest_is_not_called_what_was_filed(tmp_path: Path) -> None:
    folder = await archived(tmp_path)
    rewrite(folder)

    status, printed = await verified(folder)

    assert status == 0
    assert "as it was archived." not in printed
    assert "Not proved: that nobody changed counterfoil.json and the files together" in printed
    assert json.loads((await verified(folder, "--json"))[1])["signatureVerified"] is False


async def test_with_the_key_a_rewritten_manifest_is_found(tmp_path: Path) -> None:
    folder = await archived(tmp_path, signer=a_signer())
    key = str(key_file(tmp_path, public_pem()))
    assert (await verified(folder, "--public-key", key))[1].endswith(
        "Everything is as it was archived, and counterfoil.json is signed with your key.\n"
    )
    rewrite(folder)

    status, printed = await verified(folder, "--public-key", key)

    assert status == 1
    assert "WRONG       counterfoil.json.sig" in printed


async def test_without_a_key_a_forged_document_is_found_by_its_signature(tmp_path: Path) -> None:
    folder = await archived(tmp_path)
    forged = with_one_byte_changed(signed())
    (folder / "Document" / "one.pdf").write_bytes(forged)
    manifest = json.loads((folder / "counterfoil.json").read_text())
    claim = {"state": "Intact", "found": [{"field": "First", "intact": True, "coverage": "WholeFile"}]}
    entry = manifest["files"][0]
    before = entry["sha256"]
    entry |= {"size": len(forged), "sha256": hashlib.sha256(forged).hexdigest(), "signatures": claim}
    (folder / "counterfoil.json").write_text(json.dumps(manifest))
    hashes = folder / "counterfoil.sha256"
    hashes.write_text(hashes.read_text().replace(before, entry["sha256"]))

    status, printed = await verified(folder)

    assert status == 1
    assert "WRONG       Document/one.pdf" in printed
    assert json.loads((await verified(folder, "--json"))[1])["intact"] is False
