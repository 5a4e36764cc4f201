"""The work of one event at a tiny size: the profile has each part, and the requests are those of an event."""

from verification.bench.controller_calls import PARTS, measure, table
from verification.bench.setup import BenchSetup


async def test_the_profile_has_each_part_and_nine_requests_to_esaw_for_an_event(setup: BenchSetup) -> None:
    work = await measure(setup, 6, first=2)
    # Of so few events, the log lines of the start may be more than theirs.
    assert [part for part in PARTS if work.calls[part] <= 0 and part != "log lines"] == []
    assert round(work.to_esaw) == 9
    assert f"| all to eSignAnyWhere | {work.to_esaw:.1f} |" in table(work)
