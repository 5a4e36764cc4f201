"""
Read the senders' API keys, verify them with eSAW (``whoami``), and return only keys that work.

A key is returned for one eSAW only: the one whose origin it belongs to (rule 11).

A key comes from its user (``spec.tokenSecretRef``), or from a consent: then it is sealed in the Secret with
the Sender's name. The Sender's ``Authorized`` condition records whether the key works. It is written for a
new key, for a replaced key, and for a key that eSAW refuses. It is Unknown while eSAW cannot verify a key for
the first time. The key itself stays in the Secret and in this process's memory.

Workers pass the Sender as it was when they began; the newest state that is known here decides.
"""

import asyncio
import logging
import re
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice
from typing import NamedTuple
from weakref import WeakValueDictionary

import msgspec

from controller.access.credential_origin import (
    address_advice,
    is_first_esaw,
    secret_advice,
)
from controller.access.secret_cache import (
    SecretCache,
    SecretMissing,
    SecretPlaceholder,
    SecretUnknown,
    value_of,
    what_to_type,
)
from controller.access.unconfirmed_refusals import CONFIRMATION, KeyRefusals
from controller.cache import Cache, version_number
from counterfoil.clock import Clock
from counterfoil.esaw.client import EsawClient
from counterfoil.esaw.errors import EsawError, HttpStatusError
from counterfoil.esaw.rate_limit import holding
from counterfoil.esaw.token import ApiToken
from counterfoil.i18n.key_advice import can_consent, consent_link, renewal
from counterfoil.i18n.reasons import find_reason
from counterfoil.kube.client import KubeClient
from counterfoil.kube.errors import Unavailable
from counterfoil.kube.secret import Placeholder, SecretUse, create_command, patch_command
from counterfoil.kube.status import write_status_or_skip
from counterfoil.readiness import with_sender_readiness
from counterfoil.resources import (
    Organization,
    Sender,
    SenderKey,
    SenderStatus,
    find_condition,
    is_condition_true,
    is_same_user,
    with_condition,
)
from counterfoil.resources.base import SecretKeyRef
from counterfoil.resources.conditions import UNREAD_SECRET_REASONS, ConditionStatus
from counterfoil.resources.organization import Addressed
from counterfoil.sealing import KEY_SETTLE, SealBroken, Sealing, SealKeyUnknown, key_id_of

_log = logging.getLogger(__name__)

RECHECK_SECONDS = 300
"""Interval between checks of a refused key, which may be enabled again in eSAW without a change, and of one
whose Secret can't be read."""

REQUESTED_CHECK_SECONDS = 30
"""Minimum interval between such checks if persons ask to try again."""

MAX_ASKED_COLLEAGUES = 3
"""Maximum number of other senders' keys that eSAW is asked about before a common cause is believed."""


_USER_ID = re.compile(r"[!-.0-~]{1,128}")
"""Texts that can be spec.userID."""

ORIGIN_REASONS = frozenset({"OriginChanged", "OriginUnknown"})
"""Reasons of a key that was not sent, so that eSAW refused nothing."""


_MAY_BE_A_PROXY = "The answer was 401 without an error id, so check also whether a proxy refuses the calls."
"""Of a 401 that came again after a while."""


class KeyUnusable(Exception):
    """No key works; ``reason`` and message are those of the Sender's condition."""

    def __init__(self, reason: str, message: str, *, condition_message: str = "") -> None:
        """``condition_message`` is the one of the condition, if it may change for the same reason."""
        super().__init__(message)
        self.reason = reason
        self.condition_message = condition_message or message


class KeyStateUnknown(KeyUnusable):
    """It is unknown whether a key works: its Secret may not or can't be read, its sealing key may not be
    mounted here yet, or a 401 is not confirmed before ``until``."""

    def __init__(self, reason: str, message: str, *, until: datetime | None = None) -> None:
        super().__init__(reason, message)
        self.until = until


class StoredKey(NamedTuple):
    """A key from its Secret, and the id of the sealing key if it is sealed."""

    token: ApiToken
    key_id: str | None = None


