"""
The judge: what must hold after a round, for any faults. Pure, and it shares no code with the product.

It knows what eSAW served and was asked for, what the archive's folder holds, what the API server stores, and
which mails arrived. It believes no status that it can check against those.
"""

import hashlib
import json
import math
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Set
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from verification.chaos.mails import Mail, MailFacts, untrue_place, wrong_mails

ALL: Final = "*"
"""Each copy."""
FIRST: Final = "dms"
"""Name of the first Archive."""
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
"""Content of archived files by their path: in the first Archive; in others, after the name of the Archive."""


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
    copies: Files = field(default_factory=dict)
    """The files of this envelope in the Archives of copies."""
    claimed: frozenset[str] = frozenset()
    """The Archives of copies that were proved according to the status of an event; ``ALL``: each of them."""


@dataclass(frozen=True)
class CopiesInForce:
    """The value that a person gave ``spec.copies``."""

    began: int
    """When the person began to change it, by the count of ``Delete``."""
    stored: int
    """When the API server had stored it."""
    required: frozenset[str]
    """The Archives of the required copies."""


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
    archive: str = ""
    """The Archive that it concerns; empty: any."""


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
    """Files that another program wrote into an archive, by their path."""
    copies: Files = field(default_factory=dict)
    """The Archives of copies at the end."""
    copying: str = ""
    """The Organization that has copies and routes; empty: none has."""
    planned_copies: Mapping[str, bool] = field(default_factory=dict)
    """Whether each copy is required at the end, by the name of its Archive."""
    copies_in_force: tuple[CopiesInForce, ...] = ()
    """The values of ``spec.copies``, in order."""
    archives: tuple[str, ...] = ()
    """The names of the Archives of originals after the first one."""
    areas: Mapping[str, str] = field(default_factory=dict)
    """The Archive to which the routes lead, by envelope; empty: there are none, or they changed."""
    is_copy_corrupted: bool = False
    """Whether the server of the copies stored other bytes than it was sent."""
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
        *_splits(evidence),
        *_copies(evidence),
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
        archive = _without_planted_aside(delete.archive, evidence)
        for fault in _incomplete(evidence.envelopes.get(delete.envelope, {}), archive):
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
        if not any(envelope in path for envelope in evidence.envelopes) and not _is_of_probe(path):
            yield f"archive: {path} belongs to no envelope"
    for envelope in sorted(succeeded & evidence.envelopes.keys()):
        mine = _without_planted_aside(of_envelope(evidence.archive, envelope), evidence)
        yield from (
            f"archive of {envelope}: {fault}" for fault in _incomplete(evidence.envelopes[envelope], mine)
        )
        yield from _other_files(mine, evidence.planted, accepted[envelope])
        if evidence.public_key:
            yield from _seal(mine, evidence.public_key)
        for path, content in mine.items():
            if PurePosixPath(path).name == HASHES:
                yield from _hash_file(mine, path, content)


def _is_of_probe(path: str) -> bool:
    return PurePosixPath(path).name.startswith(PROBE)


def _splits(evidence: Evidence) -> Iterator[str]:
    """The files of an envelope are in one Archive, and in the one to which its tag leads."""
    if evidence.restores:  # the choice itself can be lost
        return
    started_again = {
        *evidence.called_again,
        *(each.envelope for each in evidence.decisions if each.what == "skip"),
    }
    for event in evidence.events:
        envelope = event["spec"]["envelopeID"]
        mine = of_envelope(evidence.archive, envelope)
        places = {archive_of(path, evidence.archives) for path in mine.keys() - evidence.planted.keys()}
        # An event that starts again chooses again, unless it has a manifest. Two manifests are never right.
        if len(places) > 1 and envelope not in started_again:
            yield f"split: {envelope} has files in {' and '.join(sorted(places))}"
        wanted = evidence.areas.get(envelope)
        if wanted is not None and _phase(event) == "Succeeded" and wanted not in places:
            yield f"route: {envelope} is not in {wanted}, to which its tag leads"


