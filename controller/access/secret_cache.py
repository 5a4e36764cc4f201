"""
Read Secrets by name, each only for the use that it is labelled for, and cache them for a short time.

The controller may only ``get`` Secrets, not watch them (rule 8). It therefore reads them again after
``FRESH_SECONDS``, well within the documented 30 s. The cache is in memory only.
"""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import ClassVar, Self

from counterfoil.clock import Clock
from counterfoil.kube.client import KubeClient
from counterfoil.kube.errors import ApiError, Forbidden, NotFound, Unavailable
from counterfoil.kube.secret import (
    SEALED_TOKEN_TYPE,
    Placeholder,
    Secret,
    SecretUse,
    create_command,
    patch_command,
)
from counterfoil.resources import Organization, Sender, WebhookSpec
from counterfoil.resources.conditions import SECRET_FORBIDDEN, SECRET_UNREADABLE
from counterfoil.sealing import SECRET_KEY
from counterfoil.standard_webhooks import SigningSecretInvalid, WebhookSignature, signing_keys
from counterfoil.untrusted.background_work import foreground

FRESH_SECONDS = 8
"""Maximum age of a cached Secret; less than the interval between two resyncs, so that each resync reads
again."""

READ_SECONDS = 5.0
"""Seconds after which a read of a Secret failed. A caller that gives up before that leaves it open."""

UNREADABLE_SECONDS = 60.0
"""Time for which Secrets can't or may not be read, while the API server answers, before that is about the
Secrets or about the Role."""

REPEATED_SECONDS = 10.0
"""Time since the first failed read of one Secret before that is about it: a moment is not."""

MAX_PAUSE_SECONDS = 180.0
"""Maximum time between two failed reads of this time: nobody knows how it was between others."""

REPEAT_SECONDS = 60.0
"""Time without a failed read after which the cache repeats one: the next reader may be hours away."""

MAX_CACHED = 2_000
"""Maximum number of Secrets in memory: who may write a reference chooses its name."""

MAX_TIMES = 10_000
"""Maximum number of Secrets whose times are in memory: those of a namespace, if none can be decrypted."""


class SecretMissing(Exception):
    """
    The Secret or a key in it is missing, or may not be read; the message for people names the Secret.

    Nothing of its content is in the message, not even the names of its keys: who reads a status need not have
    the right to read the Secret.
    """

    def explain(self, reason: str, advice: str) -> tuple[str, str]:
        """Return reason and message for a status, from those of the caller, who knows the purpose."""
        return reason, f"{self} {advice}"


class SecretNotFound(SecretMissing):
    """No Secret has this name."""


class SecretKeyMissing(SecretMissing):
    """The Secret has no such key."""

    def __init__(self, message: str, key: str) -> None:
        super().__init__(message)
        self.key = key


class SecretPlaceholder(SecretKeyMissing):
    """The value is the placeholder of a command that was typed as it was printed."""


class SecretUnknown(SecretMissing):
    """The existence of the Secret is unknown, so a working key must not be reported as lost because of this
    error."""

    REASON: ClassVar[str]

    def explain(self, reason: str, advice: str) -> tuple[str, str]:
        """Return the reason of the class and the message, which has its own advice."""
        return self.REASON, str(self)


class SecretForbidden(SecretUnknown):
    """The Secret may not be read for a minute. An API server that has just started refuses all requests until
    it has loaded the roles, so until then it is ``Unavailable``."""

    REASON = SECRET_FORBIDDEN

    def __init__(self, name: str) -> None:
        super().__init__(
            f"Secret/{name} may not be read: the controller's ServiceAccount lacks `get` on secrets. There "
            "is nothing to create or to replace, and it is tried again. Let an administrator give the Role "
            "of the controller this right again."
        )


class SecretUnreadable(SecretUnknown):
    """The API server can't read the Secret, for example because it can't decrypt it, and answers other
    requests. The message has no text of the answer, in which each one may have another number."""

    REASON = SECRET_UNREADABLE

    def __init__(self, name: str, problem: Unavailable) -> None:
        named = " ".join(dict.fromkeys((str(problem.status), problem.reason)))
        answer = named if problem.status else "no answer"
        super().__init__(
            f"The API server can't read Secret/{name} ({answer}). There is nothing to create, and it is "
            "tried again. Let an administrator of the cluster check the encryption at rest (KMS) and the log "
            "of the API server. Only if the content is lost, let them remove the Secret, and create it again."
        )


class SecretNotLabelled(SecretMissing):
    """The Secret is not labelled for this use, so nothing of it was used; the message says what to type."""

    def explain(self, reason: str, advice: str) -> tuple[str, str]:
        """Return the reason ``SecretNotLabelled`` and the message, which has its own advice."""
        return "SecretNotLabelled", str(self)


class _Refused(Unavailable):
    """The API server refuses one read now: the right is missing, or it has just started."""


