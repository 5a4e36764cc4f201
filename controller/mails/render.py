"""
Render a ``Notification`` as a mail in the organization's language: its content, then the MIME message. Pure.

A mail contains names, counts, messages of a status and texts of the catalogue of reasons. None of them
contains a key (rule 7), and ``redact`` removes text that looks like one.

Names of people, messages of eSAW and answers of archives are external text. ``external_text`` and
``person_name`` make it one line of limited length without links, and the template engine escapes it in the
HTML part. It reaches a header only through ``one_line`` and ``Address``, so no header can be injected.

The Message-ID is derived from the subject of the notification. Mail servers and clients can therefore
recognize a mail that is sent again after a crash.
"""

import hashlib
import re
from dataclasses import dataclass
from datetime import datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from pathlib import Path
from urllib.parse import quote, urlencode

import jinja2
from msgspec.structs import replace

from controller.mails.policy import MAX_NAMED_SENDERS, Notification, has_user_secret
from controller.mails.problem_tracking import notified_and_open
from counterfoil.i18n.attention import AttentionItem, AttentionKind
from counterfoil.i18n.catalogue import CatalogueName, load_catalogue
from counterfoil.i18n.commands import CONSENT_HELPS, commands_about, without_commands
from counterfoil.i18n.key_advice import key_advice
from counterfoil.i18n.problems import (
    ProblemKind,
    archive_of,
    import_of,
    is_solved,
    key_failure,
    kind_of,
    problem_reason,
    task_anchor,
    text_of_problem,
    told_reason,
)
from counterfoil.i18n.reasons import ReasonProperty, find_reason, has_property
from counterfoil.logs import redact
from counterfoil.metrics import MailKind
from counterfoil.resources import GROUP, Language, Notifications, Organization, ReportedProblem, Sender

_POLICY = SMTP.clone(cte_type="7bit")
"""Mail servers without 8BITMIME exist; all of them accept seven-bit mails."""

_FOLDER = Path(__file__).parent / "templates"

_LOCAL = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}")
_DOMAIN = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*")

MAX_HEADER_LENGTH = 200

_OF_ARCHIVES = (ProblemKind.ARCHIVE, ProblemKind.COPY)
"""Kinds of problems that are about one Archive."""

_templates = jinja2.Environment(
    loader=jinja2.FileSystemLoader(_FOLDER),
    autoescape=jinja2.select_autoescape(("html",)),
    undefined=jinja2.StrictUndefined,
    keep_trailing_newline=True,
)

MAX_MESSAGE_LENGTH = 1000
"""Maximum number of characters of a status message in a mail, as in the stored problem. The object has all of
it."""

MAX_NAME_LENGTH = 80
"""Maximum number of characters of a person's name in a mail."""

_LINKED_HOST = re.compile(r"(?<=//)[^\s/]+|\bwww\.[^\s/]+|\b[\w-]+(?:\.[\w-]+)+(?=/)", re.IGNORECASE)
"""Hosts of which mail programs make links: after a scheme, after ``www.``, or before a path."""

