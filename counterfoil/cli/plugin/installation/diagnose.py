"""
``diagnose``: a support bundle, without secrets and without people's names.

What goes in: the resources of Counterfoil, the Kubernetes Events, pods and logs of Counterfoil, versions, and
what could not be read. Secrets are never read, so nothing of them can be in it; what looks like a token
anywhere is struck out. Written with the user's own rights; what those don't allow is named in
``missing.txt``.
"""

import argparse
import io
import os
import platform
import re
import secrets
import tarfile
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, TextIO

import yaml

from counterfoil import __version__
from counterfoil.cli.plugin.exit_status import CommandError, ExitStatus, format_result
from counterfoil.cli.plugin.installation.archive_paths import ArchivePaths
from counterfoil.kube.client import KubeClient
from counterfoil.kube.errors import ApiError
from counterfoil.kube.shard_leases import PODS
from counterfoil.kube.watch import Raw
from counterfoil.logs import redact
from counterfoil.resources import (
    REQUEST_BY_ANNOTATION,
    REQUEST_REASON_ANNOTATION,
    Archive,
    Envelope,
    EnvelopeEvent,
    Import,
    Organization,
    Resource,
    Sender,
)
from counterfoil.resources.audit_annotation import ACTS_ANNOTATION

SUMMARY = "write a support bundle without secrets"
DETAILS = (
    "A .tar.gz of Counterfoil's resources, Kubernetes Events, pods and logs. Secrets are not read; what "
    "looks like a token and people's names and addresses are left out. Names of envelopes and files are in "
    "it: look through it before you pass it on. Values of tags and parameters are left out, and the "
    "path of an archived file has hashes in place of its parts."
)

KINDS: tuple[type[Resource], ...] = (Organization, Archive, Sender, Envelope, EnvelopeEvent, Import)
"""The first two have the URLs that stay in all that follows."""
PERSONAL_KEYS = frozenset(
    {
        "email",
        "givenName",
        "surname",
        "administrators",
        "from",
        "managedFields",
        # The complete object as text, in which keys and values are not distinguishable.
        "kubectl.kubernetes.io/last-applied-configuration",
        # Who asked for something, and in what words.
        ACTS_ANNOTATION,
        REQUEST_BY_ANNOTATION,
        REQUEST_REASON_ANNOTATION,
        "by",
    }
)
"""Keys whose values are left out wherever they stand."""

VALUE_KEYS = frozenset({"parameters", "tags"})
"""Keys whose own keys stay and whose texts are left out: parameters of callbacks, tags of an envelope."""

PERSONAL_NOTE_ACTIONS = frozenset({"Act", "Request"})
"""Actions of Kubernetes Events whose note says who asked for something."""

OMITTED = "[left out]"
_SHA256 = re.compile(r"[0-9a-f]{64}")
_ADDRESS = re.compile(r"[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+")


def add_arguments(parser: argparse.ArgumentParser) -> None:
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


