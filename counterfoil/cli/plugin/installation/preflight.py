"""
``preflight``: whether a cluster can have Counterfoil, and whether an installation has what it needs.

Each line says what was found and what to do. Before an installation the API server, the CRDs and the user's
rights are asked, and eSAW from this machine. Afterwards the processes, and the results of the controller's
checks of eSAW and the archives. A callback URL is tried with a token that nobody has, so that
nothing is stored. Nothing is written.
"""

import argparse
import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from functools import partial
from typing import Any, Final, TextIO
from urllib.parse import urlsplit

import aiohttp
import msgspec

from counterfoil import __version__
from counterfoil.cli.plugin.exit_status import ExitStatus, format_answer, is_for_programs, printable
from counterfoil.cli.plugin.installation.status import AdmissionPolicies, overview, read
from counterfoil.kube.answers import foreign_answer
from counterfoil.kube.client import KubeClient
from counterfoil.kube.errors import ApiError
from counterfoil.kube.shard_leases import PODS, has_ended
from counterfoil.origin import origin_of
from counterfoil.resources import (
    GROUP,
    VERSION,
    Archive,
    EnvelopeEvent,
    Import,
    Organization,
    Resource,
    Sender,
    find_condition,
)
from counterfoil.resources.lease import NamespaceNotServed
from counterfoil.resources.sender import Envelope

SUMMARY = "check a cluster before the installation, or an installation"
DETAILS = (
    "Reads only. What the pods reach is what the controller found, in the conditions of Organizations and "
    "Archives. Callback URLs and --base-url are tried from this machine, with no valid token."
)

MINIMUM_KUBERNETES: Final = (1, 31)
"""As ``kubeVersion`` of the chart; a test compares."""

ANSWER_SECONDS: Final = 10.0
RECEIVER: Final = "counterfoil"
"""Header ``Server`` of the receiver."""

NO_TOKEN: Final = "preflight-has-no-token-00000000"  # noqa: S105 - the token of nobody

INSTALLS: Final = (
    ("create", "customresourcedefinitions", "apiextensions.k8s.io"),
    ("create", "validatingadmissionpolicies", "admissionregistration.k8s.io"),
    ("create", "clusterroles", "rbac.authorization.k8s.io"),
    ("create", "deployments", "apps"),
    ("create", "services", ""),
    ("create", "serviceaccounts", ""),
    ("create", "roles", "rbac.authorization.k8s.io"),
    ("create", "networkpolicies", "networking.k8s.io"),
)
"""Rights for `helm install`: verb, resource and API group."""

CLUSTER_SCOPED: Final = frozenset(
    {"customresourcedefinitions", "validatingadmissionpolicies", "clusterroles"}
)
"""Resources of no namespace: a right in one namespace does not suffice."""

OPERATES: Final = (
    ("create", Organization.PLURAL, GROUP),
    ("create", Archive.PLURAL, GROUP),
    ("create", Sender.PLURAL, GROUP),
    ("patch", EnvelopeEvent.PLURAL, GROUP),
    ("create", "secrets", ""),
    ("get", "secrets", ""),
)
"""Rights for ``setup`` and the requests of an administrator."""


ALL_KINDS: Final[tuple[type[Resource], ...]] = (
    Archive,
    Envelope,
    EnvelopeEvent,
    Import,
    Organization,
    Sender,
)


class Outcome(StrEnum):
    """Result of one check."""

    OK = "ok"
    WRONG = "wrong"
    UNKNOWN = "unknown"


class PreflightLine(msgspec.Struct, frozen=True):
    """One check: what was looked at, the result, and what was found or has to be done."""

    check: str
    outcome: Outcome
    found: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "--base-url", metavar="URL", help="also try this address of eSignAnyWhere from this machine"
    )
    parser.add_argument(
        "--callback-url", metavar="URL", help="also try this public address of the receiver from this machine"
    )


