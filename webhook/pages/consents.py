"""
Consents: a code becomes a user's key, and the key is put away sealed in a Secret beside the user's Sender.

``obtain`` asks eSAW, and has no side effect here: whoever is not the user that the link was made for is refused after it.
``keep`` writes Sender, then Secret, then the Sender's status, each so that it can be repeated; a kill in between leaves a
Sender without a key, or a key that the controller verifies itself. Between the two nothing is logged but names.
"""

import base64
import re
from dataclasses import dataclass
from typing import Any, Final

from counterfoil.clock import Clock
from counterfoil.cluster import AlreadyExists, Cluster, Forbidden, NotFound
from counterfoil.esaw import ApiToken, Esaw, EsawProblem, WhoAmI
from counterfoil.esaw.oauth import CodeGrant, redeem
from counterfoil.resources import (
    API_VERSION,
    ORGANIZATION_LABEL,
    Organization,
    Ref,
    Sender,
    SenderKey,
    SenderSpec,
    SenderStatus,
    plain,
    with_condition,
)
from counterfoil.resources.organization import OAuth
from counterfoil.sealing import SECRET_KEY, SECRET_TYPE, SealBroken, Sealed, Sealing, SealKeyUnknown
from webhook.pages.flows import Flow
from webhook.pages.problems import Kind, Trouble, of_esaw, of_token_endpoint

_EMAIL: Final = re.compile(r"[^@\s,;<>]+@[^@\s,;<>]+")
_EMAIL_LENGTH: Final = 254
_NAME_LENGTH: Final = 256


@dataclass(frozen=True)
class Consent:
    """A user's key, and whose it is as eSAW says."""

    token: ApiToken
    who: WhoAmI


