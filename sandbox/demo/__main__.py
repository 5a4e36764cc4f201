"""
``make demo``: the main job on this machine, with nothing installed and nothing left behind.

A real API server, the stand-in eSAW, a receiver, a controller, a folder and an S3 server as archives
(``ARCHIVE=KIND``: a server of another kind instead of S3, see ``demo_archives``). Envelopes of each kind go
through while the table of events is printed as it changes; then somebody sends from eSAW's web page
(``demo_consent``); then the archives, a manifest and what was deleted. Exit status 0 only if all of it came
out as it must. ``KEEP=1`` leaves everything running and says what to type next.
"""

import asyncio
import json
import os
import shutil
import signal
import sys
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from sandbox.controlplane import rbac
from sandbox.controlplane.control_plane import control_plane
from sandbox.controlplane.folders import owned_folder
from sandbox.controlplane.processes import CommandResult, run
from sandbox.demo import consent
from sandbox.demo.archives import (
    SECOND,
    DemoArchive,
    UnknownArchiveKind,
    copy_files,
    demo_archive,
    print_tags,
)
from sandbox.environment.local import LocalEnvironment, local_environment
from sandbox.environment.processes import CounterfoilProcess
from sandbox.esaw import DocumentSpec, StandIn, User

NAMESPACE = "demo"
TIMEOUT_SECONDS = 90.0
METADATA = "<contract><customer>Rossi &amp; Figli</customer><number>2026-0815</number></contract>"
DUPLICATES = 30

_SHA256SUM = shutil.which("sha256sum") or "sha256sum"


@dataclass
class DemoChecks:
    """The checks and their results."""

    lines: list[tuple[bool, str]] = field(default_factory=list)

    def check(self, what: str, *, came_true: bool) -> None:
        """Note one expectation."""
        self.lines.append((came_true, what))

    def print(self) -> bool:
        """Print all; tell whether everything came true."""
        for came_true, what in self.lines:
            print(f"  {'ok    ' if came_true else 'FAILED'}  {what}")
        return all(came_true for came_true, _ in self.lines)


@dataclass
class DemoRun:
    """The parts of a demo run."""

    local_environment: LocalEnvironment
    second: DemoArchive
    """The archive that Globex files into."""
    folder: Path
    """The archive that Acme files into."""
    receiver: CounterfoilProcess
    controller: CounterfoilProcess
    consent_demo: consent.ConsentDemo
    anna: User
    ben: User
    deviations: list[str] = field(default_factory=list)
    """The facts that the check of eSAW found to deviate."""
    envelopes: dict[str, str] = field(default_factory=dict)
    """Envelope id by its part in the story."""

    @property
    def esaw(self) -> StandIn:
        """The stand-in eSAW."""
        return self.local_environment.esaw

    async def phase(self, part: str) -> tuple[str, str]:
        """Return phase and reason of the event of one envelope."""
        found = await self.local_environment.events("-l", f"counterfoil.dev/envelope={self.envelopes[part]}")
        if not found:
            return ("", "")
        status = found[0]["status"]
        return (status["phase"], status.get("reason", ""))


def say(text: str) -> None:
    """Print a heading with the time since the start."""
    print(f"\n[{time.monotonic() - _STARTED:5.1f} s] {text}", flush=True)


_STARTED = time.monotonic()


async def demo() -> bool:
    """Play the whole story; tell whether it came out as it must."""
    with owned_folder("counterfoil-demo-") as temporary:
        async with _set_up(temporary) as demo_run:
            await _run_scenarios(demo_run)
            consents = await consent.run_consent_demo(demo_run.consent_demo, demo_run.receiver, say)
            checks = await _check_all(demo_run)
            for what, came_true in consents:
                checks.check(f"Carla: {what}", came_true=came_true)
            say("What had to be seen")
            good = checks.print()
            if os.environ.get("KEEP") == "1":
                await _keep_running(demo_run)
                good = _all_run(demo_run) and good
    say("Everything came out as it must." if good else "Something did not come out as it must.")
    return good


