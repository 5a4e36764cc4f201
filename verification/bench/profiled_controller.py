"""
``python -m verification.bench.profiled_controller FILE``: the controller as in production, under a profiler.

At its end it writes to ``FILE``, for each Python file by path: the calls of its functions, and their CPU time
in microseconds with that of the built-in functions that they call. All threads of Python are counted.
"""

import cProfile
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from types import CodeType

import msgspec

from controller.__main__ import main as run_controller
from counterfoil.process_exit import exit_process


class FileWork(msgspec.Struct):
    """The work of the functions of one file."""

    calls: int = 0
    microseconds: float = 0.0


def work_by_file(profiles: Iterable[cProfile.Profile]) -> dict[str, FileWork]:
    """Return what the profiles of all threads have, by path of the file."""
    found = defaultdict[str, FileWork](FileWork)
    for profile in profiles:
        for entry in profile.getstats():
            if isinstance(entry.code, CodeType):
                built_in = sum(each.inlinetime for each in entry.calls or () if isinstance(each.code, str))
                work = found[Path(entry.code.co_filename).as_posix()]
                work.calls += entry.callcount
                work.microseconds += (entry.inlinetime + built_in) * 1e6
    return dict(found)


def main() -> int:
    """Run the controller until it is ended; return its exit status."""
    path = Path(sys.argv.pop(1))
    profiles = list[cProfile.Profile]()

    def profile_thread(*_: object) -> None:
        profiles.append(cProfile.Profile(time.thread_time))
        profiles[-1].enable()

    threading.setprofile(profile_thread)
    profile_thread()
    status = run_controller()
    profiles[0].disable()
    path.write_bytes(msgspec.json.encode(work_by_file(profiles)))
    return status


if __name__ == "__main__":
    exit_process(main())