_LABEL = re.compile(r"/(?:use|origin|request)(?:=[\w-]*+)?(?=[`'\",;.)]*(?:\s|$)|://)")
"""The text after the group in the labels and annotations that messages say to type, and no other path."""


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
    def _notifications(self) -> Notifications:
        return self.organization.spec.notifications or Notifications()

    def content(self, notification: Notification) -> MailContent:
        """Return the content of the mail for a notification."""
        if notification.problem is None:
            return self._consent_request(notification.senders[0])
        if notification.kind is MailKind.ESCALATION:
            return self._escalation(notification.senders)
        if notification.kind is MailKind.SOLVED:
            return self._end(notification.problem)
        if notification.kind is MailKind.DIGEST:
            return self._digest()
        return self._problem(notification.problem)

    def _text(self, key: str, /, *, count: int | None = None, **values: object) -> str:
        catalogue = load_catalogue(CatalogueName.MAILS, self._notifications.language)
        section, _, name = key.rpartition(".")
        return catalogue.say(section or "common", name, count=count, **values)

    # -- To a sender -----------------------------------------------------------------------------------------

    def _consent_request(self, sender: Sender) -> MailContent:
        # Also in a later mail: a key that never existed was not revoked.
        first = sender.status.key is None
        subject, cause, waits = (
            ("brought_subject", "brought_refused", "brought_waiting")
            if has_user_secret(sender)
            else ("first" if first else "subject", "required" if first else "died", "waiting")
        )
        paragraphs = [self._text(f"consent.{cause}")]
        if waiting := sender.status.waiting_events:
            paragraphs.append(self._text(f"consent.{waits}", count=waiting))
        url = self._consent_url(sender)
        paragraphs.append(self._sender_instructions(sender))
        return MailContent(
            language=self._notifications.language,
            subject=self._text(f"consent.{subject}"),
            greeting=self._greeting(sender),
            paragraphs=tuple(paragraphs),
            link=MailLink(self._text("consent.button"), url) if url is not None else None,
            footer=self._footer(),
        )

    def _sender_instructions(self, sender: Sender) -> str:
        ref = sender.spec.token_secret_ref
        if ref is not None:
            return self._text("consent.brought", secret=ref.name, key=ref.key)
        return self._text("consent.link")

    def _consent_url(self, sender: Sender) -> str | None:
        return None if has_user_secret(sender) else self.organization.consent_url(sender.name)

    def _greeting(self, sender: Sender) -> str:
        name = person_name(sender)
        return self._text("hello_name", name=name) if name else self._text("hello")

    # -- To the administrators -------------------------------------------------------------------------------

    def _escalation(self, senders: tuple[Sender, ...]) -> MailContent:
        named = [self._item(each) for each in senders[:MAX_NAMED_SENDERS]]
        if (unnamed := len(senders) - MAX_NAMED_SENDERS) > 0:
            named.append(ListItem(self._text("escalation.more", count=unnamed)))
        brought = [each for each in senders if has_user_secret(each)]
        texts = (
            *(("text",) if len(brought) < len(senders) else ()),
            *(("key_text",) if brought else ()),
        )
        subject = "mixed_subject" if len(texts) > 1 else "key_subject" if brought else "subject"
        return MailContent(
            language=self._notifications.language,
            subject=self._subject_with_count(f"escalation.{subject}", count=len(senders)),
            greeting=self._text("hello"),
            paragraphs=tuple(self._text(f"escalation.{each}") for each in texts),
            items_title=self._text("senders"),
            items=tuple(named),
            commands_title=self._text("commands"),
            commands=(
                f"kubectl -n {self.namespace} get senders",
                *(self._new_key_command(each) for each in brought[:MAX_NAMED_SENDERS]),
            ),
            link=self._console(),
            footer=self._footer(),
        )

    def _item(self, sender: Sender) -> ListItem:
        name = " ".join(part for part in (person_name(sender), f"Sender/{sender.name}") if part)
        waiting, ref = sender.status.waiting_events, sender.spec.token_secret_ref
        text = (
            self._text("escalation.key_sender", name=name, waiting=waiting, secret=ref.name, key=ref.key)
            if ref is not None
            else self._text("escalation.sender", name=name, waiting=waiting)
        )
        return ListItem(text, self._consent_url(sender))

    def _new_key_command(self, sender: Sender) -> str:
        refused = key_failure(sender)
        reason = refused.reason if refused is not None else "TokenRejected"
        return key_advice(sender, self.organization, reason).command_line(self.namespace)

    def _problem(self, problem: ReportedProblem) -> MailContent:
        kind, reason = kind_of(problem), find_reason(problem.reason)
        has_links = kind == ProblemKind.KEY and problem.reason in CONSENT_HELPS
        texts = text_of_problem(kind, reason.name, problem.message or "", self._notifications.language)
        envelopes = (
            self._text(f"{ProblemKind.FAILED}.{reason.envelope}", count=problem.count)
            if kind == ProblemKind.FAILED
            else ""
        )
        facts = [LabelledText(self._text("what"), texts.what)]
        if texts.do:
            facts.append(LabelledText(self._text("do"), texts.do))
        if problem.message:
            said = without_commands(problem.message, problem.reason)
            facts.append(LabelledText(self._text("message"), external_text(said)))
        return MailContent(
            language=self._notifications.language,
            subject=self._subject(problem),
            greeting=self._text("hello"),
            paragraphs=(
                self._text(
                    f"{kind}.{_text_name(problem)}",
                    count=problem.count,
                    archive=archive_of(problem),
                    name=import_of(problem),
                    envelopes=envelopes,
                ),
            ),
            facts=tuple(facts),
            items_title=self._text("senders" if kind == ProblemKind.KEY else "examples"),
            items=tuple(
                ListItem(external_text(each), self.organization.consent_url(each) if has_links else None)
                for each in problem.examples
            ),
            commands_title=self._text("commands"),
            commands=self._commands(problem),
            link=self._console(self._anchor(problem)),
            footer=self._footer(),
        )

    def _end(self, problem: ReportedProblem) -> MailContent:
        date = (
            problem.notified_time.strftime("%Y-%m-%d %H:%M UTC") if problem.notified_time is not None else ""
        )
        section = "solved" if is_solved(problem) else "ended"
        done = "done"
        if kind_of(problem) == ProblemKind.FAILED:
            done = "failed_in" if archive_of(problem) else "failed"
        elif kind_of(problem) == ProblemKind.ESAW:
            done = "esaw"
        name = problem.ending if section == "ended" else done
        return MailContent(
            language=self._notifications.language,
            subject=self._text(
                f"{section}.subject", subject=self._subject(replace(problem, reason=told_reason(problem)))
            ),
            greeting=self._text("hello"),
            paragraphs=(
                self._text(f"{section}.text", date=date),
                self._text(f"{section}.{name}", archive=archive_of(problem)),
            ),
            footer=self._footer(),
        )

    def _digest(self) -> MailContent:
        told = notified_and_open(self.organization.status.problems)
        return MailContent(
            language=self._notifications.language,
            subject=self._subject_with_count("digest.subject", count=len(told)),
            greeting=self._text("hello"),
            paragraphs=(self._text("digest.text"),),
            items_title=self._text("digest.items"),
            items=tuple(self._digest_item(each) for each in told),
            link=self._console(),
            footer=self._footer(),
        )

    def _digest_item(self, problem: ReportedProblem) -> ListItem:
        date = problem.notified_time.strftime("%Y-%m-%d") if problem.notified_time is not None else ""
        link = self._console(self._anchor(problem))
        text = self._text("digest.item", title=self._title(problem), date=date)
        return ListItem(text, link.url if link is not None else None)

    def _subject(self, problem: ReportedProblem) -> str:
        return f"[{self.organization.name}] {self._title(problem)}"

    def _title(self, problem: ReportedProblem) -> str:
        kind = kind_of(problem)
        return self._text(
            # The problem does not say whose key comes from a Secret.
            "escalation.mixed_subject" if kind == ProblemKind.CONSENT else f"{kind}.subject",
            count=problem.count,
            reason=problem_reason(problem.reason),
            archive=archive_of(problem),
            name=import_of(problem),
        )

    def _subject_with_count(self, key: str, /, *, count: int | None = None, **values: object) -> str:
        return f"[{self.organization.name}] {self._text(key, count=count, **values)}"

    def _commands(self, problem: ReportedProblem) -> tuple[str, ...]:
        """Return what to type, with comments of the shell that say when: not each is for every reader."""
        kind = kind_of(problem)
        is_about_keys = kind == ProblemKind.KEY
        is_wide = kind in (ProblemKind.ESAW, ProblemKind.CALLBACK)
        item = AttentionItem(
            kind=AttentionKind.ORGANIZATION if is_wide else AttentionKind(kind),
            name=archive_of(problem) if kind in _OF_ARCHIVES else problem.reason,
            organization=self.organization.name,
            reason=problem.reason,
            message=problem.message or "",
            examples=() if is_about_keys else problem.examples,
            senders=problem.examples if is_about_keys else (),
        )
        language = self._notifications.language
        return tuple(line for each in commands_about(item, self.namespace) for line in each.lines(language))

    def _console(self, anchor: str = "") -> MailLink | None:
        """Link to the entry of the console's first page where the problem can be solved."""
        base = self._notifications.console_url
        if base is None:
            return None
        query = urlencode({"organization": self.organization.name})
        fragment = f"#{quote(anchor, safe='')}" if anchor else ""
        return MailLink(self._text("console"), f"{base.rstrip('/')}/attention?{query}{fragment}")

    def _anchor(self, problem: ReportedProblem) -> str:
        """Return the anchor of a problem on that page."""
        kind = kind_of(problem)
        if kind == ProblemKind.CONSENT:
            return ""
        if kind == ProblemKind.ARCHIVE:
            return task_anchor(kind, "", archive_of(problem))
        if kind == ProblemKind.ESAW:
            return task_anchor("organization", self.organization.name, f"{self.organization.name}-Reachable")
        if kind == ProblemKind.CALLBACK:
            return task_anchor("organization", self.organization.name, self.organization.name)
        name = archive_of(problem) if kind == ProblemKind.COPY else problem.reason
        return task_anchor(kind, self.organization.name, name)

    def _footer(self) -> str:
        return self._text("footer", organization=self.organization.name)


