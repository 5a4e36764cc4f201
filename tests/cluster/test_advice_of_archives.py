"""
The advice about an Archive is followed as it is printed, and the event that waited for the Archive succeeds.

With a real controller, real servers behind proxies that refuse, and kubectl.
"""

import json
import re
import shlex
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from counterfoil.resources import REQUEST_LABEL, Archive, EnvelopeEvent, Phase, find_condition
from sandbox.controlplane.control_plane import ControlPlane
from sandbox.servers.azblob_azurite import ACCOUNT, KEY, azurite
from sandbox.servers.hostile import HostileServer
from sandbox.servers.proxies import Instead, Passage, Proxy, Ticks, TrapPoint
from sandbox.servers.s3_versity import REGION, VersityServer, versity_server
from sandbox.servers.sftp_rclone import sftp_server
from sandbox.servers.webdav_rclone import RcloneWebdavServer, rclone_webdav_server
from tests.support.scenes.controller import ControllerScene, a_controller_scene
from tests.support.servers.cmis_repository import CmisRepositoryServer, Names, cmis_repository
from tests.support.servers.scripted_esaw import server_tls

Fix = Callable[[], Awaitable[object]]


@dataclass
class Broken:
    """An Archive that does not work, what its reason says to do, and the envelope that waits for it."""

    fix: Fix
    envelope: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Archives:
    """A namespace with a controller, and the servers of its Archives."""

    scene: ControllerScene
    dav: RcloneWebdavServer
    s3: VersityServer
    stack: AsyncExitStack
    """The servers and proxies that a test starts; they end with it."""

    async def create(self, name: str, **spec: Any) -> None:
        await self.scene.local_environment.archive(name, **spec)

    async def change(self, name: str, **spec: Any) -> None:
        """Change an Archive, as a person does."""
        patch = json.dumps({"spec": spec})
        await self.scene.local_environment.kubectl("patch", "archive", name, "--type=merge", "-p", patch)

    async def proxy(self, upstream: str) -> Proxy:
        return await self.stack.enter_async_context(Proxy(upstream, ticks=Ticks()))

    async def webdav(self, name: str, url: str) -> None:
        """Create an Archive of a folder of the WebDAV server, which is reached at a URL."""
        await self.dav.ask("MKCOL", name)
        login = {"username": self.dav.username, "password": self.dav.password}
        await self.scene.local_environment.secret(name, "archive", **login)
        await self.create(name, webdav={"url": url, "credentialsSecretRef": {"name": name}})

    async def bucket(self, name: str, url: str = "", **settings: Any) -> None:
        """Create an Archive of the S3 server."""
        keys = {"accessKeyId": self.s3.access_key, "secretAccessKey": self.s3.secret_key}
        await self.scene.local_environment.secret(name, "archive", **keys)
        defaults = {"bucket": name, "region": REGION, "endpoint": url or self.s3.url, "forcePathStyle": True}
        reference = {"credentialsSecretRef": {"name": name}}
        found = {**defaults, **reference, **settings}
        await self.create(name, s3={key: value for key, value in found.items() if value is not None})

    async def folder(self, name: str, **spec: Any) -> None:
        """Create an Archive of a folder on the disk."""
        (self.scene.archive / name).mkdir()
        await self.create(name, filesystem={"root": str(self.scene.archive / name)}, **spec)

    async def works(self, name: str) -> None:
        await self.scene.until_condition(Archive, name, "Ready", ("True", "Probed"))

    async def type_command(self, name: str) -> None:
        """Type the one command in the message of an Archive's condition ``Ready``."""
        found = Archive.parse(await self.scene.kube.get(Archive, name))
        ready = find_condition(found.status.conditions, "Ready")
        assert ready is not None
        (command,) = re.findall(r"`kubectl (.*?)`", ready.message)
        await self.scene.local_environment.kubectl(*shlex.split(command))

    async def waiting(self, name: str, reason: str, **envelope: Any) -> EnvelopeEvent:
        """Wait until the event of an envelope, which needs the Archive, stops for this reason."""
        user, esaw = self.scene.user(name.capitalize()), self.scene.esaw.url
        # Another test has an Organization with another eSAW: a key must name its own then.
        await self.scene.local_environment.sender(name, user, organization=name, origin=esaw)
        await self.scene.local_environment.organization(name, archive=name, sender=name)
        await self.scene.has_swept(name)
        event = await self.scene.noted(name, user, **envelope)
        return await self.scene.is_so(event, lambda each: each.status.reason == reason)


