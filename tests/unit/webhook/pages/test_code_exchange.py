"""Consents: the status that is written when a key is stored, also while others write to the object."""

import base64
import os
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from msgspec.structs import replace

from counterfoil.esaw import ApiToken, EsawClient, WhoAmI, new_http_client
from counterfoil.kube.errors import AlreadyExists, Rejected, Unavailable
from counterfoil.origin import ORIGIN_ANNOTATION
from counterfoil.resources import (
    EventLoad,
    OrganizationStatus,
    Sender,
    find_condition,
    is_condition_true,
)
from counterfoil.resources.organization import SealingKeyStatus
from counterfoil.sealing import SECRET_KEY, SECRET_TYPE, Sealing, key_id_of
from tests.support.builders import NOON, ORIGIN, AClock, a_sender, an_organization
from tests.support.fakes.kube import InMemoryKubeClient
from webhook.http_server.errors import HttpErrorKind, PageError
from webhook.pages.code_exchange import Consent, ConsentService
from webhook.pages.cookies import OAuthFlow
from webhook.pages.errors import PageErrorKind


class SecretCreatingKubeClient(InMemoryKubeClient):
    """Takes new Secrets as well."""

    async def create_secret(self, body: Mapping[str, Any]) -> None:
        self.secrets[body["metadata"]["name"]] = {SECRET_KEY: base64.b64decode(body["data"][SECRET_KEY])}


async def test_a_new_key_counts_even_if_the_controller_writes_meanwhile_that_the_old_one_was_refused(
    tmp_path: Path,
) -> None:
    (tmp_path / "k1").write_bytes(base64.b64encode(os.urandom(32)))
    before = a_sender(tokenSecretRef=None)
    kube = SecretCreatingKubeClient(before)
    told = {
        "notifiedTime": "2026-07-01T12:00:05Z",
        "conditions": a_sender(authorized="False").to_dict()["status"]["conditions"],
    }
    user_info = WhoAmI(
        user_id=before.spec.user_id, email="anna@example.com", given_name="Anna", surname="Kofler"
    )
    consent_service = ConsentService(kube, Sealing(tmp_path), AClock())
    await consent_service.store(
        an_organization(), Consent(ApiToken.parse(b"an-old-token-0123456789", ORIGIN), user_info), "anna"
    )

    kube.just_before("patch_status", lambda: kube.edit(Sender, "anna", {"status": told}))
    await consent_service.store(
        an_organization(), Consent(ApiToken.parse(b"a-new-token-0123456789", ORIGIN), user_info), "anna"
    )

    after = Sender.parse(await kube.get(Sender, "anna"))
    assert is_condition_true(after.status.conditions, "Ready")
    assert not is_condition_true(after.status.conditions, "Stalled")
    authorized = find_condition(after.status.conditions, "Authorized")
    assert authorized is not None
    assert (authorized.status, authorized.reason) == ("True", "KeyAccepted")
    assert after.status.key is not None
    assert after.status.notified_time is not None, "the fields that others wrote stay"


class ReplacingKubeClient(InMemoryKubeClient):
    """Has a Secret of that name, which it can't read."""

    async def create_secret(self, body: Mapping[str, Any]) -> None:
        raise AlreadyExists(409, "AlreadyExists", "it exists")

    async def patch_secret(self, name: str, changes: Mapping[str, Any]) -> None:
        if changes["type"] != self.secret_types[name]:
            raise Rejected(422, "Invalid", "type: field is immutable")
        self.secrets[name] = {SECRET_KEY: base64.b64decode(changes["data"][SECRET_KEY])}


async def replaced(folder: Path, type_: str) -> bytes:
    """Store a key for a Sender whose Secret of this type can't be read; return what it has then."""
    (folder / "k1").write_bytes(base64.b64encode(os.urandom(32)))
    sender = a_sender(tokenSecretRef=None)
    kube = ReplacingKubeClient(sender)
    kube.secrets["anna"], kube.secret_types["anna"] = {SECRET_KEY: b"before"}, type_
    kube.fail("secret", Unavailable(500, "InternalError", "unable to transform key"))
    consent = Consent(ApiToken.parse(b"a-new-token-0123456789", ORIGIN), WhoAmI(user_id=sender.spec.user_id))
    await ConsentService(kube, Sealing(folder), AClock()).store(an_organization(), consent, "anna")
    return kube.secrets["anna"][SECRET_KEY]


async def test_a_new_consent_needs_nothing_of_the_secret_that_it_replaces(tmp_path: Path) -> None:
    assert await replaced(tmp_path, SECRET_TYPE) != b"before"


