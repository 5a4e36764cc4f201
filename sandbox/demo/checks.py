"""
The demo's expectations and whether they came true.

In short, each group is one line, and each failed check is one more. The checks look at eSAW, at the archives
and at the API server, not at what Counterfoil reports about itself.
"""

import asyncio
import json
import shutil
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from sandbox.controlplane.processes import run
from sandbox.demo.archives import copy_files, print_tags
from sandbox.demo.envelopes import process_end
from sandbox.demo.output import shell_command, tree_lines
from sandbox.demo.scenarios import DUPLICATES, IMPORT, NAMES, OLD_ENVELOPES, DemoRun, callback_url
from sandbox.environment.processes import CounterfoilProcess
from sandbox.servers.plain_http import plain_http

_SHA256SUM = shutil.which("sha256sum") or "sha256sum"

EXPECTED = {
    "completed": ("Succeeded", "ArchivedAndDeleted"),
    "rejected": ("Skipped", "UnexpectedStatus"),
    "no audit trail": ("Failed", "AuditTrailMissing"),
    "deleted": ("Failed", "EnvelopeDeleted"),
    "forged": ("Failed", "EnvelopeNotFound"),
    "duplicates": ("Succeeded", "ArchivedAndDeleted"),
    "routed": ("Succeeded", "ArchivedAndDeleted"),
    "second archive": ("Succeeded", "ArchivedAndDeleted"),
    "revoked key": ("Succeeded", "ArchivedAndDeleted"),
}
DELETED = ("completed", "duplicates", "routed", "second archive", "revoked key")
COPIED = ("second archive", "revoked key")
KEPT = ("rejected", "no audit trail")


class Check(NamedTuple):
    """One expectation."""

    group: str
    what: str
    came_true: bool


@dataclass
class DemoChecks:
    """The checks and their results."""

    results: list[Check] = field(default_factory=list)

    def check(self, group: str, what: str, *, came_true: bool) -> None:
        """Add one expectation; a group is a sentence that is true if all its checks are."""
        self.results.append(Check(group, what, came_true))

    @property
    def all_true(self) -> bool:
        """Whether there are checks, and every one of them came true."""
        return bool(self.results) and all(each.came_true for each in self.results)

    def short(self) -> list[str]:
        """Return one line per group, and one line for each check that failed."""
        lines = []
        for group in dict.fromkeys(each.group for each in self.results):
            members = [each for each in self.results if each.group == group]
            failed = [each for each in members if not each.came_true]
            count = f"{len(members) - len(failed)} of {len(members)}"
            lines.append(f"  {'FAILED' if failed else 'ok    '}  {count:>8}  {group}")
            lines += [f"  FAILED            {each.what}" for each in failed]
        return lines

    def long(self) -> list[str]:
        """Return one line per check."""
        return [f"  {'ok    ' if each.came_true else 'FAILED'}  {each.what}" for each in self.results]


async def check_all(demo_run: DemoRun) -> DemoChecks:
    """Check what the scenarios left behind, and print the archives. The checks of consent are not in it."""
    checks = DemoChecks()
    await _check_phases(demo_run, checks)
    await _check_callbacks(demo_run, checks)
    await _check_import(demo_run, checks)
    _check_deletions(demo_run, checks)
    second = await copy_files(demo_run.second, demo_run.local_environment.folder)
    for title, root, expected in (
        ("folder", demo_run.folder, 3 + OLD_ENVELOPES),
        (demo_run.second.title, second, 3),
    ):
        owner = "Acme" if root == demo_run.folder else "Globex, with what a route of Acme led there"
        demo_run.output.step(f"The archive of {owner}: {title}")
        demo_run.output.lines(*(f"  {line}" for line in tree_lines(root)))
        await _check_archive(demo_run, title, root, checks, expected=expected)
    await print_tags(demo_run.second, second, demo_run.output)
    await _check_route(demo_run, checks, second)
    await _check_copies(demo_run, checks)
    _check_manifest(demo_run, checks)
    _check_evidence(demo_run, checks)
    return checks


