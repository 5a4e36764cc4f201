"""
The status of each Organization: hashes of its callback tokens, the URLs to paste, whether eSAW answers, and
whether all objects that it refers to exist.

The receiver recognises valid callbacks by these hashes, so it needs no Secret. Each Organization is checked
when it changes and every ``RESYNC_SECONDS``, so a changed token Secret takes effect within 30 s.
"""

import asyncio
import logging
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from controller.access.credential_origin import (
    UNCONFIRMED,
    client_secret_fault,
    is_esaw_origin,
    reachability,
)
from controller.access.secret_cache import (
    SecretCache,
    SecretMissing,
    SecretNotLabelled,
    SecretUnknown,
    SigningSecretUnusable,
    webhook_signature,
    what_to_type,
)
from controller.access.sender_keys import KeyUnusable, SenderKeys
from controller.cache import Cache
from controller.mails.problem_tracking import MAX_EXAMPLES
from controller.reconcile.copy_rules import copy_faults
from controller.reconcile.routing import RouteFault, route_fault
from controller.reopening.fix_rules import envelope_access, settled_time, spec_observed_time
from controller.resync.callback_hashes import CallbackSecrets, Credentials, with_hashes
from controller.resync.event_load import UNKNOWN_ENVELOPE
from controller.resync.statistics import refresh_if_stale
from controller.scheduling.retry_policy import RESYNC_SECONDS
from counterfoil.callback_auth import CallbackSecretInvalid, callback_token, check_credentials
from counterfoil.clock import Clock, believed_time
from counterfoil.esaw.client import EsawClient, EsawClients
from counterfoil.esaw.errors import (
    EsawError,
    EsawUnreachable,
    HttpStatusError,
    ResponseInvalid,
    UnexpectedRedirect,
)
from counterfoil.esaw.rate_limit import answering_within
from counterfoil.esaw.token import ApiToken
from counterfoil.esaw.transport import AcceptedKey
from counterfoil.esaw_check.callback_address import address_fault
from counterfoil.i18n.commands import message_beside
from counterfoil.i18n.problems import ProblemKind, are_callbacks_refused, open_problems
from counterfoil.kube.client import KubeClient
from counterfoil.kube.errors import ApiError
from counterfoil.kube.secret import Placeholder, SecretUse, create_command
from counterfoil.kube.status import write_status_or_skip
from counterfoil.origin import origin_of
from counterfoil.readiness import is_stalled
from counterfoil.resources import (
    ActionHandling,
    Activity,
    Archive,
    CallbackURLs,
    Condition,
    EnvelopeEvent,
    EventLoad,
    Organization,
    ReportedProblem,
    SealingKeyStatus,
    Sender,
    find_condition,
    is_condition_true,
    with_condition,
)
from counterfoil.resources.base import SecretKeyRef
from counterfoil.resources.conditions import UNREAD_SECRET_REASONS, ConditionStatus, with_summary
from counterfoil.resources.envelopeevent import COPY_INVALID
from counterfoil.resources.naming import envelope_of
from counterfoil.resources.organization import (
    ARCHIVE_SHARED,
    UNKNOWN_ADDRESS,
    address_path,
    shared_archive_conflict,
)
from counterfoil.resources.routes import ArchiveRoute, original_names
from counterfoil.sealing import Sealing
from counterfoil.untrusted.patterns import FORM_PATTERNS

_log = logging.getLogger(__name__)

VERSION_CHECK_SECONDS = 3 * RESYNC_SECONDS - 1.0
"""Interval between requests for the version of an eSAW that answers: every third periodic check, and no
further one after changes of other objects."""

_MAY_BE_OF_ONE_ENVELOPE = frozenset({"EsawAnswerUnreadable", "EsawV5AnswerUnreadable", "EsawV5Unavailable"})
"""Reasons that an envelope alone can have, such as one with huge metadata. A sender may send some of them."""

REACHABLE_SECONDS = 20.0
"""Seconds for such a request, after which eSAW did not answer, and for the check of the key before it. Waits
for ``requestsPerMinute`` do not count."""

VERSION_WAIT_SECONDS = 5.0
"""Seconds after which the status is written without the answer, which a later check stores. A changed token
waits for it as well."""

CONFIRMED_SECONDS = 1800.0
"""Time after the last answer to a key, or since the first refusal, in which a 401 or 403 of any server says
nothing new about eSAW (``_after_refusal``)."""

OTHER_KEY_SECONDS = 600.0
"""Interval between keys with which eSAW is asked while it refuses them."""

MAX_TRIED_SENDERS = 8
"""Maximum number of Senders whose keys are read to find one of them. Each has its share of
``REACHABLE_SECONDS``."""

CEILING_SHARE = 0.9
"""Share of a ceiling from which the Organization is not ready: the receiver, which adds its own creations,
refuses callbacks slightly below the ceiling."""

_BASIC_VALUES = {"username": Placeholder.USERNAME, "password": Placeholder.PASSWORD}


class CheckResult(NamedTuple):
    """The result of one check."""

    truth: ConditionStatus
    reason: str
    message: str
    is_stalled: bool | None = None
    """Whether only a person can change it; None: the catalogue of reasons decides."""
    may_be_esaw: bool = False
    """Whether this is a 401 or 403 of this moment that is no web page. It confirms the first origin."""


_REFUSED = frozenset({"TokenRejected", "KeysRejected", "WrongUser"})
"""Reasons of a key that eSAW was asked about, and is asked about again."""

_CALLS_FAILING = "EsawCallsFailing"

