"""
Each command that Counterfoil prints about a reason, with the objects that the reason is about.

The messages are made by the product where it gives them out. Three are made in the middle of a check of an
object; their commands are written here.
"""

import asyncio
import re
import shlex
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Final

import pytest

from controller.access.archive_root import EarlierManifest, check_new_root, origin_changed
from controller.resync.event_load import UNKNOWN_ENVELOPE
from counterfoil.archives.errors import ArchiveRefused
from counterfoil.i18n.attention import AttentionItem, AttentionKind
from counterfoil.i18n.commands import commands_about
from counterfoil.i18n.key_advice import key_advice
from counterfoil.i18n.reasons import CATALOGUE, Responsible
from counterfoil.kube.secret import (
    Placeholder,
    SecretUse,
    create_command,
    label_command,
    patch_command,
)
from counterfoil.origin import annotate_command
from counterfoil.resources import Language
from tests.support.builders import ENVELOPE, a_sender, an_organization
from tests.support.fakes.archives import MemoryBackend
from tests.support.fakes.reconcile_context import an_archive

NAMESPACE: Final = "tests"
ORGANIZATION, ARCHIVE, SENDER, IMPORT = "acme", "dms", "anna", "old"
EVENT: Final = f"{ENVELOPE}-0123456789abcdef"
ESAW: Final = "https://esaw.acme.example:8443"
SECRET, MISSING_SECRET = "anna-key", "gone"
OBJECTS: Final = frozenset({ORGANIZATION, ARCHIVE, SENDER, IMPORT, EVENT, SECRET, MISSING_SECRET})

_LOGIN: Final = {"username": Placeholder.USERNAME, "password": Placeholder.PASSWORD}
_MAIL: Final = {"host": Placeholder.MAIL_HOST, **_LOGIN}
_REF_PATCH: Final = '{"spec":{"tokenSecretRef":{"name":"anna-key","key":"token"}}}'


def _created(key: str, value: Placeholder, use: SecretUse) -> str:
    return f"`{create_command(MISSING_SECRET, {key: value}, use)}`; `{patch_command(SECRET, key, value)}`"


def _changed_root() -> str:
    async def refuse() -> str:
        manifest = EarlierManifest("memory:///acme/counterfoil.json", ENVELOPE)
        with pytest.raises(ArchiveRefused) as refused:
            await check_new_root(an_archive(), MemoryBackend(), [manifest])
        return str(refused.value)

    return asyncio.run(refuse())


MESSAGES: Final[Mapping[str, str]] = {
    "ArchiveRootChanged": _changed_root(),
    "ArchiveSecretMissing": f"Archive/{ARCHIVE}: Secret/{MISSING_SECRET} does not exist. "
    f"`{create_command(MISSING_SECRET, {'accessKeyId': Placeholder.ACCESS_KEY_ID}, SecretUse.ARCHIVE)}`",
    "BasicAuthMissing": f"`{create_command(MISSING_SECRET, _LOGIN, SecretUse.CALLBACK)}`; "
    f"`{patch_command(SECRET, 'password', Placeholder.PASSWORD)}`",
    "CallbackTokenMissing": _created("token", Placeholder.TOKEN, SecretUse.CALLBACK),
    "ClientSecretMissing": _created("secret", Placeholder.CLIENT_SECRET, SecretUse.OAUTH),
    "KeyMissing": _created("token", Placeholder.API_KEY, SecretUse.TOKEN),
    "KeyNotConfigured": f"{_created('token', Placeholder.API_KEY, SecretUse.TOKEN)}; "
    f"`kubectl patch sender {SENDER} --type=merge -p '{_REF_PATCH}'`",
    "KeyUnreadable": f"`{patch_command(SECRET, 'token', Placeholder.API_KEY)}`",
    "MailSettingsInvalid": f"`{create_command(MISSING_SECRET, _MAIL, SecretUse.SMTP)}`",
    "NoUsableSender": "`kubectl get senders` and `kubectl describe sender NAME`",
    "OriginChanged": f"{origin_changed(ARCHIVE, 's3://a.example/b/', 'to s3://c.example/b/')} "
    f"`{annotate_command(SECRET, ESAW)}`",
    "OriginUnknown": f"`{annotate_command(SECRET, ESAW)}`",
    "SecretNotLabelled": f"`{label_command(SECRET, SecretUse.TRUST)}`",
    "TooManyUnknownEnvelopes": "`kubectl delete ee --field-selector "
    f"{UNKNOWN_ENVELOPE},spec.organizationRef.name={ORGANIZATION}`",
    "WebhookSecretMissing": _created("secret", Placeholder.SIGNING_SECRET, SecretUse.WEBHOOK),
}
"""Messages with commands, by the reason that each has."""

_BARE: Final = re.compile(r"kubectl label \w+ NAME counterfoil\.dev/\w+=\w+")
_QUOTED: Final = re.compile(r"`(kubectl [^`]*)`")


@dataclass(frozen=True)
class Advice:
    """One command about one reason."""

    kind: str
    reason: str
    line: str


_NAMES: Final = {
    AttentionKind.ARCHIVE: ARCHIVE,
    AttentionKind.CONSENT: SENDER,
}


def item_about(kind: AttentionKind, reason: str) -> AttentionItem:
    """Build the entry of one cause."""
    return AttentionItem(
        kind=kind,
        name=_NAMES.get(kind, reason),
        organization=ORGANIZATION,
        reason=reason,
        message=MESSAGES.get(reason, ""),
        examples=(IMPORT if kind is AttentionKind.IMPORT else EVENT,),
        senders=(SENDER,),
    )


async def type_line(kubectl: Callable[..., Awaitable[str]], line: str) -> None:
    """Type a line: each kubectl reads the text after ``<<<``, or what the one before it printed."""
    words, text = shlex.split(line), None
    if "<<<" in words:
        *words, _, text = words
    for is_sign, part in groupby(words, key="|".__eq__):
        if not is_sign:
            text = await kubectl(*list(part)[1:], stdin=text)


def printed_commands() -> Iterator[Advice]:
    """Yield each command about each reason for which a person has to do something."""
    for reason, entry in CATALOGUE.items():
        if not entry.localized_text().do:
            continue
        for kind in AttentionKind:
            for command in commands_about(item_about(kind, reason), NAMESPACE):
                yield Advice(kind, reason, command.line)
        if entry.responsible is not Responsible.SENDER:
            continue
        secret = MISSING_SECRET if reason == "KeyMissing" else SECRET
        for ref in (None, {"name": secret, "key": "token"}):
            typed = key_advice(a_sender(SENDER, tokenSecretRef=ref), an_organization(), reason)
            if line := typed.command_line(NAMESPACE):
                yield Advice(AttentionKind.CONSENT, reason, line)


def catalogue_commands(language: Language) -> Iterator[tuple[str, str]]:
    """Yield each command in a text of the catalogue, with its reason."""
    for reason, entry in CATALOGUE.items():
        text = entry.localized_text(language)
        for said in (text.what, text.do):
            yield from ((reason, each[1]) for each in _QUOTED.finditer(said))
            yield from ((reason, each[0]) for each in _BARE.finditer(_QUOTED.sub("", said)))
