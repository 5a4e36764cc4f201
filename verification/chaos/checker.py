"""
The judge: what must hold after a round, for any faults. Pure, and it shares no code with the product.

It knows what eSAW served and was asked for, what the archive's folder holds, what the API server stores, and
which mails arrived. It believes no status that it can check against those.
"""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from verification.chaos.mails import Mail, MailFacts, untrue_place, wrong_mails

MANIFEST: Final = "counterfoil.json"
HASHES: Final = "counterfoil.sha256"
SEAL: Final = "counterfoil.json.sig"
OWN: Final = frozenset({MANIFEST, HASHES, SEAL})
PROBE: Final = ".counterfoil-"
"""Beginning of the names in the archive's root that a controller killed in a probe leaves."""
SENT: Final = "Your envelope is sent"
NOT_SENT: Final = (
    "sent nothing",
    "sent and stored nothing",
    "did not send your envelope",
    "did not send the envelope",
)
NO_DRAFT: Final = "You have no such draft in eSignAnyWhere"
"""Sentences of the pages about a draft, in English."""
OCCUPIED: Final = "NameOccupied"
DELETED: Final = "EnvelopeDeleted"
"""Reason of an event that another program's files keep from its names."""
FINAL: Final = frozenset({"Succeeded", "Skipped", "Failed"})
MEMORY_LIMITS: Final = {"controller": 1 << 30, "receiver": 256 << 20, "pages": 256 << 20}
"""Bytes that a container of the chart may use, by the beginning of the name of its process."""

NEIGHBOUR_SECONDS: Final = 60.0
"""Maximum seconds from the accepted callback of an envelope to its delete, if only the other Organization
has faults. A busy machine needs a part of it."""

Files = Mapping[str, bytes]
"""Content of the archive's files by their path in it."""


@dataclass(frozen=True)
class ServedFile:
    """One file of an envelope in eSAW."""

    kind: str
    accepted: frozenset[str]
    """SHA-256 of each body that eSAW served for it, in hex."""


@dataclass(frozen=True)
class Delete:
    """One request to delete an envelope, and the state when it arrived."""

    envelope: str
    archive: Files
    """The archive's files of this envelope."""
    archived: bool | None
    """Whether the API server stored ``Archived=True`` for an event of it; None: it was down."""
    was_there: bool = True
    """Whether no request before had deleted the envelope in eSAW."""
    arrived: int = 0
    """When it arrived, as a count of everything that passed a proxy."""
    listed: int = 0
    """When eSAW last answered another request about the envelope before it; it lists the files."""


@dataclass
class Decision:
    """A decision of a person after which no envelope is deleted."""

    what: str
    envelope: str
    """The envelope that it concerns; empty: all."""
    stored: int
    """When the API server had stored it, by the count of ``Delete``."""
    ended: int | None = None
    """When the person began to take it back; None: never."""


@dataclass(frozen=True)
class Evidence:
    """All that the checker knows about a round."""

    policy: str
    envelopes: Mapping[str, Mapping[str, ServedFile]]
    """The files of each envelope, by their id."""
    gone: frozenset[str]
    """Envelopes that are no longer in eSAW."""
    removed: frozenset[str]
    """Envelopes that a person deleted in eSAW."""
    deletes: tuple[Delete, ...]
    successes: Mapping[str, int]
    """Number of requests that deleted an envelope, by envelope."""
    archive: Files
    """The whole archive at the end."""
    events: tuple[Mapping[str, Any], ...]
    """The EnvelopeEvents, as the API server returns them."""
    answered: frozenset[str]
    """Envelopes about which a callback was answered 200."""
    mails: tuple[Mail, ...]
    """In order."""
    texts: Mapping[str, str]
    """Logs and objects that people can read, by name."""
    secrets: frozenset[str]
    responsible: Mapping[str, str]
    """The person who must act, by reason."""
    crashes: tuple[str, ...] = ()
    interruptions: int = 0
    """Number of faults after which decision 0018 allows one more mail of a problem."""
    dead_keys: Mapping[str, int] = field(default_factory=dict)
    """Number of keys that died, by the address of their owner; each is one problem."""
    consented: Mapping[str, str] = field(default_factory=dict)
    """Address of the person who gave the consent, by the name of the Sender."""
    usable: Mapping[str, bool] = field(default_factory=dict)
    """Whether each Archive and eSAW works according to its status, by its name in mails."""
    restores: int = 0
    """Number of times that etcd was restored from an older state: what it had stored since then is lost."""
    followed: tuple[str, ...] = ()
    """Paths of requests that followed a redirect to another host."""
    planted: Mapping[str, bytes] = field(default_factory=dict)
    """Files that another program wrote into the archive, by their path."""
    public_key: bytes = b""
    """The Ed25519 key of the seals, as 32 bytes; empty: there are no seals."""
    decisions: tuple[Decision, ...] = ()
    called_again: frozenset[str] = frozenset()
    """Envelopes with more than one attempt of a callback. A repeated one opens a skipped event again, unless
    a person skipped it."""
    memory: Mapping[str, int] = field(default_factory=dict)
    """Maximum memory of each process with its workers, in bytes."""
    unsettled: tuple[str, ...] = field(default=())
    """Events that had not come to rest within the patience."""
    drafts: tuple["DraftEvidence", ...] = ()
    """Drafts that people sent with the page before sending."""
    recorded: Mapping[str, str] = field(default_factory=dict)
    """User id of the recorded sender, by envelope."""
    neighbour: "NeighbourEvidence | None" = None
    """The second Organization; None: there is none."""


