"""
The commands that a person types about a problem. Pure.

Mails, the page of tasks, ``status`` and ``why`` print these commands, so a problem has the same ones
everywhere, in its namespace and as they have to be typed.

Who may write a status may put any text there. So each value in a command has passed a pattern, of names or of
reasons; with another one there is no command. ``_typed`` makes each command that has such values.

Some commands are in the message of a status. A message may quote eSAW or an archive, so a command is made
again from its parts, and only a form that belongs to the reason becomes one. A message that quotes a spec has
a reason without commands.
"""

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

import msgspec

from counterfoil.i18n.attention import AttentionItem, AttentionKind
from counterfoil.i18n.catalogue import CatalogueName, load_catalogue
from counterfoil.i18n.problems import ARCHIVE_MISSING, ARCHIVE_SUSPENDED, CALLBACK_REASONS, notice_failure
from counterfoil.i18n.reasons import UNKNOWN
from counterfoil.kube.secret import USE_LABEL, Placeholder, SecretUse, create_command, in_namespace
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
from counterfoil.resources.base import is_object_name, is_reason
from counterfoil.resources.envelopeevent import SUSPENDED
from counterfoil.resources.lease import Absence, NamespaceNotServed
from counterfoil.resources.reopening import takes_copies, unplanned_copies
from counterfoil.untrusted.json_bounds import JSON_ERRORS

_IN_MESSAGE: Final = re.compile(r"`(kubectl [^`]*)(?:`|$)")
"""A command in a message; a message that was cut has no end of it."""

_QUOTED: Final = r"'\1'"
"""The text of such a command, in quotes that make it none."""

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]*")
_KEY: Final = re.compile(r"[A-Za-z0-9._-]+")
_LITERAL: Final = re.compile(rf" --from-literal=({_KEY.pattern})='({'|'.join(map(re.escape, Placeholder))})'")
"""A key with a placeholder, never with a value."""

_OF_ORGANIZATION: Final = frozenset({SecretUse.CALLBACK, SecretUse.OAUTH, SecretUse.TOKEN, SecretUse.WEBHOOK})
"""Uses of the Secrets of an Organization: one message may be about several, with the reason of the first."""

_USES: Final[Mapping[str, frozenset[SecretUse]]] = {
    "ArchiveSecretMissing": frozenset({SecretUse.ARCHIVE, SecretUse.TRUST}),
    "BasicAuthMissing": _OF_ORGANIZATION,
    "CallbackTokenMissing": _OF_ORGANIZATION,
    "ClientSecretMissing": _OF_ORGANIZATION,
    "KeyMissing": frozenset({SecretUse.TOKEN}),
    "KeyNotConfigured": frozenset({SecretUse.TOKEN}),
    "MailSettingsInvalid": frozenset({SecretUse.SMTP}),
    "NoUsableSender": _OF_ORGANIZATION,
    "SecretNotLabelled": frozenset(SecretUse),
    "WebhookSecretMissing": _OF_ORGANIZATION,
}
"""Uses of the Secrets that a reason may be about."""

_PATCH_REASONS: Final = _USES.keys() | {"KeyUnreadable"}
_ROOT_REASONS: Final = frozenset({"ArchiveRootChanged", "OriginChanged"})
_ORIGIN_REASONS: Final = frozenset({"OriginChanged", "OriginUnknown"})
_REASONS: Final = _PATCH_REASONS | _ROOT_REASONS | _ORIGIN_REASONS | {"TooManyUnknownEnvelopes"}
"""Reasons whose messages have commands. So these messages quote nothing that others chose: only names of
objects and keys, origins, and places without backquotes."""

_SECRET_OF_ARCHIVE: Final = re.compile(rf"Archive/{_NAME.pattern}: Secret(?:/| `)({_NAME.pattern})")
"""The beginning of a message about the Secret of an Archive."""

_PLUGIN: Final = "kubectl counterfoil -n {namespace}"
_KUBECTL: Final = "kubectl -n {namespace}"
_MINE: Final = f"-l {ORGANIZATION_LABEL}={{organization}}"

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
    """Return the commands about a cause. A text that is neither a name nor a reason is in none of them."""
    examples, senders = (tuple(filter(is_object_name, each)) for each in (item.examples, item.senders))
    named = replace(item, examples=examples, senders=senders)
    return tuple(dict.fromkeys(_commands_about(named, namespace)))


def commands_in(message: str, reason: str, namespace: str) -> tuple[Command, ...]:
    """Return the commands that the message of a status says to type for its reason."""
    found = (_known_command(each[1], message, reason, namespace) for each in _IN_MESSAGE.finditer(message))
    return tuple(each for each in found if each is not None)


def message_beside(message: str, reason: str) -> str:
    """Return the message of a problem for a status that has the reason of another one: what it quotes becomes
    no command of that reason."""
    return message if reason in _REASONS else _IN_MESSAGE.sub(_QUOTED, message)