@dataclass
class SenderKeys:
    """Reads, verifies and returns the keys of senders."""

    kube: KubeClient
    cache: Cache
    secret_cache: SecretCache
    clock: Clock
    addressed: Addressed
    sealing: Sealing | None = None
    """Without it only ``spec.tokenSecretRef`` works."""
    confirmation: timedelta = CONFIRMATION
    """Time after which a 401 is confirmed."""
    _refusals: KeyRefusals = field(init=False)
    _locks: WeakValueDictionary[str, asyncio.Lock] = field(default_factory=WeakValueDictionary)
    """A lock that nobody has or waits for takes no memory: names of deleted objects do not stay."""
    _newest: dict[str, Sender] = field(default_factory=dict)
    """The states written here last; they count until the watch has delivered them."""
    _last_checked: dict[str, float] = field(default_factory=dict)
    """Monotonic times of the last check of a refused key, by Sender."""
    _unknown_since: dict[str, float] = field(default_factory=dict)
    """Monotonic time since which a sealing key is missing, by key id."""

    def __post_init__(self) -> None:
        """Begin without refusals."""
        self._refusals = KeyRefusals(self.clock, self.confirmation)

    async def key(self, sender: Sender, esaw: EsawClient) -> ApiToken:
        """
        Return the sender's key, if it belongs to the origin of this client.

        Raises ``KeyUnusable``, ``KeyStateUnknown``, and ``EsawError`` if a new key could not be verified.
        """
        # Many events of one sender start at once; one of them verifies the key, the others wait.
        async with self._lock(sender):
            sender = self._newest_known(sender)
            try:
                token, key_id = await self._read_newest(sender, esaw.origin)
            except Unavailable:
                known = find_condition(sender.status.conditions, "Authorized")
                if known is None or known.reason not in UNREAD_SECRET_REASONS:
                    raise
                # Another process, or the one before, saw it for a minute.
                raise KeyStateUnknown(known.reason, known.message) from None
            except KeyStateUnknown as unknown_state:
                await self._write_unknown(sender, unknown_state.reason, str(unknown_state))
                raise
            except KeyUnusable as unusable:
                message = unusable.condition_message
                await self._write(sender, "False", unusable.reason, message, sender.status.key)
                raise
            authorized = find_condition(sender.status.conditions, "Authorized")
            if authorized is not None and sender.key_fingerprint == token.fingerprint:
                is_recorded = _recorded_origin(sender) == token.origin
                is_doubted = self._refusals.until_confirmation(sender, token) is not None
                is_back = sender.is_key_unread
                if (authorized.status == "True" or is_back) and is_recorded and not is_doubted:
                    if is_back:
                        await self._write_accepted(sender, sender.status.key)
                    return token
                has_moved = authorized.reason in ORIGIN_REASONS
                if authorized.status == "False" and not (has_moved or self._is_recheck_due(sender)):
                    # Who may write the status may put any text there.
                    raise KeyUnusable(find_reason(authorized.reason).name, authorized.message)
            left = self._refusals.until_confirmation(sender, token)
            if left is not None and left > timedelta(0):
                raise self._doubt(sender, left)
            await self._verify(sender, StoredKey(token, key_id), esaw)
            return token

    def observe(self, sender: Sender) -> None:
        """Note what the new state of a Sender says of its key, as after a restart."""
        self._refusals.observe(sender)

    def accepted(self, sender: Sender) -> None:
        """Record that eSAW accepted the sender's key for a call."""
        self._refusals.accepted(sender)

    def check_soon(self, sender: Sender) -> None:
        """Let ``key`` ask eSAW about a refused key now: a person asked to try again."""
        last_checked = self._last_checked.get(sender.name)
        if last_checked is not None and self.clock.monotonic() - last_checked >= REQUESTED_CHECK_SECONDS:
            del self._last_checked[sender.name]

    def doubt(self, sender: Sender, token: ApiToken) -> KeyStateUnknown:
        """Record a 401 that has no error id of eSAW: ``key`` asks again later, and that answer counts."""
        return self._doubt(sender, self._refusals.add(sender, token))

    async def refused(self, sender: Sender, token: ApiToken) -> None:
        """Record that eSAW itself refused this key (401 with an error id), unless the Secret has another key
        by now."""
        async with self._lock(sender):
            sender = self._newest_known(sender)
            if sender.key_fingerprint in (None, token.fingerprint) and not await self._is_replaced(
                sender, token
            ):
                self._last_checked[sender.name] = self.clock.monotonic()
                key = self._describe(sender, StoredKey(token))
                await self._write(sender, "False", "TokenRejected", self.rejected_message(sender), key)

    async def set_waiting_events(self, sender: Sender, events: int) -> None:
        """Store the number of events that wait for the sender's key, and the summary, if they changed."""
        async with self._lock(sender):
            sender = self._newest_known(sender)
            status = msgspec.structs.replace(sender.status, waiting_events=events)
            authorized = find_condition(status.conditions, "Authorized")
            if authorized is not None and authorized.observed_generation == sender.metadata.generation:
                status = with_sender_readiness(sender, status, now=self.clock.now())
            await self._store(sender, status)

    async def observe_spec(self, sender: Sender) -> None:
        """Record that the key of the newest spec was checked and is as before; write nothing if it is
        recorded."""
        async with self._lock(sender):
            sender = self._newest_known(sender)
            known = find_condition(sender.status.conditions, "Authorized")
            if known is not None and known.observed_generation != sender.metadata.generation:
                await self._write(sender, known.status, known.reason, known.message, sender.status.key)

    async def organization_missing(self, sender: Sender) -> None:
        """Report that the Sender's Organization does not exist; the result of an earlier check stays."""
        async with self._lock(sender):
            sender = self._newest_known(sender)
            now, generation, status = self.clock.now(), sender.metadata.generation, sender.status
            status = with_sender_readiness(sender, status, now=now, is_organization_missing=True)
            if find_condition(status.conditions, "Authorized") is None:
                message = "The key can't be checked without the Organization."
                conditions = with_condition(
                    status.conditions,
                    "Authorized",
                    "Unknown",
                    "OrganizationMissing",
                    message,
                    now=now,
                    generation=generation,
                )
                status = msgspec.structs.replace(status, conditions=conditions)
            await self._store(sender, status)

    def forget(self, name: str) -> None:
        """Drop the state of a deleted Sender."""
        for memory in (self._newest, self._last_checked):
            memory.pop(name, None)
        self._refusals.forget(name)

    def _lock(self, sender: Sender) -> AbstractAsyncContextManager[None]:
        """Return the lock of a Sender. Who holds it may wait for a turn of eSAW."""
        return holding(self._locks.setdefault(sender.name, asyncio.Lock()))

    def _organization(self, sender: Sender) -> Organization | None:
        """Return the Organization of a Sender, which decides whether and where a consent can be given."""
        found = self.cache.organizations.get(sender.spec.organization_ref.name)
        return self.addressed(found) if found is not None else None

    def _newest_known(self, sender: Sender) -> Sender:
        known = self._newest.get(sender.name)
        if known is not None and known.uid == sender.uid and version_number(known) > version_number(sender):
            return known
        return sender

    def _is_recheck_due(self, sender: Sender) -> bool:
        last_checked = self._last_checked.get(sender.name)
        return last_checked is None or self.clock.monotonic() - last_checked > RECHECK_SECONDS

    async def _read_newest(self, sender: Sender, origin: str) -> StoredKey:
        try:
            stored = await self._read(sender, origin)
            if sender.key_fingerprint in (None, stored.token.fingerprint):
                return stored
        except KeyStateUnknown:
            raise
        except KeyUnusable:
            # The cached Secret may be older than a new consent.
            if not is_condition_true(sender.status.conditions, "Authorized"):
                raise
        # The key differs from the Sender's status: either the key is new, or the cached Secret is old.
        self.secret_cache.forget(_secret_name(sender))
        return await self._read(sender, origin)

    async def _is_replaced(self, sender: Sender, token: ApiToken) -> bool:
        """Whether the Secret has another key than this one, which was read some seconds ago."""
        authorized = find_condition(sender.status.conditions, "Authorized")
        if authorized is not None and authorized.status == "False":
            # Known already: of many events that are refused at once, only the first one reads the Secret.
            return False
        self.secret_cache.forget(_secret_name(sender))
        try:
            return (await self._read(sender, token.origin)).token.fingerprint != token.fingerprint
        except (KeyStateUnknown, Unavailable):
            # It may be replaced; the next call decides.
            return True
        except KeyUnusable:
            return False

    async def _read(self, sender: Sender, origin: str) -> StoredKey:
        """Return the stored key. Raises ``KeyUnusable`` for a key that does not belong to this origin."""
        stored = await self._read_any(sender, origin)
        owner = stored.token.origin
        if owner != origin:
            found = (
                f"The API key of Sender/{sender.name} belongs to {owner}, but spec.baseURL of "
                f"Organization/{sender.spec.organization_ref.name} leads to {origin}."
            )
            raise self._not_sent(sender, "OriginChanged", found, origin, owner)
        return stored

    def _not_sent(
        self, sender: Sender, reason: str, found: str, origin: str, owner: str | None
    ) -> KeyUnusable:
        """Return why a key was not sent to ``origin``. How it may go there depends on who brought it, and on
        what answers there now: only the condition says that, which is checked again."""
        organization, ref = self._organization(sender), sender.spec.token_secret_ref
        if organization is None:
            remedy = ""
        elif ref is not None:
            remedy = secret_advice(self.cache, organization, ref.name, origin, owner)
        else:
            address = address_advice(self.cache, organization, origin, owner)
            remedy = (
                "let the sender give consent again"
                if can_consent(organization)
                else f"let spec.tokenSecretRef of Sender/{sender.name} name a key of this eSignAnyWhere"
            )
            remedy = f"{address} Otherwise {remedy}." if address else f"{remedy[0].upper()}{remedy[1:]}."
        found = f"{found} The key was not sent there."
        message = f"{found} The condition Authorized of Sender/{sender.name} says what to do."
        return KeyUnusable(reason, message, condition_message=f"{found} {remedy}".rstrip())

    async def _read_any(self, sender: Sender, origin: str) -> StoredKey:
        """Return the stored key with its origin; ``origin`` is a candidate for a key that does not say it."""
        ref = sender.spec.token_secret_ref
        if ref is None:
            return await self._read_sealed(sender)
        try:
            secret = await self.secret_cache.labelled(ref.name, SecretUse.TOKEN)
            value, declared = value_of(secret, ref.key), secret.origin
            token = ApiToken.parse(value, declared or origin)
        except SecretUnknown as unknown:
            raise _state_unknown(unknown) from unknown
        except SecretPlaceholder as typed:
            raise _unreadable(str(typed), ref) from typed
        except SecretMissing as missing:
            how = what_to_type(missing, ref.name, {ref.key: Placeholder.API_KEY}, SecretUse.TOKEN)
            setting = f"spec.tokenSecretRef of Sender/{sender.name}"
            advice = f"Put the user's API key there{how}, or correct {setting}."
            raise KeyUnusable(*missing.explain("KeyMissing", advice)) from missing
        except ValueError as unreadable:
            raise _unreadable(f"Secret/{ref.name}, key {ref.key!r}: {unreadable}.", ref) from None
        if declared is not None:
            return StoredKey(token)
        recorded = _recorded_origin(sender)
        if recorded is not None and sender.key_fingerprint == token.fingerprint:
            return StoredKey(ApiToken.parse(value, recorded))
        if not is_first_esaw(self.cache, sender, origin):
            found = (
                f"Secret/{ref.name} does not say to which eSignAnyWhere its API key belongs, and {origin} is "
                f"not the first one of Organization/{sender.spec.organization_ref.name}, or not the only one "
                "in this namespace."
            )
            raise self._not_sent(sender, "OriginUnknown", found, origin, None)
        return StoredKey(token)

    async def _read_sealed(self, sender: Sender) -> StoredKey:
        try:
            data = await self.secret_cache.sealed_token(sender)
        except SecretUnknown as unknown:
            raise _state_unknown(unknown) from unknown
        except SecretMissing as missing:
            if not can_consent(self._organization(sender)):
                name = f"{sender.name}-esaw"
                command = create_command(name, {"token": Placeholder.API_KEY}, SecretUse.TOKEN)
                message = (
                    f"Sender/{sender.name} has no spec.tokenSecretRef, and its Organization has no "
                    "spec.oauth, so nobody can be asked for consent. Put the user's API key into a Secret "
                    f"(type `{command}`) and let "
                    f"spec.tokenSecretRef name it: `{_ref_command(sender, name)}`."
                )
                raise KeyUnusable("KeyNotConfigured", message) from missing
            if sender.status.key is None:
                message = f"Sender/{sender.name} has not given its consent yet."
                raise KeyUnusable("ConsentRequired", message) from missing
            message = f"{missing} {self._renewal(sender, 'KeyMissing')}"
            raise KeyUnusable("KeyMissing", message) from missing
        if self.sealing is None:
            message = (
                "The controller has no sealing keys; set COUNTERFOIL_SEALING_KEYS to the folder that the "
                "pages have."
            )
            raise KeyUnusable("SealingKeysMissing", message)
        try:
            stored = StoredKey(self.sealing.open(data, self.kube.namespace, sender), key_id_of(data))
        except SealKeyUnknown as unknown:
            raise self._sealing_key_missing(sender, unknown) from None
        except SealBroken as broken:
            message = f"Secret/{sender.name}: {broken} {self._renewal(sender, 'SealBroken')}"
            raise KeyUnusable("SealBroken", message) from None
        self._unknown_since.pop(stored.key_id or "", None)
        return stored

    def rejected_message(self, sender: Sender) -> str:
        """Return the message for a key that eSAW refused, and how the sender gets one that works."""
        refused = f"eSignAnyWhere does not accept the API key of Sender/{sender.name}."
        return f"{refused} {self._renewal(sender, 'TokenRejected')}".rstrip()

    def _renewal(self, sender: Sender, reason: str) -> str:
        return renewal(sender, self._organization(sender), reason)

    def _sealing_key_missing(self, sender: Sender, unknown: SealKeyUnknown) -> KeyUnusable:
        """Return what a missing sealing key means: at first that it may not be mounted here yet."""
        now = self.clock.monotonic()
        if now - self._unknown_since.setdefault(unknown.key_id, now) >= KEY_SETTLE.total_seconds():
            return KeyUnusable("SealKeyUnknown", f"Secret/{sender.name}: {unknown}")
        message = (
            f"Secret/{sender.name} is sealed with the key {unknown.key_id!r}, which is not among the "
            "controller's sealing keys yet. Kubernetes mounts a new key within some minutes. If the key was "
            "removed or lost, put its file back."
        )
        return KeyStateUnknown("SealKeyPending", message)

    async def _verify(self, sender: Sender, stored: StoredKey, esaw: EsawClient) -> None:
        try:
            who = await esaw.as_user(stored.token).whoami()
        except HttpStatusError as answer:
            if not answer.may_refuse_key:
                await self._write_unverified(sender, stored, answer)
                raise
            raise await self._refusal(sender, stored, answer, esaw) from None
        except EsawError as problem:
            await self._write_unverified(sender, stored, problem)
            raise
        self._refusals.accepted(sender)
        if not is_same_user(who.user_id, sender.spec.user_id):
            message = (
                f"The key belongs to another eSAW user than spec.userID of Sender/{sender.name} says. "
                f"Put this user's key into the Secret.{other_user_advice(sender, who.user_id)}"
            )
            raise await self._write_unusable(sender, stored, "WrongUser", message)
        now = self.clock.now().replace(microsecond=0)
        accepted = msgspec.structs.replace(
            self._describe(sender, stored), verified_time=now, origin=stored.token.origin
        )
        await self._write_accepted(sender, accepted)

    async def _refusal(
        self, sender: Sender, stored: StoredKey, answer: HttpStatusError, esaw: EsawClient
    ) -> KeyUnusable:
        """Record a 401 to the question whose key this is; return what it means for the key."""
        left = self._refusals.add(sender, stored.token)
        authorized = find_condition(sender.status.conditions, "Authorized")
        is_known = (
            authorized is not None
            and authorized.status == "False"
            and sender.key_fingerprint == stored.token.fingerprint
        )
        if answer.error_id is None and not is_known and left > timedelta(0):
            doubt = self._doubt(sender, left)
            if sender.key_fingerprint != stored.token.fingerprint or authorized is None:
                await self._write(sender, "Unknown", doubt.reason, str(doubt), sender.status.key)
            return doubt
        is_common = answer.error_id is None and await self._is_common(sender, esaw)
        self._refusals.set_common(sender, is_common=is_common)
        if is_common:
            return await self._write_unusable(sender, stored, "KeysRejected", _common_message(sender))
        message = self.rejected_message(sender)
        if answer.error_id is None:
            message = f"{message} {_MAY_BE_A_PROXY}"
        return await self._write_unusable(sender, stored, "TokenRejected", message)

    def _doubt(self, sender: Sender, left: timedelta) -> KeyStateUnknown:
        """Return the doubt about a key whose 401 can be confirmed after the time that is left."""
        message = (
            f"401 was the answer to the API key of Sender/{sender.name}, without an error id of "
            "eSignAnyWhere. Perhaps a proxy answered, so Counterfoil asks again before it believes that."
        )
        return KeyStateUnknown("KeyDoubted", message, until=self.clock.now() + left)

    async def _is_common(self, sender: Sender, esaw: EsawClient) -> bool:
        """
        Whether the cause of the refusal is not in the sender's key.

        eSAW is asked about keys that worked: another process may have seen that it accepts them.
        """
        of_organization = self.cache.senders.of(sender.spec.organization_ref.name)
        if not self._refusals.is_common(sender, of_organization):
            return False
        # The last that were written: that of a Sender that nobody uses may be refused, and not known so.
        working = reversed(of_organization.authorized.values())
        others = (each for each in working if each.name != sender.name)
        for colleague in list(islice(others, MAX_ASKED_COLLEAGUES)):
            try:
                stored = await self._read(colleague, esaw.origin)
                await esaw.as_user(stored.token).whoami()
            except (KeyUnusable, EsawError) as problem:
                # The answer is no evidence about the sender's key, and the colleague's own checks judge it.
                _log.debug("the key of Sender/%s shows nothing: %s", colleague.name, problem)
                continue
            self._refusals.accepted(colleague)
            return False
        return True

    async def _write_accepted(self, sender: Sender, key: SenderKey | None) -> None:
        await self._write(sender, "True", "KeyAccepted", "eSignAnyWhere accepts the key.", key)

    async def _write_unverified(self, sender: Sender, stored: StoredKey, problem: EsawError) -> None:
        """Report that eSAW could not verify this key; the result of an earlier check of the same key
        stays."""
        before = find_condition(sender.status.conditions, "Authorized")
        is_same_key = sender.key_fingerprint == stored.token.fingerprint
        if before is not None and before.status != "Unknown" and is_same_key:
            return
        message = (
            f"eSignAnyWhere could not be asked about the key: {problem} It is asked again, so there is "
            "nothing to do here; see the condition Reachable of "
            f"Organization/{sender.spec.organization_ref.name}."
        )
        await self._write(sender, "Unknown", "EsawUnreachable", message, sender.status.key)

    async def _write_unknown(self, sender: Sender, reason: str, message: str) -> None:
        """Report that the state of an unverified key is unknown. The result of an earlier check stays, but a
        key that nobody can read does not work."""
        before = find_condition(sender.status.conditions, "Authorized")
        is_lost = reason in UNREAD_SECRET_REASONS and before is not None and before.status == "True"
        if before is None or before.status == "Unknown" or is_lost:
            await self._write(sender, "Unknown", reason, message, sender.status.key)

    async def _write_unusable(
        self, sender: Sender, stored: StoredKey, reason: str, message: str
    ) -> KeyUnusable:
        self._last_checked[sender.name] = self.clock.monotonic()
        await self._write(sender, "False", reason, message, self._describe(sender, stored))
        return KeyUnusable(reason, message)

    async def _write(
        self, sender: Sender, truth: ConditionStatus, reason: str, message: str, key: SenderKey | None
    ) -> None:
        """Store the condition. After a conflict nothing is written, and the next call verifies again."""
        now, generation, consent_url = self.clock.now(), sender.metadata.generation, sender.status.consent_url
        organization = self._organization(sender)
        if truth != "True" and organization is not None:
            consent_url = consent_link(sender, organization) or None
        status = msgspec.structs.replace(
            sender.status,
            conditions=with_condition(
                sender.status.conditions, "Authorized", truth, reason, message, now=now, generation=generation
            ),
            observed_generation=generation,
            key=key,
            consent_url=consent_url,
        )
        await self._store(sender, with_sender_readiness(sender, status, now=now))

    def _describe(self, sender: Sender, stored: StoredKey) -> SenderKey:
        """Describe a key for the status; its history is kept only if the fingerprint is unchanged."""
        known = sender.status.key
        if known is None or known.fingerprint != stored.token.fingerprint:
            known = SenderKey()
        return SenderKey(
            secret_name=_secret_name(sender),
            key_id=stored.key_id or known.key_id,
            fingerprint=stored.token.fingerprint,
            origin=known.origin,
            obtained_time=known.obtained_time,
            verified_time=known.verified_time,
        )

    async def _store(self, sender: Sender, status: SenderStatus) -> None:
        # On a conflict the watch delivers the newer state, which another replica or a person wrote.
        stored = await write_status_or_skip(self.kube, sender, status)
        if stored is not None and stored is not sender:
            self._newest[sender.name] = stored
            self.cache.update_written(stored)
            _log_key_change(sender, stored)


