"""The request ``check`` on an Organization, with an envelope and a draft as its parameters."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from msgspec.structs import replace

from controller.requests.esaw_checker import EsawChecker
from controller.requests.request_table import RequestResult, RequestType
from counterfoil.esaw_check.probes import NO_DRAFT, NO_ENVELOPE
from counterfoil.resources import Organization, OrganizationStatus, envelope_id
from counterfoil.resources.naming import EnvelopeId
from counterfoil.resources.organization import (
    MAX_CHECK_MESSAGE_LENGTH,
    CheckOutcome,
    OrganizationCheck,
    OrganizationCheckResult,
)
from counterfoil.resources.request import REQUEST_ANNOTATION_PREFIX, Request, RequestOutcome

_EARLIER: Final = "Found by the check of"


@dataclass(frozen=True)
class CheckRequests:
    """Carries out checks of eSAW."""

    checker: EsawChecker

    @property
    def types(self) -> dict[str, RequestType]:
        """The row of the table for Organizations."""
        return {"check": RequestType("CheckRequested", self.check)}

    async def check(self, organization: Organization, request: Request) -> RequestResult:
        """Ask eSAW, and write what was found into ``status.check``."""
        try:
            envelope, draft = (_guid(request.parameters, name) for name in ("envelope", "draft"))
        except _NoGuid as refused:
            return RequestResult(RequestOutcome.REFUSED, str(refused))
        found = await self.checker.check(organization, envelope=envelope, draft=draft, by=request.by)
        found = with_earlier_deviations(found, organization.status.check)

        def change(status: OrganizationStatus) -> OrganizationStatus:
            return replace(status, check=found)

        counts = Counter(each.outcome for each in found.results)
        message = (
            f"Assumptions about eSignAnyWhere: {counts[CheckOutcome.AS_EXPECTED]} as expected, "
            f"{counts[CheckOutcome.DEVIATES]} deviate, {counts[CheckOutcome.NOT_TESTABLE]} not testable. "
            "See status.check."
        )
        return RequestResult(RequestOutcome.DONE, message, change)


def with_earlier_deviations(found: OrganizationCheck, before: OrganizationCheck | None) -> OrganizationCheck:
    """
    Keep what deviated with an envelope or a draft, while no later check was given one.

    Such a line would otherwise become "not testable", as if nothing had been found.
    """
    deviated = (
        {each.id: each for each in before.results if each.outcome is CheckOutcome.DEVIATES} if before else {}
    )

    def kept(result: OrganizationCheckResult) -> OrganizationCheckResult:
        earlier = deviated.get(result.id)
        if before is None or earlier is None or result.outcome is not CheckOutcome.NOT_TESTABLE:
            return result
        if not any(each.why in result.message for each in (NO_ENVELOPE, NO_DRAFT)):
            return result
        since = (
            ""
            if earlier.message.startswith(_EARLIER)
            else f"{_EARLIER} {before.completion_time:%Y-%m-%d %H:%M:%S UTC}: "
        )
        return replace(earlier, message=f"{since}{earlier.message}"[:MAX_CHECK_MESSAGE_LENGTH])

    return replace(found, results=tuple(map(kept, found.results)))


class _NoGuid(ValueError):
    """A parameter that is no GUID."""


def _guid(parameters: Mapping[str, str], name: str) -> EnvelopeId | None:
    text = parameters.get(name)
    if not text:
        return None
    try:
        return envelope_id(text)
    except ValueError:
        message = f"The annotation {REQUEST_ANNOTATION_PREFIX}{name} has to be a GUID."
        raise _NoGuid(message) from None