_DOWN = frozenset({"ArchiveNotReady", "ArchiveSuspended"})
"""Reasons of an Archive that works again without a change of the Organization."""

_ENVELOPES_WAIT = "callbacks are recorded, and envelopes wait"
_COPIES_WAIT = "envelopes are archived, and wait for their copies there"

OK = CheckResult("True", "Ready", "Callbacks are taken and envelopes are archived.")

_ANSWERS = CheckResult("True", "EsawAnswers", "eSignAnyWhere answers.")


class _VersionRefusal(NamedTuple):
    """The last request for the version with a key to which any server answered 401 or 403."""

    sender: str
    since: float
    """Monotonic time of the first such request in a row with the key of this Sender."""
    last: float
    """Monotonic time of this request."""


@dataclass
class _AddressMemory:
    """Knowledge of this process about the server at one origin. Another one begins without it, but not
    another spelling of spec.baseURL."""

    origin: str
    trouble_at: float | None = None
    """Monotonic time of the last request for the version that failed. After that, or without one: of the
    first one that any server refused since eSAW answered, or of a key that was accepted later. None: the last
    request was answered."""
    refusal: _VersionRefusal | None = None


class _VersionRequest(NamedTuple):
    """A request for the version of eSAW, which may wait for its turn longer than a status may."""

    subject: tuple[str, int]
    """Uid and generation of the Organization when it began."""
    answer: asyncio.Task[tuple[CheckResult, str | None]]


@dataclass
class OrganizationStatusUpdater:
    """Updates the status of Organizations."""

    kube: KubeClient
    cache: Cache
    secrets: SecretCache
    sender_keys: SenderKeys
    esaw_clients: EsawClients
    clock: Clock
    callback_url: str | None
    own_namespace: str
    """The release's own namespace: elsewhere the addresses name the namespace."""
    sealing: Sealing | None = None
    """The sealing keys of this process; None: only spec.tokenSecretRef works."""
    _asked_at: dict[str, float] = field(default_factory=dict)
    """Monotonic time of the last request for the version, by Organization."""
    _memories: dict[str, _AddressMemory] = field(default_factory=dict)
    """By Organization."""
    _version_requests: dict[str, _VersionRequest] = field(default_factory=dict)
    """The requests that have not ended, or whose answer is in no status yet, by Organization."""

    async def update_status(
        self,
        organization: Organization,
        counts: Mapping[str, int] | None = None,
        activity: Activity | None = None,
        load: EventLoad | None = None,
    ) -> Organization | None:
        """Run all checks and store the results; return the new state, or None after a conflict."""
        # First: it waits for eSAW, and the Secrets may change meanwhile.
        reachable, version, request = await self._reachable(organization)
        try:
            stored = await self._check(organization, (reachable, version), counts, activity, load)
        except ApiError:
            # Its answer may be old when the API server works again.
            self._forget_request(organization.name, request)
            raise
        if stored is not None:
            self._forget_request(organization.name, request)
        return stored

    async def _check(
        self,
        organization: Organization,
        esaw: tuple[CheckResult, str | None],
        counts: Mapping[str, int] | None,
        activity: Activity | None,
        load: EventLoad | None,
    ) -> Organization | None:
        reachable, version = esaw
        callbacks, read = await self._callback_secrets(organization)
        hashed = with_hashes(organization, read)
        if are_callbacks_refused(msgspec.structs.replace(organization, status=hashed)):
            # Nothing else may hide it.
            callbacks = [each._replace(is_stalled=True) for each in callbacks]
        routes = await self._routes(organization)
        copies = self._copies(organization)
        references = (self._default_archive(organization), *routes, *copies, self._sender(organization))
        address = _check_address(*self._address(organization))
        webhook, oauth = await self._webhook(organization), await self._oauth(organization)
        asked = self._with_answer(organization, reachable)
        client_secret = await self._client_secret(asked)
        settings = (
            *callbacks,
            *references,
            await _check_form(organization),
            address,
            webhook,
            oauth,
            client_secret,
            # Last: a new Organization has no Sender yet, and the other problems come first.
            _check_senders(organization, self.cache),
        )
        load = load if load is not None else organization.status.load
        ceilings = _check_ceilings(organization, load)
        calls = _check_calls(organization, reachable)
        default = self._default_sender_works(organization)
        ready = _summary((*settings, *ceilings, _check_suspension(organization), calls, reachable, default))
        known = organization.status.activity
        status = msgspec.structs.replace(
            hashed,
            observed_generation=organization.metadata.generation,
            conditions=self._conditions(asked, ready),
            sealing_key=self._sealing_key(organization),
            callback_urls=self._urls(organization),
            address_path=self._address_path(organization),
            release_namespace=None if self.kube.namespace == self.own_namespace else self.own_namespace,
            version=version,
            origin=asked.status.origin,
            unlisted_actions=tuple(
                each
                for each in organization.status.unlisted_actions
                if organization.spec.rule(each.action) is None
            ),
            events=dict(counts) if counts is not None else organization.status.events,
            activity=refresh_if_stale(known, activity) if activity is not None else known,
            load=load,
            archived_actions=await self._archived_actions(organization),
        )
        now = self.clock.now()
        spec_observed = spec_observed_time(organization.status, status, now=now)
        status = msgspec.structs.replace(
            status,
            settled_time=settled_time(organization.status, status, now=now),
            spec_observed_time=spec_observed,
            envelope_access=envelope_access(organization, spec_observed, now=now),
        )
        stored = await write_status_or_skip(self.kube, organization, status)
        if stored is not None:
            _log_reachability(organization, reachable)
        return stored

    async def _archived_actions(self, organization: Organization) -> tuple[str, ...] | None:
        """
        Return the actions that make events of envelopes, also those of earlier specs; None: these are not
        known.

        An Organization that is created again under its name has the events of the one before.
        """
        before = organization.status
        known = before.archived_actions
        if before.observed_generation is None:
            known = None if await self._has_events(organization) else ()
        elif organization.metadata.generation - before.observed_generation > 1:
            known = None
        if known is None or len(known) > 1:
            return known
        return tuple(sorted({*known, *organization.spec.actions_with_events})[:3])

    async def _has_events(self, organization: Organization) -> bool:
        """Whether the Organization has an event; also if the API server does not say."""
        fields = f"spec.organizationRef.name={organization.name}"
        try:
            async for _ in self.kube.list(EnvelopeEvent, fields=fields, limit=1):
                return True
        except ApiError:
            return True
        return False

    def _sealing_key(self, organization: Organization) -> SealingKeyStatus | None:
        """Return the newest sealing key here, with the time since which a controller has it."""
        if self.sealing is None:
            return None
        known, now = organization.status.sealing_key, self.clock.now().replace(microsecond=0)
        newest = SealingKeyStatus(self.sealing.newest, self.sealing.newest_hash, now)
        is_known = known is not None and (known.id, known.hash) == (newest.id, newest.hash)
        return known if is_known and known is not None and believed_time(known.observed_time, now) else newest

    def check_esaw_soon(self, name: str) -> None:
        """Ask eSAW for its version in the next check: an event got no usable answer."""
        self._asked_at.pop(name, None)

    def forget(self, name: str) -> None:
        """The Organization was deleted."""
        self.esaw_clients.forget(name)
        self._asked_at.pop(name, None)
        self._memories.pop(name, None)
        self._end_request(name)

    def end_requests_of_others(self, organizations: Collection[str]) -> None:
        """End the requests of Organizations that do not exist: a check may begin one after the deletion."""
        for name in tuple(self._version_requests):
            if name not in organizations:
                self._end_request(name)

    def close(self) -> None:
        """End the requests to eSAW that wait for their turns."""
        for name in tuple(self._version_requests):
            self._end_request(name)

    async def _callback_secrets(
        self, organization: Organization
    ) -> tuple[list[CheckResult], CallbackSecrets]:
        """Read the callback tokens and the password; return the faults of all, and what is usable. One bad
        token among several must not disable the good ones. Faults that only a person can end come first."""
        tokens: dict[SecretKeyRef, str] = {}
        unread: set[SecretKeyRef] = set()
        faults: list[CheckResult] = []
        for ref in organization.spec.callback.token_secret_refs:
            try:
                value = await self.secrets.value(ref.name, ref.key, SecretUse.CALLBACK)
                tokens[ref] = callback_token(value.strip())
            except SecretMissing as missing:
                how = what_to_type(missing, ref.name, {ref.key: Placeholder.TOKEN}, SecretUse.CALLBACK)
                advice = (
                    f"Put the token of the callback URL in eSignAnyWhere there{how}, or correct "
                    "spec.callback.tokenSecretRefs. If the token is lost, put a new one there and into the "
                    "callback URL, then request a sweep."
                )
                faults.append(_missing("CallbackTokenMissing", missing, advice))
                if isinstance(missing, SecretUnknown):
                    unread.add(ref)
            except CallbackSecretInvalid as weak:
                message = (
                    f"Secret/{ref.name}, key {ref.key!r}: {weak}. Put another token there, and into the URL."
                )
                faults.append(CheckResult("False", "CallbackTokenRefused", message))
        basic, credentials = await self._credentials(organization)
        # Several keys of one Secret have the same fault.
        found = sorted(dict.fromkeys((*faults, basic)), key=lambda each: each.is_stalled is False)
        return found, CallbackSecrets(tokens, frozenset(unread), credentials)

    async def _credentials(self, organization: Organization) -> tuple[CheckResult, Credentials | None]:
        """Return the result, and the user name and password. Without them the published hashes stay: a lost
        Secret must not disable authentication. Without a hash all calls are refused."""
        ref = organization.spec.callback.basic_auth_secret_ref
        if ref is None:
            return OK, None
        try:
            username = (await self.secrets.value(ref.name, "username", SecretUse.CALLBACK)).decode()
            password = (await self.secrets.value(ref.name, "password", SecretUse.CALLBACK)).decode()
            check_credentials(username, password)
        except SecretMissing as missing:
            how = what_to_type(missing, ref.name, _BASIC_VALUES, SecretUse.CALLBACK)
            return _missing("BasicAuthMissing", missing, _basic_advice(how)), None
        except UnicodeDecodeError:
            message = f"Secret/{ref.name}: username and password have to be UTF-8. {_basic_advice()}"
            return CheckResult("False", "BasicAuthRefused", message), None
        except CallbackSecretInvalid as refused:
            message = f"Secret/{ref.name}: {refused}. {_basic_advice()}"
            return CheckResult("False", "BasicAuthRefused", message), None
        return OK, (username, password)

    async def _reachable(
        self, organization: Organization
    ) -> tuple[CheckResult, str | None, _VersionRequest | None]:
        """Return whether eSAW answers, its version, and the request whose answer this is; None: it was
        known."""
        name, subject = organization.name, (organization.uid, organization.metadata.generation)
        known_version, (known, is_fresh) = organization.status.version, _known_reachability(organization)
        request = self._version_requests.get(name)
        if request is not None and request.subject != subject:
            self._end_request(name)
            request = None
        if request is None and known is not None and is_fresh and known.truth == "True":
            now, last = self.clock.monotonic(), self._asked_at.get(name)
            if last is not None and now - last < VERSION_CHECK_SECONDS:
                return known, known_version, None
        is_new = request is None
        if request is None:
            self._asked_at[name] = self.clock.monotonic()
            answer = asyncio.create_task(self._ask(organization, known), name=f"eSAW of {name}")
            # Its error counts as retrieved, also one that no status waits for.
            answer.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
            request = self._version_requests[name] = _VersionRequest(subject, answer)
        # A token that was just put into its Secret does not wait for a turn.
        seconds = None if known is None else VERSION_WAIT_SECONDS if is_new else 0.0
        try:
            await asyncio.wait([request.answer], timeout=seconds)
        except asyncio.CancelledError:
            self._end_request(name)
            raise
        if known is not None and not request.answer.done():
            return known, known_version, None
        try:
            reachable, version = request.answer.result()
        except Exception:
            self._end_request(name)
            raise
        return reachable, version or known_version, request

    def _end_request(self, name: str) -> None:
        request = self._version_requests.pop(name, None)
        if request is not None:
            request.answer.cancel()

    def _forget_request(self, name: str, request: _VersionRequest | None) -> None:
        """Forget a request whose answer a status has. One that ended meanwhile keeps its answer."""
        if request is not None and self._version_requests.get(name) is request:
            del self._version_requests[name]

    async def _ask(
        self, organization: Organization, known: CheckResult | None
    ) -> tuple[CheckResult, str | None]:
        """
        Ask eSAW for its version; return what the answer means, and the version if the answer has it.

        What answers or fails decides. A 401 or 403 without an error id of eSAW may come from any server
        (``_after_refusal``).
        """
        esaw = self.esaw_clients.for_organization(organization)
        memory = self._memory(organization.name, origin_of(organization.spec.base_url))
        sender, key = await self._key(organization, esaw, memory)
        asked_at = self.clock.monotonic()
        try:
            async with answering_within(REACHABLE_SECONDS):
                version = await esaw.version(key)
        except TimeoutError:
            found = _unsuccessful(EsawUnreachable("timeout"), organization) or _ANSWERS
        except EsawError as problem:
            is_pause = isinstance(problem, HttpStatusError) and problem.status == 429
            if is_pause and known is not None and known.truth != "False":
                # A pause for all calls, with nothing new about eSAW.
                return known, None
            found = _unsuccessful(problem, organization) or _ANSWERS
        else:
            memory.trouble_at = None
            return _ANSWERS, version
        if found.truth != "Unknown":
            memory.trouble_at = None if found.truth == "True" else self.clock.monotonic()
            return found, None
        if sender is not None:
            before = memory.refusal
            since = before.since if before is not None and before.sender == sender.name else asked_at
            memory.refusal = _VersionRefusal(sender.name, since, asked_at)
        elif known is not None and known.truth == "False":
            senders = self.cache.senders_of(organization.name)
            # Nothing else would show that eSAW is back.
            known = None if not any(_may_be_asked_with(each, esaw.origin) for each in senders) else known
        now, has_key = self.clock.monotonic(), sender is not None
        return _after_refusal(found, known, memory, esaw.last_accepted, now, has_key=has_key), None

    def _memory(self, name: str, origin: str) -> _AddressMemory:
        memory = self._memories.get(name)
        if memory is None or memory.origin != origin:
            memory = self._memories[name] = _AddressMemory(origin)
        return memory

    async def _key(
        self, organization: Organization, esaw: EsawClient, memory: _AddressMemory
    ) -> tuple[Sender | None, ApiToken | None]:
        """Return a key that works, and its Sender; None: no key is known to work, as while others verify
        it."""
        for sender in self._senders_to_ask_with(organization, esaw, memory.refusal)[:MAX_TRIED_SENDERS]:
            with suppress(KeyUnusable, EsawError, ApiError, TimeoutError):
                # Each one may be verified, which costs a call.
                async with answering_within(REACHABLE_SECONDS / MAX_TRIED_SENDERS):
                    return sender, await self.sender_keys.key(sender, esaw)
        return None, None

    def _senders_to_ask_with(
        self, organization: Organization, esaw: EsawClient, refusal: _VersionRefusal | None
    ) -> list[Sender]:
        """
        Return the Senders whose keys may be used now, in this order.

        First the one whose key eSAW accepted last, for any call. After a refusal it is the turn of the others
        by name, but slowly: what refuses all keys may be a proxy that somebody has taken over.
        """
        accepted = esaw.last_accepted
        usable, first = self.cache.default_sender_first(organization), list[Sender]()
        if accepted is not None and (refusal is None or accepted.at > refusal.last):
            first = [each for each in usable if each.key_fingerprint == accepted.fingerprint]
        if refusal is None:
            others = usable
        elif self.clock.monotonic() - refusal.since >= OTHER_KEY_SECONDS:
            others = sorted(usable, key=lambda each: (each.name <= refusal.sender, each.name))
        else:
            others = [each for each in usable if each.name == refusal.sender and not first]
        # A hostile eSAW can give all users one key, so these can be thousands.
        names = {each.name for each in first}
        return [*first, *(each for each in others if each.name not in names)]

    def _confirmed_origin(self, organization: Organization, reachable: CheckResult) -> str | None:
        """Return the present origin once something answers there as eSAW, also before a key works."""
        if reachable.truth != "True" and not reachable.may_be_esaw:
            return None
        origin = self.esaw_clients.for_organization(organization).origin
        return origin if is_esaw_origin(self.cache, organization.name, origin) else None

    async def _client_secret(self, organization: Organization) -> CheckResult:
        """Whether the OAuth client secret belongs to the present origin; the pages send it to no other."""
        oauth = organization.spec.oauth
        if oauth is None:
            return OK
        ref, origin = oauth.client_secret_ref, self.esaw_clients.for_organization(organization).origin
        try:
            declared = await self.secrets.declared_origin(ref.name)
        except SecretMissing:
            return OK
        fault = client_secret_fault(self.cache, organization, ref, declared, origin)
        return OK if fault is None else CheckResult("False", *fault)

    async def _webhook(self, organization: Organization) -> CheckResult:
        if organization.spec.webhook is None:
            return OK
        try:
            await webhook_signature(self.secrets, organization.spec.webhook, self.clock)
        except SigningSecretUnusable as unusable:
            return CheckResult("False", unusable.reason, str(unusable))
        return OK

    async def _oauth(self, organization: Organization) -> CheckResult:
        """Whether the client secret is there and labelled for its use. The pages read it, ``check`` tries
        it."""
        if organization.spec.oauth is None:
            return OK
        ref = organization.spec.oauth.client_secret_ref
        try:
            await self.secrets.value(ref.name, ref.key, SecretUse.OAUTH)
        except SecretNotLabelled as unlabelled:
            return CheckResult("False", "SecretNotLabelled", str(unlabelled))
        except SecretMissing as missing:
            how = what_to_type(missing, ref.name, {ref.key: Placeholder.CLIENT_SECRET}, SecretUse.OAUTH)
            advice = (
                f"Put the client secret of the OAuth application there{how}, or correct "
                "spec.oauth.clientSecretRef."
            )
            return _missing("ClientSecretMissing", missing, advice)
        return OK

    def _default_archive(self, organization: Organization) -> CheckResult:
        spec = organization.spec
        if spec.archive_ref is not None:
            return self._archive(organization, spec.archive_ref.name, "spec.archiveRef")
        if all(rule.handling is not ActionHandling.ARCHIVE for rule in spec.actions):
            return OK
        message = "spec.archiveRef is not set. Let it name the Archive to use."
        return CheckResult("False", "ArchiveMissing", message)

    async def _routes(self, organization: Organization) -> tuple[CheckResult, ...]:
        """Return the results for the Archives of the routes, and those for their conditions."""
        routes = organization.spec.routes
        archives = [self.cache.archives.get(each.archive_ref.name) for each in routes]
        found = (
            self._archive(organization, each.archive_ref.name, f"the route `{each.name}` in spec.routes")
            for each in routes
        )
        # Beside the event loop if rules or patterns are compiled.
        is_costly = any(each.when.tags for each in routes)
        faults = (
            await asyncio.to_thread(_faults, routes, archives) if is_costly else _faults(routes, archives)
        )
        return (*found, *(CheckResult("False", *each) for each in faults))

    def _copies(self, organization: Organization) -> tuple[CheckResult, ...]:
        """Return the results for the Archives of copies. An optional copy that is only down holds nothing,
        and its Archive reports it."""
        spec = organization.spec
        found = [
            (each, self._archive(organization, each.archive_ref.name, "spec.copies", _COPIES_WAIT))
            for each in spec.copies
        ]
        faults = copy_faults(spec.copies, original_names(spec), self.cache.archives.get)
        return (
            *(CheckResult("False", COPY_INVALID, each.message) for each in faults),
            *(result for copy, result in found if copy.required or result.reason not in _DOWN),
        )

    def _archive(
        self, organization: Organization, name: str, where: str, if_suspended: str = _ENVELOPES_WAIT
    ) -> CheckResult:
        archive = self.cache.archives.get(name)
        if archive is None:
            message = f"Archive/{name} does not exist. Create it, or correct {where}."
            return CheckResult("False", "ArchiveMissing", message)
        if archive.spec.suspend:
            message = f"spec.suspend of Archive/{name} is true: {if_suspended}."
            return CheckResult("False", "ArchiveSuspended", message)
        if (reason := shared_archive_conflict(organization, archive, self.cache.archive_use)) is not None:
            return CheckResult("False", ARCHIVE_SHARED, reason)
        if not is_condition_true(archive.status.conditions, "Ready"):
            message = f"Archive/{name} is not ready; its condition Ready says why and what to do."
            is_fixable = is_condition_true(archive.status.conditions, "Stalled")
            return CheckResult("False", "ArchiveNotReady", message, is_stalled=is_fixable)
        return OK

    def _sender(self, organization: Organization) -> CheckResult:
        ref = organization.spec.default_sender_ref
        if ref is None:
            return OK
        sender = self.cache.senders.get(ref.name)
        if sender is None:
            message = f"Sender/{ref.name} does not exist. Create it, or correct spec.defaultSenderRef."
            return CheckResult("False", "SenderMissing", message)
        if sender.spec.organization_ref.name != organization.name:
            message = f"Sender/{ref.name} belongs to another Organization. Correct spec.defaultSenderRef."
            return CheckResult("False", "SenderOfOtherOrganization", message)
        return OK

    def _default_sender_works(self, organization: Organization) -> CheckResult:
        """Whether the default Sender works, as its own status says. Else the Organization takes callbacks,
        and other Senders read their envelopes, so this is only a part of the message."""
        ref = organization.spec.default_sender_ref
        sender = self.cache.senders.get(ref.name) if ref is not None else None
        if sender is None or sender.spec.organization_ref.name != organization.name:
            return OK
        ready = find_condition(sender.status.conditions, "Ready")
        if ready is None:
            return OK
        if ready.status != "False" and ready.reason not in UNREAD_SECRET_REASONS:
            return OK
        message = (
            f"The default Sender/{sender.name} is not ready ({ready.reason}), so envelopes without another "
            "Sender wait. Its condition Ready says what to do."
        )
        return CheckResult("Unknown", OK.reason, message)

    def _address(self, organization: Organization) -> tuple[str | None, str]:
        """Return the public address of the receiver, and the setting that it comes from."""
        oauth = organization.spec.oauth
        if self.callback_url or oauth is None:
            return self.callback_url, "COUNTERFOIL_CALLBACK_URL of the controller"
        return oauth.public_url, "spec.oauth.publicURL"

    def _address_path(self, organization: Organization) -> str | None:
        return address_path(organization.name, namespace=self.kube.namespace, own=self.own_namespace)

    def _urls(self, organization: Organization) -> CallbackURLs:
        address = self._address(organization)[0] or UNKNOWN_ADDRESS
        return CallbackURLs.at(address, self._address_path(organization) or organization.name)

    def _with_answer(self, organization: Organization, reachable: CheckResult) -> Organization:
        """Return the Organization with its condition Reachable and, once confirmed, its first origin."""
        conditions = with_condition(
            organization.status.conditions,
            "Reachable",
            reachable.truth,
            reachable.reason,
            reachable.message,
            now=self.clock.now(),
            generation=organization.metadata.generation,
        )
        origin = organization.status.origin or self._confirmed_origin(organization, reachable)
        status = msgspec.structs.replace(organization.status, conditions=conditions, origin=origin)
        return msgspec.structs.replace(organization, status=status)

    def _conditions(self, organization: Organization, ready: CheckResult) -> tuple[Condition, ...]:
        return with_summary(
            organization.status.conditions,
            ready.truth,
            ready.reason,
            ready.message,
            is_stalled=bool(ready.is_stalled),
            now=self.clock.now(),
            generation=organization.metadata.generation,
        )


