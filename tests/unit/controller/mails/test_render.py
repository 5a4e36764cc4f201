"""The content of a mail, in three languages, and its protection against injected text."""

import json
import re
import shlex
from dataclasses import dataclass
from datetime import timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage

import pytest
from msgspec.structs import replace

from controller.access.archive_root import (
    WHO_CONFIRMS,
    EarlierManifest,
    check_new_root,
    check_root,
    origin_changed,
)
from controller.mails.policy import Notification
from controller.mails.problem_tracking import MAX_MESSAGE_LENGTH
from controller.mails.render import (
    MailContent,
    MailLink,
    MailRenderer,
    address,
    external_text,
    message,
    one_line,
    person_name,
)
from counterfoil.archives.errors import ArchiveRefused
from counterfoil.i18n.attention import AttentionItem, AttentionKind
from counterfoil.i18n.commands import commands_in
from counterfoil.i18n.key_advice import key_advice
from counterfoil.i18n.reasons import CATALOGUE, find_reason, text_of_failure
from counterfoil.kube.secret import Placeholder, SecretUse, create_command, label_command
from counterfoil.metrics import MailKind
from counterfoil.origin import annotate_command
from counterfoil.resources import ArchiveRoot, Language, Organization, OrganizationStatus, Sender
from tests.support.builders import NOON, an_organization
from tests.support.fakes.archives import MemoryBackend
from tests.support.fakes.reconcile_context import an_archive
from tests.support.scenes.notifications import (
    ADMIN,
    FROM,
    MAILS,
    PUBLIC,
    a_mail_content,
    a_problem,
    an_unauthorized_sender,
)

TOKEN = "Tk9" * 22
"""As eSAW makes them: 66 letters and digits."""


def an_addressed_organization(language: str = "en", **notifications: object) -> Organization:
    return an_organization(notifications={**MAILS, "language": language, **notifications}, oauth=PUBLIC)


def mail_about(notification: Notification, organization: Organization | None = None) -> MailContent:
    return MailRenderer(organization or an_addressed_organization(), "contracts").content(notification)


def to_anna(**options: object) -> Notification:
    return Notification(MailKind.CONSENT, NOON, senders=(an_unauthorized_sender(**options),))  # type: ignore[arg-type]


def about(cause: str, kind: MailKind = MailKind.FAILED, **changes: object) -> Notification:
    return Notification(kind, NOON, a_problem(cause, **changes))


def sent(content: MailContent, *, about: str = "test") -> EmailMessage:
    made = message(content, sender=FROM, to=(ADMIN,), about=about, now=NOON)
    parsed = message_from_bytes(made.as_bytes(), policy=policy.default)
    assert isinstance(parsed, EmailMessage)
    return parsed


def bodies(content: MailContent) -> tuple[str, str]:
    parts = [sent(content).get_body((kind,)) for kind in ("plain", "html")]
    text, html = (str(part.get_content()).replace("\r\n", "\n") if part is not None else "" for part in parts)
    return text, html


# -- The words -----------------------------------------------------------------------------------------------


NOTICES = {
    "consent": to_anna(waiting=10),
    "first consent": to_anna(waiting=1, verified=False, reason="ConsentRequired", status={"key": None}),
    "a brought key": to_anna(sent_mails=True),
    "escalation": Notification(
        MailKind.ESCALATION, NOON, a_problem("consent", reason="TokenRejected"), (an_unauthorized_sender(),)
    ),
    "failed": about(
        "failed/NameOccupied/dms", count=7, message="A file exists there.", examples=("event-1",)
    ),
    "archive": about("archive/dms", MailKind.ARCHIVE, reason="ArchiveUnreachable", count=3),
    "esaw": about("esaw", MailKind.ESAW, reason="EsawRedirects", count=3),
    "callback": about("callback", MailKind.CALLBACK, reason="CallbackTokenMissing"),
    "key": about("key/SealingKeysMissing", MailKind.KEY, count=2, examples=("anna", "ben")),
    "retention": about(
        "retention/RetentionEnding", MailKind.RETENTION, count=2, message="Soon.", examples=("event-1",)
    ),
    "unreadable": about(
        "unreadable/EventUnreadable", MailKind.UNREADABLE, count=2, message="See.", examples=("event-1",)
    ),
    "webhook": about("webhook/WebhookGone", MailKind.WEBHOOK, count=2, examples=("event-1",)),
    "import": about(
        "import/SendersNotSearched", MailKind.IMPORT, count=1, message="See.", examples=("old-stock",)
    ),
    "imports": about(
        "import/SendersNotSearched", MailKind.IMPORT, count=9, message="See.", examples=("first", "second")
    ),
    "copy": about("copy/mirror", MailKind.COPY, reason="CopyGivenUp", count=2, examples=("event-1",)),
    "digest": about("digest", MailKind.DIGEST, reason="NameOccupied", count=2),
    "solved": about("failed/NameOccupied/dms", MailKind.SOLVED, notified_time=NOON, solved_time=NOON),
}


