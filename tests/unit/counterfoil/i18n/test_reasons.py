"""The catalogue of reasons has every word that the code can say, in every language."""

import ast
import functools
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from counterfoil.i18n.attention import NOT_PROCESSED
from counterfoil.i18n.catalogue import CatalogueName, load_catalogue
from counterfoil.i18n.reasons import (
    CATALOGUE,
    Correction,
    EnvelopePresence,
    ReasonContext,
    Responsible,
    Server,
    corrections_of,
    find_reason,
    server_of,
)
from counterfoil.resources import Language

ROOT = Path(__file__).parents[4]
SPEAKERS = ("controller", "counterfoil/archives", "webhook")
"""Folders whose code gives reasons."""

ATTENTION = Path("counterfoil/i18n/attention.py")
"""The module outside them that gives one: no controller is there to write it."""

CONSTANTS = tuple(
    f"counterfoil/resources/{name}.py"
    for name in ("conditions", "envelopeevent", "lease", "organization", "reopening")
)
CONSTANTS += ("counterfoil/cli/plugin/installation/status.py", "counterfoil/cli/plugin/why.py")
"""Modules with reasons as constants, beside names of conditions."""

READERS_OF_ESAW = tuple(
    f"counterfoil/esaw_check/{name}.py"
    for name in ("assumptions", "envelope_assumptions", "probes", "responses")
)
"""Modules that read eSAW's answers: their capitalized words are names of eSAW's fields."""

TELL = {"Done", "Wait", "Pause", "Hold", "NeedConsent", "Skip", "Fail", "_wait", "_fail"}
TELL |= {
    "CheckResult",
    "KeyUnusable",
    "_write",
    "_write_unusable",
    "reopened_status",
    "status_for_first_attempt",
    "MailError",
    "_ProbeResult",
}
"""Calls that have a reason among their arguments: one such word is one, even if it has but one capital
letter."""

ONE_WORD = re.compile(r"[A-Z][A-Za-z0-9]+")
REASON = re.compile(r"[A-Z][a-z0-9]+([A-Z][A-Za-z0-9]*)+")
NO_REASONS = {"True", "False", "Unknown", "KiB", "MiB", "GiB", "TiB", "PiB"}
NO_REASONS |= {"IsTruncated", "EncodingType", "NextContinuationToken", "NextMarker", "SessionToken"}
NO_REASONS |= {"ResourceType"}
NO_REASONS |= {"AlreadyExists", "FilesLeftBehind", "NotChecked"}
NO_REASONS |= {"DeletePending", "EventMissing", "EventRefused", "NoEnvelopeID"}
NO_REASONS |= {"NamespaceForbidden", "NamespaceUnavailable", "NamespaceIncomplete"}
NO_REASONS |= {"NamespaceStuck", "NamespaceBroken"}
"""Words that look like reasons: conditions, states, units, the names of elements in answers of object stores,
a reason of the API server, those in the report of an Import, which docs/import.md explains, and those of
``counterfoil_namespace_ready``, which its runbook explains."""


