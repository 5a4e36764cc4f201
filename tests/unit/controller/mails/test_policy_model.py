"""
The mails about problems against a model of them: mails about the start and the end of a problem take turns.

Events fail for two reasons, are retried and fail again, and a sender's key stops working. Meanwhile the mail
server or the API server does not answer, and the process is killed, also between a mail and its mark.
"""

import asyncio
from collections.abc import Iterator
from datetime import datetime, timedelta
from email.message import EmailMessage

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from controller.mails.policy import QUIET_PERIOD, NotificationTimings
from controller.mails.problem_tracking import FailureSummary
from controller.mails.smtp import MailError, MailServer
from counterfoil.resources import EnvelopeEvent, Sender
from tests.support.scenes.notifications import (
    MAILS,
    FakeMailer,
    Scene,
    a_failed_event,
    an_unauthorized_sender,
    in_archive,
)
from tests.support.virtual_time import VirtualTimeLoop

REASONS = ("NameOccupied", "EnvelopeNotFound")
SENDER, ESCALATION, REMINDER = "anna", "has not given consent", "still open"
ESCALATION_END = "has no key that works"
SUBJECTS = (*REASONS, ESCALATION, REMINDER)
"""Words in the subjects of the mails to the administrators. The others are to the sender."""

NUMBER = st.integers(0, 3)
SECONDS = st.sampled_from((2, 40, 100, 1000, 3600, 90000))
DAY = timedelta(days=1)
AWAY = MailError("MailServerUnreachable", "The mail server can't be reached.")


class Mailer(FakeMailer):
    """Can be the last thing that its process does."""

    def __init__(self) -> None:
        super().__init__()
        self.scene: Scene
        self.times: list[datetime] = []
        self.is_killing = False

    async def send(
        self, server: MailServer, message: EmailMessage, *, sender: str, to: tuple[str, ...]
    ) -> None:
        await super().send(server, message, sender=sender, to=to)
        self.times.append(self.scene.clock.now())
        if self.is_killing:
            self.scene.kube.go_away("patch_status", 100)


def subject_of(message: EmailMessage) -> str:
    if message["To"].addresses[0].username == SENDER:
        return SENDER
    subject = str(message["Subject"]).replace(ESCALATION_END, ESCALATION)
    return next(each for each in SUBJECTS if each in subject)


