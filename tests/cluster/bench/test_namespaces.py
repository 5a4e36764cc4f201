"""A tiny bench (n): each process serves each namespace, and the backlog of one waits on. No times."""

from verification.bench.namespaces import Sizes, measure, report
from verification.bench.setup import BenchSetup

NAMESPACES = 3
WAITING = 40
WATCHES = 7 + 1
"""Of controller and receiver in each namespace; pages and console have none."""


async def test_each_namespace_costs_its_watches_and_a_backlog_stops_no_other_one(
    setup: BenchSetup, concurrency: int
) -> None:
    sizes = Sizes(
        namespaces=NAMESPACES,
        organizations=2,
        rest=0.1,
        turns=1,
        waiting=WAITING,
        count=8,
        rounds=1,
        at_once=concurrency,
        delay=0.2,
    )
    result = await measure(setup, sizes)
    watches = {number: each.watches for number, (each,) in result.idle.items()}
    assert watches == {number: number * WATCHES for number in (1, NAMESPACES)}
    assert result.alone[0].other_rate == 0
    assert result.beside[0].other_rate > 0
    assert result.waiting >= WAITING
    assert "idle namespaces" in report(result)
