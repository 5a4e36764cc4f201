"""
Attacks: who may change Organizations, Senders and Archives, but no Secret, leads them to another host.

The host of the attacker must get no API key, no client secret, no archive password and no document. Neither
use labels nor admission policies take part.
"""

import base64
import json
import shlex
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from counterfoil.origin import ORIGIN_ANNOTATION
from counterfoil.resources import (
    REQUEST_LABEL,
    Archive,
    Organization,
    Phase,
    Sender,
    find_condition,
)
from sandbox.controlplane.control_plane import ControlPlane
from sandbox.servers.proxies import Proxy, Ticks
from sandbox.servers.webdav_rclone import RcloneWebdavServer, rclone_webdav_server
from tests.support.pauses import eventually
from tests.support.scenes.chaos import Scene, opened
from tests.support.scenes.pages import Scene as PagesScene
from tests.support.scenes.pages import a_tab, pages_scene
from tests.support.servers.scripted_esaw import ScriptedServer, answering, running

CLIENT_SECRET = "client-secret-that-stays-home"
REFUSED_AS_ESAW = answering({"ErrorId": "ERR0010", "Message": "no"}, 401)
"""The answer of eSAW itself to an unknown key, so that the host looks like eSAW."""


@pytest.fixture
async def hostile() -> AsyncIterator[ScriptedServer]:
    """The host of the attacker."""
    async with running(REFUSED_AS_ESAW) as server:
        yield server


@pytest.fixture
async def scene(plane: ControlPlane, namespace: str, tmp_path: Path) -> AsyncIterator[Scene]:
    """Anna's key works, and an envelope of hers was archived with it."""
    async with opened(plane, namespace, tmp_path) as built:
        await built.controller()
        await built.holds(await built.note(built.envelope(3000)))
        yield built


async def patch(scene: Scene, target: str, **spec: object) -> None:
    """Change a spec, as the attacker does."""
    changes = json.dumps({"spec": spec})
    await scene.local_environment.kubectl("patch", target, "--type=merge", "-p", changes)


async def refuses(
    scene: Scene, kind: type[Organization | Sender | Archive], name: str, condition: str, wanted: str
) -> None:
    """Wait until the condition is False for this reason."""

    async def refused() -> bool:
        status = kind.parse(await scene.kube.get(kind, name)).status
        found = find_condition(status.conditions, condition)
        return found is not None and (found.status, found.reason) == ("False", wanted)

    await eventually(refused)


async def observed(scene: Scene) -> None:
    """Wait until the controller has processed the newest spec of the Organization."""

    async def done() -> bool:
        organization = Organization.parse(await scene.kube.get(Organization, "acme"))
        return organization.status.observed_generation == organization.metadata.generation

    await eventually(done)


def secrets_at(host: ScriptedServer, *values: str) -> list[str]:
    """Return those of the values that the host received, and the headers for a credential."""
    found = []
    for each in host.received:
        sent = f"{each.target} {each.headers} {each.body!r}"
        sent += "".join(
            base64.b64decode(header.partition(" ")[2]).decode("latin-1")
            for header in each.headers.values()
            if header.startswith("Basic ")
        )
        found += [value for value in values if value in sent]
        found += [name for name in ("authorization", "apitoken") if name in each.headers]
    return found


async def test_a_changed_base_url_gets_no_key_and_the_old_one_resumes(
    scene: Scene, hostile: ScriptedServer
) -> None:
    waiting = scene.envelope(3000)
    await patch(scene, "organization/acme", baseURL=hostile.url)
    await scene.local_environment.kubectl("label", "organization", "acme", f"{REQUEST_LABEL}=sweep")
    event = await scene.note(waiting)

    async def waits() -> bool:
        return (await scene.event(event)).status.phase is Phase.AWAITING_CONSENT

    await eventually(waits)
    await refuses(scene, Sender, "anna", "Authorized", "OriginChanged")
    await eventually(lambda: hostile.received)

    assert secrets_at(hostile, scene.anna.token) == []
    assert (await scene.event(event)).status.reason == "OriginChanged"
    message = str((await scene.sender()).status.conditions)
    assert scene.esaw.url in message
    assert hostile.url in message

    await patch(scene, "organization/acme", baseURL=scene.esaw.url)

    await scene.holds(event)
    assert secrets_at(hostile, scene.anna.token) == []


