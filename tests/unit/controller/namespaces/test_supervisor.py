"""The work in several namespaces: each starts, fails, starts again and ends without the others."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from controller.event_recorder import EventRecorder
from controller.namespaces.status import NamespaceStatus
from controller.namespaces.supervisor import STORED_STATUSES, NamespaceStuck, NamespaceSupervisor
from controller.watch.reflector import InitialSync
from controller.watch.watched_namespaces import WatchedNamespaces
from counterfoil.kube.errors import ApiError, Forbidden, NotFound, Unavailable, api_error
from counterfoil.kube.served_namespaces import ServedNamespaces
from counterfoil.metrics import Metrics
from counterfoil.resources import (
    Archive,
    Envelope,
    EnvelopeEvent,
    Import,
    Organization,
    Resource,
    Sender,
)
from sandbox.controlplane import rbac
from tests.support.fakes.kube import InMemoryKubeClient
from tests.support.virtual_time import VirtualClock, VirtualTimeLoop

FORBIDDEN = Forbidden(403, "Forbidden", "organizations is forbidden")
NO_STATUS = api_error(404, b"404 page not found\n", None, creating=False)
"""The answer of a proxy, and of an API server about a kind that it lacks."""


class Work:
    """The work in one namespace, as far as it does not matter what it is."""

    def __init__(self, scene: "Scene", namespace: str) -> None:
        self.scene = scene
        self.kube = scene.kubes[namespace]
        self.kube.namespace = namespace
        self.initial_sync = InitialSync(self._read, scene.clock)
        self.live = {"schedule": self._check, "watches": self._check}

    async def _read(self) -> None:
        await self.scene.clock.sleep(self.scene.reading.get(self.kube.namespace, 0))
        if problem := self.kube.trouble.get("page"):
            raise problem

    async def _check(self) -> str | None:
        await self.scene.clock.sleep(self.scene.checking.get(self.kube.namespace, 0))
        return self.scene.stuck.get(self.kube.namespace)

    async def run(self, watched: WatchedNamespaces) -> None:
        namespace = self.kube.namespace
        self.scene.lives.append(f"{namespace} starts")
        try:
            await self.initial_sync.run()
            if error := self.scene.errors.pop(namespace, None):
                raise error
            if work := self.scene.work.get(namespace):
                await work(self)
            await asyncio.Event().wait()
        finally:
            self.scene.lives.append(f"{namespace} ends")

    async def drain(self) -> None:
        self.scene.lives.append(f"{self.kube.namespace} drains")
        await self.scene.clock.sleep(self.scene.transfer)


class Scene:
    """A process with a list of namespaces."""

    def __init__(self, clock: VirtualClock, folder: Path, *names: str) -> None:
        self.clock = clock
        self.file = folder / "list"
        self.kubes = defaultdict[str, InMemoryKubeClient](InMemoryKubeClient)
        self.release = InMemoryKubeClient()
        self.lives: list[str] = []
        self.errors: dict[str, Exception] = {}
        self.stuck: dict[str, str] = {}
        self.work: dict[str, Callable[[Work], Coroutine[Any, Any, None]]] = {}
        """The work in a namespace, if it is not to wait."""
        self.reading: dict[str, float] = {}
        """Seconds of the first read of a namespace."""
        self.checking: dict[str, float] = {}
        """Seconds of a liveness check in a namespace."""
        self.transfer = 5.0
        """Seconds until running work is at a safe point."""
        self.write(*names)
        self.metrics = Metrics(CollectorRegistry(), version="test")
        self.recorder = EventRecorder(self.release, clock)
        self.supervisor = NamespaceSupervisor(
            ServedNamespaces("release", names, self.file),
            lambda namespace: Work(self, namespace),
            WatchedNamespaces(),
            NamespaceStatus(self.metrics, self.recorder),
            clock,
            timedelta(seconds=20),
            timedelta(minutes=6),
        )

    def write(self, *names: str) -> None:
        self.file.write_text("\n".join(names), encoding="utf-8")

    def ready(self) -> dict[str, tuple[str, float]]:
        (family,) = self.metrics.namespace_ready.collect()
        return {each.labels["namespace"]: (each.labels["reason"], each.value) for each in family.samples}

    def restarts(self, namespace: str) -> dict[str, float]:
        """Return how often the work in a namespace started again, by reason."""
        (family,) = self.metrics.namespace_restarts.collect()
        samples = [each for each in family.samples if each.labels["namespace"] == namespace]
        return {each.labels["reason"]: each.value for each in samples if each.name.endswith("_total")}

    def events(self) -> list[tuple[str, str]]:
        """Return type and reason of each Kubernetes Event."""
        return [(str(each["type"]), str(each["reason"])) for each in self.release.announced]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(each()) for each in (self.supervisor.run, self.recorder.run)]
            await self.clock.sleep(2)
            yield
            for task in tasks:
                task.cancel()


Test = Callable[["Scene"], Coroutine[Any, Any, None]]


def in_virtual_time(folder: Path, *names: str) -> Callable[[Test], None]:
    """Run a test of a scene with these namespaces in virtual time."""

    def run(test: Test) -> None:
        with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
            loop = runner.get_loop()
            assert isinstance(loop, VirtualTimeLoop)
            runner.run(test(Scene(VirtualClock(loop), folder, *names)))

    return run


def test_each_namespace_of_the_list_is_served(tmp_path: Path) -> None:
    @in_virtual_time(tmp_path, "sales", "legal")
    async def _(scene: Scene) -> None:
        async with scene.running():
            assert set(scene.lives) == {"sales starts", "legal starts"}
            assert scene.ready() == {"sales": ("Serving", 1), "legal": ("Serving", 1)}
            assert await scene.supervisor.check_synced() is None
        assert sorted(scene.lives[2:]) == ["legal ends", "sales ends"]
        assert scene.events() == []


@pytest.mark.parametrize(
    ("problem", "reason"),
    [
        (FORBIDDEN, "NamespaceForbidden"),
        (NotFound(404, "NotFound", "the server could not find it"), "NamespaceUnavailable"),
    ],
)
def test_a_namespace_that_cannot_be_served_is_reported_once_and_holds_no_other_up(
    problem: ApiError, reason: str, tmp_path: Path
) -> None:
    @in_virtual_time(tmp_path, "sales", "legal")
    async def _(scene: Scene) -> None:
        scene.kubes["legal"].trouble["page"] = problem
        async with scene.running():
            await scene.clock.sleep(3600)
            assert scene.ready() == {"sales": ("Serving", 1), "legal": (reason, 0)}
            assert scene.events() == [("Warning", reason)]
            assert await scene.supervisor.check_synced() is None
            del scene.kubes["legal"].trouble["page"]
            await scene.clock.sleep(30)
            assert scene.ready()["legal"] == ("Serving", 1)
            assert scene.events()[1:] == [("Normal", "Serving")]


@pytest.mark.parametrize("kind", [Archive, Envelope, EnvelopeEvent, Import, Organization, Sender])
def test_a_missing_definition_of_each_kind_is_reported(kind: type[Resource], tmp_path: Path) -> None:
    @in_virtual_time(tmp_path, "sales", "legal")
    async def _(scene: Scene) -> None:
        async with scene.running():
            for each in scene.kubes.values():
                each.remove_definition(kind)
            await scene.clock.sleep(61)
            reason = "NamespaceIncomplete" if kind is Import else "NamespaceUnavailable"
            assert set(scene.ready().values()) == {(reason, 0)}
            assert f"{kind.PLURAL}.counterfoil.dev" in scene.release.announced[0]["note"]


def test_each_missing_definition_is_named_once_the_one_before_is_there(tmp_path: Path) -> None:
    @in_virtual_time(tmp_path, "sales")
    async def _(scene: Scene) -> None:
        kube = scene.kubes["sales"]
        kinds: tuple[type[Resource], ...] = (Archive, Envelope, Import)
        for each in kinds:
            kube.remove_definition(each)
        async with scene.running():
            for each in kinds:
                await scene.clock.sleep(61)
                kube.add_definition(each)
            await scene.clock.sleep(61)
            notes = [each["note"] for each in scene.release.announced]
            assert len(notes) == 4, notes
            for kind, note in zip(kinds, notes, strict=False):
                assert f"{kind.PLURAL}.counterfoil.dev" in note
            assert notes[3] == "Namespace sales is served again."


def without_the_right(kind: type[Resource]) -> ApiError:
    message = f'{kind.PLURAL}.counterfoil.dev is forbidden: User "controller" cannot list it'
    return Forbidden(403, "Forbidden", message)


@pytest.mark.parametrize(
    ("kind", "reason"), [(Envelope, "NamespaceForbidden"), (Import, "NamespaceIncomplete")]
)
def test_a_missing_right_is_named_with_what_it_stops(
    kind: type[Resource], reason: str, tmp_path: Path
) -> None:
    @in_virtual_time(tmp_path, "sales")
    async def _(scene: Scene) -> None:
        scene.kubes["sales"].refused["page", kind.PLURAL] = without_the_right(kind)
        async with scene.running():
            await scene.clock.sleep(61)
            assert scene.ready() == {"sales": (reason, 0)}
            (event,) = scene.release.announced
            assert f"{kind.PLURAL}.counterfoil.dev is forbidden" in event["note"]
            is_part = reason == "NamespaceIncomplete"
            assert ("remove it from the list" in event["note"]) != is_part
            assert ("All other work continues" in event["note"]) == is_part


@pytest.mark.parametrize("kind", [Archive, EnvelopeEvent, Import, Organization, Sender])
def test_a_status_that_may_not_be_stored_is_named(kind: type[Resource], tmp_path: Path) -> None:
    @in_virtual_time(tmp_path, "sales", "legal")
    async def _(scene: Scene) -> None:
        denied = ("patch", f"{kind.PLURAL}/status")
        scene.kubes["sales"].not_allowed.add(denied)
        async with scene.running():
            await scene.clock.sleep(61)
            assert scene.ready() == {"sales": ("NamespaceIncomplete", 0), "legal": ("Serving", 1)}
            (event,) = scene.release.announced
            assert f"may not patch {kind.PLURAL}/status." in event["note"]
            scene.kubes["sales"].not_allowed.clear()
            await scene.clock.sleep(61)
            assert scene.ready()["sales"] == ("Serving", 1)


def test_a_right_that_may_not_be_asked_about_is_not_missing(tmp_path: Path) -> None:
    @in_virtual_time(tmp_path, "sales")
    async def _(scene: Scene) -> None:
        scene.kubes["sales"].trouble["is_allowed"] = FORBIDDEN
        async with scene.running():
            await scene.clock.sleep(61)
            assert scene.ready() == {"sales": ("Serving", 1)}


def test_the_role_has_each_right_that_the_probe_asks_for() -> None:
    rights = [each["resources"] for each in rbac.CONTROLLER_OF_SERVED if "patch" in each["verbs"]]
    granted = {each for resources in rights for each in resources}
    assert {f"{each.PLURAL}/status" for each in STORED_STATUSES} <= granted


def test_an_absent_namespace_is_missing_alone_beside_one_without_the_right_to_a_part(tmp_path: Path) -> None:
    @in_virtual_time(tmp_path, "sales", "absent")
    async def _(scene: Scene) -> None:
        scene.kubes["sales"].refused["page", Import.PLURAL] = without_the_right(Import)
        scene.kubes["absent"].trouble["page"] = FORBIDDEN
        async with scene.running():
            await scene.clock.sleep(61)
            assert scene.metrics.is_missing_alone("absent")
            assert not scene.metrics.is_missing_alone("sales")


def test_work_that_is_stuck_ends_no_work_where_only_a_part_is_missing(tmp_path: Path) -> None:
    @in_virtual_time(tmp_path, "sales", "legal")
    async def _(scene: Scene) -> None:
        scene.kubes["sales"].refused["page", Import.PLURAL] = without_the_right(Import)
        async with scene.running():
            await scene.clock.sleep(3600)
            scene.stuck["legal"] = "an event is overdue"
            await scene.clock.sleep(600)
            assert "legal ends" in scene.lives
            assert "sales ends" not in scene.lives


def test_work_that_is_stuck_beside_a_missing_definition_ends_the_process(tmp_path: Path) -> None:
    @in_virtual_time(tmp_path, "sales", "legal")
    async def _(scene: Scene) -> None:
        for each in ("sales", "legal"):
            scene.kubes[each].remove_definition(Import)
        scene.stuck |= dict.fromkeys(("sales", "legal"), "an event is overdue")
        with pytest.raises(ExceptionGroup) as raised:
            async with asyncio.timeout(600):
                await scene.supervisor.run()
        assert raised.group_contains(NamespaceStuck)


def test_an_answer_of_a_proxy_is_no_fault_of_a_namespace(tmp_path: Path) -> None:
    @in_virtual_time(tmp_path, "sales", "legal")
    async def _(scene: Scene) -> None:
        async with scene.running():
            scene.kubes["legal"].trouble["page"] = NO_STATUS
            await scene.clock.sleep(3600)
            assert scene.events() == []
            assert set(scene.ready().values()) == {("Serving", 1)}


def test_a_missing_definition_ends_no_work_in_another_namespace(tmp_path: Path) -> None:
    @in_virtual_time(tmp_path, "sales", "legal")
    async def _(scene: Scene) -> None:
        for each in ("sales", "legal"):
            scene.kubes[each].remove_definition(Import)
        async with scene.running():
            scene.stuck["sales"] = "an event is overdue"
            await scene.clock.sleep(600)
            assert "sales ends" in scene.lives
            assert "legal ends" not in scene.lives


def test_the_event_about_a_namespace_is_about_the_pod_and_names_what_to_do(tmp_path: Path) -> None:
    @in_virtual_time(tmp_path, "legal")
    async def _(scene: Scene) -> None:
        scene.kubes["legal"].trouble["page"] = FORBIDDEN
        async with scene.running():
            pass
        (event,) = scene.release.announced
        assert event["regarding"]["kind"] == "Pod"
        assert event["related"] == {"apiVersion": "v1", "kind": "Namespace", "name": "legal"}
        assert "run helm upgrade" in event["note"]


def test_a_role_that_is_taken_away_later_is_reported_within_a_minute(tmp_path: Path) -> None:
    @in_virtual_time(tmp_path, "sales", "legal")
    async def _(scene: Scene) -> None:
        async with scene.running():
            scene.kubes["legal"].trouble["page"] = FORBIDDEN
            await scene.clock.sleep(61)
            assert scene.ready() == {"sales": ("Serving", 1), "legal": ("NamespaceForbidden", 0)}
            assert "legal ends" not in scene.lives, "its watches come back with the Role"


def test_an_outage_of_the_api_server_is_no_fault_of_a_namespace(tmp_path: Path) -> None:
    @in_virtual_time(tmp_path, "sales", "legal")
    async def _(scene: Scene) -> None:
        async with scene.running():
            for each in scene.kubes.values():
                each.trouble["page"] = Unavailable(0, "NoAnswer", "the API server did not answer")
            await scene.clock.sleep(3600)
            assert scene.events() == []
            assert set(scene.ready().values()) == {("Serving", 1)}


def test_an_error_in_one_namespace_starts_its_work_again_and_no_other(tmp_path: Path) -> None:
    @in_virtual_time(tmp_path, "sales", "legal")
    async def _(scene: Scene) -> None:
        scene.errors["legal"] = ValueError("a bug")
        async with scene.running():
            await scene.clock.sleep(10)
            assert [each for each in scene.lives if "legal" in each] == [
                "legal starts",
                "legal ends",
                "legal starts",
            ]
            assert "sales ends" not in scene.lives
            assert scene.ready()["legal"] == ("NamespaceBroken", 0), "it has to be good for a while"
            await scene.clock.sleep(700)
            assert scene.ready()["legal"] == ("Serving", 1)
            assert scene.events() == [("Warning", "NamespaceBroken"), ("Normal", "Serving")]
            assert scene.restarts("legal") == {"NamespaceBroken": 1, "NamespaceStuck": 0}
            assert scene.restarts("sales") == {"NamespaceBroken": 0, "NamespaceStuck": 0}


def test_an_error_in_the_only_namespace_ends_the_process(tmp_path: Path) -> None:
    @in_virtual_time(tmp_path, "sales")
    async def _(scene: Scene) -> None:
        scene.errors["sales"] = ValueError("a bug")
        with pytest.raises(ExceptionGroup) as raised:
            await scene.supervisor.run()
        assert raised.group_contains(ValueError, match="a bug")


def test_work_that_is_stuck_in_one_namespace_starts_again_alone(tmp_path: Path) -> None:
    @in_virtual_time(tmp_path, "sales", "legal")
    async def _(scene: Scene) -> None:
        async with scene.running():
            scene.stuck["legal"] = "an event is overdue"
            assert await scene.supervisor.live["schedule"]() is None
            await scene.clock.sleep(61)
            del scene.stuck["legal"]
            await scene.clock.sleep(700)
            assert "legal ends" in scene.lives
            assert "sales ends" not in scene.lives
            assert scene.events() == [("Warning", "NamespaceStuck"), ("Normal", "Serving")]


def test_liveness_fails_when_the_work_in_every_namespace_is_stuck(tmp_path: Path) -> None:
    @in_virtual_time(tmp_path, "sales", "legal")
    async def _(scene: Scene) -> None:
        async with scene.running():
            scene.stuck |= dict.fromkeys(("sales", "legal"), "an event is overdue")
            assert await scene.supervisor.live["schedule"]() == "an event is overdue"


def test_stuck_work_in_the_only_namespace_is_left_to_the_kubelet(tmp_path: Path) -> None:
    @in_virtual_time(tmp_path, "sales")
    async def _(scene: Scene) -> None:
        async with scene.running():
            scene.stuck["sales"] = "an event is overdue"
            await scene.clock.sleep(600)
            assert await scene.supervisor.live["schedule"]() == "an event is overdue"
            assert "sales ends" not in scene.lives


def test_a_namespace_is_added_and_removed_without_a_restart_of_another(tmp_path: Path) -> None:
    @in_virtual_time(tmp_path, "sales", "legal")
    async def _(scene: Scene) -> None:
        async with scene.running():
            scene.lives.clear()
            scene.write("sales", "hr")
            await scene.clock.sleep(30)
            assert sorted(scene.lives) == ["hr starts", "legal drains", "legal ends"]
            assert scene.lives.index("legal drains") < scene.lives.index("legal ends")
            assert scene.ready() == {"sales": ("Serving", 1), "hr": ("Serving", 1)}


def test_running_work_of_a_removed_namespace_has_a_limited_time(tmp_path: Path) -> None:
    @in_virtual_time(tmp_path, "sales", "legal")
    async def _(scene: Scene) -> None:
        scene.transfer = 10_000.0
        async with scene.running():
            scene.write("sales")
            await scene.clock.sleep(35)
            assert scene.lives[-1] == "legal ends"


def test_a_namespace_that_returns_to_the_list_starts_after_the_end_of_its_earlier_work(
    tmp_path: Path,
) -> None:
    @in_virtual_time(tmp_path, "sales", "legal")
    async def _(scene: Scene) -> None:
        scene.transfer = 15.0
        async with scene.running():
            scene.lives.clear()
            scene.write("sales")
            await scene.clock.sleep(10)
            scene.write("sales", "legal")
            await scene.clock.sleep(30)
            assert scene.lives == ["legal drains", "legal ends", "legal starts"]
            assert scene.ready()["legal"] == ("Serving", 1)


@pytest.mark.parametrize("is_back", [True, False])
def test_a_namespace_that_leaves_and_returns_again_while_it_ends_is_worked_on_once(
    is_back: bool, tmp_path: Path
) -> None:
    @in_virtual_time(tmp_path, "sales", "legal")
    async def _(scene: Scene) -> None:
        scene.transfer = 300.0
        scene.supervisor.grace = timedelta(seconds=60)

        async def ends_slowly(work: Work) -> None:
            try:
                await asyncio.Event().wait()
            finally:
                await scene.clock.sleep(25)

        scene.work["legal"] = ends_slowly
        async with scene.running():
            scene.lives.clear()
            for names in (("sales",), ("sales", "legal"), ("sales",), ("sales", "legal")[: 1 + is_back]):
                scene.write(*names)
                await scene.clock.sleep(10.5)
            assert scene.lives == ["legal drains"], "the work that began before the list changed still ends"

            await scene.clock.sleep(120)

            assert scene.lives == ["legal drains", "legal ends", *["legal starts"] * is_back]
            assert scene.ready().get("legal") == (("Serving", 1) if is_back else None)
            assert await scene.supervisor.check_synced() is None


def test_before_the_end_of_the_process_the_work_in_all_namespaces_reaches_a_safe_point(
    tmp_path: Path,
) -> None:
    @in_virtual_time(tmp_path, "sales", "legal")
    async def _(scene: Scene) -> None:
        async with scene.running():
            scene.lives.clear()
            await scene.supervisor.drain()
            assert sorted(scene.lives) == ["legal drains", "sales drains"]


@pytest.mark.parametrize("seconds", [3, 45, 300])
def test_work_that_ends_again_and_again_keeps_one_reason(seconds: float, tmp_path: Path) -> None:
    @in_virtual_time(tmp_path, "sales", "legal")
    async def _(scene: Scene) -> None:
        async def breaks(work: Work) -> None:
            await scene.clock.sleep(seconds)
            raise ValueError("a bug")

        scene.work["legal"] = breaks
        async with scene.running():
            await scene.clock.sleep(seconds + 5)
            for _ in range(180):
                await scene.clock.sleep(10)
                assert scene.ready() == {"sales": ("Serving", 1), "legal": ("NamespaceBroken", 0)}
            assert scene.restarts("legal")["NamespaceBroken"] >= 3
            assert scene.events() == [("Warning", "NamespaceBroken")]


def test_a_role_that_returns_after_a_restart_is_shown_at_once(tmp_path: Path) -> None:
    @in_virtual_time(tmp_path, "sales", "legal")
    async def _(scene: Scene) -> None:
        scene.errors["legal"] = ValueError("a bug")
        async with scene.running():
            await scene.clock.sleep(700)
            scene.kubes["legal"].trouble["page"] = FORBIDDEN
            await scene.clock.sleep(61)
            del scene.kubes["legal"].trouble["page"]
            await scene.clock.sleep(30)
            assert scene.ready()["legal"] == ("Serving", 1)


def test_the_process_ends_when_the_work_in_all_namespaces_is_stuck(tmp_path: Path) -> None:
    @in_virtual_time(tmp_path, "sales", "legal", "absent")
    async def _(scene: Scene) -> None:
        scene.kubes["absent"].trouble["page"] = FORBIDDEN
        scene.stuck |= dict.fromkeys(("sales", "legal"), "an event is overdue")
        with pytest.raises(ExceptionGroup) as raised:
            async with asyncio.timeout(600):
                await scene.supervisor.run()
        assert raised.group_contains(NamespaceStuck)


def test_work_that_is_good_again_keeps_the_process_when_another_is_stuck(tmp_path: Path) -> None:
    @in_virtual_time(tmp_path, "sales", "legal")
    async def _(scene: Scene) -> None:
        async with scene.running():
            scene.stuck["sales"] = "a watch is silent"
            await scene.clock.sleep(70)
            del scene.stuck["sales"]
            await scene.clock.sleep(400)
            assert scene.ready()["sales"] == ("NamespaceStuck", 0)
            scene.lives.clear()
            scene.stuck["legal"] = "a watch is silent"
            await scene.clock.sleep(70)
            assert "legal ends" in scene.lives
            assert "sales ends" not in scene.lives


def test_the_process_ends_when_work_that_began_again_has_not_shown_that_it_is_good(tmp_path: Path) -> None:
    @in_virtual_time(tmp_path, "sales", "legal")
    async def _(scene: Scene) -> None:
        async def one_after_the_other() -> None:
            async with scene.running():
                scene.stuck["sales"] = "a watch is silent"
                await scene.clock.sleep(70)
                del scene.stuck["sales"]
                scene.stuck["legal"] = "a watch is silent"
                await scene.clock.sleep(120)

        with pytest.raises(ExceptionGroup) as raised:
            await one_after_the_other()
        assert raised.group_contains(NamespaceStuck)


def test_an_error_in_a_namespace_that_leaves_the_list_ends_no_other(tmp_path: Path) -> None:
    @in_virtual_time(tmp_path, "sales", "legal")
    async def _(scene: Scene) -> None:
        broken = asyncio.Event()

        async def breaks(work: Work) -> None:
            await broken.wait()
            raise ValueError("a bug")

        scene.work["legal"] = breaks
        async with scene.running():
            scene.lives.clear()
            scene.write("sales")
            await scene.clock.sleep(10)
            broken.set()
            await scene.clock.sleep(60)
            assert scene.lives == ["legal drains", "legal ends"]
            assert scene.ready() == {"sales": ("Serving", 1)}


def test_a_namespace_that_leaves_the_list_ends_as_soon_as_its_work_is_at_a_safe_point(tmp_path: Path) -> None:
    @in_virtual_time(tmp_path, "sales", "legal")
    async def _(scene: Scene) -> None:
        scene.transfer = 0.0
        async with scene.running():
            scene.write("sales")
            await scene.clock.sleep(10)
            assert scene.lives[-1] == "legal ends"


def test_no_work_is_started_after_the_signal_to_stop(tmp_path: Path) -> None:
    @in_virtual_time(tmp_path, "sales", "slow", "legal")
    async def _(scene: Scene) -> None:
        broken = asyncio.Event()

        async def breaks(work: Work) -> None:
            await broken.wait()
            raise ValueError("a bug")

        scene.work["legal"], scene.reading["slow"], scene.transfer = breaks, 10.0, 19.0
        async with scene.running():
            scene.lives.clear()
            scene.write("sales", "slow", "legal", "hr")
            draining = asyncio.create_task(scene.supervisor.drain())
            await scene.clock.sleep(5)
            broken.set()
            await draining
            assert sorted(scene.lives) == ["legal drains", "legal ends", "sales drains", "slow ends"]


def test_the_checks_ask_all_namespaces_at_once(tmp_path: Path) -> None:
    @in_virtual_time(tmp_path, *(f"unit-{number}" for number in range(20)))
    async def _(scene: Scene) -> None:
        async with scene.running():
            names = scene.supervisor.served.names
            scene.checking |= dict.fromkeys(names, 1.0)
            scene.checking[names[0]] = 600.0
            async with asyncio.timeout(3):
                assert await scene.supervisor.live["watches"]() is None
            scene.checking[names[0]] = 1.0
            scene.stuck |= dict.fromkeys(names, "nothing was heard")
            async with asyncio.timeout(3):
                assert await scene.supervisor.live["watches"]() == "nothing was heard"


def test_a_namespace_may_end_during_a_check(tmp_path: Path) -> None:
    @in_virtual_time(tmp_path, "sales", "legal")
    async def _(scene: Scene) -> None:
        scene.transfer = 0.0
        async with scene.running():
            scene.checking |= {"sales": 15.0, "legal": 15.0}
            scene.write("sales")
            assert await scene.supervisor.live["watches"]() is None


def test_a_namespace_that_left_the_list_between_two_generations_leaves_no_series(tmp_path: Path) -> None:
    @in_virtual_time(tmp_path, "sales", "legal")
    async def _(scene: Scene) -> None:
        async with scene.running():
            for each in ("sales", "legal"):
                scene.metrics.in_namespace(each).events_failed.labels("acme", "Archiving", "X").inc()
        scene.write("sales")
        async with scene.running():
            told = generate_latest(scene.metrics.registry).decode()
        assert "legal" not in told
        assert 'namespace="sales",organization="acme"' in told