def _without_planted_aside(archive: Files, evidence: Evidence) -> Files:
    """Return the files of an envelope without those that were planted in an Archive to which it did not
    go."""
    places = {
        archive_of(path, evidence.archives)
        for path, content in archive.items()
        if evidence.planted.get(path) != content
    }
    return {
        path: content
        for path, content in archive.items()
        if evidence.planted.get(path) != content or archive_of(path, evidence.archives) in places
    }


def archive_of(path: str, archives: Collection[str]) -> str:
    """Return the Archive of a path: one of these, or the first one."""
    name = PurePosixPath(path).parts[0]
    return name if name in archives else FIRST


def _copies(evidence: Evidence) -> Iterator[str]:
    """Each copy has the bytes of its original: a required one at the delete, each one in the end."""
    if not evidence.copying:
        return
    mine = {
        each["spec"]["envelopeID"]: each
        for each in evidence.events
        if each["spec"]["organizationRef"]["name"] == evidence.copying
    }
    for delete in evidence.deletes:
        required = _required_at(delete, evidence) if delete.envelope in mine else frozenset()
        for name in sorted(required):
            faults = _faults_of_copy(name, delete.envelope, delete.copies, delete.archive, evidence)
            yield from (f"delete of {delete.envelope}: required copy in {name}: {each}" for each in faults)
        claimed = _claimed(delete.claimed, evidence, delete.arrived) if not evidence.restores else ()
        for name in claimed:
            faults = _faults_of_copy(name, delete.envelope, delete.copies, delete.archive, evidence)
            yield from (f"delete of {delete.envelope}: proved copy in {name}: {each}" for each in faults)
    for path, content in evidence.copies.items():
        # A file can be planted for an envelope that a person deletes before its callback.
        is_known = any(envelope in path for envelope in mine) or evidence.planted.get(path) == content
        if not is_known and not _is_of_probe(path):
            yield f"copy: {path} belongs to no envelope"
    for envelope, event in sorted(mine.items()):
        yield from (f"copy of {envelope}: {each}" for each in _copies_of(envelope, event, evidence))


def _required_at(delete: Delete, evidence: Evidence) -> frozenset[str]:
    """Return the copies that were required by each spec that may have been in force when a controller read it
    for the last time: after eSAW listed the files, and before the request."""
    orders = evidence.copies_in_force
    possible = [
        order
        for order, following in zip(orders, [*orders[1:], None], strict=True)
        if order.began < delete.arrived and (following is None or following.stored >= delete.listed)
    ]
    # An older state of the API server may have any of them.
    sets = [each.required for each in (orders if evidence.restores else possible)]
    return frozenset.intersection(*sets) if sets else frozenset()


def _copies_of(envelope: str, event: Mapping[str, Any], evidence: Evidence) -> Iterator[str]:
    """Everything that is wrong with the copies of an envelope, and with what is said about them."""
    copied = _condition_of_copies(event)
    claimed = _claimed(claimed_copies(event), evidence)
    has_succeeded = _phase(event) == "Succeeded"
    for name, is_required in evidence.planned_copies.items():
        if not has_succeeded and name not in claimed:
            continue
        faults = list(
            _faults_of_copy(
                name, envelope, evidence.copies, evidence.archive, evidence, every_file=has_succeeded
            )
        )
        if not faults:
            yield from _additional_files(name, envelope, evidence)
            continue
        if evidence.restores:  # it can be the status of before
            continue
        if name in claimed:
            yield f"its status says that {name} has it: {faults[0]}"
        is_reported = copied.get("status") == "False" and name in str(copied.get("message"))
        if has_succeeded and (is_required or not is_reported):
            yield f"it is missing in {name}, and no person learns of it ({faults[0]})"


def claimed_copies(event: Mapping[str, Any]) -> frozenset[str]:
    """Return the Archives of copies that are proved by the status of an event, and ``ALL`` if it names
    each."""
    entries = event.get("status", {}).get("copies", ())
    proved = {each["ref"]["name"] for each in entries if each.get("verifiedTime")}
    return frozenset(proved | ({ALL} if _condition_of_copies(event).get("status") == "True" else set()))


