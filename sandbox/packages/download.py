"""
Folders of downloaded files, kept in the user's cache folder: what is in one of them is complete.
"""

import shutil
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

from sandbox.cache import cache_folder


async def downloaded(name: str, download: Callable[[Path], Awaitable[None]]) -> Path:
    """
    Return the folder ``name`` below the cache folder.

    If it does not exist, ``download`` writes into an empty folder, which gets the name once that is done. Two
    processes may do this at the same time: the first one counts.
    """
    folder = cache_folder() / name
    if folder.exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=".unfinished-", dir=folder.parent))
    try:
        await download(unfinished)
        if not folder.exists():
            unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder
