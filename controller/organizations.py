"""
What the controller finds out about each Organization: hashes of its callback tokens, the URLs to paste, whether eSAW
answers, whether everything it needs is there; all in its status.

The receiver knows valid callbacks from those hashes alone, which is why it needs no Secret. Each Organization is
looked at when it changes and every ``LOOK_SECONDS``, so a changed token Secret is known within 30 s.
"""

import asyncio
import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from controller.mended import settled_at
from controller.office import Office
from controller.secrets import SecretForbidden, SecretMissing, Secrets
from controller.tally import settled
from counterfoil.callbackauth import TokenRefused, basic_auth_hash, is_basic_auth, token_hash
from counterfoil.clock import Clock
from counterfoil.cluster import Cluster, Conflict, NotFound
from counterfoil.esaw.clients import Esaws
from counterfoil.esaw.problems import Answered, EsawProblem
from counterfoil.resources import (
    Activity,
    CallbackURLs,
    Condition,
    Handling,
    Organization,
    OrganizationStatus,
    condition,
    is_true,
    merge_patch,
    plain,
    with_condition,
)
from counterfoil.resources.conditions import Truth

LOOK_SECONDS = 10.0

VERSION_LOOKS = 6
"""Every so many looks eSAW is asked for its version: once a minute."""

VERSION_SECONDS = 15.0
"""Longest time to wait for that; a look must not hold up the next one."""

_BASIC_ADVICE = "Put `username` and `password` there, or take spec.callback.basicAuthSecretRef out."

_ENVELOPE_QUERY = "envelopeId=##EnvelopeId##&action=##Action##"
_WORKSTEP_QUERY = (
    "envelopeId=##EnvelopeId##&action=##EventType##&workstepId=##WorkstepId##&source=##Source##&time=##Time##"
)


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    truth: Truth
    reason: str
    message: str


OK = Finding("True", "Ready", "Callbacks are taken and envelopes are archived.")


