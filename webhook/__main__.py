"""``python -m webhook <process>``: start one of the processes of the HTTP side."""

import importlib
import os
import sys

from counterfoil.process_exit import exit_process

PROCESSES = {
    "receiver": "webhook.receiver.app",
    "pages": "webhook.pages.app",
    "console": "webhook.console.app",
}
"""Module of each process. Only the started process is imported: a receiver does not load the pages' parts."""


def main() -> None:
    """Run the process that the first argument names, with the rest as its settings."""
    match sys.argv[1:]:
        case [name, *argv] if name in PROCESSES:
            importlib.import_module(PROCESSES[name]).main(argv, os.environ)
        case ["--help" | "-h"]:
            print(f"usage: python -m webhook {{{','.join(PROCESSES)}}} [--help]")
        case _:
            example = f"python -m webhook {next(iter(PROCESSES))}"
            print(f"python -m webhook: say which process, as in {example}", file=sys.stderr)
            sys.exit(2)


if __name__ == "__main__":
    main()
    exit_process(0)
