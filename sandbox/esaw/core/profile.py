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
from typing import Annotated, Any, Final, Literal, NamedTuple

import msgspec
from msgspec import Meta, Struct

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
    outcome: Literal["AsExpected", "Deviates", "NotTestable"]
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
    """The format of a fact's value, and the switches that follow from it."""

    format: str
    """A regular expression that matches the whole value."""
    switches: Callable[[re.Match[str]], _Switches] = _no_switches
    replayed: str = ".*"
    """A regular expression for the values that the stand-in can replay. Any other gives a warning."""


_FAILURE: Final = r"unreachable|redirect|html|no-json|other-shape|too-large|[1-5]\d\d|ERR\d{4}|ERROR-\d{1,8}"
"""In place of any fact: the error that the check met. The stand-in replays none of them."""

_NAMES: Final = r"\w+(,\w+)*"
_COUNT: Final = r"\d{1,12}"

_RULES: Final[Mapping[str, _Rule]] = {
    "base-url": _Rule("v6"),
    "version-without-token": _Rule("200|401", lambda found: {"version_needs_token": found[0] == "401"}),
    "version-with-token": _Rule("200"),
    "header-bearer": _Rule("accepted|rejected"),
    "header-api-token": _Rule("accepted|rejected"),
    "whoami-fields": _Rule(_NAMES, lambda found: {"whoami_fields": tuple(found[0].split(","))}),
    "find-one-day": _Rule(_COUNT),
    "find-thirty-days": _Rule(
        rf"({_COUNT})(,truncated)?", lambda found: {"most_hits": int(found[1])} if found[2] else {}
    ),
    "envelope-statuses": _Rule(_NAMES, replayed="none"),
    "v5-envelopes": _Rule(f"{_COUNT}/{_COUNT}"),
    "envelope-status": _Rule(r"\w+"),
    "envelope-files": _Rule(rf"\w+={_COUNT}(,\w+={_COUNT})*"),
    "envelope-null-file-ids": _Rule(
        f"none|{_COUNT}", lambda found: {"null_file_ids": 0 if found[0] == "none" else int(found[0])}
    ),
    "envelope-audit-trail": _Rule(
        "present|absent", lambda found: {"has_audit_trails": found[0] == "present"}
    ),
    "envelope-metadata": _Rule("present|absent"),
    "envelope-history": _Rule(
        "allowed|forbidden", lambda found: {"history_forbidden": found[0] == "forbidden"}
    ),
    "download-headers": _Rule(
        r"(none|other|[\w.+-]+/[\w.+-]+)?;(length|chunked|unframed)",
        lambda found: {
            # The check downloads a PDF, which says nothing about the other files.
            "download_content_type": found[1]
            if found[1] not in {None, "none", "other", "application/pdf"}
            else None,
            "downloads_chunked": found[2] == "chunked",
        },
        replayed="(?!none).*(?<!unframed)",
    ),
    "unknown-envelope-body": _Rule(
        r"ERR\d{4}|none|404",
        lambda found: {"unknown_envelope_error": found[0] if found[0].startswith("ERR") else None},
    ),
    "token-endpoint": _Rule("[a-z]+(_[a-z]+)*", replayed="invalid_grant"),
    "callback-url": _Rule("equal|different|unknown"),
    "callback-port": _Rule(f"ok|http|unknown|{_COUNT}"),
    "unlisted-actions": _Rule(rf"none|\w+={_COUNT}(,\w+={_COUNT})*"),
    "draft": _Rule("found|not-found|bulk"),
    "before-send-redirect": _Rule("equal|different|unknown"),
}
"""The facts of version 1, by id. Those without a switch are about data, which each test creates itself, or
about Counterfoil's own URLs."""

_TOKEN_HEADERS: Final[Mapping[str, TokenHeader]] = {
    "header-api-token": "ApiToken",
    "header-bearer": "Authorization",
}

FACT_IDS: Final = frozenset(_RULES)
"""The facts that a profile may have."""


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
        if fact.id not in _RULES:
            warnings.append(f"The fact `{fact.id}` is unknown and is ignored.")
        elif fact.id in found:
            raise InvalidProfile(f"the fact `{fact.id}` is there twice")
        elif fact.found is not None and fact.outcome != "NotTestable":
            found[fact.id] = fact.found
            rule, match = _RULES[fact.id], _match(fact.id, fact.found)
            if match is not None:
                switches |= rule.switches(match)
            if match is None or not re.fullmatch(rule.replayed, fact.found):
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


def _match(name: str, found: str) -> re.Match[str] | None:
    """Return the match with the fact's format, None for an error that the check met instead."""
    form = _RULES[name].format
    match = re.fullmatch(form, found)
    if match is None and name == "base-url":
        raise InvalidProfile(f"the check found no eSignAnyWhere with API v6 (`{name}: {found}`)")
    if match is None and not re.fullmatch(_FAILURE, found):
        raise InvalidProfile(f"the fact `{name}` can't be `{found[:100]}`; a possible value matches `{form}`")
    return match


def _judge_audit_trail(found: Mapping[str, str], switches: _Switches, warnings: list[str]) -> None:
    """An envelope that is not Completed may lack its audit trail, though Completed ones have theirs."""
    if found.get("envelope-status", "Completed") == "Completed" or switches.get("has_audit_trails", True):
        return
    del switches["has_audit_trails"]
    if re.search(r"\bDocument=0\b", found.get("envelope-files", "")):
        switches["papers_only_when_completed"] = True
    else:
        warnings.append("`envelope-audit-trail` is ignored: the envelope of the check was not Completed.")
