"""
``make demo``: the main job on this machine, with nothing installed and nothing left behind.

A real API server, the stand-in eSAW, a receiver, a controller, a folder and an S3 server as archives
(``ARCHIVE=KIND``: a server of another kind instead of S3, see ``sandbox.demo.archives``). Envelopes of each
kind go through while a table of them fills, and an Import finds old ones (``scenarios``). Then somebody sends
from eSAW's web page (``consent``). Then come the archives and the checks (``checks``). Exit status 0 only if
every check came true and every process still runs. ``VERBOSE=1`` prints all details; ``KEEP=1`` leaves
everything running and prints the next commands.
"""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sandbox.controlplane import control_plane, rbac
from sandbox.controlplane.binaries import ensure
from sandbox.controlplane.folders import owned_folder
from sandbox.demo import archives, consent
from sandbox.demo.archives import (
    SECOND,
    WORM,
    DemoArchive,
    UnknownArchiveKind,
    WormArchive,
    demo_archive,
    worm_archive,
)
from sandbox.demo.checks import DemoChecks, check_all, check_processes
from sandbox.demo.envelopes import DemoEnvelopes, DemoStopped
from sandbox.demo.output import DemoOutput, shell_command
from sandbox.demo.scenarios import (
    NAMESPACE,
    STAFF,
    DemoRun,
    another_envelope,
    callback_url,
    run_scenarios,
    show_import,
)
from sandbox.environment.local import LocalEnvironment, local_environment
from sandbox.esaw import User

MAIL_SECONDS = 1.0
"""Interval between looks for mails, with KEEP=1."""


async def demo(settings: Mapping[str, str]) -> bool:
    """Play the whole story; tell whether it ended as it must."""
    output = DemoOutput.to_stdout(verbose=settings.get("VERBOSE") == "1")
    with owned_folder("counterfoil-demo-") as temporary:
        async with _set_up(temporary, settings.get("ARCHIVE") or "s3", output) as demo_run:
            await run_scenarios(demo_run)
            consents = await consent.run_consent_demo(demo_run.consent_demo, demo_run.receiver)
            await show_import(demo_run)
            await demo_run.envelopes.refresh()
            output.end_table()
            checks = await check_all(demo_run)
            for what, came_true in consents:
                checks.check(
                    "Carla's 4 envelopes: asked for consent once, one mail for a lost key",
                    what,
                    came_true=came_true,
                )
            _check_end(demo_run, checks)
            if settings.get("KEEP") == "1":
                await _keep_running(demo_run)
                checks = DemoChecks()
                _check_end(demo_run, checks)
                return checks.all_true
            if checks.all_true:
                output.lines("", "To look around in the console and with kubectl: make demo KEEP=1")
            return checks.all_true


def _check_end(demo_run: DemoRun, checks: DemoChecks) -> None:
    check_processes(demo_run.local_environment.processes, checks)
    demo_run.output.step(
        "Checks, and how many of them came true"
        if checks.all_true
        else "Checks: something is not as it must be"
    )
    demo_run.output.lines(*(checks.long() if demo_run.output.verbose else checks.short()))


@asynccontextmanager
async def _set_up(folder: Path, kind: str, output: DemoOutput) -> AsyncIterator[DemoRun]:
    opened = demo_archive(kind, folder)
    async with AsyncExitStack() as stack:
        output.step(
            "Starting a real Kubernetes API server (the first run downloads it, or builds it in some minutes)"
        )
        # All at the same time.
        programs = {*archives.PROGRAMS.get(kind, ()), *archives.PROGRAMS["s3"]}
        await ensure(*control_plane.PROGRAMS, *sorted(programs))
        plane = await stack.enter_async_context(control_plane.control_plane())
        await plane.apply_crds()
        await plane.namespace(NAMESPACE)
        output.step("Starting the stand-in eSAW, an archive server, the receiver and the controller")
        second = await stack.enter_async_context(opened)
        worm = await stack.enter_async_context(worm_archive())
        # With KEEP=1, somebody may add an archive that is elsewhere.
        environment = local_environment(plane, folder, namespace=NAMESPACE, public_authorities=True)
        built = await stack.enter_async_context(environment)
        anna = built.esaw.add_user(email="anna.kofler@example.com", given_name="Anna", surname="Kofler")
        ben = built.esaw.add_user(email="ben.huber@example.com", given_name="Ben", surname="Huber")
        root = folder / "archive"
        root.mkdir()
        await _install(built, second, worm, root, anna=anna, ben=ben)
        receiver = await built.receiver()
        # Its address is in the callback URLs of all Organizations, also of the one whose pages have another.
        private, public = _key_files(folder)
        controller = await built.controller(callback_url=receiver.public, manifest_key=str(private))
        archives_ready = (f"archive/{each}" for each in ("folder", SECOND, WORM))
        await built.ready(*archives_ready, "org/acme", "org/globex")
        envelopes = DemoEnvelopes(built, output)
        consent_demo = await stack.enter_async_context(consent.consent_demo(built, envelopes, folder))
        yield DemoRun(
            built,
            output,
            second,
            worm,
            root,
            public,
            receiver,
            controller,
            consent_demo,
            anna,
            ben,
            envelopes,
        )