class SigningSecretUnusable(Exception):
    """The signing secret is missing or invalid; ``reason`` is the reason for the status."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class _Failing:
    """A time in which reads of Secrets failed, and the API server answered other requests, or these."""

    since: float
    last: float

    @classmethod
    def at(cls, now: float, known: Self | None) -> Self:
        """Return the time that lasts until now; another one begins after a pause."""
        if known is None or now - known.last > MAX_PAUSE_SECONDS:
            return cls(now, now)
        return replace(known, last=now)


@dataclass
class SecretCache:
    """Reads Secrets of the controller's namespace."""

    kube: KubeClient
    clock: Clock
    timeout: float = READ_SECONDS
    _cached: dict[str, Secret | None] = field(default_factory=dict, repr=False)
    """The Secrets that are fresh, the latest one last. None: it does not exist."""
    _read_at: dict[str, float] = field(default_factory=dict, repr=False)
    """Times of the reads of the last minute, the latest one last, on the monotonic clock: a clock that is set
    back makes no Secret fresh."""
    _failing: _Failing | None = None
    """The last such time, of all Secrets: if none can be decrypted, one minute shows it."""
    _is_refused: bool = False
    """Whether its last failure was a refusal."""
    _failed_since: dict[str, float] = field(default_factory=dict, repr=False)
    """Within this time, the first failed read of each Secret since it was read. The one that was repeated
    last is the last one."""

    async def labelled(self, name: str, use: SecretUse) -> Secret:
        """
        Return a Secret that is labelled for ``use``, at most ``FRESH_SECONDS`` old.

        A value and the origin that it belongs to come from one call: between two calls the Secret may be
        replaced. Raises ``SecretMissing``, ``SecretNotLabelled``, ``SecretUnknown`` (never cached),
        ``ApiError``.
        """
        secret = await self._read(name)
        if (fault := secret.use_fault(use)) is not None:
            raise SecretNotLabelled(fault)
        return secret

    async def data(self, name: str, use: SecretUse) -> dict[str, bytes]:
        """Return the decoded data of a Secret. Raises as ``labelled``, and ``SecretPlaceholder``."""
        secret = await self.labelled(name, use)
        return {key: value_of(secret, key) for key in secret.data}

    async def value(self, name: str, key: str, use: SecretUse) -> bytes:
        """Return one value of a Secret that is labelled for ``use``. Raises as ``labelled``."""
        return value_of(await self.labelled(name, use), key)

    async def sealed_token(self, sender: Sender) -> bytes:
        """
        Return the sealed key of a Sender from the Secret with the Sender's name. Raises as ``labelled``.

        Only a Secret of the type for sealed keys is read. Its owner is not compared: a Sender that was
        restored has another uid, and the seal opens for the Sender's name and user only.
        """
        secret = await self._read(sender.name)
        if secret.type != SEALED_TOKEN_TYPE:
            raise SecretMissing(f"Secret/{sender.name} is not of the type {SEALED_TOKEN_TYPE}.")
        return value_of(secret, SECRET_KEY)

    async def declared_origin(self, name: str) -> str | None:
        """Return the only origin that the Secret may be sent to; None: it names none. Raises
        ``SecretMissing``, ``SecretUnknown``, ``ApiError``."""
        return (await self._read(name)).origin

    def forget(self, name: str) -> None:
        """Drop a Secret that may have changed; the next call reads it again."""
        self._cached.pop(name, None)

    def drop_old(self) -> None:
        """Drop the Secrets that are not fresh, also while none can be read."""
        _prune(self._cached, self._read_at, self.clock.monotonic() - FRESH_SECONDS, MAX_CACHED)

    async def repeat_failed(self) -> None:
        """Read one of the Secrets that failed, if nothing else reads them. So a Secret that is needed each
        hour only is known to be unreadable, or to have failed for a moment."""
        failing, name = self._failing, next(iter(self._failed_since), None)
        if failing is None or name is None or self.clock.monotonic() - failing.last < REPEAT_SECONDS:
            return
        self._failed_since[name] = self._failed_since.pop(name)
        with suppress(SecretMissing, ApiError):
            await self._read(name)

    async def _read(self, name: str) -> Secret:
        now = self.clock.monotonic()
        self.drop_old()
        if name not in self._cached:
            # Others wait for the caller's lock, and a wait for a slot is no failure of the Secret.
            with foreground():
                self._cache(name, await self._request(name), now)
        secret = self._cached[name]
        if secret is None:
            raise SecretNotFound(f"Secret/{name} does not exist.")
        return secret

    def _cache(self, name: str, secret: Secret | None, now: float) -> None:
        self._cached.pop(name, None)
        self._read_at.pop(name, None)
        self._failed_since.pop(name, None)
        self._cached[name], self._read_at[name] = secret, now
        _prune(self._cached, self._read_at, now - FRESH_SECONDS, MAX_CACHED)
        _prune(self._read_at, self._read_at, now - UNREADABLE_SECONDS, MAX_TIMES)

    async def _request(self, name: str) -> Secret | None:
        """Request a Secret, a second time before an error is about it; None: it does not exist. Raises
        ``SecretUnknown``, ``Unavailable``."""
        try:
            return await self._request_once(name)
        except Unavailable as problem:
            if not await self._is_failing_for_long(name, problem):
                raise
        try:
            return await self._request_once(name)
        except Unavailable as problem:
            now = self.clock.monotonic()
            if now - self._failed_since.get(name, now) < REPEATED_SECONDS:
                raise
            if isinstance(problem, _Refused):
                raise SecretForbidden(name) from problem
            raise SecretUnreadable(name, problem) from problem

    async def _request_once(self, name: str) -> Secret | None:
        try:
            async with asyncio.timeout(self.timeout):
                return await self.kube.secret(name)
        except NotFound:
            return None
        except Forbidden as refused:
            message = f"Secret/{name} may not be read now: {refused}"
            raise _Refused(refused.status, refused.reason, message) from refused
        except TimeoutError as late:
            raise Unavailable(0, "", "the API server did not answer in time") from late

    async def _is_failing_for_long(self, name: str, problem: Unavailable) -> bool:
        """Whether Secrets have failed for a minute, and this one could not be read meanwhile. A failure while
        the API server does not answer at all does not count."""
        is_refused = isinstance(problem, _Refused)
        if not is_refused and not await self._answers():
            self._end_refusals()
            return False
        self._is_refused = is_refused
        now, before = self.clock.monotonic(), self._failing
        self._failing = failing = _Failing.at(now, before)
        if before is None or failing.since != before.since:
            self._failed_since.clear()
        self._failed_since.setdefault(name, now)
        _prune(self._failed_since, self._failed_since, failing.since, MAX_TIMES)
        since = max(failing.since, self._read_at.get(name, failing.since))
        return now - since >= UNREADABLE_SECONDS

    def _end_refusals(self) -> None:
        """End a time of refusals, since the API server does not answer: it starts again, and refuses first.
        One that only fails sometimes refused a moment ago."""
        if self._failing is None or not self._is_refused:
            return
        if self.clock.monotonic() - self._failing.last > REPEATED_SECONDS:
            self._failing = None

    async def _answers(self) -> bool:
        """Whether the API server answers another small request that it takes from etcd, too."""
        try:
            async with asyncio.timeout(self.timeout):
                await self.kube.page(Organization, limit=1)
        except (Unavailable, TimeoutError):
            return False
        except ApiError:
            return True
        return True