async def test_a_new_consent_replaces_no_secret_of_another_type(tmp_path: Path) -> None:
    with pytest.raises(PageError, match="exists and can't be one of type") as refused:
        await replaced(tmp_path, "Opaque")
    assert refused.value.kind is PageErrorKind.NOT_CONFIGURED


async def test_no_key_is_stored_for_a_sender_that_is_being_deleted(tmp_path: Path) -> None:
    (tmp_path / "k1").write_bytes(base64.b64encode(os.urandom(32)))
    sender = a_sender(tokenSecretRef=None)
    kube = SecretCreatingKubeClient(sender)
    kube.edit(Sender, "anna", {"metadata": {"deletionTimestamp": "2026-07-01T12:00:00Z"}})
    consent = Consent(ApiToken.parse(b"a-new-token-0123456789", ORIGIN), WhoAmI(user_id=sender.spec.user_id))

    with pytest.raises(PageError) as raised:
        await ConsentService(kube, Sealing(tmp_path), AClock()).store(an_organization(), consent, "anna")

    assert raised.value.kind is HttpErrorKind.CLUSTER_DOWN
    assert kube.secrets == {}


# -- The sealing key of a pod that has just started ----------------------------------------------------------


async def sealer_of_a_new_pod(folder: Path, known_for: timedelta, hash_: str | None = None) -> set[str]:
    """Return the ids of the keys with which a pod seals whose files are new; the controllers have had the
    newest key for ``known_for``."""
    for key_id in ("2026-01", "2026-07"):
        (folder / key_id).write_bytes(base64.b64encode(os.urandom(32)))
    now, before = datetime.now(UTC), a_sender(tokenSecretRef=None)
    sealing = Sealing(folder, AClock(now))
    reported = SealingKeyStatus("2026-07", hash_ or sealing.newest_hash, now - known_for)
    organization = replace(an_organization(), status=OrganizationStatus(sealing_key=reported))
    kube = SecretCreatingKubeClient(before)
    consent = Consent(ApiToken.parse(b"a-token-0123456789", ORIGIN), WhoAmI(user_id=before.spec.user_id))

    await ConsentService(kube, sealing, AClock(now)).store(organization, consent, "anna")

    return {key_id_of(kube.secrets["anna"][SECRET_KEY]), key_id_of(sealing.seal_for("flow", b"state"))}


@pytest.mark.parametrize("known_for", [timedelta(minutes=5), timedelta(days=90)])
async def test_a_new_pod_seals_with_the_newest_key_once_the_controllers_have_had_it_for_five_minutes(
    tmp_path: Path, known_for: timedelta
) -> None:
    assert await sealer_of_a_new_pod(tmp_path, known_for) == {"2026-07"}


@pytest.mark.parametrize(
    ("known_for", "hash_"),
    [
        (timedelta(minutes=4), None),
        (timedelta(minutes=-30), None),
        (timedelta(days=90), "the hash of another key"),
    ],
)
async def test_a_new_pod_does_not_seal_with_a_newest_key_that_another_process_may_lack(
    tmp_path: Path, known_for: timedelta, hash_: str | None
) -> None:
    assert await sealer_of_a_new_pod(tmp_path, known_for, hash_) == {"2026-01"}


# -- The ceiling of Senders ---------------------------------------------------------------------------------


async def consented(folder: Path, kube: InMemoryKubeClient, senders: int, limit: int = 100) -> Sender:
    """Store the consent of a user, in an Organization with this number of Senders."""
    (folder / "k1").write_bytes(base64.b64encode(os.urandom(32)))
    load = EventLoad(count_time=NOON, senders=senders)
    organization = replace(an_organization(limits={"senders": limit}), status=OrganizationStatus(load=load))
    user_info = WhoAmI(user_id=a_sender().spec.user_id)
    consent = Consent(ApiToken.parse(b"a-token-0123456789", ORIGIN), user_info)
    return await ConsentService(kube, Sealing(folder), AClock()).store(organization, consent, "anna")


async def test_no_sender_is_created_beyond_the_ceiling_of_the_organization(tmp_path: Path) -> None:
    kube = SecretCreatingKubeClient()

    with pytest.raises(PageError) as refused:
        await consented(tmp_path, kube, 100)

    assert refused.value.kind is PageErrorKind.TOO_MANY_SENDERS
    assert "spec.limits.senders" in str(refused.value)
    assert (kube.objects, kube.secrets) == ({}, {})


async def test_below_the_ceiling_a_sender_is_created(tmp_path: Path) -> None:
    kube = SecretCreatingKubeClient()
    assert (await consented(tmp_path, kube, 99)).name == "anna"
    assert SECRET_KEY in kube.secrets["anna"]