@pytest.mark.parametrize("language", Language)
@pytest.mark.parametrize("notification", NOTICES.values(), ids=NOTICES)
def test_every_mail_can_be_written_in_every_language(notification: Notification, language: Language) -> None:
    organization = an_addressed_organization(language.value, consoleURL="https://console.acme.example")
    content = mail_about(notification, organization)
    text, html = bodies(content)
    assert "{" not in text
    for said in (content.greeting, *content.paragraphs, content.footer):
        assert said in text
    assert f'<html lang="{language.value}">' in html
    assert sent(content)["Content-Language"] == language.value


@pytest.mark.parametrize("language", Language)
@pytest.mark.parametrize("reason", CATALOGUE)
def test_administrators_are_notified_of_every_reason_in_the_words_of_the_catalogue(
    reason: str, language: Language
) -> None:
    content = mail_about(about(f"failed/{reason}"), an_addressed_organization(language.value))
    said = text_of_failure(reason, language)
    assert content.facts[0].text == said.what
    assert said.do in {"", *(each.text for each in content.facts)}


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize(
    ("reason", "sentence"),
    [
        ("EnvelopeDeleted", "no longer in eSignAnyWhere"),
        ("ArchivedFilesLost", "no longer in eSignAnyWhere"),
        ("EnvelopeNotFound", "does not tell whether"),
        ("ArchiveUnreachable", "does not tell whether"),
    ],
)
def test_a_mail_says_of_no_envelope_that_is_gone_or_unknown_that_it_stays(
    reason: str, sentence: str, count: int
) -> None:
    (paragraph,) = mail_about(about(f"failed/{reason}", count=count)).paragraphs
    assert sentence in paragraph
    assert "stay" not in paragraph


@pytest.mark.parametrize("count", [1, 2])
def test_a_mail_about_a_failure_calls_the_event_no_callback_and_leads_to_what_is_archived(
    count: int,
) -> None:
    (paragraph,) = mail_about(about("failed/ArchiveNotReady/worm", count=count)).paragraphs
    assert "callback" not in paragraph
    assert "archived" in paragraph
    assert "`kubectl counterfoil why`" in paragraph


@pytest.mark.parametrize("language", Language)
def test_a_mail_about_copies_does_not_claim_that_the_original_is_whole(language: Language) -> None:
    lost = about(
        "copy/mirror", MailKind.COPY, reason="CopyGivenUp", message="OriginalDiffers: a.pdf is missing."
    )
    content = mail_about(lost, an_addressed_organization(language.value))
    (paragraph,) = content.paragraphs
    for claim in ("first archive", "ihrem ersten", "seinem ersten", "primo archivio"):
        assert claim not in paragraph
    do = next(each.text for each in content.facts if "copiesOnly" in each.text)
    assert find_reason("OriginalDiffers").localized_text(language).do in do


@pytest.mark.parametrize("count", [1, 2])
def test_a_mail_about_an_archive_calls_no_event_unfinished_that_may_have_ended(count: int) -> None:
    notification = about("archive/worm", MailKind.ARCHIVE, reason="ArchiveUnreachable", count=count)
    (paragraph,) = mail_about(notification).paragraphs
    assert "finished" not in paragraph
    assert "by the last count" in paragraph
    assert "A copy that was given up does not continue" in paragraph


def test_a_mail_about_an_envelope_that_is_kept_says_that_it_stays() -> None:
    (paragraph,) = mail_about(about("failed/AuditTrailMissing", count=1)).paragraphs
    assert "Its envelope stays in eSignAnyWhere." in paragraph


def test_a_sender_gets_one_mail_with_what_happened_and_where_to_click() -> None:
    content = mail_about(to_anna(waiting=10))
    text, html = bodies(content)
    url = "https://pages.acme.example/consent/acme/anna"
    assert content.greeting == "Hello Anna Kofler,"
    assert "10 of your envelopes wait" in text
    assert f"\n{url}\n" in text
    assert f'href="{url}"' in html