@pytest.fixture(scope="module")
async def running_archives(
    plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Archives]:
    async with (
        a_controller_scene(plane, tmp_path_factory.mktemp("advice")) as scene,
        rclone_webdav_server() as dav,
        versity_server() as s3,
    ):
        yield Archives(scene, dav, s3, AsyncExitStack())


@pytest.fixture
async def archives(running_archives: Archives) -> AsyncIterator[Archives]:
    async with AsyncExitStack() as running_archives.stack:
        yield running_archives


# -- What a person must do is outside the cluster ------------------------------------------------------------


def answers(status: int, body: bytes = b"", **headers: str) -> Callable[[], Awaitable[None]]:
    async def act() -> None:
        raise Instead(status, body, "text/html" if b"<html" in body else "application/xml", headers)

    return act


def store_says(status: int, code: str) -> Callable[[], Awaitable[None]]:
    return answers(status, f"<Error><Code>{code}</Code></Error>".encode())


AT_WEBDAV: dict[str, tuple[str, Callable[[], Awaitable[None]]]] = {
    # rclone shows the root, so the refusal is its own.
    "ArchivePermissionDenied": ("PUT", answers(403)),
    "ArchiveRefused": ("PUT", answers(418)),
    "ArchiveLocked": ("PUT", answers(423)),
    "ArchiveOverloaded": ("PUT", answers(429)),
    "ArchiveFailing": ("PUT", answers(500)),
    "ArchiveFull": ("PUT", answers(507)),
    "ArchiveChanged": ("PUT", answers(409)),
    "FileTooBig": ("PUT", answers(413)),
    "ArchiveAnswerUnreadable": ("PROPFIND", answers(207, b"<html>Please sign in</html>")),
}
"""The method that a server refuses, and its answer."""

AT_S3 = {"ClockWrong": store_says(403, "RequestTimeTooSkewed")}


@pytest.mark.parametrize("reason", [*AT_WEBDAV, *AT_S3])
async def test_an_archive_whose_server_refuses_is_waited_for_until_the_server_is_right(
    archives: Archives, reason: str
) -> None:
    name = reason.lower()
    if reason in AT_S3:
        proxy, (method, answer) = await archives.proxy(archives.s3.url), ("PUT", AT_S3[reason])
        await archives.s3.make_bucket(name)
        await archives.bucket(name, proxy.url)
    else:
        proxy, (method, answer) = await archives.proxy(archives.dav.url), AT_WEBDAV[reason]
        await archives.webdav(name, f"{proxy.url}/{name}")
    await archives.works(name)
    proxy.trap(lambda passage: passage.method == method, TrapPoint.ARRIVED, answer, times=None)
    event = await archives.waiting(name, reason)

    proxy.clear()

    await archives.scene.reaches(event.name, Phase.SUCCEEDED)


@pytest.mark.parametrize("status", [404, 403, 200])
@pytest.mark.parametrize("kind", ["s3", "webdav"])
async def test_an_archive_behind_a_proxy_that_answers_pages_is_waited_for_and_its_marker_is_not_forgotten(
    archives: Archives, kind: str, status: int
) -> None:
    name = f"pages-{kind}-{status}"
    proxy = await archives.proxy(archives.s3.url if kind == "s3" else archives.dav.url)
    if kind == "s3":
        await archives.s3.make_bucket(name)
        await archives.bucket(name, proxy.url)
    else:
        await archives.webdav(name, f"{proxy.url}/{name}")
    await archives.works(name)
    page = answers(status, b"<html>default backend</html>")
    proxy.trap(lambda passage: True, TrapPoint.ARRIVED, page, times=None)
    event = await archives.waiting(name, "ArchiveAnswerUnreadable")
    await archives.scene.until_condition(Archive, name, "Ready", ("False", "ArchiveAnswerUnreadable"))
    broken = Archive.parse(await archives.scene.kube.get(Archive, name))
    ready = find_condition(broken.status.conditions, "Ready")
    assert ready is not None
    assert "proxy" in ready.message
    assert "kubectl" not in ready.message
    assert not archives.scene.esaw.delete_calls(event.spec.envelope_id)

    proxy.clear()

    await archives.scene.reaches(event.name, Phase.SUCCEEDED)
    working = Archive.parse(await archives.scene.kube.get(Archive, name))
    assert working.status.root == broken.status.root


async def test_an_archive_whose_server_is_down_is_waited_for_until_it_runs(archives: Archives) -> None:
    async with rclone_webdav_server() as dav:
        fragile = Archives(archives.scene, dav, archives.s3, archives.stack)
        await fragile.webdav("down", f"{dav.url}/down")
        await fragile.works("down")
        await dav.rclone.stop()
        event = await fragile.waiting("down", "ArchiveUnreachable")
        await dav.rclone.start()
        await archives.scene.reaches(event.name, Phase.SUCCEEDED)


