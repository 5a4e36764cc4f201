"""
Teach an API server our kinds: apply a folder of CustomResourceDefinitions and wait until they can be used.

Being established is not enough: that a kind is served, that kubectl finds it by its name, and that its schema
is published each come in their own time.
"""

import asyncio
import json
from collections import defaultdict
from collections.abc import Mapping, Set
from pathlib import Path

from sandbox.controlplane.kubectl import Kubectl, KubectlError

CRDS = Path(__file__).parents[2] / "crds"
TIMEOUT = 60.0  # seconds
INTERVAL = 0.1  # seconds between looks
COLUMNS = "custom-columns=:.spec.group,:.spec.names.plural,:.spec.versions[?(@.served==true)].name"


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
        for group_version, plurals in _kinds(columns).items():
            while not await _are_served(kubectl, group_version, plurals):  # noqa: ASYNC110 - another process
                await asyncio.sleep(INTERVAL)


def _require_definitions(folder: Path) -> None:
    if not any(folder.glob("*.yaml")):
        raise FileNotFoundError(f"{folder} holds no *.yaml")


def _kinds(columns: str) -> Mapping[str, Set[str]]:
    """Return the plurals of the kinds in each group and version that is served."""
    kinds = defaultdict(set)
    for line in columns.splitlines():
        group, plural, versions = line.split()
        for version in versions.split(","):
            kinds[f"{group}/{version}"].add(plural)
    return kinds


async def _are_served(kubectl: Kubectl, group_version: str, plurals: Set[str]) -> bool:
    try:
        found = json.loads(await kubectl("get", "--raw", f"/apis/{group_version}"))
        explained = json.loads(await kubectl("get", "--raw", f"/openapi/v3/apis/{group_version}"))
    except KubectlError:
        # Both answer 404 until the first kind of the group is there.
        return False
    explained_plurals = {path.rpartition("/")[2] for path in explained["paths"]}
    return plurals <= {resource["name"] for resource in found["resources"]} & explained_plurals
