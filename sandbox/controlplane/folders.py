"""
Temporary folders that go when their owner goes.

The owner removes its folder when it is done, at the latest when Python exits. If the owner was killed, the
next one to make a folder of that kind removes what was left: a lock, which the kernel releases, shows whether
the owner lives. A folder without such a lock is nobody's here, and stays.
"""

import atexit
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PREFIX = "counterfoil-plane-"
LOCK = ".owned"


class OwnedFolder:
    """A new temporary folder, readable by its owner only. The beginning of its name shows its kind."""

    def __init__(self, prefix: str = PREFIX) -> None:
        remove_abandoned_folders(prefix)
        self.path = Path(tempfile.mkdtemp(prefix=prefix))
        # Locked before it has its name: a folder whose lock is free has a dead owner.
        unnamed = self.path / f"{LOCK}.new"
        self._lock = unnamed.open("w")
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        unnamed.rename(self.path / LOCK)
        atexit.register(self.remove)

    def remove(self) -> None:
        """Remove the folder and all in it. May be called again."""
        atexit.unregister(self.remove)
        shutil.rmtree(self.path, ignore_errors=True)
        self._lock.close()


@contextmanager
def owned_folder(prefix: str) -> Iterator[Path]:
    """Make a folder of that kind, and remove it in the end."""
    owned = OwnedFolder(prefix)
    try:
        yield owned.path
    finally:
        owned.remove()


def remove_abandoned_folders(prefix: str = PREFIX) -> None:
    """Remove the folders of that kind whose owners were killed."""
    for folder in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        if _is_own(folder) and (folder / LOCK).exists():
            _remove_if_abandoned(folder)


def _is_own(folder: Path) -> bool:
    try:
        return folder.lstat().st_uid == os.getuid() and not folder.is_symlink()
    except FileNotFoundError:
        return False


def _remove_if_abandoned(folder: Path) -> None:
    try:
        with (folder / LOCK).open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
    except (BlockingIOError, FileNotFoundError):
        return  # it has an owner, or somebody else has just removed it
