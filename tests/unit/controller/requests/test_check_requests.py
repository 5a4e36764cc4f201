"""The request ``check``: its parameters are GUIDs, and its result becomes ``status.check``."""

import pytest
from msgspec.structs import replace

from controller.requests.check_requests import CheckRequests
from counterfoil.resources import OrganizationStatus, Request, RequestOutcome
from counterfoil.resources.organization import CheckOutcome
from sandbox.esaw import StandIn
from tests.support.builders import an_organization
from tests.support.scenes.esaw_checker import EsawCheckerScene


async def test_a_check_becomes_the_status_and_a_sentence_of_counts() -> None:
    async with StandIn(seed=7) as standin:
        scene = EsawCheckerScene(standin)
        user = scene.sender("anna")
        envelope = standin.add_envelope(sender=user)
        asked = Request("check", by="jane", parameters={"envelope": envelope.upper(), "draft": ""})
        async with scene.checker() as checker:
            result = await CheckRequests(checker).check(an_organization(baseURL=standin.url), asked)
    assert result.outcome is RequestOutcome.DONE
    check = result.change(OrganizationStatus(version="1")).check
    assert {each.id: each.found for each in check.results}["envelope-status"] == "Completed"
    counts = f"{len(check.results) - 5} as expected, 1 deviate, 4 not testable"
    assert counts in result.message
    assert result.change(OrganizationStatus(version="1")).version == "1"


async def test_what_deviated_with_an_envelope_stays_until_another_check_is_given_one() -> None:
    async with StandIn(seed=7) as standin:
        scene = EsawCheckerScene(standin)
        user = scene.sender("anna")
        envelope = standin.add_envelope(sender=user)
        acme = an_organization(baseURL=standin.url)
        async with scene.checker() as checker:
            check = CheckRequests(checker).check
            with_one = await check(acme, Request("check", parameters={"envelope": envelope}))
            found = with_one.change(OrganizationStatus()).check
            lines = tuple(
                replace(each, outcome=CheckOutcome.DEVIATES, message="No audit trail.")
                if each.id == "envelope-audit-trail"
                else each
                for each in found.results
            )
            status = OrganizationStatus(check=replace(found, results=lines))
            for _ in range(2):
                without = await check(replace(acme, status=status), Request("check"))
                status = without.change(status)
                assert status.check is not None
            again = await check(
                replace(acme, status=status), Request("check", parameters={"envelope": envelope})
            )
    assert status.check is not None
    (kept,) = (each for each in status.check.results if each.id == "envelope-audit-trail")
    assert kept.outcome is CheckOutcome.DEVIATES
    at = f"{found.completion_time:%Y-%m-%d %H:%M:%S UTC}"
    assert kept.message == f"Found by the check of {at}: No audit trail."
    deviating = [each for each in status.check.results if each.outcome is CheckOutcome.DEVIATES]
    assert f" {len(deviating)} deviate" in without.message
    (asked,) = (each for each in again.change(status).check.results if each.id == "envelope-audit-trail")
    assert asked == next(each for each in found.results if each.id == "envelope-audit-trail")


@pytest.mark.parametrize("text", ["../../draft/send", "1", "x" * 5000])
@pytest.mark.parametrize("name", ["envelope", "draft"])
async def test_a_parameter_that_is_no_guid_is_refused_before_anything_is_asked(name: str, text: str) -> None:
    async with StandIn(seed=7) as standin:
        scene = EsawCheckerScene(standin)
        scene.sender("anna")
        async with scene.checker() as checker:
            result = await CheckRequests(checker).check(
                an_organization(baseURL=standin.url), Request("check", parameters={name: text})
            )
        assert standin.requests() == []
    assert result.outcome is RequestOutcome.REFUSED
    assert result.message == f"The annotation counterfoil.dev/request-{name} has to be a GUID."
