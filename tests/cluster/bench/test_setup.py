"""The set-up of the benches: nothing but the bench creates events."""

from counterfoil.resources import Organization
from verification.bench.setup import ORGANIZATION, BenchSetup


async def test_the_controller_of_a_bench_does_not_search_for_missed_callbacks(setup: BenchSetup) -> None:
    before = Organization.parse(await setup.kube.get(Organization, ORGANIZATION)).status.sweep
    async with setup.observed_events() as progress:
        controller = await setup.controller("controller")
        names = await setup.create_events(await setup.create_envelopes(1))
        await progress.until_succeeded(len(names))
        await controller.stop()
    after = Organization.parse(await setup.kube.get(Organization, ORGANIZATION)).status.sweep
    assert before is not None
    assert after == before
