"""Consents: the status that is written when a key is stored, also while others write to the object."""

import base64
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from counterfoil.esaw import ApiToken, WhoAmI
from counterfoil.resources import Sender, find_condition, is_condition_true
from counterfoil.sealing import SECRET_KEY, Sealing
from tests.support.builders import AClock, a_sender, an_organization
from tests.support.fakes.kube import InMemoryKubeClient
from webhook.pages.consent import Consent, ConsentService


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
        an_organization(), Consent(ApiToken.parse(b"an-old-token-0123456789"), user_info), "anna"
    )

    kube.just_before("patch_status", lambda: kube.edit(Sender, "anna", {"status": told}))
    await consent_service.store(
        an_organization(), Consent(ApiToken.parse(b"a-new-token-0123456789"), user_info), "anna"
    )

    after = Sender.parse(await kube.get(Sender, "anna"))
    assert is_condition_true(after.status.conditions, "Ready")
    assert not is_condition_true(after.status.conditions, "Stalled")
    authorized = find_condition(after.status.conditions, "Authorized")
    assert authorized is not None
    assert (authorized.status, authorized.reason) == ("True", "KeyAccepted")
    assert after.status.key is not None
    assert after.status.notified_time is not None, "the fields that others wrote stay"