@dataclass(frozen=True)
class PageAnswer:
    """The page that a person saw at the end of one try to send a draft."""

    is_inbox: bool
    """Whether it is eSAW's inbox, to which only a sent draft leads."""
    text: str
    sent_before: int
    """Number of times that eSAW had sent the draft when the try began."""
    sent: int
    """The same when the page was there."""


@dataclass(frozen=True)
class DraftEvidence:
    """One draft, its owner, and each page that the owner saw, in order."""

    id: str
    owner: str
    """User id."""
    sent: int
    """Number of times that eSAW sent it."""
    envelopes: tuple[str, ...]
    """The envelopes that it became."""
    expected: int
    """Number of envelopes that it becomes."""
    answers: tuple[PageAnswer, ...] = ()


@dataclass(frozen=True)
class NeighbourEvidence:
    """All that the checker knows about the second Organization of a round, at which no fault is aimed."""

    evidence: Evidence
    """Its envelopes, archive and events; ``mails`` are those to its administrators."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Seconds from the accepted callback of an envelope to its delete, by envelope; empty in rounds with
    faults of what both Organizations share."""
    strayed: tuple[str, ...] = ()
    """Requests at an eSAW about an envelope, or with a key, of the other one."""


def violations(evidence: Evidence) -> list[str]:
    """Return every violation, each in one line."""
    return [
        *_deletes(evidence),
        *_contents(evidence),
        *_events(evidence),
        *_statuses(evidence),
        *_mails(evidence),
        *_secrets(evidence),
        *_decisions(evidence),
        *_memory(evidence),
        *_drafts(evidence),
        *(f"neighbour: {each}" for each in _neighbour(evidence.neighbour)),
        *(f"redirect: it was followed to {each}" for each in evidence.followed),
        *(f"crash: {each}" for each in evidence.crashes),
        *(f"no rest: {each}" for each in evidence.unsettled),
    ]


def _deletes(evidence: Evidence) -> Iterator[str]:
    """Rule 4, at the moment of each delete and at the end."""
    for index, delete in enumerate(evidence.deletes):
        name = f"delete of {delete.envelope}"
        if evidence.policy == "Keep":
            yield f"{name}: the organization keeps its envelopes"
        if delete.archived is False and not evidence.restores:
            yield f"{name}: the API server had no Archived=True"
        for fault in _incomplete(evidence.envelopes.get(delete.envelope, {}), delete.archive):
            yield f"{name}: {fault}"
        # A request that does not reach eSAW, or that it refuses, deletes nothing: files may change after it.
        had_no_effect = any(
            later.was_there for later in evidence.deletes[index + 1 :] if later.envelope == delete.envelope
        )
        now = of_envelope(evidence.archive, delete.envelope)
        if evidence.successes.get(delete.envelope) and not had_no_effect and now != delete.archive:
            changed = sorted(
                path for path in {*now, *delete.archive} if now.get(path) != delete.archive.get(path)
            )
            yield f"{name}: these files changed in the archive afterwards: {', '.join(changed)}"
    for envelope, number in evidence.successes.items():
        if number > 1:
            yield f"delete of {envelope}: it was deleted {number} times"
    asked = {each.envelope for each in evidence.deletes}
    for envelope in sorted(evidence.gone - evidence.removed - asked):
        yield f"delete of {envelope}: nobody saw the request"


