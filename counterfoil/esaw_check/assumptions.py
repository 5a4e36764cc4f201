"""
The assumptions about any eSAW, and whether its answers agree. Pure; one function per line.

``envelope_assumptions`` has the lines about one envelope, one draft and the callbacks. The facts and their
words are in ``counterfoil.esaw_check.facts``.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from counterfoil.esaw.errors import MISSING_ENVELOPE, ResponseInvalid
from counterfoil.esaw.limits import TRUSTED_HITS
from counterfoil.esaw.models import parse_version
from counterfoil.esaw.transport import RawResponse
from counterfoil.esaw_check.facts import FactId, shareable
from counterfoil.esaw_check.responses import (
    Answer,
    NoAnswer,
    content,
    describe,
    error_id,
    is_redirect,
    is_success,
    is_web_page,
    members,
    plain_name,
    text,
)
from counterfoil.resources import EnvelopeStatus
from counterfoil.resources.naming import is_same_user
from counterfoil.resources.organization import (
    CheckOutcome,
    CleanupPolicy,
    ClientAuthentication,
    OrganizationCheckResult,
    Pkce,
)

MAX_MESSAGE_LENGTH: Final = 1024
"""Maximum characters of a message in the status."""

KNOWN_STATUSES: Final = frozenset({*EnvelopeStatus, "ActionRequired", "WaitingForOthers", "ExpiringSoon"})
"""Statuses of v6; the last three only in hits of ``envelope/find``."""

WHOAMI_FIELDS: Final = ("UserId", "Email", "GivenName", "Surname")
"""Fields of ``whoami`` that Counterfoil needs. It reads ``UserName`` too, in place of a missing ``Email``."""

V5_ERROR: Final = "ERR0063"
"""InvalidEnvelopeApiVersion: the envelope was sent through API v5."""

_API_SUFFIX: Final = re.compile(r"/api(/v[0-9.]+)?", re.IGNORECASE)
_SYSTEM_VERSION: Final = re.compile(r"[0-9]+(\.[0-9A-Za-z-]+)+")


def as_expected(fact: FactId, message: str, found: str | None = None) -> OrganizationCheckResult:
    """Return a line that agrees with the assumption."""
    return _line(fact, CheckOutcome.AS_EXPECTED, message, found, None)


def deviates(
    fact: FactId, message: str, found: str | None = None, setting: str | None = None
) -> OrganizationCheckResult:
    """Return a line that does not: what was found, what it means, and which setting to change."""
    return _line(fact, CheckOutcome.DEVIATES, message, found, setting)


def not_testable(fact: FactId, why: str) -> OrganizationCheckResult:
    """Return a line without a result."""
    return _line(fact, CheckOutcome.NOT_TESTABLE, why, None, None)


def without_use(fact: FactId, answer: Answer, meaning: str) -> OrganizationCheckResult:
    """Return the line of an answer that has nothing of what was asked for."""
    if isinstance(answer, NoAnswer):
        return not_testable(fact, answer.why)
    return deviates(fact, f"{describe(answer)} {meaning}")


def _line(
    fact: FactId, outcome: CheckOutcome, message: str, found: str | None, setting: str | None
) -> OrganizationCheckResult:
    return OrganizationCheckResult(
        id=fact,
        outcome=outcome,
        message=message[:MAX_MESSAGE_LENGTH],
        found=shareable(fact, found),
        setting=setting,
    )


# -- The address ---------------------------------------------------------------------------------------------


def is_v6(answers: Sequence[Answer]) -> bool:
    """Whether one of these answers can only come from eSAW's API v6."""
    return any(_is_from_esaw(each) for each in answers)


def _is_from_esaw(answer: Answer) -> bool:
    if (error_id(answer) or "").startswith("ERR"):
        return True
    return system_version(answer) is not None or text(content(answer), "UserId") is not None


def system_version(answer: Answer) -> str | None:
    """Return the version that an answer to ``system/version`` names; None: it names none."""
    if not isinstance(answer, RawResponse) or not is_success(answer) or is_web_page(answer):
        return None
    try:
        version = parse_version(answer.body)
    except ResponseInvalid:
        return None
    return version if _SYSTEM_VERSION.fullmatch(version) else None


