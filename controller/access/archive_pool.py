"""
Keep one open archive backend per Archive, and open it again when the Archive's spec or Secret changes.

Documents and credentials go to the destination that was recorded when the first probe succeeded (rule 11). At
another one nothing is sent, so that a changed address can't prove that files arrived. A marker in the root
(``archive_root``) tells it from an empty one in its place. A root without a known marker is compared with the
manifests that events of this cluster have there.

The pool also probes each archive periodically: it writes, reads back and deletes a file. The Archive's
``Ready`` condition has the result, with a message for the administrator.
"""

import asyncio
import hashlib
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache, partial
from weakref import WeakValueDictionary

import msgspec

from controller.access.archive_root import (
    CHECK_AGAIN_SECONDS,
    EarlierManifest,
    MarkedBackend,
    check_new_root,
    check_root,
    expected_marker,
    find_or_write_marker,
    is_new_root_confirmed,
    is_root_known,
    origin_changed,
    root_of,
)
from controller.access.credential_origin import is_origin_lost, other_origin_of_secret
from controller.access.pod_access import PodAccess
from controller.access.secret_cache import (
    SecretCache,
    SecretMissing,
    value_of,
    what_to_type,
)
from controller.cache import Cache
from controller.reopening.fix_rules import settled_time
from counterfoil.archives import open_backend
from counterfoil.archives.backend import ArchiveBackend, InstrumentedBackend, server_of
from counterfoil.archives.bounded import BoundedBackend, TransferEnd
from counterfoil.archives.errors import (
    SECRET_MISSING,
    ArchiveError,
    ArchiveRefused,
    ArchiveUnavailable,
    SecretUnusable,
    SettingsInvalid,
)
from counterfoil.archives.layout import problems_aside
from counterfoil.clock import Clock
from counterfoil.kube.client import KubeClient
from counterfoil.kube.errors import ApiError, Unavailable
from counterfoil.kube.secret import USE_LABEL, Placeholder, Secret, SecretUse
from counterfoil.kube.status import write_status_or_skip
from counterfoil.metrics import Metrics
from counterfoil.origin import annotate_command
from counterfoil.readiness import with_readiness
from counterfoil.resources import (
    Archive,
    ArchiveRoot,
    ArchiveStatus,
    EnvelopeEvent,
    LocalObjectReference,
    find_condition,
    is_condition_true,
)
from counterfoil.resources.conditions import UNREAD_SECRET_REASONS, ConditionStatus
from counterfoil.resources.organization import shared_folders
from counterfoil.signatures.anchors import NO_ANCHORS, Anchors, AnchorsInvalid
from counterfoil.untrusted.fair_slots import FairSlots
from counterfoil.untrusted.transfer_rate import MinimumRate

_log = logging.getLogger("controller.access.archive_pool")

GIVEN_UP_SECONDS = 7200.0
"""Time for which a transfer that was given up keeps its Archive from being ready: longer than the longest
pause between two attempts of an event, which shows whether the archive works again."""

SMALLEST_EVIDENCE = 16 * 1024
"""Bytes of a transfer that shows the rate of an archive; a marker or a manifest is smaller."""

MAX_READY_PROBES = 4
"""Maximum number of probes at once of Archives that are ready. One that hangs is not ready any more, so it
delays the others once. Turns go round the servers, so the slow Archives of one delay those of another by one
probe."""

MAX_OTHER_PROBES = 8
"""Maximum number of probes at once of Archives that are not ready. If 40 hang, each has a turn within some
150 s."""

MAX_NAMED_ORGANIZATIONS = 5
"""Maximum number of Organizations in a message."""

MAX_EARLIER_MANIFESTS = 10
"""Maximum number of manifests that are looked for in a new root. A few envelopes may have been removed there
since."""

LIST_AGAIN_SECONDS = 600.0
"""Time for which the manifests that events have in a root are remembered while no probe succeeds there. The
list may be of 100,000 events."""

MAX_SECRET_ORIGINS = 16
"""Maximum number of Secrets in ``status.secretOrigins``. Another one has to name its origin."""


class _Replaced(Exception):
    """The Archive was changed or deleted while its probe waited for its turn."""


