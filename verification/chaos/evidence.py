"""
Collect what the checker judges: files of the archive, records of eSAW, objects, logs and mails.

Objects come from kubectl, files from their folder. Nothing here is asked of the product.
"""

import asyncio
import json
import tomllib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from sandbox.environment.local import LocalEnvironment
from sandbox.esaw import StandIn
from sandbox.servers.proxies import Passage, Proxy, TrapPoint, asks
from verification.chaos import copies as copying
from verification.chaos import neighbour, senders
from verification.chaos.checker import (
    Delete,
    DraftEvidence,
    Evidence,
    NeighbourEvidence,
    PageAnswer,
    ServedFile,
    claimed_copies,
    digest,
)
from verification.chaos.mails import Mail
from verification.chaos.places import read_archive
from verification.chaos.plan import KINDS, REDIRECTED
from verification.chaos.stage import Stage, persist

REASONS: Final = Path(__file__).parents[2] / "counterfoil" / "i18n" / "reasons" / "entries.toml"
"""The published list of reasons, as data."""

INTERRUPTIONS: Final = (
    "controller-killed",
    "controller-stopped",
    "shards-changed",
    "mail-down",
    "api-down",
    "api-unreachable",
    "etcd-restored",
    "clock-set",
    "clock-jumps-days",
)
"""Kinds of faults after which a mail can be sent twice (docs/decisions/0018)."""


class DeleteWatch:
    """Records the state of the archive and the API server at each request to delete."""

    def __init__(
        self,
        environment: LocalEnvironment,
        esaw: StandIn,
        way: Proxy,
        originals: Callable[[str], dict[str, bytes]],
        copies: Callable[[str], dict[str, bytes]] = lambda _: {},
    ) -> None:
        """``way`` is the proxy before ``esaw``; ``originals`` and ``copies`` return the archived files of an
        envelope."""
        self._environment = environment
        self._esaw = esaw
        self._way = way
        self._originals = originals
        self._copies = copies
        self._passage: Passage | None = None
        self.deletes: list[Delete] = []

    def watch(self) -> None:
        """Start; before any fault is set, so that no fault hides a request."""
        self._way.trap(self._is_delete, TrapPoint.ARRIVED, self._record, times=None)

    def _is_delete(self, passage: Passage) -> bool:
        if not asks("delete")(passage):
            return False
        self._passage = passage
        return True

    async def _record(self) -> None:
        assert self._passage is not None  # noqa: S101 - a trap springs only after it matched
        envelope, arrived = str(self._passage.json["EnvelopeId"]), self._passage.arrived
        listed = last_answer(self._way.passages, envelope)
        files = self._originals(envelope)
        was_there = not any(call.outcome == 200 for call in self._esaw.delete_calls(envelope))
        try:
            fields = f"spec.envelopeID={envelope}"
            events = await self._environment.listed("envelopeevents", fields=fields)
        except Exception:  # the API server is down
            copies = self._copies(envelope)
            self.deletes.append(Delete(envelope, files, None, was_there, arrived, listed, copies))
            return
        conditions = [each for event in events for each in event.get("status", {}).get("conditions", [])]
        archived = any(each["type"] == "Archived" and each["status"] == "True" for each in conditions)
        claimed = frozenset(name for event in events for name in claimed_copies(event))
        # Only now, since a claim that is older must be true.
        copies = self._copies(envelope)
        self.deletes.append(Delete(envelope, files, archived, was_there, arrived, listed, copies, claimed))


def last_answer(passages: Iterable[Passage], envelope: str) -> int:
    """Return when eSAW last answered a request about this envelope; a delete and a download do not name it
    in their path."""
    return max((each.answered for each in passages if envelope in each.path), default=0)


