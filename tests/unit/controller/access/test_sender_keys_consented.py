"""
The keys of senders who consented: sealed in the Secret named like the Sender, opened with the sealing keys.
"""

import base64
import os
from pathlib import Path
from typing import Any

import pytest

from controller.access.secret_cache import SecretCache
from controller.access.sender_keys import KeyStateUnknown, KeyUnusable, SenderKeys
from controller.cache import Cache
from counterfoil.esaw import ApiToken
from counterfoil.resources import LocalObjectReference, Sender, SenderKey, find_condition
from counterfoil.resources.base import ObjectMeta
from counterfoil.resources.sender import SenderSpec, SenderStatus
from counterfoil.sealing import SECRET_TYPE, Sealing
from tests.support.builders import (
    ANNA,
    FURTHER_ADDRESS,
    KEY,
    ORIGIN,
    OTHER_KEY,
    OWN_ADDRESS,
    AClock,
    an_organization,
)
from tests.support.fakes.esaw import KeyCheckingEsawClient
from tests.support.fakes.kube import InMemoryKubeClient

ACCEPTED = {
    "type": "Authorized",
    "status": "True",
    "reason": "KeyAccepted",
    "message": "",
    "lastTransitionTime": "2026-07-01T12:00:00Z",
}
WITHOUT_PAGE = {"clientID": "counterfoil", "clientSecretRef": {"name": "oauth", "key": "secret"}}
WITH_PAGE = {**WITHOUT_PAGE, "publicURL": "https://pages.example.com"}
CONSENT_URL = "https://pages.example.com/consent/acme/0123456789abcdef"


def a_consented_sender(name: str = "0123456789abcdef", **status: Any) -> Sender:
    return Sender(
        metadata=ObjectMeta(name=name, uid=f"uid-{name}", resource_version="1", generation=1),
        spec=SenderSpec(organization_ref=LocalObjectReference(name="acme"), user_id=ANNA),
        status=SenderStatus(**status),
    )


class Scene:
    """A consented Sender, its sealed Secret, and the sender keys."""

    def __init__(self, folder: Path, **status: Any) -> None:
        self.folder = folder
        self.new_sealing_key("2026-01")
        self.sealing = Sealing(folder)
        self.sender = a_consented_sender(**status)
        self.kube = InMemoryKubeClient(self.sender)
        self.esaw = KeyCheckingEsawClient(**{OTHER_KEY: ANNA})
        self.clock = AClock()
        self.cache = Cache()
        self.cache.update(an_organization(oauth=WITH_PAGE))
        self.sender_keys = SenderKeys(
            self.kube,
            self.cache,
            SecretCache(self.kube, self.clock),
            self.clock,
            OWN_ADDRESS,
            sealing=self.sealing,
        )

    def new_sealing_key(self, key_id: str) -> None:
        (self.folder / key_id).write_bytes(base64.b64encode(os.urandom(32)))

    def consent(self, key: str = KEY, *, sealed_for: Sender | None = None) -> None:
        sealed = self.sealing.seal_with_newest(
            ApiToken.parse(key, ORIGIN), "tests", sealed_for or self.sender
        )
        self.kube.secret_types[self.sender.name] = SECRET_TYPE
        self.kube.secrets[self.sender.name] = {"token": sealed.data}

    def newest(self) -> Sender:
        return Sender.parse(self.kube.objects["senders", self.sender.name])

    async def ask(self) -> str:
        return (await self.sender_keys.key(self.newest(), self.esaw)).reveal()

    async def refusal(self) -> str:
        with pytest.raises(KeyUnusable) as refused:
            await self.ask()
        authorized = find_condition(self.newest().status.conditions, "Authorized")
        assert authorized is not None
        assert (authorized.status, authorized.reason) == ("False", refused.value.reason)
        return refused.value.reason


