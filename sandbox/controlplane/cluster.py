"""
A cluster to try things in: ``python -m sandbox.controlplane.cluster up | down | status``.

``up`` starts a control plane in the background, with our kinds, and prints one line on standard output, to be
evaluated by a shell: ``export KUBECONFIG=...``. Everything else goes to standard error. Saying it again
prints the same line, after applying what changed in crds/. What runs is noted in ./.cluster/, with its
kubeconfig and log; no kubeconfig of the user's is touched.

With ``CLUSTER=kind`` in the environment, ``up`` makes a kind cluster named ``counterfoil`` instead: a whole
node, with pods. It needs the programs ``kind`` and Docker. That way was written from kind's documentation and
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
from sandbox.controlplane.control_plane import PROGRAMS, control_plane
from sandbox.controlplane.credentials import write_private
from sandbox.controlplane.install_crds import CRDS, install_crds
from sandbox.controlplane.kubectl import Kubectl, KubectlError
from sandbox.controlplane.toolchain import NoGoError

TIMEOUT = 180.0  # seconds until the control plane is up
INTERVAL = 0.1  # seconds between looks
KIND_CLUSTER = "counterfoil"


class ClusterError(Exception):
    """The command failed; the message is for the person who gave it."""


@dataclass(frozen=True)
class ClusterRecord:
    """A cluster that was started, as noted in ./.cluster/running.json."""

    way: str
    pid: int = 0
    created: float = 0.0
    """When the process started: a pid alone may be somebody else's by now."""


class ClusterFolder:
    """The folder ./.cluster/ and its files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.kubeconfig = folder / "kubeconfig"
        self.log = folder / "log"
        self._record_file = folder / "running.json"

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        """Let nobody else start or end anything here meanwhile."""
        self.folder.mkdir(mode=0o700, exist_ok=True)
        with (self.folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def record(self) -> ClusterRecord | None:
        """Return what was noted, if anything."""
        try:
            return ClusterRecord(**json.loads(self._record_file.read_text()))
        except FileNotFoundError:
            return None

    def save(self, record: ClusterRecord) -> None:
        """Note what runs now."""
        fresh = self._record_file.with_suffix(".new")
        fresh.write_text(json.dumps(asdict(record)))
        fresh.replace(self._record_file)

    def clear(self) -> None:
        """Note that nothing runs."""
        self._record_file.unlink(missing_ok=True)
        self.kubeconfig.unlink(missing_ok=True)


class ClusterProvider(Protocol):
    """A way to have a cluster."""

    def is_up(self, record: ClusterRecord) -> bool:
        """Tell whether what was noted still runs."""

    async def up(self, cluster_folder: ClusterFolder) -> None:
        """Start a cluster, write its kubeconfig and note it."""

    async def down(self, cluster_folder: ClusterFolder, record: ClusterRecord) -> None:
        """End the cluster that was noted."""


class LocalCluster:
    """Our control plane, kept by a process in the background (``serve``)."""

    def is_up(self, record: ClusterRecord) -> bool:
        """Tell whether the process in the background lives."""
        return _process_of(record) is not None

    async def up(self, cluster_folder: ClusterFolder) -> None:
        """Start the process in the background and wait for its record."""
        # The first time this takes minutes: here, where progress can be seen.
        await ensure(*PROGRAMS)
        background_process = _start_background_process(cluster_folder)
        try:
            async with asyncio.timeout(TIMEOUT):
                while (record := cluster_folder.record()) is None or record.pid != background_process.pid:
                    _require_running(background_process, cluster_folder)
                    await asyncio.sleep(INTERVAL)
        except TimeoutError:
            background_process.kill()
            raise ClusterError(
                f"the control plane is not up after {TIMEOUT:.0f} s; see {cluster_folder.log}"
            ) from None

    async def down(self, cluster_folder: ClusterFolder, record: ClusterRecord) -> None:
        """End the process; its control plane ends with it in every case."""
        background_process = _process_of(record)
        if background_process is not None:
            background_process.terminate()
            _, left = await asyncio.to_thread(psutil.wait_procs, [background_process], 30)
            for process in left:
                process.kill()


class KindCluster:
    """A kind cluster, in Docker. See the module's docstring: it was never run where it was written."""

    def is_up(self, record: ClusterRecord) -> bool:
        """Ask kind."""
        listed = _run_kind("get", "clusters", stdout=subprocess.PIPE)
        return KIND_CLUSTER in listed.splitlines()

    async def up(self, cluster_folder: ClusterFolder) -> None:
        """Create the cluster, or take the one that is there."""
        record = ClusterRecord("kind")
        cluster = ("--name", KIND_CLUSTER, "--kubeconfig", str(cluster_folder.kubeconfig))
        if self.is_up(record):
            _run_kind("export", "kubeconfig", *cluster)
        else:
            _run_kind("create", "cluster", *cluster, "--wait", "120s")
        cluster_folder.kubeconfig.chmod(0o600)
        cluster_folder.save(record)

    async def down(self, cluster_folder: ClusterFolder, record: ClusterRecord) -> None:
        """Delete the cluster."""
        _run_kind("delete", "cluster", "--name", KIND_CLUSTER, "--kubeconfig", str(cluster_folder.kubeconfig))


