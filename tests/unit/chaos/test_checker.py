"""The checker finds each kind of violation in handmade data, and none in a good round."""

import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from verification.chaos.checker import (
    MEMORY_LIMITS,
    NEIGHBOUR_SECONDS,
    NO_DRAFT,
    NOT_SENT,
    SENT,
    CopiesInForce,
    Decision,
    Delete,
    DraftEvidence,
    Evidence,
    NeighbourEvidence,
    PageAnswer,
    ServedFile,
    digest,
    violations,
)
from verification.chaos.faults import FOREIGN
from verification.chaos.mails import Mail

ENVELOPE = "0f9c1c2e-0000-4000-8000-000000000001"
OTHER = "0f9c1c2e-0000-4000-8000-000000000002"
FOLDER = f"acme/{ENVELOPE}"
CONTRACT, TRAIL = b"%PDF contract", b"<trail/>"
NAMES = {
    "contract": "contract.pdf",
    "trail": "trail.xml",
    "json": "counterfoil.json",
    "hashes": "counterfoil.sha256",
}
FULL = "An event failed: Full"
ASKED = "Please allow us"
KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
SECRET = "s3cr3t" * 6
ROOT = Path(__file__).parents[3]


def manifest(**hashes: str) -> bytes:
    """A manifest with these files."""
    names = {"f1": "contract.pdf", "f2": "trail.xml"}
    hashes = {"f1": digest(CONTRACT), "f2": digest(TRAIL), **hashes}
    files = [
        {"fileID": each, "name": names[each], "sha256": sha256} for each, sha256 in hashes.items() if sha256
    ]
    return json.dumps({"files": files}).encode()


def archive(**changed: bytes | None) -> dict[str, bytes]:
    """The files of the envelope; None leaves one out."""
    files: dict[str, bytes | None] = {
        "contract.pdf": CONTRACT,
        "trail.xml": TRAIL,
        "counterfoil.sha256": f"{digest(CONTRACT)}  contract.pdf\n{digest(TRAIL)}  trail.xml\n".encode(),
        "counterfoil.json": manifest(),
    }
    files |= {NAMES.get(name, name): content for name, content in changed.items()}
    return {f"{FOLDER}/{name}": content for name, content in files.items() if content is not None}


def event(
    phase: str = "Succeeded", reason: str = "ArchivedAndDeleted", envelope: str = ENVELOPE
) -> dict[str, Any]:
    return {
        "metadata": {"name": f"{envelope}-1"},
        "spec": {"envelopeID": envelope},
        "status": {"phase": phase, "reason": reason},
    }


def skipped(event: dict[str, Any]) -> dict[str, Any]:
    """The event after a person's skip that was carried out."""
    return {**event, "status": {**event["status"], "skippedTime": "2026-07-01T12:00:00Z"}}


def said(message: str, phase: str = "Succeeded", reason: str = "ArchivedAndDeleted") -> dict[str, Any]:
    """An event with this message in its status."""
    found = event(phase, reason)
    return {**found, "status": {**found["status"], "message": message}}


GOOD = Evidence(
    policy="Delete",
    envelopes={
        ENVELOPE: {
            "f1": ServedFile("Document", frozenset({digest(CONTRACT)})),
            "f2": ServedFile("AuditTrailXml", frozenset({digest(b"earlier"), digest(TRAIL)})),
        }
    },
    gone=frozenset({ENVELOPE}),
    removed=frozenset(),
    deletes=(Delete(ENVELOPE, archive(), archived=True),),
    successes={ENVELOPE: 1},
    archive=archive(),
    events=(event(),),
    answered=frozenset({ENVELOPE}),
    mails=(),
    texts={"controller.log": "archived"},
    secrets=frozenset({SECRET}),
    responsible={"ArchiveFull": "administrator", "ArchivedAndDeleted": "nobody"},
)