async def test_a_key_that_another_organization_refers_to_is_not_sent_to_its_host(
    scene: Scene, hostile: ScriptedServer
) -> None:
    environment = scene.local_environment
    await environment.organization("mallory", archive="dms", baseURL=hostile.url)
    for name, secret in (("mallory", "anna-key"), ("mallory-2", "anna-key-2")):
        await environment.secret("anna-key-2", "token", token=scene.anna.token)
        await environment.apply(
            {
                "apiVersion": "counterfoil.dev/v1beta1",
                "kind": "Sender",
                "metadata": {"name": name},
                "spec": {
                    "organizationRef": {"name": "mallory"},
                    "userID": scene.anna.user_id,
                    "tokenSecretRef": {"name": secret, "key": "token"},
                },
            }
        )

    await refuses(scene, Sender, "mallory", "Authorized", "OriginUnknown")
    await refuses(scene, Sender, "mallory-2", "Authorized", "OriginUnknown")
    assert secrets_at(hostile, scene.anna.token) == []


async def test_another_key_of_a_moved_organization_is_not_sent(scene: Scene, hostile: ScriptedServer) -> None:
    await scene.local_environment.secret("bruno-key", "token", token="a-key-that-was-never-used-0123456789")
    await patch(scene, "organization/acme", baseURL=hostile.url)
    await patch(scene, "sender/anna", tokenSecretRef={"name": "bruno-key", "key": "token"})

    await refuses(scene, Sender, "anna", "Authorized", "OriginUnknown")
    assert secrets_at(hostile, "a-key-that-was-never-used") == []


async def test_a_check_sends_no_client_secret_to_another_host(scene: Scene, hostile: ScriptedServer) -> None:
    await scene.local_environment.secret("oauth", "oauth", secret=CLIENT_SECRET)
    oauth = {"clientID": "c", "clientSecretRef": {"name": "oauth", "key": "secret"}}
    await patch(scene, "organization/acme", baseURL=hostile.url, oauth=oauth)
    await refuses(scene, Organization, "acme", "Ready", "OriginChanged")
    await scene.local_environment.kubectl("label", "organization", "acme", f"{REQUEST_LABEL}=check")

    async def checked() -> bool:
        status = Organization.parse(await scene.kube.get(Organization, "acme")).status
        return status.check is not None

    await eventually(checked)
    assert hostile.received
    assert secrets_at(hostile, CLIENT_SECRET, scene.anna.token) == []


@pytest.fixture
async def dav(scene: Scene) -> AsyncIterator[RcloneWebdavServer]:
    """A WebDAV server, whose password the Archive has; envelopes of the Organization go there."""
    async with rclone_webdav_server() as server:
        await server.ask("MKCOL", "contracts")
        await scene.local_environment.secret(
            "dav", "archive", username=server.username, password=server.password
        )
        settings = {"url": f"{server.url}/contracts", "credentialsSecretRef": {"name": "dav"}}
        await scene.local_environment.archive("dav", webdav=settings)
        await scene.local_environment.ready("archive/dav")
        await patch(scene, "organization/acme", archiveRef={"name": "dav"})
        await observed(scene)
        yield server


async def test_a_changed_archive_gets_nothing_and_proves_nothing(
    scene: Scene, dav: RcloneWebdavServer, hostile: ScriptedServer
) -> None:
    envelope = scene.envelope(3000)
    await patch(scene, "archive/dav", webdav={"url": f"{hostile.url}/contracts"})
    await refuses(scene, Archive, "dav", "Ready", "OriginChanged")
    event = await scene.note(envelope)

    async def waits() -> bool:
        return (await scene.event(event)).status.reason == "ArchiveNotReady"

    await eventually(waits)
    assert hostile.received == []
    assert scene.standin.exists(envelope)

    await patch(scene, "archive/dav", webdav={"url": f"{dav.url}/contracts"})

    assert (await scene.ended(event)).status.phase is Phase.SUCCEEDED
    assert hostile.received == []


async def test_an_archive_in_another_folder_proves_nothing(scene: Scene, tmp_path: Path) -> None:
    archive = Archive.parse(await scene.kube.get(Archive, "dms"))
    assert archive.spec.filesystem is not None
    (tmp_path / "lost").mkdir()
    envelope = scene.envelope(3000)
    await patch(scene, "archive/dms", filesystem={"root": str(tmp_path / "lost")})
    await refuses(scene, Archive, "dms", "Ready", "OriginChanged")
    event = await scene.note(envelope)

    async def waits() -> bool:
        return (await scene.event(event)).status.reason == "ArchiveNotReady"

    await eventually(waits)
    assert list((tmp_path / "lost").iterdir()) == []
    assert scene.standin.exists(envelope)

    await patch(scene, "archive/dms", filesystem={"root": archive.spec.filesystem.root})

    assert (await scene.ended(event)).status.phase is Phase.SUCCEEDED


