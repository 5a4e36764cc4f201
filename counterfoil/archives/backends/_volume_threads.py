"""
Blocking calls on one mounted volume, in a few separate threads, each with an end for its caller.

A call on a volume that hangs can't be cancelled. After ``seconds`` its caller gets ``VolumeHangs``, and the
call is abandoned: it keeps its thread until the kernel answers, and must then change nothing that counts
(``Operation.check``). While every thread has such a call, new ones are refused at once. So a volume that
hangs costs its own threads only: not the event loop, not another archive, and not the end of the process.
"""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future as ThreadFuture
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from typing import TypeVar

from counterfoil.archives.streams import wait_until_done

THREADS = 8
"""Threads of one archive, as many as the transfers that an Archive has at once by default."""

CALL_SECONDS = 60.0
"""Longest time of one call: a block of 1 MiB, a listing, or a rename, with the time in the queue."""

T = TypeVar("T")


class VolumeHangs(Exception):
    """A call did not come back in time, or every thread has a call that did not."""


class OperationAbandoned(Exception):
    """Raised in a thread, where nobody waits for the call any more."""


class Operation:
    """
    Blocking calls that belong together, one at a time.

    ``cleanup`` runs in a thread once an abandoned call has ended.
    """

    def __init__(self, cleanup: Callable[[], None] | None = None) -> None:
        self.is_abandoned = False
        self._cleanup = cleanup
        self._lock = threading.Lock()
        self._has_ended = True

    def check(self) -> None:
        """Raise ``OperationAbandoned`` if the caller gave up; call it before a step that others see."""
        if self.is_abandoned:
            raise OperationAbandoned

    def begin(self) -> None:
        """Another call is handed to a thread."""
        self._has_ended = False

    def carry_out(self, work: Callable[[], T]) -> T:
        """Run a call, in a thread."""
        try:
            self.check()
            return work()
        finally:
            with self._lock:
                self._has_ended = True
            if self.is_abandoned:
                self.clean_up()

    def abandon(self) -> bool:
        """Give up the call in the thread; return False if it has ended, so that nothing is given up."""
        with self._lock:
            self.is_abandoned = not self._has_ended
            return self.is_abandoned

    def clean_up(self) -> None:
        """Close what the calls left open; blocks."""
        if self._cleanup is not None:
            self._cleanup()


class VolumeThreads:
    """The threads of one volume."""

    def __init__(self, *, count: int = THREADS, seconds: float = CALL_SECONDS) -> None:
        """Take the number of threads, and the timeout of one call in seconds."""
        self._count = count
        self._seconds = seconds
        self.executor = ThreadPoolExecutor(count, thread_name_prefix="volume")
        self._lock = threading.Lock()
        self.hanging = 0
        """Number of threads with a call that was given up."""

    async def run(
        self, work: Callable[[], T], operation: Operation | None = None, *, extra_seconds: float = 0.0
    ) -> T:
        """
        Run blocking work in a thread, and wait for its end even when the caller is cancelled.

        Otherwise the cleaning up would run beside work that still runs. Raises ``VolumeHangs``.
        """
        running = self.start(work, operation or Operation(), extra_seconds)
        await wait_until_done(running)
        return running.result()

    def start(
        self, work: Callable[[], T], operation: Operation, extra_seconds: float = 0.0
    ) -> "asyncio.Future[T]":
        """Begin blocking work in a thread. The future ends in time, plus ``extra_seconds``, with
        ``VolumeHangs`` if the call does not."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()
        if operation.is_abandoned or self.hanging >= self._count:
            answer.set_exception(VolumeHangs())
            return answer
        operation.begin()
        call = self.executor.submit(operation.carry_out, partial(copy_context().run, work))
        running = asyncio.wrap_future(call)
        timeout = self._seconds + extra_seconds
        timer = loop.call_later(timeout, self._give_up, operation, call, running, answer)
        running.add_done_callback(partial(_pass_on, answer, timer))
        return answer

    def close(self) -> None:
        """Start no more calls, and wait for none."""
        self.executor.shutdown(wait=False, cancel_futures=True)

    def _give_up(
        self,
        operation: Operation,
        call: "ThreadFuture[T]",
        running: "asyncio.Future[T]",
        answer: "asyncio.Future[T]",
    ) -> None:
        if not operation.abandon():
            return  # its result comes
        if not answer.done():
            answer.set_exception(VolumeHangs())
        # Not delivered any more: the event loop may be closed when the call comes back.
        is_waiting = call.cancel()
        running.cancel()
        if is_waiting:
            # What earlier calls left open is closed by the next free thread.
            self.executor.submit(operation.clean_up)
        else:
            self._count_hanging(1)
            call.add_done_callback(lambda _: self._count_hanging(-1))

    def _count_hanging(self, change: int) -> None:
        with self._lock:
            self.hanging += change


def _pass_on(answer: "asyncio.Future[T]", timer: asyncio.TimerHandle, running: "asyncio.Future[T]") -> None:
    timer.cancel()
    if running.cancelled():
        answer.cancel()
        return
    error = running.exception()
    if answer.done():
        return
    if error is not None:
        answer.set_exception(error)
    else:
        answer.set_result(running.result())