def failed(reason: str = "ArchiveFull") -> Evidence:
    return replace(
        GOOD,
        gone=frozenset(),
        deletes=(),
        successes={},
        archive={},
        events=(event("Failed", reason),),
        mails=(Mail("<1@x>", f"An event failed: {reason}"),),
    )


def at_delete(**changed: bytes | None) -> Evidence:
    """A round in which the archive was so at the delete, and is so now."""
    return replace(
        GOOD, deletes=(Delete(ENVELOPE, archive(**changed), archived=True),), archive=archive(**changed)
    )


def decided(*decisions: Decision, **changed: Any) -> Evidence:
    """A round in which eSAW listed the files at 10, and the request to delete arrived at 12."""
    delete = Delete(ENVELOPE, archive(), archived=True, arrived=12, listed=10)
    return replace(GOOD, deletes=(delete,), decisions=decisions, **changed)


def sealed(seal: bytes) -> Evidence:
    files = archive(**{"counterfoil.json.sig": seal})
    return replace(
        GOOD,
        deletes=(replace(GOOD.deletes[0], archive=files),),
        archive=files,
        public_key=KEY.public_key().public_bytes_raw(),
    )


COPIES = {"worm": True, "mirror": False}


def placed(name: str, **changed: bytes | None) -> dict[str, bytes]:
    """The files of the envelope in another Archive."""
    return {f"{name}/{path}": content for path, content in archive(**changed).items()}


def copied(
    *names: str,
    condition: str = "True",
    at_delete: Mapping[str, bytes] | None = None,
    **changed: bytes | None,
) -> Evidence:
    """A round with a required copy and an optional one, of which these are whole, and those in ``worm`` are
    changed so. At the delete, the Archives of copies had the same unless it is given."""
    files = {path: content for name in names for path, content in placed(name).items()}
    files |= placed("worm", **changed) if "worm" in names else {}
    for name, content in changed.items():
        if content is None:
            files.pop(f"worm/{FOLDER}/{NAMES.get(name, name)}", None)
    message = "The copy in Archive/mirror is missing"
    made = event()
    made["spec"]["organizationRef"] = {"name": "acme"}
    made["status"]["conditions"] = [{"type": "Copied", "status": condition, "message": message}]
    delete = Delete(
        ENVELOPE, archive(), True, arrived=12, listed=10, copies=files if at_delete is None else at_delete
    )
    return replace(
        GOOD,
        deletes=(delete,),
        copies=files,
        copying="acme",
        planned_copies=COPIES,
        copies_in_force=(CopiesInForce(0, 0, frozenset({"worm"})),),
        events=(made,),
    )


def skipped_after(found: Evidence) -> Evidence:
    """A round with copies whose event a person skipped after they were made. eSAW lists one more file."""
    status = {**found.events[0]["status"], "phase": "Skipped", "reason": "SkippedByRequest"}
    late = {"f9": ServedFile("AuditTrail", frozenset())}
    return replace(
        found,
        events=(skipped({**found.events[0], "status": status}),),
        envelopes={ENVELOPE: {**GOOD.envelopes[ENVELOPE], **late}},
        responsible={**GOOD.responsible, "SkippedByRequest": "nobody"},
        gone=frozenset(),
        deletes=(),
        successes={},
    )


def failed_with_planted(path: str) -> Evidence:
    """A round with seals whose event failed, and that has only a planted file in the Archive of a copy."""
    found = copied("worm")
    status = {"phase": "Failed", "reason": "NameOccupied"}
    return replace(
        found,
        archive={},
        copies={path: b"{}"},
        planted={path: b"{}"},
        events=({**found.events[0], "status": status},),
        responsible={**GOOD.responsible, "NameOccupied": "administrator"},
        mails=(Mail("<1@x>", "An event failed: NameOccupied"),),
        public_key=KEY.public_key().public_bytes_raw(),
        gone=frozenset(),
        deletes=(),
        successes={},
    )