async def test_an_archive_that_is_read_only_is_waited_for_until_it_is_writable(archives: Archives) -> None:
    server = await archives.stack.enter_async_context(azurite())
    await server.make_container("readonly")
    proxy = await archives.proxy(f"http://127.0.0.1:{server.port}")
    await archives.scene.local_environment.secret("readonly", "archive", accountName=ACCOUNT, accountKey=KEY)
    at = {"container": "readonly", "endpoint": f"{proxy.url}/{ACCOUNT}"}
    await archives.create("readonly", azblob={**at, "credentialsSecretRef": {"name": "readonly"}})
    await archives.works("readonly")
    kept = store_says(409, "BlobImmutableDueToPolicy")
    proxy.trap(lambda passage: passage.method == "PUT", TrapPoint.ARRIVED, kept, times=None)
    event = await archives.waiting("readonly", "ArchiveReadOnly")

    proxy.clear()

    await archives.scene.reaches(event.name, Phase.SUCCEEDED)


def corrupted(passage: Passage) -> bool:
    if passage.method == "GET" and passage.path.endswith(".pdf"):
        passage.corrupts_answer = True
    return False


async def test_an_archive_that_returns_other_content_is_waited_for_until_nothing_changes_files(
    archives: Archives,
) -> None:
    proxy = await archives.proxy(archives.dav.url)
    await archives.webdav("storedwrong", f"{proxy.url}/storedwrong")
    await archives.works("storedwrong")
    proxy.trap(corrupted, TrapPoint.ARRIVED, answers(500), times=None)
    event = await archives.waiting("storedwrong", "StoredWrong")
    assert not archives.scene.esaw.delete_calls(event.spec.envelope_id)

    proxy.clear()

    await archives.scene.reaches(event.name, Phase.SUCCEEDED)


async def test_an_archive_that_lists_files_twice_is_waited_for_until_the_second_ones_are_removed(
    archives: Archives,
) -> None:
    proxy = await archives.proxy(archives.dav.url)
    await archives.webdav("twice", f"{proxy.url}/twice")
    await archives.works("twice")
    HostileServer(proxy).doubles_names(lambda passage: passage.method == "PROPFIND")
    event = await archives.waiting("twice", "ListingDiffers")

    proxy.clear()

    await archives.scene.reaches(event.name, Phase.SUCCEEDED)


# -- What a person must do is typed --------------------------------------------------------------------------


async def another_bucket(archives: Archives, name: str) -> Broken:
    await archives.s3.make_bucket(f"{name}-corrected")
    await archives.bucket(name)
    return Broken(lambda: archives.change(name, s3={"bucket": f"{name}-corrected"}))


async def another_region(archives: Archives, name: str) -> Broken:
    await archives.s3.make_bucket(name)
    await archives.bucket(name, region="us-west-2")
    return Broken(lambda: archives.change(name, s3={"region": REGION}))


async def without_credentials(archives: Archives, name: str) -> Broken:
    await archives.s3.make_bucket(name)
    # The identity of a pod is sent to Amazon only, and the server with the credentials is not there.
    amazon = f"https://s3.{REGION}.amazonaws.com"
    await archives.bucket(name, amazon, credentialsSecretRef=None)
    named = {"credentialsSecretRef": {"name": name}, "endpoint": archives.s3.url}
    return Broken(lambda: archives.change(name, s3=named))


async def without_object_lock(archives: Archives, name: str) -> Broken:
    await archives.s3.make_bucket(name)
    await archives.bucket(name, objectLock={"mode": "Governance", "retainDays": 30})
    return Broken(lambda: archives.change(name, s3={"objectLock": None}))


async def another_host_key(archives: Archives, name: str) -> Broken:
    server = await archives.stack.enter_async_context(sftp_server())
    login = {"username": server.username, "password": server.password}
    await archives.scene.local_environment.secret(name, "archive", **login)
    keys = [f"SHA256:{'A' * 43}"]
    at = {"host": "127.0.0.1", "port": server.port, "root": "/", "credentialsSecretRef": {"name": name}}
    await archives.create(name, sftp={**at, "hostKeys": keys})
    return Broken(lambda: archives.change(name, sftp={"hostKeys": [*keys, server.host_key]}))


