"""
``python -m counterfoil.cli.reseal``: encrypt every consented Sender's key with the newest sealing key.

It does so in one namespace. A release that serves several needs one run in each, so a list of namespaces
without ``--namespace`` is refused.

The command begins only if the newest key in the folder is the newest one of the controllers too. They must
have had it for long enough that every process has it (``status.sealingKey`` of each Organization). What is
sealed with any other key, no process could open.

Without a digest, the command shows which keys it would seal again, with their number and their digest, and
changes nothing. With that digest it seals exactly these. A key that changed after it was shown is named and
not sealed, also after a conflict.

Sender by Sender: open the Secret, seal, write it back on condition that nobody wrote meanwhile, then record
the key id in the Sender's status. A consent that is stored during the run may still be sealed with an older
key: a later run seals it again. The command may be interrupted and started again at any time; it skips
Senders that are done already. Everything works meanwhile, since all keys open. At the end it prints the
number of Senders per result, and the sealing keys that this namespace no longer needs.

The keys of all namespaces of a release are derived from the same sealing keys. So a sealing key is removed
after the run in the last namespace. The command names those in which it did not run, as far as it may list
them. It names a namespace unless a status there excludes it, since who removes a key that is needed can't
repair that.
"""

import asyncio
import base64
import hashlib
import logging
import os
import sys
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from counterfoil import logs
from counterfoil.clock import Clock, WallClock
from counterfoil.kube.client import KubeClient, connect
from counterfoil.kube.config import own_namespace
from counterfoil.kube.errors import ApiError, Conflict, NotConfigured, NotFound
from counterfoil.kube.secret import Secret
from counterfoil.kube.served_namespaces import NamespacesFileInvalid, ServedNamespaces
from counterfoil.kube.status import MAX_CHANGE_ATTEMPTS
from counterfoil.kube.watch import Raw
from counterfoil.resources import Organization, ResourceInvalid, Sender
from counterfoil.sealing import (
    KEY_SETTLE,
    SECRET_KEY,
    SECRET_TYPE,
    SealBroken,
    Sealing,
    SealingKeysInvalid,
    SealKeyUnknown,
    key_id_of,
)
from counterfoil.settings import ResealSettings, load
from counterfoil.worker_processes.sandbox import hide_memory

_log = logging.getLogger(__name__)


DIGEST_LENGTH = 16
"""Number of characters of a digest that a user copies from one run to the next."""


class ResealOutcome(StrEnum):
    """Result for one Sender's key."""

    RESEALED = "resealed"
    NEWEST = "sealed with the newest key already"
    NONE = "without a sealed key"
    CHANGED = "changed after they were shown, and not sealed"
    FAILED = "failed"


class NewestKeyRefused(Exception):
    """The newest key of the folder may be unknown to a running process; the message says what to do."""


class NamespaceNotChosen(Exception):
    """Namespaces are listed, and none is named to seal in; the message says how to run it for each."""


class NotAsShown(Exception):
    """Other keys would be sealed again than those of the digest; nothing was sealed."""