def planted_beside(found: Evidence) -> Evidence:
    """The round with a file in the Archive of a copy that was planted for an envelope without an event."""
    planted = {f"worm/acme/{OTHER}/counterfoil.json": b"planted"}
    return replace(found, copies={**found.copies, **planted}, planted=planted)


def changed_copies(*orders: CopiesInForce) -> Evidence:
    """A round in which the required copy was not there at the delete."""
    return replace(copied("worm", "mirror", at_delete={}), copies_in_force=orders)


REQUIRED = CopiesInForce(0, 0, frozenset({"worm"}))
"""The first value of ``spec.copies``."""


def routed(*places: dict[str, bytes], **changed: Any) -> Evidence:
    """A round with a second Archive of originals, in which the envelope has these files."""
    files = {path: content for each in places for path, content in each.items()}
    return replace(
        GOOD, deletes=(replace(GOOD.deletes[0], archive=files),), archive=files, archives=("hr",), **changed
    )


HALF = {f"hr/{FOLDER}/trail.xml": TRAIL}

INBOX = PageAnswer(is_inbox=True, text="", sent_before=0, sent=1)
FAILED = PageAnswer(False, "This attempt did not send your envelope.", sent_before=0, sent=0)
UNCERTAIN = PageAnswer(False, "It is not certain that your envelope was sent", sent_before=0, sent=1)
UNSENT = DraftEvidence("d1", owner="u1", sent=0, envelopes=(), expected=2)


def drafted(*answers: PageAnswer, recorded: str = "u1", **changed: Any) -> Evidence:
    """A round in which a person sent a bulk of two envelopes."""
    draft = replace(UNSENT, sent=1, envelopes=("e1", "e2"), answers=answers)
    return replace(
        GOOD, drafts=(replace(draft, **changed),), recorded={"e1": recorded, "e2": "u1"} if recorded else {}
    )


def beside(evidence: Evidence, **changed: Any) -> Evidence:
    """A good round beside a second Organization with this evidence."""
    return replace(GOOD, neighbour=NeighbourEvidence(evidence, **changed))


def mails(*sent: tuple[str, str], to: str = "", **changed: Any) -> Evidence:
    """A round with these identities and subjects of mails."""
    found = tuple(Mail(identity, subject, to=(to,) if to else ()) for identity, subject in sent)
    return replace(failed("Full"), responsible={"Full": "administrator"}, mails=found, **changed)


