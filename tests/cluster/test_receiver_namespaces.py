"""
One receiver as a process for several namespaces, against the real API server, with a Role in each.

Guarantees in every case: 200 means that the event is stored in the namespace that the URL names, and a
namespace that cannot be served holds no other one up.
"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from sandbox.controlplane import rbac
from sandbox.controlplane.control_plane import ControlPlane
from tests.support.pauses import eventually
from tests.support.scenes.receiver_site import TOKEN, Site, a_guid, a_raw_organization, a_site


@pytest.fixture
async def site(plane: ControlPlane, namespace: str, tmp_path: Path) -> AsyncIterator[Site]:
    async with AsyncExitStack() as opened:
        yield await a_site(plane, namespace, tmp_path, opened)


async def add_unit(site: Site, unit: str) -> Site:
    """Add a namespace with the rights of the receiver and an Organization ``acme``."""
    await site.plane.namespace(unit)
    for each in rbac.rights_of_release(site.namespace, "receiver", rbac.RECEIVER):
        await site.plane.objects(unit).apply(each)
    there = Site(site.plane, unit, site.kubeconfig, site.folder, site.session, site.opened)
    await there.create(a_raw_organization())
    await there.publish("acme")
    return there


async def test_namespaces_begin_and_end_under_load_and_one_without_rights_holds_nobody_up(
    site: Site, namespace: str, tmp_path: Path
) -> None:
    unit, path = f"{namespace}-unit", f"/callbacks/{namespace}-unit/acme/{TOKEN}"
    served = tmp_path / "namespaces"
    served.write_text(f"{namespace}\n{unit}\n", encoding="utf-8")
    receiver = await site.receiver(namespaces_file=str(served))
    stored = 0

    async def takes_callbacks_of_its_own() -> None:
        nonlocal stored
        assert await site.status(receiver, a_guid()) == 200
        assert await site.status(receiver, a_guid(), path=f"/callbacks/{namespace}/acme/{TOKEN}") == 200
        stored += 2
        assert len(await site.events()) == stored

    async def answers_for_unit(status: int) -> None:
        async def it_does() -> bool:
            return await site.status(receiver, a_guid(), path=path) == status

        await eventually(it_does, within=40)

    # It does not exist yet: eSAW tries again.
    assert await site.status(receiver, a_guid(), path=path) == 503
    await takes_callbacks_of_its_own()

    there = await add_unit(site, unit)
    await answers_for_unit(200)
    assert len(await there.events()) == 1
    await takes_callbacks_of_its_own()

    await there.kubectl("delete", "rolebinding", "receiver")
    await answers_for_unit(503)
    await takes_callbacks_of_its_own()

    served.write_text(f"{namespace}\n", encoding="utf-8")
    await answers_for_unit(404)
    unknown = await site.status(receiver, a_guid(), path=f"/callbacks/{namespace}/nobody/{TOKEN}")
    assert unknown == 404
    await takes_callbacks_of_its_own()

    async def metrics_without_unit() -> str | None:
        async with site.session.get(f"{receiver.private}/metrics") as answer:
            metrics = await answer.text()
        return metrics if unit not in metrics else None

    labels = f'namespace="{namespace}",organization="acme",outcome="noted"'
    metrics = await eventually(metrics_without_unit)
    assert f"counterfoil_callbacks_total{{{labels}}} {stored}.0" in metrics
    assert await receiver.stop() == 0
    assert TOKEN not in receiver.log.read_text()


async def test_the_counts_of_a_namespace_that_is_removed_are_written(
    site: Site, namespace: str, tmp_path: Path
) -> None:
    unit = f"{namespace}-unit"
    there = await add_unit(site, unit)
    served = tmp_path / "namespaces"
    served.write_text(f"{namespace}\n{unit}\n", encoding="utf-8")
    receiver = await site.receiver(namespaces_file=str(served))
    envelope, path = a_guid(), f"/callbacks/{unit}/acme/{TOKEN}"

    async def is_stored() -> bool:
        return await site.status(receiver, envelope, path=path) == 200

    await eventually(is_stored)
    before = 1
    while before < 5:
        assert await site.status(receiver, envelope, path=path) == 200
        before += 1
    served.write_text(f"{namespace}\n", encoding="utf-8")

    async def all_are_counted() -> bool:
        return (await there.event()).deliveries == before

    await eventually(all_are_counted, within=30)
