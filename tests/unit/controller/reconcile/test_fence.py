"""The fence of a run: what it lets pass, what it stops, and what then has changed in the archive."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from controller.reconcile.fence import CONFIRMATION_SECONDS, Fence, FencedBackend
from controller.sharding import HeldShards, LeaseLost
from counterfoil.archives import filing, open_backend
from counterfoil.archives.backend import ArchiveBackend, InstrumentedBackend, RetainingBackend
from counterfoil.archives.errors import VerificationFailed
from counterfoil.kube.errors import NotFound
from counterfoil.kube.status import StatusWriter, Superseded
from counterfoil.resources import CLAIM_ANNOTATION, REQUEST_LABEL, EnvelopeEvent
from tests.support.builders import AClock, an_event
from tests.support.fakes.archives import MemoryBackend, RetainingMemoryBackend
from tests.support.fakes.kube import InMemoryKubeClient
from tests.support.fakes.leases import held_shards
from tests.support.fakes.reconcile_context import an_archive


class Scene:
    """One run over one event."""

    def __init__(self) -> None:
        self.event = an_event().build()
        self.kube = InMemoryKubeClient(self.event)
        self.lease_clock = AClock()
        self.clock = AClock()
        self.fence = self.another_run()

    def another_run(self) -> Fence:
        """Return the fence of a run that begins now, in a process that believes in its Lease too."""
        held = held_shards(clock=self.lease_clock)
        return Fence(self.kube, held, self.clock, self.kube.stored(self.event.name))

    def end_the_lease(self) -> None:
        self.lease_clock.advance(seconds=3600.0)

    def change(self, **changes: Any) -> None:
        self.kube.edit(EnvelopeEvent, self.event.name, changes)


@pytest.fixture
def scene() -> Scene:
    return Scene()


async def test_a_run_that_is_alone_passes_with_one_small_request(scene: Scene) -> None:
    await scene.fence.check()
    assert scene.kube.asked == [("get_partial", scene.event.name)]


async def test_the_read_before_a_delete_returns_what_a_person_changed_since(scene: Scene) -> None:
    scene.change(spec={"suspend": True}, metadata={"labels": {REQUEST_LABEL: "skip"}})
    event = await scene.fence.confirmed()
    assert event.spec.suspend
    assert event.metadata.labels[REQUEST_LABEL] == "skip"
    assert scene.kube.asked == [("get", scene.event.name)]


async def test_the_read_before_a_delete_passes_over_an_outage_and_stops_a_run_that_is_not_alone(
    scene: Scene,
) -> None:
    scene.kube.go_away("get", 2)
    await scene.fence.confirmed()
    scene.change(status={"phase": "Failed"})
    with pytest.raises(Superseded):
        await scene.fence.confirmed()
    scene.end_the_lease()
    with pytest.raises(LeaseLost):
        await scene.fence.confirmed()


async def test_without_the_lease_nothing_passes_and_nothing_is_asked(scene: Scene) -> None:
    scene.end_the_lease()
    with pytest.raises(LeaseLost):
        await scene.fence.check()
    assert scene.kube.asked == []


async def test_a_lease_that_ends_during_the_question_stops_the_run(scene: Scene) -> None:
    scene.kube.just_before("get_partial", scene.end_the_lease)
    with pytest.raises(LeaseLost):
        await scene.fence.check()


async def test_deliveries_that_are_counted_meanwhile_stop_nothing(scene: Scene) -> None:
    scene.change(status={"deliveries": 2})
    await scene.fence.check()
    scene.kube.asked.clear()
    await scene.fence.check()
    assert scene.kube.asked == [("get_partial", scene.event.name)]


@pytest.mark.parametrize("changes", [{"phase": "Cleaning"}, {"reason": "RetryRequested"}])
async def test_a_status_of_another_run_stops_this_one(scene: Scene, changes: dict[str, str]) -> None:
    scene.change(status=changes)
    with pytest.raises(Superseded) as stopped:
        await scene.fence.check()
    assert stopped.value.newest == scene.kube.stored(scene.event.name)


async def test_an_event_that_was_deleted_stops_its_run(scene: Scene) -> None:
    scene.kube.fail("get_partial", NotFound(404, "NotFound", "gone"))
    with pytest.raises(Superseded, match="deleted"):
        await scene.fence.check()


def write(scene: Scene, fence: Fence, *, seconds: float = 0.0) -> None:
    """Write a status as the run of the scene does, which takes this time."""
    began = fence.write_began()
    scene.lease_clock.advance(seconds=seconds)
    scene.change(status={"phase": "Archiving"})
    fence.written(scene.kube.stored(scene.event.name), began)


async def test_a_state_that_this_run_stored_itself_stops_nothing(scene: Scene) -> None:
    write(scene, scene.fence)
    await scene.fence.check()


async def test_after_a_write_of_this_run_a_file_is_stored_without_a_read(scene: Scene) -> None:
    write(scene, scene.fence)
    await put(FencedBackend(MemoryBackend(), scene.fence), "a/1.pdf", content(b"x"))
    assert scene.kube.asked == []
    scene.lease_clock.advance(seconds=CONFIRMATION_SECONDS)
    await put(FencedBackend(MemoryBackend(), scene.fence), "a/2.pdf", content(b"x"))
    assert scene.kube.asked == [("get_partial", scene.event.name)]


async def test_a_write_is_as_old_as_its_beginning(scene: Scene) -> None:
    write(scene, scene.fence, seconds=CONFIRMATION_SECONDS)
    await scene.fence.check_recently()
    assert scene.kube.asked == [("get_partial", scene.event.name)]


async def test_a_state_that_needed_no_write_confirms_nothing(scene: Scene) -> None:
    scene.fence.written(scene.fence.event, scene.fence.write_began())
    await scene.fence.check_recently()
    assert scene.kube.asked == [("get_partial", scene.event.name)]


async def test_a_write_by_a_run_without_lease_confirms_nothing(scene: Scene) -> None:
    fence = Fence(scene.kube, HeldShards({}, 1), scene.clock, scene.event)
    write(scene, fence)
    with pytest.raises(LeaseLost):
        await fence.check_recently()


async def test_an_api_server_that_is_down_for_a_moment_stops_nothing(scene: Scene) -> None:
    scene.kube.go_away("get_partial", 3)
    await scene.fence.check()
    assert scene.clock.slept == [0.1, 0.3, 1.0]


async def test_an_api_server_that_is_down_until_the_lease_ends_stops_the_run(scene: Scene) -> None:
    scene.kube.go_away("get_partial", 3)
    scene.kube.just_before("get_partial", scene.end_the_lease)
    with pytest.raises(LeaseLost):
        await scene.fence.check()


async def test_of_two_runs_that_believe_in_the_lease_the_later_claim_counts(scene: Scene) -> None:
    earlier = scene.fence
    await earlier.claim()
    await earlier.check()
    later = scene.another_run()
    claimed = await later.claim()
    assert claimed.metadata.annotations[CLAIM_ANNOTATION]
    await later.check()
    with pytest.raises(Superseded):
        await earlier.check()
    with pytest.raises(Superseded):
        await StatusWriter(scene.kube).store(earlier.event, earlier.event.status)


async def test_files_that_follow_each_other_are_stored_on_one_read(scene: Scene) -> None:
    for number in range(3):
        await put(FencedBackend(MemoryBackend(), scene.fence), f"a/{number}.pdf", content(b"x"))
    assert scene.kube.asked == [("get_partial", scene.event.name)]
    scene.lease_clock.advance(seconds=CONFIRMATION_SECONDS)
    await put(FencedBackend(MemoryBackend(), scene.fence), "a/late.pdf", content(b"x"))
    assert scene.kube.asked == [("get_partial", scene.event.name)] * 2


async def test_a_pause_after_the_read_is_noticed_before_the_next_file_is_stored(scene: Scene) -> None:
    memory = MemoryBackend()
    await put(FencedBackend(memory, scene.fence), "a/1.pdf", content(b"x"))
    await scene.another_run().claim()
    scene.lease_clock.advance(seconds=CONFIRMATION_SECONDS)
    with pytest.raises(Superseded):
        await put(FencedBackend(memory, scene.fence), "a/2.pdf", content(b"x"))
    assert set(memory.files) == {"a/1.pdf"}


async def test_a_recent_read_is_not_enough_to_remove_or_to_delete(scene: Scene) -> None:
    fenced = FencedBackend(MemoryBackend(), scene.fence)
    await put(fenced, "a/1.pdf", content(b"x"))
    await scene.another_run().claim()
    for act in (fenced.discard("a/1.pdf"), scene.fence.check()):
        with pytest.raises(Superseded):
            await act


async def test_unfinished_files_are_removed_on_a_recent_read(scene: Scene) -> None:
    fenced = FencedBackend(MemoryBackend(), scene.fence)
    await put(fenced, "a/1.pdf", content(b"x"))
    await scene.another_run().claim()
    # The other run has not begun to write: its claim waits.
    await fenced.remove_leftovers("a")
    scene.lease_clock.advance(seconds=CONFIRMATION_SECONDS)
    with pytest.raises(Superseded):
        await fenced.remove_leftovers("a")


async def test_a_claim_waits_until_no_other_run_relies_on_an_older_read(scene: Scene) -> None:
    await scene.fence.claim()
    assert scene.clock.slept == [CONFIRMATION_SECONDS]


async def test_a_read_that_began_before_a_pause_is_as_old_as_its_beginning(scene: Scene) -> None:
    def pause() -> None:
        scene.lease_clock.advance(seconds=CONFIRMATION_SECONDS)

    scene.kube.just_before("get_partial", pause)
    await scene.fence.check_recently()
    await scene.fence.check_recently()
    assert len(scene.kube.asked) == 2


async def test_a_claim_that_meets_a_counted_delivery_is_made_again(scene: Scene) -> None:
    scene.kube.just_before("patch", lambda: scene.change(status={"deliveries": 2}))
    await scene.fence.claim()
    await scene.fence.check()


# -- The archive behind it -----------------------------------------------------------------------------------


async def content(*chunks: bytes) -> AsyncIterator[bytes]:
    for each in chunks:
        yield each


async def put(backend: ArchiveBackend, name: str, chunks: AsyncIterator[bytes]) -> None:
    await backend.put(name, chunks, tags={}, content_type=None)


async def test_a_lease_that_ends_in_the_middle_of_an_upload_leaves_the_stored_file_as_it_is(
    scene: Scene, tmp_path: Path
) -> None:
    folder = await open_backend("dms", an_archive(filesystem={"root": str(tmp_path)}).spec, {})
    await put(folder, "a/trail.pdf", content(b"of the other run"))
    fenced = FencedBackend(folder, scene.fence)

    async def slow() -> AsyncIterator[bytes]:
        yield b"of this run"
        scene.end_the_lease()

    with pytest.raises(LeaseLost):
        await put(fenced, "a/trail.pdf", slow())
    files = {path.name: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}  # noqa: ASYNC240
    assert files == {"trail.pdf": b"of the other run"}


async def test_no_upload_begins_without_the_lease(scene: Scene) -> None:
    scene.end_the_lease()
    memory = MemoryBackend()
    with pytest.raises(LeaseLost):
        await put(FencedBackend(memory, scene.fence), "a/file.pdf", content(b"x"))
    assert (memory.files, memory.puts) == ({}, [])


@pytest.mark.parametrize("operation", ["discard", "remove_leftovers"])
async def test_a_run_that_was_superseded_removes_nothing(scene: Scene, operation: str) -> None:
    await scene.another_run().claim()
    memory = MemoryBackend()
    memory.files["a/file.pdf"] = b"of the other run"
    with pytest.raises(Superseded):
        await getattr(FencedBackend(memory, scene.fence), operation)("a/file.pdf")
    assert memory.files


async def test_a_file_is_protected_through_every_wrapper_of_a_controller(scene: Scene) -> None:
    """The instrumented backend once hid it, and no controller ever set a lock."""
    locking = RetainingMemoryBackend()
    wrapped = FencedBackend(InstrumentedBackend(locking, lambda operation, seconds: None), scene.fence)
    assert isinstance(wrapped, RetainingBackend)
    await wrapped.retain("a/file.pdf")
    assert locking.retained == [("a/file.pdf", None)]
    await FencedBackend(MemoryBackend(), scene.fence).retain("a/file.pdf")


# -- Filing over it ------------------------------------------------------------------------------------------


class Corrupting(MemoryBackend):
    """Stores other bytes than it is sent; another writer may replace them before they are removed."""

    def __init__(self) -> None:
        super().__init__()
        self.replaced_by: bytes | None = None
        self.removed: list[bytes] = []

    async def put(self, name: str, chunks: Any, **options: Any) -> None:
        await super().put(name, chunks, **options)
        self.files[name] += b"?"
        self.reads = 0

    async def read(self, name: str) -> Any:
        if self.reads == 1 and self.replaced_by is not None:
            self.files[name] = self.replaced_by
        async for chunk in super().read(name):
            yield chunk

    async def discard(self, name: str) -> None:
        self.removed.append(self.files[name])
        await super().discard(name)


@pytest.mark.parametrize(("replaced_by", "discarded"), [(None, [b"{}?", b"{}?"]), (b"of another writer", [])])
async def test_only_the_wrong_bytes_that_were_read_are_removed(
    replaced_by: bytes | None, discarded: list[bytes]
) -> None:
    backend = Corrupting()
    backend.replaced_by = replaced_by
    with pytest.raises(VerificationFailed):
        await filing._write(backend, "a/counterfoil.json", b"{}", "application/json", {})
    assert backend.removed == discarded