def base_url(url: str, answers: Sequence[Answer], older: Mapping[str, Answer]) -> OrganizationCheckResult:
    """
    Decide whether eSAW's API v6 is at this base URL.

    ``answers`` came from paths of v6; ``older`` are answers to the version of older APIs, by ``v5`` or
    ``v4``.
    """
    fact, setting = FactId.BASE_URL, "spec.baseURL"
    if is_v6(answers):
        return as_expected(fact, "The API v6 of eSignAnyWhere answers there.", "v6")
    if _API_SUFFIX.search(urlsplit(url).path):
        message = "spec.baseURL contains `/Api`, which Counterfoil adds. Let it end before `/Api`."
        return deviates(fact, message, "api-suffix", setting)
    for name, answer in older.items():
        if system_version(answer) is not None:
            message = (
                f"This eSignAnyWhere has the API {name}, but no v6, which Counterfoil needs. Update it, or "
                "take the address of a newer one."
            )
            return deviates(fact, message, name, setting)
    answered = [each for each in answers if isinstance(each, RawResponse)]
    if not answered:
        why = next((each for each in answers if isinstance(each, NoAnswer)), NoAnswer("Nothing was asked."))
        if why.is_unreachable:
            return deviates(
                fact, f"Nothing answers there as a web server does. {why.why}", "unreachable", setting
            )
        return not_testable(fact, why.why)
    last = answered[-1]
    if is_redirect(last):
        return deviates(fact, f"{describe(last)} Correct the base URL.", "redirect", setting)
    if last.status in (401, 403):
        return not_testable(
            fact, f"{describe(last)} Any server may say that. Give a Sender a key that works, then ask again."
        )
    message = f"{describe(last)} That is not the API v6 of eSignAnyWhere. Correct the base URL."
    is_other = is_web_page(last) or is_success(last) or last.status == 404
    return deviates(fact, message, "not-esaw" if is_other else str(last.status), setting)


def version_without_token(answer: Answer) -> OrganizationCheckResult:
    """Decide whether the version without a token is an answer that Counterfoil understands."""
    fact = FactId.VERSION_WITHOUT_TOKEN
    if system_version(answer) is not None:
        return as_expected(fact, "eSignAnyWhere names its version to everybody.", "200")
    if isinstance(answer, RawResponse) and answer.status == 401 and not is_web_page(answer):
        return as_expected(
            fact, "eSignAnyWhere names its version to users only; Counterfoil then asks with a key.", "401"
        )
    if isinstance(answer, NoAnswer):
        return not_testable(fact, answer.why)
    return deviates(fact, f"{describe(answer)} It names no version.", str(answer.status), "spec.baseURL")


def version_with_token(answer: Answer) -> OrganizationCheckResult:
    """Decide whether the condition Reachable can be asked for with a token."""
    fact = FactId.VERSION_WITH_TOKEN
    if system_version(answer) is not None:
        return as_expected(fact, "eSignAnyWhere names its version to a user.", "200")
    if isinstance(answer, NoAnswer):
        return not_testable(fact, answer.why)
    message = f"{describe(answer)} It names no version, so the condition Reachable will be False."
    return deviates(fact, message, str(answer.status))


# -- Tokens --------------------------------------------------------------------------------------------------


def is_accepted(answer: Answer) -> bool:
    """Whether an answer to ``whoami`` shows that the token was taken."""
    return text(content(answer), "UserId") is not None


def header_bearer(answer: Answer, other: Answer) -> OrganizationCheckResult:
    """Decide whether a token may be in ``Authorization: Bearer``; ``other`` is the answer to ``ApiToken``."""
    return _header(FactId.HEADER_BEARER, "Authorization: Bearer", answer, other)


def header_api_token(answer: Answer, other: Answer) -> OrganizationCheckResult:
    """Decide whether a token may be in ``ApiToken``; ``other`` is the answer to the other header."""
    return _header(FactId.HEADER_API_TOKEN, "ApiToken", answer, other)