def _log_key_change(before: Sender, after: Sender) -> None:
    """Log that a key was rejected, or that one works again."""
    known = find_condition(before.status.conditions, "Authorized")
    found = find_condition(after.status.conditions, "Authorized")
    if found is None or (known is not None and (known.status, known.reason) == (found.status, found.reason)):
        return
    words = {"True": "works", "False": "can't be used"}.get(found.status, "is in doubt")
    fields = {"sender": after.name, "organization": after.spec.organization_ref.name, "reason": found.reason}
    _log.info("the key of Sender/%s %s: %s", after.name, words, found.reason, extra=fields)


def _state_unknown(unknown: SecretUnknown) -> KeyStateUnknown:
    return KeyStateUnknown(*unknown.explain("ApiServerTrouble", "It is tried again."))


def _secret_name(sender: Sender) -> str:
    ref = sender.spec.token_secret_ref
    return ref.name if ref is not None else sender.name


def _recorded_origin(sender: Sender) -> str | None:
    return sender.status.key.origin if sender.status.key is not None else None


def _unreadable(fault: str, ref: SecretKeyRef) -> KeyUnusable:
    command = patch_command(ref.name, ref.key, Placeholder.API_KEY)
    return KeyUnusable("KeyUnreadable", f"{fault} Put the user's API key there (type `{command}`).")


def _ref_command(sender: Sender, secret: str) -> str:
    patch = f'{{"spec":{{"tokenSecretRef":{{"name":"{secret}","key":"token"}}}}}}'
    return f"kubectl patch sender {sender.name} --type=merge -p '{patch}'"


def other_user_advice(sender: Sender, user_id: str) -> str:
    """Return what to do if the Sender names the wrong user. A user id that no Sender can have is not
    repeated."""
    if sender.spec.token_secret_ref is None or _USER_ID.fullmatch(user_id) is None:
        return ""
    return (
        " If spec.userID is wrong, delete the Sender and create it again, since spec.userID never changes: "
        f"the key belongs to the user {user_id}."
    )


def _common_message(sender: Sender) -> str:
    return (
        "401 is the answer to the API keys of several senders of "
        f"Organization/{sender.spec.organization_ref.name} at once, and eSignAnyWhere "
        "accepts none meanwhile. Check the way to eSignAnyWhere, such as a proxy, and the OAuth "
        "application there."
    )