async def no_webdav(archives: Archives, name: str) -> Broken:
    proxy = await archives.proxy(archives.dav.url)
    page = answers(200, b"<html>Welcome</html>")
    proxy.trap(lambda passage: passage.path.startswith("/portal"), TrapPoint.ARRIVED, page, times=None)
    await archives.webdav(name, f"{proxy.url}/portal")
    return Broken(lambda: archives.change(name, webdav={"url": f"{proxy.url}/{name}"}))


async def no_cmis(archives: Archives, name: str) -> Broken:
    server: CmisRepositoryServer = await archives.stack.enter_async_context(cmis_repository(Names.UNIQUE))
    proxy = await archives.proxy(server.url)
    server.url = proxy.url
    page = answers(200, b"<html>Welcome</html>")
    proxy.trap(lambda passage: passage.path.startswith("/portal"), TrapPoint.ARRIVED, page, times=None)
    await archives.scene.local_environment.secret(name, "archive", username="jane", password="p")
    reference = {"credentialsSecretRef": {"name": name}}
    await archives.create(name, cmis={"url": f"{proxy.url}/portal", "repositoryID": "A1", **reference})
    return Broken(lambda: archives.change(name, cmis={"url": proxy.url}))


async def forbidden_address(archives: Archives, name: str) -> Broken:
    await archives.webdav(name, "https://169.254.169.254/dav")
    return Broken(lambda: archives.change(name, webdav={"url": f"{archives.dav.url}/{name}"}))


async def no_archive(archives: Archives, name: str) -> Broken:
    return Broken(lambda: archives.folder(name))


async def long_path(archives: Archives, name: str) -> Broken:
    proxy = await archives.proxy(archives.dav.url)
    await archives.webdav(name, f"{proxy.url}/{name}")
    await archives.change(name, path="{{envelope.id}}/" + "long" * 20 + "/{{file.name}}")
    proxy.trap(lambda passage: "longlong" in passage.path, TrapPoint.ARRIVED, answers(414), times=None)
    return Broken(lambda: archives.change(name, path="{{envelope.id}}/{{file.name}}"))


async def no_metadata(archives: Archives, name: str) -> Broken:
    await archives.folder(name, tags={"no": {"xpath": "/contract/@no", "required": True}})
    return Broken(lambda: archives.change(name, tags=None), {"metadata": "no XML, and no JSON"})


async def heavy_metadata(archives: Archives, name: str) -> Broken:
    rule = f"concat({','.join(['/r/@a'] * 160)})"
    await archives.folder(name, tags={"no": {"xpath": rule, "required": True}})
    simple = {"no": {"xpath": "string-length(/r/@a)", "required": True}}
    return Broken(lambda: archives.change(name, tags=simple), {"metadata": f"<r a='{'x' * 1_000_000}'/>"})


async def a_link(archives: Archives, name: str) -> Broken:
    await archives.folder(name)
    link, elsewhere = archives.scene.archive / name / name, archives.scene.archive / "elsewhere"
    elsewhere.mkdir()
    link.symlink_to(elsewhere)

    async def fix() -> None:
        link.unlink()
        link.mkdir()

    return Broken(fix)


TYPED: dict[str, Callable[[Archives, str], Awaitable[Broken]]] = {
    "ArchiveBucketMissing": another_bucket,
    "ArchiveRegionWrong": another_region,
    "ArchiveNoIdentity": without_credentials,
    "ArchiveLacksFeature": without_object_lock,
    "ArchiveHostKeyUnknown": another_host_key,
    "ArchiveNotWebDav": no_webdav,
    "ArchiveNotCmis": no_cmis,
    "ArchiveAddressForbidden": forbidden_address,
    "ArchiveMissing": no_archive,
    "PathTooLong": long_path,
    "MetadataUnreadable": no_metadata,
    "MetadataTooHeavy": heavy_metadata,
    "SymbolicLink": a_link,
}


@pytest.mark.parametrize("reason", TYPED)
async def test_an_archive_is_corrected_as_its_reason_says_and_what_waited_for_it_continues(
    archives: Archives, reason: str
) -> None:
    name = reason.lower()
    broken = await TYPED[reason](archives, name)
    event = await archives.waiting(name, reason, **broken.envelope)

    await broken.fix()

    await archives.scene.reaches(event.name, Phase.SUCCEEDED)