def test_one_waiting_envelope_is_reported_in_the_singular() -> None:
    assert "One of your envelopes waits" in bodies(mail_about(to_anna(waiting=1)))[0]


def test_an_own_key_is_renewed_by_its_owner_and_never_by_mail() -> None:
    text, _ = bodies(
        mail_about(to_anna(sent_mails=True, tokenSecretRef={"name": "anna-key", "key": "token"}))
    )
    assert "Secret anna-key, under token" in text
    assert "never by mail" in text
    assert "/consent/" not in text


def a_brought_key(*, waiting: int = 0) -> Sender:
    ref = {"name": "anna-key", "key": "token"}
    return an_unauthorized_sender(waiting=waiting, sent_mails=True, tokenSecretRef=ref)


@pytest.mark.parametrize(
    ("language", "word"),
    [(Language.ENGLISH, "consent"), (Language.GERMAN, "ustimm"), (Language.ITALIAN, "consens")],
)
def test_the_mails_about_a_key_from_a_secret_speak_of_no_consent(language: Language, word: str) -> None:
    organization = an_addressed_organization(language.value)
    sender = a_brought_key(waiting=2)
    escalation = Notification(
        MailKind.ESCALATION, NOON, a_problem("consent", reason="TokenRejected"), (sender,)
    )
    told = [mail_about(Notification(MailKind.CONSENT, NOON, senders=(sender,)), organization)]
    told.append(mail_about(escalation, organization))
    for content in told:
        text, _ = bodies(content)
        assert word not in (content.subject + text).lower()
        assert "anna-key" in text
    advice = key_advice(sender, organization, "TokenRejected")
    assert told[1].commands[-1] == advice.command_line("contracts")


@pytest.mark.parametrize("language", Language)
def test_a_mail_about_both_kinds_of_keys_says_what_each_needs(language: Language) -> None:
    both = (an_unauthorized_sender("ben"), a_brought_key())
    problem = a_problem("consent", reason="TokenRejected")
    content = mail_about(
        Notification(MailKind.ESCALATION, NOON, problem, both), an_addressed_organization(language.value)
    )
    assert len(content.paragraphs) == 2
    assert [each.url is not None for each in content.items] == [True, False]
    assert "anna-key" in content.items[1].text
    digest = mail_about(
        Notification(MailKind.DIGEST, NOON, a_problem("digest")),
        replace(
            an_addressed_organization(language.value),
            status=OrganizationStatus(problems=(a_problem("consent", count=2, notified_time=NOON),)),
        ),
    )
    assert content.subject.removeprefix("[acme] ") in digest.items[0].text


def test_the_mail_about_a_lost_sealing_key_has_the_links_of_the_senders() -> None:
    content = mail_about(about("key/SealKeyUnknown", examples=("anna", "ben")))
    url = "https://pages.acme.example/consent/acme"
    assert [each.url for each in content.items] == [f"{url}/anna", f"{url}/ben"]
    assert f"{url}/ben" in bodies(content)[0]


def test_the_mail_about_a_key_that_a_consent_does_not_replace_has_no_link_of_a_sender() -> None:
    content = mail_about(about("key/WrongUser", examples=("anna",)))
    assert [each.url for each in content.items] == [None]


def test_the_mail_to_administrators_says_how_many_failed_why_and_what_to_type() -> None:
    text, _ = bodies(mail_about(NOTICES["failed"]))
    assert mail_about(NOTICES["failed"]).subject == "[acme] 7 events failed: NameOccupied"
    assert "event-1" in text
    assert "A file exists there." in text
    # Of other reasons there may be events that must stay as they are.
    chosen = "--all-failed --reason NameOccupied -l counterfoil.dev/organization=acme"
    assert f"kubectl counterfoil -n contracts retry {chosen}\n" in text
    assert f"kubectl counterfoil -n contracts skip {chosen} --dry-run\n" in text


def confirmation(root: str) -> dict[str, object]:
    return {"status": {"root": {"location": root, "markerID": None}}}


@dataclass
class EmptyRoot(MemoryBackend):
    """An empty archive with this root."""

    root: str = ""

    def location(self, name: str) -> str:
        return f"{self.root}{name}"