def _key_files(folder: Path) -> tuple[Path, Path]:
    """Make the key that seals manifests, as docs/proof.md does; return the files of both halves."""
    key = Ed25519PrivateKey.generate()
    private, public = folder / "private.pem", folder / "public.pem"
    encoding = serialization.Encoding.PEM
    private.write_bytes(
        key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    public.write_bytes(
        key.public_key().public_bytes(encoding, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    return private, public


async def _install(
    built: LocalEnvironment, second: DemoArchive, worm: WormArchive, root: Path, *, anna: User, ben: User
) -> None:
    """Objects that a platform engineer applies: three Archives, two Organizations that delete in eSAW,
    two Senders with the keys they brought. Acme has a route, and Globex a copy."""
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
    await built.secret(WORM, "archive", **worm.secret)
    await built.archive(WORM, **worm.spec)
    staff = {"tags": {"customer": {"values": [STAFF]}}}
    route = {"name": "staff", "archiveRef": {"name": SECOND}, "when": staff}
    await built.organization("acme", archive="folder", sender="anna", evidence={"wait": "1s"}, routes=[route])
    await built.organization("globex", archive=SECOND, sender="ben", copies=[{"archiveRef": {"name": WORM}}])
    await built.sender("anna", anna, organization="acme")
    await built.sender("ben", ben, organization="globex")


async def _keep_running(demo_run: DemoRun) -> None:
    console = await demo_run.local_environment.console()
    token = await demo_run.local_environment.person("jane", *rbac.ADMINISTRATOR)
    demo_run.output.step("Everything runs until Ctrl-C")
    demo_run.output.lines("", *_next_steps(demo_run, console.public, token))
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, stop.set)
    mails = asyncio.create_task(_show_mails(demo_run))
    await stop.wait()
    mails.cancel()


async def _show_mails(demo_run: DemoRun) -> None:
    """Print each mail of Counterfoil, also those of the story."""
    received, shown = demo_run.consent_demo.mail.mails, 0
    while True:
        for mail in received[shown:]:
            demo_run.output.step(f"Mail to {', '.join(mail.to)}: {mail.subject}")
            demo_run.output.lines(*mail.text.rstrip().splitlines())
        shown = len(received)
        await asyncio.sleep(MAIL_SECONDS)


def _next_steps(demo_run: DemoRun, console: str, token: str) -> list[str]:
    """Return what to open and to type; every command can be pasted into a shell."""
    plane, programs = demo_run.local_environment.plane, Path(sys.executable).parent
    path = f"PATH={shell_command(programs)}:{shell_command(plane.kubectl.program.parent)}:$PATH"
    archived = next(demo_run.folder.rglob(f"{demo_run.ids['completed']}/counterfoil.json")).parent
    callback = callback_url(demo_run, "acme", "$ID")
    order = demo_run.local_environment.folder / "another-envelope.json"
    url = demo_run.local_environment.callback_url("acme", demo_run.receiver)
    order.write_bytes(another_envelope(demo_run.anna, url))
    return f"""\
  The console:           {console}
  Its token (of jane):   {token}

  In another terminal; PATH has kubectl, its plugin "counterfoil" and this Python:
  export KUBECONFIG={shell_command(plane.kubeconfig)} {path}
  kubectl config set-context --current --namespace {NAMESPACE}
  kubectl get counterfoil
  kubectl get envelopeevents --watch
  kubectl counterfoil why {demo_run.ids["no audit trail"]}
  kubectl counterfoil retry --all-failed --dry-run
  kubectl counterfoil --help
  kubectl describe ee -l counterfoil.dev/envelope={demo_run.ids["forged"]}
  kubectl explain organization.spec

  One archived envelope:
  {shell_command("cd", archived)} && sha256sum -c counterfoil.sha256
  python -m counterfoil.cli.verify {shell_command(archived)} --public-key {shell_command(demo_run.public_key)}

  Send one more as Anna: ID=$(curl -s -d @{shell_command(order)} \
{demo_run.esaw.url}/_control/add_envelope | tr -d '"')
  Then let all sign:     curl -d '{{"envelope_id":"'$ID'"}}' {demo_run.esaw.url}/_control/complete
{consent.manual_steps(demo_run.consent_demo)}
  Mails:                 appear below
  A callback:            ID=$(cat /proc/sys/kernel/random/uuid); curl -i "{callback}"
  The stand-in eSAW:     {demo_run.esaw.url}/Api/v6/system/version
  Metrics:               curl {demo_run.controller.private}/metrics
  Logs and archives:     {demo_run.local_environment.folder}""".splitlines()


def main() -> int:
    """Run the demo; return the exit status."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return 0 if asyncio.run(demo(os.environ)) else 1
    except UnknownArchiveKind as unknown:
        print(unknown, file=sys.stderr)
        return 2
    except DemoStopped as stopped:
        print(f"\nThe demo stopped: {stopped}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