@dataclass(frozen=True)
class ResealPlan:
    """The sealed keys of all Senders, as a person is shown them before they are sealed again."""

    newest: str
    """Id of the sealing key that would seal all."""
    sealed: Sequence["SealedKey"]
    """The sealed key of each Sender that has one."""
    failures: Mapping[str, str]
    """Errors by the name of the Sender."""
    without: int
    """Number of Senders without a sealed key."""
    namespace: str
    """That of the Senders."""

    @property
    def outdated(self) -> Mapping[str, str]:
        """Ids of the sealing keys that would be replaced, by the name of the Sender."""
        return {each.sender.name: each.key_id for each in self._outdated}

    @property
    def origins(self) -> Mapping[str, str]:
        """Origins that those keys belong to, by the name of the Sender."""
        return {each.sender.name: each.origin for each in self._outdated}

    @property
    def _outdated(self) -> Sequence["SealedKey"]:
        return [each for each in self.sealed if each.key_id != self.newest]

    @property
    def digest(self) -> str:
        """Digest of the keys that would be sealed again, and of the key that would seal them."""
        lines = sorted(f"{each.sender.name} {each.hash}" for each in self._outdated)
        return hashlib.sha256("\n".join([self.newest, *lines]).encode()).hexdigest()[:DIGEST_LENGTH]

    def lines(self) -> list[str]:
        """Say it to a person."""
        report_lines = [f"{name}: {error}" for name, error in self.failures.items()]
        report_lines += [f"{name}: a key of {origin}" for name, origin in self.origins.items()]
        counts = Counter(self.outdated.values())
        report_lines += [f"{counts[key_id]} sealed with {key_id!r}" for key_id in sorted(counts)]
        wish = f"to seal exactly these with {self.newest!r}, add --digest {self.digest}"
        return [
            *report_lines,
            f"{counts.total()} {'key' if counts.total() == 1 else 'keys'}; {wish}"
            if counts
            else f"no key to seal again in the namespace {self.namespace}",
        ]


@dataclass(frozen=True)
class SealedKey:
    """The sealed key of a Sender."""

    sender: Sender
    key_id: str
    """Id of the sealing key that it is sealed with."""
    hash: str
    """SHA-256 of the sealed bytes: another token sealed with the same key has another one."""
    origin: str
    """Origin of eSignAnyWhere that the token belongs to."""


@dataclass(frozen=True)
class ReleaseNamespaces:
    """The namespaces whose keys are derived from the same sealing keys."""

    looked_at: str
    """The one of the run."""
    others: tuple[str, ...] | None
    """Those in which the run did not look; None if it is not known which the release has."""
    unknown: tuple[str, ...] = ()
    """Those with an Organization of which it is not known if the release serves it."""

    def lines(self) -> list[str]:
        """Say to a person which namespaces may need each sealing key."""
        seen = []
        if self.others is None:
            seen.append("This run could not determine whether the release serves other namespaces.")
        elif self.others:
            names = ", ".join(self.others)
            seen.append(f"This run did not look at other namespaces of the release: {names}.")
        if self.unknown:
            names = ", ".join(self.unknown)
            seen.append(f"It is not known if the release serves these namespaces: {names}.")
        if not seen:
            return ["No other namespace has an Organization of the release."]
        return [
            f"{' '.join(seen)} Each of them may need each sealing key. Run the command for each of them. "
            "Remove sealing keys after the last one."
        ]


@dataclass
class ResealReport:
    """Result of one run."""

    counts: Counter[ResealOutcome] = field(default_factory=Counter)
    in_use: set[str] = field(default_factory=set)
    """Ids of the sealing keys that something is still sealed with."""
    replaced: set[str] = field(default_factory=set)
    """Ids of the sealing keys that this run replaced."""

    def lines(self, namespaces: ReleaseNamespaces) -> list[str]:
        """Say it to a person."""
        report_lines = [f"{self.counts[each]} {each}" for each in ResealOutcome]
        # Of a key that this run did not meet, nobody knows what is sealed with it.
        spare = sorted(self.replaced - self.in_use)
        if self.counts[ResealOutcome.FAILED]:
            report_lines.append("The failures are named above; keep all sealing keys until they are fixed.")
        else:
            report_lines += [
                f"The namespace {namespaces.looked_at} no longer needs: {each}. "
                "Forms that are open may need it for another hour."
                for each in spare
            ]
            report_lines += namespaces.lines()
        if self.counts[ResealOutcome.CHANGED]:
            report_lines.append("Run the command again for the keys that changed.")
        return report_lines

    @property
    def is_complete(self) -> bool:
        """Whether every key that was shown is sealed with the newest key."""
        return not (self.counts[ResealOutcome.FAILED] or self.counts[ResealOutcome.CHANGED])