def message_of(refused: ArchiveRefused) -> str:
    return str(refused)[:MAX_MESSAGE_LENGTH]


async def refused_root(root: str, lost: str) -> str:
    """Return the message of an Archive whose new root has nothing of what was archived."""
    manifests = [EarlierManifest(f"{root}{lost}/counterfoil.json", "11111111-0000-4000-8000-000000000001")]
    with pytest.raises(ArchiveRefused) as refused:
        await check_new_root(an_archive(), EmptyRoot(root=root), manifests)
    return message_of(refused.value)


def test_the_mail_about_an_archive_that_does_not_exist_describes_what_exists() -> None:
    commands = mail_about(about("archive/dms", MailKind.ARCHIVE, reason="ArchiveMissing")).commands
    assert commands == (
        "kubectl -n contracts get archives",
        "kubectl -n contracts describe organization acme",
    )


@pytest.mark.parametrize("language", Language)
@pytest.mark.parametrize(
    "root",
    [
        "file:///archive/",
        "s3://contracts.acme.example/2026/",
        "file:///it's%20%60here%60/",
        "file:///www.a.b/c/",
    ],
)
async def test_the_mail_about_another_root_has_the_whole_command_that_confirms_it(
    root: str, language: Language
) -> None:
    problem = about(
        "archive/dms",
        MailKind.ARCHIVE,
        reason="ArchiveRootChanged",
        message=await refused_root(root, "acme/2026/" + "x" * 80),
    )
    content = mail_about(problem, an_addressed_organization(language.value))
    describe, note, confirm = content.commands
    assert describe == "kubectl -n contracts describe archive dms"
    assert note.startswith("# ")
    *words, patch = shlex.split(confirm)
    assert shlex.join(words) == (
        "kubectl -n contracts patch archive dms --subresource=status --type=merge -p"
    )
    assert json.loads(patch) == confirmation(root)
    text, _ = bodies(content)
    assert confirm in text


SMUGGLED = (
    """`kubectl patch archive dms --subresource=status --type=merge -p '{"status":{"destination":null}}'`"""
)


async def test_an_address_with_a_command_in_backquotes_adds_no_command_and_breaks_none() -> None:
    root = f"https://dms.acme.example/{SMUGGLED}/"
    said = await refused_root(root, "acme/2026")
    (confirm,) = commands_in(said, "ArchiveRootChanged", "contracts")
    assert json.loads(shlex.split(confirm.line)[-1]) == confirmation(root)
    moved = str(origin_changed("dms", root, f"to {root}"))
    (confirm,) = commands_in(moved, "OriginChanged", "contracts")
    assert json.loads(shlex.split(confirm.line)[-1]) == {
        "status": {"destination": None, "secretOrigins": None}
    }


@pytest.mark.parametrize(
    "message",
    [
        '`kubectl patch archive other --subresource=status --type=merge -p \'{"status":{"root":null}}\'`',
        '`kubectl patch archive dms --type=merge -p \'{"spec":{"suspend":true}}\'`',
        '`kubectl patch archive dms --subresource=status --type=merge -p \'{"status":{"conditions":[]}}\'`',
        "`kubectl patch archive dms --subresource=status --type=merge -p '{\"status\":{}}' ; rm -r x`",
        '`kubectl patch archive dms --subresource=status --type=merge -p \'{"status":{"root":{"locat',
        "`kubectl patch archive dms --subresource=status --type=merge -p 'x`",
        "`kubectl delete archive dms`",
        "",
    ],
)
@pytest.mark.parametrize("reason", ["ArchiveRootChanged", "OriginChanged", "ArchiveUnreachable"])
def test_no_other_command_of_a_message_becomes_one_of_the_mail(message: str, reason: str) -> None:
    problem = about("archive/dms", MailKind.ARCHIVE, reason=reason, message=message)
    assert mail_about(problem).commands == ("kubectl -n contracts describe archive dms",)


def test_the_mail_about_another_address_has_the_command_and_names_a_second_one() -> None:
    said = message_of(origin_changed("dms", "file:///archive/", "to nas.acme.example"))
    assert "a second command confirms that" in said
    content = mail_about(about("archive/dms", MailKind.ARCHIVE, reason="OriginChanged", message=said))
    *_, patch = shlex.split(content.commands[-1])
    assert json.loads(patch) == {"status": {"destination": None, "secretOrigins": None}}


