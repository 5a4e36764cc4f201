"""
``python -m counterfoil.cli.verify``: an auditor with a copy of the archive, and nothing else, finds every
change.
"""

import asyncio
import io
import json
import os
import shutil
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from counterfoil.archives import open_backend
from counterfoil.archives.filing import conclude, store
from counterfoil.archives.manifest_signature import ManifestSigner
from counterfoil.cli.verify import INTACT, UNCHECKED, WRONG, main
from counterfoil.signatures.results import Signatures, State
from tests.support.fakes.archives import (
    ENVELOPE_ID,
    a_filed_document,
    a_plan,
    a_source,
    a_spec,
    an_envelope,
    content,
    files_named,
)
from tests.support.signing_keys import a_sealer, key_file, public_pem

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
SIGNED = Signatures(state=State.UNSIGNED, detail="it has no signature")


async def archived(root: Path, *, sealer: ManifestSigner | None = None) -> Path:
    """File an envelope with two documents; return its folder."""
    spec = a_spec(root=str(root))
    backend, plan = await open_backend("dms", spec, {}), a_plan(*files_named("one.pdf", "two.pdf"), spec=spec)
    documents = [
        a_filed_document(
            each.facts, await store(backend, each, a_source(content(seed=each.facts.number)), tags={})
        )
        for each in plan.files
    ]
    await conclude(
        backend,
        plan,
        an_envelope(),
        documents,
        archived_at=NOON,
        extra={},
        signatures={"Document-2": SIGNED},
        sealer=sealer,
    )
    return root / plan.folder


@pytest.fixture
async def folder(tmp_path: Path) -> Path:
    return await archived(tmp_path)


@pytest.fixture
async def sealed(tmp_path: Path) -> Path:
    return await archived(tmp_path, sealer=a_sealer())


@pytest.fixture
def key(tmp_path: Path) -> str:
    return str(key_file(tmp_path, public_pem()))


async def verified(location: Path | str, *flags: str) -> tuple[int, str]:
    """Run it; return the exit status and what it printed."""
    out = io.StringIO()
    status = await asyncio.to_thread(main, [str(location), *flags], {}, out)
    return status, out.getvalue()


async def test_every_file_is_told_with_what_was_checked(folder: Path) -> None:
    status, printed = await verified(folder)
    assert status == INTACT
    assert printed.splitlines() == [
        f"ok          counterfoil.json: is of envelope {ENVELOPE_ID} ('Contract', Completed) of acme, filed "
        "2026-03-01T12:00:00Z, with 2 files",
        "ok          Document/one.pdf: has its 1000 bytes and its SHA-256",
        "ok          Document/two.pdf: has its 1000 bytes and its SHA-256; when it was filed: it has no "
        "signature",
        "ok          counterfoil.sha256: says what counterfoil.json says",
        "The files are as counterfoil.json says. Not proved: that nobody changed counterfoil.json and the "
        "files together. Give the public key of the seal (--public-key).",
    ]


@pytest.mark.parametrize(
    "form", ["{}", "{}/", "{}/counterfoil.json", "file://{}", "file://{}/counterfoil.json"]
)
async def test_folder_and_manifest_are_found_by_path_and_by_uri(folder: Path, form: str) -> None:
    assert (await verified(form.format(folder)))[0] == INTACT


async def test_a_copy_proves_itself_anywhere(folder: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "a copy with spaces ü"
    shutil.copytree(folder, elsewhere)
    shutil.rmtree(folder)
    assert (await verified(elsewhere))[0] == INTACT
    assert (await verified(elsewhere.as_uri()))[0] == INTACT


def flipped(path: Path) -> None:
    held = path.read_bytes()
    path.write_bytes(held[:500] + bytes([held[500] ^ 1]) + held[501:])


CHANGES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a byte of a file": (
        lambda folder: flipped(folder / "Document/one.pdf"),
        "Document/one.pdf: has other content than was filed",
    ),
    "a longer file": (
        lambda folder: (folder / "Document/one.pdf").write_bytes(content() + b"!"),
        "Document/one.pdf: has 1001 bytes instead of 1000",
    ),
    "a missing file": (lambda folder: (folder / "Document/one.pdf").unlink(), "Document/one.pdf: is missing"),
    "an extra file": (
        lambda folder: (folder / "Document/three.pdf").write_bytes(b"new"),
        "Document/three.pdf: is not in counterfoil.json",
    ),
    "the hash file": (
        lambda folder: flipped_text(folder / "counterfoil.sha256"),
        "counterfoil.sha256: does not say what counterfoil.json says",
    ),
    "no hash file": (
        lambda folder: (folder / "counterfoil.sha256").unlink(),
        "counterfoil.sha256: is missing",
    ),
    "no manifest": (lambda folder: (folder / "counterfoil.json").unlink(), "counterfoil.json: is missing"),
    "a manifest that is none": (
        lambda folder: (folder / "counterfoil.json").write_bytes(b"{}"),
        "counterfoil.json: can't be read",
    ),
    "a seal out of nowhere": (
        lambda folder: (folder / "counterfoil.json.sig").write_bytes(b"x" * 64),
        "counterfoil.json.sig: is not in counterfoil.json",
    ),
    "a link in the place of a file": (
        lambda folder: relinked(folder / "Document/one.pdf"),
        "Document/one.pdf",
    ),
}


def flipped_text(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"one", b"two"))


def relinked(path: Path) -> None:
    path.unlink()
    path.symlink_to("/etc/hostname")


