"""
Render a ``Notification`` as the content of a mail, in the organization's language. Pure.

A mail contains names, counts, messages of a status and texts of the catalogue of reasons. None of them
contains a key (rule 7), and ``redact`` removes text that looks like one.
"""

from dataclasses import dataclass
from urllib.parse import quote, urlencode

from controller.notifications import consent_requests, problem_tracking
from controller.notifications.policy import Notification
from counterfoil.i18n.catalogue import CatalogueName, load_catalogue
from counterfoil.i18n.reasons import find_reason
from counterfoil.logs import redact
from counterfoil.metrics import MailKind
from counterfoil.resources import Language, Notifications, Organization, ReportedProblem, Sender

MAX_MESSAGE_LENGTH = 500
"""Maximum number of characters of a status message in a mail; the status has the whole message."""


@dataclass(frozen=True)
class LabelledText:
    """A labelled paragraph."""

    label: str
    text: str


@dataclass(frozen=True)
class MailLink:
    """A link with its label."""

    label: str
    url: str


@dataclass(frozen=True)
class ListItem:
    """One line of a list, with a link or without."""

    text: str
    url: str | None = None


@dataclass(frozen=True)
class MailContent:
    """The content of a mail, without its layout."""

    language: Language
    subject: str
    greeting: str
    paragraphs: tuple[str, ...]
    footer: str
    facts: tuple[LabelledText, ...] = ()
    items_title: str = ""
    items: tuple[ListItem, ...] = ()
    commands_title: str = ""
    commands: tuple[str, ...] = ()
    link: MailLink | None = None


