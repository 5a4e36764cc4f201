"""
``python -m counterfoil.cli.restore objects|status now.json < backup.json``: a backup, made fit for a cluster.

Reads what ``kubectl get … -o json`` wrote: the backup, and ``now.json``, what the cluster has now. Writes a
list without what belonged to the old cluster (ids, versions, owners). ``objects`` is the objects that people
and Counterfoil wrote, for ``kubectl create``; ``status`` is their progress, for ``kubectl apply
--server-side --subresource=status``. See docs/backup.md for the order of things.

Without ``--digest`` it writes no list: it shows the number of objects, and their digest. With that digest it
writes exactly these. What the cluster already has is named and not changed. Each status carries the version
of its object, so the API server refuses it if another client changes the object meanwhile.

It reads and writes no cluster, and says nothing about what was not in the backup.
"""

import argparse
import hashlib
import json
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from counterfoil.resources import API_VERSION

Object = Mapping[str, Any]

KEPT_METADATA = ("name", "namespace", "labels", "annotations")
"""Of the metadata. Owners are not: their ids are others now, and Kubernetes removes what an unknown id
owns."""
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
# Secrets that other programs create again: Helm's release records, tokens of ServiceAccounts.
FOREIGN_SECRET_TYPES = ("helm.sh/release.v1", "kubernetes.io/service-account-token")


DEFAULT_STATUS = {"phase": "Pending", "attempts": 0}
DEFAULT_TIME = "1970-01-01T00:00:00Z"
"""The time in the conditions that the CRDs give to new objects."""
DIGEST_LENGTH = 16
"""Number of characters of a digest that a user copies from one run to the next."""


class RestorePlan(NamedTuple):
    """The objects to write, and why others of the backup are not written."""

    items: Sequence[Object]
    unchanged: Sequence[str]

    @property
    def digest(self) -> str:
        """Digest of everything that is written, with the versions of the objects that are replaced."""
        text = json.dumps(self.items, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:DIGEST_LENGTH]

    def lines(self) -> list[str]:
        """Say it to a person."""
        counts = Counter(each["kind"] for each in self.items)
        lines = [*self.unchanged, *(f"{kind}: {count}" for kind, count in sorted(counts.items()))]
        return [*lines, f"{len(self.items)} to write; to write exactly these, add --digest {self.digest}"]


def objects(backup: Object, now: Object) -> RestorePlan:
    """Return the objects to create, without any status."""
    there = {_identity(each): each for each in now["items"]}
    items: list[Object] = []
    unchanged: list[str] = []
    for each in backup["items"]:
        if each.get("type") in FOREIGN_SECRET_TYPES:
            continue
        found = there.get(_identity(each))
        if found is None:
            items.append({**_without(each, "status"), "metadata": _metadata(each)})
        elif _content(found) != _content(each):
            unchanged.append(f"{_name(each)} is there with another content, and is not changed")
    return RestorePlan(items, unchanged)


def status(backup: Object, now: Object) -> RestorePlan:
    """Return the status of each created object that has none yet."""
    there = {_identity(each): each for each in now["items"]}
    items: list[Object] = []
    unchanged: list[str] = []
    for each in backup["items"]:
        if each["apiVersion"] != API_VERSION or _is_untouched(each.get("status") or {}):
            continue
        wanted, found = _reset_observed_generation(each["status"]), there.get(_identity(each))
        if found is None:
            unchanged.append(f"{_name(each)} is not there")
        elif _is_untouched(found.get("status") or {}):
            items.append(
                {
                    "apiVersion": each["apiVersion"],
                    "kind": each["kind"],
                    "metadata": {
                        name: found["metadata"][name]
                        for name in ("name", "namespace", "uid", "resourceVersion")
                    },
                    "status": wanted,
                }
            )
        elif found["status"] != wanted:
            unchanged.append(f"{_name(each)} has another status, and is not changed")
    return RestorePlan(items, unchanged)


def _identity(each: Object) -> tuple[str, str, str]:
    return each["kind"], each["metadata"]["namespace"], each["metadata"]["name"]


def _is_untouched(status_now: Mapping[str, Any]) -> bool:
    """Whether nobody has written a status: it has the defaults of the CRD only."""
    times = {each.get("lastTransitionTime") for each in status_now.get("conditions", ())}
    return times <= {DEFAULT_TIME} and _without(status_now, "conditions").items() <= DEFAULT_STATUS.items()


def _name(each: Object) -> str:
    return f"{each['kind']}/{each['metadata']['name']}"


def _content(each: Object) -> dict[str, Any]:
    """Return what people and Counterfoil wrote."""
    return _without(each, "status", "metadata")


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


MODES: Mapping[str, Callable[[Object, Object], RestorePlan]] = {"objects": objects, "status": status}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m counterfoil.cli.restore",
        description="Make a backup on standard input fit for a cluster.",
        allow_abbrev=False,
    )
    parser.add_argument("mode", choices=tuple(MODES), help="what to write")
    parser.add_argument("now", type=Path, help="what the cluster has now, from `kubectl get … -o json`")
    parser.add_argument("--digest", help="write the list for which the command without it prints this digest")
    return parser


def main(argv: Sequence[str]) -> int:
    """Turn standard input into standard output; return the exit status."""
    args = _parser().parse_args(argv)
    now = json.loads(args.now.read_text(encoding="utf-8"))
    plan = MODES[args.mode](json.load(sys.stdin), now)
    if args.digest is None:
        print("\n".join(plan.lines()))
        return 0
    if args.digest != plan.digest:
        print(
            "The backup or the cluster is not as it was shown with this digest. Nothing was written. Run the "
            "command without --digest, and look again.",
            file=sys.stderr,
        )
        return 1
    for line in plan.unchanged:
        print(line, file=sys.stderr)
    json.dump({"apiVersion": "v1", "kind": "List", "items": plan.items}, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
