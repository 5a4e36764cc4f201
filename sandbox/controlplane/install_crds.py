"""
Teach an API server our kinds: apply a folder of CustomResourceDefinitions and wait until they can be used.

Being established is not enough: that a kind is served, that kubectl finds it by its name, and that its schema
is published each come in their own time.
"""

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sandbox.controlplane.kubectl import Kubectl, KubectlError

CRDS = Path(__file__).parents[2] / "crds"
TIMEOUT = 60.0  # seconds
INTERVAL = 0.1  # seconds between looks
COLUMNS = "custom-columns=:.spec.group,:.spec.names.plural,:.spec.versions[?(@.served==true)].name"


@dataclass(frozen=True)
class ServedKind:
    """One served version of a kind."""

    group_version: str
    plural: str


async def install_crds(kubectl: Kubectl, folder: Path = CRDS) -> None:
    """
    Apply all definitions of a folder and wait until the kinds are served, found and explained.

    Raises KubectlError when the API server does not accept them, FileNotFoundError when there are none,
    TimeoutError when one is not served after a minute.
    """
    _require_definitions(folder)
    await kubectl("apply", "--server-side", "-f", str(folder))
    columns = await kubectl("get", "-f", str(folder), "--no-headers", "-o", COLUMNS)
    async with asyncio.timeout(TIMEOUT):
        for kind in _kinds(columns):
            await _wait_until_served(kubectl, kind)


def _require_definitions(folder: Path) -> None:
    if not any(folder.glob("*.yaml")):
        raise FileNotFoundError(f"{folder} holds no *.yaml")


def _kinds(columns: str) -> Iterator[ServedKind]:
    for line in columns.splitlines():
        group, plural, versions = line.split()
        for version in versions.split(","):
            yield ServedKind(f"{group}/{version}", plural)


async def _wait_until_served(kubectl: Kubectl, kind: ServedKind) -> None:
    while not await _is_served(kubectl, kind):  # noqa: ASYNC110 - another process; it sends no event
        await asyncio.sleep(INTERVAL)


async def _is_served(kubectl: Kubectl, kind: ServedKind) -> bool:
    try:
        found = json.loads(await kubectl("get", "--raw", f"/apis/{kind.group_version}"))
        explained = json.loads(await kubectl("get", "--raw", f"/openapi/v3/apis/{kind.group_version}"))
    except KubectlError:
        # Both answer 404 until the first kind of the group is there.
        return False
    names = [resource["name"] for resource in found["resources"]]
    return kind.plural in names and any(path.endswith(f"/{kind.plural}") for path in explained["paths"])
