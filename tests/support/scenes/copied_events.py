"""An Organization with copies, and one event, with archives on the disk."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from controller.scheduling.due import due_time
from counterfoil.archives.verify import verify_folder
from counterfoil.resources import EnvelopeEvent, EnvelopeEventStatus, Organization, find_condition
from tests.support.builders import ENVELOPE, EventBuilder, an_organization
from tests.support.fakes.reconcile_context import a_probed_archive
from tests.support.scenes.reconciler import ReconcilerScene

WORM = {"archiveRef": {"name": "worm"}}
OPTIONAL = {**WORM, "required": False}
MIRROR = {"archiveRef": {"name": "mirror"}}
PATH = "{{organization}}/{{envelope.id}}/{{file.name}}"
DELETE: dict[str, Any] = {"cleanup": {"policy": "Delete"}}


def copied(event: EnvelopeEvent) -> tuple[str, str]:
    """Return what the condition ``Copied`` says of an event, and its reason."""
    found = find_condition(event.status.conditions, "Copied")
    assert found is not None
    return found.status, found.reason


class CopiedScene(ReconcilerScene):
    """An Organization with the Archive ``dms``, and the Archives of its copies."""

    def __init__(
        self,
        folder: Path,
        *copies: dict[str, Any],
        names: Sequence[str] = (),
        builder: EventBuilder | None = None,
        **spec: Any,
    ) -> None:
        self.folders = {name: folder / name for name in ("dms", "worm", "mirror")}
        for each in self.folders.values():
            each.mkdir()
        self.copies, self.spec = list(copies or (WORM,)), {**DELETE, **spec}
        super().__init__(self.folders["dms"], builder, copies=self.copies, **self.spec)
        self.generation = 1
        for name in names or [each["archiveRef"]["name"] for each in self.copies]:
            self.observe(a_probed_archive(name, root=self.folders[name], path=PATH))

    @property
    def newest_organization(self) -> Organization:
        """The Organization as the last change left it."""
        known = self.cache.organizations.get("acme")
        assert known is not None
        return known

    def change(self, *copies: dict[str, Any], **spec: Any) -> None:
        """Let a person change the copies of the Organization."""
        self.generation += 1
        changed = {**self.spec, **spec, "copies": list(copies)}
        self.observe(an_organization(version=self.generation, generation=self.generation, **changed))

    def add_archive(self, name: str) -> None:
        """Let a person create one more Archive, in a folder beside the others."""
        self.folders[name] = self.folders["dms"].with_name(name)
        self.folders[name].mkdir()
        self.observe(a_probed_archive(name, root=self.folders[name], path=PATH))

    def change_archive(self, name: str, **spec: Any) -> None:
        """Let a person change the Archive of a copy."""
        self.generation += 1
        changed = {"path": PATH, **spec}
        number = self.generation
        self.observe(
            a_probed_archive(name, root=self.folders[name], version=number, generation=number, **changed)
        )

    def store(self, status: EnvelopeEventStatus) -> None:
        """Let another client store a status."""
        event = self.newest()
        version = str(int(event.metadata.resource_version or 0) + 1)
        metadata = replace(event.metadata, resource_version=version)
        changed = replace(event, metadata=metadata, status=status)
        self.kube.put(changed)
        self.cache.update(changed)

    def break_archive(self, name: str) -> None:
        """Let nothing be written there."""
        self.folders[name].rename(self.folders[name].with_suffix(".away"))

    def mend_archive(self, name: str) -> None:
        self.folders[name].with_suffix(".away").rename(self.folders[name])

    def files(self, name: str) -> list[str]:
        found = [each for each in self.folders[name].rglob("*") if each.is_file()]
        return sorted(each.name for each in found if not each.name.startswith(".counterfoil-archive"))

    @property
    def deleted(self) -> list[str]:
        return self.envelope.transport.deleted

    async def reconcile_until_quiet(self) -> EnvelopeEvent:
        """Reconcile as long as the event is due now."""
        for _ in range(10):
            event = self.newest()
            due = due_time(event, self.cache, self.clock.now())
            if event.status.phase.is_final or due is None or due > self.clock.now():
                return event
            await self.reconcile()
        raise AssertionError("the event is due without end")

    async def retried(self) -> EnvelopeEvent:
        """Let the time of the next attempt come."""
        due = self.newest().status.next_attempt_time
        assert due is not None
        self.clock.advance(seconds=max(0.0, (due - self.clock.now()).total_seconds()))
        return await self.reconcile_until_quiet()

    async def faults(self, name: str) -> list[str]:
        """Return what is wrong with the copy in an Archive."""
        archive = self.cache.archives.get(name)
        assert archive is not None
        return await verify_folder(await self.archive_pool.backend(archive), f"acme/{ENVELOPE}")
