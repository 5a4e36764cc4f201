"""
Parse a callback: query string -> ``CallbackParameters``, or ``MalformedCallback`` with the reason for a 400.

Pure: no clock, no network, no organizations. Parameter names ignore letter case. The action may be absent, as
in Namirial's own sample (``?envelope=##EnvelopeId##``). A customer may add parameters. Those that the
organization lists are read, and the others are ignored. An unusable value of such a parameter is left out and
counted, but no reason for a 400: the callback is about an envelope. Unneeded values, as the recipient's
e-mail address and the description, are not read.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import unquote_plus

from counterfoil.resources import EnvelopeId, Workstep, envelope_id, is_action
from counterfoil.resources.envelopeevent import MAX_PARAMETER_LENGTH

PARAMETER_NAMES = {
    "envelopeid": "envelopeId",
    # Namirial's own samples write ?envelope=##EnvelopeId##.
    "envelope": "envelopeId",
    "action": "action",
    "workstepid": "workstepId",
    "eventtype": "eventType",
    "source": "source",
    "time": "time",
}
"""Known parameters by their names in lower case."""

_ENVELOPE_PARAMETERS = {"envelopeId", "action"}

_SURROGATE = re.compile("[\ud800-\udfff]")
_PLACEHOLDER = re.compile(r"##\w*")
_WORKSTEP_ID = re.compile(r"[!-?A-~]{1,128}")  # printable ASCII, but no space and no @
_OPTIONAL_TEXT = re.compile(r"[ -?A-~]{1,64}")  # printable ASCII, but no @: no e-mail address is stored


class MalformedCallback(ValueError):
    """An invalid callback. The message tells the administrator of the callback URL the error, without a
    value."""


class CallbackParameters(NamedTuple):
    """The parameters of one callback."""

    envelope_id: EnvelopeId
    action: str | None
    workstep: Workstep | None
    own: Mapping[str, str]
    """The organization's own parameters, in the spelling of its list."""
    left_out: int
    """Number of the organization's parameters whose value is unusable."""


def parse_callback(query: str, *, max_parameters: int, own_names: Mapping[str, str]) -> CallbackParameters:
    """
    Read a callback's query string. Raises ``MalformedCallback``.

    ``own_names`` are the names of the organization's own parameters, by their names in lower case.
    """
    given, own, left_out = _split(query, max_parameters, own_names)
    return CallbackParameters(_envelope(given), _action(given), _workstep(given), own, left_out)


def _split(
    query: str, max_parameters: int, own_names: Mapping[str, str]
) -> tuple[dict[str, str], dict[str, str], int]:
    """Return eSAW's parameters, the organization's own, and the number of the latter that are unusable."""
    if query.count("&") >= max_parameters:
        raise MalformedCallback(f"the query has more than {max_parameters} parameters")
    given: dict[str, str] = {}
    own: dict[str, str] = {}
    unusable: set[str] = set()
    is_quoted = "%" in query or "+" in query
    for pair in query.split("&"):
        key, _, value = pair.partition("=")
        if not value:
            continue
        if is_quoted:
            # What is not UTF-8 becomes surrogates, which no value may have.
            key, value = (unquote_plus(each, errors="surrogateescape") for each in (key, value))
        lowered = key.lower()
        name = PARAMETER_NAMES.get(lowered)
        if name is not None:
            if not value.isascii() and _SURROGATE.search(value) is not None:
                raise MalformedCallback("the query is not UTF-8")
            if given.setdefault(name, value) != value:
                raise MalformedCallback(f"{name} is given twice, with different values")
        elif (own_name := own_names.get(lowered)) is not None and (
            not _is_usable(value) or own.setdefault(own_name, value) != value
        ):
            # Given twice with different values: which of them is meant cannot be known.
            unusable.add(own_name)
    return given, {name: value for name, value in own.items() if name not in unusable}, len(unusable)


def _is_usable(value: str) -> bool:
    """Whether an own parameter's value can be stored: printable, of bounded length, a value that was filled
    in, and no e-mail address."""
    return (
        len(value) <= MAX_PARAMETER_LENGTH
        and value.isprintable()
        and "@" not in value
        and _PLACEHOLDER.match(value) is None
    )


def _envelope(given: Mapping[str, str]) -> EnvelopeId:
    value = given.get("envelopeId")
    if value is None:
        # An unreplaced ##Placeholder## ends the URL at its first #, so this is how most of them arrive.
        raise MalformedCallback("envelopeId is missing or empty")
    text = _without_placeholder("envelopeId", value)
    try:
        return envelope_id(text)
    except ValueError:
        raise MalformedCallback("envelopeId is no GUID") from None


def _action(given: dict[str, str]) -> str | None:
    value = given.get("action")
    if value is not None and not is_action(_without_placeholder("action", value)):
        raise MalformedCallback("action is not a letter followed by at most 63 letters and digits")
    return value


def _without_placeholder(name: str, value: str) -> str:
    if _PLACEHOLDER.match(value):
        raise MalformedCallback(f"{name} is a placeholder that was not replaced")
    return value


def _workstep(given: dict[str, str]) -> Workstep | None:
    identity = given.get("workstepId")
    if identity is not None and _WORKSTEP_ID.fullmatch(_without_placeholder("workstepId", identity)) is None:
        raise MalformedCallback("workstepId is not 1 to 128 printable characters without space and @")
    if given.keys() <= _ENVELOPE_PARAMETERS:
        return None
    workstep = Workstep(
        id=identity,
        event_type=_optional_text(given, "eventType"),
        source=_optional_text(given, "source"),
        time=_optional_text(given, "time"),
    )
    return workstep if workstep != Workstep() else None


def _optional_text(given: dict[str, str], name: str) -> str | None:
    """Return what is nice to know. A callback is not refused for it, so what does not fit is left out."""
    value = given.get(name)
    if value is None or _PLACEHOLDER.match(value) or _OPTIONAL_TEXT.fullmatch(value) is None:
        return None
    return value
