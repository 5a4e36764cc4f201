"""For each state in which something waits, the second waking comes when the first one is lost."""

import re
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from controller.reopening.fix_rules import archive_may_fix, organization_recovery_may_fix
from counterfoil.i18n.reasons import CATALOGUE, ReasonContext
from counterfoil.resources import (
    SENDER_LABEL,
    EnvelopeEvent,
    LastError,
    NoticeState,
    Phase,
    Resource,
)
from tests.support.builders import NOON, EventBuilder, a_sender, an_event, an_organization, ready
from tests.support.fakes.reconcile_context import an_archive
from tests.support.scenes.notices import NoticeScene, a_finished_event, until
from tests.support.scenes.waiting_events import HandlersScene, turns
from tests.support.servers.scripted_esaw import answering, running

PAGE = Path(__file__).parents[3] / "docs" / "contributing" / "waiting.md"
CONTEXTS = {
    "archive": ReasonContext.WAITING,
    "copy": ReasonContext.WAITING,
    "organization": ReasonContext.WAITING,
    "sender": ReasonContext.WAITING,
    "room": ReasonContext.WAITING,
    "slot": ReasonContext.WAITING,
    "time": ReasonContext.WAITING,
    "held": ReasonContext.HELD,
    "consent": ReasonContext.CONSENT,
    "notice": ReasonContext.NOTICE,
}
"""Rows with reasons, and the place in which these reasons are seen."""

COLUMNS = 6
SECONDS_LATER = 3600.0


class Row(NamedTuple):
    """One row of the table."""

    state: str
    patterns: tuple[str, ...]
    first: str
    second: str
    person: str
    test: str

    @property
    def key(self) -> str:
        """The name of a row with reasons; empty for any other."""
        found = re.match(r"`(\w+)`:", self.state)
        return found[1] if found else ""

    def lists(self, reason: str) -> bool:
        """Whether the row has the reason."""
        return any(fnmatchcase(reason, each) for each in self.patterns)


def rows(text: str) -> list[Row]:
    """Return the rows of the table."""
    lines = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line] for line in lines[1:]]
    assert all(len(each) == COLUMNS for each in cells)
    return [Row(each[0], tuple(re.findall(r"`([\w*]+)`", each[1])), *each[2:]) for each in cells]


ROWS = rows(PAGE.read_text(encoding="utf-8"))


def unlisted(table: list[Row], reasons: Mapping[str, tuple[ReasonContext, ...]]) -> list[str]:
    """Return the reasons of something that waits and that is in no row, each with its place."""
    return [
        f"{context}: {reason}"
        for reason, contexts in reasons.items()
        for context in contexts
        if context in CONTEXTS.values()
        and not any(row.lists(reason) for row in table if CONTEXTS.get(row.key) is context)
    ]


def test_each_reason_of_something_that_waits_is_in_a_row() -> None:
    assert unlisted(ROWS, {name: each.contexts for name, each in CATALOGUE.items()}) == []


NO_WAIT = {"ImportComplete", "EsawListDoubtful"}
"""Reasons of Imports with which nothing waits."""


def unlisted_of_imports(table: list[Row], reasons: Mapping[str, tuple[ReasonContext, ...]]) -> list[str]:
    """Return the reasons that only Imports have and that are in no row."""
    of_imports = [name for name, contexts in reasons.items() if contexts == (ReasonContext.IMPORT,)]
    listed = [row for row in table if not row.key]
    return [each for each in of_imports if each not in NO_WAIT and not any(row.lists(each) for row in listed)]


def test_each_reason_with_which_only_an_import_waits_is_in_a_row() -> None:
    assert unlisted_of_imports(ROWS, {name: each.contexts for name, each in CATALOGUE.items()}) == []


def test_a_reason_of_imports_that_is_in_no_row_is_found() -> None:
    new = {"ImportNew": (ReasonContext.IMPORT,), "Other": (ReasonContext.FAILED, ReasonContext.IMPORT)}
    assert unlisted_of_imports(ROWS, new) == ["ImportNew"]


def test_a_reason_that_is_in_no_row_is_found() -> None:
    new = {"SomethingNew": (ReasonContext.WAITING, ReasonContext.FAILED)}
    assert unlisted(ROWS, new) == ["waiting: SomethingNew"]


def test_each_pattern_is_about_a_reason_of_the_catalogue() -> None:
    for row in ROWS:
        for pattern in row.patterns:
            assert any(fnmatchcase(name, pattern) for name in CATALOGUE), (row.state, pattern)


def test_each_row_names_both_wakings_the_person_and_a_test() -> None:
    assert {row.key for row in ROWS} - {""} == set(CONTEXTS)
    for row in ROWS:
        assert all((row.first, row.second, row.person)), row.state
        assert row.key or re.fullmatch(r"`tests/unit/[\w/]+\.py::test_\w+`", row.test), row.state


# -- Events --------------------------------------------------------------------------------------------------


def reasons_of(key: str) -> list[str]:
    """Return the reasons of a row."""
    (row,) = (each for each in ROWS if each.key == key)
    return [name for name, each in CATALOGUE.items() if CONTEXTS[key] in each.contexts and row.lists(name)]


CASES = [(key, reason) for key in CONTEXTS if key != "notice" for reason in reasons_of(key)]
WITH_A_TEST = {row.key for row in ROWS if row.test}
"""Rows whose waking depends on other events. They name a test for it."""
TIMED = [
    (key, reason)
    for key, reason in CASES
    if CONTEXTS[key] is ReasonContext.WAITING and key not in WITH_A_TEST
]
STEADY = [(key, reason) for key, reason in CASES if CONTEXTS[key] is not ReasonContext.WAITING]


