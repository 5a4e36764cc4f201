"""The request ``check`` on an Organization, with an envelope and a draft as its parameters."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from msgspec.structs import replace

from controller.requests.esaw_checker import EsawChecker
from controller.requests.request_table import RequestResult, RequestType
from counterfoil.resources import Organization, OrganizationStatus, envelope_id
from counterfoil.resources.naming import EnvelopeId
from counterfoil.resources.organization import CheckOutcome
from counterfoil.resources.request import REQUEST_ANNOTATION_PREFIX, Request, RequestOutcome


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

        def change(status: OrganizationStatus) -> OrganizationStatus:
            return replace(status, check=found)

        counts = Counter(each.outcome for each in found.results)
        message = (
            f"Assumptions about eSignAnyWhere: {counts[CheckOutcome.AS_EXPECTED]} as expected, "
            f"{counts[CheckOutcome.DEVIATES]} deviate, {counts[CheckOutcome.NOT_TESTABLE]} not testable. "
            "See status.check."
        )
        return RequestResult(RequestOutcome.DONE, message, change)


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
