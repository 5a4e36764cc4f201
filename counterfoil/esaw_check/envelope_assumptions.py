"""
The assumptions about one envelope, one draft, and the callbacks. Pure; one function per line.

Names of files and people, and what a document contains, are read here and go no further.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

from counterfoil.archives.manifest import FIXED_KINDS
from counterfoil.callback_auth import is_valid_token
from counterfoil.esaw.errors import MISSING_DRAFT
from counterfoil.esaw.limits import MIB
from counterfoil.esaw.models import CONFIGURATION_MEMBERS, is_file_id
from counterfoil.esaw_check.assumptions import V5_ERROR, as_expected, deviates, not_testable, without_use
from counterfoil.esaw_check.callback_address import address_fault
from counterfoil.esaw_check.facts import FactId
from counterfoil.esaw_check.responses import (
    Answer,
    NoAnswer,
    content,
    describe,
    error_id,
    is_missing_envelope,
    is_success,
    members,
    part,
    plain_name,
    text,
)
from counterfoil.resources import EnvelopeStatus, FileKind, Organization
from counterfoil.resources.organization import (
    ActionHandling,
    AuditTrailPolicy,
    OrganizationCheckResult,
    UnlistedAction,
    UnlistedActions,
)

PAGE_VALUES: Final = ("##EnvelopeId##", "##SenderUserId##")
"""Placeholders of eSAW without whose values the page before sending refuses the link."""

HEAD_BYTES: Final = 1024
"""Bytes of a download in which the header of a PDF is."""

COMPARED_BYTES: Final = 4 * MIB
"""Maximum bytes of a document that are read to compare two downloads of it."""

_MEDIA_TYPE: Final = re.compile("[a-z0-9][a-z0-9+-]{0,40}/[a-z0-9][a-z0-9.+-]{0,80}")

_PDF_KINDS: Final = frozenset({FileKind.DOCUMENT, FileKind.AUDIT_TRAIL, FileKind.LEGAL_DOCUMENT})


# -- The envelope --------------------------------------------------------------------------------------------


def envelope_status(answer: Answer) -> OrganizationCheckResult:
    """Decide whether the envelope has a status that Counterfoil knows."""
    fact = FactId.ENVELOPE_STATUS
    if isinstance(answer, NoAnswer):
        return not_testable(fact, answer.why)
    if is_missing_envelope(answer):
        return not_testable(fact, "The user of the asking Sender has no such envelope (ERR0007).")
    if error_id(answer) == V5_ERROR:
        return deviates(fact, f"The envelope was sent through API v5: v6 answers {V5_ERROR}.")
    envelope = content(answer)
    if envelope is None or not {"Id", "EnvelopeStatus"} & envelope.keys():
        return without_use(fact, answer, "The envelope can't be validated.")
    status = plain_name(text(envelope, "EnvelopeStatus"))
    if status in set(EnvelopeStatus):
        return as_expected(fact, f"The envelope is {status}.", status)
    return deviates(
        fact, "Counterfoil does not know this status; such an envelope waits. Report this.", status
    )


@dataclass(frozen=True)
class ListedId:
    """A file in a list, and its id as listed."""

    kind: FileKind
    id: str | None

    @property
    def is_usable(self) -> bool:
        """Whether it can be downloaded."""
        return self.id is not None and is_file_id(self.id)


def listed_ids(answer: Answer) -> tuple[ListedId, ...] | None:
    """Return all files of a list, also those without an id; None: it is no list of files."""
    files = content(answer)
    if files is None or not {"Documents", "AuditTrail", "LegalDocuments"} & files.keys():
        return None
    return tuple(_listed(files))


def _listed(files: Mapping[str, Any]) -> Iterator[ListedId]:
    for document in members(files, "Documents"):
        yield ListedId(FileKind.DOCUMENT, text(document, "FileId"))
        for attachment in members(document, "Attachments"):
            yield ListedId(FileKind.ATTACHMENT, text(attachment, "FileId"))
        if trail := text(document, "AuditTrailFileId"):
            yield ListedId(FileKind.AUDIT_TRAIL, trail)
    trails = part(files, "AuditTrail")
    for kind, name in ((FileKind.AUDIT_TRAIL, "FileId"), (FileKind.AUDIT_TRAIL_XML, "XmlFileId")):
        if trail := text(trails, name):
            yield ListedId(kind, trail)
    for paper in members(files, "LegalDocuments"):
        yield ListedId(FileKind.LEGAL_DOCUMENT, text(paper, "FileId"))


def _status_of(envelope: Answer) -> str:
    return plain_name(text(content(envelope), "EnvelopeStatus"))


def envelope_files(answer: Answer, envelope: Answer) -> OrganizationCheckResult:
    """Decide whether an envelope in its final state lists its files."""
    fact, files = FactId.ENVELOPE_FILES, listed_ids(answer)
    if files is None:
        return without_use(fact, answer, "No file of the envelope can be archived.")
    counts = Counter(each.kind for each in files)
    found = ",".join(f"{kind}={counts[kind]}" for kind in FileKind)
    if counts[FileKind.DOCUMENT] or _status_of(envelope) == EnvelopeStatus.ACTIVE:
        return as_expected(fact, f"Files: {found.replace(',', ', ').replace('=', ' ')}.", found)
    message = (
        "The envelope lists no document, so there is nothing to archive. Is its status in spec.statuses?"
    )
    return deviates(fact, message, found, "spec.statuses")


def envelope_null_file_ids(answer: Answer) -> OrganizationCheckResult:
    """Decide whether each listed file can be downloaded."""
    fact, files = FactId.ENVELOPE_NULL_FILE_IDS, listed_ids(answer)
    if files is None:
        return not_testable(fact, describe(answer))
    unusable = sum(not each.is_usable for each in files)
    if not unusable:
        return as_expected(fact, "Each listed file has an id.", "none")
    message = f"{unusable} listed files have no usable FileId. Counterfoil leaves no file out, so this waits."
    return deviates(fact, message, str(unusable))


def envelope_audit_trail(
    answer: Answer, envelope: Answer, organization: Organization
) -> OrganizationCheckResult:
    """Decide whether a Completed envelope has its audit trail, if the Organization requires one."""
    fact, files = FactId.ENVELOPE_AUDIT_TRAIL, listed_ids(answer)
    if files is None:
        return not_testable(fact, describe(answer))
    if any(each.kind is FileKind.AUDIT_TRAIL for each in files):
        return as_expected(fact, "The audit trail is listed.", "present")
    status = _status_of(envelope)
    if status != EnvelopeStatus.COMPLETED:
        return as_expected(fact, f"No audit trail is listed, and the envelope is {status}.", "absent")
    if organization.spec.evidence.audit_trail is AuditTrailPolicy.OPTIONAL:
        return as_expected(fact, "No audit trail is listed, and this Organization requires none.", "absent")
    message = (
        "A Completed envelope has no audit trail, so it is archived late and never deleted. If eSignAnyWhere "
        "makes none, set Optional."
    )
    return deviates(fact, message, "absent", "spec.evidence.auditTrail")


def envelope_metadata(answer: Answer) -> OrganizationCheckResult:
    """Decide whether the configuration is readable, and say whether it shows metadata, of which tags are
    made."""
    fact, configuration = FactId.ENVELOPE_METADATA, content(answer)
    if configuration is None or not CONFIGURATION_MEMBERS & configuration.keys():
        return without_use(fact, answer, "Tags can't be made from metadata.")
    if text(configuration, "MetaData") is not None:
        return as_expected(fact, "The configuration shows the metadata.", "present")
    message = "The configuration shows no metadata. If the envelope has some, report this: tags need it."
    return as_expected(fact, message, "absent")


def envelope_history(answer: Answer) -> OrganizationCheckResult:
    """Decide whether the history is readable, which distinguishes deleted envelopes from unknown ones."""
    fact, history = FactId.ENVELOPE_HISTORY, content(answer)
    if history is not None and {"Events", "EnvelopeHasBeenDeleted"} & history.keys():
        return as_expected(fact, "The history is readable.", "allowed")
    if isinstance(answer, NoAnswer) or answer.status != 403:
        return without_use(fact, answer, "A deleted envelope then looks like one that never existed.")
    message = (
        "The user may not see histories, so a deleted envelope looks like one that never existed. "
        "Allow it in eSignAnyWhere: the user may see the event history of an envelope."
    )
    return deviates(fact, message, "forbidden")


def download_headers(answer: Answer, kind: FileKind | None) -> OrganizationCheckResult:
    """Decide whether a download is a file whose end is recognisable. ``kind`` is the listed one."""
    fact = FactId.DOWNLOAD_HEADERS
    if isinstance(answer, NoAnswer):
        return not_testable(fact, answer.why)
    if not is_success(answer):
        return deviates(fact, f"{describe(answer)} The file can't be downloaded.")
    named = answer.content_type.partition(";")[0].strip().lower()
    media_type = named if _MEDIA_TYPE.fullmatch(named) else ""
    if answer.length is None and not answer.is_chunked:
        message = (
            "A download has neither a length nor chunks, so a cut is not recognisable. Correct the proxy."
        )
        return deviates(fact, message)
    found = f"{media_type};{'chunked' if answer.length is None else 'length'}"
    if kind in _PDF_KINDS and b"%PDF-" not in answer.body[:HEAD_BYTES]:
        return deviates(fact, f"A file of kind {kind} does not begin as a PDF. Does a proxy answer?", found)
    return as_expected(fact, f"A download is declared as {media_type or 'no type'}, and its end too.", found)


def download_repeated(
    first: Answer, second: Answer, kind: FileKind | None, envelope: Answer
) -> OrganizationCheckResult:
    """
    Decide whether eSAW serves a document of a final state with the same bytes each time.

    ``kind`` is the kind of the file as listed. At most ``COMPARED_BYTES`` of it are compared.
    """
    fact = FactId.DOWNLOAD_REPEATED
    if isinstance(first, NoAnswer) or not is_success(first):
        return not_testable(fact, describe(first))
    if isinstance(second, NoAnswer) or not is_success(second):
        return not_testable(fact, describe(second))
    if kind not in FIXED_KINDS:
        return not_testable(fact, "The first listed file is no document, so its content may change.")
    if _status_of(envelope) not in set(EnvelopeStatus) - {EnvelopeStatus.ACTIVE}:
        return not_testable(fact, "The envelope is not finished, so its documents may change.")
    has_other_length = None not in (first.length, second.length) and first.length != second.length
    if first.body == second.body and not has_other_length:
        message = "Two downloads of a document have the same bytes."
        if first.is_cut:
            message = f"The first {COMPARED_BYTES // MIB} MiB of two downloads of a document are the same."
        return as_expected(fact, message, "equal")
    message = (
        "Two downloads of a document have different bytes. An envelope that is archived again, or by two "
        "events, is then kept (DocumentInDoubt), and an Expired one too (FilesChanged). Report this."
    )
    return deviates(fact, message, "different")


# -- The callbacks -------------------------------------------------------------------------------------------


def callback_of(configuration: Answer) -> tuple[str | None, bool]:
    """Return the CallbackUrl of a configuration, and whether the configuration shows callbacks at all."""
    callbacks = part(content(configuration), "CallbackConfiguration")
    return text(callbacks, "CallbackUrl"), callbacks is not None


def callback_url(configurations: Sequence[Answer], organization: Organization) -> OrganizationCheckResult:
    """Decide whether eSAW calls the URL of this Organization. The URL carries a token, so it is not said."""
    fact = FactId.CALLBACK_URL
    known = [callback_of(each) for each in configurations]
    shown = next((url for url, is_shown in known if is_shown), None)
    if not any(is_shown for _, is_shown in known):
        why = next((each.why for each in configurations if isinstance(each, NoAnswer)), "")
        return not_testable(fact, why or "The configuration shows no callback URL.")
    command = f"`kubectl counterfoil url {organization.name}` prints it."
    if not shown:
        message = f"No callback URL is set, so Counterfoil hears of it by its sweep only. {command}"
        return deviates(fact, message, "different", "eSignAnyWhere: callback URL")
    difference = _difference(shown, organization)
    if not difference:
        return as_expected(fact, "eSignAnyWhere calls the URL of this Organization.", "equal")
    message = f"The callback URL in eSignAnyWhere is another one: {difference}. {command}"
    return deviates(fact, message, "different", "eSignAnyWhere: callback URL")


def _difference(shown: str, organization: Organization) -> str:
    """Return how a URL differs from the Organization's; empty if it does not. Says nothing of the token."""
    urls = organization.status.callback_urls
    try:
        theirs = urlsplit(shown)
    except ValueError:
        return "it is no URL"
    ours = urlsplit(
        urls.envelope if urls is not None else f"https://<your-host>/callbacks/{organization.address_path}/"
    )
    is_host_known = "<your-host>" not in ours.netloc
    if is_host_known and (theirs.scheme, theirs.netloc) != (ours.scheme, ours.netloc):
        return "it leads to another host, port or scheme"
    prefix, _, token = theirs.path.rpartition("/")
    shown_prefix = ours.path.rpartition("/")[0]
    long_prefix = f"{shown_prefix.removesuffix(organization.address_path)}{organization.long_address_path}"
    if prefix not in (shown_prefix, long_prefix):
        return "its path is not the one of this Organization"
    if not is_valid_token(token, organization.status.callback_token_hashes):
        return "its token is not one of spec.callback.tokenSecretRefs"
    # Not urlsplit: the placeholders begin with the mark of a fragment.
    query = parse_qsl(shown.partition("?")[2], keep_blank_values=True)
    names = {name.lower(): value for name, value in query}
    if names.get("envelopeid") != "##EnvelopeId##":
        return "it does not say envelopeId=##EnvelopeId##"
    return ""


