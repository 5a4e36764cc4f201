"""S12: use a console's session after its end, with two consoles that share the key of sessions."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from sandbox.controlplane.control_plane import ControlPlane
from tests.support.pauses import eventually
from tests.support.scenes.console import Person, Scene, console_scene


@pytest.fixture
async def scene(plane: ControlPlane, namespace: str, tmp_path: Path) -> AsyncIterator[Scene]:
    async with console_scene(plane, namespace, tmp_path) as built:
        yield built


def copied(person: Person) -> Person:
    """Another browser with a copy of the cookies."""
    return replace(person, cookies=dict(person.cookies), headers=dict(person.headers))


async def is_signed_in(person: Person) -> bool:
    """Whether the console shows a page to this browser, rather than the sign-in page."""
    await person.get("/events")
    assert person.answer.status_code == 200
    return not person.page.xpath("//form[@action='/sign-in']")


async def until_refused(person: Person) -> None:
    """Wait until the console refuses this browser; a timeout ends an attack that succeeds."""

    async def is_refused() -> bool:
        return not await is_signed_in(person)

    await eventually(is_refused)


async def sign_out(person: Person) -> None:
    await person.send(person.page.xpath("//form[@action='/sign-out']")[0])
    assert person.page.xpath("//form[@action='/sign-in']")


async def test_a_copied_cookie_is_refused_by_every_console_after_the_sign_out(scene: Scene) -> None:
    other = await scene.local_environment.console("other-console")
    jane = await scene.signed_in()
    here = copied(jane)
    there = replace(copied(jane), console=other)
    assert await is_signed_in(here)
    assert await is_signed_in(there)

    await sign_out(jane)

    assert not await is_signed_in(here)
    await until_refused(there)


async def test_a_sign_out_also_ends_the_sessions_of_the_same_person_in_other_browsers(scene: Scene) -> None:
    lost, jane, joe = await scene.signed_in(), await scene.signed_in(), await scene.signed_in("view")

    await sign_out(jane)

    assert not await is_signed_in(lost)
    assert await is_signed_in(joe)
    assert await is_signed_in(await scene.signed_in())


async def test_a_restarted_console_still_refuses_a_cookie_of_a_session_that_was_ended(scene: Scene) -> None:
    jane = await scene.signed_in()
    copy = copied(jane)
    await sign_out(jane)

    restarted = await scene.local_environment.console("restarted-console")

    assert not await is_signed_in(replace(copy, console=restarted))
