"""
``EsawProfile``: the facts of one check as a file that its user may send to others.

Another eSAW behaves like this one: the stand-in can be set up from it. The messages of a check stay out,
since they name hosts and objects.
"""

import re
from datetime import datetime
from typing import Literal

import msgspec

from counterfoil.esaw_check.facts import FactId, shareable
from counterfoil.resources.organization import CheckOutcome, OrganizationCheck

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