def _known_reachability(organization: Organization) -> tuple[CheckResult | None, bool]:
    """Return the known result about the eSAW of the current spec, and whether it is about this generation.
    None: there is no result."""
    found = reachability(organization)
    if found is None:
        return None, False
    is_fresh = found.observed_generation == organization.metadata.generation
    # As ``_refused_keys`` says.
    stalled = False if found.reason == UNCONFIRMED else None
    return CheckResult(found.status, found.reason, found.message, stalled), is_fresh


def _log_reachability(before: Organization, reachable: CheckResult) -> None:
    """Log that eSAW can be reached, or no longer; not that it is still so."""
    known = find_condition(before.status.conditions, "Reachable")
    if known is None or (known.status, known.reason) != (reachable.truth, reachable.reason):
        fields = {"organization": before.name, "reason": reachable.reason}
        _log.info("Reachable is %s: %s", reachable.truth, reachable.message, extra=fields)


def _after_refusal(
    found: CheckResult,
    known: CheckResult | None,
    memory: _AddressMemory,
    accepted: AcceptedKey | None,
    now: float,
    *,
    has_key: bool,
) -> CheckResult:
    """
    Return what is believed after a 401 or 403 that any server may say, so that it tells nothing about eSAW.

    =======================  =======================  ========================  =====================
    The known state          A request with a key     A request without a key   A key is accepted
    =======================  =======================  ========================  =====================
    nothing, or Unknown      Unknown, then False      Unknown                   True
    True                     True, then False         True, then Unknown        True
    False                    False (EsawUnconfirmed)  False, as it was          True
    =======================  =======================  ========================  =====================

    "Then" is after ``CONFIRMED_SECONDS`` of such answers. A key counts as accepted after any call to this
    address in the last ``CONFIRMED_SECONDS``, but only since the last request that failed. So a refusal alone
    ends no outage, and begins none at once.
    """
    truth = known.truth if known is not None else "Unknown"
    before = memory.trouble_at
    if accepted is not None and now - accepted.at < CONFIRMED_SECONDS:
        # Of an outage that another process saw, it is not known whether it began earlier.
        is_later = accepted.at >= before if before is not None else truth != "False"
        if is_later:
            memory.trouble_at = accepted.at
            return _ANSWERS
    if before is None and (has_key or truth != "Unknown"):
        memory.trouble_at = now
    is_lasting = before is not None and now - before >= CONFIRMED_SECONDS
    if has_key and (truth == "False" or is_lasting):
        return _refused_keys(found)
    stays = truth == "False" or (truth == "True" and not is_lasting)
    return known if known is not None and stays else found


