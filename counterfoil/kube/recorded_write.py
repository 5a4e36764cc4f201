"""
Write what a person asks for, with its audit entry (``counterfoil.resources.audit_annotation``), in one patch.

The object is written only while it is what the person saw. After a conflict it is read again, so that the
record of one person does not overwrite that of another.
"""

from collections.abc import Callable, Mapping
from typing import Any

from counterfoil.kube.client import KubeClient
from counterfoil.kube.errors import Conflict
from counterfoil.kube.status import MAX_CHANGE_ATTEMPTS
from counterfoil.kube.watch import Raw
from counterfoil.resources import Resource
from counterfoil.resources.audit_annotation import AuditEntry, with_audit_entry


class NoLongerMatches(Exception):
    """An object is no longer what it was chosen for; ``newest`` is its newest state."""

    def __init__(self, newest: Raw) -> None:
        super().__init__("the object is no longer what it was chosen for")
        self.newest = newest


def is_any(_: Raw) -> bool:
    """Whether an object is written in each state: it always is."""
    return True


async def write_recorded(
    kube: KubeClient,
    kind: type[Resource],
    raw: Raw,
    entry: AuditEntry,
    *,
    change: Mapping[str, Any],
    is_current: Callable[[Raw], bool],
) -> Raw:
    """
    Merge ``change`` and the entry into an object while it is ``is_current``; return it as stored.

    Raises ``NoLongerMatches``, ``ApiError``, and ``Conflict`` after ``MAX_CHANGE_ATTEMPTS`` conflicts.
    """
    name = raw["metadata"]["name"]
    for _ in range(MAX_CHANGE_ATTEMPTS):
        if not is_current(raw):
            raise NoLongerMatches(raw)
        try:
            return await kube.patch(kind, name, _with_record(change, raw["metadata"], entry))
        except Conflict:
            # The controller writes its status at the same time.
            raw = await kube.get(kind, name)
    raise Conflict(409, "Conflict", f"{kind.KIND}/{name} is written by others all the time")


def _with_record(change: Mapping[str, Any], metadata: Raw, entry: AuditEntry) -> Raw:
    changed = change.get("metadata", {})
    record = with_audit_entry(metadata.get("annotations") or {}, entry)
    return {
        **change,
        "metadata": {
            **changed,
            "annotations": {**changed.get("annotations", {}), **record},
            "resourceVersion": metadata["resourceVersion"],
        },
    }
