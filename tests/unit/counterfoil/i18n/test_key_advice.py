"""Advice about keys: nobody is offered a mail or a page that does not exist; the command fits the cause."""

from typing import Any

import pytest
from msgspec.structs import replace

from counterfoil.i18n.catalogue import LANGUAGES
from counterfoil.i18n.key_advice import KeyAdvice, key_advice, renewal
from counterfoil.i18n.reasons import Responsible
from counterfoil.kube.secret import Placeholder, patch_command
from counterfoil.resources import Language
from counterfoil.resources.base import SecretKeyRef
from tests.support.scenes.console_parts import a_sender_that, an_organization_that

LINK = "https://pages.example.com/consent/acme/anna"
SECRET = SecretKeyRef(name="anna-key", key="token")


def advice(
    reason: str = "TokenRejected", *, spec: dict[str, Any] | None = None, **organization: Any
) -> KeyAdvice:
    sender = a_sender_that(reason=reason)
    sender = replace(sender, spec=replace(sender.spec, **(spec or {})))
    return key_advice(sender, an_organization_that(**organization), reason)


def test_where_everything_is_set_up_the_sender_acts_and_can_be_written_to() -> None:
    found = advice()
    assert (found.responsible, found.link, found.can_mail) == (Responsible.SENDER, LINK, True)
    assert found.text() == ""
    assert found.command_line("contracts") == ""


def test_a_sender_with_an_own_key_is_the_administrators_task_with_the_command_for_a_new_key() -> None:
    found = advice(spec={"token_secret_ref": SECRET})
    assert (found.responsible, found.link, found.can_mail) == (Responsible.ADMINISTRATOR, "", False)
    assert "put a new one into Secret/anna-key, key 'token'" in found.text()
    assert found.command_line("contracts") == (
        """kubectl -n contracts patch secret anna-key -p '{"stringData":{"token":"NEW-API-KEY"}}'"""
    )


def test_a_secret_that_does_not_exist_is_created_with_its_label() -> None:
    command = advice("KeyMissing", spec={"token_secret_ref": SECRET}).command_line("contracts")
    assert command == (
        "kubectl -n contracts create secret generic anna-key --from-literal=token='NEW-API-KEY' "
        "--dry-run=client -o yaml | kubectl label --local -f - counterfoil.dev/use=token -o yaml "
        "| kubectl create -f -"
    )


def test_a_secret_that_exists_without_the_key_is_not_created_again() -> None:
    command = patch_command("anna-key", "token", Placeholder.API_KEY)
    message = f"Secret/anna-key has no key 'token'. Put the user's API key there (type `{command}`)."
    sender = a_sender_that(reason="KeyMissing")
    conditions = tuple(replace(each, message=message) for each in sender.status.conditions)
    sender = replace(
        sender,
        spec=replace(sender.spec, token_secret_ref=SECRET),
        status=replace(sender.status, conditions=conditions),
    )
    found = key_advice(sender, an_organization_that(), "KeyMissing")
    assert found.command_line("contracts") == (
        """kubectl -n contracts patch secret anna-key -p '{"stringData":{"token":"NEW-API-KEY"}}'"""
    )


def test_without_a_page_for_consent_there_is_neither_link_nor_mail() -> None:
    found = advice(oauth=None)
    assert (found.responsible, found.link, found.can_mail) == (Responsible.ADMINISTRATOR, "", False)
    assert "no spec.oauth.publicURL" in found.text()
    assert found.command_line("contracts") == "kubectl -n contracts edit organization acme"


@pytest.mark.parametrize(
    ("spec", "organization", "lacks"),
    [({}, {"notifications": None}, "spec.notifications"), ({"email": None}, {}, "spec.email")],
    ids=["no mail server", "no address"],
)
def test_where_no_mail_can_be_sent_an_administrator_passes_the_link_on(
    spec: dict[str, Any], organization: dict[str, Any], lacks: str
) -> None:
    found = advice(spec=spec, **organization)
    assert (found.responsible, found.link, found.can_mail) == (Responsible.ADMINISTRATOR, LINK, False)
    assert lacks in found.text()


@pytest.mark.parametrize("spec", [{}, {"token_secret_ref": SECRET}], ids=["consent", "secret"])
def test_a_cause_of_the_administrators_keeps_its_own_text(spec: dict[str, Any]) -> None:
    found = advice("SealKeyUnknown", spec=spec)
    assert (found.responsible, found.text(), found.can_mail) == (Responsible.ADMINISTRATOR, "", False)


def test_of_an_organization_that_can_not_be_read_it_is_only_known_that_there_is_a_page() -> None:
    found = key_advice(a_sender_that(), None, "TokenRejected")
    # Who may write the status of a Sender may name any page there.
    assert (found.responsible, found.link, found.can_mail) == (Responsible.SENDER, "", True)
    assert found.command_line("contracts") == ""


@pytest.mark.parametrize("language", LANGUAGES)
def test_each_advice_is_said_in_each_language(language: str) -> None:
    found = (
        advice(spec={"token_secret_ref": SECRET}),
        advice(oauth=None),
        advice(notifications=None),
        advice(spec={"email": None}),
    )
    assert len({each.text(Language(language)) for each in found}) == len(found)


@pytest.mark.parametrize(
    ("spec", "organization", "text"),
    [
        ({}, {}, "The sender has to give consent again."),
        ({}, {"oauth": None}, "Organization/acme has no spec.oauth.publicURL, so there is no page"),
        ({"email": None}, {}, "The sender has to give consent again. Sender/anna has no spec.email"),
        pytest.param(
            {"token_secret_ref": SECRET},
            {},
            "Sender/anna brings a key: put a new one into Secret/anna-key",
        ),
    ],
    ids=["consent", "no page", "no address", "secret"],
)
def test_a_condition_asks_nobody_for_a_consent_that_gives_no_key(
    spec: dict[str, Any], organization: dict[str, Any], text: str
) -> None:
    sender = a_sender_that()
    sender = replace(sender, spec=replace(sender.spec, **spec))
    assert renewal(sender, an_organization_that(**organization), "TokenRejected").startswith(text)