def _incomplete(files: Mapping[str, ServedFile], archive: Files) -> Iterator[str]:
    """Everything that the archive lacks of these files."""
    manifests = [path for path in archive if PurePosixPath(path).name == MANIFEST]
    if len(manifests) != 1:
        yield f"the archive has {len(manifests)} manifests of it"
        return
    listed = manifest_entries(archive[manifests[0]])
    for file_id, file in files.items():
        entry = listed.get(file_id)
        if entry is None:
            yield f"the manifest does not list {file.kind} {file_id}"
            continue
        path, sha256 = str(PurePosixPath(manifests[0]).parent / entry[0]), entry[1]
        content = archive.get(path)
        if content is None:
            yield f"the archive does not have {path}"
        elif digest(content) not in file.accepted:
            yield f"{path} has other bytes than eSAW served"
        elif digest(content) != sha256:
            yield f"{path} has another hash than its manifest says"
    served = {sha256 for file in files.values() for sha256 in file.accepted}
    for name, sha256 in listed.values():
        if sha256 not in served:
            yield f"the manifest lists {name}, which eSAW never served"


def manifest_entries(text: bytes) -> dict[str, tuple[str, str]]:
    """Return name and SHA-256 by file id; nothing of a manifest that is none."""
    try:
        return {each["fileID"]: (each["name"], each["sha256"]) for each in json.loads(text)["files"]}
    except (ValueError, KeyError, TypeError):
        return {}


def _contents(evidence: Evidence) -> Iterator[str]:
    """Rule 3: what a finished event left in the archive is whole, its own, and listed."""
    accepted: dict[str, set[str]] = defaultdict(set)
    for envelope, files in evidence.envelopes.items():
        accepted[envelope].update(*(each.accepted for each in files.values()))
    succeeded = {each["spec"]["envelopeID"] for each in evidence.events if _phase(each) == "Succeeded"}
    for path in evidence.archive:
        if not any(envelope in path for envelope in evidence.envelopes) and not path.startswith(PROBE):
            yield f"archive: {path} belongs to no envelope"
    for envelope in sorted(succeeded & evidence.envelopes.keys()):
        mine = of_envelope(evidence.archive, envelope)
        yield from (
            f"archive of {envelope}: {fault}" for fault in _incomplete(evidence.envelopes[envelope], mine)
        )
        yield from _other_files(mine, evidence.planted, accepted[envelope])
        if evidence.public_key:
            yield from _seal(mine, evidence.public_key)
        for path, content in mine.items():
            if PurePosixPath(path).name == HASHES:
                yield from _hash_file(mine, path, content)


def _hash_file(archive: Files, path: str, content: bytes) -> Iterator[str]:
    for line in content.decode().splitlines():
        sha256, _, name = line.lstrip("\\").partition("  ")
        file = archive.get(str(PurePosixPath(path).parent / name))
        if file is None or digest(file) != sha256:
            yield f"archive: {path} has a wrong line about {name}"


def _other_files(archive: Files, planted: Files, accepted: Set[str]) -> Iterator[str]:
    """Files that are neither eSAW's nor Counterfoil's nor left as another program wrote them."""
    for path, content in archive.items():
        is_known = PurePosixPath(path).name in OWN or planted.get(path) == content
        if not is_known and digest(content) not in accepted:
            yield f"archive: {path} is no file of eSAW"


def _seal(archive: Files, public_key: bytes) -> Iterator[str]:
    for path, content in archive.items():
        if PurePosixPath(path).name == MANIFEST:
            seal = archive.get(str(PurePosixPath(path).with_name(SEAL)), b"")
            try:
                Ed25519PublicKey.from_public_bytes(public_key).verify(seal, content)
            except InvalidSignature:
                yield f"archive: {path} does not have a valid seal"


