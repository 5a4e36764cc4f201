"""The demo prints one table that fills, in place on a terminal and line by line elsewhere."""

import io
import os
import re
import subprocess
from pathlib import Path

from sandbox.demo.output import DemoOutput, EnvelopeRow, shell_command, tree_lines

PENDING = EnvelopeRow("Rental contract", "Anna Kofler", "Pending")
ARCHIVED = EnvelopeRow("Rental contract", "Anna Kofler", "Succeeded", "archived, verified")
REJECTED = EnvelopeRow("Loan offer", "Anna Kofler", "Skipped", "nothing to archive")


def to_file(*, verbose: bool = False) -> tuple[io.StringIO, DemoOutput]:
    stream = io.StringIO()
    return stream, DemoOutput(stream, lambda: 1.25, verbose)


def to_terminal(columns: int = 100, lines: int = 24) -> tuple[io.StringIO, DemoOutput]:
    stream = io.StringIO()
    return stream, DemoOutput(stream, lambda: 1.25, size=lambda: os.terminal_size((columns, lines)))


def screen(stream: io.StringIO) -> list[str]:
    """Return what a terminal shows: cursor up and erase to the end are the only commands in use."""
    shown: list[str] = []
    for up, text in re.findall(r"(?:\x1b\[(\d+)A\x1b\[J)?([^\x1b]*)", stream.getvalue()):
        if up:
            del shown[-int(up) :]
        shown += text.splitlines()
    return shown


def words(lines: list[str]) -> list[str]:
    return [" ".join(line.split()) for line in lines]


HEADING = "ENVELOPE SENDER PHASE RESULT"


def test_without_a_terminal_each_changed_row_is_one_line() -> None:
    stream, output = to_file()
    output.show([PENDING])
    output.show([PENDING])
    output.show([PENDING, REJECTED])
    output.show([ARCHIVED, REJECTED])
    assert words(stream.getvalue().splitlines()) == [
        "Rental contract Anna Kofler Pending",
        "Loan offer Anna Kofler Skipped nothing to archive",
        "Rental contract Anna Kofler Succeeded archived, verified",
    ]


def test_without_a_terminal_the_whole_table_is_at_the_end() -> None:
    stream, output = to_file()
    output.show([ARCHIVED, REJECTED])
    output.end_table()
    assert words(stream.getvalue().splitlines()[2:]) == [
        "",
        HEADING,
        "Rental contract Anna Kofler Succeeded archived, verified",
        "Loan offer Anna Kofler Skipped nothing to archive",
    ]


def test_without_a_terminal_nothing_but_text_is_written() -> None:
    stream, output = to_file()
    output.step("Somebody signs")
    output.show([PENDING])
    output.end_table()
    assert "\x1b" not in stream.getvalue()


def test_on_a_terminal_there_is_one_table_and_it_is_below_the_steps() -> None:
    stream, output = to_terminal()
    output.step("Somebody signs")
    output.show([PENDING])
    output.step("Somebody rejects")
    output.show([ARCHIVED, REJECTED])
    assert words(screen(stream)) == [
        "",
        "[ 1.2 s] Somebody signs",
        "",
        "[ 1.2 s] Somebody rejects",
        "",
        HEADING,
        "Rental contract Anna Kofler Succeeded archived, verified",
        "Loan offer Anna Kofler Skipped nothing to archive",
    ]


def test_on_a_terminal_the_table_stays_where_it_ended() -> None:
    stream, output = to_terminal()
    output.show([ARCHIVED])
    output.end_table()
    output.step("The archive")
    shown = words(screen(stream))
    assert shown[1:] == [HEADING, "Rental contract Anna Kofler Succeeded archived, verified", "", shown[-1]]


def test_a_row_that_is_wider_than_the_terminal_is_cut() -> None:
    stream, output = to_terminal(columns=30)
    output.show([ARCHIVED])
    assert max(map(len, screen(stream))) == 29


def test_a_terminal_that_is_too_low_for_the_table_gets_lines() -> None:
    stream, output = to_terminal(lines=4)
    output.show([PENDING, REJECTED])
    output.show([ARCHIVED, REJECTED])
    assert "\x1b" not in stream.getvalue()
    assert len(stream.getvalue().splitlines()) == 3


def test_details_are_printed_only_if_asked_for() -> None:
    stream, output = to_file()
    output.detail("$ kubectl get envelopeevents", "No resources found")
    assert stream.getvalue() == ""

    stream, output = to_file(verbose=True)
    output.detail("$ kubectl get envelopeevents", "No resources found")
    assert stream.getvalue() == "\n$ kubectl get envelopeevents\nNo resources found\n"


def test_a_tree_shows_folders_and_sizes(tmp_path: Path) -> None:
    (tmp_path / "Rossi & Figli" / "empty").mkdir(parents=True)
    (tmp_path / "Rossi & Figli" / "lease.pdf").write_bytes(b"x" * 1234)
    (tmp_path / "z.txt").write_bytes(b"")
    assert tree_lines(tmp_path) == [
        "├── Rossi & Figli/",
        "│   ├── empty/",
        "│   └── lease.pdf  1,234 bytes",
        "└── z.txt  0 bytes",
    ]


def test_a_printed_command_works_for_a_folder_with_spaces_and_signs(tmp_path: Path) -> None:
    folder = tmp_path / "Rossi & Figli's"
    folder.mkdir()
    command = f"{shell_command('cd', folder)} && pwd"
    done = subprocess.run(["sh", "-c", command], capture_output=True, check=True, text=True)
    assert done.stdout == f"{folder}\n"