async def collect(
    stage: Stage,
    deletes: DeleteWatch,
    neighbour_deletes: DeleteWatch,
    struck: Counter[str],
    unsettled: tuple[str, ...],
) -> Evidence:
    """Return the evidence as it is now."""
    environment, esaw = stage.environment, stage.esaw
    kinds = "envelopeevents,organizations,senders,archives,envelopes,imports,events,leases,configmaps"
    listed = json.loads(await persist(lambda: environment.kubectl("get", kinds, "-o", "json")))["items"]
    logs = {path.name: path.read_text(errors="replace") for path in environment.folder.glob("*.log")}
    await stage.record_mail()
    mails = [
        Mail(str(each.message["Message-ID"]), each.subject, each.text, each.to, gone, each.time)
        for each, gone in zip(stage.smtp.mails, stage.gone_at_mail, strict=False)
    ]
    return Evidence(
        policy=stage.plan.policy,
        removed=frozenset(stage.removed),
        deletes=tuple(deletes.deletes),
        **_of_organization(esaw, stage.ways["esaw"], stage.envelopes),
        archive=await asyncio.to_thread(stage.read_originals),
        copies=await asyncio.to_thread(stage.read_copies),
        copying=copying.ORGANIZATION if stage.copies else "",
        copies_in_force=tuple(stage.copies_in_force),
        planned_copies=dict(copying.PLANNED) if stage.copies else {},
        archives=(*stage.other_roots,),
        areas=dict(stage.areas) if not stage.changed_routes else {},
        is_copy_corrupted=bool(struck["copy-write-corrupted"]),
        events=_events_of(listed, "acme", senders.NAME),
        mails=tuple(each for each in mails if neighbour.ADMINISTRATOR not in each.to),
        texts={**logs, "objects": json.dumps(listed)},
        secrets=frozenset(known_secrets(stage)),
        responsible=responsible(),
        crashes=tuple(stage.crashes),
        interruptions=sum(struck[kind] for kind in INTERRUPTIONS),
        dead_keys=stage.dead_keys(),
        consented=_consented(stage, listed),
        usable=_usable(listed),
        restores=struck["etcd-restored"],
        followed=tuple(
            each.path
            for way in stage.ways.values()
            for each in way.passages
            if each.path.startswith(REDIRECTED)
        ),
        planted=dict(stage.planted),
        public_key=stage.public_key,
        decisions=tuple(stage.decisions),
        called_again=called_again(esaw),
        memory=dict(stage.memory),
        unsettled=unsettled,
        drafts=_drafts(stage),
        recorded=_recorded(listed),
        neighbour=await _neighbour(stage, neighbour_deletes, listed, mails, struck),
    )


def _of_organization(esaw: StandIn, way: Proxy, envelopes: Sequence[str]) -> dict[str, Any]:
    """Return the fields of ``Evidence`` that eSAW knows about the envelopes of an Organization."""
    served = served_bodies(way.passages)
    return {
        "envelopes": {each: served_files(esaw, each, served) for each in envelopes},
        "gone": frozenset(each for each in envelopes if not esaw.exists(each)),
        "successes": {
            each: sum(call.outcome == 200 for call in esaw.delete_calls(each)) for each in envelopes
        },
        "answered": frozenset(each.envelope_id for each in esaw.callbacks() if each.status == 200),
    }


def _drafts(stage: Stage) -> tuple[DraftEvidence, ...]:
    people = stage.senders
    if people is None:
        return ()
    return tuple(
        DraftEvidence(
            id=draft.id,
            owner=draft.owner.user_id,
            sent=people.sent(draft.id),
            envelopes=tuple(stage.esaw.envelopes_of(draft.id)),
            expected=max(1, draft.order.bulk),
            answers=tuple(PageAnswer(**asdict(each)) for each in draft.visits),
        )
        for draft in people.drafts
    )


