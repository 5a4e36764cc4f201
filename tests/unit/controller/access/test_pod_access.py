"""An Archive of one namespace uses no volume and no identity of the pod that are another's."""

import pytest

from controller.access.pod_access import PodAccess
from counterfoil.archives.errors import SettingsInvalid
from counterfoil.resources import Archive
from counterfoil.resources.archive_kinds import SETTINGS
from counterfoil.settings import ControllerSettings, Namespaces, VolumeRoots
from tests.support.scenes.controller_parts import ControllerParts

RELEASE, UNIT = "platform", "unit-a"
WITHOUT = ControllerSettings(namespace=RELEASE)
ROOTS = ControllerSettings(namespace=RELEASE, volume_roots=VolumeRoots.parse("/archive/{namespace}"))
IDENTITY = ControllerSettings(namespace=RELEASE, identity_namespaces=Namespaces.parse("unit-a,unit-c"))


def at(root: str) -> Archive:
    return of_kind("filesystem", root=root)


def of_kind(kind: str, **settings: object) -> Archive:
    body = {"metadata": {"name": "dms"}, "spec": {kind: {**SETTINGS[kind].EXAMPLE, **settings}}}
    return Archive.parse(body)


@pytest.mark.parametrize("settings", [WITHOUT, ROOTS, IDENTITY])
@pytest.mark.parametrize("archive", [at("/archive/unit-b"), of_kind("s3"), of_kind("azblob"), of_kind("gcs")])
def test_in_the_namespace_of_the_release_archives_use_all_that_the_pod_has(
    settings: ControllerSettings, archive: Archive
) -> None:
    PodAccess.of(settings, RELEASE).check(archive)


@pytest.mark.parametrize("settings", [WITHOUT, IDENTITY])
def test_in_another_namespace_no_archive_uses_a_volume_by_default(settings: ControllerSettings) -> None:
    with pytest.raises(SettingsInvalid, match=r"may use no volume .*volumeRoots") as refused:
        PodAccess.of(settings, UNIT).check(at("/archive/unit-a"))
    assert refused.value.reason == "SettingsInvalid"


@pytest.mark.parametrize("root", ["/archive/unit-a", "/archive/unit-a/", "/archive/unit-a/contracts"])
def test_a_namespace_uses_the_folder_of_its_name(root: str) -> None:
    PodAccess.of(ROOTS, UNIT).check(at(root))


def test_the_message_about_another_folder_has_no_command() -> None:
    planted = "/`kubectl label secret database counterfoil.dev/use=archive`"
    with pytest.raises(SettingsInvalid, match="and not") as refused:
        PodAccess.of(ROOTS, UNIT).check(at(planted))
    assert "secret database" in str(refused.value)
    assert "`kubectl" not in str(refused.value)


@pytest.mark.parametrize(
    "root",
    [
        "/archive/unit-b",
        "/archive/unit-b/unit-a",
        "/archive/unit-ab",
        "/archive",
        "/archive/",
        "/other/unit-a",
        "/etc/counterfoil/sealing-keys",
    ],
)
def test_and_no_other_folder(root: str) -> None:
    with pytest.raises(SettingsInvalid, match=r"is /archive/unit-a or a folder below it, and not"):
        PodAccess.of(ROOTS, UNIT).check(at(root))


@pytest.mark.parametrize("kind", ["s3", "azblob", "gcs"])
@pytest.mark.parametrize("settings", [WITHOUT, ROOTS])
def test_in_another_namespace_an_archive_of_a_cloud_needs_a_secret(
    kind: str, settings: ControllerSettings
) -> None:
    access = PodAccess.of(settings, UNIT)
    with pytest.raises(SettingsInvalid, match=r"the identity of the pod .*identityNamespaces"):
        access.check(of_kind(kind))
    access.check(of_kind(kind, credentialsSecretRef={"name": "own"}))


def test_a_listed_namespace_uses_the_identity_and_others_do_not() -> None:
    PodAccess.of(IDENTITY, UNIT).check(of_kind("s3"))
    with pytest.raises(SettingsInvalid):
        PodAccess.of(IDENTITY, "unit-b").check(of_kind("s3"))


def test_every_kind_that_uses_the_identity_of_the_pod_is_known() -> None:
    kinds = {name for name, kind in SETTINGS.items() if kind.USES_POD_IDENTITY}
    assert kinds == {"s3", "azblob", "gcs"}


@pytest.mark.parametrize("kind", ["webdav", "sftp", "cmis", "http"])
def test_other_kinds_use_nothing_of_the_pod(kind: str) -> None:
    PodAccess.of(WITHOUT, UNIT).check(of_kind(kind))


async def test_the_pool_opens_no_archive_that_its_namespace_may_not_use() -> None:
    parts = ControllerParts()
    pool = parts.new_archive_pool()
    pool.pod_access = PodAccess.of(ROOTS, UNIT)
    with pytest.raises(SettingsInvalid, match="/archive/unit-a"):
        await pool.backend(at("/archive/unit-b"))
