"""
The commands that a person types about a problem. Pure.

Mails, the page of tasks, ``status`` and ``why`` print these commands, so a problem has the same ones
everywhere, in its namespace and as they have to be typed.

Some commands are in the message of a status. A message may quote eSAW or an archive, so a command is made
again from its parts, and only a form that belongs to the reason becomes one.
"""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

import msgspec

from counterfoil.i18n.attention import AttentionItem, AttentionKind
from counterfoil.i18n.catalogue import CatalogueName, load_catalogue
from counterfoil.i18n.problems import ARCHIVE_MISSING, ARCHIVE_SUSPENDED, CALLBACK_REASONS
from counterfoil.kube.secret import USE_LABEL, Placeholder, SecretUse
from counterfoil.logs import redact
from counterfoil.origin import ORIGIN_ANNOTATION, origin_of
from counterfoil.resources import (
    API_VERSION,
    ORGANIZATION_LABEL,
    REQUEST_LABEL,
    Envelope,
    EnvelopeEvent,
    Language,
    Organization,
    Phase,
    Resource,
)
from counterfoil.resources.reopening import lacks_copies
from counterfoil.resources.routes import stored_copy, unverified_copies
from counterfoil.untrusted.json_bounds import JSON_ERRORS

_IN_MESSAGE: Final = re.compile(r"`(kubectl [^`]*)(?:`|$)")
"""A command in a message; a message that was cut has no end of it."""

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]*")
_KEY: Final = re.compile(r"[A-Za-z0-9._-]+")
_LITERAL: Final = re.compile(rf"--from-literal={_KEY.pattern}=({'|'.join(map(re.escape, Placeholder))})")
"""A placeholder, never a value."""

_CREATE_REASONS: Final = frozenset(
    {
        "BasicAuthMissing",
        "CallbackTokenMissing",
        "ClientSecretMissing",
        "KeyMissing",
        "KeyNotConfigured",
        "MailSettingsInvalid",
        "NoUsableSender",
        "WebhookSecretMissing",
    }
)
_LABEL_REASONS: Final = _CREATE_REASONS | {"SecretNotLabelled"}
_PATCH_REASONS: Final = _CREATE_REASONS | {"KeyUnreadable"}
_ROOT_REASONS: Final = frozenset({"ArchiveRootChanged", "OriginChanged"})
_ORIGIN_REASONS: Final = frozenset({"OriginChanged", "OriginUnknown"})

_OBJECT_NAME: Final = re.compile("[a-z0-9]([-.a-z0-9]*[a-z0-9])?")
"""RFC 1123 subdomain, without its length."""

_OF_OBJECTS: Final = (AttentionKind.ARCHIVE, AttentionKind.ORGANIZATION)

_SENDER_REASONS: Final = frozenset({"EnvelopeNotFound", "SenderUnknown"})
"""Reasons after which an Envelope that names the sender helps."""

_RETRIED_IN_VAIN: Final = frozenset({"EnvelopeDeleted"})
"""Reasons that each retry has again."""

CONSENT_HELPS: Final = frozenset({"SealKeyUnknown"})
"""Reasons of keys that administrators solve, and a consent of the sender too."""


@dataclass(frozen=True)
class Command:
    """A command to type."""

    line: str
    note: str = ""
    """Name of a text that says when to type it; empty: always."""

    def comment(self, language: str = Language.ENGLISH) -> str:
        """Return the note as a comment of the shell; empty without one."""
        return load_catalogue(CatalogueName.MAILS, language).say("command", self.note) if self.note else ""

    def lines(self, language: str = Language.ENGLISH) -> tuple[str, ...]:
        """Return the note, if there is one, and the command."""
        return (self.comment(language), self.line) if self.note else (self.line,)


def commands_about(item: AttentionItem, namespace: str) -> tuple[Command, ...]:
    """Return the commands about a cause. What is no name of an object is in none of them."""
    examples, senders = (
        tuple(filter(_OBJECT_NAME.fullmatch, each)) for each in (item.examples, item.senders)
    )
    named = replace(item, examples=examples, senders=senders)
    return tuple(dict.fromkeys(_commands_about(named, namespace)))


def commands_in(message: str, reason: str, namespace: str) -> tuple[Command, ...]:
    """Return the commands that the message of a status says to type for its reason."""
    found = (_known_command(each[1], reason, namespace) for each in _IN_MESSAGE.finditer(message))
    return tuple(each for each in found if each is not None)


def is_retried_in_vain(reason: str) -> bool:
    """Whether each retry ends with the same reason again."""
    return reason in _RETRIED_IN_VAIN


def without_commands(message: str, reason: str) -> str:
    """Replace the commands in a message by words, for a text in which they would be altered or cut."""

    def words(found: re.Match[str]) -> str:
        is_below = _known_command(found[1], reason, "") is not None
        return "the command below" if is_below else "the command in the status"

    return _IN_MESSAGE.sub(words, message)


