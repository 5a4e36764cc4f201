"""
A receiver as a separate process, for the demo, the tests and the measurements.

It listens on free loopback ports and tells them in its log, which is kept in a file; nothing reads it meanwhile, so
that a full pipe can never block it. It ends with the process that started it.
"""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from sandbox.controlplane.processes import bound_to_parent

REPOSITORY = Path(__file__).parents[1]
TIMEOUT = 60.0  # seconds until it listens; a busy machine needs more than the usual one
INTERVAL = 0.02  # seconds between looks


class ReceiverError(Exception):
    """The receiver did not start; the message has what it said."""


@dataclass(frozen=True)
class RunningReceiver:
    """A receiver that listens."""

    url: str
    """``http://127.0.0.1:PORT`` of the public side."""
    private_url: str
    """The same of health and metrics."""
    log: Path
    process: "subprocess.Popen[bytes]"

    def lines(self) -> Iterator[dict[str, Any]]:
        """Go through what it logged so far."""
        yield from _lines(self.log)

    async def until_ready(self) -> None:
        """Wait until /readyz says ok. Raises TimeoutError with what it said last."""
        said = "nothing"
        async with aiohttp.ClientSession() as session:
            for _ in range(int(TIMEOUT / INTERVAL)):
                async with session.get(f"{self.private_url}/readyz") as answer:
                    said = await answer.text()
                    if answer.status == 200:
                        return
                await asyncio.sleep(INTERVAL)
        raise TimeoutError(f"the receiver is not ready: {said}")

    async def terminate(self, *, patience: float = 60.0) -> int:
        """Ask it to end, wait until it has, and return its exit code."""
        self.process.terminate()
        return await asyncio.to_thread(self.process.wait, patience)

    def kill(self) -> None:
        """End it at once."""
        self.process.kill()
        self.process.wait()


@asynccontextmanager
async def running_receiver(
    *, kubeconfig: Path, namespace: str, log: Path, settings: Mapping[str, str] | None = None
) -> AsyncIterator[RunningReceiver]:
    """
    Start a receiver; ``settings`` are flags without their dashes, as in ``{"callback-rate": "100"}``.

    Raises ReceiverError when it does not come up.
    """
    given = {
        "listen": "127.0.0.1:0",
        "private-listen": "127.0.0.1:0",
        "namespace": namespace,
        **(settings or {}),
    }
    flags = [f"--{name}={value}" for name, value in given.items()]
    process = _start(flags, kubeconfig, log)
    try:
        private_url = await _address_in_log(process, log, "health and metrics are at ")
        url = await _address_in_log(process, log, "requests are taken at ")
        yield RunningReceiver(f"http://{url}", f"http://{private_url}", log, process)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def _start(flags: Sequence[str], kubeconfig: Path, log: Path) -> "subprocess.Popen[bytes]":
    with log.open("wb") as output:
        return subprocess.Popen(
            bound_to_parent([sys.executable, "-m", "webhook", "receiver", *flags]),
            cwd=REPOSITORY,
            env={**os.environ, "KUBECONFIG": str(kubeconfig)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


async def _address_in_log(process: "subprocess.Popen[bytes]", log: Path, words: str) -> str:
    for _ in range(int(TIMEOUT / INTERVAL)):
        for line in _lines(log):
            if line["message"].startswith(words):
                return str(line["message"].removeprefix(words))
        if process.poll() is not None:
            break
        await asyncio.sleep(INTERVAL)
    raise ReceiverError(f"the receiver does not listen; it said:\n{_text(log)}")


def _text(log: Path) -> str:
    return log.read_text(errors="replace")


def _lines(log: Path) -> Iterator[dict[str, Any]]:
    for line in _text(log).splitlines():
        # Python's own words before the logging is set up are no JSON.
        if line.startswith("{"):
            yield json.loads(line)