async def test_the_password_of_an_archive_is_not_sent_for_another_one(
    scene: Scene, dav: RcloneWebdavServer, hostile: ScriptedServer
) -> None:
    await patch(scene, "archive/dav", webdav={"credentialsSecretRef": None})
    settings = {"url": f"{hostile.url}/contracts", "credentialsSecretRef": {"name": "dav"}}
    await scene.local_environment.archive("mallory", webdav=settings)

    await refuses(scene, Archive, "mallory", "Ready", "OriginChanged")

    assert hostile.received == []


async def test_one_command_of_an_owner_confirms_a_move(scene: Scene, dav: RcloneWebdavServer) -> None:
    async with Proxy(dav.url, ticks=scene.ticks) as moved:
        await patch(scene, "archive/dav", webdav={"url": f"{moved.url}/contracts"})
        await refuses(scene, Archive, "dav", "Ready", "OriginChanged")
        archive = Archive.parse(await scene.kube.get(Archive, "dav"))
        found = find_condition(archive.status.conditions, "Ready")
        assert found is not None
        (typed,) = (each for each in found.message.split("`") if each.startswith("kubectl "))
        command = shlex.split(typed)

        await scene.local_environment.kubectl(*command[1:])

        await scene.local_environment.ready("archive/dav")
        confirmed = Archive.parse(await scene.kube.get(Archive, "dav"))
        assert confirmed.status.destination == moved.url
        assert confirmed.status.secret_origins == {"dav": moved.url}


async def test_a_consented_key_and_the_client_secret_stay_with_their_esaw(
    plane: ControlPlane, namespace: str, tmp_path: Path, hostile: ScriptedServer
) -> None:
    async with pages_scene(plane, namespace, tmp_path) as scene:
        browser = await scene.consented()
        async with a_tab(scene, browser) as tab:
            begun = await tab.back(scene.link(scene.esaw.add_draft(owner=scene.anna)))
            asked = scene.link(scene.esaw.add_draft(owner=scene.anna))
            await scene.organization(baseURL=hostile.url)
            came_back = await tab.get(str(begun))
            led = await tab.get(asked)

        assert (came_back.status_code, led.status_code) == (503, 503)
        assert hostile.received == []
        await consented_key_stays(scene, hostile)


async def consented_key_stays(scene: PagesScene, hostile: ScriptedServer) -> None:
    """A controller that starts now, with the changed address, sends the consented key nowhere."""
    (sender,) = await scene.senders()
    name = sender["metadata"]["name"]
    await scene.local_environment.controller()
    await eventually(lambda: has_reason(scene, name, "OriginChanged"))
    await eventually(lambda: hostile.received)
    assert secrets_at(hostile, scene.anna.token, scene.app.client_secret) == []


async def has_reason(scene: PagesScene, name: str, reason: str) -> bool:
    """Whether the Sender's key has this reason."""
    current = Sender.parse(await scene.local_environment.read("sender", name))
    found = find_condition(current.status.conditions, "Authorized")
    return found is not None and found.reason == reason


async def test_a_consent_at_the_new_address_of_esaw_gives_a_key_for_it(
    plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    async with (
        pages_scene(plane, namespace, tmp_path) as scene,
        Proxy(scene.esaw.url, ticks=Ticks()) as moved,
    ):
        await scene.consented()
        await scene.organization(baseURL=moved.url)
        await scene.local_environment.controller()
        (sender,) = await scene.senders()
        name = sender["metadata"]["name"]
        await eventually(lambda: has_reason(scene, name, "OriginChanged"))
        await scene.local_environment.kubectl(
            "annotate", "secret", "acme-oauth", f"{ORIGIN_ANNOTATION}={moved.url}", "--overwrite"
        )

        browser = await scene.sign_in()
        await browser.open(f"{scene.pages.public}/consent/acme/{name}")

        await eventually(lambda: has_reason(scene, name, "KeyAccepted"))
        current = Sender.parse(await scene.local_environment.read("sender", name))
        assert current.status.key is not None
        assert current.status.key.origin == moved.url