async def test_the_key_of_a_sender_who_consented_is_opened_and_verified(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    scene.consent()

    assert await scene.ask() == KEY

    key = scene.newest().status.key
    assert key is not None
    assert (key.secret_name, key.key_id) == (scene.sender.name, "2026-01")
    assert KEY not in str(scene.kube.objects)


async def test_without_a_secret_the_consent_is_required_and_the_sender_says_where(tmp_path: Path) -> None:
    scene = Scene(tmp_path)

    assert await scene.refusal() == "ConsentRequired"

    assert scene.newest().status.consent_url == CONSENT_URL


async def test_a_secret_that_was_there_and_is_gone_is_missing(tmp_path: Path) -> None:
    scene = Scene(tmp_path, key=SenderKey(fingerprint="0123abcd"))

    assert await scene.refusal() == "KeyMissing"


async def test_the_secret_of_another_sender_does_not_open(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    scene.consent(sealed_for=a_consented_sender("fedcba9876543210"))

    assert await scene.refusal() == "SealBroken"
    assert scene.esaw.asked == []


@pytest.mark.parametrize("is_sealed", [True, False], ids=["SealBroken", "KeyMissing"])
async def test_the_condition_of_a_key_that_nobody_can_renew_says_what_the_organization_lacks(
    tmp_path: Path, *, is_sealed: bool
) -> None:
    scene = Scene(tmp_path, key=SenderKey(fingerprint="0123abcd"))
    scene.cache.organizations.remove("acme")
    scene.cache.organizations.put(an_organization(oauth=WITHOUT_PAGE))
    if is_sealed:
        scene.consent(sealed_for=a_consented_sender("fedcba9876543210"))
    await scene.refusal()
    authorized = find_condition(scene.newest().status.conditions, "Authorized")
    assert authorized is not None
    assert "has no spec.oauth.publicURL, so there is no page for consent" in authorized.message
    assert "give its consent again" not in authorized.message


async def test_a_sealing_key_that_is_gone_is_named_and_counts_again_when_it_is_back(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    scene.consent()
    kept = (tmp_path / "2026-01").read_bytes()
    scene.new_sealing_key("2026-07")
    (tmp_path / "2026-01").unlink()
    with pytest.raises(KeyStateUnknown):
        await scene.ask()
    scene.clock.advance(minutes=5)
    assert await scene.refusal() == "SealKeyUnknown"

    (tmp_path / "2026-01").write_bytes(kept)

    assert await scene.ask() == KEY


async def test_a_sealing_key_that_kubernetes_mounts_late_opens_the_key_without_a_person(
    tmp_path: Path,
) -> None:
    scene = Scene(tmp_path)
    scene.consent()
    late = (tmp_path / "2026-01").rename(tmp_path.with_name("late"))
    scene.new_sealing_key("2025-07")
    with pytest.raises(KeyStateUnknown) as pending:
        await scene.ask()
    assert pending.value.reason == "SealKeyPending"
    late.rename(tmp_path / "2026-01")
    scene.clock.advance(minutes=1)
    assert await scene.ask() == KEY


async def test_a_sealing_key_that_is_not_mounted_here_yet_is_waited_for_before_it_is_an_alarm(
    tmp_path: Path,
) -> None:
    scene = Scene(tmp_path)
    scene.new_sealing_key("2026-07")
    scene.consent()
    mounted = (tmp_path / "2026-07").read_bytes()
    (tmp_path / "2026-07").unlink()
    with pytest.raises(KeyStateUnknown):
        await scene.ask()
    scene.clock.advance(minutes=4)
    with pytest.raises(KeyStateUnknown) as waiting:
        await scene.ask()
    authorized = find_condition(scene.newest().status.conditions, "Authorized")
    assert authorized is not None
    assert (authorized.status, authorized.reason) == ("Unknown", waiting.value.reason)

    (tmp_path / "2026-07").write_bytes(mounted)

    assert await scene.ask() == KEY


async def test_a_new_key_that_the_pages_just_wrote_is_used_and_not_the_one_remembered(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    scene.consent(KEY)
    assert await scene.ask() == KEY
    scene.esaw.users.pop(KEY)

    scene.consent(OTHER_KEY)
    told = {
        "status": {"key": {"fingerprint": ApiToken.parse(OTHER_KEY, ORIGIN).fingerprint, "origin": ORIGIN}}
    }
    scene.kube.edit(Sender, scene.sender.name, told)

    assert await scene.ask() == OTHER_KEY
    authorized = find_condition(scene.newest().status.conditions, "Authorized")
    assert authorized is not None
    assert authorized.status == "True"


async def test_a_consent_counts_although_it_is_remembered_that_there_was_no_secret_a_moment_ago(
    tmp_path: Path,
) -> None:
    """Otherwise a sender who has just given consent would be asked again within seconds."""
    scene = Scene(tmp_path)
    assert await scene.refusal() == "ConsentRequired"

    scene.consent()
    told = {
        "key": {"fingerprint": ApiToken.parse(KEY, ORIGIN).fingerprint, "origin": ORIGIN},
        "conditions": [ACCEPTED],
    }
    scene.kube.edit(Sender, scene.sender.name, {"status": told})

    assert await scene.ask() == KEY
    authorized = find_condition(scene.newest().status.conditions, "Authorized")
    assert authorized is not None
    assert authorized.status == "True"


async def test_in_a_further_namespace_the_link_names_it_before_the_organization_reports_it(
    tmp_path: Path,
) -> None:
    scene = Scene(tmp_path)
    scene.sender_keys.addressed = FURTHER_ADDRESS

    assert await scene.refusal() == "ConsentRequired"

    assert scene.newest().status.consent_url == CONSENT_URL.replace("/consent/", "/consent/tests/")


async def test_a_controller_without_sealing_keys_reports_it(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    scene.consent()
    clock = AClock()
    scene.sender_keys = SenderKeys(
        scene.kube, scene.cache, SecretCache(scene.kube, clock), clock, OWN_ADDRESS
    )

    assert await scene.refusal() == "SealingKeysMissing"


async def test_a_consented_key_stays_with_its_esaw_until_a_consent_elsewhere(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    scene.consent()
    assert await scene.ask() == KEY
    scene.esaw.asked.clear()

    scene.esaw.origin = "https://elsewhere.example"
    assert await scene.refusal() == "OriginChanged"
    assert scene.esaw.asked == []

    token = ApiToken.parse(OTHER_KEY, scene.esaw.origin)
    scene.kube.secrets[scene.sender.name] = {
        "token": scene.sealing.seal_with_newest(token, "tests", scene.sender).data
    }
    scene.clock.advance(seconds=11)
    assert await scene.ask() == OTHER_KEY
    key = scene.newest().status.key
    assert key is not None
    assert key.origin == "https://elsewhere.example"