@dataclass(frozen=True)
class _OpenArchive:
    version: tuple[str, int, str]
    """Uid and generation of the Archive, and the digest of its credentials."""
    backend: ArchiveBackend
    bounded: BoundedBackend
    """The part of it that knows whether the archive keeps an operation waiting."""


@dataclass(frozen=True)
class _GivenUp:
    """The largest transfer that was given up, in bytes, and when the last one was, by the monotonic clock."""

    size: int
    at: float


@dataclass(frozen=True)
class _ProbeResult:
    """The condition ``Ready`` of an Archive after a probe; ``root`` if a file was written and read back, and
    the kind has one."""

    status: ConditionStatus
    reason: str
    message: str
    root: ArchiveRoot | None = None


@dataclass(frozen=True)
class _CheckedRoot:
    root: ArchiveRoot | None
    """The root in the status, which was checked."""
    at: float
    """When it was checked, on the monotonic clock."""


@dataclass(frozen=True)
class _EarlierManifests:
    """The manifests that events have in a root, and when they were listed, by the monotonic clock."""

    root: str
    manifests: tuple[EarlierManifest, ...]
    at: float


@dataclass
class ArchivePool:
    """Opens archive backends and keeps them open."""

    kube: KubeClient
    cache: Cache
    """A Secret that another Archive uses elsewhere is not sent. Organizations with the same folders are
    named."""
    secret_cache: SecretCache
    clock: Clock
    metrics: Metrics
    pod_access: PodAccess
    minimum_rate: MinimumRate = field(default_factory=MinimumRate)
    probe_timeout: float = 30.0
    """Seconds after which a probe is overdue."""
    _ready_probes: FairSlots = field(default_factory=partial(FairSlots, MAX_READY_PROBES))
    _other_probes: FairSlots = field(default_factory=partial(FairSlots, MAX_OTHER_PROBES))
    _given_up: dict[str, _GivenUp] = field(default_factory=dict)
    _probes: dict[str, tuple[ArchiveBackend, asyncio.Task[ArchiveRoot | None]]] = field(default_factory=dict)
    """By Archive: its last probe, which may be overdue and still run."""
    _open_archives: dict[str, _OpenArchive] = field(default_factory=dict)
    _locks: WeakValueDictionary[str, asyncio.Lock] = field(default_factory=WeakValueDictionary)
    """A lock that nobody has or waits for takes no memory: names of deleted objects do not stay."""
    _uncounted_bytes: Counter[str] = field(default_factory=Counter)
    _checked_roots: dict[str, _CheckedRoot] = field(default_factory=dict)
    _earlier_manifests: dict[str, _EarlierManifests] = field(default_factory=dict)
    """By Archive whose root is new."""
    _marking: WeakValueDictionary[str, asyncio.Lock] = field(default_factory=WeakValueDictionary)
    """By location of a root: held while a marker is looked for and written, since several Archives may share
    it."""

    async def backend(self, archive: Archive) -> ArchiveBackend:
        """Return the backend of an archive. Raises ``ArchiveError`` with a message for an administrator,
        ``ApiError``."""
        async with self._locks.setdefault(archive.name, asyncio.Lock()):
            _refuse_other_destination(archive)
            self.pod_access.check(archive)
            credentials = await self._credentials(archive)
            version = (archive.uid, archive.metadata.generation, _credentials_digest(credentials))
            known = self._open_archives.get(archive.name)
            if known is not None and known.version == version:
                return known.backend
            opened = await open_backend(archive.name, archive.spec, credentials)
            bounded = BoundedBackend(
                opened,
                archive.name,
                self.minimum_rate,
                self.clock,
                on_end=partial(self._transfer_ended, archive.name),
            )
            backend = InstrumentedBackend(bounded, partial(self._observe, archive.name))
            self._open_archives[archive.name] = _OpenArchive(version, backend, bounded)
            self._given_up.pop(archive.name, None)
            # The old backend is not closed here: a transfer may still use it. It closes with its last user.
            return backend

    async def check_root(self, archive: Archive, backend: ArchiveBackend) -> None:
        """Check that the archive has the root that its status names. Raises as
        ``archive_root.check_root``."""
        self._checked_roots.pop(archive.name, None)
        await check_root(archive, backend)
        self._checked_roots[archive.name] = _CheckedRoot(archive.status.root, self.clock.monotonic())

    async def check_root_recently(self, archive: Archive, backend: ArchiveBackend) -> None:
        """As ``check_root``, unless that was checked within the last ``CHECK_AGAIN_SECONDS``."""
        last = self._checked_roots.get(archive.name)
        is_known = last is not None and last.root == archive.status.root
        if last is None or not is_known or self.clock.monotonic() - last.at >= CHECK_AGAIN_SECONDS:
            await self.check_root(archive, backend)

    def marked(self, archive: Archive, backend: ArchiveBackend) -> MarkedBackend:
        """Return the backend of an archive for one run, which checks the root."""
        check, check_again = self.check_root_recently, self.check_root
        return MarkedBackend(
            backend, partial(check, archive, backend), partial(check_again, archive, backend)
        )

    async def checked_backend(self, archive: Archive) -> ArchiveBackend:
        """Return the backend of an archive whose root was checked recently. Raises ``ArchiveError``,
        ``ApiError``."""
        backend = await self.backend(archive)
        await self.check_root_recently(archive, backend)
        return self.marked(archive, backend)

    async def anchors(self, archive: Archive) -> Anchors:
        """Return the trust anchors of an archive; none by default. Raises ``SettingsInvalid``,
        ``ApiError``."""
        ref = archive.spec.trust_anchors_secret_ref
        if ref is None:
            return NO_ANCHORS
        values = {"ca.pem": Placeholder.CERTIFICATES}
        content = await self._secret(archive, ref, SecretUse.TRUST, "trustAnchorsSecretRef", values)
        try:
            return _anchors(tuple(sorted(content.data.items())))
        except AnchorsInvalid as invalid:
            raise SettingsInvalid(
                f"Archive/{archive.name}: Secret/{ref.name} must contain trust anchors, but {invalid}. Put "
                "certificates in PEM form into it, or correct trustAnchorsSecretRef."
            ) from invalid

    async def has_other_anchors(self, archive: Archive) -> bool:
        """Whether the trust anchors differ from those in the archive's status. Raises ``ApiError``."""
        try:
            return (await self.anchors(archive)).id != archive.status.trust_anchors
        except SettingsInvalid:
            return is_condition_true(archive.status.conditions, "Ready")

    def refresh_secrets(self, archive: Archive) -> None:
        """Drop the cached Secrets of an archive."""
        with suppress(ValueError):  # several kinds are set: no backend is opened
            self._forget(archive.spec.credentials_secret_ref)
        self._forget(archive.spec.trust_anchors_secret_ref)

    def forget(self, name: str) -> None:
        """Drop the state of a deleted Archive."""
        self._given_up.pop(name, None)
        self._probes.pop(name, None)
        self._open_archives.pop(name, None)
        self._checked_roots.pop(name, None)
        self._earlier_manifests.pop(name, None)
        self._uncounted_bytes.pop(name, None)

    def count_archived_bytes(self, name: str, size: int) -> None:
        """Count archived bytes; the next probe adds them to ``status.bytesTotal``."""
        self._uncounted_bytes[name] += size
        self.metrics.archive_bytes.labels(name).inc(size)

    def is_stalled(self, name: str) -> bool:
        """Whether the archive keeps an operation waiting, so that it is worth a probe."""
        opened = self._open_archives.get(name)
        return opened is not None and opened.bounded.is_stalled

    def _transfer_ended(self, name: str, end: TransferEnd) -> None:
        """Remember that a transfer was given up, until one that is as large is complete."""
        known, size = self._given_up.get(name), max(end.size, SMALLEST_EVIDENCE)
        if not end.is_complete:
            largest = size if known is None else max(known.size, size)
            self._given_up[name] = _GivenUp(largest, self.clock.monotonic())
        elif known is not None and end.size >= known.size:
            del self._given_up[name]

    def _observe(self, name: str, operation: str, seconds: float) -> None:
        self.metrics.archive_seconds.labels(name, operation).observe(seconds)

    async def close(self) -> None:
        """Close all backends; a probe that hangs is not waited for."""
        for _, probe in self._probes.values():
            probe.cancel()
        for each in self._open_archives.values():
            await each.backend.close()

    async def update_status(self, archive: Archive) -> Archive | None:
        """
        Probe an archive and store the result. Return the new state, or None if another process wrote
        meanwhile.

        Raises ``ApiError``.
        """
        try:
            probe, before = await self._probe_result(archive), archive.status
        except _Replaced:
            return None
        # An archive that takes a probe and is slow with files has a root as well: events show its recovery.
        if probe.status == "True" or probe.root is not None:
            found = msgspec.structs.replace(await self._sent_to(archive), root=probe.root)
            stored = await self._record(archive, found)
            if stored is None:
                return None
            if _recorded(stored.status) != _recorded(found):
                probe = _ProbeResult("False", "ArchiveRootNotRecorded", _dropped_message(archive))
            archive = stored
        now, generation = self.clock.now(), archive.metadata.generation
        status = msgspec.structs.replace(
            archive.status,
            observed_generation=generation,
            bytes_total=archive.status.bytes_total + self._uncounted_bytes[archive.name],
            conditions=with_readiness(
                archive.status.conditions,
                probe.status,
                probe.reason,
                probe.message,
                now=now,
                generation=generation,
            ),
            trust_anchors=await self._trust_anchors_id(archive),
        )
        settled = settled_time(before, status, now=now)
        return await self._store(archive, msgspec.structs.replace(status, settled_time=settled))

    async def _record(self, archive: Archive, found: ArchiveStatus) -> Archive | None:
        """
        Store where documents are sent and the root, and nothing else: the answer shows what the API server
        dropped. Return the stored state, or None if another process wrote meanwhile. Raises ``ApiError``.
        """
        if _recorded(found) == _recorded(archive.status):
            return archive
        settled = settled_time(archive.status, found, now=self.clock.now())
        status = msgspec.structs.replace(found, settled_time=settled)
        return await write_status_or_skip(self.kube, archive, status)

    async def write_bytes(self, archive: Archive) -> Archive | None:
        """Store only this process's count of archived bytes, without a probe; otherwise as
        ``update_status``."""
        total = archive.status.bytes_total + self._uncounted_bytes[archive.name]
        return await self._store(archive, msgspec.structs.replace(archive.status, bytes_total=total))

    async def _probe_result(self, archive: Archive) -> _ProbeResult:
        """Return what a probe finds. Raises ``_Replaced``, ``ApiError``."""
        if archive.spec.suspend:
            message = (
                "spec.suspend is true: nothing is archived and the archive is not probed until it is false."
            )
            return _ProbeResult("False", "ArchiveSuspended", message)
        if wrong := await problems_aside(archive.spec):
            return _ProbeResult("False", "SettingsInvalid", f"{'; '.join(wrong)}. Correct the Archive.")
        known = self.cache.archives.get(archive.name)
        try:
            backend = await self.backend(archive)
            await self.anchors(archive)
            manifests = await self._manifests_in_new_root(archive, backend)
            root = await self._probe(archive, known, backend, manifests)
        except ArchiveError as trouble:
            return _ProbeResult("False", trouble.reason, str(trouble))
        except (ApiError, _Replaced):
            raise
        except Exception as error:
            # A backend's fault must not end the checks of all other objects.
            _log.exception("Archive/%s: the probe failed", archive.name)
            return _ProbeResult(
                "False",
                "InternalError",
                f"Archive/{archive.name}: the probe ended with {type(error).__name__}. Report it with the "
                "log of the controller.",
            )
        given_up = self._given_up.get(archive.name)
        if given_up is not None and self.clock.monotonic() - given_up.at < GIVEN_UP_SECONDS:
            return _ProbeResult("False", "ArchiveUnresponsive", _given_up_message(archive), root)
        message = f"A probe was written and read back.{self._shared(archive)}"
        return _ProbeResult("True", "Probed", message, root)

    def _shared(self, archive: Archive) -> str:
        """Return the sentence about Organizations that have the same folders; empty: there are none."""
        users = shared_folders(archive, self.cache.archive_use)
        if not users:
            return ""
        names = ", ".join(f"Organization/{each.name}" for each in users[:MAX_NAMED_ORGANIZATIONS])
        return (
            f" Organizations of different eSignAnyWheres have the same folders: {names}. Only the oldest is "
            "archived. Put {{organization}} before the file's part of spec.path."
        )

    async def _manifests_in_new_root(
        self, archive: Archive, backend: ArchiveBackend
    ) -> tuple[EarlierManifest, ...]:
        """
        Return some of the manifests that events have in a root that no probe has confirmed; none if a person
        did.

        Outside the probe, whose time is limited. Raises ``ArchiveUnavailable``.
        """
        if is_root_known(archive, backend) or is_new_root_confirmed(archive, root_of(backend)):
            self._earlier_manifests.pop(archive.name, None)
            return ()
        root, now = root_of(backend), self.clock.monotonic()
        known = self._earlier_manifests.get(archive.name)
        if known is None or known.root != root or now - known.at >= LIST_AGAIN_SECONDS:
            try:
                known = _EarlierManifests(root, await self._list_manifests(root), now)
            except ApiError as refused:
                raise ArchiveUnavailable(
                    "ArchiveRootNotRecorded",
                    f"Archive/{archive.name}: the root can't be compared with the events, since the "
                    f"Kubernetes API server does not list them ({refused.reason or refused.status}). Nothing "
                    "is archived there before. Check the rights of the controller, and the API server.",
                ) from refused
            self._earlier_manifests[archive.name] = known
        return known.manifests

    async def _list_manifests(self, root: str) -> tuple[EarlierManifest, ...]:
        found: list[EarlierManifest] = []
        async for event in self.kube.list_readable(EnvelopeEvent):
            location = event.status.archive.manifest if event.status.archive is not None else None
            if location is not None and location.startswith(root):
                found.append(EarlierManifest(location, event.spec.envelope_id))
            if len(found) == MAX_EARLIER_MANIFESTS:
                break
        return tuple(found)

    async def _probe(
        self,
        archive: Archive,
        known: Archive | None,
        backend: ArchiveBackend,
        manifests: Sequence[EarlierManifest],
    ) -> ArchiveRoot | None:
        """
        Probe an archive and return its root; ``known`` is what was in memory when the work began. The
        timeout is judged outside the probe, which may not even end when it is cancelled. While an overdue
        probe has not ended, no other one begins. The timeout begins with the probe's turn: an Archive that
        waits for it keeps its conditions.

        Raises ``ArchiveError``, ``_Replaced``, ``ApiError``.
        """
        is_ready = is_condition_true(archive.status.conditions, "Ready")
        self._refuse_second_probe(archive, backend)
        turns = self._ready_probes if is_ready else self._other_probes
        async with turns.slot(server_of(backend)):
            if self._is_replaced(archive, known):
                raise _Replaced
            self._refuse_second_probe(archive, backend)
            return await self._probe_in_turn(archive, backend, manifests)

    def _is_replaced(self, archive: Archive, known: Archive | None) -> bool:
        """Whether an Archive was changed since it was read, or deleted since it was ``known``."""
        newest = self.cache.archives.get(archive.name)
        if newest is None:
            return known is not None
        # An Archive of a request may be newer than the one in memory.
        return newest.uid != archive.uid or newest.metadata.generation > archive.metadata.generation

    def _refuse_second_probe(self, archive: Archive, backend: ArchiveBackend) -> None:
        known = self._probes.get(archive.name)
        if known is not None and known[0] is backend and not known[1].done():
            raise _probe_overdue(archive)

    async def _probe_in_turn(
        self, archive: Archive, backend: ArchiveBackend, manifests: Sequence[EarlierManifest]
    ) -> ArchiveRoot | None:
        probe = asyncio.create_task(
            self._probe_once(archive, backend, manifests), name=f"probe of {archive.name}"
        )
        # Its error counts as retrieved, also one that comes after the timeout.
        probe.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
        self._probes[archive.name] = (backend, probe)
        try:
            await asyncio.wait([probe], timeout=self.probe_timeout)
            if not probe.done():
                raise _probe_overdue(archive)
            return probe.result()
        finally:
            probe.cancel()

    async def _probe_once(
        self, archive: Archive, backend: ArchiveBackend, manifests: Sequence[EarlierManifest]
    ) -> ArchiveRoot | None:
        # Before anything is written: the root may be another one.
        if is_root_known(archive, backend):
            await self.check_root(archive, backend)
        else:
            await check_new_root(archive, backend, manifests)
        await backend.probe()
        return await self._root(archive, backend)

    async def _root(self, archive: Archive, backend: ArchiveBackend) -> ArchiveRoot | None:
        """
        Return the root of an archive that works; it gets a marker if the status names none and it has none.

        A marker that is there stays: another Archive, or this one before its object was restored, put it
        there, or a run that was killed before it stored the status.
        """
        if not archive.spec.settings.HAS_MARKER:
            return None
        location = root_of(backend)
        marker = expected_marker(archive, location)
        if marker is None:
            async with self._marking.setdefault(location, asyncio.Lock()):
                marker = await find_or_write_marker(archive, backend)
        return ArchiveRoot(location=location, marker_id=marker)

    async def _trust_anchors_id(self, archive: Archive) -> str | None:
        """Return the id of the trust anchors; the last known id while they cannot be read."""
        try:
            return (await self.anchors(archive)).id
        except SettingsInvalid:
            return archive.status.trust_anchors

    async def _store(self, archive: Archive, status: ArchiveStatus) -> Archive | None:
        stored = await write_status_or_skip(self.kube, archive, status)
        if stored is not None:
            # Only the bytes in this status: more may have arrived since it was computed.
            self._uncounted_bytes[archive.name] -= status.bytes_total - archive.status.bytes_total
        return stored

    def _forget(self, ref: LocalObjectReference | None) -> None:
        if ref is not None:
            self.secret_cache.forget(ref.name)

    async def _credentials(self, archive: Archive) -> dict[str, bytes]:
        try:
            ref = archive.spec.credentials_secret_ref
        except ValueError as several:
            raise SettingsInvalid(f"Archive/{archive.name}: {several}.") from several
        if ref is None:
            return {}
        values = {
            ref.key(key): placeholder
            for key in archive.spec.settings.CREDENTIAL_KEYS
            if (placeholder := Placeholder.of_key(key)) is not None
        }
        credentials = await self._secret(archive, ref, SecretUse.ARCHIVE, "credentialsSecretRef", values)
        self._refuse_other_origin(archive, credentials)
        return credentials.data

    def _refuse_other_origin(self, archive: Archive, credentials: Secret) -> None:
        """Raise ``ArchiveRefused`` if the Secret belongs elsewhere, by its annotation or by what was sent, or
        if that is not known any more."""
        secret, origin, declared = credentials.name, _origin(archive), credentials.origin
        if origin is None or declared == origin:
            return
        other = None
        if declared is None:
            other = other_origin_of_secret((archive, *self.cache.archives), secret, origin)
        if declared is not None or other is not None or _is_list_full(archive, secret):
            raise ArchiveRefused(
                "OriginChanged",
                f"Archive/{archive.name}: Secret/{secret} belongs to {_owner(declared, other)}, but the "
                f"Archive leads to {origin}. Nothing was sent there. Correct the Archive, or type "
                f"`{annotate_command(secret, origin)}` if the Secret belongs there. Two servers do not share "
                "a Secret: make a Secret for each.",
            )
        if is_origin_lost(archive, self.cache.archives, secret, credentials.metadata.creation_timestamp):
            raise ArchiveRefused(
                "OriginUnknown",
                f"Archive/{archive.name}: Secret/{secret} is older than the Archive and does not say to "
                f"which server it belongs. Nothing was sent to {origin}. If it belongs there, type "
                f"`{annotate_command(secret, origin)}`. If not, create another Secret.",
            )

    async def _sent_to(self, archive: Archive) -> ArchiveStatus:
        """Return the status with the destination, and the origin of a Secret that does not name one."""
        settings, origins = archive.spec.settings, archive.status.secret_origins
        ref = archive.spec.credentials_secret_ref
        if ref is not None and settings.origin is not None and await self._names_no_origin(ref):
            origins = {**origins, ref.name: settings.origin}
        return msgspec.structs.replace(
            archive.status, destination=settings.destination, secret_origins=origins
        )

    async def _names_no_origin(self, ref: LocalObjectReference) -> bool:
        try:
            return await self.secret_cache.declared_origin(ref.name) is None
        except SecretMissing:
            return False

    async def _secret(
        self,
        archive: Archive,
        ref: LocalObjectReference,
        use: SecretUse,
        field: str,
        values: Mapping[str, Placeholder],
    ) -> Secret:
        """Return a Secret of an archive. ``values`` are those of the command that makes it; none: nobody
        knows its keys. Raises ``SecretUnusable``, ``ApiError``."""
        try:
            secret = await self.secret_cache.labelled(ref.name, use)
            # All keys of trust anchors are read. Of credentials, the backend reads its own.
            for key in secret.data if use is SecretUse.TRUST else ():
                value_of(secret, key)
        except Unavailable as problem:
            known = find_condition(archive.status.conditions, "Ready")
            if known is None or known.reason not in UNREAD_SECRET_REASONS:
                raise
            # Another process, or the one before, saw it for a minute.
            raise SecretUnusable(known.message, reason=known.reason) from problem
        except SecretMissing as missing:
            what = "the trust anchors" if use is SecretUse.TRUST else "the credentials"
            how = what_to_type(missing, ref.name, values, use)
            if not values:
                what, how = "what the kind needs", f", with the label {USE_LABEL}={use}"
            advice = f"Put {what} there{how}, or correct {field}."
            reason, message = missing.explain(SECRET_MISSING, advice)
            raise SecretUnusable(f"Archive/{archive.name}: {message}", reason=reason) from missing
        return secret