async def _check_route(demo_run: DemoRun, checks: DemoChecks, second: Path) -> None:
    """The routed contract is in the second archive, and nowhere else."""
    envelope = demo_run.ids["routed"]
    there = [each for each in second.rglob("counterfoil.json") if envelope in str(each)]
    elsewhere = [each for each in demo_run.folder.rglob("*") if envelope in str(each)]
    checks.check(
        "a route by a tag leads a contract into another archive",
        f"{NAMES['routed']}: only in the {demo_run.second.title}",
        came_true=len(there) == 1 and not elsewhere,
    )


async def _check_copies(demo_run: DemoRun, checks: DemoChecks) -> None:
    """The server itself says which files it has, and until when each is locked."""
    for part in COPIED:
        locks = await demo_run.worm.locks(demo_run.ids[part])
        lines = (f"  {name}: {lock}" for name, lock in locks.items())
        demo_run.output.detail(f"Locks of {NAMES[part]}:", *lines)
        is_whole = any(each.endswith("/counterfoil.json") for each in locks)
        checks.check(
            f"{len(COPIED)} envelopes of Globex: a copy with Object Lock, from before the delete",
            f"{NAMES[part]}: {len(locks)} files in the copy, each of them locked",
            came_true=is_whole and all(locks.values()),
        )


async def _check_phases(demo_run: DemoRun, checks: DemoChecks) -> None:
    states = await demo_run.envelopes.states()
    for part, wanted in EXPECTED.items():
        found = states.get(demo_run.ids[part], ("", ""))
        checks.check(
            f"the first {len(EXPECTED)} envelopes: each ended in the expected phase",
            f"{NAMES[part]} ({part}): {'/'.join(found)}",
            came_true=tuple(found) == wanted,
        )


async def _check_callbacks(demo_run: DemoRun, checks: DemoChecks) -> None:
    """The counts are written about once a second, so the last of them may take that long."""
    group = "callbacks: 30 repetitions made one event, a wrong token got 404"
    counted = 0
    for _ in range(50):
        found = await demo_run.local_environment.events(
            "-l", f"counterfoil.dev/envelope={demo_run.ids['duplicates']}"
        )
        counted = found[0]["status"].get("deliveries", 0)
        if counted == DUPLICATES:
            break
        await asyncio.sleep(0.2)
    checks.check(
        group,
        f"{DUPLICATES} callbacks at once: {len(found)} event with {counted} deliveries",
        came_true=(len(found), counted) == (1, DUPLICATES),
    )
    wrong = callback_url(demo_run, "acme", demo_run.ids["forged"]).replace(
        demo_run.local_environment.tokens["acme"], "a" * 48
    )
    async with plain_http() as http:
        status = (await http.get(wrong)).status_code
    checks.check(group, f"a callback with a wrong token: {status}", came_true=status == 404)


async def _check_import(demo_run: DemoRun, checks: DemoChecks) -> None:
    """The events of an Import are found by its label; eSAW never called back about their envelopes."""
    group = f"Import: {OLD_ENVELOPES} envelopes from before Counterfoil are archived, each one once"
    events = await demo_run.local_environment.events("-l", f"counterfoil.dev/import={IMPORT}")
    found = sorted(each["spec"]["envelopeID"] for each in events)
    checks.check(
        group,
        f"Import/{IMPORT}: {len(found)} events for {OLD_ENVELOPES} envelopes",
        came_true=found == sorted(demo_run.old),
    )
    for envelope in demo_run.old:
        calls = demo_run.esaw.delete_calls(envelope)
        checks.check(
            group,
            f"{envelope}: deleted in eSAW once, after the download of every file",
            came_true=len(calls) == 1 and not calls[0].missing and not demo_run.esaw.exists(envelope),
        )


