"""A backup made fit for an empty cluster."""

from typing import Any

from counterfoil.cli.restore import objects, status

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


def test_of_the_metadata_only_what_is_the_objects_own_is_kept() -> None:
    (event,) = objects(a_backup(EVENT))["items"]
    assert event["metadata"] == {
        "name": "e1",
        "namespace": "contracts",
        "labels": {"counterfoil.dev/shard": "5"},
    }
    assert event["spec"] == EVENT["spec"]
    assert "status" not in event


def test_a_sealed_key_has_no_owner_or_it_would_be_removed_at_once() -> None:
    (secret,) = objects(a_backup(SEALED))["items"]
    assert secret == {**SEALED, "metadata": {"name": "s1", "namespace": "contracts"}}


def test_what_helm_and_kubernetes_make_by_themselves_stays_out() -> None:
    others = [
        {**SEALED, "type": each} for each in ("helm.sh/release.v1", "kubernetes.io/service-account-token")
    ]
    assert objects(a_backup(*others))["items"] == []


def test_a_status_is_said_of_the_first_generation() -> None:
    (event,) = status(a_backup(EVENT, SEALED))["items"]
    assert event["metadata"] == {"name": "e1", "namespace": "contracts"}
    assert event["status"]["observedGeneration"] == 1
    assert event["status"]["conditions"] == [{"type": "Ready", "observedGeneration": 1}]
    assert "spec" not in event
