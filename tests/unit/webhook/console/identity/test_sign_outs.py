"""Sign-outs: one entry per person, kept while a session can be older, also if several consoles write."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from counterfoil.kube.client import KubeClient
from counterfoil.kube.errors import Conflict, Forbidden, Unavailable
from tests.support.builders import NOON, AClock
from webhook.console.identity.sign_outs import (
    CACHE_SECONDS,
    CLOCK_SKEW,
    CONFIG_MAP,
    MAX_ENTRIES,
    ProcessSignOuts,
    SharedSignOuts,
    SignOutsFull,
    entry_name,
    sign_out_times,
    with_sign_out,
)

HOUR = timedelta(hours=1)


class AConfigMap:
    """The API server with one ConfigMap, which takes a patch of the current version only."""

    def __init__(self, data: Mapping[str, str] | None = None) -> None:
        self.data = dict(data or {})
        self.version, self.reads, self.conflicts = 1, 0, 0
        self.problem: Exception | None = None

    async def config_map(self, name: str) -> dict[str, Any]:
        self.reads += 1
        if self.problem is not None:
            raise self.problem
        return self._object(name)

    async def patch_config_map(self, name: str, changes: Mapping[str, Any]) -> dict[str, Any]:
        if self.conflicts:
            # Another console writes between the read and this patch.
            self.conflicts -= 1
            self.version += 1
        if changes["metadata"]["resourceVersion"] != str(self.version):
            raise Conflict(409, "Conflict", "changed meanwhile")
        self.version += 1
        self.data = {
            key: value for key, value in {**self.data, **changes["data"]}.items() if value is not None
        }
        return self._object(name)

    def _object(self, name: str) -> dict[str, Any]:
        assert name == CONFIG_MAP
        metadata = {"name": name, "resourceVersion": str(self.version)}
        # The API server omits an empty map.
        return {"metadata": metadata, **({"data": dict(self.data)} if self.data else {})}


def shared(stored: AConfigMap, clock: AClock) -> SharedSignOuts:
    return SharedSignOuts(cast("KubeClient", stored), clock, session=HOUR, monotonic=clock.monotonic)


async def test_a_sign_out_is_known_at_once_where_it_was_written_and_after_two_seconds_elsewhere() -> None:
    stored, clock = AConfigMap(), AClock()
    here, there = shared(stored, clock), shared(stored, clock)
    assert await there.cached("jane") is None

    await here.record("jane", NOON)

    assert await here.cached("jane") == NOON
    clock.advance(seconds=CACHE_SECONDS)
    assert await there.cached("jane") == NOON


async def test_many_requests_read_the_entries_once() -> None:
    stored, clock = AConfigMap(), AClock()
    known = shared(stored, clock)
    for _ in range(10):
        await known.cached("jane")

    assert stored.reads == 1


async def test_who_signs_in_is_compared_with_what_is_stored_now() -> None:
    stored, clock = AConfigMap(), AClock()
    here, there = shared(stored, clock), shared(stored, clock)
    await there.cached("jane")
    await here.record("jane", NOON)

    assert await there.current("jane") == NOON


async def test_a_sign_out_is_stored_although_another_console_writes_at_the_same_time() -> None:
    stored, clock = AConfigMap(), AClock()
    stored.conflicts = 3

    await shared(stored, clock).record("jane", NOON)

    assert set(stored.data) == {entry_name("jane")}


async def test_a_sign_out_that_can_never_be_written_is_an_error() -> None:
    stored, clock = AConfigMap(), AClock()
    stored.conflicts = 100

    with pytest.raises(Conflict):
        await shared(stored, clock).record("jane", NOON)


async def test_entries_that_no_session_can_need_and_entries_without_a_time_are_removed() -> None:
    old = NOON - HOUR - CLOCK_SKEW - timedelta(seconds=1)
    stored = AConfigMap(
        {entry_name("old"): old.isoformat(), "broken": "soon", "zoneless": "2026-01-01T00:00:00"}
    )

    await shared(stored, AClock()).record("jane", NOON)

    assert stored.data == {entry_name("jane"): NOON.isoformat()}


@pytest.mark.parametrize(
    "problem", [Unavailable(0, "NoAnswer", "no answer"), Forbidden(403, "Forbidden", "not its own")]
)
async def test_what_can_not_be_read_is_an_error_and_the_console_is_not_ready(problem: Exception) -> None:
    stored = AConfigMap()
    known = shared(stored, AClock())
    assert await known.unavailable_reason() is None
    stored.problem = problem

    with pytest.raises(type(problem)):
        await known.cached("jane")
    assert CONFIG_MAP in (await known.unavailable_reason() or "")


async def test_without_shared_sessions_a_sign_out_holds_in_its_process() -> None:
    clock = AClock()
    known = ProcessSignOuts(clock, session=HOUR)
    await known.record("jane", NOON)

    assert (await known.cached("jane"), await known.current("jane")) == (NOON, NOON)
    assert await known.cached("joe") is None


def test_an_earlier_time_takes_no_later_sign_out_back() -> None:
    times = with_sign_out({}, "jane", NOON, oldest=NOON - HOUR)
    assert with_sign_out(times, "jane", NOON - timedelta(seconds=3), oldest=NOON - HOUR) == times


def test_more_people_than_one_object_can_hold_are_refused() -> None:
    times = {str(number): NOON for number in range(MAX_ENTRIES)}
    with pytest.raises(SignOutsFull):
        with_sign_out(times, "jane", NOON, oldest=NOON - HOUR)
    assert len(with_sign_out(times, "jane", NOON, oldest=NOON + HOUR)) == 1


def test_a_full_object_is_smaller_than_etcds_limit() -> None:
    entry = len(entry_name("jane")) + len(datetime.now(UTC).isoformat()) + len('"":"",')
    assert MAX_ENTRIES * entry < 2**19


def test_a_name_of_any_characters_and_any_length_has_an_entry() -> None:
    names = [entry_name(user) for user in ("jane", "oidc:jane@acme.example/ä", "x" * 10_000)]
    assert len(set(names)) == 3
    assert all(len(name) == 64 and name.isalnum() for name in names)


def test_a_config_map_without_data_has_no_entries() -> None:
    assert sign_out_times({"metadata": {}}) == sign_out_times({"metadata": {}, "data": None}) == {}
