"""
The readers of one event, with the real reconciler, against what the documentation promises of them.

Three Senders' keys each show the envelope to a part: eSAW answers one of them, and refuses another. Their
users consent, another user gets a Sender of the same name, an Envelope names one of them, searches list the
envelope, passes over all events begin, and a person retries. No order of these ends in a failure that no
retry ends, in a loop, or with an untrue result.
"""

import asyncio
import tempfile
from pathlib import Path
from typing import Any, Final

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from msgspec import structs

from controller.cache import version_number
from controller.reopening.reopener import LateSenderFinder, Reopener
from controller.requests.event_requests import EventRequests
from controller.resync.event_starter import EventStarter, EventStarts
from controller.scheduling.due import due_time
from counterfoil.esaw import ApiToken, EnvelopeResponse, EsawUserClient, HistoryResponse, HttpStatusError
from counterfoil.resources import (
    LISTED_BY_LABEL,
    SENDER_LABEL,
    EnvelopeEvent,
    EnvelopeEventStatus,
    EnvelopeStatus,
    Origin,
    Phase,
    Sender,
    SenderReference,
    find_condition,
)
from counterfoil.resources.envelopeevent import DELETE_REQUESTED_CONDITION
from counterfoil.resources.reopening import is_never_shown
from counterfoil.resources.request import Request
from counterfoil.retention import removal_time
from tests.support.builders import (
    ENVELOPE,
    ORIGIN,
    a_sender,
    an_envelope,
    an_event,
    known_to_work,
)
from tests.support.fakes.esaw import FakeEsawClient
from tests.support.fakes.reconcile_context import FakeEsawUserClient, missing
from tests.support.scenes.reconciler import ReconcilerScene

NAMES: Final = ("anna", "dora", "ben")
READING: Final = ("envelope", "configuration", "files", "download file-1", "download trail-1")
NOT_ALLOWED: Final = HttpStatusError(403, "ERR0010")

ANSWERS: Final[dict[str, dict[str, Exception]]] = {
    "all": {},
    "unseen": dict.fromkeys((*READING, "delete"), missing()),
    "not allowed": dict.fromkeys((*READING, "delete", "history"), NOT_ALLOWED),
    "refused": dict.fromkeys((*READING, "delete", "history", "whoami"), HttpStatusError(401, "ERR0401")),
    "no files": {"files": missing()},
    "no download": {"download trail-1": missing()},
    "files not allowed": {"files": NOT_ALLOWED},
    "download not allowed": {"download trail-1": NOT_ALLOWED},
    "delete not allowed": {"delete": NOT_ALLOWED},
    "history not allowed": {"history": NOT_ALLOWED},
}
"""The answers of eSAW to the key of a Sender, by operation. All others succeed."""

FIRST_ANSWERS: Final = ("unseen", *(each for each in ANSWERS if each != "all"), "all")

MAX_RUNS: Final = 60
"""More runs than an event has until the deadline of its phase."""

GIVES_WAY: Final = frozenset(
    {"unseen", "not allowed", "refused", "files not allowed", "download not allowed", "delete not allowed"}
)
"""Answers to the Sender of a read after which the Sender of the Envelope reads in its place."""


class Eyes(FakeEsawUserClient):
    """ESAW as the user of one of the Senders sees it. It notes what was answered."""

    def __init__(self, esaw: "EsawOfThree", name: str, number: int) -> None:
        super().__init__()
        self.esaw, self.name = esaw, name
        self.user_id = f"{number:08x}-0000-4000-8000-000000000001"
        self.answers = "all"
        self.was_shown = self.was_refused = False
        """Whether eSAW ever showed the envelope to this Sender, and ever refused it (403)."""
        self.shown_in_run = False
        self.deletes_without_proof = 0

    def answer(self, answers: str) -> None:
        self.answers, self.problems = answers, dict(ANSWERS[answers])
        self.remembered = answers != "unseen"

    def begin(self, operation: str) -> None:
        if operation == "delete":
            self.deletes_without_proof += not self.shown_in_run
        try:
            super().begin(operation)
        except HttpStatusError as problem:
            self.was_refused = self.was_refused or problem == NOT_ALLOWED
            raise

    async def envelope(self, envelope: str) -> EnvelopeResponse:
        found = await super().envelope(envelope)
        self.was_shown = self.shown_in_run = True
        return found

    async def history(self, envelope: str) -> HistoryResponse:
        if self.was_shown or not any(each.was_shown for each in self.esaw.everyone):
            return await super().history(envelope)
        # Nothing documents what a history says to a user who may not see the envelope.
        self.begin("history")
        return HistoryResponse(envelope_has_been_deleted=True)