def _refused_keys(found: CheckResult) -> CheckResult:
    """Return that keys which should work are refused: then no call of an event works."""
    message = f"{found.message} Check also whether a proxy refuses all calls, or the keys were revoked."
    return found._replace(truth="False", message=message, is_stalled=False)


def _unsuccessful(problem: EsawError, organization: Organization) -> CheckResult | None:
    """Return what a failed request for the version means; None: eSAW refused it, so it answers."""
    if isinstance(problem, HttpStatusError) and problem.status in (401, 403):
        if problem.error_id is not None:
            return None
        page = (
            " The body is a web page, or could not be read whole: perhaps a proxy, a firewall or a login "
            "page answered."
        )
        message = (
            f"{problem}{page if problem.is_page else ''} Any server may say that, so it is not known whether "
            "eSignAnyWhere is at spec.baseURL. Counterfoil asks with the key of a Sender as soon as one "
            "works, and with another one each ten minutes."
        )
        return CheckResult("Unknown", UNCONFIRMED, message, may_be_esaw=not problem.is_page)
    if isinstance(problem, ResponseInvalid):
        message = (
            f"The server at spec.baseURL is no eSignAnyWhere with API v6: {problem} Correct spec.baseURL, or "
            "check for a proxy or a login page at this address."
        )
        return CheckResult("False", "EsawAnswerUnreadable", message)
    if (
        isinstance(problem, HttpStatusError)
        and problem.status == 404
        and (problem.error_id is not None or not _has_told_version(organization))
    ):
        message = (
            f"{problem} No API v6 was found at spec.baseURL, which is the address of eSignAnyWhere without "
            "/Api. If it is correct, perhaps a proxy answers in its place, or this eSignAnyWhere has older "
            "versions of the API only, such as v5, and Counterfoil needs v6."
        )
        return CheckResult("False", "EsawNotFound", message)
    if isinstance(problem, UnexpectedRedirect):
        return CheckResult("False", "EsawRedirects", f"{problem} Counterfoil follows no redirect.")
    if isinstance(problem, EsawUnreachable) and problem.kind == "forbidden":
        message = (
            f"{problem} Correct spec.baseURL, or the name in DNS. For an eSignAnyWhere on loopback set "
            "allowLoopback of controller and pages, for one on the node allowNode."
        )
        return CheckResult("False", "EsawAddressForbidden", message)
    # 408 and 429 end without anybody.
    if (
        isinstance(problem, HttpStatusError)
        and 400 <= problem.status < 500
        and problem.status not in (408, 429)
        and problem.error_id is None
    ):
        message = (
            f"{problem} It has no error id of eSAW, so perhaps another server, a proxy or a firewall "
            "answered. Correct spec.baseURL, or check what is between Counterfoil and this address."
        )
        return CheckResult("False", "EsawAnswerUnreadable", message)
    message = f"eSignAnyWhere at spec.baseURL does not answer as it should: {problem}"
    return CheckResult("False", "EsawUnreachable", message)