def _origin(archive: Archive) -> str | None:
    try:
        return archive.spec.settings.origin
    except ValueError as invalid:
        raise SettingsInvalid(f"Archive/{archive.name}: {invalid}. Correct its address.") from invalid


def _owner(declared: str | None, other: tuple[str, str] | None) -> str:
    """Return the words for the server that a Secret belongs to."""
    if declared is not None:
        return f"{declared}, by its annotation"
    return f"{other[1]} (Archive/{other[0]})" if other is not None else "no known server"


def _is_list_full(archive: Archive, secret: str) -> bool:
    known = archive.status.secret_origins
    return secret not in known and len(known) >= MAX_SECRET_ORIGINS


def _refuse_other_destination(archive: Archive) -> None:
    """Raise ``ArchiveRefused`` for an Archive that leads elsewhere than when its first probe succeeded."""
    _origin(archive)
    destination, known = archive.spec.settings.destination, archive.status.destination
    if known is None or destination == known:
        return
    raise origin_changed(archive.name, known, f"to {destination}")


def _probe_overdue(archive: Archive) -> ArchiveUnavailable:
    return ArchiveUnavailable(
        "ArchiveUnresponsive",
        f"Archive/{archive.name}: a probe did not end in time. Check the server or the volume, and the "
        "network; waiting events continue automatically once it answers.",
    )


def _recorded(status: ArchiveStatus) -> tuple[object, ...]:
    """Return what a successful probe stores and later checks rely on."""
    return status.destination, status.root, status.secret_origins


def _dropped_message(archive: Archive) -> str:
    return (
        f"Archive/{archive.name} takes a probe, but the Kubernetes API server drops a part of its status. "
        "Nothing is archived there before. Apply the CustomResourceDefinitions of this version."
    )


def _given_up_message(archive: Archive) -> str:
    return (
        f"Archive/{archive.name} takes a probe, but a transfer of a file was so slow that it was given up. "
        "Check its server and the network; waiting events continue automatically once a file is transferred."
    )


@lru_cache(maxsize=16)
def _anchors(content: tuple[tuple[str, bytes], ...]) -> Anchors:
    # Called for each event; parsing hundreds of certificates takes some milliseconds.
    return Anchors.parse(dict(content))


def _credentials_digest(credentials: dict[str, bytes]) -> str:
    digest = hashlib.sha256()
    for key in sorted(credentials):
        digest.update(f"{key}\0{len(credentials[key])}\0".encode() + credentials[key])
    return digest.hexdigest()