class EsawOfThree(FakeEsawClient):
    """An eSAW with one envelope, and with a user for each of three Senders."""

    def __init__(self) -> None:
        super().__init__()
        self.everyone: list[Eyes] = []
        """Also the users whose Senders were deleted."""
        self.users = {each: self.another_user(each) for each in NAMES}
        self.owners: dict[ApiToken, Eyes] = {}

    def another_user(self, name: str) -> Eyes:
        """Return another user for the Sender of this name."""
        self.everyone.append(user := Eyes(self, name, len(self.everyone)))
        return user

    def as_user(self, token: ApiToken) -> EsawUserClient:
        return self.owners[token]


class ReaderModel(RuleBasedStateMachine):
    """Each rule is one act of eSAW, a user, a person, a search or the controller."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = tempfile.TemporaryDirectory()
        self.esaw = EsawOfThree()
        self.version = 100
        self.has_begun = False
        self.recorded: str | None = None
        self.first: str | None = None
        """The Sender to whom eSAW showed the envelope first."""
        self.lost: set[str] = set()
        """Senders that were deleted, or to whom eSAW ceased to show the envelope or to permit it."""
        self.asked: set[str] = set()
        """The Senders whose keys were used."""

    def teardown(self) -> None:
        """End each order of steps with a change after which the event has to end well."""
        try:
            if self.has_begun:
                if self.by_envelope:
                    self.the_sender_of_the_envelope_does_all()
                self.the_reader_does_all()
        finally:
            self.runner.close()
            self.folder.cleanup()

    @initialize(
        default=st.sampled_from((None, *NAMES)),
        after=st.sampled_from(("24h", "0s")),
        answers=st.tuples(*(st.sampled_from(FIRST_ANSWERS) for _ in NAMES)),
        by_envelope=st.booleans(),
    )
    def begin(self, default: str | None, after: str, answers: tuple[str, ...], *, by_envelope: bool) -> None:
        self.by_envelope = by_envelope
        named = {"defaultSenderRef": None if default is None else {"name": default}}
        self.default = default
        cleanup = {"policy": "Delete", "after": after}
        self.scene = ReconcilerScene(
            Path(self.folder.name), an_event(), noted=default or "", esaw=self.esaw, cleanup=cleanup, **named
        )
        self.keys = dict.fromkeys(NAMES, 0)
        for name, first in zip(NAMES, answers, strict=True):
            self.consent(name)
            self.answer(name, first)
        scene = self.scene
        reopener = Reopener(scene.status_writer, scene.event_recorder, scene.clock)
        self.finder = LateSenderFinder(scene.kube, reopener, scene.cache)
        self.starter = EventStarter(
            scene.kube, scene.clock, scene.metrics, lambda _: None, scene.cache.senders.get
        )
        self.has_begun = True

    # -- The state -------------------------------------------------------------------------------------------

    @property
    def event(self) -> EnvelopeEvent:
        return self.scene.newest()

    @property
    def status(self) -> EnvelopeEventStatus:
        return self.event.status

    @property
    def proof(self) -> SenderReference | None:
        envelope = self.status.envelope
        return envelope.sender_ref if envelope is not None else None

    @property
    def proved(self) -> str | None:
        return self.proof.name if self.proof is not None else None

    def prover(self) -> Sender | None:
        """Return the Sender with the proof, unless another user has its name by now."""
        found = self.sender(self.proof.name) if self.proof is not None else None
        is_same = found is not None and self.proof is not None and found.spec.user_id == self.proof.user_id
        return found if is_same else None

    def sender(self, name: str) -> Sender | None:
        return self.scene.cache.senders.get(name)

    def put(self, name: str, *, works: bool, **spec: Any) -> None:
        """Store a Sender with the newest key, and let the watch report it."""
        version, user = self.newer_version(), self.esaw.users[name]
        key = f"{NAMES.index(name)}{self.keys[name]:03x}".ljust(66, "0")
        self.esaw.owners[ApiToken.parse(key, ORIGIN)] = user
        self.scene.put_key(name, key)
        spec = {"userID": user.user_id, **spec}
        found = a_sender(name, authorized="True" if works else "False", version=version, **spec)
        raw = known_to_work(found, key).to_dict()
        raw["metadata"] |= {"generation": version, "uid": f"uid-{user.user_id}"}
        self.scene.secrets.forget(f"{name}-key")
        self.scene.observe(Sender.parse(raw))

    def newer_version(self) -> int:
        """Return a version that is newer than that of each Sender."""
        versions = [version_number(each) for each in self.scene.cache.senders]
        self.version = max([self.version, *versions]) + 1
        return self.version

    # -- eSAW and its users ----------------------------------------------------------------------------------

    @rule(name=st.sampled_from(NAMES), answers=st.sampled_from(tuple(ANSWERS)))
    def answer(self, name: str, answers: str) -> None:
        """ESAW answers the key of a Sender so from now on."""
        if answers in ("unseen", "not allowed") and self.esaw.users[name].was_shown:
            self.lost.add(name)
        was_refused = self.esaw.users[name].answers == "refused"
        self.esaw.users[name].answer(answers)
        sender = self.sender(name)
        if answers == "refused" and sender is not None:
            self.put(name, works=False, suspend=sender.spec.suspend)
        elif was_refused and sender is not None:
            self.consent(name)

    @rule(name=st.sampled_from(NAMES))
    def consent(self, name: str) -> None:
        """The user gives another key, which also creates the Sender."""
        if self.esaw.users[name].answers == "refused":
            self.esaw.users[name].answer("all")
        self.keys[name] += 1
        self.put(name, works=True)

    @rule(name=st.sampled_from(NAMES))
    def suspend(self, name: str) -> None:
        if self.sender(name) is not None:
            self.put(name, works=self.esaw.users[name].answers != "refused", suspend=True)

    @rule(name=st.sampled_from(NAMES))
    def delete_sender(self, name: str) -> None:
        if self.sender(name) is not None:
            self.lost.add(name)
            self.scene.kube.objects.pop((Sender.PLURAL, name), None)
            self.scene.cache.delete(Sender, name, self.newer_version())

    @rule(name=st.sampled_from(NAMES), answers=st.sampled_from(("unseen", "not allowed", "all")))
    def create_for_another_user(self, name: str, answers: str) -> None:
        """A person deletes a Sender, and creates one of its name for another user."""
        self.delete_sender(name)
        self.esaw.users[name] = self.esaw.another_user(name)
        self.consent(name)
        self.answer(name, answers)

    @rule(name=st.sampled_from(NAMES))
    def record(self, name: str) -> None:
        """The before-send page, or a person, names a Sender in the Envelope."""
        self.recorded = name
        self.scene.kube.put(an_envelope(name))

    # -- The controller --------------------------------------------------------------------------------------

    def run_once(self) -> bool:
        """Run the event when it is due; whether it ran."""
        event, scene = self.event, self.scene
        due = due_time(event, scene.cache, scene.clock.now())
        if event.status.phase.is_final or due is None:
            return False
        scene.clock.advance(seconds=max(0.0, (due - scene.clock.now()).total_seconds()) + 1)
        for each in self.esaw.everyone:
            each.asked.clear()
            each.shown_in_run = False
        before = self.proof
        self.runner.run(scene.reconciler.reconcile(event))
        scene.cache.update(scene.newest())
        self.asked |= {name for name, each in self.esaw.users.items() if each.asked}
        if self.status.phase is Phase.FAILED and before is not None and not self.is_given_up():
            assert self.proof == before, "the proof moved with a failure"
        deleters = [name for name, each in self.esaw.users.items() if "delete" in each.asked]
        if self.first is None or self.proved in deleters:
            # The key that may have deleted the envelope takes the place of the first one.
            self.first = self.proved
        if self.first not in self.lost:
            assert self.proved == self.first, "the first key is not asked again"
        self.check()
        return True

    @rule(times=st.sampled_from((1, 12, 2)))
    def run(self, times: int) -> None:
        for _ in range(times):
            if not self.run_once():
                break

    @rule()
    def one_pass(self) -> None:
        """A pass over all events begins."""
        self.look()

    def look(self) -> bool:
        """Let a pass over all events read the event; return whether it starts again."""
        before = self.event
        after = self.runner.run(self.finder.reopen_if_recorded(before))
        self.scene.cache.update(after)
        return after is not before

    @rule(name=st.sampled_from(NAMES))
    def search(self, name: str) -> None:
        """A search with the key of this Sender lists the envelope, if eSAW shows it."""
        sender = self.sender(name)
        if sender is None or sender.spec.suspend or "envelope" in self.esaw.users[name].problems:
            return
        starts = EventStarts(self.scene.organization, "envelopeFinished", Origin.SWEEP, None)
        self.runner.run(self.starter.start(starts, ENVELOPE, EnvelopeStatus.COMPLETED, sender=name))
        self.scene.cache.update(self.event)

    @rule()
    def retry(self) -> None:
        """A person retries an event that has ended."""
        event = self.event
        if event.status.phase is not Phase.FAILED:
            return
        result = self.runner.run(EventRequests(self.scene.clock).retry(event, Request("retry")))
        stored = self.runner.run(self.scene.status_writer.store(event, result.change(event.status)))
        self.scene.cache.update(stored)

    @rule(hours=st.sampled_from((1, 25)))
    def advance(self, hours: int) -> None:
        self.scene.clock.advance(hours=hours)

    # -- What always holds -----------------------------------------------------------------------------------

    def check(self) -> None:
        """Check the results of a run."""
        users, everyone = self.esaw.users, self.esaw.everyone
        status, message = self.status, self.status.message or ""
        assert not any(each.deletes_without_proof for each in everyone)
        label = self.event.metadata.labels.get(SENDER_LABEL, "")
        for each in users.values():
            if f"Sender/{each.name} any more" in message:
                assert each.was_shown, message
                assert not (each.asked and each.shown_in_run), message
        _, _, tried = message.partition("These keys were tried before: ")
        assert all(name in self.asked for name in NAMES if f"Sender/{name}" in tried), message
        is_known = any(each.was_shown or each.was_refused for each in everyone)
        # Nobody deletes it, and each request to delete it is answered.
        assert status.reason not in ("EnvelopeDeleted", "DeletionAssumed", "ArchivedAlready")
        was_deleted = any(each.deleted for each in everyone)
        assert status.reason != "ArchivedAndDeleted" or was_deleted, "it was not deleted"
        if status.phase is not Phase.FAILED:
            return
        if is_known:
            spec = structs.replace(
                self.scene.organization.spec,
                ttl=structs.replace(self.scene.organization.spec.ttl, failed=None),
            )
            event = structs.replace(self.event, status=structs.replace(status, notice=None))
            assert removal_time(event, spec) is None, f"known, and removed: {message}"
            is_unknown = status.reason == "EnvelopeNotFound" and status.envelope is None
            assert not (is_unknown and is_never_shown(status)), message
        if status.reason == "NotPermitted":
            named = {name for name in NAMES if f"Sender/{name}" in message} | {label}
            assert any(each.was_refused for each in everyone if each.name in named), message

    @rule()
    def settle(self) -> None:
        """Without any change, passes do not start the event again and again."""
        started = 0
        for _ in range(6):
            started += self.look()
            self.scene.clock.advance(hours=1)
            assert self.runs() < MAX_RUNS, f"it does not end: {self.status.message}"
        assert started <= len(NAMES), f"started {started} times: {self.status.message}"
        name, label = self.recorded, self.event.metadata.labels
        sender = self.sender(name) if name is not None else None
        if name is None or sender is None or name in self.asked or LISTED_BY_LABEL in label:
            return
        is_lost = self.proof is not None and self.prover() is None and name != self.proved
        is_waited_for = self.status.envelope is None or (is_lost and not self.status.phase.is_final)
        # If it was missing, the event starts again when the key works.
        was_missing = self.status.cause == "SenderMissing" and label.get(SENDER_LABEL) == name
        if self.esaw.users[name].answers == "refused" and is_waited_for and not was_missing:
            # Its user has to act, and no other.
            expected = "SenderSuspended" if sender.spec.suspend else "TokenRejected"
            assert (label.get(SENDER_LABEL), self.status.reason) == (name, expected), self.status.message

    def is_given_up(self) -> bool:
        """Whether the event failed after a run without a failure, or a run that may have deleted the
        envelope."""
        requested = find_condition(self.status.conditions, DELETE_REQUESTED_CONDITION)
        may_have_deleted = requested is not None and requested.status == "True"
        return self.status.reason == "DeadlineExceeded" or may_have_deleted

    def is_done(self) -> bool:
        return self.status.phase is Phase.SUCCEEDED

    def finish(self, name: str) -> None:
        """Let everything happen that needs no person, then one retry."""
        for _ in range(3):
            self.look()
            self.runs()
            self.search(name)
            self.runs()
        if not self.is_done():
            self.retry()
            self.runs()
        assert self.is_done(), f"{self.status.phase} {self.status.reason}: {self.status.message}"

    def runs(self) -> int:
        """Run the event until it waits for something that happens; return how often."""
        return next((number for number in range(MAX_RUNS) if not self.run_once()), MAX_RUNS)

    def heal(self, name: str) -> None:
        self.esaw.users[name].answer("all")
        self.consent(name)

    def the_reader_does_all(self) -> None:
        """The Sender who reads by the documentation shows the envelope and may do all from now on."""
        if not self.is_done():
            proved = self.proved if self.prover() is not None else None
            claims = [each for each in (proved, self.recorded) if each is not None and self.sender(each)]
            if not claims and self.recorded is not None:
                # The event waits for this one.
                claims = [self.recorded]
            listed = self.event.metadata.labels.get(LISTED_BY_LABEL)
            if not claims:
                claims = [each for each in (listed, self.default) if each is not None and self.sender(each)]
            if claims:
                self.heal(claims[0])
                self.finish(claims[0])

    def the_sender_of_the_envelope_does_all(self) -> None:
        """The Sender of the Envelope reads in place of one to whom the envelope is not shown, or who may not
        do all."""
        name, proved = self.recorded, self.proved
        if self.is_done() or name is None or proved in (None, name):
            return
        assert proved is not None
        other = self.prover()
        if other is None or (not other.spec.suspend and self.esaw.users[proved].answers in GIVES_WAY):
            self.heal(name)
            self.finish(name)


TestReaders = ReaderModel.TestCase


def test_the_model_finds_an_answer_to_another_user_of_the_senders_name() -> None:
    """Few of the random orders have these steps."""
    model = ReaderModel()
    model.begin(default="anna", after="24h", answers=("all", "all", "all"), by_envelope=False)
    model.run(1)
    model.create_for_another_user("anna", "unseen")
    model.run(4)
    assert model.status.reason == "SenderMissing"
    model.teardown()


def test_the_model_finds_a_proof_that_moved_with_a_failure() -> None:
    model = ReaderModel()
    model.begin(default="anna", after="24h", answers=("no files", "unseen", "unseen"), by_envelope=False)
    model.settle()
    model.suspend("anna")
    model.create_for_another_user("anna", "unseen")
    model.answer("anna", "files not allowed")
    model.retry()
    model.settle()
    model.teardown()