def _has_told_version(organization: Organization) -> bool:
    """Whether the API v6 answered at the present origin before."""
    status = organization.status
    return status.version is not None and status.origin == origin_of(organization.spec.base_url)


def _basic_advice(how: str = "") -> str:
    return f"Put `username` and `password` there{how}, or take spec.callback.basicAuthSecretRef out."


def _missing(reason: str, missing: SecretMissing, advice: str) -> CheckResult:
    # What was published counts, and it is tried again.
    is_stalled = False if isinstance(missing, SecretUnknown) else None
    return CheckResult("False", *missing.explain(reason, advice), is_stalled)


def _summary(results: Sequence[CheckResult]) -> CheckResult:
    """
    Return the summary of all checks: False with the message of each problem, and the reason of the first.

    A problem that only a person can solve comes first. Where it is unknown whether eSAW answers (no key works
    yet), or the default Sender does not work, the Organization is ready to take callbacks, and its message
    promises no more.
    """
    problems = [
        each._replace(is_stalled=is_stalled(each.truth, each.reason)) if each.is_stalled is None else each
        for each in results
        if each.truth == "False"
    ]
    if not problems:
        unknown = [each for each in results if each.truth == "Unknown"]
        if not unknown:
            return OK._replace(is_stalled=False)
        message = " ".join(("Callbacks are taken.", *(each.message for each in unknown)))
        return CheckResult("True", unknown[0].reason, message, is_stalled=False)
    problems.sort(key=lambda each: not each.is_stalled)
    messages = (message_beside(each.message, each.reason) for each in problems)
    return problems[0]._replace(message=" ".join(messages))


