"""Slots that owners share: an owner with many requests delays no other owner for long."""

import asyncio
import contextlib
from random import Random

import pytest

from counterfoil.untrusted.background_work import set_background
from counterfoil.untrusted.fair_slots import FairSlots
from tests.support.scenes.waiting_events import turns


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


async def test_the_requests_of_an_owner_for_an_import_come_after_its_others() -> None:
    slots, turns = FairSlots(1), list[str]()

    async def work(name: str, *, for_import: bool, owner: str = "acme") -> None:
        set_background(for_import)
        async with slots.slot(owner):
            turns.append(name)
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as working:
        for number in range(3):
            working.create_task(work(f"import {number}", for_import=True))
        working.create_task(work("callback", for_import=False))
        working.create_task(work("import of another one", for_import=True, owner="beta"))
    assert turns == ["import 0", "import of another one", "callback", "import 1", "import 2"]


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


async def test_a_slot_that_becomes_free_before_the_wait_begins_is_taken() -> None:
    slots = FairSlots(1)
    assert slots.take("acme")
    assert not slots.take("beta")
    slots.release("acme")
    async with asyncio.timeout(5):
        await slots.wait("beta")
    assert not slots.take("acme")
    slots.release("beta")
    assert slots.take("acme")


@pytest.mark.parametrize("granted", [False, True])
async def test_a_request_that_leaves_its_place_gets_no_slot_and_delays_nobody(granted: bool) -> None:
    slots = FairSlots(1)
    assert slots.take("acme")
    with contextlib.suppress(LookupError), slots.place("beta") as turn:
        assert slots.has_waiting
        if granted:
            slots.release("acme")
        assert turn.done() is granted
        raise LookupError
    assert not slots.has_waiting
    if not granted:
        slots.release("acme")
    assert slots.take("third")


def shared(count: int, most: list[int]) -> FairSlots:
    """Slots of which a group may have ``most`` at present."""
    return FairSlots(count, group_of=lambda owner: owner.partition("/")[0], share=lambda _: most[0])


async def test_a_group_with_its_share_leaves_the_rest_to_others() -> None:
    slots, held = shared(4, [3]), list[str]()

    async def wait(owner: str) -> None:
        await slots.wait(owner)
        held.append(owner)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(wait(f"sales/{number}")) for number in range(9)]
        await turns()
        assert len(held) == 3
        await wait("legal/1")
        assert not slots.take("legal/2")
        slots.release("legal/1")
        await turns()
        assert held.count("legal/1") == 1, "the free slot is not one for the group that has its share"
        assert len(held) == 4
        assert slots.take("legal/2")
        slots.release(held[0])
        await turns()
        assert len(held) == 5
        for each in tasks:
            each.cancel()


async def test_a_share_that_grows_is_used_from_the_next_request_on() -> None:
    most = [1]
    slots = shared(3, most)
    assert slots.take("sales/1")
    waiting = asyncio.create_task(slots.wait("sales/2"))
    await turns()
    assert not waiting.done()
    most[0] = 3
    async with asyncio.timeout(10):
        await slots.wait("sales/3")
        await waiting


@pytest.mark.parametrize("seed", range(20))
async def test_nobody_waits_while_a_slot_is_free(seed: int) -> None:
    """In each order of requests, returned slots and cancelled requests, also of those who do not wait."""
    random, slots, held, waiting = Random(seed), FairSlots(2), list[str](), list[asyncio.Task[None]]()

    async def wait(owner: str) -> None:
        await slots.wait(owner)
        held.append(owner)

    for _ in range(200):
        owner = random.choice("abc")
        match random.choice(("take", "wait", "release", "cancel")):
            case "take":
                held += [owner] if slots.take(owner) else []
            case "wait":
                waiting.append(asyncio.create_task(wait(owner)))
            case "release" if held:
                slots.release(held.pop(random.randrange(len(held))))
            case "cancel" if waiting:
                random.choice(waiting).cancel()
        if random.random() < 0.5:
            await turns()
            assert len(held) == 2 or not slots.has_waiting
    while slots.has_waiting or held:
        await turns()
        slots.release(held.pop())
        await turns()
    assert slots.take("a")
    assert slots.take("a")
    await asyncio.gather(*waiting, return_exceptions=True)


async def _hold(slots: FairSlots) -> None:
    async with slots.slot("acme"):
        await asyncio.sleep(0)