def is_retried_in_vain(reason: str) -> bool:
    """Whether each retry ends with the same reason again."""
    return reason in _RETRIED_IN_VAIN


def without_commands(message: str, reason: str) -> str:
    """Replace the commands in a message by words, for a text in which they would be altered or cut. What a
    message without commands quotes stays, since it is a name or a text of others."""
    if reason not in _REASONS:
        return message_beside(message, reason)

    def words(found: re.Match[str]) -> str:
        is_below = _known_command(found[1], message, reason, "") is not None
        return "the command below" if is_below else "the command in the status"

    return _IN_MESSAGE.sub(words, message)


def end_commands(event: EnvelopeEvent, reason: str, namespace: str) -> tuple[Command, ...]:
    """Return what starts a failed event again, or gives it up."""
    return tuple(_end_commands(reason, "{name}", namespace=namespace, name=event.name))


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
    if organization is None or not takes_copies(status) or not unplanned_copies(status, organization.spec):
        return ()
    return tuple(_typed(f"{_PLUGIN} copy {{name}}", "copy", namespace=namespace, name=event.name))


def notice_commands(event: EnvelopeEvent, namespace: str) -> tuple[Command, ...]:
    """Return what sends the notice of an archived event again, if it was given up for a reason to solve."""
    if event.status.phase is Phase.FAILED or notice_failure(event.status) is None:
        return ()
    return tuple(_typed(f"{_PLUGIN} retry {{name}}", "notice", namespace=namespace, name=event.name))


def resume_commands(suspended: Resource, namespace: str) -> tuple[Command, ...]:
    """Return what ends the suspension of an object."""
    form = f"{_PLUGIN} resume {suspended.KIND.lower()} {{name}}"
    return tuple(_typed(form, namespace=namespace, name=suspended.name))


def controller_commands(absence: Absence | None, namespace: str) -> Iterator[Command]:
    """Yield what shows the controllers, and deletes a Lease whose holder keeps all of them out; or what shows
    the list of the namespaces that they serve."""
    place = (absence.release if absence is not None else "") or namespace
    if isinstance(absence, NamespaceNotServed):
        listed = f"{_KUBECTL} get configmaps -l app.kubernetes.io/part-of=counterfoil -o yaml"
        yield from _typed(listed, namespace=place)
        return
    yield from _typed(f"{_KUBECTL} get pods -l app.kubernetes.io/component=controller", namespace=place)
    if absence is not None and absence.held_until is not None:
        yield from _typed(f"{_KUBECTL} delete lease {{name}}", "lease", namespace=place, name=absence.lease)


def _typed(form: str, note: str = "", **values: str) -> Iterator[Command]:
    """Yield the command in which each name in braces is replaced by its value; nothing if a value is no name
    of an object, or the one of ``reason`` is no reason."""
    if all(is_reason(text) if name == "reason" else is_object_name(text) for name, text in values.items()):
        yield Command(form.format(**values), note)


def _end_commands(cause: str, chosen: str, **values: str) -> Iterator[Command]:
    if not is_retried_in_vain(cause):
        yield from _typed(f"{_PLUGIN} retry {chosen}", **values)
    yield from _typed(f"{_PLUGIN} skip {chosen} --dry-run", **values)


def _commands_about(item: AttentionItem, namespace: str) -> Iterator[Command]:
    of_organization = {"namespace": namespace, "organization": item.organization}
    is_missing = item.reason == ARCHIVE_MISSING and item.kind in _OF_OBJECTS
    if is_missing and item.organization:
        yield from _typed(f"{_KUBECTL} get archives", namespace=namespace)
        yield from _typed(f"{_KUBECTL} describe organization {{organization}}", **of_organization)
        return
    if item.kind is AttentionKind.CONSENT:
        if item.advice is not None and (typed := item.advice.command_line(namespace)):
            yield Command(typed)
        else:
            yield from _typed(f"{_PLUGIN} consent {{name}}", namespace=namespace, name=item.name)
        return
    yield from _about_objects(item, namespace)
    yield from _about_events(item, namespace)
    yield from commands_in(item.message, item.reason, namespace)
    if item.kind is AttentionKind.ORGANIZATION and item.reason in CALLBACK_REASONS:
        yield from _typed(f"{_PLUGIN} sweep {{organization}}", "sweep", **of_organization)