def callback_port(configurations: Sequence[Answer], organization: Organization) -> OrganizationCheckResult:
    """Decide whether eSAW's SaaS calls the address: the one that is configured, else ours."""
    fact, urls = FactId.CALLBACK_PORT, organization.status.callback_urls
    shown = next((url for url, _ in map(callback_of, configurations) if url), None)
    url = shown or (urls.envelope if urls is not None and "<your-host>" not in urls.envelope else None)
    if url is None:
        return not_testable(
            fact, "The address at which eSignAnyWhere reaches the receiver is not known here."
        )
    fault = address_fault(url)
    if not fault:
        return as_expected(fact, "eSignAnyWhere calls such an address.", "ok")
    message = (
        f"eSignAnyWhere does not call this address: {fault}. It calls https only, on port 443 or a port from "
        "1025 to 65535."
    )
    return deviates(fact, message, _port_found(url), "COUNTERFOIL_CALLBACK_URL or spec.oauth.publicURL")


def _port_found(url: str) -> str:
    try:
        address = urlsplit(url)
        if address.scheme != "https":
            return "http" if address.scheme == "http" else "unknown"
        return str(address.port)
    except ValueError:
        return "unknown"


def unlisted_actions(organization: Organization) -> OrganizationCheckResult:
    """Decide whether eSAW called with actions that nobody listed."""
    fact, seen = FactId.UNLISTED_ACTIONS, organization.status.unlisted_actions
    if not seen:
        return as_expected(fact, "All actions of callbacks are listed in spec.actions.", "none")
    found = ",".join(f"{each.action}={each.count}" for each in seen)
    return _judge_unlisted(fact, found, seen, organization)