LONG_ROOT = f"https://dms.acme.example/sites/{'contracts/' * 12}"[:149] + "/"


async def root_without_marker(root: str) -> str:
    """Return the message of an Archive whose root has lost its marker."""
    archive = an_archive()
    known = ArchiveRoot(location=root, marker_id="1" * 32)
    known_archive = replace(archive, status=replace(archive.status, root=known, destination=root))
    with pytest.raises(ArchiveRefused) as refused:
        await check_root(known_archive, EmptyRoot(root=root))
    return message_of(refused.value)


def shown_message(message: str, reason: str) -> str:
    """Return what the mail about an Archive shows of its message."""
    content = mail_about(about("archive/dms", MailKind.ARCHIVE, reason=reason, message=message))
    assert any("patch archive dms" in each for each in content.commands)
    return content.facts[-1].text


async def test_the_mail_about_a_long_root_keeps_each_sentence_that_makes_its_command_safe() -> None:
    lost = shown_message(await root_without_marker(LONG_ROOT), "ArchiveRootChanged")
    assert f'{{"id": "{"1" * 32}"}}' in lost
    assert "do not create an empty folder" in shown_message(
        await root_without_marker(f"file:///{LONG_ROOT[8:]}"), "ArchiveRootChanged"
    )
    changed = shown_message(await refused_root(LONG_ROOT, "acme/2026"), "ArchiveRootChanged")
    moved = shown_message(message_of(origin_changed("dms", LONG_ROOT, f"to {LONG_ROOT}")), "OriginChanged")
    assert "a second command confirms that" in moved
    for each in (lost, changed, moved):
        assert WHO_CONFIRMS in each
        assert "…" not in each


MOVED = annotate_command("anna-key", "http://127.0.0.1:39404")
COMMANDS_IN_MESSAGES = {
    "key/OriginChanged": (
        f"It belongs to http://127.0.0.1:39403. Or type `{MOVED}` if it belongs there.",
        [MOVED],
    ),
    "key/OriginUnknown": (f"{'It was not sent. ' * 30}Type `{MOVED}` if it belongs there.", [MOVED]),
    "archive/dms/SecretNotLabelled": (
        f"Type `{label_command('trust', SecretUse.TRUST)}`.",
        [label_command("trust", SecretUse.TRUST)],
    ),
    "key/KeyMissing": (
        f"Type `{create_command('anna-key', {'token': Placeholder.API_KEY}, SecretUse.TOKEN)}`.",
        [create_command("anna-key", {"token": Placeholder.API_KEY}, SecretUse.TOKEN)],
    ),
    "callback/SecretNotLabelled": (
        f"Type `{label_command('callback', SecretUse.CALLBACK)}`.",
        [label_command("callback", SecretUse.CALLBACK)],
    ),
    "webhook/SecretNotLabelled": (
        f"Type `{label_command('hook', SecretUse.WEBHOOK)}`.",
        [label_command("hook", SecretUse.WEBHOOK)],
    ),
    "failed/OriginChanged": (f"Or type `{MOVED}` if it belongs there.", [MOVED]),
    "esaw/OriginUnknown": (f"Or type `{MOVED}` if it belongs there.", [MOVED]),
}


@pytest.mark.parametrize("language", Language)
@pytest.mark.parametrize("cause", COMMANDS_IN_MESSAGES)
def test_the_commands_of_a_message_are_below_it_whole_and_with_the_namespace(
    cause: str, language: Language
) -> None:
    kind, *_, reason = cause.split("/")
    said, commands = COMMANDS_IN_MESSAGES[cause]
    notification = about(cause, MailKind(kind), reason=reason, message=said)
    content = mail_about(notification, an_addressed_organization(language.value))
    text, _ = bodies(content)
    for each in commands:
        typed = each.replace("kubectl ", "kubectl -n contracts ", 1)
        assert typed in content.commands
        assert typed in text
    shown = content.facts[-1].text
    assert "kubectl" not in shown
    assert "the command below" in shown or shown.endswith("…")
    assert not [each for each in content.commands if re.search(r"\[[:.]\]|…", each)]


def test_an_unknown_sender_is_reported_with_how_to_add_one() -> None:
    text, _ = bodies(mail_about(about("failed/SenderUnknown")))
    assert "Create an Envelope that names the Sender" in text
    assert "or set spec.defaultSenderRef" in text


