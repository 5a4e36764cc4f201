"""
Whole lives of one envelope and its events, with the real reconciler, in a world where everything fails.

ESignAnyWhere cuts downloads, lists fewer files, and answers late, wrongly or not at all. The archives refuse,
lie and lose files. The API server refuses statuses, and the controller is killed at any request. People
retry, skip, and change the settings. No order of these deletes an envelope of which the archive lacks the
longest content that eSignAnyWhere sent, and none keeps an event from its end once the world works again.
"""

import asyncio
import hashlib
import re
import tempfile
from collections.abc import Collection, Coroutine, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
from hypothesis import note, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from controller.access.archive_root import MARKER_NAME
from controller.requests.event_requests import EventRequests
from counterfoil.archives.manifest import Manifest
from counterfoil.esaw.errors import EsawUnreachable, HttpStatusError
from counterfoil.i18n.reasons import CATALOGUE, ReasonContext
from counterfoil.kube.errors import ApiError, Rejected, Unavailable
from counterfoil.kube.status import Superseded
from counterfoil.resources import (
    EnvelopeEvent,
    EnvelopeEventStatus,
    EnvelopeStatus,
    FiledDocument,
    FileKind,
    Phase,
    find_condition,
    is_condition_true,
)
from counterfoil.resources.envelopeevent import Provisional
from counterfoil.resources.organization import CHANGEABLE_STATUSES
from counterfoil.resources.request import Request
from counterfoil.signatures.results import Signatures, State
from tests.support.fakes.reconcile_context import missing
from tests.support.scenes.random_lives import MAX_RUNS_AT_ONCE, HangingLoop, HostileScene, Killed
from tests.support.signing_keys import a_signer

T = TypeVar("T")

WHOLE: Final = b"%PDF-contract, whole and signed by all"
CONTENTS: Final = {
    "whole": WHOLE,
    "cut": WHOLE[:12],
    "cut later": WHOLE[:20],
    "longer": WHOLE + b", and a further page",
    "other": WHOLE[:-3] + b"ALL",
    "damaged": WHOLE + b"\0\0",
    "damaged and cut": WHOLE[:15] + b"\0",
}
"""The contents that eSAW may send of a document."""
BROKEN: Final = Signatures(state=State.BROKEN, detail="a signature is broken")
FILES: Final = ("file-1", "file-2", "legal-1")
PROBLEMS: Final[dict[str, Exception]] = {
    "unreachable": EsawUnreachable("connect"),
    "no answer": EsawUnreachable("timeout"),
    "missing": missing(),
    "404": HttpStatusError(404, None),
    "not permitted": HttpStatusError(403, "ERR0010"),
    "403 of a proxy": HttpStatusError(403, None),
    "503": HttpStatusError(503, None),
    "key refused": HttpStatusError(401, "ERR0001"),
}
OPERATIONS: Final = (
    "envelope",
    "files",
    "history",
    "delete",
    "download file-1",
    "download trail-1",
    "download legal-1",
    "download file-2",
)
FAULTS: Final = (
    "unreachable",
    "unreadable",
    "not mounted",
    "lists nothing",
    "full",
    "refuses",
    "breaks off",
    "stores wrong",
    "gives no answer",
    "returns nothing",
)
PATHS: Final = (
    "{{organization}}/{{envelope.id}}/{{file.kind}}/{{file.name}}",
    "{{organization}}/new/{{envelope.id}}/{{file.name}}",
)
LATE: Final = (
    EnvelopeStatus.ACTIVE,
    EnvelopeStatus.EXPIRED,
    EnvelopeStatus.REJECTED,
    EnvelopeStatus.CANCELED,
)
TROUBLES: Final = ("refused", "refused twice", "lost", "away", "down")
NUMBERS: Final = st.integers(0, 1)
"""Which of the events does something."""
CONTEXTS: Final = {
    Phase.SUCCEEDED: {ReasonContext.SUCCEEDED},
    Phase.SKIPPED: {ReasonContext.SKIPPED},
    Phase.FAILED: {ReasonContext.FAILED, ReasonContext.WAITING},
}
"""Contexts of the reasons of an event that has ended, by phase."""
UNFINISHED: Final = {
    ReasonContext.WAITING,
    ReasonContext.HELD,
    ReasonContext.CONSENT,
    ReasonContext.REQUEST,
}
MAX_RUNS: Final = 150
"""More runs than an event has until the deadlines of its phases."""
MAX_RETRIES: Final = 6
"""More retries than an event needs in a world that works again."""


