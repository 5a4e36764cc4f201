"""
The copies and routes of the first Organization, and the people who change them.

Each change is recorded with the moments in which it may come into force, so that the checker knows which
copies were required at a delete.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any, Final

from verification.chaos.checker import FIRST, OWN, digest

ORGANIZATION: Final = "acme"
ROUTED: Final = "hr"
"""Name of the route, and of the Archive to which it leads."""
TAGS: Final = {"area": {"jsonPath": "$.area"}}
"""Tags of that Archive."""
PLANNED: Final = {"worm": True, "mirror": False}
"""Whether a copy is required, by the name of its Archive."""
COPY_CHANGES: Final[tuple[Mapping[str, bool], ...]] = (
    {},
    {"worm": True},
    {"mirror": False},
    {"mirror": True},
    {"worm": False, "mirror": True},
    {"worm": True, "mirror": True},
    {"worm": False, "mirror": False},
)
"""The values that a person gives ``spec.copies``."""


def copies_of(copies: Mapping[str, bool]) -> list[dict[str, Any]]:
    """Return the value of ``spec.copies``."""
    return [{"archiveRef": {"name": name}, "required": required} for name, required in copies.items()]


def _route(archive: str, **when: Any) -> dict[str, Any]:
    return {"name": ROUTED, "archiveRef": {"name": archive}, "when": when}


PLANNED_ROUTES: Final = (_route(ROUTED, tags={"area": {"values": ["HR"]}}),)
ROUTE_CHANGES: Final[tuple[Sequence[Mapping[str, Any]], ...]] = (
    (),
    (_route(FIRST, senders=["anna"]),),
    (_route(ROUTED, senders=["anna"]),),
    (_route(ROUTED, tags={"area": {"values": ["Sales"]}}),),
    (_route(ROUTED, statuses=["Expired"]),),
)
"""The values that a person gives ``spec.routes``."""


def metadata_of(area: str) -> str:
    """Return the metadata of an envelope with this tag."""
    return json.dumps({"area": area})


def import_of(number: int) -> dict[str, Any]:
    """Return an Import that makes the missing copies of all envelopes."""
    return {
        "apiVersion": "counterfoil.dev/v1beta1",
        "kind": "Import",
        "metadata": {"name": f"copies-{number}"},
        "spec": {"organizationRef": {"name": ORGANIZATION}, "from": "2020-01-01", "copiesOnly": True},
    }


def wrong_files(
    copy: Mapping[str, bytes], original: Mapping[str, bytes], planted: Mapping[str, bytes]
) -> list[str]:
    """Return the files of an envelope in the Archive of a copy that a person removes after a comparison with
    the original: what another program wrote there, and documents with other bytes."""
    right = {digest(each) for each in original.values()}
    return sorted(
        path
        for path, content in copy.items()
        if planted.get(path) == content
        or (PurePosixPath(path).name not in OWN and digest(content) not in right)
    )
