"""The initial sync: a controller waits for an API server that is unavailable, and reports it."""

import pytest

from controller.watch.reflector import InitialSync
from counterfoil.kube.errors import ApiError, Forbidden, Unavailable
from tests.support.builders import AClock


class InitialRead:
    """An initial read that fails with the given problems before it succeeds."""

    def __init__(self, *problems: ApiError) -> None:
        self.problems = list(problems)
        self.said = list[str | None]()
        self.clock = AClock()
        self.initial_sync = InitialSync(self.read, self.clock)

    async def read(self) -> None:
        self.said.append(await self.initial_sync.check())
        if self.problems:
            raise self.problems.pop(0)


async def test_it_is_not_ready_before_everything_was_read_and_then_it_is() -> None:
    reading = InitialRead()
    assert await reading.initial_sync.check() == "the resources have not been read yet"
    await reading.initial_sync.run()
    assert await reading.initial_sync.check() is None


@pytest.mark.parametrize(
    ("problem", "said"),
    [
        (Unavailable(0, "NoAnswer", "the API server did not answer"), "the API server did not answer"),
        (Forbidden(403, "Forbidden", "not allowed"), "not allowed"),
        (Unavailable(404, "404", "not there"), "not there. Are the CustomResourceDefinitions installed?"),
    ],
)
async def test_it_says_what_it_waits_for(problem: ApiError, said: str) -> None:
    reading = InitialRead(problem)
    await reading.initial_sync.run()
    assert reading.said[1] == said


async def test_it_waits_as_long_as_it_takes_and_never_more_than_ten_seconds_at_a_time() -> None:
    reading = InitialRead(*(Unavailable(0, "NoAnswer", "gone") for _ in range(1000)))
    await reading.initial_sync.run()
    assert len(reading.said) == 1001
    assert (reading.clock.slept[0], max(reading.clock.slept)) == (0.2, 10.0)


@pytest.mark.parametrize(
    ("problem", "level"),
    [
        (Unavailable(429, "TooManyRequests", "429 TooManyRequests: storage is (re)initializing"), "INFO"),
        (Unavailable(429, "TooManyRequests", "429 TooManyRequests: too many requests"), "WARNING"),
        (Unavailable(0, "NoAnswer", "the API server did not answer"), "WARNING"),
    ],
)
async def test_new_definitions_that_are_not_served_yet_are_no_warning(
    problem: ApiError, level: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        await InitialRead(problem).initial_sync.run()
    assert [each.levelname for each in caplog.records if "can't start yet" in each.message] == [level]
