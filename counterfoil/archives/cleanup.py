"""
Cleaning up after a transfer that failed: it gets its time even when the task is cancelled, and raises
nothing.

What is left all the same has a temporary name, and ``remove_leftovers`` of the next run removes it.
"""

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from counterfoil.archives.errors import ArchiveError
from counterfoil.archives.streams import wait_until_done

CLEANUP_TIMEOUT_SECONDS = 10.0
"""Seconds that cleaning up may take."""

T = TypeVar("T")


async def shielded(work: Coroutine[Any, Any, T]) -> T:
    """
    Do something that must not be cut off in its middle: a caller who is cancelled first waits for its end.

    It does not wait indefinitely, nor when it is cancelled again; then the work is.
    """
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task], timeout=CLEANUP_TIMEOUT_SECONDS)
        raise
    finally:
        # Its error counts as retrieved: the caller already raises another error.
        task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
        task.cancel()


async def clean_up(cleaning: Coroutine[Any, Any, object]) -> None:
    """Wait for the end of some cleaning up; call it while another error is raised, which says more than this
    one."""
    task = asyncio.ensure_future(_bounded(cleaning))
    await wait_until_done(task)
    task.result()


async def _bounded(cleaning: Coroutine[Any, Any, object]) -> None:
    with suppress(ArchiveError, TimeoutError):
        async with asyncio.timeout(CLEANUP_TIMEOUT_SECONDS):
            await cleaning