@asynccontextmanager
async def _set_up(folder: Path) -> AsyncIterator[DemoRun]:
    opened = demo_archive(os.environ.get("ARCHIVE") or "s3", folder)
    async with AsyncExitStack() as stack:
        say("Starting a real control plane (the first time ever it is built, which takes some minutes)")
        plane = await stack.enter_async_context(control_plane())
        await plane.apply_crds()
        await plane.namespace(NAMESPACE)
        say("Starting the stand-in eSAW, a server for the second archive, the receiver and the controller")
        second = await stack.enter_async_context(opened)
        built = await stack.enter_async_context(local_environment(plane, folder, namespace=NAMESPACE))
        anna = built.esaw.add_user(email="anna.kofler@example.com", given_name="Anna", surname="Kofler")
        ben = built.esaw.add_user(email="ben.huber@example.com", given_name="Ben", surname="Huber")
        root = folder / "archive"
        root.mkdir()
        await _install(built, second, root, anna, ben)
        controller = await built.controller()
        await built.ready("archive/folder", f"archive/{SECOND}", "org/acme", "org/globex")
        receiver = await built.receiver()
        consent_demo = await stack.enter_async_context(consent.consent_demo(built, folder))
        yield DemoRun(built, second, root, receiver, controller, consent_demo, anna, ben)


async def _install(built: LocalEnvironment, second: DemoArchive, root: Path, anna: User, ben: User) -> None:
    """Objects that a platform engineer applies: two Archives, two Organizations that delete in eSAW,
    two Senders with the keys they brought."""
    tags = {"customer": {"xpath": "/contract/customer", "required": True}, "system": {"value": "eSAW"}}
    await built.archive("folder", filesystem={"root": str(root)}, tags=tags)
    await built.secret(SECOND, "archive", **second.secret)
    await built.archive(
        SECOND,
        **second.spec,
        path="{{tags.customer}}/{{envelope.id}}/{{file.kind}}-{{file.name}}",
        tags=tags,
    )
    # A second is enough here: the stand-in lists the audit trail with the documents, or never.
    await built.organization("acme", archive="folder", sender="anna", evidence={"wait": "1s"})
    await built.organization("globex", archive=SECOND, sender="ben")
    await built.sender("anna", anna, organization="acme")
    await built.sender("ben", ben, organization="globex")


