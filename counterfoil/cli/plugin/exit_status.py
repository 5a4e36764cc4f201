"""Exit statuses of commands, the error with a message for the user, their output, and their late imports."""

from collections.abc import Mapping
from enum import IntEnum
from importlib import import_module
from types import MappingProxyType, ModuleType
from typing import Any

import msgspec
import yaml


class ExitStatus(IntEnum):
    """Exit statuses. ``verify`` and ``render`` have their own, as their ``--help`` says."""

    DONE = 0
    NOT_ALL = 1
    """Something was left undone or is wrong; the lines before say what."""
    MISUSED = 2
    """The arguments make no sense."""
    NOT_FOUND = 3
    """The named object does not exist, or the name is ambiguous."""
    NOT_ALLOWED = 4
    """The user may not do that."""
    NO_ANSWER = 5
    """The API server can't be reached."""


EXIT_STATUS_TEXTS: Mapping[ExitStatus, str] = MappingProxyType(
    {
        ExitStatus.DONE: "done",
        ExitStatus.NOT_ALL: "not done or something is wrong",
        ExitStatus.MISUSED: "invalid arguments",
        ExitStatus.NOT_FOUND: "not found or ambiguous",
        ExitStatus.NOT_ALLOWED: "you lack the right",
        ExitStatus.NO_ANSWER: "the API server can't be reached",
    }
)
"""The meaning of each exit status for the help."""


class CommandError(Exception):
    """The command can't be carried out; the message says why and what to do."""

    def __init__(self, exit_status: ExitStatus, message: str) -> None:
        super().__init__(message)
        self.exit_status = exit_status


def is_for_programs(output: str) -> bool:
    """Whether ``-o`` asks for a format that programs read."""
    return output in ("json", "yaml")


def format_answer(output: str, answer: Any) -> str:
    """Return what a command found as JSON or YAML, as ``-o`` says, with a line break at its end."""
    encoded = msgspec.json.encode(answer)
    if output == "yaml":
        text: str = yaml.safe_dump(msgspec.json.decode(encoded), sort_keys=False, allow_unicode=True)
        return text
    return msgspec.json.format(encoded).decode() + "\n"


def format_result(output: str, answer: Any, text: str) -> str:
    """Return what a command found as ``-o`` says: for programs, or the text for people."""
    return format_answer(output, answer) if is_for_programs(output) else text


def printable(text: str) -> str:
    """Return a text for a terminal. Names come from others: what they wrote must not control it."""
    return "".join(char if char.isprintable() else "?" for char in text)


def counted(number: int, noun: str) -> str:
    """Return a number with its noun: "1 event", "2 events"."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def load_for(command: str, module: str) -> ModuleType:
    """
    Import a module of Counterfoil for a command when it runs, because its libraries are large.

    The stand-alone plugin leaves them out. Raises ``CommandError``, which names the package that has them.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as missing:
        raise CommandError(
            ExitStatus.MISUSED,
            f"{command} is not in the stand-alone plugin ({missing.name} is missing). Install the wheel "
            "of the same release, for example with `uv tool install`.",
        ) from None