@pytest.mark.parametrize(
    "evidence",
    [
        GOOD,
        failed(),
        replace(failed(), events=(event("AwaitingConsent", "ArchiveFull"),)),
        # Two Organizations list an envelope that does not exist.
        replace(GOOD, events=(*GOOD.events, *[event("Skipped", "SkippedByRequest", FOREIGN)] * 2)),
        replace(GOOD, policy="Keep", gone=frozenset(), deletes=(), successes={}),
        replace(failed(), removed=frozenset({ENVELOPE}), gone=frozenset({ENVELOPE})),
        # The answer to the first request was lost.
        replace(GOOD, deletes=GOOD.deletes * 2),
        replace(GOOD, deletes=(Delete(ENVELOPE, archive(), archived=None),)),
        # The first request did not reach eSAW; a late file was archived before the second one.
        replace(GOOD, deletes=(Delete(ENVELOPE, archive(extra=CONTRACT), archived=True), *GOOD.deletes)),
        # etcd was restored: the event, and the proof that it had, are lost. The envelope is archived.
        replace(GOOD, deletes=(Delete(ENVELOPE, archive(), archived=False),), restores=1),
        replace(GOOD, events=(), restores=1),
        mails(("<1@x>", FULL), ("<2@x>", "Solved: 2 events failed: Full"), ("<3@x>", FULL)),
        mails(("<1@x>", FULL), ("<1@x>", FULL), interruptions=1),
        # Failures in two Archives are two problems.
        mails(("<1@x>", FULL), ("<2@x>", FULL), archives=("hr",)),
        mails(("<1@x>", FULL), ("<2@x>", FULL), planned_copies={"worm": True}),
        mails(("<1@x>", ASKED), ("<2@x>", ASKED), to="a@x", dead_keys={"a@x": 2}, interruptions=1),
        # Left by a controller that was killed while it probed the archive
        replace(GOOD, archive={**archive(), ".counterfoil-0123.tmp": b""}),
        # A planted file that no manifest lists stays.
        replace(at_delete(extra=b"planted"), planted={f"{FOLDER}/extra": b"planted"}),
        sealed(KEY.sign(manifest())),
        replace(
            failed("NameOccupied"),
            responsible={"NameOccupied": "administrator"},
            planted={f"{FOLDER}/contract.pdf": b"planted"},
        ),
        # Decisions before eSAW listed the files that were taken back, after that, about other envelopes
        decided(Decision("suspend", ENVELOPE, stored=5, ended=7)),
        decided(Decision("suspend", ENVELOPE, stored=11)),
        decided(Decision("suspend", OTHER, stored=5)),
        decided(Decision("suspend", "", stored=5, archive="hr"), archives=("hr",)),
        decided(Decision("suspend", "", stored=5), restores=1),
        # A repeated callback opened the event again: it had ended as Skipped before the skip.
        decided(Decision("skip", ENVELOPE, stored=5), called_again=frozenset({ENVELOPE})),
        # The first skip did nothing, and the second came after the delete.
        decided(
            Decision("skip", ENVELOPE, stored=5),
            Decision("skip", ENVELOPE, stored=11),
            called_again=frozenset({ENVELOPE}),
            events=(skipped(event()),),
        ),
        # An envelope that was signed after a skip
        replace(
            GOOD,
            gone=frozenset(),
            deletes=(),
            successes={},
            events=(skipped(event(reason="ArchivedAndKept")),),
        ),
        replace(GOOD, memory={"controller-0-1": 1 << 30, "receiver-0": 256 << 20}),
        drafted(FAILED, UNCERTAIN, replace(INBOX, sent_before=1)),
        replace(drafted(INBOX, recorded=""), restores=1),
        replace(GOOD, drafts=(replace(UNSENT, answers=(FAILED,)),)),
        beside(GOOD, seconds={ENVELOPE: NEIGHBOUR_SECONDS}),
        copied("worm", "mirror"),
        # An optional copy is missing, and its event reports it.
        copied("worm", condition="False"),
        # A person no longer required the copy, or required it too late for the delete.
        changed_copies(REQUIRED, CopiesInForce(4, 6, frozenset())),
        changed_copies(CopiesInForce(0, 0, frozenset()), CopiesInForce(9, 13, frozenset({"worm"}))),
        skipped_after(copied("worm", "mirror")),
        # An event failed because of planted files, and has no copy.
        failed_with_planted(f"worm/{FOLDER}/counterfoil.json"),
        # A person deleted another envelope before its callback. What was planted for it stays.
        planted_beside(copied("worm", "mirror")),
        # The planted file stays in the Archive of a copy.
        replace(copied("worm", "mirror", extra=b"planted"), planted={f"worm/{FOLDER}/extra": b"planted"}),
        routed(placed("hr"), areas={ENVELOPE: "hr"}),
        # Another program wrote into the Archive to which a changed route no longer led.
        routed(
            archive(),
            {f"hr/{FOLDER}/counterfoil.json": b"planted"},
            planted={f"hr/{FOLDER}/counterfoil.json": b"planted"},
        ),
        # A person skipped the event, and retried it when the routes had changed.
        routed(archive(), HALF, decisions=(Decision("skip", ENVELOPE, stored=1, ended=2),)),
        # Half of an upload of an event that did not succeed, under a temporary name
        replace(failed(), archive={f"{FOLDER}/.half": b"x"}),
    ],
)
def test_a_good_round_has_no_violation(evidence: Evidence) -> None:
    assert violations(evidence) == []