def _about_objects(item: AttentionItem, namespace: str) -> Iterator[Command]:
    named = {"namespace": namespace, "name": item.name}
    match item.kind:
        case AttentionKind.CONTROLLER:
            yield from controller_commands(item.absence, namespace)
        case AttentionKind.ARCHIVE:
            yield from _typed(f"{_KUBECTL} describe archive {{name}}", **named)
            if item.reason == "ArchiveProbeOverdue":
                yield from _typed(f"{_KUBECTL} label archive {{name}} {REQUEST_LABEL}=probe", **named)
            if item.reason == ARCHIVE_SUSPENDED:
                yield from _typed(f"{_PLUGIN} resume archive {{name}}", **named)
        case AttentionKind.ORGANIZATION:
            # If eSAW answers, and refuses what an event needs, only the event says what is wrong.
            yield from _why(item.examples[:1], namespace)
            described = f"{_KUBECTL} describe organization {{organization}}"
            yield from _typed(described, namespace=namespace, organization=item.organization)
        case AttentionKind.IMPORT:
            # ``commands_about`` left only names.
            described = f"{_KUBECTL} describe import {' '.join(item.examples)}".rstrip()
            yield from _typed(described, namespace=namespace)
        case AttentionKind.KEY:
            yield from _typed(f"{_KUBECTL} get senders", namespace=namespace)
            for each in item.senders if item.reason in CONSENT_HELPS else ():
                yield from _typed(f"{_PLUGIN} consent {{name}}", namespace=namespace, name=each)


def _about_events(item: AttentionItem, namespace: str) -> Iterator[Command]:
    mine = {"namespace": namespace, "organization": item.organization}
    match item.kind:
        case AttentionKind.FAILED:
            yield from _why(item.examples[:1], namespace)
            if item.reason != UNKNOWN:
                # A field selector knows the reason of the last attempt only, so it can't list a cause's
                # events.
                of_cause = f"--all-failed --reason {{reason}} {_MINE}"
                yield from _end_commands(item.reason, of_cause, reason=item.reason, **mine)
        case AttentionKind.RETENTION:
            unfinished = "--field-selector status.phase!=Succeeded,status.phase!=Skipped"
            yield from _typed(f"{_KUBECTL} get envelopeevents {unfinished} {_MINE}", **mine)
            yield from _why(item.examples[:1], namespace)
            if not item.examples:
                yield from _typed(f"{_PLUGIN} why NAME", namespace=namespace)
        case AttentionKind.UNREADABLE:
            for each in item.examples:
                form = f"{_KUBECTL} get envelopeevent {{name}} -o yaml"
                yield from _typed(form, namespace=namespace, name=each)
        case AttentionKind.WEBHOOK:
            failed = f"--field-selector status.notice.state=Failed {_MINE}"
            yield from _typed(f"{_KUBECTL} get envelopeevents {failed}", **mine)
            yield from _typed(f"{_KUBECTL} label envelopeevents {failed} {REQUEST_LABEL}=retry", **mine)
        case AttentionKind.COPY:
            yield from _why(item.examples[:1], namespace)
            yield from _typed(f"{_PLUGIN} copy {_MINE}", "copy", **mine)
        case AttentionKind.RETRYING:
            yield from _why(item.examples[:1], namespace)
            names = {"SenderSuspended": item.senders, SUSPENDED: item.examples}.get(item.reason, ())
            kind = "sender" if item.reason == "SenderSuspended" else "envelopeevent"
            for each in names:
                yield from _typed(f"{_PLUGIN} resume {kind} {{name}}", namespace=namespace, name=each)


def _why(events: Iterable[str], namespace: str) -> Iterator[Command]:
    for each in events:
        yield from _typed(f"{_PLUGIN} why {{name}}", namespace=namespace, name=each)


# -- Commands in messages --------------------------------------------------------------------------------


def _known_command(text: str, message: str, reason: str, namespace: str) -> Command | None:
    try:
        words = shlex.split(text)
        note = _note_of(text, words, message, reason)
    except (ValueError, *JSON_ERRORS):
        return None
    if note is None:
        return None
    command = in_namespace(text if "|" in words else shlex.join(words), namespace)
    # A name that looks like a key is in no mail and on no page; the status has it.
    is_plain = command.isprintable() and redact(command) == command
    return Command(command, note) if is_plain else None


def _note_of(text: str, words: list[str], message: str, reason: str) -> str | None:
    """Return the note of a command that a message of this reason may contain; None for any other text.
    Raises ``ValueError``, or what the decoder raises."""
    match words:
        case ["kubectl", "label", "secret", name, label]:
            is_known = label in {f"{USE_LABEL}={use}" for use in _USES.get(reason, ())}
            note = "label" if reason == "SecretNotLabelled" else ""
        case ["kubectl", "create", "secret", "generic", name, *_]:
            values = {key: Placeholder(value) for key, value in _LITERAL.findall(text)}
            uses = _USES.get(reason, ()) if values else ()
            is_known, note = text in {create_command(name, values, each) for each in uses}, ""
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
    if reason == "ArchiveSecretMissing":
        own = _SECRET_OF_ARCHIVE.match(message)
        is_known = is_known and own is not None and own[1] == name
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
