"""
``python -m sandbox.node prepare``: install and build all that a node needs, with progress.

``python -m sandbox.node why-not``: say why a node can't be started here as things are; nothing, if it can.
"""

import asyncio
import os
import sys

from sandbox.controlplane import binaries
from sandbox.controlplane.toolchain import NoGoError
from sandbox.node import images, node
from sandbox.packages import debian

KIND = os.environ.get("CLUSTER") == "kind"


async def prepare() -> None:
    """Make everything that is kept: packages, programs, base image."""
    if KIND:
        await binaries.ensure("kubectl", "helm", *images.PROGRAMS)
        return
    await node.prepare()
    await binaries.ensure("helm", *images.PROGRAMS)
    await images.prepare()


def main() -> int:
    """Do what the first argument says; return the exit status."""
    if sys.argv[1:] == ["why-not"]:
        reason = node.why_not()
        if reason is not None:
            print(f"not run: {reason}; `make e2e` as root does it all")
        return 0
    try:
        asyncio.run(prepare())
    except (debian.PackagesMissing, binaries.BuildError, NoGoError, images.ImageError) as problem:
        print(f"sandbox.node: {problem}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
