"""One trace from the callback to the archive, through two processes and the API server between them."""

import json
from pathlib import Path
from typing import Any

import pytest

from counterfoil.resources import TRACEPARENT_ANNOTATION, Phase, envelope_id, event_name
from sandbox.controlplane.control_plane import ControlPlane
from sandbox.servers.plain_http import plain_http
from tests.support.pauses import eventually
from tests.support.scenes.controller import a_controller_scene
from tests.support.servers.trace_collector import trace_collector


async def test_one_trace_spans_receiver_and_controller_and_the_logs_name_it(
    plane: ControlPlane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with trace_collector() as collector:
        for name, value in collector.environment.items():
            # What is started from here inherits it.
            monkeypatch.setenv(name, value)
        async with a_controller_scene(plane, tmp_path) as built:
            receiver = await built.local_environment.receiver()
            await built.local_environment.ready("archive/dms", "organization/acme")
            envelope = built.envelope()
            # Something to log about.
            built.esaw.fault("envelope", id=envelope, status=500, times=1)
            url = built.local_environment.callback_url("acme", receiver).replace("##EnvelopeId##", envelope)
            async with plain_http() as http:

                async def taken() -> bool:
                    answer = await http.get(url.replace("##Action##", "envelopeFinished"))
                    return answer.status_code == 200

                await eventually(taken)
            name = event_name("acme", envelope_id(envelope), "envelopeFinished")
            event = await built.reaches(name, Phase.SUCCEEDED)

            async def arrived() -> bool:
                return bool(collector.named("Cleaning")) and bool(collector.named("event"))

            await eventually(arrived)
            logs = lines(tmp_path, "controller") + lines(tmp_path, "receiver")
            tokens = [*built.tokens, *built.local_environment.tokens.values()]
        (callback,) = [
            each for each in collector.named("callback") if each.facts["counterfoil.outcome"] == "noted"
        ]
        traceparent = event.metadata.annotations[TRACEPARENT_ANNOTATION]
        assert traceparent.startswith(f"00-{callback.trace}-{callback.id}-")
        mine = {each.name for each in collector.spans if each.trace == callback.trace}
        assert mine >= {
            *("callback", "event", "Validating", "Collecting", "Archiving", "Cleaning"),
            *("eSAW envelope", "eSAW files", "archive put", "archive read", "eSAW delete"),
        }
        services = {each.name: each.service for each in collector.spans if each.trace == callback.trace}
        assert (services["callback"], services["event"]) == ("counterfoil-receiver", "counterfoil-controller")
        assert collector.named("event")[0].parent == callback.id
        told = [each for each in logs if each.get("event") == name]
        assert {each["trace_id"] for each in told} == {callback.trace}
        (noted,) = [each for each in told if each.get("outcome") == "noted"]
        assert (noted["envelope"], noted["organization"]) == (envelope, "acme")
        (failed,) = [each for each in told if each["message"].startswith("an attempt")]
        about = {
            "organization": "acme",
            "envelope": envelope,
            "sender": "anna",
            "phase": "Validating",
            "attempt": 1,
        }
        assert {key: failed[key] for key in about} == about
        assert [each for each in tokens if each.encode() in collector.bytes] == []


def lines(folder: Path, process: str) -> list[dict[str, Any]]:
    """Log records of a process."""
    text = (folder / f"{process}.log").read_text()
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]
