"""The check of a stand-in finds the same facts as the check whose report is the stand-in's profile."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from counterfoil.clock import WallClock
from counterfoil.esaw import EsawClient, new_http_client
from counterfoil.esaw_check.facts import profile_of
from counterfoil.esaw_check.probes import Questions, check_esaw
from counterfoil.resources import envelope_id
from counterfoil.resources.organization import OrganizationCheck
from sandbox.esaw import Behaviour, EsawProfile, StandIn, parse_profile
from tests.support.builders import AClock
from tests.support.scenes.esaw_check import a_check_subject
from tests.support.servers.scripted_esaw import RecordingObserver
from tests.support.servers.standin_peers import anna

Facts = Sequence[tuple[str, str, str | None]]
"""Id, outcome and found of each fact of a report."""

BEHAVIOURS = [
    Behaviour(),
    Behaviour(version_needs_token=True),
    Behaviour(whoami_fields=("UserId", "Licence")),
    Behaviour(most_hits=2),
    Behaviour(token_headers=("Authorization",)),
    Behaviour(token_headers=("ApiToken",)),
    Behaviour(null_file_ids=1),
    Behaviour(has_audit_trails=False),
    Behaviour(history_forbidden=True),
    Behaviour(downloads_chunked=True, download_content_type="application/octet-stream"),
    Behaviour(unknown_envelope_error="ERR0010"),
    Behaviour(unknown_envelope_error=None),
]


@pytest.mark.parametrize("behaviour", BEHAVIOURS)
async def test_a_replayed_profile_of_a_check_gives_the_same_facts(behaviour: Behaviour) -> None:
    first = await check(behaviour=behaviour)
    profile = as_profile(first)
    assert facts_of(await check(profile=profile)) == facts_of(first)
    is_default = facts_of(first) == facts_of(await check())
    assert is_default == (behaviour == Behaviour())
    assert profile.warnings == ()


async def test_a_rejected_envelope_without_files_is_replayed_too() -> None:
    first = await check(behaviour=Behaviour(papers_only_when_completed=True), status="Rejected")
    assert facts_of(await check(profile=as_profile(first), status="Rejected")) == facts_of(first)


async def test_the_version_is_replayed() -> None:
    profile = as_profile(await check(version="26.14.0.7"))
    assert (await check(profile=profile)).version == "26.14.0.7"


async def check(
    *,
    behaviour: Behaviour | None = None,
    profile: EsawProfile | None = None,
    version: str | None = None,
    status: str = "Completed",
) -> OrganizationCheck:
    """Check a stand-in with three envelopes, one of them old, and a draft, as the controller does."""
    clock = AClock(datetime.now(UTC) - timedelta(days=20))
    async with (
        StandIn(behaviour=behaviour, profile=profile, version=version, now=clock.now) as esaw,
        new_http_client() as http,
    ):
        user = anna(esaw)
        esaw.add_envelope(sender=user)
        clock.advance(days=20)
        esaw.add_envelope(sender=user)
        subject = replace(
            a_check_subject(esaw, user),
            envelope=envelope_id(esaw.add_envelope(sender=user, status=status, metadata="<tags/>")),
            draft=envelope_id(esaw.add_draft(owner=user)),
        )
        client = EsawClient(esaw.url, http=http, clock=WallClock(), observe=RecordingObserver())
        # An envelope of this moment counts as sent before it.
        now = datetime.now(UTC) + timedelta(seconds=1)
        report = await check_esaw(Questions(client, WallClock()), subject, now)
    return OrganizationCheck(
        start_time=now, completion_time=now, version=report.version, results=report.results
    )


def as_profile(check: OrganizationCheck) -> EsawProfile:
    """Return what the stand-in reads from the output of `kubectl counterfoil check -o json`."""
    return parse_profile(msgspec.json.encode(profile_of(check)))


def facts_of(check: OrganizationCheck) -> Facts:
    return [(each.id, each.outcome, each.found) for each in profile_of(check).facts]
