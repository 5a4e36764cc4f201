"""The peer in Go stores what the controller stores, and the report compares round by round."""

import re
import tomllib
from pathlib import Path

from controller.reconcile.state_machine import PERSIST_AFTER, next_phase
from counterfoil.resources import EnvelopeEventStatus, Phase
from verification.bench.go_peer import PEER, ApiRequests, PeerRound, report
from verification.bench.plain_script import PlainScriptResult

ROOT = Path(__file__).parents[3]
METRICS = (
    "# TYPE apiserver_request_total counter\n"
    'apiserver_request_total{resource="envelopeevents",scope="resource",verb="POST"} 5\n'
    'apiserver_request_total{resource="envelopeevents",scope="resource",verb="PATCH"} 15\n'
    'apiserver_request_total{resource="envelopeevents",scope="resource",verb="GET"} 2\n'
    'apiserver_request_total{resource="",scope="",verb="GET"} 40\n'
    'apiserver_request_total{resource="envelopeevents",scope="namespace",verb="LIST"} 1\n'
    'apiserver_request_duration_seconds_count{verb="POST"} 7\n'
)


def a_round(*, rate: float, cpu: float = 10.0, memory: float = 40.0) -> PeerRound:
    return PeerRound(
        rate=rate,
        steady_rate=rate,
        cpu=cpu,
        cluster_cpu=20.0,
        memory=memory,
        writes=4.0,
        reads=0.0,
        esaw_calls=7.0,
        latencies=[0.1, 0.2, 0.3],
    )


WITHOUT_COPIES = PERSIST_AFTER - {Phase.COPYING}
"""The phases of the peer, which makes no copies."""


def test_the_peer_stores_a_status_as_often_as_the_controller() -> None:
    source = (PEER.folder / "reconciler.go").read_text(encoding="utf-8")
    assert source.count("r.store(ctx, ") == len(WITHOUT_COPIES)


def test_the_peer_stores_the_phases_that_follow_those_of_the_controller() -> None:
    source = (PEER.folder / "event.go").read_text(encoding="utf-8")
    assert set(re.findall(r'phase\w+ += "(\w+)"', source)) == {
        next_phase(each, EnvelopeEventStatus()) for each in WITHOUT_COPIES
    }


def test_the_version_of_the_peer_is_that_of_its_controller_runtime() -> None:
    assert f"sigs.k8s.io/controller-runtime v{PEER.version}\n" in PEER.go_mod


def test_the_wheel_and_the_source_archive_have_no_peer() -> None:
    targets = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["hatch"]["build"]["targets"]
    packed = {*targets["wheel"]["packages"], *targets["sdist"]["only-include"]}
    assert not any(each.startswith("bench") for each in packed)


def test_only_writes_and_reads_of_single_objects_are_counted() -> None:
    assert ApiRequests.parse(METRICS) == ApiRequests(writes=20, reads=2)


def test_requests_of_a_round_are_those_since_its_start() -> None:
    assert ApiRequests(30, 5) - ApiRequests(20, 2) == ApiRequests(10, 3)


def test_controller_and_peer_are_compared_round_by_round() -> None:
    plain = [PlainScriptResult(rate=50.0, cpu=20.0, memory=43.0), PlainScriptResult(25.0, 20.0, 43.0)]
    ours = [a_round(rate=40.0, cpu=30.0, memory=120.0), a_round(rate=20.0, cpu=30.0, memory=120.0)]
    text = report(plain, ours, [a_round(rate=50.0), a_round(rate=40.0)], pace=10.0)

    assert "| controller | 0.80 (0.80 to 0.80) | 30.0 (20.0 to 40.0) | 200 |" in text
    assert f"| peer on controller-runtime {PEER.version} | 1.30 (1.00 to 1.60) |" in text
    assert "rate 0.65 (0.50 to 0.80), CPU 3.00 (3.00 to 3.00), memory 3.00 (3.00 to 3.00)" in text