async def sealing_of_namespace(kube: KubeClient, sealing: Sealing) -> Sealing:
    """
    Return the keys of the client's namespace, as the controllers report them: those that are derived for it,
    or the release's.

    The command does not know which namespace is the release's own; the hash in the status of the
    Organizations does. Raises ``SealingKeysInvalid``, and ``ApiError`` when they can't be listed.
    """
    derived = sealing.derived_for(kube.namespace)
    async for organization in kube.list_readable(Organization):
        key = organization.status.sealing_key
        if key is not None and key.hash == derived.newest_hash:
            return derived
    return sealing


@dataclass(frozen=True)
class _Found:
    """An Organization of the cluster."""

    namespace: str
    organization: Organization | None
    """None if it can't be read."""
    has_key: bool
    """Whether its controller has a key of the folder."""

    @property
    def release(self) -> str | None:
        """Namespace of the release that its status names; None if no controller has written that."""
        if self.organization is None or self.organization.status.observed_generation is None:
            return None
        return self.organization.status.release_namespace or self.namespace

    def is_of_another(self, releases: Collection[str]) -> bool:
        """Whether its status excludes that one of these releases, which have the folder, serves it."""
        if self.organization is None or self.has_key or self.release in releases:
            return False
        status = self.organization.status
        # A controller of the release would have reported a key of the folder.
        return (
            status.sealing_key is not None
            and status.observed_generation == self.organization.metadata.generation
        )


async def namespaces_of_release(
    kube: KubeClient, sealing: Sealing, listed: Collection[str] = ()
) -> ReleaseNamespaces:
    """
    Return the namespaces of the release that serves the client's: those with an Organization, and those of
    ``listed``, which a setting names.

    An Organization there has a key of the folder (``status.sealingKey``), or names the release. Only its own
    status excludes a namespace, so who may write that of others hides none.
    """
    found: list[_Found] = []
    is_known = True
    try:
        found = [_found(raw, sealing) async for raw in kube.in_all_namespaces().list(Organization)]
    except ApiError as problem:
        # The keys are sealed by now, so this is no reason to end without a report.
        _log.debug("the Organizations of other namespaces can't be listed: %s", problem)
        is_known = bool(listed)
    releases = {each.release for each in found if each.has_key or each.namespace == kube.namespace}
    named = {kube.namespace, *(each for each in releases if each is not None)}
    others = {each.namespace for each in found if each.has_key or each.release in named} | set(listed)
    # While a file can't be used, a key of the folder may look like that of another release.
    is_unusable = bool(sealing.faults)
    unknown = {each.namespace for each in found if is_unusable or not each.is_of_another(named)}
    return ReleaseNamespaces(
        kube.namespace,
        tuple(sorted(others - {kube.namespace})) if is_known else None,
        tuple(sorted(unknown - others - {kube.namespace})),
    )


def _found(raw: Raw, sealing: Sealing) -> _Found:
    namespace = raw["metadata"].get("namespace", "")
    try:
        organization = Organization.parse({**raw, "status": raw.get("status") or {}})
    except ResourceInvalid:
        return _Found(namespace, None, has_key=False)
    key = organization.status.sealing_key
    return _Found(namespace, organization, key is not None and sealing.is_key_of(namespace, key.hash))


async def plan_reseal(kube: KubeClient, sealing: Sealing, clock: Clock) -> ResealPlan:
    """Look at the sealed keys of all Senders of the namespace. Raises ``NewestKeyRefused``, and ``ApiError``
    when they can't be listed."""
    await _check_newest_key(kube, sealing, clock.now())
    sealed: list[SealedKey] = []
    failures: dict[str, str] = {}
    without = 0
    async for raw in kube.list(Sender):
        try:
            sender = Sender.parse(raw)
            secret = await _sealed_secret(kube, sender)
            if secret is None:
                without += 1
            else:
                sealed.append(_sealed_key(sender, secret, sealing, kube.namespace))
        except (ResourceInvalid, ApiError, SealBroken, SealKeyUnknown) as problem:
            failures[raw["metadata"]["name"]] = str(problem)
    return ResealPlan(sealing.newest, sealed, failures, without, kube.namespace)


