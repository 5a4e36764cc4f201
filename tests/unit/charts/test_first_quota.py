"""The Job that creates the quota: it leaves a quota that counts, or none."""

import importlib.util
import types
from typing import Any

import pytest

from docs.tools.generate_chart import CHART

PATH = "/api/v1/namespaces/contracts/resourcequotas/counterfoil"
QUOTA: dict[str, Any] = {
    "metadata": {"name": "counterfoil", "namespace": "contracts"},
    "spec": {"hard": {"count/envelopeevents.counterfoil.dev": "100000", "count/leases": "1"}},
}


def program() -> types.ModuleType:
    """Load the Job's program, which is no module of a package."""
    spec = importlib.util.spec_from_file_location("first_quota", CHART / "files" / "first_quota.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Cluster:
    """An API server whose quota controller knows the kind from a time on."""

    def __init__(self, *, knows_after: float) -> None:
        self.knows_after = knows_after
        self.time = 0.0
        self.created_at: float | None = None
        self.refused_seconds = 0.0
        self.requests: list[str] = []

    def sleep(self, seconds: float) -> None:
        self.time += seconds
        if self.created_at is not None and not self.is_counted:
            self.refused_seconds += seconds

    @property
    def is_counted(self) -> bool:
        return self.created_at is not None and self.created_at >= self.knows_after

    def send(self, method: str, path: str, body: Any) -> Any:
        self.requests.append(method)
        assert path.partition("?")[0] == PATH
        if method == "PATCH":
            assert body == QUOTA
            self.created_at = self.time
        elif method == "DELETE":
            self.created_at = None
        used = QUOTA["spec"]["hard"] if self.is_counted else {"count/leases": "0"}
        return {"status": {"used": used}}


def test_a_quota_that_is_counted_at_once_stays() -> None:
    cluster = Cluster(knows_after=30.0)
    assert program().bring(cluster.send, [QUOTA], cluster.sleep)
    assert cluster.requests == ["PATCH", "GET"]


def test_a_quota_that_is_not_counted_is_taken_away_and_comes_later() -> None:
    cluster = Cluster(knows_after=200.0)
    assert program().bring(cluster.send, [QUOTA], cluster.sleep)
    assert cluster.is_counted
    assert cluster.refused_seconds <= 30


def test_a_quota_that_is_there_is_changed_and_never_taken_away() -> None:
    cluster = Cluster(knows_after=0.0)
    cluster.created_at = 0.0
    assert program().bring(cluster.send, [QUOTA], cluster.sleep)
    assert cluster.requests == ["PATCH", "GET"]
    assert cluster.refused_seconds == 0


def test_without_a_quota_controller_no_quota_is_left() -> None:
    cluster = Cluster(knows_after=float("inf"))
    assert not program().bring(cluster.send, [QUOTA], cluster.sleep)
    assert cluster.created_at is None


def test_a_namespace_that_refuses_its_quota_keeps_no_other_from_its_own(
    capsys: pytest.CaptureFixture[str],
) -> None:
    cluster = Cluster(knows_after=0.0)
    gone = {**QUOTA, "metadata": {"name": "counterfoil", "namespace": "gone"}}

    def send(method: str, path: str, body: Any) -> Any:
        if "/gone/" in path:
            raise OSError("HTTP Error 404: Not Found")
        return cluster.send(method, path, body)

    assert not program().bring(send, [gone, QUOTA], cluster.sleep), "Kubernetes repeats the Job"
    assert cluster.is_counted
    assert cluster.requests == ["PATCH", "GET"]
    assert "gone: HTTP Error 404" in capsys.readouterr().out