async def run(args: argparse.Namespace, kube: KubeClient, out: TextIO) -> ExitStatus:
    """Write it. Raises ``CommandError`` when the file can't be written or nothing at all could be read."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    path = args.file or Path(f"counterfoil-{kube.namespace}-{stamp}.tar.gz")
    bundle = SupportBundle(kube, ArchivePaths(secrets.token_bytes(32)))
    await bundle.collect(lines=args.lines, events=args.events)
    if not bundle.files:
        raise CommandError(ExitStatus.NOT_ALLOWED, f"nothing could be read: {'; '.join(bundle.missing)}")
    try:
        _write(path, bundle, f"counterfoil-{stamp}")
    except OSError as trouble:
        raise CommandError(ExitStatus.NOT_ALL, f"{path} can't be written: {trouble.strerror}") from trouble
    contains = sorted([*bundle.files, "missing.txt"])
    answer = {"file": str(path), "contains": contains, "missing": bundle.missing}
    text = "".join(f"missing: {each}\n" for each in bundle.missing)
    text += f"{path}: {len(contains)} files. Look through it before you pass it on.\n"
    out.write(format_result(args.output, answer, text))
    return ExitStatus.DONE


class SupportBundle:
    """Files of the bundle by name, and the parts that were unreadable."""

    def __init__(self, kube: KubeClient, paths: ArchivePaths) -> None:
        self._kube = kube
        self._paths = paths
        self.files: dict[str, str] = {}
        self.missing: list[str] = []
        self._pods_found: Sequence[Raw] = ()

    async def collect(self, *, lines: int, events: int) -> None:
        """Read everything."""
        for kind in KINDS:
            await self._add(f"resources/{kind.PLURAL}.yaml", partial(self._listed, kind, events))
        await self._add("kubernetes-events.yaml", self._kube.list_events)
        await self._add("pods.yaml", self._pods)
        await self._logs(lines)
        if self.files:
            await self._add("version.yaml", self._versions)

    async def _add(self, name: str, read: Callable[[], Awaitable[Any]]) -> None:
        try:
            found = remove_personal_data(await read(), self._paths)
        except ApiError as problem:
            self.missing.append(f"{name}: {redact(self._paths.hide(str(problem)))}")
            return
        is_text = isinstance(found, str)
        self.files[name] = (
            found if is_text else yaml.safe_dump(found, sort_keys=False, allow_unicode=True, width=120)
        )

    async def _listed(self, kind: type[Resource], most: int) -> list[Raw]:
        found: list[Raw] = []
        async for raw in self._kube.list(kind):
            found.append(raw)
            if kind is Archive:
                self._paths.learn_archive(raw)
            elif kind is Organization:
                self._paths.learn_organization(raw)
            if len(found) >= most:
                self.missing.append(f"resources/{kind.PLURAL}.yaml: only the first {most}")
                break
        return found

    async def _pods(self) -> list[Raw]:
        self._pods_found = await self._kube.pods(labels=PODS)
        return [
            # The rest of a pod's spec is the chart's; its environment could hold what somebody put there by
            # hand.
            {
                "name": each["metadata"]["name"],
                "labels": each["metadata"].get("labels"),
                "status": each.get("status"),
            }
            for each in self._pods_found
        ]

    async def _logs(self, lines: int) -> None:
        for pod in self._pods_found:
            name = pod["metadata"]["name"]
            for each in pod.get("spec", {}).get("containers", ()):
                read = partial(self._kube.pod_log, name, each["name"], lines=lines)
                await self._add(f"logs/{name}.{each['name']}.log", read)

    async def _versions(self) -> dict[str, Any]:
        server = await self._kube.server_version()
        return {"counterfoil": __version__, "python": platform.python_version(), "kubernetes": server}


def remove_personal_data(found: Any, paths: ArchivePaths, key: str = "") -> Any:
    """Return it without what looks like a token, without people, and without the paths of archived files; a
    SHA-256 stays where one belongs."""
    if key in PERSONAL_KEYS:
        return OMITTED
    if isinstance(found, Mapping):
        if key in VALUE_KEYS:
            found = {name: OMITTED if isinstance(value, str) else value for name, value in found.items()}
        cleaned = {name: remove_personal_data(value, paths, name) for name, value in found.items()}
        if key == "lastRequest" and "reason" in found:
            cleaned["reason"] = OMITTED
        if found.get("action") in PERSONAL_NOTE_ACTIONS and "note" in found:
            cleaned["note"] = OMITTED
        return cleaned
    if isinstance(found, list | tuple):
        return [remove_personal_data(value, paths, key) for value in found]
    if isinstance(found, str) and not (key == "sha256" and _SHA256.fullmatch(found)):
        return _ADDRESS.sub(OMITTED, redact(paths.hide(found)))
    return found


def _write(path: Path, bundle: SupportBundle, folder: str) -> None:
    files = {**bundle.files, "missing.txt": "".join(f"{each}\n" for each in bundle.missing)}
    # Nobody else's from the first byte on; and never over a file, or through a link, that is there already.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file, tarfile.open(fileobj=file, mode="w:gz") as archive:
        for name, text in sorted(files.items()):
            content = text.encode()
            entry = tarfile.TarInfo(f"{folder}/{name}")
            entry.size, entry.mtime, entry.mode = len(content), int(time.time()), 0o600
            archive.addfile(entry, io.BytesIO(content))