async def reseal(kube: KubeClient, sealing: Sealing, clock: Clock, digest: str) -> ResealReport:
    """Seal the keys again that a person was shown with this digest. Raises ``NewestKeyRefused``,
    ``NotAsShown``, and ``ApiError`` when the Senders can't be listed."""
    plan = await plan_reseal(kube, sealing, clock)
    if digest != plan.digest:
        raise NotAsShown(
            "The keys of other Senders would be sealed again than those of this digest, or they are sealed "
            "with other keys now. Nothing was sealed. Run the command without --digest, and look again."
        )
    report = ResealReport(Counter({ResealOutcome.NONE: plan.without} if plan.without else {}))
    for name, error in plan.failures.items():
        _log.error("%s", error, extra={"sender": name})
        report.counts[ResealOutcome.FAILED] += 1
    for each in plan.sealed:
        try:
            outcome = await _reseal_sender(kube, sealing, each, report)
        except (ApiError, SealBroken, SealKeyUnknown) as problem:
            _log.error("%s", problem, extra={"sender": each.sender.name})
            outcome = ResealOutcome.FAILED
        report.counts[outcome] += 1
    return report


async def _check_newest_key(kube: KubeClient, sealing: Sealing, now: datetime) -> None:
    """Raise ``NewestKeyRefused`` unless all files can be used and every controller has the newest key."""
    if sealing.faults:
        raise NewestKeyRefused(f"{' '.join(sealing.faults)} Correct the folder, and repeat.")
    found = [(raw["metadata"]["name"], Organization.parse(raw)) async for raw in kube.list(Organization)]
    newest = sealing.newest
    for name, organization in found:
        key = organization.status.sealing_key
        if key is None:
            raise NewestKeyRefused(
                f"status.sealingKey of Organization/{name} is not set: no controller reports that it has the "
                f"key {newest!r}. Let a controller of this version run with the sealing keys, and repeat."
            )
        if key.id != newest:
            raise NewestKeyRefused(
                f"The newest key of the folder is {newest!r}, but the newest one of the controllers is "
                f"{key.id!r} (status.sealingKey of Organization/{name}). Put the same files into the folder "
                "and into the Secret of the sealing keys, and repeat."
            )
        if key.hash != sealing.newest_hash:
            raise NewestKeyRefused(
                f"The controllers have another key with the name {newest!r} (status.sealingKey of "
                f"Organization/{name}). Take the file from the Secret of the sealing keys, and repeat."
            )
        if now - key.observed_time < KEY_SETTLE:
            since = f"{key.observed_time:%H:%M:%S} UTC"
            raise NewestKeyRefused(
                f"A controller has had the key {newest!r} only since {since}. Repeat the command five "
                "minutes later: by then every process has it."
            )
    if not found:
        raise NewestKeyRefused("There is no Organization, so nothing shows which keys the controllers have.")


async def _sealed_secret(kube: KubeClient, sender: Sender) -> Secret | None:
    """Return the Secret of a Sender's sealed key; None if there is none."""
    if sender.spec.token_secret_ref is not None:
        return None
    try:
        secret = await kube.secret(sender.name)
    except NotFound:
        return None
    return secret if secret.type == SECRET_TYPE else None


def _sealed_key(sender: Sender, secret: Secret, sealing: Sealing, namespace: str) -> SealedKey:
    """Raises ``SealBroken``, ``SealKeyUnknown``."""
    data = secret.data.get(SECRET_KEY, b"")
    origin = sealing.open(data, namespace, sender).origin
    return SealedKey(sender, key_id_of(data), _hash(data), origin)


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


