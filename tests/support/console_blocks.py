"""
The commands that a page tells its reader to type, and what it says that they print.

A block of the kind ``console`` has commands after ``$ ``, and their output below. A command continues after
a line that ends in a backslash or a pipe, and to the end of its here-document. In an output, ``…`` stands for
anything; the lines have to come in this order, and others may come between.
"""

import asyncio
import os
import re
import signal
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryFile

_BLOCK = re.compile(r"^(?P<indent> *)```console\n(?P<body>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL)
_HERE = re.compile(r"<<-?\s*'?(?P<word>[A-Za-z]+)'?")
_MARK = "@@command at $EPOCHREALTIME@@"
_MARKS = r"^@@command at ([\d.]+)@@$"
_GAP = re.compile(r"…|\s+")


@dataclass
class ConsoleCommand:
    """One command, and the lines that it prints."""

    text: str
    output: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Typed:
    """The result of typing commands: all that was printed, and the seconds that it took, by command."""

    status: int
    printed: Sequence[str]
    complaints: str
    seconds: Sequence[float]


def console_commands(page: str) -> list[ConsoleCommand]:
    """Return the commands of a page (Markdown) in order."""
    found: list[ConsoleCommand] = []
    for block in _BLOCK.finditer(page):
        found += _commands_of(textwrap.dedent(block["body"]))
    return found


def _commands_of(body: str) -> Iterator[ConsoleCommand]:
    command: ConsoleCommand | None = None
    here: str | None = None
    goes_on = False
    for line in body.splitlines():
        if command is not None and (goes_on or here is not None):
            command.text += f"\n{line}"
            here = None if line == here else here
        elif line.startswith("$ "):
            if command is not None:
                yield command
            command = ConsoleCommand(line[2:])
            started = _HERE.search(line)
            here = started["word"] if started is not None else None
        elif command is not None:
            command.output.append(line)
        goes_on = here is None and line.endswith(("\\", "|"))
    if command is not None:
        yield command


async def typed(
    commands: Sequence[ConsoleCommand],
    folder: Path,
    environment: Mapping[str, str],
    *,
    seconds: float,
    within: Sequence[str] = (),
) -> Typed:
    """
    Type the commands into one bash, which ends at the first that fails; what it started ends with it.

    ``within`` is a command that runs the bash, with another view of the machine.
    """
    script = ["set -euo pipefail"]
    for command in commands:
        script += [f'printf "\\n{_MARK}\\n"', command.text]
    script.append(f'printf "\\n{_MARK}\\n"')
    # Files, not pipes: what is left in the background would hold a pipe open.
    with TemporaryFile() as out, TemporaryFile() as err:
        process = await asyncio.create_subprocess_exec(
            *within,
            *("bash", "-euo", "pipefail", "-c", "\n".join(script)),
            cwd=folder,
            env=dict(environment),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            start_new_session=True,
        )
        try:
            async with asyncio.timeout(seconds):
                status = await process.wait()
        except TimeoutError:
            status = -1
        finally:
            end_group(process.pid)
        out.seek(0)
        err.seek(0)
        parts = re.split(_MARKS, out.read().decode(errors="replace"), flags=re.MULTILINE)
        times, printed = [float(each) for each in parts[1::2]], parts[2::2]
        if status == 0:
            # What follows the last mark is of no command.
            printed = printed[:-1]
        took = [end - start for start, end in pairwise(times)]
        return Typed(status, printed, err.read().decode(errors="replace"), took)


def protocol(commands: Sequence[ConsoleCommand], typed: Typed) -> str:
    """Return the seconds and the first line of each command, and the sum."""
    lines = [
        f"{took:7.1f} s  {command.text.splitlines()[0]}"
        for command, took in zip(commands, typed.seconds, strict=False)
    ]
    return "\n".join([*lines, f"{sum(typed.seconds):7.1f} s  in all"])


def end_group(leader: int) -> None:
    """Kill all processes of a session that was started here."""
    try:
        os.killpg(leader, signal.SIGKILL)
    except ProcessLookupError:
        return


def missing_lines(expected: Sequence[str], printed: str) -> list[str]:
    """Return the first expected line that was not printed after those before it, or nothing."""
    rest = iter(printed.splitlines())
    for line in filter(str.strip, expected):
        pattern = re.compile(_pattern(line.strip()))
        if not any(pattern.fullmatch(each.strip()) for each in rest):
            return [line]
    return []


def _pattern(line: str) -> str:
    parts = _GAP.split(line)
    gaps = [r"\s+" if gap.isspace() else ".*" for gap in _GAP.findall(line)]
    return "".join(re.escape(part) + gap for part, gap in zip(parts, [*gaps, ""], strict=True))


def report(commands: Sequence[ConsoleCommand], result: Typed) -> str:
    """Describe for a person how the commands went: the last one that began is the one that failed."""
    lines = [f"$ {command.text}\n{out}" for command, out in zip(commands, result.printed, strict=False)]
    return f"exit status {result.status}\n{''.join(lines)}\n{result.complaints[-6000:]}"