async def run(args: argparse.Namespace, kube: KubeClient, out: TextIO) -> ExitStatus:
    """Print a line for each check. Raises ``ApiError`` if the API server does not tell its version: then
    nothing else can be asked."""
    lines: list[PreflightLine] = []
    async for line in checks(kube, args.base_url, args.callback_url):
        lines.append(line)
        if not is_for_programs(args.output):
            # At once: some take seconds.
            out.write(written(line))
            out.flush()
    if is_for_programs(args.output):
        out.write(format_answer(args.output, lines))
    if lines[0].outcome is Outcome.UNKNOWN:
        # Nothing else was asked.
        return ExitStatus.NO_ANSWER
    is_wrong = any(each.outcome is Outcome.WRONG for each in lines)
    return ExitStatus.NOT_ALL if is_wrong else ExitStatus.DONE


def written(line: PreflightLine) -> str:
    """Return a line as text."""
    return printable(f"{line.outcome:<8}{line.check:<22}{line.found}") + "\n"


async def checks(
    kube: KubeClient, base_url: str | None, callback_url: str | None
) -> AsyncIterator[PreflightLine]:
    """Yield the result of each check, in the order in which a fault has to be corrected. Raises ``ApiError``,
    as ``run``."""
    version = await _kubernetes(kube)
    yield version
    if version.outcome is Outcome.UNKNOWN:
        return
    definitions = await _definitions(kube)
    yield definitions
    for each in await _rights(kube, is_installed=definitions.outcome is Outcome.OK):
        yield each
    if definitions.outcome is Outcome.OK:
        async for each in _installation(kube):
            yield each
    async with _session() as session:
        if base_url is not None:
            yield await _esaw(session, base_url)
        if callback_url is not None:
            yield await _callback(session, "the receiver", callback_url)
        if definitions.outcome is Outcome.OK:
            async for each in _callbacks(kube, session):
                yield each


# -- The API server ------------------------------------------------------------------------------------------


async def _kubernetes(kube: KubeClient) -> PreflightLine:
    try:
        version = await kube.server_version()
    except ApiError as problem:
        if problem.status != 404:
            raise
        # Every API server tells its version.
        raise foreign_answer("it has no version") from problem
    name = str(version.get("gitVersion", ""))
    try:
        found = (int(version["major"]), int("".join(filter(str.isdecimal, version["minor"]))))
    except (KeyError, TypeError, ValueError):
        words = f"the version {name!r} can't be compared. Is it the right context?"
        return PreflightLine("Kubernetes", Outcome.UNKNOWN, words)
    if found < MINIMUM_KUBERNETES:
        minimum = ".".join(map(str, MINIMUM_KUBERNETES))
        words = f"{name} is too old: Counterfoil needs {minimum} or newer. Upgrade the cluster."
        return PreflightLine("Kubernetes", Outcome.WRONG, words)
    return PreflightLine("Kubernetes", Outcome.OK, name)


async def missing_kinds(kube: KubeClient) -> list[type[Resource]]:
    """Return the kinds that the API server does not have. Raises ``ApiError`` with status 404 if it has no
    resources of the group."""
    served = {each["name"] for each in await kube.served_resources(GROUP, VERSION)}
    return [each for each in ALL_KINDS if each.PLURAL not in served]


async def _definitions(kube: KubeClient) -> PreflightLine:
    try:
        missing = await missing_kinds(kube)
    except ApiError as problem:
        if problem.status == 404:
            words = "not installed yet; `helm install` of the chart brings them"
            return PreflightLine("CRDs", Outcome.UNKNOWN, words)
        return PreflightLine("CRDs", Outcome.UNKNOWN, str(problem))
    if missing:
        names = ", ".join(sorted(each.PLURAL for each in missing))
        words = f"{names} are missing. Apply the CustomResourceDefinitions of this version."
        return PreflightLine("CRDs", Outcome.WRONG, words)
    return PreflightLine("CRDs", Outcome.OK, f"{GROUP}/{VERSION} has all {len(ALL_KINDS)} kinds")


async def _rights(kube: KubeClient, *, is_installed: bool) -> list[PreflightLine]:
    found = [await _right(kube, "right to install", INSTALLS, is_needed=not is_installed)]
    if is_installed:
        found.append(await _right(kube, "right to operate", OPERATES, is_needed=True))
    return found


