"""
``python -m counterfoil.cli.restore objects|status < backup.json``: a backup, made fit for an empty cluster.

Reads what ``kubectl get … -o json`` wrote, and writes a list that ``kubectl apply --server-side`` takes:
without what belonged to the old cluster (ids, versions, owners). ``objects`` is the objects that people and
Counterfoil wrote, ``status`` is their progress; apply it second, with ``--subresource=status``. See
docs/backup.md for the order of things.

It reads and writes no cluster, and says nothing about what was not in the backup.
"""

import json
import sys
from collections.abc import Mapping
from typing import Any

from counterfoil.resources import API_VERSION

Object = Mapping[str, Any]

KEPT_METADATA = ("name", "namespace", "labels", "annotations")
"""Of the metadata. Owners are not: their ids are others now, and Kubernetes removes what an unknown id
owns."""
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
# Secrets that other programs create again: Helm's release records, tokens of ServiceAccounts.
FOREIGN_SECRET_TYPES = ("helm.sh/release.v1", "kubernetes.io/service-account-token")


def objects(backup: Object) -> dict[str, Any]:
    """Return the list of the objects to create, without any status."""
    kept = [each for each in backup["items"] if each.get("type") not in FOREIGN_SECRET_TYPES]
    return _list([{**_without(each, "status"), "metadata": _metadata(each)} for each in kept])


def status(backup: Object) -> dict[str, Any]:
    """Return the list to apply to the subresource ``status`` of the created objects."""
    ours = [each for each in backup["items"] if each["apiVersion"] == API_VERSION and each.get("status")]
    return _list(
        [
            {
                "apiVersion": each["apiVersion"],
                "kind": each["kind"],
                "metadata": {name: each["metadata"][name] for name in ("name", "namespace")},
                "status": _reset_observed_generation(each["status"]),
            }
            for each in ours
        ]
    )


def _list(items: list[dict[str, Any]]) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "List", "items": items}


def _without(each: Object, *names: str) -> dict[str, Any]:
    return {name: value for name, value in each.items() if name not in names}


def _metadata(each: Object) -> dict[str, Any]:
    metadata = {name: value for name, value in each["metadata"].items() if name in KEPT_METADATA}
    if annotations := _without(metadata.pop("annotations", {}), LAST_APPLIED):
        metadata["annotations"] = annotations
    return metadata


def _reset_observed_generation(content: Any) -> Any:
    """Set each ``observedGeneration`` to 1, the generation of new objects in this cluster."""
    if isinstance(content, list):
        return [_reset_observed_generation(each) for each in content]
    if not isinstance(content, Mapping):
        return content
    return {
        name: 1 if name == "observedGeneration" else _reset_observed_generation(value)
        for name, value in content.items()
    }


MODES = {"objects": objects, "status": status}


def main() -> int:
    """Turn standard input into standard output; return the exit status."""
    if len(sys.argv) != 2 or sys.argv[1] not in MODES:
        print(f"usage: python -m counterfoil.cli.restore {'|'.join(MODES)} < backup.json", file=sys.stderr)
        return 2
    json.dump(MODES[sys.argv[1]](json.load(sys.stdin)), sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
