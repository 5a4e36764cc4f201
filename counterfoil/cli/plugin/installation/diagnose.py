"""
``diagnose``: a support bundle, without secrets and without people's names.

What goes in: the resources of Counterfoil, the Leases of its controllers, pods, logs, versions, and what
could not be read. It has the Kubernetes Events of the namespace, too. Secrets are never read, so nothing of
them can be in it; what looks like a token anywhere is struck out. Written with the user's own rights; what
those don't allow is named in ``missing.txt``.

All is read first, then cleaned: a log or an event may have the name of a Sender that another part tells.
"""

import argparse
import io
import os
import platform
import re
import secrets
import tarfile
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, TextIO

import yaml

from counterfoil import __version__
from counterfoil.cli.plugin.exit_status import CommandError, ExitStatus, format_result
from counterfoil.cli.plugin.installation.archive_paths import ArchivePaths
from counterfoil.i18n.problems import ProblemKind
from counterfoil.kube.client import KubeClient
from counterfoil.kube.errors import ApiError
from counterfoil.kube.shard_leases import PODS, served_shard_leases
from counterfoil.kube.watch import Raw
from counterfoil.logs import FIELDS, redact
from counterfoil.resources import (
    LISTED_BY_LABEL,
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
    "A .tar.gz of Counterfoil's resources, Leases, Kubernetes Events, pods and logs. Secrets are not read; "
    "what looks like a token, e-mail addresses and names of users are left out. The names of a Sender and "
    "its Secret become hashes, unless a consent created the Sender. So do those of other Secrets in "
    "messages, unless an Organization or an Archive names them. So does each part of the path of an archived "
    "file. Values of tags and parameters are left out. Names of envelopes and files are in it: look through "
    "it before you pass it on."
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

VALUES_IN_RULES = frozenset({"value", "values", "pattern"})
"""Keys of the rule for a tag, in an Archive or a route, that have values of the tag."""

KEPT_DOMAINS = {
    "annotations": ("counterfoil.dev",),
    "labels": ("counterfoil.dev", "kubernetes.io", "helm.sh"),
}
"""Domains of the keys whose values stay. Others are the customer's, such as the name of an owner."""

PERSONAL_NOTE_ACTIONS = frozenset({"Act", "Request"})
"""Actions of Kubernetes Events whose note says who asked for something."""

OMITTED = "[left out]"
_SHA256 = re.compile(r"[0-9a-f]{64}")
_ADDRESS = re.compile(r"[\w.%+'-]+(?:@|%40)[\w-]+(?:\.[\w-]+)+")
_PERSON = (
    # A line of a log: as JSON, and as text with the fields that may follow.
    re.compile(r'(?P<head>"who":")(?:[^"\\]|\\.)*'),
    re.compile(
        rf"(?P<head>\bwho=).*?(?= (?:{'|'.join(FIELDS[FIELDS.index('who') + 1 :])})=|$)", re.MULTILINE
    ),
    # The API server's refusal, also as a text in JSON.
    re.compile(r'(?P<head>\busers? \\?")(?!system:).*?(?=\\?" (?:cannot|is forbidden))', re.IGNORECASE),
)
"""Names of users."""

_OBJECT_NAME = re.compile(r"[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?")
_COMMAND = r"\bkubectl (?:[a-z]+ |-n \S+ )+?"
# The API server puts names between quotation marks, which have a backslash in a line of JSON.
_SENDER = re.compile(
    rf'(?:\bSender/|"sender":"|\bsender=|\b[Ss]enders?(?:\.counterfoil\.dev)? \\*"|{_COMMAND}senders? )'
    rf"({_OBJECT_NAME.pattern})"
)
_SECRET = re.compile(
    rf"(?:\bSecret/|\b[Ss]ecrets? (?:\\*\"|')|{_COMMAND}secrets? (?:generic )?+)({_OBJECT_NAME.pattern})"
)
_PROBLEMS_OF_SENDERS = frozenset({ProblemKind.CONSENT, ProblemKind.KEY})
"""Kinds of problems whose examples are names of Senders."""

_CONSENTED = re.compile(r"[0-9a-f]{16}")
"""Name of a Sender that a consent created: a part of a hash."""


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
        self._senders = SenderNames(paths)
        self._found: dict[str, Any] = {}
        self.files: dict[str, str] = {}
        self.missing: list[str] = []
        self._pods_found: Sequence[Raw] = ()

    async def collect(self, *, lines: int, events: int) -> None:
        """Read everything."""
        for kind in KINDS:
            await self._add(f"resources/{kind.PLURAL}.yaml", partial(self._listed, kind, events))
        await self._add("leases.yaml", self._leases)
        await self._add("kubernetes-events.yaml", self._kube.list_events)
        await self._add("pods.yaml", self._pods)
        await self._logs(lines)
        if self._found:
            await self._add("version.yaml", self._versions)
        self.files = {name: self._cleaned(found) for name, found in self._found.items()}
        self.missing = [self._hidden(each) for each in self.missing]

    async def _add(self, name: str, read: Callable[[], Awaitable[Any]]) -> None:
        try:
            found = self._found[name] = await read()
        except ApiError as problem:
            self.missing.append(f"{name}: {problem}")
        else:
            self._senders.learn(found)

    def _cleaned(self, found: Any) -> str:
        cleaned = remove_personal_data(found, self._hidden)
        if isinstance(cleaned, str):
            return cleaned
        text: str = yaml.safe_dump(cleaned, sort_keys=False, allow_unicode=True, width=120)
        return text

    def _hidden(self, text: str) -> str:
        return without_people(self._senders.hide(self._paths.hide(text)))

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

    async def _leases(self) -> dict[str, Any]:
        """Return the Leases of the release that serves the namespace, and why no controller works."""
        now = datetime.now(UTC)
        served = await served_shard_leases(self._kube, now)
        return {
            "namespace": served.release or self._kube.namespace,
            "absent": [str(each) for each in served.unheld_shards(now)],
            "leases": [each.to_dict() for each in served.leases],
        }

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


class SenderNames:
    """
    Names of Senders and of their Secrets, which often are those of people.

    Each becomes a hash, the same in the whole bundle. Names that Counterfoil gave stay. A text may name the
    Secret of a Sender that was deleted, so a Secret stays only if another object refers to it.
    """

    def __init__(self, paths: ArchivePaths) -> None:
        self._paths = paths
        self._names: set[str] = set()
        self._secrets: set[str] = set()
        self._other_secrets: set[str] = set()

    def learn(self, found: Any, key: str = "") -> None:
        """Remember the names in an object, or in a text that says whose names they are."""
        if isinstance(found, str):
            self._add(*_SENDER.findall(found))
            self._secrets.update(_chosen(*_SECRET.findall(found)))
            if _is_sender_key(key):
                self._add(found)
        elif isinstance(found, Mapping):
            # A tag, a parameter or a label may have any of these names.
            name = _part(found, "metadata").get("name") or found.get("name")
            if found.get("kind") == Sender.KIND:
                secret, stored = (
                    _part(_part(found, "spec"), "tokenSecretRef"),
                    _part(_part(found, "status"), "key"),
                )
                self._add(name, secret.get("name"), stored.get("secretName"))
            elif found.get("kind") == "Secret":
                self._secrets.update(_chosen(name))
            if _is_sender_key(key):
                self._add(found.get("name"))
            if "SecretRef" in key:
                self._other_secrets.update(_chosen(found.get("name")))
            examples = found.get("examples")
            is_problem = str(found.get("cause")).partition("/")[0] in _PROBLEMS_OF_SENDERS
            if is_problem and isinstance(examples, list):
                self._add(*examples)
            for field, value in found.items():
                self.learn(value, field)
        elif isinstance(found, Sequence):
            for value in found:
                self.learn(value, key)

    def hide(self, text: str) -> str:
        """Return a text without these names."""
        return _OBJECT_NAME.sub(self._hidden, text) if self._names or self._secrets else text

    def _add(self, *names: object) -> None:
        self._names.update(_chosen(*names))

    def _hidden(self, found: re.Match[str]) -> str:
        # A Kubernetes Event has the name of its object, a point, and a number.
        name, rest = found[0], ""
        while not self._is_hidden(name):
            name, point, last = name.rpartition(".")
            if not point:
                return found[0]
            rest = f".{last}{rest}"
        return f"{self._paths.hashed(name)}{rest}"

    def _is_hidden(self, name: str) -> bool:
        return name in self._names or (name in self._secrets and name not in self._other_secrets)


def _part(found: Mapping[str, Any], field: str) -> Mapping[str, Any]:
    """Return a mapping in another one; empty for anything else."""
    part = found.get(field)
    return part if isinstance(part, Mapping) else {}


def _chosen(*found: object) -> Iterator[str]:
    """Yield the names of objects among these that Counterfoil did not give."""
    for each in found:
        if isinstance(each, str) and _OBJECT_NAME.fullmatch(each) and not _CONSENTED.fullmatch(each):
            yield each


def _is_sender_key(key: str) -> bool:
    return "sender" in key.lower() or key in ("notShownTo", LISTED_BY_LABEL)


def without_people(text: str) -> str:
    """Return a text without tokens, e-mail addresses and names of users."""
    text = _ADDRESS.sub(OMITTED, redact(text))
    for each in _PERSON:
        text = each.sub(rf"\g<head>{OMITTED}", text)
    return text


def remove_personal_data(found: Any, hide: Callable[[str], str], key: str = "") -> Any:
    """Return it without people, each text as ``hide`` returns it; a SHA-256 stays where one belongs."""
    if key in PERSONAL_KEYS:
        return OMITTED
    if isinstance(found, Mapping):
        if key in VALUE_KEYS:
            found = {name: _without_values(value) for name, value in found.items()}
        if (kept := KEPT_DOMAINS.get(key)) is not None:
            found = {name: value if _has_domain(name, kept) else OMITTED for name, value in found.items()}
        cleaned = {name: remove_personal_data(value, hide, name) for name, value in found.items()}
        if key == "lastRequest" and "reason" in found:
            cleaned["reason"] = OMITTED
        if found.get("action") in PERSONAL_NOTE_ACTIONS and "note" in found:
            cleaned["note"] = OMITTED
        return cleaned
    if isinstance(found, list | tuple):
        return [remove_personal_data(value, hide, key) for value in found]
    if isinstance(found, str) and not (key == "sha256" and _SHA256.fullmatch(found)):
        return hide(found)
    return found


def _without_values(found: Any) -> Any:
    if isinstance(found, Mapping):
        return {name: OMITTED if name in VALUES_IN_RULES else value for name, value in found.items()}
    return OMITTED if isinstance(found, str) else found


def _has_domain(key: str, domains: Sequence[str]) -> bool:
    domain, slash, _ = key.partition("/")
    return bool(slash) and any(domain == each or domain.endswith(f".{each}") for each in domains)


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
