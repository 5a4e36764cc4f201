"""
``python -m sandbox.controlplane NAME...``: download or build the named binaries unless they are cached, and
say where they are.
"""

import asyncio
import sys

from sandbox.controlplane.binaries import BuildError, ensure
from sandbox.controlplane.toolchain import NoGoError


def main() -> int:
    """Get them; return the exit status."""
    try:
        built = asyncio.run(ensure(*sys.argv[1:]))
    except (BuildError, NoGoError) as problem:
        print(f"sandbox.controlplane: {problem}", file=sys.stderr)
        return 1
    for name in sys.argv[1:]:
        print(f"[build] {name}: {built.path(name)}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
