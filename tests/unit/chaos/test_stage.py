"""People of a round work with an API server that was restored."""

from types import SimpleNamespace
from typing import cast

import pytest

from sandbox.controlplane.kubectl import KubectlError
from verification.chaos import stage as stages
from verification.chaos.stage import Stage

MISSING = 'kubectl patch ee x: Error from server (NotFound): envelopeevents.counterfoil.dev "x" not found'


def a_stage(restores: int) -> Stage:
    async def kubectl(*_: str) -> None:
        raise KubectlError(MISSING)

    fake = SimpleNamespace(environment=SimpleNamespace(kubectl=kubectl), restores=restores)
    return cast("Stage", fake)


async def test_who_resumes_an_event_that_a_restored_api_server_does_not_have_has_nothing_to_do() -> None:
    await Stage.set_suspend(a_stage(restores=1), "ee", "x", is_suspended=False)


async def test_an_event_that_is_missing_without_a_restore_stops_the_round(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stages, "PERSIST_ATTEMPTS", 1)
    with pytest.raises(KubectlError):
        await Stage.set_suspend(a_stage(restores=0), "ee", "x", is_suspended=False)
