"""
``make demo``: the main job on this machine, with nothing installed and nothing left behind.

A real API server, the stand-in eSAW, a receiver, a controller, a folder and an S3 server as archives (``ARCHIVE=KIND``: a
server of another kind instead of S3, see ``demo_archives``). Envelopes of each kind go through while the table of events is
printed as it changes; then somebody sends from eSAW's web page (``demo_consent``); then the archives, a manifest and what was
deleted.
Exit status 0 only if all of it came out as it must. ``KEEP=1`` leaves everything running and says what to type next.
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

from sandbox import demo_consent, rights
from sandbox.controlplane.folders import owned_folder
from sandbox.controlplane.plane import control_plane
from sandbox.controlplane.processes import run
from sandbox.demo_archives import SECOND, Destination, UnknownKind, copied, destination, print_tags
from sandbox.esaw import DocumentSpec, StandIn, User
from sandbox.stage import Process, Stage, stage

NAMESPACE = "demo"
PATIENCE_SECONDS = 90.0
METADATA = "<contract><customer>Rossi &amp; Figli</customer><number>2026-0815</number></contract>"
DUPLICATES = 30

_SHA256SUM = shutil.which("sha256sum") or "sha256sum"


@dataclass
class Verdicts:
    """What had to be seen, and whether it was."""

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
class Scene:
    """What is on stage."""

    stage: Stage
    second: Destination
    """The archive that Globex files into."""
    folder: Path
    """The archive that Acme files into."""
    receiver: Process
    controller: Process
    consenting: demo_consent.Consenting
    anna: User
    ben: User
    envelopes: dict[str, str] = field(default_factory=dict)
    """Envelope id by its part in the story."""

    @property
    def esaw(self) -> StandIn:
        """The stand-in eSAW."""
        return self.stage.esaw

    async def phase(self, part: str) -> tuple[str, str]:
        """Return phase and reason of the event of one envelope."""
        found = await self.stage.events("-l", f"counterfoil.dev/envelope={self.envelopes[part]}")
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
        async with _scene(temporary) as scene:
            await _story(scene)
            consents = await demo_consent.play(scene.consenting, scene.receiver, say)
            verdicts = await _judge(scene)
            for what, came_true in consents:
                verdicts.check(f"Carla: {what}", came_true=came_true)
            say("What had to be seen")
            good = verdicts.print()
            if os.environ.get("KEEP") == "1":
                await _keep(scene)
    say("Everything came out as it must." if good else "Something did not come out as it must.")
    return good


@asynccontextmanager
async def _scene(folder: Path) -> AsyncIterator[Scene]:
    opened = destination(os.environ.get("ARCHIVE") or "s3", folder)
    async with AsyncExitStack() as stack:
        say("Starting a real control plane (the first time ever it is built, which takes some minutes)")
        plane = await stack.enter_async_context(control_plane())
        await plane.apply_crds()
        await plane.namespace(NAMESPACE)
        say("Starting the stand-in eSAW, a server for the second archive, the receiver and the controller")
        second = await stack.enter_async_context(opened)
        built = await stack.enter_async_context(stage(plane, folder, namespace=NAMESPACE))
        anna = built.esaw.add_user(email="anna.kofler@example.com", given_name="Anna", surname="Kofler")
        ben = built.esaw.add_user(email="ben.huber@example.com", given_name="Ben", surname="Huber")
        root = folder / "archive"
        root.mkdir()
        await _install(built, second, root, anna, ben)
        controller = await built.controller()
        await built.ready("archive/folder", f"archive/{SECOND}", "org/acme", "org/globex")
        receiver = await built.receiver()
        consenting = await stack.enter_async_context(demo_consent.consenting(built, folder))
        yield Scene(built, second, root, receiver, controller, consenting, anna, ben)


async def _install(built: Stage, second: Destination, root: Path, anna: User, ben: User) -> None:
    """What a platform engineer applies: two Archives, two Organizations, two Senders with the keys they brought."""
    tags = {"customer": {"xpath": "/contract/customer", "required": True}, "system": {"value": "eSAW"}}
    await built.archive("folder", filesystem={"root": str(root)}, tags=tags)
    await built.secret(SECOND, **second.secret)
    await built.archive(
        SECOND,
        **second.spec,
        path="{{tags.customer}}/{{envelope.id}}/{{file.kind}}-{{file.name}}",
        tags=tags,
    )
    await built.organization("acme", archive="folder", sender="anna")
    await built.organization("globex", archive=SECOND, sender="ben")
    await built.sender("anna", anna, organization="acme")
    await built.sender("ben", ben, organization="globex")


async def _story(scene: Scene) -> None:
    esaw, envelopes = scene.esaw, scene.envelopes
    esaw.set_default_callbacks(completed=scene.stage.callback_url("acme", scene.receiver), status_change=None)
    contract = DocumentSpec(name="Vertrag Müller/Rossi 2026.pdf")

    say("A contract with two documents, an attachment and a legal document is signed by all: eSAW calls back")
    envelopes["completed"] = esaw.add_envelope(
        sender=scene.anna,
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
        "Others: one is rejected, one was deleted before we came, one is forged, one is called about 30 times at once"
    )
    envelopes["rejected"] = esaw.add_envelope(sender=scene.anna, status="Active", metadata=METADATA)
    await esaw.reject(envelopes["rejected"])
    envelopes["deleted"] = esaw.add_envelope(sender=scene.anna, status="Completed", metadata=METADATA)
    await esaw.delete(envelopes["deleted"])
    await esaw.repeat_callback(envelopes["deleted"])
    envelopes["forged"] = str(uuid.uuid4())
    async with httpx.AsyncClient(trust_env=False) as http:
        await http.get(_called(scene, "acme", envelopes["forged"]))
    envelopes["duplicates"] = esaw.add_envelope(
        sender=scene.anna, status="Completed", documents=[contract], metadata=METADATA
    )
    await esaw.repeat_callback(envelopes["duplicates"], times=DUPLICATES)

    say(
        f"Globex files into {scene.second.title}; then the key of its sender is revoked, and an envelope comes that needs it"
    )
    esaw.set_default_callbacks(
        completed=scene.stage.callback_url("globex", scene.receiver), status_change=None
    )
    envelopes["second archive"] = esaw.add_envelope(
        sender=scene.ben, status="Active", documents=[contract], metadata=METADATA
    )
    await esaw.complete(envelopes["second archive"])
    await _watch(scene, lambda table: _done(table) == len(envelopes))
    esaw.revoke(scene.ben)
    envelopes["revoked key"] = esaw.add_envelope(
        sender=scene.ben, status="Active", documents=[contract], metadata=METADATA
    )
    await esaw.complete(envelopes["revoked key"])
    await _watch(scene, lambda table: "AwaitingConsent" in table)

    say("Ben's new key is put into his Secret; what waited for it goes on by itself")
    await scene.stage.secret("ben-key", token=esaw.new_token(scene.ben))
    await _watch(scene, lambda table: _done(table) == len(envelopes))
    await esaw.callbacks_settled()


def _called(scene: Scene, organization: str, envelope: str) -> str:
    url = scene.stage.callback_url(organization, scene.receiver)
    return url.replace("##EnvelopeId##", envelope).replace("##Action##", "envelopeFinished")


def _done(table: str) -> int:
    return sum(
        any(f" {phase} " in line for phase in ("Succeeded", "Skipped", "Failed"))
        for line in table.splitlines()
    )


async def _watch(scene: Scene, enough: Callable[[str], bool]) -> None:
    """Print ``kubectl get envelopeevents`` each time it has changed, until it says what is waited for."""
    shown: list[str] = []
    until = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < until:
        table = await scene.stage.kubectl("get", "envelopeevents")
        ageless = [line.rsplit(maxsplit=1)[0] for line in table.splitlines() if line]
        if ageless != shown:
            print("\n$ kubectl get envelopeevents", table.rstrip(), sep="\n", flush=True)
            shown = ageless
        if enough(table):
            return
        await asyncio.sleep(0.3)
    raise TimeoutError(f"the events did not come where they must within {PATIENCE_SECONDS:.0f} s")


async def _judge(scene: Scene) -> Verdicts:
    verdicts = Verdicts()
    await _judge_phases(scene, verdicts)
    await _judge_deliveries(scene, verdicts)
    _judge_deletions(scene, verdicts)
    say("The archives")
    second = await copied(scene.second, scene.stage.folder)
    for title, root in (("folder", scene.folder), (scene.second.title, second)):
        print(f"\n{title}:")
        _print_tree(root)
        await _judge_archive(title, root, verdicts)
    await print_tags(scene.second, second)
    manifest = next(scene.folder.rglob("counterfoil.json"))
    print(f"\n$ cat {manifest.relative_to(scene.folder)}", manifest.read_text(), sep="\n")
    _judge_hashes(scene, verdicts)
    return verdicts


async def _judge_phases(scene: Scene, verdicts: Verdicts) -> None:
    expected = {
        "completed": ("Succeeded", "ArchivedAndDeleted"),
        "rejected": ("Skipped", "UnexpectedStatus"),
        "deleted": ("Skipped", "EnvelopeDeleted"),
        "forged": ("Failed", "EnvelopeNotFound"),
        "duplicates": ("Succeeded", "ArchivedAndDeleted"),
        "second archive": ("Succeeded", "ArchivedAndDeleted"),
        "revoked key": ("Succeeded", "ArchivedAndDeleted"),
    }
    for part, wanted in expected.items():
        found = await scene.phase(part)
        verdicts.check(f"{part}: {'/'.join(found)}", came_true=found == wanted)
    async with httpx.AsyncClient(trust_env=False) as http:
        wrong = _called(scene, "acme", scene.envelopes["forged"]).replace(
            scene.stage.tokens["acme"], "a" * 48
        )
        verdicts.check(
            "a callback with a wrong token: 404", came_true=(await http.get(wrong)).status_code == 404
        )


async def _judge_deliveries(scene: Scene, verdicts: Verdicts) -> None:
    """The counts are written about once a second, so the last of them may take that long."""
    counted = 0
    for _ in range(50):
        found = await scene.stage.events("-l", f"counterfoil.dev/envelope={scene.envelopes['duplicates']}")
        counted = found[0]["status"].get("deliveries", 0)
        if counted == DUPLICATES:
            break
        await asyncio.sleep(0.2)
    verdicts.check(
        f"{DUPLICATES} callbacks at once: {len(found)} event with {counted} deliveries",
        came_true=(len(found), counted) == (1, DUPLICATES),
    )


def _judge_deletions(scene: Scene, verdicts: Verdicts) -> None:
    say("What was deleted in eSAW")
    for part in ("completed", "duplicates", "second archive", "revoked key"):
        calls = scene.esaw.delete_calls(scene.envelopes[part])
        after_all = all(not call.missing for call in calls)
        print(
            f"  {scene.envelopes[part]}  {part}: {len(calls)} delete call, after all files had been downloaded: {after_all}"
        )
        gone = not scene.esaw.exists(scene.envelopes[part])
        verdicts.check(f"{part}: deleted once, last of all", came_true=gone and len(calls) == 1 and after_all)
    kept = scene.esaw.exists(scene.envelopes["rejected"])
    verdicts.check(
        "rejected: still in eSAW", came_true=kept and not scene.esaw.delete_calls(scene.envelopes["rejected"])
    )


async def _judge_archive(title: str, root: Path, verdicts: Verdicts) -> None:
    folders = [found.parent for found in sorted(root.rglob("counterfoil.sha256"))]
    for folder in folders:
        print(f"\n$ cd {folder.relative_to(root)} && sha256sum -c counterfoil.sha256")
        checked = await run([_SHA256SUM, "-c", "counterfoil.sha256"], cwd=folder)
        print(checked.out.rstrip())
        verdicts.check(f"{title}: sha256sum accepts {folder.name}", came_true=checked.code == 0)
        verified = await run([sys.executable, "-m", "counterfoil.verify", folder])
        print(f"\n$ python -m counterfoil.verify {folder.name}", verified.out.rstrip(), sep="\n")
        verdicts.check(
            f"{title}: counterfoil.verify finds {folder.name} as it was filed", came_true=verified.code == 0
        )
    verdicts.check(f"{title}: two envelopes are filed", came_true=len(folders) == 2)


def _judge_hashes(scene: Scene, verdicts: Verdicts) -> None:
    """Hold the manifest against what eSAW really has, not against itself."""
    manifest = next(scene.folder.rglob(f"{scene.envelopes['completed']}/counterfoil.json"))
    files = {each["fileId"]: each["sha256"] for each in json.loads(manifest.read_text())["files"]}
    sent = {
        each.file_id: scene.esaw.expected_sha256(each.file_id)
        for each in scene.esaw.files(scene.envelopes["completed"])
    }
    verdicts.check(
        f"completed: all {len(sent)} files of eSAW are in the manifest, byte for byte",
        came_true=files == sent,
    )


def _print_tree(root: Path) -> None:
    for path in sorted(root.rglob("*")):
        depth = len(path.relative_to(root).parts)
        size = f"  {path.stat().st_size:,} bytes" if path.is_file() else ""
        print(f"{'    ' * depth}{path.name}{'/' if path.is_dir() else ''}{size}")


async def _keep(scene: Scene) -> None:
    say("Everything goes on running until Ctrl-C. In another terminal:")
    plane, url = scene.stage.plane, _called(scene, "acme", "$ID")
    console = await scene.stage.console()
    token = await scene.stage.person("jane", *rights.ADMINISTRATOR)
    print(
        f"""
  export KUBECONFIG={plane.kubeconfig} PATH=$PATH:{plane.kubectl.program.parent}
  kubectl -n {NAMESPACE} get counterfoil
  kubectl -n {NAMESPACE} get envelopeevents --watch
  kubectl -n {NAMESPACE} describe ee -l counterfoil.dev/envelope={scene.envelopes["forged"]}
  kubectl -n {NAMESPACE} label ee --field-selector status.phase=Failed counterfoil.dev/request=retry
  kubectl -n {NAMESPACE} explain organization.spec

{demo_consent.by_hand(scene.consenting)}
  The console:           {console.public}
  Its token (of jane):   {token}
  A callback:            ID=$(cat /proc/sys/kernel/random/uuid); curl -i "{url}"
  The stand-in eSAW:     {scene.esaw.url}/Api/v6/system/version
  Metrics:               curl {scene.controller.private}/metrics
  Logs and archives:     {scene.stage.folder}
""",
        flush=True,
    )
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, stop.set)
    await stop.wait()


def main() -> int:
    """Run the demo; return the exit status."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return 0 if asyncio.run(demo()) else 1
    except UnknownKind as unknown:
        print(unknown, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