async def test_once_the_limit_is_raised_as_near_sender_ceiling_says_the_next_try_creates_the_sender(
    tmp_path: Path,
) -> None:
    # The advice of the reason NearSenderCeiling.
    kube = SecretCreatingKubeClient()
    with pytest.raises(PageError):
        await consented(tmp_path, kube, 100)
    assert (await consented(tmp_path, kube, 100, limit=200)).name == "anna"


async def test_a_sender_that_exists_gets_a_new_key_beyond_the_ceiling(tmp_path: Path) -> None:
    kube = SecretCreatingKubeClient(a_sender(tokenSecretRef=None))
    await consented(tmp_path, kube, 500)
    assert SECRET_KEY in kube.secrets["anna"]


# -- The client secret ---------------------------------------------------------------------------------------

OAUTH = {"clientID": "c", "clientSecretRef": {"name": "oauth", "key": "secret"}}
ELSEWHERE = "https://elsewhere.example"


def a_service(
    tmp_path: Path, annotation: str | None = None, secret: bytes = b"client-secret"
) -> ConsentService:
    (tmp_path / "k1").write_bytes(base64.b64encode(os.urandom(32)))
    kube = InMemoryKubeClient()
    kube.put_secret("oauth", "oauth", {"secret": secret})
    kube.secret_annotations["oauth"] = {} if annotation is None else {ORIGIN_ANNOTATION: annotation}
    return ConsentService(kube, Sealing(tmp_path), AClock())


@pytest.mark.parametrize(
    ("recorded", "annotation", "is_confirmed"),
    [
        (ORIGIN, None, True),
        (None, None, False),
        (ELSEWHERE, None, False),
        (None, ORIGIN, True),
        (ELSEWHERE, ORIGIN, True),
        (None, ELSEWHERE, False),
        (None, "no origin", False),
    ],
)
async def test_nobody_is_led_to_an_esaw_that_the_client_secret_does_not_belong_to(
    tmp_path: Path, recorded: str | None, annotation: str | None, is_confirmed: bool
) -> None:
    consent_service = a_service(tmp_path, annotation)
    organization = replace(an_organization(oauth=OAUTH), status=OrganizationStatus(origin=recorded))
    oauth = organization.spec.oauth
    assert oauth is not None
    if is_confirmed:
        await consent_service.confirm_origin(organization, oauth)
        return
    with pytest.raises(PageError) as refused:
        await consent_service.confirm_origin(organization, oauth)
    assert refused.value.kind is PageErrorKind.NOT_CONFIGURED
    assert f"counterfoil.dev/origin={ORIGIN}" not in str(refused.value)
    assert str(refused.value).endswith("Condition Ready of the Organization says what to do.")
    assert "client-secret" not in str(refused.value)


async def test_a_stored_key_is_given_out_for_its_own_esaw_only(tmp_path: Path) -> None:
    consent_service, sender = a_service(tmp_path), a_sender(tokenSecretRef=None)
    token = ApiToken.parse("a-token-0123456789", ORIGIN)
    sealed = consent_service.sealing.seal(token, consent_service.kube.namespace, sender)
    cast("InMemoryKubeClient", consent_service.kube).secrets[sender.name] = {"token": sealed.data}
    async with new_http_client() as http:
        own, other = (
            EsawClient(url, http=http, clock=AClock(), observe=lambda *_: None) for url in (ORIGIN, ELSEWHERE)
        )
        assert await consent_service.get_token(sender, own) == token
        assert await consent_service.get_token(sender, other) is None


async def sent_nowhere(consent_service: ConsentService) -> None:
    """Expect that no client secret is sent for a consent."""
    organization = replace(an_organization(oauth=OAUTH), status=OrganizationStatus(origin=ORIGIN))
    assert organization.spec.oauth is not None
    flow = OAuthFlow(
        organization="acme",
        user_id="u-anna",
        sender="anna",
        draft=None,
        state="s",
        verifier="v" * 43,
        expires=datetime.max.replace(tzinfo=UTC),
    )
    async with new_http_client() as http:
        esaw = EsawClient(ORIGIN, http=http, clock=AClock(), observe=lambda *_: None)
        with pytest.raises(PageError) as refused:
            await consent_service.obtain(
                esaw, organization, organization.spec.oauth, flow, code="code", redirect_uri="https://x.test"
            )
    assert refused.value.kind is PageErrorKind.NOT_CONFIGURED


async def test_a_client_secret_whose_annotation_is_empty_is_sent_nowhere(tmp_path: Path) -> None:
    await sent_nowhere(a_service(tmp_path, ""))


async def test_the_placeholder_of_a_command_is_no_client_secret_and_is_sent_nowhere(tmp_path: Path) -> None:
    await sent_nowhere(a_service(tmp_path, ORIGIN, b"NEW-CLIENT-SECRET\n"))
