"""
Show and send drafts whose XML has new names each time, and print by how many bytes the process grew.

A separate process, with one arena of glibc: each arena of a new thread would count as growth, and so would
what other tests left in theirs.
"""

import os
import subprocess
import sys

from counterfoil.testing.archive_contract.runs import peak_memory
from webhook.pages.metadata import merged, values_in

ELEMENTS = {"element": "<{}/>", "attribute": '<a {}=""/>', "prefix": '<a xmlns:{}="b"/>'}
DRAFTS = 40


def growth(kind: str) -> int:
    """Return the growth in bytes of a process in which the names are of this kind."""
    environment = {**os.environ, "MALLOC_ARENA_MAX": "1"}
    command = (sys.executable, "-m", "tests.support.scenes.drafts_with_new_names", kind)
    return int(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)


def _draft(kind: str, number: int) -> str:
    names = (f"{kind * 2_000}_{number}_{each}" for each in range(80))
    return f"<m>{''.join(map(ELEMENTS[kind].format, names))}<Contract>1</Contract></m>"


def _show_and_send(kind: str, number: int) -> None:
    metadata = _draft(kind, number)
    assert values_in(metadata, ("Contract",), limit=len(metadata)) == {"Contract": "1"}
    assert merged(metadata, {"Contract": "2"}, limit=len(metadata)) != metadata


def main() -> None:
    """Print the growth for the kind of names in the first argument."""
    (kind,) = sys.argv[1:]
    _show_and_send(kind, 0)
    before = peak_memory()
    for number in range(1, DRAFTS + 1):
        _show_and_send(kind, number)
    print(peak_memory() - before)


if __name__ == "__main__":
    main()
