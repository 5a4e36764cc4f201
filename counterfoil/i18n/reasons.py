"""
The catalogue of reasons: where each reason is seen, its meaning, the person who must act, and the action.

Mails, the console, ``kubectl counterfoil why`` and docs/reference/reasons.md use this catalogue. A reason is
one CamelCase word that stays the same between versions. A test collects the reasons from the code and
requires an entry for each, in every language. ``entries.toml`` lists the reasons without their texts, which
are read at their first use.
"""

import tomllib
from dataclasses import dataclass
from enum import StrEnum
from importlib.resources import files
from types import MappingProxyType
from typing import Final

from counterfoil.i18n.catalogue import CatalogueName, load_catalogue
from counterfoil.resources import EnvelopeEventStatus, Language, Phase
from counterfoil.resources.envelopeevent import DEADLINE_EXCEEDED
from counterfoil.resources.reopening import with_kept_end


class Responsible(StrEnum):
    """The person who must act."""

    NOBODY = "nobody"
    SENDER = "sender"
    ADMINISTRATOR = "administrator"


class ReasonContext(StrEnum):
    """A place in which a reason is seen."""

    WAITING = "waiting"
    """An unfinished event that is retried automatically."""
    HELD = "held"
    """An event that waits until a person resumes it."""
    CONSENT = "AwaitingConsent"
    SUCCEEDED = "Succeeded"
    SKIPPED = "Skipped"
    FAILED = "Failed"
    CONDITION = "condition"
    """In a condition of an unfinished event."""
    REQUEST = "request"
    """In a Kubernetes Event, or in an event that restarts."""
    SENDER = "Sender"
    ARCHIVE = "Archive"
    ORGANIZATION = "Organization"
    ENVELOPE = "Envelope"
    IMPORT = "Import"
    NOTICE = "notice"
    """In the notice of a finished event to the webhook."""
    LEASE = "Lease"
    """In the console and the plugin, which read the Leases of the shards; in no object's status."""
    STATUS = "status"
    """In ``kubectl counterfoil status`` and ``why``, which read pods, ResourceQuotas and the times of
    changes; in no object's status."""


class EnvelopePresence(StrEnum):
    """Whether the envelope of an event with a reason is still in eSignAnyWhere."""

    STAYS = "stays"
    """ESAW showed it in the run that ended with the reason, and Counterfoil keeps it."""
    GONE = "gone"
    UNKNOWN = "unknown"
    """Nobody asked eSAW, or its answer does not say."""


class Correction(StrEnum):
    """A change of an object after which an event that waits or failed with a reason may succeed."""

    ARCHIVE = "Archive"
    """A new spec or the recovery of the Archive. A new spec of the Organization may name another Archive."""
    ORGANIZATION = "Organization"
    """A new spec of the Organization, or its recovery: its eSAW works again."""
    ORGANIZATION_SPEC = "OrganizationSpec"
    """
    A new spec of the Organization, and not its recovery.

    A retry without it would end in the same way and send one more notice: such an event is archived.
    """
    ENVELOPE_ACCESS = "EnvelopeAccess"
    """
    Another default Sender or another eSAW: these may show the envelope.

    After another edit of the spec, such as another callback token, all forged callbacks would be retried.
    Another key shows the same envelopes, as the user of a Sender never changes (``reopener`` has the Envelope
    that names another Sender).
    """
    SENDER = "Sender"
    """A new spec or a new key of the Sender."""


class Server(StrEnum):
    """A server that an event waits for."""

    ARCHIVE = "archive"
    ESAW = "eSAW"


class ReasonProperty(StrEnum):
    """A further consequence of a reason. One that is not in the catalogue has none."""

    PASSING = "passing"
    """An administrator has to know about it, but it often ends without one."""
    SERVER_DOWN = "server down"
    """One outage changes between these reasons: the operator of the server or of the network must act."""
    NO_DEADLINE = "no deadline"
    """An unfinished event has no deadline with it, and a person must know of it."""
    ANOTHER_IMPORT = "another Import"
    """An Import does not continue with it: its spec never changes, so other Imports take its place."""
    ONLY_THE_DELETE = "only the delete"
    """
    If an event failed so, it says nothing against the files that are archived: only the delete failed.

    Each other cause keeps the envelope because the archive lacks something, or may lack it.
    """


