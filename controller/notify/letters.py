"""
The words of a mail: a notice goes in, a letter in the organization's language comes out. Pure.

What it tells is names, counts, stable messages of a status and words of the catalogue of reasons; a key is in none of
them (rule 7), and ``redacted`` strikes out what looks like one all the same.
"""

from dataclasses import dataclass
from urllib.parse import quote, urlencode

from controller.notify import asking, ledger
from controller.notify.due import Notice
from controller.notify.words import WORDS
from counterfoil.logs import redacted
from counterfoil.metrics import Mail
from counterfoil.reasons import reason_of
from counterfoil.resources import Language, Notifications, Organization, Problem, Sender

LONGEST_MESSAGE = 500
"""Characters of a status's message in a mail; the whole one stands in the status."""


@dataclass(frozen=True)
class Fact:
    """A labelled paragraph."""

    label: str
    text: str


@dataclass(frozen=True)
class Link:
    """Where to click."""

    label: str
    url: str


@dataclass(frozen=True)
class Item:
    """One line of a list, with a link or without."""

    text: str
    url: str | None = None


@dataclass(frozen=True)
class Letter:
    """What a mail says, still without a form."""

    language: Language
    subject: str
    greeting: str
    paragraphs: tuple[str, ...]
    footer: str
    facts: tuple[Fact, ...] = ()
    items_title: str = ""
    items: tuple[Item, ...] = ()
    commands_title: str = ""
    commands: tuple[str, ...] = ()
    link: Link | None = None


