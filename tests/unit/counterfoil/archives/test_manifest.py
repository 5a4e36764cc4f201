"""
The manifest and the hash file, as an auditor finds them.
"""

import asyncio
import hashlib
import json
from pathlib import Path

import pytest

from counterfoil.archives.manifest import Manifest, ManifestDamaged, hash_lines, json_schema

SCHEMA = Path(__file__).parents[4] / "docs" / "manifest.schema.json"

MINIMAL = {
    "schema": "counterfoil.dev/manifest/v1",
    "envelope": {"id": "1", "name": "", "status": "Completed", "organization": "acme"},
    "sender": {"email": "", "userID": "", "name": ""},
    "times": {"sent": "", "archived": "2026-03-01T10:00:00Z"},
    "files": [],
}


def test_the_schema_in_the_docs_is_the_one_of_the_code() -> None:
    assert SCHEMA.read_text() == json_schema(), (
        "run: python -m counterfoil.archives.manifest > docs/manifest.schema.json"
    )


def test_a_manifest_comes_back_as_it_was_written() -> None:
    manifest = Manifest.decode(json.dumps(MINIMAL).encode())

    assert Manifest.decode(manifest.encode()) == manifest


def test_fields_of_a_later_version_are_passed_over() -> None:
    assert Manifest.decode(json.dumps({**MINIMAL, "approvedBy": "later"}).encode()).envelope.id == "1"


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[]",
        b"\xff\xfe",
        b"{}",
        json.dumps({**MINIMAL, "schema": "other/v1"}).encode(),
        b'{"extra": {"nested": ' + b"[" * 5000,
        b'{"later": ' + b"[" * 5000,
    ],
)
def test_what_is_no_manifest_is_called_damaged(text: bytes) -> None:
    with pytest.raises(ManifestDamaged):
        Manifest.decode(text)


@pytest.mark.parametrize(
    "name",
    [
        "plain.pdf",
        "with  spaces.pdf",
        "back\\slash",
        "line\nbreak",
        "carriage\rreturn",
        "\\n",
        "-",
        "*star",
        "ümlaut 📄",
    ],
)
async def test_sha256sum_accepts_the_hash_file_whatever_the_name(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"content")
    (tmp_path / "hashes").write_bytes(hash_lines([(name, hashlib.sha256(b"content").hexdigest())]))

    process = await asyncio.create_subprocess_exec("sha256sum", "--strict", "-c", "hashes", cwd=tmp_path)

    assert await process.wait() == 0