def _claimed(claimed: Set[str], evidence: Evidence, now: float = math.inf) -> list[str]:
    """Return the planned copies that are claimed. ``ALL`` may be about other copies, if a person changed
    them before now."""
    is_changed = sum(each.began < now for each in evidence.copies_in_force) > 1
    every = evidence.planned_copies if ALL in claimed and not is_changed else ()
    return sorted((claimed | set(every)) & evidence.planned_copies.keys())


def _condition_of_copies(event: Mapping[str, Any]) -> Mapping[str, Any]:
    conditions = event.get("status", {}).get("conditions", ())
    return next((each for each in conditions if each["type"] == "Copied"), {})


def _additional_files(name: str, envelope: str, evidence: Evidence) -> Iterator[str]:
    """Files beside a whole copy that are neither eSAW's nor Counterfoil's, and a seal that is not valid."""
    copy = of_archive(name, envelope, evidence.copies)
    accepted = {sha256 for each in evidence.envelopes[envelope].values() for sha256 in each.accepted}
    yield from _other_files(copy, evidence.planted, accepted)
    contents = Counter(digest(each) for path, each in copy.items() if PurePosixPath(path).name not in OWN)
    files = manifest_entries(
        next(each for path, each in copy.items() if PurePosixPath(path).name == MANIFEST)
    )
    if contents.total() > len(files) and not any(path in evidence.planted for path in copy):
        yield f"{name} has {contents.total()} files, and its manifest lists {len(files)}"
    if evidence.public_key:
        yield from _seal(copy, evidence.public_key)
    for path, content in copy.items():
        if PurePosixPath(path).name == HASHES:
            yield from _hash_file(copy, path, content)


def _faults_of_copy(
    name: str,
    envelope: str,
    copies: Files,
    archive: Files,
    evidence: Evidence,
    *,
    every_file: bool = True,
) -> Iterator[str]:
    """
    Everything that a copy lacks of what eSAW served, and of its original.

    ``every_file``: also what the original lacks. eSAW may list a file after a person skipped the event.
    """
    copy = of_archive(name, envelope, copies)
    originals = digests_by_id(_without_planted_aside(of_envelope(archive, envelope), evidence))
    files = evidence.envelopes.get(envelope, {})
    if not every_file:
        files = {file_id: file for file_id, file in files.items() if file_id in originals}
    yield from _incomplete(files, copy)
    for file_id, sha256 in digests_by_id(copy).items():
        if file_id in originals and originals[file_id] != sha256:
            yield f"the file {file_id} has other bytes than its original"


def digests_by_id(archive: Files) -> dict[str, str]:
    """Return the SHA-256 of the files that the manifests of an envelope list, by the id of the file."""
    found = {}
    for path, content in archive.items():
        if PurePosixPath(path).name == MANIFEST:
            for file_id, (name, _) in manifest_entries(content).items():
                file = archive.get(str(PurePosixPath(path).parent / name))
                if file is not None:
                    found[file_id] = digest(file)
    return found


def of_archive(name: str, envelope: str, archive: Files) -> dict[str, bytes]:
    """Return the files of one envelope in one Archive."""
    mine = of_envelope(archive, envelope)
    return {path: content for path, content in mine.items() if PurePosixPath(path).parts[0] == name}


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
            is_meant = decision.envelope in ("", delete.envelope) and _concerns(decision, delete, evidence)
            is_in_force = decision.ended is None or delete.arrived < decision.ended
            if is_meant and is_in_force and decision.stored < delete.listed:
                times = f"stored at {decision.stored}, files listed at {delete.listed}"
                yield f"delete of {delete.envelope}: a person had decided to {decision.what} ({times})"


def _concerns(decision: Decision, delete: Delete, evidence: Evidence) -> bool:
    """Whether a decision is about the Archive of an envelope."""
    found = {archive_of(path, evidence.archives) for path in delete.archive}
    return not decision.archive or decision.archive in found


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
        # One that does not exist is listed to the Senders of each Organization.
        if number > 1 and envelope in evidence.envelopes:
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
        is_planted = any(envelope in path for path in evidence.planted) or evidence.is_copy_corrupted
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
        archives=1 + len(evidence.archives) + len(evidence.planned_copies),
        has_copies=bool(evidence.copying),
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
