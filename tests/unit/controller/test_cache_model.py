"""
The cache against a model of it: the objects of the API server.

The model has a watch that reports each change once, a break of the watch and the lists after it, answers to
this process's own writes, which arrive before or after the watch's reports of them, and restores of etcd.
kopf keeps the order of the reports per uid: the report of an object's deletion may come after that of a new
object of the same name.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from controller.cache import Cache, version_number
from controller.watch.reflector import Reflector
from controller.watch.relist import DeletionDetector
from counterfoil.kube.client import KubeClient
from counterfoil.kube.errors import ApiError, Unavailable
from counterfoil.kube.watch import Raw
from counterfoil.resources import Archive, EnvelopeEvent, Phase, Resource
from tests.support.builders import an_event
from tests.support.fakes.kube import copied
from tests.support.fakes.reconcile_context import an_archive
from tests.support.virtual_time import VirtualClock, VirtualTimeLoop

KINDS: tuple[type[Resource], ...] = (EnvelopeEvent, Archive)
"""One object of each of these kinds: one whose finished states leave the watch, and one of the others."""

TEMPLATES = {EnvelopeEvent: an_event().build().to_dict(), Archive: an_archive().to_dict()}

KIND = st.sampled_from((EnvelopeEvent, EnvelopeEvent, Archive))
PHASE = st.sampled_from((Phase.ARCHIVING, Phase.FAILED))
PHASES = st.sampled_from(
    ((Phase.ARCHIVING,), (Phase.FAILED,), (Phase.FAILED, Phase.ARCHIVING, Phase.FAILED, Phase.FAILED))
)
"""Phases that this process writes one after the other: progress, the end, or a retry that fails again."""


def is_watched(raw: Raw) -> bool:
    """Whether the watch selects an object: not a finished event."""
    return not Phase(raw["status"].get("phase", "Pending")).is_final


def uid_of(raw: Raw) -> str:
    return str(raw["metadata"]["uid"])


def version_of(raw: Raw) -> int:
    return int(raw["metadata"]["resourceVersion"])


class ApiServer(KubeClient):
    """All objects, the one counter of their versions, and the reports that the cache has not received."""

    def __init__(self) -> None:
        self.objects: dict[type[Resource], Raw] = {}
        self.version = 100
        self.created = 0
        self.is_watched = True
        self.reports: dict[str, deque[tuple[type[Resource], str | None, Raw]]] = {}
        """Kind, type of the watch event (None: an object of a list) and object, by uid."""
        self.problems: list[ApiError] = []
        self.during_list: Callable[[], None] = lambda: None

    async def list(
        self, kind: type[Resource], *, labels: str = "", fields: str = "", limit: int = 500
    ) -> AsyncIterator[Raw]:
        if self.problems:
            raise self.problems.pop()
        found = self.watched(kind)
        self.during_list()
        for raw in found:
            yield raw

    def watched(self, kind: type[Resource]) -> Iterable[Raw]:
        return [raw for each, raw in self.objects.items() if each is kind and is_watched(raw)]

    def add(self, kind: type[Resource]) -> None:
        self.created += 1
        raw = copied(TEMPLATES[kind])
        raw["metadata"]["uid"] = f"uid-{self.created}"
        self.change(kind, raw)

    def change(self, kind: type[Resource], raw: Raw, **status: str) -> Raw:
        before = self.objects.get(kind)
        raw = self._next_state({**raw, "status": {**raw.get("status", {}), **status}})
        self.objects[kind] = raw
        was_watched = before is not None and is_watched(before)
        if is_watched(raw):
            self._report(kind, "MODIFIED" if was_watched else "ADDED", raw)
        elif was_watched:
            self._report(kind, "DELETED", raw)
        return raw

    def remove(self, kind: type[Resource]) -> None:
        raw = self._next_state(self.objects.pop(kind))
        if is_watched(raw):
            self._report(kind, "DELETED", raw)

    def _next_state(self, raw: Raw) -> Raw:
        self.version += 1
        return {**raw, "metadata": {**raw["metadata"], "resourceVersion": str(self.version)}}

    def _report(self, kind: type[Resource], type_: str, raw: Raw) -> None:
        if self.is_watched:
            self.report(kind, type_, raw)

    def report(self, kind: type[Resource], type_: str | None, raw: Raw) -> None:
        self.reports.setdefault(uid_of(raw), deque()).append((kind, type_, raw))


class CacheModel(RuleBasedStateMachine):
    """Each rule is one change of an object, or the arrival of one report or one answer."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner(loop_factory=VirtualTimeLoop)
        loop = self.runner.get_loop()
        assert isinstance(loop, VirtualTimeLoop)
        self.server, self.cache = ApiServer(), Cache()
        for kind in KINDS:
            self.cache.add_handler(kind, self._changed)
        self.reflector = Reflector(self.server, self.cache)
        self.detector = DeletionDetector(self.server, self.cache, VirtualClock(loop), labels="", fields="")
        self.detector.list_started(EnvelopeEvent.PLURAL)
        self.answers: list[tuple[type[Resource], Raw]] = []
        """Answers to writes of this process that have not arrived."""
        self.handled: dict[type[Resource], Resource] = {}
        """The objects according to the changes that the handlers of the cache received."""
        self.newest: dict[type[Resource], tuple[int, str]] = {}
        """Version and uid of the newest state that arrived, by kind."""
        self.backup: dict[type[Resource], Raw] | None = None

    def _changed(self, before: Resource | None, after: Resource | None) -> None:
        resource = after or before
        assert resource is not None
        assert before is self.handled.get(type(resource)), "a change was published twice, or not published"
        if after is None:
            del self.handled[type(resource)]
        else:
            self.handled[type(resource)] = after

    # -- The objects change ----------------------------------------------------------------------------------

    @rule(kind=KIND)
    def create(self, kind: type[Resource]) -> None:
        """Create an object; one that exists is deleted before."""
        self.delete(kind)
        self.server.add(kind)

    @rule(kind=KIND)
    def delete(self, kind: type[Resource]) -> None:
        if kind in self.server.objects:
            self.server.remove(kind)

    @rule(kind=KIND, phase=PHASE)
    def change(self, kind: type[Resource], phase: Phase) -> None:
        """Another process changes an object. The receiver may re-open a finished event."""
        if kind in self.server.objects:
            self._change(kind, phase)

    @rule(kind=KIND, phases=PHASES)
    def write(self, kind: type[Resource], phases: tuple[Phase, ...]) -> None:
        """This process writes a status, once or more often."""
        if kind in self.server.objects:
            self.answers += [(kind, self._change(kind, phase)) for phase in phases]

    def _change(self, kind: type[Resource], phase: Phase) -> Raw:
        status = {"phase": phase.value} if kind is EnvelopeEvent else {}
        return self.server.change(kind, self.server.objects[kind], **status)

    # -- The cache receives states ---------------------------------------------------------------------------

    @precondition(lambda self: self.answers)
    @rule(data=st.data())
    def answer_arrives(self, data: st.DataObject) -> None:
        self._receive_answer(data.draw(st.integers(0, len(self.answers) - 1)))

    def _receive_answer(self, number: int) -> None:
        kind, raw = self.answers.pop(number)
        self._receive(kind, raw, is_watched(raw), lambda: self.cache.update(kind.parse(raw)))
        if kind is EnvelopeEvent:
            for event in self.cache.events:
                self.cache.sender_of[event.name] = "anna"

    @precondition(lambda self: self.server.reports)
    @rule(data=st.data())
    def report_arrives(self, data: st.DataObject) -> None:
        self._receive_report(data.draw(st.sampled_from(sorted(self.server.reports))))

    def _receive_report(self, uid: str) -> None:
        kind, type_, raw = self.server.reports[uid].popleft()
        if not self.server.reports[uid]:
            del self.server.reports[uid]
        if type_ == "DELETED":
            # The API server answered the earlier writes to this object before it was deleted.
            for number in reversed(range(len(self.answers))):
                if uid_of(self.answers[number][1]) == uid:
                    self._receive_answer(number)
        is_present = type_ != "DELETED" and is_watched(raw)
        self._receive(kind, raw, is_present, lambda: self.reflector.handle(kind, type_, raw))

    def _receive(self, kind: type[Resource], raw: Raw, is_present: bool, act: Callable[[], None]) -> None:
        """An older state than the cached one changes nothing; one that is newer than all before is cached."""
        before, version = self._cached(kind), version_of(raw)
        is_newest = version > self.newest.get(kind, (0, ""))[0]
        if is_newest:
            self.newest[kind] = version, uid_of(raw)
        act()
        after = self._cached(kind)
        if before is not None and version_number(before) > version:
            assert after is before, "an older state replaced a newer one"
        elif not is_present:
            assert after is None, "an object that is gone, or finished, is still in the cache"
        elif is_newest:
            assert after == kind.parse(raw), "a newer state was ignored"
        newest_version, newest_uid = self.newest[kind]
        if after is not None and after.uid == newest_uid:
            assert version_number(after) == newest_version, "an older state came back"

    def _cached(self, kind: type[Resource]) -> Resource | None:
        found: Resource | None = next(iter(self.cache.store(kind)), None)
        return found

    def _receive_all(self) -> None:
        while self.answers:
            self._receive_answer(-1)
        while self.server.reports:
            # The new object before the deleted one.
            self._receive_report(max(self.server.reports))

    # -- The watch breaks ------------------------------------------------------------------------------------

    @rule()
    def watch_breaks(self) -> None:
        """Changes are not reported before the next list. kopf pauses first, so earlier reports arrive."""
        self._receive_all()
        self.server.is_watched = False

    @precondition(lambda self: not self.server.is_watched)
    @rule(data=st.data(), is_failing=st.booleans())
    def list_again(self, data: st.DataObject, is_failing: bool) -> None:
        """kopf lists again, while others change objects."""
        steps: tuple[Callable[[type[Resource]], Any], ...] = (
            self.create,
            self.delete,
            lambda kind: self.change(kind, Phase.FAILED),
            lambda kind: self._receive_all(),
        )

        def others_act() -> None:
            for step, kind in data.draw(st.lists(st.tuples(st.sampled_from(steps), KIND), max_size=2)):
                step(kind)

        if is_failing:
            self.server.problems.append(Unavailable(0, "NoAnswer", "away"))
        self._list_again(others_act)

    def _list_again(self, others_act: Callable[[], None] = lambda: None) -> None:
        """kopf lists and watches. The detector looks for objects that are not listed."""
        while self.answers:
            self._receive_answer(-1)
        self.server.is_watched = True
        for kind in KINDS:
            for raw in self.server.watched(kind):
                self.server.report(kind, None, raw)
            self.detector.list_started(kind.PLURAL)
        others_act()
        self.server.during_list = others_act
        self.runner.run(self._detect())
        self.server.during_list = lambda: None

    async def _detect(self) -> None:
        task = asyncio.create_task(self.detector.run())
        await asyncio.sleep(60)
        assert not task.done(), task.exception()
        task.cancel()
        await asyncio.wait([task])

    @rule()
    def back_up(self) -> None:
        self.backup = dict(self.server.objects)

    @precondition(lambda self: self.backup is not None)
    @rule()
    def restore(self) -> None:
        """
        Etcd is restored from a backup, after everything that was sent before has arrived.

        Further versions are higher than all before, as with ``etcdutl snapshot restore --bump-revision``.
        """
        assert self.backup is not None
        self.watch_breaks()
        self.server.objects, self.backup = self.backup, None
        self.newest.clear()
        self._list_again()

    # -- What always holds -----------------------------------------------------------------------------------

    @invariant()
    def handlers_receive_each_change(self) -> None:
        assert all(self._cached(kind) is self.handled.get(kind) for kind in KINDS)

    @invariant()
    def finished_events_are_not_kept(self) -> None:
        assert not any(event.status.phase.is_final for event in self.cache.events)
        assert self.cache.sender_of.keys() <= {event.name for event in self.cache.events}

    # -- The end ---------------------------------------------------------------------------------------------

    def teardown(self) -> None:
        """When all reports and answers have arrived, the cache has what the API server has."""
        try:
            if not self.server.is_watched:
                self._list_again()
            self._receive_all()
            for kind in KINDS:
                expected = [kind.parse(raw) for raw in self.server.watched(kind)]
                assert list(self.cache.store(kind)) == expected
        finally:
            self.runner.close()


TestCache = CacheModel.TestCase
