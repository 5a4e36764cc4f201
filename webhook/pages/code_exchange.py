"""
Get a user's key with an authorization code, and store it sealed in a Secret beside the user's Sender.

``obtain`` calls eSAW and stores nothing; it refuses a user other than the one in the link. ``store`` writes
the Sender, then the Secret, then the Sender's status; each write can be repeated. A kill in between leaves a
Sender without a key, or a key that the controller verifies. The log has only names.
"""

import base64
import re
from dataclasses import dataclass
from typing import Any, Final

from counterfoil import resources
from counterfoil.clock import Clock
from counterfoil.esaw import ApiToken, EsawClient, EsawError, WhoAmI
from counterfoil.esaw.oauth import AuthorizationCodeGrant, request_access_token
from counterfoil.kube.client import KubeClient
from counterfoil.kube.errors import AlreadyExists, Forbidden, NotFound, Rejected
from counterfoil.kube.secret import SecretUse
from counterfoil.origin import belongs_to, origin_of
from counterfoil.readiness import with_sender_readiness
from counterfoil.resources import Organization, Sender, SenderSpec, is_same_user, to_json_dict
from counterfoil.resources.organization import OAuth, Pkce
from counterfoil.sealing import SECRET_KEY, SECRET_TYPE, SealBroken, Sealed, Sealing, SealKeyUnknown
from webhook.http_server.errors import HttpErrorKind, PageError
from webhook.pages.cookies import OAuthFlow
from webhook.pages.errors import PageErrorKind, from_esaw, from_token_endpoint

_EMAIL: Final = re.compile(r"[^@\s,;<>]+@[^@\s,;<>]+")
_EMAIL_LENGTH: Final = 254
_NAME_LENGTH: Final = 256


@dataclass(frozen=True)
class Consent:
    """A user's key, and whose it is as eSAW says."""

    token: ApiToken
    user_info: WhoAmI


