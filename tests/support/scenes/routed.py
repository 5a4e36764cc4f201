"""An Organization with two Archives, and events that choose one of them."""

import json
from pathlib import Path
from typing import Any, ClassVar

from msgspec.structs import replace

from controller.scheduling.due import due_time
from counterfoil.esaw.errors import EsawUnreachable
from counterfoil.resources import Archive, EnvelopeEvent, Phase
from counterfoil.resources.reopening import status_for_first_attempt
from tests.support.builders import an_event, an_organization
from tests.support.fakes.reconcile_context import a_probed_archive
from tests.support.scenes.reconciler import ReconcilerScene

AREA = {"area": {"jsonPath": "$.area"}}
FILES = ["audit-trail.pdf", "file-1.pdf"]
HR = {"name": "hr", "archiveRef": {"name": "vault"}, "when": {"tags": {"area": {"values": ["HR"]}}}}

VAULT_MARKER = "2" * 32


def observed(archive: Archive) -> Archive:
    """Return the Archive after a probe with its newest spec: the marker of its root is known."""
    return replace(archive, status=replace(archive.status, observed_generation=archive.metadata.generation))


class RoutedScene(ReconcilerScene):
    """An Organization with two Archives: ``dms``, and ``vault`` for what a route leads there."""

    def __init__(self, folder: Path, *routes: dict[str, Any], **spec: Any) -> None:
        self.dms, self.vault = folder / "dms", folder / "vault"
        self.dms.mkdir()
        self.vault.mkdir()
        self.routes = routes or (HR,)
        super().__init__(self.dms, routes=self.routes, **{"cleanup": {"policy": "Keep"}, **spec})
        self.observe(observed(a_probed_archive(root=self.dms, version=2)))
        self.observe(observed(self.an_archive_of_the_vault("vault")))
        self.generation = 1

    def an_archive_of_the_vault(self, name: str, **more: Any) -> Archive:
        return a_probed_archive(name, root=self.vault, marker_id=VAULT_MARKER, **{"tags": AREA, **more})

    def change_routes(self, *routes: dict[str, Any], **spec: Any) -> None:
        """Let a person change the routes."""
        self.generation += 1
        changed = {"cleanup": {"policy": "Keep"}, **spec}
        self.observe(
            an_organization(version=self.generation, generation=self.generation, routes=routes, **changed)
        )

    def change_vault(self, **spec: Any) -> None:
        """Let a person change the Archive of the route."""
        self.generation += 1
        self.observe(
            observed(
                self.an_archive_of_the_vault(
                    "vault", version=self.generation, generation=self.generation, **spec
                )
            )
        )

    def with_area(self, area: str | None) -> "RoutedScene":
        self.envelope.metadata = json.dumps({"area": area}) if area is not None else None
        return self

    def is_due(self) -> bool:
        due = due_time(self.newest(), self.cache, self.clock.now())
        return due is not None and due <= self.clock.now()


class RetriedScene(RoutedScene):
    """An event that failed with one file in ``vault``, and a callback that eSAW repeats."""

    SPEC: ClassVar[dict[str, Any]] = {
        "retry": {"initial": "1s", "max": "1s", "deadline": "1m"},
        "actions": [{"action": "envelopeFinished"}, {"action": "workstepFinished"}],
    }

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, **self.SPEC)

    async def failed(self) -> EnvelopeEvent:
        self.with_area("HR").envelope.but("download trail-1", EsawUnreachable("cut"))
        await self.reconcile()
        self.clock.advance(minutes=2)
        failed = await self.reconcile()
        assert (failed.status.phase, documents(self.vault)) == (Phase.FAILED, ["file-1.pdf"])
        self.envelope.problems.clear()
        return failed

    def receives_its_callback_again(self, failed: EnvelopeEvent) -> None:
        status = status_for_first_attempt(
            failed.status, reason="Redelivered", message="", now=self.clock.now()
        )
        self.event = replace(failed, status=status)
        self.kube.put(self.event)
        self.cache.update(self.event)

    async def archive_another_event(self) -> EnvelopeEvent:
        self.event = an_event().for_action("workstepFinished").named("second").build()
        self.kube.put(self.event)
        return await self.reconcile(2)


def documents(folder: Path) -> list[str]:
    """Return the names of all PDF files in a folder."""
    return sorted(each.name for each in folder.rglob("*.pdf"))
