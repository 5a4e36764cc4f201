"""A tiny bench (f): each controller finishes the events of its shard, and the other one takes them over. No
times."""

from counterfoil.resources import envelope_id
from counterfoil.resources.naming import shard
from verification.bench.setup import BenchSetup
from verification.bench.shards import ShardsResult, envelopes_by_shard, report, shard_round, take_over

ESAW_REQUESTS = {"envelope": 2, "configuration": 1, "files": 2, "download": 3, "delete": 1}
"""Requests to eSAW for an event of three files, by operation. All other requests are about eSAW or the
sender, and their number depends on how many events need the answer before it is known."""


async def test_each_controller_finishes_the_events_of_its_shard(setup: BenchSetup) -> None:
    await shard_round(setup, 1, 2, 2, turn=-1)
    done = await shard_round(setup, 2, 16, 4)
    assert done.counts == [8, 8]
    of_events = {operation: done.esaw_requests[operation] for operation in ESAW_REQUESTS}
    assert of_events == {operation: 16 * count for operation, count in ESAW_REQUESTS.items()}
    assert "of one" in report(ShardsResult({1: [done]}, []))


async def test_the_events_of_a_killed_controller_are_taken_over_after_its_lease(setup: BenchSetup) -> None:
    found = await take_over(setup, 4, lease_duration="3s", renew_deadline="2s", retry_period="1s")
    assert found.lease_duration == 3.0
    assert 0.0 < found.to_first <= found.to_first_success


async def test_envelopes_are_created_until_each_shard_has_its_number(setup: BenchSetup) -> None:
    groups = await envelopes_by_shard(setup, 3, 4)
    assert [[shard(envelope_id(each)) % 4 for each in group] for group in groups] == [
        [number] * 3 for number in range(4)
    ]