def _decisions(evidence: Evidence) -> Iterator[str]:
    """A decision of a person about an event is obeyed until the delete, by each event of the envelope. A
    controller reads it after eSAW has listed the files."""
    if evidence.restores:  # the decision itself can be lost
        return
    for decision in evidence.decisions:
        if (
            decision.what == "skip"
            and decision.envelope in evidence.called_again
            and not _is_last_skip(decision, evidence)
        ):
            continue
        for delete in evidence.deletes:
            is_meant = decision.envelope in ("", delete.envelope)
            is_in_force = decision.ended is None or delete.arrived < decision.ended
            if is_meant and is_in_force and decision.stored < delete.listed:
                times = f"stored at {decision.stored}, files listed at {delete.listed}"
                yield f"delete of {delete.envelope}: a person had decided to {decision.what} ({times})"


def _is_last_skip(decision: Decision, evidence: Evidence) -> bool:
    """Whether the event is skipped by this decision, which no callback undoes. A skip of an event that had
    ended as Skipped does nothing."""
    skips = (each for each in evidence.decisions if (each.what, each.envelope) == ("skip", decision.envelope))
    return decision == max(skips, key=lambda each: each.stored) and _is_skipped(decision.envelope, evidence)


def _is_skipped(envelope: str, evidence: Evidence) -> bool:
    """Whether a person skipped an event of the envelope, and no retry took that back."""
    events = (each for each in evidence.events if each["spec"]["envelopeID"] == envelope)
    return any("skippedTime" in each.get("status", {}) for each in events)


def _memory(evidence: Evidence) -> Iterator[str]:
    for name, size in evidence.memory.items():
        limit = next(limit for kind, limit in MEMORY_LIMITS.items() if name.startswith(kind))
        if size > limit:
            yield f"memory: {name} used {size >> 20} MiB, more than its limit of {limit >> 20} MiB"


def _drafts(evidence: Evidence) -> Iterator[str]:
    """Each draft is sent once, each envelope has its sender, and no page says the opposite."""
    for draft in evidence.drafts:
        name = f"draft {draft.id}"
        if draft.sent > 1 or len(draft.envelopes) not in (0, draft.expected):
            yield f"{name}: it was sent {draft.sent} times and became {len(draft.envelopes)} envelopes"
        for envelope in draft.envelopes:
            recorded = evidence.recorded.get(envelope)
            if recorded is None and not evidence.restores:  # the record itself can be lost
                yield f"{name}: the sender of envelope {envelope} is not recorded"
            elif recorded is not None and recorded != draft.owner:
                yield f"{name}: envelope {envelope} is recorded for another sender"
        # What a try sends after its page was there shows when the next one begins.
        later = [*(each.sent_before for each in draft.answers[1:]), draft.sent]
        for answer, sent_later in zip(draft.answers, later, strict=True):
            yield from (f"{name}: {each}" for each in _opposites(answer, sent_later))


def _opposites(answer: PageAnswer, sent_later: int) -> Iterator[str]:
    """Each claim of a page that is not true."""
    if (answer.is_inbox or SENT in answer.text) and not answer.sent:
        yield "a page says that it is sent, and it was not"
    if any(claim in answer.text for claim in NOT_SENT) and sent_later > answer.sent_before:
        yield f"a page says that it was not sent, and it was: {answer.text[:200]}"
    if NO_DRAFT in answer.text and not sent_later:
        yield "a page says that there is no such draft, and it was not sent"


def _neighbour(neighbour: NeighbourEvidence | None) -> Iterator[str]:
    """The work of another Organization continues, and nothing of it is touched."""
    if neighbour is None:
        return
    evidence = neighbour.evidence
    yield from _deletes(evidence)
    yield from _contents(evidence)
    yield from _events(evidence)
    yield from _statuses(evidence)
    for event in evidence.events:
        if _phase(event) != "Succeeded" and not _is_of_restore(event, evidence):
            reason = event.get("status", {}).get("reason")
            yield f"event {event['metadata']['name']}: {_phase(event)} ({reason})"
    for envelope, seconds in neighbour.seconds.items():
        if seconds > NEIGHBOUR_SECONDS:
            yield f"envelope {envelope}: it took {seconds:.0f} seconds"
    for mail in evidence.mails:
        if not (evidence.restores and DELETED in mail.subject):
            yield f"mail: {mail.subject}, although it has no problem"
    yield from (f"request: {each}" for each in neighbour.strayed)