def test_a_console_is_linked_when_there_is_one() -> None:
    there = an_addressed_organization(consoleURL="https://console.acme.example/")
    assert mail_about(NOTICES["failed"], there).link == MailLink(
        "Open the console",
        "https://console.acme.example/attention?organization=acme#failed-acme-NameOccupied",
    )
    assert mail_about(NOTICES["failed"]).link is None


@pytest.mark.parametrize(
    ("notification", "kind", "organization", "name"),
    [
        ("failed", AttentionKind.FAILED, "acme", "NameOccupied"),
        ("archive", AttentionKind.ARCHIVE, "", "dms"),
        ("esaw", AttentionKind.ORGANIZATION, "acme", "acme-Reachable"),
        ("callback", AttentionKind.ORGANIZATION, "acme", "acme"),
        ("key", AttentionKind.KEY, "acme", "SealingKeysMissing"),
        ("retention", AttentionKind.RETENTION, "acme", "RetentionEnding"),
        ("unreadable", AttentionKind.UNREADABLE, "acme", "EventUnreadable"),
        ("import", AttentionKind.IMPORT, "acme", "SendersNotSearched"),
        ("copy", AttentionKind.COPY, "acme", "mirror"),
    ],
)
def test_the_link_leads_to_the_entry_of_the_console_that_is_about_it(
    notification: str, kind: AttentionKind, organization: str, name: str
) -> None:
    there = an_addressed_organization(consoleURL="https://console.acme.example")
    link = mail_about(NOTICES[notification], there).link
    assert link is not None
    entry = AttentionItem(kind=kind, name=name, organization=organization, reason="")
    assert link.url.endswith(f"/attention?organization=acme#{entry.anchor}")


@pytest.mark.parametrize("language", Language)
def test_the_mail_about_an_archive_that_no_event_waits_for_counts_none(language: Language) -> None:
    notification = about("archive/dms", MailKind.ARCHIVE, reason="ArchiveFull", count=0)
    content = mail_about(notification, an_addressed_organization(language.value))
    assert "0" not in " ".join(content.paragraphs)
    assert "dms" in content.paragraphs[0]


def test_the_mail_about_calls_that_fail_names_the_event_that_shows_them() -> None:
    content = mail_about(about("esaw", MailKind.ESAW, reason="EsawFailing", examples=("event-1", "event-2")))
    assert content.items_title == "Examples"
    assert content.commands == (
        "kubectl counterfoil -n contracts why event-1",
        "kubectl -n contracts describe organization acme",
    )


def test_no_mail_about_esaw_promises_a_start_to_events_that_failed() -> None:
    """ESAW may have told its version while it refused their calls: then nothing but a retry starts them."""
    begin = about("esaw", MailKind.ESAW, reason="EsawFailing")
    end = about("esaw", MailKind.SOLVED, reason="EsawFailing", notified_time=NOON, solved_time=NOON)
    for each in (begin, end):
        text = " ".join(mail_about(each).paragraphs)
        assert "What waits is archived automatically" in text
        assert "About events that stay failed, you receive another mail." in text
        assert "You need to do nothing" not in text


def test_the_mail_about_a_missing_token_says_which_one_is_needed_and_what_happens_meanwhile() -> None:
    content = mail_about(NOTICES["callback"])
    text, _ = bodies(content)
    for each in ("the token of the callback URL", "answers 503", "36 hours", "404", "request a sweep"):
        assert each in " ".join(text.split())
    assert content.commands[0] == "kubectl -n contracts describe organization acme"
    assert content.commands[-1] == "kubectl counterfoil -n contracts sweep acme"


def test_the_mail_about_the_retention_says_how_to_find_the_events_and_what_they_need() -> None:
    content = mail_about(NOTICES["retention"], an_addressed_organization())
    assert (
        content.subject
        == "[acme] 2 envelopes will soon be deleted in eSignAnyWhere and are not safely archived"
    )
    assert content.commands == (
        "kubectl -n contracts get envelopeevents --field-selector "
        "status.phase!=Succeeded,status.phase!=Skipped -l counterfoil.dev/organization=acme",
        "kubectl counterfoil -n contracts why event-1",
    )


def test_many_silent_senders_are_named_up_to_a_number_and_then_counted() -> None:
    senders = tuple(an_unauthorized_sender(f"sender-{number}") for number in range(50))
    content = mail_about(
        Notification(MailKind.ESCALATION, NOON, a_problem("consent", reason="TokenRejected"), senders)
    )
    assert content.subject == "[acme] 50 senders have not given their consent yet"
    assert content.items[-1].text == "and 30 more"
    assert len(content.items) == 21


