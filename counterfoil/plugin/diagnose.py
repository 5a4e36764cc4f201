"""
``diagnose``: a support bundle, without secrets and without people's names.

What goes in: the resources of Counterfoil, the Kubernetes Events, pods and logs of Counterfoil, versions, and what could
not be read. Secrets are never read, so nothing of them can be in it; what looks like a token anywhere is struck out.
Written with the user's own rights; what those don't allow is named in ``missing.txt``.
"""

import argparse
import io
import os
import platform
import re
import tarfile
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, TextIO

import yaml

from counterfoil import __version__
from counterfoil.cluster import ApiProblem, Cluster, Raw
from counterfoil.logs import redacted
from counterfoil.plugin.outcome import Ending, Stopped, as_json
from counterfoil.resources import (
    REQUEST_BY_ANNOTATION,
    REQUEST_REASON_ANNOTATION,
    SWEEP_ANNOTATION,
    Archive,
    Envelope,
    EnvelopeEvent,
    Organization,
    Resource,
    Sender,
)
from counterfoil.resources.acting import ACTS_ANNOTATION

SUMMARY = "write a support bundle without secrets"
DETAILS = (
    "A .tar.gz of Counterfoil's resources, Kubernetes Events, pods and logs. Secrets are not read; what looks like a token and "
    "people's names and addresses are left out. Names of envelopes and files are in it: look through it before you pass it on."
)

KINDS: tuple[type[Resource], ...] = (Organization, Sender, Archive, Envelope, EnvelopeEvent)
POD_LABELS = "app.kubernetes.io/part-of=counterfoil"
PERSONAL = frozenset(
    {
        "email",
        "givenName",
        "surname",
        "administrators",
        "from",
        "managedFields",
        # The whole object once more as text, in which no key can be told from a value.
        "kubectl.kubernetes.io/last-applied-configuration",
        # Who asked for something, and in what words.
        ACTS_ANNOTATION,
        REQUEST_BY_ANNOTATION,
        REQUEST_REASON_ANNOTATION,
        SWEEP_ANNOTATION,
    }
)
"""Keys whose values are left out wherever they stand."""

ASKED = frozenset({"Act", "Request"})
"""Actions of Kubernetes Events whose note says who asked for something."""

LEFT_OUT = "[left out]"
_SHA256 = re.compile(r"[0-9a-f]{64}")
_ADDRESS = re.compile(r"[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+")


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "--file",
        type=Path,
        metavar="FILE",
        help="where to write it. Default: counterfoil-NAMESPACE-TIME.tar.gz here",
    )
    parser.add_argument(
        "--lines", type=int, default=5000, metavar="N", help="of each log at most. Default: 5000"
    )
    parser.add_argument(
        "--events", type=int, default=2000, metavar="N", help="EnvelopeEvents at most. Default: 2000"
    )


async def run(chosen: argparse.Namespace, cluster: Cluster, out: TextIO) -> Ending:
    """Write it. Raises ``Stopped`` when the file can't be written or nothing at all could be read."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    path = chosen.file or Path(f"counterfoil-{cluster.namespace}-{stamp}.tar.gz")
    bundle = Bundle(cluster)
    await bundle.collect(lines=chosen.lines, events=chosen.events)
    if not bundle.files:
        raise Stopped(Ending.NOT_ALLOWED, f"nothing could be read: {'; '.join(bundle.missing)}")
    try:
        _write(path, bundle, f"counterfoil-{stamp}")
    except OSError as trouble:
        raise Stopped(Ending.NOT_ALL, f"{path} can't be written: {trouble.strerror}") from trouble
    if chosen.output == "json":
        out.write(as_json({"file": str(path), "contains": sorted(bundle.files), "missing": bundle.missing}))
    else:
        out.write("".join(f"missing: {each}\n" for each in bundle.missing))
        out.write(f"{path}: {len(bundle.files)} files. Look through it before you pass it on.\n")
    return Ending.DONE


class Bundle:
    """What goes in, by file name, and what could not be read."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.files: dict[str, str] = {}
        self.missing: list[str] = []

    async def collect(self, *, lines: int, events: int) -> None:
        """Read everything."""
        for kind in KINDS:
            await self._add(f"resources/{kind.PLURAL}.yaml", partial(self._listed, kind, events))
        await self._add("kubernetes-events.yaml", self._cluster.all_events)
        await self._add("pods.yaml", self._pods)
        await self._logs(lines)
        if self.files:
            await self._add("version.yaml", self._versions)

    async def _add(self, name: str, read: Callable[[], Awaitable[Any]]) -> None:
        try:
            found = await read()
        except ApiProblem as problem:
            self.missing.append(f"{name}: {redacted(str(problem))}")
            return
        self.files[name] = yaml.safe_dump(clean(found), sort_keys=False, allow_unicode=True, width=120)

    async def _listed(self, kind: type[Resource], most: int) -> list[Raw]:
        found: list[Raw] = []
        async for raw in self._cluster.list(kind):
            found.append(raw)
            if len(found) >= most:
                self.missing.append(f"resources/{kind.PLURAL}.yaml: only the first {most}")
                break
        return found

    async def _pods(self) -> list[Raw]:
        return [
            # The rest of a pod's spec is the chart's; its environment could hold what somebody put there by hand.
            {
                "name": each["metadata"]["name"],
                "labels": each["metadata"].get("labels"),
                "status": each.get("status"),
            }
            for each in await self._cluster.pods(labels=POD_LABELS)
        ]

    async def _logs(self, lines: int) -> None:
        try:
            pods = await self._cluster.pods(labels=POD_LABELS)
        except ApiProblem:
            return
        for pod, container in _containers(pods):
            try:
                text = await self._cluster.pod_log(pod, container, lines=lines)
            except ApiProblem as problem:
                self.missing.append(f"logs/{pod}.{container}.log: {redacted(str(problem))}")
            else:
                self.files[f"logs/{pod}.{container}.log"] = _text(text)

    async def _versions(self) -> dict[str, Any]:
        server = await self._cluster.server_version()
        return {"counterfoil": __version__, "python": platform.python_version(), "kubernetes": server}


def clean(found: Any, key: str = "") -> Any:
    """Return it without what looks like a token, and without people; a SHA-256 stays where one belongs."""
    if key in PERSONAL:
        return LEFT_OUT
    if isinstance(found, Mapping):
        cleaned = {name: clean(value, name) for name, value in found.items()}
        return cleaned | {"note": LEFT_OUT} if found.get("action") in ASKED and "note" in found else cleaned
    if isinstance(found, list | tuple):
        return [clean(value, key) for value in found]
    if isinstance(found, str) and not (key == "sha256" and _SHA256.fullmatch(found)):
        return _text(found)
    return found


def _text(text: str) -> str:
    return _ADDRESS.sub(LEFT_OUT, redacted(text))


def _containers(pods: Any) -> Iterator[tuple[str, str]]:
    for pod in pods:
        for container in pod.get("spec", {}).get("containers", ()):
            yield pod["metadata"]["name"], container["name"]


def _write(path: Path, bundle: Bundle, folder: str) -> None:
    files = {**bundle.files, "missing.txt": "".join(f"{each}\n" for each in bundle.missing)}
    # Nobody else's from the first byte on; and never over a file, or through a link, that is there already.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file, tarfile.open(fileobj=file, mode="w:gz") as archive:
        for name, text in sorted(files.items()):
            content = text.encode()
            entry = tarfile.TarInfo(f"{folder}/{name}")
            entry.size, entry.mtime, entry.mode = len(content), int(time.time()), 0o600
            archive.addfile(entry, io.BytesIO(content))