@pytest.mark.parametrize("change", CHANGES)
async def test_every_change_is_found(folder: Path, change: str) -> None:
    make, says = CHANGES[change]
    make(folder)
    status, printed = await verified(folder)
    assert status == WRONG
    assert any(line.startswith("WRONG") and says in line for line in printed.splitlines()), printed


async def test_a_manifest_that_was_changed_together_with_the_files_is_found_by_the_seal(
    sealed: Path, key: str
) -> None:
    manifest = sealed / "counterfoil.json"
    manifest.write_bytes(manifest.read_bytes().replace(b"ann@acme.example", b"eve@acme.example"))
    assert (await verified(sealed))[0] == INTACT, "without the key nobody can tell"
    status, printed = await verified(sealed, "--public-key", key)
    assert status == WRONG
    assert f"counterfoil.json.sig: does not fit the manifest and the key {a_sealer().public.id}" in printed


async def test_the_seal_is_checked_with_the_key_and_only_told_without(sealed: Path, key: str) -> None:
    assert "not checked counterfoil.json.sig: is there" in (await verified(sealed))[1]
    status, printed = await verified(sealed, "--public-key", key)
    assert status == INTACT
    assert "ok          counterfoil.json.sig: fits the manifest" in printed


@pytest.mark.parametrize("seal", [b"", b"x" * 64, b"x" * 65])
async def test_a_broken_seal_is_found(sealed: Path, key: str, seal: bytes) -> None:
    (sealed / "counterfoil.json.sig").write_bytes(seal)
    assert (await verified(sealed, "--public-key", key))[0] == WRONG


async def test_a_seal_that_was_taken_away_is_found_even_without_the_key(sealed: Path) -> None:
    (sealed / "counterfoil.json.sig").unlink()
    status, printed = await verified(sealed)
    assert status == WRONG
    assert "counterfoil.json.sig: is missing" in printed


async def test_a_seal_of_another_key_is_not_accepted(sealed: Path, tmp_path: Path) -> None:
    other = key_file(tmp_path, public_pem(2))
    status, printed = await verified(sealed, "--public-key", str(other))
    assert status == WRONG
    assert f"is not of the key {a_sealer(2).public.id}" in printed


async def test_whoever_gives_a_key_wants_a_seal(folder: Path, key: str) -> None:
    assert (await verified(folder, "--public-key", key))[0] == WRONG


async def test_a_manifest_that_leads_out_of_its_folder_is_not_followed(folder: Path) -> None:
    manifest = folder / "counterfoil.json"
    manifest.write_bytes(manifest.read_bytes().replace(b'"Document/one.pdf"', b'"../../../../etc/passwd"'))
    status, printed = await verified(folder)
    assert status == WRONG
    assert "leads out of the folder" in printed


async def test_a_name_in_a_manifest_can_not_write_to_the_terminal(folder: Path) -> None:
    manifest = folder / "counterfoil.json"
    manifest.write_bytes(manifest.read_bytes().replace(b'"Document/one.pdf"', b'"\\u001b[2Jone.pdf"'))
    _, printed = await verified(folder)
    assert "\x1b" not in printed


async def test_a_file_whose_name_is_no_text_is_told_to_machines_too(folder: Path) -> None:
    (folder / os.fsdecode(b"M\xfcller.pdf")).write_bytes(b"x")

    status, printed = await verified(folder, "--json")

    assert status == WRONG
    assert printed.encode("ascii")
    assert [each["name"] for each in json.loads(printed)["checks"] if each["verdict"] == "Wrong"] == [
        "M\udcfcller.pdf"
    ]


async def test_json_has_the_same_for_machines(folder: Path) -> None:
    (folder / "Document/one.pdf").unlink()
    status, printed = await verified(folder, "--json")
    answer = json.loads(printed)
    assert status == WRONG
    assert answer["intact"] is False
    assert answer["checks"][1] == {
        "about": "File",
        "name": "Document/one.pdf",
        "verdict": "Wrong",
        "says": "is missing",
    }


@pytest.mark.parametrize(
    ("location", "says"),
    [
        ("/nowhere/at/all", "there is no such folder"),
        ("/", "there is no such folder"),
        ("webdav://host/folder", "webdav locations can't be opened from here"),
        ("s3://bucket", "write bucket and folder"),
        ("s3:///folder", "write bucket and folder"),
    ],
)
async def test_what_can_not_be_looked_at_is_not_called_wrong(
    location: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status, _ = await verified(location)
    assert status == UNCHECKED
    assert says in capsys.readouterr().err


async def test_an_empty_folder_is_not_an_envelope(tmp_path: Path) -> None:
    assert (await verified(tmp_path))[0] == UNCHECKED


async def test_a_key_that_is_none_checks_nothing(sealed: Path, tmp_path: Path) -> None:
    assert (await verified(sealed, "--public-key", str(tmp_path / "none.pem")))[0] == UNCHECKED


async def test_the_command_needs_nothing_of_kubernetes(folder: Path) -> None:
    """As a process without any environment, which imports neither client."""
    script = (
        "import runpy, sys\n"
        f"sys.argv = ['verify', {str(folder)!r}]\n"
        "try: runpy.run_module('counterfoil.cli.verify', run_name='__main__')\n"
        "finally: assert not {'kubernetes', 'kopf'} & set(sys.modules)\n"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, env={}, stdout=asyncio.subprocess.DEVNULL, cwd=os.sep
    )
    assert await process.wait() == INTACT