class MailModel(RuleBasedStateMachine):
    """Each rule is something that happens; in ``time_passes`` the notifier does its checks."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner(loop_factory=VirtualTimeLoop)
        self.mailer = Mailer()
        self.scene = Scene(
            an_unauthorized_sender(status={"conditions": []}),
            timings=NotificationTimings(),
            mailer=self.mailer,
            notifications={**MAILS, "language": "en"},
        )
        self.mailer.scene = self.scene
        self.failed: dict[int, EnvelopeEvent] = {}
        self.removed = FailureSummary()
        self.is_key_refused = False
        self.refusals = 0
        self.read_mails = 0
        self.sent: dict[str, datetime] = {}
        """Time of each mail, by its Message-ID."""
        self.questions = 0
        """Number of mails to the sender."""
        self.last: dict[str, datetime] = {}
        """Time of the last mail, by subject."""
        self.told: set[str] = set()
        """Reasons whose last mail was about the start of the problem."""
        self.silent: set[str] = set()
        """Reasons of events that the time to live removed: their problem ends without a mail."""
        self.unmarked: set[str] = set()
        """Subjects of mails whose mark is written as soon as the API server answers this process."""
        self.lost: set[str] = set()
        """Subjects of mails whose process was killed before it wrote the mark (decision 0018)."""
        self.is_something_solved = False
        """Whether a problem ended since the last reminder."""

    # -- What happens ----------------------------------------------------------------------------------------

    @rule(number=NUMBER)
    def event_fails(self, number: int) -> None:
        event = a_failed_event(number, REASONS[number % 2], self.scene.clock.now())
        self.failed[number] = event
        self.scene.notifier.event_failed(event)

    @rule(reason=st.sampled_from(REASONS))
    def cause_is_removed(self, reason: str) -> None:
        """The events that failed for one reason are retried and do not fail."""
        self.failed = {number: each for number, each in self.failed.items() if each.status.reason != reason}
        self.is_something_solved = True

    @rule(number=NUMBER)
    def time_to_live_passes(self, number: int) -> None:
        """A failed event is removed unsolved."""
        if (event := self.failed.pop(number, None)) is not None:
            self.removed.add_removed(event, in_archive("dms"))
            self.silent.add(REASONS[number % 2])
            self.is_something_solved = True

    @rule()
    def key_is_refused_or_accepted(self) -> None:
        self.is_key_refused = not self.is_key_refused
        self.refusals += self.is_key_refused
        self.is_something_solved = True
        condition = {
            "type": "Authorized",
            "status": "False" if self.is_key_refused else "True",
            "reason": "TokenRejected" if self.is_key_refused else "KeyAccepted",
            "message": "In words.",
            "lastTransitionTime": self.scene.clock.now().isoformat(),
        }
        self.scene.change(Sender, "anna", conditions=[condition])

    @rule(is_away=st.booleans())
    def mail_server_changes(self, is_away: bool) -> None:
        self.mailer.trouble = AWAY if is_away else None

    @rule()
    def pass_ends(self) -> None:
        """The garbage collector's pass over all events ends."""
        summary = self.removed
        for event in self.failed.values():
            summary.add(event, in_archive("dms"))
        self.removed = FailureSummary()
        self.scene.notifier.pass_finished(self.scene.clock.now(), {"acme": summary})

    @rule(checks=st.integers(1, 2), seconds=SECONDS, verb=st.sampled_from(("", "", "patch_status", "get")))
    def time_passes(self, checks: int, seconds: int, verb: str = "") -> None:
        """The notifier checks the problems. The API server may not answer the first requests of one kind."""
        self.scene.kube.go_away(verb, 2)
        self.runner.run(self.scene.run_once(checks, every=timedelta(seconds=seconds)))
        self.scene.kube.recover()
        if not verb:
            self.unmarked.clear()
        self._read_mails(may_lack_mark=bool(verb))

    @rule(is_after_mail=st.booleans())
    def restart(self, is_after_mail: bool) -> None:
        """The process is killed, perhaps between a mail that is due and its mark. Another one starts."""
        if is_after_mail:
            self.mailer.is_killing = True
            self.runner.run(self.scene.run_once())
            self.mailer.is_killing = False
            self.scene.kube.recover()
            self._read_mails(may_lack_mark=True)
        self.lost |= self.unmarked
        self.unmarked.clear()
        self.scene.again()

    # -- What is expected of each mail -----------------------------------------------------------------------

    def _new_mails(self) -> Iterator[tuple[EmailMessage, datetime]]:
        begin, self.read_mails = self.read_mails, len(self.mailer.times)
        for (_, message), at in zip(self.mailer.sent_mails[begin:], self.mailer.times[begin:], strict=True):
            yield message, at

    def _read_mails(self, *, may_lack_mark: bool) -> None:
        for message, at in self._new_mails():
            subject, identifier = subject_of(message), str(message["Message-ID"])
            if identifier in self.sent:
                assert subject in self.lost, f"a second mail: {message['Subject']}"
            elif subject not in self.lost:
                self._expect(subject, str(message["Subject"]), at)
            self.sent[identifier] = self.last[subject] = at
            self._remember(subject, str(message["Subject"]))
            self.lost.discard(subject)
            if may_lack_mark:
                self.unmarked.add(subject)

    def _expect(self, subject: str, title: str, at: datetime) -> None:
        last = self.last.get(subject)
        if subject in REASONS:
            is_end = title.startswith("Solved: ")
            if is_end != (subject in self.told):
                is_allowed = not is_end and subject in self.silent
                assert is_allowed, f"two mails in a row: {title}"
                self.silent.discard(subject)
        elif subject == SENDER:
            self.questions += 1
            assert self.is_key_refused
            assert self.questions <= self.refusals
            assert last is None or at - last >= QUIET_PERIOD, "two mails about one key"
        elif subject == ESCALATION and title.startswith("Solved: "):
            assert subject in self.told, "a mail about the end of what no mail was about"
        elif subject == ESCALATION:
            assert self.is_key_refused
            assert at - self.last[SENDER] >= DAY
            assert last is None or last < self.last[SENDER], "two mails to the administrators about one key"
        else:
            assert last is None or self.is_something_solved or at - last >= DAY, "two reminders"

    def _remember(self, subject: str, title: str) -> None:
        if subject == REMINDER:
            self.is_something_solved = False
        elif title.startswith("Solved: "):
            self.told.discard(subject)
        else:
            self.told.add(subject)

    # -- The end ---------------------------------------------------------------------------------------------

    def everything_works(self) -> None:
        """Then each open problem has its mail, each solved one its end, and each day its reminder."""
        self.mailer.trouble = None
        # Longer than the pause after a mail server did not answer, and than the claim of a killed process.
        self.pass_ends()
        self.time_passes(2, 1000)
        self.pass_ends()
        self.time_passes(3, 100)
        failing = {each.status.reason for each in self.failed.values()}
        for reason in set(REASONS) - self.lost:
            if reason in failing:
                assert reason in self.told, f"no mail about {reason}"
            elif reason not in self.silent:
                assert reason not in self.told, f"no mail about the end of {reason}"
        assert not self.is_key_refused or SENDER in self.last
        if not self.is_key_refused and ESCALATION not in self.lost:
            assert ESCALATION not in self.told, "no mail about a sender who reacted"
        if failing - self.lost:
            self.last.pop(REMINDER, None)
            self.time_passes(2, 90000)
            assert REMINDER in self.last, "there is no reminder after a day"

    def teardown(self) -> None:
        try:
            self.everything_works()
        finally:
            self.runner.close()


TestMails = MailModel.TestCase
# An example with its mails takes longer than one of the other models.
TestMails.settings = settings(max_examples=settings().max_examples // 2)
