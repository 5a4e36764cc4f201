"""The clock of the API server, as the controller reads it from responses."""

from datetime import datetime, timedelta
from email.utils import format_datetime

import pytest

from counterfoil.kube.server_clock import ServerClock
from tests.support.builders import NOON, AClock
from tests.support.fakes.kube import InMemoryKubeClient


class Scene:
    """A machine whose clock may be wrong, and an API server whose clock is right."""

    def __init__(self, behind: timedelta = timedelta(0)) -> None:
        self.machine, self.kube = AClock(), InMemoryKubeClient()
        self.machine.set_back(seconds=behind.total_seconds())
        self.clock = ServerClock(self.machine, self.kube)

    def respond(self, server_time: datetime, seconds: float = 0.0) -> None:
        """Let the API server respond to a request that takes some seconds, at their end."""
        sent = self.machine.monotonic()
        self.machine.advance(seconds=seconds)
        self.kube.server_date = format_datetime(server_time.replace(microsecond=0), usegmt=True)
        self.kube.server_date_between = (sent, self.machine.monotonic())


HOUR = timedelta(hours=1)


@pytest.mark.parametrize("behind", [HOUR, -HOUR, timedelta(days=400)])
def test_a_clock_that_is_wrong_has_the_time_of_the_api_server_after_its_first_response(
    behind: timedelta,
) -> None:
    scene = Scene(behind)
    assert scene.clock.now() == NOON - behind
    scene.machine.advance(seconds=1)
    scene.respond(NOON)
    assert NOON <= scene.clock.now() <= NOON + timedelta(seconds=1)
    scene.machine.advance(hours=3)
    assert NOON + 3 * HOUR <= scene.clock.now() <= NOON + 3 * HOUR + timedelta(seconds=1)


def test_a_clock_that_is_right_is_not_changed_by_the_whole_seconds_of_responses() -> None:
    scene = Scene()
    scene.machine.advance(seconds=1)
    for _ in range(100):
        scene.machine.advance(seconds=0.37)
        scene.respond(scene.machine.now(), seconds=0.2)
        assert scene.clock.now() == scene.machine.now()


def test_a_response_that_took_long_says_less() -> None:
    scene = Scene(timedelta(seconds=20))
    scene.machine.advance(seconds=1)
    scene.respond(NOON + timedelta(seconds=10), seconds=60)
    assert scene.clock.now() == scene.machine.now()


def test_a_machine_whose_clock_is_set_continues_as_before() -> None:
    scene = Scene()
    scene.machine.advance(seconds=1)
    scene.respond(scene.machine.now())
    before = scene.clock.now()
    scene.machine.set_back(hours=5)
    assert scene.clock.now() == before


@pytest.mark.parametrize(
    "header", [None, "", "yesterday", "Mon, 01 Jan 0001 00:00:00 GMT", "Thu, 01 Jan 1970 00:00:00 GMT"]
)
def test_without_a_date_that_can_be_right_it_is_the_clock_of_the_machine(header: str | None) -> None:
    scene = Scene(HOUR)
    scene.machine.advance(seconds=1)
    scene.respond(NOON)
    scene.kube.server_date = header
    assert scene.clock.now() == scene.machine.now()


AHEAD = timedelta(minutes=20)


def test_the_lead_is_that_of_the_newest_response_before_the_earliest_one_of_ten_minutes() -> None:
    scene = Scene()
    for seconds in range(1, 60):
        scene.machine.advance(seconds=10)
        is_ahead = seconds % 3 == 0
        scene.respond(scene.machine.now() + (AHEAD if is_ahead else timedelta(0)))
        scene.clock.now()
        expected = AHEAD if is_ahead else timedelta(0)
        assert abs(scene.clock.lead() - expected) <= timedelta(seconds=2)
        assert abs(scene.clock.now() - scene.clock.lead() - scene.machine.now()) <= timedelta(seconds=2)


def test_a_time_that_all_responses_have_for_long_has_no_lead() -> None:
    """The clock of the machine before the first response does not count, and a suspension ends."""
    scene = Scene(timedelta(days=400))
    scene.machine.advance(seconds=1)
    scene.respond(NOON)
    assert scene.clock.lead() == timedelta(0)
    scene.machine.advance(seconds=1)
    scene.respond(scene.clock.now() + AHEAD)
    leads = []
    for _ in range(21):
        leads.append(scene.clock.lead())
        scene.machine.advance(minutes=1)
        scene.respond(scene.clock.now())
    assert leads[10] > AHEAD - timedelta(seconds=2)
    assert scene.clock.lead() == timedelta(0)


def test_that_the_clocks_of_api_servers_differ_is_logged_once_in_ten_minutes(
    caplog: pytest.LogCaptureFixture,
) -> None:
    scene = Scene()
    for number in range(40):
        scene.machine.advance(minutes=1, seconds=1)
        scene.respond(scene.machine.now() + (AHEAD if number % 2 else timedelta(0)))
        scene.clock.now()
    assert 3 <= len(caplog.messages) <= 5
    assert all(each.startswith("the API server's time was 0:") for each in caplog.messages)


def test_after_a_long_time_without_a_response_the_first_one_counts_alone() -> None:
    scene = Scene()
    scene.machine.advance(seconds=1)
    scene.respond(scene.machine.now())
    scene.clock.now()
    scene.machine.advance(hours=1)
    scene.respond(scene.machine.now() + AHEAD)
    assert scene.clock.lead() == timedelta(0)
