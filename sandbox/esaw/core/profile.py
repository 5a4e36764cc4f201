"""
A profile: recorded facts about a real eSAW, as switches of the stand-in.

`kubectl counterfoil check ORG -o json` prints the facts. Each fact flows: file -> validated value -> switch
of `Behaviour`, so that an assumption is replaced by an observation. Some facts have no switch: numbers and
states of envelopes, and Counterfoil's own callback URLs. Only `read_profile` reads a file; all else is pure.
"""

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple

import msgspec
from msgspec import Meta, Struct

from counterfoil.esaw_check.facts import FactId, shareable
from counterfoil.resources.organization import CheckOutcome
from sandbox.esaw.core.behaviour import Behaviour, TokenHeader

KIND: Final = "EsawProfile"
VERSION: Final = 1

_Switches = dict[str, Any]
"""Fields of `Behaviour` with their values."""


class InvalidProfile(ValueError):
    """A file that is no profile, or a profile with an impossible value; the message names the fact."""


class _Fact(Struct, frozen=True):
    """One line of the check."""

    id: str
    outcome: CheckOutcome
    found: str | None = None


class _ProfileFile(Struct, frozen=True, rename="camel"):
    """The content of a profile's file."""

    time: Annotated[datetime, Meta(tz=True)]
    facts: tuple[_Fact, ...]
    esaw_version: Annotated[str, Meta(min_length=1)] | None = None


class EsawProfile(Struct, frozen=True, kw_only=True):
    """The switches that follow from the facts of one eSAW."""

    time: datetime
    """Time of the check."""
    esaw_version: str | None
    """The version that `system/version` returned; None if it returned none."""
    switches: Mapping[str, Any]
    """Fields of `Behaviour` with the recorded values."""
    warnings: tuple[str, ...] = ()
    """One sentence for each fact that is ignored although the stand-in behaves differently."""

    def apply(self, behaviour: Behaviour) -> Behaviour:
        """Return these switches with the recorded ones set."""
        return msgspec.structs.replace(behaviour, **self.switches)


def _no_switches(found: re.Match[str]) -> _Switches:
    """For a fact about data, which each test creates itself."""
    return {}


class _Rule(NamedTuple):
    """The values of a fact that the stand-in can replay, and the switches that follow from them."""

    replayed: str = ".*"
    """A regular expression that matches the whole value. Any other value gives a warning."""
    switches: Callable[[re.Match[str]], _Switches] = _no_switches


_RULES: Final[Mapping[FactId, _Rule]] = {
    FactId.BASE_URL: _Rule("v6"),
    FactId.VERSION_WITHOUT_TOKEN: _Rule("200|401", lambda found: {"version_needs_token": found[0] == "401"}),
    FactId.VERSION_WITH_TOKEN: _Rule("200"),
    FactId.WHOAMI_FIELDS: _Rule(switches=lambda found: {"whoami_fields": tuple(found[0].split(","))}),
    FactId.FIND_THIRTY_DAYS: _Rule(
        "([0-9]+)(,truncated)?", lambda found: {"most_hits": int(found[1])} if found[2] else {}
    ),
    FactId.ENVELOPE_STATUSES: _Rule("none"),
    FactId.ENVELOPE_NULL_FILE_IDS: _Rule(
        switches=lambda found: {"null_file_ids": 0 if found[0] == "none" else int(found[0])}
    ),
    FactId.ENVELOPE_AUDIT_TRAIL: _Rule(switches=lambda found: {"has_audit_trails": found[0] == "present"}),
    FactId.ENVELOPE_HISTORY: _Rule(switches=lambda found: {"history_forbidden": found[0] == "forbidden"}),
    FactId.DOWNLOAD_HEADERS: _Rule(
        "(.*);(length|chunked)",
        lambda found: {
            # The check downloads a PDF, which says nothing about the other files.
            "download_content_type": None if found[1] in {"", "application/pdf"} else found[1],
            "downloads_chunked": found[2] == "chunked",
        },
    ),
    FactId.DOWNLOAD_REPEATED: _Rule("equal"),
    FactId.UNKNOWN_ENVELOPE_BODY: _Rule(
        switches=lambda found: {"unknown_envelope_error": None if found[0] == "none" else found[0]}
    ),
    FactId.TOKEN_ENDPOINT: _Rule("invalid_grant"),
}
"""The facts that concern the stand-in. The others are about data, which each test creates itself, or about
Counterfoil's own URLs."""