async def _run_scenarios(demo_run: DemoRun) -> None:
    esaw, envelopes = demo_run.esaw, demo_run.envelopes
    esaw.set_default_callbacks(
        completed=demo_run.local_environment.callback_url("acme", demo_run.receiver), status_change=None
    )
    contract = DocumentSpec(name="Vertrag Müller/Rossi 2026.pdf")

    say("A contract with two documents, an attachment and a legal document is signed by all: eSAW calls back")
    envelopes["completed"] = esaw.add_envelope(
        sender=demo_run.anna,
        name="Rental contract",
        status="Active",
        documents=[contract, DocumentSpec(name="../../etc/passwd.pdf")],
        attachments=[DocumentSpec(name="floor plan.png")],
        legal_documents=[DocumentSpec(name="CA22D.pdf")],
        audit_trail_per_document=True,
        metadata=METADATA,
    )
    await esaw.complete(envelopes["completed"])

    say(
        "Others: one is rejected, one has no audit trail, one was deleted before we came, one is forged, one "
        "is called about 30 times at once"
    )
    envelopes["rejected"] = esaw.add_envelope(sender=demo_run.anna, status="Active", metadata=METADATA)
    await esaw.reject(envelopes["rejected"])
    envelopes["no audit trail"] = esaw.add_envelope(
        sender=demo_run.anna, status="Active", documents=[contract], audit_trail=False, metadata=METADATA
    )
    await esaw.complete(envelopes["no audit trail"])
    envelopes["deleted"] = esaw.add_envelope(sender=demo_run.anna, status="Completed", metadata=METADATA)
    await esaw.delete(envelopes["deleted"])
    await esaw.repeat_callback(envelopes["deleted"])
    envelopes["forged"] = str(uuid.uuid4())
    async with httpx.AsyncClient(trust_env=False) as http:
        await http.get(_callback_url(demo_run, "acme", envelopes["forged"]))
    envelopes["duplicates"] = esaw.add_envelope(
        sender=demo_run.anna, status="Completed", documents=[contract], metadata=METADATA
    )
    await esaw.repeat_callback(envelopes["duplicates"], times=DUPLICATES)

    say(
        f"Globex files into {demo_run.second.title}; then the key of its sender is revoked, and an envelope "
        "comes that needs it"
    )
    esaw.set_default_callbacks(
        completed=demo_run.local_environment.callback_url("globex", demo_run.receiver), status_change=None
    )
    envelopes["second archive"] = esaw.add_envelope(
        sender=demo_run.ben, status="Active", documents=[contract], metadata=METADATA
    )
    await esaw.complete(envelopes["second archive"])
    await _watch(demo_run, lambda table: _finished_count(table) == len(envelopes))
    esaw.revoke(demo_run.ben)
    envelopes["revoked key"] = esaw.add_envelope(
        sender=demo_run.ben, status="Active", documents=[contract], metadata=METADATA
    )
    await esaw.complete(envelopes["revoked key"])
    await _watch(demo_run, lambda table: "AwaitingConsent" in table)

    say("Ben's new key is put into his Secret; the events that waited for it continue automatically")
    await demo_run.local_environment.secret("ben-key", "token", token=esaw.new_token(demo_run.ben))
    await _watch(demo_run, lambda table: _finished_count(table) == len(envelopes))
    await esaw.callbacks_settled()

    say("One audit trail never came: what eSAW had is archived, and the envelope stays in eSAW")
    await _plugin(demo_run, "why", envelopes["no audit trail"])

    say("Does this eSAW behave as Counterfoil assumes? The check asks it, also about that envelope")
    checked = await _plugin(demo_run, "check", "acme", "--envelope", envelopes["no audit trail"])
    lines = (line.split() for line in checked.out.splitlines())
    demo_run.deviations += [words[1] for words in lines if words[:1] == ["deviates"]]


async def _plugin(demo_run: DemoRun, *arguments: str) -> CommandResult:
    """Run and print ``kubectl counterfoil``, as an administrator."""
    plane = demo_run.local_environment.plane
    done = await run(
        [sys.executable, "-m", "counterfoil.cli.plugin.entry_point", "-n", NAMESPACE, *arguments],
        environment={**os.environ, "KUBECONFIG": str(plane.kubeconfig)},
    )
    print(
        f"\n$ kubectl counterfoil {' '.join(arguments)}", (done.out + done.err).rstrip(), sep="\n", flush=True
    )
    return done


def _callback_url(demo_run: DemoRun, organization: str, envelope: str) -> str:
    url = demo_run.local_environment.callback_url(organization, demo_run.receiver)
    return url.replace("##EnvelopeId##", envelope).replace("##Action##", "envelopeFinished")


def _finished_count(table: str) -> int:
    return sum(
        any(f" {phase} " in line for phase in ("Succeeded", "Skipped", "Failed"))
        for line in table.splitlines()
    )


async def _watch(demo_run: DemoRun, enough: Callable[[str], bool]) -> None:
    """Print ``kubectl get envelopeevents`` each time it has changed, until it says what is waited for."""
    shown: list[str] = []
    until = time.monotonic() + TIMEOUT_SECONDS
    while time.monotonic() < until:
        table = await demo_run.local_environment.kubectl("get", "envelopeevents")
        ageless = [line.rsplit(maxsplit=1)[0] for line in table.splitlines() if line]
        if ageless != shown:
            print("\n$ kubectl get envelopeevents", table.rstrip(), sep="\n", flush=True)
            shown = ageless
        if enough(table):
            return
        await asyncio.sleep(0.3)
    raise TimeoutError(f"the events did not come where they must within {TIMEOUT_SECONDS:.0f} s")


