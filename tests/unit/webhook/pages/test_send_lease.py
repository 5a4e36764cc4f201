"""The Lease of a draft that is being sent."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from counterfoil.resources.lease import micro_time
from tests.support.builders import NOON
from webhook.pages.send_lease import SendLease

SECONDS = 60
AHEAD = NOON + timedelta(days=30)


def a_lease(renewed: datetime, **metadata: Any) -> SendLease:
    spec = {
        "acquireTime": micro_time(NOON),
        "renewTime": micro_time(renewed),
        "leaseDurationSeconds": SECONDS,
    }
    return SendLease.parse({"metadata": {"name": "draft", **metadata}, "spec": spec})


def managed(*times: datetime) -> list[dict[str, str]]:
    return [{"manager": "pages", "time": each.isoformat()} for each in times]


@pytest.mark.parametrize(
    ("renewed", "metadata", "seconds", "is_expired"),
    [
        (NOON, {}, SECONDS, False),
        (NOON, {}, SECONDS + 1, True),
        (AHEAD, {"creationTimestamp": NOON.isoformat()}, SECONDS, False),
        (AHEAD, {"creationTimestamp": NOON.isoformat()}, SECONDS + 1, True),
        (AHEAD, {"managedFields": managed(NOON, NOON + timedelta(hours=1))}, 3600 + SECONDS, False),
        (AHEAD, {"managedFields": managed(NOON, NOON + timedelta(hours=1))}, 3601 + SECONDS, True),
        (AHEAD, {}, SECONDS + 1, False),
    ],
    ids=[
        "runs",
        "ended",
        "runs, clock ahead",
        "ended, clock ahead",
        "second runs",
        "second ended",
        "unknown",
    ],
)
def test_an_attempt_with_a_start_that_cannot_be_right_ends_by_the_api_servers_time(
    renewed: datetime, metadata: dict[str, Any], seconds: int, *, is_expired: bool
) -> None:
    assert a_lease(renewed, **metadata).is_expired(NOON + timedelta(seconds=seconds)) is is_expired