async def _right(
    kube: KubeClient, check: str, needed: Sequence[tuple[str, str, str]], *, is_needed: bool
) -> PreflightLine:
    everywhere = kube.in_all_namespaces()
    try:
        allowed = await asyncio.gather(
            *(
                (everywhere if resource in CLUSTER_SCOPED else kube).is_allowed(verb, resource, group=group)
                for verb, resource, group in needed
            )
        )
    except ApiError as problem:
        return PreflightLine(check, Outcome.UNKNOWN, str(problem))
    missing = [(verb, resource) for (verb, resource, _), has in zip(needed, allowed, strict=True) if not has]
    if not missing:
        return PreflightLine(check, Outcome.OK, f"you may {needed[0][0]} {needed[0][1]} and the rest")
    words = f"you may not {', '.join(map(' '.join, missing))}. "
    words += (
        "Ask an administrator of the cluster, or install with clusterScoped=false, which needs one for the "
        "CRDs only."
        if any(resource in CLUSTER_SCOPED for _, resource in missing)
        else "Ask a person who may, or have a Role in this namespace with it bound to you."
    )
    return PreflightLine(check, Outcome.WRONG if is_needed else Outcome.UNKNOWN, words)


# -- The installation ----------------------------------------------------------------------------------------


async def _installation(kube: KubeClient) -> AsyncIterator[PreflightLine]:
    try:
        reading = await read(kube)
    except ApiError as problem:
        yield PreflightLine("Organizations", Outcome.UNKNOWN, str(problem))
        return
    now = datetime.now(UTC)
    found = overview(reading, kube.namespace, now)
    for process in found.processes:
        outcome = Outcome.OK if process.ready == process.pods else Outcome.WRONG
        words = "; ".join((f"{process.ready} of {process.pods} pods are ready", *process.problems))
        yield PreflightLine(f"process {process.name}", outcome, words)
    if reading.pods is not None and not found.processes:
        words = f"no pod has the label {PODS}; is it the namespace of the release?"
        yield PreflightLine("processes", Outcome.UNKNOWN, words)
    if (line := _versions(reading.pods or ())) is not None:
        yield line
    if reading.policies is not None:
        yield _policies(reading.policies)
    for each in reading.snapshot.absences:
        advice = each.advice if isinstance(each, NamespaceNotServed) else "Look at the controller's pods."
        yield PreflightLine("controller", Outcome.WRONG, f"{each} {advice}")
    for organization in reading.snapshot.organizations:
        yield _condition(f"eSAW of {organization.name}", organization.status.conditions, "Reachable")
    for archive in reading.snapshot.archives:
        yield _condition(f"archive {archive.name}", archive.status.conditions, "Ready")
    for text in found.unread:
        yield PreflightLine("not read", Outcome.UNKNOWN, text)


def _versions(pods: Iterable[Mapping[str, Any]]) -> PreflightLine | None:
    labels = (each["metadata"].get("labels") or {} for each in pods if not has_ended(each))
    versions = {each["app.kubernetes.io/version"] for each in labels if "app.kubernetes.io/version" in each}
    if not versions:
        return None
    others = sorted(versions - {__version__})
    if not others:
        return PreflightLine("versions", Outcome.OK, f"plugin and processes are {__version__}")
    words = f"the plugin is {__version__}, processes are {', '.join(others)}. Use the plugin of that release."
    return PreflightLine("versions", Outcome.WRONG, words)


def _policies(policies: AdmissionPolicies) -> PreflightLine:
    if not policies.missing:
        words = f"the cluster has all {len(policies.names)} of the release {policies.release}"
        return PreflightLine("admission policies", Outcome.OK, words)
    words = (
        f"{', '.join(sorted(policies.missing))}: missing, or without a binding. Upgrade the release again."
    )
    return PreflightLine("admission policies", Outcome.WRONG, words)


