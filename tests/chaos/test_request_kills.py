"""SIGKILL for the controller while it carries a person's request out: it is carried out, its label goes."""

import pytest

from counterfoil.resources import REQUEST_LABEL, Organization
from sandbox.servers.proxies import Passage, TrapPoint
from tests.support.pauses import eventually
from tests.support.scenes.chaos import Scene, kills


def adds_the_id(each: Passage) -> bool:
    """The request gets its id."""
    return _writes_organization(each, "") and '"labels"' not in each.body.decode()


def answers(each: Passage) -> bool:
    """The result of the request is stored."""
    return _writes_organization(each, "/status") and '"lastRequest"' in each.body.decode()


def removes_the_label(each: Passage) -> bool:
    """The request is taken off."""
    return _writes_organization(each, "") and '"labels"' in each.body.decode()


def _writes_organization(each: Passage, subresource: str) -> bool:
    return each.method == "PATCH" and each.path.endswith(f"/organizations/acme{subresource}")


@pytest.mark.parametrize("point", [TrapPoint.ARRIVED, TrapPoint.DONE])
@pytest.mark.parametrize("where", [adds_the_id, answers, removes_the_label])
async def test_a_controller_killed_at_any_write_of_a_request_carries_it_out_and_takes_it_off(
    scene: Scene, where: object, point: TrapPoint
) -> None:
    controller = await scene.controller()
    trap = scene.api.trap(where, point, kills(controller))  # type: ignore[arg-type]
    await scene.local_environment.kubectl("label", "org", "acme", f"{REQUEST_LABEL}=sweep")
    await eventually(trap.sprung.is_set)
    answered_before = (await organization(scene)).status.last_request
    await controller.start()

    async def is_taken_off() -> bool:
        return REQUEST_LABEL not in (await organization(scene)).metadata.labels

    await eventually(is_taken_off)
    after = await organization(scene)
    assert after.status.sweep is not None
    assert after.status.last_request is not None
    assert after.status.last_request.request == "sweep"
    assert answered_before in (None, after.status.last_request), "what was stored is not done again"
    assert "counterfoil.dev/request-id" not in after.metadata.annotations


async def organization(scene: Scene) -> Organization:
    return Organization.parse(await scene.kube.get(Organization, "acme"))
