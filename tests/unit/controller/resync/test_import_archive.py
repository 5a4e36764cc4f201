"""An Import with its own Archive: what its events say, where its report is, and what holds it."""

from typing import Any

import pytest
from msgspec.structs import replace

from controller.resync.import_runner import FAILURE_SECONDS
from counterfoil.resources import (
    IMPORT_ARCHIVE_LABEL,
    IMPORT_LABEL,
    Archive,
    EnvelopeEvent,
    Import,
    LocalObjectReference,
    OrganizationSpec,
    Phase,
)
from counterfoil.resources.archive_kinds import DISCARDED_SCHEME
from tests.support.builders import ENVELOPE, an_event, an_organization, ready
from tests.support.fakes.archives import MemoryBackend
from tests.support.fakes.reconcile_context import an_archive
from tests.support.scenes.imports import NAME, ImportScene, an_import

VAULT = {"archiveRef": {"name": "vault"}}


class VaultScene(ImportScene):
    """An Import into the Archive ``vault``."""

    def __init__(self, **spec: Any) -> None:
        super().__init__(**{**VAULT, **spec})
        self.vault = MemoryBackend()
        self.others["vault"] = self.vault
        self.cache.archives.put(ready(an_archive("vault")))


class DiscardingBackend(MemoryBackend):
    """An archive that keeps no file."""

    def location(self, name: str) -> str:
        return f"{DISCARDED_SCHEME}{name}"


async def test_an_event_says_the_archive_of_its_import() -> None:
    scene = VaultScene()
    scene.finds("anna", ENVELOPE)
    await scene.advance()
    (event,) = scene.events()
    assert event.metadata.labels[IMPORT_ARCHIVE_LABEL] == "vault"


async def test_an_event_of_an_import_without_an_archive_says_none() -> None:
    scene = ImportScene()
    scene.finds("anna", ENVELOPE)
    await scene.advance()
    (event,) = scene.events()
    assert IMPORT_ARCHIVE_LABEL not in event.metadata.labels


@pytest.mark.parametrize(("spec", "archive"), [(VAULT, "vault"), ({}, None)])
async def test_an_event_that_starts_again_says_the_archive_of_the_last_import(
    spec: dict[str, Any], archive: str | None
) -> None:
    scene = ImportScene(**spec)
    scene.cache.archives.put(ready(an_archive("vault")))
    ended = an_event().in_phase(Phase.SKIPPED, "UnexpectedStatus")
    scene.kube.put(ended.labelled(IMPORT_LABEL, "earlier").labelled(IMPORT_ARCHIVE_LABEL, "old").build())
    scene.finds("anna", ENVELOPE)
    status = await scene.advance()
    (event,) = scene.events()
    assert (status.reopened, event.metadata.labels[IMPORT_LABEL]) == (1, NAME)
    assert event.metadata.labels.get(IMPORT_ARCHIVE_LABEL) == archive


async def test_the_report_is_in_the_archive_of_the_import() -> None:
    scene = VaultScene()
    scene.finds("anna", ENVELOPE)
    status = await scene.complete()
    assert status.report is not None
    assert (bool(scene.vault.files), bool(scene.backend.files)) == (True, False)


HOLDS: list[tuple[Archive | None, str]] = [
    (None, "ImportArchiveMissing"),
    (ready(an_archive("vault", suspend=True)), "ArchiveSuspended"),
    (ready(an_archive("vault"), "False"), "Tested"),
    (an_archive("vault"), "Pending"),
]


@pytest.mark.parametrize(("archive", "reason"), HOLDS)
async def test_an_archive_that_cannot_be_used_holds_the_import_until_it_can(
    archive: Archive | None, reason: str
) -> None:
    scene = VaultScene()
    scene.cache.archives.remove("vault")
    if archive is not None:
        scene.cache.archives.put(archive)
    scene.finds("anna", ENVELOPE)
    await scene.advance()
    assert scene.condition("Ready") == ("False", reason)
    assert scene.events() == []

    scene.cache.archives.put(ready(an_archive("vault", version=2)))
    await scene.advance()
    assert len(scene.events()) == 1


async def test_a_missing_archive_is_named_as_that_of_the_import() -> None:
    scene = VaultScene()
    scene.cache.archives.remove("vault")
    await scene.advance()
    stored = Import.parse(scene.kube.objects[Import.PLURAL, NAME])
    said = [each.message for each in stored.status.conditions if each.type == "Ready"]
    assert said == [
        "Archive/vault of Import/old-stock does not exist. Create it, or delete this Import and create "
        "another one."
    ]


async def test_an_import_whose_events_may_wait_for_a_missing_archive_is_not_said_to_be_replaced() -> None:
    scene = VaultScene()
    scene.finds("anna", ENVELOPE)
    await scene.advance()
    scene.cache.archives.remove("vault")
    await scene.advance()
    assert scene.condition("Ready") == ("False", "ImportArchiveMissing")
    stored = Import.parse(scene.kube.objects[Import.PLURAL, NAME])
    said = [each.message for each in stored.status.conditions if each.type == "Ready"]
    assert said == [
        "Archive/vault of Import/old-stock does not exist. Create it: events of this Import may wait for it."
    ]