def end_commands(reason: str, chosen: str, namespace: str) -> tuple[Command, ...]:
    """Return what starts failed events again, or gives them up; ``chosen`` are arguments that select them."""
    plugin = f"kubectl counterfoil -n {namespace}"
    skip = Command(f"{plugin} skip {chosen} --dry-run")
    return (skip,) if is_retried_in_vain(reason) else (Command(f"{plugin} retry {chosen}"), skip)


def sender_commands(event: EnvelopeEvent, reason: str, namespace: str) -> tuple[Command, ...]:
    """Return what names the sender of an event's envelope, if its reason is about that."""
    if reason not in _SENDER_REASONS:
        return ()
    envelope = {
        "apiVersion": API_VERSION,
        "kind": Envelope.KIND,
        "metadata": {"name": event.spec.envelope_id},
        "spec": {
            "organizationRef": {"name": event.organization},
            "envelopeID": event.spec.envelope_id,
            # No object has this name, so the API server refuses the command as it is.
            "senderRef": {"name": "NAME"},
        },
    }
    text = shlex.quote(msgspec.json.encode(envelope).decode())
    return (Command(f"kubectl -n {namespace} create -f - <<< {text}", "sender"),)


def copy_commands(
    event: EnvelopeEvent, organization: Organization | None, namespace: str
) -> tuple[Command, ...]:
    """Return what asks for the missing copies of an event if one of them is not tried again automatically."""
    status = event.status
    if organization is None or status.phase is Phase.COPYING or not lacks_copies(status, organization.spec):
        return ()
    missing = (stored_copy(status, each) for each in unverified_copies(status, organization.spec))
    if all(each.next_attempt_time is not None for each in missing):
        return ()
    return (Command(f"kubectl counterfoil -n {namespace} copy {event.name}", "copy"),)


def resume_command(suspended: Resource, namespace: str) -> str:
    """Return what ends the suspension of an object."""
    return f"kubectl counterfoil -n {namespace} resume {suspended.KIND.lower()} {suspended.name}"


def _commands_about(item: AttentionItem, namespace: str) -> Iterator[Command]:
    plugin, kubectl = f"kubectl counterfoil -n {namespace}", f"kubectl -n {namespace}"
    is_missing = item.reason == ARCHIVE_MISSING and item.kind in _OF_OBJECTS
    if is_missing and item.organization:
        yield Command(f"{kubectl} get archives")
        yield Command(f"{kubectl} describe organization {item.organization}")
        return
    if item.kind is AttentionKind.CONSENT:
        typed = item.advice.command_line(namespace) if item.advice is not None else ""
        yield Command(typed or f"{plugin} consent {item.name}")
        return
    yield from _about_objects(item, namespace)
    yield from _about_events(item, namespace)
    yield from commands_in(item.message, item.reason, namespace)
    if item.kind is AttentionKind.ORGANIZATION and item.reason in CALLBACK_REASONS:
        yield Command(f"{plugin} sweep {item.organization}", "sweep")


def _about_objects(item: AttentionItem, namespace: str) -> Iterator[Command]:
    plugin, kubectl = f"kubectl counterfoil -n {namespace}", f"kubectl -n {namespace}"
    match item.kind:
        case AttentionKind.CONTROLLER:
            pods = f"kubectl -n {shlex.quote(item.release or namespace)} get pods"
            yield Command(f"{pods} -l app.kubernetes.io/component=controller")
        case AttentionKind.ARCHIVE:
            yield Command(f"{kubectl} describe archive {item.name}")
            if item.reason == "ArchiveProbeOverdue":
                yield Command(f"{kubectl} label archive {item.name} {REQUEST_LABEL}=probe")
            if item.reason == ARCHIVE_SUSPENDED:
                yield Command(f"{plugin} resume archive {item.name}")
        case AttentionKind.ORGANIZATION:
            yield Command(f"{kubectl} describe organization {item.organization}")
        case AttentionKind.IMPORT:
            yield Command(f"{kubectl} describe import {' '.join(item.examples)}".rstrip())
        case AttentionKind.KEY:
            yield Command(f"{kubectl} get senders")
            names = item.senders if item.reason in CONSENT_HELPS else ()
            yield from (Command(f"{plugin} consent {each}") for each in names)