# -- Secrecy -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["failed/EsawRefused", "archive/dms", "key/KeyUnreadable"])
def test_what_looks_like_a_key_is_struck_out_of_a_mail(kind: str) -> None:
    notification = about(kind, reason="EsawRefused", message=f"It said Bearer {TOKEN} and {TOKEN}.")
    assert TOKEN not in "".join(bodies(mail_about(notification)))


# -- Headers -------------------------------------------------------------------------------------------------


def test_a_mail_says_that_a_machine_wrote_it() -> None:
    mail = sent(a_mail_content())
    assert mail["Auto-Submitted"] == "auto-generated"
    assert mail["X-Auto-Response-Suppress"] == "All"
    assert mail["Date"] == "Wed, 01 Jul 2026 12:00:00 +0000"
    assert mail["From"] == "Counterfoil <counterfoil@acme.example>"


def test_a_mail_has_text_and_html_in_seven_bits() -> None:
    made = message(a_mail_content(), sender=FROM, to=(ADMIN,), about="test", now=NOON)
    assert made.get_content_type() == "multipart/alternative"
    assert made.as_bytes().isascii()
    assert max(len(line) for line in made.as_bytes().split(b"\r\n")) <= 998


def test_a_subject_with_umlauts_arrives_as_it_was_written() -> None:
    assert sent(a_mail_content())["Subject"] == a_mail_content().subject


def test_a_mail_about_the_same_has_the_same_message_id_and_another_has_another() -> None:
    first, again, other = (sent(a_mail_content(), about=each)["Message-ID"] for each in ("a", "a", "b"))
    assert first == again != other
    assert re.fullmatch(r"<[0-9a-f]{32}@acme\.example>", first)


INJECTIONS = [
    "x\r\nBcc: victim@example.com",
    "x\nBcc: victim@example.com",
    "x\x00\x0bBcc: y",
    "x\u2028Bcc: y",
]


@pytest.mark.parametrize("text", INJECTIONS)
def test_no_header_can_be_injected_by_a_subject(text: str) -> None:
    mail = sent(a_mail_content(subject=text))
    assert "Bcc" not in mail
    assert "\n" not in mail["Subject"]


@pytest.mark.parametrize("text", INJECTIONS)
def test_no_header_can_be_injected_by_a_name(text: str) -> None:
    to = address("anna@acme.example", text)
    assert to is not None
    made = message(a_mail_content(), sender=FROM, to=(to,), about="test", now=NOON)
    parsed = message_from_bytes(made.as_bytes(), policy=policy.default)
    assert "Bcc" not in parsed
    assert [each.addr_spec for each in parsed["To"].addresses] == ["anna@acme.example"]


def test_a_name_with_signs_of_addresses_stays_a_name() -> None:
    to = address("anna@acme.example", 'Anna "the boss" <evil@example.com>, Ben')
    assert to is not None
    made = message(a_mail_content(), sender=FROM, to=(to,), about="test", now=NOON)
    parsed = message_from_bytes(made.as_bytes(), policy=policy.default)
    assert [each.addr_spec for each in parsed["To"].addresses] == ["anna@acme.example"]


def test_a_long_header_is_cut() -> None:
    assert len(one_line("x" * 5000)) == 200


GOOD = {
    "anna@acme.example": "anna@acme.example",
    " anna@acme.example\n": "anna@acme.example",
    "anna+tag@sub.acme.example": "anna+tag@sub.acme.example",
    "anna@müller.example": "anna@xn--mller-kva.example",
    "root@localhost": "root@localhost",
}
BAD = [
    "",
    "anna",
    "@acme.example",
    "anna@",
    "anna@acme..example",
    "an na@acme.example",
    "anna@acme.example\r\nRCPT TO:<x@y.example>",
    "anna@acme.example, ben@acme.example",
    "<anna@acme.example>",
    ".anna@acme.example",
    "an..na@acme.example",
    "änna@acme.example",
    "anna@-acme.example",
    f"{'a' * 65}@acme.example",
    f"anna@{'a' * 64}.example",
]


@pytest.mark.parametrize(("text", "read"), GOOD.items())
def test_an_address_is_read(text: str, read: str) -> None:
    found = address(text)
    assert found is not None
    assert found.addr_spec == read