PROVIDERS: dict[str, ClusterProvider] = {"local": LocalCluster(), "kind": KindCluster()}


async def up(cluster_folder: ClusterFolder, way: str) -> None:
    """Have a cluster with our kinds and print the line for the shell."""
    with cluster_folder.exclusive():
        record = cluster_folder.record()
        if record is not None and not PROVIDERS[record.way].is_up(record):
            cluster_folder.clear()
            record = None
        if record is not None and record.way != way:
            raise ClusterError(
                f"a cluster of the other way ({record.way}) is up; end it first: python -m "
                "sandbox.controlplane.cluster down"
            )
        if record is None:
            await PROVIDERS[way].up(cluster_folder)
    await _apply_crds(cluster_folder)
    print(f"export KUBECONFIG={shlex.quote(str(cluster_folder.kubeconfig))}")


async def down(cluster_folder: ClusterFolder) -> None:
    """End the cluster that runs, if one does."""
    with cluster_folder.exclusive():
        record = cluster_folder.record()
        if record is not None:
            await PROVIDERS[record.way].down(cluster_folder, record)
        cluster_folder.clear()
    say("nothing was running" if record is None else "the cluster is down")


async def status(cluster_folder: ClusterFolder) -> None:
    """Say what runs. Raises ClusterError when nothing does."""
    record = cluster_folder.record()
    if record is None or not PROVIDERS[record.way].is_up(record):
        raise ClusterError("no cluster is up")
    say(f"a cluster is up ({record.way}), its kubeconfig is {cluster_folder.kubeconfig}")


async def serve(cluster_folder: ClusterFolder) -> None:
    """Keep a control plane until this process receives a signal to end. ``up`` starts it."""
    asked_to_end = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, asked_to_end.set)
    async with control_plane() as plane:
        write_private(cluster_folder.kubeconfig, plane.kubeconfig.read_bytes())
        cluster_folder.save(ClusterRecord("local", os.getpid(), psutil.Process().create_time()))
        await asked_to_end.wait()


def say(line: str) -> None:
    """Tell the person, not the shell that evaluates our output."""
    print(f"[cluster] {line}", file=sys.stderr, flush=True)


async def _apply_crds(cluster_folder: ClusterFolder) -> None:
    binaries = await ensure("kubectl")
    say(f"applying {CRDS}; kubectl, should you need one, is {binaries['kubectl']}")
    await install_crds(
        Kubectl(binaries["kubectl"], cluster_folder.kubeconfig, home=cluster_folder.folder / "home")
    )


def _start_background_process(cluster_folder: ClusterFolder) -> subprocess.Popen[bytes]:
    with cluster_folder.log.open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "sandbox.controlplane.cluster", "serve"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            # It outlives this command and its terminal.
            start_new_session=True,
        )


def _require_running(background_process: subprocess.Popen[bytes], cluster_folder: ClusterFolder) -> None:
    if background_process.poll() is not None:
        log_tail = "\n".join(cluster_folder.log.read_text(errors="replace").splitlines()[-20:])
        raise ClusterError(f"the control plane ended at once; {cluster_folder.log} says:\n{log_tail}")


def _process_of(record: ClusterRecord) -> psutil.Process | None:
    try:
        process = psutil.Process(record.pid)
        return process if process.create_time() == record.created else None
    except psutil.NoSuchProcess:
        return None


def _run_kind(*arguments: str, stdout: int | None = None) -> str:
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
        prog="python -m sandbox.controlplane.cluster", description="A cluster to try things in."
    )
    parser.add_argument("command", choices=("up", "down", "status", "serve"))
    command = parser.parse_args().command
    way = os.environ.get("CLUSTER", "local")
    if way not in PROVIDERS:
        parser.error(f"CLUSTER is {way!r}; it may be {' or '.join(PROVIDERS)}")

    cluster_folder = ClusterFolder(Path.cwd() / ".cluster")
    commands = {
        "up": lambda: up(cluster_folder, way),
        "down": lambda: down(cluster_folder),
        "status": lambda: status(cluster_folder),
        "serve": lambda: serve(cluster_folder),
    }
    try:
        asyncio.run(commands[command]())
    except (ClusterError, BuildError, NoGoError, KubectlError) as error:
        say(str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
