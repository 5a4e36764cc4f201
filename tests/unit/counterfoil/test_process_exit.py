"""A command ends with its status and all of its output, and nothing of the interpreter's end runs."""

import subprocess
import sys

import pytest

PROGRAM = """
import atexit, sys
from counterfoil.process_exit import exit_process
atexit.register(print, "the interpreter ended")
print("a line", end="")
print("a warning", end="", file=sys.stderr)
exit_process({status})
"""


@pytest.mark.parametrize("status", [0, 3])
def test_all_output_is_written_and_the_status_is_kept(status: int) -> None:
    command = [sys.executable, "-c", PROGRAM.format(status=status)]
    ended = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (ended.returncode, ended.stdout, ended.stderr) == (status, "a line", "a warning")


def test_a_reader_that_has_gone_away_changes_nothing() -> None:
    command = f"'{sys.executable}' -E -c '{PROGRAM.format(status=0)}' | true; exit ${{PIPESTATUS[0]}}"
    ended = subprocess.run(["bash", "-c", command], check=False, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "a warning")