@dataclass
class Known:
    """The length of the ``longest`` sound content of a file that an event was sent, and must not forget."""

    longest: int = -1
    accepted: int | None = None
    """Length of the content that a person accepted; None: there is none, or it was archived since."""


@dataclass
class Memory:
    """The contents that an event was sent, and the files that it was shown, in the present state of its
    envelope."""

    state: str | None = None
    files: dict[str, Known] = field(default_factory=dict)
    listed: set[str] = field(default_factory=set)


def state_of(event: EnvelopeEvent) -> str | None:
    """Return the status of the envelope as the event knows it."""
    return event.status.envelope.status if event.status.envelope is not None else None


def hash_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class Lives(RuleBasedStateMachine):
    """Each rule is one act of the controller, of a server, or of a person."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner(loop_factory=HangingLoop)
        self.folder = tempfile.TemporaryDirectory()
        self.scene: HostileScene | None = None
        self.memories: dict[str, Memory] = {}
        self.violations: list[str] = []
        self.last_note = ""
        self.running = ""
        self.longest_sent: dict[str, bytes] = {}

    def teardown(self) -> None:
        """End each life in a world that works again."""
        try:
            if self.scene is not None:
                self.heal()
        finally:
            self.runner.close()
            self.folder.cleanup()

    @initialize(
        is_signed=st.booleans(),
        is_copied=st.booleans(),
        after=st.sampled_from(("0s", "720h")),
        status=st.sampled_from(
            (EnvelopeStatus.COMPLETED,) * 4 + (EnvelopeStatus.REJECTED, EnvelopeStatus.CANCELED)
        ),
        accepted=st.sampled_from(
            (("Completed", "Rejected", "Canceled", "Expired"), ("Completed", "Rejected", "Canceled"))
        ),
    )
    def begin(
        self,
        after: str,
        status: EnvelopeStatus,
        accepted: tuple[str, ...],
        *,
        is_signed: bool,
        is_copied: bool,
    ) -> None:
        self.scene = scene = HostileScene(
            Path(self.folder.name),
            is_copied=is_copied,
            statuses=list(accepted),
            cleanup={"policy": "Delete", "after": after},
        )
        scene.sign_with(a_signer() if is_signed else None)
        scene.envelope.status = status
        scene.envelope.contents["file-1"] = WHOLE
        for name in ("damaged", "damaged and cut"):
            scene.examiner.found[CONTENTS[name]] = BROKEN
        scene.envelope.transport.just_before = self.check_delete
        self.memories[scene.names[0]] = Memory()

    # -- Runs ------------------------------------------------------------------------------------------------

    @property
    def world(self) -> HostileScene:
        assert self.scene is not None
        return self.scene

    def do(self, act: Coroutine[Any, Any, T]) -> T:
        self.world.points.begin(None)
        return self.runner.run(act)

    def name_of(self, number: int) -> str:
        return self.world.names[number % len(self.world.names)]

    @rule(number=NUMBERS, times=st.sampled_from((1, 2, 4, 40)))
    def run(self, number: int, times: int) -> None:
        """An event runs when it is due, and at its next attempts."""
        name = self.name_of(number)
        self.runs(name)
        for _ in range(times - 1):
            if not self.world.wait_for(name):
                break
            self.runs(name)

    @rule(number=NUMBERS)
    def run_next(self, number: int) -> None:
        """An event runs at its next attempt."""
        self.world.wait_for(self.name_of(number))
        self.runs(self.name_of(number))

    @rule()
    def run_all(self) -> None:
        """Each event runs at its next attempt."""
        for number in range(len(self.world.names)):
            self.run_next(number)

    @rule(number=NUMBERS, hours=st.sampled_from((0, 1, 25, 721)))
    def run_later(self, number: int, hours: int) -> None:
        self.world.clock.advance(hours=hours)
        self.runs(self.name_of(number))

    @rule(number=NUMBERS, kill_at=st.integers(1, 60))
    def run_and_be_killed(self, number: int, kill_at: int) -> None:
        """The controller is killed in a run, at this request or after this change."""
        self.world.wait_for(self.name_of(number))
        self.runs(self.name_of(number), kill_at=kill_at)

    @rule(number=NUMBERS, trouble=st.sampled_from(TROUBLES), writes=st.integers(0, 2))
    def run_in_trouble(self, number: int, trouble: str, writes: int) -> None:
        """The API server fails in a run, at a status after this number of others."""
        self.world.wait_for(self.name_of(number))
        self.runs(self.name_of(number), trouble=trouble, writes=writes)

    def runs(
        self, name: str, *, kill_at: int | None = None, trouble: str | None = None, writes: int = 0
    ) -> None:
        """Let an event run as long as it is due now."""
        for _ in range(MAX_RUNS_AT_ONCE):
            if not self.run_once(name, kill_at=kill_at, trouble=trouble, writes=writes):
                return
            kill_at = trouble = None
        raise AssertionError(f"it is due without end: {self.described(name)}")

    def run_once(self, name: str, *, kill_at: int | None, trouble: str | None, writes: int) -> bool:
        scene = self.world
        before, archived = scene.kube.stored(name), self.archived()
        known = self.memories[name].files
        accepted = {file for file, each in known.items() if each.accepted is not None}
        scene.clock.advance(seconds=5)
        scene.envelope.sent.clear()
        scene.envelope.listed.clear()
        self.running = name
        self.plan_trouble(trouble, writes)
        scene.points.begin(kill_at)
        is_known = False
        try:
            if not self.runner.run(scene.run_once(name)):
                return False
            is_known = trouble != "down"
        except Killed:
            scene.restarted()
        except (ApiError, Superseded):
            pass
        finally:
            scene.points.begin(None)
            scene.kube.recover()
            scene.kube.trouble.clear()
            scene.kube.lost.clear()
            scene.observe_requests()
        after = scene.kube.stored(name)
        self.note(f"   {self.described(name)}")
        for file_id, content in scene.envelope.sent:
            if len(content) >= len(self.longest_sent.get(file_id, b"")) and not self.is_faulty(content):
                self.longest_sent[file_id] = content
        if is_known:
            self.remember(before, after)
        self.check(before, after, archived, accepted)
        return True

    def plan_trouble(self, trouble: str | None, writes: int) -> None:
        """Let the API server fail at a write of a status, after some others."""
        if trouble is None:
            return
        scene, seen = self.world, [0]

        def at_request(verb: str, name: str) -> None:
            scene.points.pass_one()
            if verb != "patch_status":
                return
            if seen[0] == writes:
                match trouble:
                    case "refused":
                        scene.kube.fail("patch_status", Rejected(422, "Invalid", "no"))
                    case "refused twice":
                        scene.kube.fail("patch_status", *[Rejected(422, "Invalid", "no")] * 2)
                    case "away":
                        scene.kube.go_away("patch_status", 1)
                    case "lost":
                        scene.kube.lost["patch_status"] = Unavailable(0, "NoAnswer", "no answer")
                    case "down":
                        scene.kube.trouble["patch_status"] = Unavailable(0, "NoAnswer", "no answer")
            seen[0] += 1

        scene.kube.at_request = at_request

    def is_faulty(self, content: bytes) -> bool:
        return content in self.world.examiner.found

    def remember(self, before: EnvelopeEvent, after: EnvelopeEvent) -> None:
        """Note what the event must not forget."""
        memory = self.memories[after.name]
        state = state_of(after)
        if state != memory.state and (memory.state is None or memory.state in CHANGEABLE_STATUSES):
            # What was sent of an envelope that could still be signed says nothing about its end.
            memory.files.clear()
            memory.listed.clear()
        memory.state = state
        memory.listed |= self.world.envelope.listed
        for file_id, content in self.world.envelope.sent:
            if file_id == "trail-1" or self.is_faulty(content):
                continue
            known = memory.files.setdefault(file_id, Known())
            if known.accepted is None or len(content) > known.accepted:
                known.longest = max(known.longest, len(content))
        archived = [each for each in before.status.documents if each.sha256 and each.provisional is None]
        for each in after.status.documents:
            known = memory.files.setdefault(each.file_id, Known())
            if self.may_be_rendered(each, after) and each in archived and each.other_content is None:
                # Accepted: what may be rendered again stays as it was archived.
                known.longest = min(known.longest, each.size or 0)
        if not is_condition_true(after.status.conditions, "Archived"):
            return
        for each in after.status.documents:
            known = memory.files.setdefault(each.file_id, Known())
            if known.accepted is not None and each.other_content is None:
                known.longest, known.accepted = each.size or 0, None

    # -- eSignAnyWhere ---------------------------------------------------------------------------------------

    @rule(file=st.sampled_from(FILES), what=st.sampled_from(tuple(CONTENTS)), once=st.booleans())
    def send(self, file: str, what: str, *, once: bool) -> None:
        """It sends another content of a file, once or from now on. A further file is listed then."""
        content, envelope = CONTENTS[what], self.world.envelope
        if once and file in envelope.contents:
            envelope.in_turn[file] = iter([content])
        else:
            envelope.contents[file] = content

    @rule(
        operation=st.sampled_from(OPERATIONS),
        problem=st.sampled_from(tuple(PROBLEMS)),
        times=st.sampled_from((1, 2, 100)),
    )
    def fail(self, operation: str, problem: str, times: int) -> None:
        self.world.envelope.but(operation, PROBLEMS[problem]).times[operation] = times

    @rule(file=st.sampled_from((*FILES, "trail-1")))
    def hang(self, file: str) -> None:
        """A download does not begin, so that the attempt is overdue."""
        self.world.envelope.hanging.add(file)

    @rule(file=st.sampled_from((*FILES, "trail-1")))
    def break_off(self, file: str) -> None:
        self.world.envelope.breaking[file] = 1

    @rule()
    def work_again(self) -> None:
        """Each request is answered from now on."""
        envelope = self.world.envelope
        envelope.problems.clear()
        envelope.times.clear()
        envelope.hanging.clear()
        envelope.breaking.clear()
        envelope.in_turn.clear()
        envelope.statuses.clear()

    @rule(file=st.sampled_from((*FILES, "trail-1")))
    def hide_or_list(self, file: str) -> None:
        """It does not list a file any more, or lists it again."""
        self.world.envelope.hidden ^= {file}

    @rule(status=st.sampled_from(LATE), times=st.sampled_from((1, 2, 3, 5)))
    def answer_wrongly(self, status: EnvelopeStatus, times: int) -> None:
        """It answers some times that the envelope has another status."""
        self.world.envelope.statuses = [status] * times

    # -- The archives ----------------------------------------------------------------------------------------

    @rule(
        archive=st.sampled_from(("dms", "dms", "worm")),
        fault=st.sampled_from(FAULTS),
        before=st.integers(0, 25),
        times=st.sampled_from((1, 3, 10_000)),
    )
    def break_archive(self, archive: str, fault: str, before: int, times: int) -> None:
        self.world.shelves[archive].break_down(fault, before, times)

    @rule()
    def mend_archives(self) -> None:
        for each in self.world.shelves.values():
            each.mend()

    @rule(
        archive=st.sampled_from(("dms", "dms", "worm")),
        what=st.sampled_from(
            ("file-1", "audit-trail", "legal-1", "counterfoil.json", ".sig", ".sha256", "acme/")
        ),
        how=st.sampled_from(("lost", "lost", "damaged", "cut")),
    )
    def lose(self, archive: str, what: str, how: str) -> None:
        """It loses or damages files."""
        files = self.world.shelves[archive].files
        for name in [each for each in files if what in each]:
            if how == "lost":
                del files[name]
            else:
                files[name] = b"damaged" if how == "damaged" else files[name][:9]

    # -- People ----------------------------------------------------------------------------------------------

    @rule(number=NUMBERS)
    def retry(self, number: int) -> None:
        name = self.name_of(number)
        if self.world.kube.stored(name).status.phase in (Phase.FAILED, Phase.SKIPPED):
            self.retried(name)

    def retried(self, name: str) -> None:
        event = self.world.kube.stored(name)
        self.accept(event)
        self.do(self.request("retry", event))

    @rule(number=NUMBERS)
    def skip(self, number: int) -> None:
        self.do(self.request("skip", self.world.kube.stored(self.name_of(number))))

    async def request(self, what: str, event: EnvelopeEvent) -> None:
        """Let a person ask for something, and store what follows."""
        requests, scene, request = EventRequests(self.world.clock), self.world, Request(what)
        result = await (requests.retry if what == "retry" else requests.skip)(event, request)
        last = request.handled(result.outcome, result.message, now=scene.clock.now())
        changed = msgspec.structs.replace(result.change(event.status), last_request=last)
        scene.cache.update(await scene.status_writer.store(event, changed))

    def accept(self, event: EnvelopeEvent) -> None:
        """Note which contents a retry accepts: shorter ones than eSAW sent may count after it."""
        status, archived = event.status, find_condition(event.status.conditions, "Archived")
        is_failed = (status.phase, status.reason) == (Phase.FAILED, "DocumentInDoubt")
        if not is_failed or archived is None or archived.reason != "DocumentInDoubt":
            return
        memory = self.memories[event.name]
        for each in status.documents:
            if each.other_content is None:
                continue
            known = memory.files.setdefault(each.file_id, Known())
            known.accepted = each.other_content.size
            known.longest = min(known.longest, self.least_accepted(each, event))

    def least_accepted(self, document: FiledDocument, event: EnvelopeEvent) -> int:
        """Return the length of the shortest content that counts once a person accepted another one."""
        sent = document.other_content
        assert sent is not None
        is_doubted = sent.has_fault or document.provisional is Provisional.IN_DOUBT
        if self.may_be_rendered(document, event) or is_doubted:
            return -1
        if document.provisional is Provisional.NO_MANIFEST:
            return max(document.size or 0, min([sent.size, *self.named(document.file_id)]))
        archived = [*self.named(document.file_id), *([document.size or 0] if document.sha256 else [])]
        return min([sent.size, *archived])

    def may_be_rendered(self, document: FiledDocument, event: EnvelopeEvent) -> bool:
        """Whether eSAW may render a file at each download."""
        return document.kind is not FileKind.DOCUMENT or state_of(event) != EnvelopeStatus.COMPLETED

    def named(self, file_id: str) -> list[int]:
        """Return the lengths that manifests and the statuses of all events have of an archived file."""
        sizes = [
            each.size or 0
            for event in self.world.events()
            for each in event.status.documents
            if each.file_id == file_id and each.sha256 is not None and each.provisional is None
        ]
        for shelf in self.world.shelves.values():
            for name, content in shelf.files.items():
                if name.endswith("counterfoil.json"):
                    with suppress(Exception):
                        sizes += [
                            each.size for each in Manifest.decode(content).files if each.file_id == file_id
                        ]
        return sizes

    @rule(policy=st.sampled_from(("Delete", "Delete", "Keep")), after=st.sampled_from(("0s", "720h")))
    def change_cleanup(self, policy: str, after: str) -> None:
        self.world.change(cleanup={"policy": policy, "after": after})

    @rule(path=st.sampled_from(PATHS))
    def change_path(self, path: str) -> None:
        self.world.show_archive("dms", path=path)

    @rule()
    def consent(self) -> None:
        self.world.consent()

    @rule()
    def add_event(self) -> None:
        """Another callback of the envelope comes."""
        if len(self.world.names) == 1:
            self.world.add_event("second")
            self.memories["second"] = Memory()

    # -- What always holds -----------------------------------------------------------------------------------

    def described(self, name: str) -> str:
        status = self.world.kube.stored(name).status
        files = [
            (each.file_id, each.size, each.provisional, each.other_content and each.other_content.size)
            for each in status.documents
        ]
        return f"{name[:6]} {status.phase.value} {status.reason}: {status.message} {files}"

    def note(self, text: str) -> None:
        """Print a text with a failure, unless it is the last one."""
        if text != self.last_note:
            self.last_note = text
            note(text)

    def content_of(self, document: FiledDocument) -> bytes | None:
        for shelf in self.world.shelves.values():
            name = shelf.name_of(document.location or "")
            if name in shelf.files:
                return shelf.files[name]
        return None

    def archived(self) -> dict[str, tuple[FiledDocument, bytes]]:
        """Return the documents that events archived of a final state and that are in their places, by
        location."""
        found = {}
        for event in self.world.events():
            is_archived = is_condition_true(event.status.conditions, "Archived")
            if not is_archived or state_of(event) in (None, *CHANGEABLE_STATUSES):
                continue
            for each in event.status.documents:
                content = self.content_of(each)
                if content is None or each.provisional is not None or each.kind is FileKind.AUDIT_TRAIL:
                    continue
                if hash_of(content) == each.sha256 and not self.is_faulty(content):
                    found[each.location or ""] = (each, content)
        return found

    def check_delete(self) -> None:
        """Check what the archives have when the request to delete the envelope is sent. An error here would
        be one of the run."""
        event = self.world.kube.stored(self.running)
        self.violations += [
            *self.decisions_against_delete(),
            *self.faults_of_files(event.status.documents),
            *(fault for other in self.world.events() for fault in self.forgotten_files(event, other)),
        ]

    def decisions_against_delete(self) -> Iterator[str]:
        if self.world.spec["cleanup"]["policy"] == "Keep":
            yield "deleted although it is kept"
        if any(each.is_kept_by_person for each in self.world.events()):
            yield "deleted although a person skipped an event"

    def faults_of_files(self, documents: Iterable[FiledDocument]) -> Iterator[str]:
        copies = [hash_of(each) for each in self.world.shelves["worm"].files.values()]
        for each in documents:
            content = self.content_of(each)
            if content is None or hash_of(content) != each.sha256:
                yield f"deleted without {each.file_id}"
            elif each.kind is FileKind.AUDIT_TRAIL:
                continue
            elif self.is_faulty(content):
                yield f"deleted with a fault in {each.file_id}"
            elif self.world.spec["copies"] and each.sha256 not in copies:
                yield f"deleted without a copy of {each.file_id}"

    def forgotten_files(self, event: EnvelopeEvent, other: EnvelopeEvent) -> Iterator[str]:
        """Yield what an event, or another one of the envelope, was sent or shown, and the event did not
        archive."""
        memory, state = self.memories[other.name], state_of(event)
        if state in CHANGEABLE_STATUSES or memory.state != state:
            # Accepted: of an Expired envelope, which may have been restarted, each download counts.
            return
        documents = {each.file_id: each for each in event.status.documents}
        for file_id in sorted(memory.listed - documents.keys()):
            yield f"deleted without {file_id}, which was listed"
        for file_id, known in memory.files.items():
            document = documents.get(file_id)
            if document is None or document.kind is FileKind.AUDIT_TRAIL:
                continue
            # Accepted: two events may have two renderings of a legal document.
            is_other = other.name != event.name and document.kind is FileKind.LEGAL_DOCUMENT
            if (document.size or 0) < known.longest and not is_other:
                sent = f"{known.longest} bytes of it were sent to {other.name}"
                yield f"deleted with {document.size} bytes of {file_id}; {sent}"

    def check(
        self,
        before: EnvelopeEvent,
        after: EnvelopeEvent,
        archived: Mapping[str, tuple[FiledDocument, bytes]],
        accepted: Collection[str],
    ) -> None:
        """Check the results of a run. ``archived`` is what was in its place before, and ``accepted`` are the
        files of which a person accepted another content."""
        assert self.violations == []
        self.check_reason(after.status)
        self.check_archived(after)
        for location, (document, content) in archived.items():
            if document.file_id in accepted:
                continue
            now = self.content_of(document)
            assert now is not None, f"{location} was removed"
            assert len(now) >= len(content), f"{location} was replaced by a shorter file"
        if before.status.phase is not Phase.SUCCEEDED and after.status.phase is Phase.SUCCEEDED:
            was_archived = is_condition_true(before.status.conditions, "Archived")
            # Accepted: of an envelope that stays, what an earlier run archived is not read again.
            if after.status.reason != "ArchivedAndKept" or not was_archived:
                self.check_succeeded(after)

    def check_reason(self, status: EnvelopeEventStatus) -> None:
        if status.reason is None and not status.phase.is_final:
            # It only got the label of its Sender, or was killed between two phases.
            return
        reason = status.reason or ""
        assert reason in CATALOGUE, f"{reason!r} is not documented"
        assert reason != "InternalError", status.message
        assert status.message
        is_documented = not CONTEXTS.get(status.phase, UNFINISHED).isdisjoint(CATALOGUE[reason].contexts)
        assert is_documented, f"{reason} is not documented for {status.phase}"
        unknown = [each.reason for each in status.conditions if each.reason not in CATALOGUE]
        assert not unknown, f"conditions have reasons that are not documented: {unknown}"

    def check_archived(self, event: EnvelopeEvent) -> None:
        """Nothing is archived that is shorter than what was sent before."""
        memory, status = self.memories[event.name], event.status
        is_archived = is_condition_true(status.conditions, "Archived")
        if not is_archived or memory.state in (None, *CHANGEABLE_STATUSES):
            return
        for each in status.documents:
            known = memory.files.get(each.file_id, Known())
            if each.kind is not FileKind.AUDIT_TRAIL and known.accepted is None:
                assert (each.size or 0) >= known.longest, f"archived: {self.described(event.name)}"

    def check_succeeded(self, event: EnvelopeEvent) -> None:
        """The manifest of an event that succeeded names the stored bytes of each file."""
        status = event.status
        if status.message and status.message.startswith("EnvelopeEvent/"):
            return
        shelf = self.world.shelves["dms"]
        assert status.archive is not None
        assert status.archive.manifest is not None
        manifest = Manifest.decode(shelf.files[shelf.name_of(status.archive.manifest)])
        named = {each.file_id: (each.size, each.sha256) for each in manifest.files}
        for each in status.documents:
            content = self.content_of(each)
            assert content is not None, f"it succeeded without {each.file_id}"
            stored = (len(content), hash_of(content))
            assert named[each.file_id] == stored == (each.size, each.sha256), f"{each.file_id} differs"

    # -- The end ---------------------------------------------------------------------------------------------

    def heal(self) -> None:
        """Let everything work, eSAW send the longest contents again, and people retry what failed."""
        scene = self.world
        self.work_again()
        self.mend_archives()
        scene.envelope.hidden.clear()
        scene.consent()
        for file_id in scene.envelope.contents:
            if file_id != "trail-1":
                scene.envelope.contents[file_id] = max(self.longest_sent.get(file_id, b""), WHOLE, key=len)
        self.note("   it works again")
        for retries in range(MAX_RETRIES):
            for name in scene.names:
                self.run_to_its_end(name)
            unfinished = [each for each in scene.names if not self.has_ended_well(each)]
            if not unfinished:
                return
            for name in unfinished:
                if retries >= MAX_RETRIES // 2 and self.knows_damaged_file(name):
                    # Accepted: nothing shows that a longer content is damaged, which no check has read.
                    self.create_again(name)
                else:
                    self.follow_advice(name)
                    self.retried(name)
        raise AssertionError(f"no retry ends it: {[self.described(each) for each in scene.names]}")

    def run_to_its_end(self, name: str) -> None:
        for _ in range(MAX_RUNS):
            self.runs(name)
            if self.world.kube.stored(name).status.phase.is_final:
                return
            if not self.world.wait_for(name):
                break
        raise AssertionError(f"it does not end: {self.described(name)}")

    def follow_advice(self, name: str) -> None:
        """Do what the message of a failed event says: move away the folder in which a file is in the way, or
        a file that was cut, and retry the other event that it names."""
        status = self.world.kube.stored(name).status
        if "compare both before a retry" in (status.message or ""):
            for place in re.findall(r"Its place is '([^']*)'", status.message or ""):
                for shelf in self.world.shelves.values():
                    shelf.files.pop(shelf.name_of(place), None)
        for each in self.world.names:
            if each != name and f"EnvelopeEvent/{each} " in (status.message or ""):
                self.retried(each)
        for shelf in self.world.shelves.values():
            if status.reason == "NameOccupied" and shelf.location("") in (status.message or ""):
                for each in [each for each in shelf.files if each != MARKER_NAME]:
                    del shelf.files[each]

    def knows_damaged_file(self, name: str) -> bool:
        """Whether an event counts a damaged content as a sound one."""
        damaged = {hash_of(each) for each in self.world.examiner.found}
        return any(
            each.sha256 in damaged
            or (each.other_content is not None and each.other_content.sha256 in damaged)
            for each in self.world.kube.stored(name).status.documents
        )

    def create_again(self, name: str) -> None:
        """Let a person remove an event and move its files away, and a sweep create it again."""
        self.world.create_again(name)
        self.memories[name] = Memory()

    def has_ended_well(self, name: str) -> bool:
        status = self.world.kube.stored(name).status
        if status.phase is Phase.FAILED:
            return self.world.envelope.deleted
        return status.reason != "UnexpectedStatus"


TestLives = Lives.TestCase
TestLives.settings = settings(max_examples=settings().max_examples * 3)
