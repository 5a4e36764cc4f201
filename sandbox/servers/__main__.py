"""
``python -m sandbox.servers NAME...``: fetch what the named servers need (azurite, opencmis), if it is not
there yet.
"""

import asyncio
import sys
from collections.abc import Sequence

from sandbox.packages.debian import PackagesMissing
from sandbox.packages.maven import MavenError
from sandbox.packages.npm import NpmPackagesError
from sandbox.servers import azblob_azurite, cmis_opencmis

FETCHERS = {"azurite": azblob_azurite.installed, "opencmis": cmis_opencmis.fetched}


async def fetch(names: Sequence[str]) -> None:
    """Fetch what each server needs, one after the other."""
    for name in names:
        print(f"[servers] {name}: {await FETCHERS[name]()}", file=sys.stderr)


def main() -> int:
    """Fetch what is missing; return the exit status."""
    try:
        asyncio.run(fetch(sys.argv[1:]))
    except (MavenError, NpmPackagesError, PackagesMissing) as problem:
        print(f"sandbox.servers: {problem}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
