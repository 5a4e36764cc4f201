"""
Advice about a Sender's key: who must act, and with which command. Pure.

The console, the plugin and the condition Authorized of the Sender have their texts from here.

A sender renews the key only on the consent page. Without that page, or with a key from a Secret, an
administrator must act. The texts are in the catalogue of the console, section ``key``.
"""

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from counterfoil.i18n.catalogue import CatalogueName, load_catalogue
from counterfoil.i18n.reasons import Responsible, find_reason
from counterfoil.kube.secret import (
    Placeholder,
    SecretUse,
    create_command,
    in_namespace,
    patch_command,
)
from counterfoil.resources import REQUEST_LABEL, Language, Organization, Sender, find_condition
from counterfoil.resources.base import SecretKeyRef

NO_CONSENT_PAGE = "page"
"""Name of the text for an Organization without a page for consent."""

NOT_CONFIGURED = "KeyNotConfigured"
"""Reason that stands for each key that its sender cannot renew, because the Organization has no such page."""


@dataclass(frozen=True)
class KeyAdvice:
    """Advice about the key of one Sender."""

    responsible: Responsible
    text_name: str = ""
    """Name of its text; empty: the text of the reason says all."""
    values: Mapping[str, str] = field(default_factory=dict)
    command: str = ""
    """A command of kubectl without the namespace; empty for none."""
    link: str = ""
    """Address of the consent page; empty where there is none."""
    can_mail: bool = False
    """Whether the consent mail can be sent again."""
    can_consent: bool = False
    """Whether a consent of the sender brings a key that works."""

    def text(self, language: str = Language.ENGLISH) -> str:
        """Return what to do; empty where the text of the reason says all."""
        if not self.text_name:
            return ""
        return load_catalogue(CatalogueName.CONSOLE, language).say("key", self.text_name, **self.values)

    def command_line(self, namespace: str) -> str:
        """Return what to type; empty for nothing."""
        return in_namespace(self.command, namespace)


def key_advice(sender: Sender, organization: Organization | None, reason: str) -> KeyAdvice:
    """Return the advice for a key that does not work for ``reason``. ``organization`` is None where it can't
    be read: then the status of the Sender tells whether there is a consent page, and nothing its address."""
    responsible = find_reason(reason).responsible
    secret = sender.spec.token_secret_ref
    if secret is not None:
        if responsible is not Responsible.SENDER:
            return KeyAdvice(responsible)
        values = {"sender": sender.name, "secret": secret.name, "key": secret.key}
        return KeyAdvice(Responsible.ADMINISTRATOR, "secret", values, _secret_command(sender, secret, reason))
    link = consent_link(sender, organization)
    if responsible is not Responsible.SENDER:
        return KeyAdvice(responsible, link=link)
    values = {"sender": sender.name, "organization": sender.spec.organization_ref.name}
    if not link and (organization is not None or sender.status.consent_url is None):
        edit = shlex.join(("kubectl", "edit", "organization", sender.spec.organization_ref.name))
        return KeyAdvice(Responsible.ADMINISTRATOR, NO_CONSENT_PAGE, values, edit)
    if sender.spec.email is None or (organization is not None and not can_send_mail(organization)):
        name = "address" if sender.spec.email is None else "mail"
        return KeyAdvice(Responsible.ADMINISTRATOR, name, values, link=link, can_consent=True)
    return KeyAdvice(responsible, link=link, can_mail=True, can_consent=True)


def askable_senders(
    reasons: Mapping[str, str], senders: Iterable[Sender], organization: Organization | None
) -> list[str]:
    """Return the names of those Senders who can be asked by mail for a new consent. ``reasons`` has by name
    why a Sender is not searched."""
    return [
        each.name
        for each in senders
        if each.name in reasons and key_advice(each, organization, reasons[each.name]).can_mail
    ]


def ask_command(names: Sequence[str], namespace: str) -> str:
    """Return the command that asks these Senders by mail, all at once."""
    return shlex.join(("kubectl", "-n", namespace, "label", "senders", *names, f"{REQUEST_LABEL}=ask"))


def key_cause(sender: Sender, organization: Organization | None, reason: str) -> str:
    """Return the reason of the problem with a key: what the Organization lacks is one for all its keys."""
    is_page_missing = key_advice(sender, organization, reason).text_name == NO_CONSENT_PAGE
    return NOT_CONFIGURED if is_page_missing else reason


def renewal(sender: Sender, organization: Organization | None, reason: str) -> str:
    """Return how a key that is lost or refused comes back, for the condition of its Sender."""
    advice = key_advice(sender, organization, reason)
    if not advice.can_consent:
        return advice.text()
    again = load_catalogue(CatalogueName.CONSOLE, Language.ENGLISH).say("key", "again")
    return f"{again} {advice.text()}".rstrip()


def can_consent(organization: Organization | None) -> bool:
    """Whether a key can come from a consent; of an Organization that can't be read nobody knows."""
    return organization is None or organization.spec.oauth is not None


def consent_link(sender: Sender, organization: Organization | None) -> str:
    """Return the address of the Sender's consent page; empty where there is none. Only the Organization says
    it: who may write the status of a Sender may name a page of others there."""
    if sender.spec.token_secret_ref is not None or organization is None:
        return ""
    return organization.consent_url(sender.name) or ""


def can_send_mail(organization: Organization) -> bool:
    """Whether the Organization is set up for mails."""
    settings = organization.spec.notifications
    return settings is not None and settings.smtp_secret_ref is not None and settings.from_ is not None


def _secret_command(sender: Sender, secret: SecretKeyRef, reason: str) -> str:
    refused = find_condition(sender.status.conditions, "Authorized")
    # The message has the command that fits: a Secret that only lacks the key exists.
    patch = patch_command(secret.name, secret.key, Placeholder.API_KEY)
    if reason == "KeyMissing" and (refused is None or patch not in refused.message):
        return create_command(secret.name, {secret.key: Placeholder.API_KEY}, SecretUse.TOKEN)
    return patch