def _condition(check: str, conditions: Iterable[Any], type_: str) -> PreflightLine:
    found = find_condition(tuple(conditions), type_)
    if found is None or found.status == "Unknown":
        words = found.message if found is not None else "no controller has looked at it yet"
        return PreflightLine(check, Outcome.UNKNOWN, words)
    outcome = Outcome.OK if found.status == "True" else Outcome.WRONG
    return PreflightLine(check, outcome, f"{found.reason}: {found.message}")


# -- From this machine ---------------------------------------------------------------------------------------


def _session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=ANSWER_SECONDS), trust_env=True, auto_decompress=False
    )


def _is_address(url: str) -> bool:
    try:
        return bool(origin_of(url))
    except ValueError:
        return False


def _no_address(check: str, url: str) -> PreflightLine:
    words = f"{url!r} is no address. Write it as in https://host.example.com."
    return PreflightLine(check, Outcome.WRONG, words)


async def _esaw(session: aiohttp.ClientSession, base_url: str) -> PreflightLine:
    if not _is_address(base_url):
        return _no_address("eSAW from here", base_url)

    async def judge(response: aiohttp.ClientResponse) -> tuple[Outcome, str]:
        return Outcome.OK, f"{urlsplit(base_url).hostname} answers {response.status} to this machine"

    return await _ask(session, "eSAW from here", f"{base_url.rstrip('/')}/Api/v6/version", judge)


async def _callbacks(kube: KubeClient, session: aiohttp.ClientSession) -> AsyncIterator[PreflightLine]:
    try:
        async for organization in kube.list_readable(Organization):
            urls = organization.status.callback_urls
            if urls is not None:
                yield await _callback(session, f"callback {organization.name}", urls.envelope)
    except ApiError as problem:
        yield PreflightLine("callback URLs", Outcome.UNKNOWN, str(problem))


async def _callback(session: aiohttp.ClientSession, check: str, url: str) -> PreflightLine:
    """Try a callback URL with a token that no Organization has: the receiver answers 404, and stores
    nothing."""
    if "<your-host>" in url:
        words = "the public address is not known: set the receiver's host in the chart, or oauth.publicURL"
        return PreflightLine(check, Outcome.WRONG, words)
    if not _is_address(url):
        return _no_address(check, url)
    place = urlsplit(url)
    of_organization, _, _ = place.path.rpartition("/")
    path = of_organization if of_organization.startswith("/callbacks/") else "/callbacks/nobody"
    tried = f"{place.scheme}://{place.netloc}{path}/{NO_TOKEN}"

    async def judge(response: aiohttp.ClientResponse) -> tuple[Outcome, str]:
        is_receiver = response.headers.get("Server") == RECEIVER
        if response.status == 404 and is_receiver:
            return Outcome.OK, f"{place.netloc} leads to the receiver, as seen from this machine"
        if is_receiver:
            return Outcome.UNKNOWN, f"the receiver at {place.netloc} answers {response.status}, not 404"
        return Outcome.WRONG, (
            f"another server answers {response.status} at {place.netloc}. Check DNS, and the Ingress or "
            "HTTPRoute."
        )

    return await _ask(session, check, tried, judge)


Judge = Callable[[aiohttp.ClientResponse], Awaitable[tuple[Outcome, str]]]


async def _ask(session: aiohttp.ClientSession, check: str, url: str, judge: Judge) -> PreflightLine:
    host = urlsplit(url).hostname or ""
    try:
        await asyncio.get_running_loop().run_in_executor(None, partial(socket.getaddrinfo, host, None))
    except (OSError, UnicodeError):
        return PreflightLine(check, Outcome.WRONG, f"DNS has no address of {host!r} for this machine.")
    try:
        async with session.get(url, allow_redirects=False) as response:
            outcome, words = await judge(response)
    except aiohttp.ClientSSLError as problem:
        words = f"TLS of {host} fails for this machine ({type(problem).__name__}). Check its certificate."
        return PreflightLine(check, Outcome.WRONG, words)
    except (aiohttp.ClientError, TimeoutError, ValueError) as problem:
        words = f"{host} gives this machine no answer ({type(problem).__name__}). Check address and firewall."
        return PreflightLine(check, Outcome.WRONG, words)
    return PreflightLine(check, outcome, words)