async def _check_all(demo_run: DemoRun) -> DemoChecks:
    checks = DemoChecks()
    await _check_phases(demo_run, checks)
    await _check_deliveries(demo_run, checks)
    _check_deletions(demo_run, checks)
    say("The archives")
    second = await copy_files(demo_run.second, demo_run.local_environment.folder)
    for title, root in (("folder", demo_run.folder), (demo_run.second.title, second)):
        print(f"\n{title}:")
        _print_tree(root)
        await _check_archive(title, root, checks, expected=3 if root == demo_run.folder else 2)
    await print_tags(demo_run.second, second)
    manifest = next(demo_run.folder.rglob(f"{demo_run.envelopes['completed']}/counterfoil.json"))
    print(f"\n$ cat {manifest.relative_to(demo_run.folder)}", manifest.read_text(), sep="\n")
    _check_hashes(demo_run, checks)
    _check_incomplete(demo_run, checks)
    return checks


async def _check_phases(demo_run: DemoRun, checks: DemoChecks) -> None:
    expected = {
        "completed": ("Succeeded", "ArchivedAndDeleted"),
        "rejected": ("Skipped", "UnexpectedStatus"),
        "no audit trail": ("Failed", "AuditTrailMissing"),
        "deleted": ("Failed", "EnvelopeDeleted"),
        "forged": ("Failed", "EnvelopeNotFound"),
        "duplicates": ("Succeeded", "ArchivedAndDeleted"),
        "second archive": ("Succeeded", "ArchivedAndDeleted"),
        "revoked key": ("Succeeded", "ArchivedAndDeleted"),
    }
    for part, wanted in expected.items():
        found = await demo_run.phase(part)
        checks.check(f"{part}: {'/'.join(found)}", came_true=found == wanted)
    async with httpx.AsyncClient(trust_env=False) as http:
        wrong = _callback_url(demo_run, "acme", demo_run.envelopes["forged"]).replace(
            demo_run.local_environment.tokens["acme"], "a" * 48
        )
        checks.check(
            "a callback with a wrong token: 404", came_true=(await http.get(wrong)).status_code == 404
        )


async def _check_deliveries(demo_run: DemoRun, checks: DemoChecks) -> None:
    """The counts are written about once a second, so the last of them may take that long."""
    counted = 0
    for _ in range(50):
        found = await demo_run.local_environment.events(
            "-l", f"counterfoil.dev/envelope={demo_run.envelopes['duplicates']}"
        )
        counted = found[0]["status"].get("deliveries", 0)
        if counted == DUPLICATES:
            break
        await asyncio.sleep(0.2)
    checks.check(
        f"{DUPLICATES} callbacks at once: {len(found)} event with {counted} deliveries",
        came_true=(len(found), counted) == (1, DUPLICATES),
    )


def _check_deletions(demo_run: DemoRun, checks: DemoChecks) -> None:
    say("What was deleted in eSAW")
    for part in ("completed", "duplicates", "second archive", "revoked key"):
        calls = demo_run.esaw.delete_calls(demo_run.envelopes[part])
        after_all = all(not call.missing for call in calls)
        print(
            f"  {demo_run.envelopes[part]}  {part}: {len(calls)} delete call, after all files had been "
            f"downloaded: {after_all}"
        )
        gone = not demo_run.esaw.exists(demo_run.envelopes[part])
        checks.check(f"{part}: deleted once, last of all", came_true=gone and len(calls) == 1 and after_all)
    for part in ("rejected", "no audit trail"):
        kept = demo_run.esaw.exists(demo_run.envelopes[part])
        checks.check(
            f"{part}: still in eSAW",
            came_true=kept and not demo_run.esaw.delete_calls(demo_run.envelopes[part]),
        )


async def _check_archive(title: str, root: Path, checks: DemoChecks, *, expected: int) -> None:
    folders = [found.parent for found in sorted(root.rglob("counterfoil.sha256"))]
    verify = [sys.executable, "-m", "counterfoil.cli.verify"]
    reports = await asyncio.gather(*(run([*verify, folder]) for folder in folders))
    for folder, verified in zip(folders, reports, strict=True):
        print(f"\n$ cd {folder.relative_to(root)} && sha256sum -c counterfoil.sha256")
        checked = await run([_SHA256SUM, "-c", "counterfoil.sha256"], cwd=folder)
        print(checked.out.rstrip())
        checks.check(f"{title}: sha256sum accepts {folder.name}", came_true=checked.code == 0)
        print(f"\n$ python -m counterfoil.cli.verify {folder.name}", verified.out.rstrip(), sep="\n")
        checks.check(
            f"{title}: counterfoil.cli.verify finds the files of {folder.name} as the manifest says",
            came_true=verified.code == 0,
        )
    checks.check(f"{title}: {expected} envelopes are filed", came_true=len(folders) == expected)


