"""The report of bench (f)."""

from verification.bench.shards import ShardRound, ShardsResult, TakeOver, report


def a_round(rate: float) -> ShardRound:
    return ShardRound(
        rate=rate,
        controllers_cpu=0.2,
        cluster_cpu=0.1,
        machine_cpu=0.5,
        counts=[8],
        esaw_requests={"files": 72},
    )


def test_the_throughput_is_judged_against_that_of_one_controller() -> None:
    rounds = {1: [a_round(2.0)], 2: [a_round(3.8)], 4: [a_round(5.0)]}
    text = report(ShardsResult(rounds, []))
    assert "| 2 | 1.90 (1.90 to 1.90) | 0.95 |" in text
    assert text.count(">= 0.8 | met") == 1
    assert text.count(">= 0.8 | MISSED") == 1


def test_the_take_over_is_judged_against_the_duration_of_the_lease() -> None:
    slow = TakeOver(lease_duration=15.0, to_lease=16.0, to_first=45.0, to_first_success=46.0)
    text = report(ShardsResult({1: [a_round(2.0)]}, [slow]))
    assert "3.00 (3.00 to 3.00) times the duration of the Lease; target <= 2: MISSED" in text
