"""
A cluster to try things in: ``python -m sandbox.cluster up | down | status``.

``up`` starts a control plane in the background, with our kinds, and prints one line on standard output, to be
evaluated by a shell: ``export KUBECONFIG=...``. Everything else goes to standard error. Saying it again prints the same
line, after applying what changed in crds/. What runs is noted in ./.cluster/, with its kubeconfig and log; no
kubeconfig of the user's is touched.

With ``CLUSTER=kind`` in the environment, ``up`` makes a kind cluster named ``counterfoil`` instead: a whole node, with
pods. It needs the programs ``kind`` and Docker. That way was written from kind's documentation and
was not run on the machine where it was written, which has no Docker.
"""

import argparse
import asyncio
import contextlib
import fcntl
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import psutil

from sandbox.controlplane.binaries import BuildError, ensure
from sandbox.controlplane.credentials import write_private
from sandbox.controlplane.kinds import CRDS, apply_kinds
from sandbox.controlplane.kubectl import Kubectl, KubectlError
from sandbox.controlplane.plane import control_plane
from sandbox.controlplane.toolchain import NoGoError

PATIENCE = 180.0  # seconds until the control plane is up
INTERVAL = 0.1  # seconds between looks
KIND_CLUSTER = "counterfoil"


class ClusterError(Exception):
    """What was asked for did not work; the message is for the person who asked."""


@dataclass(frozen=True)
class Running:
    """A cluster that was started, as noted in ./.cluster/running.json."""

    way: str
    pid: int = 0
    created: float = 0.0
    """When the process started: a pid alone may be somebody else's by now."""


class Place:
    """The folder ./.cluster/ and what lies in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.kubeconfig = folder / "kubeconfig"
        self.log = folder / "log"
        self._note = folder / "running.json"

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Let nobody else start or end anything here meanwhile."""
        self.folder.mkdir(mode=0o700, exist_ok=True)
        with (self.folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def running(self) -> Running | None:
        """Return what was noted, if anything."""
        try:
            return Running(**json.loads(self._note.read_text()))
        except FileNotFoundError:
            return None

    def note(self, running: Running) -> None:
        """Note what runs now."""
        fresh = self._note.with_suffix(".new")
        fresh.write_text(json.dumps(asdict(running)))
        fresh.replace(self._note)

    def forget(self) -> None:
        """Note that nothing runs."""
        self._note.unlink(missing_ok=True)
        self.kubeconfig.unlink(missing_ok=True)


class Way(Protocol):
    """A way to have a cluster."""

    def is_up(self, running: Running) -> bool:
        """Tell whether what was noted still runs."""

    async def up(self, place: Place) -> None:
        """Start a cluster, write its kubeconfig and note it."""

    async def down(self, place: Place, running: Running) -> None:
        """End the cluster that was noted."""


class Local:
    """A control plane of our own, kept by a process in the background (``serve``)."""

    def is_up(self, running: Running) -> bool:
        """Tell whether the keeper lives."""
        return _process_of(running) is not None

    async def up(self, place: Place) -> None:
        """Start the keeper and wait for its note."""
        # The first time this takes minutes: here, where progress can be seen.
        await ensure("etcd", "kube-apiserver", "kubectl")
        keeper = _start_keeper(place)
        try:
            async with asyncio.timeout(PATIENCE):
                while (running := place.running()) is None or running.pid != keeper.pid:
                    _must_live(keeper, place)
                    await asyncio.sleep(INTERVAL)
        except TimeoutError:
            keeper.kill()
            raise ClusterError(
                f"the control plane is not up after {PATIENCE:.0f} s; see {place.log}"
            ) from None

    async def down(self, place: Place, running: Running) -> None:
        """End the keeper; its control plane ends with it, whatever happens."""
        keeper = _process_of(running)
        if keeper is not None:
            keeper.terminate()
            _, left = await asyncio.to_thread(psutil.wait_procs, [keeper], 30)
            for process in left:
                process.kill()


class Kind:
    """A kind cluster, in Docker. See the module's docstring: it was never run where it was written."""

    def is_up(self, running: Running) -> bool:
        """Ask kind."""
        listed = _kind("get", "clusters", stdout=subprocess.PIPE)
        return KIND_CLUSTER in listed.splitlines()

    async def up(self, place: Place) -> None:
        """Create the cluster, or take the one that is there."""
        running = Running("kind")
        cluster = ("--name", KIND_CLUSTER, "--kubeconfig", str(place.kubeconfig))
        if self.is_up(running):
            _kind("export", "kubeconfig", *cluster)
        else:
            _kind("create", "cluster", *cluster, "--wait", "120s")
        place.kubeconfig.chmod(0o600)
        place.note(running)

    async def down(self, place: Place, running: Running) -> None:
        """Delete the cluster."""
        _kind("delete", "cluster", "--name", KIND_CLUSTER, "--kubeconfig", str(place.kubeconfig))


WAYS: dict[str, Way] = {"local": Local(), "kind": Kind()}


async def up(place: Place, way: str) -> None:
    """Have a cluster with our kinds and print the line for the shell."""
    with place.alone():
        running = place.running()
        if running is not None and not WAYS[running.way].is_up(running):
            place.forget()
            running = None
        if running is not None and running.way != way:
            raise ClusterError(
                f"a cluster of the other way ({running.way}) is up; end it first: python -m sandbox.cluster down"
            )
        if running is None:
            await WAYS[way].up(place)
    await _teach(place)
    print(f"export KUBECONFIG={shlex.quote(str(place.kubeconfig))}")


async def down(place: Place) -> None:
    """End the cluster that runs, if one does."""
    with place.alone():
        running = place.running()
        if running is not None:
            await WAYS[running.way].down(place, running)
        place.forget()
    say("nothing was running" if running is None else "the cluster is down")


async def status(place: Place) -> None:
    """Say what runs. Raises ClusterError when nothing does."""
    running = place.running()
    if running is None or not WAYS[running.way].is_up(running):
        raise ClusterError("no cluster is up")
    say(f"a cluster is up ({running.way}), its kubeconfig is {place.kubeconfig}")


async def serve(place: Place) -> None:
    """Keep a control plane until this process is told to end. ``up`` starts it."""
    asked_to_end = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, asked_to_end.set)
    async with control_plane() as plane:
        write_private(place.kubeconfig, plane.kubeconfig.read_bytes())
        place.note(Running("local", os.getpid(), psutil.Process().create_time()))
        await asked_to_end.wait()


