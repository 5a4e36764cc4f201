"""A backup made fit for an empty cluster."""

import io
import json
from pathlib import Path
from typing import Any

import pytest

from counterfoil.cli.restore import main, objects, status

EVENT = {
    "apiVersion": "counterfoil.dev/v1beta1",
    "kind": "EnvelopeEvent",
    "metadata": {
        "name": "e1",
        "namespace": "contracts",
        "uid": "u1",
        "resourceVersion": "7",
        "generation": 3,
        "creationTimestamp": "2026-11-24T12:00:00Z",
        "labels": {"counterfoil.dev/shard": "5"},
        "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}"},
        "managedFields": [{}],
    },
    "spec": {"envelopeID": "x"},
    "status": {
        "phase": "Succeeded",
        "observedGeneration": 3,
        "conditions": [{"type": "Ready", "observedGeneration": 3}],
    },
}
SEALED = {
    "apiVersion": "v1",
    "kind": "Secret",
    "type": "counterfoil.dev/sealed-token",
    "metadata": {"name": "s1", "namespace": "contracts", "ownerReferences": [{"uid": "gone"}]},
    "data": {"token": "AA=="},
}


def a_backup(*items: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "List", "items": list(items)}


EMPTY = a_backup()
CREATED: dict[str, Any] = {
    "apiVersion": EVENT["apiVersion"],
    "kind": "EnvelopeEvent",
    "metadata": {"name": "e1", "namespace": "contracts", "uid": "new", "resourceVersion": "12"},
    "spec": EVENT["spec"],
    "status": {
        "phase": "Pending",
        "attempts": 0,
        "conditions": [{"type": "Ready", "status": "Unknown", "lastTransitionTime": "1970-01-01T00:00:00Z"}],
    },
}
"""The event in the cluster after its restore, before that of its status."""


def test_of_the_metadata_only_what_is_the_objects_own_is_kept() -> None:
    (event,) = objects(a_backup(EVENT), EMPTY).items
    assert event["metadata"] == {
        "name": "e1",
        "namespace": "contracts",
        "labels": {"counterfoil.dev/shard": "5"},
    }
    assert event["spec"] == EVENT["spec"]
    assert "status" not in event


def test_a_sealed_key_has_no_owner_or_it_would_be_removed_at_once() -> None:
    (secret,) = objects(a_backup(SEALED), EMPTY).items
    assert secret == {**SEALED, "metadata": {"name": "s1", "namespace": "contracts"}}


def test_what_helm_and_kubernetes_create_stays_out() -> None:
    others = [
        {**SEALED, "type": each} for each in ("helm.sh/release.v1", "kubernetes.io/service-account-token")
    ]
    assert objects(a_backup(*others), EMPTY).items == []


def test_a_status_is_said_of_the_first_generation() -> None:
    (event,) = status(a_backup(EVENT, SEALED), a_backup(CREATED)).items
    assert event["metadata"] == CREATED["metadata"]
    assert event["status"]["observedGeneration"] == 1
    assert event["status"]["conditions"] == [{"type": "Ready", "observedGeneration": 1}]
    assert "spec" not in event


@pytest.mark.parametrize(
    ("spec", "unchanged"),
    [
        ({"envelopeID": "x"}, []),
        ({"envelopeID": "y"}, ["EnvelopeEvent/e1 is there with another content, and is not changed"]),
    ],
)
def test_an_object_that_the_cluster_has_is_not_changed(spec: dict[str, Any], unchanged: list[str]) -> None:
    plan = objects(a_backup(EVENT), a_backup({**CREATED, "spec": spec}))
    assert (plan.items, plan.unchanged) == ([], unchanged)


@pytest.mark.parametrize(
    "there",
    [
        {"phase": "Failed"},
        {"phase": "Pending", "attempts": 1},
        {"phase": "Pending", "deliveries": {"count": 2}},
        {"conditions": [{"type": "Ready", "lastTransitionTime": "2026-11-24T12:00:00Z"}]},
    ],
)
def test_a_status_that_the_cluster_has_is_not_changed(there: dict[str, Any]) -> None:
    plan = status(a_backup(EVENT), a_backup({**CREATED, "status": there}))
    assert (plan.items, plan.unchanged) == (
        [],
        ["EnvelopeEvent/e1 has another status, and is not changed"],
    )


def test_a_status_that_nobody_had_written_is_not_restored() -> None:
    assert status(a_backup(CREATED, SEALED), a_backup(CREATED)) == ([], [])


def test_the_status_of_an_object_that_was_not_restored_is_named() -> None:
    plan = status(a_backup(EVENT), EMPTY)
    assert (plan.items, plan.unchanged) == ([], ["EnvelopeEvent/e1 is not there"])


def test_only_what_was_shown_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = tmp_path / "now.json"

    def run(cluster: dict[str, Any], *arguments: str) -> tuple[int, str]:
        now.write_text(json.dumps(cluster))
        monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(a_backup(EVENT))))
        code = main(["status", str(now), *arguments])
        return code, capsys.readouterr().out

    code, shown = run(a_backup(CREATED))
    assert (code, shown.splitlines()[0]) == (0, "EnvelopeEvent: 1")
    digest = shown.split()[-1]

    code, written = run(a_backup(CREATED), "--digest", digest)
    assert code == 0
    assert [each["metadata"]["name"] for each in json.loads(written)["items"]] == ["e1"]

    changed = {**CREATED, "metadata": {**CREATED["metadata"], "resourceVersion": "13"}}
    assert run(a_backup(changed), "--digest", digest) == (1, "")
