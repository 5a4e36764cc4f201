"""
One pages process for several namespaces, against the real API server, with a Role in each.

Two namespaces have an Organization of the same name. Who consents in one leaves nothing in the other.
"""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from counterfoil.resources import consented_sender_name
from counterfoil.sealing import SealBroken
from sandbox.controlplane import rbac
from sandbox.controlplane.control_plane import ControlPlane
from tests.support.pauses import eventually
from tests.support.scenes.pages import Scene, pages_scene


@pytest.fixture
async def scenes(plane: ControlPlane, namespace: str, tmp_path: Path) -> AsyncIterator[tuple[Scene, Scene]]:
    """The release's own namespace, and a unit that the same process serves."""
    unit, served = f"{namespace}-unit", tmp_path / "namespaces"
    served.write_text(f"{namespace}\n{unit}\n", encoding="utf-8")
    async with pages_scene(plane, namespace, tmp_path, namespaces_file=str(served)) as own:
        yield own, await a_unit(own, unit)


async def a_unit(own: Scene, name: str) -> Scene:
    """Add a namespace with the rights of the pages and an Organization of the same name and app."""
    plane = own.local_environment.plane
    await plane.namespace(name)
    built = replace(own.local_environment, namespace=name, tokens={}, processes=[])
    await built.apply(*rbac.rights_of_release(own.local_environment.namespace, "pages", rbac.PAGES))
    app = own.esaw.register_app(name="Unit", redirect_uris=[f"{own.pages.public}/oauth/{name}/acme/return"])
    unit = replace(own, local_environment=built, app=app, replicas=[])
    await built.secret("acme-oauth", "oauth", clientSecret=app.client_secret, origin=own.esaw.url)
    await unit.organization()
    return unit


def link_in(unit: Scene, draft: str) -> str:
    """Return the address with the namespace for this draft."""
    return unit.link(draft).replace("/before-send/", f"/before-send/{unit.local_environment.namespace}/")


async def test_a_consent_in_one_namespace_leaves_its_key_there_and_nothing_in_the_other(
    scenes: tuple[Scene, Scene],
) -> None:
    own, unit = scenes
    browser = await own.sign_in()
    draft = own.esaw.add_draft(owner=own.anna, name="Lease of the unit")

    await browser.open(link_in(unit, draft))
    await browser.press("Allow")
    assert browser.page.url == f"{own.esaw.url}/Inbox/Index"
    envelope = own.esaw.envelope_of(draft)
    assert list(await unit.envelopes()) == [envelope]
    assert await own.envelopes() == {}
    assert await own.senders() == []

    # The key of the release opens nothing there.
    (sender,) = await unit.senders()
    name, there = consented_sender_name("acme", own.anna.user_id), unit.local_environment.namespace
    assert sender["status"]["consentURL"] == f"{own.pages.public}/consent/{there}/acme/{name}"
    with pytest.raises(SealBroken):
        await unit.token(sender)
    assert await unit.token(sender, own=own.local_environment.namespace)

    # The same person consents in the other one apart, by the address without a namespace.
    draft = own.esaw.add_draft(owner=own.anna, name="Lease of the release")
    await browser.open(own.link(draft))
    await browser.press("Allow")
    assert list(await own.envelopes()) == [own.esaw.envelope_of(draft)]
    assert list(await unit.envelopes()) == [envelope]
    (sender,) = await own.senders()
    assert await own.token(sender)


async def test_metrics_name_the_namespace_and_a_namespace_without_rights_holds_no_other_up(
    scenes: tuple[Scene, Scene],
) -> None:
    own, unit = scenes
    await unit.local_environment.kubectl("delete", "rolebinding", "pages")
    browser = await own.sign_in()
    draft = own.esaw.add_draft(owner=own.anna)

    async def is_refused() -> bool:
        await browser.open(link_in(unit, draft))
        return browser.page.status == 503

    await eventually(is_refused)
    await browser.open(own.link(draft))
    await browser.press("Allow")
    assert own.esaw.envelope_of(draft)

    lines = (await own.pages.metrics()).splitlines()
    labels = f'code="200",namespace="{own.local_environment.namespace}"'
    assert [each for each in lines if each.startswith(f"counterfoil_esaw_requests_total{{{labels}")]
