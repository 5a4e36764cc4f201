"""The parts of a process for each served namespace begin, end and fail alone."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from counterfoil.kube.served_namespaces import ServedNamespaces
from tests.support.builders import AClock
from webhook.http_server.namespaces import NamespaceTable


class Parts:
    """Parts that work until they are closed."""

    def __init__(self, namespace: str, breaks: int = 0) -> None:
        self.namespace, self.breaks = namespace, breaks
        self.runs = 0
        self.closing = asyncio.Event()
        self.is_ended = self.breaks_at_end = False

    async def run(self) -> None:
        self.runs += 1
        if self.runs <= self.breaks:
            raise RuntimeError("no work is possible here")
        await self.closing.wait()
        if self.breaks_at_end:
            raise RuntimeError("the rest can't be written")
        self.is_ended = True

    def close(self) -> None:
        self.closing.set()


class Scene:
    """A process that serves what a file lists, beside a release in the namespace ``release``."""

    def __init__(self, folder: Path, *names: str) -> None:
        self.file = folder / "list"
        self.write(*names)
        self.made: list[Parts] = []
        self.refused: set[str] = set()
        self.breaks: dict[str, int] = {}
        self.ended: list[str] = []
        self.clock = AClock()
        served = ServedNamespaces("release", names, self.file)
        self.table = NamespaceTable(served, self.new, self.clock, ended=self.ended.append)

    def write(self, *names: str) -> None:
        self.file.write_text("\n".join(names), encoding="utf-8")

    def new(self, namespace: str) -> Parts:
        if namespace in self.refused:
            raise RuntimeError("its parts can't be made")
        self.made.append(Parts(namespace, self.breaks.get(namespace, 0)))
        return self.made[-1]

    def served(self) -> set[str]:
        return {each.namespace for each in self.table}

    async def rounds(self, count: int = 20) -> None:
        """Let time pass: each sleep of the clock ends at once."""
        for _ in range(count):
            await asyncio.sleep(0)

    @asynccontextmanager
    async def running(self) -> AsyncIterator["asyncio.Task[None]"]:
        running = asyncio.create_task(self.table.run())
        await self.rounds()
        try:
            yield running
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


async def test_an_address_without_a_namespace_leads_to_the_release_s_own(tmp_path: Path) -> None:
    scene = Scene(tmp_path, "release", "sales")

    assert scene.table.find("") is scene.table.find("release") is scene.made[0]
    assert scene.table.find("sales") is scene.made[1]
    assert scene.table.find("legal") is None


async def test_a_release_need_not_serve_its_own_namespace(tmp_path: Path) -> None:
    assert Scene(tmp_path, "sales").table.find("") is None


async def test_a_namespace_that_is_added_begins_and_the_others_work_on(tmp_path: Path) -> None:
    scene = Scene(tmp_path, "sales")
    async with scene.running():
        scene.write("sales", "legal")
        await scene.rounds()

        assert scene.served() == {"sales", "legal"}
        assert [(each.namespace, each.runs, each.is_ended) for each in scene.made] == [
            ("sales", 1, False),
            ("legal", 1, False),
        ]


async def test_a_namespace_that_is_removed_finishes_and_the_others_work_on(tmp_path: Path) -> None:
    scene = Scene(tmp_path, "sales", "legal")
    async with scene.running():
        scene.write("legal")
        await scene.rounds()

        assert scene.table.find("sales") is None
        assert [(each.namespace, each.is_ended) for each in scene.made] == [("sales", True), ("legal", False)]
        assert scene.ended == ["sales"]


async def test_what_breaks_in_one_namespace_begins_again_and_ends_no_other(tmp_path: Path) -> None:
    scene = Scene(tmp_path, "legal")
    scene.breaks["sales"] = 3
    async with scene.running():
        scene.write("legal", "sales")
        await scene.rounds(40)

        assert [(each.namespace, each.runs) for each in scene.made] == [("legal", 1), ("sales", 4)]


async def test_what_breaks_in_the_only_namespace_ends_the_process(tmp_path: Path) -> None:
    scene = Scene(tmp_path, "sales")
    scene.made[0].breaks = 1
    async with scene.running() as running:
        await scene.rounds()

        assert running.done(), "its work began again"
        with pytest.RaisesGroup(pytest.RaisesExc(RuntimeError, match="no work is possible here")):
            await running


async def test_what_breaks_in_a_namespace_that_left_the_list_ends_no_process(tmp_path: Path) -> None:
    scene = Scene(tmp_path, "sales", "legal")
    scene.made[0].breaks_at_end = True
    async with scene.running() as running:
        scene.write("legal")
        await scene.rounds()

        assert not running.done()
        assert scene.served() == {"legal"}
        assert not scene.made[1].is_ended


async def test_a_namespace_whose_parts_cannot_be_made_is_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    scene = Scene(tmp_path, "legal")
    scene.refused.add("sales")
    async with scene.running():
        scene.write("legal", "sales")
        await scene.rounds()
        assert scene.served() == {"legal"}
        assert "a namespace cannot be served yet" in caplog.text

        scene.refused.clear()
        await scene.rounds()
        assert scene.served() == {"legal", "sales"}


async def test_at_the_end_all_finish_their_work(tmp_path: Path) -> None:
    scene = Scene(tmp_path, "sales", "legal")
    async with scene.running():
        await scene.table.close(1.0)

        assert all(each.is_ended for each in scene.made)