def _judge_unlisted(
    fact: FactId, found: str, seen: Sequence[UnlistedAction], organization: Organization
) -> OrganizationCheckResult:
    if organization.spec.unlisted_actions is UnlistedActions.ARCHIVE:
        return as_expected(fact, "Unlisted actions are archived (spec.unlistedActions).", found)
    are_recorded = any(each.handling is ActionHandling.ARCHIVE for each in organization.spec.actions)
    message = (
        f"Callbacks with {len(seen)} unlisted actions were ignored. If one means a finished envelope, "
        f"list it{'' if are_recorded else ' with handling Archive'}."
    )
    return deviates(fact, message, found, "spec.actions, spec.unlistedActions")


# -- The draft -----------------------------------------------------------------------------------------------


def draft(answer: Answer) -> OrganizationCheckResult:
    """Decide whether a draft is readable, and whether it is a bulk."""
    fact = FactId.DRAFT
    if isinstance(answer, NoAnswer):
        return not_testable(fact, answer.why)
    if answer.status == 404 and error_id(answer) == MISSING_DRAFT:
        message = f"The user of the asking Sender has no such draft ({MISSING_DRAFT}); it may have been sent."
        return deviates(fact, message, "not-found")
    found = content(answer)
    if found is None or not {"Id", "Activities"} & found.keys():
        return without_use(fact, answer, "The page before sending can't read the draft.")
    actions = (part(each, "Action") for each in members(found, "Activities"))
    if any(part(each, "SignBulk") is not None for each in actions):
        return as_expected(
            fact, "The draft is there. It is a bulk: it becomes one envelope per recipient.", "bulk"
        )
    return as_expected(fact, "The draft is there.", "found")


def before_send_redirect(configuration: Answer, organization: Organization) -> OrganizationCheckResult:
    """Decide whether eSAW leads to the page before sending of this Organization."""
    fact = FactId.BEFORE_SEND_REDIRECT
    paths = organization.address_path, organization.long_address_path
    ours = [organization.page_url(f"/before-send/{each}") for each in paths]
    if ours[0] is None or organization.spec.before_send is None:
        return not_testable(fact, "This Organization has no page before sending.")
    redirects = part(content(configuration), "RedirectConfiguration")
    if redirects is None:
        why = configuration.why if isinstance(configuration, NoAnswer) else "The draft shows no redirect."
        return not_testable(fact, why)
    theirs = text(redirects, "BeforeSendRedirectUrl") or ""
    if theirs.partition("?")[0].rstrip("/") in ours and all(each in theirs for each in PAGE_VALUES):
        return as_expected(fact, "eSignAnyWhere leads to the page before sending.", "equal")
    message = (
        "The redirect of the draft is another one, or lacks the ids of draft and sender, so nobody sees the "
        "page. Set the default redirect URL before sending a draft."
    )
    return deviates(fact, message, "different", "eSignAnyWhere: redirect before sending")
