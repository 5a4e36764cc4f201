"""
Attack: delete an Archive, and with it the record where its Secret was sent, and create it again with another
address.

The API server sets the times of creation, and a test can't wait for an hour. So the objects are in memory
here; the host of the attacker is real.
"""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from msgspec.structs import replace

from counterfoil.origin import ORIGIN_ANNOTATION, origin_of
from counterfoil.resources import Archive, find_condition
from tests.support.builders import NOON
from tests.support.fakes.reconcile_context import an_archive
from tests.support.scenes.controller_parts import ControllerParts
from tests.support.servers.scripted_esaw import ScriptedServer, answering, running

PASSWORD = "password-that-stays-home"


@pytest.fixture
async def hostile() -> AsyncIterator[ScriptedServer]:
    """The host of the attacker."""
    async with running(answering({}, 201)) as server:
        yield server


def created_again(url: str, name: str = "dms") -> Archive:
    """Build an Archive without a status, a day younger than its Secret."""
    settings = {"url": f"{url}/dav", "credentialsSecretRef": {"name": "dms-key"}}
    built = an_archive(filesystem=None, webdav=settings)
    return replace(built, metadata=replace(built.metadata, name=name, creation_timestamp=NOON))


class Namespace(ControllerParts):
    """One Archive that was created again, with the Secret of its predecessor."""

    def __init__(self, archive: Archive, *others: Archive) -> None:
        super().__init__(archive)
        self.kube.put_secret("dms-key", "archive", {"username": b"u", "password": PASSWORD.encode()})
        self.kube.secret_created["dms-key"] = NOON - timedelta(days=1)
        self.archive = archive
        for other in others:
            self.cache.archives.put(other)

    async def probe(self) -> tuple[str, str]:
        """Probe the archive; return reason and message of its condition."""
        after = await self.archive_pool.update_status(Archive.parse(self.kube.objects["archives", "dms"]))
        await self.archive_pool.close()
        assert after is not None
        found = find_condition(after.status.conditions, "Ready")
        assert found is not None
        return found.reason, found.message


async def test_an_archive_that_was_created_again_gets_no_password_at_another_host(
    hostile: ScriptedServer,
) -> None:
    reason, message = await Namespace(created_again(hostile.url)).probe()
    assert reason == "OriginUnknown"
    assert f"kubectl annotate secret dms-key {ORIGIN_ANNOTATION}={origin_of(hostile.url)}" in message
    assert hostile.received == []


async def test_the_record_of_another_archive_is_enough(hostile: ScriptedServer) -> None:
    recorded = created_again(hostile.url, "other")
    status = replace(recorded.status, secret_origins={"dms-key": origin_of(hostile.url)})
    reason, _ = await Namespace(created_again(hostile.url), replace(recorded, status=status)).probe()
    assert reason not in {"OriginUnknown", "OriginChanged"}
    assert hostile.received


async def test_the_annotation_lets_the_secret_be_sent(hostile: ScriptedServer) -> None:
    namespace = Namespace(created_again(hostile.url))
    namespace.kube.secret_annotations["dms-key"] = {ORIGIN_ANNOTATION: hostile.url}
    reason, _ = await namespace.probe()
    assert reason not in {"OriginUnknown", "OriginChanged"}
    assert hostile.received