def _recorded(listed: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Return the user id of the recorded sender of each envelope that has an Envelope."""
    users = {each["metadata"]["name"]: each["spec"]["userID"] for each in listed if each["kind"] == "Sender"}
    return {
        each["metadata"]["name"]: users.get(each["spec"]["senderRef"]["name"], "")
        for each in listed
        if each["kind"] == "Envelope"
    }


def _consented(stage: Stage, listed: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Return the address of the owner of each Sender that a consent made, by its name."""
    owners = {each.user_id: each.email for each in stage.owners}
    return {
        each["metadata"]["name"]: owners.get(each["spec"]["userID"], "")
        for each in listed
        if each["kind"] == "Sender" and each["spec"]["organizationRef"]["name"] == senders.NAME
    }


def _usable(listed: Iterable[Mapping[str, Any]]) -> dict[str, bool]:
    """Return whether each Archive and eSAW works according to its status, by its name in mails."""
    types = {"Archive": "Ready", "Organization": "Reachable"}
    return {
        f"Archive {each['metadata']['name']}"
        if each["kind"] == "Archive"
        else f"[{each['metadata']['name']}] eSignAnyWhere": any(
            condition["type"] == types[each["kind"]] and condition["status"] == "True"
            for condition in each.get("status", {}).get("conditions", ())
        )
        for each in listed
        if each["kind"] in types
    }


def _events_of(listed: Iterable[Mapping[str, Any]], *organizations: str) -> tuple[Mapping[str, Any], ...]:
    events = (each for each in listed if each["kind"] == "EnvelopeEvent")
    return tuple(each for each in events if each["spec"]["organizationRef"]["name"] in organizations)


async def _neighbour(
    stage: Stage,
    deletes: DeleteWatch,
    listed: Iterable[Mapping[str, Any]],
    mails: Iterable[Mail],
    struck: Counter[str],
) -> NeighbourEvidence:
    second = stage.neighbour
    is_alone = all(KINDS[kind].is_of_first_organization for kind in struck if kind in KINDS)
    return NeighbourEvidence(
        evidence=Evidence(
            policy="Delete",
            removed=frozenset(),
            deletes=tuple(deletes.deletes),
            **_of_organization(second.esaw, second.way, second.envelopes),
            archive=await asyncio.to_thread(read_archive, second.archive),
            events=_events_of(listed, neighbour.NAME),
            mails=tuple(each for each in mails if neighbour.ADMINISTRATOR in each.to),
            texts={},
            secrets=frozenset(),
            responsible={},
            restores=struck["etcd-restored"],
            public_key=stage.public_key,
        ),
        seconds=second.seconds() if is_alone else {},
        strayed=second.strayed(stage.esaw),
    )


def called_again(esaw: StandIn) -> frozenset[str]:
    """Return the envelopes with more than one attempt of a callback."""
    attempts = Counter(each.envelope_id for each in esaw.callbacks())
    return frozenset(envelope for envelope, number in attempts.items() if number > 1)


def served_bodies(passages: Iterable[Passage]) -> dict[str, set[str]]:
    """Return the SHA-256 of each body that eSAW served whole, in hex, by file id."""
    served: dict[str, set[str]] = {}
    for each in passages:
        folder, _, file_id = each.path.rpartition("/")
        if folder.endswith("/file") and each.status == 200 and each.sha256:
            served.setdefault(file_id, set()).add(each.sha256)
    return served


def keep(evidence: Evidence, folder: Path) -> None:
    """Write what explains a violation: events, mails, decisions, and the hash of each file."""
    kept = {
        "events": evidence.events,
        "mails": [asdict(each) for each in evidence.mails],
        "decisions": [asdict(each) for each in evidence.decisions],
        "envelopes": {
            envelope: {file_id: asdict(file) for file_id, file in files.items()}
            for envelope, files in evidence.envelopes.items()
        },
        "archive": {path: digest(content) for path, content in evidence.archive.items()},
        "copies": {path: digest(content) for path, content in evidence.copies.items()},
        "planted": sorted(evidence.planted),
    }
    text = json.dumps(
        kept, indent=1, default=lambda other: sorted(other) if isinstance(other, frozenset) else str(other)
    )
    (folder / "evidence.json").write_text(text)


def served_files(
    esaw: StandIn, envelope: str, served: Mapping[str, AbstractSet[str]]
) -> dict[str, ServedFile]:
    """Return the files of an envelope; an audit trail has the bodies that were served, by file id."""
    files = {}
    for file in esaw.files(envelope):
        is_fixed = "AuditTrail" not in str(file.kind)
        expected = {esaw.expected_sha256(file.file_id)} if is_fixed else served.get(file.file_id, set())
        files[file.file_id] = ServedFile(str(file.kind), frozenset(expected))
    return files


def known_secrets(stage: Stage) -> set[str]:
    """Return all keys and tokens that there ever were."""
    secrets = {*stage.tokens, *stage.environment.tokens.values(), stage.servers.s3.secret_key}
    secrets.add(stage.servers.webdav.password)
    if stage.senders is not None:
        secrets.add(stage.senders.app.client_secret)
    for path in stage.environment.folder.glob("*.kubeconfig"):
        secrets.add(json.loads(path.read_text())["users"][0]["user"]["token"])
    return secrets


def responsible() -> dict[str, str]:
    """Return the responsible person by reason."""
    entries: dict[str, dict[str, Any]] = tomllib.loads(REASONS.read_text(encoding="utf-8"))
    return {reason: str(entry["responsible"]) for reason, entry in entries.items()}