def _check_deletions(demo_run: DemoRun, checks: DemoChecks) -> None:
    lines = []
    for part in DELETED:
        calls = demo_run.esaw.delete_calls(demo_run.ids[part])
        after_all = all(not call.missing for call in calls)
        lines.append(
            f"  {demo_run.ids[part]}  {NAMES[part]}: {len(calls)} delete call, last of all: {after_all}"
        )
        checks.check(
            f"{len(DELETED)} of the first envelopes: deleted in eSAW once, after the download of every file",
            f"{NAMES[part]}: deleted once, after the download of every file",
            came_true=not demo_run.esaw.exists(demo_run.ids[part]) and len(calls) == 1 and after_all,
        )
    demo_run.output.detail("What was deleted in eSAW:", *lines)
    for part in KEPT:
        checks.check(
            f"{len(KEPT)} of the first envelopes: not deleted in eSAW, because not archived completely",
            f"{NAMES[part]}: still in eSAW",
            came_true=demo_run.esaw.exists(demo_run.ids[part])
            and not demo_run.esaw.delete_calls(demo_run.ids[part]),
        )


async def _check_archive(
    demo_run: DemoRun, title: str, root: Path, checks: DemoChecks, *, expected: int
) -> None:
    group = f"{title}: sha256sum and counterfoil.cli.verify accept all {expected} envelopes"
    folders = [found.parent for found in sorted(root.rglob("counterfoil.sha256"))]
    verify = [sys.executable, "-m", "counterfoil.cli.verify"]
    key = ("--public-key", demo_run.public_key)
    reports = await asyncio.gather(*(run([*verify, folder, *key]) for folder in folders))
    for folder, verified in zip(folders, reports, strict=True):
        checked = await run([_SHA256SUM, "-c", "counterfoil.sha256"], cwd=folder)
        demo_run.output.detail(
            f"$ {shell_command('cd', folder)} && sha256sum -c counterfoil.sha256",
            *checked.out.rstrip().splitlines(),
            f"$ {shell_command(*verify, folder, *key)}",
            *verified.out.rstrip().splitlines(),
        )
        checks.check(group, f"{title}: sha256sum accepts {folder.name}", came_true=checked.code == 0)
        checks.check(
            group,
            f"{title}: counterfoil.cli.verify finds the files of {folder.name} as the manifest says",
            came_true=verified.code == 0,
        )
        checks.check(
            "the manifest of each archived envelope has the seal of the controller's key",
            f"{title}: the manifest of {folder.name} is sealed",
            came_true="ok          counterfoil.json.sig: fits the manifest" in verified.out,
        )
    checks.check(group, f"{title}: {expected} envelopes are archived", came_true=len(folders) == expected)


def _check_manifest(demo_run: DemoRun, checks: DemoChecks) -> None:
    """Compare the manifest with what eSAW really has, not with the archive."""
    manifest = next(demo_run.folder.rglob(f"{demo_run.ids['completed']}/counterfoil.json"))
    demo_run.output.detail(f"$ {shell_command('cat', manifest)}", *manifest.read_text().splitlines())
    files = {each["fileID"]: each["sha256"] for each in json.loads(manifest.read_text())["files"]}
    sent = {
        each.file_id: demo_run.esaw.expected_sha256(each.file_id)
        for each in demo_run.esaw.files(demo_run.ids["completed"])
    }
    checks.check(
        f"the manifest has all {len(sent)} files of eSAW, byte for byte",
        f"{NAMES['completed']}: all {len(sent)} files of eSAW are in the manifest, byte for byte",
        came_true=files == sent,
    )


def _check_evidence(demo_run: DemoRun, checks: DemoChecks) -> None:
    group = "a missing audit trail is reported"
    manifest = next(demo_run.folder.rglob(f"{demo_run.ids['no audit trail']}/counterfoil.json"))
    kinds = [each["kind"] for each in json.loads(manifest.read_text())["files"]]
    checks.check(
        group, f"{NAMES['no audit trail']}: archived is {', '.join(kinds)}", came_true=kinds == ["Document"]
    )
    checks.check(
        group,
        f"kubectl counterfoil check: deviates in {', '.join(demo_run.deviations)}",
        came_true=demo_run.deviations == ["envelope-audit-trail"],
    )


def check_processes(processes: Iterable[CounterfoilProcess], checks: DemoChecks) -> None:
    """Check that no process of Counterfoil has ended; an ended one is shown with the end of its log."""
    for each in processes:
        ended = each.server.ended
        checks.check(
            "every process of Counterfoil still runs",
            process_end(each) if ended else f"{each.name} runs",
            came_true=not ended,
        )
