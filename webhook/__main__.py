"""``python -m webhook <process>``: start one of the processes of the HTTP side."""

import os
import sys

from webhook import receiver

PROCESSES = {"receiver": receiver.main}


def main() -> None:
    """Run the process that the first argument names, with the rest as its settings."""
    match sys.argv[1:]:
        case [name, *argv] if name in PROCESSES:
            PROCESSES[name](argv, os.environ)
        case ["--help" | "-h"]:
            print(f"usage: python -m webhook {{{','.join(PROCESSES)}}} [--help]")
        case _:
            sys.exit(_usage())


def _usage() -> int:
    print(
        f"python -m webhook: say which process, as in python -m webhook {next(iter(PROCESSES))}",
        file=sys.stderr,
    )
    return 2


if __name__ == "__main__":
    main()