def _about_events(item: AttentionItem, namespace: str) -> Iterator[Command]:
    plugin, kubectl = f"kubectl counterfoil -n {namespace}", f"kubectl -n {namespace}"
    mine = f"-l {ORGANIZATION_LABEL}={item.organization}"
    match item.kind:
        case AttentionKind.FAILED:
            # A field selector knows the reason of the last attempt only, so it can't list a cause's events.
            yield from (Command(f"{plugin} why {each}") for each in item.examples[:1])
            yield from end_commands(item.reason, f"--all-failed --reason {item.reason} {mine}", namespace)
        case AttentionKind.RETENTION:
            unfinished = "--field-selector status.phase!=Succeeded,status.phase!=Skipped"
            yield Command(f"{kubectl} get envelopeevents {unfinished} {mine}")
            yield Command(f"{plugin} why {item.examples[0] if item.examples else 'NAME'}")
        case AttentionKind.UNREADABLE:
            yield from (Command(f"{kubectl} get envelopeevent {each} -o yaml") for each in item.examples)
        case AttentionKind.WEBHOOK:
            failed = f"--field-selector status.notice.state=Failed {mine}"
            yield Command(f"{kubectl} get envelopeevents {failed}")
            yield Command(f"{kubectl} label envelopeevents {failed} {REQUEST_LABEL}=retry")
        case AttentionKind.COPY:
            yield from (Command(f"{plugin} why {each}") for each in item.examples[:1])
            yield Command(f"{plugin} copy {mine}", "copy")
        case AttentionKind.ORGANIZATION | AttentionKind.RETRYING:
            yield from (Command(f"{plugin} why {each}") for each in item.examples[:1])


# -- Commands in messages --------------------------------------------------------------------------------


def _known_command(text: str, reason: str, namespace: str) -> Command | None:
    try:
        words = shlex.split(text)
        note = _note_of(words, reason)
    except (ValueError, *JSON_ERRORS):
        return None
    if note is None:
        return None
    command = shlex.join((words[0], "-n", namespace, *words[1:]))
    # A name that looks like a key is in no mail and on no page; the status has it.
    is_plain = command.isprintable() and redact(command) == command
    return Command(command, note) if is_plain else None


def _note_of(words: list[str], reason: str) -> str | None:
    """Return the note of a command that the messages of this reason contain; None for any other text.
    Raises ``ValueError``, or what the decoder raises."""
    match words:
        case ["kubectl", "label", "secret", name, label]:
            is_known = reason in _LABEL_REASONS and label in {f"{USE_LABEL}={use}" for use in SecretUse}
            note = "label" if reason == "SecretNotLabelled" else ""
        case ["kubectl", "create", "secret", "generic", name, *literals] if literals:
            is_known, note = reason in _CREATE_REASONS and all(map(_LITERAL.fullmatch, literals)), ""
        case ["kubectl", "patch", "secret", name, "-p", patch]:
            keys = msgspec.json.decode(patch, type=_SecretPatch).string_data
            is_known, note = reason in _PATCH_REASONS and all(map(_KEY.fullmatch, keys)), ""
        case ["kubectl", "annotate", "secret", name, annotation, "--overwrite"]:
            key, _, origin = annotation.partition("=")
            is_known = reason in _ORIGIN_REASONS and key == ORIGIN_ANNOTATION and origin_of(origin) == origin
            note = "origin"
        case ["kubectl", "patch", "archive", name, "--subresource=status", "--type=merge", "-p", patch]:
            confirmed = msgspec.json.decode(patch, type=_ArchivePatch).status
            is_known, note = reason in _ROOT_REASONS and confirmed.is_confirmation, "confirm"
        case ["kubectl", "patch", "sender", name, "--type=merge", "-p", patch]:
            msgspec.json.decode(patch, type=_SenderPatch)
            is_known, note = reason == "KeyNotConfigured", ""
        case ["kubectl", "delete", "ee", "--field-selector", selector]:
            known, _, name = selector.partition(",spec.organizationRef.name=")
            is_unknown = known.startswith("status.phase=Failed,status.reason=EnvelopeNotFound,")
            is_known, note = reason == "TooManyUnknownEnvelopes" and is_unknown, "forged"
        case ["kubectl", "get", "senders"] | ["kubectl", "describe", "sender", "NAME"]:
            is_known, note, name = reason == "NoUsableSender", "", "NAME"
        case _:
            return None
    return note if is_known and _NAME.fullmatch(name) is not None else None


class _ConfirmedRoot(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"marker_id": "markerID"}
):
    location: str
    marker_id: None


class _ConfirmedStatus(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    root: _ConfirmedRoot | msgspec.UnsetType = msgspec.UNSET
    destination: msgspec.UnsetType | None = msgspec.UNSET
    secret_origins: msgspec.UnsetType | None = msgspec.UNSET

    @property
    def is_confirmation(self) -> bool:
        """Whether it confirms a root, or an address."""
        return self.root is not msgspec.UNSET or self.destination is None


class _ArchivePatch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    status: _ConfirmedStatus


class _SecretPatch(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    string_data: dict[str, Placeholder]


class _KeyRef(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    key: str


class _SenderSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    token_secret_ref: _KeyRef


class _SenderPatch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    spec: _SenderSpec