_TOKEN_HEADERS: Final[Mapping[FactId, TokenHeader]] = {
    FactId.HEADER_API_TOKEN: "ApiToken",
    FactId.HEADER_BEARER: "Authorization",
}


def read_profile(file: Path) -> EsawProfile:
    """Read a profile's file. Raises `InvalidProfile`, which names the file."""
    try:
        return parse_profile(file.read_bytes())
    except OSError as error:
        raise InvalidProfile(f"{file}: {error.strerror}") from error
    except InvalidProfile as error:
        raise InvalidProfile(f"{file}: {error}") from error


def parse_profile(data: bytes) -> EsawProfile:
    """Read the JSON of a profile. Raises `InvalidProfile`."""
    content = _decode(data)
    found: dict[str, str] = {}
    switches: _Switches = {}
    warnings: list[str] = []
    for fact in content.facts:
        if fact.id not in set(FactId):
            warnings.append(f"The fact `{fact.id}` is unknown and is ignored.")
        elif fact.id in found:
            raise InvalidProfile(f"the fact `{fact.id}` is there twice")
        elif fact.found is not None and fact.outcome is not CheckOutcome.NOT_TESTABLE:
            found[fact.id] = _validated(fact.id, fact.found)
            rule = _RULES.get(FactId(fact.id), _Rule())
            match = re.fullmatch(rule.replayed, fact.found)
            if match is not None:
                switches |= rule.switches(match)
            else:
                warnings.append(f"The stand-in can't replay `{fact.id}: {fact.found}`, so this is ignored.")
    _judge_audit_trail(found, switches, warnings)
    refused = {header for name, header in _TOKEN_HEADERS.items() if found.get(name) == "rejected"}
    if refused:
        switches["token_headers"] = tuple(each for each in Behaviour().token_headers if each not in refused)
    return EsawProfile(
        time=content.time, esaw_version=content.esaw_version, switches=switches, warnings=tuple(warnings)
    )


def _decode(data: bytes) -> _ProfileFile:
    try:
        raw = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidProfile("this is no profile: it is no JSON") from error
    if not isinstance(raw, dict) or raw.get("kind") != KIND:
        raise InvalidProfile(f"this is no profile: it is no JSON object of kind {KIND}")
    version = raw.get("version")
    if type(version) is not int or version != VERSION:
        raise InvalidProfile(
            f"the profile has the version {version!r}; this stand-in reads version {VERSION}"
        )
    try:
        return msgspec.convert(raw, _ProfileFile)
    except msgspec.ValidationError as error:
        raise InvalidProfile(f"the profile is invalid: {error}") from error


def _validated(name: str, found: str) -> str:
    if shareable(name, found) is None:
        raise InvalidProfile(f"the fact `{name}` can't be `{found[:100]}`")
    if name == FactId.BASE_URL and found != "v6":
        raise InvalidProfile(f"the check found no eSignAnyWhere with API v6 (`{name}: {found}`)")
    return found


def _judge_audit_trail(found: Mapping[str, str], switches: _Switches, warnings: list[str]) -> None:
    """An envelope that is not Completed may lack its audit trail, though Completed ones have theirs."""
    if found.get("envelope-status", "Completed") == "Completed" or switches.get("has_audit_trails", True):
        return
    del switches["has_audit_trails"]
    if re.search(r"\bDocument=0\b", found.get("envelope-files", "")):
        switches["papers_only_when_completed"] = True
    else:
        warnings.append("`envelope-audit-trail` is ignored: the envelope of the check was not Completed.")