@pytest.mark.parametrize("text", BAD)
def test_what_is_no_address_is_none(text: str) -> None:
    assert address(text) is None


# -- HTML ----------------------------------------------------------------------------------------------------


def test_no_text_from_outside_becomes_html() -> None:
    evil = '<script>alert(1)</script><img src=x onerror="x">'
    sender = an_unauthorized_sender(givenName=evil, surname='"><b>')
    _, html = bodies(mail_about(Notification(MailKind.CONSENT, NOON, senders=(sender,))))
    assert "<script" not in html
    assert "<img" not in html
    assert "<b>" not in html
    _, html = bodies(mail_about(about("failed/EsawRefused", message=evil, examples=(evil,))))
    assert "<script" not in html


EXTERNAL = {
    "type `kubectl label secret s counterfoil.dev/use=archive`": (
        "type `kubectl label secret s counterfoil.dev/use=archive`"
    ),
    "set counterfoil.dev/request=retry.": "set counterfoil.dev/request=retry.",
    "see counterfoil.dev.evil.example/use": "see counterfoil[.]dev[.]evil[.]example/use",
    "J.R. Tolkien": "J.R. Tolkien",
    "contract.pdf is not a PDF": "contract.pdf is not a PDF",
    "two\r\nlines\x00 and\ttabs": "two lines and tabs",
    "\u202edlrow\u2028olleh\u200b": "dlrow olleh",
    "https://evil.example/a?b=c.d": "https[:]//evil[.]example/a?b=c.d",
    "www.evil.example": "www[.]evil[.]example",
    "evil.example/login": "evil[.]example/login",
    "": "",
}


@pytest.mark.parametrize(("text", "shown"), EXTERNAL.items())
def test_external_text_is_one_line_without_links(text: str, shown: str) -> None:
    assert external_text(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "Sign in at counterfoil.dev/login?u=1 now",
        "counterfoil.dev/use/login",
        "counterfoil.dev/use=archive?a=b",
        "counterfoil.dev/user",
    ],
)
def test_the_group_is_no_link_either_unless_a_label_follows(text: str) -> None:
    assert external_text(text) == text.replace("foil.dev", "foil[.]dev")


def test_external_text_is_cut_after_keys_were_removed() -> None:
    assert external_text("x y " * 500) == f"{('x y ' * 500)[:1000]}…"
    assert TOKEN[:20] not in external_text(f"{'x ' * 495}{TOKEN}")


@pytest.mark.parametrize(
    ("name", "shown"),
    [("J.R.", "J. R. Kofler"), ("evil.example", "evil. example Kofler"), ("A " * 81, f"{'A ' * 40}…")],
)
def test_a_persons_name_is_no_host_and_not_long(name: str, shown: str) -> None:
    assert person_name(an_unauthorized_sender(givenName=name)) == shown


def test_the_end_of_a_problem_names_when_it_was_reported() -> None:
    notification = about(
        "archive/dms", MailKind.SOLVED, reason="ArchiveFull", notified_time=NOON + timedelta(hours=1)
    )
    content = mail_about(notification)
    assert content.subject == "Solved: [acme] Archive dms can't be used: ArchiveFull"
    assert "2026-07-01 13:00 UTC" in content.paragraphs[0]


@pytest.mark.parametrize(("place", "said"), [("", "this reason"), ("/hr", "this reason in the archive hr")])
def test_the_end_of_a_problem_in_an_archive_says_nothing_about_another_archive(place: str, said: str) -> None:
    solved = about(f"failed/NameOccupied{place}", MailKind.SOLVED, notified_time=NOON, solved_time=NOON)
    assert f"Each event that failed for {said} was archived" in " ".join(mail_about(solved).paragraphs)


def test_a_later_mail_to_one_who_never_consented_speaks_of_no_key_that_was_revoked() -> None:
    status = {"key": None, "notifiedTime": NOON.isoformat()}
    never = to_anna(waiting=1, verified=False, reason="ConsentRequired", status=status)
    content = mail_about(never, an_addressed_organization("en"))
    assert content.subject == "Please allow us to archive your signed documents"
    assert "revoked" not in bodies(content)[0]


def test_the_mail_about_events_that_were_given_up_says_to_retry_them() -> None:
    text, _ = bodies(mail_about(about("failed/StillActive", reason="StillActive")))
    assert "Correct the cause, then retry the event." in " ".join(text.split())
