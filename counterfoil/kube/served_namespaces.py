"""
The namespaces that a process serves: a list in a setting, or a file that is read again every 10 seconds.

The chart mounts the file from a ConfigMap, so ``helm upgrade`` adds or removes a namespace while the process
works for the others (docs/decisions/0079). A line that is no name of a namespace is logged and left out. A
file that cannot be read, or has no valid line, changes nothing: an empty list would end all work.

This module asks no cluster. The work determines whether a namespace exists and whether the process may work
in it.
"""

import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from counterfoil.clock import Clock
from counterfoil.settings import MAX_NAMESPACES, CommonSettings, is_namespace

_log = logging.getLogger(__name__)

READ_AGAIN = timedelta(seconds=10)
"""Interval between two reads of the file. A kubelet updates a mounted ConfigMap within two minutes."""

FILE_BYTES = 65536
"""Maximum number of bytes that are read of the file; names of all namespaces need less than 4 KiB."""


class NamespacesFileInvalid(Exception):
    """The file cannot be read, or names no namespace; the message says which file and what to write in it."""


@dataclass
class ServedNamespaces:
    """The namespaces that a process serves now, each once, in the order of the list; never empty."""

    own: str
    """The release's own namespace. It need not be among those that are served."""
    names: tuple[str, ...]
    file: Path | None = None
    """The file that ``read_again`` reads; None if the list never changes."""
    _reported: str = field(default="", init=False)
    """The last warning about the file, so that not each read logs it."""

    @classmethod
    def load(cls, settings: CommonSettings, own: str) -> "ServedNamespaces":
        """Return the namespaces that the settings name, else the release's own. Raises
        ``NamespacesFileInvalid``."""
        if settings.namespaces_file is None:
            return cls(own, settings.namespaces or (own,))
        served = cls(own, (own,), settings.namespaces_file)
        served.names = served._read(settings.namespaces_file)
        return served

    def __contains__(self, namespace: object) -> bool:
        return namespace in self.names

    def read_again(self) -> bool:
        """Read the file again, if there is one; return whether the namespaces changed."""
        if self.file is None:
            return False
        try:
            names = self._read(self.file)
        except NamespacesFileInvalid as invalid:
            self._report(f"{invalid} Until then these are served: {', '.join(self.names)}.")
            return False
        if set(names) == set(self.names):
            return False
        _log.info("the namespaces to serve are now %s", ", ".join(names))
        self.names = names
        return True

    async def follow(self, clock: Clock) -> AsyncIterator[tuple[str, ...]]:
        """Yield the namespaces now, and again after each change, without an end."""
        self.read_again()
        yield self.names
        while True:
            await clock.sleep(READ_AGAIN.total_seconds())
            if self.read_again():
                yield self.names

    async def keep_current(self, clock: Clock) -> None:
        """Read the list again and again, without an end, for those who look at the present one."""
        async for _ in self.follow(clock):
            pass

    def _read(self, file: Path) -> tuple[str, ...]:
        try:
            with file.open("rb") as opened:
                text = opened.read(FILE_BYTES).decode()
        except (OSError, UnicodeDecodeError) as failed:
            why = (failed.strerror if isinstance(failed, OSError) else None) or "it is not UTF-8"
            raise NamespacesFileInvalid(
                f"The file of namespaces {file} can't be read: {why}. "
                "Write the name of one namespace in each line."
            ) from failed
        lines = list(dict.fromkeys(each.strip() for each in text.splitlines() if each.strip()))
        names = [each for each in lines if is_namespace(each)]
        left_out = [each for each in lines if not is_namespace(each)] + names[MAX_NAMESPACES:]
        if not names:
            raise NamespacesFileInvalid(
                f"The file of namespaces {file} names none. Write the name of one namespace in each line."
            )
        self._report(
            f"Lines of {file} are left out: {', '.join(map(repr, left_out))[:500]}. Each must be the name of "
            f"a namespace, and at most {MAX_NAMESPACES} are served."
            if left_out
            else ""
        )
        return tuple(names[:MAX_NAMESPACES])

    def _report(self, problem: str) -> None:
        if problem and problem != self._reported:
            _log.warning("%s", problem)
        self._reported = problem