def _is_of_restore(event: Mapping[str, Any], evidence: Evidence) -> bool:
    """Whether etcd lost that this event archived and deleted its envelope, which it then fails to find
    (docs/backup.md)."""
    is_gone = event["spec"]["envelopeID"] in evidence.gone
    return bool(evidence.restores) and event.get("status", {}).get("reason") == DELETED and is_gone


def _events(evidence: Evidence) -> Iterator[str]:
    """Rules 1 and 2, and an end for each event."""
    count = Counter(each["spec"]["envelopeID"] for each in evidence.events)
    lost = evidence.gone if evidence.restores else frozenset()  # the sweep finds those that are in eSAW
    for envelope in sorted(evidence.answered - count.keys() - lost):
        yield f"callback of {envelope}: answered 200, but there is no event"
    for envelope, number in count.items():
        if number > 1:
            yield f"callback of {envelope}: {number} events"
    for event in evidence.events:
        name, phase, reason = event["metadata"]["name"], _phase(event), event.get("status", {}).get("reason")
        needs_person = phase in ("Failed", "AwaitingConsent")
        if phase not in FINAL and not needs_person:
            yield f"event {name}: it waits in {phase} ({reason}) and has no end"
        is_told = evidence.responsible.get(str(reason), "nobody") != "nobody"
        if needs_person and not is_told and not _is_of_restore(event, evidence):
            yield f"event {name}: {phase} with {reason}, for which nobody is responsible"
        envelope = event["spec"]["envelopeID"]
        is_planted = any(envelope in path for path in evidence.planted)
        if phase == "Failed" and reason == OCCUPIED and not is_planted and not evidence.restores:
            yield f"event {name}: {reason}, but no other program's file is in its folder"
        # What changed after a skip is archived, and deleted only after a retry.
        is_kept = reason == "ArchivedAndKept" and _is_skipped(envelope, evidence)
        is_deleted = evidence.policy == "Delete" and phase == "Succeeded" and not is_kept
        if is_deleted and envelope not in evidence.gone:
            yield f"event {name}: Succeeded, but the envelope is still in eSAW"


def _statuses(evidence: Evidence) -> Iterator[str]:
    """A status is right about the place of its envelope."""
    if evidence.restores:  # it can be the status of before
        return
    for event in evidence.events:
        said, envelope = event.get("status", {}).get("message") or "", event["spec"]["envelopeID"]
        untrue = untrue_place(said, envelope, evidence.gone, evidence.removed)
        if untrue is not None and envelope in evidence.envelopes:
            yield f"event {event['metadata']['name']}: its status {untrue}"


def _mails(evidence: Evidence) -> Iterator[str]:
    """Rule 6."""
    facts = MailFacts(
        events=evidence.events,
        envelopes=evidence.envelopes.keys(),
        removed=evidence.removed,
        dead_keys=evidence.dead_keys,
        consented=evidence.consented,
        usable=evidence.usable,
        interruptions=evidence.interruptions,
        restores=evidence.restores,
    )
    yield from (f"mail: {each}" for each in wrong_mails(evidence.mails, facts))
    others = evidence.neighbour.evidence.envelopes if evidence.neighbour is not None else {}
    for mail in evidence.mails:
        if any(each in mail.text for each in others):
            yield f"mail: “{mail.subject}” names an envelope of another Organization"


def _secrets(evidence: Evidence) -> Iterator[str]:
    """Rule 7. The secret itself is not repeated here."""
    for name, text in evidence.texts.items():
        for secret in evidence.secrets:
            if secret in text:
                yield f"secret: {name} has the one with the SHA-256 {digest(secret.encode())[:8]}"


def of_envelope(archive: Files, envelope: str) -> dict[str, bytes]:
    """Return the files of one envelope."""
    return {path: content for path, content in archive.items() if envelope in PurePosixPath(path).parts}


def digest(content: bytes) -> str:
    """Return the SHA-256 in hex."""
    return hashlib.sha256(content).hexdigest()


def _phase(event: Mapping[str, Any]) -> str:
    return str(event.get("status", {}).get("phase", "Pending"))