def _text_name(problem: ReportedProblem) -> str:
    """Return the name of the text about a problem, within those of its kind."""
    kind = kind_of(problem)
    if kind == ProblemKind.IMPORT and has_property(problem.reason, ReasonProperty.ANOTHER_IMPORT):
        return "replaced_text"
    # An Import alone may wait for an archive.
    return "no_event" if kind == ProblemKind.ARCHIVE and not problem.count else "text"


def person_name(sender: Sender) -> str:
    """Return the name of a sender for a mail. The person chose it in eSAW; no part of it can be a link."""
    # A space after each dot: "J.R." stays a name, and "evil.example" is no longer a host.
    return re.sub(r"(?<=\w)\.(?=\w)", ". ", external_text(sender.spec.full_name, limit=MAX_NAME_LENGTH))


def external_text(text: str, *, limit: int = MAX_MESSAGE_LENGTH) -> str:
    """Make a text of eSAW, of an archive or of a person safe for a mail: one line of at most ``limit``
    characters (and a mark of omission), without links and without text that looks like a key."""
    line = redact(_single_line(text))
    line = line if len(line) <= limit else f"{line[:limit]}…"
    return _LINKED_HOST.sub(_without_link, line).replace("://", "[:]//")


def _without_link(host: re.Match[str]) -> str:
    is_label = host[0] == GROUP and _LABEL.match(host.string, host.end()) is not None
    return host[0] if is_label else host[0].replace(".", "[.]")