WRONG = {
    "the archive does not have acme": at_delete(contract=None),
    "contract.pdf has other bytes than eSAW served": at_delete(contract=b"garbage"),
    "contract.pdf has another hash than its manifest says": at_delete(json=manifest(f1="00")),
    "the manifest does not list AuditTrailXml f2": at_delete(json=manifest(f2="")),
    "the archive has 0 manifests of it": at_delete(json=None),
    "does not list Document f1": at_delete(json=b"{half"),
    "has a wrong line about contract.pdf": at_delete(hashes=f"{'0' * 64}  contract.pdf\n".encode()),
    "the API server had no Archived=True": replace(
        GOOD, deletes=(Delete(ENVELOPE, archive(), archived=False),)
    ),
    "the organization keeps its envelopes": replace(GOOD, policy="Keep"),
    "changed in the archive afterwards: acme": replace(GOOD, archive=archive(contract=b"%PDF other")),
    "afterwards: acme": replace(GOOD, archive=archive(extra=CONTRACT)),
    "afterwards": replace(
        GOOD,
        deletes=(Delete(ENVELOPE, archive(extra=CONTRACT), True), replace(GOOD.deletes[0], was_there=False)),
    ),
    "it was deleted 2 times": replace(GOOD, successes={ENVELOPE: 2}),
    "nobody saw the request": replace(GOOD, deletes=()),
    "extra is no file of eSAW": at_delete(extra=b"half"),
    ".half is no file of eSAW": at_delete(**{".half": b"half"}),
    "belongs to no envelope": replace(GOOD, archive={**archive(), "acme/probe": b""}),
    "answered 200, but there is no event": replace(failed(), events=()),
    "2 events": replace(GOOD, events=(event(), event())),
    "it waits in Archiving (ArchiveFull) and has no end": replace(
        failed(), events=(event("Archiving", "ArchiveFull"),)
    ),
    "Failed with Unheard, for which nobody is responsible": failed("Unheard"),
    "Failed with ArchivedAndDeleted, for which nobody": failed("ArchivedAndDeleted"),
    "Succeeded, but the envelope is still in eSAW": replace(GOOD, gone=frozenset(), deletes=(), successes={}),
    "1: Succeeded, but the envelope is still in eSAW": replace(
        GOOD, gone=frozenset(), deletes=(), successes={}, events=(event(reason="ArchivedAndKept"),)
    ),
    f"delete of {ENVELOPE}: a person had decided to skip": decided(
        Decision("skip", ENVELOPE, stored=5),
        called_again=frozenset({ENVELOPE}),
        events=(skipped(event()),),
    ),
    "an event failed with Full, and no mail reports it": mails(),
    "2 mails about one problem (failed: Full)": mails(("<1@x>", FULL), ("<2@x>", "2 events failed: Full")),
    "2 mails to a@x about 1 keys that died": mails(
        ("<1@x>", ASKED), ("<2@x>", ASKED), to="a@x", dead_keys={"a@x": 1}
    ),
    "“An event failed: Full” names an envelope of another Organization": replace(
        failed("Full"),
        mails=(Mail("<1@x>", FULL, f"Examples: {OTHER}-1"),),
        neighbour=NeighbourEvidence(replace(GOOD, envelopes={OTHER: {}})),
    ),
    "its status says “stays in eSignAnyWhere”, and it is gone": replace(
        GOOD, events=(said("The envelope stays in eSignAnyWhere."),)
    ),
    "its status says “is no longer in eSignAnyWhere”, and it is there": replace(
        failed(), events=(said("The envelope is no longer in eSignAnyWhere.", "Failed", "ArchiveFull"),)
    ),
    "controller.log has the one with": replace(GOOD, texts={"controller.log": f"GET /?token={SECRET}"}),
    "redirect: it was followed to /redirected/file": replace(GOOD, followed=("/redirected/file",)),
    "the manifest lists planted.pdf, which eSAW never served": at_delete(
        json=json.dumps(
            {
                "files": [
                    *json.loads(manifest())["files"],
                    {"fileID": "f3", "name": "planted.pdf", "sha256": digest(b"planted")},
                ]
            }
        ).encode()
    ),
    "contract.pdf has other bytes": replace(
        at_delete(contract=b"planted"), planted={f"{FOLDER}/contract.pdf": b"planted"}
    ),
    "counterfoil.json does not have a valid seal": sealed(bytes(64)),
    "a person had decided to suspend": decided(Decision("suspend", "", stored=5)),
    "a person had decided to skip": decided(Decision("skip", ENVELOPE, stored=5, ended=13)),
    "memory: controller-0-1 used 1025 MiB, more than its limit of 1024 MiB": replace(
        GOOD, memory={"controller-0-1": 1025 << 20}
    ),
    "NameOccupied, but no other program's file is in its folder": replace(
        failed("NameOccupied"), responsible={"NameOccupied": "administrator"}
    ),
    "crash: controller-0": replace(GOOD, crashes=("controller-0 ended with 1",)),
    "neighbour: event 0f9c1c2e-0000-4000-8000-000000000001-1: Failed (ArchiveFull)": beside(
        replace(failed(), mails=())
    ),
    "neighbour: mail: An event failed": beside(failed()),
    "neighbour: archive: acme/other/contract.pdf belongs to no envelope": beside(
        replace(GOOD, archive={**archive(), "acme/other/contract.pdf": CONTRACT})
    ),
    "neighbour: delete of 0f9c1c2e-0000-4000-8000-000000000001: nobody saw": beside(
        replace(GOOD, deletes=())
    ),
    "neighbour: envelope 0f9c1c2e-0000-4000-8000-000000000001: it took 61 seconds": beside(
        GOOD, seconds={ENVELOPE: NEIGHBOUR_SECONDS + 1}
    ),
    "neighbour: request: files at its eSAW": beside(GOOD, strayed=("files at its eSAW",)),
    "draft d1: it was sent 2 times": drafted(INBOX, sent=2),
    "draft d1: it was sent 1 times and became 1 envelopes": drafted(INBOX, envelopes=("e1",)),
    "draft d1: the sender of envelope e2 is not recorded": drafted(INBOX, recorded=""),
    "draft d1: envelope e1 is recorded for another sender": drafted(INBOX, recorded="u2"),
    "draft d1: a page says that it is sent, and it was not": replace(
        GOOD, drafts=(replace(UNSENT, answers=(replace(INBOX, sent=0),)),)
    ),
    "and it was: This attempt did not send": drafted(replace(FAILED, sent=1), replace(INBOX, sent_before=1)),
    "was not sent, and it was": drafted(FAILED),
    "a page says that there is no such draft, and it was not sent": replace(
        GOOD, drafts=(replace(UNSENT, answers=(replace(FAILED, text=f"{NO_DRAFT}. It was sent"),)),)
    ),
    "required copy in worm: the archive has 0 manifests": copied("worm", "mirror", at_delete={}),
    "required copy in worm: the archive does not have": copied("worm", "mirror", contract=None),
    "required copy in worm: worm/acme": copied("worm", "mirror", contract=b"garbage"),
    "the file f2 has other bytes than its original": copied(
        "worm", "mirror", trail=b"earlier", json=manifest(f2=digest(b"earlier"))
    ),
    f"delete of {ENVELOPE}: required copy in worm": changed_copies(
        REQUIRED, CopiesInForce(13, 14, frozenset())
    ),
    f"{ENVELOPE}: required copy in worm": changed_copies(
        CopiesInForce(0, 0, frozenset()), CopiesInForce(4, 6, frozenset({"worm"}))
    ),
    "its status says that mirror has it": copied("worm"),
    "its status says that worm has it: the archive does not have": skipped_after(
        copied("worm", "mirror", contract=None)
    ),
    "proved copy in mirror: the archive has 0 manifests": replace(
        copied("worm", "mirror"),
        deletes=(replace(copied("worm").deletes[0], claimed=frozenset({"*"})),),
        copies_in_force=(REQUIRED, CopiesInForce(13, 14, frozenset())),
    ),
    "proved copy in worm: the archive has 0 manifests": replace(
        changed_copies(CopiesInForce(0, 0, frozenset())),
        deletes=(replace(copied("mirror").deletes[0], claimed=frozenset({"worm"})),),
    ),
    "it is missing in mirror, and no person learns of it": copied("worm", condition="Unknown"),
    "it is missing in worm, and no person learns of it": copied("mirror", condition="False"),
    "worm/acme/other/contract.pdf belongs to no envelope": replace(
        copied("worm", "mirror"),
        copies={**placed("worm"), **placed("mirror"), "worm/acme/other/contract.pdf": CONTRACT},
    ),
    "copy of 0f9c1c2e-0000-4000-8000-000000000001: worm has 3 files": replace(
        copied("worm", "mirror"),
        copies={**placed("worm"), **placed("mirror"), f"worm/{FOLDER}/contract (2).pdf": CONTRACT},
    ),
    f"split: {ENVELOPE} has files in dms and hr": routed(archive(), HALF),
    "the archive has 2 manifests of it": routed(archive(), placed("hr")),
    f"route: {ENVELOPE} is not in hr": routed(archive(), areas={ENVELOPE: "hr"}),
    "a person had decided to suspend (stored at 5": decided(Decision("suspend", "", stored=5, archive="dms")),
    "no rest: ": replace(GOOD, unsettled=(f"{OTHER}: Pending",)),
}