@dataclass(frozen=True)
class ConsentService:
    """Obtains keys and puts them away."""

    kube: KubeClient
    sealing: Sealing
    clock: Clock

    async def obtain(
        self,
        esaw: EsawClient,
        organization: Organization,
        oauth: OAuth,
        flow: OAuthFlow,
        *,
        code: str,
        redirect_uri: str,
    ) -> Consent:
        """Exchange the code and make sure whose key it is. Raises ``PageError``, ``ApiError``."""
        grant = AuthorizationCodeGrant(
            client_id=oauth.client_id,
            client_secret=await self._client_secret(organization, oauth, esaw.origin),
            code=code,
            redirect_uri=redirect_uri,
            origin=esaw.origin,
            verifier=flow.verifier if oauth.pkce is Pkce.S256 else None,
            client_authentication=oauth.client_authentication,
        )
        try:
            token = await request_access_token(esaw, oauth.token_path, grant)
        except EsawError as problem:
            raise from_token_endpoint(problem, oauth) from problem
        try:
            user_info = await esaw.as_user(token).whoami()
        except EsawError as problem:
            raise from_esaw(problem) from problem
        if not is_same_user(user_info.user_id, flow.user_id):
            raise PageError(
                PageErrorKind.WRONG_USER,
                "another user than the link's",
                user=user_info.email or user_info.user_name or "?",
            )
        return Consent(token, user_info)

    async def store(self, organization: Organization, consent: Consent, name: str) -> Sender:
        """Store the key for the Sender of that name, and return it. Raises ``PageError``, ``ApiError``."""
        sender = await self._ensure_sender(organization, consent.user_info, name)
        if organization.status.sealing_key is not None:
            self.sealing.note_reported_key(organization.status.sealing_key)
        sealed = self.sealing.seal(consent.token, self.kube.namespace, sender)
        await self._store_secret(sender, sealed)
        await self._mark_authorized(organization, sender, consent.token, sealed)
        return sender

    async def find_sender(self, organization: Organization, name: str) -> Sender | None:
        """Return the Sender of that name if it is this organization's. Raises ``ApiError``."""
        try:
            sender = Sender.parse(await self.kube.get(Sender, name))
        except NotFound:
            return None
        return sender if sender.spec.organization_ref.name == organization.name else None

    async def get_token(self, sender: Sender, esaw: EsawClient) -> ApiToken | None:
        """Return the stored key of a Sender; None when there is none that opens and belongs to this eSAW.
        Raises ``ApiError``."""
        try:
            data = (await self.kube.secret(sender.name)).data.get(SECRET_KEY, b"")
            token = self.sealing.open(data, self.kube.namespace, sender)
        except (NotFound, SealBroken, SealKeyUnknown):
            return None
        return token if token.origin == esaw.origin else None

    async def confirm_origin(self, organization: Organization, oauth: OAuth) -> None:
        """
        Make sure that the OAuth application belongs to this eSAW, before a person is led there to log in.

        Raises ``PageError``, ``ApiError``.
        """
        origin = origin_of(organization.spec.base_url)
        if organization.status.origin != origin:
            await self._client_secret(organization, oauth, origin)

    async def _client_secret(self, organization: Organization, oauth: OAuth, origin: str) -> str:
        """Return the client secret if it belongs to this origin: by its annotation, else to the first one of
        its Organization, which the controller recorded."""
        ref = oauth.client_secret_ref
        try:
            secret = await self.kube.secret(ref.name)
            if (fault := secret.use_fault(SecretUse.OAUTH)) is not None:
                raise PageError(PageErrorKind.NOT_CONFIGURED, fault)
            if (fault := secret.placeholder_fault(ref.key)) is not None:
                raise PageError(PageErrorKind.NOT_CONFIGURED, fault)
            owner = belongs_to(secret.origin, organization.status.origin)
            if owner != origin:
                raise _other_origin(organization, ref.name, owner, origin)
            value = secret.data[ref.key].decode("ascii").strip()
        except NotFound:
            detail = " does not exist"
        except Forbidden:
            detail = " may not be read"
        except (KeyError, UnicodeDecodeError):
            detail = f" has no usable key {ref.key!r}"
        else:
            if value:
                return value
            detail = f", key {ref.key!r} is empty"
        raise PageError(PageErrorKind.NOT_CONFIGURED, f"Secret/{ref.name}{detail}")

    async def _ensure_sender(self, organization: Organization, user_info: WhoAmI, name: str) -> Sender:
        spec_of_user = _sender_spec(organization, user_info)
        new = {
            "apiVersion": Sender.API_VERSION,
            "kind": Sender.KIND,
            "metadata": {"name": name, "labels": {resources.ORGANIZATION_LABEL: organization.name}},
            "spec": to_json_dict(spec_of_user),
        }
        sender = await self.find_sender(organization, name)
        if sender is None:
            if not organization.has_room_for_sender:
                most = organization.spec.limits.senders
                detail = f"Organization/{organization.name} has {most} Senders (spec.limits.senders)"
                raise PageError(PageErrorKind.TOO_MANY_SENDERS, detail)
            try:
                return Sender.parse(await self.kube.create(Sender, new))
            except AlreadyExists:
                # Two windows of one user at once; or a Sender of this name belongs to another organization.
                sender = await self.find_sender(organization, name)
        if sender is None or not is_same_user(sender.spec.user_id, user_info.user_id):
            raise PageError(HttpErrorKind.NOT_FOUND, f"Sender/{name} belongs to somebody else")
        if sender.metadata.deletion_timestamp is not None:
            # Kubernetes deletes the key's Secret with its owner.
            raise PageError(HttpErrorKind.CLUSTER_DOWN, f"Sender/{name} is being deleted")
        if sender.spec.token_secret_ref is not None:
            raise PageError(PageErrorKind.BRINGS_KEY, f"Sender/{name} has a spec.tokenSecretRef")
        return await self._update_sender(sender, spec_of_user)

    async def _update_sender(self, sender: Sender, spec_of_user: SenderSpec) -> Sender:
        """Follow a user who got another name or address."""
        before, after = to_json_dict(sender.spec), to_json_dict(spec_of_user)
        personal = after.keys() & {"email", "givenName", "surname"}
        changes = {key: after[key] for key in personal if after[key] != before.get(key)}
        if not changes:
            return sender
        return Sender.parse(await self.kube.patch(Sender, sender.name, {"spec": changes}))

    async def _store_secret(self, sender: Sender, sealed: Sealed) -> None:
        owner = {
            "apiVersion": Sender.API_VERSION,
            "kind": Sender.KIND,
            "name": sender.name,
            "uid": sender.uid,
        }
        labels = {resources.ORGANIZATION_LABEL: sender.spec.organization_ref.name}
        body: dict[str, Any] = {
            "metadata": {"name": sender.name, "labels": labels, "ownerReferences": [owner]},
            "type": SECRET_TYPE,
            "data": {SECRET_KEY: base64.b64encode(sealed.data).decode()},
        }
        try:
            await self.kube.create_secret(body)
        except AlreadyExists:
            await self._replace_secret(sender.name, body)

    async def _replace_secret(self, name: str, body: dict[str, Any]) -> None:
        try:
            await self.kube.patch_secret(name, body)
        except Rejected as refused:
            # The type of a Secret never changes: it is another owner's, which Counterfoil must not overwrite.
            detail = f"Secret/{name} exists and can't be one of type {SECRET_TYPE}: {refused}"
            raise PageError(PageErrorKind.NOT_CONFIGURED, detail) from refused

    async def _mark_authorized(
        self, organization: Organization, sender: Sender, token: ApiToken, sealed: Sealed
    ) -> None:
        """Write the status last: it lets the controller resume the events that wait for the key."""
        now = self.clock.now()
        key = resources.SenderKey(
            secret_name=sender.name,
            key_id=sealed.key_id,
            fingerprint=token.fingerprint,
            origin=token.origin,
            obtained_time=now.replace(microsecond=0),
            verified_time=now.replace(microsecond=0),
        )
        status = resources.SenderStatus(
            conditions=resources.with_condition(
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
        status = with_sender_readiness(sender, status, now=now)
        # Whole, since the controller may have written meanwhile that the key was refused: that is older news
        # than this. What is not named here stays.
        await self.kube.patch_status(Sender, sender.name, to_json_dict(status), resource_version=None)


def _other_origin(organization: Organization, secret: str, owner: str | None, origin: str) -> PageError:
    """Return the error about a client secret that is not sent to this origin. Only the controller, which asks
    the server there, knows whether a person may be shown the command that confirms it."""
    found = f"belongs to {owner}" if owner else "names no origin, and none is confirmed yet"
    detail = (
        f"the client secret in Secret/{secret} {found}, so it was not sent to {origin}, where spec.baseURL "
        f"of Organization/{organization.name} leads. Condition Ready of the Organization says what to do."
    )
    return PageError(PageErrorKind.NOT_CONFIGURED, detail)


def _sender_spec(organization: Organization, user_info: WhoAmI) -> SenderSpec:
    """Describe a user, leaving out what our own API would not take."""
    email = user_info.email or ""
    fits = len(email) <= _EMAIL_LENGTH and _EMAIL.fullmatch(email) is not None
    return SenderSpec(
        organization_ref=resources.LocalObjectReference(name=organization.name),
        user_id=user_info.user_id,
        email=email if fits else None,
        given_name=(user_info.given_name or "")[:_NAME_LENGTH] or None,
        surname=(user_info.surname or "")[:_NAME_LENGTH] or None,
    )
