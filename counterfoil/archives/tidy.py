"""
Cleaning up after a transfer that failed: it gets its time even when the task is cancelled, and raises nothing.

What is left all the same has a temporary name, and ``sweep_leftovers`` of the next run removes it.
"""

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

from counterfoil.archives.trouble import ArchiveTrouble

PATIENCE = 10.0
"""Seconds that cleaning up may take."""


async def tidied(cleaning: Coroutine[Any, Any, object]) -> None:
    """Wait for the end of some cleaning up; call it where an error is on its way out, which says more than this one."""
    task = asyncio.ensure_future(_bounded(cleaning))
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as request:
            cancelled = request
    task.result()
    if cancelled is not None:
        raise cancelled


async def _bounded(cleaning: Coroutine[Any, Any, object]) -> None:
    with suppress(ArchiveTrouble, TimeoutError):
        async with asyncio.timeout(PATIENCE):
            await cleaning
