"""``kubectl counterfoil check``: its lines, and its end without a controller."""

import argparse
import io
from datetime import UTC, datetime
from typing import Any

import pytest

from counterfoil.cli.plugin import check
from counterfoil.cli.plugin.exit_status import CommandError, ExitStatus
from counterfoil.resources import REQUEST_LABEL, Organization
from counterfoil.resources.organization import CheckOutcome, OrganizationCheck, OrganizationCheckResult
from tests.support.builders import NOON, an_organization
from tests.support.fakes.kube import InMemoryKubeClient
from tests.support.fakes.leases import a_shard_lease

TOKEN = "q8Zk3vXW1nT5rB7yH2sD9fG4jL6mP0aQcEuIoRtYwVbN1xKd"


def a_check(*lines: OrganizationCheckResult) -> OrganizationCheck:
    return OrganizationCheck(start_time=NOON, completion_time=NOON, version="25.4", results=lines)


def the_arguments(**given: Any) -> argparse.Namespace:
    usual = {"organization": "acme", "envelope": None, "draft": None, "timeout": 0.01, "output": "text"}
    return argparse.Namespace(**{**usual, **given})


def test_each_line_says_outcome_assumption_found_meaning_and_setting() -> None:
    said = check.page(
        a_check(
            OrganizationCheckResult(id="draft", outcome=CheckOutcome.NOT_TESTABLE, message="None was named."),
            OrganizationCheckResult(
                id="base-url",
                outcome=CheckOutcome.DEVIATES,
                found="api-suffix",
                message="It ends with `/Api`.",
                setting="spec.baseURL",
            ),
        )
    )
    assert said.splitlines() == [
        "not testable draft                   None was named.",
        "deviates     base-url                [api-suffix] It ends with `/Api`. Change: spec.baseURL.",
        "",
        "eSignAnyWhere 25.4: 0 as expected, 1 deviates, 1 not testable",
    ]


def test_nothing_in_a_status_controls_the_terminal_or_shows_a_token() -> None:
    line = OrganizationCheckResult(
        id="draft", outcome=CheckOutcome.DEVIATES, message=f"\x1b[2Jtoken {TOKEN}\nok"
    )
    said = check.page(a_check(line))
    assert "\x1b" not in said
    assert TOKEN not in said
    assert len(said.splitlines()) == 3


async def test_a_check_without_a_controller_reports_it_at_once_and_is_still_requested() -> None:
    kube = InMemoryKubeClient(an_organization(), a_shard_lease(0, 1, renewed=NOON))
    with pytest.raises(CommandError, match="no controller works") as ended:
        await check.run(the_arguments(), kube, io.StringIO())
    assert ended.value.exit_status is ExitStatus.NOT_ALL
    assert kube.objects[Organization.PLURAL, "acme"]["metadata"]["labels"] == {REQUEST_LABEL: "check"}


async def test_a_check_that_takes_too_long_says_where_its_result_will_be() -> None:
    kube = InMemoryKubeClient(an_organization(), a_shard_lease(0, 1, renewed=datetime.now(UTC)))
    with pytest.raises(CommandError, match=r"has not answered within 0\.01 s") as ended:
        await check.run(the_arguments(), kube, io.StringIO())
    assert ended.value.exit_status is ExitStatus.NOT_ALL


@pytest.mark.parametrize("name", ["envelope", "draft"])
async def test_an_id_that_is_no_guid_is_asked_for_nothing(name: str) -> None:
    kube = InMemoryKubeClient(an_organization())
    with pytest.raises(CommandError, match="is no GUID") as ended:
        await check.run(the_arguments(**{name: "7/../8"}), kube, io.StringIO())
    assert (ended.value.exit_status, kube.asked) == (ExitStatus.MISUSED, [])