# -- The MIME message ------------------------------------------------------------------------------------


def address(text: str, name: str = "") -> Address | None:
    """Parse a mail address; None if it is invalid. The domain is converted to ASCII (IDNA)."""
    local, at, domain = text.strip().rpartition("@")
    try:
        domain = domain.encode("idna").decode("ascii")
    except UnicodeError:
        return None
    if not at or not _LOCAL.fullmatch(local) or not _DOMAIN.fullmatch(domain) or len(domain) > 253:
        return None
    if local.startswith(".") or local.endswith(".") or ".." in local:
        return None
    return Address(one_line(name), username=local, domain=domain)


def one_line(text: str) -> str:
    """Make a text safe for a header: one line, no control characters, not too long."""
    return _single_line(text)[:MAX_HEADER_LENGTH]


def _single_line(text: str) -> str:
    """Replace each character that is not printable by a space, such as line breaks and marks that change the
    direction of writing."""
    printable = "".join(each if each.isprintable() else " " for each in text)
    return " ".join(printable.split())


def message(
    content: MailContent,
    *,
    sender: Address,
    to: tuple[Address, ...],
    about: str,
    now: datetime,
    thread: str | None = None,
) -> EmailMessage:
    """Build the message. ``about`` identifies the notification and is equal for each attempt to send it;
    ``thread`` is the one of the first mail about the same problem, None for a first mail."""
    made = EmailMessage(policy=_POLICY)
    made["From"] = Address("Counterfoil", username=sender.username, domain=sender.domain)
    made["To"] = to
    made["Subject"] = one_line(content.subject)
    made["Date"] = format_datetime(now)
    made["Message-ID"] = _message_id(about, sender)
    if thread is not None:
        made["In-Reply-To"] = made["References"] = _message_id(thread, sender)
    made["Auto-Submitted"] = "auto-generated"
    made["X-Auto-Response-Suppress"] = "All"
    made.set_content(_templates.get_template("letter.txt").render(content=content))
    made.add_alternative(_templates.get_template("letter.html").render(content=content), subtype="html")
    # Last, since setting the content removes all headers that begin with "Content-".
    made["Content-Language"] = content.language.value
    return made


def _message_id(about: str, sender: Address) -> str:
    return f"<{hashlib.sha256(about.encode()).hexdigest()[:32]}@{sender.domain}>"
