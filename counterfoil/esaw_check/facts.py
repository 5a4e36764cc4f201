"""
The facts that a check of eSAW establishes: their ids, and what each may say in a report.

``found`` of a fact goes into a report that its user sends to others. So each fact has a pattern that holds
numbers, words of the protocol and names of fields, and no name, address, host, id or token.

``EsawProfile`` is that report. Another eSAW behaves like this one: the stand-in can be set up from it. The
messages of a check stay out, since they name hosts and objects.
"""

import re
from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Final, Literal

import msgspec

from counterfoil.resources.organization import CheckOutcome, OrganizationCheck


class FactId(StrEnum):
    """Each fact, in the order in which a person reads them."""

    BASE_URL = "base-url"
    VERSION_WITHOUT_TOKEN = "version-without-token"  # noqa: S105 - the id of a fact
    VERSION_WITH_TOKEN = "version-with-token"  # noqa: S105
    HEADER_BEARER = "header-bearer"
    HEADER_API_TOKEN = "header-api-token"  # noqa: S105
    WHOAMI_FIELDS = "whoami-fields"
    FIND_ONE_DAY = "find-one-day"
    FIND_THIRTY_DAYS = "find-thirty-days"
    ENVELOPE_STATUSES = "envelope-statuses"
    V5_ENVELOPES = "v5-envelopes"
    ENVELOPE_STATUS = "envelope-status"
    ENVELOPE_FILES = "envelope-files"
    ENVELOPE_NULL_FILE_IDS = "envelope-null-file-ids"
    ENVELOPE_AUDIT_TRAIL = "envelope-audit-trail"
    ENVELOPE_METADATA = "envelope-metadata"
    ENVELOPE_HISTORY = "envelope-history"
    DOWNLOAD_HEADERS = "download-headers"
    DOWNLOAD_REPEATED = "download-repeated"
    UNKNOWN_ENVELOPE_BODY = "unknown-envelope-body"
    TOKEN_ENDPOINT = "token-endpoint"  # noqa: S105
    CALLBACK_URL = "callback-url"
    CALLBACK_PORT = "callback-port"
    UNLISTED_ACTIONS = "unlisted-actions"
    DRAFT = "draft"
    BEFORE_SEND_REDIRECT = "before-send-redirect"


_HTTP_STATUS: Final = "[1-5][0-9]{2}"
_ERROR_ID: Final = "ERR(?:OR-)?[0-9]{1,8}"
_OAUTH_ERROR: Final = "[a-z]{1,20}(?:_[a-z]{1,20}){1,4}"
_WORD: Final = "[A-Za-z][A-Za-z0-9]{0,63}"
_MEDIA_TYPE: Final = "[a-z0-9][a-z0-9+-]{0,40}/[a-z0-9][a-z0-9.+-]{0,80}"


def _list_of(item: str, most: int) -> str:
    return f"{item}(?:,{item}){{0,{most - 1}}}"


_PATTERNS: Final[Mapping[FactId, re.Pattern[str]]] = MappingProxyType(
    {
        fact: re.compile(pattern)
        for fact, pattern in {
            FactId.BASE_URL: f"v[4-6]|not-esaw|api-suffix|redirect|unreachable|{_HTTP_STATUS}",
            FactId.VERSION_WITHOUT_TOKEN: _HTTP_STATUS,
            FactId.VERSION_WITH_TOKEN: _HTTP_STATUS,
            FactId.HEADER_BEARER: "accepted|rejected",
            FactId.HEADER_API_TOKEN: "accepted|rejected",
            FactId.WHOAMI_FIELDS: _list_of(_WORD, 32),
            FactId.FIND_ONE_DAY: "[0-9]{1,7}",
            FactId.FIND_THIRTY_DAYS: "[0-9]{1,7}(?:,truncated)?",
            FactId.ENVELOPE_STATUSES: _list_of(_WORD, 16),
            FactId.V5_ENVELOPES: "[0-9]{1,4}/[0-9]{1,4}",
            FactId.ENVELOPE_STATUS: _WORD,
            FactId.ENVELOPE_FILES: _list_of(f"{_WORD}=[0-9]{{1,6}}", 8),
            FactId.ENVELOPE_NULL_FILE_IDS: "none|[0-9]{1,6}",
            FactId.ENVELOPE_AUDIT_TRAIL: "present|absent",
            FactId.ENVELOPE_METADATA: "present|absent",
            FactId.ENVELOPE_HISTORY: "allowed|forbidden",
            FactId.DOWNLOAD_HEADERS: f"(?:{_MEDIA_TYPE})?;(?:length|chunked)",
            FactId.DOWNLOAD_REPEATED: "equal|different",
            FactId.UNKNOWN_ENVELOPE_BODY: f"none|{_ERROR_ID}",
            FactId.TOKEN_ENDPOINT: f"html|redirect|{_ERROR_ID}|{_HTTP_STATUS}|{_OAUTH_ERROR}",
            FactId.CALLBACK_URL: "equal|different|unknown",
            FactId.CALLBACK_PORT: "ok|http|unknown|[0-9]{1,5}",
            FactId.UNLISTED_ACTIONS: f"none|{_list_of(f'{_WORD}=[0-9]{{1,12}}', 33)}",
            FactId.DRAFT: "found|not-found|bulk",
            FactId.BEFORE_SEND_REDIRECT: "equal|different|unknown",
        }.items()
    }
)
"""The words of each fact. A report's reader relies on these words."""


def shareable(fact: str, found: str | None) -> str | None:
    """Return ``found`` if it is nothing but what this fact may say, else None."""
    if found is None or fact not in set(FactId):
        return None
    return found if _PATTERNS[FactId(fact)].fullmatch(found) else None


_VERSION = re.compile(r"[0-9]{1,6}(?:\.[0-9]{1,8}){0,5}")


class ProfileFact(msgspec.Struct, frozen=True):
    """One fact."""

    id: str
    outcome: CheckOutcome
    found: str | None


class EsawProfile(msgspec.Struct, frozen=True, rename="camel"):
    """The report; ``esaw_version`` is None if eSAW names none, or none of digits and dots."""

    time: datetime
    esaw_version: str | None
    facts: tuple[ProfileFact, ...]
    kind: Literal["EsawProfile"] = "EsawProfile"
    version: Literal[1] = 1


def profile_of(check: OrganizationCheck) -> EsawProfile:
    """Return what may be sent of a check: facts with a known id, each with what it may say."""
    version = check.version or ""
    return EsawProfile(
        time=check.completion_time,
        esaw_version=version if _VERSION.fullmatch(version) else None,
        facts=tuple(
            ProfileFact(each.id, each.outcome, shareable(each.id, each.found))
            for each in check.results
            if each.id in set(FactId)
        ),
    )
