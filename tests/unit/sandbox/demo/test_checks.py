"""The demo's checks are short, name what failed, and fail with a process that ended."""

import asyncio
from pathlib import Path

import httpx
import pytest

from sandbox.demo.checks import DemoChecks, check_processes
from sandbox.demo.envelopes import DemoEnvelope, EventState, envelope_rows, event_states
from sandbox.demo.output import EnvelopeRow
from sandbox.demo.scenarios import another_envelope
from sandbox.environment.processes import CounterfoilProcess
from sandbox.esaw import StandIn


def a_process(folder: Path, command: str) -> CounterfoilProcess:
    process = CounterfoilProcess.of(
        ["controller"],
        kubeconfig=folder / "kubeconfig",
        namespace="demo",
        log=folder / "controller.log",
        settings={},
    )
    process.argv = ["/bin/sh", "-c", command]
    process.start_unready()
    return process


def test_a_group_is_one_line() -> None:
    checks = DemoChecks()
    checks.check("deleted once", "Rental contract: deleted once", came_true=True)
    checks.check("deleted once", "Supply contract: deleted once", came_true=True)
    assert checks.short() == ["  ok        2 of 2  deleted once"]
    assert checks.long() == [
        "  ok      Rental contract: deleted once",
        "  ok      Supply contract: deleted once",
    ]
    assert checks.all_true


def test_a_failed_check_is_named_also_in_short() -> None:
    checks = DemoChecks()
    checks.check("deleted once", "Rental contract: deleted once", came_true=True)
    checks.check("deleted once", "Supply contract: deleted once", came_true=False)
    assert checks.short() == [
        "  FAILED    1 of 2  deleted once",
        "  FAILED            Supply contract: deleted once",
    ]
    assert not checks.all_true


def test_no_check_at_all_is_no_success() -> None:
    assert not DemoChecks().all_true


async def test_a_process_that_ended_fails_the_demo_and_its_log_is_shown(tmp_path: Path) -> None:
    process, checks = a_process(tmp_path, "echo no space left; exit 3"), DemoChecks()
    while not process.server.ended:  # noqa: ASYNC110 - another process gives no event to wait for
        await asyncio.sleep(0.01)
    check_processes([process], checks)
    assert not checks.all_true
    shown = "\n".join(checks.short())
    assert "the process controller ended with 3" in shown
    assert "no space left" in shown


async def test_a_process_that_runs_is_right(tmp_path: Path) -> None:
    process, checks = a_process(tmp_path, "exec /bin/sleep 600"), DemoChecks()
    try:
        check_processes([process], checks)
        assert checks.all_true
    finally:
        process.kill()


@pytest.mark.parametrize(
    ("status", "row"),
    [
        ({}, EnvelopeRow("Lease", "Carla Moser", "", "")),
        ({"phase": "Pending"}, EnvelopeRow("Lease", "Carla Moser", "Pending", "")),
        (
            {"phase": "Succeeded", "reason": "ArchivedAndDeleted"},
            EnvelopeRow("Lease", "Carla Moser", "Succeeded", "archived, verified, then deleted in eSAW"),
        ),
        (
            {"phase": "Archiving", "reason": "Other"},
            EnvelopeRow("Lease", "Carla Moser", "Archiving", "Other"),
        ),
    ],
    ids=["no status", "pending", "reason in words", "other reason"],
)
def test_a_row_shows_phase_and_result(status: dict[str, str], row: EnvelopeRow) -> None:
    states = event_states([{"spec": {"envelopeID": "one"}, "status": status}])
    assert envelope_rows([DemoEnvelope("one", "Lease", "Carla Moser")], states) == [row]


def test_an_envelope_without_a_callback_has_no_row() -> None:
    states = {"another": EventState("Pending", "")}
    assert envelope_rows([DemoEnvelope("one", "Lease", "Carla Moser")], states) == []


async def test_the_order_of_one_more_envelope_is_one_that_the_stand_in_takes() -> None:
    async with StandIn(seed=7) as esaw, httpx.AsyncClient(base_url=esaw.url) as client:
        anna = esaw.add_user(email="anna@example.com", given_name="Anna", surname="Kofler")
        order = another_envelope(anna, "http://127.0.0.1:9/callbacks/acme/token?e=##EnvelopeId##")
        made = await client.post("/_control/add_envelope", content=order)
        assert made.status_code == 200
        assert esaw.exists(made.json())