def said(path: Path, constant: re.Pattern[str] = REASON) -> Iterator[str]:
    """All reasons that a module can give: in calls, in constants, and in tables and returned tuples."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            pattern = ONE_WORD if name_of(node.func) in TELL else REASON
            yield from words(node.args, pattern)
            yield from words([each.value for each in node.keywords if each.arg == "reason"], ONE_WORD)
        elif isinstance(node, ast.AnnAssign | ast.Assign) and isinstance(node.value, ast.Constant):
            yield from words([node.value], constant)
        elif isinstance(node, ast.Dict):
            yield from (each for each in words(node.values, REASON) if each in CATALOGUE)
        elif isinstance(node, ast.Tuple):
            is_finding = any(True for _ in words(node.elts[:1], re.compile("True|False")))
            yield from words(node.elts[1:], ONE_WORD if is_finding else REASON)


def name_of(called: ast.expr) -> str:
    if isinstance(called, ast.Name):
        return called.id
    return called.attr if isinstance(called, ast.Attribute) else ""


def words(among: list[ast.expr], pattern: re.Pattern[str]) -> Iterator[str]:
    for each in among:
        if isinstance(each, ast.Constant) and isinstance(each.value, str) and pattern.fullmatch(each.value):
            yield each.value


@functools.cache
def all_said() -> dict[str, str]:
    modules = [path for folder in SPEAKERS for path in sorted((ROOT / folder).rglob("*.py"))]
    modules.append(ROOT / ATTENTION)
    places = {path: path.relative_to(ROOT).as_posix() for path in modules}
    by_the_code = {
        word: place for path, place in places.items() if place not in READERS_OF_ESAW for word in said(path)
    }
    by_constants = {
        word: place for place in CONSTANTS for word in said(ROOT / place, ONE_WORD) if word in CATALOGUE
    }
    return by_constants | by_the_code | dict(said_by_the_schema())


def said_by_the_schema() -> Iterator[tuple[str, str]]:
    """The reasons of conditions that an object has before anybody wrote its status."""
    for path in sorted((ROOT / "crds").glob("*.yaml")):
        (version,) = yaml.safe_load(path.read_text(encoding="utf-8"))["spec"]["versions"]
        status = version["schema"]["openAPIV3Schema"]["properties"]["status"]
        for condition in status["properties"]["conditions"]["default"]:
            yield condition["reason"], f"crds/{path.name}"


def test_every_reason_of_the_code_has_its_entry() -> None:
    missing = {
        word: where for word, where in all_said().items() if word not in CATALOGUE and word not in NO_REASONS
    }
    assert missing == {}, (
        "add them to counterfoil/i18n/reasons (entries.toml and each language), "
        "then: python docs/tools/generate_reasons.py"
    )


def test_every_entry_is_a_reason_of_the_code() -> None:
    assert [each for each in CATALOGUE if each not in all_said()] == []


@pytest.mark.parametrize("language", Language)
def test_every_language_has_all_words_and_no_others(language: Language) -> None:
    assert list(load_catalogue(CatalogueName.REASONS, language).entries) == ["Unknown", *CATALOGUE]


@pytest.mark.parametrize("language", Language)
def test_where_a_person_must_act_the_text_says_what_to_do(language: Language) -> None:
    lost = [
        each.name
        for each in CATALOGUE.values()
        if each.responsible is not Responsible.NOBODY and not each.localized_text(language).do
    ]
    assert lost == []


@pytest.mark.parametrize("language", Language)
def test_all_words_are_whole_sentences(language: Language) -> None:
    texts = [
        text
        for each in CATALOGUE.values()
        for text in (each.localized_text(language).what, each.localized_text(language).do)
    ]
    assert [text for text in texts if text and not text.endswith((".", ")"))] == []
    assert [text for text in texts if "|" in text or "<" in text] == [], "tables of the manual contain them"


def test_a_reason_of_another_version_is_not_left_without_words() -> None:
    assert find_reason("FromTheFuture").localized_text().do != ""


def test_what_a_reason_says_about_the_envelope_is_in_its_entry_too() -> None:
    claims = {
        r"stays in eSignAnyWhere": EnvelopePresence.STAYS,
        r"no longer in eSignAnyWhere|was deleted in eSignAnyWhere": EnvelopePresence.GONE,
    }
    said = {
        (name, presence)
        for name, reason in CATALOGUE.items()
        for pattern, presence in claims.items()
        if re.search(pattern, reason.localized_text().what)
    }
    assert {(name, CATALOGUE[name].envelope) for name, _ in said} == said


RAW_ENTRIES = tomllib.loads((ROOT / "counterfoil/i18n/reasons/entries.toml").read_text(encoding="utf-8"))
OF_EVENTS = {
    ReasonContext.WAITING,
    ReasonContext.HELD,
    ReasonContext.CONSENT,
    ReasonContext.FAILED,
}


def test_what_corrects_the_cause_is_decided_for_each_reason_with_which_events_wait_or_fail() -> None:
    of_events = {name for name, entry in RAW_ENTRIES.items() if OF_EVENTS.intersection(entry["contexts"])}
    assert {name for name, entry in RAW_ENTRIES.items() if "corrected_by" in entry} == of_events


def test_events_that_wait_for_a_server_name_it() -> None:
    unfinished = {ReasonContext.WAITING, ReasonContext.HELD}
    assert [
        each.name
        for each in CATALOGUE.values()
        if each.server is not None and not unfinished.intersection(each.contexts)
    ] == []
    assert server_of("EsawUnreachable") is Server.ESAW
    assert server_of("ArchiveFull") is Server.ARCHIVE
    assert server_of("StillActive") is None
    assert server_of("") is None


@pytest.mark.parametrize(
    "reason", ["ArchivedAndDeleted", "ArchivedAndKept", "ArchivedAlready", "ArchivedAsExpired"]
)
def test_an_archive_corrects_nothing_about_an_event_that_archived(reason: str) -> None:
    assert corrections_of(reason) == frozenset()


def test_a_reason_of_another_package_may_be_corrected_by_an_archive_that_works() -> None:
    assert corrections_of("ShelfFull") == {Correction.ARCHIVE, Correction.ORGANIZATION}
    assert server_of("ShelfFull") is Server.ARCHIVE
    assert corrections_of("") == frozenset()


def test_nothing_is_decided_by_how_a_reason_begins() -> None:
    folders = [*(ROOT / each for each in ("controller", "webhook")), *(ROOT / "counterfoil").iterdir()]
    modules = [path for each in folders if each.name != "testing" for path in each.rglob("*.py")]
    by_prefix = re.compile(r"(reason|cause)\)?\.(startswith|removeprefix|endswith)\(")
    assert [path.name for path in modules if by_prefix.search(path.read_text(encoding="utf-8"))] == []


@pytest.mark.parametrize("language", Language)
@pytest.mark.parametrize("reason", ["ArchiveMissing", "ArchiveShared"])
def test_the_advice_about_an_archive_that_a_copy_may_name_says_where_it_is_named(
    reason: str, language: Language
) -> None:
    advice = CATALOGUE[reason].localized_text(language).do
    assert all(each in advice for each in ("spec.archiveRef", "spec.copies"))


@pytest.mark.parametrize("language", Language)
def test_a_suspended_archive_of_a_copy_is_not_said_to_hold_the_archiving(language: Language) -> None:
    assert "spec.copies" in CATALOGUE["ArchiveSuspended"].localized_text(language).what


@pytest.mark.parametrize("language", Language)
def test_the_advice_about_an_empty_span_ends_the_import_that_has_it(language: Language) -> None:
    do = CATALOGUE["ImportSpanEmpty"].localized_text(language).do
    delete, create = "`kubectl delete import NAME`", "`kubectl counterfoil import ORGANIZATION --from DATE`"
    assert do.index(delete) < do.index(create)


@pytest.mark.parametrize("language", Language)
def test_the_advice_about_an_absent_controller_begins_with_whether_it_has_pods(language: Language) -> None:
    do = CATALOGUE["ControllerAbsent"].localized_text(language).do
    assert "`kubectl get pods -l app.kubernetes.io/component=controller`" in do.split(". ")[0]


@pytest.mark.parametrize("language", Language)
def test_content_that_was_changed_may_be_a_copy_of_a_deleted_envelope_or_a_lost_lock(
    language: Language,
) -> None:
    text = CATALOGUE["StoredWrong"].localized_text(language)
    assert "eSignAnyWhere" not in text.what
    assert "Object Lock" in text.do


@pytest.mark.parametrize("language", Language)
def test_a_holder_of_a_lease_that_is_no_controller_is_in_the_advice(language: Language) -> None:
    said = {name: CATALOGUE[name].localized_text(language).do for name in ("ControllerAbsent", NOT_PROCESSED)}
    assert "`kubectl delete lease LEASE`" in said["ControllerAbsent"]
    assert "`kubectl get leases -l counterfoil.dev/shards`" in said[NOT_PROCESSED]


@pytest.mark.parametrize(
    ("language", "message"),
    [(Language.ENGLISH, "the message"), (Language.GERMAN, "die Meldung"), (Language.ITALIAN, "il messaggio")],
)
def test_a_secret_that_was_replaced_is_corrected_and_confirmed(language: Language, message: str) -> None:
    """The annotation names another server, also after the key is that of this server."""
    do = CATALOGUE["OriginChanged"].localized_text(language).do
    (sentence,) = (each for each in do.split(". ") if "Secret" in each)
    assert message in sentence


@pytest.mark.parametrize(
    ("language", "restore"),
    [
        (Language.ENGLISH, "restore"),
        (Language.GERMAN, "es wieder her"),
        (Language.ITALIAN, "ripristinarlo"),
    ],
)
def test_a_damaged_manifest_that_occupies_a_name_is_restored(language: Language, restore: str) -> None:
    assert restore in CATALOGUE["NameOccupied"].localized_text(language).do


@pytest.mark.parametrize("language", Language)
def test_the_advice_about_revoked_keys_fits_keys_in_secrets(language: Language) -> None:
    """Without `spec.oauth`, nobody can consent."""
    assert "Secret" in CATALOGUE["KeysRejected"].localized_text(language).do


@pytest.mark.parametrize("language", Language)
def test_the_advice_about_the_key_of_another_user_says_whose_key_is_wanted(language: Language) -> None:
    do = CATALOGUE["WrongUser"].localized_text(language).do
    assert "spec.userID" in do[: do.index("Secret")]


@pytest.mark.parametrize("language", Language)
def test_no_second_archiving_is_advised_for_a_copy_and_no_route_for_an_archived_envelope(
    language: Language,
) -> None:
    """No command archives an envelope again, and only the Archive that has it makes its copies."""
    tag = CATALOGUE["CopyTagMissing"].localized_text(language).do
    assert len(tag.split(",")) == 1
    missing = CATALOGUE["ArchiveMissing"].localized_text(language).do
    assert re.search("is archived|archiviert|è archiviata", missing)


@pytest.mark.parametrize("language", Language)
@pytest.mark.parametrize("reason", ["ImportArchiveMissing", "ImportOrganizationMissing"])
def test_the_advice_about_an_import_that_names_what_is_missing_says_how_to_end_it(
    reason: str, language: Language
) -> None:
    """No setting of an Import that names another object can be changed."""
    do = CATALOGUE[reason].localized_text(language).do
    delete, create = "`kubectl delete import NAME`", "`kubectl counterfoil import ORGANIZATION --from DATE"
    assert do.index(delete) < do.index(create)


NOTHING_FOUND = {
    Language.ENGLISH: "has found nothing yet",
    Language.GERMAN: "noch nichts gefunden",
    Language.ITALIAN: "non ha ancora trovato nulla",
}


@pytest.mark.parametrize("language", Language)
def test_an_import_whose_events_may_wait_for_its_missing_archive_is_not_advised_to_be_deleted(
    language: Language,
) -> None:
    """Another Import does not lead them elsewhere."""
    do = CATALOGUE["ImportArchiveMissing"].localized_text(language).do
    assert NOTHING_FOUND[language] in do[: do.index("`kubectl delete import NAME`")]
    assert "Import" in CATALOGUE["ArchiveMissing"].localized_text(language).do


@pytest.mark.parametrize("language", Language)
@pytest.mark.parametrize(
    "reason",
    ["ImportNotArchived", "SendersNotSearched", "TooManySenders", "EsawListTooLong", "ArchiveShared"],
)
def test_the_advice_to_create_another_import_says_to_suspend_this_one(
    reason: str, language: Language
) -> None:
    assert "`kubectl counterfoil suspend import NAME`" in CATALOGUE[reason].localized_text(language).do


def test_no_message_promises_that_archiving_continues_since_its_event_may_have_failed() -> None:
    """A failed event quotes it. If the Archive stays ready, no recovery starts the event again."""
    modules = [each for folder in SPEAKERS for each in (ROOT / folder).rglob("*.py")]
    strings = (
        node.value
        for module in modules
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )
    assert [each for each in strings if "archiving continues" in each.lower()] == []
    assert "rchiving continues" not in CATALOGUE["ArchiveUnresponsive"].localized_text().do


@pytest.mark.parametrize(
    ("language", "start"),
    [
        (Language.ENGLISH, "One that failed"),
        (Language.GERMAN, "Ein fehlgeschlagenes"),
        (Language.ITALIAN, "Uno fallito"),
    ],
)
def test_the_advice_about_a_failed_step_of_esaw_says_what_starts_a_failed_event(
    language: Language, start: str
) -> None:
    assert start in CATALOGUE["EsawErrorState"].localized_text(language).do


def test_the_advice_about_a_refused_report_begins_with_the_folder_of_the_archive() -> None:
    """Right and folder can both be missing, and the Archive may be Ready meanwhile."""
    do = find_reason("ImportReportRefused").localized_text().do
    assert do.index("folder of the archive is missing") < do.index("lacks the right")