class Consents:
    """Obtains keys and puts them away."""

    def __init__(self, cluster: Cluster, sealing: Sealing, clock: Clock) -> None:
        self._cluster = cluster
        self._sealing = sealing
        self._clock = clock

    async def obtain(self, esaw: Esaw, oauth: OAuth, flow: Flow, *, code: str, redirect_uri: str) -> Consent:
        """Exchange the code and make sure whose key it is. Raises ``Trouble``, ``ApiProblem``."""
        grant = CodeGrant(
            client_id=oauth.client_id,
            client_secret=await self._client_secret(oauth),
            code=code,
            redirect_uri=redirect_uri,
            verifier=flow.verifier,
        )
        try:
            token = await redeem(esaw, oauth.token_path, grant)
        except EsawProblem as problem:
            raise of_token_endpoint(problem) from problem
        try:
            who = await esaw.as_user(token).whoami()
        except EsawProblem as problem:
            raise of_esaw(problem) from problem
        if who.user_id.lower() != flow.user_id.lower():
            raise Trouble(
                Kind.WRONG_USER, "another user than the link's", user=who.email or who.user_name or "?"
            )
        return Consent(token, who)

    async def keep(self, organization: Organization, consent: Consent, name: str) -> Sender:
        """Put the key away for the Sender of that name, made if need be; return it. Raises ``Trouble``, ``ApiProblem``."""
        sender = await self._sender(organization, consent.who, name)
        sealed = self._sealing.seal(consent.token, self._cluster.namespace, sender)
        await self._put_away(sender, sealed)
        await self._tell(organization, sender, consent.token, sealed)
        return sender

    async def known(self, organization: Organization, name: str) -> Sender | None:
        """Return the Sender of that name if it is this organization's. Raises ``ApiProblem``."""
        try:
            sender = Sender.parse(await self._cluster.get(Sender, name))
        except NotFound:
            return None
        return sender if sender.spec.organization_ref.name == organization.name else None

    async def key_of(self, sender: Sender) -> ApiToken | None:
        """Return the key that was put away for a Sender; None when there is none that opens. Raises ``ApiProblem``."""
        try:
            data = (await self._cluster.secret(sender.name)).get(SECRET_KEY, b"")
            return self._sealing.open(data, self._cluster.namespace, sender)
        except (NotFound, SealBroken, SealKeyUnknown):
            return None

    async def _client_secret(self, oauth: OAuth) -> str:
        ref = oauth.client_secret_ref
        try:
            value = (await self._cluster.secret(ref.name))[ref.key].decode("ascii").strip()
        except NotFound:
            raise Trouble(Kind.NOT_CONFIGURED, f"Secret/{ref.name} does not exist") from None
        except Forbidden:
            raise Trouble(Kind.NOT_CONFIGURED, f"Secret/{ref.name} may not be read") from None
        except (KeyError, UnicodeDecodeError):
            raise Trouble(Kind.NOT_CONFIGURED, f"Secret/{ref.name} has no usable key {ref.key!r}") from None
        if not value:
            raise Trouble(Kind.NOT_CONFIGURED, f"Secret/{ref.name}, key {ref.key!r} is empty")
        return value

    async def _sender(self, organization: Organization, who: WhoAmI, name: str) -> Sender:
        described = _described(organization, who)
        new = {
            "apiVersion": API_VERSION,
            "kind": Sender.KIND,
            "metadata": {"name": name, "labels": {ORGANIZATION_LABEL: organization.name}},
            "spec": plain(described),
        }
        sender = await self.known(organization, name)
        if sender is None:
            try:
                return Sender.parse(await self._cluster.create(Sender, new))
            except AlreadyExists:
                # Two windows of one user at once; or a Sender of this name belongs to another organization.
                sender = await self.known(organization, name)
        if sender is None or sender.spec.user_id.lower() != who.user_id.lower():
            raise Trouble(Kind.NOT_FOUND, f"Sender/{name} belongs to somebody else")
        if sender.spec.token_secret_ref is not None:
            raise Trouble(Kind.BRINGS_KEY, f"Sender/{name} has a spec.tokenSecretRef")
        return await self._up_to_date(sender, described)

    async def _up_to_date(self, sender: Sender, described: SenderSpec) -> Sender:
        """Follow a user who got another name or address."""
        personal = {"email", "givenName", "surname"}
        wanted = {key: value for key, value in plain(described).items() if key in personal}
        changes = {key: value for key, value in wanted.items() if plain(sender.spec).get(key) != value}
        if not changes:
            return sender
        return Sender.parse(await self._cluster.patch(Sender, sender.name, {"spec": changes}))

    async def _put_away(self, sender: Sender, sealed: Sealed) -> None:
        owner = {"apiVersion": API_VERSION, "kind": Sender.KIND, "name": sender.name, "uid": sender.uid}
        labels = {ORGANIZATION_LABEL: sender.spec.organization_ref.name}
        body: dict[str, Any] = {
            "metadata": {"name": sender.name, "labels": labels, "ownerReferences": [owner]},
            "type": SECRET_TYPE,
            "data": {SECRET_KEY: base64.b64encode(sealed.data).decode()},
        }
        try:
            await self._cluster.create_secret(body)
        except AlreadyExists:
            await self._replace(sender.name, body)

    async def _replace(self, name: str, body: dict[str, Any]) -> None:
        before = await self._cluster.whole_secret(name)
        if before.get("type") != SECRET_TYPE:
            # Somebody else's Secret: what is in it is not ours to overwrite.
            raise Trouble(Kind.NOT_CONFIGURED, f"Secret/{name} exists and is not of type {SECRET_TYPE}")
        await self._cluster.patch_secret(name, {"metadata": body["metadata"], "data": body["data"]})

    async def _tell(
        self, organization: Organization, sender: Sender, token: ApiToken, sealed: Sealed
    ) -> None:
        """Write the status last: it is what lets the controller resume whatever waits for the key."""
        now = self._clock.now()
        key = SenderKey(
            secret_name=sender.name,
            key_id=sealed.key_id,
            fingerprint=token.fingerprint,
            obtained_at=now.replace(microsecond=0),
            verified_at=now.replace(microsecond=0),
        )
        status = SenderStatus(
            observed_generation=sender.metadata.generation,
            conditions=with_condition(
                sender.status.conditions,
                "Authorized",
                "True",
                reason="KeyAccepted",
                message="eSignAnyWhere accepts the key.",
                now=now,
                generation=sender.metadata.generation,
            ),
            key=key,
            consent_url=organization.consent_url(sender.name),
        )
        # Whole, since the controller may have written meanwhile that the key was refused: that is older news than this. What
        # is not named here stays.
        await self._cluster.patch_status(Sender, sender.name, plain(status), resource_version=None)


def _described(organization: Organization, who: WhoAmI) -> SenderSpec:
    """Describe a user, leaving out what our own API would not take."""
    email = who.email or ""
    fits = len(email) <= _EMAIL_LENGTH and _EMAIL.fullmatch(email) is not None
    return SenderSpec(
        organization_ref=Ref(name=organization.name),
        user_id=who.user_id,
        email=email if fits else None,
        given_name=(who.given_name or "")[:_NAME_LENGTH] or None,
        surname=(who.surname or "")[:_NAME_LENGTH] or None,
    )