async def test_a_new_address_is_put_into_the_archive_and_confirmed_by_the_command_in_the_message(
    archives: Archives,
) -> None:
    proxy = await archives.proxy(archives.dav.url)
    await archives.webdav("redirects", f"{proxy.url}/redirects")
    await archives.works("redirects")
    HostileServer(proxy).redirects(lambda passage: True, f"{archives.dav.url}/redirects")
    event = await archives.waiting("redirects", "ArchiveRedirects")

    await archives.change("redirects", webdav={"url": f"{archives.dav.url}/redirects"})
    await archives.scene.until_condition(Archive, "redirects", "Ready", ("False", "OriginChanged"))
    await archives.type_command("redirects")

    await archives.scene.reaches(event.name, Phase.SUCCEEDED)


async def test_a_file_that_nobody_filed_is_moved_and_the_event_retried(archives: Archives) -> None:
    await archives.folder("occupied")
    user = await archives.scene.organization("occupied", archiveRef={"name": "occupied"})
    envelope = archives.scene.envelope(user)
    folder = archives.scene.archive / "occupied" / "occupied" / envelope
    (folder / "Document").mkdir(parents=True)
    (folder / "Document" / "contract.pdf").write_bytes(b"an earlier state")
    event = await archives.scene.note(envelope, "occupied")
    await archives.scene.reaches(event, Phase.FAILED, "NameOccupied")

    folder.rename(folder.with_name("moved"))
    await archives.scene.local_environment.kubectl("label", "ee", event, f"{REQUEST_LABEL}=retry")

    await archives.scene.reaches(event, Phase.SUCCEEDED)


async def test_the_folders_of_two_esaws_are_set_apart_and_the_younger_organization_continues(
    archives: Archives,
) -> None:
    path = "{{envelope.id}}/{{file.name}}"
    await archives.folder("shared", path=path)
    scene = archives.scene
    elder = await scene.organization("elder", archiveRef={"name": "shared"})
    await scene.reaches(await scene.noted("elder", elder), Phase.SUCCEEDED)
    other = scene.esaw.url.replace("127.0.0.1", "localhost")
    younger = scene.user("Younger")
    await scene.local_environment.sender("younger", younger, organization="younger", origin=other)
    await scene.local_environment.organization("younger", archive="shared", sender="younger", baseURL=other)
    event = await scene.noted("younger", younger)
    await scene.is_so(event, lambda each: each.status.reason == "ArchiveShared")

    await archives.change("shared", path="{{organization}}/" + path)

    await scene.reaches(event, Phase.SUCCEEDED)


async def test_the_authority_of_an_archive_is_trusted_and_what_waited_is_archived(
    plane: ControlPlane, archives: Archives, tmp_path: Path
) -> None:
    server_tls(tmp_path)
    pem, scene = tmp_path / "server.pem", archives.scene
    server = await archives.stack.enter_async_context(rclone_webdav_server(f"--cert={pem}", f"--key={pem}"))
    login = {"username": server.username, "password": server.password}
    await scene.local_environment.secret("distrusted", "archive", **login)
    at = {"url": server.url.replace("http", "https"), "credentialsSecretRef": {"name": "distrusted"}}
    await archives.create("distrusted", webdav=at)
    event = await archives.waiting("distrusted", "ArchiveTlsFailed")
    trusted = tmp_path / "trusted.pem"
    trusted.write_bytes(plane.authority.read_bytes() + pem.read_bytes())

    await scene.controller.stop()
    scene.controller.environment["SSL_CERT_FILE"] = str(trusted)
    await scene.controller.start()

    await scene.reaches(event.name, Phase.SUCCEEDED)


async def confirmed(archives: Archives, root: Path) -> None:
    """Let a person confirm the new, empty root by the command in the message."""
    await archives.type_command(root.name)


async def mounted(archives: Archives, root: Path) -> None:
    mount(root)


def mount(root: Path) -> None:
    root.rmdir()
    root.with_name(f"{root.name}-volume").rename(root)


@pytest.mark.parametrize("advice", [confirmed, mounted])
async def test_an_empty_folder_in_the_place_of_the_root_is_confirmed_or_replaced_by_the_volume(
    archives: Archives, advice: Callable[[Archives, Path], Awaitable[None]]
) -> None:
    name = f"root-{advice.__name__}"
    await archives.folder(name)
    await archives.works(name)
    root = archives.scene.archive / name
    root.rename(root.with_name(f"{name}-volume"))
    root.mkdir()
    event = await archives.waiting(name, "ArchiveRootChanged")
    await archives.scene.until_condition(Archive, name, "Ready", ("False", "ArchiveRootChanged"))
    assert list(root.iterdir()) == []

    await advice(archives, root)

    await archives.scene.reaches(event.name, Phase.SUCCEEDED)
    assert [*root.rglob("counterfoil.json")]
