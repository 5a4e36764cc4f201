"""The commands of docs/auditors.md, typed in bash on an archive that somebody damaged."""

import os
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from counterfoil.archives import open_backend
from counterfoil.archives.filing import conclude, store
from tests.support.console_blocks import ConsoleCommand, Typed, console_commands, report, typed
from tests.support.fakes.archives import (
    a_filed_document,
    a_layout,
    a_source,
    a_spec,
    an_envelope,
    files_named,
)
from tests.support.signed_pdfs import unsigned

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "auditors.md").read_text(encoding="utf-8")
BESIDE_THE_KIND = "{{organization}}/{{envelope.id}}/{{file.name}}"
ENVELOPES = tuple(f"{number}f9c1c2e-1111-4222-8333-444455556666" for number in range(6))
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
SECONDS = 60.0


async def archived(root: Path, envelope_id: str, *names: str, path: str = BESIDE_THE_KIND) -> Path:
    """Archive an envelope with these documents; return its folder."""
    spec, envelope = a_spec(root=str(root), path=path), an_envelope(envelope_id=envelope_id)
    backend = await open_backend("dms", spec, {})
    layout = a_layout(*files_named(*names), envelope=envelope, spec=spec)
    documents = [
        a_filed_document(
            each.facts, await store(backend, each, a_source(unsigned(each.facts.file_name)), tags={})
        )
        for each in layout.files
    ]
    await conclude(backend, layout, envelope, documents, archived_at=NOON, extra={}, signer=None)
    return root / layout.folder


def section(heading: str) -> list[ConsoleCommand]:
    """Return the commands of a section of the page."""
    return console_commands(PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0])


def command(commands: Sequence[ConsoleCommand], part: str) -> ConsoleCommand:
    """Return the command that contains this text."""
    (found,) = (each for each in commands if part in each.text)
    return found


async def type_in(folder: Path, commands: Sequence[ConsoleCommand], own: Path) -> Typed:
    """Type the commands in this folder; what the page writes to /tmp is written below ``own``."""
    mine = [ConsoleCommand(each.text.replace("/tmp/", f"{own}/"), each.output) for each in commands]
    return await typed(mine, folder, {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}, seconds=SECONDS)


async def test_a_search_finds_every_contract_beside_one_damaged_manifest(tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    archive.mkdir()
    folders = [await archived(archive, each, "contract.pdf") for each in ENVELOPES]
    search = command(section("Where is contract X?"), ".sender.email")
    for damaged in folders:
        manifest = damaged / "counterfoil.json"
        whole = manifest.read_bytes()
        manifest.write_bytes(b'{"schema": "counterfoil')
        done = await type_in(archive, [ConsoleCommand(search.text.replace("anna@", "ann@"))], tmp_path)
        manifest.write_bytes(whole)
        found = {each.name for each in folders if any(each.name in line for line in done.printed)}
        assert found == set(ENVELOPES) - {damaged.name}, report([search], done)


async def test_the_page_names_each_damaged_manifest(tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    archive.mkdir()
    folders = [await archived(archive, each, "contract.pdf") for each in ENVELOPES]
    (folders[1] / "counterfoil.json").write_bytes(b'{"schema": "counterfoil')
    (folders[2] / "counterfoil.json").write_bytes(b"")
    listing = command(section("Where is contract X?"), "damaged")
    done = await type_in(archive, [listing], tmp_path)
    assert done.status == 0, report([listing], done)
    named = sorted(line for line in done.printed[0].splitlines() if line)
    assert named == [f"damaged: ./acme/{ENVELOPES[each]}/counterfoil.json" for each in (1, 2)]


async def test_the_check_for_completeness_finds_what_somebody_added_or_removed(tmp_path: Path) -> None:
    folder = await archived(tmp_path, ENVELOPES[0], "contract.pdf", "counterfoil.pdf", "counterfoil.json")
    commands = [each for each in section("Is it complete?") if "/tmp/named" in each.text]
    assert len(commands) == 2
    done = await type_in(folder, commands, tmp_path)
    assert (done.status, done.printed[-1].strip()) == (0, "complete"), report(commands, done)

    for planted in ("counterfoil.contract.pdf", "counterfoil.json.bak", "more/counterfoil.json", "b.pdf"):
        path = folder / planted
        path.parent.mkdir(exist_ok=True)
        path.touch()
        done = await type_in(folder, commands, tmp_path)
        path.unlink()
        assert done.printed[-1].split()[-2:] == [">", planted], report(commands, done)

    (folder / "counterfoil.pdf").unlink()
    done = await type_in(folder, commands, tmp_path)
    assert done.printed[-1].split()[-2:] == ["<", "counterfoil.pdf"], report(commands, done)


def test_no_command_reads_the_public_key_from_the_archive() -> None:
    named = [(each.text, re.findall(r"\S*public\.pem\b", each.text)) for each in console_commands(PAGE)]
    assert any(keys for _, keys in named)
    assert [text for text, keys in named if not all(key.startswith("/path/to/") for key in keys)] == []


def test_the_page_names_the_editions_of_the_tools_that_its_commands_need() -> None:
    text = " ".join(PAGE.partition("\n## ")[0].split())
    typed_here = "\n".join(each.text for each in console_commands(PAGE))
    assert "-printf" in typed_here
    assert "GNU `find`" in text
    assert "-rawin" in typed_here
    assert "OpenSSL 3" in text