async def _reseal_sender(
    kube: KubeClient, sealing: Sealing, shown: SealedKey, report: ResealReport
) -> ResealOutcome:
    """Seal one key again while its sealed bytes are those that were ``shown``."""
    sender = shown.sender
    for _ in range(MAX_CHANGE_ATTEMPTS):
        secret = await _sealed_secret(kube, sender)
        if secret is None:
            return ResealOutcome.NONE
        data = secret.data.get(SECRET_KEY, b"")
        key_id = key_id_of(data)
        if key_id == sealing.newest:
            report.in_use.add(key_id)
            await _record_key_id(kube, sender, key_id)
            return ResealOutcome.NEWEST
        if _hash(data) != shown.hash:
            _log.warning("the sealed key is another one than was shown", extra={"sender": sender.name})
            report.in_use.add(key_id)
            return ResealOutcome.CHANGED
        token = sealing.open(data, kube.namespace, sender)
        sealed = sealing.seal_with_newest(token, kube.namespace, sender)
        changes = {
            "metadata": {"resourceVersion": secret.resource_version},
            "data": {SECRET_KEY: base64.b64encode(sealed.data).decode()},
        }
        try:
            await kube.patch_secret(sender.name, changes)
        except Conflict:
            continue
        report.in_use.add(sealed.key_id)
        report.replaced.add(key_id)
        await _record_key_id(kube, sender, sealed.key_id)
        return ResealOutcome.RESEALED
    _log.error("somebody else writes this Secret all the time", extra={"sender": sender.name})
    return ResealOutcome.FAILED


async def _record_key_id(kube: KubeClient, sender: Sender, key_id: str) -> None:
    """Record the key id if it changed; also after a run that was interrupted just before this step."""
    if sender.status.key is not None and sender.status.key.key_id != key_id:
        await kube.patch_status(Sender, sender.name, {"key": {"keyID": key_id}}, resource_version=None)


def namespaces_left(settings: ResealSettings) -> tuple[str, ...]:
    """Return the listed namespaces in which this run seals nothing. Raises ``NamespaceNotChosen``,
    ``NamespacesFileInvalid``."""
    chosen = settings.namespace or own_namespace()
    listed = ServedNamespaces.load(settings, chosen).names
    if settings.namespace is None and listed != (chosen,):
        raise NamespaceNotChosen(
            "A run seals the keys of one namespace, and none is named. Run the command for each of these "
            f"with --namespace NAMESPACE: {', '.join(listed)}."
        )
    return tuple(each for each in listed if each != chosen)


async def run(settings: ResealSettings) -> int:
    """Show what would be sealed again, or seal what was shown; return the exit status."""
    if settings.sealing_keys is None:
        raise SealingKeysInvalid("COUNTERFOIL_SEALING_KEYS is not set; name the folder of the sealing keys.")
    left = namespaces_left(settings)
    async with connect(namespace=settings.namespace) as kube:
        sealing = await sealing_of_namespace(kube, Sealing(settings.sealing_keys))
        if settings.digest is None:
            plan = await plan_reseal(kube, sealing, WallClock())
            print("\n".join(plan.lines()))
            return 1 if plan.failures else 0
        report = await reseal(kube, sealing, WallClock(), settings.digest)
        namespaces = await namespaces_of_release(kube, sealing, left)
    print("\n".join(report.lines(namespaces)))
    return 0 if report.is_complete else 1


def main(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run as a program; return the exit status."""
    settings = load(ResealSettings, argv, environ)
    logs.configure(settings.log_level, settings.log_format)
    hide_memory()
    try:
        return asyncio.run(run(settings))
    except (
        SealingKeysInvalid,
        NamespacesFileInvalid,
        NamespaceNotChosen,
        NewestKeyRefused,
        NotAsShown,
        NotConfigured,
        ApiError,
        ResourceInvalid,
    ) as trouble:
        # The person who started the command can fix this error: no stack trace.
        _log.critical("nothing can be resealed: %s", trouble)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