def builder(reason: str) -> EventBuilder:
    phase = Phase.AWAITING_CONSENT if reason in reasons_of("consent") else Phase.COLLECTING
    return an_event().labelled(SENDER_LABEL, "anna").in_phase(phase, reason)


def retried(reason: str) -> EnvelopeEvent:
    """An event that waits for its next attempt, in an hour."""
    later = NOON.replace(hour=NOON.hour + 1)
    return (
        an_event()
        .labelled(SENDER_LABEL, "anna")
        .in_phase(Phase.COLLECTING, reason)
        .status(attempts=5, next_attempt_time=later)
        .build()
    )


def an_idle_scene(*resources: Resource) -> HandlersScene:
    """A new process that has listed these objects; none of them changes."""
    scene = HandlersScene()
    scene.observe(*resources)
    return scene


@pytest.mark.parametrize(("key", "reason"), TIMED)
async def test_an_event_whose_first_waking_is_lost_runs_at_its_stored_time(key: str, reason: str) -> None:
    event = retried(reason)
    scene = an_idle_scene(an_organization(), a_sender(), ready(an_archive()))
    async with scene.running():
        scene.observe(event)
        await turns()
        assert scene.reconciled == []
        scene.clock.advance(seconds=SECONDS_LATER)
        scene.workqueue.wake()
        await turns()
    assert scene.reconciled[:1] == [event.name]


CHANGES: dict[str, Callable[[], Resource]] = {
    "archive": lambda: ready(an_archive()),
    "organization": lambda: an_organization(version=2, generation=2),
    "sender": a_sender,
}
"""The first waking of the rows whose events wait for an object."""


@pytest.mark.parametrize(("key", "reason"), [each for each in TIMED if each[0] in CHANGES])
async def test_an_event_runs_at_once_when_its_object_changes(key: str, reason: str) -> None:
    event = retried(reason)
    before: list[Resource] = [an_organization(), ready(an_archive(), "False")]
    scene = an_idle_scene(*before, *([] if key == "sender" else [a_sender()]))
    async with scene.running():
        scene.observe(event)
        await turns()
        assert scene.reconciled == []
        changed = CHANGES[key]().to_dict()
        changed["metadata"]["resourceVersion"] = "99"
        scene.observe(type(CHANGES[key]()).parse(changed))
        await turns()
    assert scene.reconciled[:1] == [event.name]


@pytest.mark.parametrize("reason", reasons_of("time"))
def test_no_object_is_named_for_an_event_that_waits_for_time_only(reason: str) -> None:
    assert not archive_may_fix(reason)
    assert not organization_recovery_may_fix(reason)


def waits_for(reason: str) -> tuple[list[Resource], EnvelopeEvent]:
    """Return objects for which an event with this reason waits, and the event."""
    organization: dict[str, Any] = {}
    sender, archive = a_sender(), an_archive()
    event = builder(reason)
    match reason:
        case "Suspended":
            event = event.suspended()
        case "OrganizationSuspended":
            organization = {"suspend": True}
        case "SenderSuspended":
            sender = a_sender(suspend=True)
        case "ArchiveSuspended":
            archive = an_archive(suspend=True)
        case "ActionNotConfigured":
            organization = {"actions": [{"action": "workstepFinished"}]}
        case _:
            sender = a_sender(authorized="False")
    return [an_organization(**organization), sender, ready(archive)], event.build()


def newer(resource: Resource) -> Resource:
    """The same object with a later version, after a person changed its spec."""
    raw = resource.to_dict()
    raw["metadata"].update(resourceVersion="99", generation=2)
    return type(resource).parse(raw)


@pytest.mark.parametrize(("key", "reason"), STEADY)
async def test_an_event_that_waits_for_a_person_runs_when_that_change_is_seen_and_not_before(
    key: str, reason: str
) -> None:
    resources, event = waits_for(reason)
    scene = an_idle_scene(*resources)
    # As a run of this process left it.
    scene.cache.sender_of[event.name] = "anna"
    async with scene.running():
        scene.observe(event)
        scene.clock.advance(seconds=100 * SECONDS_LATER)
        scene.workqueue.wake()
        await turns()
        assert scene.reconciled == []
        for each in (an_organization(), a_sender(), ready(an_archive()), builder(reason).build()):
            scene.observe(newer(each))
        await turns()
    assert scene.reconciled[:1] == [event.name]


@pytest.mark.parametrize(("key", "reason"), STEADY)
async def test_an_event_runs_after_the_next_list_although_no_change_was_seen(key: str, reason: str) -> None:
    """The list has the objects as a person left them; this process never saw the state before."""
    listed: list[Resource] = [an_organization(), a_sender(), ready(an_archive())]
    scene, event = an_idle_scene(*listed), builder(reason).build()
    async with scene.running():
        scene.observe(event)
        await turns()
    assert scene.reconciled[:1] == [event.name]


# -- Notices -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", reasons_of("notice"))
async def test_the_next_process_sends_a_notice_whose_process_was_killed(reason: str) -> None:
    error = LastError(reason=reason, message="HTTP 500", time=NOON)
    event = a_finished_event(attempts=3, last_error=error, next_attempt_time=NOON)
    async with running(answering(b"", 200)) as server:
        scene = NoticeScene(server.url, event)
        async with scene.controller(event):
            await until(lambda: scene.notice().state is NoticeState.DELIVERED)
    assert len(server.received) == 1