def _prune(
    names: dict[str, Secret | None] | dict[str, float], times: Mapping[str, float], since: float, most: int
) -> None:
    """Drop the first ones that are too many or older than this."""
    while names and (len(names) > most or times[next(iter(names))] < since):
        del names[next(iter(names))]


async def webhook_signature(secrets: SecretCache, webhook: WebhookSpec, clock: Clock) -> WebhookSignature:
    """Return the signature of a webhook's notices; nothing is sent without one. Raises
    ``SigningSecretUnusable``, ``ApiError``."""
    ref, values = webhook.signing_secret_ref, {webhook.signing_secret_ref.key: Placeholder.SIGNING_SECRET}
    try:
        return WebhookSignature(
            signing_keys(await secrets.value(ref.name, ref.key, SecretUse.WEBHOOK)), clock
        )
    except SecretMissing as missing:
        how = what_to_type(missing, ref.name, values, SecretUse.WEBHOOK)
        advice = f"Put a signing secret there{how}, or correct spec.webhook.signingSecretRef."
        raise SigningSecretUnusable(*missing.explain("WebhookSecretMissing", advice)) from missing
    except SigningSecretInvalid as invalid:
        message = (
            f"Secret/{ref.name}, key {ref.key!r} can't be used as a signing secret: {invalid}. Put "
            "`whsec_` and the base64 of 24 to 64 random bytes there."
        )
        raise SigningSecretUnusable("WebhookSecretInvalid", message) from invalid


def value_of(secret: Secret, key: str) -> bytes:
    """Return one value of a Secret. Raises ``SecretKeyMissing``, ``SecretPlaceholder``."""
    if key not in secret.data:
        raise SecretKeyMissing(f"Secret/{secret.name} has no key {key!r}.", key)
    if (fault := secret.placeholder_fault(key)) is not None:
        raise SecretPlaceholder(fault, key)
    return secret.data[key]


def what_to_type(missing: SecretMissing, name: str, values: Mapping[str, Placeholder], use: SecretUse) -> str:
    """Return the command that gives a Secret what it lacks, for the advice of the caller, who knows its keys;
    empty if a command does not help."""
    if isinstance(missing, SecretNotFound):
        return f" (type `{create_command(name, values, use)}`)"
    if isinstance(missing, SecretKeyMissing) and missing.key in values:
        return f" (type `{patch_command(name, missing.key, values[missing.key])}`)"
    return ""