def _header(fact: FactId, name: str, answer: Answer, other: Answer) -> OrganizationCheckResult:
    if is_accepted(answer):
        return as_expected(fact, f"A token in the header {name} is accepted.", "accepted")
    if isinstance(answer, RawResponse) and answer.status in (401, 403):
        if is_accepted(other):
            message = f"A token in the header {name} is refused. Counterfoil uses the other header."
            return as_expected(fact, message, "rejected")
        message = (
            f"{describe(answer)} A token in the header {name} is refused; a proxy may remove the header."
        )
        return deviates(fact, message, "rejected")
    return without_use(fact, answer, "So it is not known whether the header is accepted.")


def whoami_fields(answer: Answer, user_id: str) -> OrganizationCheckResult:
    """Decide whether ``whoami`` has the fields that Counterfoil needs, and is about the Sender's user."""
    fact = FactId.WHOAMI_FIELDS
    who = content(answer)
    if who is None:
        return without_use(fact, answer, "Without it no key of a Sender can be verified.")
    names = ",".join(name for name in who if plain_name(name) == name)
    answered = text(who, "UserId")
    if not answered:
        return deviates(fact, "UserId is missing, so no key of a Sender can be verified.", names)
    if not is_same_user(answered, user_id):
        message = "UserId is of another user than the Sender. Correct spec.userID of the Sender, or its key."
        return deviates(fact, message, names, "Sender: spec.userID")
    if lacking := [name for name in WHOAMI_FIELDS if text(who, name) is None]:
        message = (
            f"These fields have no value: {', '.join(lacking)}. Counterfoil then has no name or address."
        )
        return deviates(fact, message, names)
    return as_expected(fact, "The fields are there, and UserId is the Sender's.", names)


class TokenAnswer(NamedTuple):
    """The answer of the token endpoint to a code that nobody issued, and how the request was made."""

    authentication: ClientAuthentication
    pkce: Pkce
    answer: Answer


def token_endpoint(answers: Sequence[TokenAnswer]) -> OrganizationCheckResult:
    """
    Decide whether the token endpoint understands the request: it must only refuse the code.

    The first answer is to a request as it is configured, the others to requests in other ways.
    """
    fact, first = FactId.TOKEN_ENDPOINT, answers[0].answer
    if isinstance(first, NoAnswer):
        return not_testable(fact, first.why)
    error = error_id(first)
    if error == "invalid_grant":
        return as_expected(fact, "The endpoint refuses only the code, which nobody issued.", error)
    other = next((each for each in answers[1:] if error_id(each.answer) == "invalid_grant"), None)
    if other is not None:
        is_authentication = other.authentication != answers[0].authentication
        setting, value = (
            ("spec.oauth.clientAuthentication", other.authentication)
            if is_authentication
            else ("spec.oauth.pkce", other.pkce)
        )
        message = f"{describe(first)} With {setting} {value} the request is understood: set it."
        return deviates(fact, message, error or str(first.status), setting)
    if error == "invalid_client":
        message = (
            "The client is refused. Compare spec.oauth.clientID and its Secret with the OAuth application."
        )
        return deviates(fact, message, error, "spec.oauth.clientID, spec.oauth.clientSecretRef")
    if error is not None:
        message = f"{describe(first)} The endpoint does not take such a request, so no consent can succeed."
        return deviates(fact, message, error, "spec.oauth")
    if is_redirect(first) or is_web_page(first) or first.status in (404, 405):
        found = "redirect" if is_redirect(first) else "html" if is_success(first) else str(first.status)
        message = f"{describe(first)} The token endpoint is elsewhere."
        return deviates(fact, message, found, "spec.oauth.tokenPath")
    message = f"{describe(first)} It is not an error of OAuth, so no consent can succeed."
    return deviates(fact, message, str(first.status), "spec.oauth")


# -- Searches ------------------------------------------------------------------------------------------------


def hits(answer: Answer) -> dict[str, str | None] | None:
    """Return the statuses of the envelopes that were found, by id; None: it is no search result."""
    found = content(answer)
    if found is None or "Envelopes" not in found or not isinstance(found["Envelopes"], list | None):
        return None
    listed = ((text(each, "Id"), text(each, "Status")) for each in members(found, "Envelopes"))
    return {id_: status for id_, status in listed if id_ is not None}