@dataclass(frozen=True)
class ReasonText:
    """The meaning of a reason, and what to do; ``do`` is empty where nothing has to be done."""

    what: str
    do: str


@dataclass(frozen=True)
class Reason:
    """One reason: its name, who must act, where it is seen, and what it says about an event."""

    name: str
    responsible: Responsible
    contexts: tuple[ReasonContext, ...]
    envelope: EnvelopePresence = EnvelopePresence.UNKNOWN
    corrected_by: frozenset[Correction] = frozenset()
    server: Server | None = None
    properties: frozenset[ReasonProperty] = frozenset()

    def localized_text(self, language: Language = Language.ENGLISH) -> ReasonText:
        """Return its text in a language."""
        texts = load_catalogue(CatalogueName.REASONS, language).entries[self.name]
        return ReasonText(texts["what"], texts.get("do", ""))


def _load_entries() -> dict[str, Reason]:
    entries = tomllib.loads(files("counterfoil.i18n").joinpath("reasons/entries.toml").read_text("utf-8"))
    return {
        name: Reason(
            name,
            Responsible(entry["responsible"]),
            tuple(map(ReasonContext, entry["contexts"])),
            EnvelopePresence(entry.get("envelope", EnvelopePresence.UNKNOWN)),
            frozenset(map(Correction, entry.get("corrected_by", ()))),
            Server(entry["server"]) if "server" in entry else None,
            frozenset(map(ReasonProperty, entry.get("properties", ()))),
        )
        for name, entry in entries.items()
    }


CATALOGUE: MappingProxyType[str, Reason] = MappingProxyType(_load_entries())
"""All reasons by name, in the order of the manual."""

UNKNOWN: Final = "Unknown"
"""Also stands for a text in place of a reason that can't be one, since who may write a status may put any
text there."""

_UNKNOWN = Reason(
    UNKNOWN,
    Responsible.ADMINISTRATOR,
    (),
    corrected_by=frozenset({Correction.ARCHIVE, Correction.ORGANIZATION}),
    server=Server.ARCHIVE,
)
"""
A reason of an archive kind of another package, or one that another version stored.

A correction that solves nothing costs one attempt, and a probe one small file.
"""


def find_reason(name: str) -> Reason:
    """Return the entry of a reason, or the entry ``Unknown`` for a reason that is not in the catalogue."""
    return CATALOGUE.get(name, _UNKNOWN)


def responsible_of(status: EnvelopeEventStatus, cause: str) -> Responsible:
    """Return who must act about an event whose cause this is now (empty: none): never nobody if it failed."""
    if with_kept_end(status).phase is Phase.FAILED:
        return responsible_of_failure(cause)
    return find_reason(cause).responsible if cause else Responsible.NOBODY


def responsible_of_failure(cause: str) -> Responsible:
    """Return who must act about events that failed with this cause. No attempt follows, so a reason with
    which nobody acts while an event waits is an administrator's."""
    responsible = find_reason(cause).responsible
    return Responsible.ADMINISTRATOR if responsible is Responsible.NOBODY else responsible


def text_of(status: EnvelopeEventStatus, cause: str, language: Language = Language.ENGLISH) -> ReasonText:
    """Return the text of the cause of an event."""
    if status.phase is Phase.FAILED:
        return text_of_failure(cause, language)
    return find_reason(cause).localized_text(language)


def text_of_failure(cause: str, language: Language = Language.ENGLISH) -> ReasonText:
    """Return the text of the cause of events that failed. If that is about waiting only, it is followed by
    the advice for an event that was given up."""
    reason = find_reason(cause)
    text = reason.localized_text(language)
    if ReasonContext.FAILED in reason.contexts or ReasonContext.WAITING not in reason.contexts:
        return text
    retry = find_reason(DEADLINE_EXCEEDED).localized_text(language).do
    return ReasonText(text.what, f"{text.do} {retry}".strip())


def corrections_of(reason: str) -> frozenset[Correction]:
    """Return what may correct the cause of an event with this reason; nothing if it has none (empty)."""
    return find_reason(reason).corrected_by if reason else frozenset()


def server_of(reason: str) -> Server | None:
    """Return the server that an unfinished event with this reason (empty: none) waits for, or None."""
    return find_reason(reason).server if reason else None


def has_property(reason: str | None, wanted: ReasonProperty) -> bool:
    """Whether a reason has this property; None and an empty one have none."""
    return wanted in find_reason(reason or "").properties