def _check_calls(organization: Organization, reachable: CheckResult) -> CheckResult:
    """
    Whether eSAW does what events need: the passes over all events tell, since Reachable only asks for the
    version.

    The message has no count, no example and no reason: these change with each pass, and each change would be
    a write.
    """
    problems = open_problems(organization, ProblemKind.ESAW)
    known = find_condition(organization.status.conditions, "Ready")
    is_shown = known is not None and known.reason == _CALLS_FAILING
    # A number that moves changes nothing.
    if reachable.truth != "True" or not problems or not (is_shown or _is_general(problems[0])):
        return OK
    message = (
        "Callbacks are recorded. eSignAnyWhere answers, but its calls fail for events. The entry esaw of "
        "status.problems has the reason and names events."
    )
    stalled = is_stalled("False", problems[0].reason)
    return CheckResult("False", _CALLS_FAILING, message, is_stalled=stalled)


def _is_general(problem: ReportedProblem) -> bool:
    """Whether the calls fail for several envelopes, and not because of what a few of them have."""
    envelopes = {envelope_of(each) for each in problem.examples}
    needed = MAX_EXAMPLES if problem.reason in _MAY_BE_OF_ONE_ENVELOPE else 2
    return len(envelopes) >= needed or problem.count > MAX_EXAMPLES


def _check_suspension(organization: Organization) -> CheckResult:
    if not organization.spec.suspend:
        return OK
    message = "spec.suspend is true: callbacks are recorded, and envelopes wait until it is false."
    return CheckResult("False", "OrganizationSuspended", message)


def _check_address(url: str | None, setting: str) -> CheckResult:
    """Whether eSAW's SaaS calls such an address. Loopback and cluster-internal ones are for another eSAW."""
    fault = address_fault(url) if url is not None else ""
    if not fault:
        return OK
    message = (
        f"eSignAnyWhere does not call {url}: {fault}. It calls https only, on port 443 or a port from 1025 "
        f"to 65535. Correct {setting}, then the callback URLs in eSignAnyWhere."
    )
    return CheckResult("False", "CallbackURLUnusable", message)