async def test_a_missing_archive_that_the_organization_names_too_is_that_of_the_organization() -> None:
    scene = VaultScene(archiveRef={"name": "dms"})
    scene.cache.archives.remove("dms")
    await scene.advance()
    assert scene.condition("Ready") == ("False", "ArchiveMissing")


ONE_FOLDER = "{{envelope.id}}/{{file.name}}"
OF_ANOTHER_ESAW = an_organization(
    "zeta", baseURL="https://other.example.com", archiveRef={"name": "vault"}, version=3
)


@pytest.mark.parametrize("vault", ["vault", "twin"])
async def test_an_import_waits_while_its_archive_has_the_folders_of_an_organization_of_another_esaw(
    vault: str,
) -> None:
    """The other one was there before the Import, also if it is younger than the Organization."""
    scene = VaultScene()
    scene.cache.organizations.put(replace(OF_ANOTHER_ESAW, spec=naming(vault)))
    for name in ("vault", "twin"):
        scene.cache.archives.put(ready(an_archive(name, version=2, path=ONE_FOLDER)))
    scene.finds("anna", ENVELOPE)
    await scene.advance()
    assert (scene.condition("Ready"), scene.condition("Stalled")[0]) == (("False", "ArchiveShared"), "True")
    assert scene.events() == []
    message = scene.message("Ready")
    assert "Organization/zeta, which is of another eSignAnyWhere" in message
    assert ("Archive/twin" in message) is (vault == "twin")

    for name in ("vault", "twin"):
        path = f"{{{{organization}}}}/{ONE_FOLDER}"
        scene.cache.archives.put(ready(an_archive(name, version=3, path=path)))
    await scene.advance()
    assert len(scene.events()) == 1


def naming(archive: str) -> OrganizationSpec:
    return replace(OF_ANOTHER_ESAW.spec, archive_ref=LocalObjectReference(name=archive))


async def test_an_import_into_the_archive_of_its_older_organization_does_not_wait() -> None:
    """The younger one of another eSAW waits."""
    scene = VaultScene()
    scene.cache.archives.put(ready(an_archive("vault", version=2, path=ONE_FOLDER)))
    older = an_organization(archiveRef={"name": "vault"}, version=2)
    scene.cache.organizations.put(older)
    scene.cache.organizations.put(OF_ANOTHER_ESAW)
    scene.finds("anna", ENVELOPE)
    await scene.advance()
    assert len(scene.events()) == 1


async def test_an_import_waits_while_its_organization_waits_for_an_older_one_of_another_esaw() -> None:
    """Its events would wait for the same."""
    scene = ImportScene()
    scene.cache.archives.put(ready(an_archive(version=2, path=ONE_FOLDER)))
    scene.cache.organizations.put(an_organization("a-globex", baseURL="https://other.example.com"))
    scene.finds("anna", ENVELOPE)
    await scene.advance()
    assert (scene.condition("Ready"), scene.events()) == (("False", "ArchiveShared"), [])


async def test_an_organization_without_an_archive_holds_the_import_too() -> None:
    """Its events would wait for the Archive of the Organization. No mail is about one without a name."""
    scene = VaultScene()
    scene.cache.organizations.put(an_organization(version=2, generation=2, archiveRef=None))
    scene.finds("anna", ENVELOPE)
    await scene.advance()
    assert (scene.condition("Ready"), scene.events()) == (("False", "ImportNotArchived"), [])


async def test_the_archive_of_the_organization_holds_the_import_too() -> None:
    """An envelope may be there already."""
    scene = VaultScene()
    scene.cache.archives.put(ready(an_archive(version=2), "False"))
    scene.finds("anna", ENVELOPE)
    await scene.advance()
    assert (scene.condition("Ready")[0], scene.events()) == ("False", [])


async def test_the_archive_of_another_import_holds_an_import_while_both_exist() -> None:
    scene = ImportScene()
    scene.cache.archives.put(ready(an_archive("vault"), "False"))
    scene.finds("anna", ENVELOPE)
    other = an_import(uid="other", **VAULT)
    scene.cache.imports = {"other": other}
    await scene.advance()
    assert (scene.condition("Ready")[0], scene.events()) == ("False", [])
    scene.cache.archives.remove("vault")
    await scene.advance()
    assert len(scene.events()) == 1


@pytest.mark.parametrize("spec", [VAULT, {}])
async def test_an_archive_that_keeps_nothing_gets_no_event(spec: dict[str, Any]) -> None:
    scene = ImportScene(**spec)
    scene.cache.archives.put(ready(an_archive("vault")))
    scene.opened = DiscardingBackend()
    scene.finds("anna", ENVELOPE)
    await scene.advance()
    assert scene.condition("Stalled") == ("True", "ImportNotArchived")
    assert [raw for plural, raw in scene.kube.objects if plural == EnvelopeEvent.PLURAL] == []

    scene.opened = None
    scene.clock.advance(seconds=FAILURE_SECONDS)
    assert (await scene.complete()).archived == 1


async def test_a_missing_archive_holds_no_dry_run() -> None:
    scene = VaultScene(dryRun=True)
    scene.cache.archives.remove("vault")
    scene.finds("anna", ENVELOPE)
    assert (await scene.advance()).found == 1
