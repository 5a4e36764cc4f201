"""
``python -m sandbox.environment.set_clock FILE MODULE [ARGUMENT ...]``: run a process of Counterfoil whose
clock can be set: it differs from the machine's by the seconds in ``FILE``, which may change at any time.
"""

import runpy
import sys
from datetime import datetime, timedelta
from pathlib import Path

from counterfoil.clock import WallClock


def install(file: Path) -> None:
    """Let each ``WallClock`` of this process differ by the seconds in a file; without the file by none."""
    machine = WallClock.now

    def now(clock: WallClock) -> datetime:
        try:
            return machine(clock) + timedelta(seconds=float(file.read_text()))
        except FileNotFoundError:
            return machine(clock)

    WallClock.now = now  # type: ignore[assignment, method-assign]


def main() -> None:
    """Run the module as ``python -m`` does."""
    install(Path(sys.argv[1]))
    sys.argv = sys.argv[2:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