def _check_ceilings(organization: Organization, load: EventLoad | None) -> tuple[CheckResult, ...]:
    """Whether callbacks or new Senders are refused soon, or already, because the organization has too many
    events or Senders."""
    if load is None:
        return ()
    name, limits, found = organization.name, organization.spec.limits, []
    if load.unknown_envelopes >= CEILING_SHARE * limits.unknown_envelopes:
        selector = f"{UNKNOWN_ENVELOPE},spec.organizationRef.name={name}"
        message = (
            "eSignAnyWhere does not know the envelopes of very many callbacks. At "
            f"{limits.unknown_envelopes} (spec.limits.unknownEnvelopes) new callbacks are answered 503. If "
            "the callback URL leaked, rotate its token, then type `kubectl delete ee --field-selector "
            f"{selector}`. Else let spec.defaultSenderRef name a Sender that may see the envelopes, then "
            "retry the events: a deleted event is found only by a sweep."
        )
        found.append(CheckResult("False", "TooManyUnknownEnvelopes", message))
    if load.unfinished_events >= CEILING_SHARE * limits.unfinished_events:
        message = (
            f"Very many events are unfinished. At {limits.unfinished_events} (spec.limits.unfinishedEvents) "
            "new callbacks are answered 503, and eSignAnyWhere repeats them for 36 hours. If the events name "
            "envelopes that nobody sent, the callback URL leaked: rotate its token. Else look for the "
            "cause of slow archiving, or raise the limit."
        )
        found.append(CheckResult("False", "TooManyUnfinishedEvents", message))
    if load.senders >= CEILING_SHARE * limits.senders:
        message = (
            f"There are very many Senders. At {limits.senders} (spec.limits.senders) the pages create no "
            "Sender for a user who has none, and this user cannot send. If the Senders name users that you "
            "do not know, ask the operator of eSignAnyWhere why it signs them in. Else delete the Senders of "
            "people who left, or raise the limit."
        )
        found.append(CheckResult("False", "NearSenderCeiling", message))
    return tuple(found)


def _check_senders(organization: Organization, cache: Cache) -> CheckResult:
    """Whether an event can have a sender. A Sender counts unless its key never worked."""
    spec = organization.spec
    if spec.default_sender_ref is not None or spec.oauth is not None or spec.archive_action is None:
        return OK
    senders = cache.senders_of(organization.name)
    if any(not _has_never_worked(each) for each in senders):
        return OK
    name, names = organization.name, sorted(f"Sender/{each.name}" for each in senders)
    if names:
        message = (
            f"No event can have a sender: the key of each Sender of Organization/{name} is unusable "
            f"({', '.join(names[:3])}{', …' if len(names) > 3 else ''}), and neither spec.defaultSenderRef "
            "nor spec.oauth is set. The condition Authorized of each Sender says what to do: type "
            "`kubectl get senders` and `kubectl describe sender NAME`."
        )
    else:
        message = (
            f"No event can have a sender: no Sender names Organization/{name}, and neither "
            "spec.defaultSenderRef nor spec.oauth is set. Put a user's API key into a Secret (type "
            f"`{create_command('NAME', {'token': Placeholder.API_KEY}, SecretUse.TOKEN)}`), and create a "
            "Sender that names the Organization and the Secret. Or set spec.oauth, so that senders can give "
            "consent."
        )
    return CheckResult("False", "NoUsableSender", message)


def _has_never_worked(sender: Sender) -> bool:
    authorized, key = find_condition(sender.status.conditions, "Authorized"), sender.status.key
    is_refused = authorized is not None and authorized.status == "False"
    return is_refused and (key is None or key.verified_time is None)


def _may_be_asked_with(sender: Sender, origin: str) -> bool:
    """
    Whether a key of the Sender may have worked at this origin, and eSAW is asked with it again automatically.

    One that belongs elsewhere is not sent, nor that of a suspended Sender. One that is missing or can't be
    used waits for a person.
    """
    key, authorized = sender.status.key, find_condition(sender.status.conditions, "Authorized")
    is_elsewhere = key is not None and key.origin not in (None, origin)
    is_unusable = (
        authorized is not None and authorized.status == "False" and authorized.reason not in _REFUSED
    )
    return not (is_elsewhere or is_unusable or sender.spec.suspend or _has_never_worked(sender))


def _faults(routes: Sequence[ArchiveRoute], archives: Sequence[Archive | None]) -> list[RouteFault]:
    """Return the routes that can't be judged."""
    faults = (route_fault(route, archive) for route, archive in zip(routes, archives, strict=True))
    return [each for each in faults if each is not None]


async def _check_form(organization: Organization) -> CheckResult:
    """Whether the form before sending asks for what it is to ask for."""
    before_send = organization.spec.before_send
    fields = before_send.fields if before_send is not None else ()
    patterns = {each.name: each.pattern for each in fields if each.pattern is not None}
    if not patterns:
        return OK
    # Beside the event loop, since patterns are compiled.
    faults = await asyncio.to_thread(
        lambda: {name: FORM_PATTERNS.error(each) for name, each in patterns.items()}
    )
    messages = [f"the pattern of `{name}` can't be used: {fault}" for name, fault in faults.items() if fault]
    if not messages:
        return OK
    message = (
        f"spec.beforeSend.fields: {'; '.join(messages)}. Until it is corrected any value is taken there."
    )
    return CheckResult("False", "FieldPatternInvalid", message)