def find_one_day(answer: Answer) -> OrganizationCheckResult:
    """Decide whether a search works."""
    found = hits(answer)
    if found is None:
        return without_use(FactId.FIND_ONE_DAY, answer, "The search for missed callbacks can't work.")
    message = f"Envelopes sent within the last day: {len(found)}."
    return as_expected(FactId.FIND_ONE_DAY, message, str(len(found)))


def find_thirty_days(answer: Answer, within: Sequence[Answer]) -> OrganizationCheckResult:
    """Decide whether a search returns all; ``within`` are answers for parts of the same time."""
    fact, found = FactId.FIND_THIRTY_DAYS, hits(answer)
    if found is None:
        if isinstance(answer, RawResponse) and answer.is_cut:
            return as_expected(
                fact, "The answer is too long for a check. A sweep asks for one day at a time."
            )
        return without_use(fact, answer, "The search for missed callbacks can't work.")
    lacking = {each for part in within for each in hits(part) or {}} - found.keys()
    count = str(len(found))
    if not lacking:
        return as_expected(fact, f"Envelopes sent within thirty days: {count}. None is left out.", count)
    message = f"eSignAnyWhere returns {count} and silently leaves out at least {len(lacking)}."
    if len(found) >= TRUSTED_HITS:
        message += f" A sweep asks for shorter times from {TRUSTED_HITS} on, so it misses none."
        return as_expected(fact, message, f"{count},truncated")
    message += f" A sweep trusts answers below {TRUSTED_HITS}, so it misses envelopes. Report this."
    return deviates(fact, message, f"{count},truncated")


def envelope_statuses(found: Sequence[Answer], envelopes: Sequence[Answer]) -> OrganizationCheckResult:
    """Decide whether all statuses are known, of hits and of single envelopes."""
    fact = FactId.ENVELOPE_STATUSES
    results = [each for each in map(hits, found) if each is not None]
    single = [each for each in map(content, envelopes) if each is not None]
    seen = {plain_name(status) for each in results for status in each.values()}
    unknown = seen - KNOWN_STATUSES
    unknown |= {plain_name(text(each, "EnvelopeStatus")) for each in single} - set(EnvelopeStatus)
    if unknown:
        message = "Counterfoil does not know these statuses; envelopes that have one wait. Report this."
        return deviates(fact, message, ",".join(sorted(unknown)[:16]))
    if not seen and not single:
        why = next((each for each in found if hits(each) is None), None)
        return not_testable(fact, describe(why) if why is not None else "No envelope was found.")
    return as_expected(fact, "All statuses that were found are known.", "none")


def v5_envelopes(answers: Sequence[Answer], policy: CleanupPolicy) -> OrganizationCheckResult:
    """Decide whether envelopes were sent through API v5, which v6 refuses to show, and must be deleted."""
    fact = FactId.V5_ENVELOPES
    answered = [each for each in answers if isinstance(each, RawResponse)]
    if not answered:
        why = next((each.why for each in answers if isinstance(each, NoAnswer)), "No envelope was found.")
        return not_testable(fact, why)
    refused = sum(error_id(each) == V5_ERROR for each in answered)
    found = f"{refused}/{len(answered)}"
    if refused:
        message = (
            f"{refused} of {len(answered)} envelopes were sent through API v5: v6 answers {V5_ERROR}. "
            "Counterfoil reads these envelopes through API v5."
        )
        if policy is CleanupPolicy.DELETE:
            message += " It deletes one only if v6 lists its files, else the envelope stays in eSignAnyWhere."
            return deviates(fact, message, found, "spec.cleanup.policy")
        return as_expected(fact, message, found)
    return as_expected(fact, "All envelopes that were asked for are readable with v6.", found)


def unknown_envelope_body(answer: Answer) -> OrganizationCheckResult:
    """Decide whether a missing envelope is recognisable, so that it differs from a proxy's 404."""
    fact, error = FactId.UNKNOWN_ENVELOPE_BODY, error_id(answer)
    if isinstance(answer, NoAnswer):
        return not_testable(fact, answer.why)
    if answer.status == 404 and error == MISSING_ENVELOPE:
        return as_expected(fact, "eSignAnyWhere itself says that there is no such envelope.", error)
    message = f"{describe(answer)} Events of envelopes that never existed will wait for their deadline."
    return deviates(fact, message, error or ("none" if answer.status == 404 else None))