def say(line: str) -> None:
    """Tell the person, not the shell that evaluates our output."""
    print(f"[cluster] {line}", file=sys.stderr, flush=True)


async def _teach(place: Place) -> None:
    binaries = await ensure("kubectl")
    say(f"applying {CRDS}; kubectl, should you need one, is {binaries['kubectl']}")
    await apply_kinds(Kubectl(binaries["kubectl"], place.kubeconfig, home=place.folder / "home"))


def _start_keeper(place: Place) -> subprocess.Popen[bytes]:
    with place.log.open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "sandbox.cluster", "serve"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            # It outlives this command and its terminal.
            start_new_session=True,
        )


def _must_live(keeper: subprocess.Popen[bytes], place: Place) -> None:
    if keeper.poll() is not None:
        last_words = "\n".join(place.log.read_text(errors="replace").splitlines()[-20:])
        raise ClusterError(f"the control plane ended at once; {place.log} says:\n{last_words}")


def _process_of(running: Running) -> psutil.Process | None:
    try:
        process = psutil.Process(running.pid)
        return process if process.create_time() == running.created else None
    except psutil.NoSuchProcess:
        return None


def _kind(*arguments: str, stdout: int | None = None) -> str:
    program = shutil.which("kind")
    if program is None:
        raise ClusterError(
            "CLUSTER=kind needs the program `kind` on PATH (and Docker). Without it, leave CLUSTER unset."
        )
    # What kind says on standard output is for a person.
    ended = subprocess.run(
        [program, *arguments], check=False, text=True, stdout=stdout or sys.stderr.fileno()
    )
    if ended.returncode != 0:
        raise ClusterError(
            f"`kind {' '.join(arguments)}` ended with {ended.returncode}; what it said is above."
        )
    return ended.stdout or ""


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m sandbox.cluster", description="A cluster to try things in."
    )
    parser.add_argument("command", choices=("up", "down", "status", "serve"))
    command = parser.parse_args().command
    way = os.environ.get("CLUSTER", "local")
    if way not in WAYS:
        parser.error(f"CLUSTER is {way!r}; it may be {' or '.join(WAYS)}")

    place = Place(Path.cwd() / ".cluster")
    commands = {
        "up": lambda: up(place, way),
        "down": lambda: down(place),
        "status": lambda: status(place),
        "serve": lambda: serve(place),
    }
    try:
        asyncio.run(commands[command]())
    except (ClusterError, BuildError, NoGoError, KubectlError) as error:
        say(str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