class Organizations:
    """Looks after the status of Organizations."""

    def __init__(
        self,
        *,
        cluster: Cluster,
        office: Office,
        secrets: Secrets,
        esaws: Esaws,
        clock: Clock,
        callback_url: str | None,
    ) -> None:
        self._cluster = cluster
        self._office = office
        self._secrets = secrets
        self._esaws = esaws
        self._clock = clock
        self._callback_url = callback_url
        self._looks: dict[str, int] = {}
        self._basic: dict[str, tuple[bytes, str]] = {}

    async def look_after(
        self,
        organization: Organization,
        counts: Mapping[str, int] | None = None,
        activity: Activity | None = None,
    ) -> Organization | None:
        """Find out everything and store it; return the new state, or None when somebody else wrote meanwhile."""
        tokens, hashes = await self._tokens(organization)
        basic, basic_hash = await self._basic_auth(organization)
        reachable, version = await self._reachable(organization)
        findings = (
            tokens,
            basic,
            self._archive(organization),
            self._sender(organization),
            _form(organization),
        )
        ready = next((each for each in findings if each.truth != "True"), OK)
        known = organization.status.activity
        status = msgspec.structs.replace(
            organization.status,
            observed_generation=organization.metadata.generation,
            conditions=self._conditions(organization, {"Reachable": reachable, "Ready": ready}),
            callback_token_hashes=hashes,
            basic_auth_hash=basic_hash,
            callback_urls=self._urls(organization),
            version=version,
            events=dict(counts) if counts is not None else organization.status.events,
            activity=settled(known, activity) if activity is not None else known,
        )
        since = settled_at(organization.status, status, now=self._clock.now())
        return await self._store(organization, msgspec.structs.replace(status, settled_at=since))

    def forget(self, name: str) -> None:
        """The Organization was deleted."""
        self._looks.pop(name, None)
        self._basic.pop(name, None)

    async def _tokens(self, organization: Organization) -> tuple[Finding, tuple[str, ...]]:
        """Hash what can be hashed: one bad token among several must not shut the good ones out."""
        hashes: list[str] = []
        trouble: Finding | None = None
        for ref in organization.spec.callback.token_secret_ref:
            try:
                hashes.append(token_hash((await self._secrets.value(ref.name, ref.key)).strip()))
            except SecretMissing as missing:
                advice = "Put a callback token there, or correct spec.callback.tokenSecretRef."
                trouble = trouble or Finding("False", "CallbackTokenMissing", f"{missing} {advice}")
                if isinstance(missing, SecretForbidden):
                    hashes += _published(organization)
            except TokenRefused as weak:
                message = f"Secret/{ref.name}, key {ref.key!r}: {weak}. Put another token there."
                trouble = trouble or Finding("False", "CallbackTokenRefused", message)
        return trouble or OK, tuple(dict.fromkeys(hashes))

    async def _basic_auth(self, organization: Organization) -> tuple[Finding, str | None]:
        ref = organization.spec.callback.basic_auth_secret_ref
        if ref is None:
            return OK, None
        try:
            username = (await self._secrets.value(ref.name, "username")).decode()
            password = (await self._secrets.value(ref.name, "password")).decode()
            return OK, await asyncio.to_thread(self._basic_hash, organization, username, password)
        except SecretMissing as missing:
            trouble = Finding("False", "BasicAuthMissing", f"{missing} {_BASIC_ADVICE}")
        except UnicodeDecodeError:
            message = f"Secret/{ref.name}: username and password have to be UTF-8. {_BASIC_ADVICE}"
            trouble = Finding("False", "BasicAuthRefused", message)
        except TokenRefused as refused:
            trouble = Finding("False", "BasicAuthRefused", f"Secret/{ref.name}: {refused}. {_BASIC_ADVICE}")
        # The old hash stays: a lock whose key was lost does not open by itself. Without one nobody is let in at all.
        return trouble, organization.status.basic_auth_hash

    def _basic_hash(self, organization: Organization, username: str, password: str) -> str:
        """Hash anew only what changed: the hash is salted, and each new salt would be a write."""
        mark = hashlib.sha256(f"{username}\0{password}".encode()).digest()
        known = self._basic.get(organization.name)
        if known is not None and known[0] == mark:
            return known[1]
        stored = organization.status.basic_auth_hash
        if stored is None or not is_basic_auth(username, password, stored):
            stored = basic_auth_hash(username, password, secrets.token_bytes(16))
        self._basic[organization.name] = (mark, stored)
        return stored

    async def _reachable(self, organization: Organization) -> tuple[Finding, str | None]:
        looks = self._looks.get(organization.name, 0)
        self._looks[organization.name] = looks + 1
        known = condition(organization.status.conditions, "Reachable")
        fresh = known is not None and known.observed_generation == organization.metadata.generation
        if known is not None and fresh and known.status == "True" and looks % VERSION_LOOKS != 0:
            return Finding(known.status, known.reason, known.message), organization.status.version
        try:
            version = await self._esaws.of(organization).version()
        except EsawProblem as problem:
            if isinstance(problem, Answered) and problem.status in (401, 403):
                # Some installations want a key even for this; they are there all the same.
                return Finding("True", "EsawAnswers", "eSignAnyWhere answers."), organization.status.version
            message = f"eSignAnyWhere at spec.baseURL does not answer as it should: {problem}"
            return Finding("False", "EsawUnreachable", message), organization.status.version
        return Finding("True", "EsawAnswers", "eSignAnyWhere answers."), version

    def _archive(self, organization: Organization) -> Finding:
        ref = organization.spec.archive_ref
        if ref is None:
            archives = any(rule.handling is Handling.ARCHIVE for rule in organization.spec.actions)
            unset = Finding(
                "False", "ArchiveMissing", "spec.archiveRef is not set. Let it name the Archive to use."
            )
            return unset if archives else OK
        archive = self._office.archives.get(ref.name)
        if archive is None:
            message = f"Archive/{ref.name} does not exist. Create it, or correct spec.archiveRef."
            return Finding("False", "ArchiveMissing", message)
        if not is_true(archive.status.conditions, "Ready"):
            message = f"Archive/{ref.name} is not ready; its condition Ready says why and what to do."
            return Finding("False", "ArchiveNotReady", message)
        return OK

    def _sender(self, organization: Organization) -> Finding:
        ref = organization.spec.default_sender_ref
        if ref is None:
            return OK
        sender = self._office.senders.get(ref.name)
        if sender is None:
            message = f"Sender/{ref.name} does not exist. Create it, or correct spec.defaultSenderRef."
            return Finding("False", "SenderMissing", message)
        if sender.spec.organization_ref.name != organization.name:
            message = f"Sender/{ref.name} belongs to another Organization. Correct spec.defaultSenderRef."
            return Finding("False", "SenderOfOtherOrganization", message)
        return OK

    def _urls(self, organization: Organization) -> CallbackURLs:
        oauth = organization.spec.oauth
        base = (
            self._callback_url or (oauth.public_url if oauth is not None else None) or "https://<your-host>"
        )
        prefix = f"{base.rstrip('/')}/callbacks/{organization.name}/<token>"
        return CallbackURLs(
            envelope=f"{prefix}?{_ENVELOPE_QUERY}",
            status=f"{prefix}?{_ENVELOPE_QUERY}",
            workstep=f"{prefix}?{_WORKSTEP_QUERY}",
        )

    def _conditions(
        self, organization: Organization, findings: Mapping[str, Finding]
    ) -> tuple[Condition, ...]:
        conditions = organization.status.conditions
        for type_, finding in findings.items():
            conditions = with_condition(
                conditions,
                type_,
                finding.truth,
                reason=finding.reason,
                message=finding.message,
                now=self._clock.now(),
                generation=organization.metadata.generation,
            )
        return conditions

    async def _store(self, organization: Organization, status: OrganizationStatus) -> Organization | None:
        changes = merge_patch(plain(organization.status), plain(status))
        if not changes:
            return organization
        try:
            raw = await self._cluster.patch_status(
                Organization,
                organization.name,
                changes,
                resource_version=organization.metadata.resource_version,
            )
        except (Conflict, NotFound):
            return None
        return Organization.parse(raw)


def _published(organization: Organization) -> tuple[str, ...]:
    """
    Return the hashes that stand in the status, as far as they still count when no Secret can be read to make them anew.

    Without them the receiver refuses every callback. Of another spec they say nothing: it may have taken a token away.
    """
    status = organization.status
    fits = status.observed_generation == organization.metadata.generation
    return status.callback_token_hashes if fits else ()


def _form(organization: Organization) -> Finding:
    """Whether the form before sending asks for what it is to ask for."""
    before_send = organization.spec.before_send
    faults = {each.name: each.pattern_fault for each in before_send.fields} if before_send is not None else {}
    told = [f"the pattern of `{name}` can't be used: {fault}" for name, fault in faults.items() if fault]
    if not told:
        return OK
    message = f"spec.beforeSend.fields: {'; '.join(told)}. Until it is corrected any value is taken there."
    return Finding("False", "FieldPatternInvalid", message)