@pytest.mark.parametrize("violation", WRONG)
def test_each_violation_is_found(violation: str) -> None:
    assert any(violation in each for each in violations(WRONG[violation])), violations(WRONG[violation])


def test_after_a_restore_of_etcd_an_envelope_that_is_in_esaw_needs_an_event() -> None:
    assert violations(replace(failed(), events=(), restores=1)) == [
        f"callback of {ENVELOPE}: answered 200, but there is no event"
    ]


def test_after_a_restore_of_etcd_an_event_may_find_its_own_deleted_envelope() -> None:
    restored = replace(
        GOOD,
        events=(event("Failed", "EnvelopeDeleted"),),
        mails=failed("EnvelopeDeleted").mails,
        responsible={},
    )
    assert list(violations(beside(replace(restored, restores=1)))) == []
    assert len(list(violations(beside(restored)))) == 3
    still_there = replace(restored, restores=1, gone=frozenset())
    assert "Failed (EnvelopeDeleted)" in "".join(violations(beside(still_there)))


def test_a_violation_does_not_repeat_the_secret() -> None:
    assert SECRET not in str(violations(WRONG["controller.log has the one with"]))


def test_the_limits_of_the_memory_are_those_of_the_chart() -> None:
    values = yaml.safe_load((ROOT / "charts" / "counterfoil" / "values.yaml").read_text())
    units = {"Mi": 20, "Gi": 30}
    for name, limit in MEMORY_LIMITS.items():
        said = values[name]["resources"]["limits"]["memory"]
        assert int(said[:-2]) << units[said[-2:]] == limit


def test_the_sentences_that_are_judged_are_those_of_the_pages() -> None:
    pages = ROOT / "counterfoil" / "i18n" / "pages" / "en.toml"
    sections = tomllib.loads(pages.read_text(encoding="utf-8"))
    said = [
        text
        for name, section in sections.items()
        if name not in ("unknown_outcome", "confirm")  # these deny nothing
        for text in section.values()
    ]
    assert [each for each in (SENT, *NOT_SENT, NO_DRAFT) if not any(each in text for text in said)] == []
    denials = (text for text in said if re.search(r"\b(not|nothing)\b[^.]*\bsen[dt]\b", text, re.IGNORECASE))
    assert [each for each in denials if not any(claim in each for claim in NOT_SENT)] == []