@dataclass(frozen=True)
class MailRenderer:
    """Renders the mails of one Organization."""

    organization: Organization
    namespace: str

    @property
    def language(self) -> Language:
        """The language that the Organization set."""
        return self._notifications.language

    @property
    def _notifications(self) -> Notifications:
        return self.organization.spec.notifications or Notifications()

    def content(self, notification: Notification) -> MailContent:
        """Return the content of the mail for a notification."""
        if notification.problem is None:
            return self._consent_request(notification.senders[0])
        if notification.kind is MailKind.ESCALATION:
            return self._escalation(notification.senders)
        if notification.kind is MailKind.SOLVED:
            return self._solved(notification.problem)
        if notification.kind is MailKind.DIGEST:
            return self._digest()
        return self._problem(notification.problem)

    def _text(self, key: str, /, *, count: int | None = None, **values: object) -> str:
        catalogue = load_catalogue(CatalogueName.MAILS, self.language)
        section, _, name = key.rpartition(".")
        section = section or "common"
        if count == 1 and catalogue.has(section, f"{name}_one"):
            name = f"{name}_one"
        return catalogue.say(section, name, count=count, **values)

    # -- To a sender -----------------------------------------------------------------------------------------

    def _consent_request(self, sender: Sender) -> MailContent:
        first = sender.status.key is None and sender.status.notified_at is None
        waiting = sender.status.waiting_events
        paragraphs = [self._text("consent.required" if first else "consent.died")]
        if waiting:
            paragraphs.append(self._text("consent.waiting", count=waiting))
        url = self._consent_url(sender)
        paragraphs.append(self._sender_instructions(sender, url))
        return MailContent(
            language=self.language,
            subject=self._text("consent.first" if first else "consent.subject"),
            greeting=self._greeting(sender),
            paragraphs=tuple(paragraphs),
            link=MailLink(self._text("consent.button"), url) if url is not None else None,
            footer=self._footer(),
        )

    def _sender_instructions(self, sender: Sender, url: str | None) -> str:
        ref = sender.spec.token_secret_ref
        if ref is not None:
            return self._text("consent.brought", secret=ref.name, key=ref.key)
        return self._text("consent.link" if url is not None else "consent.nolink")

    def _consent_url(self, sender: Sender) -> str | None:
        if consent_requests.has_user_secret(sender):
            return None
        return self.organization.consent_url(sender.name) or sender.status.consent_url

    def _greeting(self, sender: Sender) -> str:
        name = _full_name(sender)
        return self._text("hello_name", name=name) if name else self._text("hello")

    # -- To the administrators -------------------------------------------------------------------------------

    def _escalation(self, senders: tuple[Sender, ...]) -> MailContent:
        named = [self._item(each) for each in senders[: consent_requests.MAX_NAMED_SENDERS]]
        if len(senders) > consent_requests.MAX_NAMED_SENDERS:
            named.append(
                ListItem(
                    self._text("escalation.more", count=len(senders) - consent_requests.MAX_NAMED_SENDERS)
                )
            )
        return MailContent(
            language=self.language,
            subject=self._subject_with_count("escalation.subject", count=len(senders)),
            greeting=self._text("hello"),
            paragraphs=(self._text("escalation.text"),),
            items_title=self._text("senders"),
            items=tuple(named),
            commands_title=self._text("commands"),
            commands=(f"kubectl -n {self.namespace} get senders",),
            link=self._console(),
            footer=self._footer(),
        )

    def _item(self, sender: Sender) -> ListItem:
        name = " ".join(part for part in (_full_name(sender), f"Sender/{sender.name}") if part)
        text = self._text("escalation.sender", name=name, waiting=sender.status.waiting_events)
        return ListItem(text, self._consent_url(sender))

    def _problem(self, problem: ReportedProblem) -> MailContent:
        kind = problem_tracking.kind_of(problem)
        texts = find_reason(problem.reason).localized_text(self.language)
        facts = [LabelledText(self._text("what"), texts.what)]
        if texts.do:
            facts.append(LabelledText(self._text("do"), texts.do))
        if problem.message:
            facts.append(LabelledText(self._text("message"), _shortened(problem.message)))
        return MailContent(
            language=self.language,
            subject=self._subject(problem),
            greeting=self._text("hello"),
            paragraphs=(
                self._text(f"{kind}.text", count=problem.count, archive=problem_tracking.archive_of(problem)),
            ),
            facts=tuple(facts),
            items_title=self._text("senders" if kind == problem_tracking.KEY else "examples"),
            items=tuple(ListItem(each) for each in problem.examples),
            commands_title=self._text("commands"),
            commands=self._commands(problem),
            link=self._console(self._anchor(problem)),
            footer=self._footer(),
        )

    def _solved(self, problem: ReportedProblem) -> MailContent:
        date = problem.notified_at.strftime("%Y-%m-%d %H:%M UTC") if problem.notified_at is not None else ""
        return MailContent(
            language=self.language,
            subject=self._text("solved.subject", subject=self._subject(problem)),
            greeting=self._text("hello"),
            paragraphs=(self._text("solved.text", date=date),),
            footer=self._footer(),
        )

    def _digest(self) -> MailContent:
        told = problem_tracking.notified_and_open(self.organization.status.problems)
        return MailContent(
            language=self.language,
            subject=self._subject_with_count("digest.subject", count=len(told)),
            greeting=self._text("hello"),
            paragraphs=(self._text("digest.text"),),
            items_title=self._text("digest.items"),
            items=tuple(self._digest_item(each) for each in told),
            link=self._console(),
            footer=self._footer(),
        )

    def _digest_item(self, problem: ReportedProblem) -> ListItem:
        date = problem.notified_at.strftime("%Y-%m-%d") if problem.notified_at is not None else ""
        link = self._console(self._anchor(problem))
        text = self._text("digest.item", title=self._title(problem), date=date)
        return ListItem(text, link.url if link is not None else None)

    def _subject(self, problem: ReportedProblem) -> str:
        return f"[{self.organization.name}] {self._title(problem)}"

    def _title(self, problem: ReportedProblem) -> str:
        kind = problem_tracking.kind_of(problem)
        return self._text(
            "escalation.subject" if kind == problem_tracking.CONSENT else f"{kind}.subject",
            count=problem.count,
            reason=problem.reason,
            archive=problem_tracking.archive_of(problem),
        )

    def _subject_with_count(self, key: str, /, *, count: int | None = None, **values: object) -> str:
        return f"[{self.organization.name}] {self._text(key, count=count, **values)}"

    def _commands(self, problem: ReportedProblem) -> tuple[str, ...]:
        kubectl, mine = (
            f"kubectl -n {self.namespace}",
            f"counterfoil.dev/organization={self.organization.name}",
        )
        match problem_tracking.kind_of(problem):
            case problem_tracking.ARCHIVE:
                return (f"{kubectl} describe archive {problem_tracking.archive_of(problem)}",)
            case problem_tracking.KEY:
                return (f"{kubectl} get senders",)
            case _:
                failed = f"--field-selector status.phase=Failed -l {mine}"
                return (
                    f"{kubectl} get envelopeevents {failed}",
                    f"{kubectl} label envelopeevents {failed} counterfoil.dev/request=retry",
                )

    def _console(self, anchor: str = "") -> MailLink | None:
        """Link to the entry of the console's first page where the problem can be solved."""
        base = self._notifications.console_url
        if base is None:
            return None
        query = urlencode({"organization": self.organization.name})
        fragment = f"#{quote(anchor, safe='')}" if anchor else ""
        return MailLink(self._text("console"), f"{base.rstrip('/')}/attention?{query}{fragment}")

    def _anchor(self, problem: ReportedProblem) -> str:
        """Return the anchor of a problem on that page; a test compares it with the console's own."""
        kind = problem_tracking.kind_of(problem)
        if kind == problem_tracking.CONSENT:
            return ""
        if kind == problem_tracking.ARCHIVE:
            return f"{kind}--{problem_tracking.archive_of(problem)}"
        return f"{kind}-{self.organization.name}-{problem.reason}"

    def _footer(self) -> str:
        return self._text("footer", organization=self.organization.name)


def _full_name(sender: Sender) -> str:
    return " ".join(part for part in (sender.spec.given_name, sender.spec.surname) if part)


def _shortened(message: str) -> str:
    text = redact(message)
    return text if len(text) <= MAX_MESSAGE_LENGTH else f"{text[:MAX_MESSAGE_LENGTH]}…"