@dataclass(frozen=True)
class Writer:
    """Writes the letters of one Organization."""

    organization: Organization
    namespace: str

    @property
    def language(self) -> Language:
        """The language that the Organization set."""
        return self._notifications.language

    @property
    def _notifications(self) -> Notifications:
        return self.organization.spec.notifications or Notifications()

    def letter(self, notice: Notice) -> Letter:
        """Return the letter for a notice."""
        if notice.problem is None:
            return self._to_sender(notice.senders[0])
        if notice.kind is Mail.ESCALATION:
            return self._about_silence(notice.senders)
        if notice.kind is Mail.SOLVED:
            return self._about_end(notice.problem)
        if notice.kind is Mail.DIGEST:
            return self._about_long_ones()
        return self._about_problem(notice.problem)

    def _say(self, key: str, /, *, count: int | None = None, **values: object) -> str:
        words = WORDS[self.language]
        chosen = f"{key}.1" if count == 1 and f"{key}.1" in words else key
        return words[chosen].format(count=count, **values)

    # -- To a sender ------------------------------------------------------------------------------------------

    def _to_sender(self, sender: Sender) -> Letter:
        first = sender.status.key is None and sender.status.notified_at is None
        waiting = sender.status.waiting_events
        paragraphs = [self._say("consent.required" if first else "consent.died")]
        if waiting:
            paragraphs.append(self._say("consent.waiting", count=waiting))
        url = self._consent_url(sender)
        paragraphs.append(self._what_a_sender_does(sender, url))
        return Letter(
            language=self.language,
            subject=self._say("consent.first" if first else "consent.subject"),
            greeting=self._greeting(sender),
            paragraphs=tuple(paragraphs),
            link=Link(self._say("consent.button"), url) if url is not None else None,
            footer=self._footer(),
        )

    def _what_a_sender_does(self, sender: Sender, url: str | None) -> str:
        ref = sender.spec.token_secret_ref
        if ref is not None:
            return self._say("consent.brought", secret=ref.name, key=ref.key)
        return self._say("consent.link" if url is not None else "consent.nolink")

    def _consent_url(self, sender: Sender) -> str | None:
        if asking.is_brought(sender):
            return None
        return self.organization.consent_url(sender.name) or sender.status.consent_url

    def _greeting(self, sender: Sender) -> str:
        name = _full_name(sender)
        return self._say("hello.name", name=name) if name else self._say("hello")

    # -- To the administrators --------------------------------------------------------------------------------

    def _about_silence(self, senders: tuple[Sender, ...]) -> Letter:
        named = [self._item(each) for each in senders[: asking.MOST_NAMED]]
        if len(senders) > asking.MOST_NAMED:
            named.append(Item(self._say("escalation.more", count=len(senders) - asking.MOST_NAMED)))
        return Letter(
            language=self.language,
            subject=self._headed("escalation.subject", count=len(senders)),
            greeting=self._say("hello"),
            paragraphs=(self._say("escalation.text"),),
            items_title=self._say("senders"),
            items=tuple(named),
            commands_title=self._say("commands"),
            commands=(f"kubectl -n {self.namespace} get senders",),
            link=self._console(),
            footer=self._footer(),
        )

    def _item(self, sender: Sender) -> Item:
        name = " ".join(part for part in (_full_name(sender), f"Sender/{sender.name}") if part)
        text = self._say("escalation.sender", name=name, waiting=sender.status.waiting_events)
        return Item(text, self._consent_url(sender))

    def _about_problem(self, problem: Problem) -> Letter:
        kind = ledger.kind_of(problem)
        said = reason_of(problem.reason).says(self.language)
        facts = [Fact(self._say("what"), said.what)]
        if said.do:
            facts.append(Fact(self._say("do"), said.do))
        if problem.message:
            facts.append(Fact(self._say("message"), _bounded(problem.message)))
        return Letter(
            language=self.language,
            subject=self._subject(problem),
            greeting=self._say("hello"),
            paragraphs=(self._say(f"{kind}.text", count=problem.count, archive=ledger.archive_of(problem)),),
            facts=tuple(facts),
            items_title=self._say("senders" if kind == ledger.KEY else "examples"),
            items=tuple(Item(each) for each in problem.examples),
            commands_title=self._say("commands"),
            commands=self._commands(problem),
            link=self._console(self._anchor(problem)),
            footer=self._footer(),
        )

    def _about_end(self, problem: Problem) -> Letter:
        date = problem.notified_at.strftime("%Y-%m-%d %H:%M UTC") if problem.notified_at is not None else ""
        return Letter(
            language=self.language,
            subject=self._say("solved.subject", subject=self._subject(problem)),
            greeting=self._say("hello"),
            paragraphs=(self._say("solved.text", date=date),),
            footer=self._footer(),
        )

    def _about_long_ones(self) -> Letter:
        told = ledger.told_and_open(self.organization.status.problems)
        return Letter(
            language=self.language,
            subject=self._headed("digest.subject", count=len(told)),
            greeting=self._say("hello"),
            paragraphs=(self._say("digest.text"),),
            items_title=self._say("digest.items"),
            items=tuple(self._still_open(each) for each in told),
            link=self._console(),
            footer=self._footer(),
        )

    def _still_open(self, problem: Problem) -> Item:
        date = problem.notified_at.strftime("%Y-%m-%d") if problem.notified_at is not None else ""
        link = self._console(self._anchor(problem))
        text = self._say("digest.item", title=self._title(problem), date=date)
        return Item(text, link.url if link is not None else None)

    def _subject(self, problem: Problem) -> str:
        return f"[{self.organization.name}] {self._title(problem)}"

    def _title(self, problem: Problem) -> str:
        kind = ledger.kind_of(problem)
        return self._say(
            "escalation.subject" if kind == ledger.CONSENT else f"{kind}.subject",
            count=problem.count,
            reason=problem.reason,
            archive=ledger.archive_of(problem),
        )

    def _headed(self, key: str, /, *, count: int | None = None, **values: object) -> str:
        return f"[{self.organization.name}] {self._say(key, count=count, **values)}"

    def _commands(self, problem: Problem) -> tuple[str, ...]:
        kubectl, mine = (
            f"kubectl -n {self.namespace}",
            f"counterfoil.dev/organization={self.organization.name}",
        )
        match ledger.kind_of(problem):
            case ledger.ARCHIVE:
                return (f"{kubectl} describe archive {ledger.archive_of(problem)}",)
            case ledger.KEY:
                return (f"{kubectl} get senders",)
            case _:
                failed = f"--field-selector status.phase=Failed -l {mine}"
                return (
                    f"{kubectl} get envelopeevents {failed}",
                    f"{kubectl} label envelopeevents {failed} counterfoil.dev/request=retry",
                )

    def _console(self, anchor: str = "") -> Link | None:
        """Lead to the entry of the console's first page that is about this, where it can be solved."""
        base = self._notifications.console_url
        if base is None:
            return None
        query = urlencode({"organization": self.organization.name})
        fragment = f"#{quote(anchor, safe='')}" if anchor else ""
        return Link(self._say("console"), f"{base.rstrip('/')}/attention?{query}{fragment}")

    def _anchor(self, problem: Problem) -> str:
        """Return the place of a problem on that page; a test holds it against the console's own."""
        kind = ledger.kind_of(problem)
        if kind == ledger.CONSENT:
            return ""
        if kind == ledger.ARCHIVE:
            return f"{kind}--{ledger.archive_of(problem)}"
        return f"{kind}-{self.organization.name}-{problem.reason}"

    def _footer(self) -> str:
        return self._say("footer", organization=self.organization.name)


def _full_name(sender: Sender) -> str:
    return " ".join(part for part in (sender.spec.given_name, sender.spec.surname) if part)


def _bounded(message: str) -> str:
    text = redacted(message)
    return text if len(text) <= LONGEST_MESSAGE else f"{text[:LONGEST_MESSAGE]}…"