def _check_hashes(demo_run: DemoRun, checks: DemoChecks) -> None:
    """Hold the manifest against what eSAW really has, not against itself."""
    manifest = next(demo_run.folder.rglob(f"{demo_run.envelopes['completed']}/counterfoil.json"))
    files = {each["fileID"]: each["sha256"] for each in json.loads(manifest.read_text())["files"]}
    sent = {
        each.file_id: demo_run.esaw.expected_sha256(each.file_id)
        for each in demo_run.esaw.files(demo_run.envelopes["completed"])
    }
    checks.check(
        f"completed: all {len(sent)} files of eSAW are in the manifest, byte for byte",
        came_true=files == sent,
    )


def _check_incomplete(demo_run: DemoRun, checks: DemoChecks) -> None:
    manifest = next(demo_run.folder.rglob(f"{demo_run.envelopes['no audit trail']}/counterfoil.json"))
    kinds = [each["kind"] for each in json.loads(manifest.read_text())["files"]]
    checks.check(f"no audit trail: archived is {', '.join(kinds)}", came_true=kinds == ["Document"])
    deviations = demo_run.deviations
    checks.check(
        f"check: deviates in {', '.join(deviations)}", came_true=deviations == ["envelope-audit-trail"]
    )


def _print_tree(root: Path) -> None:
    for path in sorted(root.rglob("*")):
        depth = len(path.relative_to(root).parts)
        size = f"  {path.stat().st_size:,} bytes" if path.is_file() else ""
        print(f"{'    ' * depth}{path.name}{'/' if path.is_dir() else ''}{size}")


async def _keep_running(demo_run: DemoRun) -> None:
    say("Everything runs until Ctrl-C. In another terminal:")
    plane, url = demo_run.local_environment.plane, _callback_url(demo_run, "acme", "$ID")
    console = await demo_run.local_environment.console()
    token = await demo_run.local_environment.person("jane", *rbac.ADMINISTRATOR)
    print(
        f"""
  export KUBECONFIG={plane.kubeconfig} PATH={Path(sys.executable).parent}:{plane.kubectl.program.parent}:$PATH
  kubectl -n {NAMESPACE} get counterfoil
  kubectl counterfoil why -n {NAMESPACE} {demo_run.envelopes["no audit trail"]}
  kubectl -n {NAMESPACE} get envelopeevents --watch
  kubectl -n {NAMESPACE} describe ee -l counterfoil.dev/envelope={demo_run.envelopes["forged"]}
  kubectl -n {NAMESPACE} label ee --field-selector status.phase=Failed counterfoil.dev/request=retry
  kubectl -n {NAMESPACE} explain organization.spec

{consent.manual_steps(demo_run.consent_demo)}
  The console:           {console.public}
  Its token (of jane):   {token}
  A callback:            ID=$(cat /proc/sys/kernel/random/uuid); curl -i "{url}"
  The stand-in eSAW:     {demo_run.esaw.url}/Api/v6/system/version
  Metrics:               curl {demo_run.controller.private}/metrics
  Logs and archives:     {demo_run.local_environment.folder}
""",
        flush=True,
    )
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, stop.set)
    await stop.wait()


def _all_run(demo_run: DemoRun) -> bool:
    """Whether no process of Counterfoil ended meanwhile; name those that did, with the place of their log."""
    ended = [each for each in demo_run.local_environment.processes if each.server.ended]
    for process in ended:
        status = process.server.exit_code
        print(f"  FAILED  the process {process.name} ended meanwhile with {status}: {process.log}")
    return not ended


def main() -> int:
    """Run the demo; return the exit status."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return 0 if asyncio.run(demo()) else 1
    except UnknownArchiveKind as unknown:
        print(unknown, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
