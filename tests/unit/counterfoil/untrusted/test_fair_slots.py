"""Slots that owners share: an owner with many requests delays no other owner for long."""

import asyncio

import pytest

from counterfoil.untrusted.fair_slots import FairSlots


async def order_of_turns(count: int, *owners: str) -> list[str]:
    """Return the owners in the order of their slots, if all ask at once in this order."""
    slots, turns = FairSlots(count), list[str]()

    async def work(owner: str) -> None:
        async with slots.slot(owner):
            turns.append(owner)
            await asyncio.sleep(0)

    await asyncio.gather(*map(work, owners))
    return turns


async def test_an_owner_with_a_hundred_requests_delays_another_one_by_a_single_one() -> None:
    turns = await order_of_turns(1, *["hostile"] * 100, "healthy", "healthy")
    assert turns.index("healthy") == 1
    assert turns[:5] == ["hostile", "healthy", "hostile", "healthy", "hostile"]


async def test_a_second_owner_gets_half_of_the_slots() -> None:
    slots, running, peak = FairSlots(2), {"hostile": 0, "healthy": 0}, {"hostile": 0, "healthy": 0}

    async def work(owner: str) -> None:
        async with slots.slot(owner):
            running[owner] += 1
            peak[owner] = max(peak[owner], running[owner])
            for _ in range(3):
                await asyncio.sleep(0)
            running[owner] -= 1

    await asyncio.gather(*(work("hostile") for _ in range(20)), *(work("healthy") for _ in range(20)))
    assert peak == {"hostile": 2, "healthy": 2}
    assert running == {"hostile": 0, "healthy": 0}


async def test_the_requests_of_one_owner_keep_their_order_and_use_every_slot() -> None:
    assert await order_of_turns(3, *["acme"] * 9) == ["acme"] * 9


@pytest.mark.parametrize("granted", [False, True], ids=["while it waits", "when it is its turn"])
async def test_a_request_that_is_cancelled_leaves_its_slot_to_the_next(granted: bool) -> None:
    slots = FairSlots(1)
    async with asyncio.timeout(10):
        async with slots.slot("acme"):
            waiting = asyncio.create_task(_hold(slots))
            await asyncio.sleep(0)
            if not granted:
                waiting.cancel()
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        async with slots.slot("beta"):
            pass
        async with slots.slot("acme"):
            pass


async def _hold(slots: FairSlots) -> None:
    async with slots.slot("acme"):
        await asyncio.sleep(0)
